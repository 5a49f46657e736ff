//! `sensorctl bench`: real processes on this machine, measured.

mod convergence;
mod crew;
mod failover;
mod member;
mod plan;
mod raw;

use clap::{Args, Subcommand};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::cli::error::{CliError, Kind};
use crate::cli::{Context, wait_for};

#[derive(Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Time from a write on a random node until all nodes hold it, beside plain TCP in the same run
    Convergence(convergence::ConvergenceArgs),
    /// Time from killing the leader until the next checkpoint is committed
    Failover(failover::FailoverArgs),
    /// A process of a benchmark: takes orders on stdin
    #[command(hide = true)]
    Member,
}

pub fn run(cx: &Context, args: BenchArgs) -> Result<(), CliError> {
    match args.what {
        What::Convergence(args) => wait_for(convergence::run(cx, args)),
        What::Failover(args) => wait_for(failover::run(cx, args)),
        What::Member => member::run(),
    }
}

/// Percentiles of times in µs.
#[derive(Clone, Copy, Debug, Serialize)]
struct Percentiles {
    p50_us: u64,
    p90_us: u64,
    p99_us: u64,
    max_us: u64,
}

impl Percentiles {
    fn of(times_us: impl IntoIterator<Item = u64>) -> Self {
        let mut histogram = Histogram::<u64>::new(3).expect("three digits are allowed");
        for time in times_us {
            histogram.record(time).expect("the histogram grows");
        }
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self { p50_us: at(0.5), p90_us: at(0.9), p99_us: at(0.99), max_us: histogram.max() }
    }
}

fn bar(length: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {elapsed}").expect("a good template");
    ProgressBar::new(length).with_style(style).with_message(what)
}

/// A measurement above the asked limit ends with its own exit code.
fn judge(what: &str, measured_ms: f64, limit_ms: Option<f64>) -> Result<(), CliError> {
    match limit_ms {
        Some(limit) if measured_ms > limit => {
            Err(CliError::new(Kind::Threshold, format!("{what} is {measured_ms:.2} ms, above the limit of {limit} ms")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_recorded() {
        let p = Percentiles::of(1..=1000);
        assert_eq!((p.p50_us, p.p90_us, p.p99_us, p.max_us), (500, 900, 990, 1000));
    }

    #[test]
    fn a_missed_limit_is_an_exit_code() {
        assert!(judge("p99", 5.0, None).is_ok() && judge("p99", 5.0, Some(5.0)).is_ok());
        assert_eq!(judge("p99", 5.1, Some(5.0)).unwrap_err().kind, Kind::Threshold);
    }
}
