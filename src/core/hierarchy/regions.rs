//! What is known of the regions, from what their leaders say in the replicated state: who leads, what is committed,
//! who votes. The top leader makes global documents and follows the regions' voters by it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::id::{Index, NodeId, RegionId, Term, Voter};
use crate::core::ledger::document::{Counts, Document, RegionCheckpoint};
use crate::core::state::system::{CheckpointRef, RegionVoters};
use crate::core::time::Wall;
use crate::core::voters::Voters;

/// A region's leader by its own word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its term there.
    pub term: Term,
    /// The leader.
    pub node: NodeId,
}

/// All regions that anybody has spoken of.
#[derive(Clone, Debug, Default)]
pub struct Regions {
    claims: BTreeMap<RegionId, Claim>,
    checkpoints: BTreeMap<RegionId, CheckpointRef>,
    voters: BTreeMap<RegionId, (Index, BTreeSet<Voter>)>,
    /// Regions that an operator adds, with their first voters, and takes out.
    added: BTreeMap<RegionId, BTreeSet<Voter>>,
    removed: BTreeSet<RegionId>,
    top: Option<Claim>,
}

impl Regions {
    /// A node says that it leads a region. True if that is news.
    pub fn claim(&mut self, region: &RegionId, term: Term, node: &NodeId) -> bool {
        let claim = Claim { term, node: node.clone() };
        let known = self.claims.get(region);
        if known.is_some_and(|known| known.term > term || *known == claim) {
            return false;
        }
        self.claims.insert(region.clone(), claim);
        true
    }

    /// The newest claim to a region.
    pub fn leader(&self, region: &RegionId) -> Option<&Claim> {
        self.claims.get(region)
    }

    /// All regions' leaders by their newest claims.
    pub fn leaders(&self) -> impl Iterator<Item = &NodeId> {
        self.claims.values().map(|claim| &claim.node)
    }

    /// A node says that it leads the top.
    pub fn claim_top(&mut self, term: Term, node: &NodeId) {
        if self.top.as_ref().is_none_or(|known| known.term <= term) {
            self.top = Some(Claim { term, node: node.clone() });
        }
    }

    /// The top-level leader by the newest claim: for those who do not vote.
    pub fn top_leader(&self) -> Option<&NodeId> {
        self.top.as_ref().map(|claim| &claim.node)
    }

    /// A region's leader says what is committed there.
    pub fn committed(&mut self, checkpoint: CheckpointRef) {
        let known = self.checkpoints.get(&checkpoint.region).map(|known| known.index);
        if known < Some(checkpoint.index) {
            self.checkpoints.insert(checkpoint.region.clone(), checkpoint);
        }
    }

    /// The newest committed checkpoint of a region.
    pub fn checkpoint(&self, region: &RegionId) -> Option<&CheckpointRef> {
        self.checkpoints.get(region)
    }

    /// A region's leader says who votes there.
    pub fn voting(&mut self, said: RegionVoters) {
        let known = self.voters.get(&said.region).map(|(index, _)| *index);
        if known < Some(said.index) && !said.voters.is_empty() {
            self.voters.insert(said.region, (said.index, said.voters));
        }
    }

    /// Who votes in a region by its leader's newest word.
    pub fn voters(&self, region: &RegionId) -> Option<&BTreeSet<Voter>> {
        self.voters.get(region).map(|(_, voters)| voters)
    }

    /// An operator adds a region with these first voters.
    pub fn add(&mut self, region: RegionId, voters: BTreeSet<Voter>) {
        self.removed.remove(&region);
        self.added.insert(region, voters);
    }

    /// An operator takes a region out.
    pub fn remove(&mut self, region: RegionId) {
        self.added.remove(&region);
        self.removed.insert(region);
    }

    /// What operators wanted is done, or this node no longer decides it.
    pub fn settle(&mut self, voters: &Voters) {
        self.added.retain(|region, _| !voters.regions().contains_key(region));
        self.removed.retain(|region| voters.regions().contains_key(region));
    }

    /// Forgets what operators wanted: whoever leads next is asked anew.
    pub fn give_up(&mut self) {
        self.added.clear();
        self.removed.clear();
    }

    /// The region in which a node is about to vote.
    pub(super) fn home(&self, node: &NodeId) -> Option<RegionId> {
        let of = |all: &BTreeSet<Voter>| all.iter().any(|voter| voter.node == *node);
        let added = self.added.iter().find(|(_, all)| of(all)).map(|(region, _)| region);
        added.or_else(|| self.voters.iter().find(|(_, (_, all))| of(all)).map(|(region, _)| region)).cloned()
    }

    /// The voters that the top is to have: those of `present`, as their regions have them by now.
    pub fn wanted(&self, present: &Voters) -> BTreeMap<RegionId, BTreeSet<Voter>> {
        let now = |region: &RegionId, had: &BTreeSet<Voter>| {
            self.voters.get(region).map_or_else(|| had.clone(), |(_, voters)| voters.clone())
        };
        let stay = present.regions().iter().filter(|(region, _)| !self.removed.contains(*region));
        let stay = stay.map(|(region, had)| (region.clone(), now(region, had)));
        stay.chain(self.added.iter().map(|(region, voters)| (region.clone(), voters.clone()))).collect()
    }

    /// What the global document after `parent` says of the regions (H4): the newest known committed checkpoint of
    /// each, never one below the parent's. A region whose newest is older than `fresh` at `now` is marked stale.
    pub fn contents(&self, parent: &Document, now: Wall, fresh: Duration) -> BTreeMap<RegionId, RegionCheckpoint> {
        let mut regions = parent.header().regions.clone();
        let present = parent.header().voters.regions();
        for (region, known) in &self.checkpoints {
            let before = regions.get(region).map(|before| before.index);
            if present.contains_key(region) && before < Some(known.index) {
                let CheckpointRef { index, hash, taken_at, counts, .. } = known.clone();
                regions.insert(region.clone(), RegionCheckpoint { index, hash, taken_at, counts, stale_ms: None });
            }
        }
        for at in regions.values_mut() {
            let age = now.millis_after(at.taken_at.wall()).max(0) as u64;
            at.stale_ms = (u128::from(age) > fresh.as_millis()).then_some(age);
        }
        regions
    }
}

/// How much all regions of a document cover.
pub fn total(regions: &BTreeMap<RegionId, RegionCheckpoint>) -> Counts {
    let add = |sum: Counts, at: &RegionCheckpoint| Counts {
        nodes: sum.nodes + at.counts.nodes,
        readings: sum.readings + at.counts.readings,
    };
    regions.values().fold(Counts::default(), add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::hlc::Hlc;
    use crate::core::id::{Hash, StoreId};

    fn region(name: &str) -> RegionId {
        RegionId::new(name).unwrap()
    }

    fn voter(name: &str) -> Voter {
        Voter { node: NodeId::new(name).unwrap(), store: StoreId(1) }
    }

    fn genesis() -> Document {
        let voters = BTreeMap::from([(region("eu"), vec![voter("a")]), (region("us"), vec![voter("b")])]);
        Document::genesis("lab", voters).unwrap()
    }

    fn checkpoint(name: &str, index: u64, at_ms: u64) -> CheckpointRef {
        let counts = Counts { nodes: 1, readings: 2 };
        let taken_at = Hlc::new(Wall::from_millis(at_ms), 0);
        CheckpointRef {
            region: region(name),
            index: Index(index),
            hash: Hash::of(b"x"),
            taken_at,
            counts,
            observers: None,
        }
    }

    #[test]
    fn a_region_keeps_its_newest_checkpoint_and_is_marked_stale_with_its_age() {
        let mut regions = Regions::default();
        regions.committed(checkpoint("eu", 4, 1_000));
        regions.committed(checkpoint("eu", 3, 2_000));
        regions.committed(checkpoint("us", 9, 60_000));
        regions.committed(checkpoint("elsewhere", 1, 60_000));
        let contents = regions.contents(&genesis(), Wall::from_millis(61_000), Duration::from_secs(15));
        assert_eq!(contents.len(), 2, "only regions that take part");
        assert_eq!((contents[&region("eu")].index, contents[&region("eu")].stale_ms), (Index(4), Some(60_000)));
        assert_eq!((contents[&region("us")].index, contents[&region("us")].stale_ms), (Index(9), None));
        assert_eq!(total(&contents), Counts { nodes: 2, readings: 4 });
    }

    #[test]
    fn the_top_follows_the_regions_own_voters_and_what_operators_ask() {
        let present = genesis().header().voters.clone();
        let mut regions = Regions::default();
        let said = |index, names: &[&str]| RegionVoters {
            region: region("eu"),
            index: Index(index),
            voters: names.iter().map(|n| voter(n)).collect(),
        };
        regions.voting(said(5, &["a", "c"]));
        regions.voting(said(4, &["a"]));
        assert_eq!(regions.wanted(&present)[&region("eu")].len(), 2, "the newest word counts");
        regions.add(region("asia"), BTreeSet::from([voter("d")]));
        regions.remove(region("us"));
        let wanted: Vec<RegionId> = regions.wanted(&present).into_keys().collect();
        assert_eq!(wanted, [region("asia"), region("eu")]);
        assert_eq!(regions.home(&voter("d").node), Some(region("asia")));
        regions.give_up();
        assert_eq!(regions.wanted(&present).len(), 2);
    }
}
