//! What a benchmark and its member processes say to each other, one JSON object a line.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::core::rng::Rng;

/// The channel that is written and timed.
pub const CHANNEL: &str = "bench";

/// What a member is told to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Take ports; answered by [`Told::Bound`].
    Bind { cluster: String, nodes: Vec<NodePlan>, voters: Vec<String>, checkpoint_ms: u64 },
    /// Start the nodes; answered by [`Told::Ready`] when every one of them sees `members` alive and a checkpoint.
    Join { bootstrap: Vec<String>, members: usize, background_ms: Option<u64> },
    /// Write what falls to the own nodes, and wait until they hold all of it; answered by [`Told::Wrote`].
    Write { schedule: Schedule },
    /// Write frames to all receivers and wait for each; answered by [`Told::WroteRaw`].
    WriteRaw { schedule: Schedule, receivers: Vec<String>, bytes: usize },
}

/// A node that a member runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodePlan {
    /// Its place among all nodes.
    pub place: usize,
    /// Its name.
    pub id: String,
    /// Where it listens for peers.
    pub listen: String,
    /// Its data directory; in memory without.
    pub dir: Option<PathBuf>,
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
    /// A leader said that a checkpoint is committed.
    Committed { origin: String, index: u64, at_us: u64 },
    /// It cannot be done.
    Failed { why: String },
}

/// A member's part of a run. Times are the machine's monotonic clock in µs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Share {
    /// Update, and when it was handed to its node.
    pub writes: Vec<(u64, u64)>,
    /// Writes that began more than one interval late.
    pub missed: u64,
    /// Update, and when each of the own nodes came to hold it.
    pub held: Vec<(u64, Vec<u64>)>,
    /// SENSOR_UPDATE frames that the own nodes received.
    pub frames: u64,
    /// Bytes of those.
    pub update_bytes: u64,
    /// Bytes of all frames that the own nodes received.
    pub bytes: u64,
    /// Resident memory of the process in KiB, where the system tells.
    pub rss_kib: Option<u64>,
}

/// Who writes what when: the same to every member.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Schedule {
    /// When the first update is due, by the machine's monotonic clock in µs.
    pub begin_us: u64,
    /// Time between updates.
    pub interval_us: u64,
    /// Number of the first update.
    pub first: u64,
    /// How many updates.
    pub count: u64,
    /// Seed of the choice of writers.
    pub seed: u64,
    /// How many nodes there are.
    pub nodes: usize,
}

impl Schedule {
    /// Updates with the node that writes each and when it is due.
    pub fn updates(self) -> impl Iterator<Item = (u64, usize, u64)> {
        let mut rng = Rng::new(self.seed ^ self.first);
        (0..self.count).map(move |i| (self.first + i, rng.below(self.nodes), self.begin_us + i * self.interval_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_draws_the_same_writers() {
        let schedule = Schedule { begin_us: 5, interval_us: 10, first: 100, count: 300, seed: 1, nodes: 3 };
        let updates: Vec<_> = schedule.updates().collect();
        assert_eq!(updates, schedule.updates().collect::<Vec<_>>());
        assert_eq!((updates[299].0, updates[299].2), (399, 5 + 2990));
        assert!((0..3).all(|node| updates.iter().any(|(_, writer, _)| *writer == node)));
    }
}
