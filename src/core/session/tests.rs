use super::*;
use crate::core::id::Hash;
use crate::core::rng::Rng;
use crate::core::time::{Now, Wall};

struct World {
    sessions: Sessions,
    fx: Vec<Effect>,
}

fn name(text: &str) -> NodeId {
    NodeId::new(text).unwrap()
}

fn ours() -> Option<ClusterId> {
    Some(Hash::of(b"ours"))
}

impl World {
    /// A node of cluster "lab" on store 1, whose life 5 began at 10.
    fn new(me: &str, voters: &[&str], cluster: Option<ClusterId>) -> Self {
        let main = RegionId::new("main").unwrap();
        let mut params = Params::new("lab", name(me), main.clone(), me.into());
        params.initial_voters = BTreeMap::from([(main, voters.iter().map(|voter| name(voter)).collect())]);
        let mut world = Self { sessions: Sessions::new(&params, StoreId(1), 5, cluster), fx: Vec::new() };
        world.with(|sessions, cx| sessions.begin(cx, Hlc::from_bits(10)));
        world
    }

    fn with(&mut self, act: impl FnOnce(&mut Sessions, &mut Cx<'_>)) {
        self.with_at(0, act);
    }

    fn with_at(&mut self, ms: u64, act: impl FnOnce(&mut Sessions, &mut Cx<'_>)) {
        let now = Now { mono: Mono::from_micros(1) + Duration::from_millis(ms), wall: Wall::from_millis(1) };
        let mut rng = Rng::new(1);
        act(&mut self.sessions, &mut Cx { now, rng: &mut rng, fx: &mut self.fx });
    }

    fn hello(&self, node: &str, cluster: Option<ClusterId>) -> Hello {
        Hello {
            versions: self.sessions.params.versions,
            cluster,
            committed: false,
            name: "lab".to_owned(),
            node: name(node),
            store: StoreId(2),
            region: RegionId::new("main").unwrap(),
            start: Hlc::from_bits(20),
            life: 7,
            addr: node.into(),
            software: "test".to_owned(),
            wall: Wall::from_millis(1),
        }
    }

    fn say(&mut self, link: u64, hello: &Hello) -> Vec<Effect> {
        self.fx.clear();
        self.with(|sessions, cx| sessions.on_hello(cx, LinkId(link), hello.clone()));
        std::mem::take(&mut self.fx)
    }

    fn meet(&mut self, link: u64, dialed: bool, hello: &Hello) -> Vec<Effect> {
        let there: Option<Addr> = dialed.then(|| "there".into());
        self.with(|sessions, cx| sessions.on_link_up(cx, LinkId(link), there));
        self.say(link, hello)
    }
}

fn hangups(fx: &[Effect]) -> Vec<LinkId> {
    fx.iter().filter_map(|effect| if let Effect::Hangup { link } = effect { Some(*link) } else { None }).collect()
}

fn errors(fx: &[Effect]) -> Vec<ErrorCode> {
    let code = |effect: &Effect| match effect {
        Effect::Send { message: Message::Error(error), .. } => Some(error.code),
        _ => None,
    };
    fx.iter().filter_map(code).collect()
}

fn stops(fx: &[Effect]) -> bool {
    fx.iter().any(|effect| matches!(effect, Effect::Stop { why: StopReason::Clone(_) }))
}

#[test]
fn of_two_links_to_one_peer_both_ends_keep_that_of_the_smaller_name_or_the_newer() {
    for (me, dialed, kept) in [
        ("a", [true, false], 1),
        ("a", [false, true], 2),
        ("c", [true, false], 2),
        ("c", [false, true], 1),
        ("a", [true, true], 2),
        ("a", [false, false], 2),
        ("c", [true, true], 2),
        ("c", [false, false], 2),
    ] {
        let mut world = World::new(me, &[], ours());
        let hello = world.hello("b", ours());
        world.meet(1, dialed[0], &hello);
        let fx = world.meet(2, dialed[1], &hello);
        assert_eq!(hangups(&fx), [LinkId(3 - kept)], "{me} {dialed:?}");
        assert_eq!(world.sessions.link_of(&name("b")), Some(LinkId(kept)));
        assert!(world.sessions.peer_on(LinkId(3 - kept)).is_none(), "one link is in use");
    }
}

#[test]
fn of_two_lives_of_one_name_the_later_is_refused_and_oneself_is_known() {
    let met = |store: u128, start: u64, life: u32| {
        let mut world = World::new("a", &[], ours());
        let start = Hlc::from_bits(start);
        let hello = Hello { store: StoreId(store), start, life, ..world.hello("a", ours()) };
        let fx = world.meet(1, true, &hello);
        (stops(&fx), errors(&fx), hangups(&fx).len(), world.sessions.take_facts())
    };
    assert_eq!(met(1, 10, 5), (false, vec![], 1, vec![Fact::SelfDialed("there".into())]));
    for (store, start, life) in [(1, 11, 0), (2, 11, 0), (1, 10, 6)] {
        assert_eq!(met(store, start, life), (false, vec![ErrorCode::Duplicate], 1, vec![]));
    }
    assert!(met(1, 9, 9).0 && met(2, 9, 9).0 && met(1, 10, 4).0, "the other was first");
}

#[test]
fn what_a_dead_life_had_said_and_comes_late_is_no_proof_that_it_lives() {
    let met = |frames: &[u64]| {
        let mut world = World::new("a", &[], ours());
        let hello = world.hello("b", ours());
        world.meet(1, true, &hello);
        world.meet(2, false, &Hello { start: Hlc::from_bits(30), life: 8, ..hello });
        for ms in frames {
            world.with_at(*ms, |sessions, cx| assert!(sessions.on_frame(cx, LinkId(1)), "it is in use"));
        }
        world.with_at(2_500, |sessions, cx| sessions.on_deadline(cx));
        (errors(&world.fx), world.sessions.link_of(&name("b")))
    };
    let (restarted, copied) = ((vec![], Some(LinkId(2))), (vec![ErrorCode::Duplicate], Some(LinkId(1))));
    for late in [&[][..], &[0, 300, 599], &[840], &[840, 840, 900, 1_100], &[2_200, 2_400]] {
        assert_eq!(met(late), restarted, "{late:?}");
    }
    for keepalives in [&[100, 600, 1_100][..], &[590, 1_090, 1_590], &[2_000, 2_400]] {
        assert_eq!(met(keepalives), copied, "{keepalives:?}");
    }
}

#[test]
fn a_link_does_not_change_its_owner_who_may_say_hello_again() {
    let met = |change: fn(&mut Hello)| {
        let mut world = World::new("a", &[], ours());
        let mut hello = world.hello("b", ours());
        world.meet(1, true, &hello);
        change(&mut hello);
        let fx = world.say(1, &hello);
        (errors(&fx), hangups(&fx).len())
    };
    assert_eq!(met(|_| ()), (vec![], 0));
    assert_eq!(met(|hello| hello.node = name("d")), (vec![ErrorCode::Protocol], 1));
    assert_eq!(met(|hello| hello.life = 8), (vec![ErrorCode::Protocol], 1));
}

#[test]
fn only_what_another_cluster_of_our_name_has_committed_outdoes_ours() {
    let theirs = Hash::of(b"theirs");
    let outdone = |committed: bool, of: &str| {
        let mut world = World::new("a", &[], ours());
        let hello = Hello { committed, name: of.to_owned(), ..world.hello("b", Some(theirs)) };
        assert_eq!(errors(&world.meet(1, false, &hello)), [ErrorCode::Cluster]);
        world.sessions.take_facts().contains(&Fact::Outdone { theirs })
    };
    assert_eq!((outdone(true, "lab"), outdone(false, "lab"), outdone(true, "prod")), (true, false, false));
    let mut fresh = World::new("a", &["a", "b"], None);
    let hello = Hello { name: "prod".to_owned(), ..fresh.hello("b", None) };
    assert_eq!(errors(&fresh.meet(1, false, &hello)), [ErrorCode::Cluster], "configured for another");
}

#[test]
fn first_voters_found_a_cluster_once_all_have_met_and_one_alone_at_once() {
    let founds = |me: &str, voters: &[&str], met: &[&str]| {
        let mut world = World::new(me, voters, None);
        for (link, node) in (1..).zip(met) {
            let hello = world.hello(node, None);
            world.meet(link, true, &hello);
        }
        world.sessions.take_facts().iter().any(|fact| matches!(fact, Fact::Complete { .. }))
    };
    assert!(founds("a", &["a"], &[]) && founds("a", &["a", "b"], &["b"]));
    assert!(!founds("a", &["a", "b", "c"], &["b"]) && !founds("d", &["a", "b"], &["a", "b"]));
}

#[test]
fn a_link_is_of_the_founding_if_either_end_had_no_cluster_when_they_met() {
    let up = |cluster: Option<ClusterId>, theirs: Option<ClusterId>| {
        let mut world = World::new("a", &["a", "b"], cluster);
        let hello = world.hello("b", theirs);
        world.meet(1, true, &hello);
        if cluster.is_none() {
            world.with(|sessions, cx| sessions.join(cx, Hash::of(b"ours")));
        }
        let again = world.hello("b", ours());
        world.say(1, &again);
        world.sessions.peer_on(LinkId(1)).map(|peer| peer.founding)
    };
    assert_eq!(up(None, None), Some(true));
    assert_eq!((up(None, ours()), up(ours(), None)), (Some(true), Some(true)), "what one says the other sees");
    assert_eq!(up(ours(), ours()), Some(false));
}

#[test]
fn why_a_peer_refuses_us_is_kept_until_one_accepts_and_a_copy_stops() {
    let mut world = World::new("a", &[], ours());
    let error = |code| ErrorMessage { code, message: "why".to_owned() };
    assert_eq!(world.sessions.refused(), None);
    world.with(|sessions, cx| sessions.on_error(cx, LinkId(1), &error(ErrorCode::Cluster)));
    assert_eq!(world.sessions.refused(), Some("why"));
    let hello = world.hello("b", ours());
    world.meet(1, true, &hello);
    assert_eq!(world.sessions.refused(), None);
    let heard = |node: &str| world.sessions.heard(&name(node));
    assert_eq!((heard("b"), heard("c")), (Some(Mono::from_micros(1)), None));
    world.with(|sessions, cx| sessions.on_error(cx, LinkId(1), &error(ErrorCode::Duplicate)));
    assert!(stops(&world.fx));
}

#[test]
fn a_known_link_is_greeted_every_two_seconds_and_closed_after_seven_without_a_word() {
    let mut world = World::new("a", &["a", "b", "c"], None);
    let hello = world.hello("b", None);
    world.meet(1, true, &hello);
    // How often HELLO is said, and how many links are closed.
    let due = |world: &mut World, ms: u64| {
        world.fx.clear();
        world.with_at(ms, |sessions, cx| sessions.on_deadline(cx));
        let greets = |effect: &&Effect| matches!(effect, Effect::Send { message: Message::Hello(_), .. });
        (world.fx.iter().filter(greets).count(), hangups(&world.fx).len())
    };
    for (ms, done) in [(1_999, (0, 0)), (2_000, (1, 0)), (3_999, (0, 0)), (4_000, (1, 0)), (6_000, (1, 0))] {
        assert_eq!(due(&mut world, ms), done, "{ms}");
    }
    world.with_at(6_500, |sessions, cx| assert!(!sessions.on_frame(cx, LinkId(1)), "it is not in use"));
    for (ms, done) in [(7_000, (0, 0)), (8_000, (1, 0)), (10_000, (1, 0)), (12_000, (1, 0)), (13_499, (0, 0))] {
        assert_eq!(due(&mut world, ms), done, "{ms}");
    }
    assert_eq!(due(&mut world, 13_500), (0, 1));
    assert_eq!(world.sessions.deadline(), Mono::NEVER);
}
