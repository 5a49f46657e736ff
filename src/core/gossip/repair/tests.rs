use std::time::Duration;

use super::*;
use crate::core::hlc::Hlc;
use crate::core::id::{Channel, RegionId, StoreId};
use crate::core::reading::Reading;
use crate::core::rng::Rng;
use crate::core::state::entry::Value;
use crate::core::state::store::Outcome;
use crate::core::state::system;
use crate::core::time::Now;

const LINK: LinkId = LinkId(1);
/// The clock of these tests: everything written before it has settled, unless it says otherwise.
const WALL: Wall = Wall::from_millis(1_700_000_000_000);
const LONG_AGO: u64 = 60_000;

/// One of two nodes that repair each other.
struct Side {
    repair: Repair,
    store: Store,
    rng: Rng,
    fx: Vec<Effect>,
    wall: Wall,
    /// Entries merged from the other.
    brought: usize,
    /// Entries that came and were held already, or refused.
    in_vain: usize,
}

/// Two nodes and what they have said to each other.
struct Pair {
    sides: [Side; 2],
    mono: Mono,
    /// Bytes of digests and requests, and of updates, in frames.
    bytes: [usize; 2],
    /// Times that messages crossed, either way.
    crossings: usize,
    sent: Vec<(usize, Message)>,
}

fn node(n: usize) -> NodeId {
    NodeId::new(&format!("gw-{n}")).unwrap()
}

fn region(name: &str) -> RegionId {
    RegionId::new(name).unwrap()
}

fn entry(n: usize, age_ms: u64, scope: Scope) -> KeyedEntry {
    let at = Wall::from_millis(WALL.as_millis() - age_ms);
    let (origin, channel) = (node(n % 97), Channel::new(&format!("sensor/{}", n / 97)).unwrap());
    KeyedEntry {
        origin,
        channel,
        stamp: Hlc::new(at, (n % 7) as u16),
        scope,
        value: Value::of(&Reading::new(n as f64, at)),
        confirm: false,
        repaired: false,
    }
}

impl Pair {
    fn new(regions: [&str; 2]) -> Self {
        let side = |n: usize| {
            let params = Params::new("lab", node(1_000 + n), region(regions[n]), "a:1".into());
            let store = Store::new(params.clock_skew_max, params.retain, params.gossip.sketch_symbols_max);
            let (repair, rng) = (Repair::new(&params), Rng::new(n as u64));
            Side { repair, store, rng, fx: Vec::new(), wall: WALL, brought: 0, in_vain: 0 }
        };
        let mut pair = Self {
            sides: [side(0), side(1)],
            mono: Mono::from_micros(1),
            bytes: [0; 2],
            crossings: 0,
            sent: Vec::new(),
        };
        pair.link(regions, false);
        pair
    }

    fn main() -> Self {
        Self::new(["main", "main"])
    }

    fn link(&mut self, regions: [&str; 2], dialed: bool) {
        for n in 0..2 {
            let peer = Peer {
                link: LINK,
                node: node(1_001 - n),
                store: StoreId(1),
                region: region(regions[1 - n]),
                start: Hlc::ZERO,
                addr: "b:1".into(),
                dialed: (dialed && n == 0).then(|| "b:1".into()),
                founding: false,
            };
            self.act(n, |side, cx, wall| side.repair.on_link_up(cx, side.store, &peer, wall));
        }
    }

    fn act(&mut self, n: usize, act: impl FnOnce(&mut ActSide<'_>, &mut Cx<'_>, Wall)) {
        let Side { repair, store, rng, fx, wall, brought, in_vain } = &mut self.sides[n];
        let now = Now { mono: self.mono, wall: *wall };
        let mut effects = Vec::new();
        let mut cx = Cx { now, rng, fx: &mut effects };
        act(&mut ActSide { repair, store, brought, in_vain }, &mut cx, *wall);
        fx.append(&mut effects);
    }

    fn put(&mut self, sides: &[usize], entries: impl IntoIterator<Item = KeyedEntry>) {
        for keyed in entries {
            for n in sides {
                let (key, entry) = keyed.clone().into_parts();
                self.sides[*n].store.insert_own(key, entry);
            }
        }
    }

    /// Delivers what was sent, all at once, until nothing is: at most `crossings` times.
    fn deliver(&mut self, crossings: usize) {
        for _ in 0..crossings {
            let sent: Vec<Vec<Effect>> = self.sides.iter_mut().map(|side| std::mem::take(&mut side.fx)).collect();
            let mut any = false;
            for (n, effects) in sent.into_iter().enumerate() {
                for effect in effects {
                    match effect {
                        Effect::Send { message, notify, .. } => {
                            any = true;
                            self.count(n, &message);
                            self.receive(1 - n, message);
                            if notify {
                                self.act(n, |side, cx, _| side.repair.on_link_ready(cx, side.store, LINK));
                            }
                        }
                        Effect::Notice(notice) => panic!("{notice:?}"),
                        other => panic!("{other:?}"),
                    }
                }
            }
            if !any {
                return;
            }
            self.crossings += 1;
        }
    }

    fn count(&mut self, n: usize, message: &Message) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        let update = matches!(message, Message::StateUpdate(_));
        self.bytes[usize::from(update)] += bytes.len() + 4;
        self.sent.push((n, message.clone()));
    }

    fn receive(&mut self, n: usize, message: Message) {
        self.act(n, |side, cx, wall| match message {
            Message::StateDigest(digest) => side.repair.on_digest(cx, side.store, LINK, &digest, wall),
            Message::StateRequest(request) => side.repair.on_request(cx, side.store, LINK, request, wall),
            Message::StateUpdate(update) => {
                let mut settled = BTreeSet::new();
                for keyed in update.entries {
                    match side.store.admit(keyed, wall) {
                        Outcome::New { key, entry, .. } => {
                            *side.brought += 1;
                            if entry.stamp.wall() < wall - Duration::from_secs(1) {
                                settled.insert(key.origin);
                            }
                        }
                        _ => *side.in_vain += 1,
                    }
                }
                let merged = Merged { session: update.session, settled: &settled, more: update.more };
                side.repair.on_update(cx, side.store, LINK, merged, wall);
            }
            other => panic!("{other:?}"),
        });
    }

    /// An exchange that the first opens, to its end.
    fn repair(&mut self) {
        self.crossings = 0;
        self.mono = self.mono + Duration::from_secs(60);
        self.act(0, |side, cx, wall| side.repair.open(cx, side.store, LINK, wall, false));
        self.deliver(10_000);
    }

    fn is_equal(&self) -> bool {
        let [a, b] = &self.sides;
        a.store.summary_of(Share::All) == b.store.summary_of(Share::All)
    }

    fn equal_marks(&self) -> [Option<bool>; 2] {
        [0, 1].map(|n| self.sides[n].repair.partners[&LINK].equal)
    }
}

struct ActSide<'a> {
    repair: &'a mut Repair,
    store: &'a mut Store,
    brought: &'a mut usize,
    in_vain: &'a mut usize,
}

/// A pair with `common` entries in common; of the first `stale` of them the second holds older ones, or the first
/// where `mixed` says so.
fn pair(common: usize, stale: usize, mixed: bool) -> Pair {
    let mut pair = Pair::main();
    pair.put(&[0, 1], (0..common).map(|n| entry(n, 2 * LONG_AGO, Scope::Global)));
    for n in 0..stale {
        pair.put(&[usize::from(mixed && n % 2 == 1)], [entry(n, LONG_AGO, Scope::Global)]);
    }
    pair
}

#[test]
fn equal_replicas_exchange_256_bytes_at_most() {
    let mut pair = pair(10_000, 0, false);
    pair.repair();
    assert!(pair.bytes.iter().sum::<usize>() <= 256, "{:?}", pair.bytes);
    assert_eq!((pair.crossings, pair.equal_marks()), (2, [Some(true), Some(true)]));
}

#[test]
fn what_differs_is_mended_both_ways_in_three_round_trips() {
    for (stale, mixed) in [(1, false), (3, true), (40, false), (100, true), (300, true)] {
        let mut pair = pair(10_000, stale, mixed);
        pair.repair();
        assert!(pair.is_equal(), "{stale} keys stale");
        assert_eq!(pair.sides[0].brought + pair.sides[1].brought, stale);
        assert!(pair.sides[1].in_vain == 0 && pair.sides[0].in_vain <= stale);
        // Three round trips, and then what the opener alone held.
        assert!(pair.crossings <= 7, "{} crossings for {stale} keys", pair.crossings);
        let limit = 1_500 + 110 * stale;
        assert!(pair.bytes[0] <= limit, "{} bytes for {stale} keys", pair.bytes[0]);
        assert_eq!(pair.equal_marks(), [Some(false), Some(false)], "it was found");
        pair.repair();
        assert_eq!(pair.equal_marks(), [Some(true), Some(true)], "it is mended");
    }
}

#[test]
fn a_newcomer_is_sent_everything_the_systems_channels_first() {
    for opener in [0, 1] {
        let mut pair = Pair::main();
        pair.put(&[1 - opener], (0..5_000).map(|n| entry(n, LONG_AGO, Scope::Global)));
        let system = (0..50).map(|n| {
            let value = Value::of(&system::Forget { up_to: Hlc::ZERO });
            KeyedEntry { channel: system::forget_channel(&node(n)), value, ..entry(n, LONG_AGO, Scope::Global) }
        });
        pair.put(&[1 - opener], system);
        pair.put(&[opener], [entry(9_999, LONG_AGO, Scope::Global)]);
        pair.repair();
        assert!(pair.is_equal());
        let chunks: Vec<&StateUpdate> = pair
            .sent
            .iter()
            .filter_map(|(n, m)| match m {
                Message::StateUpdate(update) if *n == 1 - opener => Some(update),
                _ => None,
            })
            .collect();
        assert!(chunks.len() > 5 && chunks[0].entries[..50].iter().all(|keyed| keyed.channel.is_system()));
        let in_vain: usize = pair.sides.iter().map(|side| side.in_vain).sum();
        assert_eq!(in_vain, 0);
    }
}

#[test]
fn far_apart_replicas_send_what_differs_and_not_the_whole() {
    let mut pair = pair(50_000, 10_000, true);
    pair.repair();
    let sent: usize = pair.sides.iter().map(|side| side.brought + side.in_vain).sum();
    assert!((9_800..=15_200).contains(&sent), "{sent} entries for 10000 that differ");
    // What the filters claimed by mistake.
    assert!(pair.sides[1].in_vain <= 60, "{}", pair.sides[1].in_vain);
    pair.repair();
    assert!(pair.is_equal());
}

#[test]
fn a_stream_that_was_cut_goes_on_where_it_was() {
    let mut pair = Pair::main();
    pair.put(&[1], (0..20_000).map(|n| entry(n, LONG_AGO, Scope::Global)));
    pair.act(0, |side, cx, wall| side.repair.open(cx, side.store, LINK, wall, true));
    pair.deliver(20);
    let half = pair.sides[0].brought;
    assert!((2_000..18_000).contains(&half), "{half}");
    for n in 0..2 {
        pair.act(n, |side, cx, _| side.repair.on_link_down(cx, LINK));
        pair.sides[n].fx.clear();
    }
    pair.link(["main", "main"], true);
    pair.deliver(10_000);
    pair.repair();
    assert!(pair.is_equal());
    assert!(pair.sides[0].in_vain <= half / 50, "{} entries came twice", pair.sides[0].in_vain);
}

#[test]
fn one_chunk_at_a_time_is_on_its_way() {
    let mut pair = Pair::main();
    pair.put(&[1], (0..5_000).map(|n| entry(n, LONG_AGO, Scope::Global)));
    pair.act(0, |side, cx, wall| side.repair.open(cx, side.store, LINK, wall, true));
    pair.deliver(3);
    let waiting =
        |pair: &Pair| pair.sides[1].fx.iter().filter(|fx| matches!(fx, Effect::Send { notify: true, .. })).count();
    assert_eq!(waiting(&pair), 1);
}

#[test]
fn the_young_are_left_to_push_unless_the_link_is_new() {
    let mut pair = pair(1_000, 5, true);
    pair.put(&[0], [entry(2_000, 300, Scope::Global)]);
    pair.put(&[1], [entry(2_001, 300, Scope::Global)]);
    pair.repair();
    assert_eq!(pair.sides.iter().map(|side| side.brought).sum::<usize>(), 5);
    pair.repair();
    assert_eq!(pair.equal_marks()[0], Some(true), "what is in flight does not count as a difference");
    pair.act(0, |side, cx, wall| side.repair.start_with(cx, side.store, LINK, wall));
    pair.deliver(100);
    assert!(pair.is_equal());
}

#[test]
fn what_has_expired_at_one_of_the_two_is_neither_sent_nor_missed() {
    let day = 24 * 3600 * 1000;
    for ahead in [0, 1] {
        let mut pair = Pair::main();
        pair.put(&[0, 1], (0..1_000).map(|n| entry(n, LONG_AGO, Scope::Global)));
        // Entries expire in batches: one clock is right after the end of one, and the other a little before.
        let horizon = pair.sides[0].store.horizon(WALL);
        pair.put(&[0, 1], (2_000..2_020).map(|n| entry(n, WALL.millis_after(horizon) as u64 + 5, Scope::Global)));
        let end = horizon + Duration::from_millis(day);
        let later = end + Duration::from_secs(4);
        pair.sides[ahead].wall = later;
        pair.sides[1 - ahead].wall = end - Duration::from_millis(1);
        let gone = pair.sides[ahead].store.expire(later).len();
        assert_eq!(gone, 20, "a clock ahead has dropped them");
        assert!(!pair.is_equal());
        for _ in 0..3 {
            pair.repair();
        }
        let moved: usize = pair.sides.iter().map(|side| side.brought + side.in_vain).sum();
        assert_eq!((moved, pair.equal_marks()[0]), (0, Some(true)), "the clock of {ahead} is ahead");
    }
}

#[test]
fn across_regions_only_what_is_global_is_compared() {
    let mut pair = Pair::new(["eu", "us"]);
    pair.put(&[0, 1], (0..500).map(|n| entry(n, LONG_AGO, Scope::Global)));
    pair.put(&[0], (1_000..1_300).map(|n| entry(n, LONG_AGO, Scope::Region)));
    pair.repair();
    assert!(pair.bytes.iter().sum::<usize>() <= 256, "{:?}", pair.bytes);
    pair.put(&[1], [entry(600, LONG_AGO, Scope::Global)]);
    pair.repair();
    let [a, b] = &pair.sides;
    assert_eq!(a.store.summary_of(Share::Global), b.store.summary_of(Share::Global));
    assert!(!pair.is_equal());
}

#[test]
fn within_a_region_both_scopes_are() {
    let mut pair = Pair::main();
    pair.put(&[0, 1], (0..500).map(|n| entry(n, LONG_AGO, Scope::Global)));
    pair.put(&[0, 1], (1_000..1_300).map(|n| entry(n, LONG_AGO, Scope::Region)));
    pair.put(&[0], [entry(600, LONG_AGO, Scope::Global), entry(1_400, LONG_AGO, Scope::Region)]);
    pair.put(&[1], [entry(601, LONG_AGO, Scope::Region)]);
    pair.repair();
    assert!(pair.is_equal());
}

#[test]
fn sets_that_change_meanwhile_are_mended_all_the_same() {
    let mut pair = pair(10_000, 60, true);
    pair.act(0, |side, cx, wall| side.repair.open(cx, side.store, LINK, wall, false));
    for n in 0..6 {
        pair.deliver(1);
        pair.put(&[n % 2], (0..5).map(|i| entry(20_000 + n * 10 + i, LONG_AGO, Scope::Global)));
    }
    pair.deliver(100);
    pair.repair();
    pair.repair();
    assert!(pair.is_equal());
}

#[test]
fn hostile_repairs_cost_nothing_but_a_notice() {
    let mut pair = pair(1_000, 0, false);
    let summary = pair.sides[0].store.summary();
    let base = StateDigest {
        session: 1,
        scope: Scope::Region,
        count: u64::MAX,
        sum: 7,
        horizon: Wall::from_millis(u64::MAX),
        wall: WALL,
        symbols: vec![0xff; 100],
        counts: vec![0xff; 100],
    };
    pair.act(0, |side, cx, wall| {
        side.repair.open(cx, side.store, LINK, wall, false);
        let session = side.repair.session;
        for symbols in [vec![0xff; 100], vec![0; 1300], Vec::new()] {
            let digest = StateDigest { session, symbols, ..base.clone() };
            side.repair.on_digest(cx, side.store, LINK, &digest, wall);
            side.repair.on_digest(cx, side.store, LinkId(9), &digest, wall);
            side.repair.on_digest(cx, side.store, LINK, &StateDigest { scope: Scope::Global, ..digest }, wall);
        }
        for n in 0..20 {
            let rest = Rest { filter: vec![0; n], salt: u64::MAX, both: true };
            let ask = StateRequest {
                symbols: Some(u32::MAX),
                want: vec![1; 8 * n + 3],
                rest: Some(rest),
                horizon: Wall::from_millis(u64::MAX),
                ..request(side.store, Share::All, n as u64, wall)
            };
            side.repair.on_request(cx, side.store, LINK, ask, wall);
        }
        let answers = side.repair.partners[&LINK].answers.len();
        assert!(answers <= ANSWERS_MAX);
        let rejected = cx.fx.iter().filter(|fx| matches!(fx, Effect::Notice(Notice::Rejected { .. }))).count();
        assert!(rejected >= 10, "{rejected}");
    });
    assert_eq!(pair.sides[0].store.summary(), summary);
}

#[test]
fn an_exchange_without_a_word_is_given_up_after_five_intervals_and_not_before() {
    fn opened(pair: &mut Pair) -> usize {
        pair.act(0, |side, cx, wall| {
            side.repair.on_deadline(cx, side.store, &[LINK], wall);
        });
        std::mem::take(&mut pair.sides[0].fx).len()
    }
    let mut pair = pair(10, 0, false);
    assert_eq!(opened(&mut pair), 1, "and nobody answers");
    pair.mono = pair.mono + Duration::from_secs(2);
    assert_eq!(opened(&mut pair), 0, "an answer may be on its way");
    pair.mono = pair.mono + Duration::from_secs(4);
    assert_eq!(opened(&mut pair), 1);
}

#[test]
fn symbols_that_tell_nothing_are_asked_for_in_ever_larger_numbers_and_then_filters() {
    let mut pair = pair(1_000, 0, false);
    pair.act(0, |side, cx, wall| {
        side.repair.open(cx, side.store, LINK, wall, false);
        let session = side.repair.session;
        let (mut next, mut asked) = (FIRST_SYMBOLS, Vec::new());
        loop {
            let run = Run::of(&side.store.symbols_of(Share::All, next), next, 0);
            let mut theirs = digest(cx, side.store, Share::All, session, wall, &run);
            // Symbols of no set: the counts say that nothing differs, the first sum that something does.
            theirs.symbols[0] ^= 1;
            side.repair.on_digest(cx, side.store, LINK, &theirs, wall);
            let Some(Effect::Send { message: Message::StateRequest(request), .. }) = cx.fx.last() else {
                panic!("{:?}", cx.fx)
            };
            let Some(symbols) = request.symbols else {
                assert!(request.rest.is_some());
                break;
            };
            next = symbols as usize;
            asked.push(next);
            assert!(asked.len() < 10, "{asked:?}");
        }
        assert_eq!(asked, [16, 32, 64, 128]);
    });
}

#[test]
fn what_is_asked_for_by_fingerprints_goes_in_chunks_whatever_its_names() {
    let mut pair = Pair::main();
    pair.put(&[0], (0..5_000).map(|n| entry(n, LONG_AGO, Scope::Global)));
    let long = Channel::new(&"c".repeat(200)).unwrap();
    pair.put(&[0], [KeyedEntry { channel: long, ..entry(0, LONG_AGO, Scope::Global) }]);
    pair.act(0, |side, cx, wall| {
        let want: Vec<u8> = side.store.fingerprints(Share::All).flat_map(|(print, ..)| print.to_le_bytes()).collect();
        let ask = StateRequest { want, ..request(side.store, Share::All, 1, wall) };
        side.repair.on_request(cx, side.store, LINK, ask, wall);
    });
    pair.deliver(10_000);
    let chunks = pair.sent.iter().filter(|(_, message)| matches!(message, Message::StateUpdate(_))).count();
    assert!(chunks > 5, "{chunks}");
    assert_eq!(pair.sides[1].brought, 5_001);
}

#[test]
fn what_is_known_of_a_peer_goes_with_its_link() {
    let mut pair = pair(10, 0, false);
    pair.repair();
    assert_eq!(pair.sides[0].repair.converged(), Some(1.0));
    pair.act(0, |side, cx, _| side.repair.on_link_down(cx, LINK));
    assert_eq!(pair.sides[0].repair.converged(), None);
}

#[test]
fn a_filter_takes_a_quarter_of_a_frame_at_most() {
    let mut pair = pair(2_000, 0, false);
    pair.act(0, |side, cx, _| {
        let mut bytes = |frame: usize| {
            side.repair.params.frame_bytes_max = frame;
            side.repair.params.rest(cx, side.store, Share::All, true).filter.len()
        };
        assert_eq!((bytes(1 << 20), bytes(1 << 10)), (3_000, 256));
    });
}

#[test]
fn chunks_are_as_long_as_they_should_be_whatever_the_names_of_origins() {
    for letters in [1, 64] {
        let mut pair = Pair::main();
        let origin = NodeId::new(&"n".repeat(letters)).unwrap();
        let named = |n: usize| {
            let channel = Channel::new(&format!("sensor/{n}")).unwrap();
            KeyedEntry { origin: origin.clone(), channel, ..entry(n, LONG_AGO, Scope::Global) }
        };
        pair.put(&[1], (0..5_000).map(named));
        pair.repair();
        assert!(pair.is_equal());
        let frames = pair.sent.iter().filter_map(|(_, message)| match message {
            Message::StateUpdate(update) if update.more => {
                let mut bytes = Vec::new();
                message.encode(&mut bytes);
                Some(bytes.len())
            }
            _ => None,
        });
        let frames: Vec<usize> = frames.collect();
        let enough = CHUNK_BYTES * 3 / 4..CHUNK_BYTES * 3 / 2;
        assert!(frames.len() > 3 && frames.iter().all(|bytes| enough.contains(bytes)), "{frames:?}");
    }
}
