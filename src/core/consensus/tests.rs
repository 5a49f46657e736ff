//! Rules that whole nodes show only by chance: one group, fed by hand.

use std::time::Duration;

use super::*;
use crate::core::effect::Effect;
use crate::core::hlc::Stamp;
use crate::core::id::{Index, RegionId, StoreId};
use crate::core::ledger::document::Counts;
use crate::core::message::agreement::{
    CheckpointAck, CheckpointPropose, ElectionRequest, ElectionVote, Heartbeat, HeartbeatAck, Refusal,
};
use crate::core::rng::Rng;
use crate::core::time::{Now, Wall};

const PATIENCE: Duration = Duration::from_secs(30);

/// All documents there are: everybody holds them.
#[derive(Default)]
struct Shelf(Vec<Document>);

impl Holdings for Shelf {
    fn document(&self, hash: &Hash) -> Option<Document> {
        self.0.iter().find(|document| document.hash() == *hash).cloned()
    }

    fn has_body(&self, _hash: &Hash) -> bool {
        true
    }

    fn adopt(&mut self, document: &Document) -> Vec<Record> {
        self.0.push(document.clone());
        Vec::new()
    }
}

/// One node's group of the region `main`, on a disk that answers at once.
struct Desk {
    group: Group,
    writes: Writes,
    shelf: Shelf,
    rng: Rng,
    now: Mono,
    notices: Vec<Notice>,
    facts: Vec<Fact>,
}

fn main() -> RegionId {
    RegionId::new("main").unwrap()
}

/// A node named by a letter, on its first store.
fn voter(name: char) -> Voter {
    stored(name, 1)
}

fn stored(name: char, store: u128) -> Voter {
    Voter { node: NodeId::new(&name.to_string()).unwrap(), store: StoreId(store) }
}

fn voters(names: &str) -> Voters {
    Voters::of_region(main(), names.chars().map(voter)).unwrap()
}

impl Desk {
    fn new(me: char, names: &str) -> Self {
        let genesis = Document::genesis("lab", BTreeMap::from([(main(), names.chars().map(voter).collect())])).unwrap();
        let (hard, params) = (HardState::new(genesis.hash()), ConsensusParams::default());
        let (mut rng, mut fx) = (Rng::new(1), Vec::new());
        let now = Now { mono: Mono::ZERO, wall: Wall::from_millis(1) };
        let mut cx = Cx { now, rng: &mut rng, fx: &mut fx };
        let id = GroupId::Region(main());
        let group = Group::recover(&mut cx, id, voter(me), params, hard, genesis.clone(), None);
        let (writes, shelf) = (Writes::default(), Shelf(vec![genesis]));
        Self { group, writes, shelf, rng, now: Mono::ZERO, notices: Vec::new(), facts: Vec::new() }
    }

    fn with(&mut self, act: impl FnOnce(&mut Group, &mut Cx<'_>, &mut Writes, &mut Shelf)) {
        let mut fx = Vec::new();
        let now = Now { mono: self.now, wall: Wall::from_millis(1) };
        let mut cx = Cx { now, rng: &mut self.rng, fx: &mut fx };
        act(&mut self.group, &mut cx, &mut self.writes, &mut self.shelf);
        loop {
            let effects = std::mem::take(cx.fx);
            let newest =
                effects.iter().filter_map(|e| if let Effect::Persist { seq, .. } = e { Some(*seq) } else { None });
            let newest = newest.max();
            self.notices
                .extend(effects.into_iter().filter_map(|e| if let Effect::Notice(n) = e { Some(n) } else { None }));
            let Some(seq) = newest else { break };
            self.writes.on_persisted(seq);
            self.group.on_persisted(&mut cx, &mut self.writes);
        }
        self.facts.extend(self.group.take_facts());
    }

    /// What was asked for since the last look.
    fn fetches(&mut self) -> Vec<Hash> {
        let fetch = |fact| if let Fact::Fetch { hash, .. } = fact { Some(hash) } else { None };
        std::mem::take(&mut self.facts).into_iter().filter_map(fetch).collect()
    }

    /// Types of what was said since the last look.
    fn sent(&mut self) -> Vec<&'static str> {
        let said = |fact| match fact {
            Fact::Send { message, .. } | Fact::Ask { message, .. } => Some(message.type_name()),
            _ => None,
        };
        std::mem::take(&mut self.facts).into_iter().filter_map(said).collect()
    }

    /// What this node has answered.
    fn answer<T>(&self, is: impl Fn(&Message) -> Option<T>) -> T {
        let answer = |fact: &Fact| if let Fact::Send { message, .. } = fact { is(message) } else { None };
        self.facts.iter().find_map(answer).expect("every question is answered")
    }

    fn time_out(&mut self) {
        self.now = self.now.max(self.group.deadline());
        self.with(|group, cx, writes, _| group.on_deadline(cx, writes));
    }

    /// What this node answers to a candidate whose accepted pair is as new as its own.
    fn asked_by(&mut self, candidate: char, term: u64, pre: bool) -> Option<Refusal> {
        let (group, accepted) = (self.group.id().clone(), self.group.hard().accepted);
        let request = ElectionRequest { group, term: Term(term), candidate: voter(candidate), accepted, pre };
        self.facts.clear();
        self.with(|group, cx, writes, _| group.on_election_request(cx, writes, &request));
        let answer = self.answer(|said| if let Message::ElectionVote(vote) = said { Some(vote.clone()) } else { None });
        assert_eq!(answer.granted, answer.reason.is_none());
        answer.reason
    }

    fn vote(&mut self, by: char, pre: bool, granted: bool, reason: Option<Refusal>, accepted: Accepted) {
        let term = if pre { self.group.hard().term.next() } else { self.group.hard().term };
        let group = self.group.id().clone();
        let vote = ElectionVote { group, term, voter: voter(by), pre, granted, reason, accepted };
        self.with(|group, cx, writes, shelf| group.on_election_vote(cx, writes, shelf, &vote));
    }

    /// Wins an election by the vote of this other node.
    fn lead(&mut self, with: char) {
        let accepted = self.group.hard().accepted;
        self.time_out();
        self.vote(with, true, true, None, accepted);
        self.vote(with, false, true, None, accepted);
        assert!(self.group.is_leader());
    }

    /// These nodes accept what is proposed.
    fn accepted_by(&mut self, names: &str) {
        let term = self.group.hard().term;
        names.chars().for_each(|name| self.accepted_in(term, name));
    }

    /// This node tells that it accepted what is proposed when it was proposed in this term.
    fn accepted_in(&mut self, term: Term, name: char) {
        let (group, accepted) = (self.group.id().clone(), self.group.hard().accepted);
        let (index, hash) = (accepted.index, accepted.hash);
        let ack = CheckpointAck { group, term, index, hash, voter: voter(name), accepted: true, reason: None };
        self.with(|group, cx, writes, _| group.on_checkpoint_ack(cx, writes, &ack));
    }

    /// These nodes answer heartbeats, and hold what is committed.
    fn answered_by(&mut self, names: &str, holds: Option<Position>) {
        for name in names.chars() {
            let (group, term) = (self.group.id().clone(), self.group.hard().term);
            let ack = HeartbeatAck { group, term, round: Round(1), voter: voter(name), holds };
            self.with(|group, cx, writes, _| group.on_heartbeat_ack(cx, writes, &ack));
        }
    }

    fn plan(&mut self, members: &[Member]) {
        self.with(|group, cx, _, _| group.plan_voters(cx, members, &BTreeSet::new()));
    }

    /// What this leader has last proposed.
    fn proposal(&self) -> CheckpointPropose {
        let asked = |fact: &Fact| match fact {
            Fact::Ask { message: Message::CheckpointPropose(propose), .. } => Some(propose.clone()),
            _ => None,
        };
        self.facts.iter().rev().find_map(asked).expect("a proposal")
    }

    /// What this node answers to a proposal.
    fn proposed(&mut self, propose: &CheckpointPropose) -> Option<Refusal> {
        self.facts.clear();
        self.with(|group, cx, writes, shelf| group.on_checkpoint_propose(cx, writes, shelf, propose));
        let answer = self.answer(|said| if let Message::CheckpointAck(ack) = said { Some(ack.clone()) } else { None });
        assert_eq!(answer.accepted, answer.reason.is_none());
        answer.reason
    }

    fn propose(&mut self) {
        self.propose_at(1);
    }

    /// Proposes what was taken so many stamps after what is accepted.
    fn propose_at(&mut self, after: usize) {
        let accepted = self.group.accepted().header().taken_at.time;
        let time = (0..after).fold(accepted, |time, _| time.next());
        let taken_at = Stamp { time, node: self.group.me().node.clone() };
        let contents = Contents::Readings { body: Hash::of(b"body"), fused: None, founds_top: false };
        let snapshot = Snapshot { taken_at, counts: Counts::default(), contents };
        self.with(|group, cx, writes, shelf| group.propose(cx, writes, shelf, snapshot));
    }
}

fn alive(name: char) -> Member {
    Member { voter: voter(name), alive: true, since: PATIENCE * 2 }
}

fn dead(name: char, since: Duration) -> Member {
    Member { voter: voter(name), alive: false, since }
}

/// A node that is back on another store.
fn reborn(name: char, since: Duration) -> Member {
    Member { voter: stored(name, 2), alive: true, since }
}

/// Who votes, who is there, whom an operator takes out, what is next, and why.
type Case = (&'static str, Vec<Member>, &'static str, Option<VoterChange>, &'static str);

#[test]
fn voters_come_in_twos_go_when_they_are_lost_and_stay_odd() {
    let add = |name| Some(VoterChange::Add(voter(name)));
    let remove = |name| Some(VoterChange::Remove(voter(name)));
    let short = PATIENCE - Duration::from_micros(1);
    let with = |more: &[Member]| {
        let named = |name: &char| !more.iter().any(|m| m.voter.node == voter(*name).node);
        "abc".chars().filter(named).map(alive).chain(more.iter().cloned()).collect::<Vec<_>>()
    };
    let all = |names: &str| names.chars().map(alive).collect::<Vec<_>>();
    let table: &[Case] = &[
        ("abc", with(&[]), "", None, "nobody else is there"),
        ("abc", with(&[alive('d')]), "", None, "four are no better than three"),
        ("abc", with(&[alive('d'), alive('e')]), "", add('d'), "five are"),
        ("abc", with(&[dead('d', PATIENCE), alive('e')]), "", None, "the dead are no spare"),
        ("abc", with(&[dead('d', short), alive('e'), alive('f')]), "", add('e'), "whoever lives is"),
        ("abc", with(&[alive('d'), alive('e')]), "d", None, "the unwanted are no spare"),
        ("abc", with(&[reborn('c', short), alive('d')]), "", None, "no node votes twice"),
        ("abcd", all("abcd"), "", None, "nobody is there to make it odd"),
        ("abcd", all("abcde"), "", add('e'), "one more makes it odd"),
        ("abcde", all("abcdefg"), "", None, "five are enough"),
        ("abc", with(&[dead('c', PATIENCE)]), "", None, "two are no better than three of which one is lost"),
        (
            "abc",
            with(&[dead('c', PATIENCE), alive('d')]),
            "",
            add('d'),
            "of two none may be lost: who replaces it comes first",
        ),
        ("abcd", [all("abd"), vec![dead('c', PATIENCE)]].concat(), "", remove('c'), "and then it goes"),
        ("abcde", [all("abcdf"), vec![dead('e', PATIENCE)]].concat(), "", remove('e'), "of four one may be lost"),
        ("abc", with(&[reborn('c', PATIENCE), alive('d')]), "", add('d'), "its other self takes no place beside it"),
        ("abc", with(&[dead('c', short), alive('d')]), "", None, "it may come back"),
        ("abcd", [all("abc"), vec![dead('d', PATIENCE)]].concat(), "", remove('d'), "three are better than four"),
        ("abc", with(&[reborn('c', PATIENCE)]), "", remove('c'), "its other self takes its place"),
        ("abc", with(&[reborn('c', short)]), "", None, "the old store may come back"),
        ("abc", all("abc"), "b", remove('b'), "an operator says so"),
        ("a", all("a"), "a", None, "the last one stays"),
    ];
    for (names, members, unwanted, step, why) in table {
        let desk = Desk::new('a', names);
        let unwanted = unwanted.chars().map(|name| voter(name).node).collect();
        assert_eq!(desk.group.next_step(&voters(names), members, &unwanted, |_| true), *step, "{why}");
    }
}

#[test]
fn voters_are_counted_as_nodes_come_and_go() {
    let mut desk = Desk::new('a', "abc");
    desk.lead('b');
    let there: Vec<Member> = "abcde".chars().map(alive).collect();
    desk.plan(&there);
    assert!(!desk.group.is_changing(), "C7: nothing is committed in this term yet");
    desk.accepted_by("b");
    let first = desk.group.hard().committed;
    desk.answered_by("bc", first);
    desk.plan(&there);
    assert!(!desk.group.is_changing(), "the newcomer has not said what it holds");
    desk.answered_by("d", None);
    desk.plan(&there);
    assert!(!desk.group.is_changing(), "and holds nothing");
    desk.answered_by("d", first);
    desk.plan(&there);
    assert!(desk.group.is_changing());
    desk.propose();
    assert_eq!(desk.group.voters(), voters("abcd"), "C7: from when it is accepted");
    desk.accepted_by("b");
    assert!(!desk.group.is_settled(), "two of four are no majority");
    desk.accepted_by("d");
    assert!(desk.group.is_settled());
    let second = desk.group.hard().committed;
    desk.answered_by("bcde", second);
    desk.plan(&there);
    desk.propose();
    desk.accepted_by("bc");
    assert_eq!(desk.group.voters(), voters("abcde"));
    let gone: Vec<Member> =
        "abc".chars().map(alive).chain([dead('d', PATIENCE), dead('e', PATIENCE), alive('f')]).collect();
    desk.plan(&gone);
    desk.propose();
    desk.accepted_by("bc");
    assert_eq!(desk.group.voters(), voters("abce"), "one document, one voter");
}

#[test]
fn a_refused_candidate_asks_for_what_is_newer_than_its_own_and_once() {
    let mut desk = Desk::new('a', "abcde");
    desk.time_out();
    let other = |ballot: u64, index: u64| {
        let hash = Hash::of(&[ballot as u8, index as u8]);
        Accepted { ballot: Term(ballot), index: Index(index), hash }
    };
    let own = desk.group.hard().accepted;
    let mut refused = |by: char, accepted: Accepted| {
        desk.vote(by, true, false, Some(Refusal::Behind), accepted);
        desk.fetches()
    };
    assert_eq!(refused('b', own), [], "as new as ours");
    assert_eq!(refused('b', other(2, 5)), [other(2, 5).hash]);
    assert_eq!(refused('c', other(2, 5)), [], "it is on its way");
    assert_eq!(refused('c', other(2, 4)), [], "older than what is on its way");
    assert_eq!(refused('d', other(2, 6)), [other(2, 6).hash], "C3: the newest is what wins");
    desk.vote('e', true, false, Some(Refusal::HearsLeader), other(9, 9));
    assert_eq!(desk.fetches(), [], "that was not the reason");
}

#[test]
fn a_refused_candidate_takes_what_it_fetched_and_acknowledges_nothing() {
    let (mut desk, mut leader) = (Desk::new('a', "abc"), Desk::new('b', "abc"));
    leader.lead('c');
    leader.propose();
    let newer = leader.group.hard().accepted;
    desk.shelf.0.extend(leader.shelf.0.iter().cloned());
    desk.time_out();
    desk.facts.clear();
    desk.vote('c', true, false, Some(Refusal::Behind), newer);
    assert_eq!(desk.group.hard().accepted, newer, "C3: it campaigns with that from now on");
    // An acknowledgement would count in a ballot whose proposal it never heard, and may have forgone by a vote.
    assert_eq!(desk.sent(), ["ELECTION_REQUEST"]);
}

#[test]
fn a_follower_asks_again_for_what_is_committed_until_it_has_it() {
    let mut desk = Desk::new('a', "abc");
    let heartbeat = |desk: &mut Desk, index: u64| {
        let committed = Some(Position { index: Index(index), hash: Hash::of(&[index as u8]) });
        let (group, leader) = (desk.group.id().clone(), voter('b').node);
        let beat = Heartbeat { group, term: Term(1), leader, round: Round(1), committed };
        desk.with(|group, cx, writes, shelf| group.on_heartbeat(cx, writes, shelf, &beat));
        desk.fetches()
    };
    assert_eq!(heartbeat(&mut desk, 5), [Hash::of(&[5])]);
    assert_eq!(heartbeat(&mut desk, 5), [Hash::of(&[5])], "whoever was asked may be gone");
    assert_eq!(heartbeat(&mut desk, 4), [], "less than what is on its way");
    assert_eq!(heartbeat(&mut desk, 6), [Hash::of(&[6])]);
}

#[test]
fn a_campaign_says_who_timed_out_on_whom_after_how_long() {
    let mut desk = Desk::new('a', "abc");
    let (group, leader) = (desk.group.id().clone(), voter('b').node);
    let beat = Heartbeat { group, term: Term(4), leader: leader.clone(), round: Round(1), committed: None };
    desk.now = desk.now + Duration::from_secs(1);
    desk.with(|group, cx, writes, shelf| group.on_heartbeat(cx, writes, shelf, &beat));
    let heard = desk.now;
    desk.time_out();
    let waited = desk.now.since(heard);
    assert!(waited >= ConsensusParams::default().election_timeout);
    let accepted = desk.group.hard().accepted;
    desk.vote('c', true, true, None, accepted);
    let told = desk.notices.iter().filter_map(|notice| match notice {
        Notice::Campaign { term, leader, silent_for, pre, .. } => Some((*term, leader.clone(), *silent_for, *pre)),
        _ => None,
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told, [(Term(5), Some(leader), waited, true), (Term(5), None, waited, false)]);
}

#[test]
fn a_node_tells_the_part_it_plays() {
    assert_eq!(Desk::new('z', "abc").group.role(), Role::Observer);
    let mut desk = Desk::new('a', "abc");
    assert_eq!(desk.group.role(), Role::Follower);
    desk.time_out();
    assert_eq!(desk.group.role(), Role::Candidate);
    desk.lead('b');
    assert_eq!(desk.group.role(), Role::Leader);
    desk.with(|group, cx, _, _| group.leave(cx));
    assert_eq!(desk.group.role(), Role::Follower);
    assert_eq!(desk.group.deadline(), Mono::NEVER, "it campaigns no more");
}

#[test]
fn a_heartbeat_of_an_older_term_is_answered_with_the_newer_and_not_followed() {
    let mut desk = Desk::new('a', "abc");
    let heard = |desk: &mut Desk, leader: char, term: u64| {
        let (group, leader) = (desk.group.id().clone(), voter(leader).node);
        let beat = Heartbeat { group, term: Term(term), leader, round: Round(1), committed: None };
        desk.facts.clear();
        desk.with(|group, cx, writes, shelf| group.on_heartbeat(cx, writes, shelf, &beat));
        let told = |fact: &Fact| match fact {
            Fact::Send { to, message: Message::HeartbeatAck(ack) } => Some((to.clone(), ack.term)),
            _ => None,
        };
        desk.facts.iter().filter_map(told).collect::<Vec<_>>()
    };
    assert_eq!(heard(&mut desk, 'b', 4), [(voter('b').node, Term(4))]);
    let due = desk.group.deadline();
    desk.now = desk.now + Duration::from_millis(100);
    assert_eq!(heard(&mut desk, 'c', 3), [(voter('c').node, Term(4))], "it learns that it is deposed");
    assert_eq!(desk.group.leader(), Some(&voter('b').node));
    assert_eq!(desk.group.deadline(), due, "nor is it waited for");
}

#[test]
fn an_answer_to_an_older_ballot_does_not_count_for_the_same_document_proposed_again() {
    let mut desk = Desk::new('a', "abc");
    desk.lead('b');
    let first = desk.group.hard().term;
    desk.accepted_by("b");
    desk.propose();
    let (proposed, before) = (desk.group.hard().accepted, desk.group.hard().committed);
    let term = first.next();
    desk.with(|group, cx, writes, _| group.move_to_term(cx, writes, term));
    desk.lead('b');
    let again = desk.group.hard().accepted;
    assert!(again.hash == proposed.hash && again.ballot > proposed.ballot, "{again:?}");
    desk.accepted_in(first, 'c');
    assert_eq!(desk.group.hard().committed, before, "what c accepted in {first} may have been replaced since");
    desk.accepted_by("c");
    assert_eq!(desk.group.hard().committed.map(|at| at.hash), Some(proposed.hash));
}

#[test]
fn who_votes_alone_leads_once_its_own_vote_is_durable() {
    let mut desk = Desk::new('a', "a");
    desk.now = desk.group.deadline();
    desk.with(|group, cx, writes, _| {
        group.on_deadline(cx, writes);
        assert_eq!(group.role(), Role::Candidate, "the disk has not answered");
    });
    assert_eq!(desk.group.role(), Role::Leader);
}

#[test]
fn a_deposed_leader_that_has_learned_of_a_later_commit_takes_late_answers_for_nothing() {
    let (mut old, mut new) = (Desk::new('a', "abc"), Desk::new('b', "abc"));
    old.lead('c');
    new.lead('c');
    old.propose();
    for _ in 0..2 {
        new.accepted_by("c");
        new.propose();
    }
    let later = new.group.hard().committed.unwrap();
    assert!(later.index > old.group.hard().accepted.index);
    old.shelf.0.extend(new.shelf.0.iter().cloned());
    old.with(|group, cx, writes, shelf| group.learn(cx, writes, shelf, later, &voter('b').node));
    assert!(old.group.is_leader() && old.group.hard().committed == Some(later));
    old.accepted_by("c");
    assert_eq!(old.group.hard().committed, Some(later));
}

#[test]
fn a_leader_knows_what_each_of_the_others_holds() {
    let mut desk = Desk::new('a', "abc");
    desk.lead('b');
    desk.propose();
    desk.accepted_by("b");
    let committed = desk.group.hard().committed;
    assert!(committed.is_some());
    desk.answered_by("b", committed);
    let holds = |desk: &Desk, name| desk.group.holds(&voter(name).node);
    assert_eq!((holds(&desk, 'b'), holds(&desk, 'c')), (committed, None));
    assert_eq!(Desk::new('a', "abc").group.holds(&voter('b').node), None, "who does not lead is told nothing");
}

#[test]
fn what_is_held_back_for_the_disk_is_counted() {
    let mut desk = Desk::new('a', "abc");
    let group = desk.group.id().clone();
    desk.now = desk.group.deadline();
    desk.with(|group, cx, writes, _| group.on_deadline(cx, writes));
    assert_eq!(desk.group.held(), 0, "a pre-vote writes nothing");
    let (term, accepted) = (desk.group.hard().term.next(), desk.group.hard().accepted);
    let vote = ElectionVote { group, term, voter: voter('b'), pre: true, granted: true, reason: None, accepted };
    desk.with(|group, cx, writes, shelf| {
        group.on_election_vote(cx, writes, shelf, &vote);
        assert_eq!(group.held(), 2, "the two others are asked once its own vote is durable");
    });
    assert_eq!(desk.group.held(), 0);
}

#[test]
fn of_two_that_ask_at_once_the_lesser_gives_up() {
    let mut desk = Desk::new('b', "abc");
    desk.time_out();
    assert_eq!((desk.asked_by('a', 1, true), desk.group.role()), (None, Role::Candidate), "a is the lesser");
    assert_eq!((desk.asked_by('c', 1, true), desk.group.role()), (None, Role::Follower));
    let mut late = Desk::new('b', "abc");
    late.now = late.group.deadline();
    let wait = ConsensusParams::default().election_timeout / 6;
    assert_eq!(late.asked_by('a', 1, true), None);
    assert_eq!(late.group.deadline(), late.now + wait, "whoever does not ask yet lets it come first");
    assert_eq!(late.asked_by('a', 1, false), None);
    late.time_out();
    late.vote('c', true, true, None, late.group.hard().accepted);
    let term = late.group.hard().term;
    assert_eq!(late.asked_by('c', term.0, true), Some(Refusal::StaleTerm), "its own vote binds it");
    assert_eq!(late.group.role(), Role::Candidate, "a campaign that binds goes on");
}

#[test]
fn a_pre_vote_is_refused_while_a_leader_is_heard_and_for_what_could_not_be_voted() {
    let mut desk = Desk::new('a', "abc");
    let beat = |desk: &mut Desk| {
        let (group, leader) = (desk.group.id().clone(), voter('b').node);
        let beat = Heartbeat { group, term: Term(4), leader, round: Round(1), committed: None };
        desk.with(|group, cx, writes, shelf| group.on_heartbeat(cx, writes, shelf, &beat));
    };
    beat(&mut desk);
    let patience = ConsensusParams::default().election_timeout;
    desk.now = desk.now + (patience - Duration::from_micros(1));
    assert_eq!(desk.asked_by('c', 5, true), Some(Refusal::HearsLeader));
    desk.now = desk.now + Duration::from_micros(1);
    assert_eq!((desk.asked_by('c', 5, true), desk.asked_by('c', 4, true)), (None, None), "it is free in its term");
    assert_eq!(desk.asked_by('c', 3, true), Some(Refusal::StaleTerm));
    assert_eq!(desk.asked_by('c', 3, false), Some(Refusal::StaleTerm));
    assert_eq!(desk.asked_by('b', 4, false), None);
    assert_eq!(desk.asked_by('c', 4, false), Some(Refusal::VotedOther), "C2");
    assert_eq!((desk.asked_by('c', 4, true), desk.asked_by('b', 4, true)), (Some(Refusal::StaleTerm), None));
    let mut leader = Desk::new('a', "abc");
    leader.lead('b');
    assert_eq!(leader.asked_by('c', 9, true), Some(Refusal::HearsLeader), "nobody stands aside for a guess");
    assert!(leader.group.is_leader());
}

#[test]
fn a_leader_says_a_proposal_again_until_it_is_committed_and_then_wants_the_next_in_its_time() {
    let mut desk = Desk::new('a', "abc");
    desk.lead('b');
    desk.facts.clear();
    let params = ConsensusParams::default();
    let due = |desk: &mut Desk, at: Mono| {
        desk.now = at;
        desk.answered_by("bc", None);
        desk.facts.clear();
        desk.with(|group, cx, writes, _| group.on_deadline(cx, writes));
        let wanted = desk.facts.contains(&Fact::WantCheckpoint);
        (desk.sent().contains(&"CHECKPOINT_PROPOSE"), wanted)
    };
    let led = desk.now;
    assert_eq!(due(&mut desk, led + (params.election_timeout - Duration::from_micros(1))), (false, false));
    assert_eq!(due(&mut desk, led + params.election_timeout), (true, false), "nobody has answered");
    assert_eq!(due(&mut desk, led + params.election_timeout + params.election_timeout / 2), (false, false));
    assert_eq!(due(&mut desk, led + params.election_timeout * 2), (true, false));
    desk.accepted_by("b");
    let first = led + params.election_timeout * 3;
    assert_eq!(due(&mut desk, first), (false, true), "it is committed, and the next has waited");
    let mut at = first;
    while at + params.election_timeout / 2 < first + params.checkpoint_interval {
        at = at + params.election_timeout / 2;
        assert_eq!(due(&mut desk, at), (false, false), "{at:?}");
    }
    assert_eq!(due(&mut desk, first + params.checkpoint_interval), (false, true));
}

#[test]
fn a_proposal_that_does_not_hold_together_is_refused_and_nothing_is_accepted() {
    let (mut desk, mut leader) = (Desk::new('a', "abc"), Desk::new('b', "abc"));
    leader.lead('c');
    leader.accepted_by("c");
    leader.propose();
    let first = leader.proposal();
    let refused = |desk: &mut Desk, propose: CheckpointPropose, why: Refusal| {
        let before = desk.group.hard().accepted;
        assert_eq!(desk.proposed(&propose), Some(why), "{propose:?}");
        assert_eq!(desk.group.hard().accepted, before);
    };
    let (index, hash) = (first.index.next(), Hash::of(b"another"));
    refused(&mut desk, CheckpointPropose { index, ..first.clone() }, Refusal::Malformed);
    refused(&mut desk, CheckpointPropose { hash, ..first.clone() }, Refusal::Malformed);
    assert_eq!((desk.proposed(&first), desk.group.hard().accepted.hash), (None, first.hash));
    assert_eq!(desk.proposed(&first), None, "once more");

    // Another leader of the same term cannot be; one that says it is, is not believed.
    let mut rival = Desk::new('c', "abc");
    rival.lead('b');
    rival.accepted_by("b");
    rival.propose_at(5);
    let other = rival.proposal();
    assert!((other.term, other.index) == (first.term, first.index) && other.hash != first.hash);
    refused(&mut desk, other.clone(), Refusal::Malformed);

    // What is committed at an index stays there, whatever is proposed later.
    leader.accepted_by("c");
    let committed = leader.group.hard().committed.unwrap();
    let heartbeat = |desk: &mut Desk| {
        let (group, leader) = (desk.group.id().clone(), voter('b').node);
        let beat = Heartbeat { group, term: first.term, leader, round: Round(1), committed: Some(committed) };
        desk.with(|group, cx, writes, shelf| group.on_heartbeat(cx, writes, shelf, &beat));
    };
    heartbeat(&mut desk);
    assert_eq!(desk.group.hard().committed, Some(committed));
    let later = first.term.next();
    refused(&mut desk, CheckpointPropose { term: later, ..other }, Refusal::Malformed);
    let genesis = desk.shelf.0[0].clone();
    let (index, hash, document) = (Index(0), genesis.hash(), genesis.bytes().into());
    refused(&mut desk, CheckpointPropose { term: later, index, hash, document, ..first.clone() }, Refusal::Malformed);
    assert_eq!(desk.proposed(&CheckpointPropose { term: later, ..first.clone() }), None, "the same in a later term");
    refused(&mut desk, first, Refusal::StaleTerm);
}

#[test]
fn a_voter_that_has_missed_two_changes_of_voters_takes_the_next_proposal_all_the_same() {
    let (mut leader, mut late) = (Desk::new('a', "abc"), Desk::new('c', "abc"));
    let there: Vec<Member> = "abcde".chars().map(alive).collect();
    leader.lead('b');
    leader.accepted_by("b");
    for _ in 0..2 {
        leader.accepted_by("bd");
        let committed = leader.group.hard().committed;
        leader.answered_by("bcde", committed);
        leader.plan(&there);
        leader.propose();
    }
    assert_eq!(leader.group.voters(), voters("abcde"));
    let proposal = leader.proposal();
    assert_eq!(late.proposed(&proposal), None);
}

#[test]
fn a_leader_whom_no_quorum_answers_or_whose_disk_does_not_leads_no_more() {
    let patience = ConsensusParams::default().election_timeout_max();
    let why = |desk: &Desk| {
        desk.notices.iter().find_map(|n| if let Notice::SteppedDown { why, .. } = n { Some(*why) } else { None })
    };
    let mut alone = Desk::new('a', "abc");
    alone.lead('b');
    alone.now = alone.now + patience;
    alone.with(|group, cx, writes, _| group.on_deadline(cx, writes));
    assert_eq!(why(&alone), Some(StepDown::NoQuorum));
    let mut stuck = Desk::new('a', "abc");
    stuck.lead('b');
    stuck.accepted_by("b");
    stuck.with(|group, cx, writes, _| {
        writes.write(cx, Vec::new());
        cx.now.mono = cx.now.mono + patience;
        let (id, term) = (group.id().clone(), group.hard().term);
        let ack = HeartbeatAck { group: id, term, round: Round(1), voter: voter('b'), holds: None };
        group.on_heartbeat_ack(cx, writes, &ack);
        group.on_deadline(cx, writes);
    });
    assert_eq!(why(&stuck), Some(StepDown::SlowDisk));
}

#[test]
fn an_answer_of_an_earlier_term_confirms_no_read() {
    let mut desk = Desk::new('a', "abc");
    desk.lead('b');
    let first = desk.group.hard().term;
    desk.with(|group, cx, writes, _| group.move_to_term(cx, writes, first.next()));
    desk.lead('b');
    desk.accepted_by("b");
    desk.with(|group, cx, _, _| group.read_latest(cx, RequestId(7)));
    let beat = |fact: &Fact| match fact {
        Fact::Ask { message: Message::Heartbeat(beat), .. } => Some(beat.round),
        _ => None,
    };
    let round = desk.facts.iter().rev().find_map(beat).unwrap();
    let term = desk.group.hard().term;
    for (term, confirmed) in [(first, false), (term, true)] {
        let ack = HeartbeatAck { group: desk.group.id().clone(), term, round, voter: voter('b'), holds: None };
        desk.with(|group, cx, writes, _| group.on_heartbeat_ack(cx, writes, &ack));
        assert_eq!(desk.facts.iter().any(|fact| matches!(fact, Fact::ReadReady { .. })), confirmed);
    }
}

#[test]
fn nothing_is_read_from_a_leader_that_has_committed_nothing_in_its_term() {
    let mut desk = Desk::new('a', "abc");
    desk.lead('b');
    desk.with(|group, cx, _, _| group.read_latest(cx, RequestId(7)));
    let confirmed = |desk: &mut Desk| {
        let beat = |fact: &Fact| match fact {
            Fact::Ask { message: Message::Heartbeat(beat), .. } => Some(beat.round),
            _ => None,
        };
        let round = desk.facts.iter().rev().find_map(beat).unwrap_or(Round(0));
        let (group, term) = (desk.group.id().clone(), desk.group.hard().term);
        let ack = HeartbeatAck { group, term, round, voter: voter('b'), holds: None };
        desk.with(|group, cx, writes, _| group.on_heartbeat_ack(cx, writes, &ack));
        desk.facts.iter().any(|fact| matches!(fact, Fact::ReadReady { .. }))
    };
    assert!(!confirmed(&mut desk), "what was committed before it may not have come to it");
    desk.accepted_by("b");
    assert!(confirmed(&mut desk), "the same read, once a document of its own is committed");
}

#[test]
fn whoever_does_not_vote_in_its_region_neither_campaigns_nor_leads_on() {
    let mut observer = Desk::new('z', "abc");
    observer.time_out();
    assert!(observer.sent().is_empty() && observer.group.role() == Role::Observer);
    let mut desk = Desk::new('a', "abc");
    desk.lead('b');
    desk.accepted_by("b");
    let unwanted = BTreeSet::from([voter('a').node]);
    let committed = desk.group.hard().committed;
    desk.answered_by("bc", committed);
    desk.with(|group, cx, _, _| group.plan_voters(cx, &[], &unwanted));
    desk.propose();
    assert!(desk.group.is_leader() && desk.group.voters() == voters("bc"));
    desk.accepted_by("bc");
    assert_eq!(desk.group.role(), Role::Observer, "its last duty is done");
}

#[test]
fn nobody_is_added_until_a_quorum_with_the_newcomer_answers() {
    let mut desk = Desk::new('a', "abc");
    desk.lead('b');
    desk.accepted_by("b");
    let there: Vec<Member> = "abcde".chars().map(alive).collect();
    let committed = desk.group.hard().committed;
    desk.answered_by("d", committed);
    desk.plan(&there);
    assert!(!desk.group.is_changing(), "two of four");
    desk.answered_by("b", committed);
    desk.plan(&there);
    assert!(desk.group.is_changing());
}

#[test]
fn nobody_is_taken_out_while_the_others_could_decide_nothing_without_it() {
    let unwanted = BTreeSet::from([voter('a').node]);
    let mut desk = Desk::new('a', "abc");
    desk.lead('b');
    desk.accepted_by("b");
    let committed = desk.group.hard().committed;
    let members = [alive('a'), alive('b'), reborn('c', PATIENCE), alive('d')];
    desk.answered_by("b", committed);
    desk.with(|group, cx, _, _| group.plan_voters(cx, &members, &unwanted));
    assert!(!desk.group.is_changing(), "of b and c, one is nobody any more");
    // Who is lost is replaced first.
    desk.answered_by("bd", committed);
    desk.with(|group, cx, _, _| group.plan_voters(cx, &members, &unwanted));
    desk.propose();
    assert_eq!(desk.group.voters(), voters("abcd"));
}

#[test]
fn who_answered_a_moment_ago_and_is_known_to_be_gone_does_not_count_when_another_is_taken_out() {
    let unwanted = BTreeSet::from([voter('a').node]);
    for (of_c, may_go) in [(alive('c'), true), (dead('c', Duration::ZERO), false), (reborn('c', Duration::ZERO), false)]
    {
        let mut desk = Desk::new('a', "abc");
        desk.lead('b');
        desk.accepted_by("b");
        let committed = desk.group.hard().committed;
        desk.answered_by("bc", committed);
        let members = [alive('a'), alive('b'), of_c];
        desk.with(|group, cx, _, _| group.plan_voters(cx, &members, &unwanted));
        assert_eq!(desk.group.is_changing(), may_go, "{members:?}");
    }
}

#[test]
fn a_refused_pre_vote_teaches_its_term_and_a_granted_one_does_not() {
    let mut desk = Desk::new('a', "abc");
    desk.time_out();
    let (id, accepted) = (desk.group.id().clone(), desk.group.hard().accepted);
    let mut after = |granted: bool| {
        let (group, voter, reason) = (id.clone(), voter('b'), (!granted).then_some(Refusal::StaleTerm));
        let vote = ElectionVote { group, term: Term(9), voter, pre: true, granted, reason, accepted };
        desk.with(|group, cx, writes, shelf| group.on_election_vote(cx, writes, shelf, &vote));
        (desk.group.hard().term, desk.group.role())
    };
    assert_eq!(after(true), (Term(0), Role::Candidate), "nobody has entered that term");
    assert_eq!(after(false), (Term(9), Role::Follower));
}

#[test]
fn who_was_taken_out_by_what_it_has_never_accepted_votes_no_more() {
    let (mut leader, mut gone) = (Desk::new('a', "abc"), Desk::new('c', "abc"));
    leader.lead('b');
    leader.accepted_by("b");
    let unwanted = BTreeSet::from([voter('c').node]);
    let before = leader.group.hard().committed;
    leader.answered_by("b", before);
    leader.with(|group, cx, _, _| group.plan_voters(cx, &[], &unwanted));
    leader.propose();
    leader.accepted_by("b");
    let committed = leader.group.hard().committed.unwrap();
    assert_eq!(committed.hash, leader.group.hard().accepted.hash);
    gone.shelf.0.extend(leader.shelf.0.iter().cloned());
    gone.with(|group, cx, writes, shelf| group.learn(cx, writes, shelf, committed, &voter('a').node));
    assert_eq!((gone.group.voters(), gone.group.role()), (voters("ab"), Role::Observer));
    gone.facts.clear();
    gone.time_out();
    assert!(gone.sent().is_empty(), "nor does it ask for votes");
}

#[test]
fn a_document_is_awaited_from_when_it_is_asked_for_until_it_is_here() {
    let mut leader = Desk::new('b', "abc");
    leader.lead('c');
    leader.accepted_by("c");
    leader.propose();
    leader.accepted_by("c");
    let (newer, committed) = (leader.group.hard().accepted, leader.group.hard().committed.unwrap());
    assert_eq!(newer.hash, committed.hash);
    let (mut refused, mut follower, from) = (Desk::new('a', "abc"), Desk::new('a', "abc"), voter('b').node);
    refused.time_out();
    refused.vote('c', true, false, Some(Refusal::Behind), newer);
    follower.with(|group, cx, writes, shelf| group.learn(cx, writes, shelf, committed, &from));
    let awaits = |desk: &Desk| [newer.hash, Hash::of(b"another")].map(|hash| desk.group.awaits(&hash));
    for mut desk in [refused, follower] {
        assert_eq!(awaits(&desk), [true, false]);
        desk.shelf.0.extend(leader.shelf.0.iter().cloned());
        desk.with(|group, cx, writes, shelf| group.on_content(cx, writes, shelf, &from));
        assert_eq!(awaits(&desk), [false, false]);
    }
}

/// Nodes by their letters, documents by how their hashes begin.
struct Letters;

impl Names for Letters {
    fn node(&self, node: &NodeId) -> u8 {
        node.as_str().as_bytes()[0] - b'a'
    }

    fn document(&self, hash: &Hash) -> u32 {
        hash.as_bytes().first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }
}

fn portrait(group: &Group, writes: &Writes) -> (Vec<Word>, Vec<Vec<Word>>) {
    let names = Letters;
    let mut pen = Pen::new(&names);
    group.portray(writes, &mut pen);
    (pen.words, pen.bag)
}

#[test]
fn what_is_committed_is_seen_in_a_portrait() {
    let mut desk = Desk::new('a', "abc");
    let genesis = desk.group.hard().accepted;
    let mut heard = |committed: Option<Position>| {
        let (group, leader) = (desk.group.id().clone(), voter('b').node);
        let beat = Heartbeat { group, term: Term(1), leader, round: Round(1), committed };
        desk.with(|group, cx, writes, shelf| group.on_heartbeat(cx, writes, shelf, &beat));
        (desk.group.hard().committed, portrait(&desk.group, &desk.writes))
    };
    let (none, before) = heard(None);
    assert_eq!(heard(None), (none, before.clone()), "nothing has happened");
    let (committed, after) = heard(Some(Position { index: genesis.index, hash: genesis.hash }));
    assert!(none.is_none() && committed.is_some());
    assert_ne!(after, before);
}

#[test]
fn what_waits_for_the_disk_is_seen_in_a_portrait_once() {
    let asked_by = |candidates: &str| {
        let (mut desk, mut seen) = (Desk::new('a', "abc"), None);
        let (id, accepted) = (desk.group.id().clone(), desk.group.hard().accepted);
        desk.with(|group, cx, writes, _| {
            for candidate in candidates.chars().map(voter) {
                let request = ElectionRequest { group: id.clone(), term: Term(1), candidate, accepted, pre: false };
                group.on_election_request(cx, writes, &request);
            }
            seen = Some(portrait(group, writes));
        });
        seen.unwrap()
    };
    let (one, two) = (asked_by("b"), asked_by("bc"));
    assert_eq!(one.0, two.0, "its vote is given to the first");
    assert_ne!(one.1, two.1, "only the second waits for a refusal");
    assert_eq!(asked_by("bb"), one, "what is said twice is said");
}
