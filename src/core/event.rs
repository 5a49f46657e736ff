//! Everything that can happen to a node.

use crate::core::hlc::Hlc;
use crate::core::id::{Channel, Hash, LinkId, NodeId, PersistSeq, RegionId, RequestId};
use crate::core::message::Message;
use crate::core::message::agreement::Content;
use crate::core::reading::Reading;
use crate::core::state::system::Addr;
use crate::core::work::Done;

/// One thing that happened, as the driver tells it.
#[derive(Clone, Debug)]
pub enum Event {
    /// A deadline has passed, or nothing special: look at the clock.
    Wake,
    /// A connection stands. `dialed` names the address that a [`crate::core::effect::Effect::Dial`] asked for.
    LinkUp { link: LinkId, dialed: Option<Addr> },
    /// A connection is gone.
    LinkDown { link: LinkId },
    /// A dial failed; `refused` if the host answered that nobody listens there.
    DialFailed { addr: Addr, refused: bool },
    /// Everything sent on this link with `notify` has been handed to the network: there is room for more.
    LinkReady { link: LinkId },
    /// A message came.
    Received { link: LinkId, message: Box<Message> },
    /// All writes up to and including this one are durable.
    Persisted { seq: PersistSeq },
    /// What a [`crate::core::effect::Effect::Load`] asked for; `None` if it is not held.
    Loaded { content: Content, hash: Hash, bytes: Option<Vec<u8>> },
    /// What a [`crate::core::effect::Effect::Compute`] asked for.
    Computed { done: Box<Done> },
    /// The local sensors said something.
    Sensed { readings: Vec<(Channel, Reading)> },
    /// A local client asks for something.
    Asked { request: RequestId, command: Command },
    /// The operator asks the node to leave in order: say `left`, hand over leadership, then stop.
    Leave,
}

/// What a local client can ask of a node beyond reading its state.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Write readings of this node, and answer when they are as safe as `ack` says.
    Put { readings: Vec<(Channel, Reading)>, ack: Ack },
    /// The newest committed checkpoint of the node's region, or with `top` the newest global one.
    Latest { linearizable: bool, top: bool },
    /// Drop a departed node's entries everywhere.
    Forget { node: NodeId },
    /// Take a node out of the voters (leader only).
    RemoveVoter { node: NodeId },
    /// Have a flat cluster grow a top level (leader only).
    Grow,
    /// Add a region with these first voters (top-level leader only).
    AddRegion { region: RegionId, voters: Vec<NodeId> },
    /// Take a region out (top-level leader only).
    RemoveRegion { region: RegionId },
}

/// When a write is acknowledged, by what it then survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// Survives nothing.
    #[default]
    Memory,
    /// Survives a crash of this node.
    Disk,
    /// Survives the loss of this node and of all but one of this many others.
    Peers(u32),
    /// Survives the loss of any minority of voters.
    Checkpoint,
}

/// The answer to a [`Command`].
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Written, with the stamps in the order of the readings.
    Put { stamps: Vec<Hlc> },
    /// The newest committed checkpoint, if there is one.
    Latest { latest: Option<crate::core::hard_state::Position> },
    /// Done.
    Done,
    /// Not here: ask this node, the leader as far as this one knows.
    Redirect { leader: NodeId },
    /// Not done, and why, for people.
    Refused { why: RefusedCommand },
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RefusedCommand {
    /// A reading is not one.
    #[error("reading of {channel} refused: {why}")]
    Reading { channel: Channel, why: String },
    /// Only the system writes these.
    #[error("channel {0} belongs to the system: names beginning with @ are not for readings")]
    SystemChannel(Channel),
    /// The disk has not kept up.
    #[error("the disk has not answered in time; nothing was written")]
    DiskBehind,
    /// The clock was set back, and what it had stamped was stamped anew.
    #[error(
        "this node's clock had run ahead and was set back before the write was as safe as asked for; write it again"
    )]
    ClockSetBack,
    /// Nobody leads.
    #[error("no leader stands; try again when `sensorctl status` shows one")]
    NoLeader,
    /// The node does not belong to a cluster yet.
    #[error("this node does not belong to a cluster yet; waiting for: {0}")]
    NotJoined(String),
    /// Fewer peers than asked for.
    #[error("{wanted} peers were to confirm, but only {there} are connected")]
    TooFewPeers { wanted: u32, there: u32 },
    /// A voter is not forgotten.
    #[error("{0} is a voter: take it out with `sensorctl cluster remove-node {0}` first")]
    IsVoter(NodeId),
    /// Nobody knows that node.
    #[error("no node named {0} is known here; `sensorctl status` lists them")]
    UnknownNode(NodeId),
    /// It lives.
    #[error("{0} is alive: stop it first, or its entries come back at once")]
    IsAlive(NodeId),
    /// The last voter stays.
    #[error("{0} is the only voter left: a cluster needs one")]
    LastVoter(NodeId),
    /// There is no top level.
    #[error("this cluster is flat: `sensorctl cluster grow` gives it a top level first")]
    IsFlat,
    /// The region's name has been used.
    #[error("region {0} is part of the cluster, or was: a region's name is used once")]
    KnownRegion(RegionId),
    /// A region begins with its voters.
    #[error("region {0} needs at least one voter to begin with")]
    NoVoters(RegionId),
    /// A node says that it is elsewhere, or nothing.
    #[error("{0} is not known as a node of region {1}: start it with `region = \"{1}\"` first")]
    NotOfRegion(NodeId, RegionId),
    /// The last region stays.
    #[error("{0} is the only region left: a cluster needs one")]
    LastRegion(RegionId),
    /// The leader is still busy with something that must come first.
    #[error("the leader has not committed in its term yet; try again in a moment")]
    NotReady,
    /// The leader lost its leadership meanwhile.
    #[error("this node stopped leading before it could answer; try again")]
    Deposed,
}
