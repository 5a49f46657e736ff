//! `bench catchup`: how long a node takes that has nothing yet, or has been stopped for a while, until it holds what the
//! others do, and what they notice of it.

use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::bench::convergence::held::Times;
use crate::cli::bench::crew::{Crew, CrewPlan, Place};
use crate::cli::bench::flood::{self, Flood, Kept, Stream};
use crate::cli::bench::host::Host;
use crate::cli::bench::plan::{Order, Schedule, Share, Told};
use crate::cli::bench::{Percentiles, bar};
use crate::cli::error::CliError;
use crate::cli::output::{self, Column, NONE, Rows, duration_us, number, text};
use crate::cli::threshold::{Threshold, verdict};
use crate::shell::clock::machine_micros;

#[derive(Args)]
#[command(
    after_help = "Three nodes hold the entries, each in its own process. A fourth joins with an empty store while the \
    three go on pushing; then one of the three is stopped as by SIGSTOP for a while, and another is written to meanwhile."
)]
pub struct CatchupArgs {
    /// Entries that the nodes hold
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    entries: u64,
    /// Newcomers, one after another, each to three nodes that have just started; figures are their medians
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=100))]
    newcomers: u32,
    /// How long a node is stopped, in seconds; 0 leaves it out
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pause_s: u64,
    /// Updates a second at another node meanwhile
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// Keys that these updates are of
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    stale: u64,
    /// End with exit code 5 unless this is kept, for example 'newcomer<2s', 'push<2' or 'paused<2s'; may be said again
    #[arg(long, value_name = "FIGURE<VALUE")]
    threshold: Vec<Threshold>,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    entries: u64,
    host: Host,
    newcomers: Vec<Newcomer>,
    paused: Option<Paused>,
}

/// One thing that was measured, as a row.
#[derive(Serialize)]
#[serde(tag = "what", rename_all = "lowercase")]
enum Item<'a> {
    Newcomer(&'a Newcomer),
    Stopped(&'a Paused),
}

/// A node that joined with nothing.
#[derive(Clone, Debug, Serialize)]
struct Newcomer {
    /// From its start until it held every entry.
    held_us: u64,
    /// Whether it knew every other member before the first of the entries.
    members_first: bool,
    /// What it received for that.
    bytes: u64,
    /// From accepted at one of the three to held by all three: before, and while it joined.
    push_before: Percentiles,
    push_meanwhile: Percentiles,
}

/// A node that was stopped while others were written to.
#[derive(Clone, Debug, Serialize)]
struct Paused {
    seconds: f64,
    rate: f64,
    keys: u64,
    /// Updates that were written meanwhile.
    written: u64,
    /// From when it went on until it held the newest value of every key.
    held_us: u64,
    /// Entries that changed there, and bytes that it received, until then.
    changes: u64,
    bytes: u64,
    /// Resident memory of the node that was written to, in KiB: before, and at most meanwhile.
    rss_before_kib: Option<u64>,
    rss_max_kib: Option<u64>,
}

/// Nodes that hold the entries.
const NODES: usize = 3;
/// How many updates are pushed in how long, before a newcomer joins and from then on: of all that is held a checkpoint
/// is taken once in either time, and no more often in one than in the other.
const PUSHES: u64 = 2500;
const PUSH_INTERVAL: Duration = Duration::from_millis(2);
/// Time for members to get an order before its first write is due.
const NOTICE_US: u64 = 50_000;

const COLUMNS: &[Column] = &[
    text("node"),
    number("entries"),
    number("holds all after"),
    number("bytes"),
    number("push p99 before"),
    number("meanwhile"),
    number("memory before"),
    number("at most"),
    text("note"),
];

pub async fn run(cx: &Context, args: CatchupArgs) -> Result<(), CliError> {
    args.threshold.iter().try_for_each(|threshold| threshold.check(&["newcomer", "push", "paused"]))?;
    let progress = bar(u64::from(args.newcomers) + u64::from(args.pause_s > 0), "starting");
    let host = Host::here();
    let mut newcomers = Vec::new();
    for _ in 0..args.newcomers {
        newcomers.push(newcomer(&args, &progress).await?);
        progress.inc(1);
    }
    let paused = if args.pause_s > 0 { Some(pause(&args, &progress).await?) } else { None };
    progress.finish_and_clear();
    let report = Report { schema: "sensorctl/bench-catchup/v1", entries: args.entries, host, newcomers, paused };
    let paused = report.paused.iter().map(Item::Stopped);
    let items: Vec<Item<'_>> = report.newcomers.iter().map(Item::Newcomer).chain(paused).collect();
    output::print(cx.format, &report, &items, || rows(&report))?;
    if cx.format.is_for_people() {
        eprintln!("\n{}", report.host.line());
        eprintln!("medians of {} newcomers; all nodes share {} processors", args.newcomers, report.host.cores);
    }
    judge(&report, &args.threshold)
}

async fn filled(args: &CatchupArgs, progress: &ProgressBar) -> Result<Crew, CliError> {
    progress.set_message("filling three nodes");
    let plan = CrewPlan {
        nodes: NODES,
        regions: 1,
        place: Place::Processes(NODES),
        voters: NODES,
        checkpoint_ms: PUSHES * PUSH_INTERVAL.as_millis() as u64,
        top_checkpoint_ms: None,
        marks: false,
        background_ms: None,
        degree: None,
    };
    let mut crew = Crew::start(plan).await?;
    let flood = Flood { writer: 0, keys: args.entries, before: 0, batch: 100, payload: 0 };
    crew.order_all(&Order::Flood { flood }).await?;
    crew.answers(flood::PATIENCE, flood::share).await?;
    Ok(crew)
}

async fn newcomer(args: &CatchupArgs, progress: &ProgressBar) -> Result<Newcomer, CliError> {
    let mut crew = filled(args, progress).await?;
    progress.set_message("a newcomer joins");
    // The first pushes of an origin teach the others its tree.
    push(&mut crew, 0).await?;
    let push_before = push(&mut crew, PUSHES).await?;
    let place = crew.add().await?;
    let schedule = pushes(PUSHES);
    for i in 0..NODES {
        crew.order(i, &Order::Write { schedule }).await?;
    }
    let begun = machine_micros();
    crew.join(place).await?;
    let flood = Flood { writer: usize::MAX, keys: args.entries, before: 0, batch: 0, payload: 0 };
    crew.order(place, &Order::Flood { flood }).await?;
    let (mut shares, mut filled) = (Vec::new(), None);
    while shares.len() < NODES || filled.is_none() {
        match crew.next(flood::PATIENCE).await?.1 {
            Told::Wrote(share) => shares.push(share),
            Told::Flooded { share } => filled = Some(share),
            _ => {}
        }
    }
    let kept = kept(&mut crew, place, 0, 0).await?;
    crew.dismiss().await;
    let held = filled.into_iter().flat_map(|share| share.held_us).map(|(_, at)| at).max().unwrap_or(begun);
    Ok(Newcomer {
        held_us: held.saturating_sub(begun),
        members_first: kept.members_before_keys > NODES as u64,
        bytes: kept.received.bytes(),
        push_before,
        push_meanwhile: percentiles(schedule, &shares)?,
    })
}

fn pushes(count: u64) -> Schedule {
    Schedule {
        begin_us: machine_micros() + NOTICE_US,
        interval_ns: PUSH_INTERVAL.as_nanos() as u64,
        first: machine_micros(),
        count,
        seed: 1,
        in_turn: false,
        nodes: NODES,
        payload: 0,
    }
}

/// Pushes so many updates among the three: from accepted to held by all.
async fn push(crew: &mut Crew, count: u64) -> Result<Percentiles, CliError> {
    let schedule = pushes(count.max(20));
    crew.order_all(&Order::Write { schedule }).await?;
    let wrote = |told| if let Told::Wrote(share) = told { Some(share) } else { None };
    let shares = crew.answers(Duration::from_micros(schedule.takes_us()), wrote).await?;
    percentiles(schedule, &shares)
}

fn percentiles(schedule: Schedule, shares: &[Share]) -> Result<Percentiles, CliError> {
    let notes: Vec<_> = shares.iter().flat_map(|share| share.notes.iter().cloned()).collect();
    let times = Times::of(schedule, &notes, |_| 0).map_err(|(update, place)| {
        CliError::unreachable(format!("node {place} did not come to hold update {update}"))
    })?;
    Ok(Percentiles::of(&times.accepted_to_all))
}

async fn pause(args: &CatchupArgs, progress: &ProgressBar) -> Result<Paused, CliError> {
    let mut crew = filled(args, progress).await?;
    let paused = NODES - 1;
    let keys = args.stale.min(args.entries);
    let before = kept(&mut crew, paused, 0, 0).await?;
    let rss_before_kib = kept(&mut crew, 0, 0, 0).await?.rss_kib;
    progress.set_message(format!("a node is stopped for {} s", args.pause_s));
    crew.signal(paused, libc::SIGSTOP)?;
    let stream = Stream { writer: 0, keys, rate: args.rate, seconds: args.pause_s, value: 2 };
    crew.order(0, &Order::Stream { stream }).await?;
    let takes = Duration::from_secs(args.pause_s);
    let streamed = loop {
        if let Told::Streamed { streamed } = crew.next(flood::PATIENCE + takes).await?.1 {
            break streamed;
        }
    };
    progress.set_message("it catches up");
    let begun = machine_micros();
    crew.signal(paused, libc::SIGCONT)?;
    let after = kept(&mut crew, paused, keys, streamed.newest).await?;
    crew.dismiss().await;
    Ok(Paused {
        seconds: streamed.took_us as f64 / 1e6,
        rate: streamed.written as f64 * 1e6 / streamed.took_us.max(1) as f64,
        keys,
        written: streamed.written,
        held_us: after.at_us.saturating_sub(begun),
        changes: after.changes - before.changes,
        bytes: after.received.since(&before.received).bytes(),
        rss_before_kib,
        rss_max_kib: streamed.rss_max_kib,
    })
}

/// What the node of a member holds, once it holds that value or a newer one of so many of the keys.
async fn kept(crew: &mut Crew, i: usize, keys: u64, value: u64) -> Result<Kept, CliError> {
    crew.order(i, &Order::Kept { keys, value }).await?;
    loop {
        if let (from, Told::Kept { kept }) = crew.next(flood::PATIENCE).await?
            && from == i
        {
            return Ok(kept);
        }
    }
}

fn rows(report: &Report) -> Rows {
    let none = || NONE.to_owned();
    let mut rows = Rows::new(COLUMNS);
    if !report.newcomers.is_empty() {
        let of = |pick: fn(&Newcomer) -> u64| median(report.newcomers.iter().map(pick));
        let first = report.newcomers.iter().all(|newcomer| newcomer.members_first);
        rows.push(vec![
            "newcomer".to_owned(),
            report.entries.to_string(),
            duration_us(of(|newcomer| newcomer.held_us)),
            of(|newcomer| newcomer.bytes).to_string(),
            duration_us(of(|newcomer| newcomer.push_before.p99_us)),
            duration_us(of(|newcomer| newcomer.push_meanwhile.p99_us)),
            none(),
            none(),
            if first { "knew all members before the first reading" } else { "readings came before members" }.to_owned(),
        ]);
    }
    if let Some(paused) = &report.paused {
        let memory = |kib: Option<u64>| kib.map_or_else(none, |kib| format!("{:.1} MiB", kib as f64 / 1024.0));
        rows.push(vec![
            format!("stopped {:.0} s", paused.seconds),
            format!("{} of {}", paused.keys, report.entries),
            duration_us(paused.held_us),
            paused.bytes.to_string(),
            none(),
            none(),
            memory(paused.rss_before_kib),
            memory(paused.rss_max_kib),
            format!(
                "{} updates meanwhile at {:.0}/s; {} changes when it went on",
                paused.written, paused.rate, paused.changes
            ),
        ]);
    }
    rows
}

fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

fn judge(report: &Report, thresholds: &[Threshold]) -> Result<(), CliError> {
    let newcomers = || Some(report.newcomers.iter()).filter(|all| all.len() > 0);
    let figure = |name: &str| match name {
        "newcomer" => newcomers().map(|all| median(all.map(|newcomer| newcomer.held_us)) as f64),
        "push" => newcomers().map(|all| {
            let before = median(all.clone().map(|newcomer| newcomer.push_before.p99_us)).max(1);
            median(all.map(|newcomer| newcomer.push_meanwhile.p99_us)) as f64 / before as f64
        }),
        _ => report.paused.as_ref().map(|paused| paused.held_us as f64),
    };
    let missed = thresholds.iter().filter_map(|threshold| match figure(threshold.metric()) {
        Some(value) if threshold.is_kept_by(value) => None,
        Some(value) => Some(format!("{} is {value:.1}, not {threshold}", threshold.metric())),
        None => Some(format!("{threshold} was not measured")),
    });
    verdict(&missed.collect::<Vec<_>>())
}
