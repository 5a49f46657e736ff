//! `sensorctl bench`: nodes on this machine, measured.

mod catchup;
mod checkpoint;
mod convergence;
mod crew;
mod death;
mod failover;
mod flood;
mod fusion;
pub mod host;
mod mark;
mod member;
mod plan;
mod raw;
mod reconcile;
mod svg;
mod throughput;
mod world;

use clap::{Args, Subcommand};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::cli::Context;
use crate::cli::error::{CliError, Kind};

#[derive(Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Time from a write on a random node until all nodes hold it, over a sweep of settings
    Convergence(Box<convergence::ConvergenceArgs>),
    /// Time from killing a leader, or a whole leading region, until the next checkpoint is committed
    Failover(failover::FailoverArgs),
    /// Time from the death of a node, killed or stopped, until every other node knows
    Death(death::DeathArgs),
    /// Time of a global checkpoint from proposal to commit, and where it goes
    Checkpoint(checkpoint::CheckpointArgs),
    /// Error and coverage of fused values while sensors lie, and which faults are found
    Fusion(fusion::FusionArgs),
    /// What two nodes say to each other to mend the keys in which they differ
    Reconcile(reconcile::ReconcileArgs),
    /// Time until a newcomer, or a node that was stopped for a while, holds what the others do
    Catchup(catchup::CatchupArgs),
    /// Updates a second that one node accepts and all come to hold, and how far behind one hot key is
    Throughput(throughput::ThroughputArgs),
    /// A process of a benchmark: takes orders on stdin
    #[command(hide = true)]
    Member,
}

pub fn run(cx: &Context, args: BenchArgs) -> Result<(), CliError> {
    match args.what {
        What::Convergence(args) => measure(convergence::run(cx, *args)),
        What::Failover(args) => measure(failover::run(cx, args)),
        What::Death(args) => measure(death::run(cx, args)),
        What::Checkpoint(args) => measure(checkpoint::run(cx, args)),
        What::Fusion(args) => fusion::run(cx, args),
        What::Reconcile(args) => reconcile::run(cx, &args),
        What::Catchup(args) => measure(catchup::run(cx, args)),
        What::Throughput(args) => measure(throughput::run(cx, args)),
        What::Member => member::run(),
    }
}

/// Runs a benchmark, whose nodes may be in this process, on all cores; Ctrl-C ends it.
fn measure(bench: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        tokio::select! {
            done = bench => done,
            _ = tokio::signal::ctrl_c() => Err(CliError::silent(Kind::Interrupted)),
        }
    });
    runtime.shutdown_background();
    done
}

/// Percentiles of times in µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half are no longer.
    pub p50_us: u64,
    /// Nine of ten are no longer.
    pub p90_us: u64,
    /// 99 of a hundred are no longer.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl Percentiles {
    /// Of what was recorded.
    pub fn of(times: &Histogram<u64>) -> Self {
        let at = |quantile| times.value_at_quantile(quantile);
        Self { p50_us: at(0.5), p90_us: at(0.9), p99_us: at(0.99), max_us: times.max() }
    }

    /// Each the median of as many repetitions' own; zeros of none.
    pub fn median(of: &[Self]) -> Self {
        let median = |pick: fn(&Self) -> u64| {
            let mut values: Vec<u64> = of.iter().map(pick).collect();
            values.sort_unstable();
            values.get(values.len() / 2).copied().unwrap_or(0)
        };
        Self {
            p50_us: median(|p| p.p50_us),
            p90_us: median(|p| p.p90_us),
            p99_us: median(|p| p.p99_us),
            max_us: median(|p| p.max_us),
        }
    }
}

/// A histogram of times in µs: three digits, as far as it has to reach.
pub fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are allowed")
}

/// Notes a time.
pub fn record(times: &mut Histogram<u64>, us: u64) {
    times.record(us).expect("the histogram grows");
}

/// A bar on the terminal: how much is done and how long the rest will take.
pub fn bar(length: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:30} {percent}% {elapsed}, {eta} to go");
    ProgressBar::new(length).with_style(style.expect("a good template")).with_message(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_recorded() {
        let mut times = histogram();
        (1..=1000).for_each(|us| record(&mut times, us));
        let p = Percentiles::of(&times);
        assert_eq!((p.p50_us, p.p90_us, p.p99_us, p.max_us), (500, 900, 990, 1000));
    }

    #[test]
    fn medians_are_taken_percentile_by_percentile() {
        let run = |p50_us, max_us| Percentiles { p50_us, p90_us: 0, p99_us: 0, max_us };
        let median = Percentiles::median(&[run(5, 10), run(1, 90), run(9, 20)]);
        assert_eq!((median.p50_us, median.max_us), (5, 20));
        assert_eq!(Percentiles::median(&[]), Percentiles::default());
    }
}
