//! Routes between the top level and the rest of the node: what crosses regions, what regions say of themselves, and
//! how a node comes to have a part in the top and in a region that was added later.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::core::consensus::{self, Contents, Holdings, Snapshot};
use crate::core::cx::Cx;
use crate::core::event::{RefusedCommand, Reply};
use crate::core::hard_state::{Accepted, HardState, Position, Record};
use crate::core::hierarchy::{self, Hierarchy};
use crate::core::hlc::Stamp;
use crate::core::id::{GroupId, Hash, Index, LinkId, NodeId, PersistSeq, RegionId, RequestId, Term, Voter};
use crate::core::ledger::document::{Document, TopOrigin};
use crate::core::message::Message;
use crate::core::message::agreement::Content;
use crate::core::message::relay::{Relay, RelayAnswer};
use crate::core::node::Node;
use crate::core::state::entry::Value;
use crate::core::state::system::{self, CheckpointRef, Meaning, RegionVoters, TopClaim};

/// Region checkpoints that may be missed before a global document calls the region's newest one stale.
const STALE_AFTER: u32 = 3;

/// A group that this node takes up as soon as that is durable.
#[derive(Clone, Debug)]
pub(super) struct TakingUp {
    group: GroupId,
    hard: HardState,
    document: Document,
    write: PersistSeq,
}

impl Node {
    /// H1, before anything else is done at the top: whether this node leads its region.
    pub(super) fn judge_top(&mut self, cx: &mut Cx<'_>) {
        let Some(hierarchy) = &mut self.hierarchy else { return };
        let (leads, term) = match &self.group {
            Some(group) => (group.is_leader(), group.hard().term),
            None => (false, Term(0)),
        };
        hierarchy.set_leading(cx, leads, term);
    }

    /// A message of the top group on its sender's own link.
    pub(super) fn on_top_message(&mut self, cx: &mut Cx<'_>, sender: &Voter, message: &Message) {
        let Some(hierarchy) = &mut self.hierarchy else { return };
        hierarchy.asked_directly(&sender.node, message);
        self.hear_at_top(cx, message);
    }

    /// Feeds the top group what was said to it, a proposal once its document is whole.
    fn hear_at_top(&mut self, cx: &mut Cx<'_>, message: &Message) {
        let Some(hierarchy) = &mut self.hierarchy else { return };
        let (writes, archive) = (&mut self.writes, &mut self.archive);
        match message {
            Message::CheckpointPropose(propose) => {
                if let Some(whole) = archive.whole(cx, propose) {
                    hierarchy.hear(cx, writes, archive, &Message::CheckpointPropose(whole));
                }
            }
            message => hierarchy.hear(cx, writes, archive, message),
        }
        if let Message::CheckpointAck(ack) = message
            && archive.wants_whole(ack)
        {
            hierarchy.group_mut().remind(|voter| *voter == ack.voter);
        }
    }

    pub(super) fn on_relay(&mut self, cx: &mut Cx<'_>, link: LinkId, relay: &Relay) {
        let Some(sender) = self.sender_on(link) else { return };
        let Some(hierarchy) = &mut self.hierarchy else { return };
        let sessions = &self.sessions;
        let mine = hierarchy.on_relay(cx.now.mono, &sender, relay, &|node| sessions.link_of(node).is_some());
        match mine {
            Some(Message::CheckpointFetch(fetch)) => self.archive.on_checkpoint_fetch(cx, &relay.asker, &fetch),
            Some(message) => self.hear_at_top(cx, &message),
            None => {}
        }
    }

    pub(super) fn on_relay_answer(&mut self, cx: &mut Cx<'_>, link: LinkId, answer: RelayAnswer) {
        let Some(sender) = self.sender_on(link) else { return };
        let Some(hierarchy) = &mut self.hierarchy else { return };
        for message in hierarchy.on_relay_answer(cx.now.mono, &sender, answer) {
            match message {
                Message::CheckpointBody(chunk) => {
                    let peers = self.sessions.peers();
                    self.archive.on_relayed_body(cx, chunk, &peers);
                }
                message => self.hear_at_top(cx, &message),
            }
        }
    }

    pub(super) fn sender_on(&self, link: LinkId) -> Option<Voter> {
        self.sessions.peer_on(link).map(|peer| Voter { node: peer.node, store: peer.store })
    }

    /// Routes what the top level wants; true if there was anything.
    pub(super) fn route_top_facts(&mut self, cx: &mut Cx<'_>) -> bool {
        let Some(hierarchy) = &mut self.hierarchy else { return false };
        let sessions = &self.sessions;
        let facts = hierarchy.take_facts(&|node| sessions.link_of(node).is_some());
        let any = !facts.is_empty();
        for fact in facts {
            match fact {
                hierarchy::Fact::Send { to, message } => match self.sessions.link_of(&to) {
                    Some(link) => cx.send(link, self.archive.shortened(&self.me.node, &to, message)),
                    None => self.gossip.want(cx.now.mono, &to),
                },
                hierarchy::Fact::Group(fact) => self.on_top_fact(cx, fact),
            }
        }
        any
    }

    /// A region's checkpoint is known to be committed there.
    pub(super) fn note_checkpoint(&mut self, checkpoint: &CheckpointRef) {
        if let Some(hierarchy) = &mut self.hierarchy {
            hierarchy.regions_mut().committed(checkpoint.clone());
            self.archive.hear_checkpoint(checkpoint);
        }
    }

    fn on_top_fact(&mut self, cx: &mut Cx<'_>, fact: consensus::Fact) {
        match fact {
            consensus::Fact::Send { .. } | consensus::Fact::Ask { .. } => {
                unreachable!("the hierarchy sends by itself")
            }
            consensus::Fact::Fetch { content, hash, from } => {
                let held = self.hierarchy.as_ref().map(|hierarchy| hierarchy.group().newest());
                self.archive.fetch(cx, content, hash, held, from);
            }
            consensus::Fact::WantCheckpoint => self.propose_global(cx),
            consensus::Fact::Committed { position, document } => self.on_global_committed(cx, position, &document),
            consensus::Fact::LeadershipChanged => self.on_top_leadership(cx),
            consensus::Fact::ReadReady { request, latest } => self.on_read_ready(cx, request, latest),
            consensus::Fact::ReadFailed { request } => self.on_read_failed(cx, request),
        }
    }

    /// Makes a global document of what the regions have committed (H4).
    fn propose_global(&mut self, cx: &mut Cx<'_>) {
        let stamp = self.issue(cx);
        let wall = self.time.trusted(cx.now);
        let Some(hierarchy) = &mut self.hierarchy else { return };
        let parent = hierarchy.group().accepted().clone();
        let before = parent.header().taken_at.time;
        let time = stamp.filter(|stamp| *stamp > before).unwrap_or(before.next());
        let fresh = self.params.consensus.checkpoint_interval * STALE_AFTER + Duration::from_secs(2);
        let regions = hierarchy.regions().contents(&parent, wall, fresh);
        let counts = hierarchy::total(&regions);
        let taken_at = Stamp { time, node: self.me.node.clone() };
        let present = parent.header().voters.regions().keys().cloned().collect();
        let fused = self.fuse_regions(&present, &regions, taken_at.time.wall());
        let snapshot = Snapshot { taken_at, counts, contents: Contents::Regions { regions, fused } };
        let Some(hierarchy) = &mut self.hierarchy else { return };
        hierarchy.group_mut().propose(cx, &mut self.writes, &mut self.archive, snapshot);
    }

    fn on_global_committed(&mut self, cx: &mut Cx<'_>, position: Position, document: &Document) {
        self.note_committed(cx, &GroupId::Top, position, document);
        if let Some(hierarchy) = &mut self.hierarchy {
            hierarchy.regions_mut().settle(&document.header().voters);
        }
        self.publish_top(cx);
        self.answer_regions(cx);
        self.seek_region(cx);
    }

    fn on_top_leadership(&mut self, cx: &mut Cx<'_>) {
        let Some(hierarchy) = &mut self.hierarchy else { return };
        if !hierarchy.group().is_leader() {
            hierarchy.regions_mut().give_up();
        }
        self.publish_top(cx);
        self.answer_regions(cx);
    }

    /// The top leader's claim, and what is committed by its word.
    fn publish_top(&mut self, cx: &mut Cx<'_>) {
        let Some(group) = self.hierarchy.as_ref().map(Hierarchy::group).filter(|group| group.is_leader()) else {
            return;
        };
        let committed = group.hard().committed.map(|position| (position.index, position.hash));
        let claim = TopClaim { term: group.hard().term, committed };
        if let Some(hierarchy) = &mut self.hierarchy {
            hierarchy.regions_mut().claim_top(claim.term, &self.me.node);
        }
        self.publish(cx, system::channel(system::TOP), Value::of(&claim));
    }

    /// A region speaks of itself, or the top leader of the top. What it speaks of is asked of whoever brought the word: its
    /// leader would be asked by everybody.
    pub(super) fn on_region_said(&mut self, cx: &mut Cx<'_>, from: &NodeId, origin: &NodeId, meaning: &Meaning) {
        if let (Meaning::Top(TopClaim { committed: Some((_, hash)), .. }), None) = (meaning, &self.hierarchy) {
            // The cluster has a top level, and this node none yet.
            return self.seek_top(cx, *hash, from);
        }
        let Some(hierarchy) = &mut self.hierarchy else { return };
        match meaning {
            Meaning::Leader(claim) => hierarchy.on_region_leader(&claim.region, claim.term, origin),
            Meaning::Checkpoint(checkpoint) => self.note_checkpoint(checkpoint),
            Meaning::Voters(voters) => hierarchy.regions_mut().voting(voters.clone()),
            Meaning::Top(claim) => {
                hierarchy.regions_mut().claim_top(claim.term, origin);
                if let Some((index, hash)) = claim.committed {
                    let position = Position { index, hash };
                    hierarchy.group_mut().learn(cx, &mut self.writes, &mut self.archive, position, from);
                }
            }
            _ => {}
        }
    }

    /// What our region's leader says of it, when it has committed something.
    pub(super) fn say_region(&mut self, cx: &mut Cx<'_>, index: Index) {
        let (Some(hierarchy), Some(group)) = (&mut self.hierarchy, &self.group) else { return };
        let Some(committed) = group.committed() else { return };
        let region = self.params.region.clone();
        let voters: BTreeSet<Voter> = group.voters_at(committed).iter().cloned().collect();
        if self.said_voters.as_ref() == Some(&voters) {
            return;
        }
        self.said_voters = Some(voters.clone());
        let said = RegionVoters { region, index, voters };
        hierarchy.regions_mut().voting(said.clone());
        self.publish(cx, system::channel(system::VOTERS), Value::of(&said));
    }

    /// The top leader follows the regions' voters (C7).
    pub(super) fn plan_regions(&mut self, cx: &mut Cx<'_>) {
        let Some(hierarchy) = &mut self.hierarchy else { return };
        if hierarchy.group().is_leader() {
            let wanted = hierarchy.regions().wanted(&hierarchy.group().voters());
            hierarchy.group_mut().plan_regions(cx, &wanted);
        }
    }

    /// A region's document says that the flat cluster has grown a top level.
    pub(super) fn grow_with(&mut self, cx: &mut Cx<'_>, document: &Document) {
        let origin = match document.header().top {
            Some(TopOrigin::Here) => document.hash(),
            Some(TopOrigin::At(hash)) => hash,
            None => return,
        };
        let from = document.header().proposer.clone();
        self.seek_top(cx, origin, &from);
    }

    /// The same, of what was committed before this start.
    pub(super) fn grow_with_committed(&mut self, cx: &mut Cx<'_>) {
        if let Some(document) = self.group.as_ref().and_then(|group| group.committed()).cloned() {
            self.grow_with(cx, &document);
        }
    }

    /// Whoever asked a leader that leads no more to grow the cluster must ask the next one.
    pub(super) fn give_up_growing(&mut self, cx: &mut Cx<'_>) {
        for request in std::mem::take(&mut self.pending.growing) {
            Self::refuse(cx, request, RefusedCommand::Deposed);
        }
    }

    /// Takes up the top from this document of its ledger, as soon as it is at hand.
    fn seek_top(&mut self, cx: &mut Cx<'_>, hash: Hash, from: &NodeId) {
        if self.hierarchy.is_some() || self.sessions.cluster().is_none() {
            return;
        }
        self.top_sought = Some(hash);
        self.go_on_seeking(cx, from);
    }

    /// Our region is to be found in a global document: by its newest checkpoint there, or in the one that added it.
    pub(super) fn seek_region(&mut self, cx: &mut Cx<'_>) {
        let region = &self.params.region;
        if self.group.is_some() {
            return;
        }
        let Some(document) = self.hierarchy.as_ref().and_then(|hierarchy| hierarchy.group().committed()) else {
            return;
        };
        if document.header().voters.regions().contains_key(region) {
            let known = document.header().regions.get(region).map(|at| at.hash);
            self.region_sought = Some(known.unwrap_or(document.hash()));
            let from = document.header().proposer.clone();
            self.go_on_seeking(cx, &from);
        }
    }

    /// Goes on with what is sought, after an arrival.
    pub(super) fn go_on_seeking(&mut self, cx: &mut Cx<'_>, from: &NodeId) {
        let groups =
            [(GroupId::Top, self.top_sought), (GroupId::Region(self.params.region.clone()), self.region_sought)];
        for (group, sought) in groups {
            let there = match group {
                GroupId::Top => self.hierarchy.is_some(),
                GroupId::Region(_) => self.group.is_some(),
            };
            let Some(hash) = sought.filter(|_| !there && self.taking_up.is_none()) else { continue };
            let document = self.archive.document(&hash);
            let missing = match &document {
                None => Some((Content::Document, hash)),
                Some(document) => {
                    let body = document.header().body.filter(|body| !self.archive.has_body(body));
                    body.filter(|_| group != GroupId::Top).map(|body| (Content::Body, body))
                }
            };
            match (missing, document) {
                (Some((content, hash)), _) => self.archive.fetch(cx, content, hash, None, from.clone()),
                (None, Some(document)) => self.take_up_at(cx, group, document),
                (None, None) => {}
            }
        }
    }

    /// Writes down that this store takes part in a group from a document on that others have committed. It has
    /// accepted nothing itself: ballot 0 outranks nothing that was ever proposed.
    fn take_up_at(&mut self, cx: &mut Cx<'_>, group: GroupId, document: Document) {
        let Some(index) = document.index_in(&group) else { return };
        let position = Position { index, hash: document.hash() };
        let accepted = Accepted { ballot: Term(0), index, hash: position.hash };
        let committed = (index > Index(0)).then_some(position);
        let hard = HardState { term: Term(0), voted_for: None, accepted, committed };
        let mut records = self.archive.adopt(&document);
        records.extend(committed.map(|position| Record::Committed(group.clone(), position)));
        records.push(Record::Hard(group.clone(), hard.clone()));
        let write = self.write(cx, records);
        self.taking_up = Some(TakingUp { group, hard, document, write });
    }

    /// A group is ours only once that is durable.
    pub(super) fn finish_taking_up(&mut self, cx: &mut Cx<'_>) {
        let durable = |taking: &TakingUp| self.writes.is_durable(taking.write);
        let Some(taking) = self.taking_up.take_if(|taking| durable(taking)) else { return };
        let TakingUp { group, hard, document, .. } = taking;
        if let Some(position) = hard.committed {
            // Older documents are fetched, as any newcomer does.
            let from = document.header().proposer.clone();
            self.archive.note_gap(cx, &group, &document, None, &from);
            self.ledger_top.insert(group.clone(), position.index);
        }
        self.take_up_group(cx, group, hard, std::slice::from_ref(&document));
        self.seek_region(cx);
        self.go_on_seeking(cx, &document.header().proposer.clone());
    }

    /// A top level is new here: tells it what the replicated state says of the regions.
    pub(super) fn tell_top(&mut self, cx: &mut Cx<'_>) {
        let said: Vec<(NodeId, Meaning)> = self
            .store
            .iter()
            .filter(|(key, _)| {
                [system::LEADER, system::CHECKPOINT, system::VOTERS, system::TOP].contains(&key.channel.as_str())
            })
            .filter_map(|(key, entry)| Some((key.origin.clone(), system::understand(key.channel, &entry.value).ok()?)))
            .collect();
        for (origin, meaning) in said {
            let from = self.within_reach(cx, origin.clone());
            self.on_region_said(cx, &from, &origin, &meaning);
        }
    }

    /// Whom this node takes for the top-level leader.
    pub(super) fn top_leader(&self) -> Option<&NodeId> {
        let hierarchy = self.hierarchy.as_ref()?;
        let claimed = || hierarchy.regions().top_leader().filter(|_| !hierarchy.group().is_voter());
        hierarchy.group().leader().or_else(claimed)
    }

    /// An operator has the flat cluster grow a top level.
    pub(super) fn on_grow(&mut self, cx: &mut Cx<'_>, request: RequestId) {
        let leader = self.leader().cloned();
        if self.hierarchy.is_some() {
            return Self::reply(cx, request, Reply::Done);
        }
        match &self.group {
            Some(group) if !group.is_leader() => Self::redirect(cx, request, leader),
            Some(_) => {
                self.pending.growing.push(request);
                if let Some(group) = &mut self.group {
                    group.hasten(cx);
                }
            }
            None => {
                let why = self.not_joined();
                Self::refuse(cx, request, why);
            }
        }
    }

    /// An operator adds a region with these first voters, whose nodes must be there and up to date.
    pub(super) fn on_add_region(&mut self, cx: &mut Cx<'_>, request: RequestId, region: RegionId, nodes: &[NodeId]) {
        if let Some(why) = self.region_objection(&region) {
            return self.refuse_or_redirect_top(cx, request, why);
        }
        let mut voters = BTreeSet::new();
        for node in nodes {
            let info = self.members().find(|(name, _)| *name == node).map(|(_, info)| info);
            match info {
                Some(info) if info.region == region => voters.insert(Voter { node: node.clone(), store: info.store }),
                _ => {
                    let why = RefusedCommand::NotOfRegion(node.clone(), region);
                    return Self::refuse(cx, request, why);
                }
            };
        }
        let Some(hierarchy) = self.hierarchy.as_mut().filter(|_| !voters.is_empty()) else {
            return Self::refuse(cx, request, RefusedCommand::NoVoters(region));
        };
        hierarchy.regions_mut().add(region.clone(), voters);
        self.pending.regions.push((request, region, true));
        self.plan_regions(cx);
    }

    /// An operator takes a region out.
    pub(super) fn on_remove_region(&mut self, cx: &mut Cx<'_>, request: RequestId, region: RegionId) {
        let present = self.hierarchy.as_ref().map(|h| h.group().voters());
        let why = match present {
            None => Some(RefusedCommand::IsFlat),
            Some(_) if !self.leads_top() => Some(RefusedCommand::NoLeader),
            Some(present) if !present.regions().contains_key(&region) => {
                return Self::reply(cx, request, Reply::Done);
            }
            Some(present) if present.regions().len() == 1 => Some(RefusedCommand::LastRegion(region.clone())),
            Some(_) => None,
        };
        if let Some(why) = why {
            return self.refuse_or_redirect_top(cx, request, why);
        }
        if let Some(hierarchy) = &mut self.hierarchy {
            hierarchy.regions_mut().remove(region.clone());
        }
        self.pending.regions.push((request, region, false));
        self.plan_regions(cx);
    }

    fn region_objection(&self, region: &RegionId) -> Option<RefusedCommand> {
        let Some(hierarchy) = &self.hierarchy else { return Some(RefusedCommand::IsFlat) };
        if !self.leads_top() {
            return Some(RefusedCommand::NoLeader);
        }
        let document = hierarchy.group().accepted().header();
        let known = document.voters.regions().contains_key(region) || document.regions.contains_key(region);
        known.then(|| RefusedCommand::KnownRegion(region.clone()))
    }

    fn leads_top(&self) -> bool {
        self.hierarchy.as_ref().is_some_and(|hierarchy| hierarchy.group().is_leader())
    }

    fn refuse_or_redirect_top(&self, cx: &mut Cx<'_>, request: RequestId, why: RefusedCommand) {
        match self.top_leader().filter(|leader| **leader != self.me.node) {
            Some(leader) if why == RefusedCommand::NoLeader => {
                Self::reply(cx, request, Reply::Redirect { leader: leader.clone() });
            }
            _ => Self::refuse(cx, request, why),
        }
    }

    /// Answers those who wait for a region to come or go, and for a top level.
    pub(super) fn answer_regions(&mut self, cx: &mut Cx<'_>) {
        let Some(hierarchy) = &self.hierarchy else { return };
        for request in std::mem::take(&mut self.pending.growing) {
            Self::reply(cx, request, Reply::Done);
        }
        let leads = hierarchy.group().is_leader();
        let committed = hierarchy.group().committed().map(|document| document.header().voters.clone());
        let there = |region: &RegionId| committed.as_ref().is_some_and(|v| v.regions().contains_key(region));
        let (done, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending.regions)
            .into_iter()
            .partition(|(_, region, added)| committed.is_some() && there(region) == *added);
        done.into_iter().for_each(|(request, ..)| Self::reply(cx, request, Reply::Done));
        match leads {
            true => self.pending.regions = waiting,
            false => waiting.into_iter().for_each(|(request, ..)| Self::refuse(cx, request, RefusedCommand::Deposed)),
        }
    }
}
