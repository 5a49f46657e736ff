//! C7: quorums of neighbouring configurations intersect, and a newcomer holds what is committed before it votes. Judged
//! by enumeration and by what is on disks, not by the rules that should ensure it.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::hard_state::Position;
use crate::core::id::{GroupId, Hash, Index, StoreId, Voter};
use crate::core::ledger::document::Document;
use crate::core::voters::Voters;
use crate::sim::oracles::{Verdict, is_quorum};

/// The configurations of all documents seen.
#[derive(Debug, Default)]
pub struct Configurations {
    documents: BTreeMap<Hash, Document>,
    checked: BTreeSet<(Hash, Hash)>,
    /// The newest that each store has ever told its disk to be committed.
    held: BTreeMap<(StoreId, GroupId), Index>,
}

impl Configurations {
    /// A store has it on disk that `at` is committed.
    pub fn holds(&mut self, store: StoreId, group: &GroupId, at: Position) {
        let held = self.held.entry((store, group.clone())).or_default();
        *held = at.index.max(*held);
    }

    /// A region's leader proposes `added`, while its own disk knows that `committed` is.
    ///
    /// # Errors
    /// If the newcomer's disk knows less.
    pub fn adds(&self, group: &GroupId, added: &Voter, committed: Option<Position>) -> Verdict {
        let held = self.held.get(&(added.store, group.clone())).copied();
        let newest = committed.map(|at| at.index);
        if held >= newest {
            return Ok(());
        }
        Err(format!("{added:?} becomes a voter of {group} and holds {held:?}, while {newest:?} is committed"))
    }

    /// A document became durable somewhere.
    ///
    /// # Errors
    /// If a quorum of its voters can miss every quorum of its parent's.
    pub fn document(&mut self, document: &Document) -> Verdict {
        if self.documents.insert(document.hash(), document.clone()).is_some() {
            return Ok(());
        }
        let group = document.header().group.clone();
        let Some(parent) = document.header().parent.and_then(|parent| self.documents.get(&parent)) else {
            return Ok(());
        };
        if !self.checked.insert((parent.hash(), document.hash())) {
            return Ok(());
        }
        let (Some(old), Some(new)) = (voters(parent, &group), voters(document, &group)) else { return Ok(()) };
        if old != new && !always_intersect(&old, &new) {
            let index = document.header().index;
            return Err(format!(
                "quorums of {old:?} and of {new:?}, its successor at {index} of {group}, can miss each other"
            ));
        }
        Ok(())
    }
}

fn voters(document: &Document, group: &GroupId) -> Option<Voters> {
    document.voters_in(group)
}

/// Tries every set of voters: none may be a quorum of one while its complement is a quorum of the other.
fn always_intersect(a: &Voters, b: &Voters) -> bool {
    let all: Vec<&Voter> = a.iter().chain(b.iter()).collect::<BTreeSet<_>>().into_iter().collect();
    if all.len() > 16 {
        return !can_miss(a, b);
    }
    (0u32..1 << all.len()).all(|set| {
        let inside = |voter: &Voter| all.iter().position(|v| *v == voter).is_some_and(|i| set & (1 << i) != 0);
        !(is_quorum(a, inside) && is_quorum(b, |voter| !inside(voter)))
    })
}

/// The same by counting, for those too many to enumerate: whether a quorum of one can miss one of the other.
fn can_miss(a: &Voters, b: &Voters) -> bool {
    // Regions in which every majority of the one shares a voter with every majority of the other.
    let bound = a.regions().iter().filter(|(region, here)| {
        let there = b.regions().get(*region);
        there.is_some_and(|there| !can_share_none(here.len(), there.len(), here.intersection(there).count()))
    });
    can_share_none(a.regions().len(), b.regions().len(), bound.count())
}

/// Whether two majorities, of `x` and of `y` things of which `common` are the same, can share none of these.
fn can_share_none(x: usize, y: usize, common: usize) -> bool {
    let must_take = |all: usize| (all / 2 + 1).saturating_sub(all - common);
    must_take(x) + must_take(y) <= common
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::{NodeId, RegionId, StoreId};
    use crate::core::rng::Rng;
    use crate::sim::oracles::samples::{document, main_group, voter};

    #[test]
    fn a_newcomer_that_holds_too_little_is_seen() {
        let (group, newcomer) = (main_group(), voter("d", 4));
        let at = |index| Position { index: Index(index), hash: Hash::of(b"x") };
        let mut seen = Configurations::default();
        assert!(seen.adds(&group, &newcomer, Some(at(0))).is_err(), "an empty disk");
        seen.holds(newcomer.store, &group, at(6));
        assert!(seen.adds(&group, &newcomer, Some(at(7))).is_err());
        assert!(seen.adds(&group, &voter("d", 5), Some(at(6))).is_err(), "another disk of the same node");
        assert_eq!(seen.adds(&group, &newcomer, Some(at(6))), Ok(()));
    }

    /// Up to three regions of up to three of these voters, drawn at random.
    fn drawn(rng: &mut Rng) -> Option<Voters> {
        let mut regions: BTreeMap<RegionId, BTreeSet<Voter>> = BTreeMap::new();
        for region in 0..3 {
            for voter in 0..3 {
                if rng.chance(0.75) {
                    let node = NodeId::new(&format!("n{region}{voter}")).unwrap();
                    let region = RegionId::new(&format!("r{region}")).unwrap();
                    regions.entry(region).or_default().insert(Voter { node, store: StoreId(1) });
                }
            }
        }
        Voters::try_from(regions).ok()
    }

    #[test]
    fn counting_and_enumeration_agree() {
        let (mut rng, mut verdicts) = (Rng::new(3), [0, 0]);
        for _ in 0..400 {
            let (Some(a), Some(b)) = (drawn(&mut rng), drawn(&mut rng)) else { continue };
            assert_eq!(can_miss(&a, &b), !always_intersect(&a, &b), "{a:?} {b:?}");
            verdicts[usize::from(can_miss(&a, &b))] += 1;
        }
        assert!(verdicts.iter().all(|n| *n > 5), "{verdicts:?}");
    }

    #[test]
    fn two_voters_changed_at_once_are_seen() {
        let one = document(1, None, "abc");
        let mut seen = Configurations::default();
        assert_eq!(seen.document(&one), Ok(()));
        assert_eq!(seen.document(&document(2, Some(&one), "abcd")), Ok(()));
        assert_eq!(seen.document(&document(2, Some(&one), "ab")), Ok(()));
        assert!(seen.document(&document(2, Some(&one), "abd")).is_err(), "a replacement is two documents");
        assert!(seen.document(&document(2, Some(&one), "a")).is_err());
    }
}
