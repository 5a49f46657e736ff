//! Things worth telling: the core's log, typed. The shell writes and counts them, the simulator traces them.

use std::time::Duration;

use crate::core::hard_state::Position;
use crate::core::id::{ClusterId, GroupId, Hash, LinkId, NodeId, StoreId, Term, Voter};
use crate::core::message::agreement::Refusal;
use crate::core::state::entry::{EntryRefusal, Key};
use crate::core::state::system::Addr;

/// One thing worth telling.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// The store belongs to this cluster from now on.
    Joined { cluster: ClusterId, founded: bool },
    /// Nobody had followed the genesis that this store made, and others have founded `theirs`: it lets go of its own.
    LetGo { ours: ClusterId, theirs: ClusterId },
    /// A fresh store waits for these initial voters.
    WaitingFor { nodes: Vec<NodeId> },
    /// A connection to this peer is ready for use.
    PeerUp { link: LinkId, peer: NodeId, addr: Addr },
    /// It is gone.
    PeerDown { link: LinkId, peer: NodeId },
    /// A peer was refused, and told so.
    PeerRefused { link: LinkId, why: String },
    /// A peer refused us.
    RefusedByPeer { link: LinkId, why: String },
    /// A message made no sense and was dropped.
    Rejected { link: LinkId, why: String },
    /// An entry was refused, never merged.
    EntryRefused { from: NodeId, key: Key, why: EntryRefusal },
    /// Our own wall clock is off by this many milliseconds from the median of the neighbours'.
    ClockOff { offset_ms: i64 },
    /// It is back within bounds.
    ClockBack,
    /// The clock started anew after a mark that lay in a refused future.
    ClockReset,
    /// Our wall clock had been ahead: entries merged under it, from what is now the future, were dropped.
    FutureDropped { entries: usize },
    /// A neighbour is doubted.
    Suspected { node: NodeId, why: SuspicionCause },
    /// It answered.
    Refuted { node: NodeId },
    /// It did not.
    Died { node: NodeId },
    /// It left on purpose.
    Left { node: NodeId },
    /// It is there (again).
    Alive { node: NodeId },
    /// A repair found settled differences.
    Repaired { peer: NodeId, got: u64, gave: u64 },
    /// A campaign began: who timed out, on whom, after how long.
    Campaign { group: GroupId, term: Term, leader: Option<NodeId>, silent_for: Duration, pre: bool },
    /// A vote was granted, durably.
    Voted { group: GroupId, term: Term, candidate: Voter },
    /// A vote was refused.
    VoteRefused { group: GroupId, term: Term, candidate: NodeId, reason: Refusal },
    /// This node leads.
    BecameLeader { group: GroupId, term: Term },
    /// This node follows.
    BecameFollower { group: GroupId, term: Term, leader: Option<NodeId> },
    /// This node gave up leading.
    SteppedDown { group: GroupId, term: Term, why: StepDown },
    /// A document was proposed.
    Proposed { group: GroupId, term: Term, position: Position },
    /// A document was accepted, durably.
    Accepted { group: GroupId, term: Term, position: Position },
    /// A document is known to be committed.
    Committed { group: GroupId, term: Term, position: Position },
    /// The accepted pair was raised to a document fetched from a refuser (C3).
    Raised { group: GroupId, ballot: Term, position: Position },
    /// The voters change with the next document.
    VotersChanging { group: GroupId, added: Option<Voter>, removed: Option<Voter> },
    /// A document or body could not be had from this peer.
    FetchFailed { hash: Hash, peer: NodeId },
    /// The same node id is alive with another data directory.
    DuplicateNode { node: NodeId, ours: StoreId, theirs: StoreId },
}

/// Why a node is doubted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SuspicionCause {
    /// The link broke and could not be made again.
    Broken,
    /// Its host said that nobody listens.
    Refused,
    /// The link was silent for too long.
    Silent,
}

/// Why a leader stopped leading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepDown {
    /// A higher term was seen.
    HigherTerm,
    /// No quorum was heard for an election timeout (C8).
    NoQuorum,
    /// Its own disk has not answered for one (C8).
    SlowDisk,
    /// It is not among the voters of the document it committed (C7).
    Removed,
    /// It was asked to leave.
    Leaving,
    /// It leads its region no more (H1).
    LostRegion,
}
