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
    /// If present, of all origins that the receiver knows but itself and these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_but: Option<Vec<NodeId>>,
}

/// The sender wants these origins from the receiver: the link carries them again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graft {
    /// Whose entries to send again.
    pub origins: Vec<NodeId>,
}

/// The sender has more links than it wants: the receiver closes this one, unless it is its only one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {}

/// Repair: what the sender's set looks like. Without symbols it opens an exchange, with them it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDigest {
    /// The opener's number for this exchange.
    pub session: u64,
    /// Whether entries of region scope are compared too: both are of one region.
    pub scope: Scope,
    /// How many entries.
    pub count: u64,
    /// Order-independent fingerprint of them all: sum of their fingerprints modulo 2^64.
    pub sum: u64,
    /// Entries stamped before this have expired at the sender.
    pub horizon: Wall,
    /// The sender's wall clock.
    pub wall: Wall,
    /// Coded symbols from number 0 on; see [`Run::encode`](crate::core::state::sketch::Run::encode).
    #[serde(default, with = "base64_bytes", skip_serializing_if = "Vec::is_empty")]
    pub symbols: Vec<u8>,
    /// Counts alone of the symbols after those.
    #[serde(default, with = "base64_bytes", skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<u8>,
}

/// Repair: what the sender lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateRequest {
    /// The opener's number for this exchange.
    pub session: u64,
    /// Whether entries of region scope are compared too.
    pub scope: Scope,
    /// Entries stamped before this have expired at the sender.
    pub horizon: Wall,
    /// As many coded symbols, in place of fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbols: Option<u32>,
    /// Entries of these fingerprints, each 8 bytes, little-endian.
    #[serde(default, with = "base64_bytes", skip_serializing_if = "Vec::is_empty")]
    pub want: Vec<u8>,
    /// All entries but those that this filter holds: the two sets are too far apart for symbols.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Rest>,
    /// Entries that are young as well, which are left to push otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub young: bool,
}

/// Which entries the sender of a request lacks, where these are many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// A [`Filter`](crate::core::state::filter::Filter) of the fingerprints that it holds.
    #[serde(with = "base64_bytes")]
    pub filter: Vec<u8>,
    /// The filter's salt.
    pub salt: u64,
    /// True if the receiver lacks many as well, for all that the sender knows, and is to ask for them likewise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub both: bool,
}

/// Repair: entries the receiver lacks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateUpdate {
    /// The opener's number for this exchange.
    pub session: u64,
    /// A chunk of entries; none if the two sets are equal.
    pub entries: Vec<KeyedEntry>,
    /// True when more chunks of this answer follow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}
