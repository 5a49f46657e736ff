//! How the replicated state travels: push along trees, and repair by reconciling sets of fingerprints.

use serde::{Deserialize, Serialize};

use crate::core::hlc::Hlc;
use crate::core::id::{Channel, NodeId};
use crate::core::message::base64_bytes;
use crate::core::state::entry::{KeyedEntry, Scope};
use crate::core::time::Wall;

/// Push: fresh entries, own and forwarded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SensorUpdate {
    /// Newest value of each key that has news for the receiver.
    pub entries: Vec<KeyedEntry>,
}

/// A direct neighbour of an origin holds these of its entries in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirm {
    /// Channel and stamp of each, of the receiver's own origin.
    pub entries: Vec<(Channel, Hlc)>,
}

/// The sender has a better parent for these origins: the link carries them no more, outbox included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prune {
    /// Whose entries to stop sending.
    pub origins: Vec<NodeId>,
}

/// The sender lost its parent for these origins: the link carries them again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graft {
    /// Whose entries to send again.
    pub origins: Vec<NodeId>,
}

/// The sender has more links than it wants: the receiver closes this one, unless it is its only one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {}

/// Repair, opened or continued: what the sender's set looks like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDigest {
    /// The opener's number for this exchange.
    pub session: u64,
    /// Global entries, or those of the region both share.
    pub scope: Scope,
    /// How many entries.
    pub count: u64,
    /// Order-independent fingerprint of them all: sum of their fingerprints modulo 2^64.
    pub sum: u64,
    /// Entries stamped before this are left out by both.
    pub horizon: Wall,
    /// The sender's wall clock.
    pub wall: Wall,
    /// Number of the first coded symbol in `symbols`.
    #[serde(default)]
    pub offset: u32,
    /// A run of coded symbols, each 8 bytes sum, 8 bytes hash sum, 4 bytes count; little-endian.
    #[serde(with = "base64_bytes")]
    pub symbols: Vec<u8>,
}

/// Repair, answered: what the sender lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateRequest {
    /// The opener's number for this exchange.
    pub session: u64,
    /// Which of the two sets.
    pub scope: Scope,
    /// The next coded symbols from this number on, as many as `count` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbols_from: Option<u32>,
    /// How many symbols.
    #[serde(default)]
    pub count: u32,
    /// Entries of these fingerprints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub want: Vec<u64>,
    /// All entries, in key order after this key: the two sets are too far apart for symbols.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_after: Option<StreamFrom>,
}

/// Where a stream of the whole state starts or resumes; system channels go first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamFrom {
    /// The last key received, as origin and channel; absent at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<(NodeId, Channel)>,
}

/// Repair: entries the receiver lacks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateUpdate {
    /// The opener's number for this exchange.
    pub session: u64,
    /// A chunk of entries.
    pub entries: Vec<KeyedEntry>,
    /// True when more chunks of this answer follow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}
