//! What lasts, and what does not: with age, when it is forgotten, after a loss, and when clusters meet.

use super::*;
use crate::core::fusion::document::Summary;
use crate::core::id::Term;
use crate::core::ledger::document::{Counts, RegionCheckpoint};
use crate::core::message::exchange::SensorUpdate;

fn at(seconds: u64) -> Now {
    Now { mono: Mono::from_micros(1 + seconds * 1_000_000), wall: Wall::from_millis(WALL_MS + seconds * 1000) }
}

/// Wakes a node that is alone, on a disk that answers at once.
fn wake(node: &mut Node, now: Now) {
    let mut queue = VecDeque::from([Event::Wake]);
    while let Some(event) = queue.pop_front() {
        let mut fx = Vec::new();
        node.handle(event, now, &mut fx);
        for effect in fx {
            if let Effect::Persist { seq, .. } = effect {
                queue.push_back(Event::Persisted { seq });
            }
        }
    }
}

fn introduce(node: &mut Node, other: &str) {
    let start = Hlc::new(Wall::from_millis(WALL_MS), 0);
    let (region, version) = (RegionId::new("main").unwrap(), "x".to_owned());
    let info =
        system::NodeInfo { addr: other.into(), api: None, region, store: StoreId(2), start, version, left: false };
    let (mut rng, mut fx) = (Rng::new(1), Vec::new());
    let mut cx = Cx { now: at(0), rng: &mut rng, fx: &mut fx };
    node.liveness.on_member(&mut cx, &name("gw-1"), &name(other), &info, start);
}

#[test]
fn what_is_our_own_and_still_true_outlives_its_age_and_nothing_else_does() {
    let key = Key::new(name("gw-1"), system::channel(system::LEADER));
    let claim = system::LeaderClaim { region: RegionId::new("main").unwrap(), term: Term(1) };
    let stamp = Hlc::new(Wall::from_millis(WALL_MS), 0);
    let claim = KeyedEntry::new(&key, &Entry { value: Value::of(&claim), stamp, scope: Scope::Global });
    let own = vec![reading_of("gw-1", WALL_MS, 1.0), claim];
    let mut node = back_with(own, &[("gw-2", WALL_MS, 4.0)], WALL_MS);
    introduce(&mut node, "gw-2");
    for hour in 0..=30 {
        // The clock's mark is durable a second before own entries are looked at.
        [0, 9, 10].into_iter().for_each(|seconds| wake(&mut node, at(hour * 3600 + seconds)));
    }
    assert_eq!(value_of(&node, "gw-1"), Some(1.0));
    let stays = node.members().any(|(who, info)| *who == name("gw-1") && !info.left);
    assert!(stays, "it says that it is there");
    assert_eq!(value_of(&node, "gw-2"), None, "others say again themselves what still holds");
    assert_eq!(node.life_of(&name("gw-2")), Some(Liveness::Alive), "a reading that expires is no death");
    assert!(node.store().get(&key).is_none(), "it does not lead");
}

#[test]
fn a_node_that_lives_says_its_readings_anew_when_it_is_forgotten() {
    let mut node = back_with(vec![reading_of("gw-1", WALL_MS, 1.0)], &[], WALL_MS);
    introduce(&mut node, "gw-2");
    wake(&mut node, at(0));
    let up_to = Hlc::new(Wall::from_millis(WALL_MS + 500), 0);
    for forgotten in ["gw-1", "gw-2"] {
        let (mut rng, mut fx) = (Rng::new(1), Vec::new());
        node.apply_forget(&mut Cx { now: at(0), rng: &mut rng, fx: &mut fx }, &name(forgotten), up_to);
    }
    assert_eq!(value_of(&node, "gw-1"), Some(1.0));
    assert_eq!(node.life_of(&name("gw-2")), None);
}

#[test]
fn who_has_promised_anything_keeps_its_cluster_whatever_another_has_committed() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(20), |w| w.committed("gw-1") >= Some(Index(1)));
    let ours = world.nodes["gw-1"].view(world.now).cluster;
    let hello = |(_, m): &(String, Message)| if let Message::Hello(h) = m { Some(h.clone()) } else { None };
    let known = world.said.iter().filter_map(hello).next_back().unwrap();
    let (cluster, node, store) = (Some(Hash::of(b"another")), name("gw-7"), StoreId(7));
    let stranger = Hello { cluster, committed: true, node, store, addr: "elsewhere".into(), ..known };
    let link = LinkId(999_999);
    world.queue.push_back(("gw-1".into(), Event::LinkUp { link, dialed: None }));
    world.queue.push_back(("gw-1".into(), Event::Received { link, message: Box::new(Message::Hello(stranger)) }));
    world.drain();
    assert_eq!(world.nodes["gw-1"].view(world.now).cluster, ours);
    assert!(!world.disks["gw-1"].contains(&Record::NoCluster));
}

#[test]
fn what_is_written_after_a_lost_entry_came_back_from_the_future_replaces_it() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(20), |w| w.committed("gw-1") >= Some(Index(1)));
    let lost = reading_of("gw-1", world.now.wall.as_millis() + 5_000, 1.0);
    let link = *world.links.iter().find(|(_, (at, from, _))| at == "gw-1" && from == "gw-2").unwrap().0;
    let message = Box::new(Message::SensorUpdate(SensorUpdate { entries: vec![lost] }));
    world.queue.push_back(("gw-1".into(), Event::Received { link, message }));
    world.drain();
    let readings = vec![(Channel::new("t").unwrap(), Reading::new(2.0, world.now.wall))];
    let request = world.ask("gw-1", Command::Put { readings, ack: Ack::Memory });
    assert!(matches!(world.reply(request), Some(Reply::Put { .. })), "{:?}", world.reply(request));
    world.run_until(SECONDS(5), |w| w.nodes.values().all(|node| value_of(node, "gw-1") == Some(2.0)));
}

#[test]
fn the_newest_summary_of_a_region_counts_and_what_it_is_of_is_said() {
    let (mut node, eu) = (back_with(vec![], &[], WALL_MS), RegionId::new("eu").unwrap());
    for (origin, index, ms) in [("gw-7", 4, 1_000), ("gw-8", 6, 3_000), ("gw-9", 5, 2_000)] {
        let taken = Wall::from_millis(ms);
        let summary = Summary { region: eu.clone(), index: Index(index), taken, parts: Vec::new(), omitted: 0 };
        let entry = Entry { value: Value::of(&summary), stamp: Hlc::new(taken, 0), scope: Scope::Global };
        node.store.insert_own(Key::new(name(origin), system::channel(system::SUMMARY)), entry);
    }
    assert_eq!(node.summaries().iter().map(|summary| summary.index).collect::<Vec<_>>(), [Index(6)]);
    let of = |index| {
        let (hash, taken_at, counts) = (Hash::of(b"x"), Hlc::ZERO, Counts::default());
        let named = RegionCheckpoint { index: Index(index), hash, taken_at, counts, stale_ms: None };
        let named = BTreeMap::from([(eu.clone(), named)]);
        node.fuse_regions(&BTreeSet::from([eu.clone()]), &named, Wall::from_millis(WALL_MS)).unwrap().of
    };
    assert_eq!(of(7), BTreeMap::from([(eu.clone(), Some(Index(6)))]));
    assert!(of(6).is_empty(), "it is of the checkpoint that is named");
}

#[test]
fn a_ledger_that_was_filled_half_way_down_at_a_crash_is_filled_after_it() {
    let mut world = World::new(&THREE);
    let everybody = BTreeMap::from([(RegionId::new("main").unwrap(), THREE.iter().map(|node| name(node)).collect())]);
    world.run_until(SECONDS(60), |w| THREE.iter().all(|node| w.committed(node) >= Some(Index(8))));
    let held = |w: &World| -> BTreeSet<u64> {
        let at = |record: &Record| if let Record::Committed(_, at) = record { Some(at.index.get()) } else { None };
        w.disks["gw-3"].iter().filter_map(at).collect()
    };
    assert!((0..=8).all(|index| held(&world).contains(&index)));
    for lost in [0..=5, 2..=4, 0..=0] {
        world.kill("gw-3");
        world.disks.get_mut("gw-3").unwrap().retain(|record| match record {
            Record::Committed(_, at) => !lost.contains(&at.index.get()),
            Record::Document(document) => !lost.contains(&document.header().index.get()),
            _ => true,
        });
        world.restart_in("gw-3", "main", &everybody);
        world.run_until(SECONDS(20), |w| lost.clone().all(|index| held(w).contains(&index)));
    }
}

#[test]
fn an_observers_ledger_that_a_crash_left_with_a_hole_is_filled_after_it() {
    let mut world = World::new(&THREE);
    world.start("gw-4", &THREE, 4);
    let held = |w: &World| -> BTreeSet<u64> {
        let at = |record: &Record| if let Record::Committed(_, at) = record { Some(at.index.get()) } else { None };
        w.disks.get("gw-4").into_iter().flatten().filter_map(at).collect()
    };
    world.run_until(SECONDS(60), |w| (0..=4).all(|index| held(w).contains(&index)));
    assert_eq!(world.nodes["gw-4"].group().map(Group::is_voter), Some(false));
    world.kill("gw-4");
    let lost = 1..=2;
    world.disks.get_mut("gw-4").unwrap().retain(|record| match record {
        Record::Committed(_, at) => !lost.contains(&at.index.get()),
        Record::Document(document) => !lost.contains(&document.header().index.get()),
        _ => true,
    });
    // It is the fourth in the list, as its store is.
    let all = THREE.iter().chain(&["gw-4"]).map(|node| name(node)).collect();
    world.restart_in("gw-4", "main", &BTreeMap::from([(RegionId::new("main").unwrap(), all)]));
    world.run_until(SECONDS(20), |w| lost.clone().all(|index| held(w).contains(&index)));
}

#[test]
fn what_one_says_that_leads_outlives_its_age_however_short_that_is() {
    let main = RegionId::new("main").unwrap();
    let mut params = Params::new("lab", name("gw-1"), main.clone(), "gw-1".into());
    params.initial_voters = BTreeMap::from([(main, vec![name("gw-1")])]);
    params.retain = SECONDS(8);
    let mut world = World::new(&[]);
    world.start_with("gw-1", params, 1);
    world.run_until(SECONDS(20), |w| w.nodes["gw-1"].is_leader());
    let readings = vec![(Channel::new("t").unwrap(), Reading::new(1.0, world.now.wall))];
    let request = world.ask("gw-1", Command::Put { readings, ack: Ack::Memory });
    assert!(matches!(world.reply(request), Some(Reply::Put { .. })), "{:?}", world.reply(request));
    let end = world.now.mono + SECONDS(60);
    world.run_until(SECONDS(61), |w| w.now.mono >= end);
    let node = &world.nodes["gw-1"];
    assert_eq!(value_of(node, "gw-1"), Some(1.0));
    let claim = Key::new(name("gw-1"), system::channel(system::LEADER));
    assert!(node.is_leader() && node.store().get(&claim).is_some());
}

#[test]
fn who_waits_for_its_region_keeps_the_cluster_that_it_was_shown() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(20), |w| w.committed("gw-1") >= Some(Index(1)));
    let ours = world.nodes["gw-1"].view(world.now).cluster;
    let (main, other) = (RegionId::new("main").unwrap(), RegionId::new("b").unwrap());
    let voters = BTreeMap::from([(main, THREE.map(name).to_vec()), (other, vec![name("b1"), name("b2")])]);
    world.start_in("b1", "b", &voters, 11);
    world.run_until(SECONDS(20), |w| w.nodes["b1"].view(w.now).cluster == ours);
    assert!(world.nodes["b1"].group().is_none(), "nobody has added its region");
    let hello = |(_, m): &(String, Message)| if let Message::Hello(h) = m { Some(h.clone()) } else { None };
    let known = world.said.iter().filter_map(hello).next_back().unwrap();
    let (cluster, node, store) = (Some(Hash::of(b"another")), name("gw-7"), StoreId(7));
    let stranger = Hello { cluster, committed: true, node, store, addr: "elsewhere".into(), ..known };
    let link = LinkId(999_999);
    world.queue.push_back(("b1".into(), Event::LinkUp { link, dialed: None }));
    world.queue.push_back(("b1".into(), Event::Received { link, message: Box::new(Message::Hello(stranger)) }));
    world.drain();
    assert_eq!(world.nodes["b1"].view(world.now).cluster, ours);
    assert!(!world.disks["b1"].contains(&Record::NoCluster));
}

#[test]
fn what_is_sensed_before_the_clock_may_stamp_anything_is_not_lost() {
    let mut node = back_with(vec![], &[], WALL_MS);
    let readings = vec![(Channel::new("t").unwrap(), Reading::new(1.0, Wall::from_millis(WALL_MS)))];
    let mut fx = Vec::new();
    node.handle(Event::Sensed { readings }, at(0), &mut fx);
    assert_eq!(value_of(&node, "gw-1"), None, "no mark is durable");
    for effect in fx {
        if let Effect::Persist { seq, .. } = effect {
            node.handle(Event::Persisted { seq }, at(0), &mut Vec::new());
        }
    }
    assert_eq!(value_of(&node, "gw-1"), Some(1.0));
}
