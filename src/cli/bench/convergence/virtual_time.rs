//! Measuring one setting under virtual time: full nodes, or the model of push.

use indicatif::ProgressBar;

use crate::cli::bench::convergence::held::Times;
use crate::cli::bench::convergence::real::{self, Effort};
use crate::cli::bench::convergence::result::{Repetition, Run};
use crate::cli::bench::convergence::setting::Setting;
use crate::cli::bench::member::{resident_kib, update_of};
use crate::cli::bench::plan::{Notes, Schedule, Traffic};
use crate::cli::bench::record;
use crate::cli::error::CliError;
use crate::core::rng::Rng;
use crate::sim::crowd::{Crowd, DISK_US, Links, Plan};
use crate::sim::flood::{self, Flood};

/// Virtual time between two nodes that start.
const APART_US: u64 = 1000;
/// Virtual time that a crowd may take to become whole.
const WHOLE_US: u64 = 300_000_000;
/// Virtual time for the overlay to come to rest.
const SETTLE_US: u64 = 30_000_000;
/// Virtual time after the last write in which all must be held.
const HELD_US: u64 = 20_000_000;
/// Origins whose updates the model spreads, at most.
const ORIGINS: usize = 32;

fn links(setting: &Setting) -> Links {
    let us = |ms: f64| (ms * 1000.0) as u64;
    Links { near_us: us(setting.link_ms), far_us: us(setting.far_ms), jitter: setting.jitter, loss: setting.loss }
}

/// Runs full nodes. Blocks for as long as it takes to compute.
///
/// # Errors
/// If they do not become one cluster, or do not come to hold what was written.
pub fn crowd(setting: Setting, effort: Effort, progress: &ProgressBar) -> Result<Run, CliError> {
    let plan = Plan {
        nodes: setting.nodes,
        regions: setting.regions,
        voters: if setting.nodes / setting.regions < 3 { 1 } else { 3 },
        degree: setting.degree,
        links: links(&setting),
        disk_us: DISK_US,
        seed: effort.seed,
    };
    progress.set_message(format!("{setting}: starting"));
    let mut crowd = Crowd::new(plan.clone(), APART_US);
    while !crowd.is_whole() {
        if crowd.now() > WHOLE_US {
            return Err(CliError::unreachable("the nodes did not become one cluster in five virtual minutes"));
        }
        crowd.run_until(crowd.now() + 250_000);
        progress.set_message(format!("{setting}: starting, {:.1} virtual s", crowd.now() as f64 / 1e6));
    }
    // Until everybody has the neighbours that it keeps.
    crowd.run_until(crowd.now() + SETTLE_US);
    let mut first = 0;
    let mut schedule = |crowd: &Crowd, count: u64| {
        let begin_us = crowd.now() + 1000;
        let interval_ns = (1e9 / setting.rate) as u64;
        first += count;
        Schedule {
            begin_us,
            interval_ns,
            first: first - count,
            count,
            seed: effort.seed,
            in_turn: false,
            nodes: setting.nodes,
            payload: setting.payload,
        }
    };
    progress.set_message(format!("{setting}: warming up"));
    let interval_ns = (1e9 / real::warm_up_rate(&setting)) as u64;
    let warm = Schedule { in_turn: true, interval_ns, ..schedule(&crowd, real::warm_up(&setting)) };
    write(&mut crowd, warm, progress);
    let pushes = crowd.take_traffic();
    let (frames, bytes) = pushes.get("SENSOR_UPDATE").copied().unwrap_or_default();
    let mut repetitions = Vec::new();
    for i in 0..effort.repetitions {
        progress.set_message(format!("{setting}: {} of {}", i + 1, effort.repetitions));
        let schedule = schedule(&crowd, effort.writes);
        crowd.take_held();
        crowd.take_traffic();
        write(&mut crowd, schedule, progress);
        let sent = crowd.take_traffic();
        let held = crowd.take_held().into_iter().enumerate();
        let notes: Vec<Notes> = held.map(|(place, held)| Notes { place, held }).collect();
        let times = Times::of(schedule, &notes, |place| plan.region_of(place)).map_err(|(update, place)| {
            CliError::unreachable(format!("node {place} did not come to hold update {update}"))
        })?;
        let received = Traffic(sent.into_iter().map(|(kind, sums)| (kind.to_owned(), sums)).collect());
        repetitions.push(Repetition { times, received, rss_kib: resident_kib(), ..Repetition::default() });
    }
    Ok(Run::of(setting, (bytes / frames.max(1)) as usize, effort.writes, &repetitions))
}

/// Writes by a schedule, and lets virtual time pass until all is held, or for as long as patience lasts.
fn write(crowd: &mut Crowd, schedule: Schedule, progress: &ProgressBar) {
    let end = schedule.begin_us + schedule.takes_us();
    for (update, writer, due) in schedule.updates() {
        crowd.write_at(due, writer, update_of(update, schedule.payload, Crowd::wall_at(due)));
    }
    for (i, (_, _, due)) in schedule.updates().enumerate() {
        if i % 16 == 15 {
            crowd.run_until(due);
            progress.inc(16);
        }
    }
    progress.inc(schedule.count % 16);
    // Repair has its time as well, should push have missed anything.
    let quiet = end + if schedule.count > 0 { 1_000_000 } else { 0 };
    crowd.run_until(quiet);
    let wanted = schedule.updates().last().map(|(update, _, _)| update);
    while wanted.is_some_and(|update| !crowd.all_hold(update)) && crowd.now() < end + HELD_US {
        crowd.run_until(crowd.now() + 250_000);
    }
}

/// Runs the model of push.
///
/// # Errors
/// If an update does not reach every node: then the overlay is not connected.
pub fn model(setting: Setting, effort: Effort, progress: &ProgressBar) -> Result<Run, CliError> {
    progress.set_message(format!("{setting}: drawing the overlay"));
    let plan = flood::Plan { nodes: setting.nodes, degree: setting.degree, links: links(&setting), seed: effort.seed };
    let mut flood = Flood::new(plan);
    let mut rng = Rng::new(effort.seed);
    let origins = ORIGINS.min(setting.nodes).min(effort.writes as usize);
    let each = (effort.writes as usize / origins).max(1);
    let mut repetitions = Vec::new();
    for i in 0..effort.repetitions {
        progress.set_message(format!("{setting}: {} of {}", i + 1, effort.repetitions));
        let mut repetition = Repetition::default();
        let mut messages = 0;
        for _ in 0..origins {
            let mut tree = flood.tree(rng.below(setting.nodes));
            // The first update floods, and teaches.
            flood.spread(&mut tree);
            for _ in 0..each {
                let spread = flood.spread(&mut tree);
                if spread.reached < setting.nodes {
                    let why = format!(
                        "{} of {} nodes are cut off from the rest",
                        setting.nodes - spread.reached,
                        setting.nodes
                    );
                    return Err(CliError::failed(why));
                }
                messages += spread.messages;
                let times = &mut repetition.times;
                let into = [&mut times.to_50, &mut times.to_90, &mut times.to_99, &mut times.to_all];
                into.into_iter().zip(spread.to).for_each(|(times, us)| record(times, us));
                record(&mut times.accepted_to_all, spread.to[3]);
                progress.inc(1);
            }
        }
        repetition.received.0.insert("SENSOR_UPDATE".to_owned(), (messages, 0));
        repetition.rss_kib = resident_kib();
        repetitions.push(repetition);
    }
    Ok(Run::of(setting, 0, (origins * each) as u64, &repetitions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::convergence::setting::Transport;

    #[test]
    fn a_payload_is_carried() {
        let frame = |payload| {
            let (transport, link_ms) = (Transport::Sim, 1.0);
            let (nodes, regions, degree, rate) = (3, 1, 6, 100.0);
            let setting = Setting { transport, nodes, regions, degree, rate, payload, link_ms, ..Setting::default() };
            let effort = Effort { writes: 20, repetitions: 1, seed: 1, raw: false };
            crowd(setting, effort, &ProgressBar::hidden()).unwrap().frame_bytes
        };
        let (bare, padded) = (frame(0), frame(200));
        assert!(padded > bare + 100, "{bare} bytes without and {padded} with a payload of 200");
    }
}
