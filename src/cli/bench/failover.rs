//! `bench failover`.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::bench::crew::{Crew, CrewPlan};
use crate::cli::bench::plan::Told;
use crate::cli::bench::{Percentiles, bar, judge};
use crate::cli::error::CliError;
use crate::cli::output::{self, Column, Rows, number};
use crate::shell::clock::machine_micros;

#[derive(Args)]
pub struct FailoverArgs {
    /// Leaders to kill
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    kills: u32,
    /// Voters, each in its own process
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(3..=5))]
    nodes: u32,
    /// End with exit code 5 if the median is above this
    #[arg(long, value_name = "MS")]
    max_p50_ms: Option<f64>,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    nodes: u32,
    failovers: Vec<Failover>,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

#[derive(Serialize)]
struct Failover {
    killed: String,
    leader: String,
    index: u64,
    ms: f64,
}

/// How long the others may take to commit.
const PATIENCE: Duration = Duration::from_secs(60);

const COLUMNS: &[Column] = &[number("leaders killed"), number("p50"), number("p99"), number("max")];

pub async fn run(cx: &Context, args: FailoverArgs) -> Result<(), CliError> {
    let nodes = args.nodes as usize;
    let plan = CrewPlan { nodes, processes: nodes, voters: nodes, checkpoint_ms: 5000, background_ms: Some(100) };
    let progress = bar(u64::from(args.kills), "killing leaders");
    let mut crew = Crew::start(plan).await?;
    let mut newest = commit(&mut crew, None, 0).await?;
    let mut failovers = Vec::new();
    while failovers.len() < args.kills as usize {
        let (leader, index, _) = newest.clone();
        let place = (0..nodes).find(|place| Crew::name(*place) == leader).expect("a member leads");
        let killed_at = machine_micros();
        crew.kill(place).await?;
        newest = commit(&mut crew, Some(&leader), index).await?;
        let ms = newest.2.saturating_sub(killed_at) as f64 / 1000.0;
        failovers.push(Failover { killed: leader, leader: newest.0.clone(), index: newest.1, ms });
        crew.restart(place).await?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    let times = Percentiles::of(failovers.iter().map(|failover| (failover.ms * 1000.0) as u64));
    let ms = |us: u64| us as f64 / 1000.0;
    let report = Report {
        schema: "sensorctl/bench-failover/v1",
        nodes: args.nodes,
        failovers,
        p50_ms: ms(times.p50_us),
        p99_ms: ms(times.p99_us),
        max_ms: ms(times.max_us),
    };
    output::print(cx.format, &report, &report.failovers, || {
        let mut rows = Rows::new(COLUMNS);
        let cell = |ms: f64| format!("{ms:.0} ms");
        rows.push(vec![args.kills.to_string(), cell(report.p50_ms), cell(report.p99_ms), cell(report.max_ms)]);
        rows
    })?;
    judge("the median failover", report.p50_ms, args.max_p50_ms)
}

/// The next commit above `index` by anybody but `not`: by whom, which, and when it was first told.
async fn commit(crew: &mut Crew, not: Option<&str>, index: u64) -> Result<(String, u64, u64), CliError> {
    loop {
        if let (_, Told::Committed { origin, index: committed, at_us }) = crew.next(PATIENCE).await?
            && not != Some(&origin)
            && committed > index
        {
            return Ok((origin, committed, at_us));
        }
    }
}
