//! Work that is done beside a node, which goes on meanwhile.

use super::*;
use crate::core::work::Done;

/// A cluster that has a leader and a checkpoint, and whose work waits from now on.
fn waiting() -> (World, String) {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(20), |w| w.leader().is_some_and(|leader| w.committed(&leader) >= Some(Index(1))));
    world.waiting = Some(Vec::new());
    let leader = world.leader().unwrap();
    (world, leader)
}

fn pass(world: &mut World, time: Duration) {
    let end = world.now.mono + time;
    world.run_until(time * 2, |w| w.now.mono >= end);
}

fn told(world: &mut World, node: &str, done: Done) {
    world.queue.push_back((node.to_owned(), Event::Computed { done: Box::new(done) }));
    world.drain();
}

#[test]
fn a_checkpoint_that_takes_long_to_make_is_not_made_twice_and_holds_up_nothing_else() {
    let (mut world, leader) = waiting();
    let before = world.committed(&leader);
    let time = world.nodes[&leader].params().consensus.checkpoint_interval * 4;
    pass(&mut world, time);
    let waiting = world.waiting.take().unwrap();
    let [(by, Work::Checkpoint(readings))] = &waiting[..] else { panic!("{waiting:?}") };
    assert_eq!((by, world.committed(&leader)), (&leader, before));
    let writer = *THREE.iter().find(|node| **node != leader).unwrap();
    let put = vec![(Channel::new("t").unwrap(), Reading::new(21.5, world.now.wall))];
    let request = world.ask(writer, Command::Put { readings: put, ack: Ack::Checkpoint });
    world.run_until(SECONDS(1), |w| value_of(&w.nodes[&leader], writer) == Some(21.5));
    told(&mut world, &leader, Work::Checkpoint(readings.clone()).run());
    world.run_until(SECONDS(1), |w| w.committed(&leader) > before);
    assert_eq!(world.reply(request), None, "it was written after the readings were taken");
    world.run_until(time, |w| w.reply(request).is_some());
}

#[test]
fn a_checkpoint_that_others_have_overtaken_is_not_proposed_and_another_is_taken() {
    let (mut world, leader) = waiting();
    let time = world.nodes[&leader].params().consensus.checkpoint_interval * 2;
    pass(&mut world, time);
    let waiting = world.waiting.take().unwrap();
    let [(_, work)] = &waiting[..] else { panic!("{waiting:?}") };
    let before = world.committed(&leader);
    told(&mut world, &leader, work.clone().run());
    world.run_until(SECONDS(1), |w| w.committed(&leader) > before);
    let next = world.committed(&leader);
    // The next is being made: that may be for the first of two terms in which it leads, with another's checkpoint in between.
    world.waiting = Some(Vec::new());
    pass(&mut world, time);
    assert_eq!(world.waiting.replace(Vec::new()).unwrap().len(), 1);
    told(&mut world, &leader, work.clone().run());
    pass(&mut world, SECONDS(1));
    let waiting = world.waiting.take().unwrap();
    let [(_, Work::Checkpoint(anew))] = &waiting[..] else { panic!("{waiting:?}") };
    let accepted = world.nodes[&leader].group().unwrap().accepted();
    assert_eq!((world.committed(&leader), anew.parent), (next, accepted.hash()));
    told(&mut world, &leader, Work::Checkpoint(anew.clone()).run());
    world.run_until(SECONDS(1), |w| w.committed(&leader) > next);
}

#[test]
fn a_checkpoint_of_somebody_who_leads_no_more_is_dropped() {
    let (mut world, leader) = waiting();
    let time = world.nodes[&leader].params().consensus.checkpoint_interval * 2;
    pass(&mut world, time);
    let work = world.waiting.take().unwrap().remove(0).1;
    // Nobody hears it any more, nor answers.
    let cut = leader.clone();
    world.tamper = Box::new(move |from, to, message| (from != cut && to != cut).then_some(message));
    world.run_until(SECONDS(20), |w| w.leader().is_some_and(|now| now != leader) && !w.nodes[&leader].is_leader());
    let accepted = |w: &World| w.nodes[&leader].group().unwrap().hard().accepted;
    let before = accepted(&world);
    told(&mut world, &leader, work.run());
    assert_eq!(accepted(&world), before);
}

/// How many vote once a checkpoint is proposed that was being made when an operator took a voter out; in between the
/// third may have died.
fn voters_after_removal(dies: bool) -> usize {
    let (mut world, leader) = waiting();
    let others: Vec<_> = THREE.iter().filter(|node| **node != leader).collect();
    let interval = world.nodes[&leader].params().consensus.checkpoint_interval;
    pass(&mut world, interval);
    world.ask(&leader, Command::RemoveVoter { node: name(others[0]) });
    pass(&mut world, SECONDS(2));
    if dies {
        world.kill(others[1]);
        pass(&mut world, Duration::from_millis(300));
    }
    let waiting = world.waiting.take().unwrap();
    let [(_, work)] = &waiting[..] else { panic!("{waiting:?}") };
    let before = world.nodes[&leader].group().unwrap().accepted().hash();
    told(&mut world, &leader, work.clone().run());
    let accepted = world.nodes[&leader].group().unwrap().accepted();
    assert_ne!(accepted.hash(), before, "it is proposed");
    accepted.header().voters.len()
}

#[test]
fn a_voter_is_taken_out_by_a_checkpoint_that_was_being_made_unless_that_has_become_unwise() {
    assert_eq!(voters_after_removal(false), 2);
    assert_eq!(voters_after_removal(true), 3, "of two the one that died would be needed");
}

#[test]
fn a_checkpoint_with_readings_that_were_taken_back_is_not_proposed() {
    let (mut world, leader) = waiting();
    world.ahead.insert(leader.clone(), SECONDS(5));
    let time = world.nodes[&leader].params().consensus.checkpoint_interval * 2;
    pass(&mut world, time);
    let waiting = world.waiting.replace(Vec::new()).unwrap();
    let [(_, work)] = &waiting[..] else { panic!("{waiting:?}") };
    let future = reading_of("gw-9", world.now.wall.as_millis() + 14_000, 2.0);
    let wall = world.now.wall + SECONDS(5);
    drop(world.nodes.get_mut(&leader).unwrap().store.admit(future, wall));
    world.ahead.clear();
    world.queue.push_back((leader.clone(), Event::Wake));
    world.drain();
    assert!(world.notices.contains(&(leader.clone(), Notice::FutureDropped { entries: 1 })));
    let before = world.nodes[&leader].group().unwrap().accepted().hash();
    told(&mut world, &leader, work.clone().run());
    assert_eq!(world.nodes[&leader].group().unwrap().accepted().hash(), before);
    let waiting = world.waiting.take().unwrap();
    let [(_, Work::Checkpoint(anew))] = &waiting[..] else { panic!("{waiting:?}") };
    told(&mut world, &leader, Work::Checkpoint(anew.clone()).run());
    assert_ne!(world.nodes[&leader].group().unwrap().accepted().hash(), before);
}

#[test]
fn a_stamp_that_a_node_has_not_issued_answers_no_write_of_it() {
    let (mut world, leader) = waiting();
    let channel = Channel::new("t").unwrap();
    let put = vec![(channel.clone(), Reading::new(21.5, world.now.wall))];
    let request = world.ask(&leader, Command::Put { readings: put, ack: Ack::Checkpoint });
    let stamp = world.nodes[&leader].store().get(&Key::new(name(&leader), channel.clone())).unwrap().stamp;
    // It stood in a future that its clock has left since.
    let beyond = Hlc::new(stamp.wall() + SECONDS(60), 0);
    told(&mut world, &leader, Done::Found { held: Ok(vec![(channel.clone(), beyond)]) });
    assert_eq!(world.reply(request), None);
    told(&mut world, &leader, Done::Found { held: Ok(vec![(channel, stamp)]) });
    assert_eq!(world.reply(request), Some(&Reply::Put { stamps: vec![stamp] }));
}
