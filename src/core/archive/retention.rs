//! Which bodies are kept: those of the newest checkpoints and of one an hour for a week; of the region's own ledger,
//! and as well of the checkpoints that global documents name.
//!
//! Invariant: what an accepted document names stays, in this region's ledger or in that of one the node has left:
//! whoever may have to propose it again must be able to hand it out.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::hard_state::HeldBody;
use crate::core::id::{Hash, Index};
use crate::core::ledger::document::Document;
use crate::core::time::Wall;

/// Hours for which one body each is kept.
const HOURS_KEPT: usize = 7 * 24;
const HOUR_MS: u64 = 3_600_000;

/// Bodies that are durable, or asked to be, and why.
#[derive(Debug)]
pub(super) struct Retention {
    newest_kept: usize,
    written: BTreeSet<Hash>,
    /// Written for a document that is not committed yet.
    tentative: BTreeMap<Hash, Index>,
    of_region: Shelf,
    of_globals: Shelf,
    /// Named by what was accepted in a region that this node has left.
    elsewhere: BTreeSet<Hash>,
}

/// Bodies by when the documents that name them were taken.
#[derive(Debug, Default)]
struct Shelf {
    newest: BTreeMap<(Wall, Index), HeldBody>,
    hourly: BTreeMap<u64, HeldBody>,
}

impl Shelf {
    /// Puts one more there and takes down those it is not to hold any longer.
    fn put(&mut self, at: (Wall, Index), held: HeldBody, newest_kept: usize) -> Vec<HeldBody> {
        self.newest.insert(at, held);
        let mut gone = Vec::new();
        while self.newest.len() > newest_kept.max(1) {
            let Some(((taken_at, _), old)) = self.newest.pop_first() else { break };
            // The first of its hour stands for the hour.
            self.hourly.entry(taken_at.as_millis() / HOUR_MS).or_insert(old);
            gone.push(old);
        }
        while self.hourly.len() > HOURS_KEPT {
            gone.extend(self.hourly.pop_first().map(|(_, old)| old));
        }
        gone
    }

    fn all(&self) -> impl Iterator<Item = &HeldBody> {
        self.newest.values().chain(self.hourly.values())
    }
}

impl Retention {
    /// Takes up what a store holds. `left` are documents accepted in regions where this node is no longer.
    pub(super) fn recover<'a>(newest_kept: usize, held: &[HeldBody], left: impl Iterator<Item = &'a Document>) -> Self {
        let mut retention = Self {
            newest_kept,
            written: held.iter().map(|held| held.hash).collect(),
            tentative: BTreeMap::new(),
            of_region: Shelf::default(),
            of_globals: Shelf::default(),
            elsewhere: left.filter_map(|document| document.header().body).collect(),
        };
        for held in held {
            retention.of_region.newest.insert((held.taken_at, held.index), *held);
            if let Some((taken_at, index)) = held.global {
                retention.of_globals.newest.insert((taken_at, index), *held);
            }
        }
        retention
    }

    /// True if the body is durable, or asked to be.
    pub(super) fn is_written(&self, hash: &Hash) -> bool {
        self.written.contains(hash)
    }

    /// A body is durable, or asked to be.
    pub(super) fn write(&mut self, hash: Hash) {
        self.written.insert(hash);
    }

    /// A body is wanted for a document that is not committed yet.
    pub(super) fn want(&mut self, hash: Hash, index: Index) {
        self.tentative.insert(hash, index);
    }

    /// A region's checkpoint that names a body is committed: the body's place, and those no longer kept.
    pub(super) fn on_committed(
        &mut self,
        document: &Document,
        hash: Hash,
        accepted: Option<Hash>,
    ) -> (HeldBody, Vec<Hash>) {
        let header = document.header();
        let global = self.find(&hash).and_then(|held| held.global);
        let held = HeldBody { index: header.index, taken_at: header.taken_at.time.wall(), hash, global };
        let over = |hash: &Hash, index: Index| index <= held.index && Some(*hash) != accepted;
        let superseded = self.tentative.iter().filter(|(hash, index)| over(hash, **index)).map(|(hash, _)| *hash);
        let superseded: Vec<Hash> = superseded.collect();
        let mut gone = Vec::new();
        for hash in superseded {
            self.tentative.remove(&hash);
            gone.push(hash);
        }
        for old in self.of_region.put((held.taken_at, held.index), held, self.newest_kept) {
            if Some(old.hash) == accepted {
                self.tentative.insert(old.hash, old.index);
            }
            gone.push(old.hash);
        }
        (held, self.drop_unless_kept(gone))
    }

    /// A committed global document names a checkpoint of this region: its body's place, and those no longer kept;
    /// `None` if the body is not held.
    pub(super) fn on_named(&mut self, global: &Document, named: &Document) -> Option<(HeldBody, Vec<Hash>)> {
        let hash = named.header().body.filter(|hash| self.is_written(hash))?;
        let place = |document: &Document| (document.header().taken_at.time.wall(), document.header().index);
        let (at, (taken_at, index)) = (place(global), place(named));
        let known = self.find(&hash).copied().unwrap_or(HeldBody { index, taken_at, hash, global: None });
        let held = HeldBody { global: Some(at), ..known };
        let gone = self.of_globals.put(at, held, self.newest_kept).into_iter().map(|old| old.hash).collect();
        Some((held, self.drop_unless_kept(gone)))
    }

    fn find(&self, hash: &Hash) -> Option<&HeldBody> {
        let shelves = [&self.of_globals, &self.of_region];
        shelves.into_iter().find_map(|shelf| shelf.newest.values().rev().find(|held| held.hash == *hash))
    }

    fn drop_unless_kept(&mut self, mut gone: Vec<Hash>) -> Vec<Hash> {
        gone.sort_unstable();
        gone.dedup();
        gone.retain(|hash| !self.is_kept(hash) && self.written.contains(hash));
        self.written.retain(|hash| !gone.contains(hash));
        gone
    }

    fn is_kept(&self, hash: &Hash) -> bool {
        self.of_region.all().chain(self.of_globals.all()).any(|held| held.hash == *hash)
            || self.tentative.contains_key(hash)
            || self.elsewhere.contains(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::hlc::{Hlc, Stamp};
    use crate::core::id::{GroupId, NodeId, RegionId, StoreId, Voter};
    use crate::core::ledger::document::{Counts, Header};
    use crate::core::voters::Voters;

    /// A region's checkpoint with a body of its own, or a global document.
    fn document(group: GroupId, index: u64, seconds: u64) -> Document {
        let node = NodeId::new("a").unwrap();
        let voter = Voter { node: node.clone(), store: StoreId(1) };
        let home = RegionId::new("eu").unwrap();
        let body = (group != GroupId::Top).then(|| Hash::of(format!("{group} {index}").as_bytes()));
        Document::seal(Header {
            group,
            index: Index(index),
            parent: None,
            taken_at: Stamp { time: Hlc::new(Wall::from_millis(seconds * 1000), 0), node: node.clone() },
            proposer: node,
            voters: Voters::of_region(home, [voter]).unwrap(),
            counts: Counts::default(),
            body,
            fused: None,
            regions: BTreeMap::new(),
            top: None,
            genesis: None,
        })
    }

    fn region(name: &str, index: u64, seconds: u64) -> (Document, Hash) {
        let document = document(GroupId::Region(RegionId::new(name).unwrap()), index, seconds);
        let body = document.header().body.unwrap();
        (document, body)
    }

    fn commit(retention: &mut Retention, (document, body): &(Document, Hash)) -> Vec<Hash> {
        retention.write(*body);
        retention.on_committed(document, *body, None).1
    }

    #[test]
    fn the_newest_stay_and_one_an_hour() {
        let mut retention = Retention::recover(3, &[], std::iter::empty());
        let all: Vec<_> = (0..1000).map(|i| region("eu", i, i * 60)).collect();
        let gone: Vec<Hash> = all.iter().flat_map(|one| commit(&mut retention, one)).collect();
        let kept: Vec<u64> = (0..1000).filter(|i| !gone.contains(&all[*i as usize].1)).collect();
        assert_eq!(kept, (0..997).step_by(60).chain(997..1000).collect::<Vec<_>>());
    }

    #[test]
    fn what_global_documents_name_stays_as_long_as_those_are_the_newest_and_after_a_restart_too() {
        let all: Vec<_> = (1..=20).map(|i| region("eu", i, i)).collect();
        let mut retention = Retention::recover(3, &[], std::iter::empty());
        let mut held = BTreeMap::new();
        let mut gone = Vec::new();
        for (i, one) in all.iter().enumerate() {
            gone.extend(commit(&mut retention, one));
            if i % 5 == 0 {
                let global = document(GroupId::Top, i as u64, i as u64 + 1);
                let (kept, dropped) = retention.on_named(&global, &one.0).unwrap();
                held.insert(kept.hash, kept);
                gone.extend(dropped);
            }
        }
        // Global documents named 1, 6, 11 and 16; the first of its hour stays anyhow.
        let kept = |gone: &[Hash]| (1..=20u64).filter(|i| !gone.contains(&all[*i as usize - 1].1)).collect::<Vec<_>>();
        assert_eq!(kept(&gone), [1, 6, 11, 16, 18, 19, 20]);
        let held: Vec<HeldBody> = held.into_values().filter(|held| !gone.contains(&held.hash)).collect();
        let mut again = Retention::recover(3, &held, std::iter::empty());
        let gone: Vec<Hash> = (21..=25).flat_map(|i| commit(&mut again, &region("eu", i, i))).collect();
        assert_eq!(held.iter().filter(|held| gone.contains(&held.hash)).count(), 0);
    }

    #[test]
    fn a_node_that_has_moved_keeps_what_it_accepted_before_and_its_new_region_s_newest() {
        let old = region("eu", 5000, 1);
        let at = HeldBody { index: Index(5000), taken_at: Wall::from_millis(1000), hash: old.1, global: None };
        let mut retention = Retention::recover(2, &[at], std::iter::once(&old.0));
        let new: Vec<_> = (1..=9).map(|i| region("us", i, 8000 + i)).collect();
        let gone: Vec<Hash> = new.iter().flat_map(|one| commit(&mut retention, one)).collect();
        assert!(!gone.contains(&old.1) && !gone.contains(&new[7].1) && !gone.contains(&new[8].1));
        assert_eq!(gone.len(), 6, "the first of its hour stays");
    }

    #[test]
    fn a_week_of_hours_stays_after_a_restart_too() {
        let held = |i: u64| {
            let (document, hash) = region("eu", i, i * 3600);
            let taken_at = document.header().taken_at.time.wall();
            HeldBody { index: document.header().index, taken_at, hash, global: None }
        };
        let held: Vec<HeldBody> = (0..300).map(held).collect();
        let mut retention = Retention::recover(1, &held, std::iter::empty());
        assert_eq!(commit(&mut retention, &region("eu", 300, 300 * 3600)).len(), 300 - HOURS_KEPT);
    }

    #[test]
    fn a_body_that_a_later_checkpoint_names_again_remains_that_of_its_global_document() {
        let mut retention = Retention::recover(3, &[], std::iter::empty());
        let (first, (again, _)) = (region("eu", 1, 1), region("eu", 2, 3));
        commit(&mut retention, &first);
        assert!(retention.on_named(&document(GroupId::Top, 7, 2), &first.0).is_some());
        let (held, _) = retention.on_committed(&again, first.1, None);
        assert_eq!((held.index, held.global), (Index(2), Some((Wall::from_millis(2000), Index(7)))));
    }
}
