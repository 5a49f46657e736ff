//! What must survive a crash, as the records that the driver writes and gives back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::core::hlc::Hlc;
use crate::core::id::{Channel, ClusterId, GroupId, Hash, Index, NodeId, StoreId, Term, Voter};
use crate::core::ledger::body::Body;
use crate::core::ledger::document::Document;
use crate::core::state::entry::KeyedEntry;
use crate::core::state::system::Addr;
use crate::core::time::Wall;

/// A document as a place in a ledger: where it stands and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Place in the ledger.
    pub index: Index,
    /// Identity of the document there.
    pub hash: Hash,
}

/// The accepted pair of rule C3, with the hash of its document. Ordered by (ballot, index).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Accepted {
    /// Term under which the document was last proposed; 0 for a genesis nobody has proposed yet.
    pub ballot: Term,
    /// Its place in the ledger.
    pub index: Index,
    /// Its identity.
    pub hash: Hash,
}

impl Accepted {
    /// What rule C3 compares.
    pub const fn pair(&self) -> (Term, Index) {
        (self.ballot, self.index)
    }
}

/// A group's durable state, always written as one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// The highest term this store has seen (C1).
    pub term: Term,
    /// Whom it voted for in that term (C2).
    pub voted_for: Option<Voter>,
    /// What it last accepted (C4), the genesis to begin with.
    pub accepted: Accepted,
    /// The newest document it knows to be committed (C9).
    pub committed: Option<Position>,
}

impl HardState {
    /// True if this store has promised and accepted nothing in the group: it is bound by nothing.
    pub fn is_unbound(&self) -> bool {
        self.term == Term(0)
            && self.voted_for.is_none()
            && self.accepted.pair() == (Term(0), Index(0))
            && self.committed.is_none()
    }

    /// The state of a store that knows its genesis and nothing else.
    pub fn new(genesis: Hash) -> Self {
        let accepted = Accepted { ballot: Term(0), index: Index(0), hash: genesis };
        Self { term: Term(0), voted_for: None, accepted, committed: None }
    }
}

/// One thing to write. A batch of records is written atomically.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// The cluster this store belongs to.
    Cluster(ClusterId),
    /// The store belongs to no cluster again, and its hard states are gone: nobody had followed the genesis that it
    /// made, and nothing had been promised in that cluster.
    NoCluster,
    /// A group's hard state, replacing its former one.
    Hard(GroupId, HardState),
    /// A document, by its hash.
    Document(Document),
    /// A snapshot body, by its hash.
    Body(Body),
    /// A committed document's place in its group's ledger.
    Committed(GroupId, Position),
    /// The hybrid clock's new high-water mark.
    ClockMark(Hlc),
    /// An entry of this node's own origin.
    Own(KeyedEntry),
    /// The newest committed checkpoint that names a held body: what retention goes by.
    KeepBody(HeldBody),
    /// A body that is no longer kept.
    DropBody(Hash),
    /// An own entry that is no longer kept.
    DropOwn(Channel),
    /// Where members were last seen, replacing what was kept of it: some of them, if there are many.
    LastSeen(BTreeMap<NodeId, Addr>),
}

/// A body on disk and the newest committed checkpoint that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HeldBody {
    /// The checkpoint's place in its ledger.
    pub index: Index,
    /// When it was taken, by its proposer's clock.
    pub taken_at: Wall,
    /// The body.
    pub hash: Hash,
    /// When the newest committed global document that names the checkpoint was taken, and its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global: Option<(Wall, Index)>,
}

/// What a store gives back when a node starts on it.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The cluster it belongs to; `None` on a fresh store.
    pub cluster: Option<ClusterId>,
    /// Hard states of the groups it takes part in.
    pub hard: Vec<(GroupId, HardState)>,
    /// The clock's durable high-water mark.
    pub clock_mark: Hlc,
    /// The accepted and newest committed documents, and the genesis.
    pub documents: Vec<Document>,
    /// Bodies of those documents, as far as they are held.
    pub bodies: Vec<Body>,
    /// Every body held that a committed checkpoint names.
    pub bodies_held: Vec<HeldBody>,
    /// Committed positions of every group's ledger, ascending by index; documents are loaded on demand.
    pub ledger: Vec<(GroupId, Position)>,
    /// This node's own entries.
    pub own: Vec<KeyedEntry>,
    /// Where members were last seen.
    pub last_seen: BTreeMap<NodeId, Addr>,
}

/// A store's identity, and whether its votes may be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreIdentity {
    /// The data directory's own 128 bits.
    pub id: StoreId,
    /// True if it was made just now: empty, wiped, or replaced because its hard state was corrupt.
    pub fresh: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_store_has_promised_accepted_or_learned_binds_it() {
        let hash = Hash::of(b"genesis");
        let fresh = HardState::new(hash);
        assert!(fresh.is_unbound());
        let voter = Voter { node: NodeId::new("a").unwrap(), store: StoreId(1) };
        let accepted = |ballot: u64, index: u64| Accepted { ballot: Term(ballot), index: Index(index), hash };
        let committed = Some(Position { index: Index(0), hash });
        for bound in [
            HardState { term: Term(1), ..fresh.clone() },
            HardState { voted_for: Some(voter), ..fresh.clone() },
            HardState { accepted: accepted(1, 0), ..fresh.clone() },
            HardState { accepted: accepted(0, 1), ..fresh.clone() },
            HardState { committed, ..fresh.clone() },
        ] {
            assert!(!bound.is_unbound(), "{bound:?}");
        }
    }
}
