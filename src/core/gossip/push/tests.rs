use super::*;
use crate::core::gossip::push::search::ASKED;
use crate::core::id::{Channel, RegionId};
use crate::core::reading::Reading;
use crate::core::rng::Rng;
use crate::core::state::entry::{Entry, Value};
use crate::core::time::{Now, Wall};

struct World {
    push: Push,
    store: Store,
    now: Mono,
    stamp: u64,
}

fn name(text: &str) -> NodeId {
    NodeId::new(text).unwrap()
}

impl World {
    /// Links 1, 2, … to the named nodes.
    fn new(neighbours: &[&str]) -> Self {
        let params = Params::new("lab", name("me"), RegionId::new("main").unwrap(), "me".into());
        let store = Store::new(params.clock_skew_max, params.retain, 64);
        let mut world = Self { push: Push::new(&params), store, now: Mono::from_micros(1), stamp: 0 };
        for (link, node) in (1..).zip(neighbours) {
            world.push.on_link_up(world.now, LinkId(link), &name(node), false);
        }
        world
    }

    fn flush(&mut self) -> Vec<(u64, Message)> {
        let (mut rng, mut fx) = (Rng::new(1), Vec::new());
        let now = Now { mono: self.now, wall: Wall::from_millis(1) };
        self.push.flush(&mut Cx { now, rng: &mut rng, fx: &mut fx }, &self.store);
        let sent = |effect| match effect {
            Effect::Send { link, message, .. } => Some((link.get(), message)),
            _ => None,
        };
        fx.into_iter().filter_map(sent).collect()
    }

    /// Tells at once; gives what was told.
    fn told(&mut self) -> Vec<(u64, &'static str)> {
        let sent = self.flush();
        sent.into_iter().map(|(link, message)| (link, message.type_name())).collect()
    }

    fn put(&mut self, origin: &str, channel: &str) -> (Key, Entry) {
        self.stamp += 1;
        let key = Key::new(name(origin), Channel::new(channel).unwrap());
        let value = Value::of(&Reading::new(self.stamp as f64, Wall::from_millis(1)));
        let entry = Entry { value, stamp: Hlc::from_bits(self.stamp), scope: Scope::Global };
        self.store.insert_own(key.clone(), entry.clone());
        (key, entry)
    }

    fn own(&mut self, channel: &str, confirm: bool) {
        let (key, entry) = self.put("me", channel);
        self.push.offer(&key, entry.scope, Offer::Own { confirm }, |_| false);
    }

    fn news(&mut self, link: u64, origin: &str) {
        let (key, entry) = self.put(origin, "t");
        self.push.on_news(self.now, LinkId(link), &name(origin), Duration::from_millis(1));
        self.push.offer(&key, entry.scope, Offer::From { link: LinkId(link), repaired: false }, |_| false);
    }

    fn duplicate(&mut self, link: u64, origin: &str) {
        self.push.on_duplicate(self.now, LinkId(link), &name(origin), false);
    }

    fn missed(&mut self, link: u64, origin: &str) {
        self.push.on_missed(self.now, LinkId(link), &name(origin), Duration::from_secs(1));
    }

    /// A repair brings something of z, so long after it was written.
    fn repaired(&mut self, lag: Duration) {
        self.now = self.now + Duration::from_millis(1);
        self.push.on_repaired(self.now, &name("z"), lag);
    }

    fn ready(&mut self) {
        (1..9).for_each(|link| self.push.on_ready(LinkId(link)));
        self.now = self.now + Duration::from_millis(20);
    }
}

fn keys(sent: &[(u64, Message)], to: u64) -> Vec<String> {
    let updates = sent.iter().filter(|(link, _)| *link == to);
    let entries = updates.filter_map(|(_, m)| if let Message::SensorUpdate(u) = m { Some(&u.entries) } else { None });
    entries.flatten().map(|entry| format!("{}:{}", entry.origin, entry.channel)).collect()
}

#[test]
fn news_goes_on_to_all_but_who_brought_it_and_whose_it_is() {
    let mut world = World::new(&["a", "b", "c"]);
    world.news(2, "a");
    assert_eq!(world.told(), [(3, "SENSOR_UPDATE")]);
}

#[test]
fn a_duplicate_is_pruned_once_and_the_parent_never() {
    let mut world = World::new(&["a", "b", "c"]);
    world.news(1, "z");
    world.ready();
    world.flush();
    for _ in 0..3 {
        world.duplicate(1, "z");
    }
    assert_eq!(world.told(), [], "the first to deliver is the parent");
    for _ in 0..3 {
        world.duplicate(2, "z");
    }
    assert_eq!(world.told(), [(2, "PRUNE")]);
}

#[test]
fn a_link_that_is_faster_than_the_parent_takes_its_place_now_and_then() {
    let mut world = World::new(&["a", "b"]);
    world.news(1, "z");
    world.news(2, "z");
    world.flush();
    world.duplicate(1, "z");
    assert_eq!(world.told(), [(1, "PRUNE"), (2, "GRAFT")], "what came later may have come by way of us");
    world.ready();
    world.news(1, "z");
    world.duplicate(2, "z");
    assert!(!world.told().iter().any(|(_, kind)| *kind != "SENSOR_UPDATE"), "they do not take turns");
    world.now = world.now + TELL_AGAIN;
    world.news(1, "z");
    world.duplicate(2, "z");
    assert!(world.told().contains(&(2, "PRUNE")));
}

#[test]
fn a_parent_that_brings_no_news_is_replaced_by_who_does() {
    let mut world = World::new(&["a", "b"]);
    world.news(1, "z");
    world.news(2, "z");
    world.news(2, "z");
    world.flush();
    world.duplicate(1, "z");
    assert_eq!(world.told(), [(1, "PRUNE")]);
}

#[test]
fn who_was_faster_once_and_slower_since_is_no_better_parent() {
    for is_pruned in [true, false] {
        let mut world = World::new(&["a", "b"]);
        world.news(1, "z");
        world.news(2, "z");
        world.news(1, "z");
        if is_pruned {
            world.duplicate(2, "z");
        }
        world.flush();
        world.ready();
        world.duplicate(1, "z");
        assert_eq!(world.told(), [], "the other may have its news from us by now");
        world.news(2, "z");
        world.duplicate(1, "z");
        assert!(world.told().contains(&(1, "PRUNE")), "it is faster again");
    }
}

#[test]
fn an_origins_own_link_takes_the_place_of_any_other_parent() {
    let mut world = World::new(&["a", "z"]);
    world.news(1, "z");
    world.flush();
    world.duplicate(2, "z");
    assert_eq!(world.told(), [(1, "PRUNE")]);
}

#[test]
fn a_pruned_link_carries_the_origin_no_more_the_outbox_included_until_it_is_grafted() {
    let mut world = World::new(&["a", "b"]);
    world.news(1, "z");
    world.flush();
    world.news(1, "z");
    let prune = Prune { origins: vec![name("z")], all_but: None };
    world.push.on_prune(LinkId(2), &prune);
    world.ready();
    assert_eq!(world.told(), []);
    world.news(1, "z");
    assert_eq!(world.told(), []);
    world.push.on_graft(world.now, LinkId(2), &Graft { origins: vec![name("z")] });
    world.news(1, "z");
    assert_eq!(world.told(), [(2, "SENSOR_UPDATE")]);
}

#[test]
fn a_lost_parent_is_looked_for_with_others_and_a_repair_is_asked_for() {
    let mut world = World::new(&["a", "b", "c", "d"]);
    world.news(1, "z");
    world.duplicate(2, "z");
    world.push.on_prune(LinkId(4), &Prune { origins: vec![name("z")], all_but: None });
    world.ready();
    world.flush();
    assert_eq!(world.push.on_link_down(world.now, LinkId(1)), Some(LinkId(2)));
    assert_eq!(world.told(), [(2, "GRAFT"), (3, "GRAFT")], "who was pruned, and who has it from us");
    assert_eq!(world.push.on_link_down(world.now, LinkId(3)), None, "nobody's parent");
}

/// Links to a, the parent for z; to as many as are named, which have z without us; to one that has it from us.
fn searching(others: &[&str]) -> (World, u64) {
    let mut world = World::new(&["a"]);
    world.news(1, "z");
    for (link, node) in (2..).zip(others) {
        world.push.on_link_up(world.now, LinkId(link), &name(node), node.starts_with("far"));
        if node.starts_with("passing") {
            world.push.on_passing(LinkId(link), true);
        }
    }
    let below = others.len() as u64 + 2;
    world.push.on_link_up(world.now, LinkId(below), &name("below"), false);
    world.push.on_graft(world.now, LinkId(below), &Graft { origins: vec![name("z")] });
    let prune = Prune { origins: vec![name("z")], all_but: None };
    (2..below).for_each(|link| world.push.on_prune(LinkId(link), &prune));
    world.flush();
    (world, below)
}

fn grafted(world: &mut World) -> Vec<u64> {
    let told = world.told();
    told.iter().filter(|(_, kind)| *kind == "GRAFT").map(|(link, _)| *link).collect()
}

#[test]
fn of_many_that_have_an_origin_without_us_some_are_asked_for_it_and_others_when_those_do_not_help() {
    type Fails = fn(&mut World, u64);
    let is_lost: Fails = |world, link| assert!(world.push.on_link_down(world.now, LinkId(link)).is_some());
    let is_silent: Fails = |world, _| world.repaired(Duration::ZERO);
    for fails in [is_lost, is_silent] {
        let (mut world, below) = searching(&["b", "c", "d", "e", "f", "g", "h"]);
        world.push.on_link_down(world.now, LinkId(1));
        let first = grafted(&mut world);
        assert_eq!(first.len(), ASKED, "{first:?}");
        fails(&mut world, first[0]);
        let second = grafted(&mut world);
        assert_eq!(second.len(), ASKED, "{second:?}");
        assert!(second.iter().all(|link| !first.contains(link) && *link != below), "{first:?} {second:?}");
        fails(&mut world, second[0]);
        let third = grafted(&mut world);
        assert!(third.contains(&below), "in the end who has it from us as well: {third:?}");
        assert!((2..below).all(|link| [&first, &second, &third].iter().any(|asked| asked.contains(&link))));
    }
}

#[test]
fn when_the_three_that_had_an_origin_without_us_are_lost_too_who_has_it_from_us_is_asked() {
    let (mut world, below) = searching(&["b", "c", "d"]);
    for link in [1, 2, 3, 4] {
        world.push.on_link_down(world.now, LinkId(link));
    }
    assert_eq!(grafted(&mut world), [below]);
}

#[test]
fn neither_a_link_for_a_moment_nor_one_to_another_region_is_one_of_those_asked_at_first() {
    for (others, asked) in [
        (["passing1", "b", "c", "passing2", "d"], vec![3, 4, 6]),
        (["far1", "b", "c", "far2", "d"], vec![2, 3, 4, 5, 6]),
        (["far1", "far2", "b", "c", "passing1"], vec![2, 3, 4, 5, 6, 7]),
    ] {
        let (mut world, _) = searching(&others);
        world.push.on_link_down(world.now, LinkId(1));
        assert_eq!(grafted(&mut world), asked, "{others:?}");
    }
}

/// A link to another region, the parent for z, and four to our own.
fn fed_from_afar() -> World {
    let mut world = World::new(&[]);
    world.push.on_link_up(world.now, LinkId(1), &name("far"), true);
    world.news(1, "z");
    for (link, node) in (2..).zip(["b", "c", "d", "e"]) {
        world.push.on_link_up(world.now, LinkId(link), &name(node), false);
    }
    world
}

#[test]
fn who_is_next_to_the_only_link_to_an_origins_region_asks_everybody_when_that_is_lost() {
    let mut world = fed_from_afar();
    world.flush();
    world.push.on_link_down(world.now, LinkId(1));
    assert_eq!(grafted(&mut world), [2, 3, 4, 5]);
}

#[test]
fn what_was_written_before_anybody_was_asked_says_nothing_of_those_who_were() {
    let since = Duration::from_secs(2);
    for (lag, others) in [(Duration::from_secs(3), 0), (Duration::from_secs(1), ASKED)] {
        for settled in [false, true] {
            let (mut world, _) = searching(&["b", "c", "d", "e", "f", "g", "h"]);
            world.push.on_link_down(world.now, LinkId(1));
            grafted(&mut world);
            world.now = world.now + since;
            // Several of one message are one sign, and so are several messages at a time.
            for _ in 0..3 {
                match settled {
                    false => world.push.on_repaired(world.now, &name("z"), lag),
                    true => world.push.on_missed(world.now, LinkId(3), &name("z"), lag),
                }
            }
            let everybody = if settled && others > 0 { 2 } else { 0 };
            assert_eq!(grafted(&mut world).len(), others + everybody, "{lag:?} {settled}");
        }
    }
}

#[test]
fn a_search_for_an_origin_whose_clock_is_behind_goes_on_all_the_same() {
    let (mut world, _) = searching(&["b", "c", "d", "e", "f", "g", "h"]);
    world.push.on_link_down(world.now, LinkId(1));
    grafted(&mut world);
    world.now = world.now + Duration::from_secs(5);
    world.repaired(Duration::from_secs(3600));
    assert_eq!(grafted(&mut world).len(), ASKED);
}

#[test]
fn who_is_asked_by_one_that_it_has_asked_for_the_same_asks_another() {
    let (mut world, below) = searching(&["b", "c", "d", "e", "f", "g", "h"]);
    world.push.on_link_down(world.now, LinkId(1));
    let first = grafted(&mut world);
    let graft = Graft { origins: vec![name("z")] };
    for link in &first[1..] {
        world.push.on_graft(world.now, LinkId(*link), &graft);
        assert_eq!(grafted(&mut world).len(), 0, "one is left that may have it");
    }
    world.push.on_graft(world.now, LinkId(first[0]), &graft);
    let second = grafted(&mut world);
    assert_eq!(second.len(), ASKED);
    assert!(second.iter().all(|link| !first.contains(link) && *link != below), "{first:?} {second:?}");
}

#[test]
fn a_repair_for_what_a_lost_link_carried_is_with_one_that_has_it_without_us() {
    // Below comes first by number, and two are too few to be asked alone.
    let mut world = World::new(&["below", "a", "b", "c"]);
    world.news(2, "z");
    let prune = Prune { origins: vec![name("z")], all_but: None };
    for link in [3, 4] {
        world.duplicate(link, "z");
        world.push.on_prune(LinkId(link), &prune);
    }
    world.flush();
    assert_eq!(world.push.on_link_down(world.now, LinkId(2)), Some(LinkId(3)));
    assert_eq!(grafted(&mut world), [1, 3, 4]);
}

#[test]
fn who_is_asked_by_its_parent_has_none_and_asks_as_many_as_who_lost_one() {
    let (mut world, below) = searching(&["b", "c", "d", "e", "f", "g", "h"]);
    world.push.on_graft(world.now, LinkId(1), &Graft { origins: vec![name("z")] });
    let asked = grafted(&mut world);
    assert_eq!(asked.len(), ASKED);
    assert!(!asked.contains(&1) && !asked.contains(&below), "{asked:?}");
}

#[test]
fn who_is_asked_by_a_parent_in_another_region_asks_everybody_as_if_that_were_lost() {
    let mut world = fed_from_afar();
    let prune = Prune { origins: vec![name("z")], all_but: None };
    (2..5).for_each(|link| world.push.on_prune(LinkId(link), &prune));
    world.flush();
    world.push.on_graft(world.now, LinkId(1), &Graft { origins: vec![name("z")] });
    assert_eq!(grafted(&mut world), [2, 3, 4, 5], "e has it from us");
}

#[test]
fn who_is_asked_by_its_parent_has_none_and_asks_its_others() {
    let asked_by = |link| {
        let mut world = World::new(&["a", "b", "c"]);
        world.news(1, "z");
        world.duplicate(2, "z");
        world.ready();
        world.flush();
        world.push.on_graft(world.now, LinkId(link), &Graft { origins: vec![name("z")] });
        let told = world.told();
        world.ready();
        world.news(2, "z");
        (told, keys(&world.flush(), link))
    };
    assert_eq!(asked_by(1), (vec![(2, "GRAFT"), (3, "GRAFT")], vec!["z:t".to_owned()]));
    assert_eq!(asked_by(3), (vec![], vec!["z:t".to_owned()]));
}

#[test]
fn a_newer_start_clears_what_was_learned_of_an_origin() {
    let mut world = World::new(&["a", "b", "c"]);
    world.push.on_start(&name("z"), Hlc::from_bits(1));
    world.news(1, "z");
    world.duplicate(2, "z");
    world.push.on_prune(LinkId(3), &Prune { origins: vec![name("z")], all_but: None });
    world.flush();
    world.push.on_start(&name("z"), Hlc::from_bits(1));
    assert_eq!(world.told(), [], "the same life");
    world.push.on_start(&name("z"), Hlc::from_bits(2));
    assert_eq!(world.told(), [(2, "GRAFT")]);
    world.ready();
    world.news(2, "z");
    assert_eq!(world.told(), [(1, "SENSOR_UPDATE"), (3, "SENSOR_UPDATE")], "and the second is the parent now");
    world.duplicate(1, "z");
    assert_eq!(world.told(), [(1, "PRUNE")]);
}

#[test]
fn a_tree_that_does_not_reach_us_is_given_up() {
    let mut world = World::new(&["a", "b", "c"]);
    world.news(1, "z");
    world.duplicate(2, "z");
    world.flush();
    world.missed(3, "z");
    assert_eq!(world.told(), [(2, "GRAFT")]);
    world.ready();
    world.news(2, "z");
    world.duplicate(1, "z");
    assert!(world.told().contains(&(1, "PRUNE")), "whoever delivers first is the parent");
}

#[test]
fn where_push_is_late_a_parent_is_given_up_only_if_it_brings_nothing_more() {
    for is_late in [true, false] {
        let mut world = World::new(&["a", "b", "c"]);
        world.news(1, "z");
        world.duplicate(2, "z");
        world.duplicate(3, "z");
        world.flush();
        (0..50).for_each(|_| world.push.lag.on_pushed(Duration::from_secs(1)));
        world.missed(2, "z");
        world.ready();
        assert_eq!(world.told(), [(2, "GRAFT")], "it has what was missing");
        if is_late {
            world.duplicate(1, "z");
        }
        world.now = world.now + world.push.lag.patience();
        assert!(world.push.deadline() <= world.now);
        assert_eq!(world.told(), if is_late { vec![] } else { vec![(3, "GRAFT")] });
        assert_eq!(world.push.deadline(), Mono::NEVER);
    }
}

#[test]
fn a_new_link_begins_pruned_for_what_has_a_parent() {
    let mut world = World::new(&["a"]);
    world.news(1, "z");
    world.push.on_link_up(world.now, LinkId(2), &name("b"), false);
    assert_eq!(world.told(), [(2, "PRUNE")]);
    world.push.on_link_up(world.now, LinkId(3), &name("z"), false);
    assert_eq!(world.told(), [], "but for the peer's own");
}

/// A node that has learned the trees of `learned` origins by link 1, and those of as many others not; link 2 is new.
fn with_a_new_link(learned: usize, others: usize) -> (World, Vec<Message>) {
    let mut world = World::new(&["a"]);
    for n in 0..learned {
        world.news(1, &format!("o{n}"));
    }
    for n in 0..others {
        world.missed(1, &format!("p{n}"));
    }
    world.own("t", false);
    world.push.on_link_up(world.now, LinkId(2), &name("b"), false);
    let told = world.flush().into_iter().filter(|(link, _)| *link == 2).map(|(_, message)| message).collect();
    (world, told)
}

#[test]
fn a_new_link_is_told_in_few_words_which_of_many_origins_it_is_not_to_carry() {
    let (_, told) = with_a_new_link(40, 2);
    let all_but = Some(vec![name("p0"), name("p1")]);
    assert_eq!(told, [Message::Prune(Prune { origins: vec![], all_but })]);
    for (learned, others) in [(31, 0), (40, 11)] {
        let (_, told) = with_a_new_link(learned, others);
        let [Message::Prune(prune)] = &told[..] else { panic!("{told:?}") };
        assert_eq!((prune.origins.len(), &prune.all_but), (learned, &None), "too few, or too many but them");
    }
}

#[test]
fn who_wants_nothing_but_what_it_names_gets_that_and_our_own_and_what_begins_later() {
    let mut world = World::new(&["a", "b"]);
    world.news(1, "x");
    world.news(1, "y");
    world.own("t", false);
    let prune = Prune { origins: vec![], all_but: Some(vec![name("y")]) };
    world.push.on_prune(LinkId(2), &prune);
    let waiting = keys(&world.flush(), 2);
    assert_eq!(waiting, ["me:t", "y:t"], "what waited of the others is dropped");
    for (origin, is_wanted) in [("x", false), ("y", true), ("later", true)] {
        world.ready();
        world.news(1, origin);
        assert_eq!(keys(&world.flush(), 2).len(), usize::from(is_wanted), "{origin}");
    }
}

#[test]
fn an_origin_not_heard_of_when_all_others_were_pruned_is_grafted_or_pruned_when_it_is() {
    let (mut world, _) = with_a_new_link(40, 0);
    world.missed(1, "unheard");
    assert_eq!(world.told(), [(2, "GRAFT")], "the peer may have known it, and have been told not to send it");
    world.ready();
    world.news(1, "new");
    assert!(!world.told().iter().any(|(_, kind)| *kind == "GRAFT"), "who brings it has not pruned it");
    world.ready();
    world.duplicate(2, "new");
    assert_eq!(world.told(), [(2, "PRUNE")], "nor has who brings it too");
    world.missed(1, "new");
    assert_eq!(world.told(), [(2, "GRAFT")]);
}

#[test]
fn a_peer_that_had_not_heard_of_an_origin_when_it_was_told_of_all_others_is_told_again_at_once() {
    let (mut world, _) = with_a_new_link(40, 0);
    world.ready();
    world.duplicate(2, "o7");
    assert_eq!(world.told(), [(2, "PRUNE")]);
    world.duplicate(2, "o7");
    assert_eq!(world.told(), []);
}

#[test]
fn over_a_link_made_for_a_moment_nothing_of_either_ends_own_flows_unasked() {
    let mut world = World::new(&["a"]);
    for n in 0..40 {
        world.news(1, &format!("o{n}"));
    }
    world.news(1, "b");
    world.flush();
    world.push.on_link_up(world.now, LinkId(2), &name("b"), false);
    world.push.on_passing(LinkId(2), true);
    let sent = world.flush().into_iter().map(|(_, message)| message).collect::<Vec<_>>();
    let prune = |origins, all_but| Message::Prune(Prune { origins, all_but });
    assert_eq!(sent, [prune(vec![], Some(vec![])), prune(vec![name("b")], None)]);
    world.ready();
    world.own("t", false);
    assert_eq!(keys(&world.flush(), 2), Vec::<String>::new());
    world.own("u", true);
    assert_eq!(keys(&world.flush(), 2), ["me:u"], "who waits for confirmation asks every neighbour");
    world.ready();
    world.push.on_graft(world.now, LinkId(2), &Graft { origins: vec![name("me")] });
    world.own("v", false);
    assert_eq!(keys(&world.flush(), 2), ["me:v"]);
}

#[test]
fn who_is_chosen_for_what_crossed_the_word_that_it_is_not_wanted_is_asked_for_it() {
    let (mut world, _) = with_a_new_link(40, 0);
    world.ready();
    world.news(2, "o7");
    world.duplicate(1, "o7");
    let told = world.told();
    assert!([(1, "PRUNE"), (2, "GRAFT")].iter().all(|word| told.contains(word)), "{told:?}");
}

#[test]
fn a_link_for_a_moment_makes_its_end_no_parent_of_who_has_one() {
    let mut world = World::new(&["a", "b"]);
    world.push.on_passing(LinkId(2), false);
    world.news(1, "b");
    world.news(2, "b");
    world.ready();
    world.flush();
    world.duplicate(1, "b");
    assert_eq!(world.told(), [], "what waits for confirmation comes over it as well");
    world.push.on_link_down(world.now, LinkId(1));
    assert_eq!(world.told(), [(2, "GRAFT")], "but it is asked when that is lost");
}

#[test]
fn a_copy_that_came_by_trees_alone_makes_a_parent_where_a_repair_was_faster() {
    for (repaired, chosen) in [(false, true), (true, false)] {
        let mut world = World::new(&["a", "b"]);
        world.put("z", "t");
        world.push.on_duplicate(world.now, LinkId(1), &name("z"), repaired);
        world.duplicate(2, "z");
        assert_eq!(world.told().contains(&(2, "PRUNE")), chosen);
    }
}

#[test]
fn who_takes_a_parent_for_a_copy_asks_it_if_it_may_hang_on_us() {
    for (pruned, asks) in [(false, true), (true, false)] {
        let mut world = World::new(&["a", "b"]);
        world.news(1, "z");
        world.push.on_link_down(world.now, LinkId(1));
        world.flush();
        world.ready();
        world.flush();
        if pruned {
            world.push.on_prune(LinkId(2), &Prune { origins: vec![name("z")], all_but: None });
        }
        world.duplicate(2, "z");
        assert_eq!(world.told().contains(&(2, "GRAFT")), asks, "it may have chosen us by another update");
    }
}

#[test]
fn who_changes_its_parent_asks_the_new_one_unless_push_is_late() {
    for late in [false, true] {
        let mut world = World::new(&["a", "b"]);
        world.news(1, "z");
        world.news(2, "z");
        if late {
            (0..100).for_each(|_| world.push.lag.on_pushed(Duration::from_secs(1)));
        }
        world.flush();
        world.duplicate(1, "z");
        let told = world.told();
        assert_eq!((told.contains(&(1, "PRUNE")), told.contains(&(2, "GRAFT"))), (true, !late), "{told:?}");
    }
}

#[test]
fn who_asks_us_for_an_origin_is_no_better_parent() {
    for asks in [true, false] {
        let mut world = World::new(&["a", "b"]);
        world.news(1, "z");
        world.news(2, "z");
        world.flush();
        if asks {
            world.push.on_graft(world.now, LinkId(2), &Graft { origins: vec![name("z")] });
        }
        world.duplicate(1, "z");
        assert_eq!(world.told().contains(&(1, "PRUNE")), !asks);
    }
}

#[test]
fn the_first_word_on_a_link_is_as_things_stand_when_it_is_said() {
    let (mut world, _) = with_a_new_link(40, 0);
    world.push.on_link_up(world.now, LinkId(3), &name("c"), false);
    world.missed(3, "o7");
    world.ready();
    let told: Vec<Message> = world.flush().into_iter().filter(|(link, _)| *link == 3).map(|(_, m)| m).collect();
    let all_but = Some(vec![name("o7")]);
    assert_eq!(told[0], Message::Prune(Prune { origins: vec![], all_but }));
    world.push.on_forgotten(&name("o8"));
    world.push.on_link_up(world.now, LinkId(4), &name("d"), false);
    let told: Vec<Message> = world.flush().into_iter().filter(|(link, _)| *link == 4).map(|(_, m)| m).collect();
    let all_but = Some(vec![name("o7")]);
    assert_eq!(told, [Message::Prune(Prune { origins: vec![], all_but })], "and of the living");
}

#[test]
fn a_slow_neighbour_costs_keys_and_gets_the_newest_of_each_system_first() {
    let mut world = World::new(&["a"]);
    world.own("warm-up", false);
    assert_eq!(world.told(), [(1, "SENSOR_UPDATE")], "at once when idle");
    for _ in 0..1000 {
        world.own("t1", false);
        world.own("t2", false);
        world.own("@leader", false);
        assert_eq!(world.told(), [], "one flush at a time");
    }
    assert_eq!(world.push.waiting(), 3);
    world.push.on_ready(LinkId(1));
    assert_eq!(world.told(), [], "not before push_delay has passed");
    world.now = world.push.deadline();
    let sent = world.flush();
    assert_eq!(keys(&sent, 1), ["me:@leader", "me:t1", "me:t2"]);
    let Some((_, Message::SensorUpdate(update))) = sent.first() else { panic!("an update") };
    assert!(update.entries.iter().all(|entry| entry.stamp > Hlc::from_bits(2990)), "the newest");
    assert_eq!(world.push.deadline(), Mono::NEVER);
}

#[test]
fn a_flush_keeps_to_its_bytes() {
    let mut world = World::new(&["a"]);
    world.push.params.gossip.flush_bytes = 1000;
    (0..100).for_each(|n| world.own(&format!("t{n}"), false));
    let first = keys(&world.flush(), 1).len();
    assert!((5..=15).contains(&first), "{first}");
    let mut rest = 0;
    while world.push.waiting() > 0 {
        world.ready();
        rest += keys(&world.flush(), 1).len();
    }
    assert_eq!(first + rest, 100);
}

#[test]
fn who_waits_for_confirmation_asks_every_neighbour_pruned_or_not() {
    let mut world = World::new(&["a", "b"]);
    world.push.on_prune(LinkId(1), &Prune { origins: vec![name("me")], all_but: None });
    world.own("t", false);
    assert_eq!(world.told(), [(2, "SENSOR_UPDATE")]);
    world.ready();
    world.own("t", true);
    world.push.on_prune(LinkId(1), &Prune { origins: vec![name("me")], all_but: None });
    let sent = world.flush();
    assert_eq!((keys(&sent, 1).len(), keys(&sent, 2).len()), (1, 1));
}

#[test]
fn entries_of_region_scope_stay_in_their_region() {
    let mut world = World::new(&["a"]);
    world.push.on_link_up(world.now, LinkId(2), &name("abroad"), true);
    let (key, entry) = world.put("me", "t");
    let entry = Entry { scope: Scope::Region, ..entry };
    world.push.offer(&key, entry.scope, Offer::Own { confirm: false }, |_| false);
    assert_eq!(world.told(), [(1, "SENSOR_UPDATE")]);
}

#[test]
fn a_neighbour_whose_flush_is_under_way_waits_whatever_another_gets() {
    let mut world = World::new(&["a", "b"]);
    world.own("t1", false);
    assert_eq!(world.told().len(), 2);
    world.push.on_ready(LinkId(2));
    world.now = world.now + Duration::from_millis(20);
    world.own("t2", false);
    assert_eq!(world.told(), [(2, "SENSOR_UPDATE")]);
    world.push.on_ready(LinkId(1));
    assert_eq!(world.told(), [(1, "SENSOR_UPDATE")]);
}

#[test]
fn whoever_brings_the_news_is_never_pruned() {
    let mut world = World::new(&["a", "b"]);
    for link in [1, 2] {
        world.news(link, "z");
        world.news(link, "z");
        world.duplicate(link, "z");
        assert!(!world.told().contains(&(link, "PRUNE")), "link {link}");
    }
}

#[test]
fn where_push_is_late_a_parent_that_brings_news_is_kept() {
    let mut world = World::new(&["a", "b", "c"]);
    world.news(1, "z");
    world.duplicate(2, "z");
    world.duplicate(3, "z");
    world.flush();
    (0..50).for_each(|_| world.push.lag.on_pushed(Duration::from_secs(1)));
    world.missed(2, "z");
    world.ready();
    world.flush();
    world.news(1, "z");
    world.now = world.now + Duration::from_secs(11);
    assert!(!world.told().contains(&(3, "GRAFT")));
}
