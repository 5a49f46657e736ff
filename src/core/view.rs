//! What a node can tell of itself and of the others, for status pages and tests: a plain copy, made on request; and what
//! an onlooker sees of it, for measuring.

use std::time::Duration;

use crate::core::hard_state::Position;
use crate::core::id::{ClusterId, GroupId, NodeId, RegionId, StoreId, Term, Voter};
use crate::core::ledger::document::Counts;
use crate::core::message::Message;
use crate::core::notice::Notice;
use crate::core::state::entry::{Entry, Key};
use crate::core::state::system::Addr;
use crate::core::time::Wall;

/// A node's view of its cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The cluster it belongs to; `None` while its store is fresh.
    pub cluster: Option<ClusterId>,
    /// Initial voters a fresh store still waits for.
    pub waiting_for: Vec<NodeId>,
    /// Why its peers refuse it, if one did lately.
    pub refused: Option<String>,
    /// Its part in its region's agreement.
    pub group: GroupView,
    /// False while the cluster has no such region as the node's configuration names.
    pub in_region: bool,
    /// Its part in the agreement between regions, if the cluster has a top level.
    pub top: Option<GroupView>,
    /// All regions as far as it knows, by name; the own one alone in a flat cluster.
    pub regions: Vec<RegionView>,
    /// Everyone it knows of, itself included, by name.
    pub members: Vec<MemberView>,
    /// Entries held, all channels.
    pub entries: usize,
    /// Readings among them.
    pub readings: usize,
    /// Share of peers with whom the last repair found no settled difference; `None` before the first.
    pub converged: Option<f64>,
    /// Median of its neighbours' wall clocks less its own, in milliseconds: positive if its own is behind.
    pub clock_offset_ms: Option<i64>,
    /// True if its wall clock is off too far to be used, and stamps follow the neighbours' median.
    pub clock_unused: bool,
    /// Time its oldest unanswered disk write has been waiting.
    pub disk_wait: Duration,
    /// Entries refused so far, by reason, with the last refused origin.
    pub refused_entries: Vec<(&'static str, u64, NodeId)>,
}

/// What a node holds in memory, counted: everything that could grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Entries of the replicated state.
    pub entries: usize,
    /// Keys that wait to be sent, in the outboxes of all links.
    pub outbox: usize,
    /// Origins that push keeps a parent for.
    pub origins: usize,
    /// Members that the overlay could link, and those that are watched.
    pub members: usize,
    /// Watched members that somebody doubts.
    pub doubted: usize,
    /// Dials under way, waits for another, addresses last seen and not told of yet.
    pub dials: usize,
    /// Connections, in use or not.
    pub links: usize,
    /// Repairs under way: opened, and answers that peers are still to be sent.
    pub repairs: usize,
    /// Documents and bodies at hand, in memory.
    pub documents: usize,
    /// Bodies at hand, in memory.
    pub bodies: usize,
    /// Documents and bodies on their way: fetched, loaded from disk, or awaited by peers.
    pub fetches: usize,
    /// Stretches of ledgers that are known to be missing.
    pub gaps: usize,
    /// Requests of clients that are not answered.
    pub requests: usize,
    /// Own entries that wait for the disk or the clock.
    pub unwritten: usize,
    /// What groups hold back until a write is durable.
    pub held: usize,
    /// Questions that this node relays between regions, and ways back that it remembers.
    pub relayed: usize,
}

/// A node's part in a group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupView {
    /// Which group.
    pub id: GroupId,
    /// The part it plays.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Whom it takes for the leader.
    pub leader: Option<NodeId>,
    /// Who votes by its accepted document.
    pub voters: Vec<Voter>,
    /// Newest committed checkpoint.
    pub checkpoint: Option<CheckpointView>,
}

/// A region as a node knows it from what the region's leader says.
#[derive(Clone, Debug, PartialEq)]
pub struct RegionView {
    /// Its name.
    pub id: RegionId,
    /// Its leader by the newest claim.
    pub leader: Option<NodeId>,
    /// That leader's term.
    pub term: Term,
    /// Its newest committed checkpoint.
    pub checkpoint: Option<CheckpointView>,
    /// Who votes there.
    pub voters: Vec<Voter>,
    /// Who votes for it at the top.
    pub top_voters: Vec<Voter>,
    /// Live observers by its leader's word, at its newest checkpoint; of the own region, and of one that has said nothing,
    /// `None`.
    pub observers: Option<u64>,
}

/// A committed checkpoint in short.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointView {
    /// Place and identity.
    pub position: Position,
    /// When it was taken, by its proposer's clock.
    pub taken_at: Wall,
    /// How much it covers.
    pub counts: Counts,
}

/// The part a node plays in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Leads.
    Leader,
    /// Votes and follows.
    Follower,
    /// Campaigns.
    Candidate,
    /// Does not vote.
    Observer,
}

impl Role {
    /// The word used in JSON and on the screen.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Observer => "observer",
        }
    }
}

/// Whether a node is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Liveness {
    /// There.
    Alive,
    /// Doubted, and not yet refuted.
    Suspect,
    /// Doubted, and not refuted in time.
    Dead,
    /// Left on purpose.
    Left,
}

impl Liveness {
    /// The word used in JSON and on the screen.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
            Self::Left => "left",
        }
    }
}

/// What a node knows of a member.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberView {
    /// Its name.
    pub node: NodeId,
    /// Its data directory.
    pub store: StoreId,
    /// Its region.
    pub region: RegionId,
    /// Where it listens for peers.
    pub addr: Addr,
    /// Where it serves clients.
    pub api: Option<Addr>,
    /// Its software version.
    pub version: String,
    /// Whether it is there.
    pub liveness: Liveness,
    /// Whether it votes by the viewer's accepted document.
    pub voter: bool,
    /// Entries of its origin that the viewer holds.
    pub entries: usize,
    /// Time since anything was last heard on a direct link; `None` without one.
    pub last_heard: Option<Duration>,
    /// Offset of its wall clock from the viewer's in milliseconds; `None` without a direct link.
    pub clock_offset_ms: Option<i64>,
    /// Newest checkpoint it has acknowledged to the viewer, if the viewer leads.
    pub holds: Option<Position>,
}

/// One thing that a node does or hears.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// It holds this entry from now on.
    Changed(&'a Key, &'a Entry),
    /// It tells of something.
    Notice(&'a Notice),
    /// It sends a message.
    Sent(&'a Message),
    /// It hears a message.
    Received(&'a Message),
}
