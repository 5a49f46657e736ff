//! `sim model`: the group's every order of events, walked exhaustively.

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::cli::Context;
use crate::cli::error::{CliError, Kind};
use crate::cli::output::{self, Column, Rows, number, text};
use crate::sim::model::{Bounds, walk};

#[derive(Args)]
pub struct ModelArgs {
    /// Regions: one is a region's own group, several are the top level
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3))]
    regions: u64,
    /// Voters, in each region
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=7))]
    voters: u64,
    /// No campaign beyond this term
    #[arg(long, default_value_t = 2)]
    terms: u64,
    /// No checkpoint beyond this index
    #[arg(long, default_value_t = 1)]
    checkpoints: u64,
    /// Crashes on one path
    #[arg(long, default_value_t = 0)]
    crashes: u8,
    /// Steps on one path whose writes stay open for a while, to be lost by a crash
    #[arg(long, default_value_t = 0)]
    late_writes: u8,
    /// Voters added on one path
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=1))]
    additions: u8,
    /// Voters taken out on one path
    #[arg(long, default_value_t = 0)]
    removals: u8,
    /// At the top: nodes that come to lead their regions on one path, besides those that do at first
    #[arg(long, default_value_t = 0)]
    region_leaders: u8,
    /// Steps on one path
    #[arg(long, default_value_t = 1000)]
    depth: u32,
    /// States after which the walk stops; 100 million take about 4 GiB
    #[arg(long, default_value_t = 10_000_000)]
    states: u64,
}

#[derive(Serialize)]
struct Walked {
    schema: &'static str,
    states: u64,
    steps: u64,
    depth: u32,
    members: u64,
    messages: u64,
    complete: bool,
    reached: std::collections::BTreeMap<&'static str, u64>,
    states_per_s: f64,
    violation: Option<String>,
    path: Vec<String>,
}

const COLUMNS: &[Column] = &[
    number("states"),
    number("steps"),
    number("depth"),
    text("complete"),
    text("reached"),
    number("states/s"),
    text("verdict"),
];

pub fn run(cx: &Context, args: &ModelArgs) -> Result<(), CliError> {
    let bounds = Bounds {
        regions: args.regions as usize,
        voters: args.voters as usize,
        terms: args.terms,
        checkpoints: args.checkpoints,
        crashes: args.crashes,
        late_writes: args.late_writes,
        additions: args.additions,
        removals: args.removals,
        region_leaders: args.region_leaders,
        depth: args.depth,
        states: args.states,
    };
    bounds.check().map_err(|error| CliError::usage(error.to_string()))?;
    let begun = crate::shell::clock::machine_micros();
    let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}").expect("a template");
    let bar = ProgressBar::new_spinner().with_style(style);
    let report = walk(&bounds, &mut |report| {
        bar.set_message(format!("{} states, {} steps, depth {}", report.states, report.steps, report.depth));
        bar.tick();
    });
    bar.finish_and_clear();
    let took_us = (crate::shell::clock::machine_micros() - begun).max(1);
    let (violation, path) = report.violation.map_or((None, Vec::new()), |(broken, path)| (Some(broken), path));
    let walked = Walked {
        schema: "sensorctl/sim-model/v1",
        states: report.states,
        steps: report.steps,
        depth: report.depth,
        members: report.members,
        messages: report.messages,
        complete: report.complete,
        reached: report.reached,
        states_per_s: report.states as f64 * 1e6 / took_us as f64,
        violation,
        path,
    };
    output::print(cx.format, &walked, std::slice::from_ref(&walked), || {
        let reached: Vec<String> = walked.reached.iter().map(|(what, n)| format!("{n} {what}")).collect();
        let mut rows = Rows::new(COLUMNS);
        rows.push(vec![
            walked.states.to_string(),
            walked.steps.to_string(),
            walked.depth.to_string(),
            if walked.complete { "yes" } else { "no" }.to_owned(),
            reached.join(", "),
            format!("{:.0}", walked.states_per_s),
            walked.violation.clone().unwrap_or_else(|| "holds".to_owned()),
        ]);
        rows
    })?;
    if walked.violation.is_none() {
        return Ok(());
    }
    if cx.format.is_for_people() {
        walked.path.iter().for_each(|step| eprintln!("  {step}"));
    }
    Err(CliError::silent(Kind::Failed))
}
