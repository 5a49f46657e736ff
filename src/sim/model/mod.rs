//! The model: every order in which a small group can hear, forget, crash, campaign and change its voters.
//!
//! Drives the shipped [`Group`](crate::core::consensus::Group), not a re-write of it, at the top within the shipped
//! [`Hierarchy`](crate::core::hierarchy::Hierarchy) with its relays. What is sent stays sent: it may
//! be heard at once, later, never, again and in any order, so that loss, repetition and reordering need no bound. A
//! write is durable when its step ends, or, within a bound, later or never: a crash takes what is not.
//!
//! What is abstracted: time (anybody may time out at any step, a leader too), pre-votes (always granted: they bind
//! nobody, so that no promise may rest on their being refused), bodies (there are none), heartbeat rounds (no reads), and
//! the archive (a document that was asked for may come at any time). A heartbeat counts if it teaches its hearer a
//! commit, its answer where a voter is to be added. Answers to what is stale are lost. What these leave out is the
//! simulator's business.
//!
//! At the top each region has a leader at first, others come to lead theirs at any step within a bound, and whoever is
//! deposed learns of it at any later step or never: in the middle of a vote, of a proposal, of a relay. A question that
//! crosses regions is passed on whenever its hearer takes it up, by a leader or by one that was; what a relay remembers
//! is let go after that. Region checkpoints are left out, and so is H4.
//!
//! Two states are one if they differ only in which of the first voters is called what (symmetry), or by a collision
//! of 128-bit fingerprints: at 1e9 states that has a probability of about 1.5e-21.
//!
//! `cast` names nodes, documents and messages; `member` is one node and what it does; `walk` is the search, and `seen`
//! what it has seen.

mod cast;
mod member;
mod seen;
mod walk;

use std::collections::BTreeMap;

pub use walk::walk;

/// How far the walk goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Regions: one is a region's own group, several are the top.
    pub regions: usize,
    /// Voters of the genesis, in each region.
    pub voters: usize,
    /// No campaign beyond this term.
    pub terms: u64,
    /// No proposal beyond this index.
    pub checkpoints: u64,
    /// Crashes on one path.
    pub crashes: u8,
    /// Steps on one path whose writes stay open for a while. Without any, a crash takes nothing but memory.
    pub late_writes: u8,
    /// Voters added on one path: a node that observes waits for it.
    pub additions: u8,
    /// Voters taken out on one path.
    pub removals: u8,
    /// Nodes that come to lead their regions on one path, besides those that do at first.
    pub region_leaders: u8,
    /// Steps on one path.
    pub depth: u32,
    /// States after which the walk stops, complete or not.
    pub states: u64,
}

/// Why a world cannot be walked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoundsError {
    /// Renamings would be too many to try.
    #[error("several regions have at most 3 voters each, and {0} were asked for")]
    Voters(usize),
    /// The top's voters follow those of its regions, which are not modelled.
    #[error("voters come and go in a region's own group: with several regions, additions and removals must be 0")]
    Changes,
    /// What a relay remembers is let go after each step, and an answer that waits for a disk with it.
    #[error("with several regions every disk answers at once: late writes must be 0")]
    LateWrites,
}

impl Bounds {
    /// Whether the model can walk this.
    ///
    /// # Errors
    /// [`BoundsError`] if not.
    pub fn check(&self) -> Result<(), BoundsError> {
        match self.regions > 1 {
            true if self.voters > 3 => Err(BoundsError::Voters(self.voters)),
            true if self.additions + self.removals > 0 => Err(BoundsError::Changes),
            true if self.late_writes > 0 => Err(BoundsError::LateWrites),
            _ => Ok(()),
        }
    }
}

/// What a walk has found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Different states seen.
    pub states: u64,
    /// Steps taken.
    pub steps: u64,
    /// Longest path.
    pub depth: u32,
    /// Different states of one node, and different messages.
    pub members: u64,
    /// Different messages.
    pub messages: u64,
    /// True if every state within the bounds was seen.
    pub complete: bool,
    /// Elections, commits and changes of voters seen, so that nobody mistakes an idle walk for a proof.
    pub reached: BTreeMap<&'static str, u64>,
    /// The first property that broke, with the path to it.
    pub violation: Option<(String, Vec<String>)>,
}

#[cfg(test)]
mod tests;
