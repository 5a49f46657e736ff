//! What a consensus group says: heartbeats, elections, checkpoints.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::core::hard_state::{Accepted, Position};
use crate::core::id::{GroupId, Hash, Index, NodeId, Round, Term, Voter};
use crate::core::message::base64_bytes;

/// Text that is cheap to clone: a document goes to many at once.
#[derive(Clone, PartialEq, Eq)]
pub struct Text(Arc<str>);

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<Arc<str>> for Text {
    fn from(text: Arc<str>) -> Self {
        Self(text)
    }
}

impl Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Self(String::deserialize(d)?.into()))
    }
}

/// A leader lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Whose agreement this is about.
    pub group: GroupId,
    /// The leader's term.
    pub term: Term,
    /// The leader.
    pub leader: NodeId,
    /// Number of this heartbeat in the leader's count.
    pub round: Round,
    /// The newest committed document.
    pub committed: Option<Position>,
}

/// Answers a heartbeat. The voter's own round echo confirms a leader for linearizable reads (C10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatAck {
    /// Whose agreement this is about.
    pub group: GroupId,
    /// The answerer's term.
    pub term: Term,
    /// The heartbeat's round.
    pub round: Round,
    /// Who answers.
    pub voter: Voter,
    /// The newest committed document whose body the answerer holds durably.
    pub holds: Option<Position>,
}

/// A candidate asks for a vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElectionRequest {
    /// Whose agreement this is about.
    pub group: GroupId,
    /// The term it campaigns in; in a pre-vote, the term it would campaign in.
    pub term: Term,
    /// Who asks.
    pub candidate: Voter,
    /// What it has accepted.
    pub accepted: Accepted,
    /// True for a pre-vote: a question that binds nobody.
    pub pre: bool,
}

/// Answers a candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElectionVote {
    /// Whose agreement this is about.
    pub group: GroupId,
    /// Granted: the term granted. Refused: the refuser's term.
    pub term: Term,
    /// Who answers.
    pub voter: Voter,
    /// Answer to a pre-vote.
    pub pre: bool,
    /// True if granted.
    pub granted: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Refusal>,
    /// What the answerer has accepted: a candidate refused for being behind fetches it (C3).
    pub accepted: Accepted,
}

/// A leader proposes a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointPropose {
    /// Whose agreement this is about.
    pub group: GroupId,
    /// The leader's term, the ballot of this proposal.
    pub term: Term,
    /// The leader.
    pub leader: NodeId,
    /// The document's place in this group's ledger.
    pub index: Index,
    /// The document before it.
    pub parent: Option<Hash>,
    /// Its identity.
    pub hash: Hash,
    /// Its exact bytes; empty where `difference` stands for them.
    pub document: Text,
    /// How it is made from the parent, for who holds that; whoever cannot make it fetches the whole.
    #[serde(default, with = "base64_bytes", skip_serializing_if = "Vec::is_empty")]
    pub difference: Vec<u8>,
}

/// Answers a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointAck {
    /// Whose agreement this is about.
    pub group: GroupId,
    /// Accepted: the ballot. Refused: the refuser's term.
    pub term: Term,
    /// The document's place in this group's ledger.
    pub index: Index,
    /// The document answered about.
    pub hash: Hash,
    /// Who answers.
    pub voter: Voter,
    /// True if pair, document and body are durable.
    pub accepted: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Refusal>,
}

/// Why a vote or a proposal was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The refuser has seen a higher term.
    StaleTerm,
    /// It has voted for somebody else in this term.
    VotedOther,
    /// It has accepted something newer; the answer names it.
    Behind,
    /// It hears a leader.
    HearsLeader,
    /// It does not vote here.
    NotAVoter,
    /// What was proposed does not hold together.
    Malformed,
    /// A reason that a newer version knows.
    #[serde(other)]
    Other,
}

/// What is asked for by hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// A checkpoint document.
    Document,
    /// A snapshot body, packed.
    Body,
}

/// Asks for a document or body by hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointFetch {
    /// Which of the two.
    pub content: Content,
    /// Its identity.
    pub hash: Hash,
    /// Bytes held already.
    pub offset: u64,
    /// One of the same kind that the asker holds: what differs from it will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Hash>,
}

/// A chunk of what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointBody {
    /// Which of the two.
    pub content: Content,
    /// Its identity.
    pub hash: Hash,
    /// Where the chunk begins.
    pub offset: u64,
    /// Length of the whole; absent if the answerer does not hold it (any more).
    pub total: Option<u64>,
    /// Present if this is not the thing itself, but how it is made from that one, in one chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Hash>,
    /// The chunk.
    #[serde(with = "base64_bytes")]
    pub data: Vec<u8>,
}
