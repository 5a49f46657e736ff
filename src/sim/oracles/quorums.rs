//! C4 to C6: what is acknowledged is durable, and what is taken for committed was acknowledged in one ballot by
//! a quorum of its own voters.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::hard_state::{Accepted, HardState, Position};
use crate::core::id::{GroupId, Hash, Index, Term, Voter};
use crate::core::ledger::document::Document;
use crate::core::message::agreement::CheckpointAck;
use crate::sim::disk::Store;
use crate::sim::oracles::{Actor, Verdict, is_quorum};

/// Who has acknowledged what, by ballot.
#[derive(Debug, Default)]
pub struct Quorums {
    acks: BTreeMap<(GroupId, Hash), BTreeMap<Term, BTreeSet<Voter>>>,
    accepted: BTreeMap<(GroupId, Hash), BTreeSet<(Term, Voter)>>,
    documents: BTreeMap<Hash, Document>,
}

impl Quorums {
    /// A document was seen.
    pub fn document(&mut self, document: &Document) {
        self.documents.entry(document.hash()).or_insert_with(|| document.clone());
    }

    /// A document by its hash, if it was ever durable anywhere.
    pub fn known(&self, hash: &Hash) -> Option<&Document> {
        self.documents.get(hash)
    }

    /// All documents of a group from an index on.
    pub fn documents_from(&self, group: &GroupId, index: Index) -> impl Iterator<Item = &Document> {
        let group = group.clone();
        self.documents.values().filter(move |d| d.index_in(&group).is_some_and(|at| at >= index))
    }

    /// An accepted pair became durable: only for a leader does that alone count.
    pub fn accepted(&mut self, group: &GroupId, voter: &Voter, accepted: Accepted) {
        let all = self.accepted.entry((group.clone(), accepted.hash)).or_default();
        all.insert((accepted.ballot, voter.clone()));
    }

    /// An acknowledgement left its voter.
    pub fn acked(&mut self, ack: &CheckpointAck) {
        let ballots = self.acks.entry((ack.group.clone(), ack.hash)).or_default();
        ballots.entry(ack.term).or_default().insert(ack.voter.clone());
    }

    /// A document is taken for committed.
    ///
    /// # Errors
    /// If in no ballot a quorum of its voters, the leader of that ballot included, had made it durable.
    pub fn committed<'a>(
        &self,
        group: &GroupId,
        at: Position,
        leader_of: impl Fn(Term) -> Option<&'a Voter>,
    ) -> Verdict {
        let key = (group.clone(), at.hash);
        let voters = self.documents.get(&at.hash).and_then(|document| document.voters_in(group));
        let voters = voters.ok_or_else(|| format!("{at:?} of {group} is committed, and durable nowhere"))?;
        let (none, nobody) = (BTreeMap::new(), BTreeSet::new());
        let acks = self.acks.get(&key).unwrap_or(&none);
        let accepted = self.accepted.get(&key).unwrap_or(&nobody);
        let ballots: BTreeSet<Term> = acks.keys().copied().chain(accepted.iter().map(|(ballot, _)| *ballot)).collect();
        let counts = |ballot: Term, voter: &Voter| {
            acks.get(&ballot).is_some_and(|acks| acks.contains(voter))
                || (leader_of(ballot) == Some(voter) && accepted.contains(&(ballot, voter.clone())))
        };
        if ballots.iter().any(|ballot| is_quorum(&voters, |voter| counts(*ballot, voter))) {
            return Ok(());
        }
        Err(format!(
            "{at:?} of {group} is taken for committed without a quorum of its voters; acknowledged by {acks:?}"
        ))
    }
}

/// Judges a durable hard state: the document it has accepted is there, and its body.
///
/// # Errors
/// If it is not.
pub fn held(store: &Store, hard: &HardState) -> Verdict {
    let Some(document) = store.documents.get(&hard.accepted.hash) else {
        return Err(format!("{:?} is durably accepted without its document", hard.accepted));
    };
    match document.header().body {
        Some(body) if !store.bodies.contains_key(&body) => {
            Err(format!("{:?} is durably accepted without its body", hard.accepted))
        }
        _ => Ok(()),
    }
}

/// Judges an acknowledgement: pair, document and body are durable where it comes from.
///
/// # Errors
/// If they are not, or it is somebody else's.
pub fn acknowledged(actor: Actor<'_>, ack: &CheckpointAck) -> Verdict {
    if ack.voter != *actor.voter {
        return Err(format!("{:?} acknowledges as {:?}", actor.voter, ack.voter));
    }
    let pair = (ack.term, ack.index);
    match actor.store.hard(&ack.group).map(|hard| &hard.accepted) {
        Some(accepted) if accepted.pair() == pair && accepted.hash == ack.hash => Ok(()),
        // Something newer has been accepted since.
        Some(accepted) if accepted.pair() > pair => Ok(()),
        accepted => Err(format!("{} acknowledges {pair:?} {:?} and holds {accepted:?}", ack.voter.node, ack.hash)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::oracles::samples::{document, main_group, voter};

    fn ack(name: &str, term: u64, document: &Document) -> CheckpointAck {
        CheckpointAck {
            group: main_group(),
            term: Term(term),
            index: document.header().index,
            hash: document.hash(),
            voter: voter(name, name.as_bytes()[0].into()),
            accepted: true,
            reason: None,
        }
    }

    #[test]
    fn acknowledgements_of_different_ballots_never_add_up() {
        let one = document(1, None, "abc");
        let at = Position { index: Index(1), hash: one.hash() };
        let mut quorums = Quorums::default();
        quorums.document(&one);
        quorums.acked(&ack("a", 1, &one));
        quorums.acked(&ack("b", 2, &one));
        quorums.acked(&ack("z", 2, &one));
        assert!(quorums.committed(&main_group(), at, |_| None).is_err());
        quorums.acked(&ack("a", 2, &one));
        assert_eq!(quorums.committed(&main_group(), at, |_| None), Ok(()));
    }

    #[test]
    fn only_a_leader_counts_without_an_acknowledgement() {
        let one = document(1, None, "abc");
        let at = Position { index: Index(1), hash: one.hash() };
        let (a, b) = (voter("a", 'a' as u128), voter("b", 'b' as u128));
        let mut quorums = Quorums::default();
        quorums.document(&one);
        quorums.acked(&ack("b", 2, &one));
        quorums.accepted(&main_group(), &a, Accepted { ballot: Term(2), index: Index(1), hash: one.hash() });
        assert!(quorums.committed(&main_group(), at, |_| Some(&b)).is_err(), "a raised pair is no acknowledgement");
        assert_eq!(quorums.committed(&main_group(), at, |_| Some(&a)), Ok(()));
    }

    #[test]
    fn an_acknowledgement_before_it_is_durable_is_seen() {
        let one = document(1, None, "abc");
        let a = voter("a", 'a' as u128);
        let mut hard = HardState::new(one.hash());
        let mut store = Store { hard: vec![(main_group(), hard.clone())], ..Store::default() };
        assert!(acknowledged(Actor { voter: &a, store: &store }, &ack("a", 1, &one)).is_err());
        assert!(held(&store, &hard).is_err());
        hard.accepted = Accepted { ballot: Term(1), index: Index(1), hash: one.hash() };
        store.hard = vec![(main_group(), hard.clone())];
        store.documents.insert(one.hash(), one.clone());
        assert_eq!(held(&store, &hard), Ok(()));
        assert_eq!(acknowledged(Actor { voter: &a, store: &store }, &ack("a", 1, &one)), Ok(()));
    }
}
