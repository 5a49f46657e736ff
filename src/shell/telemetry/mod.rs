//! What the core tells becomes logs and counters here, and nowhere else.

mod logs;
pub mod fusion;
mod metrics;

pub use logs::{LogFormat, init};
pub use metrics::Metrics;

use tracing::{debug, info, trace, warn};

use crate::core::notice::{Notice, StepDown};
use crate::core::state::entry::EntryRefusal;

/// Writes a notice to the log at its level (see the table in `docs/architecture.md`) and counts it.
pub fn tell(notice: &Notice, metrics: &Metrics) {
    metrics.count_notice(notice);
    match notice {
        Notice::Joined { cluster, founded: true } => info!(cluster = %cluster.short(), "founded the cluster"),
        Notice::Joined { cluster, founded: false } => info!(cluster = %cluster.short(), "joined the cluster"),
        Notice::LetGo { ours, theirs } => {
            warn!(ours = %ours.short(), theirs = %theirs.short(), "left the cluster that only this node had founded");
        }
        Notice::WaitingFor { nodes } => info!(waiting_for = ?nodes, "waiting for the other initial voters"),
        Notice::PeerUp { peer, addr, .. } => info!(%peer, %addr, "peer connected"),
        Notice::PeerDown { peer, .. } => info!(%peer, "peer disconnected"),
        Notice::PeerRefused { why, .. } => warn!(%why, "refused a peer"),
        Notice::RefusedByPeer { why, .. } => warn!(%why, "refused by a peer"),
        Notice::Rejected { link, why } => warn!(%link, %why, "rejected a message"),
        Notice::EntryRefused { from, key, why } => refused_entry(from, key, why),
        Notice::ClockOff { offset_ms } => {
            warn!(offset_ms, "wall clock differs too much from the neighbours' median and is not used; set it right");
        }
        Notice::ClockBack => info!("wall clock agrees with the neighbours again"),
        Notice::ClockReset => warn!("clock started anew after a mark that lay in a refused future"),
        Notice::FutureDropped { entries } => {
            warn!(entries, "the wall clock had been ahead: entries from what is now the future were dropped")
        }
        Notice::Suspected { node, why } => info!(peer = %node, why = ?why, "suspected"),
        Notice::Refuted { node } => info!(peer = %node, "answered a suspicion"),
        Notice::Died { node } => warn!(peer = %node, "dead"),
        Notice::Left { node } => info!(peer = %node, "left"),
        Notice::Alive { node } => info!(peer = %node, "alive"),
        Notice::Repaired { peer, got, gave } => debug!(%peer, got, gave, "repaired"),
        Notice::Campaign { group, term, leader, silent_for, pre } => {
            let silent_ms = silent_for.as_millis() as u64;
            info!(%group, term = term.get(), leader = ?leader, silent_ms, pre, "campaigns");
        }
        Notice::Voted { group, term, candidate } => {
            info!(%group, term = term.get(), candidate = %candidate.node, "voted");
        }
        Notice::VoteRefused { group, term, candidate, reason } => {
            debug!(%group, term = term.get(), %candidate, ?reason, "refused a vote");
        }
        Notice::BecameLeader { group, term } => info!(%group, term = term.get(), "became leader"),
        Notice::BecameFollower { group, term, leader } => {
            info!(%group, term = term.get(), leader = ?leader, "became follower");
        }
        Notice::SteppedDown { group, term, why } => match why {
            StepDown::NoQuorum | StepDown::SlowDisk => warn!(%group, term = term.get(), ?why, "stepped down"),
            StepDown::HigherTerm | StepDown::Removed | StepDown::Leaving | StepDown::LostRegion => {
                info!(%group, term = term.get(), ?why, "stepped down");
            }
        },
        Notice::Proposed { group, term, position } => {
            debug!(%group, term = term.get(), index = position.index.get(), hash = %position.hash.short(), "proposed");
        }
        Notice::Accepted { group, term, position } => {
            debug!(%group, term = term.get(), index = position.index.get(), hash = %position.hash.short(), "accepted");
        }
        Notice::Committed { group, term, position } => {
            info!(%group, term = term.get(), index = position.index.get(), hash = %position.hash.short(), "committed");
        }
        Notice::Raised { group, ballot, position } => {
            info!(%group, ballot = ballot.get(), index = position.index.get(), "raised the accepted pair");
        }
        Notice::VotersChanging { group, added, removed } => {
            let name = |voter: &Option<crate::core::id::Voter>| voter.as_ref().map(|v| v.node.to_string());
            info!(%group, added = ?name(added), removed = ?name(removed), "voters change with the next checkpoint");
        }
        Notice::FetchFailed { hash, peer } => warn!(hash = %hash.short(), %peer, "could not fetch"),
        Notice::DuplicateNode { node, ours, theirs } => {
            warn!(%node, %ours, %theirs, "another node is alive under this name: give one of them another id");
        }
    }
}

fn refused_entry(from: &crate::core::id::NodeId, key: &crate::core::state::entry::Key, why: &EntryRefusal) {
    match why {
        EntryRefusal::Future { ahead_ms } => {
            warn!(%from, origin = %key.origin, ahead_ms, "refused a reading from the future: its gateway's clock is fast");
        }
        EntryRefusal::Malformed => warn!(%from, origin = %key.origin, "refused a malformed entry"),
        EntryRefusal::Expired | EntryRefusal::Forgotten | EntryRefusal::Foreign => {
            trace!(%from, origin = %key.origin, ?why, "refused an entry");
        }
    }
}
