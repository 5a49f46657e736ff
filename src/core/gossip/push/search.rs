//! The search for a parent: who has lost the one that it had for an origin asks some of its neighbours for it (GRAFT), and
//! more of them as those do not help.

use std::time::Duration;

use crate::core::gossip::push::lane::Lane;
use crate::core::gossip::push::{Origin, Push};
use crate::core::id::{LinkId, NodeId};
use crate::core::time::Mono;

/// Who has lost a parent asks so many of those that have the origin without it.
pub(super) const ASKED: usize = 3;
/// What seems to have been written longer ago may be of an origin whose clock is behind.
const LAG_TRUSTED: Duration = Duration::from_secs(4);

impl Push {
    /// A link is gone: the origins that came over it, or were asked for on it, are looked for. If there were any, one that
    /// has some of them without us, or else anybody, to repair with at once.
    pub(super) fn look_for_lost(&mut self, now: Mono, gone: LinkId, was_foreign: bool) -> Option<LinkId> {
        let is_lost = |(number, origin): (u32, &Origin)| {
            (origin.parent == Some(gone) || origin.asked.contains(&gone)).then_some(number)
        };
        let orphans: Vec<u32> = (0..).zip(&self.origins).filter_map(is_lost).collect();
        let partner = orphans.iter().find_map(|number| self.those_without_us(*number).first().copied());
        let partner = partner.or_else(|| self.lanes.keys().next().copied());
        // What came from another region may have no other way into ours than the few links there.
        orphans.iter().for_each(|number| self.look_for_parent(now, *number, was_foreign, None));
        partner.filter(|_| !orphans.is_empty())
    }

    /// Links to neighbours that have an origin without us: neither sends it to the other. Not those that are there for a
    /// moment, and not those to other regions.
    fn those_without_us(&self, number: u32) -> Vec<LinkId> {
        let lasts = |lane: &Lane| !lane.foreign && !lane.passing;
        let without_us = |lane: &Lane| lane.has_told(number) && lane.pruned.has(number);
        let those = self.lanes.iter().filter(|(_, lane)| without_us(lane) && lasts(lane));
        those.map(|(link, _)| *link).collect()
    }

    /// An origin has no parent: every link may carry it again, and the first to deliver news is taken.
    pub(super) fn graft(&mut self, number: u32) {
        let origin = &mut self.origins[number as usize];
        (origin.parent, origin.rival, origin.doubted) = (None, None, Mono::NEVER);
        origin.asked.clear();
        self.with_lanes(|_, lane| lane.untell(number));
    }

    /// Does something with every lane, and notes which of them have something to say.
    fn with_lanes(&mut self, mut act: impl FnMut(LinkId, &mut Lane)) {
        for (link, lane) in &mut self.lanes {
            act(*link, lane);
            if lane.has_work() {
                self.busy.insert(*link);
                self.due = self.due.min(lane.due());
            }
        }
    }

    /// An origin has no parent: some are asked that have it without us, or `all` are. Where those are few they may have it
    /// by way of us after all: then all are, `but` one.
    fn look_for_parent(&mut self, now: Mono, number: u32, all: bool, but: Option<LinkId>) {
        let near = self.those_without_us(number);
        if all || near.len() < ASKED {
            return self.ask_everybody(number, but);
        }
        // Of each origin others, lest all that a link carried crowds on the next.
        let asked: Vec<LinkId> = near.iter().cycle().skip(number as usize % near.len()).take(ASKED).copied().collect();
        self.with_lanes(|link, lane| {
            if asked.contains(&link) || (lane.foreign && !lane.passing) {
                lane.untell(number);
            }
        });
        let origin = &mut self.origins[number as usize];
        (origin.parent, origin.rival, origin.doubted) = (None, None, Mono::NEVER);
        (origin.asked, origin.asked_at) = (asked, now);
    }

    /// An origin has no parent, and everybody but one is asked for it, also those that have it from us: they may be the
    /// only ones left, and look for another.
    fn ask_everybody(&mut self, number: u32, but: Option<LinkId>) {
        self.graft(number);
        self.with_lanes(|link, lane| {
            if !lane.pruned.has(number) && Some(link) != but {
                lane.grafts.insert(number);
            }
        });
    }

    /// A peer asks us for an origin: it has its news from nobody better, and where it was our parent, or is one of those
    /// that we have asked, nor have we.
    pub(super) fn on_asked(&mut self, now: Mono, link: LinkId, number: u32) {
        let origin = &mut self.origins[number as usize];
        origin.rival = origin.rival.filter(|rival| *rival != link);
        let had_asked = origin.asked.len();
        origin.asked.retain(|asked| *asked != link);
        let in_vain = had_asked > 0 && origin.asked.is_empty();
        let was_parent = origin.parent == Some(link);
        if in_vain || was_parent {
            // As when such a link is lost.
            let was_foreign = was_parent && self.lanes.get(&link).is_some_and(|lane| lane.foreign);
            self.look_for_parent(now, number, was_foreign, Some(link));
        }
    }

    /// A repair brought something of `origin` so long after it was written. Who has no parent for it asks those that may
    /// have been told not to send it, and more of the others if some were asked in vain.
    pub fn on_repaired(&mut self, now: Mono, origin: &NodeId, lag: Duration) {
        let number = self.number(origin);
        let origin = &self.origins[number as usize];
        if origin.parent.is_some() {
            return;
        }
        if !origin.asked.is_empty() {
            if origin.was_asked_before(now, lag) {
                self.look_for_parent(now, number, false, None);
            }
            return;
        }
        self.with_lanes(|_, lane| lane.ask_if_unsure(number));
    }

    /// Whether some were asked for an origin, and there are more to ask.
    pub fn is_looking_for(&self, origin: &NodeId) -> bool {
        self.numbers.get(origin).is_some_and(|number| !self.origins[*number as usize].asked.is_empty())
    }

    /// A repair on `link` brought a settled entry of `origin`, so long after it was written: where push is quick, its tree
    /// does not reach us. Where it is late the tree may well stand: the link that brought it may carry the origin again,
    /// and the others only if the parent brings nothing more.
    pub fn on_missed(&mut self, now: Mono, link: LinkId, origin: &NodeId, lag: Duration) {
        let number = self.number(origin);
        let is_quick = self.lag.is_quick();
        let origin = &mut self.origins[number as usize];
        if !origin.asked.is_empty() {
            if origin.was_asked_before(now, lag) {
                self.ask_everybody(number, None);
            }
            return;
        }
        if is_quick || origin.parent.is_none() {
            return self.graft(number);
        }
        origin.doubted = origin.doubted.min(now);
        self.doubts_due = self.doubts_due.min(origin.doubted + self.lag.patience());
        if let Some(lane) = self.lanes.get_mut(&link) {
            lane.untell(number);
        }
        self.note_work(link);
    }

    /// Gives up the parents that have brought nothing since they were doubted.
    pub(super) fn judge_parents(&mut self, now: Mono) {
        if self.doubts_due > now {
            return;
        }
        self.doubts_due = Mono::NEVER;
        for number in 0..self.origins.len() as u32 {
            let origin = &self.origins[number as usize];
            if origin.doubted == Mono::NEVER {
                continue;
            }
            match origin.doubted + self.lag.patience() {
                due if due <= now => self.graft(number),
                due => self.doubts_due = self.doubts_due.min(due),
            }
        }
    }
}

impl Origin {
    /// Whether some were asked before an entry was written that came by a repair so long after that: they do not send it.
    /// Of one written earlier, in the two seconds for instance that a stopped neighbour is waited for, they were not asked.
    fn was_asked_before(&self, now: Mono, lag: Duration) -> bool {
        self.asked_at + lag.min(LAG_TRUSTED) < now
    }
}
