//! The judges: rules C1 to C11, H1 to H5 and the promises to the outside, over all nodes at once, after every step.
//!
//! They see what a real observer could see, and no node's memory but for how much it is: what is durable on disks, what
//! is said on wires, what is told in notices, what clients are answered. Each judge is small, keeps what it must remember,
//! and is shown a violation by its own test.

pub mod terms;
pub mod votes;
pub mod leaders;
pub mod quorums;
pub mod ledger;
pub mod voters;
pub mod reads;
pub mod stamps;
pub mod merges;
pub mod acks;
pub mod arrivals;
pub mod spread;
pub mod hierarchy;
pub mod memory;
pub mod written;

use crate::core::hard_state::{Position, Record};
use crate::core::hierarchy::is_own;
use crate::core::id::{GroupId, Voter};
use crate::core::message::Message;
use crate::core::notice::Notice;
use crate::core::voters::Voters;
use crate::sim::disk::Store;

/// What a judge says: nothing, or what is wrong.
pub type Verdict = Result<(), String>;

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Whose rule.
    pub oracle: &'static str,
    /// What was seen.
    pub detail: String,
}

/// All judges of agreement.
#[derive(Debug, Default)]
pub struct Oracles {
    /// C1.
    pub terms: terms::Terms,
    /// C2, C11.
    pub votes: votes::Votes,
    /// One leader a term.
    pub leaders: leaders::Leaders,
    /// C4 to C6.
    pub quorums: quorums::Quorums,
    /// C9.
    pub ledger: ledger::Ledger,
    /// C7.
    pub voters: voters::Configurations,
    /// C10.
    pub reads: reads::Reads,
    /// Stamps.
    pub stamps: stamps::Stamps,
    /// Merge.
    pub merges: merges::Merges,
    /// Acknowledged writes.
    pub acks: acks::Acks,
    /// Copies, bytes, deaths.
    pub spread: spread::Spread,
    /// How long updates take.
    pub arrivals: arrivals::Arrivals,
    /// H1, H3, H4.
    pub hierarchy: hierarchy::Hierarchy,
}

/// Who does something, and what is durable where it does it.
#[derive(Clone, Copy, Debug)]
pub struct Actor<'a> {
    /// Its identity.
    pub voter: &'a Voter,
    /// Its disk.
    pub store: &'a Store,
}

impl Oracles {
    /// A record has become durable.
    ///
    /// # Errors
    /// [`Violation`] if a rule is broken.
    pub fn durable(&mut self, actor: Actor<'_>, record: &Record) -> Result<(), Violation> {
        match record {
            Record::Hard(group, hard) => {
                let store = actor.voter.store;
                judged("C1 terms", self.terms.durable(store, group, hard.term))?;
                judged("C2 votes", self.votes.durable(store, group, hard))?;
                judged("C4 accepted", quorums::held(actor.store, hard))?;
                judged("C9 ledger", self.ledger.durable(store, group, hard.committed))?;
                self.quorums.accepted(group, actor.voter, hard.accepted);
                if let Some(at) = hard.committed {
                    self.voters.holds(store, group, at);
                    self.committed(group, at)?;
                }
            }
            Record::Document(document) => {
                judged("C9 ledger", self.ledger.document(document))?;
                self.quorums.document(document);
                judged("C7 voters", self.voters.document(document))?;
                judged("H4 regions", self.hierarchy.document(document, &self.ledger))?;
            }
            Record::Committed(group, at) => {
                self.voters.holds(actor.voter.store, group, *at);
                self.committed(group, *at)?;
            }
            Record::Own(entry) => judged("stamps", self.stamps.written(entry))?,
            Record::Cluster(_)
            | Record::NoCluster
            | Record::Body(_)
            | Record::ClockMark(_)
            | Record::KeepBody(_)
            | Record::DropBody(_)
            | Record::DropOwn(_)
            | Record::LastSeen(_) => {}
        }
        Ok(())
    }

    /// A message is sent.
    ///
    /// # Errors
    /// [`Violation`] if a rule is broken.
    pub fn sent(&mut self, actor: Actor<'_>, message: &Message) -> Result<(), Violation> {
        match message {
            Message::Heartbeat(beat) => {
                judged("one leader", self.leaders.speaks(&beat.group, beat.term, actor.voter))?;
                judged("C1 terms", terms::still_in(actor.store, &beat.group, beat.term))?;
                judged("H1 region leaders", self.hierarchy.speaks(&beat.group, actor.voter))?;
                if let Some(at) = beat.committed {
                    self.committed(&beat.group, at)?;
                }
            }
            Message::CheckpointPropose(propose) => {
                judged("one leader", self.leaders.speaks(&propose.group, propose.term, actor.voter))?;
                judged("C1 terms", terms::still_in(actor.store, &propose.group, propose.term))?;
                judged("H1 region leaders", self.hierarchy.speaks(&propose.group, actor.voter))?;
                let at = Position { index: propose.index, hash: propose.hash };
                judged("C5 one proposal", self.leaders.proposes(&propose.group, propose.term, at))?;
            }
            Message::ElectionVote(vote) => judged("C2 votes", self.votes.sent(actor, vote))?,
            Message::CheckpointAck(ack) if ack.accepted => {
                judged("C4 accepted", quorums::acknowledged(actor, ack))?;
                self.quorums.acked(ack);
            }
            Message::ElectionRequest(request) => {
                judged("C2 votes", self.votes.campaigns(actor, request))?;
                judged("H1 region leaders", self.hierarchy.speaks(&request.group, actor.voter))?;
            }
            // A question is its asker's word, whoever passes it on; an answer its voter's.
            Message::Relay(relay) if relay.asker == actor.voter.node => self.sent(actor, &relay.message.0)?,
            Message::RelayAnswer(answer) => {
                for carried in &answer.answers {
                    if is_own(actor.voter, &carried.0) {
                        self.sent(actor, &carried.0)?;
                        self.hierarchy.said(&carried.0);
                    } else {
                        judged("H3 relays", self.hierarchy.passed_on(actor.voter, &carried.0))?;
                    }
                }
            }
            Message::Relay(_)
            | Message::HeartbeatAck(_)
            | Message::CheckpointAck(_)
            | Message::Hello(_)
            | Message::Keepalive(_)
            | Message::Error(_)
            | Message::SensorUpdate(_)
            | Message::Confirm(_)
            | Message::Prune(_)
            | Message::Graft(_)
            | Message::Release(_)
            | Message::StateDigest(_)
            | Message::StateRequest(_)
            | Message::StateUpdate(_)
            | Message::CheckpointFetch(_)
            | Message::CheckpointBody(_) => {}
        }
        Ok(())
    }

    /// Something is told.
    ///
    /// # Errors
    /// [`Violation`] if a rule is broken.
    pub fn told(&mut self, actor: Actor<'_>, notice: &Notice) -> Result<(), Violation> {
        self.hierarchy.told(actor.voter, notice);
        match notice {
            Notice::BecameLeader { group, term } => {
                judged("one leader", self.leaders.became(group, *term, actor.voter))?;
                judged("H3 elected", self.hierarchy.elected(actor, group, *term, &self.votes))
            }
            Notice::Committed { group, position, .. } => self.committed(group, *position),
            // At the top a region comes with all its voters, of which a majority holds what is committed.
            Notice::VotersChanging { group: group @ GroupId::Region(_), added: Some(added), .. } => {
                let committed = actor.store.hard(group).and_then(|hard| hard.committed);
                judged("C7 voters", self.voters.adds(group, added, committed))
            }
            _ => Ok(()),
        }
    }

    /// Somebody takes a document for committed.
    ///
    /// # Errors
    /// [`Violation`] if a rule is broken.
    pub fn committed(&mut self, group: &GroupId, at: Position) -> Result<(), Violation> {
        if judged("C9 ledger", self.ledger.committed(group, at))? {
            return Ok(());
        }
        judged("C6 quorum", self.quorums.committed(group, at, |term| self.leaders.of(group, term)))?;
        self.reads.committed(group, at);
        Ok(())
    }
}

/// A majority of regions, each by a majority of its own voters: counted here anew, so that a mistake in the shipped
/// predicate does not judge itself.
pub(crate) fn is_quorum(voters: &Voters, says: impl Fn(&Voter) -> bool) -> bool {
    let mut regions = (0, 0);
    for all in voters.regions().values() {
        let saying = all.iter().filter(|voter| says(voter)).count();
        regions.0 += usize::from(saying > all.len() / 2);
        regions.1 += 1;
    }
    regions.0 > regions.1 / 2
}

/// Names the judge.
pub(crate) fn judged<T>(oracle: &'static str, verdict: Result<T, String>) -> Result<T, Violation> {
    verdict.map_err(|detail| Violation { oracle, detail })
}

#[cfg(test)]
pub(crate) mod samples {
    use std::collections::BTreeSet;

    use crate::core::hlc::{Hlc, Stamp};
    use crate::core::id::{GroupId, Hash, Index, NodeId, RegionId, StoreId, Voter};
    use crate::core::ledger::document::{Counts, Document, Header};
    use crate::core::voters::Voters;

    pub fn main_group() -> GroupId {
        GroupId::Region(RegionId::new("main").unwrap())
    }

    pub fn voter(name: &str, store: u128) -> Voter {
        Voter { node: NodeId::new(name).unwrap(), store: StoreId(store) }
    }

    pub fn voters(names: &str) -> Voters {
        let all: BTreeSet<Voter> = names.chars().map(|c| voter(&c.to_string(), c as u128)).collect();
        Voters::of_region(RegionId::new("main").unwrap(), all).unwrap()
    }

    /// A document of the group `main` with voters named by single letters.
    pub fn document(index: u64, parent: Option<&Document>, names: &str) -> Document {
        let node = NodeId::new("a").unwrap();
        Document::seal(Header {
            group: main_group(),
            index: Index(index),
            parent: parent.map(Document::hash).or((index > 0).then(|| Hash::of(b"unknown"))),
            taken_at: Stamp { time: Hlc::from_bits(index), node: node.clone() },
            proposer: node,
            voters: voters(names),
            counts: Counts::default(),
            body: None,
            fused: None,
            regions: std::collections::BTreeMap::new(),
            top: None,
            genesis: None,
        })
    }
}
