//! At most one leader a term and group, and one document a leader proposes at each index of its term (C5).

use std::collections::BTreeMap;

use crate::core::hard_state::Position;
use crate::core::id::{GroupId, Hash, Index, Term, Voter};
use crate::sim::oracles::Verdict;

/// Every leader there has been.
#[derive(Debug, Default)]
pub struct Leaders {
    of: BTreeMap<(GroupId, Term), Voter>,
    proposed: BTreeMap<(GroupId, Term, Index), Hash>,
}

impl Leaders {
    /// Somebody says that it leads.
    ///
    /// # Errors
    /// If somebody else leads in that term.
    pub fn became(&mut self, group: &GroupId, term: Term, leader: &Voter) -> Verdict {
        let first = self.of.entry((group.clone(), term)).or_insert_with(|| leader.clone());
        if first != leader {
            return Err(format!("both {first:?} and {leader:?} lead {group} in term {term}"));
        }
        Ok(())
    }

    /// Somebody speaks as leader.
    ///
    /// # Errors
    /// If it never became one, or somebody else did.
    pub fn speaks(&self, group: &GroupId, term: Term, leader: &Voter) -> Verdict {
        match self.of.get(&(group.clone(), term)) {
            Some(known) if known == leader => Ok(()),
            known => Err(format!("{leader:?} speaks as leader of {group} in term {term}; the leader is {known:?}")),
        }
    }

    /// A leader proposes a document.
    ///
    /// # Errors
    /// If it has proposed another one at that index in that term.
    pub fn proposes(&mut self, group: &GroupId, term: Term, at: Position) -> Verdict {
        let first = *self.proposed.entry((group.clone(), term, at.index)).or_insert(at.hash);
        if first != at.hash {
            let second = at.hash;
            return Err(format!("{first:?} and {second:?} are proposed at {} in term {term} of {group}", at.index));
        }
        Ok(())
    }

    /// Who leads in a term.
    pub fn of(&self, group: &GroupId, term: Term) -> Option<&Voter> {
        self.of.get(&(group.clone(), term))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::oracles::samples::{main_group, voter};

    #[test]
    fn a_second_leader_of_a_term_is_seen() {
        let mut leaders = Leaders::default();
        let (a, b) = (voter("a", 1), voter("b", 2));
        assert_eq!(leaders.became(&main_group(), Term(1), &a), Ok(()));
        assert_eq!(leaders.became(&main_group(), Term(2), &b), Ok(()));
        assert_eq!(leaders.speaks(&main_group(), Term(1), &a), Ok(()));
        assert!(leaders.became(&main_group(), Term(1), &b).is_err());
        assert!(leaders.speaks(&main_group(), Term(1), &b).is_err());
    }

    #[test]
    fn two_documents_proposed_at_one_index_of_a_term_are_seen() {
        let mut leaders = Leaders::default();
        let at = |bytes: &[u8]| Position { index: Index(3), hash: Hash::of(bytes) };
        assert_eq!(leaders.proposes(&main_group(), Term(1), at(b"x")), Ok(()));
        assert_eq!(leaders.proposes(&main_group(), Term(2), at(b"y")), Ok(()));
        assert!(leaders.proposes(&main_group(), Term(1), at(b"y")).is_err());
    }
}
