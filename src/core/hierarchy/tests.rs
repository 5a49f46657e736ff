//! What the top leader sends and hears, by the number of regions.

use super::*;
use crate::core::consensus::{Contents, Snapshot};
use crate::core::hard_state::Record;
use crate::core::hlc::{Hlc, Stamp};
use crate::core::id::{Hash, Index, PersistSeq, StoreId};
use crate::core::ledger::document::{Counts, RegionCheckpoint};
use crate::core::message::agreement::{CheckpointAck, ElectionVote, HeartbeatAck};
use crate::core::rng::Rng;
use crate::core::time::{Now, Wall};

/// Holds whatever it is given, durably and at once.
struct Shelf;

impl Holdings for Shelf {
    fn document(&self, _: &Hash) -> Option<Document> {
        None
    }

    fn has_body(&self, _: &Hash) -> bool {
        true
    }

    fn adopt(&mut self, document: &Document) -> Vec<Record> {
        vec![Record::Document(document.clone())]
    }
}

fn voter(region: usize, n: usize) -> Voter {
    Voter { node: NodeId::new(&format!("gw-{region:04}-{n}")).unwrap(), store: StoreId((region * 8 + n) as u128) }
}

fn region(n: usize) -> RegionId {
    RegionId::new(&format!("region-{n:04}")).unwrap()
}

/// A leader of `regions` regions of three voters, and bytes that go out and come in.
struct Leader {
    top: Hierarchy,
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
        Self { top, writes: Writes::default(), rng, now, persisted: PersistSeq(0) }
    }

    fn act(&mut self, act: impl FnOnce(&mut Hierarchy, &mut Cx<'_>, &mut Writes)) {
        let mut fx = Vec::new();
        let mut cx = Cx { now: Now { mono: self.now, wall: Wall::from_millis(1) }, rng: &mut self.rng, fx: &mut fx };
        act(&mut self.top, &mut cx, &mut self.writes);
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

    /// Takes what is sent and lets every voter answer, each region in one frame.
    fn round(&mut self) -> Traffic {
        let mut traffic = Traffic::default();
        let facts = self.top.take_facts(&|_| true);
        for fact in facts {
            let Fact::Send { message, .. } = fact else { continue };
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
            self.act(|top, cx, writes| heard.iter().for_each(|m| top.hear(cx, writes, &mut Shelf, m)));
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
    leader.act(|top, cx, writes| top.on_deadline(cx, writes));
    for _ in 0..4 {
        leader.round();
    }
    assert!(leader.top.group().is_settled(), "{regions} regions elect it and commit the genesis");
    leader.round();
    leader.now = leader.now + std::time::Duration::from_millis(500);
    leader.act(|top, cx, writes| top.on_deadline(cx, writes));
    let beat = leader.round();
    let at = RegionCheckpoint {
        index: Index(12_345),
        hash: Hash::of(b"x"),
        taken_at: Hlc::new(Wall::from_millis(1_700_000_000_000), 1),
        counts: Counts { nodes: 100, readings: 1_000 },
        stale_ms: None,
    };
    let all = (0..regions).map(|r| (region(r), at.clone())).collect();
    let taken_at = Stamp { time: Hlc::new(Wall::from_millis(1_700_000_000_000), 2), node: voter(0, 0).node };
    let snapshot =
        Snapshot { taken_at, counts: Counts::default(), contents: Contents::Regions { regions: all, fused: None } };
    leader.act(|top, cx, writes| top.group_mut().propose(cx, writes, &mut Shelf, snapshot));
    let proposal = leader.round();
    (beat, proposal, leader.top.group().accepted().bytes().len())
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
        before = Some((beat, document));
    }
}

#[test]
fn heartbeats_of_the_top_leader_and_documents_grow_with_regions_and_not_faster() {
    grows_with_regions(&[10, 100]);
}

#[test]
#[ignore = "takes minutes: `cargo test --release -- --ignored --nocapture thousand`"]
fn they_do_so_up_to_a_thousand_regions() {
    grows_with_regions(&[10, 100, 1_000]);
}
