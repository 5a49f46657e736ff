//! The links by which a cluster is founded, and which of them stay.
//!
//! All first voters meet: nobody else can tell them of each other before there is a cluster. Of the links between
//! regions that this makes each end would give back all but a few, and meanwhile everything said first would be
//! flooded over all of them. Instead both ends know without a word which stay, and use the others for nothing.

use std::collections::BTreeSet;

use crate::core::id::{Hash, NodeId};
use crate::core::params::Params;

/// Where so many times `cross_links`, and oneself, are all first voters, all links stay.
const ALL_STAY: usize = 4;
/// Otherwise so many times `cross_links` stay of each first voter's, on average.
const STAY: usize = 2;

/// The first voters, as far as links between them are concerned.
#[derive(Debug)]
pub(super) struct Founders {
    all: BTreeSet<NodeId>,
    cross_links: usize,
}

impl Founders {
    /// Those whom the configuration names.
    pub fn new(params: &Params) -> Self {
        let all = params.initial_voters.values().flatten().cloned().collect();
        Self { all, cross_links: params.gossip.cross_links }
    }

    /// Whether a link between two nodes of different regions, made when the cluster was founded, stays: the same for
    /// both ends, and random among pairs.
    pub fn stays(&self, one: &NodeId, other: &NodeId) -> bool {
        let all = self.all.len();
        if all <= self.cross_links * ALL_STAY + 1 || !self.all.contains(one) || !self.all.contains(other) {
            return true;
        }
        let pair = format!("{}\n{}", one.min(other), one.max(other));
        let drawn = Hash::of(pair.as_bytes()).as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        drawn % (all as u64) < (self.cross_links * STAY) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::RegionId;

    fn founders(n: usize) -> (Founders, Vec<NodeId>) {
        founders_with(n, 2)
    }

    fn founders_with(n: usize, cross_links: usize) -> (Founders, Vec<NodeId>) {
        let all: Vec<NodeId> = (0..n).map(|n| NodeId::new(&format!("gw-{n}")).unwrap()).collect();
        let region = RegionId::new("eu").unwrap();
        let mut params = Params::new("lab", all[0].clone(), region.clone(), "a:1".into());
        params.initial_voters.insert(region, all.clone());
        params.gossip.cross_links = cross_links;
        (Founders::new(&params), all)
    }

    #[test]
    fn few_links_stay_and_both_ends_know_which() {
        let (founders, all) = founders(300);
        let mut degrees = Vec::new();
        for one in &all {
            let others = all.iter().filter(|other| *other != one);
            degrees.push(others.filter(|other| founders.stays(one, other)).count());
            assert!(all.iter().all(|other| founders.stays(one, other) == founders.stays(other, one)));
        }
        let mean = degrees.iter().sum::<usize>() as f64 / 300.0;
        assert!((3.0..=5.0).contains(&mean) && degrees.iter().all(|n| *n < 20), "{mean}: {degrees:?}");
    }

    #[test]
    fn all_links_of_a_few_founders_stay_and_those_of_others() {
        let (few, all) = founders(9);
        assert!(all.iter().all(|one| all.iter().all(|other| few.stays(one, other))));
        let (founders, all) = founders(300);
        let later = NodeId::new("later").unwrap();
        assert!(all.iter().all(|one| founders.stays(one, &later) && founders.stays(&later, one)));
    }

    #[test]
    fn twice_as_many_stay_on_average_as_links_to_other_regions_are_wanted() {
        for cross_links in [1, 6] {
            let (founders, all) = founders_with(300, cross_links);
            let stay = |one: &NodeId| all.iter().filter(|other| *other != one && founders.stays(one, other)).count();
            let mean = all.iter().map(stay).sum::<usize>() as f64 / 300.0;
            assert!((mean - (2 * cross_links) as f64).abs() < 0.5, "{cross_links}: {mean}");
        }
    }
}
