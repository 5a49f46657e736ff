//! `bench throughput`: how many updates a second one node accepts and all nodes come to hold, and how far behind the
//! last value of one key is that is written as fast as it goes.

use std::collections::BTreeMap;

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::bench::bar;
use crate::cli::bench::crew::{Crew, CrewPlan, Place};
use crate::cli::bench::flood::{self, Flood, FloodShare, Heard};
use crate::cli::bench::host::Host;
use crate::cli::bench::plan::{Order, Told, Traffic};
use crate::cli::error::CliError;
use crate::cli::output::{self, Column, NONE, Rows, duration_us, number, text};
use crate::cli::threshold::{Threshold, verdict};

#[derive(Args)]
#[command(
    after_help = "A flood writes every key once, so that nothing coalesces, and ends when the last node holds the last of \
    them. The hot key is written one update at a time for a while; what counts is the time from the last write until all \
    nodes hold its value. All nodes share this machine's processors with the writer: more of them say more."
)]
pub struct ThroughputArgs {
    /// Nodes, each in its own process
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    nodes: u32,
    /// Keys of a flood
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..=2_000_000))]
    keys: u64,
    /// Readings handed over at a time
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    batch: u64,
    /// Bytes of a written value, 0 to 250; 0 is a reading without a note
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=250))]
    payload: u64,
    /// How long the hot key is written, in ms; 0 leaves it out
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    hot_ms: u64,
    /// Floods, and times that the hot key is written; figures are their medians
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repetitions: u32,
    /// End with exit code 5 unless this is kept, for example 'rate>150000' or 'hot<10ms'; may be said again
    #[arg(long, value_name = "FIGURE<VALUE")]
    threshold: Vec<Threshold>,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    nodes: u32,
    keys: u64,
    batch: u64,
    payload: u64,
    host: Host,
    floods: Vec<Flooded>,
    hot: Vec<Hot>,
    /// Medians.
    updates_per_s: f64,
    accepted_per_s: f64,
    hot_updates_per_s: Option<f64>,
    hot_to_all_us: Option<u64>,
}

/// One thing that was measured, as a row.
#[derive(Serialize)]
#[serde(tag = "what", rename_all = "lowercase")]
enum Item<'a> {
    Flood(&'a Flooded),
    Hot(&'a Hot),
}

/// One flood.
#[derive(Clone, Debug, Serialize)]
struct Flooded {
    /// Updates a second until the last node held the last of them.
    updates_per_s: f64,
    /// Updates a second until the writer's own node had accepted the last of them.
    accepted_per_s: f64,
    /// Processor time of all nodes for each update, in µs.
    cpu_us_per_update: f64,
    /// Frames with entries, and bytes of all frames, that the nodes received for each update.
    data_messages_per_update: f64,
    bytes_per_update: f64,
    rss_per_node_kib: Option<u64>,
}

/// One time that the hot key was written.
#[derive(Clone, Debug, Serialize)]
struct Hot {
    updates_per_s: f64,
    /// Of the updates, those that each of the other nodes saw, on average; the others were overtaken.
    seen_elsewhere: f64,
    /// From the last write until all nodes held its value.
    to_all_us: u64,
}

const COLUMNS: &[Column] = &[
    text("writes"),
    number("updates a second"),
    number("accepted"),
    number("cpu an update"),
    number("messages").wide(),
    number("bytes").wide(),
    number("memory").wide(),
    number("seen elsewhere"),
    number("last value on all"),
];

pub async fn run(cx: &Context, args: ThroughputArgs) -> Result<(), CliError> {
    args.threshold.iter().try_for_each(|threshold| threshold.check(&["rate", "accepted", "hot"]))?;
    let nodes = args.nodes as usize;
    let plan = CrewPlan {
        nodes,
        regions: 1,
        place: Place::Processes(nodes),
        voters: nodes.min(3),
        checkpoint_ms: 5000,
        top_checkpoint_ms: None,
        marks: false,
        background_ms: None,
        degree: None,
    };
    let host = Host::here();
    let steps = args.repetitions * if args.hot_ms > 0 { 2 } else { 1 };
    let progress = bar(u64::from(steps) + 1, "starting");
    let mut bench = Bench { crew: Crew::start(plan).await?, before: 0, heated: 0, seen: BTreeMap::new() };
    let measured = bench.measure(&args, &progress).await;
    bench.crew.dismiss().await;
    let (floods, hot) = measured?;
    progress.finish_and_clear();
    let report = Report {
        schema: "sensorctl/bench-throughput/v1",
        nodes: args.nodes,
        keys: args.keys,
        batch: args.batch,
        payload: args.payload,
        host,
        updates_per_s: median(floods.iter().map(|flood| flood.updates_per_s)).unwrap_or(0.0),
        accepted_per_s: median(floods.iter().map(|flood| flood.accepted_per_s)).unwrap_or(0.0),
        hot_updates_per_s: median(hot.iter().map(|hot| hot.updates_per_s)),
        hot_to_all_us: median(hot.iter().map(|hot| hot.to_all_us as f64)).map(|us| us as u64),
        floods,
        hot,
    };
    let floods = report.floods.iter().map(Item::Flood);
    let items: Vec<Item<'_>> = floods.chain(report.hot.iter().map(Item::Hot)).collect();
    output::print(cx.format, &report, &items, || rows(&report))?;
    if cx.format.is_for_people() {
        eprintln!("\n{}", report.host.line());
        eprintln!(
            "medians of {} repetitions; {} nodes and the writer share {} processors",
            args.repetitions, args.nodes, report.host.cores
        );
    }
    judge(&report, &args.threshold)
}

struct Bench {
    crew: Crew,
    /// Floods so far.
    before: u64,
    /// Updates of the hot key so far, and of those the ones that each node has seen.
    heated: u64,
    seen: BTreeMap<usize, u64>,
}

impl Bench {
    async fn measure(
        &mut self,
        args: &ThroughputArgs,
        bar: &ProgressBar,
    ) -> Result<(Vec<Flooded>, Vec<Hot>), CliError> {
        let (mut floods, mut hot) = (Vec::new(), Vec::new());
        // The hot key first: checkpoints of many keys are work of another kind.
        let times = if args.hot_ms > 0 { args.repetitions } else { 0 };
        for i in 1..=times {
            bar.set_message(format!("hot key, {i} of {times}"));
            hot.push(self.heat(args).await?);
            bar.inc(1);
        }
        bar.set_message("flood, warming up");
        // The first flood meets nodes without any of the keys.
        self.flood(args).await?;
        bar.inc(1);
        for i in 1..=args.repetitions {
            bar.set_message(format!("flood, {i} of {}", args.repetitions));
            floods.push(self.flood(args).await?);
            bar.inc(1);
        }
        Ok((floods, hot))
    }

    async fn flood(&mut self, args: &ThroughputArgs) -> Result<Flooded, CliError> {
        let (batch, payload) = (args.batch as usize, args.payload as usize);
        let flood = Flood { writer: 0, keys: args.keys, before: self.before, batch, payload };
        self.before += 1;
        self.crew.order_all(&Order::Flood { flood }).await?;
        let shares = self.crew.answers(flood::PATIENCE, flood::share).await?;
        Ok(Flooded::of(flood, &shares))
    }

    async fn heat(&mut self, args: &ThroughputArgs) -> Result<Hot, CliError> {
        let first = self.heated + 1;
        self.crew.order_all(&Order::Heat { writer: 0, millis: args.hot_ms, first }).await?;
        let heated = self.crew.answers(flood::PATIENCE, |told| match told {
            Told::Heated { heat } => Some(heat),
            _ => None,
        });
        let heat = heated.await?.into_iter().flatten().next();
        let heat = heat.ok_or_else(|| CliError::failed("nobody has the node that was to be written to"))?;
        self.heated += heat.written;
        self.crew.order_all(&Order::Cool { value: self.heated }).await?;
        let cooled = self.crew.answers(flood::PATIENCE, |told| match told {
            Told::Cooled { heard } => Some(heard),
            _ => None,
        });
        let heard: BTreeMap<usize, Heard> = cooled.await?.into_iter().flatten().collect();
        let elsewhere = heard.iter().filter(|(place, _)| **place != 0);
        let seen = |(place, heard): (&usize, &Heard)| heard.changes - self.seen.get(place).copied().unwrap_or(0);
        let seen: u64 = elsewhere.map(seen).sum();
        self.seen = heard.iter().map(|(place, heard)| (*place, heard.changes)).collect();
        let held_us = heard.values().map(|heard| heard.at_us).max().unwrap_or(heat.stopped_us);
        Ok(Hot {
            updates_per_s: per_second(heat.written, heat.took_us),
            seen_elsewhere: seen as f64 / (heat.written * (heard.len() as u64 - 1).max(1)) as f64,
            to_all_us: held_us.saturating_sub(heat.stopped_us),
        })
    }
}

impl Flooded {
    fn of(flood: Flood, shares: &[FloodShare]) -> Self {
        let begun = shares.iter().find_map(|share| share.begun_us).unwrap_or(0);
        let held = |of: &dyn Fn(usize) -> bool| {
            let held = shares.iter().flat_map(|share| &share.held_us).filter(|(place, _)| of(*place));
            held.map(|(_, at)| *at).max().unwrap_or(begun).saturating_sub(begun)
        };
        let mut received = Traffic::default();
        shares.iter().for_each(|share| received.add(&share.received));
        let keys = flood.keys as f64;
        let rss: Option<u64> = shares.iter().map(|share| share.rss_kib).sum();
        Self {
            updates_per_s: per_second(flood.keys, held(&|_| true)),
            accepted_per_s: per_second(flood.keys, held(&|place| place == flood.writer)),
            cpu_us_per_update: shares.iter().map(|share| share.cpu_us).sum::<u64>() as f64 / keys,
            data_messages_per_update: received.of("SENSOR_UPDATE").0 as f64 / keys,
            bytes_per_update: received.bytes() as f64 / keys,
            rss_per_node_kib: rss.map(|rss| rss / shares.len().max(1) as u64),
        }
    }
}

fn per_second(count: u64, took_us: u64) -> f64 {
    count as f64 * 1e6 / took_us.max(1) as f64
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn rows(report: &Report) -> Rows {
    let none = || NONE.to_owned();
    let of_floods = |pick: fn(&Flooded) -> f64| median(report.floods.iter().map(pick)).unwrap_or(0.0);
    let mut rows = Rows::new(COLUMNS);
    rows.push(vec![
        format!("{} keys", report.keys),
        format!("{:.0}", report.updates_per_s),
        format!("{:.0}", report.accepted_per_s),
        format!("{:.1} µs", of_floods(|flood| flood.cpu_us_per_update)),
        format!("{:.4}", of_floods(|flood| flood.data_messages_per_update)),
        format!("{:.0}", of_floods(|flood| flood.bytes_per_update)),
        report
            .floods
            .last()
            .and_then(|flood| flood.rss_per_node_kib)
            .map_or_else(none, |kib| format!("{:.1} MiB", kib as f64 / 1024.0)),
        none(),
        none(),
    ]);
    if let Some((rate, to_all)) = report.hot_updates_per_s.zip(report.hot_to_all_us) {
        let seen = median(report.hot.iter().map(|hot| hot.seen_elsewhere)).unwrap_or(0.0);
        rows.push(vec![
            "one key".to_owned(),
            format!("{rate:.0}"),
            none(),
            none(),
            none(),
            none(),
            none(),
            format!("{:.2}%", seen * 100.0),
            duration_us(to_all),
        ]);
    }
    rows
}

fn judge(report: &Report, thresholds: &[Threshold]) -> Result<(), CliError> {
    let figure = |name: &str| match name {
        "rate" => Some(report.updates_per_s),
        "accepted" => Some(report.accepted_per_s),
        _ => report.hot_to_all_us.map(|us| us as f64),
    };
    let missed = thresholds.iter().filter_map(|threshold| match figure(threshold.metric()) {
        Some(value) if threshold.is_kept_by(value) => None,
        Some(value) => Some(format!("{} is {value:.0}, not {threshold}", threshold.metric())),
        None => Some(format!("{threshold} was not measured")),
    });
    verdict(&missed.collect::<Vec<_>>())
}
