//! How many neighbours a node has, and which: picked at random, given back when they are too many, swapped now and
//! then so that the graph stays random.

use std::time::Duration;

use crate::core::cx::Cx;
use crate::core::effect::Effect;
use crate::core::gossip::overlay::links::Neighbour;
use crate::core::gossip::overlay::{Overlay, dials};
use crate::core::id::{LinkId, NodeId};
use crate::core::message::Message;
use crate::core::message::exchange::Release;
use crate::core::time::Mono;

/// How long a neighbour may take to give a link up that it was asked for.
const ASKED_FOR: Duration = Duration::from_secs(5);
/// Nodes of a region that swap a neighbour in one interval at most, in the mean. Each swap moves as many trees as the
/// region has nodes, so the larger it is the rarer they are to be.
const SWAPPING: usize = 100;

impl Overlay {
    /// A peer has more links than it wants: it gets this one back, unless it is pinned or our only one of its kind. Who
    /// does not vote needs none to other regions.
    pub fn on_release(&mut self, cx: &mut Cx<'_>, link: LinkId) {
        let Some(asking) = self.links.get(link) else { return };
        let everyone = !asking.foreign && self.is_small();
        if everyone || self.is_kept(&asking.node) || asking.parting {
            return;
        }
        let lasts = |other: &Neighbour| other.foreign == asking.foreign && !other.parting && !other.passing;
        let same = |(id, other): (LinkId, &Neighbour)| id != link && lasts(other);
        let is_needed = !asking.foreign || self.votes;
        if !is_needed || self.links.iter().any(same) {
            self.part(cx, link);
        }
    }

    pub(super) fn part(&mut self, cx: &mut Cx<'_>, link: LinkId) {
        if let Some(neighbour) = self.links.get_mut(link) {
            neighbour.parting = true;
            cx.fx.push(Effect::Hangup { link });
        }
    }

    fn is_kept(&self, node: &NodeId) -> bool {
        self.pinned.contains(node) || self.wanted.contains_key(node)
    }

    pub(super) fn is_small(&self) -> bool {
        self.members.near().len() <= self.params.gossip.overlay_degree
    }

    /// Neighbours of one kind that are neither pinned nor here for a moment nor on their way out.
    fn free(&self, foreign: bool) -> impl Iterator<Item = (LinkId, &Neighbour)> {
        let is_free = |n: &Neighbour| !n.passing && !n.parting && !self.is_kept(&n.node);
        self.links.iter().filter(move |(_, n)| n.foreign == foreign && is_free(n))
    }

    /// How many links to other regions we want: who votes keeps some.
    fn wanted_abroad(&self) -> usize {
        if self.votes { self.params.gossip.cross_links } else { 0 }
    }

    /// How many of these there are, and how many of them we picked.
    fn count(&self, foreign: bool) -> (usize, usize) {
        self.free(foreign).fold((0, 0), |(all, ours), (_, neighbour)| (all + 1, ours + usize::from(neighbour.ours)))
    }

    /// A link made for a moment stays if it is pinned, or if no other to our region is left, or everyone is linked there.
    pub(super) fn keep_the_last(&mut self) {
        let alone = self.free(false).next().is_none() || self.is_small();
        let stays = |n: &Neighbour| n.passing && ((alone && !n.foreign) || self.pinned.contains(&n.node));
        let staying: Vec<LinkId> = self.links.iter().filter(|(_, n)| stays(n)).map(|(link, _)| link).collect();
        staying.iter().for_each(|link| self.on_staying(*link));
        self.staying.extend(staying);
    }

    /// Who was wanted for a while is given back, unless the link is one of few.
    pub(super) fn give_back_unwanted(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        let over: Vec<NodeId> =
            self.wanted.iter().filter(|(_, until)| **until <= now).map(|(node, _)| node.clone()).collect();
        for node in over {
            self.wanted.remove(&node);
            let Some(link) = self.links.to(&node) else { continue };
            // One of our own region was made to stay, and carries trees by now.
            let is_foreign = self.links.get(link).is_some_and(|neighbour| neighbour.foreign);
            if is_foreign && !self.is_passing(link) && self.is_spare(link) && !self.is_kept(&node) {
                self.ask_back(cx, link);
            }
        }
        let over = |n: &Neighbour| n.passing && n.ours && !n.parting && !self.is_kept(&n.node);
        let over: Vec<(LinkId, Mono)> =
            self.links.iter().filter(|(_, n)| over(n)).map(|(link, n)| (link, n.asked)).collect();
        for (link, asked) in over {
            // The peer may need it for a while.
            if asked <= now {
                self.ask_back(cx, link);
            }
            self.wait_for(if asked <= now { now + ASKED_FOR } else { asked });
        }
        if let Some(until) = self.wanted.values().min().copied() {
            self.wait_for(until);
        }
    }

    /// Whether we made a link that there are enough others beside.
    pub(super) fn is_spare(&self, link: LinkId) -> bool {
        let Some(neighbour) = self.links.get(link) else { return false };
        let foreign = neighbour.foreign;
        let enough = if foreign { self.wanted_abroad() } else { self.params.gossip.overlay_degree };
        let others = self.free(foreign).filter(|(id, _)| *id != link).count();
        neighbour.ours && others >= enough && (foreign || !self.is_small())
    }

    /// Picks at random what is missing of our half of the neighbours, and, where too few others come by themselves,
    /// of the other half.
    pub(super) fn pick(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        let under_way = self.dials.fresh(now, |link| self.links.get(link).is_some());
        if under_way > 0 {
            self.wait_for(now + dials::COUNTS_FOR);
        }
        let near = self.missing_near(now);
        let far = self.wanted_abroad().saturating_sub(self.count(true).0);
        let wanted = (near + far).saturating_sub(under_way);
        if wanted == 0 {
            return;
        }
        if self.pick_due > now {
            return self.wait_for(self.pick_due);
        }
        for n in 0..wanted {
            let drawn = self.members.draw(cx.rng, n >= near, |node| self.links.has(node));
            if let Some(node) = drawn {
                self.dial_member(cx, &node);
            }
        }
        self.pick_due = now + self.params.gossip.redial_min;
        self.wait_for(self.pick_due);
    }

    /// How many of our own region we are to pick.
    fn missing_near(&mut self, now: Mono) -> usize {
        if !self.met || self.is_small() {
            return 0;
        }
        let degree = self.params.gossip.overlay_degree;
        let (all, ours) = self.count(false);
        // Who is picked by many needs no picks of its own: it would only ask for others back.
        let missing = if all < degree + degree / 2 { (degree / 2).saturating_sub(ours) } else { 0 };
        if missing > 0 || all >= degree {
            return missing;
        }
        self.wait_for(self.settle_due.max(now + super::SETTLE));
        usize::from(self.settle_due <= now)
    }

    /// Asks as many neighbours as are too many to give up their links, once all have `settled`; any of them: where those that
    /// came last go, those that came first are left as a clique that few trees lead into. They decide: nobody loses its only
    /// one.
    pub(super) fn shed(&mut self, cx: &mut Cx<'_>, settled: bool) {
        let degree = self.params.gossip.overlay_degree;
        let limits = [(false, degree * 2), (true, self.params.gossip.cross_links * 3)];
        for (foreign, limit) in limits {
            let mut candidates: Vec<LinkId> = self.free(foreign).map(|(link, _)| link).collect();
            if candidates.len() <= limit || (!foreign && self.is_small()) {
                continue;
            }
            if settled {
                cx.rng.shuffle(&mut candidates);
                candidates.drain(..limit);
                candidates.into_iter().for_each(|link| self.ask_back(cx, link));
            }
            self.wait_for(self.settle_due);
        }
    }

    fn ask_back(&mut self, cx: &mut Cx<'_>, link: LinkId) {
        if let Some(neighbour) = self.links.get_mut(link) {
            neighbour.asked = cx.now.mono + ASKED_FOR;
            cx.send(link, Message::Release(Release {}));
        }
    }

    /// Gives one of our own picks back now and then; another is picked for it.
    pub(super) fn swap(&mut self, cx: &mut Cx<'_>) {
        if self.swap_due <= cx.now.mono {
            self.put_off_swap(cx);
            let picks: Vec<LinkId> = self.free(false).filter(|(_, n)| n.ours).map(|(link, _)| link).collect();
            let spare = !self.is_small() && self.count(false).0 >= self.params.gossip.overlay_degree;
            let near = self.members.near().len();
            let is_its_turn = near <= SWAPPING || cx.rng.below(near) < SWAPPING;
            if let Some(link) = cx.rng.pick(&picks).filter(|_| spare && is_its_turn) {
                self.ask_back(cx, *link);
            }
        }
        self.wait_for(self.swap_due);
    }

    pub(super) fn put_off_swap(&mut self, cx: &mut Cx<'_>) {
        let interval = self.params.gossip.swap_interval;
        self.swap_due = cx.now.mono + cx.rng.between(interval / 2, interval * 3 / 2);
    }
}
