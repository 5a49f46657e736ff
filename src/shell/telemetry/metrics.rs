//! Counters and histograms of one node, in OpenMetrics text.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::core::message::Message;
use crate::core::notice::Notice;
use crate::core::view::{Liveness, Role, View};

type Labels = [(&'static str, &'static str); 2];
type Label = [(&'static str, &'static str); 1];

/// Arrivals that the shown lag is the median of.
const LAGS_KEPT: usize = 512;

/// What one node counts.
pub struct Metrics {
    registry: Registry,
    frames: Family<Labels, Counter>,
    bytes: Family<Labels, Counter>,
    /// Those counters by place in [`Message::TYPES`], of what came and of what went: looking one up by its labels costs
    /// more than sending a short frame does.
    counted: [Vec<(Counter, Counter)>; 2],
    rejected: Counter,
    refused_entries: Counter,
    elections: Counter,
    leaderships: Counter,
    commits: Counter,
    suspicions: Counter,
    deaths: Counter,
    repaired: Family<Label, Counter>,
    http: Counter,
    lag: Histogram,
    fsync: Histogram,
    entries: Gauge,
    readings: Gauge,
    members: Family<Label, Gauge>,
    term: Gauge,
    leader: Gauge,
    checkpoint_index: Gauge,
    converged: Gauge<f64, AtomicU64>,
    lags_ms: Mutex<VecDeque<u64>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("sensorctl"),
            frames: Family::default(),
            bytes: Family::default(),
            counted: Default::default(),
            rejected: Counter::default(),
            refused_entries: Counter::default(),
            elections: Counter::default(),
            leaderships: Counter::default(),
            commits: Counter::default(),
            suspicions: Counter::default(),
            deaths: Counter::default(),
            repaired: Family::default(),
            http: Counter::default(),
            lag: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            fsync: Histogram::new(exponential_buckets(0.0001, 2.0, 16)),
            entries: Gauge::default(),
            readings: Gauge::default(),
            members: Family::default(),
            term: Gauge::default(),
            leader: Gauge::default(),
            checkpoint_index: Gauge::default(),
            converged: Gauge::default(),
            lags_ms: Mutex::new(VecDeque::with_capacity(LAGS_KEPT)),
        };
        metrics.counted = ["in", "out"].map(|direction| {
            let labels = Message::TYPES.iter().map(|kind| [("type", *kind), ("direction", direction)]);
            labels.map(|of| (metrics.frames.get_or_create_owned(&of), metrics.bytes.get_or_create_owned(&of))).collect()
        });
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("frames", "Frames by message type and direction", self.frames.clone());
        r.register("frame_bytes", "Bytes of frames by message type and direction", self.bytes.clone());
        r.register("rejected_frames", "Frames that made no sense", self.rejected.clone());
        r.register("refused_entries", "Entries never merged", self.refused_entries.clone());
        r.register("elections", "Campaigns begun", self.elections.clone());
        r.register("leaderships", "Elections won", self.leaderships.clone());
        r.register("commits", "Checkpoints committed", self.commits.clone());
        r.register("suspicions", "Neighbours doubted", self.suspicions.clone());
        r.register("deaths", "Neighbours declared dead", self.deaths.clone());
        r.register("repaired_entries", "Entries moved by anti-entropy", self.repaired.clone());
        r.register("http_requests", "Requests served", self.http.clone());
        let (lag, fsync) = (self.lag.clone(), self.fsync.clone());
        r.register_with_unit("propagation_lag", "From an entry's stamp to its arrival here", Unit::Seconds, lag);
        r.register_with_unit("fsync", "Time to make a batch of writes durable", Unit::Seconds, fsync);
        r.register("entries", "Entries held", self.entries.clone());
        r.register("readings", "Readings held", self.readings.clone());
        r.register("members", "Nodes known, by liveness", self.members.clone());
        r.register("term", "Term of the region's group", self.term.clone());
        r.register("leader", "1 while this node leads its region", self.leader.clone());
        r.register("checkpoint_index", "Newest committed checkpoint known", self.checkpoint_index.clone());
        let converged = self.converged.clone();
        r.register("converged_ratio", "Share of peers with whom the last repair found no difference", converged);
    }

    /// A frame came (`in`) or went (`out`).
    pub fn count_frame(&self, direction: &'static str, kind: &'static str, bytes: usize) {
        if let Some((frames, sum)) = self.counted(direction, kind) {
            frames.inc();
            sum.inc_by(bytes as u64);
        }
    }

    /// Frames of a type so far in one direction, and their bytes.
    pub fn frames(&self, direction: &'static str, kind: &'static str) -> (u64, u64) {
        self.counted(direction, kind).map_or((0, 0), |(frames, bytes)| (frames.get(), bytes.get()))
    }

    fn counted(&self, direction: &str, kind: &str) -> Option<&(Counter, Counter)> {
        let place = Message::TYPES.iter().position(|known| *known == kind)?;
        self.counted[usize::from(direction == "out")].get(place)
    }

    /// A batch of writes took this long.
    pub fn observe_fsync(&self, took: Duration) {
        self.fsync.observe(took.as_secs_f64());
    }

    /// A foreign entry arrived this long after its stamp.
    pub fn observe_lag(&self, lag_ms: u64) {
        self.lag.observe(lag_ms as f64 / 1000.0);
        let mut lags = self.lags_ms.lock().expect("no holder panics");
        if lags.len() == LAGS_KEPT {
            lags.pop_front();
        }
        lags.push_back(lag_ms);
    }

    /// A request was served.
    pub fn count_http(&self) {
        self.http.inc();
    }

    /// Median lag of the last arrivals, in milliseconds.
    pub fn lag_ms(&self) -> Option<f64> {
        let mut lags: Vec<u64> = self.lags_ms.lock().expect("no holder panics").iter().copied().collect();
        lags.sort_unstable();
        lags.get(lags.len() / 2).map(|lag| *lag as f64)
    }

    /// A notice may be a number as well.
    pub fn count_notice(&self, notice: &Notice) {
        match notice {
            Notice::Rejected { .. } => self.rejected.inc(),
            Notice::EntryRefused { .. } => self.refused_entries.inc(),
            Notice::Campaign { pre: false, .. } => self.elections.inc(),
            Notice::BecameLeader { .. } => self.leaderships.inc(),
            Notice::Committed { .. } => self.commits.inc(),
            Notice::Suspected { .. } => self.suspicions.inc(),
            Notice::Died { .. } => self.deaths.inc(),
            Notice::Repaired { got, gave, .. } => {
                self.repaired.get_or_create(&[("direction", "in")]).inc_by(*got);
                self.repaired.get_or_create(&[("direction", "out")]).inc_by(*gave)
            }
            _ => return,
        };
    }

    /// The OpenMetrics text, with gauges as of `view`.
    pub fn text(&self, view: &View) -> String {
        self.entries.set(view.entries as i64);
        self.readings.set(view.readings as i64);
        for state in [Liveness::Alive, Liveness::Suspect, Liveness::Dead, Liveness::Left] {
            let count = view.members.iter().filter(|member| member.liveness == state).count();
            self.members.get_or_create(&[("liveness", state.as_str())]).set(count as i64);
        }
        self.term.set(view.group.term.get() as i64);
        self.leader.set(i64::from(view.group.role == Role::Leader));
        let index = view.group.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.position.index.get());
        self.checkpoint_index.set(index as i64);
        self.converged.set(view.converged.unwrap_or(0.0));
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}
