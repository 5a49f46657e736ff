//! What a node says itself: what it takes from clients and sensors, for whom, and who may be forgotten.

use super::*;

#[test]
fn a_write_that_is_not_a_clients_or_cannot_be_as_safe_as_asked_is_refused_at_once() {
    let put = |world: &mut World, channel: &str, ack: Ack| {
        let readings = vec![(Channel::new(channel).unwrap(), Reading::new(21.5, world.now.wall))];
        let request = world.ask("gw-1", Command::Put { readings, ack });
        world.reply(request).cloned()
    };
    let refused = |why: RefusedCommand| Some(Reply::Refused { why });
    let mut world = World::new(&[]);
    world.start("gw-1", &THREE, 1);
    let waits = RefusedCommand::NotJoined("gw-2, gw-3".into());
    assert_eq!(put(&mut world, "temp", Ack::Checkpoint), refused(waits));
    assert_eq!(put(&mut world, "temp", Ack::Peers(1)), refused(RefusedCommand::TooFewPeers { wanted: 1, there: 0 }));
    let own = RefusedCommand::SystemChannel(Channel::new("@node").unwrap());
    assert_eq!(put(&mut world, "@node", Ack::Memory), refused(own));
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(20), |w| w.nodes["gw-1"].sessions.peers().len() == 2);
    assert_eq!(put(&mut world, "temp", Ack::Peers(3)), refused(RefusedCommand::TooFewPeers { wanted: 3, there: 2 }));
    let readings = vec![(Channel::new("temp").unwrap(), Reading::new(21.5, world.now.wall))];
    let request = world.ask("gw-1", Command::Put { readings, ack: Ack::Peers(1) });
    world.run_until(SECONDS(5), |w| w.reply(request).is_some());
    assert!(matches!(world.reply(request), Some(Reply::Put { .. })), "{:?}", world.reply(request));
}

#[test]
fn sensors_write_no_channel_of_the_systems_and_nothing_that_is_no_reading() {
    let mut world = World::new(&["gw-1"]);
    let (channel, wall) = (|text: &str| Channel::new(text).unwrap(), world.now.wall);
    let readings = vec![
        (channel("@node"), Reading::new(1.0, wall)),
        (channel("wrong"), Reading { sigma: Some(-1.0), ..Reading::new(1.0, wall) }),
        (channel("temp"), Reading::new(1.0, wall)),
    ];
    world.queue.push_back(("gw-1".into(), Event::Sensed { readings }));
    world.drain();
    let held = |text: &str| world.nodes["gw-1"].store().get(&Key::new(name("gw-1"), channel(text)));
    assert!(held("temp").is_some() && held("wrong").is_none());
    assert!(held("@node").unwrap().value.read::<system::NodeInfo>().is_ok());
}

#[test]
fn what_a_live_node_has_said_outlives_its_being_forgotten() {
    let mut world = World::new(&THREE);
    world.start("gw-0", &THREE, 4);
    world.run_until(SECONDS(20), |w| w.committed("gw-1").is_some() && w.nodes["gw-0"].sessions.peers().len() == 3);
    let key = Key::new(name("gw-0"), Channel::new("temp").unwrap());
    let readings = vec![(key.channel.clone(), Reading::new(21.5, world.now.wall))];
    world.ask("gw-0", Command::Put { readings, ack: Ack::Memory });
    let held = |w: &World, node: &str| w.nodes[node].store().get(&key).is_some();
    world.run_until(SECONDS(5), |w| THREE.iter().all(|node| held(w, node)));
    world.tamper = Box::new(|from, to, message| (from != "gw-0" && to != "gw-0").then_some(message));
    world.run_until(SECONDS(30), |w| w.nodes["gw-1"].life_of(&name("gw-0")) == Some(Liveness::Dead));
    let request = world.ask("gw-1", Command::Forget { node: name("gw-0") });
    world.run_until(SECONDS(5), |w| w.reply(request) == Some(&Reply::Done));
    world.run_until(SECONDS(5), |w| THREE.iter().all(|node| !held(w, node)));
    world.tamper = Box::new(|_, _, message| Some(message));
    world.run_until(SECONDS(60), |w| w.nodes.keys().all(|node| held(w, node)));
}

#[test]
fn nobody_is_forgotten_who_votes_or_lives() {
    let mut world = World::new(&THREE);
    world.start("gw-4", &THREE, 4);
    world.run_until(SECONDS(20), |w| {
        w.committed("gw-1").is_some() && w.nodes["gw-1"].life_of(&name("gw-4")) == Some(Liveness::Alive)
    });
    let forget = |world: &mut World, at: &str, node: &str| {
        let request = world.ask(at, Command::Forget { node: name(node) });
        world.reply(request).cloned()
    };
    let refused = |why: RefusedCommand| Some(Reply::Refused { why });
    assert_eq!(forget(&mut world, "gw-1", "gw-2"), refused(RefusedCommand::IsVoter(name("gw-2"))));
    assert_eq!(forget(&mut world, "gw-1", "gw-4"), refused(RefusedCommand::IsAlive(name("gw-4"))));
    assert_eq!(forget(&mut world, "gw-4", "gw-4"), refused(RefusedCommand::IsAlive(name("gw-4"))));
}

#[test]
fn whoever_reads_from_a_leader_that_is_deposed_is_told() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(20), |w| w.committed("gw-1") >= Some(Index(1)) && w.leader().is_some());
    let leader = world.leader().unwrap();
    let alone = leader.clone();
    world.tamper = Box::new(move |from, to, message| (from != alone && to != alone).then_some(message));
    let request = world.ask(&leader, Command::Latest { linearizable: true, top: false });
    assert_eq!(world.reply(request), None);
    world.run_until(SECONDS(20), |w| !w.nodes[&leader].is_leader());
    assert_eq!(world.reply(request), Some(&Reply::Refused { why: RefusedCommand::Deposed }));
}

/// What a node tells the world of its own entries in one act.
fn told(world: &mut World, node: &str, act: impl FnOnce(&mut Node, &mut Cx<'_>)) -> Vec<(Key, Entry)> {
    let (now, mut rng, mut fx) = (world.now, Rng::new(1), Vec::new());
    act(world.nodes.get_mut(node).unwrap(), &mut Cx { now, rng: &mut rng, fx: &mut fx });
    let changed = |effect| if let Effect::Changed { key, entry } = effect { Some((key, entry)) } else { None };
    fx.into_iter().filter_map(changed).collect()
}

#[test]
fn other_regions_are_told_once_that_a_node_stays_in_its_own_from_now_on() {
    let mut world = World::new(&[]);
    world.start("gw-4", &THREE, 4);
    let words = |entries: Vec<(Key, Entry)>| -> Vec<(Scope, bool)> {
        let own = entries.into_iter().filter(|(key, _)| key.channel.as_str() == system::NODE);
        own.map(|(_, entry)| (entry.scope, entry.value.read::<system::NodeInfo>().unwrap().left)).collect()
    };
    let says = |world: &mut World| words(told(world, "gw-4", |node, cx| node.publish_self(cx, false)));
    let says_if_changed = |world: &mut World| words(told(world, "gw-4", |node, cx| node.republish_scope(cx)));
    assert_eq!(says(&mut world), [(Scope::Global, false)]);
    world.nodes.get_mut("gw-4").unwrap().params.scope = Scope::Region;
    assert_eq!(says(&mut world), [(Scope::Global, true), (Scope::Region, false)]);
    assert_eq!(says(&mut world), [(Scope::Region, false)]);
    assert_eq!(says_if_changed(&mut world), []);
    world.nodes.get_mut("gw-4").unwrap().params.scope = Scope::Global;
    assert_eq!(says_if_changed(&mut world), [(Scope::Global, false)]);
    assert_eq!(says_if_changed(&mut world), []);
}

#[test]
fn a_start_says_anew_only_what_is_of_another_scope() {
    let mut world = World::new(&[]);
    world.start("gw-4", &THREE, 4);
    let readings = vec![(Channel::new("temp").unwrap(), Reading::new(21.5, world.now.wall))];
    world.ask("gw-4", Command::Put { readings, ack: Ack::Memory });
    let said = |world: &mut World| -> Vec<(Scope, Option<f64>)> {
        let entries = told(world, "gw-4", |node, cx| node.rescope_own(cx));
        entries.into_iter().map(|(_, e)| (e.scope, e.value.reading().and_then(|reading| reading.value))).collect()
    };
    assert_eq!(said(&mut world), []);
    world.nodes.get_mut("gw-4").unwrap().params.scope = Scope::Region;
    assert_eq!(said(&mut world), [(Scope::Global, None), (Scope::Region, Some(21.5))]);
    assert_eq!(said(&mut world), []);
}
