//! Routes between the replicated state, those who spread it, and those who watch the living.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::core::consensus::{Group, Member};
use crate::core::cx::Cx;
use crate::core::effect::Effect;
use crate::core::gossip;
use crate::core::hard_state::Record;
use crate::core::hlc::Hlc;
use crate::core::id::{Channel, LinkId, NodeId, Voter};
use crate::core::ledger::body::Body;
use crate::core::liveness;
use crate::core::message::Message;
use crate::core::node::Node;
use crate::core::notice::{Notice, SuspicionCause};
use crate::core::session::Peer;
use crate::core::state::entry::{Entry, Key, KeyRef, KeyedEntry};
use crate::core::state::system::{self, Addr, Meaning, NodeInfo};
use crate::core::time::Mono;
use crate::core::view::Liveness as Life;

/// Longest time between two looks for entries that are too old.
const AGE_INTERVAL_MAX: Duration = Duration::from_secs(10);

impl Node {
    /// Puts back what the store held of our own, and what the newest bodies say of everybody.
    pub(super) fn restore_entries(&mut self, cx: &Cx<'_>, own: Vec<KeyedEntry>, bodies: &[Body]) {
        for keyed in own {
            let (key, entry) = keyed.into_parts();
            self.store.insert_own(key, entry);
        }
        // What we have forgotten stays away: nobody will tell us again.
        for (node, up_to) in self.own_forgets() {
            self.store.forget(&node, up_to);
        }
        for keyed in bodies.iter().filter_map(|body| body.entries().ok()).flatten() {
            if keyed.origin == self.me.node {
                self.restore_agreed(cx, keyed);
            } else {
                self.store.admit(keyed, cx.now.wall);
            }
        }
    }

    /// A reading of our own that a checkpoint has and that was still on its way to our disk. What is stamped beyond the
    /// clock's mark was stamped anew since, lower, and only stands in for what the disk has nothing of.
    fn restore_agreed(&mut self, cx: &Cx<'_>, keyed: KeyedEntry) {
        let (key, entry) = keyed.into_parts();
        let taken = match self.store.get(&key) {
            Some(held) => entry.supersedes(held) && entry.stamp <= self.time.last(),
            None => true,
        };
        if taken {
            self.note_own_kept(cx, &key.channel);
            self.store.insert_own(key, entry);
        }
    }

    /// Whom we have forgotten, and up to which stamp.
    fn own_forgets(&self) -> Vec<(NodeId, Hlc)> {
        let forgets = |(key, entry): (KeyRef<'_>, &Entry)| match system::understand(key.channel, &entry.value) {
            Ok(Meaning::Forget(node, forget)) => Some((node, forget.up_to)),
            _ => None,
        };
        self.store.of_origin(&self.me.node).filter_map(forgets).collect()
    }

    pub(super) fn on_link_down(&mut self, cx: &mut Cx<'_>, link: LinkId) {
        self.sessions.on_link_down(cx, link);
        self.gossip.on_disconnected(cx.now.mono, link);
    }

    pub(super) fn on_link_made(&mut self, cx: &mut Cx<'_>, link: LinkId, dialed: Option<Addr>) {
        if let Some(addr) = &dialed {
            self.gossip.on_connected(link, addr);
        }
        self.sessions.on_link_up(cx, link, dialed);
    }

    pub(super) fn on_dial_failed(&mut self, cx: &mut Cx<'_>, addr: Addr, refused: bool) {
        if let Some((node, since)) = self.gossip.on_dial_failed(cx, &addr) {
            self.liveness.on_dial_failed(cx, &self.me.node, &node, since, refused);
        }
    }

    pub(super) fn on_link_ready(&mut self, cx: &mut Cx<'_>, link: LinkId) {
        self.gossip.on_link_ready(cx, &self.store, link);
    }

    pub(super) fn on_self_dialed(&mut self, addr: &Addr) {
        self.gossip.on_self_dialed(addr);
    }

    pub(super) fn liveness_heard(&mut self, cx: &mut Cx<'_>, link: LinkId) {
        self.liveness.on_frame(cx, link);
    }

    pub(super) fn on_peer_up(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        let (node, link) = (peer.node.clone(), peer.link);
        self.liveness.on_link_up(cx, &peer);
        self.gossip.on_link_up(cx, &self.store, peer, self.time.trusted(cx.now));
        self.gossip.confirm_with(cx, &self.store, link, &self.unconfirmed());
        if let Some(group) = &mut self.group {
            group.on_peer_up(&node);
        }
        if let Some(hierarchy) = &mut self.hierarchy {
            hierarchy.on_peer_up(&node);
        }
    }

    pub(super) fn on_peer_down(&mut self, cx: &mut Cx<'_>, peer: &Peer) {
        let parted = self.gossip.on_link_down(cx, &self.store, peer.link, self.time.trusted(cx.now));
        self.liveness.on_link_down(cx, peer.link, parted);
        self.time.forget_offset(&peer.node);
    }

    pub(super) fn on_replica_message(&mut self, cx: &mut Cx<'_>, link: LinkId, message: Message) {
        let wall = self.time.trusted(cx.now);
        let store = &mut self.store;
        match message {
            Message::SensorUpdate(update) => self.gossip.on_sensor_update(cx, store, link, update, wall),
            Message::StateUpdate(update) => self.gossip.on_state_update(cx, store, link, update, wall),
            Message::StateDigest(digest) => self.gossip.on_state_digest(cx, store, link, &digest, wall),
            Message::StateRequest(request) => self.gossip.on_state_request(cx, store, link, request, wall),
            Message::Prune(prune) => self.gossip.on_prune(link, &prune),
            Message::Graft(graft) => self.gossip.on_graft(cx.now.mono, link, &graft),
            _ => {}
        }
    }

    pub(super) fn replica_deadline(&mut self, cx: &mut Cx<'_>) {
        self.gossip.on_deadline(cx, &self.store, self.time.trusted(cx.now));
        self.liveness.on_deadline(cx, &self.me.node);
        if self.age_due <= cx.now.mono {
            self.age_due = cx.now.mono + (self.params.retain / 64).min(AGE_INTERVAL_MAX);
            self.let_age(cx);
        }
    }

    /// Drops what is too old, and stamps anew what is our own, still true, and would be too old before long.
    fn let_age(&mut self, cx: &mut Cx<'_>) {
        let wall = self.time.trusted(cx.now);
        for key in self.store.expire(wall) {
            if key.channel.as_str() == system::NODE {
                self.liveness.on_forgotten(&key.origin);
                self.gossip.on_forgotten(&key.origin);
            }
            if key.origin == self.me.node {
                self.note_own_dropped(cx, key.channel);
            }
        }
        // A little before half of `retain` has passed: nobody else drops it by then.
        let half = wall - self.params.retain * 2 / 5;
        let leads = self.is_leader();
        let lasting = |channel: &Channel| !channel.is_system() || (leads && channel.as_str() == system::LEADER);
        let old = self.store.of_origin(&self.me.node).filter(|(_, entry)| entry.stamp.wall() < half);
        let own: Vec<(Channel, Entry)> = old.map(|(key, entry)| (key.channel.clone(), entry.clone())).collect();
        for (channel, entry) in own {
            if channel.as_str() == system::NODE {
                self.publish_self(cx, self.leave_due != Mono::NEVER);
            } else if lasting(&channel) {
                self.publish_scoped(cx, channel, entry.value, entry.scope);
            }
        }
    }

    /// Routes what spreading and watching have found; true if there was anything.
    pub(super) fn route_replica_facts(&mut self, cx: &mut Cx<'_>) -> bool {
        let spread = self.gossip.take_facts();
        let watched = self.liveness.take_facts();
        let any = !spread.is_empty() || !watched.is_empty();
        for fact in spread {
            match fact {
                gossip::Fact::Accepted { from, key, entry, meaning } => {
                    self.on_accepted(cx, &from, key, entry, meaning)
                }
                gossip::Fact::Refused { from, key, why } => self.note_refusal(cx, from, key, why),
                gossip::Fact::OwnOrigin { key, entry } => self.on_own_origin(cx, key, entry),
                gossip::Fact::ClockOffset { node, offset_ms } => self.on_clock_offset(cx, node, offset_ms),
                gossip::Fact::LastSeen { addrs } => {
                    self.write(cx, vec![Record::LastSeen(addrs)]);
                }
            }
        }
        for fact in watched {
            match fact {
                liveness::Fact::Changed { node, state, why } => self.on_life(cx, &node, state, why),
                liveness::Fact::Publish { channel, value } => self.publish(cx, channel, value),
                liveness::Fact::Refute => self.publish_self(cx, false),
                liveness::Fact::Seek { node } if self.asks_itself(&node) => self.gossip.want(cx.now.mono, &node),
                liveness::Fact::Seek { .. } => {}
            }
        }
        self.filled = self.filled || (any && self.gossip.converged().is_some());
        any
    }

    /// Whether a suspect is asked by this node too. Of another region's those who vote are enough: everybody would dial
    /// each leader that dies.
    fn asks_itself(&self, node: &NodeId) -> bool {
        let said = self.store.get(&Key::new(node.clone(), system::node_channel()));
        let info = said.and_then(|entry| entry.value.read::<NodeInfo>().ok());
        let is_near = info.is_none_or(|info| info.region == self.params.region);
        is_near || self.group.as_ref().is_some_and(Group::is_voter)
    }

    fn on_accepted(&mut self, cx: &mut Cx<'_>, from: &NodeId, key: Key, entry: Entry, meaning: Meaning) {
        match &meaning {
            Meaning::Node(info) => {
                self.liveness.on_member(cx, &self.me.node, &key.origin, info, entry.stamp);
                self.gossip.on_member(&key.origin, info, self.liveness.state_of(&key.origin));
            }
            Meaning::Leader(claim) => {
                self.on_claim(&key.origin, claim.clone());
                self.on_region_said(cx, from, &key.origin, &meaning);
                self.pin_voters();
            }
            // Whoever brought the word is nearer to the leader, and has the document first.
            Meaning::Checkpoint(checkpoint) => {
                self.on_checkpoint_ref(cx, from, checkpoint);
                self.on_region_said(cx, from, &key.origin, &meaning);
            }
            Meaning::Voters(_) | Meaning::Top(_) => self.on_region_said(cx, from, &key.origin, &meaning),
            Meaning::Forget(node, forget) => self.apply_forget(cx, &node.clone(), forget.up_to),
            Meaning::Suspect(node, suspicion) => {
                let own = self.store.get(&Key::new(self.me.node.clone(), system::node_channel()));
                let own = (&self.me.node, own.map(|entry| entry.stamp));
                // What was said before we began may long be refuted by what has yet to reach us.
                let is_news = self.filled && self.began.is_some_and(|began| began <= entry.stamp.wall());
                self.liveness.on_suspicion(cx, own, &key.origin, node, suspicion.clone(), is_news);
            }
            Meaning::Reading(_) | Meaning::Summary(_) | Meaning::Unknown => {}
        }
        cx.fx.push(Effect::Changed { key, entry });
    }

    /// Drops a forgotten node's entries; one that lives says everything anew.
    pub(super) fn apply_forget(&mut self, cx: &mut Cx<'_>, node: &NodeId, up_to: Hlc) {
        if *node == self.me.node {
            self.time.observe(up_to);
            self.publish_live_again(cx);
        }
        self.store.forget(node, up_to);
        // One that has come back since, and of whom we have heard that first, is not forgotten.
        let is_back = self.store.get(&Key::new(node.clone(), system::node_channel())).is_some();
        if *node != self.me.node && !is_back {
            self.liveness.on_forgotten(node);
            self.gossip.on_forgotten(node);
        }
    }

    /// An entry that we wrote and forgot in a crash is back: our clock moves above it.
    fn on_own_origin(&mut self, cx: &mut Cx<'_>, key: Key, entry: Entry) {
        let stamp = entry.stamp;
        self.note_own_kept(cx, &key.channel);
        // Unless we have written it anew already, for another that came back with it.
        if self.store.get(&key).is_some_and(|held| held.stamp == stamp) {
            cx.fx.push(Effect::Changed { key, entry });
        }
        if stamp > self.time.last() {
            self.time.observe(stamp);
            self.publish_live_again(cx);
        }
    }

    fn on_life(&mut self, cx: &mut Cx<'_>, node: &NodeId, state: Life, why: SuspicionCause) {
        self.gossip.on_life(node, state);
        let node = node.clone();
        cx.notice(match state {
            Life::Alive => Notice::Alive { node },
            Life::Suspect => Notice::Suspected { node, why },
            Life::Dead => Notice::Died { node },
            Life::Left => Notice::Left { node },
        });
    }

    /// Voters of our region need direct links to each other, and region leaders to each other.
    pub(super) fn pin_voters(&mut self) {
        let Some(group) = &self.group else { return };
        let voters = group.voters();
        let mut pinned = BTreeSet::new();
        let votes = voters.contains(&self.me);
        if votes {
            pinned.extend(voters.iter().map(|voter| voter.node.clone()).filter(|node| *node != self.me.node));
        }
        // A region's leader relays for the other regions, and they for it.
        if let Some(hierarchy) = self.hierarchy.as_ref().filter(|_| group.is_leader()) {
            pinned.extend(hierarchy.regions().leaders().filter(|node| **node != self.me.node).cloned());
        }
        self.gossip.pin(pinned);
        self.gossip.set_votes(votes);
    }

    /// What `@node` entries say of everyone.
    pub(super) fn members(&self) -> impl Iterator<Item = (&NodeId, NodeInfo)> {
        self.store.of_channel(system::NODE).filter_map(|(node, entry)| Some((node, entry.value.read().ok()?)))
    }

    /// The nodes of our region as candidates and voters, ourselves included.
    pub(super) fn members_of_region(&self, now: Mono) -> Vec<Member> {
        self.members()
            .filter(|(_, info)| info.region == self.params.region)
            .map(|(node, info)| {
                let own = *node == self.me.node;
                let state = self.liveness.state_of(node).unwrap_or(Life::Dead);
                let since = self.liveness.since(node).unwrap_or(now);
                Member {
                    voter: Voter { node: node.clone(), store: info.store },
                    alive: own || state == Life::Alive || state == Life::Suspect,
                    since: now.since(since),
                }
            })
            .collect()
    }
}
