//! The node: owns the state, composes the machines, and turns one machine's fact into another's input.
//!
//! Decides nothing of the protocol itself. Each file beside this one routes one kind of fact:
//! [`joining`] how a store comes to belong to a cluster, [`agreement`] group and archive, [`replica`] what
//! spreads, [`local`] sensors and clients, [`timekeeping`] which clock is believed, [`fusing`] what checkpoints
//! and regions say of all readings, [`top`] what spans regions, [`viewing`] what is shown.

mod agreement;
mod fusing;
mod joining;
mod local;
mod replica;
mod timekeeping;
mod top;
mod viewing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::core::archive::Archive;
use crate::core::consensus::Group;
use crate::core::cx::Cx;
use crate::core::effect::{Effect, StopReason};
use crate::core::event::{Command, Event, RefusedCommand, Reply};
use crate::core::fusion::document::Summary;
use crate::core::gossip::Gossip;
use crate::core::hard_state::{HardState, Record, Recovered, StoreIdentity};
use crate::core::hierarchy::Hierarchy;
use crate::core::hlc::Hlc;
use crate::core::id::{Channel, GroupId, Hash, Index, LinkId, NodeId, PersistSeq, RegionId, RequestId, Term, Voter};
use crate::core::ledger::document::Document;
use crate::core::liveness::Liveness;
use crate::core::message::Message;
use crate::core::notice::Notice;
use crate::core::params::Params;
use crate::core::rng::Rng;
use crate::core::session::Sessions;
use crate::core::state::entry::EntryRefusal;
use crate::core::state::store::Store;
use crate::core::time::{Mono, Now, Wall};
use crate::core::writes::Writes;

use joining::Joining;
use local::Pending;
use timekeeping::Timekeeper;
use top::TakingUp;

/// One sensor gateway, without the world around it.
pub struct Node {
    params: Params,
    rng: Rng,
    me: Voter,
    writes: Writes,
    time: Timekeeper,
    /// Our clock when this life began, once it can be told.
    start: Option<Hlc>,
    /// The time then: the stamp is above everything issued before, and may be seconds ahead of it.
    began: Option<Wall>,
    sessions: Sessions,
    joining: Option<Joining>,
    store: Store,
    gossip: Gossip,
    liveness: Liveness,
    /// The region's group, once this store belongs to a cluster that has our region.
    group: Option<Group>,
    /// The top level, if the cluster has one.
    hierarchy: Option<Hierarchy>,
    archive: Archive,
    /// Highest index of each ledger that is held; what is missing below it is being fetched.
    ledger_top: BTreeMap<GroupId, Index>,
    /// Documents from which this node is to take part in the top, and in its region.
    top_sought: Option<Hash>,
    region_sought: Option<Hash>,
    taking_up: Option<TakingUp>,
    /// Our region's voters as its leader, we, last said them.
    said_voters: Option<BTreeSet<Voter>>,
    pending: Pending,
    /// Newest leader claims, by region.
    claims: BTreeMap<RegionId, (Term, NodeId)>,
    /// Voters that an operator takes out.
    unwanted: BTreeSet<NodeId>,
    plan_due: Mono,
    /// Whether a checkpoint is being made.
    taking: agreement::Taking,
    /// Entries refused: how many, and whose the last was.
    refusals: BTreeMap<&'static str, (u64, NodeId)>,
    leave_due: Mono,
    /// Compared with somebody since the start: what others hold is held.
    filled: bool,
    /// When the state is next looked through for what is too old.
    age_due: Mono,
    /// What the proposed checkpoint's readings say to other regions, until it is committed.
    summary: Option<Summary>,
}

impl Node {
    /// Starts a node on what its store gave back; a fresh node recovers from nothing.
    ///
    /// Call [`Node::handle`] with `Event::Wake` next: it asks for the first writes and connections.
    ///
    /// # Panics
    /// If the store gives back a hard state without the documents that it names: such a store is damaged, and
    /// the driver must have set it aside (C11).
    pub fn recover(params: Params, identity: StoreIdentity, recovered: Recovered, seed: u64, now: Now) -> Self {
        let mut rng = Rng::new(seed);
        let me = Voter { node: params.node.clone(), store: identity.id };
        let sessions = Sessions::new(&params, identity.id, rng.bits() as u32, recovered.cluster);
        let bodies = recovered.bodies.clone();
        let documents = recovered.documents.clone();
        let (region, kept) = (&params.region, params.consensus.bodies_kept);
        let archive = Archive::recover(region, kept, documents.clone(), bodies.clone(), &recovered.bodies_held);
        let mut node = Self {
            me,
            writes: Writes::default(),
            time: Timekeeper::recover(&params, recovered.clock_mark),
            start: None,
            began: None,
            sessions,
            joining: None,
            store: Store::new(params.clock_skew_max, params.retain, params.gossip.sketch_symbols_max),
            gossip: Gossip::new(&params, recovered.last_seen),
            liveness: Liveness::new(&params),
            group: None,
            hierarchy: None,
            archive,
            ledger_top: BTreeMap::new(),
            top_sought: None,
            region_sought: None,
            taking_up: None,
            said_voters: None,
            pending: Pending::default(),
            claims: BTreeMap::new(),
            unwanted: BTreeSet::new(),
            plan_due: Mono::ZERO,
            taking: agreement::Taking::default(),
            refusals: BTreeMap::new(),
            leave_due: Mono::NEVER,
            filled: false,
            age_due: Mono::ZERO,
            summary: None,
            rng: rng.fork(),
            params,
        };
        let mut fx = Vec::new();
        let mut cx = Cx { now, rng: &mut rng, fx: &mut fx };
        node.restore_entries(&cx, recovered.own, &bodies);
        if recovered.cluster.is_some() {
            node.gossip.on_joined();
            if recovered.hard.iter().any(|(_, hard)| hard.committed.is_some()) {
                node.sessions.on_committed();
            }
            // A node that has moved to another region finds its part there by a global document.
            let own = GroupId::Region(node.params.region.clone());
            for (group, hard) in recovered.hard.into_iter().filter(|(id, _)| *id == own || *id == GroupId::Top) {
                node.take_up_group(&mut cx, group, hard, &documents);
            }
            node.seek_region(&mut cx);
            node.grow_with_committed(&mut cx);
        }
        node.note_recovered_gaps(&cx, &recovered.ledger);
        node
    }

    /// Takes note of one event and appends what the world is to do about it to `fx`, in order.
    pub fn handle(&mut self, event: Event, now: Now, fx: &mut Vec<Effect>) {
        let mut rng = std::mem::replace(&mut self.rng, Rng::new(0));
        let before = fx.len();
        let mut cx = Cx { now, rng: &mut rng, fx };
        self.notice_a_step(&mut cx);
        self.judge_top(&mut cx);
        self.dispatch(&mut cx, event);
        self.judge_top(&mut cx);
        self.settle(&mut cx);
        if self.deadline() <= now.mono {
            self.on_deadline(&mut cx);
            self.settle(&mut cx);
        }
        for effect in &cx.fx[before..] {
            if let Effect::Send { link, .. } = effect {
                self.liveness.on_sent(now.mono, *link);
            }
        }
        self.rng = rng;
    }

    fn dispatch(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Wake => {}
            Event::LinkUp { link, dialed } => self.on_link_made(cx, link, dialed),
            Event::LinkDown { link } => self.on_link_down(cx, link),
            Event::DialFailed { addr, refused } => self.on_dial_failed(cx, addr, refused),
            Event::LinkReady { link } => self.on_link_ready(cx, link),
            Event::Received { link, message } => self.on_message(cx, link, *message),
            Event::Persisted { seq } => self.on_persisted(cx, seq),
            Event::Loaded { content, hash, bytes } => self.on_loaded(cx, content, hash, bytes),
            Event::Computed { done } => self.on_computed(cx, *done),
            Event::Sensed { readings } => self.on_sensed(cx, readings),
            Event::Asked { request, command } => self.on_asked(cx, request, command),
            Event::Leave => self.on_leave(cx),
        }
    }

    /// Routes facts until none is left.
    fn settle(&mut self, cx: &mut Cx<'_>) {
        loop {
            let mut idle = true;
            for fact in self.sessions.take_facts() {
                idle = false;
                self.on_session_fact(cx, fact);
            }
            for fact in self.group.as_mut().map(Group::take_facts).unwrap_or_default() {
                idle = false;
                self.on_group_fact(cx, fact);
            }
            self.judge_top(cx);
            idle &= !self.route_top_facts(cx);
            for fact in self.archive.take_facts() {
                idle = false;
                self.on_archive_fact(cx, fact);
            }
            idle &= !self.route_replica_facts(cx);
            if idle {
                return;
            }
        }
    }

    /// The instant at which `Event::Wake` is due; calling earlier or later is harmless.
    pub fn deadline(&self) -> Mono {
        [
            self.sessions.deadline(),
            self.archive.deadline(),
            self.gossip.deadline(),
            self.liveness.deadline(),
            self.group.as_ref().map_or(Mono::NEVER, Group::deadline),
            self.hierarchy.as_ref().map_or(Mono::NEVER, Hierarchy::deadline),
            self.time.deadline(),
            self.pending.deadline(),
            if self.is_leader() { self.plan_due } else { Mono::NEVER },
            self.leave_due,
        ]
        .into_iter()
        .min()
        .expect("the list is not empty")
    }

    fn on_deadline(&mut self, cx: &mut Cx<'_>) {
        self.keep_time(cx);
        self.sessions.on_deadline(cx);
        if let Some(group) = &mut self.group {
            group.on_deadline(cx, &mut self.writes);
        }
        self.judge_top(cx);
        if let Some(hierarchy) = &mut self.hierarchy {
            hierarchy.on_deadline(cx, &mut self.writes);
        }
        if self.archive.deadline() <= cx.now.mono {
            self.archive.on_deadline(cx, &self.sessions.peers());
        }
        self.replica_deadline(cx);
        self.flush_own(cx);
        self.confirm_again(cx);
        if self.plan_due <= cx.now.mono {
            self.plan_due = cx.now.mono + agreement::PLAN_INTERVAL;
            if self.is_leader() {
                self.plan_voters(cx);
            }
            self.pin_voters();
        }
        if self.leave_due <= cx.now.mono {
            self.leave_due = Mono::NEVER;
            cx.fx.push(Effect::Stop { why: StopReason::Left });
        }
    }

    fn on_persisted(&mut self, cx: &mut Cx<'_>, seq: PersistSeq) {
        self.writes.on_persisted(seq);
        self.on_time_durable(cx);
        self.finish_joining(cx);
        if let Some(group) = &mut self.group {
            group.on_persisted(cx, &mut self.writes);
        }
        self.judge_top(cx);
        if let Some(hierarchy) = &mut self.hierarchy {
            hierarchy.group_mut().on_persisted(cx, &mut self.writes);
        }
        self.finish_taking_up(cx);
        self.answer_durable(cx);
    }

    fn on_message(&mut self, cx: &mut Cx<'_>, link: LinkId, message: Message) {
        let ready = self.sessions.on_frame(cx, link);
        match message {
            Message::Hello(hello) => return self.sessions.on_hello(cx, link, hello),
            Message::Error(error) => return self.sessions.on_error(cx, link, &error),
            _ => {}
        }
        let Some(from) = self.sessions.name_on(link).cloned() else {
            // What was under way on a link that has been given up is dropped with it.
            if self.sessions.awaits_hello(link) {
                cx.notice(Notice::Rejected { link, why: format!("{} before HELLO", message.type_name()) });
            }
            return;
        };
        match message {
            // A store that is joining reads the genesis from a link that is not in use yet.
            Message::CheckpointFetch(fetch) => self.archive.on_checkpoint_fetch(cx, &from, &fetch),
            Message::CheckpointBody(chunk) => {
                self.archive.on_checkpoint_body(cx, &from, chunk, &self.sessions.peers());
            }
            // What was on its way while a link was taken out of use is not lost: repair brings it.
            _ if !ready => {}
            message => self.on_ready_message(cx, link, from, message),
        }
    }

    fn on_ready_message(&mut self, cx: &mut Cx<'_>, link: LinkId, from: NodeId, message: Message) {
        self.liveness_heard(cx, link);
        match message {
            Message::Hello(_) | Message::Error(_) | Message::CheckpointFetch(_) | Message::CheckpointBody(_) => {
                unreachable!("handled before")
            }
            Message::Keepalive(_) => {}
            Message::Release(_) => self.gossip.on_release(cx, link),
            Message::Confirm(confirm) => self.on_confirm(cx, &from, &confirm),
            message @ (Message::SensorUpdate(_)
            | Message::Prune(_)
            | Message::Graft(_)
            | Message::StateDigest(_)
            | Message::StateRequest(_)
            | Message::StateUpdate(_)) => self.on_replica_message(cx, link, message),
            message @ (Message::Heartbeat(_)
            | Message::HeartbeatAck(_)
            | Message::ElectionRequest(_)
            | Message::ElectionVote(_)
            | Message::CheckpointPropose(_)
            | Message::CheckpointAck(_)) => self.on_group_message(cx, link, &from, message),
            Message::Relay(relay) => self.on_relay(cx, link, &relay),
            Message::RelayAnswer(answer) => self.on_relay_answer(cx, link, answer),
        }
    }

    fn on_asked(&mut self, cx: &mut Cx<'_>, request: RequestId, command: Command) {
        match command {
            Command::Put { readings, ack } => self.on_put(cx, request, readings, ack),
            Command::Latest { linearizable, top: false } => self.on_latest(cx, request, linearizable),
            Command::Latest { linearizable, top: true } => self.on_latest_global(cx, request, linearizable),
            Command::Forget { node } => self.on_forget(cx, request, &node),
            Command::RemoveVoter { node } => self.on_remove_voter(cx, request, node),
            Command::Grow => self.on_grow(cx, request),
            Command::AddRegion { region, voters } => self.on_add_region(cx, request, region, &voters),
            Command::RemoveRegion { region } => self.on_remove_region(cx, request, region),
        }
    }

    fn on_leave(&mut self, cx: &mut Cx<'_>) {
        if let Some(group) = &mut self.group {
            group.leave(cx);
        }
        if let Some(hierarchy) = &mut self.hierarchy {
            hierarchy.group_mut().leave(cx);
        }
        self.publish_self(cx, true);
        self.flush_own(cx);
        self.leave_due = cx.now.mono + local::LEAVE_DRAIN;
    }

    /// What the node was told before it started.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The stamp at which it started, once it may issue any.
    pub fn start(&self) -> Option<Hlc> {
        self.start
    }

    /// Its identity as a voter.
    pub fn identity(&self) -> &Voter {
        &self.me
    }

    /// The replicated state it holds.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Its region's group, once its store belongs to a cluster.
    pub fn group(&self) -> Option<&Group> {
        self.group.as_ref()
    }

    /// The top group, if the cluster has a top level.
    pub fn top(&self) -> Option<&Group> {
        self.hierarchy.as_ref().map(Hierarchy::group)
    }

    /// True while it leads its region.
    pub fn is_leader(&self) -> bool {
        self.group.as_ref().is_some_and(Group::is_leader)
    }

    fn take_up_group(&mut self, cx: &mut Cx<'_>, id: GroupId, hard: HardState, documents: &[Document]) {
        let find = |hash| documents.iter().find(|document| document.hash() == hash).cloned();
        let accepted = find(hard.accepted.hash).expect("a store gives back the document it accepted");
        let committed = hard.committed.map(|position| find(position.hash).expect("and the one it committed"));
        let me = self.me.clone();
        if id == GroupId::Top {
            let (region, params) = (self.params.region.clone(), self.params.top.clone());
            self.hierarchy = Some(Hierarchy::recover(cx, me, region, params, hard, accepted, committed));
            self.tell_top(cx);
        } else {
            let params = self.params.consensus.clone();
            self.group = Some(Group::recover(cx, id, me, params, hard, accepted, committed));
        }
    }

    fn note_refusal(&mut self, cx: &mut Cx<'_>, from: NodeId, key: crate::core::state::entry::Key, why: EntryRefusal) {
        let word = match why {
            EntryRefusal::Future { .. } => "future",
            EntryRefusal::Expired => "expired",
            EntryRefusal::Forgotten => "forgotten",
            EntryRefusal::Foreign => "foreign",
            EntryRefusal::Malformed => "malformed",
        };
        let refusal = self.refusals.entry(word).or_insert((0, key.origin.clone()));
        *refusal = (refusal.0 + 1, key.origin.clone());
        cx.notice(Notice::EntryRefused { from, key, why });
    }

    fn reply(cx: &mut Cx<'_>, request: RequestId, reply: Reply) {
        cx.fx.push(Effect::Reply { request, reply });
    }

    fn refuse(cx: &mut Cx<'_>, request: RequestId, why: RefusedCommand) {
        Self::reply(cx, request, Reply::Refused { why });
    }

    fn write(&mut self, cx: &mut Cx<'_>, records: Vec<Record>) -> PersistSeq {
        self.writes.write(cx, records)
    }

    /// Channels of our own that hold readings.
    fn live_channels(&self) -> Vec<Channel> {
        let own = self.store.of_origin(&self.me.node);
        own.filter(|(key, _)| !key.channel.is_system()).map(|(key, _)| key.channel.clone()).collect()
    }
}
