//! C9: a committed index keeps its hash for ever and on every node; each document names the one before it; no
//! store's newest committed index falls. Each is taken later than the one before it.

use std::collections::BTreeMap;

use crate::core::hard_state::Position;
use crate::core::hlc::Hlc;
use crate::core::id::{GroupId, Hash, Index, StoreId};
use crate::core::ledger::document::Document;
use crate::sim::oracles::Verdict;

/// The one chain of every group.
#[derive(Debug, Default)]
pub struct Ledger {
    chains: Vec<(GroupId, BTreeMap<Index, Hash>)>,
    /// Of each document, the one before it, and when it was taken.
    documents: BTreeMap<Hash, (Option<Hash>, Hlc)>,
    newest: BTreeMap<(StoreId, GroupId), Index>,
}

impl Ledger {
    /// A document became durable.
    ///
    /// # Errors
    /// If it was taken no later than the one before it.
    pub fn document(&mut self, document: &Document) -> Verdict {
        let (parent, taken_at) = (document.header().parent, document.header().taken_at.time);
        self.documents.insert(document.hash(), (parent, taken_at));
        match parent.and_then(|parent| self.documents.get(&parent)) {
            Some((_, before)) if *before >= taken_at => {
                Err(format!("{} was taken at {taken_at:?} and follows one of {before:?}", document.header().index))
            }
            _ => Ok(()),
        }
    }

    /// Somebody takes a document for committed. True if that is known already.
    ///
    /// # Errors
    /// If another one is committed there, or it does not follow from the one before it.
    pub fn committed(&mut self, group: &GroupId, at: Position) -> Result<bool, String> {
        let chain = match self.chains.iter().position(|(of, _)| of == group) {
            Some(found) => &mut self.chains[found].1,
            None => {
                self.chains.push((group.clone(), BTreeMap::new()));
                &mut self.chains.last_mut().expect("pushed just now").1
            }
        };
        match chain.get(&at.index) {
            Some(hash) if *hash == at.hash => return Ok(true),
            Some(hash) => {
                return Err(format!("{group} forks at {}: {hash:?} and {:?} are committed", at.index, at.hash));
            }
            None => {}
        }
        let before = at.index.get().checked_sub(1).and_then(|before| chain.get(&Index(before)));
        let after = chain.get(&at.index.next());
        let parent = |hash: &Hash| self.documents.get(hash).and_then(|(parent, _)| *parent);
        if before.is_some_and(|before| parent(&at.hash).is_some_and(|parent| parent != *before)) {
            return Err(format!("{} of {group} does not name {} as its parent", at.index, at.index.get() - 1));
        }
        if after.is_some_and(|after| parent(after).is_some_and(|parent| parent != at.hash)) {
            return Err(format!("{} of {group} is not the parent of {}", at.index, at.index.next()));
        }
        chain.insert(at.index, at.hash);
        Ok(false)
    }

    /// Whether this document is known to be committed there.
    pub fn is_committed(&self, group: &GroupId, index: Index, hash: Hash) -> bool {
        let chain = self.chains.iter().find(|(of, _)| of == group);
        chain.is_some_and(|(_, chain)| chain.get(&index) == Some(&hash))
    }

    /// A hard state became durable.
    ///
    /// # Errors
    /// If its store knew a newer committed document.
    pub fn durable(&mut self, store: StoreId, group: &GroupId, committed: Option<Position>) -> Verdict {
        let Some(at) = committed else {
            return match self.newest.get(&(store, group.clone())) {
                Some(newest) => Err(format!("store {store:?} forgets that {newest} of {group} is committed")),
                None => Ok(()),
            };
        };
        let newest = self.newest.entry((store, group.clone())).or_insert(at.index);
        if at.index < *newest {
            return Err(format!("store {store:?} rolls {group} back from {newest} to {}", at.index));
        }
        *newest = at.index;
        Ok(())
    }

    /// The newest committed document of a group.
    pub fn newest(&self, group: &GroupId) -> Option<Position> {
        let (_, chain) = self.chains.iter().find(|(of, _)| of == group)?;
        chain.last_key_value().map(|(index, hash)| Position { index: *index, hash: *hash })
    }

    /// The newest few committed documents of a group, newest first.
    pub fn newest_few(&self, group: &GroupId, few: usize) -> Vec<Hash> {
        let chain = self.chains.iter().find(|(of, _)| of == group);
        chain.map(|(_, chain)| chain.values().rev().take(few).copied().collect()).unwrap_or_default()
    }

    /// Documents committed in all groups.
    pub fn len(&self) -> usize {
        self.chains.iter().map(|(_, chain)| chain.len()).sum()
    }

    /// True before the first commit.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::oracles::samples::{document, main_group};

    fn at(document: &Document) -> Position {
        Position { index: document.header().index, hash: document.hash() }
    }

    #[test]
    fn a_fork_is_seen() {
        let (one, other) = (document(1, None, "abc"), document(1, None, "ab"));
        let mut ledger = Ledger::default();
        assert_eq!(ledger.committed(&main_group(), at(&one)), Ok(false));
        assert_eq!(ledger.committed(&main_group(), at(&one)), Ok(true));
        assert!(ledger.committed(&main_group(), at(&other)).is_err());
    }

    #[test]
    fn a_document_that_names_another_parent_is_seen() {
        let (one, other) = (document(1, None, "abc"), document(1, None, "ab"));
        let two = document(2, Some(&other), "abc");
        for order in [[&one, &two], [&two, &one]] {
            let mut ledger = Ledger::default();
            [&one, &other, &two].iter().for_each(|d| ledger.document(d).unwrap());
            assert_eq!(ledger.committed(&main_group(), at(order[0])), Ok(false));
            assert!(ledger.committed(&main_group(), at(order[1])).is_err());
        }
    }

    #[test]
    fn a_document_that_was_taken_no_later_than_the_one_before_it_is_seen() {
        let (first, mut ledger) = (document(2, None, "abc"), Ledger::default());
        assert_eq!(ledger.document(&first), Ok(()));
        assert_eq!(ledger.document(&document(3, Some(&first), "abc")), Ok(()));
        for earlier in [1, 2] {
            assert!(ledger.document(&document(earlier, Some(&first), "abcd")).is_err());
        }
    }

    #[test]
    fn a_rollback_is_seen() {
        let (one, mut ledger) = (document(1, None, "abc"), Ledger::default());
        let two = document(2, Some(&one), "abc");
        assert_eq!(ledger.durable(StoreId(1), &main_group(), Some(at(&two))), Ok(()));
        assert!(ledger.durable(StoreId(1), &main_group(), Some(at(&one))).is_err());
        assert!(ledger.durable(StoreId(1), &main_group(), None).is_err());
    }
}
