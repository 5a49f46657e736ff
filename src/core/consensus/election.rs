//! Elections: pre-votes, votes, and what a leader's heartbeats do to those who hear them (C1, C2, C3, C8).

use std::collections::{BTreeMap, BTreeSet};

use crate::core::consensus::{Campaign, Fact, Group, Heard, Held, Holdings, Leading, Part};
use crate::core::cx::Cx;
use crate::core::hard_state::Position;
use crate::core::id::{GroupId, Hash, NodeId, Round, Term, Voter};
use crate::core::ledger::document::Document;
use crate::core::message::Message;
use crate::core::message::agreement::{Content, ElectionRequest, ElectionVote, Heartbeat, HeartbeatAck, Refusal};
use crate::core::notice::{Notice, StepDown};
use crate::core::time::Mono;
use crate::core::voters::Voters;
use crate::core::writes::Writes;

/// Whoever has granted a pre-vote waits for this part of its shortest election timeout: longer than a round trip, which
/// is at most a tenth, and much shorter than the time until the same candidate asks again.
const MAKE_WAY: u32 = 6;

impl Group {
    /// The leader is silent: ask, without binding anybody, whether a campaign would succeed (C8).
    pub(super) fn on_election_timeout(&mut self, cx: &mut Cx<'_>, writes: &mut Writes) {
        self.rearm_election(cx);
        // A node whose disk hangs could not even vote for itself; an observer decides nothing. At the top a region's
        // leader may be too new to vote, and must be able to lead all the same: its peers may be as new.
        let may = self.eligible && (self.is_voter() || self.id == GroupId::Top);
        if !may || writes.oldest_wait(cx.now.mono) >= self.params.election_timeout {
            self.part = Part::Follower;
            return;
        }
        let term = self.hard.term.next();
        self.note_campaign(cx, term, true);
        self.campaign(cx, writes, Campaign { term, pre: true, granted: BTreeSet::from([self.me.clone()]) });
    }

    /// The pre-vote succeeded: the next term begins with our own durable vote.
    fn campaign_in_earnest(&mut self, cx: &mut Cx<'_>, writes: &mut Writes) {
        self.hard.term = self.hard.term.next();
        self.hard.voted_for = Some(self.me.clone());
        self.leader = None;
        let term = self.hard.term;
        self.note_campaign(cx, term, false);
        self.rearm_election(cx);
        self.term_write = self.write_hard(cx, writes, Vec::new());
        self.campaign(cx, writes, Campaign { term, pre: false, granted: BTreeSet::new() });
        self.after(cx, writes, self.term_write, Held::OwnVote { term });
    }

    fn campaign(&mut self, cx: &mut Cx<'_>, writes: &mut Writes, campaign: Campaign) {
        let request = self.election_request(&campaign);
        self.part = Part::Candidate(campaign);
        let electorate = self.electorate();
        let others = electorate.iter().filter(|voter| **voter != self.me).map(|voter| voter.node.clone());
        self.ask_after(writes, self.term_write, others.collect(), request);
        self.count_votes(cx, writes);
    }

    pub(super) fn election_request(&self, campaign: &Campaign) -> Message {
        Message::ElectionRequest(ElectionRequest {
            group: self.id.clone(),
            term: campaign.term,
            candidate: self.me.clone(),
            accepted: self.hard.accepted,
            pre: campaign.pre,
        })
    }

    /// Whether the question of this campaign may be said again: in a binding one, not before the own vote is durable.
    pub(super) fn is_own_vote_told(&self, campaign: &Campaign) -> bool {
        campaign.pre || campaign.granted.contains(&self.me)
    }

    /// Who decides a campaign: the voters of the document this candidate has accepted (C3, C7).
    pub(super) fn electorate(&self) -> Voters {
        self.voters_of(&self.accepted)
    }

    pub(super) fn on_own_vote(&mut self, cx: &mut Cx<'_>, writes: &mut Writes, term: Term) {
        let me = self.me.clone();
        if let Part::Candidate(campaign) = &mut self.part
            && campaign.term == term
            && !campaign.pre
        {
            campaign.granted.insert(me);
            self.count_votes(cx, writes);
        }
    }

    fn count_votes(&mut self, cx: &mut Cx<'_>, writes: &mut Writes) {
        let Part::Candidate(campaign) = &self.part else { return };
        if !self.electorate().is_quorum(|voter| campaign.granted.contains(voter)) {
            return;
        }
        if campaign.pre {
            self.campaign_in_earnest(cx, writes);
        } else {
            self.become_leader(cx, writes);
        }
    }

    fn become_leader(&mut self, cx: &mut Cx<'_>, writes: &mut Writes) {
        let now = cx.now.mono;
        self.leader = Some(self.me.node.clone());
        self.part = Part::Leader(Box::new(Leading {
            acks: BTreeSet::new(),
            settled: false,
            current: false,
            round: Round(0),
            heartbeat_due: now,
            resend_due: now,
            checkpoint_due: now,
            heard: BTreeMap::new(),
            since: now,
            reads: Vec::new(),
            learners: BTreeSet::new(),
            change: None,
            next: None,
        }));
        self.raise_to = None;
        self.bodyless = None;
        cx.notice(Notice::BecameLeader { group: self.id.clone(), term: self.hard.term });
        self.facts.push(Fact::LeadershipChanged);
        self.beat(cx);
        self.repropose(cx, writes);
    }

    /// Answers a candidate.
    pub fn on_election_request(&mut self, cx: &mut Cx<'_>, writes: &mut Writes, request: &ElectionRequest) {
        let refusal = if request.pre {
            self.refuse_pre_vote(cx.now.mono, request)
        } else {
            if request.term > self.hard.term {
                self.move_to_term(cx, writes, request.term);
            }
            self.refuse_vote(request)
        };
        if refusal.is_none() && !request.pre && self.hard.voted_for.is_none() {
            // C2: the vote is one write with its term, and durable before the reply.
            self.hard.voted_for = Some(request.candidate.clone());
            self.term_write = self.write_hard(cx, writes, Vec::new());
            self.rearm_election(cx);
            let (group, term) = (self.id.clone(), self.hard.term);
            cx.notice(Notice::Voted { group, term, candidate: request.candidate.clone() });
        }
        if let Some(reason) = refusal {
            let (group, term) = (self.id.clone(), request.term);
            cx.notice(Notice::VoteRefused { group, term, candidate: request.candidate.node.clone(), reason });
        }
        if request.pre && refusal.is_none() {
            self.make_way(cx, request);
        }
        let answer = Message::ElectionVote(ElectionVote {
            group: self.id.clone(),
            term: if refusal.is_none() { request.term } else { self.hard.term },
            voter: self.me.clone(),
            pre: request.pre,
            granted: refusal.is_none(),
            reason: refusal,
            accepted: self.hard.accepted,
        });
        self.send_after(writes, self.term_write, request.candidate.node.clone(), answer);
    }

    /// Somebody else's campaign may succeed, and ours at the same time would split the votes: between regions, where a
    /// round trip is long, that happens often, and costs another election timeout. So of two that ask at once the
    /// lesser gives up, and whoever is not asking yet lets the other's votes come in first.
    fn make_way(&mut self, cx: &mut Cx<'_>, request: &ElectionRequest) {
        let now = cx.now.mono;
        match &self.part {
            Part::Candidate(campaign) if campaign.pre => {
                let ours = (self.hard.accepted.pair(), &self.me);
                if (request.accepted.pair(), &request.candidate) > ours {
                    self.part = Part::Follower;
                    self.rearm_election(cx);
                }
            }
            Part::Follower => {
                self.election_due = self.election_due.max(now + self.params.election_timeout / MAKE_WAY);
            }
            Part::Candidate(_) | Part::Leader(_) => {}
        }
    }

    fn refuse_pre_vote(&self, now: Mono, request: &ElectionRequest) -> Option<Refusal> {
        let hears = self.leader.is_some() && now.since(self.heard_leader) < self.params.election_timeout;
        if self.is_leader() || hears {
            return Some(Refusal::HearsLeader);
        }
        let free = self.hard.voted_for.as_ref().is_none_or(|voted| *voted == request.candidate);
        let votable = request.term > self.hard.term || (request.term == self.hard.term && free);
        if votable { self.refuse_behind(request) } else { Some(Refusal::StaleTerm) }
    }

    fn refuse_vote(&self, request: &ElectionRequest) -> Option<Refusal> {
        if request.term < self.hard.term {
            return Some(Refusal::StaleTerm);
        }
        if self.hard.voted_for.as_ref().is_some_and(|voted| *voted != request.candidate) {
            return Some(Refusal::VotedOther);
        }
        self.refuse_behind(request)
    }

    /// C3: only a candidate whose accepted pair is at least ours gets our vote.
    fn refuse_behind(&self, request: &ElectionRequest) -> Option<Refusal> {
        (request.accepted.pair() < self.hard.accepted.pair()).then_some(Refusal::Behind)
    }

    /// Counts an answer to our campaign.
    pub fn on_election_vote(
        &mut self,
        cx: &mut Cx<'_>,
        writes: &mut Writes,
        holdings: &mut impl Holdings,
        vote: &ElectionVote,
    ) {
        // C1: a pre-vote grant carries a term that nobody has entered; every other answer moves us to its term.
        if vote.term > self.hard.term && !(vote.pre && vote.granted) {
            self.move_to_term(cx, writes, vote.term);
        }
        if let Part::Candidate(campaign) = &mut self.part
            && vote.granted
            && vote.pre == campaign.pre
            && vote.term == campaign.term
        {
            campaign.granted.insert(vote.voter.clone());
            return self.count_votes(cx, writes);
        }
        // C3, second half: a candidate refused for being behind fetches what the refuser has accepted.
        let target = self.raise_to.map_or(self.hard.accepted.pair(), |target| target.pair());
        if vote.reason == Some(Refusal::Behind) && vote.accepted.pair() > target.max(self.hard.accepted.pair()) {
            self.raise_to = Some(vote.accepted);
            self.try_raise(cx, writes, holdings, &vote.voter.node);
        }
    }

    /// Raises the accepted pair as soon as document and body are here. Nobody is told: an acknowledgement
    /// would count for a ballot in which this node never heard the proposal.
    pub(super) fn try_raise(
        &mut self,
        cx: &mut Cx<'_>,
        writes: &mut Writes,
        holdings: &mut impl Holdings,
        from: &NodeId,
    ) {
        let Some(target) = self.raise_to else { return };
        if self.is_leader() || target.pair() <= self.hard.accepted.pair() {
            self.raise_to = None;
            return;
        }
        let Some(document) = self.complete(holdings, target.hash, from) else { return };
        self.raise_to = None;
        if document.index_in(&self.id) != Some(target.index) {
            return;
        }
        self.take_accepted(cx, writes, holdings, target, document);
        let position = Position { index: target.index, hash: target.hash };
        cx.notice(Notice::Raised { group: self.id.clone(), ballot: target.ballot, position });
        // Campaign again at once, counting by that document's voters.
        if self.leader.is_none() {
            self.on_election_timeout(cx, writes);
        }
    }

    /// The document with its body at hand, or `None` after asking for what is missing.
    pub(super) fn complete(&mut self, holdings: &impl Holdings, hash: Hash, from: &NodeId) -> Option<Document> {
        let missing = match holdings.document(&hash) {
            None => (Content::Document, hash),
            Some(document) => match document.header().body {
                Some(body) if !holdings.has_body(&body) => (Content::Body, body),
                _ => return Some(document),
            },
        };
        let (content, hash) = missing;
        self.facts.push(Fact::Fetch { content, hash, from: from.clone() });
        None
    }

    /// Hears a leader: follows it, and learns what is committed.
    pub fn on_heartbeat(
        &mut self,
        cx: &mut Cx<'_>,
        writes: &mut Writes,
        holdings: &mut impl Holdings,
        heartbeat: &Heartbeat,
    ) {
        if heartbeat.term >= self.hard.term {
            if !self.follow(cx, writes, heartbeat.term, &heartbeat.leader) {
                return;
            }
            if let Some(position) = heartbeat.committed {
                self.learn(cx, writes, holdings, position, &heartbeat.leader);
            }
        }
        let ack = Message::HeartbeatAck(HeartbeatAck {
            group: self.id.clone(),
            term: self.hard.term,
            round: heartbeat.round,
            voter: self.me.clone(),
            holds: self.holds,
        });
        self.send_after(writes, self.term_write, heartbeat.leader.clone(), ack);
    }

    /// Follows the leader of `term`, at least the present one; false if that makes no sense.
    pub(super) fn follow(&mut self, cx: &mut Cx<'_>, writes: &mut Writes, term: Term, leader: &NodeId) -> bool {
        if term > self.hard.term {
            self.move_to_term(cx, writes, term);
        }
        if self.is_leader() || *leader == self.me.node {
            return false;
        }
        self.part = Part::Follower;
        if self.leader.as_ref() != Some(leader) {
            self.leader = Some(leader.clone());
            let (group, leader) = (self.id.clone(), self.leader.clone());
            cx.notice(Notice::BecameFollower { group, term, leader });
        }
        self.heard_leader = cx.now.mono;
        self.rearm_election(cx);
        true
    }

    /// Counts an answer to a heartbeat.
    pub fn on_heartbeat_ack(&mut self, cx: &mut Cx<'_>, writes: &mut Writes, ack: &HeartbeatAck) {
        if ack.term > self.hard.term {
            return self.move_to_term(cx, writes, ack.term);
        }
        let Part::Leader(leading) = &mut self.part else { return };
        if ack.term != self.hard.term || ack.round > leading.round {
            return;
        }
        let first = Heard { round: ack.round, at: cx.now.mono, holds: ack.holds };
        let heard = leading.heard.entry(ack.voter.clone()).or_insert(first);
        heard.round = heard.round.max(ack.round);
        heard.holds = heard.holds.max(ack.holds);
        heard.at = cx.now.mono;
        self.answer_reads();
    }

    /// A leader's turn: its duties, or the end of its leadership (C8).
    pub(super) fn lead_on(&mut self, cx: &mut Cx<'_>, writes: &mut Writes) {
        let now = cx.now.mono;
        if writes.oldest_wait(now) >= self.patience() {
            return self.become_follower(cx, StepDown::SlowDisk);
        }
        if !self.hears_quorum(now) {
            return self.become_follower(cx, StepDown::NoQuorum);
        }
        let (checkpoint_interval, resend_interval) = (self.params.checkpoint_interval, self.params.election_timeout);
        let Part::Leader(leading) = &mut self.part else { return };
        if leading.settled && leading.checkpoint_due <= now {
            leading.checkpoint_due = now + checkpoint_interval;
            self.facts.push(Fact::WantCheckpoint);
        } else if !leading.settled && leading.resend_due <= now {
            leading.resend_due = now + resend_interval;
            self.resend_proposal(|_| true);
        }
        if matches!(&self.part, Part::Leader(leading) if leading.heartbeat_due <= now) {
            self.beat(cx);
        }
    }

    /// True if a quorum answered within an election timeout, or the term is too young to tell.
    fn hears_quorum(&self, now: Mono) -> bool {
        let Part::Leader(leading) = &self.part else { return false };
        let last = |voter: &Voter| leading.heard.get(voter).map_or(leading.since, |heard| heard.at);
        let fresh = |voter: &Voter| *voter == self.me || now.since(last(voter)) < self.patience();
        self.in_force().iter().all(|voters| voters.is_quorum(fresh))
    }

    /// Begins a heartbeat round.
    pub(super) fn beat(&mut self, cx: &mut Cx<'_>) {
        let due = cx.now.mono + self.params.heartbeat_interval;
        let Part::Leader(leading) = &mut self.part else { return };
        leading.round = leading.round.next();
        leading.heartbeat_due = due;
        let round = leading.round;
        self.send_heartbeats(round);
    }

    /// Says the present round again, with what is committed by now.
    pub(super) fn send_heartbeats(&mut self, round: Round) {
        let Part::Leader(leading) = &self.part else { return };
        let message = self.heartbeat(round);
        let to: Vec<NodeId> = self.recipients(leading).into_iter().map(|voter| voter.node).collect();
        if !to.is_empty() {
            self.facts.push(Fact::Ask { to, message });
        }
    }

    pub(super) fn heartbeat(&self, round: Round) -> Message {
        Message::Heartbeat(Heartbeat {
            group: self.id.clone(),
            term: self.hard.term,
            leader: self.me.node.clone(),
            round,
            committed: self.hard.committed,
        })
    }

    /// Configurations whose quorums matter to a leader: the accepted document's, and as long as another is
    /// committed, that one's too.
    pub(super) fn in_force(&self) -> Vec<Voters> {
        let accepted = self.voters_of(&self.accepted);
        let committed = self.committed.as_ref().map(|document| self.voters_of(document));
        committed.into_iter().filter(|voters| *voters != accepted).chain([accepted.clone()]).collect()
    }

    /// Everyone a leader talks to: voters of both configurations, and those about to become voters.
    pub(super) fn recipients(&self, leading: &Leading) -> BTreeSet<Voter> {
        let voters = self.in_force();
        let all = voters.iter().flat_map(Voters::iter).chain(&leading.learners);
        all.filter(|voter| **voter != self.me).cloned().collect()
    }

    fn note_campaign(&self, cx: &mut Cx<'_>, term: Term, pre: bool) {
        cx.notice(Notice::Campaign {
            group: self.id.clone(),
            term,
            leader: self.leader.clone(),
            silent_for: cx.now.mono.since(self.heard_leader),
            pre,
        });
    }
}
