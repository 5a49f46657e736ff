//! One node of the model: a group, its writes, and what of them is durable.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::core::consensus::{Contents, Fact, Group, Holdings, Member as Candidate, Snapshot};
use crate::core::cx::Cx;
use crate::core::effect::Effect;
use crate::core::hard_state::{HardState, Position, Record};
use crate::core::hlc::{Hlc, Stamp};
use crate::core::id::{Hash, NodeId, PersistSeq, Round, StoreId, Term, Voter};
use crate::core::ledger::document::{Counts, Document};
use crate::core::message::Message;
use crate::core::message::agreement::{ElectionVote, HeartbeatAck, Refusal};
use crate::core::notice::Notice;
use crate::core::params::ConsensusParams;
use crate::core::rng::Rng;
use crate::core::time::{Mono, Now, Wall};
use crate::core::view::Role;
use crate::core::writes::Writes;
use crate::sim::model::cast::{Cast, Load, Prints, main_group};

/// Every step comes later than any timeout after the one before: whoever is asked has not heard a leader lately.
const STEP: Duration = Duration::from_micros(10);
const TIMEOUT: Duration = Duration::from_micros(1);

/// A node as it stands.
#[derive(Clone)]
pub struct Member {
    /// Its place.
    pub place: u8,
    /// What it runs.
    pub group: Group,
    /// What a crash leaves.
    pub durable: HardState,
    /// What was written since, oldest first.
    pub unsynced: Vec<(PersistSeq, HardState)>,
    writes: Writes,
    at: Mono,
}

/// What a node claims of itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Claim {
    /// It leads.
    Leads(Term),
    /// This is committed.
    Committed { position: Position, term: Term },
    /// It raised its accepted pair to what a refuser holds.
    Raised,
}

/// What a node did.
pub struct Deed {
    /// The node afterwards.
    pub member: Member,
    /// What it sent.
    pub sent: Vec<u32>,
    /// What it claimed.
    pub claims: Vec<Claim>,
}

/// What one node has at hand of all documents ever made: its own, and what has just come.
struct Shelf<'a> {
    cast: &'a mut Cast,
    held: Vec<Hash>,
}

impl Holdings for Shelf<'_> {
    fn document(&self, hash: &Hash) -> Option<Document> {
        self.held.contains(hash).then(|| self.cast.document(hash).clone())
    }

    fn has_body(&self, _hash: &Hash) -> bool {
        true
    }

    fn adopt(&mut self, document: &Document) -> Vec<Record> {
        self.cast.adopt(document);
        Vec::new()
    }
}

impl Member {
    /// A node that starts on what a crash left.
    pub fn recover(cast: &Cast, place: u8, durable: HardState) -> Self {
        // Two can be added to three: the model adds one of them.
        let params = ConsensusParams { election_timeout: TIMEOUT, voters_max: 7, ..ConsensusParams::default() };
        let accepted = cast.document(&durable.accepted.hash).clone();
        let committed = durable.committed.map(|at| cast.document(&at.hash).clone());
        let (mut rng, mut fx) = (Rng::new(1), Vec::new());
        let mut cx = Cx { now: at(Mono::ZERO), rng: &mut rng, fx: &mut fx };
        let me = cast.voters[place as usize].clone();
        let group = Group::recover(&mut cx, main_group(), me, params, durable.clone(), accepted, committed);
        Self { place, group, durable, unsynced: Vec::new(), writes: Writes::default(), at: Mono::ZERO }
    }

    /// Fingerprints of all that its future depends on.
    pub fn portray(&self, cast: &Cast) -> Prints {
        let mut pen = cast.pen();
        self.group.portray(&self.writes, &mut pen);
        pen.hard(&self.durable);
        self.unsynced.iter().for_each(|(_, hard)| pen.hard(hard));
        cast.prints(&pen.words, &pen.bag)
    }

    /// Whether hearing this can still change anything here, now or after a crash: all else need not be told apart.
    /// Answers to what is stale are taken for lost; whoever is behind hears of newer terms from those who lead them.
    pub fn minds(&self, load: &Load) -> bool {
        let (hard, durable) = (self.group.hard(), &self.durable);
        let message = match load {
            Load::Message(message) => message,
            Load::Content { hash, .. } => return self.group.awaits(hash),
        };
        match message {
            // One that teaches nothing does no more than the proposal that was sent with it.
            Message::Heartbeat(m) => m.term >= durable.term && m.committed > durable.committed,
            Message::ElectionRequest(m) => {
                m.term > durable.term || (m.term == durable.term && durable.voted_for.is_none())
            }
            Message::ElectionVote(m) if m.granted => self.group.role() == Role::Candidate && m.term == hard.term,
            Message::ElectionVote(m) => {
                let newer = m.accepted.pair() > durable.accepted.pair();
                m.term > durable.term || (m.reason == Some(Refusal::Behind) && newer)
            }
            Message::CheckpointPropose(m) => m.term >= durable.term,
            Message::CheckpointAck(m) if m.accepted => {
                let open = self.group.is_leader() && !self.group.is_settled();
                open && m.term == hard.term && m.hash == hard.accepted.hash
            }
            Message::CheckpointAck(m) => m.term > durable.term,
            _ => false,
        }
    }

    /// Hears what was sent to it.
    pub fn hear(&self, cast: &mut Cast, parcel: u32) -> Deed {
        let (message, content) = match &cast.parcels[parcel as usize].load {
            Load::Message(message) => (Some(message.clone()), None),
            Load::Content { from, hash } => (None, Some((cast.voters[*from as usize].node.clone(), *hash))),
        };
        self.act(cast, content.as_ref().map(|(_, hash)| *hash), |group, cx, writes, shelf| match &message {
            Some(Message::Heartbeat(m)) => group.on_heartbeat(cx, writes, shelf, m),
            Some(Message::ElectionRequest(m)) => group.on_election_request(cx, writes, m),
            Some(Message::ElectionVote(m)) => group.on_election_vote(cx, writes, shelf, m),
            Some(Message::CheckpointPropose(m)) => group.on_checkpoint_propose(cx, writes, shelf, m),
            Some(Message::CheckpointAck(m)) => group.on_checkpoint_ack(cx, writes, m),
            Some(_) => {}
            None => {
                let (from, _) = content.as_ref().expect("a parcel is a message or a document");
                group.on_content(cx, writes, shelf, from);
            }
        })
    }

    /// Its patience ends: it leads no more if it did, and campaigns. Everybody grants the pre-vote, for it binds nobody:
    /// a campaign must do no harm whenever it comes.
    pub fn time_out(&self, cast: &mut Cast) -> Deed {
        self.act(cast, None, |group, cx, writes, shelf| {
            if group.is_leader() {
                group.on_deadline(cx, writes);
                cx.now = at(cx.now.mono + STEP);
            }
            group.on_deadline(cx, writes);
            let (term, me) = (group.hard().term.next(), group.me().clone());
            for voter in group.voters().iter().filter(|voter| **voter != me) {
                let (voter, accepted) = (voter.clone(), group.hard().accepted);
                let (group_id, reason) = (main_group(), None);
                let vote = ElectionVote { group: group_id, term, voter, pre: true, granted: true, reason, accepted };
                group.on_election_vote(cx, writes, shelf, &vote);
            }
        })
    }

    /// Proposes the next checkpoint.
    pub fn propose(&self, cast: &mut Cast) -> Deed {
        let snapshot = self.snapshot();
        self.act(cast, None, |group, cx, writes, shelf| group.propose(cx, writes, shelf, snapshot))
    }

    fn snapshot(&self) -> Snapshot {
        let hard = self.group.hard();
        // Different leaders and terms make different documents.
        let time = Hlc::new(Wall::from_millis(hard.accepted.index.get() + 1), hard.term.get() as u16);
        let taken_at = Stamp { time, node: self.group.me().node.clone() };
        let contents = Contents::Readings { body: Hash::of(b"no body"), fused: None, founds_top: false };
        Snapshot { taken_at, counts: Counts::default(), contents }
    }

    /// Proposes a checkpoint without this voter.
    pub fn remove(&self, cast: &mut Cast, voter: u8) -> Deed {
        let unwanted = BTreeSet::from([cast.voters[voter as usize].node.clone()]);
        let snapshot = self.snapshot();
        self.act(cast, None, |group, cx, writes, shelf| {
            group.plan_voters(cx, &[], &unwanted);
            group.propose(cx, writes, shelf, snapshot);
        })
    }

    /// Wants `newcomer` to vote: speaks to it, or, if it holds what is committed and a quorum answers, proposes it.
    /// `answers` are those who follow this leader, with what they hold.
    pub fn add(&self, cast: &mut Cast, newcomer: u8, answers: &[(u8, Option<Position>)]) -> (Deed, bool) {
        let member = |voter: &Voter| Candidate { voter: voter.clone(), alive: true, since: Duration::from_secs(1) };
        let other = Voter { node: NodeId::new("n9").expect("a good name"), store: StoreId(9) };
        let newcomer = cast.voters[newcomer as usize].clone();
        // Voters are added in twos; the second one stays away.
        let members = [member(&newcomer), member(&other)];
        let answers: Vec<HeartbeatAck> = answers
            .iter()
            .map(|(place, holds)| HeartbeatAck {
                group: main_group(),
                term: self.group.hard().term,
                round: Round(0),
                voter: cast.voters[*place as usize].clone(),
                holds: *holds,
            })
            .collect();
        let snapshot = self.snapshot();
        let mut proposed = false;
        let deed = self.act(cast, None, |group, cx, writes, shelf| {
            answers.iter().for_each(|ack| group.on_heartbeat_ack(cx, writes, ack));
            group.plan_voters(cx, &members, &BTreeSet::new());
            proposed = group.is_changing();
            match proposed {
                true => group.propose(cx, writes, shelf, snapshot),
                false => group.on_peer_up(&newcomer.node),
            }
        });
        (deed, proposed)
    }

    /// Its disk answers to the oldest write.
    pub fn sync(&self, cast: &mut Cast) -> Deed {
        let mut next = self.clone();
        let (seq, hard) = next.unsynced.remove(0);
        next.durable = hard;
        next.act(cast, None, |group, cx, writes, _| {
            writes.on_persisted(seq);
            group.on_persisted(cx, writes);
        })
    }

    /// Its disk answers to everything, and to what follows from that.
    pub fn sync_all(self, cast: &mut Cast, sent: &mut Vec<u32>, claims: &mut Vec<Claim>) -> Self {
        let mut member = self;
        while !member.unsynced.is_empty() {
            let deed = member.sync(cast);
            member = deed.member;
            sent.extend(deed.sent);
            claims.extend(deed.claims);
        }
        member
    }

    /// Lets the group act, and takes note of what it writes, says and claims.
    fn act(
        &self,
        cast: &mut Cast,
        come: Option<Hash>,
        act: impl FnOnce(&mut Group, &mut Cx<'_>, &mut Writes, &mut Shelf<'_>),
    ) -> Deed {
        let mut next = self.clone();
        let (mut rng, mut fx) = (Rng::new(1), Vec::new());
        let mut cx = Cx { now: at(next.at + STEP), rng: &mut rng, fx: &mut fx };
        let own = [Some(next.group.accepted().hash()), next.group.committed().map(Document::hash), come];
        let mut shelf = Shelf { cast, held: own.into_iter().flatten().collect() };
        act(&mut next.group, &mut cx, &mut next.writes, &mut shelf);
        next.at = cx.now.mono;
        let facts = next.group.take_facts();
        let mut claims = Vec::new();
        for effect in fx {
            match effect {
                Effect::Persist { seq, records } => {
                    let hard = records.iter().rev().find_map(|record| match record {
                        Record::Hard(_, hard) => Some(hard.clone()),
                        _ => None,
                    });
                    let last = next.unsynced.last().map_or(&next.durable, |(_, hard)| hard).clone();
                    next.unsynced.push((seq, hard.unwrap_or(last)));
                }
                Effect::Notice(Notice::BecameLeader { term, .. }) => claims.push(Claim::Leads(term)),
                Effect::Notice(Notice::Committed { position, term, .. }) => {
                    claims.push(Claim::Committed { position, term });
                }
                Effect::Notice(Notice::Raised { .. }) => claims.push(Claim::Raised),
                _ => {}
            }
        }
        let sent = facts.into_iter().flat_map(addressed).filter_map(|fact| route(cast, next.place, fact)).collect();
        Deed { member: next, sent, claims }
    }
}

/// A question for several is one for each.
fn addressed(fact: Fact) -> Vec<Fact> {
    match fact {
        Fact::Ask { to, message } => to.into_iter().map(|to| Fact::Send { to, message: message.clone() }).collect(),
        other => vec![other],
    }
}

fn route(cast: &mut Cast, place: u8, fact: Fact) -> Option<u32> {
    match fact {
        Fact::Send { to, message } => {
            let to = cast.place(&to)?;
            let message = match message {
                // Rounds and the leader's patience are not modelled; pre-votes are granted without asking.
                Message::HeartbeatAck(_) => return None,
                Message::ElectionRequest(request) if request.pre => return None,
                Message::Heartbeat(mut beat) => {
                    beat.round = Round(0);
                    Message::Heartbeat(beat)
                }
                other => other,
            };
            Some(cast.parcel(to, Load::Message(message)))
        }
        Fact::Fetch { hash, from, .. } => {
            let from = cast.place(&from)?;
            Some(cast.parcel(place, Load::Content { from, hash }))
        }
        _ => None,
    }
}

fn at(mono: Mono) -> Now {
    Now { mono, wall: Wall::from_millis(1) }
}
