//! Clocks that are wrong, are set, and have forgotten what they stamped.

use super::*;
use crate::core::message::exchange::SensorUpdate;

#[test]
fn what_was_stamped_in_a_future_that_was_left_is_stamped_anew_and_who_waits_for_that_is_told() {
    let pair = ["gw-1", "gw-2"];
    let mut world = World::new(&pair);
    world.run_until(SECONDS(20), |w| pair.iter().all(|node| w.committed(node) >= Some(Index(1))));
    let put = |world: &mut World, request: u64, channel: &str, value: f64| {
        let readings = vec![(Channel::new(channel).unwrap(), Reading::new(value, world.now.wall))];
        let command = Command::Put { readings, ack: Ack::Peers(1) };
        world.queue.push_back(("gw-1".into(), Event::Asked { request: RequestId(request), command }));
        world.drain();
    };
    world.tamper = Box::new(|_, _, message| (!matches!(message, Message::Confirm(_))).then_some(message));
    put(&mut world, 1, "kept", 1.0);
    put(&mut world, 2, "temp", 2.0);
    // Of two nodes nobody can say whose clock is wrong: gw-1 stamps by its own, once a mark is that far.
    world.ahead.insert("gw-1".into(), SECONDS(60));
    let later = world.now.mono + Duration::from_millis(1500);
    world.run_until(SECONDS(2), |w| w.now.mono >= later);
    put(&mut world, 3, "temp", 3.0);
    world.ahead.clear();
    let reset = |w: &World| w.notices.iter().any(|(node, notice)| node == "gw-1" && *notice == Notice::ClockReset);
    world.run_until(SECONDS(5), reset);
    assert_eq!(world.reply(RequestId(1)), None, "what stands may be confirmed yet");
    for request in [2, 3] {
        let told = Reply::Refused { why: RefusedCommand::ClockSetBack };
        assert_eq!(world.reply(RequestId(request)), Some(&told), "write {request}");
    }
    world.tamper = Box::new(|_, _, message| Some(message));
    let key = Key::new(name("gw-1"), Channel::new("temp").unwrap());
    let held = |w: &World, node: &str| w.nodes[node].store().get(&key).and_then(|entry| entry.value.reading()?.value);
    world.run_until(SECONDS(10), |w| pair.iter().all(|node| held(w, node) == Some(3.0)));
    world.run_until(SECONDS(10), |w| matches!(w.reply(RequestId(1)), Some(Reply::Put { .. })));
}

#[test]
fn a_clock_moves_above_what_its_node_wrote_and_does_not_remember() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(20), |w| w.nodes["gw-1"].sessions.peers().len() == 2);
    let key = Key::new(name("gw-1"), Channel::new("temp").unwrap());
    let stamp = Hlc::new(world.now.wall + SECONDS(5), 0);
    let lost = Entry { value: Value::of(&Reading::new(1.0, world.now.wall)), stamp, scope: Scope::Global };
    let link = world.nodes["gw-1"].sessions.link_of(&name("gw-2")).unwrap();
    let update = Message::SensorUpdate(SensorUpdate { entries: vec![KeyedEntry::new(&key, &lost)] });
    world.queue.push_back(("gw-1".into(), Event::Received { link, message: Box::new(update) }));
    world.drain();
    let readings = vec![(key.channel.clone(), Reading::new(2.0, world.now.wall))];
    let request = world.ask("gw-1", Command::Put { readings, ack: Ack::Memory });
    let Some(Reply::Put { stamps }) = world.reply(request).cloned() else { panic!("the write is refused") };
    assert!(stamps[0] > stamp, "{} is not above {stamp}", stamps[0]);
}

#[test]
fn a_clock_that_steps_back_drops_what_it_should_have_refused_and_nothing_else() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(20), |w| w.nodes.values().all(|node| node.view(w.now).clock_offset_ms == Some(0)));
    world.ahead.insert("gw-2".into(), SECONDS(5));
    let readings = vec![(Channel::new("t").unwrap(), Reading::new(1.0, world.now.wall))];
    world.ask("gw-1", Command::Put { readings, ack: Ack::Memory });
    world.run_until(SECONDS(5), |w| value_of(&w.nodes["gw-2"], "gw-1") == Some(1.0));
    let (future, wall) = (reading_of("gw-9", world.now.wall.as_millis() + 14_000, 2.0), world.now.wall + SECONDS(5));
    world.nodes.get_mut("gw-2").unwrap().store.admit(future, wall);
    assert_eq!(value_of(&world.nodes["gw-2"], "gw-9"), Some(2.0));
    // Nothing happens for three seconds; meanwhile its clock is set right.
    world.now.mono = world.now.mono + SECONDS(3);
    world.now.wall = world.now.wall + SECONDS(3);
    world.ahead.clear();
    world.queue.push_back(("gw-2".into(), Event::Wake));
    world.drain();
    assert_eq!(value_of(&world.nodes["gw-2"], "gw-9"), None);
    assert_eq!(value_of(&world.nodes["gw-2"], "gw-1"), Some(1.0));
    let told: Vec<_> = world.notices.iter().filter(|(node, _)| node == "gw-2").map(|(_, notice)| notice).collect();
    assert!(told.contains(&&Notice::FutureDropped { entries: 1 }), "{told:?}");
}

#[test]
fn stamps_keep_up_with_a_clock_by_which_little_is_written() {
    let mut world = World::new(&["gw-1"]);
    world.run_until(SECONDS(20), |w| w.nodes["gw-1"].is_leader());
    for _ in 0..10 {
        let later = world.now.mono + SECONDS(1);
        world.run_until(SECONDS(2), |w| w.now.mono >= later);
        let readings = vec![(Channel::new("t").unwrap(), Reading::new(1.0, world.now.wall))];
        let request = world.ask("gw-1", Command::Put { readings, ack: Ack::Memory });
        let Some(Reply::Put { stamps }) = world.reply(request) else { panic!("the write is refused") };
        let behind = world.now.wall.millis_after(stamps[0].wall());
        assert!(behind.abs() < 100, "stamped {behind} ms behind");
    }
}

#[test]
fn the_clock_of_a_neighbour_that_has_gone_counts_no_more() {
    let mut world = World::new(&["gw-1", "gw-2"]);
    let offset = |w: &World| w.nodes["gw-1"].view(w.now).clock_offset_ms;
    world.run_until(SECONDS(20), |w| offset(w) == Some(0));
    world.kill("gw-2");
    world.run_until(SECONDS(5), |w| offset(w).is_none());
}

#[test]
fn entries_from_the_future_are_refused_counted_and_told_of() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(20), |w| w.nodes["gw-1"].sessions.peers().len() == 2);
    let link = world.nodes["gw-1"].sessions.link_of(&name("gw-2")).unwrap();
    for hours in [1, 2] {
        let entry = reading_of("gw-9", world.now.wall.as_millis() + hours * 3_600_000, 1.0);
        let message = Box::new(Message::SensorUpdate(SensorUpdate { entries: vec![entry] }));
        world.queue.push_back(("gw-1".into(), Event::Received { link, message }));
        world.drain();
    }
    assert_eq!(value_of(&world.nodes["gw-1"], "gw-9"), None);
    assert_eq!(world.nodes["gw-1"].view(world.now).refused_entries, [("future", 2, name("gw-9"))]);
    let told = |(node, notice): &&(String, Notice)| node == "gw-1" && matches!(notice, Notice::EntryRefused { .. });
    assert_eq!(world.notices.iter().filter(told).count(), 2);
}
