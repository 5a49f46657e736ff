//! Routes what the node's own sensors and clients say, and tells clients when their writes are as safe as asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::consensus::Holdings;
use crate::core::cx::Cx;
use crate::core::effect::Effect;
use crate::core::event::{Ack, RefusedCommand, Reply};
use crate::core::hard_state::{Position, Record};
use crate::core::hlc::Hlc;
use crate::core::id::{Channel, Hash, LinkId, NodeId, PersistSeq, RegionId, RequestId};
use crate::core::ledger::body::BodyError;
use crate::core::ledger::document::Document;
use crate::core::message::agreement::Content;
use crate::core::message::exchange::Confirm;
use crate::core::node::Node;
use crate::core::reading::{Quality, Reading};
use crate::core::state::entry::{Entry, Key, KeyedEntry, Scope, Value};
use crate::core::state::store::Share;
use crate::core::state::system::{self, Forget, NodeInfo};
use crate::core::time::Mono;
use crate::core::view::Liveness as Life;
use crate::core::work::Work;

/// How long a node that leaves goes on telling so before it stops.
pub(super) const LEAVE_DRAIN: Duration = Duration::from_millis(300);

/// How long a peer's confirmation is waited for before all are asked again: one that took an entry for one from the
/// future, or gets it by repair, says nothing by itself.
const CONFIRM_AGAIN: Duration = Duration::from_secs(2);

/// What waits for the disk, for peers or for agreement.
#[derive(Debug)]
pub(super) struct Pending {
    /// Own entries not yet asked to be durable.
    dirty: BTreeSet<Channel>,
    flush_due: Mono,
    /// Newest values that wait for the clock's mark.
    unstamped: BTreeMap<Channel, (Value, Scope)>,
    disk: Vec<(PersistSeq, RequestId, Reply)>,
    peers: BTreeMap<RequestId, PeersAck>,
    confirm_due: Mono,
    checkpoint: Vec<(RequestId, Vec<(Channel, Hlc)>)>,
    removals: Vec<(RequestId, NodeId)>,
    /// Who waits for a region to be there, or not to be.
    pub(super) regions: Vec<(RequestId, RegionId, bool)>,
    /// Who waits for a top level.
    pub(super) growing: Vec<RequestId>,
}

/// A write that waits for peers.
#[derive(Debug)]
struct PeersAck {
    wanted: usize,
    stamps: Vec<(Channel, Hlc)>,
    /// Who holds how many of them.
    confirmed: BTreeMap<NodeId, BTreeSet<Channel>>,
}

impl Default for Pending {
    fn default() -> Self {
        Self {
            dirty: BTreeSet::new(),
            flush_due: Mono::NEVER,
            unstamped: BTreeMap::new(),
            disk: Vec::new(),
            peers: BTreeMap::new(),
            confirm_due: Mono::NEVER,
            checkpoint: Vec::new(),
            removals: Vec::new(),
            regions: Vec::new(),
            growing: Vec::new(),
        }
    }
}

impl Pending {
    pub(super) fn deadline(&self) -> Mono {
        self.flush_due.min(self.confirm_due)
    }

    /// Requests that are not answered.
    pub(super) fn requests(&self) -> usize {
        let agreed = self.checkpoint.len() + self.removals.len() + self.regions.len() + self.growing.len();
        self.disk.len() + self.peers.len() + agreed
    }

    /// Own entries that wait for the disk or the clock.
    pub(super) fn unwritten(&self) -> usize {
        self.dirty.len() + self.unstamped.len()
    }
}

impl Node {
    /// Writes one of our own system channels.
    pub(super) fn publish(&mut self, cx: &mut Cx<'_>, channel: Channel, value: Value) {
        self.publish_together(cx, vec![(channel, value)]);
    }

    /// Writes several of them, which cross each link in one message.
    pub(super) fn publish_together(&mut self, cx: &mut Cx<'_>, values: Vec<(Channel, Value)>) {
        let scoped = |(channel, value)| {
            let scope = self.scope_of(&channel);
            (channel, value, scope)
        };
        let values = values.into_iter().map(scoped).collect();
        self.stamp_and_put(cx, values);
    }

    fn stamp_and_put(&mut self, cx: &mut Cx<'_>, values: Vec<(Channel, Value, Scope)>) {
        let mut stamped = Vec::with_capacity(values.len());
        for (channel, value, scope) in values {
            match self.issue(cx) {
                Some(stamp) => stamped.push((channel, Entry { value, stamp, scope })),
                None => drop(self.pending.unstamped.insert(channel, (value, scope))),
            }
        }
        if !stamped.is_empty() {
            self.put_own(cx, stamped, false);
        }
    }

    /// Readings keep the configured scope; of the system's channels those that other regions need are global.
    fn scope_of(&self, channel: &Channel) -> Scope {
        let needed = match channel.as_str() {
            system::LEADER | system::CHECKPOINT | system::SUMMARY | system::VOTERS | system::TOP => true,
            system::NODE => self.group.as_ref().is_some_and(|group| group.is_voter()),
            other => other.starts_with(system::FORGET),
        };
        if needed { Scope::Global } else { self.params.scope }
    }

    pub(super) fn publish_scoped(&mut self, cx: &mut Cx<'_>, channel: Channel, value: Value, scope: Scope) {
        self.stamp_and_put(cx, vec![(channel, value, scope)]);
    }

    pub(super) fn publish_unstamped(&mut self, cx: &mut Cx<'_>) {
        for (channel, (value, scope)) in std::mem::take(&mut self.pending.unstamped) {
            self.publish_scoped(cx, channel, value, scope);
        }
    }

    /// Says who and where this node is: at its start, on change, to refute, and to leave.
    pub(super) fn publish_self(&mut self, cx: &mut Cx<'_>, left: bool) {
        let Some(start) = self.start else { return };
        let info = NodeInfo {
            addr: self.params.addr.clone(),
            api: self.params.api.clone(),
            region: self.params.region.clone(),
            store: self.me.store,
            start,
            version: self.params.software.clone(),
            left,
        };
        let channel = system::node_channel();
        if self.scope_of(&channel) == Scope::Region && self.is_known_abroad() {
            // It votes no more: other regions will hear nothing of it from now on, and must not hold it for what it was.
            let gone = NodeInfo { left: true, ..info.clone() };
            self.publish_scoped(cx, channel.clone(), Value::of(&gone), Scope::Global);
        }
        self.publish(cx, channel, Value::of(&info));
    }

    /// Whether the newest that other regions know of us is that we are there.
    fn is_known_abroad(&self) -> bool {
        let key = Key::new(self.me.node.clone(), system::node_channel());
        let newest = self.store.words(&key, Share::Global).max_by_key(|entry| entry.stamp);
        newest.is_some_and(|entry| entry.value.read::<NodeInfo>().is_ok_and(|info| !info.left))
    }

    /// A node that votes is known everywhere, another in its region alone: says who it is again when that has changed.
    pub(super) fn republish_scope(&mut self, cx: &mut Cx<'_>) {
        let key = Key::new(self.me.node.clone(), system::node_channel());
        let due = self.scope_of(&key.channel);
        let changed = self.store.get(&key).is_some_and(|entry| entry.scope != due);
        // What it said as a voter in an earlier life may have come back since.
        if changed || (due == Scope::Region && self.is_known_abroad()) {
            self.publish_self(cx, false);
        }
    }

    /// This start may have another scope than the one before: says own readings anew that are of the other. Regions that
    /// were shown one and are no more are told so, instead of holding the last that they saw.
    pub(super) fn rescope_own(&mut self, cx: &mut Cx<'_>) {
        let scope = self.params.scope;
        let own = self.store.of_origin(&self.me.node);
        let other = own.filter(|(key, entry)| !key.channel.is_system() && entry.scope != scope);
        let other: Vec<(Channel, Entry)> = other.map(|(key, entry)| (key.channel.clone(), entry.clone())).collect();
        for (channel, entry) in other {
            if let Some(reading) = entry.value.reading().filter(|_| scope == Scope::Region) {
                let (quality, note) = (Quality::Bad, Some("stays in its region".to_owned()));
                let kept = Reading { value: None, unit: None, sigma: None, quality, note, time: reading.time };
                self.publish_scoped(cx, channel.clone(), Value::of(&kept), Scope::Global);
            }
            self.publish_scoped(cx, channel, entry.value, scope);
        }
    }

    /// Publishes everything live anew, above what somebody has shown us.
    pub(super) fn publish_live_again(&mut self, cx: &mut Cx<'_>) {
        for channel in self.live_channels() {
            let held = self.store.get(&Key::new(self.me.node.clone(), channel.clone()));
            if let Some((value, scope)) = held.map(|entry| (entry.value.clone(), entry.scope)) {
                self.publish_scoped(cx, channel, value, scope);
            }
        }
        self.publish_self(cx, false);
    }

    /// An entry of our own is new in the state: it goes to disk soon, if its kind does.
    pub(super) fn note_own_kept(&mut self, cx: &Cx<'_>, channel: &Channel) {
        if !channel.is_system() || channel.as_str().starts_with(system::FORGET) {
            self.pending.dirty.insert(channel.clone());
            self.pending.flush_due = self.pending.flush_due.min(cx.now.mono + self.params.store_interval);
        }
    }

    /// Puts stamped entries of our own into the state and on their way.
    fn put_own(&mut self, cx: &mut Cx<'_>, entries: Vec<(Channel, Entry)>, confirm: bool) {
        let mut keys = Vec::with_capacity(entries.len());
        for (channel, entry) in entries {
            self.note_own_kept(cx, &channel);
            let key = Key::new(self.me.node.clone(), channel);
            keys.push((key.clone(), entry.scope));
            self.store.insert_own(key.clone(), entry.clone());
            cx.fx.push(Effect::Changed { key, entry });
        }
        self.gossip.on_local(cx, &self.store, &keys, confirm);
    }

    /// The local sensors said something.
    pub(super) fn on_sensed(&mut self, cx: &mut Cx<'_>, readings: Vec<(Channel, Reading)>) {
        let mut entries = Vec::with_capacity(readings.len());
        for (channel, reading) in readings {
            if channel.is_system() || reading.check().is_err() {
                continue;
            }
            let (value, scope) = (Value::of(&reading), self.params.scope);
            match self.issue(cx) {
                Some(stamp) => entries.push((channel, Entry { value, stamp, scope })),
                None => {
                    self.pending.unstamped.insert(channel, (value, scope));
                }
            }
        }
        self.put_own(cx, entries, false);
    }

    pub(super) fn on_put(&mut self, cx: &mut Cx<'_>, request: RequestId, readings: Vec<(Channel, Reading)>, ack: Ack) {
        if let Some(why) = self.objection(&readings, ack) {
            return Self::refuse(cx, request, why);
        }
        let mut entries = Vec::with_capacity(readings.len());
        for (channel, reading) in readings {
            let Some(stamp) = self.issue(cx) else { return Self::refuse(cx, request, RefusedCommand::DiskBehind) };
            entries.push((channel, Entry { value: Value::of(&reading), stamp, scope: self.params.scope }));
        }
        let stamps: Vec<(Channel, Hlc)> = entries.iter().map(|(c, e)| (c.clone(), e.stamp)).collect();
        let reply = Reply::Put { stamps: stamps.iter().map(|(_, stamp)| *stamp).collect() };
        self.put_own(cx, entries, matches!(ack, Ack::Peers(_)));
        match ack {
            Ack::Memory | Ack::Peers(0) => Self::reply(cx, request, reply),
            Ack::Disk => {
                let write = self.write_own(cx);
                self.pending.disk.push((write, request, reply));
            }
            Ack::Peers(wanted) => {
                let ack = PeersAck { wanted: wanted as usize, stamps, confirmed: BTreeMap::new() };
                self.pending.peers.insert(request, ack);
                self.pending.confirm_due = self.pending.confirm_due.min(cx.now.mono + CONFIRM_AGAIN);
            }
            Ack::Checkpoint => self.pending.checkpoint.push((request, stamps)),
        }
    }

    fn objection(&self, readings: &[(Channel, Reading)], ack: Ack) -> Option<RefusedCommand> {
        for (channel, reading) in readings {
            if channel.is_system() {
                return Some(RefusedCommand::SystemChannel(channel.clone()));
            }
            if let Err(error) = reading.check() {
                return Some(RefusedCommand::Reading { channel: channel.clone(), why: error.to_string() });
            }
        }
        let there = self.sessions.peers().len() as u32;
        match ack {
            Ack::Checkpoint if self.group.is_none() => Some(self.not_joined()),
            Ack::Peers(wanted) if wanted > there => Some(RefusedCommand::TooFewPeers { wanted, there }),
            _ => None,
        }
    }

    pub(super) fn not_joined(&self) -> RefusedCommand {
        let names: Vec<String> = self.sessions.waiting_for().iter().map(ToString::to_string).collect();
        RefusedCommand::NotJoined(names.join(", "))
    }

    /// Nothing is agreed upon here any more: whoever waits for that is told.
    pub(super) fn refuse_undecided(&mut self, cx: &mut Cx<'_>) {
        let pending = &mut self.pending;
        let checkpoint = pending.checkpoint.drain(..).map(|(request, _)| request);
        let removals = pending.removals.drain(..).map(|(request, _)| request);
        let regions = pending.regions.drain(..).map(|(request, ..)| request);
        let all: Vec<RequestId> = checkpoint.chain(removals).chain(regions).chain(pending.growing.drain(..)).collect();
        let why = self.not_joined();
        all.into_iter().for_each(|request| Self::refuse(cx, request, why.clone()));
    }

    /// Writes all own entries that are not asked to be durable yet.
    fn write_own(&mut self, cx: &mut Cx<'_>) -> PersistSeq {
        self.pending.flush_due = Mono::NEVER;
        let mut records = Vec::new();
        for channel in std::mem::take(&mut self.pending.dirty) {
            let key = Key::new(self.me.node.clone(), channel);
            match self.store.get(&key) {
                Some(entry) => records.push(Record::Own(KeyedEntry::new(&key, entry))),
                None => records.push(Record::DropOwn(key.channel)),
            }
        }
        self.write(cx, records)
    }

    pub(super) fn flush_own(&mut self, cx: &mut Cx<'_>) {
        let leaving = self.leave_due != Mono::NEVER;
        if (self.pending.flush_due <= cx.now.mono || leaving) && !self.pending.dirty.is_empty() {
            self.write_own(cx);
        }
    }

    /// An own entry has left by age, or was forgotten: its copy on disk goes with the next flush.
    pub(super) fn note_own_dropped(&mut self, cx: &Cx<'_>, channel: Channel) {
        self.pending.dirty.insert(channel);
        self.pending.flush_due = self.pending.flush_due.min(cx.now.mono + self.params.store_interval);
    }

    pub(super) fn answer_durable(&mut self, cx: &mut Cx<'_>) {
        let (done, waiting) =
            std::mem::take(&mut self.pending.disk).into_iter().partition(|(write, ..)| self.writes.is_durable(*write));
        self.pending.disk = waiting;
        for (_, request, reply) in done {
            Self::reply(cx, request, reply);
        }
    }

    /// Own entries that clients want to be held by others, and that too few have confirmed.
    pub(super) fn unconfirmed(&self) -> Vec<Key> {
        let waiting = self.pending.peers.values().flat_map(|ack| &ack.stamps);
        let channels: BTreeSet<&Channel> = waiting.map(|(channel, _)| channel).collect();
        channels.into_iter().map(|channel| Key::new(self.me.node.clone(), channel.clone())).collect()
    }

    /// Asks all peers again for what too few of them have confirmed in time.
    pub(super) fn confirm_again(&mut self, cx: &mut Cx<'_>) {
        if self.pending.confirm_due > cx.now.mono {
            return;
        }
        let keys = self.unconfirmed();
        self.pending.confirm_due = if keys.is_empty() { Mono::NEVER } else { cx.now.mono + CONFIRM_AGAIN };
        let links: Vec<LinkId> = self.sessions.peers().iter().filter_map(|peer| self.sessions.link_of(peer)).collect();
        links.into_iter().for_each(|link| self.gossip.confirm_with(cx, &self.store, link, &keys));
    }

    /// What was stamped beyond `bound` will never be confirmed: it is stamped anew, and lower. Nor will what it had
    /// `replaced`: the new stamp may be lower than that one's.
    pub(super) fn refuse_stamped_after(&mut self, cx: &mut Cx<'_>, bound: Hlc, replaced: &BTreeSet<&Channel>) {
        let is_beyond = |stamps: &[(Channel, Hlc)]| {
            stamps.iter().any(|(channel, stamp)| *stamp > bound || replaced.contains(channel))
        };
        let peers = self.pending.peers.iter().filter(|(_, ack)| is_beyond(&ack.stamps)).map(|(request, _)| *request);
        let mut over: Vec<RequestId> = peers.collect();
        self.pending.peers.retain(|_, ack| !is_beyond(&ack.stamps));
        let checkpoint = self.pending.checkpoint.extract_if(.., |(_, stamps)| is_beyond(stamps));
        over.extend(checkpoint.map(|(request, _)| request));
        over.into_iter().for_each(|request| Self::refuse(cx, request, RefusedCommand::ClockSetBack));
    }

    /// A direct neighbour holds entries of ours.
    pub(super) fn on_confirm(&mut self, cx: &mut Cx<'_>, from: &NodeId, confirm: &Confirm) {
        let mut done = Vec::new();
        for (request, ack) in &mut self.pending.peers {
            for (channel, stamp) in &confirm.entries {
                // A newer value of the key satisfies an older request.
                if ack.stamps.iter().any(|(asked, at)| asked == channel && stamp >= at) {
                    ack.confirmed.entry(from.clone()).or_default().insert(channel.clone());
                }
            }
            let channels: BTreeSet<&Channel> = ack.stamps.iter().map(|(channel, _)| channel).collect();
            if ack.confirmed.values().filter(|held| held.len() == channels.len()).count() >= ack.wanted {
                done.push(*request);
            }
        }
        for request in done {
            if let Some(ack) = self.pending.peers.remove(&request) {
                let stamps = ack.stamps.into_iter().map(|(_, stamp)| stamp).collect();
                Self::reply(cx, request, Reply::Put { stamps });
            }
        }
    }

    /// What was asked of the disk is here.
    pub(super) fn on_loaded(&mut self, cx: &mut Cx<'_>, content: Content, hash: Hash, bytes: Option<Vec<u8>>) {
        self.archive.on_loaded(cx, content, hash, bytes);
    }

    /// A body is at hand: that of the newest checkpoint, perhaps, that writes wait for.
    pub(super) fn on_body_at_hand(&mut self, cx: &mut Cx<'_>, hash: Hash) {
        let committed = self.group.as_ref().and_then(|group| group.hard().committed);
        let newest = committed.and_then(|position| self.archive.document(&position.hash));
        if let Some(document) = newest.filter(|newest| newest.header().body == Some(hash)) {
            self.answer_checkpointed(cx, &document);
        }
    }

    /// A checkpoint is committed: writes may wait for what stands in it.
    pub(super) fn answer_checkpointed(&mut self, cx: &mut Cx<'_>, document: &Document) {
        if self.pending.checkpoint.is_empty() {
            return;
        }
        let body = document.header().body.and_then(|hash| self.archive.body_or_load(cx, &hash));
        if let Some(body) = body.cloned() {
            let origin = self.me.node.clone();
            cx.fx.push(Effect::Compute { work: Work::Find { body, origin } });
        }
    }

    /// What a committed checkpoint holds of this node: answers the writes that stand in it, or newer ones.
    pub(super) fn on_found(&mut self, cx: &mut Cx<'_>, held: Result<Vec<(Channel, Hlc)>, BodyError>) {
        let Ok(held) = held else { return };
        // What this node stamped in a future that it has left stands for nothing that it has written since.
        let last = self.time.last();
        let held: BTreeMap<Channel, Hlc> = held.into_iter().filter(|(_, stamp)| *stamp <= last).collect();
        let covered =
            |stamps: &[(Channel, Hlc)]| stamps.iter().all(|(c, stamp)| held.get(c).is_some_and(|h| h >= stamp));
        let (done, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending.checkpoint).into_iter().partition(|(_, stamps)| covered(stamps));
        self.pending.checkpoint = waiting;
        for (request, stamps) in done {
            let stamps = stamps.into_iter().map(|(_, stamp)| stamp).collect();
            Self::reply(cx, request, Reply::Put { stamps });
        }
    }

    pub(super) fn on_latest(&mut self, cx: &mut Cx<'_>, request: RequestId, linearizable: bool) {
        let leader = self.leader().cloned();
        let Some(group) = &mut self.group else {
            let why = self.not_joined();
            return Self::refuse(cx, request, why);
        };
        if !linearizable {
            let latest = group.hard().committed;
            return Self::reply(cx, request, Reply::Latest { latest });
        }
        if group.is_leader() {
            return group.read_latest(cx, request);
        }
        Self::redirect(cx, request, leader);
    }

    pub(super) fn on_latest_global(&mut self, cx: &mut Cx<'_>, request: RequestId, linearizable: bool) {
        let leader = self.top_leader().cloned();
        let Some(hierarchy) = &mut self.hierarchy else {
            return Self::refuse(cx, request, RefusedCommand::IsFlat);
        };
        if !linearizable {
            let latest = hierarchy.group().hard().committed;
            return Self::reply(cx, request, Reply::Latest { latest });
        }
        if hierarchy.group().is_leader() {
            return hierarchy.group_mut().read_latest(cx, request);
        }
        Self::redirect(cx, request, leader);
    }

    pub(super) fn redirect(cx: &mut Cx<'_>, request: RequestId, leader: Option<NodeId>) {
        match leader {
            Some(leader) => Self::reply(cx, request, Reply::Redirect { leader }),
            None => Self::refuse(cx, request, RefusedCommand::NoLeader),
        }
    }

    pub(super) fn on_read_ready(&mut self, cx: &mut Cx<'_>, request: RequestId, latest: Option<Position>) {
        Self::reply(cx, request, Reply::Latest { latest });
    }

    pub(super) fn on_read_failed(&mut self, cx: &mut Cx<'_>, request: RequestId) {
        Self::refuse(cx, request, RefusedCommand::Deposed);
    }

    /// An operator drops a departed node's entries everywhere.
    pub(super) fn on_forget(&mut self, cx: &mut Cx<'_>, request: RequestId, node: &NodeId) {
        let newest = self.store.of_origin(node).map(|(_, entry)| entry.stamp).max();
        let refusal = match newest {
            None => Some(RefusedCommand::UnknownNode(node.clone())),
            Some(_) if self.group.as_ref().is_some_and(|g| g.voters().of_node(node).is_some()) => {
                Some(RefusedCommand::IsVoter(node.clone()))
            }
            Some(_) if *node == self.me.node || self.liveness.state_of(node) == Some(Life::Alive) => {
                Some(RefusedCommand::IsAlive(node.clone()))
            }
            Some(_) => None,
        };
        if let Some(why) = refusal {
            return Self::refuse(cx, request, why);
        }
        let Some(now) = self.issue(cx) else { return Self::refuse(cx, request, RefusedCommand::DiskBehind) };
        let up_to = newest.map_or(now, |newest| newest.max(now));
        let forget = Value::of(&Forget { up_to });
        self.publish(cx, system::forget_channel(node), forget);
        self.apply_forget(cx, node, up_to);
        let write = self.write_own(cx);
        self.pending.disk.push((write, request, Reply::Done));
    }

    /// An operator takes a voter out.
    pub(super) fn on_remove_voter(&mut self, cx: &mut Cx<'_>, request: RequestId, node: NodeId) {
        let leader = self.leader().cloned();
        let Some(group) = &self.group else {
            let why = self.not_joined();
            return Self::refuse(cx, request, why);
        };
        if !group.is_leader() {
            return Self::redirect(cx, request, leader);
        }
        let voters = group.voters();
        if voters.of_node(&node).is_none() {
            return Self::reply(cx, request, Reply::Done);
        }
        if voters.len() == 1 {
            return Self::refuse(cx, request, RefusedCommand::LastVoter(node));
        }
        self.unwanted.insert(node.clone());
        self.pending.removals.push((request, node));
        self.plan_voters(cx);
    }

    /// Answers those who wait for a voter to be out, once a committed document says so.
    pub(super) fn answer_removed(&mut self, cx: &mut Cx<'_>) {
        let Some(group) = &self.group else { return };
        let leads = group.is_leader();
        let committed = group.committed().and_then(|document| document.voters_in(group.id()));
        let (waiting, done): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending.removals)
            .into_iter()
            .partition(|(_, node)| committed.as_ref().is_none_or(|voters| voters.of_node(node).is_some()));
        for (request, _) in done {
            Self::reply(cx, request, Reply::Done);
        }
        if leads {
            self.pending.removals = waiting;
        } else {
            waiting.into_iter().for_each(|(request, _)| Self::refuse(cx, request, RefusedCommand::Deposed));
        }
    }
}
