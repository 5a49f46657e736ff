//! `sensorctl load`: loads a running cluster through its public API, in an open loop.

mod conn;
mod drive;
mod find;
mod schedule;
mod stats;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::cli::Context;
use crate::cli::error::{CliError, Kind as ErrorKind};
use crate::cli::get::encode;
use crate::cli::output::{self, Column, NONE, Rows, duration_us, number, text};
use crate::cli::threshold::{Threshold, verdict};
use crate::core::reading::NOTE_BYTES_MAX;
use crate::shell::clock::{Clock, machine_micros};
use crate::shell::config::Span;
use crate::shell::http::model::Status;

use drive::{Job, Live, Ran};
use find::Search;
use schedule::{Mix, Plan, Ramp};
use stats::{Convergence, Latency, histogram, record};

#[derive(Args)]
#[command(
    after_help = "Operations are due at fixed times whether or not earlier ones were answered. The corrected latency \
    counts from when an operation was due, the uncorrected from when it was sent; where they differ, it is the \
    uncorrected that flatters. Ctrl-C prints what was measured so far. What is written goes to channels \
    sensorctl-load/0, sensorctl-load/1, … of the nodes that are asked; they take no part in `fuse` (see exclude in \
    configs/node.toml), and expire with `retain`."
)]
pub struct LoadArgs {
    /// Readings a second; an operation that is no put counts as one
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Readings a second rising from one rate to another, instead of --rate
    #[arg(long, value_name = "FROM..TO", conflicts_with = "rate")]
    ramp: Option<Ramp>,
    /// For how long; of each step with --find-max
    #[arg(long, default_value = "10s", value_parser = span)]
    duration: Duration,
    /// Channels that are written at each target
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    channels: u64,
    /// Bytes of a note in each reading, up to 200
    #[arg(long, default_value_t = 0)]
    payload: usize,
    /// Readings in one request
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    batch: u64,
    /// What clients do, in shares: put, get, watch, read (linearizable)
    #[arg(long, default_value = "put", value_name = "KIND=SHARE,...")]
    mix: Mix,
    /// When a put is acknowledged: memory, disk, peers=K or checkpoint
    #[arg(long, default_value = "memory")]
    ack: String,
    /// Nodes that are asked, by id; all that are alive unless said
    #[arg(long, value_name = "NODE,...", value_delimiter = ',')]
    targets: Vec<String>,
    /// Requests that may be under way at once at each target
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=400))]
    connections: u64,
    /// How long a request may take
    #[arg(long, default_value = "5s", value_parser = span)]
    timeout: Duration,
    /// Do not watch every node for when it shows what was written
    #[arg(long)]
    no_watch: bool,
    /// Seed of the choice of targets and kinds
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// End with exit code 5 unless this is kept, for example 'p99<20ms'; may be said again
    #[arg(long, value_name = "FIGURE<VALUE")]
    threshold: Vec<Threshold>,
    /// Search for the highest rate at which this is kept without errors or missed sends
    #[arg(long, value_name = "FIGURE<VALUE", conflicts_with = "ramp")]
    find_max: Option<Threshold>,
    /// Also write the histograms, as HdrHistogram logs
    #[arg(long, value_name = "FILE")]
    hdr: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    cluster: String,
    targets: Vec<String>,
    seed: u64,
    duration_ms: u64,
    batch: u64,
    payload: usize,
    ack: String,
    /// Readings that were due.
    scheduled: u64,
    /// Readings and other operations sent, and how many of them succeeded.
    sent: u64,
    ok: u64,
    requests: u64,
    errors: BTreeMap<&'static str, u64>,
    missed_sends: u64,
    kept_schedule: bool,
    interrupted: bool,
    /// Readings and other operations a second that succeeded.
    rate: f64,
    target_rate: String,
    latency: Latency,
    latency_uncorrected: Latency,
    by_kind: BTreeMap<&'static str, Latency>,
    convergence: Option<Convergence>,
    /// With `--find-max`: the highest rate that held, and every step of the search.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_rate: Option<Option<f64>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<Step>,
}

#[derive(Serialize)]
struct Step {
    rate: f64,
    held: bool,
    why: String,
    p99_us: u64,
}

const FIGURES: &[&str] = &[
    "p50",
    "p90",
    "p99",
    "p999",
    "max",
    "uncorrected_p99",
    "errors",
    "missed",
    "rate",
    "convergence_p50",
    "convergence_p99",
    "unseen",
];
/// Share of requests that may begin late before a run is said not to have kept its schedule.
const LATE_MAX: f64 = 0.01;
/// Readings of one run at most: each is remembered until the end, to see who saw it when.
const READINGS_MAX: f64 = 20e6;
/// How long a node may take to say who else there is.
const STATUS_PATIENCE: Duration = Duration::from_secs(5);

const COLUMNS: &[Column] =
    &[text("what"), number("count"), number("p50"), number("p90"), number("p99"), number("p99.9"), number("max")];

fn span(text: &str) -> Result<Duration, String> {
    text.parse::<Span>().map(|span| span.0)
}

pub fn run(cx: &Context, args: LoadArgs) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(load(cx, args));
    runtime.shutdown_background();
    done
}

async fn load(cx: &Context, args: LoadArgs) -> Result<(), CliError> {
    check(&args)?;
    let (status, job) = job(cx, &args).await?;
    let stop = Arc::new(AtomicBool::new(false));
    tokio::spawn({
        let stop = stop.clone();
        async move {
            let _ = tokio::signal::ctrl_c().await;
            stop.store(true, Ordering::Relaxed);
        }
    });
    let mut steps = Vec::new();
    let mut search = args.find_max.as_ref().map(|_| Search::new(args.rate));
    let mut job = job;
    let (mut ran, mut report) = one(&args, &status, &job, &stop).await?;
    while let (Some(search), Some(bound)) = (&mut search, &args.find_max) {
        let why = failing(&report, bound);
        steps.push(Step {
            rate: job.plan.ramp.to,
            held: why.is_none(),
            why: why.clone().unwrap_or_default(),
            p99_us: report.latency.p99_us,
        });
        eprintln!("{:>9.0}/s {}", job.plan.ramp.to, why.as_deref().unwrap_or("holds"));
        search.tried(why.is_none());
        let Some(rate) = search.next().filter(|_| !report.interrupted) else { break };
        job.plan.ramp = Ramp { from: rate, to: rate };
        job.base += 1 << 32;
        (ran, report) = one(&args, &status, &job, &stop).await?;
    }
    report.max_rate = search.map(|search| search.found());
    report.steps = steps;
    if let Some(path) = &args.hdr {
        write_hdr(path, &ran, &job)?;
    }
    show(cx, &report)?;
    if report.interrupted {
        return Err(CliError::silent(ErrorKind::Interrupted));
    }
    judge(&args, &report)
}

fn check(args: &LoadArgs) -> Result<(), CliError> {
    let (from, to) = args.ramp.map_or((args.rate, args.rate), |ramp| (ramp.from, ramp.to));
    let seconds = args.duration.as_secs_f64();
    for (what, value, lo, hi) in [
        ("the rate", from.max(to), 0.1, 10e6),
        ("the lower rate", from.min(to), 0.0, 10e6),
        ("--duration in seconds", seconds, 0.1, 86_400.0),
        ("--payload", args.payload as f64, 0.0, NOTE_BYTES_MAX as f64),
        ("rate times duration", (from + to) / 2.0 * seconds, 1.0, READINGS_MAX),
    ] {
        if !(lo..=hi).contains(&value) {
            return Err(CliError::usage(format!("{what} is {value}; it must be between {lo} and {hi}")));
        }
    }
    args.threshold.iter().chain(&args.find_max).try_for_each(|threshold| threshold.check(FIGURES))
}

/// Asks who there is, and makes of it what is to be done.
async fn job(cx: &Context, args: &LoadArgs) -> Result<(Status, Job), CliError> {
    let status: Status = cx.client()?.get("/v1/status", STATUS_PATIENCE).await?;
    let alive = status.nodes.iter().filter(|node| node.liveness == "alive");
    let apis: BTreeMap<&str, &str> = alive.filter_map(|node| Some((node.id.as_str(), node.api.as_deref()?))).collect();
    let mut targets = Vec::new();
    for name in &args.targets {
        let known = apis.keys().copied().collect::<Vec<_>>().join(", ");
        let api = apis.get(name.as_str()).ok_or_else(|| {
            CliError::usage(format!("--targets {name}: no such node is alive with an API"))
                .hint(format!("there are {known}"))
        })?;
        targets.push((*api).to_owned());
    }
    if targets.is_empty() {
        targets = apis.values().map(|api| (*api).to_owned()).collect();
    }
    if targets.is_empty() {
        return Err(CliError::unreachable("no node that is alive serves an API"));
    }
    let leader = status.leader.as_deref().and_then(|leader| apis.get(leader));
    let leader = targets.iter().position(|target| Some(&target.as_str()) == leader);
    let ramp = args.ramp.unwrap_or(Ramp { from: args.rate, to: args.rate });
    let plan = Plan {
        ramp,
        takes: args.duration,
        batch: args.batch as usize,
        mix: args.mix.clone(),
        targets: targets.len(),
        seed: args.seed,
    };
    let watched = if args.no_watch { Vec::new() } else { apis.values().map(|api| (*api).to_owned()).collect() };
    // Above every reading of any run before, and exact as a JSON number.
    let base = Clock::default().now().wall.as_millis() / 1000 % 100_000 * (1 << 36);
    let job = Job {
        plan,
        targets,
        leader,
        watched,
        channels: args.channels,
        payload: args.payload,
        ack: encode(&args.ack),
        connections: args.connections as usize,
        patience: args.timeout,
        base,
    };
    Ok((status, job))
}

/// One run, with a bar that lives.
async fn one(args: &LoadArgs, status: &Status, job: &Job, stop: &Arc<AtomicBool>) -> Result<(Ran, Report), CliError> {
    let live = Arc::new(Live::default());
    let scheduled = job.plan.ramp.readings(job.plan.takes);
    let style = ProgressStyle::with_template("{bar:24} {percent}% {eta} to go | {msg}").expect("a good template");
    let bar = ProgressBar::new(scheduled).with_style(style);
    let watching = tokio::spawn(animate(bar.clone(), live.clone()));
    let ran = drive::run(job, &live, stop).await;
    watching.abort();
    bar.finish_and_clear();
    let ran = ran?;
    let seconds = (ran.stats.last_us as f64 / 1e6).max(1e-3).max(if stop.load(Ordering::Relaxed) {
        0.0
    } else {
        job.plan.takes.as_secs_f64()
    });
    let convergence = (!job.watched.is_empty())
        .then(|| stats::convergence(&ran.acked, &ran.seen, ran.gaps, |op, number| job.key(op, number)).0);
    let stats = &ran.stats;
    let report = Report {
        schema: "sensorctl/load/v1",
        cluster: status.cluster.name.clone(),
        targets: job.targets.clone(),
        seed: job.plan.seed,
        duration_ms: job.plan.takes.as_millis() as u64,
        batch: args.batch,
        payload: job.payload,
        ack: args.ack.clone(),
        scheduled,
        sent: stats.sent,
        ok: stats.ok,
        requests: stats.requests,
        errors: stats.errors.clone(),
        missed_sends: stats.missed,
        kept_schedule: stats.missed as f64 <= stats.requests as f64 * LATE_MAX,
        interrupted: stop.load(Ordering::Relaxed),
        rate: stats.ok as f64 / seconds,
        target_rate: job.plan.ramp.to_string(),
        latency: Latency::of(&stats.corrected),
        latency_uncorrected: Latency::of(&stats.uncorrected),
        by_kind: stats.kinds.iter().map(|(kind, times)| (*kind, Latency::of(times))).collect(),
        convergence,
        max_rate: None,
        steps: Vec::new(),
    };
    Ok((ran, report))
}

async fn animate(bar: ProgressBar, live: Arc<Live>) {
    const LOOK: Duration = Duration::from_millis(500);
    let mut looks = tokio::time::interval(LOOK);
    let mut last_us = machine_micros();
    loop {
        looks.tick().await;
        let recent = std::mem::take(&mut *live.recent.lock().expect("no holder panics"));
        let now_us = machine_micros();
        let seconds = (now_us - std::mem::replace(&mut last_us, now_us)).max(1) as f64 / 1e6;
        let mut times = histogram();
        let (mut done, mut failed) = (0u64, 0u64);
        for outcome in &recent {
            match outcome.result {
                Ok(()) => {
                    done += outcome.op.batch.max(1) as u64;
                    record(&mut times, outcome.done_us.saturating_sub(outcome.op.due_us));
                }
                Err(_) => failed += 1,
            }
        }
        bar.set_position(live.done.load(Ordering::Relaxed));
        let p99 = duration_us(times.value_at_quantile(0.99));
        bar.set_message(format!("{:.0}/s, p99 {p99}, {failed} failed", done as f64 / seconds));
    }
}

impl Report {
    fn figure(&self, name: &str) -> Option<f64> {
        let us = |us: u64| Some(us as f64);
        let errors: u64 = self.errors.values().sum();
        match name {
            "p50" => us(self.latency.p50_us),
            "p90" => us(self.latency.p90_us),
            "p99" => us(self.latency.p99_us),
            "p999" => us(self.latency.p999_us),
            "max" => us(self.latency.max_us),
            "uncorrected_p99" => us(self.latency_uncorrected.p99_us),
            "errors" => Some(errors as f64 / self.requests.max(1) as f64),
            "missed" => us(self.missed_sends),
            "rate" => Some(self.rate),
            "convergence_p50" => us(self.convergence.as_ref()?.to_all.p50_us),
            "convergence_p99" => us(self.convergence.as_ref()?.to_all.p99_us),
            "unseen" => us(self.convergence.as_ref()?.unseen),
            _ => None,
        }
    }

    /// Why its figures are not what was asked for, if they are not.
    fn complaint(&self) -> Option<String> {
        let why =
            || format!("the schedule was not kept: {} of {} requests began late", self.missed_sends, self.requests);
        (!self.kept_schedule).then(why)
    }
}

/// Why a rate does not hold, if it does not.
fn failing(report: &Report, bound: &Threshold) -> Option<String> {
    let errors: u64 = report.errors.values().sum();
    if errors > 0 {
        return Some(format!("{errors} requests failed"));
    }
    if let Some(why) = report.complaint() {
        return Some(why);
    }
    let value = report.figure(bound.metric()).unwrap_or(f64::NAN);
    (!bound.is_kept_by(value)).then(|| format!("{} is {value}, not {bound}", bound.metric()))
}

fn judge(args: &LoadArgs, report: &Report) -> Result<(), CliError> {
    let mut missed = Vec::new();
    for threshold in &args.threshold {
        match (report.complaint(), report.figure(threshold.metric())) {
            (Some(why), _) => missed.push(format!("{threshold} cannot be said: {why}")),
            (None, None) => missed.push(format!("{threshold} was not measured")),
            (None, Some(value)) if !threshold.is_kept_by(value) => {
                missed.push(format!("{} is {value}, not {threshold}", threshold.metric()));
            }
            _ => {}
        }
    }
    verdict(&missed)?;
    match report.max_rate {
        Some(None) => verdict(&["no rate holds".to_owned()]),
        _ if report.ok == 0 => Err(CliError::unreachable("no request succeeded")),
        _ => Ok(()),
    }
}

fn show(cx: &Context, report: &Report) -> Result<(), CliError> {
    output::print(cx.format, report, std::slice::from_ref(report), || rows(report))?;
    if !cx.format.is_for_people() {
        return Ok(());
    }
    let errors: Vec<String> = report.errors.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
    let errors = if errors.is_empty() { "no errors".to_owned() } else { errors.join(", ") };
    eprintln!(
        "\n{} of {} sent at {}, {:.0}/s succeeded; {errors}; {} requests began late",
        report.sent, report.scheduled, report.target_rate, report.rate, report.missed_sends
    );
    if let Some(why) = report.complaint() {
        eprintln!("{why}: these are figures of a lower rate than was asked for");
    }
    if let Some(c) = report.convergence.as_ref().filter(|c| c.unseen > 0 || c.gaps > 0) {
        eprintln!(
            "{} acknowledged readings were not seen on all {} nodes in time; watchers missed {} changes",
            c.unseen, c.watched, c.gaps
        );
    }
    match report.max_rate {
        Some(Some(rate)) => {
            eprintln!("the highest rate that holds is {rate:.0}/s, found in {} steps", report.steps.len())
        }
        Some(None) => eprintln!("no rate holds"),
        None => {}
    }
    Ok(())
}

fn rows(report: &Report) -> Rows {
    let mut rows = Rows::new(COLUMNS);
    let mut line = |what: &str, l: &Latency| {
        let times = [l.p50_us, l.p90_us, l.p99_us, l.p999_us, l.max_us];
        let cells = times.map(|us| if l.count > 0 { duration_us(us) } else { NONE.to_owned() });
        rows.push([vec![what.to_owned(), l.count.to_string()], cells.to_vec()].concat());
    };
    line("answered, from when it was due", &report.latency);
    line("answered, from when it was sent", &report.latency_uncorrected);
    for (kind, latency) in report.by_kind.iter().filter(|_| report.by_kind.len() > 1) {
        line(&format!("{kind}, from when it was due"), latency);
    }
    if let Some(c) = &report.convergence {
        line(&format!("seen by watchers on all {} nodes", c.watched), &c.to_all);
        line("seen by the first of them", &c.to_first);
    }
    rows
}

/// Writes corrected, uncorrected and convergence histograms, each with its tag.
fn write_hdr(path: &std::path::Path, ran: &Ran, job: &Job) -> Result<(), CliError> {
    let wrong = |error: &dyn std::error::Error| CliError::because(path.display().to_string(), error);
    let mut file = std::fs::File::create(path).map_err(|error| wrong(&error))?;
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("times in us, by sensorctl load")
        .begin_log_with(&mut file, &mut serializer)
        .map_err(|error| wrong(&error))?;
    let (_, to_all) = stats::convergence(&ran.acked, &ran.seen, ran.gaps, |op, number| job.key(op, number));
    let histograms: [(&str, &Histogram<u64>); 3] =
        [("corrected", &ran.stats.corrected), ("uncorrected", &ran.stats.uncorrected), ("convergence", &to_all)];
    for (tag, times) in histograms {
        let tag = Tag::new(tag).expect("a tag without commas or spaces");
        log.write_histogram(times, Duration::ZERO, job.plan.takes, Some(tag))
            .map_err(|error| CliError::failed(format!("{}: {error:?}", path.display())))?;
    }
    Ok(())
}
