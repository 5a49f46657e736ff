//! What the top leader sends and hears, by the number of regions; who may say what, and what is believed of regions.

use std::collections::BTreeSet;

use super::*;
use crate::core::archive::Archive;
use crate::core::consensus::{Contents, Snapshot};
use crate::core::effect::Effect;
use crate::core::hard_state::Accepted;
use crate::core::hlc::{Hlc, Stamp};
use crate::core::id::{Hash, Index, PersistSeq, Round, StoreId};
use crate::core::ledger::document::{Counts, RegionCheckpoint};
use crate::core::message::agreement::{
    CheckpointAck, CheckpointPropose, ElectionRequest, ElectionVote, Heartbeat, HeartbeatAck,
};
use crate::core::notice::Notice;
use crate::core::rng::Rng;
use crate::core::state::system::{CheckpointRef, RegionVoters};
use crate::core::time::{Now, Wall};

fn voter(region: usize, n: usize) -> Voter {
    Voter { node: NodeId::new(&format!("gw-{region:04}-{n}")).unwrap(), store: StoreId((region * 8 + n) as u128) }
}

fn region(n: usize) -> RegionId {
    RegionId::new(&format!("region-{n:04}")).unwrap()
}

/// A leader of `regions` regions of three voters, and bytes that go out and come in.
struct Leader {
    top: Hierarchy,
    archive: Archive,
    writes: Writes,
    rng: Rng,
    now: Mono,
    persisted: PersistSeq,
}

/// Frames and bytes of one round.
#[derive(Debug, Default, Clone, Copy)]
struct Traffic {
    frames: usize,
    sent: usize,
    heard: usize,
}

fn bytes(message: &Message) -> usize {
    let mut frame = Vec::new();
    message.encode(&mut frame);
    frame.len() + 4
}

impl Leader {
    fn new(regions: usize) -> Self {
        let all = (0..regions).map(|r| (region(r), (0..3).map(|n| voter(r, n)).collect()));
        let genesis = Document::genesis("lab", all.collect()).unwrap();
        let (mut rng, mut fx) = (Rng::new(1), Vec::new());
        let now = Mono::from_micros(1);
        let mut cx = Cx { now: Now { mono: now, wall: Wall::from_millis(1) }, rng: &mut rng, fx: &mut fx };
        let hard = HardState::new(genesis.hash());
        let (me, params) = (voter(0, 0), ConsensusParams::top());
        let mut top = Hierarchy::recover(&mut cx, me, region(0), params, hard, genesis, None);
        top.set_leading(&mut cx, true, Term(1));
        for r in 1..regions {
            top.regions_mut().claim(&region(r), Term(1), &voter(r, 0).node);
        }
        let archive = Archive::recover(&region(0), 100, Vec::new(), Vec::new(), &[]);
        Self { top, archive, writes: Writes::default(), rng, now, persisted: PersistSeq(0) }
    }

    fn act(&mut self, act: impl FnOnce(&mut Hierarchy, &mut Archive, &mut Cx<'_>, &mut Writes)) {
        let mut fx = Vec::new();
        let mut cx = Cx { now: Now { mono: self.now, wall: Wall::from_millis(1) }, rng: &mut self.rng, fx: &mut fx };
        act(&mut self.top, &mut self.archive, &mut cx, &mut self.writes);
        for effect in &fx {
            if let crate::core::effect::Effect::Persist { seq, .. } = effect {
                self.persisted = *seq;
            }
        }
        self.writes.on_persisted(self.persisted);
        let mut fx = Vec::new();
        let mut cx = Cx { now: Now { mono: self.now, wall: Wall::from_millis(1) }, rng: &mut self.rng, fx: &mut fx };
        self.top.group_mut().on_persisted(&mut cx, &mut self.writes);
    }

    /// Proposes a document that names every region's checkpoint.
    fn propose(&mut self, regions: usize, ahead: u64) {
        let all = (0..regions).map(|r| checkpoint(r, regions, ahead)).map(|at| {
            let CheckpointRef { region, index, hash, taken_at, counts, .. } = at;
            (region, RegionCheckpoint { index, hash, taken_at, counts, stale_ms: None })
        });
        let time = Hlc::new(Wall::from_millis(1_700_000_000_000 + 5_000 * ahead), 2);
        let taken_at = Stamp { time, node: voter(0, 0).node };
        let contents = Contents::Regions { regions: all.collect(), fused: None };
        let snapshot = Snapshot { taken_at, counts: Counts::default(), contents };
        self.act(|top, archive, cx, writes| top.group_mut().propose(cx, writes, archive, snapshot));
    }

    /// Takes what is sent and lets every voter answer, each region in one frame.
    fn round(&mut self) -> Traffic {
        let mut traffic = Traffic::default();
        let facts = self.top.take_facts(&|_| true);
        for fact in facts {
            let Fact::Send { to, message } = fact else { continue };
            let message = self.archive.shortened(&voter(0, 0).node, &to, message);
            traffic.frames += 1;
            traffic.sent += bytes(&message);
            let Message::Relay(relay) = message else { continue };
            let of = |node: &NodeId| {
                let regions = self.top.group().voters();
                regions.of_node(node).cloned().expect("it asks voters")
            };
            let answers: Vec<Message> = relay.to.iter().filter_map(|node| answer(&relay.message.0, of(node))).collect();
            let back = RelayAnswer {
                asker: relay.asker,
                seq: relay.seq,
                region: region(1),
                region_term: Term(1),
                answers: answers.into_iter().map(Carried::new).collect(),
            };
            traffic.heard += bytes(&Message::RelayAnswer(back.clone()));
            let heard = self.top.on_relay_answer(self.now, &voter(1, 0), back);
            self.act(|top, archive, cx, writes| heard.iter().for_each(|m| top.hear(cx, writes, archive, m)));
        }
        traffic
    }
}

fn answer(question: &Message, voter: Voter) -> Option<Message> {
    Some(match question {
        Message::Heartbeat(m) => Message::HeartbeatAck(HeartbeatAck {
            group: GroupId::Top,
            term: m.term,
            round: m.round,
            voter,
            holds: m.committed,
        }),
        Message::ElectionRequest(m) => Message::ElectionVote(ElectionVote {
            group: GroupId::Top,
            term: m.term,
            voter,
            pre: m.pre,
            granted: true,
            reason: None,
            accepted: m.accepted,
        }),
        Message::CheckpointPropose(m) => Message::CheckpointAck(CheckpointAck {
            group: GroupId::Top,
            term: m.term,
            index: m.index,
            hash: m.hash,
            voter,
            accepted: true,
            reason: None,
        }),
        _ => return None,
    })
}

/// Bytes of a heartbeat round, of a checkpoint round, and of the document.
fn measured(regions: usize) -> (Traffic, Traffic, usize) {
    let mut leader = Leader::new(regions);
    leader.now = leader.now + std::time::Duration::from_secs(6);
    leader.act(|top, _, cx, writes| top.on_deadline(cx, writes));
    for _ in 0..4 {
        leader.round();
    }
    assert!(leader.top.group().is_settled(), "{regions} regions elect it and commit the genesis");
    leader.round();
    leader.now = leader.now + std::time::Duration::from_millis(500);
    leader.act(|top, _, cx, writes| top.on_deadline(cx, writes));
    let beat = leader.round();
    // All regions, and then every one of them two checkpoints on.
    leader.propose(regions, 0);
    leader.round();
    assert!(leader.top.group().is_settled());
    // It says at once what is committed.
    leader.round();
    leader.propose(regions, 2);
    let proposal = leader.round();
    assert!(leader.top.group().is_settled());
    (beat, proposal, leader.top.group().accepted().bytes().len())
}

/// What a region has committed, `ahead` checkpoints later: their ages are spread over the five seconds between them.
fn checkpoint(n: usize, regions: usize, ahead: u64) -> CheckpointRef {
    let age_ms = (n * 5_000 / regions) as u64;
    CheckpointRef {
        region: region(n),
        index: Index(12_345 + ahead),
        hash: Hash::of(format!("{n} {ahead}").as_bytes()),
        taken_at: Hlc::new(Wall::from_millis(1_700_000_000_000 + 5_000 * ahead - age_ms), 1),
        counts: Counts { nodes: 100, readings: 1_000 },
        observers: Some(97),
    }
}

/// What the leader of ten regions proposes to a voter that holds the parent.
fn told() -> (Document, CheckpointPropose, Document) {
    let mut leader = Leader::new(10);
    leader.now = leader.now + std::time::Duration::from_secs(6);
    leader.act(|top, _, cx, writes| top.on_deadline(cx, writes));
    for _ in 0..5 {
        leader.round();
    }
    leader.propose(10, 0);
    leader.round();
    let parent = leader.top.group().accepted().clone();
    leader.propose(10, 2);
    let facts = leader.top.take_facts(&|_| true);
    let proposed = facts.into_iter().find_map(|fact| match fact {
        Fact::Send { to, message } => match leader.archive.shortened(&voter(0, 0).node, &to, message) {
            Message::CheckpointPropose(propose) => Some(propose),
            _ => None,
        },
        Fact::Group(_) => None,
    });
    (parent, proposed.expect("its own voters are told"), leader.top.group().accepted().clone())
}

#[test]
fn a_voter_makes_the_whole_of_a_difference_or_asks_for_it_and_accepts_nothing_else() {
    let (parent, propose, document) = told();
    assert!(propose.document.is_empty() && propose.difference.len() < document.bytes().len() / 3);
    let (mut rng, mut fx) = (Rng::new(1), Vec::new());
    let now = Now { mono: Mono::from_micros(1), wall: Wall::from_millis(1) };
    let cx = Cx { now, rng: &mut rng, fx: &mut fx };
    let voter = |holds: &[&Document], heard: std::ops::Range<usize>| {
        let mut archive = Archive::recover(&region(0), 100, holds.iter().copied().cloned().collect(), Vec::new(), &[]);
        heard.for_each(|r| archive.hear_checkpoint(&checkpoint(r, 10, 2)));
        archive
    };
    // The youngest one was told in full: it need not have been heard of.
    let whole = voter(&[&parent], 1..10).whole(&cx, &propose).expect("it holds the parent and has heard the rest");
    assert_eq!((&*whole.document, whole.difference.len()), (document.bytes(), 0));
    let cases = [(voter(&[], 0..10), "no parent"), (voter(&[&parent], 2..10), "a region not heard of")];
    for (mut archive, why) in cases {
        assert_eq!(archive.whole(&cx, &propose), None, "{why}");
        let facts = archive.take_facts();
        let asked = |fact: &crate::core::archive::Fact| match fact {
            crate::core::archive::Fact::Send { to, message: Message::CheckpointFetch(fetch) } => {
                *to == propose.leader && fetch.hash == propose.hash && fetch.base.is_none()
            }
            _ => false,
        };
        assert!(facts.iter().any(asked), "{why}: {facts:?}");
        assert_eq!(archive.take_proposal(propose.hash), None);
    }
    let mut lie = propose.clone();
    *lie.difference.last_mut().unwrap() ^= 1;
    assert_eq!(voter(&[&parent], 0..10).whole(&cx, &lie), None, "its hash is not what was promised");
}

/// Prints what is measured, and holds heartbeats and documents to growing with the number of regions.
fn grows_with_regions(sizes: &[usize]) {
    let mut before: Option<(Traffic, usize)> = None;
    for &regions in sizes {
        let (beat, proposal, document) = measured(regions);
        println!("{regions} regions: document {document} bytes, heartbeat {beat:?}, checkpoint {proposal:?}");
        assert_eq!(beat.frames, regions - 1 + 2, "one frame a region, and one to each voter of its own");
        if let Some((last, size)) = before {
            let ratio = |now: usize, then: usize| now as f64 / then as f64;
            assert!(ratio(beat.sent + beat.heard, last.sent + last.heard) < 11.5);
            assert!(ratio(document, size) < 11.0);
        }
        assert!(proposal.sent / (regions - 1) < document / 4 + 3_000, "whoever holds the parent is told what differs");
        before = Some((beat, document));
    }
}

#[test]
fn heartbeats_of_the_top_leader_and_documents_grow_with_regions_and_not_faster() {
    grows_with_regions(&[10, 100]);
}

#[test]
#[ignore = "takes half a minute: `cargo test --release -- --ignored --nocapture thousand`"]
fn they_do_so_up_to_a_thousand_regions() {
    grows_with_regions(&[10, 100, 1_000]);
}

#[test]
fn a_voter_that_has_answered_relays_to_those_that_have_not() {
    let mut leader = Leader::new(3);
    let linked = voter(1, 2).node;
    let (group, term, round) = (GroupId::Top, Term(1), Round(1));
    let question = Heartbeat { group, term, leader: voter(0, 0).node, round, committed: None };
    let silent = [voter(1, 0).node, voter(1, 1).node];
    leader.top.ask(&silent, Message::Heartbeat(question), &|node| *node == linked);
    let sent = leader.top.take_facts(&|_| true);
    let relayed = |to: &NodeId, relay: &Relay| *to == linked && relay.to == silent;
    assert!(
        matches!(&sent[..], [Fact::Send { to, message: Message::Relay(relay) }] if relayed(to, relay)),
        "the only one that is linked: {sent:?}"
    );
}

#[test]
fn whoever_votes_in_a_region_and_not_at_the_top_relays_to_those_who_do() {
    let mut leader = Leader::new(3);
    let linked = voter(1, 3);
    let own = [voter(1, 0), voter(1, 1), linked.clone()];
    leader.top.regions_mut().voting(RegionVoters { region: region(1), index: Index(5), voters: own.into() });
    let (silent, round) = ([voter(1, 0).node, voter(1, 1).node], Round(1));
    let question = Heartbeat { group: GroupId::Top, term: Term(1), leader: voter(0, 0).node, round, committed: None };
    leader.top.ask(&silent, Message::Heartbeat(question), &|node| *node == linked.node);
    let sent = leader.top.take_facts(&|_| true);
    let relayed = |to: &NodeId, relay: &Relay| *to == linked.node && relay.to == silent;
    assert!(
        matches!(&sent[..], [Fact::Send { to, message: Message::Relay(relay) }] if relayed(to, relay)),
        "what it is asked itself, as a newcomer, goes that way: {sent:?}"
    );
}

#[test]
fn what_the_parent_says_of_a_region_stays_until_something_newer_is_heard() {
    let (_, _, parent) = told();
    let indices = |regions: &BTreeMap<RegionId, RegionCheckpoint>| -> Vec<(RegionId, Index)> {
        regions.iter().map(|(region, at)| (region.clone(), at.index)).collect()
    };
    let (now, fresh) = (Wall::from_millis(1_700_000_060_000), std::time::Duration::from_secs(10));
    let mut heard = Regions::default();
    heard.committed(checkpoint(3, 10, 1));
    let next = heard.contents(&parent, now, fresh);
    assert_eq!(indices(&next), indices(&parent.header().regions), "what is older is no news, and who is silent stays");
    assert!(next.values().all(|at| at.stale_ms.is_some()), "each with its age");
    heard.committed(checkpoint(3, 10, 5));
    let next = heard.contents(&parent, now, fresh);
    assert_eq!(next[&region(3)].index, checkpoint(3, 10, 5).index);
}

#[test]
fn a_voter_speaks_for_itself_and_for_nobody_else() {
    let (me, other, document) = (voter(1, 0), voter(1, 1), told().0);
    let (term, round, index, hash) = (Term(3), Round(1), Index(1), document.hash());
    let accepted = Accepted { ballot: term, index, hash };
    let said = |by: &Voter| {
        let (voter, leader) = (by.clone(), by.node.clone());
        [
            Message::Heartbeat(Heartbeat { group: GroupId::Top, term, leader, round, committed: None }),
            Message::HeartbeatAck(HeartbeatAck { group: GroupId::Top, term, round, voter: voter.clone(), holds: None }),
            Message::ElectionRequest(ElectionRequest {
                group: GroupId::Top,
                term,
                candidate: voter.clone(),
                accepted,
                pre: false,
            }),
            Message::ElectionVote(ElectionVote {
                group: GroupId::Top,
                term,
                voter: voter.clone(),
                pre: false,
                granted: true,
                reason: None,
                accepted,
            }),
            Message::CheckpointPropose(CheckpointPropose { leader: voter.node.clone(), ..told().1 }),
            Message::CheckpointAck(CheckpointAck {
                group: GroupId::Top,
                term,
                index,
                hash,
                voter,
                accepted: true,
                reason: None,
            }),
        ]
    };
    for (own, forged) in said(&me).iter().zip(&said(&other)) {
        assert!(is_own(&me, own) && !is_own(&me, forged), "{}", own.type_name());
    }
}

#[test]
fn the_newest_claim_to_a_region_and_to_the_top_stands() {
    let (a, b) = (voter(1, 0).node, voter(1, 1).node);
    let mut regions = Regions::default();
    let leads = |regions: &Regions| regions.leader(&region(1)).map(|claim| claim.node.clone());
    assert!(regions.claim(&region(1), Term(2), &a) && leads(&regions) == Some(a.clone()));
    assert!(!regions.claim(&region(1), Term(2), &a), "no news");
    assert!(!regions.claim(&region(1), Term(1), &b) && leads(&regions) == Some(a.clone()), "older");
    assert!(regions.claim(&region(1), Term(3), &b) && leads(&regions) == Some(b.clone()));
    regions.claim_top(Term(5), &a);
    regions.claim_top(Term(4), &b);
    assert_eq!(regions.top_leader(), Some(&a));
    regions.claim_top(Term(6), &b);
    assert_eq!(regions.top_leader(), Some(&b));
}

#[test]
fn what_an_operator_wants_of_regions_ends_when_it_is_done_or_another_leads() {
    let present = |names: &[usize]| {
        let of = |r: &usize| (region(*r), BTreeSet::from([voter(*r, 0)]));
        Voters::try_from(names.iter().map(of).collect::<BTreeMap<_, _>>()).unwrap()
    };
    let wanted = |regions: &Regions, now: &Voters| regions.wanted(now).into_keys().collect::<Vec<_>>();
    let mut regions = Regions::default();
    regions.add(region(3), BTreeSet::from([voter(3, 0)]));
    regions.remove(region(1));
    assert_eq!(wanted(&regions, &present(&[1, 2])), [region(2), region(3)]);
    regions.settle(&present(&[1, 2]));
    assert_eq!(wanted(&regions, &present(&[1, 2])), [region(2), region(3)], "nothing is done yet");
    regions.settle(&present(&[2, 3]));
    assert_eq!(wanted(&regions, &present(&[1, 2])), [region(1), region(2)], "both are done");
    regions.add(region(3), BTreeSet::from([voter(3, 0)]));
    regions.remove(region(1));
    regions.give_up();
    assert_eq!(wanted(&regions, &present(&[1, 2])), [region(1), region(2)]);
}

#[test]
fn a_region_comes_once_most_of_its_voters_hold_what_is_committed() {
    for (of, known) in [(1, 0), (1, 1), (2, 1), (2, 2), (3, 0), (3, 1), (3, 2)] {
        let mut leader = Leader::new(5);
        leader.now = leader.now + std::time::Duration::from_secs(6);
        leader.act(|top, _, cx, writes| top.on_deadline(cx, writes));
        for _ in 0..5 {
            leader.round();
        }
        let group = leader.top.group();
        assert!(group.is_settled());
        let (term, holds) = (group.hard().term, group.hard().committed);
        let mut wanted = group.voters().regions().clone();
        wanted.insert(region(9), (0..of).map(|n| voter(9, n)).collect());
        let mut comes = false;
        leader.act(|top, archive, cx, writes| {
            for n in 0..known {
                let ack = HeartbeatAck { group: GroupId::Top, term, round: Round(1), voter: voter(9, n), holds };
                top.hear(cx, writes, archive, &Message::HeartbeatAck(ack));
            }
            top.group_mut().plan_regions(cx, &wanted);
            let is_change = |fx: &Effect| matches!(fx, Effect::Notice(Notice::VotersChanging { .. }));
            comes = cx.fx.iter().any(is_change);
        });
        assert_eq!(comes, 2 * known > of, "{known} of {of}");
    }
}

/// A leader of so many regions whose genesis is committed.
fn settled(regions: usize) -> Leader {
    let mut leader = Leader::new(regions);
    leader.now = leader.now + std::time::Duration::from_secs(6);
    leader.act(|top, _, cx, writes| top.on_deadline(cx, writes));
    for _ in 0..5 {
        leader.round();
    }
    assert!(leader.top.group().is_settled());
    leader
}

#[test]
fn a_relayed_question_is_heard_and_passed_on_only_in_its_askers_own_name() {
    let mut leader = Leader::new(3);
    let (me, near, asker) = (voter(0, 0), voter(0, 1), voter(1, 0));
    let (now, accepted) = (leader.now, leader.top.group().hard().accepted);
    let mut heard = |from: &Voter, asker: &Voter, candidate: Voter| {
        let question = ElectionRequest { group: GroupId::Top, term: Term(9), candidate, accepted, pre: true };
        let message = Carried::new(Message::ElectionRequest(question));
        let to = vec![me.node.clone(), near.node.clone()];
        let relay = Relay { asker: asker.node.clone(), seq: 1, to, message };
        let for_us = leader.top.on_relay(now, from, &relay, &|_| true).is_some();
        (for_us, leader.top.take_facts(&|_| true).len())
    };
    assert_eq!(heard(&asker, &asker, asker.clone()), (true, 1));
    assert_eq!(heard(&near, &asker, asker.clone()), (true, 0), "who gets it from a relay passes it on to nobody");
    assert_eq!(heard(&near, &asker, voter(2, 0)), (false, 0), "the question is another's");
    assert_eq!(heard(&asker, &asker, voter(2, 0)), (false, 0));
    let former = Voter { store: StoreId(99), ..asker.clone() };
    assert_eq!(heard(&asker, &asker, former), (false, 0), "that store's owner is not who brings it");
    assert_eq!(heard(&near, &me, me.clone()), (false, 0), "our own comes back");
}

#[test]
fn an_answer_goes_the_way_that_the_newest_question_came() {
    let mut leader = Leader::new(3);
    let (me, near, asker) = (voter(0, 0), voter(0, 1), voter(1, 0));
    let (now, term, round) = (leader.now, Term(1), Round(1));
    let beat = Heartbeat { group: GroupId::Top, term, leader: asker.node.clone(), round, committed: None };
    let question = Message::Heartbeat(beat);
    let (to, message) = (vec![me.node.clone()], Carried::new(question.clone()));
    let relay = Relay { asker: asker.node.clone(), seq: 7, to, message };
    assert_eq!(leader.top.on_relay(now, &near, &relay, &|_| true), Some(question.clone()));
    let ack = Message::HeartbeatAck(HeartbeatAck { group: GroupId::Top, term, round, voter: me, holds: None });
    leader.top.answer(asker.node.clone(), ack.clone());
    let sent = leader.top.take_facts(&|_| true);
    let back = |to: &NodeId, answer: &RelayAnswer| *to == near.node && answer.asker == asker.node && answer.seq == 7;
    assert!(
        matches!(&sent[..], [Fact::Send { to, message: Message::RelayAnswer(answer) }] if back(to, answer)),
        "through the relay: {sent:?}"
    );
    leader.top.asked_directly(&asker.node, &question);
    leader.top.answer(asker.node.clone(), ack.clone());
    assert_eq!(leader.top.take_facts(&|_| true), [Fact::Send { to: asker.node, message: ack }]);
}

#[test]
fn voters_of_a_region_with_a_new_leader_are_told_through_it_at_once() {
    let mut leader = settled(3);
    leader.top.take_facts(&|_| true);
    let mut told = |r: usize, term: u64, n: usize| {
        leader.top.on_region_leader(&region(r), Term(term), &voter(r, n).node);
        let known = leader.top.regions().leader(&region(r)).map(|claim| claim.node.clone());
        (known, leader.top.take_facts(&|_| true))
    };
    let there: Vec<NodeId> = (0..3).map(|n| voter(1, n).node).collect();
    let (known, sent) = told(1, 2, 1);
    assert_eq!(known.as_ref(), Some(&there[1]));
    let beats = |relay: &Relay| relay.to == there && matches!(*relay.message.0, Message::Heartbeat(_));
    assert!(
        matches!(&sent[..], [Fact::Send { to, message: Message::Relay(relay) }] if *to == there[1] && beats(relay)),
        "{sent:?}"
    );
    for (term, n) in [(2, 1), (1, 0)] {
        assert_eq!(told(1, term, n), (known.clone(), Vec::new()), "no news");
    }
    assert_eq!(told(0, 2, 1), (Some(voter(0, 1).node), Vec::new()), "its own region needs no relay");
}

#[test]
fn a_regions_only_voter_stays_until_another_is_there() {
    let mut leader = settled(5);
    let mut wanted = leader.top.group().voters().regions().clone();
    for (want, now) in [(0, vec![0, 2]), (0, vec![0]), (3, vec![0, 3]), (3, vec![3])] {
        wanted.insert(region(4), BTreeSet::from([voter(4, want)]));
        leader.act(|top, archive, cx, writes| {
            let (term, holds) = (top.group().hard().term, top.group().hard().committed);
            let ack = HeartbeatAck { group: GroupId::Top, term, round: Round(1), voter: voter(4, 3), holds };
            top.hear(cx, writes, archive, &Message::HeartbeatAck(ack));
            top.group_mut().plan_regions(cx, &wanted);
        });
        leader.propose(5, 0);
        leader.act(|top, archive, cx, writes| {
            let (term, accepted) = (top.group().hard().term, top.group().hard().accepted);
            for voter in top.group().voters().iter().cloned() {
                let (index, hash) = (accepted.index, accepted.hash);
                let ack = CheckpointAck { group: GroupId::Top, term, index, hash, voter, accepted: true, reason: None };
                top.hear(cx, writes, archive, &Message::CheckpointAck(ack));
            }
        });
        assert!(leader.top.group().is_settled());
        let now: BTreeSet<Voter> = now.into_iter().map(|n| voter(4, n)).collect();
        assert_eq!(leader.top.group().voters().regions()[&region(4)], now);
    }
}

#[test]
fn questions_that_pass_through_a_node_and_ways_back_are_counted() {
    let mut leader = Leader::new(3);
    let (me, near, first, second) = (voter(0, 0), voter(0, 1), voter(1, 0), voter(2, 0));
    let (now, accepted) = (leader.now, leader.top.group().hard().accepted);
    assert_eq!(leader.top.under_way(), 0);
    for (asker, under_way) in [(&first, 2), (&second, 4)] {
        let candidate = asker.clone();
        let question = ElectionRequest { group: GroupId::Top, term: Term(9), candidate, accepted, pre: true };
        let message = Carried::new(Message::ElectionRequest(question));
        let to = vec![me.node.clone(), near.node.clone()];
        let relay = Relay { asker: asker.node.clone(), seq: 1, to, message };
        assert!(leader.top.on_relay(now, asker, &relay, &|_| true).is_some());
        assert_eq!(leader.top.under_way(), under_way);
    }
    let vote = |by: &Voter| {
        Message::ElectionVote(ElectionVote {
            group: GroupId::Top,
            term: Term(9),
            voter: by.clone(),
            pre: true,
            granted: true,
            reason: None,
            accepted,
        })
    };
    leader.top.answer(first.node.clone(), vote(&me));
    assert_eq!(leader.top.under_way(), 4, "the other has yet to answer");
    let answers = vec![Carried::new(vote(&near))];
    let answer = RelayAnswer { asker: first.node, seq: 1, region: region(0), region_term: Term(1), answers };
    assert!(leader.top.on_relay_answer(now, &near, answer).is_empty(), "it is not for us");
    assert_eq!(leader.top.under_way(), 3, "the way back stays");
}
