//! Work that takes long and needs nothing of a node but what is handed to it: done beside the node, which goes on
//! meanwhile, and answered.
//!
//! Invariant: the outcome depends on the work alone, so it is the same wherever and whenever it is done.

use crate::core::fusion::document::{Chosen, Fused, Summary, fuse_region, summarize};
use crate::core::fusion::params::Rules;
use crate::core::hlc::Hlc;
use crate::core::id::{Channel, Hash, Index, NodeId, RegionId};
use crate::core::ledger::body::{Body, BodyError};
use crate::core::ledger::document::Counts;
use crate::core::state::entry::{Entry, Key};

/// One piece of work.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Make a checkpoint's body and estimates.
    Checkpoint(Box<Readings>),
    /// Make the body of this hash, if these are its bytes.
    Body { hash: Hash, from: Source },
    /// Find what a body holds of one node.
    Find { body: Body, origin: NodeId },
}

/// Readings that are to become a checkpoint.
#[derive(Clone, Debug, PartialEq)]
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
pub enum Outcome {
    /// A checkpoint can be proposed.
    Checkpoint(Made),
    /// The body of this hash, or why those were not its bytes.
    Body { hash: Hash, body: Result<Body, BodyError> },
    /// What the body of this hash holds of a node, or why it cannot be read.
    Found { hash: Hash, held: Result<Vec<(Channel, Hlc)>, BodyError> },
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
    pub fn run(self) -> Outcome {
        match self {
            Self::Checkpoint(readings) => Outcome::Checkpoint(readings.make()),
            Self::Body { hash, from } => Outcome::Body { hash, body: from.make(hash) },
            Self::Find { body, origin } => {
                let held = body.entries().map(|entries| {
                    let own = entries.into_iter().filter(|entry| entry.origin == origin);
                    own.map(|entry| (entry.channel, entry.stamp)).collect()
                });
                Outcome::Found { hash: body.hash(), held }
            }
        }
    }

    /// About how many microseconds it takes: whether a thread is worth its while.
    pub fn micros(&self) -> u64 {
        // `cargo bench --bench checkpoint`: each step of a checkpoint of 100,000 readings.
        let nanos = match self {
            Self::Checkpoint(readings) => readings.entries.len() * if readings.rules.is_some() { 1400 } else { 700 },
            Self::Body { from: Source::Packed(packed), .. } => packed.len() * 8,
            Self::Body { from: Source::Difference { base, .. }, .. } => base.text_len() * 3,
            Self::Find { body, .. } => body.text_len() * 5,
        };
        nanos as u64 / 1000
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
