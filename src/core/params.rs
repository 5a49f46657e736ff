//! What a node is told before it starts: who it is, whom to find, and every number of the protocol.
//!
//! Already checked: `shell::config` refuses what is out of range, and nobody checks again.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::fusion::params::Rules;
use crate::core::id::{NodeId, RegionId};
use crate::core::ledger::document::PROTOCOL_VERSION;
use crate::core::state::entry::Scope;
use crate::core::state::system::Addr;

/// Nodes that one machine runs as it would run few.
pub const CROWD: usize = 100;

/// How many times as long everything that each node does by itself may take where so many share one machine: what it
/// does for more than a [`CROWD`], it does later for each.
pub const fn patience(nodes: usize) -> u32 {
    if nodes < CROWD { 1 } else { (nodes / CROWD) as u32 }
}

/// A node's parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// This node.
    pub node: NodeId,
    /// The region it belongs to.
    pub region: RegionId,
    /// The cluster's name; part of its genesis.
    pub cluster: String,
    /// Where peers connect to this node.
    pub addr: Addr,
    /// Where clients connect, if it serves them.
    pub api: Option<Addr>,
    /// Addresses first contacted.
    pub bootstrap: Vec<Addr>,
    /// The initial voters of every region, whose store ids make the genesis.
    pub initial_voters: BTreeMap<RegionId, Vec<NodeId>>,
    /// Scope of this node's readings.
    pub scope: Scope,
    /// Software version, for people.
    pub software: String,
    /// Lowest and highest protocol version spoken.
    pub versions: (u32, u32),
    /// Stamps further ahead of our wall clock than this are refused.
    pub clock_skew_max: Duration,
    /// How long entries of a departed node are kept, by stamp.
    pub retain: Duration,
    /// How often own entries that nobody asked to be durable are written to disk.
    pub store_interval: Duration,
    /// Largest frame, in bytes.
    pub frame_bytes_max: usize,
    /// Spreading and repair.
    pub gossip: GossipParams,
    /// Who is alive.
    pub liveness: LivenessParams,
    /// Agreement in the region.
    pub consensus: ConsensusParams,
    /// How readings are fused.
    pub fusion: Rules,
    /// Whether this node's checkpoints carry estimates.
    pub estimates: bool,
    /// Agreement between regions.
    pub top: ConsensusParams,
}

/// How the replicated state spreads.
#[derive(Clone, Debug, PartialEq)]
pub struct GossipParams {
    /// Neighbours kept in the own region; up to one more than this many nodes, everyone.
    pub overlay_degree: usize,
    /// Neighbours a voter keeps in other regions.
    pub cross_links: usize,
    /// Longest wait between two flushes to a busy neighbour.
    pub push_delay: Duration,
    /// Byte budget of one flush.
    pub flush_bytes: usize,
    /// Time between repairs, jittered.
    pub repair_interval: Duration,
    /// Entries younger than this are left to push.
    pub settle_after: Duration,
    /// Beyond this many coded symbols the whole state is streamed.
    pub sketch_symbols_max: usize,
    /// First wait before an address is dialed again; doubles up to `redial_max`.
    pub redial_min: Duration,
    /// Longest wait before an address is dialed again.
    pub redial_max: Duration,
    /// Mean time after which one of a node's own picks is swapped for another, in a region of up to a hundred nodes; longer
    /// in a larger one.
    pub swap_interval: Duration,
}

/// When a neighbour is doubted.
#[derive(Clone, Debug, PartialEq)]
pub struct LivenessParams {
    /// Keepalive on an idle link.
    pub keepalive_interval: Duration,
    /// A link silent for this long makes its peer suspect.
    pub silence_max: Duration,
    /// A suspicion not refuted for this long is a death.
    pub suspicion_timeout: Duration,
}

/// How a group agrees.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsensusParams {
    /// Time between a leader's heartbeats.
    pub heartbeat_interval: Duration,
    /// A follower that hears no leader for this long, drawn anew up to `election_spread` more, campaigns.
    pub election_timeout: Duration,
    /// By how much an election timeout may exceed its shortest, in parts per thousand of that.
    pub election_spread: u32,
    /// Time between checkpoints.
    pub checkpoint_interval: Duration,
    /// At most this many nodes of a region vote.
    pub voters_max: usize,
    /// A voter dead for this long is replaced by a live observer.
    pub voter_replace_after: Duration,
    /// Bodies of this many newest checkpoints are kept.
    pub bodies_kept: usize,
}

impl Default for GossipParams {
    fn default() -> Self {
        Self {
            overlay_degree: 6,
            cross_links: 2,
            push_delay: Duration::from_millis(2),
            flush_bytes: 256 * 1024,
            repair_interval: Duration::from_secs(1),
            settle_after: Duration::from_secs(1),
            sketch_symbols_max: 8192,
            redial_min: Duration::from_millis(100),
            redial_max: Duration::from_secs(10),
            swap_interval: Duration::from_secs(600),
        }
    }
}

impl Default for LivenessParams {
    fn default() -> Self {
        Self {
            keepalive_interval: Duration::from_millis(500),
            silence_max: Duration::from_secs(2),
            suspicion_timeout: Duration::from_secs(3),
        }
    }
}

impl LivenessParams {
    /// The defaults of one among so many nodes on one machine.
    pub fn of_crowd(nodes: usize) -> Self {
        let times = patience(nodes);
        let Self { keepalive_interval, silence_max, suspicion_timeout } = Self::default();
        Self {
            keepalive_interval: keepalive_interval * times,
            silence_max: silence_max * times,
            suspicion_timeout: suspicion_timeout * times,
        }
    }
}

impl Default for ConsensusParams {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(500),
            election_spread: 1000,
            checkpoint_interval: Duration::from_secs(5),
            voters_max: 5,
            voter_replace_after: Duration::from_secs(30),
            bodies_kept: 100,
        }
    }
}

impl ConsensusParams {
    /// Defaults of the top group, whose round trips cross regions: keep its election timeout above ten of them.
    pub fn top() -> Self {
        Self {
            heartbeat_interval: Duration::from_millis(500),
            election_timeout: Duration::from_secs(3),
            election_spread: 667,
            checkpoint_interval: Duration::from_secs(10),
            ..Self::default()
        }
    }

    /// An election timeout at its longest.
    pub fn election_timeout_max(&self) -> Duration {
        self.election_timeout + self.election_timeout * self.election_spread / 1000
    }
}

impl Params {
    /// Defaults for everything but the names; addresses and voters are still to be filled in.
    pub fn new(cluster: &str, node: NodeId, region: RegionId, addr: Addr) -> Self {
        Self {
            node,
            region,
            cluster: cluster.to_owned(),
            addr,
            api: None,
            bootstrap: Vec::new(),
            initial_voters: BTreeMap::new(),
            scope: Scope::Global,
            software: env!("CARGO_PKG_VERSION").to_owned(),
            versions: (PROTOCOL_VERSION, PROTOCOL_VERSION),
            clock_skew_max: Duration::from_secs(10),
            retain: Duration::from_secs(24 * 3600),
            store_interval: Duration::from_secs(1),
            frame_bytes_max: 4 * 1024 * 1024,
            gossip: GossipParams::default(),
            liveness: LivenessParams::default(),
            consensus: ConsensusParams::default(),
            fusion: Rules::default(),
            estimates: true,
            top: ConsensusParams::top(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_hundreds_on_a_machine_takes_as_many_times_longer() {
        let usual = LivenessParams::default();
        assert_eq!(LivenessParams::of_crowd(2 * CROWD - 1), usual);
        let many = LivenessParams::of_crowd(9 * CROWD);
        assert_eq!(many.keepalive_interval, usual.keepalive_interval * 9);
        assert_eq!(many.silence_max, usual.silence_max * 9);
        assert_eq!(many.suspicion_timeout, usual.suspicion_timeout * 9);
    }
}
