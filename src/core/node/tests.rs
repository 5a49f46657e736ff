mod beside;
mod clock;
mod lasting;
mod own;
mod top;
mod world;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::*;
use crate::core::event::Ack;
use crate::core::id::{Index, StoreId};
use crate::core::ledger::body::Body;
use crate::core::message::agreement::{CheckpointPropose, Content, Heartbeat};
use crate::core::message::session::Hello;
use crate::core::node::tests::world::{SECONDS, THREE, Tamper, World, name};
use crate::core::reading::Reading;
use crate::core::state::entry::{Entry, Key, KeyedEntry, Scope, Value};
use crate::core::state::system;
use crate::core::time::Wall;
use crate::core::view::Liveness;
use crate::core::work::Work;

#[test]
fn three_fresh_nodes_found_a_cluster_and_commit_checkpoints() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(20), |w| THREE.iter().all(|node| w.committed(node) >= Some(Index(2))));
    let clusters: BTreeSet<_> = world.nodes.values().map(|node| node.view(world.now).cluster).collect();
    assert_eq!(clusters.len(), 1);
    assert_eq!(world.nodes.values().filter(|node| node.is_leader()).count(), 1);
}

#[test]
fn a_fresh_node_waits_for_all_initial_voters_by_name() {
    let mut world = World::new(&[]);
    world.start("gw-1", &THREE, 1);
    world.start("gw-2", &THREE, 2);
    world.run_until(SECONDS(5), |w| w.nodes["gw-1"].view(w.now).waiting_for == [name("gw-3")]);
    assert_eq!(world.nodes["gw-1"].view(world.now).cluster, None);
    world.start("gw-3", &THREE, 3);
    world.run_until(SECONDS(20), |w| w.nodes.values().all(|node| node.view(w.now).cluster.is_some()));
}

#[test]
fn a_founder_whom_nobody_followed_joins_the_cluster_that_the_others_founded() {
    let mut world = World::new(&[]);
    let silenced = |_: &str, _: &str, message: Message| match message {
        Message::Hello(hello) if hello.node == name("gw-3") => {
            Some(Message::Hello(Hello { cluster: None, committed: false, ..hello }))
        }
        message => Some(message),
    };
    // Two know the third alone, which founds the cluster, and one of them loses its disk before it hears of that.
    world.tamper = Box::new(move |from, to, message| match (from, to) {
        ("gw-1", "gw-2") | ("gw-2", "gw-1") => None,
        _ => silenced(from, to, message),
    });
    (1..4).for_each(|store| world.start(&format!("gw-{store}"), &THREE, store));
    world.run_until(SECONDS(20), |w| w.nodes["gw-3"].view(w.now).cluster.is_some());
    let alone = world.nodes["gw-3"].view(world.now).cluster;
    assert!(world.nodes["gw-1"].view(world.now).cluster.is_none(), "nobody has followed");
    world.kill("gw-2");
    world.tamper = Box::new(silenced);
    world.start("gw-2", &THREE, 22);
    world.run_until(SECONDS(60), |w| THREE.iter().all(|node| w.committed(node) >= Some(Index(1))));
    let clusters: BTreeSet<_> = world.nodes.values().map(|node| node.view(world.now).cluster).collect();
    assert_eq!(clusters.len(), 1);
    assert!(!clusters.contains(&alone));
    assert!(world.notices.iter().any(|(node, notice)| node == "gw-3" && matches!(notice, Notice::LetGo { .. })));
    assert!(world.disks["gw-3"].contains(&Record::NoCluster));
}

#[test]
fn a_reading_reaches_everyone_and_every_kind_of_acknowledgement_comes() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(20), |w| w.committed("gw-1") >= Some(Index(1)));
    for ack in [Ack::Memory, Ack::Disk, Ack::Peers(2), Ack::Checkpoint] {
        let readings = vec![(Channel::new("temp").unwrap(), Reading::new(21.5, world.now.wall))];
        let request = world.ask("gw-2", Command::Put { readings, ack });
        world.run_until(SECONDS(20), |w| w.reply(request).is_some());
        assert!(matches!(world.reply(request), Some(Reply::Put { .. })), "{ack:?}: {:?}", world.reply(request));
        world.replies.clear();
    }
    let key = crate::core::state::entry::Key::new(name("gw-2"), Channel::new("temp").unwrap());
    assert!(world.nodes.values().all(|node| node.store().get(&key).is_some()));
}

#[test]
fn a_write_is_answered_although_the_checkpoint_that_holds_it_is_on_disk_alone() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(20), |w| w.committed("gw-1") >= Some(Index(1)) && w.leader().is_some());
    let leader = world.leader().unwrap();
    let writer = *THREE.iter().find(|node| **node != leader).unwrap();
    world.tamper = Box::new(move |_, to, message| match message {
        Message::SensorUpdate(_) if to == writer => None,
        Message::Heartbeat(beat) if to == writer => Some(Message::Heartbeat(Heartbeat { committed: None, ..beat })),
        message => Some(message),
    });
    let readings = vec![(Channel::new("temp").unwrap(), Reading::new(21.5, world.now.wall))];
    let request = world.ask(writer, Command::Put { readings, ack: Ack::Checkpoint });
    let accepted = move |w: &World| w.nodes[writer].group().unwrap().hard().accepted.hash;
    let before = accepted(&world);
    world.run_until(SECONDS(20), |w| accepted(w) != before);
    let others = (1..9).map(|stamp| Body::of_text(format!("{stamp}").as_bytes()));
    assert_eq!(world.reply(request), None, "its checkpoint is accepted and not known to be committed");
    others.for_each(|body| world.nodes.get_mut(writer).unwrap().archive.cache_body(body));
    world.tamper = Box::new(|_, _, message| Some(message));
    world.run_until(SECONDS(5), |w| w.reply(request).is_some());
    assert!(matches!(world.reply(request), Some(Reply::Put { .. })), "{:?}", world.reply(request));
}

#[test]
fn a_wall_clock_that_is_set_while_neighbours_are_there_stamps_nothing_in_the_future() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(20), |w| w.nodes.values().all(|node| node.view(w.now).clock_offset_ms == Some(0)));
    for ahead in [SECONDS(3600), SECONDS(0)] {
        world.ahead.insert("gw-2".into(), ahead);
        let readings = vec![(Channel::new("temp").unwrap(), Reading::new(21.5, world.now.wall))];
        let request = world.ask("gw-2", Command::Put { readings, ack: Ack::Memory });
        let Some(Reply::Put { stamps }) = world.reply(request).cloned() else { panic!("the write is refused") };
        let (stamped, now) = (stamps[0].wall(), world.now.wall);
        assert!(stamped.millis_after(now).abs() < 1000, "stamped {} ms ahead", stamped.millis_after(now));
        world.replies.clear();
    }
    let told: Vec<_> = world.notices.iter().filter(|(node, _)| node == "gw-2").map(|(_, notice)| notice).collect();
    assert!(told.contains(&&Notice::ClockOff { offset_ms: -3_600_000 }), "{told:?}");
    assert!(told.contains(&&Notice::ClockBack), "{told:?}");
}

#[test]
fn another_leader_goes_on_where_a_dead_one_stopped() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(20), |w| w.committed("gw-1") >= Some(Index(2)) && w.leader().is_some());
    let (old, before) = (world.leader().unwrap(), world.committed("gw-1"));
    world.kill(&old);
    world.run_until(SECONDS(10), |w| w.leader().is_some_and(|leader| w.committed(&leader) > before));
    assert_ne!(world.leader().unwrap(), old);
}

#[test]
fn a_linearizable_read_is_answered_by_the_leader_and_redirected_by_others() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(20), |w| w.committed("gw-1") >= Some(Index(1)) && w.leader().is_some());
    let leader = world.leader().unwrap();
    let other = THREE.iter().find(|node| **node != leader).unwrap();
    let read = world.ask(&leader, Command::Latest { linearizable: true, top: false });
    world.run_until(SECONDS(2), |w| w.reply(read).is_some());
    assert!(matches!(world.reply(read), Some(Reply::Latest { latest: Some(_) })));
    world.replies.clear();
    let read = world.ask(other, Command::Latest { linearizable: true, top: false });
    assert_eq!(world.reply(read), Some(&Reply::Redirect { leader: name(&leader) }));
}

#[test]
fn whoever_asked_a_leader_to_take_a_voter_out_is_answered_when_it_leads_no_more() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(20), |w| w.committed("gw-1") >= Some(Index(1)) && w.leader().is_some());
    let leader = world.leader().unwrap();
    let alone = leader.clone();
    world.tamper = Box::new(move |from, to, message| (from != alone && to != alone).then_some(message));
    let other = THREE.iter().find(|node| **node != leader).unwrap();
    let request = world.ask(&leader, Command::RemoveVoter { node: name(other) });
    world.run_until(SECONDS(20), |w| !w.nodes[&leader].is_leader());
    assert_eq!(world.reply(request), Some(&Reply::Refused { why: RefusedCommand::Deposed }));
}

#[test]
fn what_a_forgotten_node_said_is_gone_everywhere_and_said_anew_when_it_comes_back() {
    let mut world = World::new(&THREE);
    world.start("gw-0", &THREE, 4);
    let knows = |w: &World, node: &str| w.nodes[node].store().of_origin(&name("gw-0")).next().is_some();
    world.run_until(SECONDS(20), |w| w.committed("gw-1").is_some() && THREE.iter().all(|node| knows(w, node)));
    world.kill("gw-0");
    let life = |w: &World, node: &str| w.nodes[node].life_of(&name("gw-0"));
    world.run_until(SECONDS(20), |w| life(w, "gw-1") == Some(Liveness::Dead));
    let request = world.ask("gw-1", Command::Forget { node: name("gw-0") });
    world.run_until(SECONDS(5), |w| w.reply(request).is_some());
    assert_eq!(world.reply(request), Some(&Reply::Done));
    world.run_until(SECONDS(5), |w| THREE.iter().all(|node| !knows(w, node)));
    world.start("gw-0", &THREE, 4);
    world.run_until(SECONDS(20), |w| THREE.iter().all(|node| knows(w, node)));
    // A newcomer hears of origins in order: that gw-0 is back, and then that gw-1 has forgotten it before.
    world.tamper =
        Box::new(|from, to, message| (![from, to].iter().all(|at| ["gw-0", "gw-9"].contains(at))).then_some(message));
    world.start("gw-9", &THREE, 9);
    let forget = Key::new(name("gw-1"), crate::core::state::system::forget_channel(&name("gw-0")));
    world.run_until(SECONDS(20), |w| w.nodes["gw-9"].store().get(&forget).is_some());
    assert!(knows(&world, "gw-9"));
    assert_eq!(life(&world, "gw-9"), Some(Liveness::Alive));
}

#[test]
fn a_write_is_confirmed_by_peers_whose_first_word_was_lost() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(20), |w| w.committed("gw-1") >= Some(Index(1)));
    world.tamper = Box::new(|_, _, message| (!matches!(message, Message::Confirm(_))).then_some(message));
    let readings = vec![(Channel::new("temp").unwrap(), Reading::new(21.5, world.now.wall))];
    let request = world.ask("gw-2", Command::Put { readings, ack: Ack::Peers(2) });
    assert_eq!(world.reply(request), None);
    world.tamper = Box::new(|_, _, message| Some(message));
    world.run_until(SECONDS(5), |w| matches!(w.reply(request), Some(Reply::Put { .. })));
}

#[test]
fn nothing_is_said_on_a_link_before_hello_even_to_a_peer_that_was_first() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(20), |w| w.committed("gw-1") >= Some(Index(1)));
    let main = RegionId::new("main").unwrap();
    let voters = THREE.iter().zip(1..).map(|(node, store)| Voter { node: name(node), store: StoreId(store) }).collect();
    let genesis = Document::genesis("lab", BTreeMap::from([(main.clone(), voters)])).unwrap();
    assert_eq!(
        world.nodes["gw-1"].view(world.now).cluster,
        Some(genesis.hash()),
        "the world founded this very cluster"
    );
    let recovered = Recovered {
        cluster: Some(genesis.hash()),
        hard: vec![(GroupId::Region(main.clone()), HardState::new(genesis.hash()))],
        documents: vec![genesis],
        ..Recovered::default()
    };
    let params = Params { node: name("gw-3"), ..world.nodes["gw-3"].params().clone() };
    let identity = StoreIdentity { id: StoreId(3), fresh: false };
    let mut node = Node::recover(params, identity, recovered, 9, world.now);
    let mut fx = Vec::new();
    node.handle(Event::Wake, world.now, &mut fx);
    node.handle(Event::LinkUp { link: LinkId(1), dialed: Some("gw-1".into()) }, world.now, &mut fx);
    let hello = Hello {
        versions: (1, 1),
        cluster: node.view(world.now).cluster,
        committed: false,
        name: "lab".into(),
        node: name("gw-1"),
        store: StoreId(1),
        region: main,
        start: Hlc::new(world.now.wall, 0),
        life: 1,
        addr: "gw-1".into(),
        software: "test".into(),
        wall: world.now.wall,
    };
    let received = Event::Received { link: LinkId(1), message: Box::new(Message::Hello(hello)) };
    node.handle(received, world.now, &mut fx);
    let writes: Vec<PersistSeq> = fx
        .iter()
        .filter_map(|effect| if let Effect::Persist { seq, .. } = effect { Some(*seq) } else { None })
        .collect();
    for seq in writes {
        node.handle(Event::Persisted { seq }, world.now, &mut fx);
    }
    let sent: Vec<&str> = fx
        .iter()
        .filter_map(|effect| if let Effect::Send { message, .. } = effect { Some(message.type_name()) } else { None })
        .collect();
    assert_eq!(sent.first(), Some(&"HELLO"), "{sent:?}");
    assert!(sent.len() > 1, "and then the link is used: {sent:?}");
}

#[test]
fn a_copy_that_started_at_the_same_clock_mark_is_refused_and_never_takes_over_a_link() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(20), |w| w.committed("gw-1") >= Some(Index(1)));
    let hellos = world.said.iter().filter(|(node, _)| node == "gw-2");
    let last =
        hellos.filter_map(|(_, m)| if let Message::Hello(hello) = m { Some(hello.clone()) } else { None }).next_back();
    let live = last.expect("gw-2 has greeted");
    let copy = Hello { life: live.life ^ 1, addr: "elsewhere".into(), ..live };
    let link = LinkId(999_999);
    world.queue.push_back(("gw-1".into(), Event::LinkUp { link, dialed: None }));
    world.queue.push_back(("gw-1".into(), Event::Received { link, message: Box::new(Message::Hello(copy)) }));
    world.drain();
    let refused = |w: &World| w.notices.iter().any(|(_, notice)| matches!(notice, Notice::DuplicateNode { .. }));
    let downs = |w: &World| w.notices.iter().filter(|(_, notice)| matches!(notice, Notice::PeerDown { .. })).count();
    let before = downs(&world);
    world.run_until(SECONDS(5), refused);
    assert!(refused(&world), "the copy is found out");
    assert_eq!(downs(&world), before, "the live one keeps its link");
}

#[test]
fn an_entry_that_its_origin_lost_in_a_crash_comes_back_to_it() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(20), |w| w.committed("gw-1") >= Some(Index(1)));
    let key = Key::new(name("gw-1"), Channel::new("@suspect/gw-3").unwrap());
    let stamp = Hlc::new(world.now.wall, 0);
    let doubt = crate::core::state::system::Suspicion { of: Hlc::new(world.now.wall, 0), refused: false };
    let lost = Entry { value: Value::of(&doubt), stamp, scope: Scope::Global };
    for node in ["gw-2", "gw-3"] {
        let admitted = world.nodes.get_mut(node).unwrap().store.admit(KeyedEntry::new(&key, &lost), world.now.wall);
        assert!(matches!(admitted, crate::core::state::store::Outcome::New { .. }), "{admitted:?}");
    }
    world.run_until(SECONDS(20), |w| {
        let sums: Vec<_> = w.nodes.values().map(|node| node.store.summary()).collect();
        sums.iter().all(|sum| *sum == sums[0]) && w.nodes["gw-1"].store.get(&key).is_some()
    });
}

#[test]
fn nodes_of_two_releases_work_together_while_they_have_a_version_in_common_and_else_say_why_not() {
    let mut world = World::new(&[]);
    for (i, (node, versions)) in [("gw-1", (1, 1)), ("gw-2", (1, 2)), ("gw-3", (1, 2))].into_iter().enumerate() {
        world.start_speaking(node, &THREE, i as u128 + 1, versions);
    }
    world.run_until(SECONDS(20), |w| THREE.iter().all(|node| w.committed(node) >= Some(Index(2))));
    world.start_speaking("gw-4", &THREE, 4, (2, 2));
    let words = "gw-4 speaks protocol versions 2 to 2, gw-1 speaks 1 to 1: upgrade the older of them";
    let told = |w: &World| {
        let refused = |m: &Message| matches!(m, Message::Error(error) if error.message == words);
        w.said.iter().any(|(node, message)| node == "gw-1" && refused(message))
    };
    world.run_until(SECONDS(20), |w| told(w) && w.committed("gw-4") >= Some(Index(2)));
    assert!(told(&world), "the older one refuses in words");
    assert!(world.committed("gw-4") >= Some(Index(2)), "those that speak 2 as well take it in");
}

/// The proposals told to these nodes from now on reach them as an older release reads them: it knows no differences.
fn older(names: &'static [&str]) -> Box<Tamper> {
    Box::new(|_, to, message| match message {
        Message::CheckpointPropose(propose) if names.contains(&to) => {
            Some(Message::CheckpointPropose(CheckpointPropose { difference: Vec::new(), ..propose }))
        }
        other => Some(other),
    })
}

/// Messages said since the checkpoint of this index was first proposed, until the leader has committed it.
fn said_of_one_checkpoint(world: &mut World) -> Vec<Message> {
    let leader = world.leader().unwrap();
    let next = world.committed(&leader).unwrap().next();
    world.said.clear();
    let due = world.now.mono + SECONDS(5) + Duration::from_millis(200);
    world.run_until(SECONDS(6), |w| w.committed(&leader) >= Some(next) && w.said.len() > 20);
    assert!(world.now.mono < due, "no second attempt an election timeout later was needed");
    world.said.drain(..).map(|(_, message)| message).collect()
}

#[test]
fn voters_are_told_what_differs_and_an_older_release_the_whole_at_once() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(20), |w| THREE.iter().all(|node| w.committed(node) >= Some(Index(2))));
    let proposals = |said: Vec<Message>| {
        let whole = said.iter().filter_map(|message| match message {
            Message::CheckpointPropose(propose) => Some(propose.difference.is_empty() && !propose.document.is_empty()),
            _ => None,
        });
        whole.collect::<Vec<bool>>()
    };
    assert_eq!(proposals(said_of_one_checkpoint(&mut world)), [false, false]);
    world.tamper = older(&THREE);
    let told = proposals(said_of_one_checkpoint(&mut world));
    assert_eq!(told.iter().filter(|whole| **whole).count(), 2, "{told:?}");
    world.tamper = Box::new(|_, _, message| Some(message));
    assert_eq!(proposals(said_of_one_checkpoint(&mut world)), [false, false]);
}

#[test]
fn an_observer_is_sent_what_differs_and_the_whole_if_that_does_not_fit() {
    let mut world = World::new(&THREE);
    world.start("gw-4", &THREE, 4);
    world.run_until(SECONDS(30), |w| w.committed("gw-4") >= Some(Index(3)));
    let bodies = |w: &World| {
        let sent = w.said.iter().filter_map(|(_, message)| match message {
            Message::CheckpointBody(chunk) if chunk.content == Content::Document => Some(chunk.base.is_some()),
            _ => None,
        });
        sent.collect::<Vec<bool>>()
    };
    let held = world.committed("gw-4").unwrap();
    world.said.clear();
    world.run_until(SECONDS(7), |w| w.committed("gw-4") > Some(held));
    assert_eq!(bodies(&world), [true]);
    world.tamper = Box::new(|_, _, message| match message {
        Message::CheckpointBody(mut chunk) if chunk.base.is_some() => {
            chunk.data.reverse();
            Some(Message::CheckpointBody(chunk))
        }
        other => Some(other),
    });
    world.said.clear();
    world.run_until(SECONDS(7), |w| w.committed("gw-4") > Some(held.next()));
    assert_eq!(bodies(&world), [true, false], "what does not make the document is asked for whole, at once");
}

/// A node that comes back from a disk with these entries of its own, and a checkpoint's body with these readings.
fn back_with(own: Vec<KeyedEntry>, agreed: &[(&str, u64, f64)], mark: u64) -> Node {
    let at = Now { mono: Mono::from_micros(1), wall: Wall::from_millis(WALL_MS) };
    let mut store = Store::new(Duration::from_secs(10), Duration::from_secs(86_400), 64);
    for keyed in agreed.iter().map(|(node, ms, value)| reading_of(node, *ms, *value)) {
        let (key, entry) = keyed.into_parts();
        store.insert_own(key, entry);
    }
    let (body, _) = Body::of(store.iter());
    let clock_mark = Hlc::new(Wall::from_millis(mark), 0);
    let recovered = Recovered { own, bodies: vec![body], clock_mark, ..Recovered::default() };
    let params = Params::new("lab", name("gw-1"), RegionId::new("main").unwrap(), "gw-1".into());
    Node::recover(params, StoreIdentity { id: StoreId(1), fresh: false }, recovered, 9, at)
}

const WALL_MS: u64 = 1_700_000_000_000;

fn reading_of(node: &str, ms: u64, value: f64) -> KeyedEntry {
    let at = Wall::from_millis(ms);
    let key = Key::new(name(node), Channel::new("t").unwrap());
    let entry = Entry { value: Value::of(&Reading::new(value, at)), stamp: Hlc::new(at, 0), scope: Scope::Global };
    KeyedEntry::new(&key, &entry)
}

fn value_of(node: &Node, origin: &str) -> Option<f64> {
    let key = Key::new(name(origin), Channel::new("t").unwrap());
    node.store().get(&key).and_then(|entry| entry.value.read::<Reading>().unwrap().value)
}

#[test]
fn a_reading_of_its_own_that_only_the_checkpoint_has_is_taken_up_again() {
    let mark = WALL_MS + 1_000;
    let node = back_with(vec![], &[("gw-1", WALL_MS, 2.0)], mark);
    assert_eq!(value_of(&node, "gw-1"), Some(2.0), "the disk had nothing of it yet");
    let older = vec![reading_of("gw-1", WALL_MS - 500, 1.0)];
    assert_eq!(value_of(&back_with(older.clone(), &[("gw-1", WALL_MS, 2.0)], mark), "gw-1"), Some(2.0));
    let newer = vec![reading_of("gw-1", WALL_MS + 500, 3.0)];
    assert_eq!(value_of(&back_with(newer, &[("gw-1", WALL_MS, 2.0)], mark), "gw-1"), Some(3.0));
    let abandoned = [("gw-1", mark + 60_000, 9.0)];
    assert_eq!(value_of(&back_with(older, &abandoned, mark), "gw-1"), Some(1.0), "stamped anew since, lower");
}

#[test]
fn what_a_node_has_forgotten_does_not_come_back_with_it() {
    let node =
        |forgets: Vec<KeyedEntry>| back_with(forgets, &[("gone", WALL_MS, 2.0), ("gw-2", WALL_MS, 4.0)], WALL_MS);
    assert_eq!(value_of(&node(vec![]), "gone"), Some(2.0));
    let up_to = Hlc::new(Wall::from_millis(WALL_MS), 0);
    let key = Key::new(name("gw-1"), system::forget_channel(&name("gone")));
    let entry = Entry { value: Value::of(&system::Forget { up_to }), stamp: up_to, scope: Scope::Global };
    let back = node(vec![KeyedEntry::new(&key, &entry)]);
    assert_eq!(value_of(&back, "gone"), None);
    assert_eq!(value_of(&back, "gw-2"), Some(4.0));
}

#[test]
fn who_speaks_in_anothers_name_or_of_another_region_is_not_heard() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(20), |w| {
        w.leader().is_some() && THREE.iter().all(|node| w.committed(node) >= Some(Index(1)))
    });
    let leader = world.leader().unwrap();
    let others: Vec<&str> = THREE.iter().copied().filter(|node| *node != leader).collect();
    let (hearer, speaker) = (others[0], others[1]);
    let between = |(_, (at, to, _)): &(&LinkId, &(String, String, LinkId))| at == hearer && to == speaker;
    let link = world.links.iter().find(between).map(|(link, _)| *link).unwrap();
    let group = world.nodes[hearer].group().unwrap();
    let (own, term) = (group.id().clone(), group.hard().term);
    world.notices.clear();
    for (group, from) in [(own, leader.as_str()), (GroupId::Region(RegionId::new("other").unwrap()), speaker)] {
        let (leader, round) = (name(from), crate::core::id::Round(1));
        let beat = Heartbeat { group, term: term.next(), leader, round, committed: None };
        let event = Event::Received { link, message: Box::new(Message::Heartbeat(beat)) };
        world.queue.push_back((hearer.to_owned(), event));
        world.drain();
        assert_eq!(world.nodes[hearer].group().unwrap().hard().term, term, "{from}");
    }
    let rejected = |(node, notice): &&(String, Notice)| node == hearer && matches!(notice, Notice::Rejected { .. });
    assert_eq!(world.notices.iter().filter(rejected).count(), 2);
}

#[test]
fn which_bodies_are_kept_is_on_disk() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(20), |w| THREE.iter().all(|node| w.committed(node) >= Some(Index(2))));
    for node in THREE {
        let kept = |record: &Record| if let Record::KeepBody(held) = record { Some(held.hash) } else { None };
        let kept: BTreeSet<Hash> = world.disks[node].iter().filter_map(kept).collect();
        let newest = world.nodes[node].group().unwrap().committed().unwrap().header().body;
        assert!(newest.is_some_and(|hash| kept.contains(&hash)), "{node}");
    }
}

#[test]
fn an_observer_sends_whoever_wants_the_leader_to_the_one_that_claimed_to_lead_last() {
    let mut world = World::new(&THREE);
    world.start("gw-4", &THREE, 4);
    let follows = |w: &World| {
        let leader = w.leader().map(|leader| name(&leader));
        leader.is_some() && w.nodes["gw-4"].view(w.now).group.leader == leader
    };
    world.run_until(SECONDS(20), follows);
    let old = world.leader().unwrap();
    world.kill(&old);
    world.run_until(SECONDS(20), follows);
    let leader = name(&world.leader().unwrap());
    let request = world.ask("gw-4", Command::Latest { linearizable: true, top: false });
    assert_eq!(world.reply(request), Some(&Reply::Redirect { leader }));
}

#[test]
fn a_leader_says_how_many_observers_of_its_region_live() {
    let (main, mut world) = (RegionId::new("main").unwrap(), World::new(&[]));
    for (store, node) in (1..).zip(["gw-1", "gw-2", "gw-3", "gw-4", "gw-5", "gw-6"]) {
        let mut params = Params::new("lab", name(node), main.clone(), node.into());
        params.bootstrap = THREE.iter().map(|node| (*node).into()).collect();
        params.initial_voters = BTreeMap::from([(main.clone(), THREE.map(name).to_vec())]);
        // None of the observers comes to vote.
        params.consensus.voters_max = 3;
        world.start_with(node, params, store);
    }
    let observers = |w: &World| {
        let leader = w.leader()?;
        let key = Key::new(name(&leader), system::channel(system::CHECKPOINT));
        w.nodes[&leader].store().get(&key)?.value.read::<system::CheckpointRef>().ok()?.observers
    };
    world.run_until(SECONDS(30), |w| observers(w) == Some(3));
    world.kill("gw-6");
    world.run_until(SECONDS(30), |w| observers(w) == Some(2));
}

#[test]
fn whoever_asked_a_leader_to_grow_the_cluster_is_answered_when_it_leads_no_more() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(20), |w| w.committed("gw-1") >= Some(Index(1)) && w.leader().is_some());
    let leader = world.leader().unwrap();
    let alone = leader.clone();
    world.tamper = Box::new(move |from, to, message| (from != alone && to != alone).then_some(message));
    let request = world.ask(&leader, Command::Grow);
    assert_eq!(world.reply(request), None);
    world.run_until(SECONDS(20), |w| !w.nodes[&leader].is_leader());
    assert_eq!(world.reply(request), Some(&Reply::Refused { why: RefusedCommand::Deposed }));
}

#[test]
fn a_leader_that_stood_still_goes_on_planning() {
    let mut world = World::new(&["gw-1"]);
    world.run_until(SECONDS(20), |w| w.nodes["gw-1"].is_leader());
    world.now.mono = world.now.mono + SECONDS(5);
    world.now.wall = world.now.wall + SECONDS(5);
    world.queue.push_back(("gw-1".into(), Event::Wake));
    world.drain();
    assert!(world.nodes["gw-1"].plan_due > world.now.mono);
}

#[test]
fn what_a_node_holds_is_shown_and_counted() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(20), |w| THREE.iter().all(|node| w.committed(node) >= Some(Index(1))));
    let readings = ["t", "u"].map(|channel| (Channel::new(channel).unwrap(), Reading::new(1.0, world.now.wall)));
    world.ask("gw-1", Command::Put { readings: readings.to_vec(), ack: Ack::Memory });
    let (view, footprint) = (world.nodes["gw-1"].view(world.now), world.nodes["gw-1"].footprint());
    assert_eq!((view.readings, footprint.unwritten), (2, 2));
    assert!(view.entries > 2, "everybody's word on itself is there too");
    assert_eq!(footprint.entries, view.entries);
    assert!(footprint.links >= 2 && footprint.members >= 2 && footprint.documents >= 2, "{footprint:?}");
}

#[test]
fn a_node_shows_itself_alive_and_others_as_it_takes_them() {
    let mut world = World::new(&THREE);
    let shown = |w: &World| -> Vec<Liveness> {
        w.nodes["gw-1"].view(w.now).members.iter().map(|member| member.liveness).collect()
    };
    world.run_until(SECONDS(20), |w| w.committed("gw-1") >= Some(Index(1)) && shown(w) == [Liveness::Alive; 3]);
    world.kill("gw-3");
    world.run_until(SECONDS(20), |w| shown(w) == [Liveness::Alive, Liveness::Alive, Liveness::Dead]);
}
