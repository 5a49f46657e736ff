//! Checkpoints: proposing, accepting, counting acknowledgements, and learning what is committed (C4 to C6, C9).

use std::collections::{BTreeMap, BTreeSet};

use crate::core::consensus::{Fact, Group, Held, Holdings, Part};
use crate::core::cx::Cx;
use crate::core::fusion::document::Fused;
use crate::core::hard_state::{Accepted, Position, Record};
use crate::core::hlc::Stamp;
use crate::core::id::{GroupId, Hash, Index, NodeId, RegionId, Voter};
use crate::core::ledger::document::{Counts, Document, Header, RegionCheckpoint, TopOrigin};
use crate::core::message::Message;
use crate::core::message::agreement::{CheckpointAck, CheckpointPropose, Refusal};
use crate::core::notice::{Notice, StepDown};
use crate::core::writes::Writes;

/// What a leader's node puts into the next checkpoint.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was taken, above the stamp of the document before.
    pub taken_at: Stamp,
    /// How much it covers.
    pub counts: Counts,
    /// What it names.
    pub contents: Contents,
}

/// What a document names, by the kind of its group.
#[derive(Clone, Debug, PartialEq)]
pub enum Contents {
    /// A region's: the body, which the node's holdings already have, and estimates of the readings in it. With
    /// `founds_top`, the document is the first of a top level that the flat cluster grows.
    Readings { body: Hash, fused: Option<Box<Fused>>, founds_top: bool },
    /// The top's: the newest known committed checkpoint of every region that has one, and estimates across regions,
    /// merged from what their leaders say of those.
    Regions { regions: BTreeMap<RegionId, RegionCheckpoint>, fused: Option<Box<Fused>> },
}

impl Group {
    /// C5: a new leader first proposes again, unchanged and under its own term, what it has accepted.
    pub(super) fn repropose(&mut self, cx: &mut Cx<'_>, writes: &mut Writes) {
        self.hard.accepted.ballot = self.hard.term;
        self.accepted_write = self.write_hard(cx, writes, Vec::new());
        self.send_proposal(cx, writes);
    }

    /// The node's answer to [`Fact::WantCheckpoint`], which may come later: proposes the document after the accepted one. The
    /// snapshot was made to follow that, and no other; the caller looks.
    ///
    /// Does nothing unless this node leads and its last proposal is committed in its own term.
    pub fn propose(&mut self, cx: &mut Cx<'_>, writes: &mut Writes, holdings: &mut impl Holdings, snapshot: Snapshot) {
        let Part::Leader(leading) = &mut self.part else { return };
        if !leading.settled {
            return;
        }
        let (change, next) = (leading.change.take(), leading.next.take());
        let (body, fused, regions, top) = match snapshot.contents {
            Contents::Readings { body, fused, founds_top } => {
                (Some(body), fused, BTreeMap::new(), self.top_origin(founds_top))
            }
            Contents::Regions { regions, fused } => (None, fused, regions, None),
        };
        let voters = next.unwrap_or_else(|| self.next_voters(cx, change));
        assert!(self.voters_of(&self.accepted).may_become(&voters), "neighbouring configurations intersect");
        let document = Document::seal(Header {
            group: self.id.clone(),
            index: self.hard.accepted.index.next(),
            parent: Some(self.accepted.hash()),
            taken_at: snapshot.taken_at,
            proposer: self.me.node.clone(),
            voters,
            counts: snapshot.counts,
            body,
            fused,
            regions,
            top,
            genesis: None,
        });
        let accepted = Accepted { ballot: self.hard.term, index: document.header().index, hash: document.hash() };
        self.take_accepted(cx, writes, holdings, accepted, document);
        self.send_proposal(cx, writes);
    }

    /// Where the top began, if a flat cluster grew it: said on in every later document of the region.
    fn top_origin(&self, founds: bool) -> Option<TopOrigin> {
        match self.accepted.header().top {
            Some(TopOrigin::Here) => Some(TopOrigin::At(self.accepted.hash())),
            None if founds => Some(TopOrigin::Here),
            known => known,
        }
    }

    /// Makes `document` the accepted one: pair, document and body in one write (C4, C7).
    pub(super) fn take_accepted(
        &mut self,
        cx: &mut Cx<'_>,
        writes: &mut Writes,
        holdings: &mut impl Holdings,
        accepted: Accepted,
        document: Document,
    ) {
        assert!(accepted.pair() >= self.hard.accepted.pair(), "the accepted pair never falls");
        let records = holdings.adopt(&document);
        self.hard.accepted = accepted;
        self.accepted = document;
        self.accepted_write = self.write_hard(cx, writes, records);
    }

    fn send_proposal(&mut self, cx: &mut Cx<'_>, writes: &mut Writes) {
        let accepted = self.hard.accepted;
        let resend_due = cx.now.mono + self.params.election_timeout;
        let Part::Leader(leading) = &mut self.part else { return };
        leading.acks = BTreeSet::new();
        leading.settled = false;
        leading.resend_due = resend_due;
        let (group, term) = (self.id.clone(), self.hard.term);
        cx.notice(Notice::Proposed { group, term, position: position_of(accepted) });
        self.resend_proposal(|_| true);
        self.after(cx, writes, self.accepted_write, Held::OwnAck { accepted });
    }

    /// Sends the outstanding proposal to those of its voters that have not acknowledged it.
    pub(super) fn resend_proposal(&mut self, wanted: impl Fn(&Voter) -> bool) {
        let Part::Leader(leading) = &self.part else { return };
        if leading.settled {
            return;
        }
        let message = Message::CheckpointPropose(CheckpointPropose {
            group: self.id.clone(),
            term: self.hard.term,
            leader: self.me.node.clone(),
            index: self.hard.accepted.index,
            parent: self.accepted.header().parent,
            hash: self.accepted.hash(),
            document: self.accepted.shared_bytes().into(),
            difference: Vec::new(),
        });
        let voters = self.voters_of(&self.accepted);
        let missing = voters.iter().filter(|v| **v != self.me && !leading.acks.contains(*v) && wanted(v));
        let to: Vec<NodeId> = missing.map(|voter| voter.node.clone()).collect();
        if !to.is_empty() {
            self.facts.push(Fact::Ask { to, message });
        }
    }

    pub(super) fn on_own_ack(&mut self, cx: &mut Cx<'_>, writes: &mut Writes, accepted: Accepted) {
        if accepted == self.hard.accepted && accepted.ballot == self.hard.term {
            let me = self.me.clone();
            self.count_ack(cx, writes, me);
        }
    }

    /// Answers a leader's proposal.
    pub fn on_checkpoint_propose(
        &mut self,
        cx: &mut Cx<'_>,
        writes: &mut Writes,
        holdings: &mut impl Holdings,
        propose: &CheckpointPropose,
    ) {
        if propose.term < self.hard.term {
            return self.refuse_proposal(writes, propose, Refusal::StaleTerm);
        }
        if !self.follow(cx, writes, propose.term, &propose.leader) {
            return;
        }
        let document = match self.examine(propose) {
            Ok(document) => document,
            Err(refusal) => return self.refuse_proposal(writes, propose, refusal),
        };
        let accepted = Accepted { ballot: propose.term, index: propose.index, hash: propose.hash };
        if accepted != self.hard.accepted {
            if let Some(body) = document.header().body.filter(|body| !holdings.has_body(body)) {
                self.bodyless = Some(propose.clone());
                let content = crate::core::message::agreement::Content::Body;
                self.facts.push(Fact::Fetch { content, hash: body, from: propose.leader.clone() });
                return;
            }
            self.take_accepted(cx, writes, holdings, accepted, document);
            let (group, term) = (self.id.clone(), propose.term);
            cx.notice(Notice::Accepted { group, term, position: position_of(accepted) });
        }
        self.bodyless = None;
        let ack = self.answer(propose, None);
        self.send_after(writes, self.accepted_write, propose.leader.clone(), ack);
    }

    /// C4, and whether the proposal holds together at all.
    fn examine(&self, propose: &CheckpointPropose) -> Result<Document, Refusal> {
        let ours = self.hard.accepted;
        if (propose.term, propose.index) < ours.pair() {
            return Err(Refusal::Behind);
        }
        let document = if propose.hash == self.accepted.hash() {
            self.accepted.clone()
        } else {
            Document::parse_as(&propose.document, propose.hash).map_err(|_| Refusal::Malformed)?
        };
        let other = (propose.term, propose.index) == ours.pair() && propose.hash != ours.hash;
        let misplaced = document.index_in(&self.id) != Some(propose.index);
        // C9: what is committed at an index stays there.
        let forked = self.hard.committed.is_some_and(|position| {
            propose.index < position.index || (propose.index == position.index && propose.hash != position.hash)
        });
        // C7: where we know the parent, we know what voters may follow.
        let parent = document.header().parent == Some(ours.hash) && propose.hash != ours.hash;
        let leaps = parent
            && document.voters_in(&self.id).is_none_or(|voters| !self.voters_of(&self.accepted).may_become(&voters));
        // H4: and what regions it must not fall behind.
        let falls = parent && self.id == GroupId::Top && falls(&self.accepted, &document);
        if other || misplaced || forked || leaps || falls { Err(Refusal::Malformed) } else { Ok(document) }
    }

    fn refuse_proposal(&mut self, writes: &Writes, propose: &CheckpointPropose, refusal: Refusal) {
        let ack = self.answer(propose, Some(refusal));
        self.send_after(writes, self.term_write, propose.leader.clone(), ack);
    }

    fn answer(&self, propose: &CheckpointPropose, refusal: Option<Refusal>) -> Message {
        Message::CheckpointAck(CheckpointAck {
            group: self.id.clone(),
            term: self.hard.term,
            index: propose.index,
            hash: propose.hash,
            voter: self.me.clone(),
            accepted: refusal.is_none(),
            reason: refusal,
        })
    }

    /// Counts an answer to our proposal. C6: only those of our own term, for this very document, by its voters.
    pub fn on_checkpoint_ack(&mut self, cx: &mut Cx<'_>, writes: &mut Writes, ack: &CheckpointAck) {
        if ack.term > self.hard.term {
            return self.move_to_term(cx, writes, ack.term);
        }
        let ours = self.hard.accepted;
        if ack.accepted && ack.term == self.hard.term && ack.index == ours.index && ack.hash == ours.hash {
            self.count_ack(cx, writes, ack.voter.clone());
        }
    }

    fn count_ack(&mut self, cx: &mut Cx<'_>, writes: &mut Writes, voter: Voter) {
        // A later leader has gone on from here, and we have heard of what it committed before we have heard of it.
        if self.hard.committed.is_some_and(|committed| committed.index > self.hard.accepted.index) {
            return;
        }
        let voters = self.voters_of(&self.accepted);
        let Part::Leader(leading) = &mut self.part else { return };
        leading.acks.insert(voter.clone());
        let acked = |voter: &Voter| leading.acks.contains(voter);
        if leading.settled || !voters.counts_region_of(&voter, acked) || !voters.is_quorum(acked) {
            return;
        }
        leading.settled = true;
        leading.current = true;
        let round = leading.round;
        self.commit(cx, writes, position_of(self.hard.accepted), self.accepted.clone(), Vec::new());
        self.send_heartbeats(round);
        self.start_reads(cx);
        // C7: a leader that no longer votes has done its last duty. At the top that is for its region to say.
        if !voters.contains(&self.me) && self.id != GroupId::Top {
            self.become_follower(cx, StepDown::Removed);
        }
    }

    /// Takes note that a document is committed; the node is told once this is durable.
    fn commit(
        &mut self,
        cx: &mut Cx<'_>,
        writes: &mut Writes,
        position: Position,
        document: Document,
        mut records: Vec<Record>,
    ) {
        if self.hard.committed == Some(position) {
            return;
        }
        let index = self.hard.committed.map(|committed| committed.index);
        assert!(index.is_none_or(|index| index < position.index), "a committed index keeps its hash for ever");
        self.hard.committed = Some(position);
        self.committed = Some(document.clone());
        let (group, term) = (self.id.clone(), self.hard.term);
        cx.notice(Notice::Committed { group: group.clone(), term, position });
        records.push(Record::Committed(group, position));
        let write = self.write_hard(cx, writes, records);
        self.after(cx, writes, write, Held::Committed { position, document });
    }

    /// Hears that a document is committed, from a leader or from the replicated state.
    pub fn learn(
        &mut self,
        cx: &mut Cx<'_>,
        writes: &mut Writes,
        holdings: &mut impl Holdings,
        position: Position,
        from: &NodeId,
    ) {
        let known = self.hard.committed.map(|committed| committed.index);
        let awaited = self.learning.map(|learning| learning.index);
        if known >= Some(position.index) || awaited > Some(position.index) {
            return;
        }
        if position == position_of(self.hard.accepted) {
            let document = self.accepted.clone();
            return self.commit(cx, writes, position, document, Vec::new());
        }
        self.learning = Some(position);
        self.try_learn(cx, writes, holdings, from);
    }

    fn try_learn(&mut self, cx: &mut Cx<'_>, writes: &mut Writes, holdings: &mut impl Holdings, from: &NodeId) {
        let Some(position) = self.learning else { return };
        if self.hard.committed.is_some_and(|committed| committed.index >= position.index) {
            self.learning = None;
            return;
        }
        let Some(document) = self.complete(holdings, position.hash, from) else { return };
        self.learning = None;
        if document.index_in(&self.id) == Some(position.index) {
            // The accepted pair stays: we do not know the ballot, and a guess could outrank a committed document.
            let records = holdings.adopt(&document);
            self.commit(cx, writes, position, document, records);
        }
    }

    /// A document or body that was asked for is at hand.
    pub fn on_content(&mut self, cx: &mut Cx<'_>, writes: &mut Writes, holdings: &mut impl Holdings, from: &NodeId) {
        if let Some(propose) = self.bodyless.take()
            && propose.term == self.hard.term
        {
            self.on_checkpoint_propose(cx, writes, holdings, &propose);
        }
        self.try_raise(cx, writes, holdings, from);
        self.try_learn(cx, writes, holdings, from);
    }

    /// Where the next checkpoint will stand, if this node leads.
    pub fn next_index(&self) -> Index {
        self.hard.accepted.index.next()
    }
}

/// True if a region of `before` stands at a lower index in `after`, or not at all.
fn falls(before: &Document, after: &Document) -> bool {
    let after = &after.header().regions;
    before.header().regions.iter().any(|(region, at)| after.get(region).is_none_or(|now| now.index < at.index))
}

fn position_of(accepted: Accepted) -> Position {
    Position { index: accepted.index, hash: accepted.hash }
}
