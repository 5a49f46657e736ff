//! Who votes next: one voter added or removed a document, and only by a leader that has committed in its term (C7).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::core::consensus::{Group, Part};
use crate::core::cx::Cx;
use crate::core::id::{GroupId, NodeId, Voter};
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

impl Group {
    /// Decides the next step towards an odd number of live voters, at most `voters_max`, and takes it with the
    /// next checkpoint. `unwanted` are nodes that an operator takes out.
    pub fn plan_voters(&mut self, cx: &mut Cx<'_>, members: &[Member], unwanted: &BTreeSet<NodeId>) {
        let voters = self.voters_of(&self.accepted);
        let now = cx.now.mono;
        let step = self.next_step(&voters, members, unwanted);
        let ready = match &step {
            Some(VoterChange::Add(newcomer)) => self.is_ready(now, &voters, newcomer),
            Some(VoterChange::Remove(_)) => true,
            None => false,
        };
        let GroupId::Region(_) = self.id else { return };
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

    fn next_step(&self, voters: &Voters, members: &[Member], unwanted: &BTreeSet<NodeId>) -> Option<VoterChange> {
        let patience = self.params.voter_replace_after;
        let lost = |voter: &Voter| {
            // A node that is back on another store is another voter; the old one will not return.
            members.iter().any(|m| m.voter.node == voter.node && (!m.alive || m.voter != *voter) && m.since >= patience)
        };
        let spare: Vec<&Voter> = members
            .iter()
            .filter(|m| m.alive && !voters.contains(&m.voter) && !unwanted.contains(&m.voter.node))
            .map(|m| &m.voter)
            .collect();
        let remove = |voter: &Voter| (voters.len() > 1).then(|| VoterChange::Remove(voter.clone()));
        if let Some(voter) = voters.iter().find(|voter| unwanted.contains(&voter.node)) {
            return remove(voter);
        }
        let even = voters.len().is_multiple_of(2);
        let free: Vec<&Voter> = spare.into_iter().filter(|spare| voters.of_node(&spare.node).is_none()).collect();
        let replaced = |lost: &Voter| members.iter().any(|m| m.alive && m.voter.node == lost.node && m.voter != *lost);
        if let Some(voter) = voters.iter().find(|voter| lost(voter))
            && (even || !free.is_empty() || replaced(voter))
        {
            return remove(voter);
        }
        let room = voters.len() + if even { 1 } else { 2 } <= self.params.voters_max.max(1);
        let enough = free.len() >= if even { 1 } else { 2 };
        (room && enough).then(|| VoterChange::Add(free[0].clone()))
    }

    /// C7: a newcomer votes only once it holds what is committed and a quorum of the new voters answers.
    fn is_ready(&self, now: Mono, voters: &Voters, newcomer: &Voter) -> bool {
        let Part::Leader(leading) = &self.part else { return false };
        let Some(region) = self.region_of(voters) else { return false };
        let Some(next) = voters.with(&region, newcomer.clone()) else { return false };
        let answers = |voter: &Voter| {
            *voter == self.me || leading.heard.get(voter).is_some_and(|h| now.since(h.at) < self.patience())
        };
        let holds = leading.heard.get(newcomer).and_then(|heard| heard.holds);
        let up_to_date = holds.is_some() && holds >= self.hard.committed;
        up_to_date && answers(newcomer) && next.is_quorum(answers)
    }

    /// The voters of the next document.
    pub(super) fn next_voters(&self, cx: &mut Cx<'_>, change: Option<VoterChange>) -> Voters {
        let voters = self.voters_of(&self.accepted);
        let next = match (&change, self.region_of(&voters)) {
            (Some(VoterChange::Add(voter)), Some(region)) => voters.with(&region, voter.clone()),
            (Some(VoterChange::Remove(voter)), _) => voters.without(voter),
            _ => None,
        };
        let Some(next) = next else { return voters };
        assert!(voters.may_become(&next), "a document changes one voter");
        let (added, removed) = match change {
            Some(VoterChange::Add(voter)) => (Some(voter), None),
            Some(VoterChange::Remove(voter)) => (None, Some(voter)),
            None => (None, None),
        };
        cx.notice(Notice::VotersChanging { group: self.id.clone(), added, removed });
        next
    }

    fn region_of(&self, voters: &Voters) -> Option<crate::core::id::RegionId> {
        match &self.id {
            GroupId::Region(region) => Some(region.clone()),
            GroupId::Top => voters.regions().keys().next().cloned(),
        }
    }
}
