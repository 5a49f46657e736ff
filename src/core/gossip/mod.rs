//! How the replicated state spreads.

mod repair;

use std::collections::{BTreeMap, BTreeSet};

use crate::core::cx::Cx;
use crate::core::effect::Effect;
use crate::core::gossip::repair::Repair;
use crate::core::id::{LinkId, NodeId};
use crate::core::message::Message;
use crate::core::message::exchange::{Confirm, SensorUpdate, StateDigest, StateRequest, StateUpdate};
use crate::core::params::Params;
use crate::core::session::Peer;
use crate::core::state::entry::{Entry, EntryRefusal, Key, KeyedEntry};
use crate::core::state::store::{Outcome, Store};
use crate::core::state::system::{Addr, Meaning, NodeInfo};
use crate::core::time::{Mono, Wall};

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
}

/// Overlay, push and repair.
#[derive(Debug)]
pub struct Gossip {
    params: Params,
    peers: BTreeMap<LinkId, Peer>,
    dials: BTreeMap<Addr, Mono>,
    dialing: BTreeSet<Addr>,
    /// Links that stand because we dialed.
    dialed: BTreeMap<LinkId, Addr>,
    repair: Repair,
    facts: Vec<Fact>,
}

impl Gossip {
    /// Knows the bootstrap addresses and nobody.
    pub fn new(params: &Params) -> Self {
        Self {
            params: params.clone(),
            peers: BTreeMap::new(),
            dials: params.bootstrap.iter().filter(|a| **a != params.addr).map(|a| (a.clone(), Mono::ZERO)).collect(),
            dialing: BTreeSet::new(),
            dialed: BTreeMap::new(),
            repair: Repair::new(params),
            facts: Vec::new(),
        }
    }

    /// Takes what happened since the last call, in order.
    pub fn take_facts(&mut self) -> Vec<Fact> {
        std::mem::take(&mut self.facts)
    }

    /// A link is ready for use.
    pub fn on_link_up(&mut self, cx: &mut Cx<'_>, store: &Store, peer: Peer) {
        self.repair.on_link_up(cx, store, &peer);
        self.peers.insert(peer.link, peer);
    }

    /// A link is no longer in use.
    pub fn on_link_down(&mut self, link: LinkId) {
        self.peers.remove(&link);
        self.repair.on_link_down(link);
    }

    /// A dial went through: the address is not dialed again while that link stands, in use or not.
    pub fn on_connected(&mut self, link: LinkId, addr: &Addr) {
        self.dialing.remove(addr);
        self.dialed.insert(link, addr.clone());
    }

    /// A connection is gone.
    pub fn on_disconnected(&mut self, link: LinkId) {
        self.dialed.remove(&link);
    }

    /// A dial failed.
    pub fn on_dial_failed(&mut self, addr: &Addr) {
        self.dialing.remove(addr);
    }

    /// This address is our own.
    pub fn on_self_dialed(&mut self, addr: &Addr) {
        self.dials.remove(addr);
    }

    /// A member's address is known.
    pub fn on_member(&mut self, node: &NodeId, info: &NodeInfo) {
        if *node != self.params.node {
            self.dials.entry(info.addr.clone()).or_insert(Mono::ZERO);
        }
    }

    /// These peers must have a direct link.
    pub fn pin(&mut self, _nodes: BTreeSet<NodeId>) {}

    /// Own entries are new.
    pub fn on_local(&mut self, cx: &mut Cx<'_>, store: &Store, keys: &[Key], confirm: bool) {
        let links: Vec<LinkId> = self.peers.keys().copied().collect();
        self.push(cx, store, keys, confirm, &links);
    }

    fn push(&self, cx: &mut Cx<'_>, store: &Store, keys: &[Key], confirm: bool, links: &[LinkId]) {
        let keyed = keys.iter().filter_map(|key| Some(KeyedEntry { confirm, ..KeyedEntry::new(key, store.get(key)?) }));
        let entries: Vec<KeyedEntry> = keyed.collect();
        if entries.is_empty() {
            return;
        }
        for link in links {
            cx.send(*link, Message::SensorUpdate(SensorUpdate { entries: entries.clone() }));
        }
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
        let _ = self.merge(cx, store, link, update.entries, wall);
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
        let settled = self.merge(cx, store, link, update.entries, wall);
        self.repair.on_update(link, &settled, update.more);
    }

    /// The origins of what was new and had been written so long ago that push should have brought it.
    fn merge(
        &mut self,
        cx: &mut Cx<'_>,
        store: &mut Store,
        link: LinkId,
        entries: Vec<KeyedEntry>,
        wall: Wall,
    ) -> BTreeSet<NodeId> {
        let mut settled = BTreeSet::new();
        let Some(from) = self.peers.get(&link).map(|peer| peer.node.clone()) else { return settled };
        let settled_by = wall - self.params.gossip.settle_after;
        let mut fresh = Vec::new();
        let mut confirmed = Vec::new();
        for keyed in entries {
            let own = keyed.origin == self.params.node;
            let asked = (keyed.confirm && keyed.origin == from).then(|| (keyed.channel.clone(), keyed.stamp));
            let outcome = store.admit(keyed, wall);
            // What was refused is not held, and must not count as if it were.
            if !matches!(outcome, Outcome::Refused { .. }) {
                confirmed.extend(asked);
            }
            match outcome {
                Outcome::New { key, entry, meaning } => {
                    if entry.stamp.wall() < settled_by {
                        settled.insert(key.origin.clone());
                    }
                    fresh.push(key.clone());
                    self.facts.push(match own {
                        true => Fact::OwnOrigin { key, entry },
                        false => Fact::Accepted { from: from.clone(), key, entry, meaning },
                    });
                }
                Outcome::Duplicate => {}
                Outcome::Refused { key, why } => self.facts.push(Fact::Refused { from: from.clone(), key, why }),
            }
        }
        if !confirmed.is_empty() {
            cx.send(link, Message::Confirm(Confirm { entries: confirmed }));
        }
        let links: Vec<LinkId> = self.peers.keys().copied().filter(|other| *other != link).collect();
        self.push(cx, store, &fresh, false, &links);
        settled
    }

    /// A peer shows what its state looks like.
    pub fn on_state_digest(&mut self, cx: &mut Cx<'_>, store: &Store, link: LinkId, digest: &StateDigest) {
        let Some(peer) = self.peers.get(&link) else { return };
        let offset_ms = digest.wall.millis_after(cx.now.wall);
        self.facts.push(Fact::ClockOffset { node: peer.node.clone(), offset_ms });
        self.repair.on_digest(cx, store, link, digest);
    }

    /// A peer asks for what it lacks.
    pub fn on_state_request(&mut self, cx: &mut Cx<'_>, store: &Store, link: LinkId, request: &StateRequest) {
        self.repair.on_request(cx, store, link, request);
    }

    fn connected(&self) -> impl Iterator<Item = &Addr> {
        self.peers.values().map(|peer| &peer.addr).chain(self.dialed.values())
    }

    /// Share of peers found equal by the last repair.
    pub fn converged(&self) -> Option<f64> {
        self.repair.converged()
    }

    /// When gossip next wants attention.
    pub fn deadline(&self) -> Mono {
        let connected: BTreeSet<&Addr> = self.connected().collect();
        let waiting = |addr: &Addr| !connected.contains(addr) && !self.dialing.contains(addr);
        let dial = self.dials.iter().filter(|(addr, _)| waiting(addr)).map(|(_, due)| *due).min();
        dial.unwrap_or(Mono::NEVER).min(self.repair.deadline())
    }

    /// Acts on whatever is due.
    pub fn on_deadline(&mut self, cx: &mut Cx<'_>, store: &Store) {
        let now = cx.now.mono;
        let connected: BTreeSet<Addr> = self.connected().cloned().collect();
        for (addr, due) in &mut self.dials {
            if *due <= now
                && !connected.contains(addr)
                && *addr != self.params.addr
                && self.dialing.insert(addr.clone())
            {
                *due = now + cx.rng.between(self.params.gossip.redial_min, self.params.gossip.redial_min * 4);
                cx.fx.push(Effect::Dial { addr: addr.clone() });
            }
        }
        let links: Vec<LinkId> = self.peers.keys().copied().collect();
        self.repair.on_deadline(cx, store, &links);
    }
}
