use super::*;
use crate::core::effect::Effect;
use crate::core::hlc::Hlc;
use crate::core::id::StoreId;
use crate::core::message::Message;
use crate::core::time::{Now, Wall};

struct World {
    overlay: Overlay,
    rng: Rng,
    now: Mono,
    fx: Vec<Effect>,
    next_link: u64,
}

fn name(text: &str) -> NodeId {
    NodeId::new(text).unwrap()
}

fn main() -> RegionId {
    RegionId::new("main").unwrap()
}

impl World {
    /// Knows `members` nodes n0, n1, … of its region, all alive, and has met none.
    fn new(members: usize) -> Self {
        let params = Params::new("lab", name("me"), main(), "me".into());
        let mut overlay = Overlay::new(&params, BTreeMap::new());
        overlay.met = true;
        for n in 0..members {
            let node = name(&format!("n{n}"));
            overlay.on_member(&node, &node.as_str().into(), &main(), Some(Life::Alive));
        }
        Self { overlay, rng: Rng::new(7), now: Mono::from_micros(1), fx: Vec::new(), next_link: 1 }
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Overlay, &mut Cx<'_>) -> T) -> T {
        let now = Now { mono: self.now, wall: Wall::from_millis(1) };
        act(&mut self.overlay, &mut Cx { now, rng: &mut self.rng, fx: &mut self.fx })
    }

    /// What is dialed now.
    fn dials(&mut self) -> Vec<Addr> {
        self.with(|overlay, cx| overlay.on_deadline(cx));
        let dial = |effect| if let Effect::Dial { addr } = effect { Some(addr) } else { None };
        std::mem::take(&mut self.fx).into_iter().filter_map(dial).collect()
    }

    fn up(&mut self, node: &str, dialed: bool) -> LinkId {
        self.up_in(node, dialed, "main")
    }

    fn up_in(&mut self, node: &str, dialed: bool, region: &str) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        let addr: Addr = node.into();
        let dialed = dialed.then(|| addr.clone());
        if let Some(addr) = &dialed {
            self.overlay.on_connected(link, addr);
        }
        let (store, region, start) = (StoreId(1), RegionId::new(region).unwrap(), Hlc::ZERO);
        let peer = Peer { link, node: name(node), store, region, start, addr, dialed, founding: false };
        self.with(|overlay, cx| overlay.on_link_up(cx, &peer));
        link
    }

    fn down(&mut self, link: LinkId) {
        self.with(|overlay, cx| overlay.on_link_down(cx, link));
        self.overlay.on_disconnected(self.now, link);
    }

    /// Lets every dial go through, or fail, until `span` has passed; gives how many there were.
    fn pass(&mut self, span: Duration, answers: bool) -> usize {
        let (end, mut dialed) = (self.now + span, 0);
        while self.overlay.deadline() <= end {
            self.now = self.overlay.deadline().max(self.now);
            let dials = self.dials();
            dialed += dials.len();
            for addr in dials {
                if answers {
                    self.up(&addr.clone(), true);
                } else {
                    self.with(|overlay, cx| overlay.on_dial_failed(cx, &addr));
                }
            }
        }
        self.now = end;
        dialed
    }

    fn links(&self) -> usize {
        self.overlay.links.iter().count()
    }

    /// Until when a neighbour may take to give its link up.
    fn asked(&self, link: LinkId) -> Mono {
        self.overlay.links.get(link).expect("a link in use").asked
    }

    fn hangups(&mut self) -> usize {
        let fx = std::mem::take(&mut self.fx);
        fx.iter().filter(|effect| matches!(effect, Effect::Hangup { .. })).count()
    }
}

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// Comes back with `boot` as its only bootstrap address and `n` members last seen at addresses of their names.
fn come_back(n: usize) -> World {
    let mut params = Params::new("lab", name("me"), main(), "me".into());
    params.bootstrap = vec!["boot".into()];
    let seen = (0..n).map(|n| (name(&format!("n{n}")), format!("n{n}").as_str().into()));
    World { overlay: Overlay::new(&params, seen.collect()), ..World::new(0) }
}

#[test]
fn members_are_looked_for_where_they_were_last_seen_when_no_bootstrap_peer_is_there() {
    let mut world = come_back(20);
    let mut tried = BTreeSet::new();
    for _ in 0..40 {
        let dials = world.dials();
        assert!(dials.len() <= 1 + untold::AT_ONCE, "a few at a time: one answer is enough");
        for addr in dials {
            world.with(|overlay, cx| overlay.on_dial_failed(cx, &addr));
            tried.insert(addr);
        }
        world.now = world.now + Duration::from_millis(200);
    }
    assert_eq!(tried.len(), 21, "all of them, before long: {tried:?}");
    world.up("n7", true);
    world.pass(SECONDS(4), false);
    for n in 0..20 {
        let node = name(&format!("n{n}"));
        world.overlay.on_member(&node, &format!("elsewhere-{n}").as_str().into(), &main(), Some(Life::Dead));
    }
    let late = world.pass(SECONDS(60), false);
    assert_eq!(world.overlay.untold.len(), 0, "the first peer has told where they are");
    assert!(late < 60, "{late} dials to the dead, one at a time");
}

#[test]
fn who_is_spoken_of_by_nobody_is_looked_for_even_when_somebody_is_met() {
    let mut world = come_back(3);
    for addr in world.dials() {
        world.with(|overlay, cx| overlay.on_dial_failed(cx, &addr));
    }
    world.up("boot", true);
    world.up("n0", true);
    world.overlay.on_member(&name("n1"), &"moved".into(), &main(), Some(Life::Alive));
    world.up("moved", false);
    world.now = world.now + untold::TOLD_WITHIN * 2;
    assert_eq!(world.dials(), ["n2".into()] as [Addr; 1]);
    world.overlay.on_forgotten(&name("n2"));
    assert_eq!(world.pass(SECONDS(60), false), 0);
}

#[test]
fn where_members_are_is_kept_and_written_once() {
    let mut world = World::new(100);
    world.pass(SECONDS(30), true);
    let written = |world: &mut World| {
        let now = world.now;
        world.overlay.take_last_seen(now)
    };
    assert_eq!(written(&mut world), None, "others may follow");
    world.now = world.now + SECONDS(1);
    let kept = written(&mut world).expect("it is time");
    assert_eq!(kept.len(), last_seen::KEPT);
    let neighbours: BTreeSet<&NodeId> = world.overlay.links.iter().map(|(_, n)| &n.node).collect();
    assert!(neighbours.iter().all(|node| kept.contains_key(*node)), "neighbours are chosen at random, and go first");
    world.now = world.now + SECONDS(100);
    assert_eq!(written(&mut world), None);
    let moved = kept.keys().next().unwrap().clone();
    world.overlay.on_member(&moved, &"elsewhere".into(), &main(), None);
    assert_eq!(written(&mut world), None);
    world.now = world.now + SECONDS(1);
    assert_eq!(written(&mut world).unwrap()[&moved], "elsewhere".into());
}

#[test]
fn a_small_region_is_linked_completely_and_a_large_one_by_halves() {
    let mut small = World::new(6);
    small.pass(SECONDS(1), true);
    assert_eq!(small.links(), 6);
    let mut large = World::new(100);
    assert_eq!(large.dials().len(), 3, "the other half is accepted");
    let mut lonely = World::new(100);
    lonely.pass(SECONDS(30), true);
    assert_eq!(lonely.links(), 6, "where nobody comes, more are picked after a while");
}

#[test]
fn a_lost_neighbour_is_dialed_at_once_and_replaced() {
    let mut world = World::new(100);
    world.pass(SECONDS(30), true);
    let (link, lost) = world.overlay.links.iter().map(|(link, n)| (link, n.node.clone())).next().unwrap();
    world.down(link);
    assert_eq!(world.dials(), [Addr::from(lost.as_str())], "is it gone, or only the link?");
    world.with(|overlay, cx| {
        assert_eq!(overlay.on_dial_failed(cx, &lost.as_str().into()).map(|(node, _)| node), Some(lost.clone()))
    });
    world.overlay.on_life(&lost, Life::Dead);
    world.pass(SECONDS(3), true);
    assert_eq!(world.links(), 6);
}

#[test]
fn a_lost_neighbour_that_takes_connections_and_drops_them_is_dialed_again_some_times() {
    let mut world = World::new(100);
    world.pass(SECONDS(30), true);
    let (link, lost) = world.overlay.links.iter().map(|(link, n)| (link, n.node.clone())).next().unwrap();
    let addr = Addr::from(lost.as_str());
    world.down(link);
    let mut waits = Vec::new();
    let mut dialed = world.now;
    for tries in 0.. {
        let until = world.now + SECONDS(1);
        while !world.dials().contains(&addr) && world.now < until {
            world.now = world.now + Duration::from_millis(1);
        }
        if world.now >= until {
            break;
        }
        waits.push(world.now.since(dialed).as_millis());
        dialed = world.now;
        let dropped = LinkId(1_000 + tries);
        world.overlay.on_connected(dropped, &addr);
        world.overlay.on_disconnected(world.now, dropped);
    }
    assert_eq!(waits, [0, 10, 40, 160], "its port may go last, and it may be somebody who wants none of us");
}

#[test]
fn ten_thousand_long_gone_cost_a_dial_now_and_then() {
    let mut world = World::new(10_000);
    (0..10_000).for_each(|n| world.overlay.on_life(&name(&format!("n{n}")), Life::Dead));
    let dialed = world.pass(SECONDS(100), false);
    assert!((10..=40).contains(&dialed), "{dialed} dials in 100 s");
}

#[test]
fn addresses_of_members_that_do_not_answer_are_dialed_ever_less_and_nobody_spins() {
    let mut world = World::new(5);
    let dialed = world.pass(SECONDS(60), false);
    assert!(dialed < 5 * 20, "{dialed} dials of five members in a minute");
    let mut many = World::new(10_000);
    let dialed = many.pass(SECONDS(10), false);
    assert!(dialed < 700, "{dialed} dials in ten seconds");
}

#[test]
fn a_link_is_given_back_but_for_the_only_and_the_pinned_one() {
    let mut world = World::new(100);
    let first = world.up("n1", true);
    world.with(|overlay, cx| overlay.on_release(cx, first));
    assert_eq!(world.hangups(), 0, "the only one");
    let second = world.up("n2", true);
    world.overlay.pin(BTreeSet::from([name("n2")]));
    world.with(|overlay, cx| overlay.on_release(cx, second));
    assert_eq!(world.hangups(), 0, "pinned");
    world.with(|overlay, cx| overlay.on_release(cx, first));
    assert_eq!(world.hangups(), 1);
    world.with(|overlay, cx| assert!(overlay.on_link_down(cx, first), "on purpose"));
    world.with(|overlay, cx| assert!(!overlay.on_link_down(cx, second), "by accident"));
}

#[test]
fn of_too_many_neighbours_any_are_asked_to_leave_whenever_they_came() {
    let mut world = World::new(100);
    let links: Vec<LinkId> = (0..60).map(|n| world.up(&format!("n{n}"), false)).collect();
    world.now = world.now + SECONDS(5);
    world.with(|overlay, cx| overlay.on_deadline(cx));
    let asked = |effect: &Effect| match effect {
        Effect::Send { link, message: Message::Release(_), .. } => Some(*link),
        _ => None,
    };
    let asked: BTreeSet<LinkId> = world.fx.iter().filter_map(asked).collect();
    assert_eq!(asked.len(), 48, "all beyond twice the degree");
    let kept = |links: &[LinkId]| links.iter().filter(|link| !asked.contains(link)).count();
    let (first, last) = (kept(&links[..30]), kept(&links[30..]));
    assert!(first > 2 && last > 2, "{first} of the first, {last} of the last: else those who came first are a clique");
}

#[test]
fn those_who_become_too_many_just_after_a_look_are_asked_to_leave_at_the_next() {
    let mut world = World::new(100);
    for n in 30..36 {
        world.up(&format!("n{n}"), true);
    }
    for n in 0..20 {
        world.up(&format!("n{n}"), false);
        // All were asked for by name, one after the other within a second.
        world.overlay.want(world.now + Duration::from_millis(40) * n, &name(&format!("n{n}")));
    }
    let end = world.now + WANTED_FOR + 3 * SETTLE;
    world.dials();
    while world.overlay.deadline() <= end {
        world.now = world.overlay.deadline();
        world.with(|overlay, cx| overlay.on_deadline(cx));
    }
    let released = |effect: &&Effect| matches!(effect, Effect::Send { message: Message::Release(_), .. });
    assert!(world.fx.iter().filter(released).count() >= 14, "all beyond twice the degree");
}

#[test]
fn who_comes_for_a_moment_drives_no_neighbour_away_and_is_none() {
    let mut world = World::new(100);
    let links: Vec<LinkId> = (0..20).map(|n| world.up(&format!("n{n}"), false)).collect();
    links[..8].iter().for_each(|link| world.overlay.on_passing(*link));
    world.now = world.now + SECONDS(5);
    world.with(|overlay, cx| overlay.on_deadline(cx));
    let asked = |effect: &Effect| matches!(effect, Effect::Send { message: Message::Release(_), .. });
    assert_eq!(world.fx.iter().filter(|effect| asked(effect)).count(), 0);
    let first = links[9];
    links[10..].iter().chain([&links[8]]).for_each(|link| world.with(|overlay, cx| drop_link(overlay, cx, *link)));
    let before = world.hangups();
    world.with(|overlay, cx| overlay.on_release(cx, first));
    assert_eq!(world.hangups(), before, "nor is the last neighbour given up beside them");
}

fn drop_link(overlay: &mut Overlay, cx: &mut Cx<'_>, link: LinkId) {
    overlay.on_link_down(cx, link);
}

#[test]
fn who_was_wanted_for_a_while_is_given_back() {
    let mut world = World::new(100);
    world.pass(SECONDS(30), true);
    let linked = |node: &NodeId| world.overlay.links.has(node);
    let wanted = (0..100).map(|n| name(&format!("n{n}"))).find(|node| !linked(node)).unwrap();
    let now = world.now;
    world.overlay.want(now, &wanted);
    world.pass(SECONDS(5), true);
    let link = world.overlay.links.to(&wanted).expect("linked");
    assert!(world.overlay.is_passing(link), "there are enough others");
    assert!(world.asked(link) == Mono::ZERO, "not yet");
    for when in ["its time is over", "it is still there"] {
        world.now = world.now + SECONDS(6);
        world.with(|overlay, cx| overlay.on_deadline(cx));
        assert!(world.asked(link) > world.now, "{when}");
    }
}

#[test]
fn who_was_wanted_while_there_were_few_stays_a_neighbour() {
    let mut world = World::new(100);
    let wanted = name("n50");
    world.overlay.want(world.now, &wanted);
    world.pass(SECONDS(1), true);
    let link = world.overlay.links.to(&wanted).expect("linked");
    assert!(!world.overlay.is_passing(link), "it was among the first");
    world.pass(SECONDS(30), true);
    assert!(world.overlay.is_spare(link), "there are others now");
    assert!(!world.overlay.wanted.contains_key(&wanted), "and its time is over");
    assert!(world.asked(link) == Mono::ZERO, "trees lead over it");
}

#[test]
fn a_link_for_a_moment_stays_where_it_is_the_last_or_must_be() {
    let mut world = World::new(100);
    let links: Vec<LinkId> = (0..4).map(|n| world.up(&format!("n{n}"), false)).collect();
    links[1..].iter().for_each(|link| world.overlay.on_passing(*link));
    let mut staying = |act: &mut dyn FnMut(&mut Overlay, &mut Cx<'_>)| {
        world.with(|overlay, cx| act(overlay, cx));
        world.with(|overlay, cx| overlay.on_deadline(cx));
        world.overlay.take_staying()
    };
    assert_eq!(staying(&mut |_, _| ()), []);
    assert_eq!(staying(&mut |overlay, _| overlay.pin(BTreeSet::from([name("n1")]))), [links[1]]);
    let lost = staying(&mut |overlay, cx| assert!(!overlay.on_link_down(cx, links[0])));
    assert_eq!(lost, links[2..], "the pinned one is none of those that there are to be so many of");
    assert!(links.iter().all(|link| !world.overlay.is_passing(*link)));
}

/// How many of those who live are dialed by one of a region in which so many strangers die.
fn looked_up(members: usize, deaths: usize) -> usize {
    let mut world = World::new(members);
    world.pass(SECONDS(30), true);
    let all = (0..members).map(|n| name(&format!("n{n}")));
    let dead: Vec<NodeId> = all.filter(|node| !world.overlay.links.has(node)).take(deaths).collect();
    dead.iter().for_each(|node| world.overlay.on_life(node, Life::Dead));
    let live = |addr: &&Addr| !dead.iter().any(|node| Addr::from(node.as_str()) == **addr);
    assert_eq!(world.dials().iter().filter(live).count(), 0, "more may be told of");
    world.now = world.now + SETTLE;
    world.dials().iter().filter(live).count()
}

#[test]
fn the_more_die_at_once_the_more_of_the_others_are_looked_up() {
    assert_eq!((looked_up(200, 0), looked_up(200, 1)), (0, 0), "one death leaves nobody unwatched");
    let of_a_third: usize = (150..250).map(|members| looked_up(members, members / 3)).sum();
    assert!((350..=600).contains(&of_a_third), "five each, six at most: {of_a_third} by a hundred");
    assert_eq!(looked_up(6, 2), 0, "all are watched by all");
}

#[test]
fn who_is_picked_by_many_picks_nobody() {
    let mut world = World::new(100);
    for n in 0..9 {
        world.up(&format!("n{n}"), false);
    }
    assert_eq!(world.pass(SECONDS(30), true), 0);
}

#[test]
fn the_pinned_are_reached_under_whatever_address_they_come_back() {
    let mut world = World::new(100);
    world.overlay.pin(BTreeSet::from([name("n50")]));
    world.pass(SECONDS(5), true);
    let link = world.overlay.links.to(&name("n50")).expect("reached");
    world.overlay.on_life(&name("n50"), Life::Dead);
    world.down(link);
    world.pass(SECONDS(60), false);
    world.overlay.on_member(&name("n50"), &"elsewhere".into(), &main(), Some(Life::Alive));
    assert!(world.dials().contains(&"elsewhere".into()));
}

#[test]
fn bootstrap_addresses_are_all_dialed_until_their_owners_are_known_to_be_there() {
    let mut params = Params::new("lab", name("me"), main(), "me".into());
    params.bootstrap = vec!["n1".into(), "n2".into(), "me".into()];
    let mut world = World::new(0);
    world.overlay = Overlay::new(&params, BTreeMap::new());
    assert_eq!(world.dials(), ["n1".into(), "n2".into()] as [Addr; 2]);
    world.up("n1", true);
    world.with(|overlay, cx| overlay.on_dial_failed(cx, &"n2".into()));
    assert_eq!(world.pass(SECONDS(1), false), 3, "the other is still wanted");
    world.overlay.on_member(&name("n2"), &"n2".into(), &main(), Some(Life::Alive));
    world.up("n2", false);
    assert_eq!(world.pass(SECONDS(20), false), 0);
}

#[test]
fn a_founder_contacts_all_first_voters_and_whoever_comes_back_a_few_at_a_time() {
    let mut params = Params::new("lab", name("me"), main(), "me".into());
    let others: Vec<NodeId> = (0..300).map(|n| name(&format!("n{n}"))).collect();
    params.initial_voters = BTreeMap::from([(main(), [&others[..], &[name("me")]].concat())]);
    params.bootstrap = others.iter().map(|node| node.as_str().into()).collect();
    let mut founder = World { overlay: Overlay::new(&params, BTreeMap::new()), ..World::new(0) };
    assert_eq!(founder.dials().len(), 300);
    let mut back = World { overlay: Overlay::new(&params, BTreeMap::new()), ..World::new(0) };
    back.overlay.on_joined();
    let first = back.dials();
    assert_eq!(first.len(), reach::FIRST_AT_ONCE);
    back.now = back.now + SECONDS(10);
    assert_eq!(back.dials(), [] as [Addr; 0], "they have not answered yet");
    for addr in first {
        back.with(|overlay, cx| overlay.on_dial_failed(cx, &addr));
    }
    let more = back.pass(SECONDS(30), false);
    assert!((300..1_000).contains(&more), "{more}: all of them, before long");
}

#[test]
fn picks_are_swapped_one_at_a_time_as_often_as_is_set() {
    let mut world = World::new(100);
    world.overlay.params.gossip.swap_interval = SECONDS(20);
    world.pass(SECONDS(5), true);
    let before = asked_back(&mut world, SECONDS(9));
    let after = asked_back(&mut world, SECONDS(200));
    assert!(before <= 1 && (5..=25).contains(&after), "{before}, then {after} swaps in ten intervals");
}

#[test]
fn the_larger_a_region_is_the_rarer_its_nodes_swap() {
    let swaps = |nodes| {
        let mut world = World::new(nodes);
        world.overlay.params.gossip.swap_interval = SECONDS(20);
        world.pass(SECONDS(5), true);
        asked_back(&mut world, SECONDS(2_000))
    };
    let (few, many) = (swaps(100), swaps(1_000));
    assert!((50..=200).contains(&few) && (3..=25).contains(&many), "{few} and {many} in a hundred intervals");
}

/// How many neighbours are asked to give their links up within `span`, who do, while every dial goes through.
fn asked_back(world: &mut World, span: Duration) -> usize {
    let (end, mut asked) = (world.now + span, 0);
    while world.now < end {
        world.now = world.now + Duration::from_millis(200);
        world.with(|overlay, cx| overlay.on_deadline(cx));
        for effect in std::mem::take(&mut world.fx) {
            match effect {
                Effect::Dial { addr } => {
                    world.up(&addr, true);
                }
                Effect::Send { link, message: Message::Release(_), .. } => {
                    asked += 1;
                    world.down(link);
                }
                _ => {}
            }
        }
    }
    asked
}

/// A node in main that votes, or not, and picked a link to a node of another region, wanted for a while. Whether it is asked back in
/// the end, and whether it is given up at once when the other end asks for it.
fn abroad_for_a_while(votes: bool) -> (bool, bool) {
    let mut world = World::new(3);
    world.overlay.set_votes(votes);
    world.pass(SECONDS(1), true);
    let far = name("far");
    world.overlay.on_member(&far, &"far".into(), &RegionId::new("far").unwrap(), Some(Life::Alive));
    let now = world.now;
    world.overlay.want(now, &far);
    let link = world.up_in("far", true, "far");
    world.now = world.now + WANTED_FOR + SECONDS(1);
    world.with(|overlay, cx| overlay.on_deadline(cx));
    let asked_back = world.asked(link) > world.now;
    world.with(|overlay, cx| overlay.on_release(cx, link));
    (asked_back, world.hangups() > 0)
}

#[test]
fn the_only_link_abroad_stays_with_a_voter_and_with_nobody_else() {
    assert_eq!(abroad_for_a_while(true), (false, false));
    assert_eq!(abroad_for_a_while(false), (true, true));
}

#[test]
fn too_many_from_abroad_are_asked_to_leave_and_a_few_are_not() {
    let asked = |abroad: usize| {
        let mut world = World::new(3);
        world.overlay.set_votes(true);
        for n in 0..abroad {
            world.up_in(&format!("far-{n}"), false, "far");
        }
        world.with(|overlay, cx| overlay.on_deadline(cx));
        let release = |effect: &&Effect| matches!(effect, Effect::Send { message: Message::Release(_), .. });
        world.fx.iter().filter(release).count()
    };
    assert_eq!((asked(6), asked(8)), (0, 2), "all beyond three times as many as are wanted");
}

#[test]
fn a_link_that_breaks_as_soon_as_it_stands_is_not_made_again_at_once() {
    let redials = |stood: Duration| {
        let mut world = World::new(0);
        let link = world.up("n1", false);
        world.now = world.now + stood;
        world.down(link);
        let at_once = world.dials().len();
        world.now = world.now + world.overlay.params.gossip.redial_min * 2;
        (at_once, world.dials().len())
    };
    assert_eq!((redials(SETTLE / 2), redials(SETTLE)), ((0, 1), (1, 0)));
}

#[test]
fn a_partner_for_repair_is_drawn_from_those_without_a_link() {
    let mut world = World::new(2);
    world.up("n0", false);
    let World { overlay, rng, .. } = &mut world;
    assert_eq!(overlay.draw_any(rng), Some(name("n1")));
    world.up("n1", false);
    let World { overlay, rng, .. } = &mut world;
    assert_eq!(overlay.draw_any(rng), None);
}

/// Whose addresses are kept.
fn kept(world: &mut World) -> BTreeSet<NodeId> {
    let now = world.now;
    assert_eq!(world.overlay.take_last_seen(now), None, "others may follow");
    world.now = world.now + SECONDS(1);
    let now = world.now;
    world.overlay.take_last_seen(now).expect("it is time").into_keys().collect()
}

#[test]
fn addresses_are_kept_of_neighbours_and_of_those_there_in_our_own_region() {
    let mut world = World::new(1);
    let far = RegionId::new("far").unwrap();
    world.overlay.on_member(&name("dead"), &"a:1".into(), &main(), Some(Life::Dead));
    world.overlay.on_member(&name("stranger"), &"b:1".into(), &far, Some(Life::Alive));
    world.up_in("neighbour", false, "far");
    assert_eq!(kept(&mut world), BTreeSet::from([name("n0"), name("neighbour")]));
}

#[test]
fn a_neighbour_takes_the_place_of_somebody_who_is_none() {
    let mut world = World::new(last_seen::KEPT + 8);
    world.up("n0", false);
    world.up(&format!("n{}", last_seen::KEPT + 3), false);
    let kept = kept(&mut world);
    assert_eq!(kept.len(), last_seen::KEPT);
    assert!(kept.contains(&name("n0")) && kept.contains(&name(&format!("n{}", last_seen::KEPT + 3))), "{kept:?}");
}

#[test]
fn a_neighbour_of_our_own_region_takes_the_place_of_one_from_abroad_and_nobody_elses() {
    let is_kept = |others: &str, last: &str| {
        let mut world = World::new(0);
        for n in 0..last_seen::KEPT {
            world.up_in(&format!("n{n}"), false, others);
        }
        world.up_in("last", false, last);
        let kept = kept(&mut world);
        assert_eq!(kept.len(), last_seen::KEPT);
        kept.contains(&name("last"))
    };
    assert!(is_kept("far", "main"));
    assert!(!is_kept("far", "far") && !is_kept("main", "main") && !is_kept("main", "far"));
}
