//! How the replicated state spreads: over a random [`overlay`], by [`push`] along trees, mended by [`repair`].
//!
//! Merges what comes and tells the node what was new. The three beside this file do not know each other.

mod overlay;
mod push;
mod repair;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::cx::Cx;
use crate::core::gossip::overlay::Overlay;
use crate::core::gossip::push::{Offer, Push};
use crate::core::gossip::repair::{Merged, Repair};
use crate::core::id::{LinkId, NodeId};
use crate::core::message::Message;
use crate::core::message::exchange::{Confirm, Graft, Prune, SensorUpdate, StateDigest, StateRequest, StateUpdate};
use crate::core::params::Params;
use crate::core::session::Peer;
use crate::core::state::entry::{Entry, EntryRefusal, Key, KeyedEntry, Scope};
use crate::core::state::store::{Outcome, Store};
use crate::core::state::system::{Addr, Meaning, NodeInfo};
use crate::core::time::{Mono, Wall};
use crate::core::view::{Footprint, Liveness as Life};

/// What gossip tells the node.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// An entry of somebody else is new here.
    Accepted { from: NodeId, key: Key, entry: Entry, meaning: Meaning },
    /// An entry was refused.
    Refused { from: NodeId, key: Key, why: EntryRefusal },
    /// Somebody held an entry of our own origin that we did not: we wrote it and forgot it in a crash.
    OwnOrigin { key: Key, entry: Entry },
    /// A peer's wall clock against ours.
    ClockOffset { node: NodeId, offset_ms: i64 },
    /// Where members were last seen has changed, and is to be kept on disk.
    LastSeen { addrs: BTreeMap<NodeId, Addr> },
}

/// Overlay, push and repair.
#[derive(Debug)]
pub struct Gossip {
    params: Params,
    peers: BTreeMap<LinkId, Peer>,
    overlay: Overlay,
    push: Push,
    repair: Repair,
    facts: Vec<Fact>,
}

/// How entries came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Push,
    Repair,
}

impl Gossip {
    /// Knows the bootstrap addresses, where members were last seen in an earlier life, and nobody.
    pub fn new(params: &Params, last_seen: BTreeMap<NodeId, Addr>) -> Self {
        Self {
            params: params.clone(),
            peers: BTreeMap::new(),
            overlay: Overlay::new(params, last_seen),
            push: Push::new(params),
            repair: Repair::new(params),
            facts: Vec::new(),
        }
    }

    /// Takes what happened since the last call, in order.
    pub fn take_facts(&mut self) -> Vec<Fact> {
        std::mem::take(&mut self.facts)
    }

    /// A link is ready for use.
    pub fn on_link_up(&mut self, cx: &mut Cx<'_>, store: &Store, peer: Peer, wall: Wall) {
        let foreign = peer.region != self.params.region;
        if !self.overlay.on_link_up(cx, &peer) {
            return;
        }
        self.push.on_link_up(cx.now.mono, peer.link, &peer.node, foreign);
        if self.overlay.is_passing(peer.link) {
            self.push.on_passing(peer.link, true);
        }
        self.push.flush(cx, store);
        self.repair.on_link_up(cx, store, &peer, wall);
        self.peers.insert(peer.link, peer);
    }

    /// A link is no longer in use. True if one of the two ends gave it up on purpose.
    pub fn on_link_down(&mut self, cx: &mut Cx<'_>, store: &Store, link: LinkId, wall: Wall) -> bool {
        self.peers.remove(&link);
        self.repair.on_link_down(cx, link);
        let grafted = self.push.on_link_down(cx.now.mono, link);
        self.push.flush(cx, store);
        if let Some(grafted) = grafted {
            // What was pushed to nobody while the tree was broken comes at once.
            self.repair.start_with(cx, store, grafted, wall);
        }
        self.overlay.on_link_down(cx, link)
    }

    /// A dial went through: the address is not dialed again while that link stands, in use or not.
    pub fn on_connected(&mut self, link: LinkId, addr: &Addr) {
        self.overlay.on_connected(link, addr);
    }

    /// A connection is gone.
    pub fn on_disconnected(&mut self, now: Mono, link: LinkId) {
        self.overlay.on_disconnected(now, link);
    }

    /// A dial failed: the member whose address it is, if it is one's, and since when it was under way.
    pub fn on_dial_failed(&mut self, cx: &mut Cx<'_>, addr: &Addr) -> Option<(NodeId, Mono)> {
        self.overlay.on_dial_failed(cx, addr)
    }

    /// This address is our own.
    pub fn on_self_dialed(&mut self, addr: &Addr) {
        self.overlay.on_self_dialed(addr);
    }

    /// There is room for more on a link.
    pub fn on_link_ready(&mut self, cx: &mut Cx<'_>, store: &Store, link: LinkId) {
        self.push.on_ready(link);
        self.push.flush(cx, store);
        self.repair.on_link_ready(cx, store, link);
    }

    /// A member said who it is; `life` is what is known of it.
    pub fn on_member(&mut self, node: &NodeId, info: &NodeInfo, life: Option<Life>) {
        self.overlay.on_member(node, &info.addr, &info.region, life);
    }

    /// A member is there, or not.
    pub fn on_life(&mut self, node: &NodeId, life: Life) {
        self.overlay.on_life(node, life);
    }

    /// A node's entries were forgotten, or are too old to be kept.
    pub fn on_forgotten(&mut self, node: &NodeId) {
        self.overlay.on_forgotten(node);
        self.push.on_forgotten(node);
    }

    /// These peers must have a direct link.
    pub fn pin(&mut self, nodes: BTreeSet<NodeId>) {
        self.overlay.pin(nodes);
    }

    /// Somebody has something for a node without a link: one is made, and kept for a while.
    pub fn want(&mut self, now: Mono, node: &NodeId) {
        self.overlay.want(now, node);
    }

    /// Whether this node votes, and so keeps links to other regions.
    pub fn set_votes(&mut self, votes: bool) {
        self.overlay.set_votes(votes);
    }

    /// Our store belongs to a cluster.
    pub fn on_joined(&mut self) {
        self.overlay.on_joined();
    }

    /// A peer has more links than it wants.
    pub fn on_release(&mut self, cx: &mut Cx<'_>, link: LinkId) {
        self.overlay.on_release(cx, link);
    }

    /// Own entries are new.
    pub fn on_local(&mut self, cx: &mut Cx<'_>, store: &Store, keys: &[(Key, Scope)], confirm: bool) {
        for (key, scope) in keys {
            self.push.offer(key, *scope, Offer::Own { confirm }, |_| false);
        }
        self.push.flush(cx, store);
    }

    /// A peer is asked (again) to confirm own entries: what it was asked on an earlier link may not have come, or its
    /// answer not.
    pub fn confirm_with(&mut self, cx: &mut Cx<'_>, store: &Store, link: LinkId, keys: &[Key]) {
        for key in keys {
            if let Some(entry) = store.get(key) {
                self.push.offer(key, entry.scope, Offer::Own { confirm: true }, |other| other != link);
            }
        }
        self.push.flush(cx, store);
    }

    /// Push came.
    pub fn on_sensor_update(
        &mut self,
        cx: &mut Cx<'_>,
        store: &mut Store,
        link: LinkId,
        update: SensorUpdate,
        wall: Wall,
    ) {
        let _ = self.merge(cx, store, (link, Way::Push), update.entries, wall);
        self.push.flush(cx, store);
    }

    /// A peer has a better parent for these origins.
    pub fn on_prune(&mut self, link: LinkId, prune: &Prune) {
        if prune.origins.contains(&self.params.node) {
            // Who is linked to an origin to stay has no better parent.
            self.overlay.on_passing(link);
            self.push.on_passing(link, false);
        }
        self.push.on_prune(link, prune);
    }

    /// A peer wants these origins from us.
    pub fn on_graft(&mut self, now: Mono, link: LinkId, graft: &Graft) {
        if graft.origins.contains(&self.params.node) && self.overlay.is_passing(link) {
            self.overlay.on_staying(link);
            self.push.on_staying(link);
        }
        self.push.on_graft(now, link, graft);
    }

    /// Repair brought entries.
    pub fn on_state_update(
        &mut self,
        cx: &mut Cx<'_>,
        store: &mut Store,
        link: LinkId,
        update: StateUpdate,
        wall: Wall,
    ) {
        let settled = self.merge(cx, store, (link, Way::Repair), update.entries, wall);
        let merged = Merged { session: update.session, settled: &settled, more: update.more };
        self.repair.on_update(cx, store, link, merged, wall);
        self.push.flush(cx, store);
    }

    /// The origins of what was new and had been written so long ago that push should have brought it.
    fn merge(
        &mut self,
        cx: &mut Cx<'_>,
        store: &mut Store,
        (link, way): (LinkId, Way),
        entries: Vec<KeyedEntry>,
        wall: Wall,
    ) -> BTreeSet<NodeId> {
        let mut settled = BTreeSet::new();
        let Some(peer) = self.peers.get(&link) else { return settled };
        let (from, abroad) = (peer.node.clone(), peer.region != self.params.region);
        let settled_by = wall - self.params.gossip.settle_after;
        let mut confirmed = Vec::new();
        for keyed in entries {
            let origin = keyed.origin.clone();
            let own = origin == self.params.node;
            let repaired = way == Way::Repair || keyed.repaired;
            let asked = (keyed.confirm && origin == from).then(|| (keyed.channel.clone(), keyed.stamp));
            let outcome = match abroad && !own && keyed.scope == Scope::Region {
                true => Outcome::Refused { key: keyed.into_parts().0, why: EntryRefusal::Foreign },
                false => store.admit(keyed, wall),
            };
            // What was refused is not held, and must not count as if it were.
            if !matches!(outcome, Outcome::Refused { .. }) {
                confirmed.extend(asked);
            }
            match outcome {
                Outcome::New { key, entry, meaning } => {
                    let lag = Duration::from_millis(wall.millis_after(entry.stamp.wall()).try_into().unwrap_or(0));
                    let is_settled = entry.stamp.wall() < settled_by;
                    let is_first = is_settled && settled.insert(origin.clone());
                    if way == Way::Repair && is_settled && (is_first || self.push.is_looking_for(&origin)) {
                        // Push should have brought it: its tree does not reach us.
                        self.push.on_missed(cx.now.mono, link, &origin, lag);
                    }
                    if let Meaning::Node(info) = &meaning {
                        self.push.on_start(&origin, info.start);
                    }
                    if !repaired && !own {
                        self.push.on_news(cx.now.mono, link, &origin, lag);
                    } else if !own {
                        self.push.on_repaired(cx.now.mono, &origin, lag);
                    }
                    self.forward(&key, &entry, (link, way), repaired);
                    self.facts.push(match own {
                        true => Fact::OwnOrigin { key, entry },
                        false => Fact::Accepted { from: from.clone(), key, entry, meaning },
                    });
                }
                Outcome::Duplicate if way == Way::Push => {
                    self.push.on_duplicate(cx.now.mono, link, &origin, repaired);
                }
                Outcome::Duplicate => {}
                Outcome::Refused { key, why } => self.facts.push(Fact::Refused { from: from.clone(), key, why }),
            }
        }
        if !confirmed.is_empty() {
            cx.send(link, Message::Confirm(Confirm { entries: confirmed }));
        }
        settled
    }

    /// What is new goes on to the neighbours. What a repair brought does not go to those that have not been compared
    /// with yet: a newcomer, filled by one neighbour, would push all of it to the others, who have it.
    fn forward(&mut self, key: &Key, entry: &Entry, (link, way): (LinkId, Way), repaired: bool) {
        let repair = &self.repair;
        let skip = |other| way == Way::Repair && !repair.has_compared(other);
        self.push.offer(key, entry.scope, Offer::From { link, repaired }, skip);
    }

    /// A peer shows what its state looks like.
    pub fn on_state_digest(&mut self, cx: &mut Cx<'_>, store: &Store, link: LinkId, digest: &StateDigest, wall: Wall) {
        let Some(peer) = self.peers.get(&link) else { return };
        let offset_ms = digest.wall.millis_after(cx.now.wall);
        self.facts.push(Fact::ClockOffset { node: peer.node.clone(), offset_ms });
        self.repair.on_digest(cx, store, link, digest, wall);
    }

    /// A peer asks for what it lacks.
    pub fn on_state_request(
        &mut self,
        cx: &mut Cx<'_>,
        store: &Store,
        link: LinkId,
        request: StateRequest,
        wall: Wall,
    ) {
        self.repair.on_request(cx, store, link, request, wall);
    }

    /// Share of peers found equal by the last repair.
    pub fn converged(&self) -> Option<f64> {
        self.repair.converged()
    }

    /// Keys waiting to be sent, in all outboxes.
    pub fn waiting(&self) -> usize {
        self.push.waiting()
    }

    /// Counts what is held for spreading.
    pub fn count(&self, footprint: &mut Footprint) {
        footprint.outbox = self.push.waiting();
        footprint.origins = self.push.origins();
        footprint.repairs = self.repair.under_way();
        (footprint.members, footprint.dials) = self.overlay.count_held();
    }

    /// When gossip next wants attention.
    pub fn deadline(&self) -> Mono {
        self.overlay.deadline().min(self.push.deadline()).min(self.repair.deadline())
    }

    /// Acts on whatever is due.
    pub fn on_deadline(&mut self, cx: &mut Cx<'_>, store: &Store, wall: Wall) {
        self.overlay.on_deadline(cx);
        let staying = self.overlay.take_staying();
        staying.into_iter().for_each(|link| self.push.on_staying(link));
        let seen = self.overlay.take_last_seen(cx.now.mono);
        self.facts.extend(seen.map(|addrs| Fact::LastSeen { addrs }));
        if self.push.deadline() <= cx.now.mono {
            self.push.flush(cx, store);
        }
        if self.repair.deadline() <= cx.now.mono {
            let links: Vec<LinkId> = self.peers.keys().copied().collect();
            let afar = self.repair.on_deadline(cx, store, &links, wall);
            if afar && let Some(node) = self.overlay.draw_any(cx.rng) {
                // Whoever dials a link compares as soon as it stands.
                self.overlay.want(cx.now.mono, &node);
            }
        }
    }
}
