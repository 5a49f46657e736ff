//! Who votes, and what a quorum of them is: a majority of regions, each by a majority of its own voters.
//!
//! A flat group is the case of one region, so both levels share this predicate. The idea of counting
//! groups by their own majorities is ZooKeeper's hierarchical quorum.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::core::id::{NodeId, RegionId, Voter};

/// The voters of a document, by region. At least one region, none of them empty, no node twice. Cheap to clone: at the
/// top there may be thousands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<RegionId, BTreeSet<Voter>>", into = "BTreeMap<RegionId, BTreeSet<Voter>>")]
pub struct Voters(Arc<Listed>);

#[derive(Debug, PartialEq, Eq)]
struct Listed {
    regions: BTreeMap<RegionId, BTreeSet<Voter>>,
    /// The region in which a node votes.
    homes: BTreeMap<NodeId, RegionId>,
}

/// Why a set of voters was refused; the document that carries it is malformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VotersError {
    /// No region, or a region without voters: no quorum could ever be reached.
    #[error("a document needs at least one voter in every region")]
    Empty,
    /// The same node under two identities or in two regions.
    #[error("{0} is named as a voter twice")]
    Twice(NodeId),
}

impl TryFrom<BTreeMap<RegionId, BTreeSet<Voter>>> for Voters {
    type Error = VotersError;

    fn try_from(regions: BTreeMap<RegionId, BTreeSet<Voter>>) -> Result<Self, VotersError> {
        if regions.is_empty() || regions.values().any(BTreeSet::is_empty) {
            return Err(VotersError::Empty);
        }
        let mut homes = BTreeMap::new();
        for (region, voter) in regions.iter().flat_map(|(region, voters)| voters.iter().map(move |v| (region, v))) {
            if homes.insert(voter.node.clone(), region.clone()).is_some() {
                return Err(VotersError::Twice(voter.node.clone()));
            }
        }
        Ok(Self(Arc::new(Listed { regions, homes })))
    }
}

impl From<Voters> for BTreeMap<RegionId, BTreeSet<Voter>> {
    fn from(voters: Voters) -> Self {
        Arc::try_unwrap(voters.0).map_or_else(|shared| shared.regions.clone(), |listed| listed.regions)
    }
}

impl Voters {
    /// The voters of a single region.
    ///
    /// # Errors
    /// [`VotersError`] if there are none, or a node stands among them twice.
    pub fn of_region(region: RegionId, voters: impl IntoIterator<Item = Voter>) -> Result<Self, VotersError> {
        Self::try_from(BTreeMap::from([(region, voters.into_iter().collect())]))
    }

    /// True if those for whom `says` holds are a majority of regions, each by a majority of its voters.
    pub fn is_quorum(&self, says: impl Fn(&Voter) -> bool) -> bool {
        let counted = self.regions().values().filter(|voters| is_majority(voters, &says)).count();
        2 * counted > self.regions().len()
    }

    /// True if the region of `voter` counts by those for whom `says` holds. A quorum that lacked this voter's word comes
    /// about with it only then.
    pub fn counts_region_of(&self, voter: &Voter, says: impl Fn(&Voter) -> bool) -> bool {
        let home = self.region_of(&voter.node).and_then(|region| self.regions().get(region));
        home.is_some_and(|voters| is_majority(voters, &says))
    }

    /// True if exactly this identity votes.
    pub fn contains(&self, voter: &Voter) -> bool {
        self.of_node(&voter.node) == Some(voter)
    }

    /// The voting identity of `node`, if it has one.
    pub fn of_node(&self, node: &NodeId) -> Option<&Voter> {
        let home = self.regions().get(self.region_of(node)?)?;
        home.iter().find(|voter| voter.node == *node)
    }

    /// The region in which `node` votes.
    pub fn region_of(&self, node: &NodeId) -> Option<&RegionId> {
        self.0.homes.get(node)
    }

    /// All voters, by region and name.
    pub fn iter(&self) -> impl Iterator<Item = &Voter> {
        self.regions().values().flatten()
    }

    /// How many voters there are.
    pub fn len(&self) -> usize {
        self.0.homes.len()
    }

    /// Never true: see the type.
    pub fn is_empty(&self) -> bool {
        self.0.homes.is_empty()
    }

    /// Voters by region.
    pub fn regions(&self) -> &BTreeMap<RegionId, BTreeSet<Voter>> {
        &self.0.regions
    }

    /// With one more voter in `region`; `None` if the node votes already.
    pub fn with(&self, region: &RegionId, voter: Voter) -> Option<Self> {
        let mut regions = self.regions().clone();
        regions.entry(region.clone()).or_default().insert(voter);
        Self::try_from(regions).ok().filter(|voters| voters != self)
    }

    /// Without `voter`; `None` if it did not vote or was its region's last.
    pub fn without(&self, voter: &Voter) -> Option<Self> {
        let mut regions = self.regions().clone();
        let removed = regions.values_mut().any(|voters| voters.remove(voter));
        Self::try_from(regions).ok().filter(|_| removed)
    }

    /// True if quorums of `self` and `next` always intersect (C7): same regions but for at most one, or at
    /// most one voter changed in each; a single region changes at most one voter.
    pub fn may_become(&self, next: &Self) -> bool {
        if Arc::ptr_eq(&self.0, &next.0) {
            return true;
        }
        let (ours, theirs) = (self.regions(), next.regions());
        let changed_voters = |region: &RegionId| match (ours.get(region), theirs.get(region)) {
            (Some(a), Some(b)) => a.symmetric_difference(b).count(),
            _ => 0,
        };
        let regions: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
        let moved = regions.iter().filter(|r| ours.contains_key(**r) != theirs.contains_key(**r)).count();
        moved <= 1 && regions.iter().all(|region| changed_voters(region) <= 1)
    }
}

fn is_majority(voters: &BTreeSet<Voter>, says: impl Fn(&Voter) -> bool) -> bool {
    2 * voters.iter().filter(|voter| says(voter)).count() > voters.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::StoreId;

    fn voter(name: &str) -> Voter {
        Voter { node: NodeId::new(name).unwrap(), store: StoreId(1) }
    }

    fn voters(regions: &[(&str, &[&str])]) -> Voters {
        let regions = regions
            .iter()
            .map(|(region, names)| (RegionId::new(region).unwrap(), names.iter().map(|n| voter(n)).collect()));
        Voters::try_from(regions.collect::<BTreeMap<_, BTreeSet<_>>>()).unwrap()
    }

    fn quorum(voters: &Voters, names: &[&str]) -> bool {
        voters.is_quorum(|v| names.contains(&v.node.as_str()))
    }

    #[test]
    fn a_flat_quorum_is_a_majority() {
        let three = voters(&[("main", &["a", "b", "c"])]);
        assert!(!quorum(&three, &["a"]));
        assert!(quorum(&three, &["a", "c"]));
        let four = voters(&[("main", &["a", "b", "c", "d"])]);
        assert!(!quorum(&four, &["a", "b"]));
        assert!(quorum(&four, &["a", "b", "d"]));
    }

    #[test]
    fn a_region_counts_only_with_a_majority_of_its_own_voters() {
        let top = voters(&[("r1", &["a", "b", "c"]), ("r2", &["d", "e", "f"]), ("r3", &["g", "h", "i"])]);
        assert!(quorum(&top, &["a", "b", "d", "e"]));
        assert!(!quorum(&top, &["a", "b", "c", "d", "g"]), "five nodes of nine are not two regions of three");
    }

    #[test]
    fn a_document_changes_one_voter_of_a_region() {
        let three = voters(&[("main", &["a", "b", "c"])]);
        let four = three.with(&RegionId::new("main").unwrap(), voter("d")).unwrap();
        assert!(three.may_become(&four) && four.may_become(&three));
        let swapped = four.without(&voter("a")).unwrap();
        assert!(!three.may_become(&swapped), "a replacement is two documents");
        assert!(three.without(&voter("z")).is_none());
        let other = Voter { node: NodeId::new("a").unwrap(), store: StoreId(2) };
        assert!(three.with(&RegionId::new("main").unwrap(), other).is_none(), "no node votes twice");
    }

    #[test]
    fn every_region_has_a_voter_and_no_node_votes_twice() {
        fn counted(regions: &[(&str, &[&str])]) -> Result<usize, VotersError> {
            let all = regions
                .iter()
                .map(|(region, names)| (RegionId::new(region).unwrap(), names.iter().map(|n| voter(n)).collect()));
            Voters::try_from(all.collect::<BTreeMap<_, BTreeSet<_>>>()).map(|voters| voters.len())
        }
        assert_eq!(counted(&[("r1", &["a"]), ("r2", &["b", "c"])]), Ok(3));
        assert_eq!(counted(&[]), Err(VotersError::Empty));
        assert_eq!(counted(&[("r1", &["a"]), ("r2", &[])]), Err(VotersError::Empty));
        assert_eq!(counted(&[("r1", &["a"]), ("r2", &["a"])]), Err(VotersError::Twice(NodeId::new("a").unwrap())));
        assert!(serde_json::from_str::<Voters>(r#"{"r1":[]}"#).is_err(), "nor is it read from anywhere");
    }
}
