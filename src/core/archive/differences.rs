//! Documents and bodies told by what differs from one that the receiver holds.
//!
//! A global document names a new checkpoint of nearly every region, and those everybody hears of anyway: so it is told
//! by how far each region has moved on, and the receiver puts in what it has heard itself.
//!
//! Invariant: what is made from a difference is what its hash says, or nothing.

use std::collections::{BTreeMap, VecDeque};

use crate::core::id::{Hash, Index, RegionId};
use crate::core::ledger::difference::{DifferenceError, apply, between, put_varint, take_varint};
use crate::core::ledger::document::{DOCUMENT_BYTES_MAX, Document, RegionCheckpoint};
use crate::core::message::agreement::Content;
use crate::core::state::system::CheckpointRef;

/// Checkpoints of one region that are remembered: a global document may be a few behind what is heard.
const HEARD_EACH: usize = 6;
/// A region's checkpoint that was taken later than this before the document, in milliseconds, may not have been heard
/// of everywhere: it is told in full.
const YOUNG_MS: i64 = 500;

/// What differences are made from and with.
#[derive(Debug, Default)]
pub(super) struct Differences {
    /// Region checkpoints heard of lately, the newest last.
    heard: BTreeMap<RegionId, VecDeque<CheckpointRef>>,
    /// The last difference made of each kind: most who ask want the same.
    made: BTreeMap<Content, (Hash, Hash, Vec<u8>)>,
}

impl Differences {
    /// A region's checkpoint is heard of.
    pub(super) fn hear(&mut self, checkpoint: &CheckpointRef) {
        let heard = self.heard.entry(checkpoint.region.clone()).or_default();
        if heard.back().is_none_or(|newest| newest.index < checkpoint.index) {
            heard.push_back(checkpoint.clone());
            if heard.len() > HEARD_EACH {
                heard.pop_front();
            }
        }
    }

    /// How `document` is made from `base`.
    pub(super) fn of_document(&mut self, base: &Document, document: &Document) -> Vec<u8> {
        self.once(Content::Document, base.hash(), document.hash(), || {
            let steps: Vec<u64> = base.header().regions.iter().map(|(region, at)| step(document, region, at)).collect();
            let mut difference = Vec::new();
            put_varint(&mut difference, steps.len() as u64);
            steps.iter().for_each(|step| put_varint(&mut difference, *step));
            let there = |region: &RegionId, _: Index| document.header().regions.get(region).cloned();
            let expected = expected(base, &steps, there).expect("it is made from the document itself");
            difference.extend(between(&expected, document.bytes().as_bytes()));
            difference
        })
    }

    /// Makes the document of this hash from `base`.
    pub(super) fn document(&self, base: &Document, mut difference: &[u8], hash: Hash) -> Option<Document> {
        let steps = take_steps(&mut difference, base.header().regions.len()).ok()?;
        let expected = expected(base, &steps, |region, index| self.heard_at(region, index))?;
        let text = String::from_utf8(apply(&expected, difference, DOCUMENT_BYTES_MAX).ok()?).ok()?;
        Document::parse_as(&text, hash).ok()
    }

    /// How the body of this hash is made from `base`, if they were compared.
    pub(super) fn of_body(&self, base: Hash, hash: Hash) -> Option<&Vec<u8>> {
        let (_, _, made) = self.made.get(&Content::Body).filter(|(of, to, _)| (*of, *to) == (base, hash))?;
        Some(made)
    }

    /// Two bodies were compared.
    pub(super) fn on_compared(&mut self, base: Hash, hash: Hash, difference: Vec<u8>) {
        self.made.insert(Content::Body, (base, hash, difference));
    }

    fn once(&mut self, content: Content, base: Hash, hash: Hash, make: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
        match self.made.get(&content) {
            Some((of, to, made)) if (*of, *to) == (base, hash) => made.clone(),
            _ => {
                let made = make();
                self.made.insert(content, (base, hash, made.clone()));
                made
            }
        }
    }

    fn heard_at(&self, region: &RegionId, index: Index) -> Option<RegionCheckpoint> {
        let CheckpointRef { index, hash, taken_at, counts, .. } =
            self.heard.get(region)?.iter().find(|heard| heard.index == index)?.clone();
        Some(RegionCheckpoint { index, hash, taken_at, counts, stale_ms: None })
    }
}

/// How far a region has moved on since the base; 0 if what it has reached is told in full.
fn step(document: &Document, region: &RegionId, before: &RegionCheckpoint) -> u64 {
    let header = document.header();
    let Some(now) = header.regions.get(region).filter(|now| now.index > before.index) else { return 0 };
    let age_ms = header.taken_at.time.wall().millis_after(now.taken_at.wall());
    if age_ms < YOUNG_MS { 0 } else { now.index.get() - before.index.get() }
}

fn take_steps(difference: &mut &[u8], regions: usize) -> Result<Vec<u64>, DifferenceError> {
    let count = take_varint(difference)?;
    if count != regions as u64 {
        return Err(DifferenceError::Beyond);
    }
    (0..count).map(|_| take_varint(difference)).collect()
}

/// What the next document's text is compared with: the base, its hash, and the regions moved on by `steps`, as far as
/// `there` tells what they have reached; `None` if it does not.
fn expected(
    base: &Document,
    steps: &[u64],
    there: impl Fn(&RegionId, Index) -> Option<RegionCheckpoint>,
) -> Option<Vec<u8>> {
    let mut text = format!("{}{}", base.bytes(), base.hash());
    if steps.iter().any(|step| *step > 0) {
        let moved = |((region, at), step): ((&RegionId, &RegionCheckpoint), &u64)| match step {
            0 => Some((region.clone(), at.clone())),
            step => there(region, Index(at.index.get().checked_add(*step)?)).map(|at| (region.clone(), at)),
        };
        let regions = base.header().regions.iter().zip(steps).map(moved).collect::<Option<BTreeMap<_, _>>>()?;
        text.push_str(&serde_json::to_string(&regions).expect("regions are JSON"));
    }
    Some(text.into_bytes())
}
