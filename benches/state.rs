//! The replicated state: merge, fingerprint, upkeep of the symbols, and memory for each entry.
//!
//! `cargo bench --bench state`. The table of memory is of the allocator's own count of bytes asked for.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group};
use peak_alloc::PeakAlloc;
use sensorctl::core::hlc::Hlc;
use sensorctl::core::id::{Channel, NodeId};
use sensorctl::core::message::Message;
use sensorctl::core::message::exchange::SensorUpdate;
use sensorctl::core::reading::Reading;
use sensorctl::core::state::entry::{Entry, KeyedEntry, Scope, Value};
use sensorctl::core::state::sketch::Sketch;
use sensorctl::core::state::store::{Store, fingerprint};
use sensorctl::core::time::Wall;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

const WALL: Wall = Wall::from_millis(1_700_000_000_000);

/// Entry `n` of those of `origins` nodes, in its `version`.
fn entry(n: u64, origins: u64, version: u64) -> KeyedEntry {
    let time = Wall::from_millis(WALL.as_millis() + version);
    KeyedEntry {
        origin: NodeId::new(&format!("gw-{}", n % origins)).unwrap(),
        channel: Channel::new(&format!("lobby/sensor-{}", n / origins)).unwrap(),
        stamp: Hlc::new(time, (n % 1000) as u16),
        scope: Scope::Global,
        value: Value::of(&Reading::new(n as f64 / 8.0, time)),
        confirm: false,
        repaired: false,
    }
}

fn store() -> Store {
    Store::new(Duration::from_secs(10), Duration::from_secs(24 * 3600), 8192)
}

fn filled(entries: u64, origins: u64) -> Store {
    let mut store = store();
    (0..entries).for_each(|n| drop(store.admit(entry(n, origins, 0), WALL)));
    store
}

/// Bytes of an entry that are its names and value.
fn content(keyed: &KeyedEntry) -> usize {
    keyed.origin.as_str().len() + keyed.channel.as_str().len() + keyed.value.as_str().len()
}

fn memory() {
    println!("memory of a store, by the allocator's count of bytes asked for\n");
    println!(
        "{:>9} {:>8} {:>12} {:>22} {:>22}",
        "entries", "origins", "order", "bytes an entry", "beyond names, value"
    );
    for (entries, origins) in [(100_000, 1), (100_000, 100), (100_000, 1_000), (9_000, 3_000), (1_000, 10)] {
        for shuffled in [false, true] {
            let mut numbers: Vec<u64> = (0..entries).collect();
            if shuffled {
                sensorctl::core::rng::Rng::new(1).shuffle(&mut numbers);
            } else {
                numbers.sort_by_key(|n| (n % origins, n / origins));
            }
            let mut names = 0;
            let before = ALLOCATED.current_usage();
            let mut store = store();
            for n in &numbers {
                let keyed = entry(*n, origins, 0);
                names += content(&keyed);
                drop(store.admit(keyed, WALL));
            }
            let used = (ALLOCATED.current_usage() - before) as f64 / entries as f64;
            let beyond = used - names as f64 / entries as f64;
            let order = if shuffled { "random" } else { "in order" };
            println!("{entries:>9} {origins:>8} {order:>12} {used:>22.1} {beyond:>22.1}");
            drop(store);
        }
    }
    println!();
}

fn merging(c: &mut Criterion) {
    let mut group = c.benchmark_group("merge");
    let mut store = filled(100_000, 100);
    let mut next = 0u64;
    group.bench_function("a newer value among 100,000", |b| {
        b.iter_batched(
            || {
                next += 1;
                entry(next * 7919 % 100_000, 100, 1 + next / 100_000)
            },
            |keyed| black_box(store.admit(keyed, WALL)),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("a duplicate among 100,000", |b| {
        b.iter_batched(
            || {
                next += 1;
                entry(next * 7919 % 100_000, 100, 0)
            },
            |keyed| black_box(store.admit(keyed, WALL)),
            BatchSize::SmallInput,
        );
    });
    let keyed = entry(77, 100, 0);
    let held = Entry { value: keyed.value.clone(), stamp: keyed.stamp, scope: keyed.scope };
    group.bench_function("fingerprint", |b| b.iter(|| fingerprint(black_box(&keyed.origin), &keyed.channel, &held)));
    let mut sketch = Sketch::default();
    sketch.grow(8192, (0..100_000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let mut fingerprint = 1u64;
    group.bench_function("symbols of an update: one out, one in", |b| {
        b.iter(|| {
            sketch.remove(black_box(fingerprint));
            fingerprint = fingerprint.wrapping_mul(0xd6e8_feb8_6659_fd93) | 1;
            sketch.insert(black_box(fingerprint));
        });
    });
    group.finish();
}

fn codec(c: &mut Criterion) {
    let mut group = c.benchmark_group("SENSOR_UPDATE");
    for n in [1, 100] {
        let message = Message::SensorUpdate(SensorUpdate { entries: (0..n).map(|i| entry(i, 100, 0)).collect() });
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        group.bench_function(format!("write {n} ({} bytes)", bytes.len()), |b| {
            let mut into = Vec::with_capacity(bytes.len());
            b.iter(|| {
                into.clear();
                black_box(&message).encode(&mut into);
            });
        });
        group.bench_function(format!("read {n}"), |b| b.iter(|| Message::decode(black_box(&bytes)).unwrap()));
    }
    group.finish();
}

criterion_group!(benches, merging, codec);

fn main() {
    memory();
    benches();
    Criterion::default().configure_from_args().final_summary();
}
