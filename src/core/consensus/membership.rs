//! Who votes next: one voter added or removed a document, and only by a leader that has committed in its term (C7).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::consensus::{Group, Part};
use crate::core::cx::Cx;
use crate::core::id::{GroupId, NodeId, RegionId, Voter};
use crate::core::notice::Notice;
use crate::core::time::Mono;
use crate::core::voters::Voters;

/// One step of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VoterChange {
    /// This observer becomes a voter.
    Add(Voter),
    /// This voter becomes an observer, or is gone.
    Remove(Voter),
}

/// A node of the region as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name and the store it runs on at present.
    pub voter: Voter,
    /// Whether it is there.
    pub alive: bool,
    /// For how long it has been so.
    pub since: Duration,
}

impl Member {
    /// Whether this says that a voter is not there: its node is dead, or back on another store, and so another voter.
    fn is_gone(&self, voter: &Voter) -> bool {
        self.voter.node == voter.node && (!self.alive || self.voter != *voter)
    }
}

impl Group {
    /// Decides the next step towards an odd number of live voters, at most `voters_max`, and takes it with the
    /// next checkpoint. `unwanted` are nodes that an operator takes out.
    pub fn plan_voters(&mut self, cx: &mut Cx<'_>, members: &[Member], unwanted: &BTreeSet<NodeId>) {
        let now = cx.now.mono;
        let step = self.wanted_step(now, members, unwanted);
        let voters = self.voters_of(&self.accepted);
        let ready = step.as_ref().is_some_and(|step| self.is_ready(now, &voters, step));
        let Part::Leader(leading) = &mut self.part else { return };
        // A newcomer is heartbeaten before it votes: its answers say what it holds.
        leading.learners = match &step {
            Some(VoterChange::Add(newcomer)) => BTreeSet::from([newcomer.clone()]),
            _ => BTreeSet::new(),
        };
        if leading.settled && ready && leading.change.is_none() {
            leading.change = step;
            leading.checkpoint_due = now;
        }
    }

    /// Just before it is proposed: a change that was planned and is wanted no more is not made.
    pub fn reconsider(&mut self, now: Mono, members: &[Member], unwanted: &BTreeSet<NodeId>) {
        let step = self.wanted_step(now, members, unwanted);
        let Part::Leader(leading) = &mut self.part else { return };
        leading.change.take_if(|change| step.as_ref() != Some(change));
    }

    fn wanted_step(&self, now: Mono, members: &[Member], unwanted: &BTreeSet<NodeId>) -> Option<VoterChange> {
        let voters = self.voters_of(&self.accepted);
        // Who answered a moment ago may have died since, and be known to have.
        let is_there = |voter: &Voter| !members.iter().any(|m| m.is_gone(voter));
        let may_go = |voter: &Voter| {
            self.is_ready(now, &voters, &VoterChange::Remove(voter.clone()))
                && voters.without(voter).is_some_and(|next| next.is_quorum(is_there))
        };
        self.next_step(&voters, members, unwanted, may_go)
    }

    /// At the top: decides the next step towards what the regions themselves have, and takes it with the next
    /// checkpoint (C7). A document changes at most one voter of each region, and at most one region. `wanted` names
    /// all regions that are to be, each with its own voters.
    pub fn plan_regions(&mut self, cx: &mut Cx<'_>, wanted: &BTreeMap<RegionId, BTreeSet<Voter>>) {
        let voters = self.voters_of(&self.accepted);
        let now = cx.now.mono;
        let Part::Leader(leading) = &mut self.part else { return };
        // Newcomers are heartbeaten before they vote: their answers say what they hold.
        leading.learners = wanted.values().flatten().filter(|voter| !voters.contains(voter)).cloned().collect();
        let Part::Leader(leading) = &self.part else { return };
        if !leading.settled || leading.next.is_some() {
            return;
        }
        let next = self.next_regions(now, &voters, wanted);
        let Some(next) = next.filter(|next| *next != voters && voters.may_become(next)) else { return };
        if !next.is_quorum(|voter| self.answers(now, voter)) {
            return;
        }
        let all = |of: &Voters, but: &Voters| of.iter().filter(|v| !but.contains(v)).cloned().collect::<Vec<_>>();
        let (added, removed) = (all(&next, &voters).pop(), all(&voters, &next).pop());
        cx.notice(Notice::VotersChanging { group: self.id.clone(), added, removed });
        let Part::Leader(leading) = &mut self.part else { return };
        leading.next = Some(next);
        leading.checkpoint_due = now;
    }

    fn next_regions(&self, now: Mono, voters: &Voters, wanted: &BTreeMap<RegionId, BTreeSet<Voter>>) -> Option<Voters> {
        let mut next = voters.regions().clone();
        for (region, have) in next.iter_mut() {
            let Some(want) = wanted.get(region) else { continue };
            // Who is gone goes first: a replacement is two documents.
            if let Some(gone) = have.difference(want).next().filter(|_| have.len() > 1).cloned() {
                have.remove(&gone);
                continue;
            }
            let mut free = want.difference(have).filter(|new| voters.of_node(&new.node).is_none());
            if let Some(new) = free.find(|new| self.is_up_to_date(now, new)).cloned() {
                have.insert(new);
            }
        }
        let there = |region: &RegionId| voters.regions().contains_key(region);
        let arriving = wanted.iter().filter(|(region, _)| !there(region)).find(|(_, all)| {
            let known = all.iter().filter(|voter| self.is_up_to_date(now, voter)).count();
            2 * known > all.len() && all.iter().all(|voter| voters.of_node(&voter.node).is_none())
        });
        let leaving = voters.regions().keys().find(|region| !wanted.contains_key(*region));
        if let Some((region, all)) = arriving {
            next.insert(region.clone(), all.clone());
        } else if let Some(region) = leaving.filter(|_| next.len() > 1) {
            next.remove(region);
        }
        Voters::try_from(next).ok()
    }

    fn is_up_to_date(&self, now: Mono, newcomer: &Voter) -> bool {
        let Part::Leader(leading) = &self.part else { return false };
        if *newcomer == self.me {
            return true;
        }
        let holds = leading.heard.get(newcomer).and_then(|heard| heard.holds);
        holds.is_some() && holds >= self.hard.committed && self.answers(now, newcomer)
    }

    fn answers(&self, now: Mono, voter: &Voter) -> bool {
        let Part::Leader(leading) = &self.part else { return false };
        *voter == self.me || leading.heard.get(voter).is_some_and(|h| now.since(h.at) < self.patience())
    }

    pub(super) fn next_step(
        &self,
        voters: &Voters,
        members: &[Member],
        unwanted: &BTreeSet<NodeId>,
        may_go: impl Fn(&Voter) -> bool,
    ) -> Option<VoterChange> {
        let patience = self.params.voter_replace_after;
        let lost = |voter: &Voter| members.iter().any(|m| m.is_gone(voter) && m.since >= patience);
        let spare: Vec<&Voter> = members
            .iter()
            .filter(|m| m.alive && !voters.contains(&m.voter) && !unwanted.contains(&m.voter.node))
            .map(|m| &m.voter)
            .collect();
        let remove = |voter: &Voter| (voters.len() > 1).then(|| VoterChange::Remove(voter.clone()));
        // One that is unwanted stays for as long as the others could decide nothing without it: meanwhile the lost are replaced.
        if let Some(voter) = voters.iter().find(|voter| unwanted.contains(&voter.node) && may_go(voter)) {
            return remove(voter);
        }
        let even = voters.len().is_multiple_of(2);
        let free: Vec<&Voter> = spare.into_iter().filter(|spare| voters.of_node(&spare.node).is_none()).collect();
        let replaced = |lost: &Voter| members.iter().any(|m| m.alive && m.voter.node == lost.node && m.voter != *lost);
        if let Some(voter) = voters.iter().find(|voter| lost(voter))
            && (even || !free.is_empty() || replaced(voter))
        {
            // Of two voters none may be lost, not for a moment: of three the replacement comes first.
            let spare = free.first().filter(|_| voters.len() == 3 && self.params.voters_max > 3);
            return spare.map_or_else(|| remove(voter), |spare| Some(VoterChange::Add((*spare).clone())));
        }
        let room = voters.len() + if even { 1 } else { 2 } <= self.params.voters_max.max(1);
        let enough = free.len() >= if even { 1 } else { 2 };
        (room && enough).then(|| VoterChange::Add(free[0].clone()))
    }

    /// C7: voters change only to such of whom a quorum answers, and a newcomer votes only once it holds what is committed.
    fn is_ready(&self, now: Mono, voters: &Voters, change: &VoterChange) -> bool {
        let held = match change {
            VoterChange::Add(newcomer) => self.is_up_to_date(now, newcomer),
            VoterChange::Remove(_) => true,
        };
        held && self.changed(voters, change).is_some_and(|next| next.is_quorum(|voter| self.answers(now, voter)))
    }

    fn changed(&self, voters: &Voters, change: &VoterChange) -> Option<Voters> {
        match change {
            VoterChange::Add(voter) => voters.with(&self.region_of(voters)?, voter.clone()),
            VoterChange::Remove(voter) => voters.without(voter),
        }
    }

    /// The voters of the next document.
    pub(super) fn next_voters(&self, cx: &mut Cx<'_>, change: Option<VoterChange>) -> Voters {
        let voters = self.voters_of(&self.accepted);
        // Something may have been committed, or somebody lost, since it was planned.
        let ready = change.as_ref().filter(|change| self.is_ready(cx.now.mono, &voters, change));
        let Some(next) = ready.and_then(|change| self.changed(&voters, change)) else { return voters };
        assert!(voters.may_become(&next), "a document changes one voter");
        let (added, removed) = match change {
            Some(VoterChange::Add(voter)) => (Some(voter), None),
            Some(VoterChange::Remove(voter)) => (None, Some(voter)),
            None => (None, None),
        };
        cx.notice(Notice::VotersChanging { group: self.id.clone(), added, removed });
        next
    }

    fn region_of(&self, voters: &Voters) -> Option<RegionId> {
        match &self.id {
            GroupId::Region(region) => Some(region.clone()),
            GroupId::Top => voters.regions().keys().next().cloned(),
        }
    }
}
