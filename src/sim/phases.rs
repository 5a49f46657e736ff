//! A run in three parts: faults; then a random quorum is whole and the rest stays broken, and a commit must come;
//! then everything is whole, and everybody must become equal.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::consensus::Group;
use crate::core::hlc::Hlc;
use crate::core::id::{GroupId, Index, RegionId, Voter};
use crate::core::node::Node;
use crate::core::state::entry::{Entry, Key, Scope};
use crate::core::state::store::{Share, Store};
use crate::core::state::system::{self, Meaning};
use crate::core::view::Liveness;
use crate::sim::cluster::Cluster;
use crate::sim::load::CLIENT_CHANNELS;
use crate::sim::oracles::written::Written;
use crate::sim::oracles::{is_quorum, memory};
use crate::sim::queue::What;

/// What a run is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Things go wrong.
    Faults,
    /// A quorum is whole, and must commit.
    Quorum,
    /// All is whole, and nobody writes.
    Healed,
    /// It has passed.
    Done,
}

impl Phase {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Faults => "faults",
            Phase::Quorum => "a quorum is whole",
            Phase::Healed => "all is whole",
            Phase::Done => "passed",
        }
    }
}

/// Election timeouts within which a whole quorum must commit: for elections to settle, links to be made again,
/// clocks to be believed and what a deposed leader left behind to be fetched.
const QUORUM_TIMEOUTS: u64 = 60;
/// The same at the top, on top of that, in its own longer timeouts.
const TOP_TIMEOUTS: u64 = 20;
/// Virtual time within which everybody must be equal once all is whole, in microseconds.
const EQUAL_WITHIN_US: u64 = 120_000_000;
/// Time between looks, in microseconds.
const LOOK_US: u64 = 100_000;
/// Nodes that are asked for their opinion of all others.
const LOOK_AT_ALL: usize = 128;
/// Nodes described in a verdict.
const DESCRIBED: usize = 12;
/// Commits that must come after all is whole.
const COMMITS_AFTER: u64 = 2;

/// What the present phase must reach, and by when.
#[derive(Debug, Default)]
pub(crate) struct Goal {
    begun: u64,
    by: u64,
    /// Newest committed index of every group when the phase began.
    from: Vec<(GroupId, Option<Index>)>,
    /// Members that are whole in the phase of the quorum.
    whole: BTreeSet<usize>,
    /// What is written since everybody is to become equal.
    written: Written,
}

impl Cluster {
    pub(crate) fn start_phases(&mut self) {
        let end = (self.plan.scenario.duration_s * 1e6) as u64;
        self.queue.at(end, What::Look);
    }

    /// Looks whether the present phase is over.
    pub(crate) fn on_look(&mut self) {
        match self.phase {
            Phase::Faults => {
                self.end_counting();
                return if self.plan.scenario.broken_rest { self.begin_quorum() } else { self.begin_healed() };
            }
            Phase::Quorum => {
                if self.has_grown_beyond() {
                    // Voters that had answered until just now were added, and are among the broken: draw again.
                    self.open_all();
                    return self.begin_quorum();
                }
                if self.has_committed(1) {
                    self.begin_healed();
                } else if self.is_late() {
                    let verdict = Err(format!("a whole quorum does not commit; {}", self.describe()));
                    return self.judge("liveness", verdict);
                }
            }
            Phase::Healed => match self.unequal().map(|why| ("equal", why)).or_else(|| self.swollen()) {
                None => {
                    self.oracles.spread.equal_us = Some(self.queue.now() - self.goal.begun);
                    return self.phase = Phase::Done;
                }
                Some((oracle, why)) if self.is_late() => {
                    let verdict = Err(format!("{why}; {}", self.describe()));
                    return self.judge(oracle, verdict);
                }
                Some(_) => {}
            },
            Phase::Done => return,
        }
        self.queue.after(LOOK_US, What::Look);
    }

    /// The part with faults is over: what was counted in it is judged.
    fn end_counting(&mut self) {
        let (expect, now) = (self.plan.scenario.expect.clone(), self.queue.now());
        self.settle_arrivals();
        let warm_at = (expect.warm_up_s * 1e6) as u64;
        // A run that was cut before anything is counted has nothing to judge.
        let Some(counted_us) = now.checked_sub(warm_at).filter(|us| *us > 0) else { return };
        for group in self.groups() {
            self.oracles.spread.committed(now, warm_at, &group);
        }
        let spread = &mut self.oracles.spread;
        (spread.near, spread.far) = (self.oracles.arrivals.near.clone(), self.oracles.arrivals.far.clone());
        spread.counted_us = counted_us;
        spread.nodes = self.members.len() as u64;
        let verdict = spread.judge(&expect);
        self.judge("spreading", verdict);
    }

    fn groups(&self) -> BTreeSet<GroupId> {
        let regions = (0..self.members.len()).map(|m| self.group_of(m));
        regions.chain(self.is_hierarchical().then_some(GroupId::Top)).collect()
    }

    fn is_hierarchical(&self) -> bool {
        self.plan.scenario.regions > 1
    }

    /// Whether a member takes part in a group.
    fn belongs(&self, m: usize, group: &GroupId) -> bool {
        *group == GroupId::Top || self.group_of(m) == *group
    }

    fn set_goal(&mut self, phase: Phase, within_us: u64) {
        self.phase = phase;
        let from = self.groups().into_iter().map(|g| (g.clone(), self.newest_index(&g))).collect::<Vec<_>>();
        let begun = self.queue.now();
        self.goal = Goal { begun, by: begun + within_us, from, whole: BTreeSet::new(), written: Written::default() };
        let at = self.queue.now();
        self.trace.remark(at, "sim", format_args!("{phase:?}"));
    }

    fn newest_index(&self, group: &GroupId) -> Option<Index> {
        self.oracles.ledger.newest(group).map(|at| at.index)
    }

    fn is_late(&self) -> bool {
        self.queue.now() > self.goal.by
    }

    /// Whether every group has committed this many documents since the phase began.
    fn has_committed(&self, more: u64) -> bool {
        self.goal.from.iter().all(|(group, from)| match (self.newest_index(group), from) {
            (Some(newest), Some(from)) => newest.get() >= from.get() + more,
            (newest, None) => newest.is_some(),
            (None, Some(_)) => false,
        })
    }

    fn begin_quorum(&mut self) {
        let scenario = &self.plan.scenario;
        let within = QUORUM_TIMEOUTS * scenario.timing.election_timeout_ms;
        let within =
            if self.is_hierarchical() { within + TOP_TIMEOUTS * scenario.top.election_timeout_ms } else { within };
        self.set_goal(Phase::Quorum, within * 1000);
        self.undo_all();
        self.net.calm(&mut self.queue);
        let at = self.queue.now();
        for m in 0..self.members.len() {
            // Its next start would find the damage: it is nobody to count on.
            if self.members[m].disk.is_damaged() && self.members[m].node.is_none() {
                self.lose_disk(m, "corrupt");
            }
        }
        let mut whole = BTreeSet::new();
        let mut groups: Vec<GroupId> = self.groups().into_iter().filter(|group| *group != GroupId::Top).collect();
        let founded = !self.is_hierarchical() || self.is_founded();
        if self.is_hierarchical() && founded {
            // H5: any minority of regions may be lost. What is left of them is no goal.
            self.rng.shuffle(&mut groups);
            groups.truncate(groups.len() / 2 + 1);
            self.goal.from.retain(|(group, _)| *group == GroupId::Top || groups.contains(group));
        }
        for group in groups {
            match founded {
                true => whole.extend(self.draw_quorum(&group)),
                false => whole.extend((0..self.members.len()).filter(|m| self.group_of(*m) == group)),
            }
        }
        for m in 0..self.members.len() {
            self.members[m].paused_until = 0;
            self.members[m].dials_fail_until = 0;
            self.members[m].clock.correct(at);
            self.members[m].disk.hurry(at);
            if let Some(due) = self.members[m].disk.next_due() {
                self.queue.at(due, What::Disk { member: m, life: self.members[m].life });
            }
            if whole.contains(&m) {
                self.start(m);
            } else {
                self.leave_broken(m, &whole);
            }
        }
        self.goal.whole = whole;
        self.queue.after(LOOK_US, What::Look);
    }

    /// Whether a majority of each region's voters takes part in the top. Until then everybody is needed: the genesis
    /// names the stores of all, so they must all have met.
    fn is_founded(&self) -> bool {
        let known = self.oracles.quorums.documents_from(&GroupId::Top, Index(0));
        let Some(newest) = known.max_by_key(|document| document.index_in(&GroupId::Top)) else { return false };
        let takes_part = |voter: &Voter| {
            let here = self.members.iter().find(|member| member.voter == *voter);
            here.is_some_and(|member| member.disk.store().hard(&GroupId::Top).is_some())
        };
        let regions = newest.header().voters.regions();
        regions.values().all(|voters| 2 * voters.iter().filter(|v| takes_part(v)).count() > voters.len())
    }

    /// Whether a document has come up whose voters the whole members are no quorum of, though others are there who
    /// are. One whose voters' stores are gone can be in force no more: whoever draws again for it draws for ever.
    fn has_grown_beyond(&self) -> bool {
        let whole = |voter: &Voter| self.goal.whole.iter().any(|m| self.members[*m].voter == *voter);
        let there = |voter: &Voter| self.members.iter().any(|member| member.voter == *voter);
        self.goal.from.iter().map(|(group, _)| group).any(|group| {
            let from = self.newest_index(group).unwrap_or(Index(0));
            let known = self.oracles.quorums.documents_from(group, from);
            let mut voters = known.filter_map(|document| document.voters_in(group));
            voters.any(|voters| !is_quorum(&voters, whole) && is_quorum(&voters, there))
        })
    }

    fn open_all(&mut self) {
        for (from, to) in self.net.blocked() {
            while self.net.is_blocked(from, to) {
                self.net.unblock(&mut self.queue, from, to);
            }
        }
    }

    /// Members that are a quorum whatever of the known documents is in force, drawn at random; everybody before
    /// there is a document.
    fn draw_quorum(&mut self, group: &GroupId) -> Vec<usize> {
        let mut there: Vec<usize> = (0..self.members.len()).filter(|m| self.group_of(*m) == *group).collect();
        let from = self.newest_index(group).unwrap_or(Index(0));
        let mut voters: Vec<_> =
            self.oracles.quorums.documents_from(group, from).filter_map(|document| document.voters_in(group)).collect();
        if self.is_hierarchical() {
            // A quorum of those who vote for this region at the top, too.
            let from = self.newest_index(&GroupId::Top).unwrap_or(Index(0));
            let global = self.oracles.quorums.documents_from(&GroupId::Top, from);
            voters.extend(global.filter_map(|document| document.voters_in(group)));
        }
        if voters.is_empty() {
            return there;
        }
        self.rng.shuffle(&mut there);
        let mut quorum: Vec<usize> = Vec::new();
        for m in there {
            let has = |voter: &Voter| quorum.iter().any(|q| self.members[*q].voter == *voter);
            if voters.iter().all(|voters| is_quorum(voters, has)) {
                break;
            }
            if voters.iter().any(|voters| voters.contains(&self.members[m].voter)) {
                quorum.push(m);
            }
        }
        quorum
    }

    /// What is not of the quorum is dead, cut off, half cut off, or well, as chance will have it.
    fn leave_broken(&mut self, m: usize, whole: &BTreeSet<usize>) {
        match self.rng.below(5) {
            0 => self.crash(m, true),
            1 => {
                for other in (0..self.members.len()).filter(|other| *other != m) {
                    self.net.block(m, other);
                    self.net.block(other, m);
                }
            }
            // It is heard and hears nothing, or the other way round.
            way @ (2 | 3) => {
                for other in whole {
                    let path = if way == 2 { (m, *other) } else { (*other, m) };
                    self.net.block(path.0, path.1);
                }
            }
            _ => self.start(m),
        }
    }

    fn begin_healed(&mut self) {
        let within_us = self.plan.scenario.expect.equal_within_ms.map_or(EQUAL_WITHIN_US, |ms| (ms * 1e3) as u64);
        let from_faults = self.phase == Phase::Faults;
        self.set_goal(Phase::Healed, within_us);
        self.undo_all();
        self.open_all();
        self.net.calm(&mut self.queue);
        self.redirect_strangers();
        for m in 0..self.members.len() {
            self.members[m].paused_until = 0;
            self.members[m].dials_fail_until = 0;
            self.start(m);
        }
        if from_faults {
            self.queue.after(LOOK_US, What::Look);
        }
    }

    /// What is still missing of a cluster that is whole.
    fn unequal(&self) -> Option<String> {
        if !self.has_committed(COMMITS_AFTER) {
            return Some("commits do not go on".to_owned());
        }
        let nodes: Vec<(usize, &Node)> =
            self.members.iter().enumerate().filter_map(|(m, member)| Some((m, member.node.as_ref()?))).collect();
        if let Some(why) = self.differing(&nodes) {
            return Some(why);
        }
        if let Some((m, _)) = nodes.iter().find(|(_, node)| node.waiting() > 0) {
            return Some(format!("{} has not sent all it has", self.members[*m].id));
        }
        if let Some(why) = self.mistaken(&nodes).or_else(|| self.unforgotten(&nodes)) {
            return Some(why);
        }
        if let Some((m, other)) = self.net.half_open() {
            let (kept_by, gone) = (&self.members[m].id, &self.members[other].id);
            return Some(format!("{kept_by} keeps a link to {gone} whose other end is gone"));
        }
        for (key, stamp, level) in self.oracles.acks.lasting() {
            let home = self.member_named(&key.origin).map(|m| self.group_of(m));
            let wanted = |m: usize| self.plan.scenario.scope == Scope::Global || Some(self.group_of(m)) == home;
            let lacks = |node: &Node| node.store().get(key).is_none_or(|held| held.stamp < stamp);
            let lacking = nodes.iter().find(|(m, node)| wanted(*m) && lacks(node));
            if let Some((m, _)) = lacking {
                return Some(format!("{} lacks {key} at {stamp}, acknowledged as {level}", self.members[*m].id));
            }
        }
        for group in self.groups() {
            let newest = self.newest_index(&group)?;
            let leads = |node: &Node| match group {
                GroupId::Top => node.top().is_some_and(Group::is_leader),
                GroupId::Region(_) => node.is_leader(),
            };
            let leaders = nodes.iter().filter(|(m, node)| self.belongs(*m, &group) && leads(node)).count();
            if leaders != 1 {
                return Some(format!("{leaders} nodes lead {group}"));
            }
            let trails = nodes.iter().find(|(m, node)| {
                let of = if group == GroupId::Top { node.top() } else { node.group() };
                let held = of.and_then(|of| of.hard().committed);
                self.belongs(*m, &group) && held.is_none_or(|held| held.index.get() + COMMITS_AFTER < newest.get())
            });
            if let Some((m, _)) = trails {
                return Some(format!("{} does not follow the ledger of {group}", self.members[*m].id));
            }
            let lacks = |m: usize| self.members[m].disk.store().lacks_of_ledger(&group);
            if let Some((m, index)) = nodes.iter().find_map(|(m, _)| Some((m, lacks(*m)?))) {
                return Some(format!("{} lacks {index} in the ledger of {group}", self.members[*m].id));
            }
        }
        None
    }

    /// Two nodes that do not hold the same: all of a region everything, all regions what is global.
    fn differing(&self, nodes: &[(usize, &Node)]) -> Option<String> {
        let mut firsts: BTreeMap<GroupId, usize> = BTreeMap::new();
        for (i, (m, node)) in nodes.iter().enumerate() {
            let of_region = *firsts.entry(self.group_of(*m)).or_insert(i);
            for (other, share) in [(of_region, Share::All), (0, Share::Global)] {
                let (first, this) = (nodes[other].1.store(), node.store());
                if first.summary_of(share) == this.summary_of(share) {
                    continue;
                }
                let differ = this.fingerprints(share).find(|(_, key, entry)| self.differs(first, &key.to_key(), entry));
                let lacks = first.fingerprints(share).find(|(_, key, entry)| self.differs(this, &key.to_key(), entry));
                if differ.is_none() && lacks.is_none() {
                    continue;
                }
                let (id, other) = (&self.members[*m].id, &self.members[nodes[other].0].id);
                return Some(format!("{id} differs from {other}: it has {differ:?}, the other {lacks:?}"));
            }
        }
        None
    }

    /// Whether a store has not got an entry of another's, nor may lag behind it.
    fn differs(&self, store: &Store, key: &Key, entry: &Entry) -> bool {
        let held = store.get(key);
        held != Some(entry) && {
            let (now, held) = (self.queue.now(), held.map(|held| held.stamp));
            // Of two that differ, the older is what somebody may hold still.
            !self.goal.written.may_lag(now, key, held.min(Some(entry.stamp)))
        }
    }

    /// An origin has written an entry.
    pub(crate) fn note_written(&mut self, key: &Key, stamp: Hlc) {
        if self.phase == Phase::Healed {
            self.goal.written.note(self.queue.now(), key, stamp);
        }
    }

    /// Who holds more than the size of the cluster allows.
    fn swollen(&self) -> Option<(&'static str, String)> {
        let scenario = &self.plan.scenario;
        let channels = scenario.load.channels + CLIENT_CHANNELS;
        let mut by_region: BTreeMap<&RegionId, usize> = BTreeMap::new();
        self.members.iter().for_each(|member| *by_region.entry(&member.params.region).or_default() += 1);
        let region = by_region.into_values().max().unwrap_or(0);
        let world = memory::World { nodes: self.members.len(), channels, regions: scenario.regions, region };
        self.members.iter().find_map(|member| {
            let why = memory::within(world, &member.node.as_ref()?.footprint()).err()?;
            Some(("memory", format!("{} {why}", member.id)))
        })
    }

    /// Who takes somebody for something else than alive, now that everybody is.
    fn mistaken(&self, nodes: &[(usize, &Node)]) -> Option<String> {
        // Of very many nodes some look at all.
        for (m, node) in nodes.iter().take(LOOK_AT_ALL) {
            let region = &self.members[*m].params.region;
            let others = self.members.iter().filter(|other| other.id != self.members[*m].id);
            for other in others.filter(|other| other.node.is_some() && other.params.region == *region) {
                let life = node.life_of(&other.id);
                if life != Some(Liveness::Alive) {
                    return Some(format!("{} takes {} for {life:?}", self.members[*m].id, other.id));
                }
            }
        }
        None
    }

    /// Who keeps entries of a node that it knows to be forgotten.
    fn unforgotten(&self, nodes: &[(usize, &Node)]) -> Option<String> {
        nodes.iter().take(LOOK_AT_ALL).find_map(|(m, node)| {
            let mut forgotten = node.store().iter().filter_map(|(key, entry)| {
                let is_forget = key.channel.as_str().starts_with(system::FORGET);
                match is_forget.then(|| system::understand(key.channel, &entry.value)) {
                    Some(Ok(Meaning::Forget(origin, forget))) => Some((origin, forget.up_to)),
                    _ => None,
                }
            });
            let kept = forgotten.find_map(|(origin, up_to)| {
                let mut entries = node.store().of_origin(&origin);
                entries.find(|(_, entry)| entry.stamp <= up_to).map(|(key, _)| key.to_key())
            });
            kept.map(|key| format!("{} keeps {key}, which is forgotten", self.members[*m].id))
        })
    }

    /// Where everybody stands, for a verdict.
    fn describe(&self) -> String {
        let one = |m: usize| {
            let member = &self.members[m];
            let Some(node) = &member.node else { return format!("{} down", member.id) };
            let view = node.view(member.clock.now(self.queue.now()));
            let at = view.group.checkpoint.map(|checkpoint| checkpoint.position.index.get());
            let top = node.top().map(|top| {
                let (role, hard) = (top.role().as_str(), top.hard());
                format!(", top {role} term {} checkpoint {:?}", hard.term, hard.committed.map(|at| at.index.get()))
            });
            let top = top.unwrap_or_default();
            format!("{} {} term {} checkpoint {at:?}{top}", member.id, view.group.role.as_str(), view.group.term)
        };
        let all: Vec<String> = (0..self.members.len().min(DESCRIBED)).map(one).collect();
        all.join(", ")
    }
}
