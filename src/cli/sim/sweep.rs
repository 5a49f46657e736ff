//! `sim sweep`: many seeds, on all cores.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::sim::{Found, how_far, replay, scenarios};
use crate::sim::cluster::{Report, run as simulate, run_watched};
use crate::sim::scenario::Scenario;
use crate::sim::swarm::{Cut, Plan};
use crate::sim::trace::Trace;

#[derive(Args)]
pub struct SweepArgs {
    /// Scenarios that come with the program, or files; all small ones that come with it when none is named
    scenarios: Vec<String>,
    /// Seeds of each scenario, from the first to before the last
    #[arg(long, default_value = "1..101", value_parser = parse_seeds)]
    seeds: std::ops::Range<u64>,
    /// Runs at a time; as many as there are cores when nothing is said
    #[arg(long)]
    jobs: Option<usize>,
    /// Violations after which no further seed is begun
    #[arg(long, default_value_t = 10)]
    give_up_after: usize,
}

/// Scenarios of more nodes are swept only where they are named: a seed of theirs takes long.
const SWEPT_NODES_MAX: usize = 12;
/// One seed in so many is run twice, and the traces compared.
const COMPARED: u64 = 16;

fn parse_seeds(text: &str) -> Result<std::ops::Range<u64>, String> {
    let bounds = text.split_once("..").and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
    bounds
        .filter(|range: &std::ops::Range<u64>| !range.is_empty())
        .ok_or_else(|| "seeds are written A..B, A below B".into())
}

pub fn run(cx: &Context, args: &SweepArgs) -> Result<(), CliError> {
    let all: Vec<Scenario> = match args.scenarios.is_empty() {
        true => scenarios::all().into_iter().filter(|scenario| scenario.nodes() <= SWEPT_NODES_MAX).collect(),
        false => args.scenarios.iter().map(|name| scenarios::find(name)).collect::<Result<_, _>>()?,
    };
    let mut verdict = Ok(());
    for (i, scenario) in all.iter().enumerate() {
        let name = args.scenarios.get(i).unwrap_or(&scenario.name);
        let found = sweep(scenario, name, args)?;
        found.print(cx)?;
        if found.verdict().is_err() {
            verdict = found.verdict();
        }
    }
    verdict
}

fn sweep(scenario: &Scenario, name: &str, args: &SweepArgs) -> Result<Found, CliError> {
    let count = args.seeds.end - args.seeds.start;
    let style =
        ProgressStyle::with_template("{prefix:>10} {bar:30} {pos}/{len} seeds {eta} {msg}").expect("a template");
    let bar = ProgressBar::new(count).with_style(style).with_prefix(scenario.name.clone());
    let next = AtomicU64::new(args.seeds.start);
    let reports: Mutex<Vec<Report>> = Mutex::default();
    let differs: Mutex<Option<u64>> = Mutex::default();
    let broken = AtomicU64::new(0);
    let begun = crate::shell::clock::machine_micros();
    let jobs = args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= args.seeds.end || broken.load(Ordering::Relaxed) >= args.give_up_after as u64 {
                        return;
                    }
                    let plan = Plan::draw(scenario, seed, &Cut::default());
                    // A seed that takes long says which it is.
                    let report = run_watched(&plan, Trace::default(), &mut |at| {
                        bar.set_message(said(&broken, Some(format!("seed {seed}: {}", how_far(at)))));
                    });
                    if seed.is_multiple_of(COMPARED) && simulate(&plan, Trace::default()) != report {
                        *differs.lock().expect("no holder panics") = Some(seed);
                    }
                    if report.violation.is_some() {
                        broken.fetch_add(1, Ordering::Relaxed);
                    }
                    bar.set_message(said(&broken, None));
                    reports.lock().expect("no holder panics").push(report);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    if let Some(seed) = differs.into_inner().expect("no holder panics") {
        return Err(CliError::failed(format!("seed {seed} of {name} leaves two different traces: not deterministic")));
    }
    let took_us = crate::shell::clock::machine_micros() - begun;
    let mut reports = reports.into_inner().expect("no holder panics");
    reports.sort_by_key(|report| report.seed);
    Ok(Found::of(scenario, &reports, took_us, |seed| replay(name, seed, &Cut::default())))
}

/// What stands behind the bar.
fn said(broken: &AtomicU64, running: Option<String>) -> String {
    let broken = match broken.load(Ordering::Relaxed) {
        0 => None,
        n => Some(format!("{n} broken")),
    };
    broken.into_iter().chain(running).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_range() {
        assert_eq!(parse_seeds("3..7"), Ok(3..7));
        assert!(parse_seeds("7..3").is_err() && parse_seeds("7").is_err());
    }
}
