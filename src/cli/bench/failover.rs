//! `bench failover`.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::bench::crew::{Crew, CrewPlan, Place};
use crate::cli::bench::plan::{self, Told};
use crate::cli::bench::{Percentiles, bar, histogram, record};
use crate::cli::error::CliError;
use crate::cli::output::{self, Column, Rows, number};
use crate::cli::threshold::{Threshold, verdict};
use crate::shell::clock::machine_micros;

#[derive(Args)]
pub struct FailoverArgs {
    /// Leaders to kill
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    kills: u32,
    /// Voters, each in its own process
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(3..=5))]
    nodes: u32,
    /// End with exit code 5 unless this is kept, for example 'p50<900ms'; may be said again
    #[arg(long, value_name = "FIGURE<VALUE")]
    threshold: Vec<Threshold>,
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
    args.threshold.iter().try_for_each(|threshold| threshold.check(&["p50", "p99", "max"]))?;
    let nodes = args.nodes as usize;
    let plan = CrewPlan {
        nodes,
        regions: 1,
        place: Place::Processes(nodes),
        voters: nodes,
        checkpoint_ms: 5000,
        background_ms: Some(100),
        degree: None,
    };
    let progress = bar(u64::from(args.kills), "killing leaders");
    let mut crew = Crew::start(plan).await?;
    let mut newest = commit(&mut crew, None, 0).await?;
    let mut failovers = Vec::new();
    while failovers.len() < args.kills as usize {
        let (leader, index, _) = newest.clone();
        let place = plan::place(&leader).expect("a member leads");
        let killed_at = machine_micros();
        crew.kill(place).await?;
        newest = commit(&mut crew, Some(&leader), index).await?;
        let ms = newest.2.saturating_sub(killed_at) as f64 / 1000.0;
        failovers.push(Failover { killed: leader, leader: newest.0.clone(), index: newest.1, ms });
        crew.restart(place).await?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    let mut times = histogram();
    failovers.iter().for_each(|failover| record(&mut times, (failover.ms * 1000.0) as u64));
    let times = Percentiles::of(&times);
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
    let figure = |name: &str| match name {
        "p50" => times.p50_us,
        "p99" => times.p99_us,
        _ => times.max_us,
    };
    let missed = args.threshold.iter().filter(|threshold| !threshold.is_kept_by(figure(threshold.metric()) as f64));
    let words = missed.map(|t| format!("the {} failover is {:.0} ms, not {t}", t.metric(), ms(figure(t.metric()))));
    verdict(&words.collect::<Vec<_>>())
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
