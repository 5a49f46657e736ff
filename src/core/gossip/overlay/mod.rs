//! The overlay: which links a node makes, keeps and gives up (section 3).
//!
//! Decides from who is known ([`members`]), who is linked ([`links`]), and how dials went ([`dials`]). What flows over
//! links is others' business.
//!
//! In a region of at most `overlay_degree` other nodes everyone is linked to everyone. In a larger one a node picks
//! half of its neighbours at random and accepts the other half: a random graph, in which every loss is made good by
//! a new random pick ([`degree`]). Pinned links come on top, and the dead are tried again one at a time, whatever
//! their number ([`reach`]). Of the links by which the cluster was founded few stay ([`founders`]). Who comes back when
//! every bootstrap peer is elsewhere tries where members were [`last_seen`], as far as they are [`untold`].
//!
//! Invariants: a node gives up neither a pinned link nor its only one; dials under way are bounded by what is
//! wanted; nothing here looks at all members.

mod members;
mod links;
mod dials;
mod last_seen;
mod untold;
mod reach;
mod degree;
mod founders;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::cx::Cx;
use crate::core::gossip::overlay::dials::{Dials, Retry};
use crate::core::gossip::overlay::founders::Founders;
use crate::core::gossip::overlay::last_seen::LastSeen;
use crate::core::gossip::overlay::links::{Links, Neighbour};
use crate::core::gossip::overlay::members::{Members, Place};
use crate::core::gossip::overlay::untold::Untold;
use crate::core::id::{LinkId, NodeId, RegionId};
use crate::core::params::Params;
use crate::core::rng::Rng;
use crate::core::session::Peer;
use crate::core::state::system::Addr;
use crate::core::time::Mono;
use crate::core::view::Liveness as Life;

/// Time between rounds in which what is missing of the accepted half is picked as well, and what is too much is
/// given up: others come by themselves, and need a moment.
const SETTLE: Duration = Duration::from_secs(1);
/// A lost neighbour that takes a connection and drops it is dialed again after these.
const AGAIN_AFTER: [Duration; 3] = [Duration::from_millis(10), Duration::from_millis(40), Duration::from_millis(160)];
/// How long a link that somebody asked for by name is kept up for.
const WANTED_FOR: Duration = Duration::from_secs(10);

/// Links and whom they could be made to.
#[derive(Debug)]
pub(super) struct Overlay {
    params: Params,
    members: Members,
    links: Links,
    dials: Dials,
    bootstrap: BTreeMap<Addr, Contact>,
    founders: Founders,
    last_seen: LastSeen,
    untold: Untold,
    /// Who must have a direct link.
    pinned: BTreeSet<NodeId>,
    /// Who was asked for by name, and until when.
    wanted: BTreeMap<NodeId, Mono>,
    /// Waits of those who must be reached.
    retries: BTreeMap<NodeId, Retry>,
    /// Members of our region of whose death we have heard since we last looked whom they may have watched.
    deaths: usize,
    /// When we look, if there were any.
    look_due: Mono,
    /// Links made for a moment that stay.
    staying: Vec<LinkId>,
    /// Neighbours just lost: are they gone, or only the link?
    lost: Vec<Lost>,
    votes: bool,
    /// We are a first voter, and our cluster is yet to be made or met.
    founding: bool,
    /// True once a link has been in use.
    met: bool,
    contact_due: Mono,
    pick_due: Mono,
    settle_due: Mono,
    dead_due: Mono,
    swap_due: Mono,
    due: Mono,
}

/// A neighbour whose link broke.
#[derive(Debug)]
struct Lost {
    node: NodeId,
    /// When it is dialed.
    due: Mono,
    /// How often it was since.
    tries: usize,
}

/// An address first contacted.
#[derive(Debug, Default)]
struct Contact {
    /// Who answered there last.
    node: Option<NodeId>,
    retry: Retry,
}

impl Overlay {
    /// Knows the bootstrap addresses, where members were last seen in an earlier life, and nobody.
    pub fn new(params: &Params, last_seen: BTreeMap<NodeId, Addr>) -> Self {
        let bootstrap = params.bootstrap.iter().filter(|addr| **addr != params.addr);
        Self {
            params: params.clone(),
            members: Members::default(),
            links: Links::default(),
            dials: Dials::new(params.addr.clone()),
            bootstrap: bootstrap.map(|addr| (addr.clone(), Contact::default())).collect(),
            founders: Founders::new(params),
            untold: Untold::new(&last_seen),
            last_seen: LastSeen::recover(last_seen),
            pinned: BTreeSet::new(),
            wanted: BTreeMap::new(),
            retries: BTreeMap::new(),
            deaths: 0,
            look_due: Mono::NEVER,
            staying: Vec::new(),
            lost: Vec::new(),
            votes: false,
            founding: params.initial_voters.values().flatten().any(|node| *node == params.node),
            met: false,
            contact_due: Mono::ZERO,
            pick_due: Mono::ZERO,
            settle_due: Mono::ZERO,
            dead_due: Mono::ZERO,
            swap_due: Mono::NEVER,
            due: Mono::ZERO,
        }
    }

    /// A link is ready for use. False if it has served its purpose: it is given up at once, by both ends.
    pub fn on_link_up(&mut self, cx: &mut Cx<'_>, peer: &Peer) -> bool {
        if !self.met {
            self.met = true;
            self.untold.on_met(cx.now.mono);
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
        let asked = Mono::ZERO;
        self.links
            .insert(peer.link, Neighbour { node, addr, foreign, ours, up, asked, passing: false, parting: false });
        let wanted = self.wanted.contains_key(&peer.node) && !self.pinned.contains(&peer.node);
        if wanted && self.is_spare(peer.link) {
            self.on_passing(peer.link);
        }
        self.note_seen(&peer.node);
        if self.swap_due == Mono::NEVER {
            self.put_off_swap(cx);
        }
        self.due = Mono::ZERO;
        let stays = !peer.founding || !foreign || self.founders.stays(&self.params.node, &peer.node);
        if !stays {
            self.part(cx, peer.link);
        }
        stays
    }

    /// A link was made for a moment, by us or by the peer: it is not one of those that there are to be so many of.
    pub fn on_passing(&mut self, link: LinkId) {
        if let Some(neighbour) = self.links.get_mut(link) {
            neighbour.passing = true;
            self.due = Mono::ZERO;
        }
    }

    /// It stays.
    pub fn on_staying(&mut self, link: LinkId) {
        if let Some(neighbour) = self.links.get_mut(link) {
            neighbour.passing = false;
        }
    }

    /// Links made for a moment that stay, since this was asked last.
    pub fn take_staying(&mut self) -> Vec<LinkId> {
        std::mem::take(&mut self.staying)
    }

    /// Whether it was, and is not to stay.
    pub fn is_passing(&self, link: LinkId) -> bool {
        self.links.get(link).is_some_and(|neighbour| neighbour.passing)
    }

    /// A link is no longer in use. True if one of the two ends gave it up on purpose.
    pub fn on_link_down(&mut self, cx: &mut Cx<'_>, link: LinkId) -> bool {
        let now = cx.now.mono;
        let Some(gone) = self.links.remove(link) else { return true };
        let parted = gone.asked > now || gone.parting;
        if !parted {
            // One that breaks as soon as it stands is not made again in a tight circle.
            let wait = if now.since(gone.up) < SETTLE { self.params.gossip.redial_min * 2 } else { Duration::ZERO };
            self.lost.push(Lost { node: gone.node, due: now + wait, tries: 0 });
        }
        self.due = Mono::ZERO;
        parted
    }

    /// A dial went through: the address is not dialed again while that link stands, in use or not.
    pub fn on_connected(&mut self, link: LinkId, addr: &Addr) {
        self.dials.on_connected(link, addr);
    }

    /// A connection is gone. One that was dialed to a lost neighbour and broke before it was of use does not tell whether
    /// that one is there: of a process that dies the port may go last.
    pub fn on_disconnected(&mut self, now: Mono, link: LinkId) {
        let used = self.links.get(link).is_some();
        if let Some((node, tries)) = self.dials.on_disconnected(link).filter(|_| !used)
            && let Some(wait) = AGAIN_AFTER.get(tries)
        {
            self.lost.push(Lost { node, due: now + *wait, tries: tries + 1 });
        }
        self.due = Mono::ZERO;
    }

    /// A dial failed: to whom, and since when it was under way, if the address is still that member's.
    pub fn on_dial_failed(&mut self, cx: &mut Cx<'_>, addr: &Addr) -> Option<(NodeId, Mono)> {
        let (node, since) = self.dials.on_failed(addr)?;
        let wait = cx.rng.between(self.params.gossip.redial_min / 2, self.params.gossip.redial_min * 3 / 2);
        self.pick_due = self.pick_due.max(cx.now.mono + wait);
        self.due = Mono::ZERO;
        let node = node.filter(|node| self.members.get(node).is_some_and(|known| known.addr == *addr));
        node.map(|node| (node, since))
    }

    /// This address is our own.
    pub fn on_self_dialed(&mut self, addr: &Addr) {
        self.dials.on_self_dialed(addr);
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
        self.untold.on_told(node);
        self.last_seen.on_moved(node, addr);
        if self.members.know(node, addr, foreign) {
            self.retries.remove(node);
            self.due = Mono::ZERO;
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
            self.deaths += usize::from(place == Place::Dead && !known.foreign);
            self.members.place(node, place);
            self.due = Mono::ZERO;
        }
        self.note_seen(node);
    }

    /// Keeps where a member is, if it is there: neighbours before others, who are random; those of our own region
    /// before those of another; anybody before the dead.
    fn note_seen(&mut self, node: &NodeId) {
        let Some(known) = self.members.get(node) else { return };
        let foreign = |node: &NodeId| self.members.get(node).is_some_and(|known| known.foreign);
        let dead = |node: &NodeId| self.members.get(node).is_some_and(|known| known.place == Place::Dead);
        let linked = self.links.has(node);
        if !linked && known.place != Place::Near {
            return;
        }
        self.last_seen.note(node, &known.addr, |kept| {
            dead(kept) || (linked && (!self.links.has(kept) || (!known.foreign && foreign(kept))))
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
        self.members.forget(node);
        self.retries.remove(node);
        self.untold.on_told(node);
        self.last_seen.on_forgotten(node);
        if self.last_seen.is_changed() {
            self.due = Mono::ZERO;
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

    /// Our store belongs to a cluster.
    pub fn on_joined(&mut self) {
        self.founding = false;
    }

    /// Anybody alive without a link, of any region: for a repair among those who would never meet.
    pub fn draw_any(&self, rng: &mut Rng) -> Option<NodeId> {
        self.members.draw_any(rng, |node| self.links.has(node))
    }

    /// How many members could be linked, and how many dials there are or will be.
    pub fn count_held(&self) -> (usize, usize) {
        let waits = self.retries.len() + self.wanted.len() + self.lost.len() + self.untold.len();
        (self.members.len(), self.dials.len() + waits)
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
        self.keep_the_last();
        self.give_back_unwanted(cx);
        self.look_after_lost(cx);
        self.contact(cx);
        self.look_where_last_seen(cx);
        self.look_around(cx);
        self.reach(cx);
        self.pick(cx);
        self.try_dead(cx);
        let settled = self.settle_due <= now;
        if settled {
            self.settle_due = now + SETTLE;
        }
        self.shed(cx, settled);
        self.swap(cx);
    }

    fn wait_for(&mut self, at: Mono) {
        self.due = self.due.min(at);
    }
}
