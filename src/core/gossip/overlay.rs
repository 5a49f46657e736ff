//! The overlay: which links a node makes, keeps and gives up (section 3).
//!
//! Decides from who is known, who is linked, and how dials went. What flows over links is others' business.
//!
//! In a region of at most `overlay_degree` other nodes everyone is linked to everyone. In a larger one a node picks
//! half of its neighbours at random and accepts the other half: a random graph, in which every loss is made good by
//! a new random pick. Pinned links come on top. The dead are tried again one at a time, whatever their number. Who
//! comes back when every bootstrap peer is elsewhere tries where members were [`last_seen`](super::last_seen).
//!
//! Invariants: a node gives up neither a pinned link nor its only one; dials under way are bounded by what is
//! wanted; nothing here looks at all members.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::cx::Cx;
use crate::core::effect::Effect;
use crate::core::gossip::last_seen::LastSeen;
use crate::core::id::{LinkId, NodeId, RegionId};
use crate::core::message::Message;
use crate::core::message::exchange::Release;
use crate::core::params::Params;
use crate::core::rng::Rng;
use crate::core::session::Peer;
use crate::core::state::system::Addr;
use crate::core::time::Mono;
use crate::core::view::Liveness as Life;

/// A dial under way counts as the neighbour it is to become for so long.
const DIAL_COUNTS: Duration = Duration::from_secs(1);
/// Time between rounds in which what is missing of the accepted half is picked as well, and what is too much is
/// given up: others come by themselves, and need a moment.
const SETTLE: Duration = Duration::from_secs(1);
/// Mean time after which one of a node's own picks is swapped for another.
const SWAP_INTERVAL: Duration = Duration::from_secs(600);
/// How long a link that somebody asked for by name is kept up for.
const WANTED_FOR: Duration = Duration::from_secs(10);
/// How long a neighbour may take to give a link up that it was asked for.
const ASKED_FOR: Duration = Duration::from_secs(5);
/// The dead found last, who come back most often: every other attempt is theirs.
const LATELY_DEAD: usize = 16;
/// Addresses at which members were last seen that are tried at a time: one answer is enough.
const SEEN_AT_ONCE: usize = 2;
/// How long the first peer has to say who else is there, before more of those addresses are tried.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// Draws after which a pick gives up: almost everyone is linked already.
const DRAWS: usize = 16;

/// Links and whom they could be made to.
#[derive(Debug)]
pub(super) struct Overlay {
    params: Params,
    members: BTreeMap<NodeId, Known>,
    near: Pool,
    far: Pool,
    /// In the order of their deaths.
    dead: BTreeMap<u32, NodeId>,
    deaths: u32,
    links: BTreeMap<LinkId, Neighbour>,
    by_node: BTreeMap<NodeId, LinkId>,
    /// Dials under way, and those that stand, by the address that was dialed.
    dials: BTreeMap<Addr, Dial>,
    bootstrap: BTreeMap<Addr, Contact>,
    last_seen: LastSeen,
    /// Where members were last seen in an earlier life, as long as nobody has told us where they are in this one.
    untold: BTreeMap<NodeId, (Addr, Retry)>,
    untold_due: Mono,
    /// No member that has been silent for so long is kept by anybody.
    untold_until: Mono,
    /// Addresses found to be our own.
    own: BTreeSet<Addr>,
    /// Who must have a direct link.
    pinned: BTreeSet<NodeId>,
    /// Who was asked for by name, and until when.
    wanted: BTreeMap<NodeId, Mono>,
    /// Waits of those who must be reached.
    retries: BTreeMap<NodeId, Retry>,
    /// Neighbours just lost: are they gone, or only the link?
    lost: Vec<(NodeId, Mono)>,
    votes: bool,
    /// True once a link has been in use.
    met: bool,
    pick_due: Mono,
    settle_due: Mono,
    dead_due: Mono,
    swap_due: Mono,
    due: Mono,
}

/// A member that could be linked.
#[derive(Debug)]
struct Known {
    addr: Addr,
    foreign: bool,
    place: Place,
    /// Its place among those of its kind.
    at: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Doubted, or left: nobody to pick.
    Nowhere,
    Near,
    Far,
    Dead,
}

/// Members of one kind, to draw from. The order means nothing.
#[derive(Debug, Default)]
struct Pool(Vec<NodeId>);

/// A peer on a link in use.
#[derive(Debug)]
struct Neighbour {
    node: NodeId,
    addr: Addr,
    foreign: bool,
    /// We picked it.
    ours: bool,
    up: Mono,
    /// Until when a closed link answers our asking for it.
    asked: Mono,
    /// We have given the link up ourselves.
    parting: bool,
}

#[derive(Debug)]
struct Dial {
    node: Option<NodeId>,
    since: Mono,
    link: Option<LinkId>,
}

/// An address first contacted.
#[derive(Debug, Default)]
struct Contact {
    /// Who answered there last.
    node: Option<NodeId>,
    retry: Retry,
}

/// When somebody is dialed again.
#[derive(Clone, Copy, Debug, Default)]
struct Retry {
    due: Mono,
    wait: Duration,
}

impl Pool {
    /// Where it now stands.
    fn push(&mut self, node: &NodeId) -> u32 {
        self.0.push(node.clone());
        self.0.len() as u32 - 1
    }

    /// Who now stands in its place.
    fn remove(&mut self, at: u32) -> Option<NodeId> {
        self.0.swap_remove(at as usize);
        self.0.get(at as usize).cloned()
    }
}

impl Retry {
    /// Waits twice as long as the last time, with jitter.
    fn put_off(&mut self, now: Mono, rng: &mut Rng, least: Duration, most: Duration) {
        self.wait = (self.wait * 2).clamp(least, most);
        self.due = now + rng.between(self.wait / 2, self.wait * 3 / 2);
    }
}

impl Overlay {
    /// Knows the bootstrap addresses, where members were last seen in an earlier life, and nobody.
    pub fn new(params: &Params, last_seen: BTreeMap<NodeId, Addr>) -> Self {
        let untold = last_seen.iter().map(|(node, addr)| (node.clone(), (addr.clone(), Retry::default())));
        let bootstrap = params.bootstrap.iter().filter(|addr| **addr != params.addr);
        Self {
            params: params.clone(),
            members: BTreeMap::new(),
            near: Pool::default(),
            far: Pool::default(),
            dead: BTreeMap::new(),
            deaths: 0,
            links: BTreeMap::new(),
            by_node: BTreeMap::new(),
            dials: BTreeMap::new(),
            bootstrap: bootstrap.map(|addr| (addr.clone(), Contact::default())).collect(),
            untold: untold.collect(),
            untold_due: Mono::ZERO,
            untold_until: Mono::ZERO,
            last_seen: LastSeen::recover(last_seen),
            own: BTreeSet::from([params.addr.clone()]),
            pinned: BTreeSet::new(),
            wanted: BTreeMap::new(),
            retries: BTreeMap::new(),
            lost: Vec::new(),
            votes: false,
            met: false,
            pick_due: Mono::ZERO,
            settle_due: Mono::ZERO,
            dead_due: Mono::ZERO,
            swap_due: Mono::NEVER,
            due: Mono::ZERO,
        }
    }

    /// A link is ready for use.
    pub fn on_link_up(&mut self, cx: &mut Cx<'_>, peer: &Peer) {
        if !self.met {
            self.met = true;
            self.untold_due = cx.now.mono + TOLD_WITHIN;
        }
        let foreign = peer.region != self.params.region;
        let ours = peer.dialed.is_some();
        for addr in peer.dialed.iter().chain([&peer.addr]) {
            if let Some(contact) = self.bootstrap.get_mut(addr) {
                *contact = Contact { node: Some(peer.node.clone()), retry: Retry::default() };
            }
        }
        self.retries.remove(&peer.node);
        self.know(&peer.node, &peer.addr, foreign);
        let (node, addr, up) = (peer.node.clone(), peer.addr.clone(), cx.now.mono);
        self.by_node.insert(node.clone(), peer.link);
        self.links.insert(peer.link, Neighbour { node, addr, foreign, ours, up, asked: Mono::ZERO, parting: false });
        self.note_seen(&peer.node);
        if self.swap_due == Mono::NEVER {
            self.swap_due = cx.now.mono + cx.rng.between(SWAP_INTERVAL / 2, SWAP_INTERVAL * 3 / 2);
        }
        self.due = Mono::ZERO;
    }

    /// A link is no longer in use. True if one of the two ends gave it up on purpose.
    pub fn on_link_down(&mut self, cx: &mut Cx<'_>, link: LinkId) -> bool {
        let now = cx.now.mono;
        let Some(gone) = self.links.remove(&link) else { return true };
        if self.by_node.get(&gone.node) == Some(&link) {
            self.by_node.remove(&gone.node);
        }
        let parted = gone.asked > now || gone.parting;
        if !parted {
            // One that breaks as soon as it stands is not made again in a tight circle.
            let wait = if now.since(gone.up) < SETTLE { self.params.gossip.redial_min * 2 } else { Duration::ZERO };
            self.lost.push((gone.node, now + wait));
        }
        self.due = Mono::ZERO;
        parted
    }

    /// A dial went through: the address is not dialed again while that link stands, in use or not.
    pub fn on_connected(&mut self, link: LinkId, addr: &Addr) {
        if let Some(dial) = self.dials.get_mut(addr) {
            dial.link = Some(link);
        }
    }

    /// A connection is gone.
    pub fn on_disconnected(&mut self, link: LinkId) {
        self.dials.retain(|_, dial| dial.link != Some(link));
        self.due = Mono::ZERO;
    }

    /// A dial failed: to whom, if the address is still that member's.
    pub fn on_dial_failed(&mut self, cx: &mut Cx<'_>, addr: &Addr) -> Option<NodeId> {
        let dial = self.dials.remove(addr)?;
        let wait = cx.rng.between(self.params.gossip.redial_min / 2, self.params.gossip.redial_min * 3 / 2);
        self.pick_due = self.pick_due.max(cx.now.mono + wait);
        self.due = Mono::ZERO;
        dial.node.filter(|node| self.members.get(node).is_some_and(|known| known.addr == *addr))
    }

    /// This address is our own.
    pub fn on_self_dialed(&mut self, addr: &Addr) {
        self.dials.remove(addr);
        self.own.insert(addr.clone());
    }

    /// A member says where it is; `life` is what is known of it.
    pub fn on_member(&mut self, node: &NodeId, addr: &Addr, region: &RegionId, life: Option<Life>) {
        if *node == self.params.node {
            return;
        }
        self.know(node, addr, *region != self.params.region);
        if self.pinned.contains(node) {
            self.due = Mono::ZERO;
        }
        if let Some(contact) = self.bootstrap.get_mut(addr) {
            contact.node = Some(node.clone());
        }
        if let Some(life) = life {
            self.on_life(node, life);
        }
    }

    fn know(&mut self, node: &NodeId, addr: &Addr, foreign: bool) {
        self.untold.remove(node);
        self.last_seen.on_moved(node, addr);
        match self.members.get_mut(node) {
            Some(known) if known.foreign == foreign && known.addr == *addr => {}
            Some(known) if known.foreign == foreign => {
                known.addr = addr.clone();
                self.retries.remove(node);
                self.due = Mono::ZERO;
            }
            _ => {
                self.place(node, Place::Nowhere);
                let known = Known { addr: addr.clone(), foreign, place: Place::Nowhere, at: 0 };
                self.members.insert(node.clone(), known);
            }
        }
    }

    /// A member is there, or not.
    pub fn on_life(&mut self, node: &NodeId, life: Life) {
        let Some(known) = self.members.get(node) else { return };
        let place = match life {
            Life::Alive if known.foreign => Place::Far,
            Life::Alive => Place::Near,
            Life::Dead => Place::Dead,
            Life::Suspect | Life::Left => Place::Nowhere,
        };
        if place != known.place {
            self.place(node, place);
            self.due = Mono::ZERO;
        }
        self.note_seen(node);
    }

    /// Keeps where a member is, if it is there: neighbours before others, who are random; those of our own region
    /// before those of another; anybody before the dead.
    fn note_seen(&mut self, node: &NodeId) {
        let Some(known) = self.members.get(node) else { return };
        let is_neighbour = |node: &NodeId| self.by_node.contains_key(node);
        let foreign = |node: &NodeId| self.members.get(node).is_some_and(|known| known.foreign);
        let dead = |node: &NodeId| self.members.get(node).is_some_and(|known| known.place == Place::Dead);
        let linked = is_neighbour(node);
        if !linked && known.place != Place::Near {
            return;
        }
        self.last_seen.note(node, &known.addr, |kept| {
            dead(kept) || (linked && (!is_neighbour(kept) || (!known.foreign && foreign(kept))))
        });
        if self.last_seen.is_changed() {
            self.due = Mono::ZERO;
        }
    }

    /// Where members were last seen, if that is to be written now.
    pub fn take_last_seen(&mut self, now: Mono) -> Option<BTreeMap<NodeId, Addr>> {
        match self.last_seen.take_due(now) {
            Ok(addrs) => Some(addrs),
            Err(due) => {
                self.wait_for(due);
                None
            }
        }
    }

    /// A node's entries were forgotten, or are too old to be kept.
    pub fn on_forgotten(&mut self, node: &NodeId) {
        self.place(node, Place::Nowhere);
        self.members.remove(node);
        self.retries.remove(node);
        self.untold.remove(node);
        self.last_seen.on_forgotten(node);
        if self.last_seen.is_changed() {
            self.due = Mono::ZERO;
        }
    }

    fn place(&mut self, node: &NodeId, place: Place) {
        let Some((old, at)) = self.members.get(node).map(|known| (known.place, known.at)) else { return };
        let moved = match old {
            Place::Nowhere => None,
            Place::Near => self.near.remove(at),
            Place::Far => self.far.remove(at),
            Place::Dead => {
                self.dead.remove(&at);
                None
            }
        };
        if let Some(moved) = moved.and_then(|moved| self.members.get_mut(&moved)) {
            moved.at = at;
        }
        let at = match place {
            Place::Nowhere => 0,
            Place::Near => self.near.push(node),
            Place::Far => self.far.push(node),
            Place::Dead => {
                self.deaths = self.deaths.wrapping_add(1);
                self.dead.insert(self.deaths, node.clone());
                self.deaths
            }
        };
        if let Some(known) = self.members.get_mut(node) {
            (known.place, known.at) = (place, at);
        }
    }

    /// These peers must have a direct link.
    pub fn pin(&mut self, nodes: BTreeSet<NodeId>) {
        if self.pinned != nodes {
            self.retries.retain(|node, _| nodes.contains(node));
            self.pinned = nodes;
            self.due = Mono::ZERO;
        }
    }

    /// Somebody has something for a node without a link: one is made, and kept for a while.
    pub fn want(&mut self, now: Mono, node: &NodeId) {
        if self.wanted.insert(node.clone(), now + WANTED_FOR).is_none() {
            self.due = Mono::ZERO;
        }
    }

    /// Whether this node votes, and so keeps links to other regions.
    pub fn set_votes(&mut self, votes: bool) {
        self.votes = votes;
    }

    /// A peer has more links than it wants: it gets this one back, unless it is pinned or our only one of its kind.
    pub fn on_release(&mut self, cx: &mut Cx<'_>, link: LinkId) {
        let Some(asking) = self.links.get(&link) else { return };
        let everyone = !asking.foreign && self.is_small();
        if everyone || self.is_kept(&asking.node) || asking.parting {
            return;
        }
        let same =
            |(id, other): (&LinkId, &Neighbour)| *id != link && other.foreign == asking.foreign && !other.parting;
        if self.links.iter().any(same) {
            self.part(cx, link);
        }
    }

    fn part(&mut self, cx: &mut Cx<'_>, link: LinkId) {
        if let Some(neighbour) = self.links.get_mut(&link) {
            neighbour.parting = true;
            cx.fx.push(Effect::Hangup { link });
        }
    }

    fn is_kept(&self, node: &NodeId) -> bool {
        self.pinned.contains(node) || self.wanted.contains_key(node)
    }

    /// When the overlay next wants attention.
    pub fn deadline(&self) -> Mono {
        self.due
    }

    /// Makes and gives up links as far as it is time.
    pub fn on_deadline(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        if self.due > now {
            return;
        }
        self.due = Mono::NEVER;
        self.give_back_unwanted(cx);
        self.look_after_lost(cx);
        self.contact(cx);
        self.look_where_last_seen(cx);
        self.reach(cx);
        self.pick(cx);
        self.try_dead(cx);
        if self.settle_due <= now {
            self.settle_due = now + SETTLE;
            self.shed(cx);
        }
        self.swap(cx);
    }

    /// Who was wanted for a while is given back, unless the link is one of few.
    fn give_back_unwanted(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        let over: Vec<NodeId> =
            self.wanted.iter().filter(|(_, until)| **until <= now).map(|(node, _)| node.clone()).collect();
        for node in over {
            self.wanted.remove(&node);
            let degree = self.params.gossip.overlay_degree;
            let Some(link) = self.by_node.get(&node).copied() else { continue };
            let spare = self.links.get(&link).is_some_and(|neighbour| {
                let enough = if neighbour.foreign { self.params.gossip.cross_links } else { degree };
                neighbour.ours && self.count(neighbour.foreign).0 > enough && (neighbour.foreign || !self.is_small())
            });
            if spare && !self.is_kept(&node) {
                self.ask_back(cx, link);
            }
        }
        if let Some(until) = self.wanted.values().min().copied() {
            self.wait_for(until);
        }
    }

    /// How many members could be linked, and how many dials there are or will be.
    pub fn count_held(&self) -> (usize, usize) {
        let waits = self.retries.len() + self.wanted.len() + self.lost.len() + self.untold.len();
        (self.members.len(), self.dials.len() + waits)
    }

    fn wait_for(&mut self, at: Mono) {
        self.due = self.due.min(at);
    }

    /// A link that broke: whether only the link is gone, or who was there, tells a dial.
    fn look_after_lost(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        for (node, due) in std::mem::take(&mut self.lost) {
            if due <= now {
                self.dial_member(cx, &node);
            } else if !self.by_node.contains_key(&node) {
                self.lost.push((node, due));
                self.wait_for(due);
            }
        }
    }

    /// Addresses first contacted: all of them until somebody has been met, and from then on those whose owner is
    /// not known to be there.
    fn contact(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        let (least, most) = (self.params.gossip.redial_min, self.params.gossip.redial_max);
        let there = |contact: &Contact| contact.node.as_ref().and_then(|node| self.members.get(node));
        let wanted = |contact: &Contact| {
            !self.met
                || self.links.is_empty()
                || there(contact).is_none_or(|known| matches!(known.place, Place::Dead | Place::Nowhere))
        };
        let free: Vec<Addr> = self
            .bootstrap
            .iter()
            .filter(|(addr, contact)| wanted(contact) && !self.is_busy(addr))
            .map(|(addr, _)| addr.clone())
            .collect();
        for addr in free {
            let Some(contact) = self.bootstrap.get_mut(&addr) else { continue };
            if contact.retry.due <= now {
                contact.retry.put_off(now, cx.rng, least, most);
                let node = contact.node.clone();
                self.dial(cx, addr.clone(), node);
            } else {
                let due = contact.retry.due;
                self.wait_for(due);
            }
        }
    }

    /// Addresses at which members were last seen in an earlier life, a few at a time: until somebody has been met, and
    /// from then on those of whom nobody speaks. If all bootstrap peers are elsewhere, one of these may not be.
    fn look_where_last_seen(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        if self.untold.is_empty() {
            return;
        }
        if self.untold_until == Mono::ZERO {
            self.untold_until = now + self.params.retain;
        }
        if self.untold_until <= now {
            return self.untold.clear();
        }
        if self.untold_due <= now {
            let free = self.untold.iter().filter(|(_, (addr, retry))| retry.due <= now && !self.is_busy(addr));
            let mut free: Vec<NodeId> = free.map(|(node, _)| node.clone()).collect();
            cx.rng.shuffle(&mut free);
            let (least, most) = (self.params.gossip.redial_min * 2, self.params.gossip.redial_max);
            for node in free.into_iter().take(SEEN_AT_ONCE) {
                let Some((addr, retry)) = self.untold.get_mut(&node) else { continue };
                retry.put_off(now, cx.rng, least, most);
                let addr = addr.clone();
                self.dial(cx, addr, Some(node));
            }
            self.untold_due = now + self.params.gossip.redial_min;
        }
        let next = self.untold.values().map(|(_, retry)| retry.due).min().unwrap_or(Mono::NEVER);
        self.wait_for(next.max(self.untold_due));
    }

    /// Those who must be reached: the pinned, the wanted, and everyone in a small region.
    fn reach(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        let (least, most) = (self.params.gossip.redial_min, self.params.gossip.redial_max);
        let everyone = if self.is_small() { self.near.0.as_slice() } else { &[] };
        let missing: Vec<NodeId> = self
            .pinned
            .iter()
            .chain(self.wanted.keys())
            .chain(everyone)
            .filter(|node| !self.by_node.contains_key(*node))
            .cloned()
            .collect();
        for node in missing {
            let Some(known) = self.members.get(&node) else { continue };
            if self.is_busy(&known.addr) {
                continue;
            }
            let addr = known.addr.clone();
            let retry = self.retries.entry(node.clone()).or_default();
            if retry.due <= now {
                retry.put_off(now, cx.rng, least, most);
                self.dial(cx, addr, Some(node.clone()));
            }
            let due = self.retries.get(&node).map_or(Mono::NEVER, |retry| retry.due);
            self.wait_for(due);
        }
    }

    fn is_small(&self) -> bool {
        self.near.0.len() <= self.params.gossip.overlay_degree
    }

    /// Neighbours of one kind that are neither pinned nor on their way out: how many, and how many of them we picked.
    fn count(&self, foreign: bool) -> (usize, usize) {
        let of_kind = |n: &&Neighbour| n.foreign == foreign && !n.parting && !self.is_kept(&n.node);
        let kind = self.links.values().filter(of_kind);
        kind.fold((0, 0), |(all, ours), neighbour| (all + 1, ours + usize::from(neighbour.ours)))
    }

    /// Picks at random what is missing of our half of the neighbours, and, where too few others come by themselves,
    /// of the other half.
    fn pick(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        let degree = self.params.gossip.overlay_degree;
        let fresh =
            |dial: &&Dial| dial.since + DIAL_COUNTS > now && !dial.link.is_some_and(|l| self.links.contains_key(&l));
        let under_way = self.dials.values().filter(fresh).count();
        if under_way > 0 {
            self.wait_for(now + DIAL_COUNTS);
        }
        let mut missing = [0, 0];
        if self.met && !self.is_small() {
            let (all, ours) = self.count(false);
            // Who is picked by many needs no picks of its own: it would only ask for others back.
            missing[0] = if all < degree + degree / 2 { (degree / 2).saturating_sub(ours) } else { 0 };
            if missing[0] == 0 && all < degree {
                missing[0] = usize::from(self.settle_due <= now);
                self.wait_for(self.settle_due.max(now + SETTLE));
            }
        }
        if self.votes {
            missing[1] = self.params.gossip.cross_links.saturating_sub(self.count(true).0);
        }
        let wanted = (missing[0] + missing[1]).saturating_sub(under_way);
        if wanted == 0 {
            return;
        }
        if self.pick_due > now {
            return self.wait_for(self.pick_due);
        }
        for n in 0..wanted {
            let far = n >= missing[0];
            if let Some(node) = self.draw(cx.rng, far) {
                self.dial_member(cx, &node);
            }
        }
        self.pick_due = now + self.params.gossip.redial_min;
        self.wait_for(self.pick_due);
    }

    /// Somebody alive without a link.
    fn draw(&self, rng: &mut Rng, far: bool) -> Option<NodeId> {
        let pool = if far { &self.far } else { &self.near };
        (0..DRAWS).find_map(|_| rng.pick(&pool.0).filter(|node| !self.by_node.contains_key(*node))).cloned()
    }

    /// Anybody alive without a link, of any region: for a repair among those who would never meet.
    pub fn draw_any(&self, rng: &mut Rng) -> Option<NodeId> {
        let (near, far) = (self.near.0.len(), self.far.0.len());
        let is_far = near + far > 0 && rng.below(near + far) >= near;
        self.draw(rng, is_far)
    }

    /// Tries one of the dead now and then: a partition that has healed finds itself.
    fn try_dead(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        if self.dead.is_empty() {
            return;
        }
        if self.dead_due <= now {
            let node = self.draw_dead(cx.rng);
            let near = |node: &NodeId| self.members.get(node).is_some_and(|known| !known.foreign);
            if let Some(node) = node.filter(|node| self.votes || near(node)) {
                self.dial_member(cx, &node);
            }
            let interval = self.params.gossip.redial_max / 2;
            self.dead_due = now + cx.rng.between(interval / 2, interval * 3 / 2);
        }
        self.wait_for(self.dead_due);
    }

    fn draw_dead(&self, rng: &mut Rng) -> Option<NodeId> {
        if rng.chance(0.5) {
            let lately: Vec<&NodeId> = self.dead.values().rev().take(LATELY_DEAD).collect();
            return rng.pick(&lately).map(|node| (*node).clone());
        }
        let (first, last) = (*self.dead.keys().next()?, *self.dead.keys().next_back()?);
        let from = first + rng.below((last - first) as usize + 1) as u32;
        self.dead.range(from..).next().map(|(_, node)| node.clone())
    }

    /// Asks as many neighbours as are too many to give up their links. They decide: nobody loses its only one.
    fn shed(&mut self, cx: &mut Cx<'_>) {
        let degree = self.params.gossip.overlay_degree;
        let limits = [(false, degree * 2), (true, self.params.gossip.cross_links * 3)];
        for (foreign, limit) in limits {
            let (all, _) = self.count(foreign);
            if all <= limit || (!foreign && self.is_small()) {
                continue;
            }
            let of_kind = |n: &Neighbour| n.foreign == foreign && !n.parting && !self.is_kept(&n.node);
            let mut candidates: Vec<LinkId> =
                self.links.iter().filter(|(_, n)| of_kind(n)).map(|(link, _)| *link).collect();
            cx.rng.shuffle(&mut candidates);
            candidates.truncate(all - limit);
            candidates.into_iter().for_each(|link| self.ask_back(cx, link));
            self.wait_for(self.settle_due);
        }
    }

    fn ask_back(&mut self, cx: &mut Cx<'_>, link: LinkId) {
        if let Some(neighbour) = self.links.get_mut(&link) {
            neighbour.asked = cx.now.mono + ASKED_FOR;
            cx.send(link, Message::Release(Release {}));
        }
    }

    /// Gives one of our own picks back now and then, so that the graph stays random; another is picked for it.
    fn swap(&mut self, cx: &mut Cx<'_>) {
        if self.swap_due <= cx.now.mono {
            self.swap_due = cx.now.mono + cx.rng.between(SWAP_INTERVAL / 2, SWAP_INTERVAL * 3 / 2);
            let own = |n: &Neighbour| n.ours && !n.foreign && !n.parting && !self.is_kept(&n.node);
            let picks: Vec<LinkId> = self.links.iter().filter(|(_, n)| own(n)).map(|(link, _)| *link).collect();
            let spare = !self.is_small() && self.count(false).0 >= self.params.gossip.overlay_degree;
            if let Some(link) = cx.rng.pick(&picks).filter(|_| spare) {
                self.ask_back(cx, *link);
            }
        }
        self.wait_for(self.swap_due);
    }

    fn dial_member(&mut self, cx: &mut Cx<'_>, node: &NodeId) {
        let Some(addr) = self.members.get(node).map(|known| known.addr.clone()) else { return };
        if !self.by_node.contains_key(node) && !self.is_busy(&addr) {
            self.dial(cx, addr, Some(node.clone()));
        }
    }

    fn dial(&mut self, cx: &mut Cx<'_>, addr: Addr, node: Option<NodeId>) {
        self.dials.insert(addr.clone(), Dial { node, since: cx.now.mono, link: None });
        cx.fx.push(Effect::Dial { addr });
    }

    /// True for our own address, and for one that is being dialed or linked already.
    fn is_busy(&self, addr: &Addr) -> bool {
        self.own.contains(addr) || self.dials.contains_key(addr) || self.links.values().any(|n| n.addr == *addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::gossip::last_seen;
    use crate::core::hlc::Hlc;
    use crate::core::id::StoreId;
    use crate::core::time::{Now, Wall};

    struct World {
        overlay: Overlay,
        rng: Rng,
        now: Mono,
        fx: Vec<Effect>,
        next_link: u64,
    }

    fn name(text: &str) -> NodeId {
        NodeId::new(text).unwrap()
    }

    fn main() -> RegionId {
        RegionId::new("main").unwrap()
    }

    impl World {
        /// Knows `members` nodes n0, n1, … of its region, all alive, and has met none.
        fn new(members: usize) -> Self {
            let params = Params::new("lab", name("me"), main(), "me".into());
            let mut overlay = Overlay::new(&params, BTreeMap::new());
            overlay.met = true;
            for n in 0..members {
                let node = name(&format!("n{n}"));
                overlay.on_member(&node, &node.as_str().into(), &main(), Some(Life::Alive));
            }
            Self { overlay, rng: Rng::new(7), now: Mono::from_micros(1), fx: Vec::new(), next_link: 1 }
        }

        fn with<T>(&mut self, act: impl FnOnce(&mut Overlay, &mut Cx<'_>) -> T) -> T {
            let now = Now { mono: self.now, wall: Wall::from_millis(1) };
            act(&mut self.overlay, &mut Cx { now, rng: &mut self.rng, fx: &mut self.fx })
        }

        /// What is dialed now.
        fn dials(&mut self) -> Vec<Addr> {
            self.with(|overlay, cx| overlay.on_deadline(cx));
            let dial = |effect| if let Effect::Dial { addr } = effect { Some(addr) } else { None };
            std::mem::take(&mut self.fx).into_iter().filter_map(dial).collect()
        }

        fn up(&mut self, node: &str, dialed: bool) -> LinkId {
            let link = LinkId(self.next_link);
            self.next_link += 1;
            let addr: Addr = node.into();
            let dialed = dialed.then(|| addr.clone());
            if let Some(addr) = &dialed {
                self.overlay.on_connected(link, addr);
            }
            let (store, start) = (StoreId(1), Hlc::ZERO);
            let peer = Peer { link, node: name(node), store, region: main(), start, addr, dialed };
            self.with(|overlay, cx| overlay.on_link_up(cx, &peer));
            link
        }

        fn down(&mut self, link: LinkId) {
            self.with(|overlay, cx| overlay.on_link_down(cx, link));
            self.overlay.on_disconnected(link);
        }

        /// Lets every dial go through, or fail, until `span` has passed; gives how many there were.
        fn pass(&mut self, span: Duration, answers: bool) -> usize {
            let (end, mut dialed) = (self.now + span, 0);
            while self.overlay.deadline() <= end {
                self.now = self.overlay.deadline().max(self.now);
                let dials = self.dials();
                dialed += dials.len();
                for addr in dials {
                    if answers {
                        self.up(&addr.clone(), true);
                    } else {
                        self.with(|overlay, cx| overlay.on_dial_failed(cx, &addr));
                    }
                }
            }
            self.now = end;
            dialed
        }

        fn hangups(&mut self) -> usize {
            let fx = std::mem::take(&mut self.fx);
            fx.iter().filter(|effect| matches!(effect, Effect::Hangup { .. })).count()
        }
    }

    const SECONDS: fn(u64) -> Duration = Duration::from_secs;

    /// Comes back with `boot` as its only bootstrap address and `n` members last seen at addresses of their names.
    fn come_back(n: usize) -> World {
        let mut params = Params::new("lab", name("me"), main(), "me".into());
        params.bootstrap = vec!["boot".into()];
        let seen = (0..n).map(|n| (name(&format!("n{n}")), format!("n{n}").as_str().into()));
        World { overlay: Overlay::new(&params, seen.collect()), ..World::new(0) }
    }

    #[test]
    fn members_are_looked_for_where_they_were_last_seen_when_no_bootstrap_peer_is_there() {
        let mut world = come_back(20);
        let mut tried = BTreeSet::new();
        for _ in 0..40 {
            let dials = world.dials();
            assert!(dials.len() <= 1 + SEEN_AT_ONCE, "a few at a time: one answer is enough");
            for addr in dials {
                world.with(|overlay, cx| overlay.on_dial_failed(cx, &addr));
                tried.insert(addr);
            }
            world.now = world.now + Duration::from_millis(200);
        }
        assert_eq!(tried.len(), 21, "all of them, before long: {tried:?}");
        world.up("n7", true);
        world.pass(SECONDS(4), false);
        for n in 0..20 {
            let node = name(&format!("n{n}"));
            world.overlay.on_member(&node, &format!("elsewhere-{n}").as_str().into(), &main(), Some(Life::Dead));
        }
        let late = world.pass(SECONDS(60), false);
        assert!(world.overlay.untold.is_empty(), "the first peer has told where they are");
        assert!(late < 60, "{late} dials to the dead, one at a time");
    }

    #[test]
    fn who_is_spoken_of_by_nobody_is_looked_for_even_when_somebody_is_met() {
        let mut world = come_back(3);
        for addr in world.dials() {
            world.with(|overlay, cx| overlay.on_dial_failed(cx, &addr));
        }
        world.up("boot", true);
        world.up("n0", true);
        world.overlay.on_member(&name("n1"), &"moved".into(), &main(), Some(Life::Alive));
        world.up("moved", false);
        world.now = world.now + TOLD_WITHIN * 2;
        assert_eq!(world.dials(), ["n2".into()] as [Addr; 1]);
        world.overlay.on_forgotten(&name("n2"));
        assert_eq!(world.pass(SECONDS(60), false), 0);
    }

    #[test]
    fn where_members_are_is_kept_and_written_once() {
        let mut world = World::new(100);
        world.pass(SECONDS(30), true);
        let written = |world: &mut World| {
            let now = world.now;
            world.overlay.take_last_seen(now)
        };
        assert_eq!(written(&mut world), None, "others may follow");
        world.now = world.now + SECONDS(1);
        let kept = written(&mut world).expect("it is time");
        assert_eq!(kept.len(), last_seen::KEPT);
        let neighbours: BTreeSet<&NodeId> = world.overlay.links.values().map(|n| &n.node).collect();
        assert!(
            neighbours.iter().all(|node| kept.contains_key(*node)),
            "neighbours are chosen at random, and go first"
        );
        world.now = world.now + SECONDS(100);
        assert_eq!(written(&mut world), None);
        let moved = kept.keys().next().unwrap().clone();
        world.overlay.on_member(&moved, &"elsewhere".into(), &main(), None);
        assert_eq!(written(&mut world), None);
        world.now = world.now + SECONDS(1);
        assert_eq!(written(&mut world).unwrap()[&moved], "elsewhere".into());
    }

    #[test]
    fn a_small_region_is_linked_completely_and_a_large_one_by_halves() {
        let mut small = World::new(6);
        small.pass(SECONDS(1), true);
        assert_eq!(small.overlay.links.len(), 6);
        let mut large = World::new(100);
        assert_eq!(large.dials().len(), 3, "the other half is accepted");
        let mut lonely = World::new(100);
        lonely.pass(SECONDS(30), true);
        assert_eq!(lonely.overlay.links.len(), 6, "where nobody comes, more are picked after a while");
    }

    #[test]
    fn a_lost_neighbour_is_dialed_at_once_and_replaced() {
        let mut world = World::new(100);
        world.pass(SECONDS(30), true);
        let (link, lost) = world.overlay.links.iter().map(|(l, n)| (*l, n.node.clone())).next().unwrap();
        world.down(link);
        assert_eq!(world.dials(), [Addr::from(lost.as_str())], "is it gone, or only the link?");
        world.with(|overlay, cx| assert_eq!(overlay.on_dial_failed(cx, &lost.as_str().into()), Some(lost.clone())));
        world.overlay.on_life(&lost, Life::Dead);
        world.pass(SECONDS(3), true);
        assert_eq!(world.overlay.links.len(), 6);
    }

    #[test]
    fn ten_thousand_long_gone_cost_a_dial_now_and_then() {
        let mut world = World::new(10_000);
        (0..10_000).for_each(|n| world.overlay.on_life(&name(&format!("n{n}")), Life::Dead));
        let dialed = world.pass(SECONDS(100), false);
        assert!((10..=40).contains(&dialed), "{dialed} dials in 100 s");
    }

    #[test]
    fn addresses_of_members_that_do_not_answer_are_dialed_ever_less_and_nobody_spins() {
        let mut world = World::new(5);
        let dialed = world.pass(SECONDS(60), false);
        assert!(dialed < 5 * 20, "{dialed} dials of five members in a minute");
        let mut many = World::new(10_000);
        let dialed = many.pass(SECONDS(10), false);
        assert!(dialed < 700, "{dialed} dials in ten seconds");
    }

    #[test]
    fn a_link_is_given_back_but_for_the_only_and_the_pinned_one() {
        let mut world = World::new(100);
        let first = world.up("n1", true);
        world.with(|overlay, cx| overlay.on_release(cx, first));
        assert_eq!(world.hangups(), 0, "the only one");
        let second = world.up("n2", true);
        world.overlay.pin(BTreeSet::from([name("n2")]));
        world.with(|overlay, cx| overlay.on_release(cx, second));
        assert_eq!(world.hangups(), 0, "pinned");
        world.with(|overlay, cx| overlay.on_release(cx, first));
        assert_eq!(world.hangups(), 1);
        world.with(|overlay, cx| assert!(overlay.on_link_down(cx, first), "on purpose"));
        world.with(|overlay, cx| assert!(!overlay.on_link_down(cx, second), "by accident"));
    }

    #[test]
    fn too_many_neighbours_are_asked_to_leave() {
        let mut world = World::new(100);
        for n in 0..20 {
            world.up(&format!("n{n}"), false);
        }
        world.now = world.now + SECONDS(5);
        world.with(|overlay, cx| overlay.on_deadline(cx));
        let asked = |effect: &&Effect| matches!(effect, Effect::Send { message: Message::Release(_), .. });
        assert_eq!(world.fx.iter().filter(asked).count(), 8, "all beyond twice the degree");
    }

    #[test]
    fn who_was_wanted_for_a_while_is_given_back() {
        let mut world = World::new(100);
        world.pass(SECONDS(30), true);
        let linked = |node: &NodeId| world.overlay.by_node.contains_key(node);
        let wanted = (0..100).map(|n| name(&format!("n{n}"))).find(|node| !linked(node)).unwrap();
        let now = world.now;
        world.overlay.want(now, &wanted);
        world.pass(SECONDS(5), true);
        let link = world.overlay.by_node[&wanted];
        assert!(world.overlay.links[&link].asked == Mono::ZERO, "not yet");
        world.now = world.now + SECONDS(6);
        world.with(|overlay, cx| overlay.on_deadline(cx));
        assert!(world.overlay.links[&link].asked > world.now);
    }

    #[test]
    fn who_is_picked_by_many_picks_nobody() {
        let mut world = World::new(100);
        for n in 0..9 {
            world.up(&format!("n{n}"), false);
        }
        assert_eq!(world.pass(SECONDS(30), true), 0);
    }

    #[test]
    fn the_pinned_are_reached_under_whatever_address_they_come_back() {
        let mut world = World::new(100);
        world.overlay.pin(BTreeSet::from([name("n50")]));
        world.pass(SECONDS(5), true);
        assert!(world.overlay.by_node.contains_key("n50"));
        let link = world.overlay.by_node["n50"];
        world.overlay.on_life(&name("n50"), Life::Dead);
        world.down(link);
        world.pass(SECONDS(60), false);
        world.overlay.on_member(&name("n50"), &"elsewhere".into(), &main(), Some(Life::Alive));
        assert!(world.dials().contains(&"elsewhere".into()));
    }

    #[test]
    fn bootstrap_addresses_are_all_dialed_until_their_owners_are_known_to_be_there() {
        let mut params = Params::new("lab", name("me"), main(), "me".into());
        params.bootstrap = vec!["n1".into(), "n2".into(), "me".into()];
        let mut world = World::new(0);
        world.overlay = Overlay::new(&params, BTreeMap::new());
        assert_eq!(world.dials(), ["n1".into(), "n2".into()] as [Addr; 2]);
        world.up("n1", true);
        world.with(|overlay, cx| overlay.on_dial_failed(cx, &"n2".into()));
        assert_eq!(world.pass(SECONDS(1), false), 3, "the other is still wanted");
        world.overlay.on_member(&name("n2"), &"n2".into(), &main(), Some(Life::Alive));
        world.up("n2", false);
        assert_eq!(world.pass(SECONDS(20), false), 0);
    }
}
