//! How the replicated state spreads: over a random [`overlay`], by [`push`] along trees, mended by [`repair`].
//!
//! Merges what comes and tells the node what was new. The three beside this file do not know each other.

mod overlay;
mod push;
mod repair;

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
        self.push.flush(cx, store);
        self.repair.on_link_up(cx, store, &peer, wall);
        self.peers.insert(peer.link, peer);
    }

    /// A link is no longer in use. True if one of the two ends gave it up on purpose.
    pub fn on_link_down(&mut self, cx: &mut Cx<'_>, store: &Store, link: LinkId, wall: Wall) -> bool {
        self.peers.remove(&link);
        self.repair.on_link_down(cx, link);
        let grafted = self.push.on_link_down(link);
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
    pub fn on_disconnected(&mut self, link: LinkId) {
        self.overlay.on_disconnected(link);
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
        self.push.on_prune(link, prune);
    }

    /// A peer has lost its parent for these origins.
    pub fn on_graft(&mut self, link: LinkId, graft: &Graft) {
        self.push.on_graft(link, graft);
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
        // Push should have brought these: their trees do not reach us.
        settled.iter().for_each(|origin| self.push.on_missed(cx.now.mono, link, origin));
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
                    if entry.stamp.wall() < settled_by {
                        settled.insert(origin.clone());
                    }
                    if let Meaning::Node(info) = &meaning {
                        self.push.on_start(&origin, info.start);
                    }
                    if way == Way::Push && !own {
                        let lag = u64::try_from(wall.millis_after(entry.stamp.wall())).unwrap_or(0);
                        self.push.on_news(link, &origin, Duration::from_millis(lag));
                    }
                    self.forward(&key, &entry, (link, way));
                    self.facts.push(match own {
                        true => Fact::OwnOrigin { key, entry },
                        false => Fact::Accepted { from: from.clone(), key, entry, meaning },
                    });
                }
                Outcome::Duplicate if way == Way::Push => self.push.on_duplicate(cx.now.mono, link, &origin),
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
    fn forward(&mut self, key: &Key, entry: &Entry, (link, way): (LinkId, Way)) {
        let repair = &self.repair;
        let skip = |other| way == Way::Repair && !repair.has_compared(other);
        self.push.offer(key, entry.scope, Offer::From(link), skip);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::effect::Effect;
    use crate::core::hlc::Hlc;
    use crate::core::id::{Channel, RegionId, StoreId};
    use crate::core::reading::Reading;
    use crate::core::rng::Rng;
    use crate::core::state::entry::Value;

    use crate::core::time::Now;

    const LINK: LinkId = LinkId(1);
    const WALL: Wall = Wall::from_millis(1_700_000_000_000);

    /// What is held after a peer of `region` has sent one entry of this scope to a node in eu.
    fn held_of(region: &str, scope: Scope) -> (usize, Vec<Fact>) {
        let name = |text: &str| NodeId::new(text).unwrap();
        let region = RegionId::new(region).unwrap();
        let params = Params::new("lab", name("gw-1"), RegionId::new("eu").unwrap(), "a:1".into());
        let (mut gossip, mut store) =
            (Gossip::new(&params, BTreeMap::new()), Store::new(params.clock_skew_max, params.retain, 256));
        let (mut rng, mut fx) = (Rng::new(1), Vec::new());
        let mut cx = Cx { now: Now { mono: Mono::ZERO, wall: WALL }, rng: &mut rng, fx: &mut fx };
        let (node, addr) = (name("gw-2"), "b:1".into());
        let peer =
            Peer { link: LINK, node, store: StoreId(1), region, start: Hlc::ZERO, addr, dialed: None, founding: false };
        gossip.on_link_up(&mut cx, &store, peer, WALL);
        let key = Key::new(name("gw-3"), Channel::new("temp").unwrap());
        let entry = Entry { value: Value::of(&Reading::new(21.5, WALL)), stamp: Hlc::new(WALL, 0), scope };
        let update = SensorUpdate { entries: vec![KeyedEntry::new(&key, &entry)] };
        gossip.on_sensor_update(&mut cx, &mut store, LINK, update, WALL);
        (store.len(), gossip.take_facts())
    }

    #[test]
    fn what_belongs_to_another_region_is_refused() {
        let (held, facts) = held_of("us", Scope::Region);
        assert_eq!(held, 0);
        assert!(facts.iter().any(|fact| matches!(fact, Fact::Refused { why: EntryRefusal::Foreign, .. })), "{facts:?}");
        assert_eq!(held_of("us", Scope::Global).0, 1);
        assert_eq!(held_of("eu", Scope::Region).0, 1);
    }

    /// Of ten regions' thirty first voters, met by one of them when their cluster was founded or later: how many links
    /// it gave up, and to how many it pushed an entry of its own.
    fn met_by_a_founder(founding: bool) -> (usize, usize) {
        let region = |n: usize| RegionId::new(&format!("r{n}")).unwrap();
        let voters = |r: usize| (0..3).map(|n| NodeId::new(&format!("gw-{r}-{n}")).unwrap()).collect::<Vec<_>>();
        let mut params = Params::new("lab", voters(0)[0].clone(), region(0), "a:1".into());
        params.initial_voters = (0..10).map(|r| (region(r), voters(r))).collect();
        let (mut gossip, mut store) =
            (Gossip::new(&params, BTreeMap::new()), Store::new(params.clock_skew_max, params.retain, 256));
        let (mut rng, mut fx) = (Rng::new(1), Vec::new());
        let mut cx = Cx { now: Now { mono: Mono::ZERO, wall: WALL }, rng: &mut rng, fx: &mut fx };
        let others = params.initial_voters.iter().flat_map(|(region, nodes)| nodes.iter().map(move |n| (region, n)));
        for (link, (region, node)) in (1..).zip(others.filter(|(_, node)| **node != params.node)) {
            let (addr, dialed) = (node.as_str().into(), None);
            let (region, node) = (region.clone(), node.clone());
            let (link, store_id, start) = (LinkId(link), StoreId(1), Hlc::ZERO);
            let peer = Peer { link, node, store: store_id, region, start, addr, dialed, founding };
            gossip.on_link_up(&mut cx, &store, peer, WALL);
        }
        let key = Key::new(params.node.clone(), Channel::new("temp").unwrap());
        let (value, stamp) = (Value::of(&Reading::new(21.5, WALL)), Hlc::new(WALL, 0));
        store.insert_own(key.clone(), Entry { value, stamp, scope: Scope::Global });
        gossip.on_local(&mut cx, &store, &[(key, Scope::Global)], false);
        let pushed = |fx: &&Effect| matches!(fx, Effect::Send { message: Message::SensorUpdate(_), .. });
        let given_up = |fx: &&Effect| matches!(fx, Effect::Hangup { .. });
        (fx.iter().filter(given_up).count(), fx.iter().filter(pushed).count())
    }

    #[test]
    fn links_between_regions_that_founding_alone_needs_are_given_up_before_anything_is_pushed() {
        assert_eq!(met_by_a_founder(false), (0, 29));
        let (given_up, pushed) = met_by_a_founder(true);
        assert_eq!(given_up + pushed, 29);
        assert!((3..=12).contains(&pushed), "its own region's two and a few abroad: {pushed}");
    }
}
