use super::*;
use crate::core::hlc::{Hlc, Stamp};
use crate::core::id::{StoreId, Voter};
use crate::core::ledger::document::{Counts, Header, RegionCheckpoint};
use crate::core::rng::Rng;
use crate::core::time::{Now, Wall};
use crate::core::voters::Voters;
use crate::core::work::{Done, Work};

type Regions = BTreeMap<RegionId, RegionCheckpoint>;

fn name(text: &str) -> NodeId {
    NodeId::new(text).unwrap()
}

fn region(text: &str) -> RegionId {
    RegionId::new(text).unwrap()
}

fn archive(bodies_kept: usize) -> Archive {
    Archive::recover(&region("eu"), bodies_kept, Vec::new(), Vec::new(), &[])
}

fn with<T>(act: impl FnOnce(&mut Cx<'_>) -> T) -> (T, Vec<Effect>) {
    let (mut rng, mut fx) = (Rng::new(1), Vec::new());
    let now = Now { mono: Mono::from_micros(1), wall: Wall::from_millis(1) };
    let done = act(&mut Cx { now, rng: &mut rng, fx: &mut fx });
    (done, fx)
}

/// Does the work that was asked for, and what is asked for in turn.
fn compute(archive: &mut Archive, mut fx: Vec<Effect>, peers: &[NodeId]) -> Vec<Effect> {
    let mut rest = Vec::new();
    while let Some(effect) = fx.pop() {
        match effect {
            Effect::Compute { work } => {
                fx.extend(match work.run() {
                    Done::Body { hash, body } => with(|cx| archive.on_body_made(cx, hash, body, peers)).1,
                    Done::Compared { base, hash, difference } => {
                        archive.on_compared(base, hash, difference);
                        Vec::new()
                    }
                    done => panic!("{done:?}"),
                });
            }
            other => rest.push(other),
        }
    }
    rest
}

fn document(group: GroupId, index: u64, seconds: u64, body: Option<Hash>, regions: Regions) -> Document {
    let voter = Voter { node: name("a"), store: StoreId(1) };
    Document::seal(Header {
        group,
        index: Index(index),
        parent: None,
        taken_at: Stamp { time: Hlc::new(Wall::from_millis(seconds * 1000), 0), node: name("a") },
        proposer: name("a"),
        voters: Voters::of_region(region("eu"), [voter]).unwrap(),
        counts: Counts::default(),
        body,
        fused: None,
        regions,
        top: None,
        genesis: None,
    })
}

fn at(document: &Document) -> RegionCheckpoint {
    let header = document.header();
    let (index, taken_at, counts) = (header.index, header.taken_at.time, header.counts);
    RegionCheckpoint { index, hash: document.hash(), taken_at, counts, stale_ms: None }
}

fn commit(archive: &mut Archive, of: &str, index: u64, seconds: u64) -> (Document, Vec<Record>) {
    let body = Body::of_text(format!("{of} {index}").as_bytes());
    let group = GroupId::Region(region(of));
    let made = document(group, index, seconds, Some(body.hash()), BTreeMap::new());
    archive.cache_body(body);
    archive.adopt(&made);
    let records = archive.on_committed(&made, None);
    (made, records)
}

#[test]
fn a_body_of_many_chunks_arrives() {
    let mut rng = Rng::new(7);
    let text: Vec<u8> = (0..100_000).flat_map(|_| rng.bits().to_le_bytes()).collect();
    let (mut asks, mut holds, body) = (archive(9), archive(9), Body::of_text(&text));
    let hash = body.hash();
    assert!(body.packed().len() > 2 * CHUNK_BYTES);
    holds.cache_body(body);
    with(|cx| asks.fetch(cx, Content::Body, hash, None, name("b")));
    let mut arrived = Vec::new();
    loop {
        let (asked, answered) = (asks.take_facts(), holds.take_facts());
        if asked.is_empty() && answered.is_empty() {
            break;
        }
        for fact in asked {
            match fact {
                Fact::Send { message: Message::CheckpointFetch(fetch), .. } => {
                    with(|cx| holds.on_checkpoint_fetch(cx, &name("a"), &fetch));
                }
                fact => arrived.push(fact),
            }
        }
        for fact in answered {
            if let Fact::Send { message: Message::CheckpointBody(chunk), .. } = fact {
                let (_, fx) = with(|cx| asks.on_checkpoint_body(cx, &name("b"), chunk, &[]));
                compute(&mut asks, fx, &[]);
            }
        }
    }
    assert_eq!(arrived, [Fact::Arrived { content: Content::Body, hash, from: name("b") }]);
    assert!(asks.holds_body(&hash));
}

#[test]
fn a_few_documents_stay_however_large_and_many_if_they_are_small() {
    let mut large = archive(9);
    let example = at(&document(GroupId::Top, 1, 1, None, BTreeMap::new()));
    let regions: Regions = (0..2000).map(|i| (region(&format!("r{i}")), example.clone())).collect();
    for index in 1..=20 {
        let made = document(GroupId::Top, index, index, None, regions.clone());
        assert!(made.bytes().len() > DOCUMENT_BYTES_CACHED);
        assert_eq!(large.adopt(&made), [Record::Document(made.clone())]);
        assert!(large.document(&made.hash()).is_some());
    }
    assert_eq!(large.documents.len(), DOCUMENTS_CACHED_MIN);
    let bytes: usize = large.documents.values().map(|(document, _)| document.bytes().len()).sum();
    assert_eq!(large.document_bytes, bytes);
    let mut small = archive(9);
    for index in 1..=100 {
        small.adopt(&document(GroupId::Top, index, index, None, BTreeMap::new()));
    }
    assert_eq!(small.documents.len(), DOCUMENTS_CACHED);
}

#[test]
fn what_is_kept_of_bodies_and_what_goes_is_written_down() {
    let mut archive = archive(1);
    let all: Vec<_> = (1..=3).map(|index| commit(&mut archive, "eu", index, index)).collect();
    assert!(matches!(all[0].1[..], [Record::KeepBody(held)] if held.index == Index(1)), "{:?}", all[0].1);
    let second = all[1].0.header().body.unwrap();
    assert!(matches!(all[2].1[..], [Record::KeepBody(_), Record::DropBody(gone)] if gone == second));
    let named = BTreeMap::from([(region("eu"), at(&all[2].0))]);
    let records = archive.on_global(&document(GroupId::Top, 4, 9, None, named), &region("eu"));
    let global = Some((Wall::from_millis(9_000), Index(4)));
    assert!(matches!(records[..], [Record::KeepBody(held)] if held.global == global), "{records:?}");
}

#[test]
fn what_has_left_memory_is_loaded_for_a_peer_if_the_disk_may_hold_it() {
    let (mut archive, kept) = (archive(9), Body::of_text(b"kept"));
    archive.retention.write(kept.hash());
    let mut asked = |content, hash| {
        let fetch = CheckpointFetch { content, hash, offset: 0, base: None };
        let loads = with(|cx| archive.on_checkpoint_fetch(cx, &name("b"), &fetch)).1.len();
        (loads, archive.take_facts().len())
    };
    assert_eq!(asked(Content::Document, Hash::of(b"old")), (1, 0));
    assert_eq!(asked(Content::Body, kept.hash()), (1, 0));
    assert_eq!(asked(Content::Body, Hash::of(b"dropped")), (0, 1), "it is told at once that there is none");
    let (_, fx) = with(|cx| archive.on_loaded(cx, Content::Body, kept.hash(), Some(kept.packed().to_vec())));
    assert_eq!((fx.len(), archive.take_facts().len()), (1, 0), "it is checked first");
    compute(&mut archive, fx, &[]);
    let told = archive.take_facts();
    let whole = Some(kept.packed().len() as u64);
    assert!(matches!(&told[..], [Fact::Send { message: Message::CheckpointBody(c), .. }] if c.total == whole));
}

#[test]
fn what_was_accepted_in_a_region_that_was_left_keeps_its_body_after_a_restart() {
    let body = Body::of_text(b"left");
    let left = document(GroupId::Region(region("us")), 5000, 2, Some(body.hash()), BTreeMap::new());
    let held = |index, seconds: u64, hash| HeldBody {
        index: Index(index),
        taken_at: Wall::from_millis(seconds * 1000),
        hash,
        global: None,
    };
    let held = [held(4999, 1, Hash::of(b"the first of its hour")), held(5000, 2, body.hash())];
    let mut archive = Archive::recover(&region("eu"), 2, vec![left], vec![body.clone()], &held);
    let records: Vec<Record> = (1..=9).flat_map(|i| commit(&mut archive, "eu", i, 10 + i).1).collect();
    assert!(records.iter().any(|record| matches!(record, Record::DropBody(_))));
    assert!(!records.contains(&Record::DropBody(body.hash())));
}

/// What the archive asks of the world when it looks for what is overdue, so many seconds later.
fn after(archive: &mut Archive, seconds: u64, peers: &[NodeId]) -> Vec<Effect> {
    let (mut rng, mut fx) = (Rng::new(1), Vec::new());
    let now = Now { mono: Mono::from_micros(1 + seconds * 1_000_000), wall: Wall::from_millis(1) };
    archive.on_deadline(&mut Cx { now, rng: &mut rng, fx: &mut fx }, peers);
    fx
}

#[test]
fn a_fetch_of_what_nobody_holds_ends_and_whoever_waits_for_it_is_told() {
    let (mut archive, content, hash) = (archive(9), Content::Document, Hash::of(b"gone"));
    with(|cx| archive.fetch(cx, content, hash, None, name("b")));
    let fetch = CheckpointFetch { content, hash, offset: 0, base: None };
    with(|cx| archive.on_checkpoint_fetch(cx, &name("c"), &fetch));
    let peers = [name("b"), name("d")];
    let noticed: Vec<Effect> = (1..=100).flat_map(|second| after(&mut archive, second, &peers)).collect();
    assert!(matches!(noticed[..], [Effect::Notice(Notice::FetchFailed { hash: of, .. })] if of == hash), "{noticed:?}");
    let facts = archive.take_facts();
    let asks = |fact: &&Fact| matches!(fact, Fact::Send { message: Message::CheckpointFetch(_), .. });
    assert_eq!(facts.iter().filter(asks).count(), FETCH_ATTEMPTS as usize);
    let Some(Fact::Send { to, message: Message::CheckpointBody(told) }) = facts.last() else { panic!("{facts:?}") };
    assert_eq!((to, told.total), (&name("c"), None));
    assert_eq!(archive.deadline(), Mono::NEVER);
}

#[test]
fn a_chunk_of_more_than_is_allowed_or_of_another_place_is_not_taken() {
    let (mut archive, body) = (archive(9), Body::of_text(b"wanted"));
    let (content, hash) = (Content::Body, body.hash());
    with(|cx| archive.fetch(cx, content, hash, None, name("b")));
    archive.take_facts();
    let chunk = |offset: u64, total: usize, data: Vec<u8>| {
        let total = Some(total as u64);
        CheckpointBody { content, hash, offset, total, base: None, data }
    };
    for wrong in [chunk(0, BODY_BYTES_MAX + 1, vec![0; 8]), chunk(8, 64, vec![0; 8])] {
        with(|cx| archive.on_checkpoint_body(cx, &name("b"), wrong, &[]));
        assert!(archive.take_facts().is_empty(), "nothing more is asked of it");
        assert!(archive.fetches.values().all(|fetch| fetch.bytes.is_empty()));
    }
    let whole = chunk(0, body.packed().len(), body.packed().to_vec());
    let (_, fx) = with(|cx| archive.on_checkpoint_body(cx, &name("b"), whole.clone(), &[]));
    assert_eq!((fx.len(), archive.take_facts().len(), archive.deadline()), (1, 0, Mono::NEVER), "it is being checked");
    let (_, again) = with(|cx| archive.on_checkpoint_body(cx, &name("b"), whole, &[]));
    assert_eq!((again.len(), archive.take_facts().len()), (0, 0), "what comes meanwhile is not taken");
    let fetch = CheckpointFetch { content, hash, offset: 0, base: None };
    with(|cx| archive.on_checkpoint_fetch(cx, &name("c"), &fetch));
    compute(&mut archive, fx, &[]);
    let facts = archive.take_facts();
    assert!(matches!(&facts[..], [Fact::Send { to, .. }, Fact::Arrived { .. }] if *to == name("c")), "{facts:?}");
}

#[test]
fn two_bodies_are_compared_once_for_all_who_ask_meanwhile_and_later() {
    let (mut archive, text) = (archive(9), "a line of a body\n".repeat(100));
    let (base, body) = (Body::of_text(text.as_bytes()), Body::of_text(format!("{text}and one more\n").as_bytes()));
    let bodies = [base.clone(), body.clone()];
    bodies.into_iter().for_each(|body| archive.cache_body(body));
    let fetch = CheckpointFetch { content: Content::Body, hash: body.hash(), offset: 0, base: Some(base.hash()) };
    let asked = |archive: &mut Archive, by: &str| with(|cx| archive.on_checkpoint_fetch(cx, &name(by), &fetch)).1;
    let fx = asked(&mut archive, "b");
    assert!(matches!(fx[..], [Effect::Compute { work: Work::Compare { .. } }]), "{fx:?}");
    assert_eq!((asked(&mut archive, "c").len(), archive.take_facts().len()), (0, 0), "it is under way");
    let mut counted = Footprint::default();
    archive.count(&mut counted);
    assert_eq!(counted.fetches, 2);
    compute(&mut archive, fx, &[]);
    assert!(asked(&mut archive, "d").is_empty());
    let told = |fact: Fact| match fact {
        Fact::Send { to, message: Message::CheckpointBody(chunk) } if chunk.base == Some(base.hash()) => {
            (to, chunk.data)
        }
        fact => panic!("{fact:?}"),
    };
    let told: Vec<_> = archive.take_facts().into_iter().map(told).collect();
    assert_eq!(told.iter().map(|(to, _)| to.clone()).collect::<Vec<_>>(), ["b", "c", "d"].map(name));
    assert!(told.iter().all(|(_, data)| base.changed(data, body.hash()).as_ref() == Ok(&body)));
}

#[test]
fn a_body_that_is_not_what_its_name_says_is_asked_for_anew() {
    let (mut archive, base, body) = (archive(9), Body::of_text(b"held"), Body::of_text(b"wanted"));
    let (content, hash, peers) = (Content::Body, body.hash(), [name("c")]);
    let held = document(GroupId::Region(region("eu")), 1, 1, Some(base.hash()), BTreeMap::new());
    archive.cache_body(base.clone());
    with(|cx| archive.fetch(cx, content, hash, Some(&held), name("b")));
    let mut answered = |based: Option<Hash>, data: &[u8]| {
        let asked = archive.take_facts();
        let [Fact::Send { to, message: Message::CheckpointFetch(fetch) }] = &asked[..] else { panic!("{asked:?}") };
        let said = (to.clone(), fetch.base);
        let total = Some(data.len() as u64);
        let chunk = CheckpointBody { content, hash, offset: 0, total, base: based, data: data.to_vec() };
        let (_, fx) = with(|cx| archive.on_checkpoint_body(cx, to, chunk, &peers));
        assert!(matches!(fx[..], [Effect::Compute { .. }]), "{fx:?}");
        (said, compute(&mut archive, fx, &peers).len())
    };
    let other = crate::core::ledger::difference::between(b"held", b"another");
    assert_eq!(answered(Some(base.hash()), &other), ((name("b"), Some(base.hash())), 0));
    assert_eq!(answered(None, base.packed()), ((name("b"), None), 1), "the same is asked for the whole; it is told of");
    assert_eq!(answered(None, body.packed()), ((name("c"), None), 0), "then another");
    assert_eq!(archive.take_facts(), [Fact::Arrived { content, hash, from: name("c") }]);
}

#[test]
fn the_body_of_a_proposal_that_lost_its_place_goes_and_that_of_a_later_one_stays() {
    let mut archive = archive(9);
    let mut propose = |index: u64, text: &str| {
        let body = Body::of_text(text.as_bytes());
        let hash = body.hash();
        let made = document(GroupId::Region(region("eu")), index, index, Some(hash), BTreeMap::new());
        archive.cache_body(body);
        archive.adopt(&made);
        hash
    };
    let (rival, later) = (propose(1, "rival"), propose(2, "later"));
    let (_, records) = commit(&mut archive, "eu", 1, 1);
    assert!(records.contains(&Record::DropBody(rival)) && !records.contains(&Record::DropBody(later)), "{records:?}");
    assert!(!archive.holds_body(&rival) && archive.holds_body(&later));
}

#[test]
fn what_is_in_memory_and_what_is_on_its_way_is_counted() {
    let (mut archive, missing, on_disk) = (archive(9), Hash::of(b"missing"), Hash::of(b"on disk"));
    commit(&mut archive, "eu", 1, 1);
    archive.retention.write(on_disk);
    with(|cx| archive.fetch(cx, Content::Document, missing, None, name("b")));
    let asked = [("c", Content::Document, missing), ("d", Content::Document, missing), ("c", Content::Body, on_disk)];
    for (by, content, hash) in asked {
        let fetch = CheckpointFetch { content, hash, offset: 0, base: None };
        with(|cx| archive.on_checkpoint_fetch(cx, &name(by), &fetch));
    }
    let (group, hole) = (GroupId::Region(region("eu")), Position { index: Index(9), hash: missing });
    with(|cx| archive.note_hole(cx, &group, hole, None, &name("b")));
    let mut counted = Footprint::default();
    archive.count(&mut counted);
    // One is fetched, two wait for that, and one for the disk.
    assert_eq!((counted.documents, counted.bodies, counted.fetches, counted.gaps), (1, 1, 4, 1));
}
