//! A recording whose sensors' places are known: each sensor in turn is held out, and its neighbours are fused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use serde::Serialize;

use crate::cli::bench::bar;
use crate::cli::bench::fusion::{Detection, Point, Tally, Window, fuse, member};
use crate::cli::error::CliError;
use crate::core::fusion::diagnosis::{Diagnosis, Fault, Limits, Peers};
use crate::core::fusion::groups::quantity;
use crate::core::fusion::params::Rules;
use crate::core::fusion::partial::{Member, Terms};
use crate::core::fusion::robust;
use crate::core::rng::Rng;
use crate::core::time::Wall;
use crate::shell::config::sources::ReplaySource;
use crate::shell::http::rfc3339;
use crate::shell::sensors::read_rows;

/// Length of a window.
const WINDOW_MS: u64 = 300_000;
/// A sensor this many spreads above its neighbours is in the sun, or might as well be.
const SUN_SPREADS: f64 = 5.0;
/// A distance from the neighbours is a drift after this long.
const DRIFT_AFTER_MS: u64 = 12 * 3_600_000;
/// Faults are put in after this share of the recording.
const BEGINS: f64 = 0.25;

/// What is to be done.
pub(super) struct Plan {
    pub data: PathBuf,
    pub places: PathBuf,
    pub sensor: String,
    pub sigma: f64,
    pub spread: Option<f64>,
    pub neighbours: usize,
    pub every: usize,
    pub seed: u64,
}

/// What came of a recording.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Recorded {
    /// The sensor.
    sensor: String,
    /// Nodes that have a place and say something.
    nodes: usize,
    /// Readings.
    readings: usize,
    /// Windows of five minutes.
    windows: usize,
    /// Neighbours that are fused.
    neighbours: usize,
    /// How far neighbours' places truly differ, as a standard deviation.
    spread: f64,
    /// Error and coverage by number of faulty neighbours.
    pub(super) points: Vec<Point>,
    /// Nodes that were far from their neighbours for half an hour or more.
    in_sun: Vec<InSun>,
    /// Nodes that were called faulty though nothing was put in.
    condemned: Vec<Condemned>,
}

/// A node that was far from its neighbours for a while.
#[derive(Clone, Debug, Serialize)]
struct InSun {
    node: String,
    /// The farthest.
    most: f64,
    /// For how long.
    minutes: u64,
}

/// A node that was called faulty.
#[derive(Clone, Debug, Serialize)]
struct Condemned {
    node: String,
    fault: Fault,
    since: String,
}

impl Recorded {
    /// What the tables do not say.
    pub(super) fn words(&self) -> String {
        let sun = self.in_sun.iter().map(|sun| format!("{} ({:+.1} for {} min)", sun.node, sun.most, sun.minutes));
        let condemned = self.condemned.iter().map(|c| format!("{} ({}, {})", c.node, c.fault.as_str(), c.since));
        let list = |items: Vec<String>| if items.is_empty() { "none".to_owned() } else { items.join(", ") };
        format!(
            "recording: {} of {} nodes, {} readings, {} windows; {} neighbours fused, places differ by {:.2}\n\
             far from their neighbours for half an hour or more: {}\n\
             called faulty though nothing was put in: {}",
            self.sensor,
            self.nodes,
            self.readings,
            self.windows,
            self.neighbours,
            self.spread,
            list(sun.collect()),
            list(condemned.collect()),
        )
    }
}

/// One node's series, and who is near it.
struct Node {
    name: String,
    place: (f64, f64),
    readings: Vec<(Wall, f64)>,
    /// The last value in each window.
    windows: Vec<Option<f64>>,
    /// The others, nearest first.
    near: Vec<usize>,
}

pub(super) fn run(plan: &Plan) -> Result<(Recorded, Vec<Detection>), CliError> {
    let nodes = load(plan)?;
    let windows = nodes[0].windows.len();
    let progress = bar(windows as u64 * 2, "fusing the recording");
    let spread = plan.spread.unwrap_or_else(|| spread(&nodes, plan.neighbours));
    let terms = Rules::default().terms(None);
    let points = points(plan, &nodes, spread, &terms, &progress);
    let peers = peers(plan, &nodes, spread, &terms, &progress);
    let in_sun = in_sun(&nodes, &peers, spread);
    let limits = Limits {
        sigma: Some(plan.sigma),
        spread,
        min: None,
        max: None,
        drift_after_ms: DRIFT_AFTER_MS,
        silent_after_ms: u64::MAX / 4,
    };
    let first = nodes.iter().filter_map(|node| node.readings.first()).map(|(at, _)| *at).min().expect("there are some");
    let condemned: Vec<Condemned> = nodes
        .iter()
        .zip(&peers)
        .filter_map(|(node, peers)| {
            let (fault, since) = watch(node, peers, &limits, first, |_, value| value)?;
            Some(Condemned { node: node.name.clone(), fault, since: rfc3339(since) })
        })
        .collect();
    let detection = detection(&nodes, &peers, &limits, first, &condemned, plan.seed);
    progress.finish_and_clear();
    let recorded = Recorded {
        sensor: plan.sensor.clone(),
        nodes: nodes.len(),
        readings: nodes.iter().map(|node| node.readings.len()).sum(),
        windows,
        neighbours: plan.neighbours,
        spread,
        points,
        in_sun,
        condemned,
    };
    Ok((recorded, detection))
}

fn load(plan: &Plan) -> Result<Vec<Node>, CliError> {
    let places = places(&plan.places)?;
    let mut series: BTreeMap<String, Vec<(Wall, f64)>> = BTreeMap::new();
    let config = ReplaySource::default();
    let read = read_rows(&plan.data, &config, |row| {
        if let Ok(row) = row
            && quantity(&row.channel) == plan.sensor
            && let Some((node, _)) = row.channel.as_str().rsplit_once('/')
            && let Ok(at) = u64::try_from(row.recorded_ms)
        {
            series.entry(node.to_owned()).or_default().push((Wall::from_millis(at), row.value));
        }
        true
    });
    read.map_err(|why| CliError::failed(format!("{}: {why}", plan.data.display())))?;
    series.values_mut().for_each(|readings| readings.sort_by_key(|(at, _)| *at));
    let begin = series.values().filter_map(|r| r.first()).map(|(at, _)| *at).min();
    let end = series.values().filter_map(|r| r.last()).map(|(at, _)| *at).max();
    let (Some(begin), Some(end)) = (begin, end) else {
        return Err(CliError::failed(format!("{} has no readings of {}", plan.data.display(), plan.sensor)));
    };
    let count = (end.millis_after(begin) as u64 / WINDOW_MS + 1) as usize;
    let mut nodes: Vec<Node> = Vec::new();
    for (name, readings) in series {
        let Some(place) = places.get(&name) else { continue };
        let mut windows = vec![None; count];
        for (at, value) in &readings {
            windows[(at.millis_after(begin) as u64 / WINDOW_MS) as usize] = Some(*value);
        }
        nodes.push(Node { name, place: *place, readings, windows, near: Vec::new() });
    }
    if nodes.len() <= plan.neighbours {
        let why = format!("{} of its nodes have a place; more than {} are needed", nodes.len(), plan.neighbours);
        return Err(CliError::failed(format!("{}: {why}", plan.data.display())));
    }
    let at: Vec<(f64, f64)> = nodes.iter().map(|node| node.place).collect();
    for (i, node) in nodes.iter_mut().enumerate() {
        let distance = |j: &usize| (at[*j].0 - at[i].0).powi(2) + (at[*j].1 - at[i].1).powi(2);
        node.near = (0..at.len()).filter(|j| *j != i).collect();
        node.near.sort_by(|a, b| distance(a).total_cmp(&distance(b)).then(a.cmp(b)));
    }
    Ok(nodes)
}

fn places(path: &Path) -> Result<BTreeMap<String, (f64, f64)>, CliError> {
    let failed = |why: String| CliError::failed(format!("{}: {why}", path.display()));
    let mut csv = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(path).map_err(|e| failed(e.to_string()))?;
    let rows = csv.deserialize::<(String, f64, f64)>();
    rows.map(|row| row.map(|(node, x, y)| (node, (x, y))))
        .collect::<Result<_, _>>()
        .map_err(|error| failed(format!("{error}; write node,x_m,y_m")))
}

/// The neighbours of a node that say something in a window, nearest first.
fn members(nodes: &[Node], of: usize, window: usize, plan: &Plan, spread: f64, at: Wall) -> Vec<Member> {
    let speaking = nodes[of].near.iter().filter_map(|j| Some((&nodes[*j].name, nodes[*j].windows[window]?)));
    speaking.take(plan.neighbours).map(|(name, value)| member(name, value, plan.sigma, spread, at)).collect()
}

/// The standard deviation of what nodes say from the median of what their neighbours say.
fn spread(nodes: &[Node], neighbours: usize) -> f64 {
    let mut differences = Vec::new();
    for node in nodes {
        for (window, value) in node.windows.iter().enumerate().step_by(6) {
            let near = node.near.iter().filter_map(|j| nodes[*j].windows[window]).take(neighbours);
            let mut near: Vec<(f64, u64)> = near.map(|value| (value, 1)).collect();
            if let (Some(value), Some(median)) = (value, robust::median(&mut near)) {
                differences.push(value - median);
            }
        }
    }
    (differences.iter().map(|d: &f64| d * d).sum::<f64>() / differences.len().max(1) as f64).sqrt().max(1e-9)
}

/// The neighbours of held-out nodes, of which more and more are moved by ten spreads, all alike: against the median of
/// what the neighbours said before that, and against what the held-out node says itself.
fn points(plan: &Plan, nodes: &[Node], spread: f64, terms: &Terms, progress: &ProgressBar) -> Vec<Point> {
    let most = plan.neighbours / 2 + 1;
    let none = || (0..=most).map(|_| Tally::default()).collect::<Vec<_>>();
    let (mut clean, mut held_out) = (none(), none());
    let mut rng = Rng::new(plan.seed);
    for window in 0..nodes[0].windows.len() {
        progress.inc(1);
        if !window.is_multiple_of(plan.every) {
            continue;
        }
        let at = Wall::from_millis(1_000_000_000_000 + window as u64 * WINDOW_MS);
        for (i, node) in nodes.iter().enumerate() {
            let Some(own) = node.windows[window] else { continue };
            let mut all = members(nodes, i, window, plan, spread, at);
            if all.len() < plan.neighbours {
                continue;
            }
            // Who is faulty has nothing to do with who is near.
            for j in (1..all.len()).rev() {
                all.swap(j, rng.below(j + 1));
            }
            let mut values: Vec<(f64, u64)> = all.iter().filter_map(|member| Some((member.value?, 1))).collect();
            let median = robust::median(&mut values).expect("there are neighbours");
            for faulty in 0..=most {
                let mut lying = all.clone();
                for member in &mut lying[..faulty] {
                    member.value = member.value.map(|value| value + 10.0 * spread);
                }
                let truth_sigma = (spread * spread + plan.sigma * plan.sigma).sqrt();
                let window = Window { truth: median, truth_sigma: 0.0, all: &lying, healthy: &all[faulty..], at };
                clean[faulty].add(&window, terms);
                held_out[faulty].add(&Window { truth: own, truth_sigma, ..window }, terms);
            }
        }
    }
    let named = [("collusion, against clean neighbours", clean), ("collusion, against the held-out sensor", held_out)];
    let points = named.into_iter().flat_map(|(name, tallies)| {
        tallies.into_iter().enumerate().map(move |(faulty, tally)| tally.point(name, faulty as u64))
    });
    points.collect()
}

/// What the neighbours of every node say in every window.
fn peers(plan: &Plan, nodes: &[Node], spread: f64, terms: &Terms, progress: &ProgressBar) -> Vec<Vec<Option<Peers>>> {
    let mut all: Vec<Vec<Option<Peers>>> = vec![Vec::new(); nodes.len()];
    for window in 0..nodes[0].windows.len() {
        progress.inc(1);
        let at = Wall::from_millis(1_000_000_000_000);
        for (i, peers) in all.iter_mut().enumerate() {
            let fused = fuse(&members(nodes, i, window, plan, spread, at), terms, at);
            let known = fused.value.zip(fused.sigma).filter(|_| fused.used >= 3);
            peers.push(known.map(|(value, sigma)| Peers { value, sigma }));
        }
    }
    all
}

fn in_sun(nodes: &[Node], peers: &[Vec<Option<Peers>>], spread: f64) -> Vec<InSun> {
    let mut found = Vec::new();
    for (node, peers) in nodes.iter().zip(peers) {
        let pairs = node.windows.iter().zip(peers);
        let away: Vec<f64> = pairs.filter_map(|(value, peers)| Some((*value)? - peers.as_ref()?.value)).collect();
        let minutes = away.iter().filter(|away| away.abs() > SUN_SPREADS * spread).count() as u64 * WINDOW_MS / 60_000;
        if minutes >= 30 {
            let most = away.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(0.0);
            found.push(InSun { node: node.name.clone(), most, minutes });
        }
    }
    found
}

/// Plays a node's readings, changed by `fault`: the first fault that stood, and since when.
fn watch(
    node: &Node,
    peers: &[Option<Peers>],
    limits: &Limits,
    first: Wall,
    mut fault: impl FnMut(Wall, f64) -> f64,
) -> Option<(Fault, Wall)> {
    let mut diagnosis: Option<Diagnosis> = None;
    for (at, value) in &node.readings {
        let value = fault(*at, *value);
        let window = (at.millis_after(first) as u64 / WINDOW_MS) as usize;
        match &mut diagnosis {
            None => diagnosis = Some(Diagnosis::new(*at, value)),
            Some(diagnosis) => {
                diagnosis.observe(*at, value, limits, peers.get(window).copied().flatten());
                if let Some(verdict) = diagnosis.standing() {
                    return Some((verdict.fault, *at));
                }
            }
        }
    }
    None
}

/// Faults put into one node at a time, a quarter into the recording.
fn detection(
    nodes: &[Node],
    peers: &[Vec<Option<Peers>>],
    limits: &Limits,
    first: Wall,
    condemned: &[Condemned],
    seed: u64,
) -> Vec<Detection> {
    let faults = [
        ("stuck (recorded)", Fault::Stuck),
        ("drift of 1 an hour (recorded)", Fault::Drift),
        ("spikes (recorded)", Fault::Spike),
        ("noise (recorded)", Fault::Noise),
    ];
    let span = nodes[0].windows.len() as f64 * WINDOW_MS as f64;
    let begins = Wall::from_millis(first.as_millis() + (span * BEGINS) as u64);
    let mut found = Vec::new();
    for (name, kind) in faults {
        let mut detection = Detection {
            fault: name.to_owned(),
            injected: 0,
            found: 0,
            named: 0,
            healthy: nodes.len() as u64,
            false_alarms: condemned.len() as u64,
            median_to_detect_s: None,
        };
        let mut times = Vec::new();
        let sound = |node: &&(usize, &Node)| !condemned.iter().any(|condemned| condemned.node == node.1.name);
        for (i, node) in nodes.iter().enumerate().collect::<Vec<_>>().iter().filter(sound) {
            detection.injected += 1;
            let mut rng = Rng::new(seed.wrapping_add(*i as u64));
            let mut held = None;
            let broken = |at: Wall, value: f64| {
                if at < begins {
                    return value;
                }
                let hours = at.millis_after(begins) as f64 / 3_600_000.0;
                match kind {
                    Fault::Stuck => *held.get_or_insert(value),
                    Fault::Drift => value + hours,
                    Fault::Spike if rng.chance(0.3) => value + 15.0,
                    Fault::Noise => value + 6.0 * (rng.unit() - 0.5),
                    _ => value,
                }
            };
            if let Some((fault, at)) = watch(node, &peers[*i], limits, first, broken) {
                detection.found += 1;
                detection.named += u64::from(fault == kind);
                times.push(at.millis_after(begins) as f64 / 1000.0);
            }
        }
        times.sort_unstable_by(f64::total_cmp);
        detection.median_to_detect_s = times.get(times.len() / 2).copied();
        found.push(detection);
    }
    found
}
