use proptest::prelude::*;

use super::*;
use crate::core::reading::Reading;
use crate::core::state::entry::Value;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The clock of these tests.
const WALL: Wall = Wall::from_millis(1_700_000_000_000);

fn store() -> Store {
    Store::new(Duration::from_secs(10), DAY, 512)
}

fn name(n: u8) -> NodeId {
    NodeId::new(&format!("gw-{n}")).unwrap()
}

/// What an origin wrote `age_ms` ago; the value differs where `value` does.
fn entry(origin: u8, channel: u8, age_ms: u64, value: u8, scope: Scope) -> KeyedEntry {
    let channel = match channel {
        0 => system::node_channel(),
        1 => system::forget_channel(&name(200)),
        n => Channel::new(&format!("{}c", n as char)).unwrap(),
    };
    let at = Wall::from_millis(WALL.as_millis() - age_ms);
    let value = match channel.as_str() {
        system::NODE => Value::of(&info(value)),
        other if other.starts_with('@') => Value::of(&system::Forget { up_to: Hlc::ZERO }),
        _ => Value::of(&Reading::new(f64::from(value), at)),
    };
    KeyedEntry { origin: name(origin), channel, stamp: Hlc::new(at, 0), scope, value, confirm: false, repaired: false }
}

fn info(n: u8) -> system::NodeInfo {
    system::NodeInfo {
        addr: "a:1".into(),
        api: None,
        region: crate::core::id::RegionId::new("main").unwrap(),
        store: crate::core::id::StoreId(u128::from(n)),
        start: Hlc::ZERO,
        version: String::new(),
        left: false,
    }
}

fn any_entry() -> impl Strategy<Value = KeyedEntry> {
    let channel = prop_oneof![Just(0u8), Just(1), b'0'..=b'9', b'A'..=b'Z', b'a'..=b'z'];
    (0..12u8, channel, 0..40u64, 0..3u8, prop::bool::ANY).prop_map(|(origin, channel, age, value, region)| {
        entry(origin, channel, age, value, if region { Scope::Region } else { Scope::Global })
    })
}

fn of(entries: &[KeyedEntry]) -> Store {
    let mut store = store();
    entries.iter().for_each(|keyed| drop(store.admit(keyed.clone(), WALL)));
    store
}

fn held(store: &Store) -> Vec<(Key, Entry)> {
    store.iter().map(|(key, entry)| (key.to_key(), entry.clone())).collect()
}

/// Symbols encoded anew from what is held.
fn encoded(store: &Store, share: Share) -> Vec<Symbol> {
    let mut sketch = Sketch::default();
    let newest = store.iter().filter(|(_, entry)| share.includes(entry.scope)).map(fingerprint_of);
    let below = store.widest.iter().map(|(key, (_, entry))| fingerprint_of((key.borrowed(), entry)));
    let items: Vec<u64> = newest.chain(below).collect();
    sketch.grow(if items.is_empty() { 0 } else { store.symbols }, items.into_iter());
    sketch.symbols().to_vec()
}

fn fingerprint_of((key, entry): (KeyRef<'_>, &Entry)) -> u64 {
    fingerprint(key.origin, key.channel, entry)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_merge_commutes_associates_and_repeats_harmlessly(
        entries in prop::collection::vec(any_entry(), 0..120),
        cut in 0..120usize,
    ) {
        let cut = cut.min(entries.len());
        let (first, second) = entries.split_at(cut);
        let again: Vec<_> = [second, first, second].concat();
        let backwards: Vec<_> = entries.iter().rev().cloned().collect();
        let straight = of(&entries);
        for other in [of(&again), of(&backwards)] {
            prop_assert_eq!(held(&straight), held(&other));
            prop_assert_eq!(straight.summary(), other.summary());
            prop_assert_eq!(straight.summary_of(Share::Global), other.summary_of(Share::Global));
        }
    }

    #[test]
    fn sketches_are_those_of_what_is_held(
        entries in prop::collection::vec(any_entry(), 0..400),
        forgotten in 0..12u8,
        age in 0..40u64,
    ) {
        let mut store = of(&entries);
        for step in 0..4 {
            match step {
                0 => {}
                1 => drop(store.forget(&name(forgotten), Hlc::new(Wall::from_millis(WALL.as_millis() - age), 0))),
                2 => drop(store.drop_future(&name(0), Wall::from_millis(WALL.as_millis() - age / 2))),
                _ => drop(store.expire(WALL + DAY)),
            }
            for share in [Share::All, Share::Global] {
                let symbols = store.symbols_of(share, usize::MAX);
                let expected = encoded(&store, share);
                prop_assert!(symbols.len() >= expected.len());
                prop_assert_eq!(&symbols[..expected.len()], &expected[..]);
                let count = store.fingerprints(share).count() as u64;
                prop_assert_eq!(store.summary_of(share).0, count);
                prop_assert_eq!(store.fingerprints(share).fold(0u64, |sum, f| sum.wrapping_add(f.0)), store.summary_of(share).1);
            }
            prop_assert_eq!(store.len(), store.iter().count());
        }
    }

    #[test]
    fn fingerprints_are_found_whether_put_lately_or_long_ago_or_gone_since(
        entries in prop::collection::vec(any_entry(), 1..400),
        age in 0..40u64,
        every in 1..5usize,
    ) {
        let mut store = of(&entries);
        let before: Vec<u64> = store.fingerprints(Share::All).map(|(print, ..)| print).collect();
        store.drop_future(&name(0), Wall::from_millis(WALL.as_millis() - age / 2));
        let mut wanted: Vec<u64> = before.iter().step_by(every).copied().chain([7]).collect();
        wanted.sort_unstable();
        for share in [Share::All, Share::Global] {
            let held = store.fingerprints(share).map(|(print, ..)| print);
            let mut expected: Vec<u64> = held.filter(|print| wanted.binary_search(print).is_ok()).collect();
            let found = store.with_fingerprints(share, &wanted).into_iter();
            let mut found: Vec<u64> = found.map(|(key, entry)| fingerprint(key.origin, key.channel, entry)).collect();
            expected.sort_unstable();
            found.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_stream_resumed_anywhere_brings_the_rest(
        entries in prop::collection::vec(any_entry(), 1..200),
        stop in 0..200usize,
    ) {
        let store = of(&entries);
        for share in [Share::All, Share::Global] {
            let all: Vec<Key> = store.stream(share, &Cursor::start()).map(|(_, key, _)| key.to_key()).collect();
            let mut expected: Vec<Key> = store.fingerprints(share).map(|(_, key, _)| key.to_key()).collect();
            expected.sort_by_key(|key| (!key.channel.is_system(), key.clone()));
            expected.dedup();
            prop_assert_eq!(&all, &expected);
            if let Some(last) = all.get(stop) {
                let cursor = Cursor::after(last.borrowed());
                let rest: Vec<Key> = store.stream(share, &cursor).map(|(_, key, _)| key.to_key()).collect();
                prop_assert_eq!(&rest[..], &all[stop + 1..]);
            }
        }
    }
}

#[test]
fn the_fingerprint_is_part_of_the_protocol() {
    let KeyedEntry { origin, channel, stamp, value, .. } = entry(1, b't', 0, 7, Scope::Global);
    let of = |scope| fingerprint(&origin, &channel, &Entry { value: value.clone(), stamp, scope });
    assert_eq!(value.as_str(), r#"{"value":7.0,"time":1700000000000}"#);
    assert_eq!((of(Scope::Global), of(Scope::Region)), (8_071_025_630_883_849_015, 7_342_439_779_973_435_478));
}

#[test]
fn what_other_regions_still_hold_of_a_key_stays_among_what_is_global() {
    let wide = entry(1, b'a', 30, 1, Scope::Global);
    let narrow = entry(1, b'a', 20, 2, Scope::Region);
    let (home, other) = (of(&[wide.clone(), narrow.clone()]), of(std::slice::from_ref(&wide)));
    assert_eq!(held(&home)[0].1, narrow.clone().into_parts().1, "the newest word is what is read");
    assert_eq!(home.summary_of(Share::Global), other.summary_of(Share::Global));
    // Whoever comes later gets both, in whatever order.
    let later = of(&[narrow.clone(), wide.clone()]);
    assert_eq!(later.summary(), home.summary());
    let key = held(&home)[0].0.clone();
    assert_eq!((home.words(&key, Share::All).count(), home.words(&key, Share::Global).count()), (2, 1));
    // A newer global word is all that is left.
    let again = entry(1, b'a', 10, 3, Scope::Global);
    assert_eq!(
        of(&[wide.clone(), narrow.clone(), again.clone()]).summary(),
        of(std::slice::from_ref(&again)).summary()
    );
    // The word of the region goes, and the one below it is the newest again.
    let mut dropped = of(&[wide.clone(), narrow]);
    dropped.drop_future(&name(0), Wall::from_millis(WALL.as_millis() - 25));
    assert_eq!((held(&dropped), dropped.summary()), (held(&other), other.summary()));
}

#[test]
fn entries_expire_in_batches_and_never_come_back() {
    let mut store = store();
    let old = entry(1, b'a', DAY.as_millis() as u64 - 1_000, 0, Scope::Global);
    assert!(matches!(store.admit(old.clone(), WALL), Outcome::New { .. }));
    let batch = DAY / 256;
    let gone = (0..600).find_map(|s| {
        let wall = WALL + Duration::from_secs(s);
        (!store.expire(wall).is_empty()).then_some(wall)
    });
    let gone = gone.expect("it expires within a batch");
    assert!(gone.millis_after(WALL) <= (batch + Duration::from_secs(2)).as_millis() as i64, "{gone}");
    assert!(matches!(store.admit(old, gone), Outcome::Refused { why: EntryRefusal::Expired, .. }));
    assert_eq!(store.summary(), (0, 0));
}

#[test]
fn keys_share_names_too_long_to_stand_in_them_with_the_map() {
    let mut store = store();
    let long = "a".repeat(60);
    let admit = |store: &mut Store, value| {
        let mut entry = entry(1, b'a', 10 - u64::from(value), value, Scope::Global);
        (entry.origin, entry.channel) = (NodeId::new(&long).unwrap(), Channel::new(&long).unwrap());
        match store.admit(entry, WALL) {
            Outcome::New { key, .. } => key,
            other => panic!("{other:?}"),
        }
    };
    let (first, second) = (admit(&mut store, 1), admit(&mut store, 2));
    assert!(std::ptr::eq(first.origin.as_str(), second.origin.as_str()));
    assert!(std::ptr::eq(first.channel.as_str(), second.channel.as_str()));
}

#[test]
fn a_newer_versions_channel_is_kept_and_what_is_no_reading_is_refused() {
    let odd = |channel: &str, text: &str| KeyedEntry {
        channel: Channel::new(channel).unwrap(),
        value: serde_json::from_str(text).unwrap(),
        ..entry(1, b'a', 0, 0, Scope::Global)
    };
    let later = store().admit(odd("@later/x", r#"{"a":1}"#), WALL);
    assert!(matches!(later, Outcome::New { meaning: Meaning::Unknown, .. }), "{later:?}");
    let long = format!("\"{}\"", "x".repeat(crate::core::state::entry::VALUE_BYTES_MAX - 1));
    for (channel, text) in [
        ("temp", r#"{"time":1}"#),
        ("temp", r#"{"value":1.0,"sigma":-1.0,"time":1}"#),
        ("@later/x", "[1,\n2]"),
        ("@later/x", long.as_str()),
    ] {
        let refused = store().admit(odd(channel, text), WALL);
        assert!(matches!(refused, Outcome::Refused { why: EntryRefusal::Malformed, .. }), "{text:.40}");
    }
}

#[test]
fn entries_are_counted_by_origin() {
    let store = of(&[
        entry(1, b'a', 0, 1, Scope::Global),
        entry(1, b'b', 0, 1, Scope::Region),
        entry(1, b'b', 9, 2, Scope::Region),
        entry(1, b'c', 0, 1, Scope::Global),
        entry(2, b'a', 0, 1, Scope::Global),
    ]);
    assert_eq!([1, 2, 3].map(|n| store.count_of(&name(n))), [3, 1, 0]);
    assert_eq!(store.len(), 4);
}

#[test]
fn an_entry_of_another_scope_has_another_fingerprint() {
    let print = |channel: u8, scope: Scope| {
        let (key, entry) = entry(1, channel, 0, 7, scope).into_parts();
        fingerprint(&key.origin, &key.channel, &entry)
    };
    for channel in b'a'..=b'z' {
        assert_ne!(print(channel, Scope::Global), print(channel, Scope::Region), "{}", channel as char);
    }
}
