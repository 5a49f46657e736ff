//! What nodes tell of themselves, for the judges, and what is counted of spreading and watching.

use std::collections::BTreeSet;

use crate::core::id::NodeId;
use crate::core::node::Node;
use crate::core::notice::Notice;
use crate::core::state::entry::{Entry, Key};
use crate::core::view::Liveness;
use crate::sim::cluster::Cluster;
use crate::sim::cluster::members::Member;
use crate::sim::oracles::Actor;
use crate::sim::oracles::arrivals::Place;
use crate::sim::phases::Phase;
use crate::sim::scenario::Expect;

/// A process that has just begun may still be taken for what it was.
const NEWS_TRAVEL_US: u64 = 1_000_000;
/// A process paused for longer may rightly be taken for dead.
const PAUSE_TOLERATED_US: u64 = 1_000_000;

impl Cluster {
    /// Whether messages and updates are counted now.
    pub(super) fn is_counting(&self) -> bool {
        self.plan.scenario.expect != Expect::default()
            && self.phase == Phase::Faults
            && self.queue.now() >= self.warm_at
    }

    /// True if whoever dies now, or died `then`, is to be seen dead by all others while that is counted: not before all
    /// have met, and not when there is no more time to see it.
    pub(crate) fn counts_death_at(&self, then: u64) -> bool {
        let scenario = &self.plan.scenario;
        let seen_by = then + scenario.expect.dead_within_ms.map_or(0, |ms| (ms * 1e3) as u64);
        self.phase == Phase::Faults && then >= self.warm_at && seen_by <= (scenario.duration_s * 1e6) as u64
    }

    /// True if `other` runs and takes `victim` for alive, or suspects it: one that has died before, and come back so short a
    /// time ago that nobody has heard, is shown dead all the while, and one that nobody has met is not shown.
    pub(crate) fn is_to_see_dead(&self, other: usize, victim: usize) -> bool {
        let name = &self.members[victim].id;
        let knows = |node: &Node| matches!(node.life_of(name), Some(Liveness::Alive | Liveness::Suspect));
        other != victim && self.members[other].node.as_ref().is_some_and(knows)
    }

    /// A process has died that all who know it are to see dead. What it still had time to see itself, it need not.
    pub(super) fn expect_death_seen(&mut self, m: usize) {
        for victim in 0..self.members.len() {
            if self.may_yet_be_seen(victim) {
                self.excuse_death(victim, Some(m));
            }
        }
        self.members[m].unseen.clear();
        if self.counts_death_at(self.queue.now()) {
            let others: BTreeSet<usize> =
                (0..self.members.len()).filter(|other| self.is_to_see_dead(*other, m)).collect();
            self.oracles.spread.deaths_expected += others.len() as u64;
            self.members[m].unseen = others;
        }
    }

    /// A process comes back: whoever has not seen it dead yet, and still had time for it, never will.
    pub(super) fn excuse_short_death(&mut self, m: usize) {
        if self.may_yet_be_seen(m) {
            self.excuse_death(m, None);
        }
    }

    /// Whether there is time left to see that this process died.
    fn may_yet_be_seen(&self, m: usize) -> bool {
        let patience = self.plan.scenario.expect.dead_within_ms.map_or(0, |ms| (ms * 1e3) as u64);
        self.queue.now() < self.members[m].died + patience
    }

    /// One of those who were to see a death, or all that have not, need not.
    fn excuse_death(&mut self, m: usize, other: Option<usize>) {
        let unseen = &mut self.members[m].unseen;
        let excused = match other {
            Some(other) => usize::from(unseen.remove(&other)),
            None => std::mem::take(unseen).len(),
        };
        self.oracles.spread.deaths_expected -= excused as u64;
    }

    /// Counts an update, or its arrival at another node.
    pub(super) fn follow(&mut self, m: usize, key: &Key, entry: &Entry) {
        let now = self.queue.now();
        if key.origin != self.members[m].id {
            return self.oracles.arrivals.held(now, m, key, entry);
        }
        let member = &self.members[m];
        if member.node.as_ref().is_some_and(|node| node.start() >= Some(entry.stamp)) {
            return; // It comes back from those who held it all the while.
        }
        self.oracles.spread.updated(&key.origin);
        if self.oracles.arrivals.is_due(now) {
            self.settle_arrivals();
        }
        self.oracles.arrivals.written(now, m, key, entry);
    }

    /// Counts arrivals of what has been followed for long enough.
    pub fn settle_arrivals(&mut self) {
        let place = |member: &'_ Member| (member.params.region.clone(), member.node.is_some().then_some(member.born));
        let places: Vec<_> = self.members.iter().map(place).collect();
        let places: Vec<Place<'_>> =
            places.iter().map(|(region, born)| Place { region: region.as_str(), born: *born }).collect();
        self.oracles.arrivals.settle(self.queue.now(), &places);
    }

    pub(super) fn on_notice(&mut self, m: usize, notice: &Notice) {
        let member = &self.members[m];
        let actor = Actor { voter: &member.voter, store: member.disk.store() };
        let verdict = self.oracles.told(actor, notice);
        match notice {
            Notice::BecameLeader { .. } => self.elections += 1,
            Notice::Committed { group, position, .. } => {
                let newest = self.oracles.ledger.newest(group).map(|newest| newest.index);
                if self.phase == Phase::Faults
                    && newest == Some(position.index)
                    && self.newest.get(group) < Some(&position.index)
                {
                    self.newest.insert(group.clone(), position.index);
                    self.oracles.spread.committed(self.queue.now(), self.warm_at, group);
                }
            }
            Notice::Died { node } => self.on_death_told(m, node),
            Notice::FutureDropped { .. } => self.oracles.merges.reborn(m),
            Notice::ClockReset => {
                // What it stamped in a refused future is stamped anew, with lower stamps.
                self.oracles.stamps.excuse(&member.id);
                self.oracles.acks.excuse(&member.id);
                self.oracles.merges.reborn(m);
            }
            _ => {}
        }
        self.break_on(verdict);
    }

    /// Somebody says that a node is dead.
    fn on_death_told(&mut self, by: usize, node: &NodeId) {
        let (now, counting) = (self.queue.now(), self.phase == Phase::Faults);
        let Some(m) = self.member_named(node).filter(|_| counting) else { return };
        let victim = &self.members[m];
        if victim.node.is_none() {
            if self.members[by].born > victim.died || !self.counts_death_at(victim.died) {
                return; // It hears of what was before it, or of what is not counted.
            }
            let after = now - victim.died;
            if self.members[m].unseen.remove(&by) {
                self.oracles.spread.deaths_us.push(after);
            }
        } else if victim.paused_until < now + PAUSE_TOLERATED_US && victim.born + NEWS_TRAVEL_US < now {
            self.oracles.spread.false_deaths += 1;
        }
    }
}
