//! What a run came to: names that scripts rely on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cli::bench::Percentiles;
use crate::cli::bench::convergence::held::{Heat, Times};
use crate::cli::bench::convergence::setting::Setting;
use crate::cli::bench::host::Host;
use crate::cli::bench::plan::Traffic;

/// The whole result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// `sensorctl/bench-convergence/v1`.
    pub schema: String,
    /// Seed of the choice of writers.
    pub seed: u64,
    /// Where and with what it was measured.
    pub host: Host,
    /// One a setting.
    pub runs: Vec<Run>,
}

/// What one setting came to: medians over its repetitions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// What was set.
    #[serde(flatten)]
    pub setting: Setting,
    /// Bytes of the frame that carries one update.
    pub frame_bytes: usize,
    /// Updates of each repetition.
    pub writes: u64,
    /// Repetitions, after a warm-up.
    pub repetitions: usize,
    /// Writes of all repetitions that began more than an interval late.
    pub missed_sends: u64,
    /// False if more than 1% of the writes did: the figures are of another, lower rate then.
    pub kept_schedule: bool,
    /// Why there are no figures, if there are none.
    pub failed: Option<String>,
    /// From when an update was due until all nodes held it.
    pub to_all: Percentiles,
    /// Until 99% of the nodes did.
    pub to_99: Percentiles,
    /// Until 90% did.
    pub to_90: Percentiles,
    /// Until half did.
    pub to_50: Percentiles,
    /// From when the writer held an update until all nodes did.
    pub accepted_to_all: Percentiles,
    /// Until all nodes of the writer's own region did, with more regions than one.
    pub own_region: Option<Percentiles>,
    /// Until all nodes of the other regions did.
    pub other_regions: Option<Percentiles>,
    /// `to_all` of every repetition.
    pub each_to_all: Vec<Percentiles>,
    /// SENSOR_UPDATE frames that a node received for each update.
    pub data_messages_per_node_update: f64,
    /// Bytes of all frames that a node received for each update, heartbeats and repair included.
    pub bytes_per_node_update: f64,
    /// The same by message type.
    pub traffic: BTreeMap<String, PerNodeUpdate>,
    /// Processor time for each node and update, in µs.
    pub cpu_us_per_node_update: Option<f64>,
    /// Resident memory over nodes, in KiB.
    pub rss_per_node_kib: Option<u64>,
    /// Plain TCP, one writer to as many receivers, in turns with the above.
    pub raw_tcp: Option<Percentiles>,
    /// Writes of plain TCP that began more than an interval late.
    pub raw_missed_sends: u64,
    /// Median of `accepted_to_all` over that of plain TCP.
    pub ratio_p50: Option<f64>,
    /// Times in µs below which each share of the updates was held by all, over all repetitions.
    pub cdf: Vec<(u64, f64)>,
    /// Mean times from writer to receiver over all repetitions.
    pub heat: Heat,
}

/// What a node received for each update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PerNodeUpdate {
    /// Frames.
    pub messages: f64,
    /// Their bytes.
    pub bytes: f64,
}

/// What one repetition measured.
#[derive(Default)]
pub struct Repetition {
    /// Times of its updates.
    pub times: Times,
    /// Times of plain TCP in µs.
    pub raw: Vec<u64>,
    /// Writes that began late.
    pub missed: u64,
    /// And of plain TCP.
    pub raw_missed: u64,
    /// What all nodes received.
    pub received: Traffic,
    /// Processor time in µs, where it is known.
    pub cpu_us: Option<u64>,
    /// Memory in KiB, where it is known.
    pub rss_kib: Option<u64>,
}

/// Share of writes that may begin late before a run is said not to have kept its schedule.
const LATE_MAX: f64 = 0.01;

impl Run {
    /// A run without figures.
    pub fn failed(setting: Setting, why: String) -> Self {
        Self { failed: Some(why), ..Self::of(setting, 0, 0, &[]) }
    }

    /// Medians of what repetitions of `writes` updates measured.
    pub fn of(setting: Setting, frame_bytes: usize, writes: u64, repetitions: &[Repetition]) -> Self {
        let median_of = |pick: fn(&Repetition) -> &hdrhistogram::Histogram<u64>| {
            Percentiles::median(&repetitions.iter().map(|r| Percentiles::of(pick(r))).collect::<Vec<_>>())
        };
        let median = |values: Vec<f64>| median(values);
        let per = (writes * setting.nodes as u64).max(1) as f64;
        let missed_sends = repetitions.iter().map(|r| r.missed).sum();
        let all_writes = (writes * repetitions.len() as u64).max(1);
        let raw = raw_percentiles(repetitions);
        let accepted_to_all = median_of(|r| &r.times.accepted_to_all);
        let regional = setting.regions > 1 && !repetitions.is_empty();
        let mut whole = Times::default();
        repetitions.iter().for_each(|r| whole.add(&r.times));
        let cpu: Option<Vec<f64>> = repetitions.iter().map(|r| r.cpu_us.map(|us| us as f64 / per)).collect();
        Self {
            setting,
            frame_bytes,
            writes,
            repetitions: repetitions.len(),
            missed_sends,
            kept_schedule: missed_sends as f64 <= all_writes as f64 * LATE_MAX,
            failed: None,
            to_all: median_of(|r| &r.times.to_all),
            to_99: median_of(|r| &r.times.to_99),
            to_90: median_of(|r| &r.times.to_90),
            to_50: median_of(|r| &r.times.to_50),
            accepted_to_all,
            own_region: regional.then(|| median_of(|r| &r.times.own_region)),
            other_regions: regional.then(|| median_of(|r| &r.times.other_regions)),
            each_to_all: repetitions.iter().map(|r| Percentiles::of(&r.times.to_all)).collect(),
            data_messages_per_node_update: median(
                repetitions.iter().map(|r| r.received.of("SENSOR_UPDATE").0 as f64 / per).collect(),
            ),
            bytes_per_node_update: median(repetitions.iter().map(|r| r.received.bytes() as f64 / per).collect()),
            traffic: traffic(repetitions, per),
            cpu_us_per_node_update: cpu.filter(|cpu| !cpu.is_empty()).map(median),
            rss_per_node_kib: repetitions.iter().filter_map(|r| r.rss_kib).max().map(|kib| kib / setting.nodes as u64),
            raw_tcp: raw,
            raw_missed_sends: repetitions.iter().map(|r| r.raw_missed).sum(),
            ratio_p50: raw.map(|raw| accepted_to_all.p50_us as f64 / raw.p50_us.max(1) as f64),
            cdf: cdf(&whole.to_all),
            heat: whole.heat,
        }
    }

    /// Figures that a threshold may bound.
    pub const FIGURES: &[&str] = &[
        "p50",
        "p90",
        "p99",
        "max",
        "to_99_p99",
        "to_50_p50",
        "to_50_p99",
        "accepted_p50",
        "accepted_p99",
        "own_p50",
        "own_p99",
        "others_p50",
        "others_p99",
        "ratio",
        "messages",
        "bytes",
        "cpu_us",
        "rss_kib",
        "missed",
    ];

    /// A figure by its name; `None` if it was not measured.
    pub fn figure(&self, name: &str) -> Option<f64> {
        let us = |us: u64| Some(us as f64);
        match name {
            "p50" => us(self.to_all.p50_us),
            "p90" => us(self.to_all.p90_us),
            "p99" => us(self.to_all.p99_us),
            "max" => us(self.to_all.max_us),
            "to_99_p99" => us(self.to_99.p99_us),
            "to_50_p50" => us(self.to_50.p50_us),
            "to_50_p99" => us(self.to_50.p99_us),
            "accepted_p50" => us(self.accepted_to_all.p50_us),
            "accepted_p99" => us(self.accepted_to_all.p99_us),
            "own_p50" => self.own_region.and_then(|own| us(own.p50_us)),
            "own_p99" => self.own_region.and_then(|own| us(own.p99_us)),
            "others_p50" => self.other_regions.and_then(|others| us(others.p50_us)),
            "others_p99" => self.other_regions.and_then(|others| us(others.p99_us)),
            "ratio" => self.ratio_p50,
            "messages" => Some(self.data_messages_per_node_update),
            "bytes" => Some(self.bytes_per_node_update),
            "cpu_us" => self.cpu_us_per_node_update,
            "rss_kib" => self.rss_per_node_kib.map(|kib| kib as f64),
            "missed" => Some(self.missed_sends as f64),
            _ => None,
        }
    }

    /// Why its figures are not what was asked for, if they are not.
    pub fn complaint(&self) -> Option<String> {
        if let Some(why) = &self.failed {
            return Some(why.clone());
        }
        let writes = self.writes * self.repetitions as u64;
        let why = format!("did not keep its schedule: {} of {writes} writes began late", self.missed_sends);
        (!self.kept_schedule).then_some(why)
    }
}

fn raw_percentiles(repetitions: &[Repetition]) -> Option<Percentiles> {
    let of = |r: &Repetition| {
        let mut times = crate::cli::bench::histogram();
        r.raw.iter().for_each(|us| crate::cli::bench::record(&mut times, *us));
        Percentiles::of(&times)
    };
    let measured: Vec<Percentiles> = repetitions.iter().filter(|r| !r.raw.is_empty()).map(of).collect();
    (!measured.is_empty()).then(|| Percentiles::median(&measured))
}

fn traffic(repetitions: &[Repetition], per: f64) -> BTreeMap<String, PerNodeUpdate> {
    let mut sum = Traffic::default();
    repetitions.iter().for_each(|r| sum.add(&r.received));
    let per = per * repetitions.len().max(1) as f64;
    let each = |(kind, (messages, bytes)): (String, (u64, u64))| {
        (kind, PerNodeUpdate { messages: messages as f64 / per, bytes: bytes as f64 / per })
    };
    sum.0.into_iter().map(each).collect()
}

/// The middle one of several; the upper of two middles.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Points of a distribution: more of them towards its tail.
fn cdf(times: &hdrhistogram::Histogram<u64>) -> Vec<(u64, f64)> {
    if times.is_empty() {
        return Vec::new();
    }
    let body = (0..100).map(|percent| f64::from(percent) / 100.0);
    let tail = [0.992, 0.994, 0.996, 0.998, 0.999, 1.0];
    body.chain([0.99]).chain(tail).map(|share| (times.value_at_quantile(share), share)).collect()
}
