use super::*;
use crate::core::id::{RegionId, StoreId};
use crate::core::rng::Rng;
use crate::core::time::{Now, Wall};

struct World {
    live: Liveness,
    now: Mono,
    fx: Vec<Effect>,
    is_news: bool,
}

fn name(text: &str) -> NodeId {
    NodeId::new(text).unwrap()
}

fn stamp(n: u64) -> Hlc {
    Hlc::from_bits(n)
}

impl World {
    fn new() -> Self {
        let params = Params::new("lab", name("me"), RegionId::new("main").unwrap(), "me".into());
        Self { live: Liveness::new(&params), now: Mono::from_micros(1), fx: Vec::new(), is_news: true }
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Liveness, &mut Cx<'_>) -> T) -> T {
        let mut rng = Rng::new(1);
        let now = Now { mono: self.now, wall: Wall::from_millis(1) };
        let mut cx = Cx { now, rng: &mut rng, fx: &mut self.fx };
        act(&mut self.live, &mut cx)
    }

    fn info(&self, node: &str) -> NodeInfo {
        NodeInfo {
            addr: node.into(),
            api: None,
            region: RegionId::new("main").unwrap(),
            store: StoreId(1),
            start: stamp(1),
            version: "x".into(),
            left: false,
        }
    }

    fn known(&mut self, node: &str, at: u64) {
        let info = self.info(node);
        self.with(|live, cx| live.on_member(cx, &name("me"), &name(node), &info, stamp(at)));
    }

    fn linked(&mut self, node: &str, link: u64) {
        let (store, region) = (StoreId(1), RegionId::new("main").unwrap());
        let (addr, link) = (node.into(), LinkId(link));
        let peer = Peer { link, node: name(node), store, region, start: stamp(1), addr, dialed: None, founding: false };
        self.with(|live, cx| live.on_link_up(cx, &peer));
    }

    fn cut(&mut self, link: u64) {
        self.with(|live, cx| live.on_link_down(cx, LinkId(link), false));
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while self.live.deadline() <= end {
            self.now = self.live.deadline().max(self.now);
            self.with(|live, cx| live.on_deadline(cx, &name("me")));
        }
        self.now = end;
    }

    fn state(&self, node: &str) -> Option<Life> {
        self.live.state_of(&name(node))
    }

    fn doubts(&mut self, doubter: &str, node: &str, of: u64, refused: bool) {
        let suspicion = Suspicion { of: stamp(of), refused };
        let is_news = self.is_news;
        self.with(|live, cx| {
            live.on_suspicion(cx, (&name("me"), Some(stamp(9))), &name(doubter), &name(node), suspicion, is_news);
        });
    }
}

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

#[test]
fn a_broken_link_makes_a_doubt_then_a_death_and_a_newer_word_refutes_both() {
    let mut world = World::new();
    world.known("a", 5);
    world.linked("a", 1);
    world.cut(1);
    assert_eq!(world.state("a"), Some(Life::Alive), "it may come back at once");
    world.pass(SECONDS(2));
    assert_eq!(world.state("a"), Some(Life::Suspect));
    let said = |world: &mut World| world.live.take_facts().into_iter().any(|f| matches!(f, Fact::Publish { .. }));
    assert!(said(&mut world), "in public");
    world.known("a", 6);
    assert_eq!(world.state("a"), Some(Life::Alive));
    world.with(|live, cx| live.on_dial_failed(cx, &name("me"), &name("a"), cx.now.mono, false));
    world.pass(SECONDS(1));
    assert_eq!(world.state("a"), Some(Life::Alive), "who was wrong waits longer");
    world.pass(SECONDS(20));
    assert_eq!(world.state("a"), Some(Life::Dead));
    world.linked("a", 2);
    assert_eq!(world.state("a"), Some(Life::Alive));
}

#[test]
fn two_doubters_and_a_refusal_make_a_death_at_once() {
    let mut world = World::new();
    world.known("a", 5);
    world.linked("a", 1);
    world.cut(1);
    world.with(|live, cx| live.on_dial_failed(cx, &name("me"), &name("a"), cx.now.mono, true));
    assert_eq!(world.state("a"), Some(Life::Suspect));
    world.doubts("b", "a", 5, true);
    assert_eq!(world.state("a"), Some(Life::Dead));
}

#[test]
fn a_doubt_that_comes_before_our_own_link_breaks_counts_from_then_on() {
    let mut world = World::new();
    world.known("a", 5);
    world.linked("a", 1);
    world.doubts("b", "a", 5, true);
    assert_eq!(world.state("a"), Some(Life::Alive), "our link stands");
    world.cut(1);
    assert_eq!(world.state("a"), Some(Life::Suspect), "what others say is all we know now");
    world.with(|live, cx| live.on_dial_failed(cx, &name("me"), &name("a"), cx.now.mono, true));
    assert_eq!(world.state("a"), Some(Life::Dead), "two doubt, and one was refused");
    let mut world = World::new();
    world.known("a", 5);
    world.linked("a", 1);
    world.doubts("b", "a", 5, true);
    world.known("a", 6);
    world.with(|live, cx| live.on_link_down(cx, LinkId(1), true));
    assert_eq!(world.state("a"), Some(Life::Alive), "it has refuted that");
}

#[test]
fn a_doubt_that_a_link_outlives_is_dropped() {
    let mut world = World::new();
    world.known("a", 5);
    world.linked("a", 1);
    // Of a word that it took back when its clock was set back: nothing that it says now refutes that.
    world.doubts("b", "a", 7, true);
    for _ in 0..8 {
        world.pass(Duration::from_millis(500));
        world.with(|live, cx| live.on_frame(cx, LinkId(1)));
    }
    let mut footprint = Footprint::default();
    world.live.count(&mut footprint);
    assert_eq!((world.state("a"), footprint.doubted), (Some(Life::Alive), 0));
    world.with(|live, cx| live.on_link_down(cx, LinkId(1), true));
    assert_eq!(world.state("a"), Some(Life::Alive));
    world.live.take_facts();
    world.linked("a", 2);
    world.doubts("b", "a", 7, true);
    world.with(|live, cx| live.on_link_down(cx, LinkId(2), true));
    assert_eq!(world.state("a"), Some(Life::Suspect));
    world.known("a", 8);
    world.pass(SECONDS(10));
    let said = world.live.take_facts().into_iter().any(|fact| matches!(fact, Fact::Publish { .. }));
    assert!(!said && world.state("a") == Some(Life::Alive), "we have no doubt of our own");
}

#[test]
fn what_a_newcomer_is_filled_with_makes_nobody_dead_at_once() {
    let mut world = World::new();
    world.known("a", 5);
    world.is_news = false;
    world.doubts("b", "a", 5, true);
    world.doubts("c", "a", 5, true);
    assert_eq!(world.state("a"), Some(Life::Suspect), "its newer word may be on its way");
    world.known("a", 6);
    assert_eq!(world.state("a"), Some(Life::Alive));
    world.is_news = true;
    world.doubts("b", "a", 6, true);
    world.doubts("c", "a", 6, true);
    assert_eq!(world.state("a"), Some(Life::Dead));
}

#[test]
fn a_silent_link_is_closed_and_its_peer_doubted() {
    let mut world = World::new();
    world.known("a", 5);
    world.linked("a", 1);
    world.pass(SECONDS(3));
    assert_eq!(world.state("a"), Some(Life::Suspect));
    assert!(world.fx.iter().any(|effect| matches!(effect, Effect::Hangup { link: LinkId(1) })));
}

#[test]
fn a_doubt_of_us_is_refuted_unless_it_is_void() {
    let mut world = World::new();
    world.doubts("b", "me", 8, false);
    assert!(world.live.take_facts().is_empty(), "an older word of ours is doubted: that is void");
    world.doubts("b", "me", 9, false);
    assert_eq!(world.live.take_facts(), vec![Fact::Refute]);
}

#[test]
fn a_link_given_up_on_purpose_is_no_reason_for_doubt() {
    let mut world = World::new();
    world.known("a", 5);
    world.linked("a", 1);
    world.with(|live, cx| live.on_link_down(cx, LinkId(1), true));
    world.pass(SECONDS(60));
    assert_eq!(world.state("a"), Some(Life::Alive));
}

#[test]
fn a_keepalive_goes_where_nothing_else_went() {
    let mut world = World::new();
    world.linked("a", 1);
    world.linked("b", 2);
    let half = Duration::from_millis(500);
    world.now = world.now + half / 2;
    let now = world.now;
    world.live.on_sent(now, LinkId(1));
    world.now = world.now + half / 2;
    world.with(|live, cx| live.on_deadline(cx, &name("me")));
    let sent: Vec<u64> = world
        .fx
        .iter()
        .filter_map(|fx| if let Effect::Send { link, .. } = fx { Some(link.get()) } else { None })
        .collect();
    assert_eq!(sent, [2]);
}

#[test]
fn a_new_life_is_no_refutation() {
    let mut world = World::new();
    world.known("a", 5);
    world.with(|live, cx| live.on_dial_failed(cx, &name("me"), &name("a"), cx.now.mono, true));
    world.known("a", 6);
    let refuted = |world: &World| world.live.members["a"].trouble.as_ref().map_or(0, |trouble| trouble.refuted);
    assert_eq!(refuted(&world), 1);
    let mut info = world.info("a");
    info.start = stamp(7);
    world.with(|live, cx| live.on_member(cx, &name("me"), &name("a"), &info, stamp(7)));
    assert_eq!(refuted(&world), 0);
}

#[test]
fn members_that_are_forgotten_leave_nothing_behind() {
    let mut world = World::new();
    world.known("a", 5);
    world.with(|live, cx| live.on_dial_failed(cx, &name("me"), &name("a"), cx.now.mono, false));
    assert!(world.live.deadline() < Mono::NEVER);
    world.live.on_forgotten(&name("a"));
    assert_eq!((world.live.deadline(), world.state("a")), (Mono::NEVER, None));
}

#[test]
fn a_void_doubt_is_ignored() {
    let mut world = World::new();
    world.known("a", 5);
    world.doubts("b", "a", 4, true);
    assert_eq!(world.state("a"), Some(Life::Alive));
}

#[test]
fn a_refusal_says_nothing_of_a_process_that_has_started_since() {
    let mut world = World::new();
    world.known("a", 5);
    let since = world.now;
    world.pass(Duration::from_millis(100));
    world.known("a", 9);
    world.with(|live, cx| live.on_dial_failed(cx, &name("me"), &name("a"), since, true));
    assert_eq!(world.state("a"), Some(Life::Alive));
    world.with(|live, cx| live.on_dial_failed(cx, &name("me"), &name("a"), cx.now.mono, true));
    assert_eq!(world.state("a"), Some(Life::Suspect));
}

#[test]
fn a_doubter_that_reaches_the_suspect_takes_its_word_back() {
    let mut world = World::new();
    world.known("a", 5);
    world.with(|live, cx| live.on_dial_failed(cx, &name("me"), &name("a"), cx.now.mono, true));
    world.live.take_facts();
    world.linked("a", 1);
    let said = world.live.take_facts();
    let withdrawn = Value::of(&Suspicion { of: Hlc::ZERO, refused: false });
    let published = |fact: &Fact| matches!(fact, Fact::Publish { value, .. } if *value == withdrawn);
    assert!(said.iter().any(published), "{said:?}");
    // Nor does it say so again.
    world.linked("a", 2);
    assert!(!world.live.take_facts().iter().any(published));
}

#[test]
fn a_suspect_that_has_not_refuted_is_sought_once_before_it_is_taken_for_dead() {
    let mut world = World::new();
    world.known("a", 5);
    world.doubts("b", "a", 5, false);
    world.live.take_facts();
    let sought = |facts: &[Fact]| facts.iter().filter(|fact| matches!(fact, Fact::Seek { .. })).count();
    let timeout = world.live.params.liveness.suspicion_timeout;
    world.now = world.now + timeout / 2;
    world.with(|live, cx| live.on_deadline(cx, &name("me")));
    assert_eq!((sought(&world.live.take_facts()), world.state("a")), (1, Some(Life::Suspect)));
    world.now = world.now + timeout / 2;
    world.with(|live, cx| live.on_deadline(cx, &name("me")));
    assert_eq!((sought(&world.live.take_facts()), world.state("a")), (0, Some(Life::Dead)));
}

#[test]
fn whoever_was_taken_for_dead_lives_again_once_its_last_doubter_has_reached_it() {
    let mut world = World::new();
    world.known("a", 5);
    world.doubts("b", "a", 5, true);
    world.doubts("c", "a", 5, true);
    assert_eq!(world.state("a"), Some(Life::Dead));
    world.doubts("b", "a", 0, false);
    assert_eq!(world.state("a"), Some(Life::Dead), "one of two doubts still");
    world.doubts("c", "a", 0, false);
    assert_eq!(world.state("a"), Some(Life::Alive));
}

#[test]
fn the_last_words_of_one_that_leaves_do_not_bring_it_back() {
    let mut world = World::new();
    world.known("a", 5);
    world.linked("a", 1);
    let info = NodeInfo { left: true, ..world.info("a") };
    world.with(|live, cx| live.on_member(cx, &name("me"), &name("a"), &info, stamp(6)));
    world.with(|live, cx| live.on_frame(cx, LinkId(1)));
    world.cut(1);
    world.pass(SECONDS(10));
    assert_eq!(world.state("a"), Some(Life::Left));
}

#[test]
fn one_whose_link_breaks_before_it_has_said_who_it_is_is_not_doubted() {
    let mut world = World::new();
    world.linked("a", 1);
    world.cut(1);
    world.pass(SECONDS(5));
    assert_eq!(world.state("a"), Some(Life::Alive));
}

#[test]
fn a_state_counts_from_when_it_changed() {
    let mut world = World::new();
    world.known("a", 5);
    let began = Some(world.now);
    world.pass(SECONDS(7));
    world.known("a", 6);
    assert_eq!(world.live.since(&name("a")), began, "it was alive all the while");
    world.with(|live, cx| live.on_dial_failed(cx, &name("me"), &name("a"), cx.now.mono, true));
    assert_eq!(world.live.since(&name("a")), Some(world.now));
}

#[test]
fn whoever_was_wrong_waits_unless_the_host_refuses() {
    for (refused, state) in [(false, Life::Alive), (true, Life::Suspect)] {
        let mut world = World::new();
        world.known("a", 5);
        world.with(|live, cx| live.on_dial_failed(cx, &name("me"), &name("a"), cx.now.mono, false));
        world.known("a", 6);
        world.linked("a", 1);
        world.cut(1);
        world.with(|live, cx| live.on_dial_failed(cx, &name("me"), &name("a"), cx.now.mono, refused));
        assert_eq!(world.state("a"), Some(state), "refused: {refused}");
    }
}

#[test]
fn whoever_is_watched_is_counted_and_whoever_is_doubted() {
    let mut world = World::new();
    ["a", "b", "c"].into_iter().for_each(|node| world.known(node, 5));
    world.linked("b", 1);
    world.doubts("c", "a", 5, false);
    world.doubts("c", "b", 5, false);
    let mut footprint = Footprint::default();
    world.live.count(&mut footprint);
    assert_eq!((footprint.members, footprint.doubted), (3, 2));
}

#[test]
fn a_link_that_has_stood_for_the_longest_wait_ends_the_patience_and_a_shorter_one_does_not() {
    for (stood, state) in [(PATIENCE_MAX, Life::Suspect), (PATIENCE_MAX - SECONDS(1), Life::Alive)] {
        let mut world = World::new();
        world.known("a", 5);
        world.with(|live, cx| live.on_dial_failed(cx, &name("me"), &name("a"), cx.now.mono, false));
        // It refutes that: the next doubt would wait for twice as long.
        world.known("a", 6);
        world.linked("a", 1);
        world.now = world.now + stood;
        world.cut(1);
        world.now = world.now + REDIAL_GRACE;
        world.with(|live, cx| live.on_deadline(cx, &name("me")));
        assert_eq!(world.state("a"), Some(state), "after {stood:?}");
    }
}
