//! Those who must be reached: bootstrap addresses, the pinned, the wanted, everyone in a small region, the lost, and
//! now and then one of the dead.

use crate::core::cx::Cx;
use crate::core::gossip::overlay::members::Place;
use crate::core::gossip::overlay::{Contact, Overlay, SETTLE, WANTED_FOR};
use crate::core::id::NodeId;
use crate::core::state::system::Addr;
use crate::core::time::Mono;

/// Addresses first contacted that are tried at a time by whoever founds no cluster.
pub(super) const FIRST_AT_ONCE: usize = 8;
/// They have so many times `redial_min` to say who else is there, before more are tried.
const FIRST_WAIT: u32 = 5;
/// One death alone leaves nobody unwatched.
const SEVERAL: usize = 2;
/// For each of several deaths so many members are looked up, by all who hear of it together.
const LOOKED_UP: f64 = 16.0;

impl Overlay {
    /// A link that broke: whether only the link is gone, or who was there, tells a dial.
    pub(super) fn look_after_lost(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        for lost in std::mem::take(&mut self.lost) {
            if self.links.has(&lost.node) {
                continue;
            }
            if lost.due > now {
                self.wait_for(lost.due);
                self.lost.push(lost);
            } else if let Some(addr) = self.members.addr(&lost.node).filter(|addr| !self.is_busy(addr)) {
                self.dials.dial_lost(cx, addr, lost.node, lost.tries);
            }
        }
    }

    /// Addresses first contacted: until somebody has been met, and from then on those whose owner is not known to be
    /// there. Whoever is to found a cluster must meet them all; for others one answer is enough, and they contact a few
    /// at a time.
    pub(super) fn contact(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        let (least, most) = (self.params.gossip.redial_min, self.params.gossip.redial_max);
        let there = |contact: &Contact| contact.node.as_ref().and_then(|node| self.members.get(node));
        let wanted = |contact: &Contact| {
            !self.met
                || self.links.is_empty()
                || there(contact).is_none_or(|known| matches!(known.place, Place::Dead | Place::Nowhere))
        };
        let mut next = Mono::NEVER;
        let mut due: Vec<(Addr, Option<NodeId>)> = Vec::new();
        for (addr, contact) in &self.bootstrap {
            if !wanted(contact) || self.is_busy(addr) {
                continue;
            }
            match contact.retry.due <= now {
                true => due.push((addr.clone(), contact.node.clone())),
                false => next = next.min(contact.retry.due),
            }
        }
        self.wait_for(next);
        if !self.founding && self.bootstrap.len() > FIRST_AT_ONCE && !due.is_empty() {
            if self.contact_due > now {
                return self.wait_for(self.contact_due);
            }
            self.contact_due = now + least * FIRST_WAIT;
            self.wait_for(self.contact_due);
            // Whoever has answered, and has no cluster yet either, will.
            let under_way = self.dials.pending(|link| self.links.get(link).is_some());
            cx.rng.shuffle(&mut due);
            due.truncate(FIRST_AT_ONCE.saturating_sub(under_way));
        }
        for (addr, node) in due {
            let Some(contact) = self.bootstrap.get_mut(&addr) else { continue };
            contact.retry.put_off(now, cx.rng, least, most);
            self.dials.dial(cx, addr, node);
        }
    }

    /// Members of whom nobody has spoken yet.
    pub(super) fn look_where_last_seen(&mut self, cx: &mut Cx<'_>) {
        let is_busy = |addr: &Addr| self.dials.is_busy(addr) || self.links.has_addr(addr);
        let (sought, due) = self.untold.take_due(cx.now.mono, cx.rng, &self.params, is_busy);
        for (node, addr) in sought {
            self.dials.dial(cx, addr, Some(node));
        }
        self.wait_for(due);
    }

    /// Whoever died may have been the last to watch somebody who died with it, and then nobody would ever tell. So where
    /// several die in a second others are looked up, the more the more have died.
    pub(super) fn look_around(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        if self.deaths == 0 {
            return;
        }
        if self.look_due == Mono::NEVER {
            self.look_due = now + SETTLE;
        }
        if self.look_due > now {
            return self.wait_for(self.look_due);
        }
        self.look_due = Mono::NEVER;
        let deaths = std::mem::take(&mut self.deaths);
        if deaths < SEVERAL || self.is_small() {
            return;
        }
        let share = LOOKED_UP / self.members.near().len() as f64;
        for _ in 0..deaths {
            if self.wanted.len() < self.params.gossip.overlay_degree
                && cx.rng.chance(share)
                && let Some(node) = self.members.draw(cx.rng, false, |node| self.links.has(node))
            {
                self.wanted.insert(node, now + WANTED_FOR);
            }
        }
    }

    /// The pinned, the wanted, and everyone in a small region.
    pub(super) fn reach(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        let (least, most) = (self.params.gossip.redial_min, self.params.gossip.redial_max);
        let everyone = if self.is_small() { self.members.near() } else { &[] };
        let must = self.pinned.iter().chain(self.wanted.keys()).chain(everyone);
        let missing: Vec<NodeId> = must.filter(|node| !self.links.has(node)).cloned().collect();
        for node in missing {
            let Some(addr) = self.members.addr(&node) else { continue };
            if self.is_busy(&addr) {
                continue;
            }
            let retry = self.retries.entry(node.clone()).or_default();
            if retry.due <= now {
                retry.put_off(now, cx.rng, least, most);
                self.dials.dial(cx, addr, Some(node.clone()));
            }
            let due = retry.due;
            self.wait_for(due);
        }
    }

    /// Tries one of the dead now and then: a partition that has healed finds itself.
    pub(super) fn try_dead(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        if !self.members.has_dead() {
            return;
        }
        if self.dead_due <= now {
            let node = self.members.draw_dead(cx.rng);
            let near = |node: &NodeId| self.members.get(node).is_some_and(|known| !known.foreign);
            if let Some(node) = node.filter(|node| self.votes || near(node)) {
                self.dial_member(cx, &node);
            }
            let interval = self.params.gossip.redial_max / 2;
            self.dead_due = now + cx.rng.between(interval / 2, interval * 3 / 2);
        }
        self.wait_for(self.dead_due);
    }

    pub(super) fn dial_member(&mut self, cx: &mut Cx<'_>, node: &NodeId) {
        let Some(addr) = self.members.addr(node) else { return };
        if !self.links.has(node) && !self.is_busy(&addr) {
            self.dials.dial(cx, addr, Some(node.clone()));
        }
    }

    /// True for our own address, and for one that is being dialed or linked already.
    fn is_busy(&self, addr: &Addr) -> bool {
        self.dials.is_busy(addr) || self.links.has_addr(addr)
    }
}
