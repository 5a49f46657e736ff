//! Estimates of the readings that a checkpoint names, and what a region's leader tells the other regions of them.

use crate::core::fusion::document::{Chosen, Fused, Summary, fuse_global, fuse_region, summarize};
use crate::core::id::Channel;
use crate::core::node::Node;
use crate::core::state::entry::{Entry, KeyRef, Value};
use crate::core::state::system::{self, Meaning};
use crate::core::time::Wall;

impl Node {
    /// The estimates of a checkpoint's readings, as of `at`; and, with other regions to tell, the summary of them.
    pub(super) fn fuse<'a>(
        &self,
        readings: impl Iterator<Item = (KeyRef<'a>, &'a Entry)>,
        at: Wall,
    ) -> (Option<Box<Fused>>, Option<Summary>) {
        if !self.params.estimates {
            return (None, None);
        }
        let region = &self.params.region;
        let chosen = Chosen::of(readings, region, &self.params.fusion);
        let summary = self.has_other_regions().then(|| summarize(&chosen, at));
        (Some(Box::new(fuse_region(&chosen, at))), summary)
    }

    /// The estimates across regions as of `at`, from the newest summaries of their leaders.
    pub(super) fn fuse_regions(&self, at: Wall) -> Option<Box<Fused>> {
        self.params.estimates.then(|| Box::new(fuse_global(&self.summaries(), &self.params.fusion, at)))
    }

    fn has_other_regions(&self) -> bool {
        self.params.initial_voters.len() > 1 || self.members().any(|(_, info)| info.region != self.params.region)
    }

    /// The summary of the readings of a checkpoint that is now committed, to be published with it.
    pub(super) fn take_summary(&mut self) -> Option<(Channel, Value)> {
        self.summary.take().map(|summary| (system::channel(system::SUMMARY), Value::of(&summary)))
    }

    /// The newest summaries held, one a region.
    pub fn summaries(&self) -> Vec<Summary> {
        let channel = system::channel(system::SUMMARY);
        let said = self.store.of_channel(channel.as_str());
        let read = said.filter_map(|(_, entry)| match system::understand(&channel, &entry.value) {
            Ok(Meaning::Summary(summary)) => Some(*summary),
            _ => None,
        });
        let mut newest: std::collections::BTreeMap<_, Summary> = std::collections::BTreeMap::new();
        for summary in read {
            if newest.get(&summary.region).is_none_or(|held| held.taken < summary.taken) {
                newest.insert(summary.region.clone(), summary);
            }
        }
        newest.into_values().collect()
    }
}
