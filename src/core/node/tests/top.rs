//! Several regions: the top level from its beginning, through losses, and as regions come, go and grow out of a flat
//! cluster.

use super::*;
use crate::core::hard_state::Position;
use crate::core::id::Channel;
use crate::core::message::exchange::SensorUpdate;
use crate::core::message::relay::Relay;
use crate::core::state::store::Share;
use crate::core::view::Role;

fn region(text: &str) -> RegionId {
    RegionId::new(text).unwrap()
}

fn names(prefix: &str, count: usize) -> Vec<NodeId> {
    (1..=count).map(|i| name(&format!("{prefix}{i}"))).collect()
}

/// Three regions `a`, `b` and `c` of three nodes `a1` to `c3`.
fn three_by_three() -> (World, BTreeMap<RegionId, Vec<NodeId>>) {
    let voters: BTreeMap<_, _> = ["a", "b", "c"].map(|r| (region(r), names(r, 3))).into();
    let mut world = World::new(&[]);
    for (i, (home, node)) in voters.iter().flat_map(|(r, nodes)| nodes.iter().map(move |n| (r, n))).enumerate() {
        world.start_in(node.as_str(), home.as_str(), &voters, i as u128 + 1);
    }
    (world, voters)
}

impl World {
    fn top_leader(&self) -> Option<String> {
        let leads = |node: &Node| node.top().is_some_and(Group::is_leader);
        self.nodes.iter().find(|(_, node)| leads(node)).map(|(name, _)| name.clone())
    }

    fn global(&self, node: &str) -> Option<Position> {
        self.nodes[node].top()?.hard().committed
    }

    /// The newest global document that a node knows to be committed.
    fn global_document(&self, node: &str) -> Document {
        self.nodes[node].top().unwrap().committed().unwrap().clone()
    }

    fn region_leader(&self, home: &str) -> Option<String> {
        let leads = |node: &Node| node.is_leader() && node.params().region.as_str() == home;
        self.nodes.iter().find(|(_, node)| leads(node)).map(|(name, _)| name.clone())
    }

    /// Runs until everyone who is there knows a global document that names these regions with a checkpoint each.
    fn run_until_named(&mut self, regions: &[&str]) {
        let wanted: BTreeSet<RegionId> = regions.iter().map(|r| region(r)).collect();
        self.run_until(SECONDS(120), |w| {
            w.nodes.values().all(|node| {
                let newest = node.top().and_then(Group::committed);
                newest.is_some_and(|document| {
                    let header = document.header();
                    let present: BTreeSet<RegionId> = header.voters.regions().keys().cloned().collect();
                    present == wanted && wanted.iter().all(|r| header.regions.contains_key(r))
                })
            })
        });
    }

    /// Asks whoever leads, following redirects, until it is done.
    fn insist(&mut self, first: &str, command: &Command) {
        let mut at = first.to_owned();
        for _ in 0..20 {
            self.replies.clear();
            let request = self.ask(&at, command.clone());
            self.run_until(SECONDS(60), |w| w.reply(request).is_some());
            match self.reply(request) {
                Some(Reply::Done) => return,
                Some(Reply::Redirect { leader }) => at = leader.to_string(),
                _ => {
                    let later = self.now.mono + SECONDS(1);
                    self.run_until(SECONDS(2), |w| w.now.mono >= later);
                }
            }
        }
        panic!("{command:?} is not carried out: {:?}", self.replies);
    }
}

#[test]
fn nine_nodes_elect_three_region_leaders_and_one_of_them_for_the_top() {
    let (mut world, voters) = three_by_three();
    world.run_until_named(&["a", "b", "c"]);
    let top = world.top_leader().unwrap();
    assert!(world.nodes[&top].is_leader(), "it leads its region");
    let leaders = ["a", "b", "c"].map(|home| world.region_leader(home).unwrap());
    assert!(leaders.contains(&top));
    let document = world.global_document(&top);
    assert_eq!(document.header().voters.len(), voters.values().map(Vec::len).sum::<usize>());
    for home in ["a", "b", "c"] {
        let at = &document.header().regions[&region(home)];
        let leader = world.region_leader(home).unwrap();
        assert!(at.index <= world.committed(&leader).unwrap() && at.stale_ms.is_none());
    }
}

#[test]
fn a_question_crosses_once_for_each_region_and_so_does_its_answer() {
    let (mut world, _) = three_by_three();
    world.run_until_named(&["a", "b", "c"]);
    let top = world.top_leader().unwrap();
    world.said.clear();
    let end = world.now.mono + SECONDS(5);
    world.run_until(SECONDS(6), |w| w.now.mono >= end);
    let home = world.nodes[&top].params().region.clone();
    let asked = world.said.iter().filter(|(from, m)| *from == top && matches!(m, Message::Relay(_))).count();
    let beats = world.said.iter().filter(|(from, message)| match message {
        Message::Heartbeat(beat) => *from == top && beat.group == GroupId::Top,
        _ => false,
    });
    let beats = beats.count() / 2;
    assert!(asked >= 2 * beats && asked <= 2 * (beats + 2), "{asked} frames for {beats} heartbeats");
    let answers = world.said.iter().filter_map(|(_, message)| match message {
        Message::RelayAnswer(answer) if answer.asker.as_str() == top && answer.answers.len() > 1 => Some(answer),
        _ => None,
    });
    let answers: Vec<_> = answers.collect();
    assert!(answers.len() + 2 >= asked && answers.iter().all(|answer| answer.region != home), "{}", answers.len());
    assert!(answers.iter().all(|answer| answer.answers.len() == 3), "all voters of a region in one frame");
}

#[test]
fn another_region_leads_when_the_whole_leading_region_dies() {
    let (mut world, voters) = three_by_three();
    world.run_until_named(&["a", "b", "c"]);
    let old = world.top_leader().unwrap();
    let home = world.nodes[&old].params().region.clone();
    let before = world.global(&old).unwrap();
    voters[&home].iter().for_each(|node| world.kill(node.as_str()));
    let began = world.now.mono;
    world.run_until(SECONDS(20), |w| {
        w.top_leader().is_some_and(|leader| w.global(&leader).unwrap().index > before.index)
    });
    assert!(world.now.mono.since(began) < SECONDS(8), "at defaults");
    let leader = world.top_leader().unwrap();
    world.run_until(SECONDS(60), |w| w.global_document(&leader).header().regions[&home].stale_ms.is_some());
}

#[test]
fn a_leader_that_loses_its_region_leads_the_top_no_more() {
    let (mut world, voters) = three_by_three();
    world.run_until_named(&["a", "b", "c"]);
    let old = world.top_leader().unwrap();
    let home = world.nodes[&old].params().region.clone();
    // Its own region hears nothing of its heartbeats there, and elects another; the top hears it well.
    let (deaf, own) = (old.clone(), GroupId::Region(home.clone()));
    world.tamper = Box::new(move |from, _, message| match &message {
        Message::Heartbeat(beat) if from == deaf && beat.group == own => None,
        _ => Some(message),
    });
    world.run_until(SECONDS(10), |w| w.region_leader(home.as_str()).is_some_and(|leader| leader != old));
    assert!(!world.nodes[&old].top().unwrap().is_leader());
    assert!(voters[&home].iter().any(|node| world.nodes[node.as_str()].is_leader()));
    world.run_until(SECONDS(10), |w| w.top_leader().is_some_and(|leader| leader != old));
}

/// Lets nobody acknowledge, and no relay accept, what `leader` proposes at the top from now on.
fn only_followers_accept(leader: &str, leaders: Vec<String>, home: Vec<String>) -> Box<Tamper> {
    let leader = leader.to_owned();
    Box::new(move |from, to, message| match message {
        // In the leader's own region nobody hears of it.
        Message::CheckpointPropose(ref propose)
            if from == leader && propose.group == GroupId::Top && home.iter().any(|node| node == to) =>
        {
            None
        }
        // A relay passes the proposal on and does not hear it itself.
        Message::Relay(relay) if matches!(&*relay.message.0, Message::CheckpointPropose(_)) => {
            let to = relay.to.into_iter().filter(|node| !leaders.iter().any(|leader| leader == node.as_str()));
            Some(Message::Relay(Relay { to: to.collect(), ..relay }))
        }
        Message::RelayAnswer(ref answer)
            if answer.answers.iter().any(|carried| matches!(&*carried.0, Message::CheckpointAck(_))) =>
        {
            None
        }
        other => Some(other),
    })
}

#[test]
fn what_a_majority_of_regions_accepted_behind_their_leaders_is_committed_by_the_next_leader() {
    let (mut world, voters) = three_by_three();
    world.run_until_named(&["a", "b", "c"]);
    let old = world.top_leader().unwrap();
    let home = world.nodes[&old].params().region.clone();
    let abroad: Vec<String> =
        ["a", "b", "c"].iter().filter(|r| **r != home.as_str()).map(|r| (*r).to_owned()).collect();
    let leaders: Vec<String> = ["a", "b", "c"].iter().map(|r| world.region_leader(r).unwrap()).collect();
    let own = voters[&home].iter().map(ToString::to_string).collect();
    let accepted = |w: &World, node: &str| w.nodes[node].top().unwrap().accepted().hash();
    let before = world.global(&old).unwrap();
    world.tamper = only_followers_accept(&old, leaders.clone(), own);
    let followers: Vec<String> = abroad
        .iter()
        .flat_map(|r| voters[&region(r)].iter().map(ToString::to_string))
        .filter(|node| !leaders.contains(node))
        .collect();
    world.run_until(SECONDS(30), |w| followers.iter().all(|node| accepted(w, node) != before.hash));
    let hidden = accepted(&world, &followers[0]);
    assert!(followers.iter().all(|node| accepted(&world, node) == hidden), "four voters of two regions hold it");
    assert!(leaders.iter().filter(|node| **node != old).all(|node| accepted(&world, node) == before.hash));
    assert_eq!(world.global(&old), Some(before), "it is not committed");

    world.kill(&old);
    world.tamper = Box::new(|_, _, message| Some(message));
    world.run_until(SECONDS(60), |w| {
        w.top_leader().is_some_and(|leader| w.global(&leader).unwrap().index > before.index)
    });
    let leader = world.top_leader().unwrap();
    let mut chain = world.global_document(&leader);
    // C3: not another document beside it, but that one.
    while chain.header().index > before.index.next() {
        let parent = chain.header().parent.unwrap();
        let found = world.disks.values().flatten().find_map(|record| match record {
            Record::Document(document) if document.hash() == parent => Some(document.clone()),
            _ => None,
        });
        chain = found.expect("every document is durable somewhere");
    }
    assert_eq!(chain.hash(), hidden);
}

#[test]
fn a_linearizable_read_of_the_top_is_confirmed_through_relays() {
    let (mut world, _) = three_by_three();
    world.run_until_named(&["a", "b", "c"]);
    let (leader, newest) = (world.top_leader().unwrap(), world.global(&world.top_leader().unwrap()).unwrap());
    let read = world.ask(&leader, Command::Latest { linearizable: true, top: true });
    world.run_until(SECONDS(2), |w| w.reply(read).is_some());
    let Some(Reply::Latest { latest: Some(latest) }) = world.reply(read) else { panic!("it is answered") };
    assert!(latest.index >= newest.index);
    // A relay whose voters hear nothing cannot confirm anything.
    world.replies.clear();
    world.tamper = Box::new(|_, _, message| (!matches!(message, Message::RelayAnswer(_))).then_some(message));
    let read = world.ask(&leader, Command::Latest { linearizable: true, top: true });
    let end = world.now.mono + SECONDS(3);
    world.run_until(SECONDS(4), |w| w.now.mono >= end);
    assert!(!matches!(world.reply(read), Some(Reply::Latest { .. })), "its own word does not count for two regions");
}

#[test]
fn the_top_follows_a_replaced_voter_step_by_step() {
    let (mut world, voters) = three_by_three();
    world.run_until_named(&["a", "b", "c"]);
    let lost = voters[&region("b")].iter().find(|n| !world.nodes[n.as_str()].is_leader()).unwrap().clone();
    world.kill(lost.as_str());
    world.start_in("b9", "b", &voters, 99);
    let follows = |w: &World| {
        let Some(leader) = w.top_leader() else { return false };
        let header = w.global_document(&leader).header().clone();
        let names: Vec<&str> = header.voters.regions()[&region("b")].iter().map(|v| v.node.as_str()).collect();
        names.len() == 3 && names.contains(&"b9")
    };
    world.run_until(SECONDS(180), follows);
    assert_eq!(world.nodes["b9"].top().unwrap().role(), Role::Follower);
}

#[test]
fn a_region_is_added_to_a_running_hierarchy_and_taken_out_again() {
    let (mut world, mut voters) = three_by_three();
    world.run_until_named(&["a", "b", "c"]);
    voters.insert(region("d"), names("d", 3));
    for (i, node) in names("d", 3).iter().enumerate() {
        world.start_in(node.as_str(), "d", &voters, 50 + i as u128);
    }
    world.run_until(SECONDS(60), |w| names("d", 3).iter().all(|n| w.nodes[n.as_str()].top().is_some()));
    assert!(world.nodes["d1"].group().is_none(), "nobody has added its region yet");
    world.insist("d2", &Command::AddRegion { region: region("d"), voters: names("d", 3) });
    world.run_until_named(&["a", "b", "c", "d"]);
    let leader = world.region_leader("d").unwrap();
    // Its ledger goes on from the document that added it.
    world.run_until(SECONDS(20), |w| w.committed(&leader) >= Some(Index(1)));
    // A newcomer finds its region by the newest global document.
    world.start_in("d9", "d", &voters, 77);
    world.run_until(SECONDS(60), |w| w.committed("d9") >= w.committed(&leader));

    let refused =
        world.ask(&world.top_leader().unwrap(), Command::AddRegion { region: region("d"), voters: names("d", 1) });
    assert!(matches!(world.reply(refused), Some(Reply::Refused { .. })), "a name is used once");
    world.insist("a1", &Command::RemoveRegion { region: region("d") });
    let top = world.top_leader().unwrap();
    let header = world.global_document(&top).header().clone();
    assert!(!header.voters.regions().contains_key(&region("d")) && header.regions.contains_key(&region("d")));
}

#[test]
fn a_flat_cluster_grows_into_a_hierarchy_and_keeps_its_ledger() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(30), |w| THREE.iter().all(|node| w.committed(node) >= Some(Index(2))));
    let before = world.committed("gw-1");
    assert!(world.nodes.values().all(|node| node.top().is_none()));
    // A node of another region comes first, and waits.
    let mut voters = BTreeMap::from([(region("main"), THREE.map(name).to_vec())]);
    voters.insert(region("b"), names("b", 3));
    world.start_in("b1", "b", &voters, 11);
    world.insist("gw-2", &Command::Grow);
    world.run_until(SECONDS(60), |w| w.top_leader().is_some_and(|leader| w.global(&leader).is_some()));
    assert!(world.committed("gw-1") >= before, "the ledger goes on");
    world.start_in("b2", "b", &voters, 12);
    world.start_in("b3", "b", &voters, 13);
    world.run_until(SECONDS(60), |w| names("b", 3).iter().all(|n| w.nodes[n.as_str()].top().is_some()));
    world.insist("gw-1", &Command::AddRegion { region: region("b"), voters: names("b", 3) });
    world.run_until_named(&["b", "main"]);
    world.insist("gw-3", &Command::Grow);
    // A newcomer of the first region has both ledgers too.
    world.start_in("gw-9", "main", &voters, 21);
    world.run_until(SECONDS(60), |w| w.global("gw-9").is_some() && w.committed("gw-9") > before);
}

#[test]
fn a_node_moves_to_another_region_on_its_own_store() {
    let (mut world, voters) = three_by_three();
    world.run_until_named(&["a", "b", "c"]);
    let moving = voters[&region("b")].iter().find(|n| !world.nodes[n.as_str()].is_leader()).unwrap().clone();
    world.kill(moving.as_str());
    world.restart_in(moving.as_str(), "c", &voters);
    world.run_until(SECONDS(120), |w| {
        let there = w.nodes[moving.as_str()].group().is_some_and(|g| g.hard().committed.is_some());
        let Some(leader) = w.top_leader() else { return false };
        let header = w.global_document(&leader).header().clone();
        there && header.voters.regions()[&region("b")].iter().all(|v| v.node != moving)
    });
    assert_eq!(world.nodes[moving.as_str()].group().unwrap().id(), &GroupId::Region(region("c")));
}

#[test]
fn a_rolling_restart_moves_a_cluster_from_one_scope_to_the_other_and_back() {
    let (mut world, voters) = three_by_three();
    world.run_until_named(&["a", "b", "c"]);
    let reading = Reading::new(21.5, world.now.wall);
    let channel = Channel::new("temp").unwrap();
    world.ask("a1", Command::Put { readings: vec![(channel.clone(), reading)], ack: Ack::Disk });
    let key = Key::new(name("a1"), channel);
    let shown = |w: &World, node: &str| w.nodes[node].store().get(&key)?.value.reading()?.value;
    let all = |w: &World, value: Option<f64>| w.nodes.keys().all(|node| shown(w, node) == value);
    world.run_until(SECONDS(30), |w| all(w, Some(21.5)));

    let everybody: Vec<(String, String)> =
        voters.iter().flat_map(|(r, nodes)| nodes.iter().map(|n| (n.to_string(), r.to_string()))).collect();
    let roll = |world: &mut World, scope| {
        for (node, home) in &everybody {
            world.kill(node);
            world.restart_with(node, home, &voters, scope);
            let end = world.now.mono + SECONDS(3);
            world.run_until(SECONDS(4), |w| w.now.mono >= end);
        }
    };
    // Nodes of one region hold the same, and all regions what is global.
    let equal = |w: &World| {
        let sum = |node: &str, share| w.nodes[node].store().summary_of(share);
        everybody.iter().all(|(node, home)| {
            sum(node, Share::All) == sum(&format!("{home}1"), Share::All)
                && sum(node, Share::Global) == sum("a1", Share::Global)
        })
    };
    roll(&mut world, Scope::Region);
    world.run_until(SECONDS(60), |w| {
        equal(w) && everybody.iter().all(|(n, home)| shown(w, n) == (home == "a").then_some(21.5))
    });
    let note = world.nodes["b1"].store().get(&key).and_then(|entry| entry.value.reading()?.note);
    assert_eq!(note.as_deref(), Some("stays in its region"));

    roll(&mut world, Scope::Global);
    world.run_until(SECONDS(60), |w| equal(w) && all(w, Some(21.5)));
}

#[test]
fn a_regions_checkpoint_holds_the_readings_of_its_own_nodes_and_nothing_else() {
    let (mut world, _) = three_by_three();
    world.run_until_named(&["a", "b", "c"]);
    let channel = Channel::new("temp").unwrap();
    let writers = ["a1", "a2", "b1"];
    for node in writers {
        let reading = Reading::new(21.5, world.now.wall);
        world.ask(node, Command::Put { readings: vec![(channel.clone(), reading)], ack: Ack::Memory });
    }
    let held = |node: &Node, of: &str| node.store().get(&Key::new(name(of), channel.clone())).is_some();
    world.run_until(SECONDS(30), |w| w.nodes.values().all(|node| writers.iter().all(|of| held(node, of))));
    let end = world.now.mono + SECONDS(12);
    world.run_until(SECONDS(13), |w| w.now.mono >= end);
    for (home, readings) in [("a", 2), ("b", 1), ("c", 0)] {
        let leader = world.region_leader(home).unwrap();
        let counts = world.nodes[&leader].group().unwrap().committed().unwrap().header().counts;
        assert_eq!((counts.nodes, counts.readings), (readings, readings), "{home}");
    }
}

#[test]
fn whoever_asked_the_top_to_take_a_region_out_is_answered_when_it_leads_no_more() {
    let (mut world, _) = three_by_three();
    world.run_until_named(&["a", "b", "c"]);
    let leader = world.top_leader().unwrap();
    let home = world.nodes[&leader].params().region.clone();
    let other = ["a", "b", "c"].into_iter().find(|name| *name != home.as_str()).unwrap();
    let alone = leader.clone();
    world.tamper = Box::new(move |from, to, message| (from != alone && to != alone).then_some(message));
    let request = world.ask(&leader, Command::RemoveRegion { region: region(other) });
    world.run_until(SECONDS(20), |w| !w.nodes[&leader].top().unwrap().is_leader());
    assert_eq!(world.reply(request), Some(&Reply::Refused { why: RefusedCommand::Deposed }));
}

#[test]
fn who_hears_of_a_global_checkpoint_asks_whoever_told_it_and_not_the_tops_leader() {
    let (mut world, voters) = three_by_three();
    world.run_until_named(&["a", "b", "c"]);
    let leader = world.top_leader().unwrap();
    let home = world.nodes[&leader].params().region.clone();
    let other = ["a", "b", "c"].into_iter().find(|name| *name != home.as_str()).unwrap();
    let observer = format!("{other}4");
    world.start_at(&observer, other, &voters, 99, &[format!("{other}1")]);
    let global = |w: &World, node: &str| w.global(node).map(|at| at.index);
    let first = global(&world, &leader);
    world.run_until(SECONDS(60), |w| global(w, &observer) > first);
    let abroad: Vec<&(String, String, LinkId)> =
        world.links.values().filter(|(at, to, _)| *at == observer && !to.starts_with(other)).collect();
    assert!(abroad.is_empty(), "{abroad:?}");
}

#[test]
fn who_leads_and_votes_is_shown_of_every_region_and_nobody_votes_in_one_that_was_taken_out() {
    let (mut world, voters) = three_by_three();
    world.start_in("b4", "b", &voters, 99);
    world.run_until_named(&["a", "b", "c"]);
    world.run_until(SECONDS(30), |w| {
        let leaders = ["a", "b", "c"].map(|home| w.region_leader(home).map(|leader| name(&leader)));
        let shown = |node: &Node| node.view(w.now).regions.into_iter().map(|at| at.leader).collect::<Vec<_>>();
        w.nodes.values().all(|node| shown(node) == leaders)
    });
    let votes_are_shown = |w: &World, gone: Option<&str>| {
        let there = w.nodes.values().filter(|node| Some(node.params().region.as_str()) != gone);
        there.map(|node| node.view(w.now).members).all(|members| {
            let votes = members.iter().map(|at| at.node.as_str() != "b4" && Some(at.region.as_str()) != gone);
            members.len() == 10 && votes.eq(members.iter().map(|at| at.voter))
        })
    };
    world.run_until(SECONDS(30), |w| votes_are_shown(w, None));
    let leader = world.top_leader().unwrap();
    let home = world.nodes[&leader].params().region.clone();
    let gone = ["a", "c"].into_iter().find(|name| *name != home.as_str()).unwrap();
    world.insist(&leader, &Command::RemoveRegion { region: region(gone) });
    world.run_until(SECONDS(30), |w| votes_are_shown(w, Some(gone)));
}

#[test]
fn a_region_is_added_with_nodes_of_its_own_and_under_a_name_that_was_never_used() {
    let (mut world, _) = three_by_three();
    world.run_until_named(&["a", "b", "c"]);
    let leader = world.top_leader().unwrap();
    let home = world.nodes[&leader].params().region.clone();
    let other = ["a", "b", "c"].into_iter().find(|name| *name != home.as_str()).unwrap();
    let request = world.ask(&leader, Command::AddRegion { region: region("d"), voters: names(other, 1) });
    let why = RefusedCommand::NotOfRegion(names(other, 1).remove(0), region("d"));
    assert_eq!(world.reply(request), Some(&Reply::Refused { why }));
    world.insist(&leader, &Command::RemoveRegion { region: region(other) });
    let leader = world.top_leader().unwrap();
    let request = world.ask(&leader, Command::AddRegion { region: region(other), voters: names(other, 3) });
    let why = RefusedCommand::KnownRegion(region(other));
    assert_eq!(world.reply(request), Some(&Reply::Refused { why }));
}

#[test]
fn the_last_region_is_not_taken_out() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(30), |w| THREE.iter().all(|node| w.committed(node) >= Some(Index(1))));
    world.insist("gw-1", &Command::Grow);
    world.run_until(SECONDS(60), |w| w.top_leader().is_some());
    let leader = world.top_leader().unwrap();
    let request = world.ask(&leader, Command::RemoveRegion { region: region("main") });
    let why = RefusedCommand::LastRegion(region("main"));
    assert_eq!(world.reply(request), Some(&Reply::Refused { why }));
}

#[test]
fn whoever_was_there_before_the_top_level_shows_who_leads_as_soon_as_it_has_that() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(30), |w| {
        w.leader().is_some() && THREE.iter().all(|node| w.committed(node) >= Some(Index(1)))
    });
    let voters = BTreeMap::from([(region("main"), THREE.map(name).to_vec()), (region("b"), names("b", 3))]);
    world.start_in("b1", "b", &voters, 11);
    let leader = name(&world.leader().unwrap());
    // It hears the claim while it has no use for that; nobody says it again.
    let claim = Key::new(leader.clone(), system::channel(system::LEADER));
    world.run_until(SECONDS(20), |w| w.nodes["b1"].store().get(&claim).is_some());
    world.insist(leader.as_str(), &Command::Grow);
    world.run_until(SECONDS(60), |w| w.nodes["b1"].top().is_some());
    let shown = world.nodes["b1"].view(world.now).regions;
    let main = shown.iter().find(|at| at.id == region("main")).unwrap();
    assert_eq!(main.leader, Some(leader));
}

#[test]
fn a_newcomer_takes_part_in_a_region_that_was_added_once_it_has_the_newest_body() {
    let mut world = World::new(&THREE);
    world.run_until(SECONDS(30), |w| THREE.iter().all(|node| w.committed(node) >= Some(Index(1))));
    world.insist("gw-1", &Command::Grow);
    world.run_until(SECONDS(60), |w| w.top_leader().is_some_and(|leader| w.global(&leader).is_some()));
    let voters = BTreeMap::from([(region("main"), THREE.map(name).to_vec()), (region("b"), names("b", 3))]);
    for (store, node) in (11..).zip(names("b", 3)) {
        world.start_in(node.as_str(), "b", &voters, store);
    }
    world.run_until(SECONDS(60), |w| names("b", 3).iter().all(|n| w.nodes[n.as_str()].top().is_some()));
    world.insist("gw-1", &Command::AddRegion { region: region("b"), voters: names("b", 3) });
    world.run_until_named(&["b", "main"]);
    world.tamper = Box::new(|_, to, message| match &message {
        Message::CheckpointBody(chunk) if to == "b4" && chunk.content == Content::Body => None,
        _ => Some(message),
    });
    world.start_in("b4", "b", &voters, 21);
    world.run_until(SECONDS(60), |w| {
        let newest = w.nodes["b4"].top().and_then(Group::committed);
        newest.is_some_and(|document| document.header().regions.contains_key(&region("b")))
    });
    let later = world.now.mono + SECONDS(10);
    world.run_until(SECONDS(11), |w| w.now.mono >= later);
    assert!(world.nodes["b4"].group().is_none(), "it could not hand the body out");
    world.tamper = Box::new(|_, _, message| Some(message));
    world.run_until(SECONDS(60), |w| w.nodes["b4"].group().is_some());
}

#[test]
fn the_body_of_a_checkpoint_that_a_global_document_names_is_kept_for_that() {
    let (mut world, _) = three_by_three();
    world.run_until_named(&["a", "b", "c"]);
    for home in ["a", "b", "c"] {
        let node = world.region_leader(home).unwrap();
        let document = world.global_document(&node);
        let place = Some((document.header().taken_at.time.wall(), document.header().index));
        let kept = |record: &Record| matches!(record, Record::KeepBody(held) if held.global == place);
        assert!(world.disks[&node].iter().any(kept), "{home}");
    }
}

#[test]
fn who_does_not_vote_asks_no_suspect_of_another_region_itself() {
    let (mut world, voters) = three_by_three();
    world.run_until_named(&["a", "b", "c"]);
    let victim = world.region_leader("a").unwrap();
    world.start_at("b4", "b", &voters, 99, &["b1".to_owned()]);
    let sees = |w: &World, node: &str| w.nodes[node].life_of(&name(&victim));
    world.run_until(SECONDS(20), |w| sees(w, "b4") == Some(Liveness::Alive));
    // Of the doubts of its region it hears one: two would be enough at once.
    world.tamper = Box::new(|_, to, message| match message {
        Message::SensorUpdate(mut update) if to == "b4" => {
            update
                .entries
                .retain(|entry| !entry.channel.as_str().starts_with(system::SUSPECT) || entry.origin == name("b1"));
            Some(Message::SensorUpdate(update))
        }
        Message::StateUpdate(_) if to == "b4" => None,
        message => Some(message),
    });
    world.kill(&victim);
    world.dialed.clear();
    world.run_until(SECONDS(20), |w| sees(w, "b4") == Some(Liveness::Dead));
    let dialed = |by: &str| world.dialed.iter().any(|(node, whom)| node.starts_with(by) && *whom == victim);
    assert!(dialed("b") && !dialed("b4"), "{:?}", world.dialed);
}

/// What a member of this region, whom nobody can reach, says of itself, and somebody's doubt of it.
fn doubted(suspect: &str, home: &str, now: Wall) -> Message {
    let (stamp, store, version) = (Hlc::new(now, 0), StoreId(9), "test".to_owned());
    let info = system::NodeInfo {
        addr: suspect.into(),
        api: None,
        region: region(home),
        store,
        start: stamp,
        version,
        left: false,
    };
    let of = |origin: &str, channel: Channel, value: Value| {
        let entry = Entry { value, stamp, scope: Scope::Global };
        KeyedEntry::new(&Key::new(name(origin), channel), &entry)
    };
    let doubt = Value::of(&system::Suspicion { of: stamp, refused: false });
    let entries = vec![
        of(suspect, system::node_channel(), Value::of(&info)),
        of("doubter", system::suspect_channel(&name(suspect)), doubt),
    ];
    Message::SensorUpdate(SensorUpdate { entries })
}

#[test]
fn a_suspect_is_asked_by_everybody_of_its_own_region_and_by_those_who_vote_in_others() {
    let mut world = World::new(&THREE);
    world.start("gw-4", &THREE, 4);
    let link = |w: &World, node: &str| w.nodes[node].sessions.link_of(&name("gw-2"));
    world.run_until(SECONDS(20), |w| {
        w.committed("gw-1") >= Some(Index(1)) && link(w, "gw-1").is_some() && link(w, "gw-4").is_some()
    });
    // What each is told it does not tell the others.
    world.tamper = Box::new(|_, _, message| match message {
        Message::SensorUpdate(_) | Message::StateUpdate(_) => None,
        message => Some(message),
    });
    world.dialed.clear();
    let told =
        [("gw-1", "near-1", "main"), ("gw-1", "far-1", "far"), ("gw-4", "near-4", "main"), ("gw-4", "far-4", "far")];
    for (node, suspect, home) in told {
        let (link, message) = (link(&world, node).unwrap(), Box::new(doubted(suspect, home, world.now.wall)));
        world.queue.push_back((node.to_owned(), Event::Received { link, message }));
        world.drain();
        assert_eq!(world.nodes[node].life_of(&name(suspect)), Some(Liveness::Suspect));
    }
    // Half the time that a suspect has is over, and the whole is not.
    let later = world.now.mono + SECONDS(2);
    world.run_until(SECONDS(3), |w| w.now.mono >= later);
    let asked = told.map(|(node, suspect, _)| world.dialed.contains(&(node.to_owned(), suspect.to_owned())));
    assert_eq!(asked, [true, true, true, false], "{:?}", world.dialed);
}

#[test]
fn voters_of_every_region_are_shown_as_voters_and_observers_are_not() {
    let (mut world, voters) = three_by_three();
    world.run_until_named(&["a", "b", "c"]);
    world.start_in("b4", "b", &voters, 99);
    let shown = |w: &World, votes: bool| -> Vec<NodeId> {
        let members = w.nodes["a1"].view(w.now).members;
        members.into_iter().filter(|member| member.voter == votes).map(|member| member.node).collect()
    };
    let all: Vec<NodeId> = voters.values().flatten().cloned().collect();
    world.run_until(SECONDS(20), |w| shown(w, true) == all && shown(w, false) == [name("b4")]);
}
