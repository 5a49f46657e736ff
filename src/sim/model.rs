//! The model: every order in which a small group can hear, forget, crash and campaign, walked exhaustively.
//!
//! Drives the shipped [`Group`], not a re-write of it. What is abstracted: time (a node may time out whenever it does
//! not lead), bodies (there are none), heartbeat rounds (no reads), and the archive (a document that was ever made can
//! be fetched from who holds it, and arrives as late as it pleases). What is not: every message may be lost, repeated
//! and overtaken, and every write may be lost by a crash until the disk has answered.
//!
//! Depth-first over all states within [`Bounds`]. A state is known by a 64-bit fingerprint of all that the group's
//! future depends on: at ten million states two are taken for one with a probability of about 3e-6.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::core::consensus::{Fact, Group, Holdings, Snapshot};
use crate::core::cx::Cx;
use crate::core::effect::Effect;
use crate::core::hard_state::{HardState, Record};
use crate::core::hlc::{Hlc, Stamp};
use crate::core::id::{GroupId, Hash, Index, NodeId, PersistSeq, RegionId, Round, StoreId, Term, Voter};
use crate::core::ledger::document::{Counts, Document};
use crate::core::message::Message;
use crate::core::notice::Notice;
use crate::core::params::ConsensusParams;
use crate::core::rng::Rng;
use crate::core::time::{Mono, Now, Wall};
use crate::core::writes::Writes;

/// How far the walk goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Voters of the genesis.
    pub voters: usize,
    /// No campaign beyond this term.
    pub terms: u64,
    /// No proposal beyond this index.
    pub checkpoints: u64,
    /// Crashes on one path.
    pub crashes: u32,
    /// Messages delivered twice on one path.
    pub repeats: u32,
    /// Voters taken out on one path.
    pub removals: u32,
    /// Messages in flight at a time; beyond, the oldest is lost.
    pub in_flight: usize,
    /// Steps on one path.
    pub depth: usize,
    /// States after which the walk stops, complete or not.
    pub states: u64,
}

/// What a walk has found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Different states seen.
    pub states: u64,
    /// Steps taken.
    pub steps: u64,
    /// Longest path.
    pub depth: usize,
    /// True if every state within the bounds was seen.
    pub complete: bool,
    /// Elections, commits and removals seen, so that nobody mistakes an idle walk for a proof.
    pub reached: BTreeMap<&'static str, u64>,
    /// The first property that broke, with the path to it.
    pub violation: Option<(String, Vec<String>)>,
}

/// What one node has at hand of all documents ever made.
struct Shelf<'a> {
    library: &'a mut BTreeMap<Hash, Document>,
    held: &'a mut BTreeSet<Hash>,
}

impl Holdings for Shelf<'_> {
    fn document(&self, hash: &Hash) -> Option<Document> {
        self.held.contains(hash).then(|| self.library.get(hash).cloned()).flatten()
    }

    fn has_body(&self, _hash: &Hash) -> bool {
        true
    }

    fn adopt(&mut self, document: &Document) -> Vec<Record> {
        self.library.insert(document.hash(), document.clone());
        self.held.insert(document.hash());
        Vec::new()
    }
}

#[derive(Clone)]
struct Member {
    group: Group,
    writes: Writes,
    held: BTreeSet<Hash>,
    durable: HardState,
    unsynced: Vec<(PersistSeq, HardState)>,
    print: u64,
}

/// Something on its way, and its fingerprint.
#[derive(Clone)]
struct Parcel {
    print: u64,
    to: usize,
    load: Arc<Load>,
}

enum Load {
    Message(Message),
    Content { from: usize, hash: Hash },
}

#[derive(Clone)]
struct State {
    members: Vec<Arc<Member>>,
    flight: Vec<Parcel>,
    crashes: u32,
    repeats: u32,
    removals: u32,
    history: Arc<History>,
    /// Not part of the fingerprint.
    clock: Mono,
}

/// What must stay true of the past.
#[derive(Clone, Default)]
struct History {
    committed: BTreeMap<Index, Hash>,
    leaders: BTreeMap<Term, usize>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Deliver { parcel: usize, again: bool },
    Timeout(usize),
    Checkpoint(usize),
    Remove { leader: usize, voter: usize },
    Sync(usize),
    Crash(usize),
}

/// Walks everything within the bounds.
pub fn walk(bounds: &Bounds) -> Report {
    let mut walk = Walk::new(bounds);
    walk.run();
    walk.report
}

struct Walk<'a> {
    bounds: &'a Bounds,
    ids: Vec<Voter>,
    library: BTreeMap<Hash, Document>,
    seen: BTreeSet<u64>,
    report: Report,
}

/// Every step comes later than any timeout after the one before: whoever is asked has not heard a leader lately.
const STEP: Duration = Duration::from_micros(10);
const TIMEOUT: Duration = Duration::from_micros(1);

fn at(mono: Mono) -> Now {
    Now { mono, wall: Wall::from_millis(1) }
}

fn main_group() -> GroupId {
    GroupId::Region(RegionId::new("main").expect("a good name"))
}

impl<'a> Walk<'a> {
    fn new(bounds: &'a Bounds) -> Self {
        let id =
            |i: usize| Voter { node: NodeId::new(&format!("n{i}")).expect("a good name"), store: StoreId(i as u128) };
        let ids = (0..bounds.voters).map(id).collect();
        Self { bounds, ids, library: BTreeMap::new(), seen: BTreeSet::new(), report: Report::default() }
    }

    fn run(&mut self) {
        let mut stack = vec![(self.first(), Vec::new())];
        self.report.complete = true;
        while let Some((state, path)) = stack.pop() {
            if self.report.states >= self.bounds.states {
                self.report.complete = false;
                return;
            }
            if path.len() >= self.bounds.depth {
                self.report.complete = false;
                continue;
            }
            for step in self.steps(&state) {
                self.report.steps += 1;
                let mut path = path.clone();
                path.push(step);
                match self.take(&state, step) {
                    Ok(next) => {
                        if self.seen.insert(next.print(self.bounds)) {
                            self.report.states += 1;
                            self.report.depth = self.report.depth.max(path.len());
                            stack.push((next, path));
                        }
                    }
                    Err(broken) => {
                        let told = path.iter().map(|step| format!("{step:?}")).collect();
                        self.report.violation = Some((broken, told));
                        return;
                    }
                }
            }
        }
    }

    fn first(&mut self) -> State {
        let region = RegionId::new("main").expect("a good name");
        let genesis = Document::genesis("model", BTreeMap::from([(region, self.ids.clone())])).expect("voters");
        self.library.insert(genesis.hash(), genesis.clone());
        let durable = HardState::new(genesis.hash());
        let members = (0..self.ids.len()).map(|i| {
            let held = BTreeSet::from([genesis.hash()]);
            Arc::new(self.recovered(i, held, durable.clone()))
        });
        let members = members.collect();
        State {
            members,
            flight: Vec::new(),
            crashes: 0,
            repeats: 0,
            removals: 0,
            history: Arc::default(),
            clock: Mono::ZERO,
        }
    }

    fn recovered(&self, i: usize, held: BTreeSet<Hash>, durable: HardState) -> Member {
        let params = ConsensusParams { election_timeout: TIMEOUT, ..ConsensusParams::default() };
        let accepted = self.library[&durable.accepted.hash].clone();
        let committed = durable.committed.map(|at| self.library[&at.hash].clone());
        let (mut rng, mut fx) = (Rng::new(1), Vec::new());
        let mut cx = Cx { now: at(Mono::ZERO), rng: &mut rng, fx: &mut fx };
        let me = self.ids[i].clone();
        let group = Group::recover(&mut cx, main_group(), me, params, durable.clone(), accepted, committed);
        let mut member = Member { group, writes: Writes::default(), held, durable, unsynced: Vec::new(), print: 0 };
        member.fingerprint();
        member
    }

    fn steps(&self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        for parcel in 0..state.flight.len() {
            steps.push(Step::Deliver { parcel, again: false });
            if state.repeats < self.bounds.repeats {
                steps.push(Step::Deliver { parcel, again: true });
            }
        }
        for (i, member) in state.members.iter().enumerate() {
            let (hard, leads) = (member.group.hard(), member.group.is_leader());
            if leads || hard.term.get() < self.bounds.terms {
                steps.push(Step::Timeout(i));
            }
            if leads && member.group.is_settled() && hard.accepted.index.get() < self.bounds.checkpoints {
                steps.push(Step::Checkpoint(i));
                if state.removals < self.bounds.removals && member.group.voters().len() > 2 {
                    let voters = (0..self.ids.len()).filter(|v| member.group.voters().contains(&self.ids[*v]));
                    steps.extend(voters.map(|voter| Step::Remove { leader: i, voter }));
                }
            }
            if !member.unsynced.is_empty() {
                steps.push(Step::Sync(i));
            }
            if state.crashes < self.bounds.crashes {
                steps.push(Step::Crash(i));
            }
        }
        steps
    }

    fn take(&mut self, state: &State, step: Step) -> Result<State, String> {
        let mut next = state.clone();
        next.clock = next.clock + STEP;
        match step {
            Step::Deliver { parcel, again } => {
                let parcel = match again {
                    true => next.flight[parcel].clone(),
                    false => next.flight.remove(parcel),
                };
                next.repeats += u32::from(again);
                self.act(&mut next, parcel.to, |group, cx, writes, shelf, ids| match &*parcel.load {
                    Load::Message(message) => hear(group, cx, writes, shelf, message),
                    Load::Content { from, hash } => {
                        shelf.held.insert(*hash);
                        group.on_content(cx, writes, shelf, &ids[*from].node);
                    }
                })?;
            }
            Step::Timeout(i) => self.act(&mut next, i, |group, cx, writes, _, _| group.on_deadline(cx, writes))?,
            Step::Checkpoint(i) => self.propose(&mut next, i)?,
            Step::Remove { leader, voter } => {
                next.removals += 1;
                let unwanted = BTreeSet::from([self.ids[voter].node.clone()]);
                self.act(&mut next, leader, |group, cx, _, _, _| group.plan_voters(cx, &[], &unwanted))?;
                self.propose(&mut next, leader)?;
                *self.report.reached.entry("removals").or_default() += 1;
            }
            Step::Sync(i) => {
                let member = Arc::make_mut(&mut next.members[i]);
                let (seq, hard) = member.unsynced.remove(0);
                member.durable = hard;
                self.act(&mut next, i, |group, cx, writes, _, _| {
                    writes.on_persisted(seq);
                    group.on_persisted(cx, writes);
                })?;
            }
            Step::Crash(i) => {
                next.crashes += 1;
                let old = &next.members[i];
                next.members[i] = Arc::new(self.recovered(i, old.held.clone(), old.durable.clone()));
            }
        }
        Ok(next)
    }

    fn propose(&mut self, next: &mut State, i: usize) -> Result<(), String> {
        let hard = next.members[i].group.hard();
        // Different leaders and terms make different documents.
        let time = Hlc::new(Wall::from_millis(hard.accepted.index.get() + 1), hard.term.get() as u16);
        let taken_at = Stamp { time, node: self.ids[i].node.clone() };
        self.act(next, i, |group, cx, writes, shelf, _| {
            let body = Hash::of(b"no body");
            group.propose(cx, writes, shelf, Snapshot { taken_at, counts: Counts::default(), body, fused: None });
        })
    }

    /// Lets a group act, and takes note of what it writes, says and claims.
    fn act(
        &mut self,
        next: &mut State,
        i: usize,
        act: impl FnOnce(&mut Group, &mut Cx<'_>, &mut Writes, &mut Shelf<'_>, &[Voter]),
    ) -> Result<(), String> {
        let (mut rng, mut fx) = (Rng::new(1), Vec::new());
        let member = Arc::make_mut(&mut next.members[i]);
        let mut cx = Cx { now: at(next.clock), rng: &mut rng, fx: &mut fx };
        let mut shelf = Shelf { library: &mut self.library, held: &mut member.held };
        act(&mut member.group, &mut cx, &mut member.writes, &mut shelf, &self.ids);
        let facts = member.group.take_facts();
        let mut claims = Vec::new();
        for effect in fx {
            match effect {
                Effect::Persist { seq, records } => {
                    let hard = records.iter().rev().find_map(|record| match record {
                        Record::Hard(_, hard) => Some(hard.clone()),
                        _ => None,
                    });
                    let last = member.unsynced.last().map_or(&member.durable, |(_, hard)| hard).clone();
                    member.unsynced.push((seq, hard.unwrap_or(last)));
                }
                Effect::Notice(notice) => claims.push(notice),
                _ => {}
            }
        }
        member.fingerprint();
        for notice in claims {
            self.judge(next, i, &notice)?;
        }
        for fact in facts {
            self.route(next, i, fact);
        }
        Ok(())
    }

    fn judge(&mut self, next: &mut State, i: usize, notice: &Notice) -> Result<(), String> {
        match notice {
            Notice::BecameLeader { term, .. } => {
                let first = *Arc::make_mut(&mut next.history).leaders.entry(*term).or_insert(i);
                *self.report.reached.entry("elections").or_default() += 1;
                // The same node may win a term twice only if it forgot that it had: its vote is durable.
                if first != i {
                    return Err(format!("n{first} and n{i} lead in term {term}"));
                }
            }
            Notice::Committed { position, .. } => {
                let history = Arc::make_mut(&mut next.history);
                let first = *history.committed.entry(position.index).or_insert(position.hash);
                *self.report.reached.entry("commits").or_default() += 1;
                if first != position.hash {
                    return Err(format!("{first:?} and {:?} are committed at {}", position.hash, position.index));
                }
                let parent = self.library[&position.hash].header().parent;
                let before = position.index.get().checked_sub(1).and_then(|b| history.committed.get(&Index(b)));
                if before.is_some_and(|before| parent != Some(*before)) {
                    return Err(format!("{} does not follow what is committed before it", position.index));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn route(&mut self, next: &mut State, i: usize, fact: Fact) {
        let place = |node: &NodeId, ids: &[Voter]| ids.iter().position(|voter| voter.node == *node);
        let parcel = match fact {
            Fact::Send { to, message } => {
                let Some(to) = place(&to, &self.ids) else { return };
                let message = match message {
                    // Reads and the leader's patience are not modelled: neither are rounds.
                    Message::HeartbeatAck(_) => return,
                    Message::Heartbeat(mut beat) => {
                        beat.round = Round(0);
                        Message::Heartbeat(beat)
                    }
                    other => other,
                };
                let mut bytes = vec![to as u8];
                message.encode(&mut bytes);
                Parcel { print: xxh3_64(&bytes), to, load: Arc::new(Load::Message(message)) }
            }
            Fact::Fetch { hash, from, .. } => {
                let Some(from) = place(&from, &self.ids) else { return };
                let bytes = [&[i as u8, from as u8][..], hash.as_bytes()].concat();
                Parcel { print: xxh3_64(&bytes), to: i, load: Arc::new(Load::Content { from, hash }) }
            }
            _ => return,
        };
        // The same thing twice in flight is a repetition, and those are counted.
        if next.flight.iter().all(|other| other.print != parcel.print) {
            next.flight.push(parcel);
            if next.flight.len() > self.bounds.in_flight {
                next.flight.remove(0);
            }
        }
    }
}

fn hear(group: &mut Group, cx: &mut Cx<'_>, writes: &mut Writes, shelf: &mut Shelf<'_>, message: &Message) {
    match message {
        Message::Heartbeat(m) => group.on_heartbeat(cx, writes, shelf, m),
        Message::ElectionRequest(m) => group.on_election_request(cx, writes, m),
        Message::ElectionVote(m) => group.on_election_vote(cx, writes, shelf, m),
        Message::CheckpointPropose(m) => group.on_checkpoint_propose(cx, writes, shelf, m),
        Message::CheckpointAck(m) => group.on_checkpoint_ack(cx, writes, m),
        _ => {}
    }
}

impl Member {
    fn fingerprint(&mut self) {
        let mut text = self.group.portrait(&self.writes);
        text.push_str(&format!("{:?}{:?}", self.durable, self.held));
        for (_, hard) in &self.unsynced {
            text.push_str(&format!("{hard:?}"));
        }
        self.print = xxh3_64(text.as_bytes());
    }
}

impl State {
    fn print(&self, bounds: &Bounds) -> u64 {
        let mut bytes = Vec::with_capacity(256);
        self.members.iter().for_each(|member| bytes.extend(member.print.to_le_bytes()));
        // Whoever is in flight longest is lost first only where room is short: else order means nothing.
        let mut flight: Vec<u64> = self.flight.iter().map(|parcel| parcel.print).collect();
        if self.flight.len() < bounds.in_flight {
            flight.sort_unstable();
        }
        flight.iter().for_each(|print| bytes.extend(print.to_le_bytes()));
        for count in [self.crashes, self.repeats, self.removals] {
            bytes.extend(count.to_le_bytes());
        }
        self.history.committed.values().for_each(|hash| bytes.extend(hash.as_bytes()));
        self.history.leaders.iter().for_each(|(term, i)| bytes.extend([term.get() as u8, *i as u8]));
        xxh3_64(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Bounds {
        Bounds {
            voters: 3,
            terms: 1,
            checkpoints: 1,
            crashes: 0,
            repeats: 0,
            removals: 0,
            in_flight: 8,
            depth: 200,
            states: 150_000,
        }
    }

    #[test]
    fn nothing_breaks_in_a_small_world_and_commits_are_reached() {
        let report = walk(&small());
        assert_eq!(report.violation, None);
        assert!(report.states >= 150_000 && report.reached.get("commits") > Some(&100), "{report:?}");
    }

    #[test]
    fn rivals_and_crashes_elect_one_leader_a_term() {
        let report = walk(&Bounds { terms: 2, crashes: 1, in_flight: 4, states: 40_000, ..small() });
        assert_eq!(report.violation, None);
        assert!(report.reached.get("elections") > Some(&50), "{report:?}");
    }
}
