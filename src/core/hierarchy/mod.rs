//! The top level: voters of all regions agree on global checkpoints, through region leaders that relay.
//!
//! The group is the very one that regions have (see [`Group`]); here is what spans regions: who may campaign, which
//! way a question takes and its answer back, and what is known of the regions. Nothing here is an acceptor: a stale,
//! dead or replaced relay delays an answer and never changes one.
//!
//! Invariant: whatever is fed to the group was said by the voter, leader or candidate that it names.
//!
//! Source: quorums of groups by their own majorities as in ZooKeeper's hierarchical quorums; the relay is ours.

mod regions;
mod relay;

pub use regions::{Claim, Regions, total};

use std::collections::BTreeMap;

use crate::core::consensus::{self, Group, Holdings};
use crate::core::cx::Cx;
use crate::core::hard_state::HardState;
use crate::core::id::{GroupId, NodeId, RegionId, Term, Voter};
use crate::core::ledger::document::Document;
use crate::core::message::Message;
use crate::core::message::relay::{Carried, Relay, RelayAnswer};
use crate::core::params::ConsensusParams;
use crate::core::time::Mono;
use crate::core::voters::Voters;
use crate::core::writes::Writes;

use relay::Relays;

/// What the top level wants of the node around it.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// Send this on the direct link to that node.
    Send { to: NodeId, message: Message },
    /// What the group wants, but for messages.
    Group(consensus::Fact),
}

/// Kinds of question: an answer goes back the way the newest question of its kind came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Question {
    Heartbeat,
    Election,
    Proposal,
    Content,
}

/// The way back to an asker.
#[derive(Clone, Debug)]
struct Return {
    /// The relay; ourselves if we are it.
    via: NodeId,
    seq: u64,
}

/// Whom to ask in another region, and how that goes.
#[derive(Clone, Debug, Default)]
struct Route {
    /// Questions since the region last answered.
    unanswered: u32,
}

/// Questions a relay may leave unanswered before another voter of its region is tried.
const UNANSWERED_MAX: u32 = 4;
/// Ways back that are remembered: askers are region leaders, and few of them ask at a time.
const RETURNS_MAX: usize = 256;

/// One node's part in the top level.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    me: Voter,
    region: RegionId,
    /// Our term in our region, as it is told with answers.
    region_term: Term,
    group: Group,
    relays: Relays,
    regions: Regions,
    routes: BTreeMap<RegionId, Route>,
    returns: BTreeMap<(NodeId, Question), Return>,
    seq: u64,
    facts: Vec<Fact>,
}

impl Hierarchy {
    /// Takes up the top group where its store left it; see [`Group::recover`].
    pub fn recover(
        cx: &mut Cx<'_>,
        me: Voter,
        region: RegionId,
        params: ConsensusParams,
        hard: HardState,
        accepted: Document,
        committed: Option<Document>,
    ) -> Self {
        let group = Group::recover(cx, GroupId::Top, me, params, hard, accepted, committed);
        Self::around(region, group)
    }

    /// A node's part with nothing on its way: what a relay knows of others' questions may be lost at any time.
    pub fn around(region: RegionId, group: Group) -> Self {
        Self {
            me: group.me().clone(),
            region,
            region_term: Term(0),
            group,
            relays: Relays::default(),
            regions: Regions::default(),
            routes: BTreeMap::new(),
            returns: BTreeMap::new(),
            seq: 0,
            facts: Vec::new(),
        }
    }

    /// The top group.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// The top group, to ask it for something.
    pub fn group_mut(&mut self) -> &mut Group {
        &mut self.group
    }

    /// What is known of the regions.
    pub fn regions(&self) -> &Regions {
        &self.regions
    }

    /// The same, to tell it something.
    pub fn regions_mut(&mut self) -> &mut Regions {
        &mut self.regions
    }

    /// Takes what is wanted since the last call, in order. `reaches` tells who has a direct link.
    pub fn take_facts(&mut self, reaches: &impl Fn(&NodeId) -> bool) -> Vec<Fact> {
        for fact in self.group.take_facts() {
            match fact {
                consensus::Fact::Send { to, message } => self.answer(to, message),
                consensus::Fact::Ask { to, message } => self.ask(&to, message, reaches),
                other => self.facts.push(Fact::Group(other)),
            }
        }
        std::mem::take(&mut self.facts)
    }

    /// H1: only the leader of a region that takes part campaigns, and one that leads no longer steps down.
    /// `region_term` is its term there. It need not vote at the top yet: then its own word does not count.
    pub fn set_leading(&mut self, cx: &mut Cx<'_>, leads: bool, region_term: Term) {
        self.region_term = region_term;
        let takes_part = || self.group.newest().header().voters.regions().contains_key(&self.region);
        let eligible = leads && takes_part();
        self.group.set_eligible(cx, eligible);
    }

    /// A region has another leader: whoever leads or campaigns at the top tells its voters again, through that one.
    pub fn on_region_leader(&mut self, region: &RegionId, term: Term, leader: &NodeId) {
        if !self.regions.claim(region, term, leader) || *region == self.region {
            return;
        }
        self.routes.remove(region);
        let voters = self.group.voters();
        let Some(there) = voters.regions().get(region) else { return };
        self.group.remind(|voter| there.contains(voter));
    }

    /// A peer can be reached (again): if it relays for a region that heard nothing, its voters are told at once.
    pub fn on_peer_up(&mut self, peer: &NodeId) {
        let Some(region) = self.home(peer) else { return };
        let voters = self.group.voters();
        let Some(there) = voters.regions().get(&region) else { return };
        let own = region == self.region;
        let relays = self.regions.leader(&region).is_none_or(|claim| claim.node == *peer);
        self.group.remind(|voter| if own { voter.node == *peer } else { relays && there.contains(voter) });
    }

    /// Questions that pass through this node, and ways back that it remembers.
    pub fn under_way(&self) -> usize {
        self.relays.len() + self.returns.len()
    }

    /// When the top level next wants attention.
    pub fn deadline(&self) -> Mono {
        self.group.deadline().min(self.relays.deadline())
    }

    /// Acts on whatever is due.
    pub fn on_deadline(&mut self, cx: &mut Cx<'_>, writes: &mut Writes) {
        if self.group.deadline() <= cx.now.mono {
            self.group.on_deadline(cx, writes);
        }
        self.pass_back_due(cx.now.mono);
    }

    /// Sends back what has been gathered where the wait for the rest of a region is over.
    pub fn pass_back_due(&mut self, now: Mono) {
        self.relays.on_deadline(now);
        self.pass_back();
    }

    /// Feeds the group what its sender, or a relay of its sender's words, has said.
    pub fn hear(&mut self, cx: &mut Cx<'_>, writes: &mut Writes, holdings: &mut impl Holdings, message: &Message) {
        let group = &mut self.group;
        match message {
            Message::Heartbeat(m) => group.on_heartbeat(cx, writes, holdings, m),
            Message::HeartbeatAck(m) => group.on_heartbeat_ack(cx, writes, m),
            Message::ElectionRequest(m) => group.on_election_request(cx, writes, m),
            Message::ElectionVote(m) => group.on_election_vote(cx, writes, holdings, m),
            Message::CheckpointPropose(m) => group.on_checkpoint_propose(cx, writes, holdings, m),
            Message::CheckpointAck(m) => group.on_checkpoint_ack(cx, writes, m),
            _ => {}
        }
    }

    /// A question came on the asker's own link: its answer goes back there.
    pub fn asked_directly(&mut self, asker: &NodeId, message: &Message) {
        if let Some((question, _)) = question(message) {
            self.returns.remove(&(asker.clone(), question));
        }
    }

    /// Takes a relayed question from the node at the other end of a link: passes it on, and gives back the question
    /// itself if it is for this node too; `None` as well if the question is not the asker's own.
    pub fn on_relay(
        &mut self,
        now: Mono,
        from: &Voter,
        relay: &Relay,
        reaches: &impl Fn(&NodeId) -> bool,
    ) -> Option<Message> {
        let (question, named) = question(&relay.message.0)?;
        let first_hand = from.node == relay.asker;
        let forged =
            named.is_some_and(|named| *named != relay.asker) || (first_hand && !is_own(from, &relay.message.0));
        if forged || relay.asker == self.me.node {
            return None;
        }
        let mine = relay.to.contains(&self.me.node);
        let via = if first_hand { &self.me.node } else { &from.node };
        if first_hand {
            let others = relay.to.iter().filter(|to| **to != self.me.node && reaches(to));
            let others: Vec<NodeId> = others.cloned().collect();
            for to in &others {
                let message = Message::Relay(Relay { to: vec![to.clone()], ..relay.clone() });
                self.facts.push(Fact::Send { to: to.clone(), message });
            }
            let waiting = others.into_iter().chain(mine.then(|| self.me.node.clone()));
            self.relays.pass(now, &relay.asker, relay.seq, waiting.collect());
        }
        if !mine {
            return None;
        }
        while self.returns.len() >= RETURNS_MAX {
            self.returns.pop_first();
        }
        self.returns.insert((relay.asker.clone(), question), Return { via: via.clone(), seq: relay.seq });
        Some((*relay.message.0).clone())
    }

    /// Takes answers from the node at the other end of a link: those to our own question are given back, others are
    /// gathered for their asker. A voter that answers a relay speaks for itself alone.
    pub fn on_relay_answer(&mut self, now: Mono, from: &Voter, answer: RelayAnswer) -> Vec<Message> {
        if answer.asker == self.me.node {
            self.routes.entry(answer.region).or_default().unanswered = 0;
            return answer.answers.into_iter().map(|carried| *carried.0).collect();
        }
        let own = answer.answers.into_iter().map(|carried| *carried.0).filter(|message| is_own(from, message));
        for message in own {
            self.relays.gather(now, &answer.asker, answer.seq, &from.node, message);
        }
        self.pass_back();
        Vec::new()
    }

    /// Sends a document or body, or asks for one, where no direct link leads; false if there is no way either.
    pub fn send_content(&mut self, to: &NodeId, message: Message, reaches: &impl Fn(&NodeId) -> bool) -> bool {
        match &message {
            Message::CheckpointFetch(_) => match self.home(to).filter(|region| *region != self.region) {
                Some(region) => self.ask_region(&region, vec![to.clone()], message, reaches),
                None => false,
            },
            Message::CheckpointBody(_) if self.returns.contains_key(&(to.clone(), Question::Content)) => {
                self.answer(to.clone(), message);
                true
            }
            _ => false,
        }
    }

    /// Asks voters: those of the own region directly, those of another through its leader.
    fn ask(&mut self, to: &[NodeId], message: Message, reaches: &impl Fn(&NodeId) -> bool) {
        let mut abroad: BTreeMap<RegionId, Vec<NodeId>> = BTreeMap::new();
        for node in to {
            match self.home(node).filter(|region| *region != self.region) {
                Some(region) => abroad.entry(region).or_default().push(node.clone()),
                None => self.facts.push(Fact::Send { to: node.clone(), message: message.clone() }),
            }
        }
        for (region, to) in abroad {
            self.ask_region(&region, to, message.clone(), reaches);
        }
    }

    fn ask_region(
        &mut self,
        region: &RegionId,
        to: Vec<NodeId>,
        message: Message,
        reaches: &impl Fn(&NodeId) -> bool,
    ) -> bool {
        let voters = self.group.voters();
        let route = self.routes.entry(region.clone()).or_default();
        let leader = self.regions.leader(region).map(|claim| &claim.node);
        // The leader while it answers; where none is known or it is silent, any voter of the region relays, be it asked
        // or not: one that has answered already may be the only one that is linked. So do those who vote in the region
        // and not at the top (yet): heartbeats go through them, and what a leader asks must reach those who keep it.
        let at_top = voters.regions().get(region).into_iter().flatten();
        let there = at_top.chain(self.regions.voters(region).into_iter().flatten()).map(|voter| &voter.node);
        let all = leader.into_iter().chain(&to).chain(there);
        let mut relays: Vec<&NodeId> = all.filter(|node| reaches(node)).collect();
        let mut seen = std::collections::BTreeSet::new();
        relays.retain(|node| seen.insert((*node).clone()));
        let turn = (route.unanswered / UNANSWERED_MAX) as usize;
        // Nobody is linked: whoever would relay is told to the node, which makes a link for the next question.
        let unlinked = leader.or(to.first());
        let Some(relay) = relays.get(turn % relays.len().max(1)).copied().or(unlinked).cloned() else { return false };
        route.unanswered = route.unanswered.saturating_add(1);
        self.seq += 1;
        let message =
            Message::Relay(Relay { asker: self.me.node.clone(), seq: self.seq, to, message: Carried::new(message) });
        self.facts.push(Fact::Send { to: relay, message });
        true
    }

    /// Sends an answer back the way the question came.
    fn answer(&mut self, to: NodeId, message: Message) {
        let back = kind_of_answer(&message).and_then(|kind| self.returns.get(&(to.clone(), kind))).cloned();
        match back {
            None => self.facts.push(Fact::Send { to, message }),
            Some(back) if back.via == self.me.node => {
                // Our own word waits for those of the others that we relay for.
                self.relays.gather(Mono::ZERO, &to, back.seq, &self.me.node.clone(), message);
                self.pass_back();
            }
            Some(back) => {
                let message = self.answers(to, back.seq, vec![message]);
                self.facts.push(Fact::Send { to: back.via, message });
            }
        }
    }

    /// Sends askers what has been gathered for them.
    fn pass_back(&mut self) {
        for (asker, seq, answers) in self.relays.take_ready() {
            let message = self.answers(asker.clone(), seq, answers);
            self.facts.push(Fact::Send { to: asker, message });
        }
    }

    fn answers(&self, asker: NodeId, seq: u64, answers: Vec<Message>) -> Message {
        let answers = answers.into_iter().map(Carried::new).collect();
        let (region, region_term) = (self.region.clone(), self.region_term);
        Message::RelayAnswer(RelayAnswer { asker, seq, region, region_term, answers })
    }

    /// The region in which a node votes, or is about to.
    fn home(&self, node: &NodeId) -> Option<RegionId> {
        let by = |voters: &Voters| voters.region_of(node).cloned();
        by(&self.group.voters())
            .or_else(|| self.group.committed().and_then(|document| by(&document.header().voters)))
            .or_else(|| self.regions.home(node))
    }
}

/// What is asked, and by whom as far as the question itself says.
fn question(message: &Message) -> Option<(Question, Option<&NodeId>)> {
    match message {
        Message::Heartbeat(m) => Some((Question::Heartbeat, Some(&m.leader))),
        Message::ElectionRequest(m) => Some((Question::Election, Some(&m.candidate.node))),
        Message::CheckpointPropose(m) => Some((Question::Proposal, Some(&m.leader))),
        Message::CheckpointFetch(_) => Some((Question::Content, None)),
        _ => None,
    }
}

fn kind_of_answer(message: &Message) -> Option<Question> {
    match message {
        Message::HeartbeatAck(_) => Some(Question::Heartbeat),
        Message::ElectionVote(_) => Some(Question::Election),
        Message::CheckpointAck(_) => Some(Question::Proposal),
        Message::CheckpointBody(_) => Some(Question::Content),
        _ => None,
    }
}

/// True if a message of agreement is the sender's own word: voters speak for themselves.
pub fn is_own(sender: &Voter, message: &Message) -> bool {
    match message {
        Message::Heartbeat(m) => m.leader == sender.node,
        Message::HeartbeatAck(m) => m.voter == *sender,
        Message::ElectionRequest(m) => m.candidate == *sender,
        Message::ElectionVote(m) => m.voter == *sender,
        Message::CheckpointPropose(m) => m.leader == sender.node,
        Message::CheckpointAck(m) => m.voter == *sender,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
