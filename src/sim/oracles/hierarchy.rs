//! H1, H3 and H4: who campaigns at the top, whose words relays pass on, who elected a leader, and what global documents
//! say of the regions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use xxhash_rust::xxh3::xxh3_64;

use crate::core::id::{GroupId, Hash, Index, RegionId, Term, Voter};
use crate::core::ledger::document::Document;
use crate::core::message::Message;
use crate::core::notice::Notice;
use crate::sim::oracles::ledger::Ledger;
use crate::sim::oracles::votes::Votes;
use crate::sim::oracles::{Actor, Verdict, is_quorum};

/// Voters' answers that are remembered: a relay passes them on within seconds.
const SAID_MAX: usize = 200_000;

/// Who leads which region now, and what voters have said.
#[derive(Debug, Default)]
pub struct Hierarchy {
    leading: BTreeMap<Voter, GroupId>,
    said: BTreeSet<u64>,
    said_age: VecDeque<u64>,
    documents: BTreeMap<Hash, Document>,
}

impl Hierarchy {
    /// Something is told: leaders of regions come and go.
    pub fn told(&mut self, voter: &Voter, notice: &Notice) {
        match notice {
            Notice::BecameLeader { group, .. } if *group != GroupId::Top => {
                self.leading.insert(voter.clone(), group.clone());
            }
            Notice::SteppedDown { group, .. } if self.leading.get(voter) == Some(group) => {
                self.leading.remove(voter);
            }
            _ => {}
        }
    }

    /// A process has ended, or begins.
    pub fn reborn(&mut self, voter: &Voter) {
        self.leading.remove(voter);
    }

    /// Somebody campaigns or speaks as leader.
    ///
    /// # Errors
    /// If that is at the top, and it leads no region.
    pub fn speaks(&self, group: &GroupId, voter: &Voter) -> Verdict {
        if *group == GroupId::Top && !self.leading.contains_key(voter) {
            return Err(format!("{} campaigns or leads at the top, and leads no region", voter.node));
        }
        Ok(())
    }

    /// A voter answers at the top, on its own link or into a relay.
    pub fn said(&mut self, message: &Message) {
        let print = print(message);
        if self.said.insert(print) {
            self.said_age.push_back(print);
        }
        if self.said_age.len() > SAID_MAX
            && let Some(old) = self.said_age.pop_front()
        {
            self.said.remove(&old);
        }
    }

    /// A relay passes an answer on.
    ///
    /// # Errors
    /// If its voter never said so.
    pub fn passed_on(&self, relay: &Voter, message: &Message) -> Verdict {
        match self.said.contains(&print(message)) {
            true => Ok(()),
            false => Err(format!("{} passes on what its voter never said: {message:?}", relay.node)),
        }
    }

    /// Judges a new leader: a quorum by its accepted document's voters had durably voted for it.
    ///
    /// # Errors
    /// If not.
    pub fn elected(&self, actor: Actor<'_>, group: &GroupId, term: Term, votes: &Votes) -> Verdict {
        let Some(hard) = actor.store.hard(group) else {
            return Err(format!("{} leads {group} and has no durable state of it", actor.voter.node));
        };
        let document = actor.store.documents.get(&hard.accepted.hash);
        let Some(voters) = document.and_then(|document| document.voters_in(group)) else {
            return Err(format!("{} leads {group} without a durable document", actor.voter.node));
        };
        if is_quorum(&voters, |voter| votes.of(voter.store, group, term) == Some(actor.voter)) {
            return Ok(());
        }
        Err(format!("{} leads {group} in term {term} without a quorum of votes by {voters:?}", actor.voter.node))
    }

    /// A document became durable somewhere.
    ///
    /// # Errors
    /// If a region's index falls in it, or it names a region checkpoint that is not committed.
    pub fn document(&mut self, document: &Document, ledger: &Ledger) -> Verdict {
        let header = document.header();
        if header.group != GroupId::Top || self.documents.contains_key(&document.hash()) {
            return Ok(());
        }
        self.documents.insert(document.hash(), document.clone());
        for (region, at) in &header.regions {
            if !ledger.is_committed(&GroupId::Region(region.clone()), at.index, at.hash) {
                return Err(format!("global document {} names {} of {region}, not committed", header.index, at.index));
            }
        }
        let before = header.parent.and_then(|parent| self.documents.get(&parent));
        let index = |document: &Document, region: &RegionId| -> Option<Index> {
            document.header().regions.get(region).map(|at| at.index)
        };
        let falls = |before: &&Document| before.header().regions.keys().any(|r| index(document, r) < index(before, r));
        match before.filter(falls) {
            Some(_) => Err(format!("a region's index falls in global document {}", header.index)),
            None => Ok(()),
        }
    }
}

fn print(message: &Message) -> u64 {
    let mut bytes = Vec::with_capacity(256);
    message.encode(&mut bytes);
    xxh3_64(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::hard_state::{HardState, Position};
    use crate::core::hlc::{Hlc, Stamp};
    use crate::core::id::{NodeId, Round};
    use crate::core::ledger::document::{Counts, Header, RegionCheckpoint};
    use crate::core::message::agreement::HeartbeatAck;
    use crate::core::notice::StepDown;
    use crate::sim::disk::Store;
    use crate::sim::oracles::samples::{document, main_group, voter, voters};

    #[test]
    fn a_campaign_of_somebody_who_leads_no_region_is_seen() {
        let (mut judge, a) = (Hierarchy::default(), voter("a", 1));
        assert!(judge.speaks(&GroupId::Top, &a).is_err());
        judge.told(&a, &Notice::BecameLeader { group: main_group(), term: Term(1) });
        assert_eq!(judge.speaks(&GroupId::Top, &a), Ok(()));
        judge.told(&a, &Notice::SteppedDown { group: main_group(), term: Term(2), why: StepDown::HigherTerm });
        assert!(judge.speaks(&GroupId::Top, &a).is_err());
    }

    #[test]
    fn a_relay_that_answers_for_its_voters_is_seen() {
        let mut judge = Hierarchy::default();
        let ack = |round| {
            let (group, voter) = (GroupId::Top, voter("a", 1));
            Message::HeartbeatAck(HeartbeatAck { group, term: Term(1), round: Round(round), voter, holds: None })
        };
        judge.said(&ack(1));
        assert_eq!(judge.passed_on(&voter("r", 9), &ack(1)), Ok(()));
        assert!(judge.passed_on(&voter("r", 9), &ack(2)).is_err());
    }

    #[test]
    fn a_leader_without_a_quorum_of_durable_votes_is_seen() {
        let (genesis, a) = (document(0, None, "abc"), voter("a", 'a' as u128));
        let hard = HardState { term: Term(1), voted_for: Some(a.clone()), ..HardState::new(genesis.hash()) };
        let mut store = Store { hard: vec![(main_group(), hard.clone())], ..Store::default() };
        store.documents.insert(genesis.hash(), genesis);
        let mut votes = Votes::default();
        votes.durable(a.store, &main_group(), &hard).unwrap();
        let actor = Actor { voter: &a, store: &store };
        let judge = Hierarchy::default();
        assert!(judge.elected(actor, &main_group(), Term(1), &votes).is_err());
        votes.durable(voter("b", 'b' as u128).store, &main_group(), &hard).unwrap();
        assert_eq!(judge.elected(actor, &main_group(), Term(1), &votes), Ok(()));
    }

    #[test]
    fn a_region_that_falls_or_is_not_committed_is_seen() {
        let one = document(1, None, "abc");
        let two = document(2, Some(&one), "abc");
        let mut ledger = Ledger::default();
        for committed in [&one, &two] {
            let at = Position { index: committed.header().index, hash: committed.hash() };
            ledger.committed(&main_group(), at).unwrap();
        }
        let global = |index: u64, parent: Option<Hash>, named: &Document| {
            let at = RegionCheckpoint {
                index: named.header().index,
                hash: named.hash(),
                taken_at: Hlc::ZERO,
                counts: Counts::default(),
                stale_ms: None,
            };
            let node = NodeId::new("a").unwrap();
            Document::seal(Header {
                group: GroupId::Top,
                index: Index(index),
                parent,
                taken_at: Stamp { time: Hlc::from_bits(index), node: node.clone() },
                proposer: node,
                voters: voters("abc"),
                counts: Counts::default(),
                body: None,
                fused: None,
                regions: BTreeMap::from([(RegionId::new("main").unwrap(), at)]),
                top: None,
                genesis: None,
            })
        };
        let mut judge = Hierarchy::default();
        let first = global(1, Some(Hash::of(b"x")), &two);
        assert_eq!(judge.document(&first, &ledger), Ok(()));
        assert!(judge.document(&global(2, Some(first.hash()), &one), &ledger).is_err());
        assert!(judge.document(&global(3, None, &document(3, Some(&two), "abc")), &ledger).is_err());
    }
}
