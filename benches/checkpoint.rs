//! What a checkpoint of 100,000 readings costs: the body that names them, the estimates, and what differs from the last.
//!
//! `cargo bench --bench checkpoint`. Of all this the node's own task only copies what it holds; the rest is done beside it.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use sensorctl::core::fusion::document::{Chosen, fuse_region, summarize};
use sensorctl::core::fusion::params::Rules;
use sensorctl::core::hlc::Hlc;
use sensorctl::core::id::{Channel, Index, NodeId, RegionId};
use sensorctl::core::ledger::body::Body;
use sensorctl::core::ledger::difference;
use sensorctl::core::reading::Reading;
use sensorctl::core::state::entry::{Entry, Key, KeyRef, KeyedEntry, Scope, Value};
use sensorctl::core::state::store::Store;
use sensorctl::core::time::Wall;

const READINGS: u64 = 100_000;
/// How many of them have changed since the last checkpoint.
const CHANGED: u64 = 1_000;
const WALL: Wall = Wall::from_millis(1_700_000_000_000);

/// Readings in key order, of a thousand gateways with a hundred sensors each; the first `changed` a second later.
fn readings(changed: u64) -> Vec<(Key, Entry)> {
    let one = |n: u64| {
        let later = if n < changed { 1_000 } else { 0 };
        let wall = Wall::from_millis(WALL.as_millis() + later);
        let key = Key::new(name("gw", n / 100), Channel::new(&format!("sensor-{:02}", n % 100)).expect("a channel"));
        let value = Value::of(&Reading::new(20.0 + (n % 977) as f64 / 100.0, wall));
        (key, Entry { value, stamp: Hlc::new(wall, 0), scope: Scope::Global })
    };
    (0..READINGS).map(one).collect()
}

fn name(of: &str, n: u64) -> NodeId {
    NodeId::new(&format!("{of}-{n:04}")).expect("a node id")
}

fn refs(readings: &[(Key, Entry)]) -> impl Iterator<Item = (KeyRef<'_>, &Entry)> {
    readings.iter().map(|(key, entry)| (key.borrowed(), entry))
}

fn checkpoint(c: &mut Criterion) {
    let (before, after) = (readings(0), readings(CHANGED));
    let (region, rules) = (RegionId::new("main").expect("a region"), Rules::default());
    let (old, _) = Body::of(refs(&before));
    let (new, _) = Body::of(refs(&after));
    let (old_text, new_text) = (old.text().expect("it unpacks"), new.text().expect("it unpacks"));
    let differs = difference::between(&old_text, &new_text);
    println!(
        "a body of {READINGS} readings: {} bytes of text, {} packed; {} differ from the last: {} bytes",
        new_text.len(),
        new.packed().len(),
        CHANGED,
        differs.len()
    );
    let mut store = Store::new(Duration::from_secs(10), Duration::from_secs(24 * 3600), 8192);
    for (key, entry) in &after {
        drop(store.admit(KeyedEntry::new(key, entry), WALL));
    }
    let mut group = c.benchmark_group("100,000 readings");
    group.sample_size(10);
    let copy = || -> Vec<(Key, Entry)> { store.iter().map(|(key, entry)| (key.to_key(), entry.clone())).collect() };
    group.bench_function("copied out of the store", |b| b.iter_with_large_drop(copy));
    group.bench_function("body: written, hashed, packed", |b| b.iter(|| Body::of(black_box(refs(&after)))));
    group.bench_function("estimates", |b| {
        b.iter(|| {
            let chosen = Chosen::of(refs(&after), &region, &rules);
            (fuse_region(&chosen, WALL), summarize(&chosen, Index(1), WALL))
        });
    });
    group.bench_function("body: unpacked", |b| b.iter(|| black_box(&new).text()));
    group.bench_function("body: what differs", |b| b.iter(|| difference::between(black_box(&old_text), &new_text)));
    group.bench_function("body: made from what differs", |b| {
        b.iter(|| difference::apply(black_box(&old_text), &differs, new_text.len()).expect("it fits"));
    });
    group.bench_function("body: taken from a peer, text", |b| b.iter(|| Body::of_text(black_box(&new_text))));
    group.finish();
}

criterion_group!(benches, checkpoint);
criterion_main!(benches);
