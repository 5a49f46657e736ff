//! Work that takes long and needs nothing of a node but what is handed to it: done beside the node, which goes on
//! meanwhile, and answered.
//!
//! Invariant: what is done depends on the work alone, so it is the same wherever and whenever that is.

use std::fmt;

use crate::core::fusion::document::{Chosen, Fused, Summary, fuse_region, summarize};
use crate::core::fusion::params::Rules;
use crate::core::hlc::Hlc;
use crate::core::id::{Channel, Hash, Index, NodeId, RegionId};
use crate::core::ledger::body::{Body, BodyError, text_len};
use crate::core::ledger::difference;
use crate::core::ledger::document::Counts;
use crate::core::state::entry::{Entry, Key};

/// One piece of work.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Make a checkpoint's body and estimates.
    Checkpoint(Box<Readings>),
    /// Make the body of this hash, if these are its bytes.
    Body { hash: Hash, from: Source },
    /// Find what differs between a body and one that a peer holds.
    Compare { base: Body, body: Body },
    /// Find what a body holds of one node.
    Find { body: Body, origin: NodeId },
}

/// Readings that are to become a checkpoint.
#[derive(Clone, PartialEq)]
pub struct Readings {
    /// The document that the checkpoint is to follow.
    pub parent: Hash,
    /// The checkpoint's index.
    pub index: Index,
    /// When they were taken.
    pub taken_at: Hlc,
    /// The readings, in key order.
    pub entries: Vec<(Key, Entry)>,
    /// Whose they are.
    pub region: RegionId,
    /// How they are fused, if they are.
    pub rules: Option<Rules>,
    /// Whether other regions are to be told of them.
    pub summarized: bool,
}

/// What a body is made from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Its own bytes, packed.
    Packed(Vec<u8>),
    /// Another body, and what differs.
    Difference { base: Body, difference: Vec<u8> },
}

/// What has come of a [`Work`].
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    /// A checkpoint can be proposed.
    Checkpoint(Made),
    /// The body of this hash, or why those were not its bytes.
    Body { hash: Hash, body: Result<Body, BodyError> },
    /// How a body is made from another.
    Compared { base: Hash, hash: Hash, difference: Vec<u8> },
    /// What a body holds of a node, or why it cannot be read.
    Found { held: Result<Vec<(Channel, Hlc)>, BodyError> },
}

/// A checkpoint's body and estimates.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// The document that it is to follow.
    pub parent: Hash,
    /// When its readings were taken.
    pub taken_at: Hlc,
    /// The readings.
    pub body: Body,
    /// How many they are.
    pub counts: Counts,
    /// Estimates of them.
    pub fused: Option<Box<Fused>>,
    /// What other regions are told of them.
    pub summary: Option<Summary>,
}

impl Work {
    /// Does the work.
    pub fn run(self) -> Done {
        match self {
            Self::Checkpoint(readings) => Done::Checkpoint(readings.make()),
            Self::Body { hash, from } => Done::Body { hash, body: from.make(hash) },
            Self::Compare { base, body } => {
                let text = |body: &Body| body.text().expect("a body unpacks");
                let difference = difference::between(&text(&base), &text(&body));
                Done::Compared { base: base.hash(), hash: body.hash(), difference }
            }
            Self::Find { body, origin } => {
                let held = body.entries().map(|entries| {
                    let own = entries.into_iter().filter(|entry| entry.origin == origin);
                    own.map(|entry| (entry.channel, entry.stamp)).collect()
                });
                Done::Found { held }
            }
        }
    }

    /// About how many microseconds it takes: whether a thread is worth its while.
    pub fn micros(&self) -> u64 {
        // By `cargo bench --bench checkpoint`: a reading is written and packed in 0.25 µs and estimated in 0.75; a byte of text is
        // unpacked, hashed, packed or compared in one nanosecond at most, and read in three.
        let nanos = match self {
            Self::Checkpoint(readings) => readings.entries.len() * if readings.rules.is_some() { 1000 } else { 250 },
            Self::Body { from: Source::Packed(packed), .. } => text_len(packed),
            Self::Body { from: Source::Difference { base, .. }, .. } => base.text_len(),
            Self::Compare { base, body } => base.text_len() + body.text_len(),
            Self::Find { body, .. } => body.text_len() * 3,
        };
        nanos as u64 / 1000
    }
}

impl fmt::Debug for Readings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Readings({} for {}, taken at {:?})", self.entries.len(), self.index, self.taken_at)
    }
}

impl Readings {
    fn make(self) -> Made {
        let readings = || self.entries.iter().map(|(key, entry)| (key.borrowed(), entry));
        let (body, counts) = Body::of(readings());
        let taken = self.taken_at.wall();
        let chosen = self.rules.as_ref().map(|rules| Chosen::of(readings(), &self.region, rules));
        let told = chosen.as_ref().filter(|_| self.summarized);
        let summary = told.map(|chosen| summarize(chosen, self.index, taken));
        let fused = chosen.as_ref().map(|chosen| Box::new(fuse_region(chosen, taken)));
        Made { parent: self.parent, taken_at: self.taken_at, body, counts, fused, summary }
    }
}

impl Source {
    fn make(self, hash: Hash) -> Result<Body, BodyError> {
        match self {
            Self::Packed(packed) => Body::from_packed(&packed, hash),
            Self::Difference { base, difference } => base.changed(&difference, hash),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::state::entry::{Scope, Value};

    fn readings(entries: usize, rules: Option<Rules>) -> Work {
        let name = |n: usize| Key::new(NodeId::new(&format!("n{n}")).unwrap(), Channel::new("t").unwrap());
        let entry = Entry { value: Value::of(&1), stamp: Hlc::ZERO, scope: Scope::Global };
        Work::Checkpoint(Box::new(Readings {
            parent: Hash::of(b""),
            index: Index(1),
            taken_at: Hlc::ZERO,
            entries: (0..entries).map(|n| (name(n), entry.clone())).collect(),
            region: RegionId::new("main").unwrap(),
            rules,
            summarized: false,
        }))
    }

    #[test]
    fn how_long_it_takes_follows_from_how_much_there_is_to_do() {
        let body = |bytes: usize| Body::of_text(&vec![b'a'; bytes]);
        let (small, large, hash, origin) = (body(1_000), body(1_000_000), Hash::of(b""), NodeId::new("n").unwrap());
        let checked = |body: &Body| Work::Body { hash, from: Source::Packed(body.packed().to_vec()) };
        let changed =
            |base: &Body| Work::Body { hash, from: Source::Difference { base: base.clone(), difference: vec![] } };
        let compared = |body: &Body| Work::Compare { base: small.clone(), body: body.clone() };
        let searched = |body: &Body| Work::Find { body: body.clone(), origin: origin.clone() };
        let us = |work: Work| work.micros();
        assert_eq!((us(readings(100, None)), us(readings(100, Some(Rules::default())))), (25, 100));
        // However well it is packed.
        assert_eq!((us(checked(&small)), us(checked(&large))), (1, 1_000));
        assert_eq!((us(changed(&small)), us(changed(&large))), (1, 1_000));
        assert_eq!((us(compared(&small)), us(compared(&large))), (2, 1_001));
        assert_eq!((us(searched(&small)), us(searched(&large))), (3, 3_000));
    }
}
