//! What opens, keeps and closes a connection.

use serde::{Deserialize, Serialize};

use crate::core::hlc::Hlc;
use crate::core::id::{ClusterId, NodeId, RegionId, StoreId};
use crate::core::state::system::Addr;
use crate::core::time::Wall;

/// First frame each way: who speaks, and for which cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Lowest and highest protocol version spoken.
    pub versions: (u32, u32),
    /// The cluster the sender belongs to; absent while its store is fresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterId>,
    /// That has committed something, as the sender knows: its genesis is not the sender's alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub committed: bool,
    /// The cluster's name in the sender's configuration.
    pub name: String,
    /// Who speaks.
    pub node: NodeId,
    /// Its data directory.
    pub store: StoreId,
    /// Its region.
    pub region: RegionId,
    /// Its clock when this life began; tells a restart from a clone.
    pub start: Hlc,
    /// Drawn anew in each life: two copies of one data directory may start at the same clock mark.
    pub life: u32,
    /// Where it listens for peers.
    pub addr: Addr,
    /// Software version, for people.
    pub software: String,
    /// Its wall clock, to judge ours by.
    pub wall: Wall,
}

/// Says that an idle link lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keepalive {}

/// Says what was refused, and what to do. The sender closes the connection after it if it must.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorMessage {
    /// What kind of refusal, for programs.
    pub code: ErrorCode,
    /// The same for people: what differs and what to do.
    pub message: String,
}

impl ErrorMessage {
    /// Answers a message of a type that this version does not know.
    pub fn unknown_type(kind: &str) -> Self {
        let message = format!("message type {kind:?} is not known to version {}", env!("CARGO_PKG_VERSION"));
        Self { code: ErrorCode::UnknownType, message }
    }
}

/// Kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// No protocol version in common.
    Version,
    /// Another cluster.
    Cluster,
    /// Another live node has this NodeId.
    Duplicate,
    /// A message that makes no sense here.
    Protocol,
    /// A message type this version does not know.
    UnknownType,
    /// A kind of refusal that a newer version knows.
    #[serde(other)]
    Other,
}
