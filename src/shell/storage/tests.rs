use std::collections::BTreeMap;

use super::*;
use crate::core::hard_state::{HardState, HeldBody, Position, Record};
use crate::core::hlc::Hlc;
use crate::core::id::{Channel, GroupId, Index, NodeId, PersistSeq, RegionId, StoreId, Term, Voter};
use crate::core::ledger::body::Body;
use crate::core::ledger::document::Document;
use crate::core::reading::Reading;
use crate::core::state::entry::{Entry, Key, KeyedEntry, Scope, Value};
use crate::core::time::Wall;

fn group() -> GroupId {
    GroupId::Region(RegionId::new("main").unwrap())
}

fn genesis() -> Document {
    let voter = Voter { node: NodeId::new("gw-1").unwrap(), store: StoreId(1) };
    Document::genesis("lab", BTreeMap::from([(RegionId::new("main").unwrap(), vec![voter])])).unwrap()
}

fn entry() -> KeyedEntry {
    let wall = Wall::from_millis(1_700_000_000_000);
    let key = Key::new(NodeId::new("gw-1").unwrap(), Channel::new("temp").unwrap());
    let value = Value::of(&Reading::new(21.5, wall));
    KeyedEntry::new(&key, &Entry { value, stamp: Hlc::new(wall, 3), scope: Scope::Global })
}

fn founding() -> Vec<Record> {
    let genesis = genesis();
    vec![
        Record::Cluster(genesis.hash()),
        Record::Document(genesis.clone()),
        Record::Hard(group(), HardState { term: Term(4), ..HardState::new(genesis.hash()) }),
    ]
}

fn write(storage: &Storage, records: Vec<Record>) {
    storage.commit(vec![(PersistSeq(1), records)]).unwrap();
}

#[test]
fn a_store_gives_back_what_was_written() {
    for depth in [Depth::Disk, Depth::System] {
        gives_back_what_was_written(depth);
    }
}

fn gives_back_what_was_written(depth: Depth) {
    let dir = tempfile::tempdir().unwrap();
    let first = Storage::open_to(dir.path(), depth).unwrap();
    assert!(matches!(Storage::open(dir.path()), Err(OpenError::InUse { .. })));
    assert!(first.identity.fresh);
    let (key, kept) = entry().into_parts();
    let (body, _) = Body::of([(key.borrowed(), &kept)].into_iter());
    let held = HeldBody { index: Index(1), taken_at: Wall::from_millis(5), hash: body.hash(), global: None };
    let mark = Hlc::new(Wall::from_millis(1_700_000_000_000), 0);
    let mut records = founding();
    records.extend([Record::ClockMark(mark), Record::Own(entry()), Record::Body(body.clone()), Record::KeepBody(held)]);
    let seen = BTreeMap::from([(NodeId::new("gw-2").unwrap(), "10.0.0.2:7400".into())]);
    records.push(Record::LastSeen(seen.clone()));
    records.push(Record::Committed(group(), Position { index: Index(0), hash: genesis().hash() }));
    write(&first.storage, records);
    let id = first.identity.id;
    drop(first);

    let again = Storage::open_to(dir.path(), depth).unwrap();

    assert_eq!((again.identity.id, again.identity.fresh), (id, false));
    assert!(again.set_aside.is_none());
    assert_eq!(again.recovered.cluster, Some(genesis().hash()));
    assert_eq!(again.recovered.hard[0].1.term, Term(4));
    assert_eq!(again.recovered.clock_mark, mark);
    assert_eq!(again.recovered.own, vec![entry()]);
    assert_eq!(again.recovered.bodies_held, vec![held]);
    assert_eq!(again.recovered.last_seen, seen);
    assert_eq!(again.recovered.ledger, vec![(group(), Position { index: Index(0), hash: genesis().hash() })]);
    assert_eq!(again.storage.body(&body.hash()).unwrap(), Some(body.clone()));
    write(&again.storage, vec![Record::DropBody(body.hash()), Record::DropOwn(key.channel)]);
    assert_eq!(again.storage.body(&body.hash()).unwrap(), None);
}

#[test]
fn a_directory_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Storage::open(dir.path()).unwrap();
    assert!(matches!(Storage::open(dir.path()), Err(OpenError::InUse { .. })));
}

#[test]
fn a_corrupt_hard_state_is_set_aside_and_the_node_is_somebody_else() {
    let dir = tempfile::tempdir().unwrap();
    let first = Storage::open(dir.path()).unwrap();
    write(&first.storage, founding());
    let id = first.identity.id;
    let mut sealed = tables::seal(&HardState::new(genesis().hash()));
    *sealed.last_mut().unwrap() ^= 1;
    let edit = first.storage.db.begin_write().unwrap();
    edit.open_table(tables::HARD).unwrap().insert("region:main", &sealed[..]).unwrap();
    edit.commit().unwrap();
    drop(first);

    let again = Storage::open(dir.path()).unwrap();

    assert!(again.identity.fresh);
    assert_ne!(again.identity.id, id);
    let (aside, why) = again.set_aside.unwrap();
    assert!(aside.exists(), "nothing is lost");
    assert!(why.contains("hard state is corrupt"), "{why}");
    assert!(again.recovered.hard.is_empty());
}

#[test]
fn addresses_that_are_missing_or_damaged_are_learned_anew() {
    let dir = tempfile::tempdir().unwrap();
    let first = Storage::open(dir.path()).unwrap();
    write(&first.storage, founding());
    drop(first);
    let older = Storage::open(dir.path()).unwrap();
    assert!(older.set_aside.is_none() && older.recovered.last_seen.is_empty());
    let edit = older.storage.db.begin_write().unwrap();
    edit.open_table(tables::META).unwrap().insert(tables::LAST_SEEN, &b"rubbish!!"[..]).unwrap();
    edit.commit().unwrap();
    drop(older);

    let again = Storage::open(dir.path()).unwrap();

    assert!(again.set_aside.is_none(), "they are no reason to");
    assert!(again.recovered.last_seen.is_empty());
    assert_eq!(again.recovered.hard.len(), 1);
}

#[test]
fn a_hard_state_without_its_document_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let first = Storage::open(dir.path()).unwrap();
    write(
        &first.storage,
        vec![Record::Cluster(genesis().hash()), Record::Hard(group(), HardState::new(genesis().hash()))],
    );
    drop(first);
    let again = Storage::open(dir.path()).unwrap();
    assert!(again.set_aside.is_some());
}

#[test]
fn a_store_that_let_go_of_its_cluster_gives_back_none_and_keeps_its_readings() {
    let dir = tempfile::tempdir().unwrap();
    let first = Storage::open(dir.path()).unwrap();
    write(&first.storage, founding());
    write(&first.storage, vec![Record::Own(entry())]);
    write(&first.storage, vec![Record::NoCluster]);
    drop(first);
    let again = Storage::open(dir.path()).unwrap();
    assert!(again.set_aside.is_none());
    assert_eq!(again.recovered.cluster, None);
    assert!(again.recovered.hard.is_empty());
    assert_eq!(again.recovered.own, [entry()]);
}

/// redb panics over a table's name that is not UTF-8.
#[test]
fn a_store_that_cannot_be_read_without_a_panic_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let first = Storage::open(dir.path()).unwrap();
    write(&first.storage, founding());
    drop(first);
    let path = dir.path().join("store.redb");
    let mut bytes = std::fs::read(&path).unwrap();
    let name = b"documents";
    let places: Vec<usize> = (0..bytes.len() - name.len()).filter(|at| bytes[*at..].starts_with(name)).collect();
    assert!(!places.is_empty(), "the table is named in the file");
    places.into_iter().for_each(|at| bytes[at] = 0xFF);
    std::fs::write(&path, bytes).unwrap();

    let again = Storage::open(dir.path()).unwrap();

    assert!(again.identity.fresh);
    assert!(again.set_aside.is_some());
}

#[test]
fn a_file_of_garbage_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("store.redb"), vec![0xAB; 100_000]).unwrap();
    let opened = Storage::open(dir.path()).unwrap();
    assert!(opened.set_aside.is_some() && opened.identity.fresh);
}

#[test]
fn a_path_that_cannot_be_a_directory_is_an_error_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = Storage::open(&file.join("data")).err().expect("it cannot work").to_string();
    assert!(error.contains("a file stands where the directory should be"), "{error}");
}

#[test]
fn the_ledger_is_read_by_index() {
    let opened = Storage::in_memory();
    let records = (0..5).map(|i| {
        let position = Position { index: Index(i), hash: crate::core::id::Hash::of(&[i as u8]) };
        Record::Committed(group(), position)
    });
    write(&opened.storage, records.collect());
    let found = opened.storage.positions(&group(), Index(1), Index(3)).unwrap();
    assert_eq!(found.iter().map(|p| p.index.get()).collect::<Vec<_>>(), vec![1, 2, 3]);
    assert_eq!(opened.storage.newest(&group()).unwrap().unwrap().index, Index(4));
}
