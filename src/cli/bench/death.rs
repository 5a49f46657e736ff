//! `bench death`: how long until every other node knows that one is gone, killed or stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::bench::convergence::List;
use crate::cli::bench::crew::{Crew, CrewPlan, Place};
use crate::cli::bench::host::Host;
use crate::cli::bench::mark::Mark;
use crate::cli::bench::plan::{Told, name};
use crate::cli::bench::{Percentiles, bar, histogram, record};
use crate::cli::error::CliError;
use crate::cli::output::{self, Column, Rows, duration_us, number, text};
use crate::cli::threshold::{Threshold, verdict};
use crate::core::rng::Rng;
use crate::shell::clock::machine_micros;

#[derive(Args)]
#[command(
    after_help = "Each node is a process. One after another dies, at random, and comes back when all others have said \
    that it is dead. Thresholds: p50, p99 and max of all others' times, and last_p50, last_p99, last_max of the last of \
    them, kept by every row; with killed_ or stopped_ before, by rows of that kind."
)]
pub struct DeathArgs {
    /// How many nodes; several between commas are measured one after another
    #[arg(long, default_value = "3,10,30", value_name = "N,...")]
    nodes: List<usize>,
    /// How they die; several between commas
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["killed", "stopped"])]
    how: Vec<How>,
    /// Deaths of each kind
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    deaths: u32,
    /// Seed of who dies when
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// End with exit code 5 unless this is kept, for example 'killed_p99<2s'; may be said again
    #[arg(long, value_name = "FIGURE<VALUE")]
    threshold: Vec<Threshold>,
}

/// How a node dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum How {
    /// kill -9: its connections are closed by the system
    Killed,
    /// SIGSTOP: its connections stay open and silent
    Stopped,
}

impl How {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Stopped => "stopped",
        }
    }
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    host: Host,
    deaths: Vec<Figure>,
}

/// Deaths of one kind among so many nodes.
#[derive(Clone, Debug, Serialize)]
struct Figure {
    nodes: usize,
    how: How,
    times: usize,
    /// From the death until one of the others says that it is dead, of all of them.
    each: Percentiles,
    /// Until the last of them does.
    last: Percentiles,
    /// Until the system had taken a killed process apart: its connections may break long before, and its port go last.
    #[serde(skip_serializing_if = "Option::is_none")]
    gone: Option<Percentiles>,
}

/// Voters of the cluster; the rest observe.
const VOTERS_MAX: usize = 5;
/// Processes of one node that a machine can be expected to hold.
const NODES: std::ops::RangeInclusive<usize> = 2..=300;
/// How long the others may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// A death comes up to this long after all is well, so that it meets any point between two keepalives.
const QUIET_MS: usize = 1000;

const COLUMNS: &[Column] = &[
    number("nodes"),
    text("one is"),
    number("times"),
    number("seen dead by p50"),
    number("p99"),
    number("max"),
    number("by the last p50"),
    number("p99"),
    number("max"),
    number("gone by max"),
];

pub async fn run(cx: &Context, args: DeathArgs) -> Result<(), CliError> {
    args.threshold.iter().try_for_each(|threshold| threshold.check(THRESHOLDS))?;
    if let Some(wrong) = args.nodes.0.iter().find(|nodes| !NODES.contains(nodes)) {
        let (least, most) = NODES.into_inner();
        return Err(CliError::usage(format!("--nodes {wrong}: say {least} to {most}, each is a process")));
    }
    let progress = bar(u64::from(args.deaths) * (args.nodes.0.len() * args.how.len()) as u64, "starting");
    let mut deaths = Vec::new();
    for nodes in &args.nodes.0 {
        progress.set_message(format!("{nodes} nodes start"));
        let mut cluster = Cluster::start(*nodes, args.seed).await?;
        for how in &args.how {
            progress.set_message(format!("{nodes} nodes, one is {}", how.as_str()));
            deaths.push(cluster.measure(*how, args.deaths, &progress).await?);
        }
        cluster.crew.dismiss().await;
    }
    progress.finish_and_clear();
    let report = Report { schema: "sensorctl/bench-death/v1", host: Host::here(), deaths };
    output::print(cx.format, &report, &report.deaths, || rows(&report.deaths))?;
    if cx.format.is_for_people() {
        eprintln!("\n{}", report.host.line());
        eprintln!("from the signal until the other nodes say that it is dead: each of them, and the last;");
        eprintln!("gone is when the system had taken a killed process apart, its port last");
    }
    judge(&report.deaths, &args.threshold)
}

/// Processes of one node each.
struct Cluster {
    crew: Crew,
    rng: Rng,
}

impl Cluster {
    async fn start(nodes: usize, seed: u64) -> Result<Self, CliError> {
        let plan = CrewPlan {
            nodes,
            regions: 1,
            place: Place::Processes(nodes),
            voters: nodes.min(VOTERS_MAX),
            checkpoint_ms: 5000,
            top_checkpoint_ms: None,
            marks: true,
            background_ms: None,
            degree: None,
        };
        Ok(Self { crew: Crew::start(plan).await?, rng: Rng::new(seed) })
    }

    async fn measure(&mut self, how: How, deaths: u32, progress: &ProgressBar) -> Result<Figure, CliError> {
        let (mut each, mut last, mut gone) = (histogram(), histogram(), histogram());
        for _ in 0..deaths {
            let Death { times, gone_us } = self.death(how).await?;
            record(&mut gone, gone_us);
            times.iter().for_each(|us| record(&mut each, *us));
            record(&mut last, times.into_iter().max().unwrap_or(0));
            progress.inc(1);
        }
        let (nodes, times) = (self.crew.plan().nodes, deaths as usize);
        let gone = (how == How::Killed).then(|| Percentiles::of(&gone));
        Ok(Figure { nodes, how, times, each: Percentiles::of(&each), last: Percentiles::of(&last), gone })
    }

    /// One dies and comes back.
    async fn death(&mut self, how: How) -> Result<Death, CliError> {
        let quiet = Duration::from_millis(self.rng.below(QUIET_MS) as u64);
        let until = tokio::time::Instant::now() + quiet;
        while let Ok(heard) = tokio::time::timeout_at(until, self.crew.next(PATIENCE)).await {
            heard?;
        }
        let victim = self.rng.below(self.crew.plan().nodes);
        let begun = machine_micros();
        match how {
            How::Killed => self.crew.kill(victim).await?,
            How::Stopped => self.crew.signal(victim, libc::SIGSTOP)?,
        }
        let gone_us = machine_micros().saturating_sub(begun);
        let died = Mark::Died { node: name(victim) };
        let seen = self.said_by_all(victim, &died, BTreeMap::new()).await?;
        let mut back = BTreeMap::new();
        let alive = Mark::Alive { node: name(victim) };
        match how {
            How::Killed => self.crew.restart(&[victim], &mut |told| back.extend(said(&told, &alive))).await?,
            How::Stopped => self.crew.signal(victim, libc::SIGCONT)?,
        }
        self.said_by_all(victim, &alive, back).await?;
        Ok(Death { times: seen.into_values().map(|at| at.saturating_sub(begun)).collect(), gone_us })
    }

    /// Waits until all others have said so: when each did, by its place and the machine's clock in µs. Some `have` already.
    async fn said_by_all(&mut self, victim: usize, what: &Mark, have: Said) -> Result<Said, CliError> {
        let (others, mut all) = (self.crew.plan().nodes - 1, have);
        let listening = async {
            while all.keys().filter(|place| **place != victim).count() < others {
                let (_, told) = self.crew.next(PATIENCE).await?;
                if let Some((place, at_us)) = said(&told, what) {
                    all.entry(place).or_insert(at_us);
                }
            }
            Ok(())
        };
        // Members go on telling of other things: silence is not what ends this.
        let heard = tokio::time::timeout(PATIENCE, listening).await;
        all.remove(&victim);
        match heard {
            Ok(heard) => heard.map(|()| all),
            Err(_) => {
                let word = if matches!(what, Mark::Died { .. }) { "dead" } else { "back" };
                let (told, victim) = (all.len(), name(victim));
                Err(CliError::unreachable(format!("{told} of {others} nodes said in a minute that {victim} is {word}")))
            }
        }
    }
}

/// From the signal, in µs.
struct Death {
    /// Until each of the others said so.
    times: Vec<u64>,
    /// Until the process had ended, if it was killed.
    gone_us: u64,
}

/// Who said something, by its place, and when.
type Said = BTreeMap<usize, u64>;

/// Who says this and when, if that is what is told.
fn said(told: &Told, what: &Mark) -> Option<(usize, u64)> {
    match told {
        Told::Marked { place, at_us, mark } if mark == what => Some((*place, *at_us)),
        _ => None,
    }
}

fn rows(figures: &[Figure]) -> Rows {
    let mut rows = Rows::new(COLUMNS);
    for figure in figures {
        let times = [figure.each, figure.last].map(|p| [p.p50_us, p.p99_us, p.max_us].map(duration_us));
        let counts = [figure.nodes.to_string(), figure.how.as_str().to_owned(), figure.times.to_string()];
        let gone = figure.gone.map_or_else(|| "-".to_owned(), |gone| duration_us(gone.max_us));
        rows.push(counts.into_iter().chain(times.into_iter().flatten()).chain([gone]).collect());
    }
    rows
}

const THRESHOLDS: &[&str] = &[
    "p50",
    "p99",
    "max",
    "last_p50",
    "last_p99",
    "last_max",
    "killed_p50",
    "killed_p99",
    "killed_max",
    "killed_last_p50",
    "killed_last_p99",
    "killed_last_max",
    "stopped_p50",
    "stopped_p99",
    "stopped_max",
    "stopped_last_p50",
    "stopped_last_p99",
    "stopped_last_max",
];

impl Figure {
    /// The figure of that name in µs, if the name is about this kind of death.
    fn by_name(&self, name: &str) -> Option<u64> {
        let (of_kind, name) = [How::Killed, How::Stopped]
            .into_iter()
            .find_map(|how| Some((how == self.how, name.strip_prefix(how.as_str())?.strip_prefix('_')?)))
            .unwrap_or((true, name));
        let (times, name) = match name.strip_prefix("last_") {
            Some(name) => (self.last, name),
            None => (self.each, name),
        };
        of_kind.then_some(match name {
            "p50" => times.p50_us,
            "p99" => times.p99_us,
            _ => times.max_us,
        })
    }
}

fn judge(figures: &[Figure], thresholds: &[Threshold]) -> Result<(), CliError> {
    let mut missed = Vec::new();
    for threshold in thresholds {
        let mut of = figures.iter().filter_map(|f| Some((f, f.by_name(threshold.metric())?))).peekable();
        if of.peek().is_none() {
            missed.push(format!("{threshold} was not measured"));
        }
        for (figure, us) in of.filter(|(_, us)| !threshold.is_kept_by(*us as f64)) {
            let (nodes, how, metric) = (figure.nodes, figure.how.as_str(), threshold.metric());
            missed.push(format!("{nodes} nodes, one {how}: {metric} is {}, not {threshold}", duration_us(us)));
        }
    }
    verdict(&missed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(how: How, each_us: u64, last_us: u64) -> Figure {
        let of = |us| Percentiles { p50_us: us / 2, p90_us: us, p99_us: us, max_us: us };
        Figure { nodes: 10, how, times: 3, each: of(each_us), last: of(last_us), gone: None }
    }

    #[test]
    fn a_threshold_is_about_all_deaths_or_about_one_kind() {
        let figures = [figure(How::Killed, 4_000, 9_000), figure(How::Stopped, 3_000_000, 4_000_000)];
        let missed = |text: &str| judge(&figures, &[text.parse().unwrap()]).err().map(|error| error.message);
        assert_eq!(missed("killed_p99<5ms"), None);
        assert!(missed("killed_last_p99<5ms").unwrap().contains("one killed: killed_last_p99 is 9"));
        assert_eq!(missed("stopped_last_max<6s"), None);
        let all = missed("p99<2s").unwrap();
        assert!(all.contains("stopped") && !all.contains("one killed"), "{all}");
        let killed = judge(&figures[..1], &["stopped_p50<6s".parse().unwrap()]).unwrap_err().message;
        assert!(killed.contains("not measured"), "{killed}");
        assert!(THRESHOLDS.iter().all(|name| figures.iter().any(|figure| figure.by_name(name).is_some())));
    }
}
