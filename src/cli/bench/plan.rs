//! What a benchmark and its members say to each other; to members in other processes, one JSON object a line.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cli::bench::flood::{Flood, FloodShare, Heard, Heat, Kept, Stream, Streamed};
use crate::cli::bench::mark::Mark;
use crate::core::rng::Rng;

/// The channel that is written and timed.
pub const CHANNEL: &str = "bench";

/// What a member is told to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Take addresses; answered by [`Told::Bound`].
    Bind { nodes: Vec<NodePlan>, cluster: ClusterPlan },
    /// Start the nodes, each with its own addresses to begin with; answered by [`Told::Ready`] when every one of them
    /// sees `members` alive and a checkpoint. With `marks`, agreement is told of from then on, by [`Told::Marked`].
    Join { bootstrap: Vec<Vec<String>>, members: usize, background_ms: Option<u64>, marks: bool },
    /// Write what falls to the own nodes, and wait until they hold all of it; answered by [`Told::Wrote`].
    Write { schedule: Schedule },
    /// Write frames to all receivers and wait for each; answered by [`Told::WroteRaw`].
    WriteRaw { schedule: Schedule, receivers: Vec<String>, bytes: usize },
    /// Write many keys as fast as it goes, if the writer is an own node, and wait until the own nodes hold all of them;
    /// answered by [`Told::Flooded`].
    Flood { flood: Flood },
    /// Write one key for so long as fast as it goes, with values from `first` on, if the writer is an own node;
    /// answered by [`Told::Heated`].
    Heat { writer: usize, millis: u64, first: u64 },
    /// Wait until the own nodes hold this value of that key, or a newer one; answered by [`Told::Cooled`].
    Cool { value: u64 },
    /// Write a stream to an own node; answered by [`Told::Streamed`].
    Stream { stream: Stream },
    /// Tell what the own node holds, once that is this value or a newer one of so many keys that the first node was
    /// flooded with; answered by [`Told::Kept`].
    Kept { keys: u64, value: u64 },
}

/// What all nodes of a cluster have in common.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterPlan {
    /// Initial voters of every region.
    pub voters: BTreeMap<String, Vec<String>>,
    /// Time between checkpoints.
    pub checkpoint_ms: u64,
    /// The same between regions; the default without.
    pub top_checkpoint_ms: Option<u64>,
    /// Neighbours kept in the own region; the default without.
    pub degree: Option<usize>,
    /// How many nodes there are.
    pub nodes: usize,
}

/// A node that a member runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodePlan {
    /// Its place among all nodes.
    pub place: usize,
    /// Its region.
    pub region: String,
    /// Where it listens for peers.
    pub listen: String,
    /// Its data directory; in memory without.
    pub dir: Option<PathBuf>,
}

impl NodePlan {
    /// Its name.
    pub fn id(&self) -> String {
        name(self.place)
    }
}

/// The name of the node at a place.
pub fn name(place: usize) -> String {
    format!("n{place}")
}

/// The place of the node of that name.
pub fn place(name: &str) -> Option<usize> {
    name.strip_prefix('n')?.parse().ok()
}

/// What a member says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "snake_case")]
pub enum Told {
    /// Peer addresses in the order of the plan, and where raw frames are received.
    Bound { peers: Vec<String>, raw: String },
    /// All nodes are in the cluster.
    Ready,
    /// What was written here and when, and when the own nodes held each update.
    Wrote(Share),
    /// Latencies in µs of the raw writes of this member.
    WroteRaw { latencies_us: Vec<u64>, missed: u64 },
    /// The part of this member in a flood.
    Flooded { share: FloodShare },
    /// What was written to the one key, if it was written here.
    Heated { heat: Option<Heat> },
    /// Places of the own nodes, and what each has heard of that key.
    Cooled { heard: Vec<(usize, Heard)> },
    /// A stream was written.
    Streamed { streamed: Streamed },
    /// What the own node holds.
    Kept { kept: Kept },
    /// Something of agreement happened at the node of a place.
    Marked { place: usize, at_us: u64, mark: Mark },
    /// It cannot be done.
    Failed { why: String },
}

/// A member's part of a run. Times are the machine's monotonic clock in µs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Share {
    /// Writes that began more than an interval late.
    pub missed: u64,
    /// What each of the own nodes came to hold.
    pub notes: Vec<Notes>,
    /// Own nodes that did not come to hold everything in time.
    pub behind: Vec<usize>,
    /// What the own nodes received meanwhile.
    pub received: Traffic,
    /// Processor time that this member's process used meanwhile.
    pub cpu_us: u64,
    /// Resident memory of the process in KiB, where the system tells.
    pub rss_kib: Option<u64>,
}

/// What one node came to hold, in that order.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Notes {
    /// The node's place.
    pub place: usize,
    /// Update, the place of its writer, and when it was held.
    pub held: Vec<(u64, usize, u64)>,
}

/// Frames and their bytes, by message type.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Traffic(pub BTreeMap<String, (u64, u64)>);

impl Traffic {
    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        for (kind, (frames, bytes)) in &other.0 {
            let sum = self.0.entry(kind.clone()).or_default();
            *sum = (sum.0 + frames, sum.1 + bytes);
        }
    }

    /// What has come since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let of = |kind: &String| before.0.get(kind).copied().unwrap_or_default();
        let grown = self.0.iter().map(|(kind, now)| (kind.clone(), (now.0 - of(kind).0, now.1 - of(kind).1)));
        Self(grown.filter(|(_, (frames, _))| *frames > 0).collect())
    }

    /// Frames and bytes of one type.
    pub fn of(&self, kind: &str) -> (u64, u64) {
        self.0.get(kind).copied().unwrap_or_default()
    }

    /// Bytes of all types.
    pub fn bytes(&self) -> u64 {
        self.0.values().map(|(_, bytes)| bytes).sum()
    }
}

/// Who writes what when: the same to every member.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Schedule {
    /// When the first update is due, by the machine's monotonic clock in µs.
    pub begin_us: u64,
    /// Time between updates in ns, so that high rates are exact.
    pub interval_ns: u64,
    /// Number of the first update.
    pub first: u64,
    /// How many updates.
    pub count: u64,
    /// Seed of the choice of writers.
    pub seed: u64,
    /// Every node in its turn instead, to begin with.
    pub in_turn: bool,
    /// How many nodes there are.
    pub nodes: usize,
    /// Bytes of an update's value; no fewer than the shortest reading has.
    pub payload: usize,
}

impl Schedule {
    /// Updates with the node that writes each and when it is due.
    pub fn updates(self) -> impl Iterator<Item = (u64, usize, u64)> {
        let mut rng = Rng::new(self.seed ^ self.first);
        let due = move |i| self.begin_us + i * self.interval_ns / 1000;
        let drawn = move |i: u64, nodes| if self.in_turn { i as usize % nodes } else { rng.below(nodes) };
        (0..self.count).scan(drawn, move |drawn, i| Some((self.first + i, drawn(i, self.nodes), due(i))))
    }

    /// How late a write may begin and still count as sent in time: one interval, and never less than 1 ms.
    pub fn lateness_allowed_us(self) -> u64 {
        (self.interval_ns / 1000).max(1000)
    }

    /// From the first update to the end of the last one's interval, in µs.
    pub fn takes_us(self) -> u64 {
        self.count * self.interval_ns / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_draws_the_same_writers() {
        let schedule = Schedule {
            begin_us: 5,
            interval_ns: 10_500,
            first: 100,
            count: 300,
            seed: 1,
            in_turn: false,
            nodes: 3,
            payload: 0,
        };
        let updates: Vec<_> = schedule.updates().collect();
        assert_eq!(updates, schedule.updates().collect::<Vec<_>>());
        assert_eq!((updates[299].0, updates[299].2), (399, 5 + 3139));
        assert!((0..3).all(|node| updates.iter().any(|(_, writer, _)| *writer == node)));
        let in_turn = Schedule { in_turn: true, ..schedule }.updates().map(|(_, writer, _)| writer);
        assert_eq!(in_turn.take(4).collect::<Vec<_>>(), [0, 1, 2, 0]);
    }

    #[test]
    fn traffic_is_told_by_difference() {
        let before = Traffic(BTreeMap::from([("A".into(), (2, 20)), ("B".into(), (1, 5))]));
        let mut now = before.clone();
        now.add(&Traffic(BTreeMap::from([("A".into(), (3, 30))])));
        assert_eq!(now.since(&before).0, BTreeMap::from([("A".into(), (3, 30))]));
        assert_eq!((now.bytes(), now.of("B"), now.of("C")), (55, (1, 5), (0, 0)));
    }

    #[test]
    fn names_lead_back_to_places() {
        assert_eq!((place(&name(17)), place("gw-1")), (Some(17), None));
    }
}
