//! C1: a store's term never falls, across restarts, and nobody leads in a term it has left.

use std::collections::BTreeMap;

use crate::core::id::{GroupId, StoreId, Term};
use crate::sim::disk::Store;
use crate::sim::oracles::Verdict;

/// The highest durable term of every store.
#[derive(Debug, Default)]
pub struct Terms(BTreeMap<(StoreId, GroupId), Term>);

impl Terms {
    /// A term became durable.
    ///
    /// # Errors
    /// If a higher one was before.
    pub fn durable(&mut self, store: StoreId, group: &GroupId, term: Term) -> Verdict {
        let highest = self.0.entry((store, group.clone())).or_default();
        if term < *highest {
            return Err(format!("term of {group} on store {store:?} fell from {highest} to {term}"));
        }
        *highest = term;
        Ok(())
    }
}

/// Judges a leader's message: its own disk must not know a higher term.
///
/// # Errors
/// If it does.
pub fn still_in(store: &Store, group: &GroupId, term: Term) -> Verdict {
    match store.hard(group) {
        Some(hard) if hard.term > term => {
            Err(format!("a leader of {group} speaks in term {term}, and its disk knows term {}", hard.term))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::hard_state::HardState;
    use crate::core::id::Hash;
    use crate::sim::oracles::samples::main_group;

    #[test]
    fn a_falling_term_is_seen() {
        let mut terms = Terms::default();
        assert_eq!(terms.durable(StoreId(1), &main_group(), Term(3)), Ok(()));
        assert_eq!(terms.durable(StoreId(2), &main_group(), Term(1)), Ok(()));
        assert!(terms.durable(StoreId(1), &main_group(), Term(2)).is_err());
    }

    #[test]
    fn a_deposed_leader_that_speaks_on_is_seen() {
        let hard = HardState { term: Term(4), ..HardState::new(Hash::of(b"genesis")) };
        let store = Store { hard: vec![(main_group(), hard)], ..Store::default() };
        assert_eq!(still_in(&store, &main_group(), Term(4)), Ok(()));
        assert!(still_in(&store, &main_group(), Term(3)).is_err());
    }
}
