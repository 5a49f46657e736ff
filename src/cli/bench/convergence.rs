//! `bench convergence`.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::bench::crew::{Crew, CrewPlan};
use crate::cli::bench::plan::{Order, Schedule, Share, Told};
use crate::cli::bench::{Percentiles, bar, judge};
use crate::cli::error::CliError;
use crate::cli::output::{self, Column, Rows, duration_us, number, text};
use crate::shell::clock::machine_micros;

#[derive(Args)]
pub struct ConvergenceArgs {
    /// Nodes in the cluster
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    nodes: u32,
    /// Processes that they run in; each node in its own unless there are many
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    processes: Option<u32>,
    /// Writes a second in the whole cluster
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Writes that are measured
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(10..=10_000_000))]
    writes: u64,
    /// Seed of the choice of writers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// End with exit code 5 if the 99th percentile to all nodes is above this
    #[arg(long, value_name = "MS")]
    max_p99_ms: Option<f64>,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    runs: Vec<Run>,
}

#[derive(Serialize)]
struct Run {
    transport: &'static str,
    nodes: usize,
    regions: usize,
    rate: f64,
    /// Bytes of the frame that carries one update.
    payload: usize,
    writes: u64,
    missed_sends: u64,
    to_all: Percentiles,
    to_99: Percentiles,
    to_50: Percentiles,
    data_messages_per_node_update: f64,
    bytes_per_node_update: f64,
    rss_per_node_kib: Option<u64>,
    raw_tcp: Percentiles,
    raw_missed_sends: u64,
    /// Median to all nodes over that of plain TCP.
    ratio_p50: f64,
}

/// Rounds in which cluster and plain TCP take turns, so that a noisy machine disturbs both alike.
const ROUNDS: u64 = 10;
/// Writes before anything counts.
const WARM_UP: u64 = 100;
/// Time for everybody to get an order before its first write is due.
const NOTICE_US: u64 = 50_000;

const COLUMNS: &[Column] = &[text("time until"), number("p50"), number("p90"), number("p99"), number("max")];

pub async fn run(cx: &Context, args: ConvergenceArgs) -> Result<(), CliError> {
    if !(0.1..=1_000_000.0).contains(&args.rate) {
        return Err(CliError::usage(format!("--rate {} is not between 0.1 and 1000000", args.rate)));
    }
    let nodes = args.nodes as usize;
    let processes = args.processes.map_or(if nodes <= 8 { nodes } else { 2 }, |n| n as usize).min(nodes);
    let voters = if nodes < 3 { 1 } else { 3 };
    let plan = CrewPlan { nodes, processes, voters, checkpoint_ms: 5000, background_ms: None };
    let progress = bar(args.writes, "writing");
    progress.set_message("starting");
    let mut crew = Crew::start(plan).await?;
    progress.set_message("writing");
    let mut bench = Bench {
        crew: &mut crew,
        nodes,
        interval_us: (1e6 / args.rate) as u64,
        seed: args.seed,
        first: 0,
        frame_bytes: 0,
    };
    let mut warm = Totals::default();
    warm.add(bench.push(WARM_UP).await?, nodes);
    // Plain TCP carries frames of the same size.
    bench.frame_bytes = (warm.update_bytes / warm.frames.max(1)) as usize;
    bench.raw(WARM_UP).await?;
    let mut total = Totals::default();
    for round in 0..ROUNDS {
        let count = args.writes * (round + 1) / ROUNDS - args.writes * round / ROUNDS;
        let shares = bench.push(count).await?;
        total.add(shares, nodes);
        let (latencies, missed) = bench.raw(count).await?;
        total.raw.extend(latencies);
        total.raw_missed += missed;
        progress.inc(count);
    }
    progress.finish_and_clear();
    let run = total.report(&args, nodes, bench.frame_bytes);
    let p99_ms = run.to_all.p99_us as f64 / 1000.0;
    let report = Report { schema: "sensorctl/bench-convergence/v1", runs: vec![run] };
    output::print(cx.format, &report, &report.runs, || rows(&report.runs[0]))?;
    if cx.format.is_for_people() {
        let run = &report.runs[0];
        eprintln!(
            "\n{} nodes, {} writes at {}/s: the median to all is {:.1} times that of plain TCP; {:.2} messages and \
             {:.0} bytes per node and update; {} sends began late",
            run.nodes,
            run.writes,
            run.rate,
            run.ratio_p50,
            run.data_messages_per_node_update,
            run.bytes_per_node_update,
            run.missed_sends
        );
    }
    judge("the 99th percentile to all nodes", p99_ms, args.max_p99_ms)
}

struct Bench<'a> {
    crew: &'a mut Crew,
    nodes: usize,
    interval_us: u64,
    seed: u64,
    first: u64,
    /// Of a SENSOR_UPDATE, measured.
    frame_bytes: usize,
}

impl Bench<'_> {
    fn schedule(&mut self, count: u64) -> (Schedule, Duration) {
        let first = self.first;
        self.first += count;
        let begin_us = machine_micros() + NOTICE_US;
        let schedule =
            Schedule { begin_us, interval_us: self.interval_us, first, count, seed: self.seed, nodes: self.nodes };
        (schedule, Duration::from_micros(count * self.interval_us))
    }

    async fn push(&mut self, count: u64) -> Result<Vec<Share>, CliError> {
        let (schedule, takes) = self.schedule(count);
        self.crew.order_all(&Order::Write { schedule }).await?;
        self.crew.answers(takes, |told| if let Told::Wrote(share) = told { Some(share) } else { None }).await
    }

    async fn raw(&mut self, count: u64) -> Result<(Vec<u64>, u64), CliError> {
        let receivers = self.crew.receivers();
        let (schedule, takes) = self.schedule(count);
        self.crew.order_all(&Order::WriteRaw { schedule, receivers, bytes: self.frame_bytes }).await?;
        let wrote = |told| match told {
            Told::WroteRaw { latencies_us, missed } => Some((latencies_us, missed)),
            _ => None,
        };
        let answers = self.crew.answers(takes, wrote).await?;
        let missed = answers.iter().map(|(_, missed)| missed).sum();
        Ok((answers.into_iter().flat_map(|(latencies, _)| latencies).collect(), missed))
    }
}

#[derive(Default)]
struct Totals {
    to_all: Vec<u64>,
    to_99: Vec<u64>,
    to_50: Vec<u64>,
    raw: Vec<u64>,
    missed: u64,
    raw_missed: u64,
    frames: u64,
    update_bytes: u64,
    bytes: u64,
    rss_kib: Option<u64>,
}

impl Totals {
    /// Joins what members wrote with what all of them came to hold.
    fn add(&mut self, shares: Vec<Share>, nodes: usize) {
        let mut held: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        self.rss_kib = shares.iter().map(|share| share.rss_kib).sum();
        let mut writes = Vec::new();
        for share in shares {
            self.missed += share.missed;
            self.frames += share.frames;
            self.update_bytes += share.update_bytes;
            self.bytes += share.bytes;
            writes.extend(share.writes);
            for (update, times) in share.held {
                held.entry(update).or_default().extend(times);
            }
        }
        for (update, at) in writes {
            let times = held.get_mut(&update).expect("members wait until all is held");
            assert_eq!(times.len(), nodes, "an update is held by every node once");
            times.sort_unstable();
            let to =
                |share: f64| times[((nodes as f64 * share).ceil() as usize).clamp(1, nodes) - 1].saturating_sub(at);
            self.to_all.push(to(1.0));
            self.to_99.push(to(0.99));
            self.to_50.push(to(0.5));
        }
    }

    fn report(self, args: &ConvergenceArgs, nodes: usize, payload: usize) -> Run {
        let per = (args.writes * nodes as u64) as f64;
        let (to_all, raw_tcp) = (Percentiles::of(self.to_all), Percentiles::of(self.raw));
        Run {
            transport: "tcp",
            nodes,
            regions: 1,
            rate: args.rate,
            payload,
            writes: args.writes,
            missed_sends: self.missed,
            to_all,
            to_99: Percentiles::of(self.to_99),
            to_50: Percentiles::of(self.to_50),
            data_messages_per_node_update: self.frames as f64 / per,
            bytes_per_node_update: self.bytes as f64 / per,
            rss_per_node_kib: self.rss_kib.map(|rss| rss / nodes as u64),
            raw_tcp,
            raw_missed_sends: self.raw_missed,
            ratio_p50: to_all.p50_us as f64 / raw_tcp.p50_us.max(1) as f64,
        }
    }
}

fn rows(run: &Run) -> Rows {
    let mut rows = Rows::new(COLUMNS);
    let lines = [
        ("all nodes hold it", run.to_all),
        ("99% of nodes", run.to_99),
        ("50% of nodes", run.to_50),
        ("plain TCP, all receivers", run.raw_tcp),
    ];
    for (what, p) in lines {
        let times = [p.p50_us, p.p90_us, p.p99_us, p.max_us].map(duration_us);
        rows.push([vec![what.to_owned()], times.to_vec()].concat());
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_joined_by_update() {
        let one = Share { writes: vec![(7, 100)], held: vec![(7, vec![110]), (8, vec![260])], ..Share::default() };
        let two = Share { writes: vec![(8, 200)], held: vec![(7, vec![150]), (8, vec![205])], ..Share::default() };
        let mut totals = Totals::default();
        totals.add(vec![one, two], 2);
        assert_eq!((totals.to_all, totals.to_50), (vec![50, 60], vec![10, 5]));
    }
}
