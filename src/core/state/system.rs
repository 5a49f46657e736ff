//! What the system's own channels hold. They travel exactly as readings do.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::core::fusion::document::Summary;
use crate::core::hlc::Hlc;
use crate::core::id::{Channel, Hash, Index, NodeId, RegionId, StoreId, Term, Voter};
use crate::core::ledger::document::Counts;
use crate::core::reading::Reading;
use crate::core::state::entry::{Value, ValueError};

/// Where a node listens, `host:port`. Cheap to clone.
pub type Addr = Arc<str>;

/// `@node`: what a node says of itself, on change and to refute a suspicion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Where peers connect.
    pub addr: Addr,
    /// Where clients connect, if the node serves them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<Addr>,
    /// The region it belongs to.
    pub region: RegionId,
    /// Its data directory.
    pub store: StoreId,
    /// Its clock when this life began: a newer start voids what was learned of the older one's links.
    pub start: Hlc,
    /// Software version, for people.
    pub version: String,
    /// True once it has left on purpose.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left: bool,
}

/// `@suspect/<node>`: a neighbour doubts the life of the node whose `@node` carries this stamp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspicion {
    /// The suspect's newest `@node` stamp known to the doubter; void as soon as a newer one is known. Zero where the
    /// doubter has reached it since: a suspect in another region does not hear of its doubters, and cannot object.
    pub of: Hlc,
    /// True if the suspect's host refused the connection: nobody listens there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
}

/// `@leader`: a region leader's claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderClaim {
    /// The region it leads.
    pub region: RegionId,
    /// Under which term.
    pub term: Term,
}

/// `@checkpoint`: the newest committed checkpoint of the writer's region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRef {
    /// The region whose ledger it stands in.
    pub region: RegionId,
    /// Its place there.
    pub index: Index,
    /// Its identity.
    pub hash: Hash,
    /// When it was taken, by its proposer's clock.
    #[serde(default)]
    pub taken_at: Hlc,
    /// How much it covers.
    #[serde(default)]
    pub counts: Counts,
    /// Live observers of the region, as its leader saw them then: where readings stay in their region nobody else does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observers: Option<u64>,
}

/// `@voters`: who votes in the writer's region by its newest committed checkpoint that changed it. The top follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionVoters {
    /// The region.
    pub region: RegionId,
    /// The checkpoint since which it is so.
    pub index: Index,
    /// They.
    pub voters: BTreeSet<Voter>,
}

/// `@top`: the top-level leader's claim and its newest committed global checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopClaim {
    /// Under which top term it leads.
    pub term: Term,
    /// Place and identity of the newest committed global checkpoint it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<(Index, Hash)>,
}

/// `@forget/<node>`: that node's entries up to this stamp are dropped everywhere and refused from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forget {
    /// Inclusive bound of what is forgotten.
    pub up_to: Hlc,
}

/// No channel of the system's is below this, and they stand together.
pub const FIRST: &str = "@";
/// Channel of [`NodeInfo`].
pub const NODE: &str = "@node";
/// Channel of [`LeaderClaim`].
pub const LEADER: &str = "@leader";
/// Channel of [`CheckpointRef`].
pub const CHECKPOINT: &str = "@checkpoint";
/// Channel of [`Summary`].
pub const SUMMARY: &str = "@summary";
/// Channel of [`RegionVoters`].
pub const VOTERS: &str = "@voters";
/// Channel of [`TopClaim`].
pub const TOP: &str = "@top";
/// Channels of [`Suspicion`]: this, then the suspect's name.
pub const SUSPECT: &str = "@suspect/";
/// Channels of [`Forget`]: this, then the forgotten node's name.
pub const FORGET: &str = "@forget/";

/// The channel that holds a node's word on itself.
pub fn node_channel() -> Channel {
    channel(NODE)
}

/// The channel under which a doubter suspects `node`.
pub fn suspect_channel(node: &NodeId) -> Channel {
    channel(&format!("{SUSPECT}{node}"))
}

/// The channel under which `node` is forgotten.
pub fn forget_channel(node: &NodeId) -> Channel {
    channel(&format!("{FORGET}{node}"))
}

/// A system channel from text that is known to be one.
pub fn channel(name: &str) -> Channel {
    Channel::new(name).expect("system channel names keep to the alphabet")
}

/// A value understood: what its channel says it holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Meaning {
    /// A sensor's reading.
    Reading(Reading),
    /// `@node`.
    Node(NodeInfo),
    /// `@suspect/<node>`.
    Suspect(NodeId, Suspicion),
    /// `@leader`.
    Leader(LeaderClaim),
    /// `@checkpoint`.
    Checkpoint(CheckpointRef),
    /// `@summary`.
    Summary(Box<Summary>),
    /// `@voters`.
    Voters(RegionVoters),
    /// `@top`.
    Top(TopClaim),
    /// `@forget/<node>`.
    Forget(NodeId, Forget),
    /// A system channel of a newer version: kept and forwarded, not understood.
    Unknown,
}

/// Understands `value` as what `channel` holds.
///
/// # Errors
/// [`ValueError`] if it is out of bounds, or not what the channel holds.
pub fn understand(channel: &Channel, value: &Value) -> Result<Meaning, ValueError> {
    value.check()?;
    let malformed = |why: String| ValueError::Malformed { channel: channel.to_string(), why };
    let json = |error: serde_json::Error| malformed(error.to_string());
    let name = |text: &str| NodeId::new(text).map_err(|error| malformed(error.to_string()));
    Ok(match channel.as_str() {
        NODE => Meaning::Node(value.read().map_err(json)?),
        LEADER => Meaning::Leader(value.read().map_err(json)?),
        CHECKPOINT => Meaning::Checkpoint(value.read().map_err(json)?),
        SUMMARY => {
            let summary: Box<Summary> = value.read().map_err(json)?;
            summary.check().map_err(|why| malformed(why.to_owned()))?;
            Meaning::Summary(summary)
        }
        VOTERS => Meaning::Voters(value.read().map_err(json)?),
        TOP => Meaning::Top(value.read().map_err(json)?),
        other => match (other.strip_prefix(SUSPECT), other.strip_prefix(FORGET)) {
            (Some(node), _) => Meaning::Suspect(name(node)?, value.read().map_err(json)?),
            (_, Some(node)) => Meaning::Forget(name(node)?, value.read().map_err(json)?),
            _ if channel.is_system() => Meaning::Unknown,
            _ => {
                let reading: Reading = value.read().map_err(json)?;
                reading.check().map_err(|error| malformed(error.to_string()))?;
                Meaning::Reading(reading)
            }
        },
    })
}
