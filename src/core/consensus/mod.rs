//! A consensus group: voters that elect a leader and commit a chain of checkpoint documents.
//!
//! One state machine for regions and for the top; they differ in their voters' quorum (see
//! [`crate::core::voters::Voters`]) and in their timeouts. It decides which document stands at which index.
//! What a document says of readings, how bytes travel and who is alive is others' business.
//!
//! The rules C1 to C11 of the protocol page are cited where they are obeyed. Two invariants carry them:
//! nothing leaves that depends on a write which is not durable, and a document enters `accepted` only
//! together with its body.
//!
//! Source: ballots after Lamport, The Part-Time Parliament, 1998, over one slot with parent hashes; terms,
//! pre-vote and read rounds after Ongaro, Consensus: Bridging Theory and Practice, 2014.

mod checkpoint;
mod election;
mod membership;
mod portrait;
mod reads;
#[cfg(test)]
mod tests;

pub use checkpoint::{Contents, Snapshot};
pub use membership::{Member, VoterChange};
pub use portrait::{Names, Pen, Word};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::cx::Cx;
use crate::core::hard_state::{Accepted, HardState, Position, Record};
use crate::core::id::{GroupId, Hash, NodeId, PersistSeq, RequestId, Round, Term, Voter};
use crate::core::ledger::document::Document;
use crate::core::message::Message;
use crate::core::message::agreement::{CheckpointPropose, Content};
use crate::core::notice::{Notice, StepDown};
use crate::core::params::ConsensusParams;
use crate::core::time::Mono;
use crate::core::view::Role;
use crate::core::voters::Voters;
use crate::core::writes::Writes;

/// What a group wants of the node around it.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// Send this answer to that node.
    Send { to: NodeId, message: Message },
    /// Ask these nodes the same question.
    Ask { to: Vec<NodeId>, message: Message },
    /// Get this document or body, first of all from that node, and say so by [`Group::on_content`].
    Fetch { content: Content, hash: Hash, from: NodeId },
    /// The leader may propose the next checkpoint: call [`Group::propose`].
    WantCheckpoint,
    /// This document is committed, and known to be so durably.
    Committed { position: Position, document: Document },
    /// This node leads, or stopped to.
    LeadershipChanged,
    /// A linearizable read is answered.
    ReadReady { request: RequestId, latest: Option<Position> },
    /// It cannot be: this node does not lead (any more).
    ReadFailed { request: RequestId },
}

/// What a group may know of the documents and bodies held by its node.
pub trait Holdings {
    /// The document of this hash, if it is at hand.
    fn document(&self, hash: &Hash) -> Option<Document>;
    /// Whether the body of this hash is at hand: durable, or in memory to be written with its document.
    fn has_body(&self, hash: &Hash) -> bool;
    /// Takes a document whose body is at hand, and says what must be written for both to be durable; nothing
    /// if they are, or are asked to be.
    fn adopt(&mut self, document: &Document) -> Vec<Record>;
}

/// One member's state of one group.
#[derive(Clone, Debug)]
pub struct Group {
    id: GroupId,
    me: Voter,
    params: ConsensusParams,
    hard: HardState,
    accepted: Document,
    committed: Option<Document>,
    /// The newest that is committed by this store's own word, durably.
    holds: Option<Position>,
    part: Part,
    leader: Option<NodeId>,
    heard_leader: Mono,
    election_due: Mono,
    /// The write that made the present term and vote durable.
    term_write: PersistSeq,
    /// The write that made the present accepted pair, document and body durable.
    accepted_write: PersistSeq,
    held: BTreeMap<PersistSeq, Vec<Held>>,
    /// A proposal whose body is on its way.
    bodyless: Option<CheckpointPropose>,
    /// What a refuser has accepted and we are fetching (C3).
    raise_to: Option<Accepted>,
    /// A document known to be committed that is on its way.
    learning: Option<Position>,
    /// False while this node may vote but not campaign: at the top it must lead its region (H1).
    eligible: bool,
    facts: Vec<Fact>,
}

/// What is done once a write is durable.
#[derive(Clone, Debug)]
enum Held {
    Send {
        to: NodeId,
        message: Message,
    },
    Ask {
        to: Vec<NodeId>,
        message: Message,
    },
    /// Our own vote for ourselves counts.
    OwnVote {
        term: Term,
    },
    /// Our own acceptance counts.
    OwnAck {
        accepted: Accepted,
    },
    /// The node may say that this is committed.
    Committed {
        position: Position,
        document: Document,
    },
}

/// The part this node plays at present.
#[derive(Clone, Debug)]
enum Part {
    Follower,
    Candidate(Campaign),
    Leader(Box<Leading>),
}

/// A campaign, binding or not.
#[derive(Clone, Debug)]
struct Campaign {
    /// The term asked for: the next one if `pre`, else the present one.
    term: Term,
    pre: bool,
    granted: BTreeSet<Voter>,
}

/// What a leader keeps track of.
#[derive(Clone, Debug)]
struct Leading {
    /// Own-term acknowledgements of the accepted document (C6).
    acks: BTreeSet<Voter>,
    /// The accepted document is committed in our term: the next may be proposed (C5).
    settled: bool,
    /// Something is committed in our term: what we know to be committed is complete (C10).
    current: bool,
    round: Round,
    heartbeat_due: Mono,
    resend_due: Mono,
    checkpoint_due: Mono,
    heard: BTreeMap<Voter, Heard>,
    since: Mono,
    reads: Vec<Read>,
    /// Nodes about to become voters, which are heartbeaten too.
    learners: BTreeSet<Voter>,
    change: Option<VoterChange>,
    /// At the top: the next configuration, as far as it is decided.
    next: Option<Voters>,
}

/// The newest answers of one voter to our heartbeats.
#[derive(Clone, Copy, Debug)]
struct Heard {
    round: Round,
    at: Mono,
    holds: Option<Position>,
}

/// A linearizable read that waits for a quorum in `round`.
#[derive(Clone, Copy, Debug)]
struct Read {
    request: RequestId,
    /// `None` until the leader has committed in its term.
    round: Option<Round>,
}

impl Group {
    /// Takes up a group where its store left it. `accepted` and `committed` are the documents that `hard` names.
    ///
    /// # Panics
    /// If they are not: a store gives back what it was given, or nothing.
    pub fn recover(
        cx: &mut Cx<'_>,
        id: GroupId,
        me: Voter,
        params: ConsensusParams,
        hard: HardState,
        accepted: Document,
        committed: Option<Document>,
    ) -> Self {
        assert_eq!(accepted.hash(), hard.accepted.hash, "a store gives back the document it accepted");
        assert_eq!(committed.as_ref().map(Document::hash), hard.committed.map(|position| position.hash));
        let id_is_region = matches!(id, GroupId::Region(_));
        let mut group = Self {
            id,
            me,
            params,
            holds: hard.committed,
            hard,
            accepted,
            committed,
            part: Part::Follower,
            leader: None,
            heard_leader: cx.now.mono,
            election_due: Mono::ZERO,
            term_write: PersistSeq(0),
            accepted_write: PersistSeq(0),
            held: BTreeMap::new(),
            bodyless: None,
            raise_to: None,
            learning: None,
            eligible: id_is_region,
            facts: Vec::new(),
        };
        group.rearm_election(cx);
        group
    }

    /// True if this node leads and its last proposal is committed in its own term.
    pub fn is_settled(&self) -> bool {
        matches!(&self.part, Part::Leader(leading) if leading.settled)
    }

    /// Takes what the group has wanted since the last call, in order.
    pub fn take_facts(&mut self) -> Vec<Fact> {
        std::mem::take(&mut self.facts)
    }

    /// Which group this is.
    pub fn id(&self) -> &GroupId {
        &self.id
    }

    /// Under which identity this node votes.
    pub fn me(&self) -> &Voter {
        &self.me
    }

    /// True if this node leads and its next checkpoint changes the voters.
    pub fn is_changing(&self) -> bool {
        matches!(&self.part, Part::Leader(leading) if leading.change.is_some())
    }

    /// True while this document is being fetched.
    pub fn awaits(&self, hash: &Hash) -> bool {
        self.raise_to.is_some_and(|target| target.hash == *hash)
            || self.learning.is_some_and(|target| target.hash == *hash)
    }

    /// Its durable state, as it stands in memory.
    pub fn hard(&self) -> &HardState {
        &self.hard
    }

    /// The document last accepted: its voters count.
    pub fn accepted(&self) -> &Document {
        &self.accepted
    }

    /// The newest document known to be committed.
    pub fn committed(&self) -> Option<&Document> {
        self.committed.as_ref()
    }

    /// Whom this node takes for the leader of the present term.
    pub fn leader(&self) -> Option<&NodeId> {
        self.leader.as_ref()
    }

    /// What is held back until a write is durable.
    pub fn held(&self) -> usize {
        self.held.values().map(Vec::len).sum()
    }

    /// The newest committed document that `node` has told this leader it holds.
    pub fn holds(&self, node: &NodeId) -> Option<Position> {
        let Part::Leader(leading) = &self.part else { return None };
        leading.heard.iter().find(|(voter, _)| voter.node == *node).and_then(|(_, heard)| heard.holds)
    }

    /// True while this node leads.
    pub fn is_leader(&self) -> bool {
        matches!(self.part, Part::Leader(_))
    }

    /// The part this node plays.
    pub fn role(&self) -> Role {
        match &self.part {
            Part::Leader(_) => Role::Leader,
            Part::Candidate(_) => Role::Candidate,
            Part::Follower if self.is_voter() => Role::Follower,
            Part::Follower => Role::Observer,
        }
    }

    /// Who votes: by the accepted document, or the committed one where this node follows without accepting.
    pub fn voters(&self) -> Voters {
        self.voters_of(self.newest())
    }

    /// True if this very store votes, by its newest document.
    pub fn is_voter(&self) -> bool {
        self.voters().contains(&self.me)
    }

    /// When the group next wants attention.
    pub fn deadline(&self) -> Mono {
        match &self.part {
            Part::Leader(leading) => {
                let work = if leading.settled { leading.checkpoint_due } else { leading.resend_due };
                leading.heartbeat_due.min(work)
            }
            Part::Candidate(_) | Part::Follower => self.election_due,
        }
    }

    /// Acts on whatever is due.
    pub fn on_deadline(&mut self, cx: &mut Cx<'_>, writes: &mut Writes) {
        if self.is_leader() {
            self.lead_on(cx, writes);
        } else if self.election_due <= cx.now.mono {
            self.on_election_timeout(cx, writes);
        }
    }

    /// Goes on with what waited for the disk.
    pub fn on_persisted(&mut self, cx: &mut Cx<'_>, writes: &mut Writes) {
        while let Some(first) = self.held.first_entry() {
            if !writes.is_durable(*first.key()) {
                break;
            }
            for held in first.remove() {
                self.on_durable(cx, writes, held);
            }
        }
    }

    fn on_durable(&mut self, cx: &mut Cx<'_>, writes: &mut Writes, held: Held) {
        match held {
            Held::Send { to, message } => self.facts.push(Fact::Send { to, message }),
            // A campaign that ended while the disk worked asks for nothing.
            Held::Ask { to, message } if self.still_asks(&message) => self.facts.push(Fact::Ask { to, message }),
            Held::Ask { .. } => {}
            Held::OwnVote { term } => self.on_own_vote(cx, writes, term),
            Held::OwnAck { accepted } => self.on_own_ack(cx, writes, accepted),
            Held::Committed { position, document } => {
                self.holds = Some(position);
                self.facts.push(Fact::Committed { position, document });
            }
        }
    }

    fn still_asks(&self, message: &Message) -> bool {
        match (&self.part, message) {
            (Part::Candidate(campaign), Message::ElectionRequest(request)) => {
                (campaign.term, campaign.pre) == (request.term, request.pre)
            }
            _ => false,
        }
    }

    /// A peer can be reached (again): a leader tells it at once what it may have missed.
    pub fn on_peer_up(&mut self, peer: &NodeId) {
        self.remind(|voter| voter.node == *peer);
    }

    /// Tells those that `wanted` names at once what they may have missed: a leader's heartbeat and proposal, or a
    /// candidate's question.
    pub fn remind(&mut self, wanted: impl Fn(&Voter) -> bool) {
        match &self.part {
            Part::Leader(leading) => {
                let to: Vec<NodeId> =
                    self.recipients(leading).into_iter().filter(&wanted).map(|voter| voter.node).collect();
                if !to.is_empty() {
                    let message = self.heartbeat(leading.round);
                    self.facts.push(Fact::Ask { to, message });
                    self.resend_proposal(wanted);
                }
            }
            Part::Candidate(campaign) if self.id == GroupId::Top => {
                let silent = |voter: &&Voter| **voter != self.me && !campaign.granted.contains(*voter) && wanted(voter);
                let to: Vec<NodeId> = self.electorate().iter().filter(silent).map(|v| v.node.clone()).collect();
                let message = self.election_request(campaign);
                if !to.is_empty() && self.is_own_vote_told(campaign) {
                    self.facts.push(Fact::Ask { to, message });
                }
            }
            Part::Candidate(_) | Part::Follower => {}
        }
    }

    /// H1: says whether this node may campaign. One that may not leads no longer, and asks for no votes.
    pub fn set_eligible(&mut self, cx: &mut Cx<'_>, eligible: bool) {
        if self.eligible == eligible {
            return;
        }
        self.eligible = eligible;
        self.become_follower(cx, StepDown::LostRegion);
        self.rearm_election(cx);
    }

    /// Gives up leadership and campaigns no more: the node leaves.
    pub fn leave(&mut self, cx: &mut Cx<'_>) {
        self.become_follower(cx, StepDown::Leaving);
        self.election_due = Mono::NEVER;
    }

    /// An election timeout at its longest: how long a leader goes on without a quorum or its disk (C8).
    fn patience(&self) -> Duration {
        self.params.election_timeout_max()
    }

    /// The newer of the accepted and the committed document.
    pub fn newest(&self) -> &Document {
        let index = |document: &Document| document.index_in(&self.id);
        self.committed.as_ref().filter(|committed| index(committed) > index(&self.accepted)).unwrap_or(&self.accepted)
    }

    /// Who votes in this group by a document that has a place in its ledger.
    pub fn voters_at(&self, document: &Document) -> Voters {
        self.voters_of(document)
    }

    /// A leader makes its next checkpoint as soon as it may.
    pub fn hasten(&mut self, cx: &Cx<'_>) {
        if let Part::Leader(leading) = &mut self.part {
            leading.checkpoint_due = cx.now.mono;
        }
    }

    fn voters_of(&self, document: &Document) -> Voters {
        document.voters_in(&self.id).expect("a group holds only documents that have a place in its ledger")
    }

    /// Asks as soon as `write` is durable.
    fn ask_after(&mut self, writes: &Writes, write: PersistSeq, to: Vec<NodeId>, message: Message) {
        if to.is_empty() {
            return;
        }
        if writes.is_durable(write) {
            self.facts.push(Fact::Ask { to, message });
        } else {
            self.held.entry(write).or_default().push(Held::Ask { to, message });
        }
    }

    /// Sends as soon as `write` is durable.
    fn send_after(&mut self, writes: &Writes, write: PersistSeq, to: NodeId, message: Message) {
        if writes.is_durable(write) {
            self.facts.push(Fact::Send { to, message });
        } else {
            self.held.entry(write).or_default().push(Held::Send { to, message });
        }
    }

    /// Does `held` as soon as `write` is durable.
    fn after(&mut self, cx: &mut Cx<'_>, writes: &mut Writes, write: PersistSeq, held: Held) {
        if writes.is_durable(write) {
            self.on_durable(cx, writes, held);
        } else {
            self.held.entry(write).or_default().push(held);
        }
    }

    /// Writes the hard state, always as one, behind whatever else the batch holds.
    fn write_hard(&mut self, cx: &mut Cx<'_>, writes: &mut Writes, mut records: Vec<Record>) -> PersistSeq {
        records.push(Record::Hard(self.id.clone(), self.hard.clone()));
        writes.write(cx, records)
    }

    /// C1: moves to a higher term as a follower. Moving is never a vote.
    fn move_to_term(&mut self, cx: &mut Cx<'_>, writes: &mut Writes, term: Term) {
        assert!(term > self.hard.term, "a term never falls");
        self.become_follower(cx, StepDown::HigherTerm);
        self.hard.term = term;
        self.hard.voted_for = None;
        self.leader = None;
        self.term_write = self.write_hard(cx, writes, Vec::new());
    }

    fn become_follower(&mut self, cx: &mut Cx<'_>, why: StepDown) {
        // What it was about to ask as leader or candidate it asks no more; only who is taken out still tells of the
        // commit that did it.
        if why != StepDown::Removed && !matches!(self.part, Part::Follower) {
            self.facts.retain(|fact| !matches!(fact, Fact::Ask { .. }));
        }
        match std::mem::replace(&mut self.part, Part::Follower) {
            Part::Follower => {}
            Part::Candidate(_) => self.rearm_election(cx),
            Part::Leader(leading) => {
                let failed = leading.reads.iter().map(|read| Fact::ReadFailed { request: read.request });
                self.facts.extend(failed);
                self.facts.push(Fact::LeadershipChanged);
                self.leader = None;
                cx.notice(Notice::SteppedDown { group: self.id.clone(), term: self.hard.term, why });
                self.rearm_election(cx);
            }
        }
    }

    fn rearm_election(&mut self, cx: &mut Cx<'_>) {
        let (least, most) = (self.params.election_timeout, self.params.election_timeout_max());
        self.election_due = cx.now.mono + cx.rng.between(least, most);
    }
}
