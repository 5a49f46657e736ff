//! Measuring one setting on nodes that really run.

use std::time::Duration;

use indicatif::ProgressBar;

use crate::cli::bench::convergence::held::Times;
use crate::cli::bench::convergence::result::{Repetition, Run};
use crate::cli::bench::convergence::setting::{Setting, Transport};
use crate::cli::bench::crew::{Crew, CrewPlan, Place};
use crate::cli::bench::host;
use crate::cli::bench::plan::{Order, Schedule, Share, Told, Traffic};
use crate::cli::error::CliError;
use crate::core::params::patience;
use crate::shell::clock::machine_micros;

/// How much is measured of each setting.
#[derive(Clone, Copy)]
pub struct Effort {
    /// Updates of each repetition.
    pub writes: u64,
    /// Repetitions.
    pub repetitions: usize,
    /// Seed of the choice of writers.
    pub seed: u64,
    /// Whether plain TCP takes turns.
    pub raw: bool,
}

/// Turns that cluster and plain TCP take in each repetition, so that a noisy machine disturbs both alike.
const TURNS: u64 = 4;
/// Of this many updates, one is also sent by plain TCP.
const RAW_SHARE: u64 = 4;
/// Plain frames of one turn at most, all receivers taken together.
const RAW_FRAMES_MAX: u64 = 5_000;
/// Writes before anything counts, and more where every origin has to teach the others its tree.
const WARM_UP: u64 = 100;
/// Deliveries a second, all nodes together, that a warm-up asks for at most.
const WARM_UP_DELIVERIES: f64 = 30_000.0;
/// Time for an overlay that is not simply everybody to come to rest.
const SETTLE: Duration = Duration::from_secs(5);
/// Time for everybody to get an order before its first write is due.
const NOTICE_US: u64 = 50_000;

/// Updates, warm-up included, that measuring a setting takes: what a progress bar counts.
pub fn updates(setting: &Setting, effort: Effort) -> u64 {
    let warm_up = if setting.transport == Transport::Model { 0 } else { warm_up(setting) };
    warm_up + effort.writes * effort.repetitions as u64
}

/// Updates before anything counts: two of each origin at least, for its first is flooded, and by that trees are learned.
pub fn warm_up(setting: &Setting) -> u64 {
    WARM_UP.max(2 * setting.nodes as u64)
}

/// How many of them a second: floods cost several times what comes after.
pub fn warm_up_rate(setting: &Setting) -> f64 {
    setting.rate.min(WARM_UP_DELIVERIES / setting.nodes as f64)
}

/// Measures a setting.
///
/// # Errors
/// If the nodes do not become one cluster, or do not come to hold what was written.
pub async fn measure(setting: Setting, effort: Effort, progress: &ProgressBar) -> Result<Run, CliError> {
    let place = match (setting.transport, setting.processes) {
        (Transport::Memory, _) => Place::Memory,
        (Transport::Sim | Transport::Model, _) => unreachable!("virtual time is not measured on real nodes"),
        (Transport::Tcp, 0) => Place::Here,
        (Transport::Tcp, processes) => Place::Processes(processes),
    };
    let voters = if setting.nodes / setting.regions < 3 { 1 } else { 3 };
    let plan = CrewPlan {
        nodes: setting.nodes,
        regions: setting.regions,
        place,
        voters,
        checkpoint_ms: u64::from(patience(setting.nodes)) * 5000,
        top_checkpoint_ms: None,
        marks: false,
        background_ms: None,
        degree: Some(setting.degree),
    };
    let instead = "raise it with `ulimit -Hn` as an administrator, or take --transport memory";
    host::allow_files(files(&setting, effort)).map_err(|error| error.hint(instead))?;
    progress.set_message(format!("{setting}: starting"));
    let mut bench =
        Bench { crew: Crew::start(plan).await?, setting, seed: effort.seed, first: 0, frame_bytes: 0, raw: effort.raw };
    let measured = bench.repetitions(effort, progress).await;
    bench.crew.dismiss().await;
    let repetitions = measured?;
    Ok(Run::of(setting, bench.frame_bytes, effort.writes, &repetitions))
}

/// Files that one process needs open at most: both ends of every link, and of the plain connections.
fn files(setting: &Setting, effort: Effort) -> u64 {
    if setting.transport == Transport::Memory {
        return 0;
    }
    let nodes = (setting.nodes / setting.processes.max(1)) as u64;
    // A node keeps about as many links as its degree; joining takes more for a moment.
    let links = nodes * (setting.degree as u64 + 2).min(setting.nodes as u64 - 1);
    let plain = if effort.raw { 2 * setting.nodes as u64 } else { 0 };
    256 + nodes + links + plain
}

struct Bench {
    crew: Crew,
    setting: Setting,
    seed: u64,
    first: u64,
    /// Of a SENSOR_UPDATE that carries one update, measured in the warm-up.
    frame_bytes: usize,
    raw: bool,
}

impl Bench {
    async fn repetitions(&mut self, effort: Effort, progress: &ProgressBar) -> Result<Vec<Repetition>, CliError> {
        progress.set_message(format!("{}: warming up", self.setting));
        if self.setting.nodes > self.setting.degree + 1 {
            // Until everybody has the neighbours that it keeps: a link that is new has no prunes yet.
            tokio::time::sleep(SETTLE).await;
        }
        let count = warm_up(&self.setting);
        let interval_ns = (1e9 / warm_up_rate(&self.setting)) as u64;
        let schedule = Schedule { in_turn: true, interval_ns, ..self.schedule(count) };
        let warm = self.push_on(schedule).await?;
        let (frames, bytes) = received(&warm).of("SENSOR_UPDATE");
        self.frame_bytes = (bytes / frames.max(1)) as usize;
        progress.inc(count);
        if self.raw {
            self.plain(count.min(WARM_UP)).await?;
        }
        let mut repetitions = Vec::new();
        for i in 0..effort.repetitions {
            progress.set_message(format!("{}: {} of {}", self.setting, i + 1, effort.repetitions));
            let mut repetition = Repetition::default();
            for turn in 0..TURNS {
                let count = effort.writes * (turn + 1) / TURNS - effort.writes * turn / TURNS;
                if count > 0 {
                    self.turn(count, &mut repetition).await?;
                    progress.inc(count);
                }
            }
            repetitions.push(repetition);
        }
        Ok(repetitions)
    }

    async fn turn(&mut self, count: u64, repetition: &mut Repetition) -> Result<(), CliError> {
        let schedule = self.schedule(count);
        let shares = self.push_on(schedule).await?;
        let regions = |place| self.crew.plan().region_of(place);
        repetition.received.add(&received(&shares));
        repetition.cpu_us = Some(repetition.cpu_us.unwrap_or(0) + shares.iter().map(|share| share.cpu_us).sum::<u64>());
        repetition.rss_kib = shares.iter().map(|share| share.rss_kib).sum();
        repetition.missed += shares.iter().map(|share| share.missed).sum::<u64>();
        let behind: usize = shares.iter().map(|share| share.behind.len()).sum();
        let notes: Vec<_> = shares.into_iter().flat_map(|share| share.notes).collect();
        repetition.times.add(&Times::of(schedule, &notes, regions).map_err(|(update, place)| {
            let why = format!("node {place} did not come to hold update {update}; {behind} nodes were behind");
            CliError::unreachable(why)
        })?);
        if self.raw {
            let most = (RAW_FRAMES_MAX / self.setting.nodes as u64).max(2);
            let (latencies, missed) = self.plain((count / RAW_SHARE).clamp(2, most)).await?;
            repetition.raw.extend(latencies);
            repetition.raw_missed += missed;
        }
        Ok(())
    }

    fn schedule(&mut self, count: u64) -> Schedule {
        let first = self.first;
        self.first += count;
        Schedule {
            begin_us: machine_micros() + NOTICE_US,
            interval_ns: (1e9 / self.setting.rate) as u64,
            first,
            count,
            seed: self.seed,
            in_turn: false,
            nodes: self.setting.nodes,
            payload: self.setting.payload,
        }
    }

    async fn push_on(&mut self, schedule: Schedule) -> Result<Vec<Share>, CliError> {
        self.crew.order_all(&Order::Write { schedule }).await?;
        let takes = Duration::from_micros(schedule.takes_us());
        self.crew.answers(takes, |told| if let Told::Wrote(share) = told { Some(share) } else { None }).await
    }

    async fn plain(&mut self, count: u64) -> Result<(Vec<u64>, u64), CliError> {
        let receivers = self.crew.receivers();
        let schedule = self.schedule(count);
        self.crew.order_all(&Order::WriteRaw { schedule, receivers, bytes: self.frame_bytes }).await?;
        let wrote = |told| match told {
            Told::WroteRaw { latencies_us, missed } => Some((latencies_us, missed)),
            _ => None,
        };
        let answers = self.crew.answers(Duration::from_micros(schedule.takes_us()), wrote).await?;
        let missed = answers.iter().map(|(_, missed)| missed).sum();
        Ok((answers.into_iter().flat_map(|(latencies, _)| latencies).collect(), missed))
    }
}

fn received(shares: &[Share]) -> Traffic {
    let mut sum = Traffic::default();
    shares.iter().for_each(|share| sum.add(&share.received));
    sum
}
