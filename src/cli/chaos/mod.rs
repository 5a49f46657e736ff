//! `sensorctl chaos`: a running local cluster under faults, and judges over what its clients saw.

mod clients;
mod faults;
mod history;
mod judges;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::cli::Context;
use crate::cli::chaos::clients::{Clients, Recorder};
use crate::cli::chaos::faults::{Fault, Hand};
use crate::cli::chaos::history::History;
use crate::cli::chaos::judges::{Violation, judge};
use crate::cli::client::{Client, Target};
use crate::cli::cluster::process;
use crate::cli::error::{CliError, Kind};
use crate::cli::home::LocalCluster;
use crate::cli::output::{self, Column, Rows, duration_ms, number, text};
use crate::cli::{node, status};
use crate::core::rng::Rng;
use crate::shell::clock::machine_micros;
use crate::shell::config::Span;

#[derive(Args)]
pub struct ChaosArgs {
    /// The local cluster; the current context's without one
    #[arg(long)]
    name: Option<String>,
    /// How long to go on with faults, for instance 90s or 30m
    #[arg(long, default_value = "60s", value_parser = parse_span)]
    duration: Duration,
    /// Which faults; all that can be done here when none is named
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Fault>,
    /// Clients that read the latest checkpoint
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    readers: u16,
    /// Draws faults and victims; the processes' own timing is beyond it
    #[arg(long)]
    seed: Option<u64>,
    /// Where what the clients saw is written; without it, only after a violation
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Only judge this history again; no cluster is touched
    #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "faults", "history"])]
    judge: Option<PathBuf>,
}

fn parse_span(text: &str) -> Result<Duration, String> {
    let json = serde_json::Value::String(text.to_owned());
    serde_json::from_value::<Span>(json).map(|span| span.0).map_err(|error| error.to_string())
}

/// Calm between two faults.
const CALM: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));
/// How long the cluster may take to be whole, before and after.
const WHOLE_PATIENCE: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(100);

#[derive(Serialize)]
struct Found {
    schema: &'static str,
    cluster: String,
    seed: u64,
    duration_s: f64,
    faults: BTreeMap<&'static str, u64>,
    skipped: BTreeMap<&'static str, String>,
    operations: BTreeMap<&'static str, Operations>,
    checkpoints: u64,
    violations: Vec<Violation>,
    history: Option<String>,
}

#[derive(Serialize)]
struct Operations {
    answered: u64,
    unanswered: u64,
}

pub fn run(cx: &Context, args: &ChaosArgs) -> Result<(), CliError> {
    if let Some(file) = &args.judge {
        let history = History::load(file)?;
        let found = Found::of("-", 0, 0.0, &history, BTreeMap::new(), BTreeMap::new());
        return found.report(cx, &history, Some(file));
    }
    let cluster = cx.home.cluster(&cx.home.meant(args.name.as_deref())?)?;
    if cluster.in_process {
        return Err(CliError::usage("all nodes of this cluster run in one process; none can be hurt alone"));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (found, history) = runtime.block_on(hurt(args, &cluster))?;
    found.report(cx, &history, args.history.as_ref())
}

async fn hurt(args: &ChaosArgs, cluster: &LocalCluster) -> Result<(Found, History), CliError> {
    let addrs = cluster.nodes.iter().map(|node| node.api.clone()).collect();
    let client = Client::new(Target { addrs, cluster: Some(cluster.name.clone()) });
    if process::running(cluster).len() < cluster.nodes.len() {
        return Err(CliError::failed(format!("cluster {} does not run as a whole", cluster.name))
            .hint(format!("`sensorctl cluster start --detach --name {}` starts it", cluster.name)));
    }
    whole(&client, cluster).await?;
    let seed = args.seed.unwrap_or_else(machine_micros);
    let mut rng = Rng::new(seed);
    let recorder = Recorder::default();
    let mut hand = Hand::new(cluster, recorder.clone(), rng.fork());
    let (faults, skipped) = choose(args, &hand)?;
    for (fault, why) in &skipped {
        eprintln!("SKIPPED {fault}: {why}");
    }
    let first = clients::first_value(&client).await?;
    let clients = Clients::start(&cluster.nodes, usize::from(args.readers), first, &recorder, &mut rng);
    let begun = machine_micros();
    let bar = Bar::new(args.duration);
    let struck = tokio::select! {
        struck = strike(&mut hand, &faults, args.duration, &mut rng, &bar, &recorder) => struck,
        () = node::terminated() => Err(CliError::silent(Kind::Interrupted)),
    };
    bar.say("healing", &recorder);
    // Whatever happened: nothing stays cut, stopped or full.
    let healed = hand.heal().await;
    struck.and(healed)?;
    let duration_s = (machine_micros() - begun) as f64 / 1e6;
    whole(&client, cluster).await?;
    bar.say("looking at what is held", &recorder);
    let clients = clients.stop().await;
    agree(&client, cluster).await?;
    clients.look_at_all().await?;
    bar.done();
    let history = recorder.history();
    Ok((Found::of(&cluster.name, seed, duration_s, &history, hand.done, skipped), history))
}

fn choose(args: &ChaosArgs, hand: &Hand) -> Result<(Vec<Fault>, BTreeMap<&'static str, String>), CliError> {
    let asked = if args.faults.is_empty() { Fault::ALL.to_vec() } else { args.faults.clone() };
    let mut skipped = BTreeMap::new();
    let mut faults = Vec::new();
    for fault in asked {
        match hand.obstacle(fault) {
            None => faults.push(fault),
            Some(why) => {
                skipped.insert(fault.as_str(), why);
            }
        }
    }
    match faults.is_empty() {
        true => {
            let why: Vec<String> = skipped.iter().map(|(fault, why)| format!("{fault}: {why}")).collect();
            Err(CliError::failed(format!("none of these faults can be done here: {}", why.join("; "))))
        }
        false => Ok((faults, skipped)),
    }
}

/// Fault after fault, with some calm in between.
async fn strike(
    hand: &mut Hand,
    faults: &[Fault],
    duration: Duration,
    rng: &mut Rng,
    bar: &Bar,
    recorder: &Recorder,
) -> Result<(), CliError> {
    let begun = machine_micros();
    // Every fault once, then whatever is drawn.
    let mut due = faults.to_vec();
    rng.shuffle(&mut due);
    loop {
        tokio::time::sleep(rng.between(CALM.0, CALM.1)).await;
        if u128::from(machine_micros() - begun) >= duration.as_micros() {
            return Ok(());
        }
        let fault = due.pop().or_else(|| rng.pick(faults).copied()).expect("there are faults");
        bar.say(fault.as_str(), recorder);
        hand.strike(fault).await?;
        bar.say("calm", recorder);
    }
}

/// Waits until nothing is wrong.
async fn whole(client: &Client, cluster: &LocalCluster) -> Result<(), CliError> {
    let mut last = "nobody answers".to_owned();
    let look = async {
        let mut ticks = tokio::time::interval(LOOK);
        loop {
            ticks.tick().await;
            match status::ask(client).await {
                Ok(status) if status.healthy && status.converged == Some(1.0) => return,
                Ok(status) if status.healthy => last = "replicas still differ".to_owned(),
                Ok(status) => last = status.reasons.join("; "),
                Err(error) => last = error.message,
            }
        }
    };
    tokio::time::timeout(WHOLE_PATIENCE, look).await.map_err(|_| {
        let name = &cluster.name;
        CliError::new(
            Kind::Unhealthy,
            format!("cluster {name} is not whole within {} s: {last}", WHOLE_PATIENCE.as_secs()),
        )
    })
}

/// Waits until everybody holds the same of what the clients wrote, and a checkpoint has been taken since.
async fn agree(client: &Client, cluster: &LocalCluster) -> Result<(), CliError> {
    let look = async {
        let mut ticks = tokio::time::interval(LOOK);
        let mut beyond = None;
        loop {
            ticks.tick().await;
            if !clients::agreed(client, &cluster.nodes).await {
                beyond = None;
                continue;
            }
            let beyond = match beyond {
                Some(beyond) => beyond,
                None => {
                    let Ok(status) = status::ask(client).await else { continue };
                    let newest = status.nodes.iter().filter_map(|node| node.checkpoint_index).max().unwrap_or(0);
                    // One may have been proposed before all agreed; the one after it was taken of what they agree on.
                    *beyond.insert(newest + 2)
                }
            };
            if clients::everybody_beyond(client, &cluster.nodes, beyond).await {
                return;
            }
        }
    };
    tokio::time::timeout(WHOLE_PATIENCE, look).await.map_err(|_| {
        CliError::failed(format!("{} s after everything was mended, nodes still differ", WHOLE_PATIENCE.as_secs()))
    })
}

impl Found {
    fn of(
        cluster: &str,
        seed: u64,
        duration_s: f64,
        history: &History,
        faults: BTreeMap<&'static str, u64>,
        skipped: BTreeMap<&'static str, String>,
    ) -> Self {
        let counts = history.counts().into_iter();
        let operations = counts.map(|(kind, (answered, unanswered))| (kind, Operations { answered, unanswered }));
        Self {
            schema: "sensorctl/chaos/v1",
            cluster: cluster.to_owned(),
            seed,
            duration_s,
            faults,
            skipped,
            operations: operations.collect(),
            checkpoints: judges::checkpoints(history),
            violations: judge(history),
            history: None,
        }
    }

    fn report(mut self, cx: &Context, history: &History, file: Option<&PathBuf>) -> Result<(), CliError> {
        let broken = !self.violations.is_empty();
        let file = file.cloned().or_else(|| broken.then(|| format!("chaos-{}.jsonl", self.seed).into()));
        if let Some(file) = file {
            history.save(&file)?;
            self.history = Some(file.display().to_string());
        }
        self.print(cx)?;
        if broken { Err(CliError::silent(Kind::Failed)) } else { Ok(()) }
    }

    fn print(&self, cx: &Context) -> Result<(), CliError> {
        const COLUMNS: &[Column] = &[text("operation"), number("answered"), number("unanswered")];
        output::print(cx.format, self, std::slice::from_ref(self), || {
            let mut rows = Rows::new(COLUMNS);
            for (kind, operations) in &self.operations {
                rows.push(vec![(*kind).to_owned(), operations.answered.to_string(), operations.unanswered.to_string()]);
            }
            rows
        })?;
        if !cx.format.is_for_people() {
            return Ok(());
        }
        let faults: Vec<String> = self.faults.iter().map(|(name, n)| format!("{name} {n}")).collect();
        let faults = if faults.is_empty() { "none".to_owned() } else { faults.join(", ") };
        let took = duration_ms((self.duration_s * 1000.0) as u64);
        eprintln!("\nfaults in {took} (seed {}): {faults}", self.seed);
        if let Some(file) = &self.history {
            eprintln!("history: {file}");
        }
        match self.violations.is_empty() {
            true => eprintln!(
                "{} checkpoints seen: one chain, linearizable, nothing acknowledged is lost",
                self.checkpoints
            ),
            false => self
                .violations
                .iter()
                .for_each(|broken| eprintln!("VIOLATION of {:?}: {}", broken.judge, broken.detail)),
        }
        Ok(())
    }
}

/// One line that lives until the end.
struct Bar {
    bar: ProgressBar,
    begun_us: u64,
}

impl Bar {
    fn new(duration: Duration) -> Self {
        let style = ProgressStyle::with_template("{bar:30.red} {elapsed}/{prefix} {msg}").expect("a template");
        let bar = ProgressBar::new(duration.as_millis() as u64).with_style(style);
        bar.set_prefix(duration_ms(duration.as_millis() as u64));
        Self { bar, begun_us: machine_micros() }
    }

    fn say(&self, what: &str, recorder: &Recorder) {
        let (answered, open) = recorder.counts();
        self.bar.set_position((machine_micros() - self.begun_us) / 1000);
        self.bar.set_message(format!("{what} | {answered} operations answered, {open} not"));
    }

    fn done(&self) {
        self.bar.finish_and_clear();
    }
}
