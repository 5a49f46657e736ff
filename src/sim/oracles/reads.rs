//! C10: a linearizable read never returns less than what was committed when it was asked.

use std::collections::BTreeMap;

use crate::core::hard_state::Position;
use crate::core::id::{GroupId, Index};
use crate::sim::oracles::Verdict;

/// Reads under way, and what must not be missed.
#[derive(Debug, Default)]
pub struct Reads {
    newest: BTreeMap<GroupId, Index>,
    open: BTreeMap<u64, (GroupId, Option<Index>)>,
}

impl Reads {
    /// A document is committed.
    pub fn committed(&mut self, group: &GroupId, at: Position) {
        let newest = self.newest.entry(group.clone()).or_insert(at.index);
        *newest = at.index.max(*newest);
    }

    /// A client asks.
    pub fn asked(&mut self, read: u64, group: &GroupId) {
        self.open.insert(read, (group.clone(), self.newest.get(group).copied()));
        // A read whose node died is never answered: the oldest are let go.
        while self.open.len() > 10_000 {
            self.open.pop_first();
        }
    }

    /// It is answered with a checkpoint, or with none.
    ///
    /// # Errors
    /// If that is older than what was committed when it asked.
    pub fn answered(&mut self, read: u64, latest: Option<Position>) -> Verdict {
        let Some((group, floor)) = self.open.remove(&read) else { return Ok(()) };
        let got = latest.map(|at| at.index);
        if got < floor {
            return Err(format!("a read of {group} gave {got:?}, and {floor:?} was committed before it asked"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::Hash;
    use crate::sim::oracles::samples::main_group;

    #[test]
    fn a_stale_read_is_seen() {
        let at = |index| Position { index: Index(index), hash: Hash::of(b"x") };
        let mut reads = Reads::default();
        reads.committed(&main_group(), at(4));
        reads.asked(1, &main_group());
        reads.asked(2, &main_group());
        reads.asked(3, &main_group());
        reads.committed(&main_group(), at(5));
        assert_eq!(reads.answered(1, Some(at(4))), Ok(()), "committed after it asked");
        assert!(reads.answered(2, Some(at(3))).is_err());
        assert!(reads.answered(3, None).is_err());
    }
}
