//! All that a group's future depends on but time, as words: for walks over its states.
//!
//! Nodes and documents are named by whoever walks, so that states which differ only in names can be told to be one.
//! Writes are named by how many are unanswered up to them. Left out are the clock, heartbeat rounds and reads, which a
//! walk abstracts from.

use std::collections::BTreeSet;

use crate::core::consensus::{Group, Held, Part, VoterChange};
use crate::core::hard_state::{Accepted, HardState, Position};
use crate::core::id::{Hash, NodeId, PersistSeq, Voter};
use crate::core::message::Message;
use crate::core::message::agreement::{CheckpointPropose, Refusal};
use crate::core::writes::Writes;

/// One word of a portrait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// A number or a case.
    Number(u64),
    /// A node.
    Node(u8),
    /// A set of nodes, one bit each.
    Nodes(u64),
    /// A document.
    Document(u32),
}

/// How a walk numbers nodes and documents.
pub trait Names {
    /// The number of a node, below 64.
    fn node(&self, node: &NodeId) -> u8;
    /// The number of a document.
    fn document(&self, hash: &Hash) -> u32;
}

/// Writes portraits.
pub struct Pen<'a, N> {
    names: &'a N,
    /// What was written.
    pub words: Vec<Word>,
    /// What belongs to it in no order, and no matter how often.
    pub bag: Vec<Vec<Word>>,
}

impl<'a, N: Names> Pen<'a, N> {
    /// An empty page.
    pub fn new(names: &'a N) -> Self {
        Self { names, words: Vec::with_capacity(48), bag: Vec::new() }
    }

    /// Writes a number.
    pub fn number(&mut self, number: u64) {
        self.words.push(Word::Number(number));
    }

    fn node(&mut self, node: Option<&NodeId>) {
        self.words.push(node.map_or(Word::Number(0), |node| Word::Node(self.names.node(node))));
    }

    fn nodes(&mut self, voters: &BTreeSet<Voter>) {
        let bits = voters.iter().map(|voter| 1 << self.names.node(&voter.node));
        self.words.push(Word::Nodes(bits.fold(0, |all, bit| all | bit)));
    }

    fn document(&mut self, hash: &Hash) {
        self.words.push(Word::Document(self.names.document(hash)));
    }

    fn accepted(&mut self, accepted: Option<&Accepted>) {
        let Some(accepted) = accepted else { return self.number(0) };
        self.number(1 + accepted.ballot.get());
        self.document(&accepted.hash);
    }

    fn position(&mut self, position: Option<&Position>) {
        match position {
            Some(position) => self.document(&position.hash),
            None => self.number(0),
        }
    }

    /// Writes a durable state.
    pub fn hard(&mut self, hard: &HardState) {
        self.number(hard.term.get());
        self.node(hard.voted_for.as_ref().map(|voter| &voter.node));
        self.accepted(Some(&hard.accepted));
        self.position(hard.committed.as_ref());
    }

    fn propose(&mut self, propose: &CheckpointPropose) {
        self.number(propose.term.get());
        self.node(Some(&propose.leader));
        self.document(&propose.hash);
    }

    /// Writes a message of agreement; others have no part in a group.
    pub fn message(&mut self, message: &Message) {
        match message {
            Message::Heartbeat(m) => {
                self.number(1);
                self.number(m.term.get());
                self.node(Some(&m.leader));
                self.position(m.committed.as_ref());
            }
            Message::HeartbeatAck(m) => {
                self.number(2);
                self.number(m.term.get());
                self.node(Some(&m.voter.node));
                self.position(m.holds.as_ref());
            }
            Message::ElectionRequest(m) => {
                self.number(if m.pre { 3 } else { 4 });
                self.number(m.term.get());
                self.node(Some(&m.candidate.node));
                self.accepted(Some(&m.accepted));
            }
            Message::ElectionVote(m) => {
                self.number(if m.pre { 5 } else { 6 });
                self.number(m.term.get());
                self.node(Some(&m.voter.node));
                self.refusal(m.reason, m.granted);
                self.accepted(Some(&m.accepted));
            }
            Message::CheckpointPropose(m) => {
                self.number(7);
                self.propose(m);
            }
            Message::CheckpointAck(m) => {
                self.number(8);
                self.number(m.term.get());
                self.node(Some(&m.voter.node));
                self.refusal(m.reason, m.accepted);
                self.document(&m.hash);
            }
            _ => self.number(0),
        }
    }

    fn refusal(&mut self, reason: Option<Refusal>, said_yes: bool) {
        self.number(reason.map_or(u64::from(said_yes), |reason| 2 + reason as u64));
    }

    fn addressed(&mut self, to: &NodeId, message: &Message) {
        self.node(Some(to));
        self.message(message);
    }

    fn held(&mut self, held: &Held) {
        match held {
            Held::Send { to, message } => self.addressed(to, message),
            Held::Ask { to, message } => to.iter().for_each(|to| self.addressed(to, message)),
            Held::OwnVote { term } => {
                self.number(20);
                self.number(term.get());
            }
            Held::OwnAck { accepted } => {
                self.number(21);
                self.accepted(Some(accepted));
            }
            Held::Committed { position, .. } => {
                self.number(22);
                self.position(Some(position));
            }
        }
    }
}

impl Group {
    /// Writes down all that this group's future depends on.
    pub fn portray<N: Names>(&self, writes: &Writes, pen: &mut Pen<'_, N>) {
        let ahead = |write: PersistSeq| writes.ahead(write);
        pen.node(Some(&self.me.node));
        pen.hard(&self.hard);
        match &self.part {
            Part::Follower => pen.number(0),
            Part::Candidate(campaign) => {
                pen.number(if campaign.pre { 1 } else { 2 });
                pen.number(campaign.term.get());
                pen.nodes(&campaign.granted);
            }
            Part::Leader(leading) => {
                pen.number(3 + 2 * u64::from(leading.settled) + u64::from(leading.current));
                pen.nodes(&leading.acks);
                pen.nodes(&leading.learners);
                match &leading.change {
                    None => pen.number(0),
                    Some(VoterChange::Add(voter) | VoterChange::Remove(voter)) => pen.node(Some(&voter.node)),
                }
            }
        }
        pen.number(u64::from(self.eligible));
        pen.node(self.leader.as_ref());
        pen.number(ahead(self.term_write));
        pen.number(ahead(self.accepted_write));
        for (write, held) in &self.held {
            for held in held {
                let mut item = Pen::new(pen.names);
                item.number(ahead(*write));
                item.held(held);
                // What is sent twice is sent.
                if !pen.bag.contains(&item.words) {
                    pen.bag.push(item.words);
                }
            }
        }
        match &self.bodyless {
            Some(propose) => pen.propose(propose),
            None => pen.number(0),
        }
        pen.accepted(self.raise_to.as_ref());
        pen.position(self.learning.as_ref());
    }
}
