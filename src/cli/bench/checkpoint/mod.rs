//! `bench checkpoint`: how long a global checkpoint takes from its proposal to its commit, and where that time goes.

mod stages;

use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::bench::bar;
use crate::cli::bench::crew::Crew;
use crate::cli::bench::failover::{Times, virtual_time};
use crate::cli::bench::host::Host;
use crate::cli::bench::mark::Mark;
use crate::cli::bench::plan::Told;
use crate::cli::bench::world::{self, Transport, WorldArgs};
use crate::cli::error::CliError;
use crate::cli::output::{self, Column, NONE, Rows, number, text};
use crate::cli::threshold::{Threshold, verdict};
use crate::sim::crowd::{Crowd, Plan};

use stages::{Stages, Watched, watch};

#[derive(Args)]
#[command(after_help = "A global checkpoint should cost one round trip between regions and one within a region with \
    its write. The stages are those of the answers that completed the quorum; where the leader's own region or disk was \
    last, only the whole time counts. Thresholds: total_p50, total_p99, across_p50, in_region_p50, write_p50 and their p99.")]
pub struct CheckpointArgs {
    /// Global checkpoints to watch
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    checkpoints: u32,
    /// Voters of each region, each in its own process
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(3..=5))]
    nodes: u32,
    /// Regions
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=20))]
    regions: u32,
    #[command(flatten)]
    world: WorldArgs,
    /// Seed of everything under virtual time
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// End with exit code 5 unless this is kept, for example 'total_p99<50ms'; may be said again
    #[arg(long, value_name = "FIGURE<VALUE")]
    threshold: Vec<Threshold>,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    host: Host,
    nodes: u32,
    regions: u32,
    /// One a setting.
    figures: Vec<Figure>,
}

/// Global checkpoints in one setting; times in ms.
#[derive(Serialize)]
struct Figure {
    transport: Transport,
    /// Mean time of a message within a region and between regions, and of a write, under virtual time.
    link_ms: Option<f64>,
    far_ms: Option<f64>,
    disk_ms: Option<f64>,
    checkpoints: usize,
    /// How many of them the leader's own region or disk was the last to answer for.
    decided_at_home: usize,
    /// From proposal to commit, of all.
    total: Times,
    /// One round trip between regions: out and back.
    across: Times,
    /// One round trip within the deciding region, with its write.
    in_region: Times,
    out: Times,
    in_region_out: Times,
    write: Times,
    in_region_back: Times,
    back: Times,
}

const FIGURES: &[&str] =
    &["total_p50", "total_p99", "across_p50", "across_p99", "in_region_p50", "in_region_p99", "write_p50", "write_p99"];

impl Figure {
    fn of(args: &CheckpointArgs, far_ms: Option<f64>, watched: &Watched) -> Self {
        let times = |pick: fn(Stages) -> u64| Times::of(watched.abroad.iter().map(|stages| pick(*stages) as f64 / 1e3));
        let all = watched.abroad.iter().map(|stages| stages.total_us()).chain(watched.at_home_us.iter().copied());
        Self {
            transport: args.world.transport,
            link_ms: far_ms.map(|_| args.world.link_ms),
            far_ms,
            disk_ms: far_ms.map(|_| args.world.disk_ms),
            checkpoints: watched.abroad.len() + watched.at_home_us.len(),
            decided_at_home: watched.at_home_us.len(),
            total: Times::of(all.map(|us| us as f64 / 1e3)),
            across: times(Stages::across_us),
            in_region: times(Stages::in_region_us),
            out: times(|s| s.out_us),
            in_region_out: times(|s| s.in_region_out_us),
            write: times(|s| s.write_us),
            in_region_back: times(|s| s.in_region_back_us),
            back: times(|s| s.back_us),
        }
    }

    fn figure(&self, name: &str) -> f64 {
        let (what, rank) = name.rsplit_once('_').expect("names of figures end with their rank");
        let times = match what {
            "total" => self.total,
            "across" => self.across,
            "in_region" => self.in_region,
            _ => self.write,
        };
        if rank == "p50" { times.p50_ms } else { times.p99_ms }
    }
}

const COLUMNS: &[Column] = &[
    text("transport"),
    number("round trip far"),
    number("checkpoints"),
    number("total p50"),
    number("p99"),
    number("across p50"),
    number("p99"),
    number("in region p50"),
    number("p99"),
    number("out").wide(),
    number("in region out").wide(),
    number("of which write"),
    number("in region back").wide(),
    number("back").wide(),
    number("at home").wide(),
];

pub async fn run(cx: &Context, args: CheckpointArgs) -> Result<(), CliError> {
    args.threshold.iter().try_for_each(|threshold| threshold.check(FIGURES))?;
    let progress = bar(u64::from(args.checkpoints) * args.world.settings() as u64, "watching checkpoints");
    let figures = match args.world.transport {
        Transport::Tcp => vec![Figure::of(&args, None, &real(&args, &progress).await?)],
        Transport::Sim => {
            let mut figures = Vec::new();
            for far_ms in args.world.far_ms.0.clone() {
                let plan = args.world.plan(args.nodes, args.regions, far_ms, args.seed);
                let (wanted, bar) = (args.checkpoints as usize, progress.clone());
                let computing = tokio::task::spawn_blocking(move || simulated(&plan, wanted, &bar));
                let watched =
                    computing.await.unwrap_or_else(|error| Err(CliError::because("the simulation broke", &error)))?;
                figures.push(Figure::of(&args, Some(far_ms), &watched));
            }
            figures
        }
    };
    progress.finish_and_clear();
    let report = Report {
        schema: "sensorctl/bench-checkpoint/v1",
        host: Host::here(),
        nodes: args.nodes,
        regions: args.regions,
        figures,
    };
    output::print(cx.format, &report, &report.figures, || rows(&report.figures))?;
    if cx.format.is_for_people() {
        eprintln!("\n{}", report.host.line());
        eprintln!(
            "{} regions of {}; across: one round trip between regions; in region: one round trip within the region \
             that completed the quorum, with its write",
            args.regions, args.nodes
        );
    }
    judge(&report.figures, &args.threshold)
}

/// How long anybody may take to say anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time between global checkpoints of real processes.
const INTERVAL_MS: u64 = 500;

async fn real(args: &CheckpointArgs, progress: &ProgressBar) -> Result<Watched, CliError> {
    let mut crew = Crew::start(world::crew(args.nodes, args.regions, Some(INTERVAL_MS))).await?;
    let mut notes = Vec::new();
    let mut counted = 0;
    // The first ones found the groups.
    while counted < args.checkpoints {
        if let (_, Told::Marked { place, at_us, mark }) = crew.next(PATIENCE).await? {
            let proposed = matches!(mark, Mark::Proposed { .. });
            notes.push((at_us, place, mark));
            counted += u32::from(proposed);
            progress.set_position(u64::from(counted));
        }
    }
    // Processes tell in turns; all clocks are one.
    notes.sort_by_key(|(at, _, _)| *at);
    let watched = watch(&notes, |place| crew.plan().region_name(place));
    crew.dismiss().await;
    Ok(watched)
}

/// Virtual time between looks at what has been noted.
const LOOK_US: u64 = 1_000_000;

fn simulated(plan: &Plan, wanted: usize, progress: &ProgressBar) -> Result<Watched, CliError> {
    let mut crowd = Crowd::new(plan.clone(), 1000);
    let into = virtual_time::note(&mut crowd);
    virtual_time::ready(&mut crowd, plan, &into)?;
    let (begun, position) = (crowd.now(), progress.position());
    let mut notes = Vec::new();
    let mut counted = 0;
    while counted < wanted {
        if crowd.now() > begun + 60_000_000 * (wanted as u64 + 1) {
            return Err(CliError::unreachable("global checkpoints have stopped"));
        }
        crowd.run_until(crowd.now() + LOOK_US);
        notes.append(&mut into.take());
        counted = notes.iter().filter(|(_, _, mark)| matches!(mark, Mark::Proposed { .. })).count();
        progress.set_position(position + counted.min(wanted) as u64);
    }
    crowd.run_until(crowd.now() + LOOK_US);
    notes.append(&mut into.take());
    Ok(watch(&notes, |place| format!("r{}", plan.region_of(place))))
}

fn rows(figures: &[Figure]) -> Rows {
    let mut rows = Rows::new(COLUMNS);
    for figure in figures {
        let cell = |ms: f64| format!("{ms:.1} ms");
        let p50 = |times: Times| cell(times.p50_ms);
        let p99 = |times: Times| cell(times.p99_ms);
        rows.push(vec![
            figure.transport.as_str().to_owned(),
            figure.far_ms.map_or_else(|| NONE.to_owned(), |ms| format!("{} ms", 2.0 * ms)),
            figure.checkpoints.to_string(),
            p50(figure.total),
            p99(figure.total),
            p50(figure.across),
            p99(figure.across),
            p50(figure.in_region),
            p99(figure.in_region),
            p50(figure.out),
            p50(figure.in_region_out),
            p50(figure.write),
            p50(figure.in_region_back),
            p50(figure.back),
            figure.decided_at_home.to_string(),
        ]);
    }
    rows
}

fn judge(figures: &[Figure], thresholds: &[Threshold]) -> Result<(), CliError> {
    let mut missed = Vec::new();
    for (figure, threshold) in figures.iter().flat_map(|figure| thresholds.iter().map(move |t| (figure, t))) {
        let ms = figure.figure(threshold.metric());
        if !threshold.is_kept_by(ms * 1000.0) {
            missed.push(format!("{} is {ms:.1} ms, not {threshold}", threshold.metric()));
        }
    }
    verdict(&missed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_costs_a_round_trip_across_and_one_within_with_its_write() {
        let plan = world::three_regions(50_000, 0.0, 3_000, 2);
        let watched = simulated(&plan, 3, &ProgressBar::hidden()).unwrap();
        assert!(watched.abroad.len() >= 2, "{watched:?}");
        for stages in &watched.abroad {
            assert_eq!(stages.write_us, 3_000, "one write: {stages:?}");
            // Links differ by half of their mean either way.
            assert!((2 * 25_000..=2 * 75_000).contains(&stages.across_us()), "one round trip: {stages:?}");
            assert!((2 * 500..=2 * 1_500).contains(&(stages.in_region_us() - 3_000)), "one round trip: {stages:?}");
        }
    }
}
