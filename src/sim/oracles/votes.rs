//! C2 and C11: one vote a term and identity, durable before it is told, under the voter's own present identity.

use std::collections::BTreeMap;

use crate::core::hard_state::HardState;
use crate::core::id::{GroupId, StoreId, Term, Voter};
use crate::core::message::agreement::{ElectionRequest, ElectionVote};
use crate::sim::oracles::{Actor, Verdict};

/// Every vote ever cast.
#[derive(Debug, Default)]
pub struct Votes(BTreeMap<(StoreId, GroupId, Term), Voter>);

impl Votes {
    /// Whom a store voted for in a term.
    pub fn of(&self, store: StoreId, group: &GroupId, term: Term) -> Option<&Voter> {
        self.0.get(&(store, group.clone(), term))
    }

    /// A hard state became durable.
    ///
    /// # Errors
    /// If its vote is a second one of its term.
    pub fn durable(&mut self, store: StoreId, group: &GroupId, hard: &HardState) -> Verdict {
        match &hard.voted_for {
            Some(candidate) => self.cast(store, group, hard.term, candidate),
            None => Ok(()),
        }
    }

    /// A vote is told to a candidate.
    ///
    /// # Errors
    /// If it is somebody else's, or not durable.
    pub fn sent(&mut self, actor: Actor<'_>, vote: &ElectionVote) -> Verdict {
        if vote.voter != *actor.voter {
            return Err(format!("{:?} votes as {:?}", actor.voter, vote.voter));
        }
        if !vote.granted || vote.pre {
            return Ok(());
        }
        let durable = actor.store.hard(&vote.group).filter(|hard| {
            // A term that has moved on meanwhile leaves the vote in it what it was.
            hard.term > vote.term || (hard.term == vote.term && hard.voted_for.is_some())
        });
        match durable {
            Some(_) if self.0.contains_key(&(vote.voter.store, vote.group.clone(), vote.term)) => Ok(()),
            _ => Err(format!(
                "{} grants its vote in term {} of {} before it is durable",
                vote.voter.node, vote.term, vote.group
            )),
        }
    }

    /// Judges a campaign: it is its own, and the candidate's vote for itself was durable before it asks for others'.
    ///
    /// # Errors
    /// If it is not.
    pub fn campaigns(&self, actor: Actor<'_>, request: &ElectionRequest) -> Verdict {
        if request.candidate != *actor.voter {
            return Err(format!("{:?} campaigns as {:?}", actor.voter, request.candidate));
        }
        // A term that has moved on meanwhile leaves the vote in it what it was.
        let vote = self.0.get(&(actor.voter.store, request.group.clone(), request.term));
        if request.pre || vote == Some(actor.voter) {
            return Ok(());
        }
        Err(format!("{} campaigns in term {} before its own vote is durable", actor.voter.node, request.term))
    }

    fn cast(&mut self, store: StoreId, group: &GroupId, term: Term, candidate: &Voter) -> Verdict {
        let first = self.0.entry((store, group.clone(), term)).or_insert_with(|| candidate.clone());
        if first != candidate {
            return Err(format!("store {store:?} votes for {first:?} and for {candidate:?} in term {term} of {group}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::hard_state::Accepted;
    use crate::core::id::{Hash, Index};
    use crate::sim::disk::Store;
    use crate::sim::oracles::samples::{main_group, voter};

    fn hard(term: u64, candidate: Option<&Voter>) -> HardState {
        HardState { term: Term(term), voted_for: candidate.cloned(), ..HardState::new(Hash::of(b"genesis")) }
    }

    fn granted(by: &Voter, term: u64) -> ElectionVote {
        let accepted = Accepted { ballot: Term(0), index: Index(0), hash: Hash::of(b"genesis") };
        let (group, voter) = (main_group(), by.clone());
        ElectionVote { group, term: Term(term), voter, pre: false, granted: true, reason: None, accepted }
    }

    #[test]
    fn a_second_vote_in_a_term_is_seen() {
        let mut votes = Votes::default();
        let (b, c) = (voter("b", 2), voter("c", 3));
        assert_eq!(votes.durable(StoreId(1), &main_group(), &hard(1, Some(&b))), Ok(()));
        assert_eq!(votes.durable(StoreId(1), &main_group(), &hard(2, Some(&c))), Ok(()));
        assert!(votes.durable(StoreId(1), &main_group(), &hard(1, Some(&c))).is_err());
    }

    #[test]
    fn a_vote_told_before_it_is_durable_is_seen() {
        let mut votes = Votes::default();
        let (a, b) = (voter("a", 1), voter("b", 2));
        let mut store = Store { hard: vec![(main_group(), hard(1, None))], ..Store::default() };
        let actor = |store| Actor { voter: &a, store };
        assert!(votes.sent(actor(&store), &granted(&a, 1)).is_err());
        store.hard = vec![(main_group(), hard(1, Some(&b)))];
        votes.durable(a.store, &main_group(), &hard(1, Some(&b))).unwrap();
        let actor = Actor { voter: &a, store: &store };
        assert_eq!(votes.sent(actor, &granted(&a, 1)), Ok(()));
        assert!(votes.sent(actor, &granted(&voter("a", 9), 1)).is_err(), "the identity of a lost disk votes");
    }
}
