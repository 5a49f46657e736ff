use super::*;
use crate::core::effect::Effect;
use crate::core::hlc::Hlc;
use crate::core::id::{Channel, RegionId, StoreId};
use crate::core::reading::Reading;
use crate::core::rng::Rng;
use crate::core::state::entry::Value;

use crate::core::time::Now;

const LINK: LinkId = LinkId(1);
const WALL: Wall = Wall::from_millis(1_700_000_000_000);

/// What is held after a peer of `region` has sent one entry of this scope to a node in eu.
fn held_of(region: &str, scope: Scope) -> (usize, Vec<Fact>) {
    let name = |text: &str| NodeId::new(text).unwrap();
    let region = RegionId::new(region).unwrap();
    let params = Params::new("lab", name("gw-1"), RegionId::new("eu").unwrap(), "a:1".into());
    let (mut gossip, mut store) =
        (Gossip::new(&params, BTreeMap::new()), Store::new(params.clock_skew_max, params.retain, 256));
    let (mut rng, mut fx) = (Rng::new(1), Vec::new());
    let mut cx = Cx { now: Now { mono: Mono::ZERO, wall: WALL }, rng: &mut rng, fx: &mut fx };
    let (node, addr) = (name("gw-2"), "b:1".into());
    let peer =
        Peer { link: LINK, node, store: StoreId(1), region, start: Hlc::ZERO, addr, dialed: None, founding: false };
    gossip.on_link_up(&mut cx, &store, peer, WALL);
    let key = Key::new(name("gw-3"), Channel::new("temp").unwrap());
    let entry = Entry { value: Value::of(&Reading::new(21.5, WALL)), stamp: Hlc::new(WALL, 0), scope };
    let update = SensorUpdate { entries: vec![KeyedEntry::new(&key, &entry)] };
    gossip.on_sensor_update(&mut cx, &mut store, LINK, update, WALL);
    (store.len(), gossip.take_facts())
}

#[test]
fn what_belongs_to_another_region_is_refused() {
    let (held, facts) = held_of("us", Scope::Region);
    assert_eq!(held, 0);
    assert!(facts.iter().any(|fact| matches!(fact, Fact::Refused { why: EntryRefusal::Foreign, .. })), "{facts:?}");
    assert_eq!(held_of("us", Scope::Global).0, 1);
    assert_eq!(held_of("eu", Scope::Region).0, 1);
}

/// Of ten regions' thirty first voters, met by one of them when their cluster was founded or later: how many links
/// it gave up, and to how many it pushed an entry of its own.
fn met_by_a_founder(founding: bool) -> (usize, usize) {
    let region = |n: usize| RegionId::new(&format!("r{n}")).unwrap();
    let voters = |r: usize| (0..3).map(|n| NodeId::new(&format!("gw-{r}-{n}")).unwrap()).collect::<Vec<_>>();
    let mut params = Params::new("lab", voters(0)[0].clone(), region(0), "a:1".into());
    params.initial_voters = (0..10).map(|r| (region(r), voters(r))).collect();
    let (mut gossip, mut store) =
        (Gossip::new(&params, BTreeMap::new()), Store::new(params.clock_skew_max, params.retain, 256));
    let (mut rng, mut fx) = (Rng::new(1), Vec::new());
    let mut cx = Cx { now: Now { mono: Mono::ZERO, wall: WALL }, rng: &mut rng, fx: &mut fx };
    let others = params.initial_voters.iter().flat_map(|(region, nodes)| nodes.iter().map(move |n| (region, n)));
    for (link, (region, node)) in (1..).zip(others.filter(|(_, node)| **node != params.node)) {
        let (addr, dialed) = (node.as_str().into(), None);
        let (region, node) = (region.clone(), node.clone());
        let (link, store_id, start) = (LinkId(link), StoreId(1), Hlc::ZERO);
        let peer = Peer { link, node, store: store_id, region, start, addr, dialed, founding };
        gossip.on_link_up(&mut cx, &store, peer, WALL);
    }
    let key = Key::new(params.node.clone(), Channel::new("temp").unwrap());
    let (value, stamp) = (Value::of(&Reading::new(21.5, WALL)), Hlc::new(WALL, 0));
    store.insert_own(key.clone(), Entry { value, stamp, scope: Scope::Global });
    gossip.on_local(&mut cx, &store, &[(key, Scope::Global)], false);
    let pushed = |fx: &&Effect| matches!(fx, Effect::Send { message: Message::SensorUpdate(_), .. });
    let given_up = |fx: &&Effect| matches!(fx, Effect::Hangup { .. });
    (fx.iter().filter(given_up).count(), fx.iter().filter(pushed).count())
}

#[test]
fn links_between_regions_that_founding_alone_needs_are_given_up_before_anything_is_pushed() {
    assert_eq!(met_by_a_founder(false), (0, 29));
    let (given_up, pushed) = met_by_a_founder(true);
    assert_eq!(given_up + pushed, 29);
    assert!((3..=12).contains(&pushed), "its own region's two and a few abroad: {pushed}");
}

/// What a node of eu says or dials with links 1, 2, … to peers of these regions.
fn linked(regions: &[&str], act: impl FnOnce(&mut Gossip, &mut Cx<'_>, &mut Store)) -> Vec<Effect> {
    let (me, eu) = (NodeId::new("me").unwrap(), RegionId::new("eu").unwrap());
    let params = Params::new("lab", me, eu, "a:1".into());
    let (mut gossip, mut store) =
        (Gossip::new(&params, BTreeMap::new()), Store::new(params.clock_skew_max, params.retain, 256));
    let (mut rng, mut fx) = (Rng::new(1), Vec::new());
    let now = Now { mono: Mono::from_micros(1), wall: WALL };
    let mut cx = Cx { now, rng: &mut rng, fx: &mut fx };
    for (n, region) in (1..).zip(regions) {
        let (node, region) = (NodeId::new(&format!("gw-{n}")).unwrap(), RegionId::new(region).unwrap());
        let (link, start, addr, dialed) = (LinkId(n), Hlc::ZERO, "b:1".into(), None);
        let peer = Peer { link, node, store: StoreId(1), region, start, addr, dialed, founding: false };
        gossip.on_link_up(&mut cx, &store, peer, WALL);
    }
    cx.fx.clear();
    act(&mut gossip, &mut cx, &mut store);
    fx
}

fn said(fx: &[Effect]) -> Vec<(u64, &'static str)> {
    let sent = |effect: &Effect| match effect {
        Effect::Send { link, message, .. } => Some((link.get(), message.type_name())),
        _ => None,
    };
    fx.iter().filter_map(sent).collect()
}

fn written(origin: &str, channel: &str, age: Duration, scope: Scope) -> (Key, Entry) {
    let key = Key::new(NodeId::new(origin).unwrap(), Channel::new(channel).unwrap());
    (key, Entry { value: Value::of(&Reading::new(21.5, WALL)), stamp: Hlc::new(WALL - age, 0), scope })
}

fn of_z(channel: &str, age_s: u64) -> Vec<KeyedEntry> {
    let (key, entry) = written("z", channel, Duration::from_secs(age_s), Scope::Global);
    vec![KeyedEntry::new(&key, &entry)]
}

fn info(region: &str) -> NodeInfo {
    let region = RegionId::new(region).unwrap();
    let (store, start, version) = (StoreId(9), Hlc::ZERO, String::new());
    NodeInfo { addr: "z:1".into(), api: None, region, store, start, version, left: false }
}

fn held(gossip: &Gossip) -> (usize, usize) {
    let mut footprint = Footprint::default();
    gossip.count(&mut footprint);
    (footprint.members, footprint.origins)
}

#[test]
fn what_a_repair_brings_late_grafts_its_origins_tree_and_what_is_young_does_not() {
    for (age_s, grafts) in [(60, 1), (0, 0)] {
        let fx = linked(&["eu", "eu"], |gossip, cx, store| {
            for link in [1, 2] {
                gossip.on_sensor_update(cx, store, LinkId(link), SensorUpdate { entries: of_z("a", 0) }, WALL);
            }
            let update = StateUpdate { session: 1, entries: of_z("b", age_s), more: false };
            gossip.on_state_update(cx, store, LinkId(2), update, WALL);
        });
        let said = said(&fx);
        assert!(said.contains(&(2, "PRUNE")), "{said:?}");
        assert_eq!(said.iter().filter(|what| **what == (2, "GRAFT")).count(), grafts, "{age_s} s old");
    }
}

#[test]
fn what_a_repair_brought_to_a_peer_gives_it_no_claim_to_be_the_parent() {
    for (repaired, told) in [(false, vec![(1, "PRUNE"), (2, "GRAFT")]), (true, Vec::new())] {
        let fx = linked(&["eu", "eu"], |gossip, cx, store| {
            gossip.on_sensor_update(cx, store, LinkId(1), SensorUpdate { entries: of_z("a", 0) }, WALL);
            let mut entries = of_z("b", 0);
            entries.iter_mut().for_each(|entry| entry.repaired = repaired);
            gossip.on_sensor_update(cx, store, LinkId(2), SensorUpdate { entries }, WALL);
            cx.fx.clear();
            gossip.on_sensor_update(cx, store, LinkId(1), SensorUpdate { entries: of_z("b", 0) }, WALL);
        });
        assert_eq!(said(&fx), told, "repaired: {repaired}");
    }
}

#[test]
fn a_peer_that_wants_nothing_even_of_us_is_here_for_a_moment() {
    for (origin, passing) in [("me", true), ("z", false)] {
        linked(&["eu"], |gossip, _, _| {
            gossip.on_prune(LINK, &Prune { origins: vec![NodeId::new(origin).unwrap()], all_but: None });
            assert_eq!(gossip.overlay.is_passing(LINK), passing);
        });
    }
}

#[test]
fn a_link_for_a_moment_stays_for_both_ends_when_one_asks() {
    let me = || vec![NodeId::new("me").unwrap()];
    let fx = linked(&["eu", "eu"], |gossip, cx, store| {
        gossip.on_prune(LINK, &Prune { origins: me(), all_but: None });
        gossip.on_graft(Mono::ZERO, LINK, &Graft { origins: me() });
        assert!(!gossip.overlay.is_passing(LINK));
        let (key, entry) = written("me", "temp", Duration::ZERO, Scope::Global);
        store.insert_own(key.clone(), entry);
        gossip.on_local(cx, store, &[(key, Scope::Global)], false);
        gossip.on_graft(Mono::ZERO, LINK, &Graft { origins: me() });
        gossip.on_deadline(cx, store, WALL);
    });
    let to_it =
        |fx: &[Effect]| said(fx).into_iter().filter(|(link, _)| *link == 1).map(|(_, kind)| kind).collect::<Vec<_>>();
    assert_eq!(to_it(&fx).iter().filter(|kind| **kind == "GRAFT").count(), 1, "{:?}", said(&fx));
    assert!(to_it(&fx).contains(&"SENSOR_UPDATE"), "{:?}", said(&fx));
}

#[test]
fn what_a_repair_brought_goes_on_as_such_but_to_the_parent_that_is_about_to_bring_it() {
    for (age_s, to) in [(0, vec![3]), (60, vec![1, 3])] {
        let fx = linked(&["eu", "eu", "eu"], |gossip, cx, store| {
            gossip.on_sensor_update(cx, store, LinkId(1), SensorUpdate { entries: of_z("a", 0) }, WALL);
            for link in [1, 2, 3] {
                let update = StateUpdate { session: 1, entries: Vec::new(), more: false };
                gossip.on_state_update(cx, store, LinkId(link), update, WALL);
                gossip.on_link_ready(cx, store, LinkId(link));
            }
            cx.fx.clear();
            cx.now.mono = cx.now.mono + Duration::from_millis(20);
            let update = StateUpdate { session: 1, entries: of_z("b", age_s), more: false };
            gossip.on_state_update(cx, store, LinkId(2), update, WALL);
        });
        let pushed = |effect: &Effect| match effect {
            Effect::Send { link, message: Message::SensorUpdate(update), .. } => {
                update.entries.iter().all(|entry| entry.repaired).then_some(link.get())
            }
            _ => None,
        };
        assert_eq!(fx.iter().filter_map(pushed).collect::<Vec<_>>(), to, "{age_s} s old: {:?}", said(&fx));
    }
}

#[test]
fn an_origin_first_heard_of_by_repair_is_grafted_where_it_may_be_pruned_unheard_of_however_young_it_is() {
    for (way, grafted) in [(Way::Repair, true), (Way::Push, false)] {
        let fx = linked(&["eu"], |gossip, cx, store| {
            for n in 0..40 {
                let (key, entry) = written(&format!("o{n}"), "a", Duration::ZERO, Scope::Global);
                let update = SensorUpdate { entries: vec![KeyedEntry::new(&key, &entry)] };
                gossip.on_sensor_update(cx, store, LINK, update, WALL);
            }
            let (link, node, region) = (LinkId(2), NodeId::new("new").unwrap(), RegionId::new("eu").unwrap());
            let (start, addr) = (Hlc::ZERO, "n:1".into());
            let peer = Peer { link, node, store: StoreId(1), region, start, addr, dialed: None, founding: false };
            gossip.on_link_up(cx, store, peer, WALL);
            match way {
                Way::Repair => {
                    let update = StateUpdate { session: 1, entries: of_z("b", 0), more: false };
                    gossip.on_state_update(cx, store, LINK, update, WALL);
                }
                Way::Push => {
                    gossip.on_sensor_update(cx, store, LINK, SensorUpdate { entries: of_z("b", 0) }, WALL);
                }
            }
        });
        assert_eq!(said(&fx).contains(&(2, "GRAFT")), grafted, "{:?}", said(&fx));
    }
}

#[test]
fn what_stays_in_its_region_is_pushed_there_and_nowhere_else() {
    let fx = linked(&["eu", "us"], |gossip, cx, store| {
        let (key, entry) = written("me", "temp", Duration::ZERO, Scope::Region);
        store.insert_own(key.clone(), entry);
        gossip.on_local(cx, store, &[(key, Scope::Region)], false);
    });
    assert_eq!(said(&fx), [(1, "SENSOR_UPDATE")]);
}

#[test]
fn the_peer_that_is_to_confirm_is_asked() {
    let fx = linked(&["eu", "eu"], |gossip, cx, store| {
        let (key, entry) = written("me", "temp", Duration::ZERO, Scope::Global);
        store.insert_own(key.clone(), entry);
        gossip.confirm_with(cx, store, LinkId(1), &[key]);
    });
    assert_eq!(said(&fx), [(1, "SENSOR_UPDATE")]);
}

#[test]
fn who_has_left_is_not_dialed_and_of_the_forgotten_nothing_is_kept() {
    let z = NodeId::new("z").unwrap();
    let dials = |region: &str, votes: bool, life: Life| {
        let fx = linked(&[], |gossip, cx, store| {
            gossip.on_member(&z, &info(region), Some(Life::Alive));
            gossip.set_votes(votes);
            gossip.on_life(&z, life);
            gossip.on_deadline(cx, store, WALL);
        });
        fx.iter().filter(|effect| matches!(effect, Effect::Dial { .. })).count()
    };
    assert_eq!((dials("eu", false, Life::Alive), dials("eu", false, Life::Left)), (1, 0));
    assert_eq!((dials("us", false, Life::Alive), dials("us", true, Life::Alive)), (0, 1), "a voter's cross link");
    linked(&["eu"], |gossip, cx, store| {
        gossip.on_member(&z, &info("eu"), Some(Life::Alive));
        gossip.on_sensor_update(cx, store, LINK, SensorUpdate { entries: of_z("a", 0) }, WALL);
        assert_eq!(held(gossip), (2, 1));
        gossip.on_forgotten(&z);
        assert_eq!(held(gossip), (1, 0));
    });
}

#[test]
fn peers_count_as_equal_by_the_last_comparison_and_as_nothing_before_one() {
    linked(&["eu", "eu"], |gossip, cx, store| {
        assert_eq!(gossip.converged(), None);
        let brings = |session, entries| StateUpdate { session, entries, more: false };
        gossip.on_state_update(cx, store, LinkId(1), brings(1, of_z("a", 60)), WALL);
        assert_eq!(gossip.converged(), Some(0.0), "it had what we lacked");
        gossip.on_state_update(cx, store, LinkId(2), brings(1, Vec::new()), WALL);
        assert_eq!(gossip.converged(), Some(0.5));
        gossip.on_state_update(cx, store, LinkId(1), brings(2, Vec::new()), WALL);
        assert_eq!(gossip.converged(), Some(1.0));
    });
}
