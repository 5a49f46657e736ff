//! Estimates across regions, and what a region's leader tells the other regions of its readings.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::fusion::document::{Fused, Summary, fuse_global};
use crate::core::id::{Channel, Index, RegionId};
use crate::core::ledger::document::RegionCheckpoint;
use crate::core::node::Node;
use crate::core::state::entry::Value;
use crate::core::state::system::{self, Meaning};
use crate::core::time::Wall;

impl Node {
    /// The estimates across these regions as of `at`, from the newest summaries of their leaders; anybody can compute them
    /// again from the readings of the checkpoints that are `named`, or said beside.
    pub(super) fn fuse_regions(
        &self,
        regions: &BTreeSet<RegionId>,
        named: &BTreeMap<RegionId, RegionCheckpoint>,
        at: Wall,
    ) -> Option<Box<Fused>> {
        if !self.params.estimates {
            return None;
        }
        let mut summaries = self.summaries();
        summaries.retain(|summary| regions.contains(&summary.region));
        let mut fused = fuse_global(&summaries, &self.params.fusion, at);
        let of = |region: &RegionId| summaries.iter().find(|summary| summary.region == *region).map(|s| s.index);
        let others = regions.iter().map(|region| (region, of(region)));
        let others = others.filter(|(region, of)| *of != named.get(*region).map(|checkpoint| checkpoint.index));
        fused.of = others.map(|(region, of)| (region.clone(), of)).collect();
        Some(Box::new(fused))
    }

    pub(super) fn has_other_regions(&self) -> bool {
        self.params.initial_voters.len() > 1 || self.members().any(|(_, info)| info.region != self.params.region)
    }

    /// The summary of the readings of a checkpoint that is now committed, to be published with it; none if that is not the
    /// one proposed last.
    pub(super) fn take_summary(&mut self, index: Index, taken: Wall) -> Option<(Channel, Value)> {
        let summary = self.summary.take_if(|summary| (summary.index, summary.taken) == (index, taken))?;
        Some((system::channel(system::SUMMARY), Value::of(&summary)))
    }

    /// The newest summaries held, one a region.
    pub fn summaries(&self) -> Vec<Summary> {
        let channel = system::channel(system::SUMMARY);
        let said = self.store.of_channel(channel.as_str());
        let read = said.filter_map(|(_, entry)| match system::understand(&channel, &entry.value) {
            Ok(Meaning::Summary(summary)) => Some(*summary),
            _ => None,
        });
        let mut newest: BTreeMap<_, Summary> = BTreeMap::new();
        for summary in read {
            if newest.get(&summary.region).is_none_or(|held| held.taken < summary.taken) {
                newest.insert(summary.region.clone(), summary);
            }
        }
        newest.into_values().collect()
    }
}
