//! One node of the model: a group, its writes, and what of them is durable.
//!
//! At the top it is the shipped [`Hierarchy`] around the group. What a relay remembers is let go after every step, as it
//! may be by age or a crash; a question may be passed on at any time, by a relay that leads its region no more as well.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::consensus::{Contents, Fact, Group, Holdings, Member as Candidate, Snapshot};
use crate::core::cx::Cx;
use crate::core::effect::Effect;
use crate::core::hard_state::{HardState, Position, Record};
use crate::core::hierarchy::{self, Hierarchy};
use crate::core::hlc::{Hlc, Stamp};
use crate::core::id::{GroupId, Hash, NodeId, PersistSeq, Round, StoreId, Term, Voter};
use crate::core::ledger::document::{Counts, Document};
use crate::core::message::Message;
use crate::core::message::agreement::{ElectionVote, Heartbeat, HeartbeatAck, Refusal};
use crate::core::message::relay::{Carried, Relay, RelayAnswer};
use crate::core::notice::Notice;
use crate::core::params::ConsensusParams;
use crate::core::rng::Rng;
use crate::core::time::{Mono, Now, Wall};
use crate::core::view::Role;
use crate::core::writes::Writes;
use crate::sim::model::cast::{Cast, Load, Prints};

/// Every step comes later than any timeout after the one before: whoever is asked has not heard a leader lately.
const STEP: Duration = Duration::from_micros(10);
const TIMEOUT: Duration = Duration::from_micros(1);

/// Longer than a relay waits for the rest of a region.
const RELAY_PATIENCE: Duration = Duration::from_millis(250);
/// Every question has the same number: which one an answer is to does not matter, it says so itself.
const SEQ: u64 = 1;

/// What a node runs.
#[derive(Clone)]
enum Seat {
    Region(Box<Group>),
    Top(Box<Hierarchy>),
}

/// A node as it stands.
#[derive(Clone)]
pub struct Member {
    /// Its place.
    pub place: u8,
    seat: Seat,
    /// Whether it leads its region, and so may campaign (H1).
    pub leads: bool,
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

impl Seat {
    fn group_mut(&mut self) -> &mut Group {
        match self {
            Self::Region(group) => group,
            Self::Top(hierarchy) => hierarchy.group_mut(),
        }
    }

    /// What it wants sent or fetched. A relay does not wait for the rest of its region: they may be silent.
    fn take_facts(&mut self, now: Mono) -> Vec<Fact> {
        match self {
            Self::Region(group) => group.take_facts(),
            Self::Top(hierarchy) => {
                let mut facts = hierarchy.take_facts(&|_| true);
                hierarchy.pass_back_due(now + RELAY_PATIENCE);
                facts.extend(hierarchy.take_facts(&|_| true));
                let sent = |fact| match fact {
                    hierarchy::Fact::Send { to, message } => Fact::Send { to, message },
                    hierarchy::Fact::Group(fact) => fact,
                };
                facts.into_iter().map(sent).collect()
            }
        }
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
        let group = Group::recover(&mut cx, cast.group.clone(), me, params, durable.clone(), accepted, committed);
        let seat = match cast.group {
            GroupId::Region(_) => Seat::Region(Box::new(group)),
            GroupId::Top => Seat::Top(Box::new(Hierarchy::around(cast.region_of(place), group))),
        };
        let leads = !cast.is_top();
        Self { place, seat, leads, durable, unsynced: Vec::new(), writes: Writes::default(), at: Mono::ZERO }
    }

    /// The group.
    pub fn group(&self) -> &Group {
        match &self.seat {
            Seat::Region(group) => group,
            Seat::Top(hierarchy) => hierarchy.group(),
        }
    }

    /// Nothing is on its way through this node any more.
    pub fn settle(&mut self, cast: &Cast) {
        if let Seat::Top(hierarchy) = &mut self.seat {
            **hierarchy = Hierarchy::around(cast.region_of(self.place), hierarchy.group().clone());
        }
    }

    /// It becomes its region's leader, or is one no more.
    pub fn lead_region(&self, cast: &mut Cast, leads: bool) -> Deed {
        let mut next = self.clone();
        next.leads = leads;
        next.act(cast, None, |seat, cx, _, _| {
            if let Seat::Top(hierarchy) = seat {
                hierarchy.set_leading(cx, leads, Term(1));
            }
        })
    }

    /// Fingerprints of all that its future depends on.
    pub fn portray(&self, cast: &Cast) -> Prints {
        let mut pen = cast.pen();
        self.group().portray(&self.writes, &mut pen);
        pen.hard(&self.durable);
        self.unsynced.iter().for_each(|(_, hard)| pen.hard(hard));
        cast.prints(&pen.words, &pen.bag)
    }

    /// Whether hearing this can still change anything here, now or after a crash: all else need not be told apart.
    /// Answers to what is stale are taken for lost; whoever is behind hears of newer terms from those who lead them.
    pub fn minds(&self, load: &Load) -> bool {
        let (hard, durable) = (self.group().hard(), &self.durable);
        let message = match load {
            Load::Message(message) | Load::Relayed { message, .. } | Load::Answer { message, .. } => message,
            Load::Content { hash, .. } => return self.group().awaits(hash),
        };
        match message {
            // One that teaches nothing does no more than the proposal that was sent with it.
            Message::Heartbeat(m) => m.term >= durable.term && m.committed > durable.committed,
            Message::ElectionRequest(m) => {
                m.term > durable.term || (m.term == durable.term && durable.voted_for.is_none())
            }
            Message::ElectionVote(m) if m.granted => self.group().role() == Role::Candidate && m.term == hard.term,
            Message::ElectionVote(m) => {
                let newer = m.accepted.pair() > durable.accepted.pair();
                m.term > durable.term || (m.reason == Some(Refusal::Behind) && newer)
            }
            Message::CheckpointPropose(m) => m.term >= durable.term,
            Message::CheckpointAck(m) if m.accepted => {
                let open = self.group().is_leader() && !self.group().is_settled();
                open && m.term == hard.term && m.hash == hard.accepted.hash
            }
            Message::CheckpointAck(m) => m.term > durable.term,
            _ => false,
        }
    }

    /// Hears what was sent to it.
    pub fn hear(&self, cast: &mut Cast, parcel: u32) -> Deed {
        match &cast.parcels[parcel as usize].load {
            Load::Message(message) => {
                let message = message.clone();
                self.act(cast, None, |seat, cx, writes, shelf| heed(seat, cx, writes, shelf, &message))
            }
            Load::Relayed { asker, message } => {
                let (asker, message) = (*asker, message.clone());
                self.hear_relayed(cast, asker, message)
            }
            Load::Answer { via, message } => {
                let via = cast.voters[*via as usize].clone();
                let asker = self.group().me().node.clone();
                let answer = answer_of(cast, self.place, asker, vec![Carried::new(message.clone())]);
                self.act(cast, None, |seat, cx, writes, shelf| {
                    let Seat::Top(hierarchy) = seat else { return };
                    for message in hierarchy.on_relay_answer(cx.now.mono, &via, answer) {
                        hierarchy.hear(cx, writes, shelf, &message);
                    }
                })
            }
            Load::Content { from, hash } => {
                let (from, hash) = (cast.voters[*from as usize].node.clone(), *hash);
                self.act(cast, Some(hash), |seat, cx, writes, shelf| {
                    seat.group_mut().on_content(cx, writes, shelf, &from);
                })
            }
        }
    }

    /// Hears another region's question through a relay: itself if it is the first or second of its region, else
    /// through the first. What the relay does with it is the shipped relay's work.
    fn hear_relayed(&self, cast: &mut Cast, asker: u8, message: Message) -> Deed {
        let all = cast.neighbours(self.place).map(|place| cast.voters[place as usize].node.clone()).collect();
        let asker = cast.voters[asker as usize].clone();
        let question = Relay { asker: asker.node.clone(), seq: SEQ, to: all, message: Carried::new(message) };
        let via = relay_of(cast, self.place);
        let (from, question) = match via == self.place {
            true => (asker, question),
            false => {
                let mut relay = relay_at(cast, via);
                relay.on_relay(Mono::ZERO, &asker, &question, &|_| true);
                let me = &self.group().me().node;
                let passed = relay.take_facts(&|_| true).into_iter().find_map(|fact| match fact {
                    hierarchy::Fact::Send { to, message: Message::Relay(relay) } if to == *me => Some(relay),
                    _ => None,
                });
                let Some(passed) = passed else { return Deed { member: self.clone(), sent: vec![], claims: vec![] } };
                (cast.voters[via as usize].clone(), passed)
            }
        };
        self.act(cast, None, |seat, cx, writes, shelf| {
            let Seat::Top(hierarchy) = seat else { return };
            if let Some(message) = hierarchy.on_relay(cx.now.mono, &from, &question, &|_| true) {
                hierarchy.hear(cx, writes, shelf, &message);
            }
        })
    }

    /// Its patience ends: it leads no more if it did, and campaigns. Everybody grants the pre-vote, for it binds nobody:
    /// a campaign must do no harm whenever it comes.
    pub fn time_out(&self, cast: &mut Cast) -> Deed {
        let id = cast.group.clone();
        self.act(cast, None, |seat, cx, writes, shelf| {
            let group = seat.group_mut();
            if group.is_leader() {
                group.on_deadline(cx, writes);
                cx.now = at(cx.now.mono + STEP);
            }
            group.on_deadline(cx, writes);
            let (term, me) = (group.hard().term.next(), group.me().clone());
            for voter in group.voters().iter().filter(|voter| **voter != me) {
                let (voter, accepted) = (voter.clone(), group.hard().accepted);
                let (group_id, reason) = (id.clone(), None);
                let vote = ElectionVote { group: group_id, term, voter, pre: true, granted: true, reason, accepted };
                group.on_election_vote(cx, writes, shelf, &vote);
            }
        })
    }

    /// Proposes the next checkpoint.
    pub fn propose(&self, cast: &mut Cast) -> Deed {
        let snapshot = self.snapshot();
        self.act(cast, None, |seat, cx, writes, shelf| seat.group_mut().propose(cx, writes, shelf, snapshot))
    }

    fn snapshot(&self) -> Snapshot {
        let hard = self.group().hard();
        // Different leaders and terms make different documents.
        let time = Hlc::new(Wall::from_millis(hard.accepted.index.get() + 1), hard.term.get() as u16);
        let taken_at = Stamp { time, node: self.group().me().node.clone() };
        let contents = match self.seat {
            Seat::Region(_) => Contents::Readings { body: Hash::of(b"no body"), fused: None, founds_top: false },
            Seat::Top(_) => Contents::Regions { regions: BTreeMap::new(), fused: None },
        };
        Snapshot { taken_at, counts: Counts::default(), contents }
    }

    /// Proposes a checkpoint without this voter. All may have answered just before, and be gone now.
    pub fn remove(&self, cast: &mut Cast, voter: u8) -> Deed {
        let unwanted = BTreeSet::from([cast.voters[voter as usize].node.clone()]);
        let others = cast.voters.iter().enumerate().filter(|(place, _)| *place != self.place as usize);
        let answers: Vec<HeartbeatAck> = others.map(|(_, voter)| self.answer(cast, voter, None)).collect();
        let snapshot = self.snapshot();
        self.act(cast, None, |seat, cx, writes, shelf| {
            let group = seat.group_mut();
            answers.iter().for_each(|ack| group.on_heartbeat_ack(cx, writes, ack));
            group.plan_voters(cx, &[], &unwanted);
            group.propose(cx, writes, shelf, snapshot);
        })
    }

    /// An answer to this leader's heartbeat.
    fn answer(&self, cast: &Cast, voter: &Voter, holds: Option<Position>) -> HeartbeatAck {
        let (group, term) = (cast.group.clone(), self.group().hard().term);
        HeartbeatAck { group, term, round: Round(0), voter: voter.clone(), holds }
    }

    /// Wants `newcomer` to vote: speaks to it, or, if it holds what is committed and a quorum answers, proposes it.
    /// `answers` are those who follow this leader, with what they hold.
    pub fn add(&self, cast: &mut Cast, newcomer: u8, answers: &[(u8, Option<Position>)]) -> (Deed, bool) {
        let member = |voter: &Voter| Candidate { voter: voter.clone(), alive: true, since: Duration::from_secs(1) };
        let other = Voter { node: NodeId::new("n9").expect("a good name"), store: StoreId(9) };
        let newcomer = cast.voters[newcomer as usize].clone();
        // Voters are added in twos; the second one stays away.
        let members = [member(&newcomer), member(&other)];
        let answers: Vec<HeartbeatAck> =
            answers.iter().map(|(place, holds)| self.answer(cast, &cast.voters[*place as usize], *holds)).collect();
        let snapshot = self.snapshot();
        let mut proposed = false;
        let deed = self.act(cast, None, |seat, cx, writes, shelf| {
            let group = seat.group_mut();
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
        next.act(cast, None, |seat, cx, writes, _| {
            writes.on_persisted(seq);
            seat.group_mut().on_persisted(cx, writes);
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
        act: impl FnOnce(&mut Seat, &mut Cx<'_>, &mut Writes, &mut Shelf<'_>),
    ) -> Deed {
        let mut next = self.clone();
        let (mut rng, mut fx) = (Rng::new(1), Vec::new());
        let mut cx = Cx { now: at(next.at + STEP), rng: &mut rng, fx: &mut fx };
        let group = next.group();
        let own = [Some(group.accepted().hash()), group.committed().map(Document::hash), come];
        let mut shelf = Shelf { cast, held: own.into_iter().flatten().collect() };
        act(&mut next.seat, &mut cx, &mut next.writes, &mut shelf);
        next.at = cx.now.mono;
        let facts = next.seat.take_facts(next.at);
        // The relay has waited: it waits anew from here on.
        next.at = next.at + RELAY_PATIENCE * 2;
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
        let sent = facts.into_iter().flat_map(addressed).flat_map(|fact| route(cast, next.place, fact)).collect();
        Deed { member: next, sent, claims }
    }
}

/// Gives the group what was said on a direct link.
fn heed(seat: &mut Seat, cx: &mut Cx<'_>, writes: &mut Writes, shelf: &mut Shelf<'_>, message: &Message) {
    let group = match seat {
        Seat::Region(group) => group,
        Seat::Top(hierarchy) => return hierarchy.hear(cx, writes, shelf, message),
    };
    match message {
        Message::Heartbeat(m) => group.on_heartbeat(cx, writes, shelf, m),
        Message::ElectionRequest(m) => group.on_election_request(cx, writes, m),
        Message::ElectionVote(m) => group.on_election_vote(cx, writes, shelf, m),
        Message::CheckpointPropose(m) => group.on_checkpoint_propose(cx, writes, shelf, m),
        Message::CheckpointAck(m) => group.on_checkpoint_ack(cx, writes, m),
        _ => {}
    }
}

/// A question for several is one for each.
fn addressed(fact: Fact) -> Vec<Fact> {
    match fact {
        Fact::Ask { to, message } => to.into_iter().map(|to| Fact::Send { to, message: message.clone() }).collect(),
        other => vec![other],
    }
}

/// What becomes of what a node wants sent: parcels, if the model has any use for it.
fn route(cast: &mut Cast, place: u8, fact: Fact) -> Vec<u32> {
    match fact {
        // Passed on for somebody else: whoever is named has a parcel of its own already.
        Fact::Send { message: Message::Relay(relay), .. } if relay.asker != cast.voters[place as usize].node => {
            Vec::new()
        }
        Fact::Send { message: Message::Relay(relay), .. } => {
            // One for each who is asked. Who relays it is settled when it is heard.
            let Some(message) = told(*relay.message.0) else { return Vec::new() };
            let to: Vec<u8> = relay.to.iter().filter_map(|to| cast.place(to)).collect();
            let asker = cast.place(&relay.asker).unwrap_or(place);
            let one = |to| cast.parcel(to, Load::Relayed { asker, message: message.clone() });
            to.into_iter().map(one).collect()
        }
        Fact::Send { to, message: Message::RelayAnswer(answer) } => {
            let Some(asker) = cast.place(&answer.asker) else { return Vec::new() };
            let answers = match to == answer.asker {
                true => answer.answers,
                false => brought_back(cast, place, &to, asker, answer),
            };
            let messages = answers.into_iter().filter_map(|carried| told(*carried.0));
            let via = relay_of(cast, place);
            messages.map(|message| cast.parcel(asker, Load::Answer { via, message })).collect()
        }
        Fact::Send { to, message } => {
            let to = cast.place(&to).zip(told(message));
            to.map(|(to, message)| cast.parcel(to, Load::Message(message))).into_iter().collect()
        }
        Fact::Fetch { hash, from, .. } => {
            let from = cast.place(&from);
            from.map(|from| cast.parcel(place, Load::Content { from, hash })).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// A message as the model keeps it: rounds and the leader's patience are not modelled; pre-votes are granted without
/// asking.
fn told(message: Message) -> Option<Message> {
    match message {
        Message::HeartbeatAck(_) => None,
        Message::ElectionRequest(request) if request.pre => None,
        Message::Heartbeat(beat) => Some(Message::Heartbeat(Heartbeat { round: Round(0), ..beat })),
        other => Some(other),
    }
}

/// Through whom a node hears other regions: the first two of a region are its leaders at times, and relay themselves.
fn relay_of(cast: &Cast, place: u8) -> u8 {
    let first = cast.neighbours(place).start;
    if place <= first + 1 { place } else { first }
}

/// A relay that has just begun. It holds no acceptor state, so any serves.
fn relay_at(cast: &Cast, place: u8) -> Hierarchy {
    match Member::recover(cast, place, HardState::new(cast.first())).seat {
        Seat::Top(hierarchy) => *hierarchy,
        Seat::Region(_) => unreachable!("only the top relays"),
    }
}

/// What a relay makes of a voter's answer: it passes the question, gathers, and brings back what it has.
fn brought_back(cast: &Cast, voter: u8, relay: &NodeId, asker: u8, answer: RelayAnswer) -> Vec<Carried> {
    let (voter, asker) = (&cast.voters[voter as usize], &cast.voters[asker as usize]);
    let via = cast.place(relay).expect("whoever relays takes part");
    let mut relay = relay_at(cast, via);
    let beat = Heartbeat {
        group: cast.group.clone(),
        term: Term(1),
        leader: asker.node.clone(),
        round: Round(0),
        committed: None,
    };
    let message = Carried::new(Message::Heartbeat(beat));
    let to = cast.neighbours(via).map(|place| cast.voters[place as usize].node.clone()).collect();
    let question = Relay { asker: asker.node.clone(), seq: SEQ, to, message };
    relay.on_relay(Mono::ZERO, asker, &question, &|_| true);
    relay.on_relay_answer(Mono::ZERO, voter, answer);
    relay.pass_back_due(Mono::ZERO + RELAY_PATIENCE);
    relay
        .take_facts(&|_| true)
        .into_iter()
        .filter_map(|fact| match fact {
            hierarchy::Fact::Send { to, message: Message::RelayAnswer(answer) } if to == asker.node => {
                Some(answer.answers)
            }
            _ => None,
        })
        .flatten()
        .collect()
}

fn answer_of(cast: &Cast, place: u8, asker: NodeId, answers: Vec<Carried>) -> RelayAnswer {
    RelayAnswer { asker, seq: SEQ, region: cast.region_of(place), region_term: Term(1), answers }
}

fn at(mono: Mono) -> Now {
    Now { mono, wall: Wall::from_millis(1) }
}
