//! Finding what differs: coded symbols beside a Merkle tree and a version vector, in bytes, round trips and time.
//!
//! `cargo bench --bench reconcile`. The two others are honest and no more than that: as small as they can be written,
//! in binary and without any framing. The symbols are counted as they travel, base64 included. What a node spends on
//! all of an exchange, entries as well, is told by `sensorctl bench reconcile`.

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group};
use sensorctl::core::rng::Rng;
use sensorctl::core::state::sketch::{self, Run, Sketch, Symbol};

const ENTRIES: u64 = 100_000;

/// Two sets of fingerprints by key, which differ in the values of `stale` keys.
struct Sets {
    new: BTreeMap<u64, u64>,
    old: BTreeMap<u64, u64>,
}

impl Sets {
    fn draw(stale: usize, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let old: BTreeMap<u64, u64> = (0..ENTRIES).map(|_| (rng.bits(), rng.bits())).collect();
        let mut new = old.clone();
        let keys: Vec<u64> = old.keys().copied().collect();
        let mut left = stale;
        while left > 0 {
            let fresh = rng.bits();
            let key = keys[rng.below(keys.len())];
            if new[&key] == old[&key] {
                new.insert(key, fresh);
                left -= 1;
            }
        }
        Self { new, old }
    }

    fn sketches(&self) -> [Sketch; 2] {
        [&self.new, &self.old].map(|set| {
            let mut sketch = Sketch::default();
            sketch.grow(8192, set.values().copied());
            sketch
        })
    }
}

/// What an exchange costs: bytes both ways, and round trips until both know what differs.
#[derive(Debug, PartialEq)]
struct Cost {
    bytes: usize,
    trips: usize,
}

fn base64(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

/// As `core/gossip/repair.rs` does it: 32 symbols and 224 counts, and then as many symbols as the counts call for.
fn symbols(sketches: &[Sketch; 2], stale: usize) -> Cost {
    let [ours, theirs] = sketches.each_ref().map(Sketch::symbols);
    let envelope = 150;
    let mut cost = Cost { bytes: envelope, trips: 1 };
    if stale == 0 {
        return Cost { bytes: envelope + 50, trips: 1 };
    }
    let mut asked = 0;
    loop {
        let run = if asked == 0 { Run::of(theirs, 32, 224) } else { Run::of(theirs, asked, 0) };
        let (symbols, counts) = run.encode(ENTRIES);
        cost.bytes += envelope + base64(symbols.len()) + base64(counts.len());
        let n = run.symbols.len();
        if let Some(difference) = sketch::difference(&ours[..n], &run.symbols) {
            assert_eq!(difference.theirs.len(), stale);
            cost.bytes += envelope + base64(8 * difference.theirs.len());
            cost.trips += 1;
            return cost;
        }
        let guess = sketch::distance(ours, &run.all_counts()) * 6 / 5;
        asked = sketch::symbols_for(guess).max(if asked == 0 { 0 } else { 2 * n });
        cost.bytes += envelope;
        cost.trips += 1;
    }
}

/// A 16-ary tree over the keys' order, 8 bytes a hash: the opener sends the children of every node that differs.
fn merkle(sets: &Sets) -> Cost {
    fn digest(set: &BTreeMap<u64, u64>, from: u64, bits: u32) -> (u64, usize) {
        let end = from.checked_add(1u64.checked_shl(bits).unwrap_or(0)).filter(|end| *end > from);
        let range = match end {
            Some(end) => set.range(from..end),
            None => set.range(from..),
        };
        range.fold((0u64, 0), |(sum, n), (key, value)| (sum.wrapping_add(key.wrapping_mul(3) ^ value), n + 1))
    }
    let mut cost = Cost { bytes: 8, trips: 1 };
    let mut level = if digest(&sets.new, 0, 64).0 == digest(&sets.old, 0, 64).0 { vec![] } else { vec![(0u64, 64u32)] };
    while !level.is_empty() {
        cost.trips += 1;
        let mut next = Vec::new();
        for (from, bits) in level {
            // The children's hashes one way; which of them differ, as 16 bits, the other.
            cost.bytes += 16 * 8 + 2;
            for child in 0..16u64 {
                let (from, bits) = (from + (child << (bits - 4)), bits - 4);
                let ((new, n), (old, m)) = (digest(&sets.new, from, bits), digest(&sets.old, from, bits));
                if new != old {
                    // A leaf holds few keys: they are sent as key and fingerprint.
                    if n.max(m) <= 4 { cost.bytes += 16 * n.max(m) } else { next.push((from, bits)) }
                }
            }
        }
        level = next;
    }
    cost
}

/// One writer a key, as readings of as many gateways with one sensor each: a number of four bytes for each of them,
/// and no fewer when nothing differs.
fn version_vector() -> Cost {
    Cost { bytes: ENTRIES as usize * (1 + 4), trips: 1 }
}

fn table() {
    println!("finding {ENTRIES} entries' stale keys: bytes both ways and round trips, medians of 9\n");
    println!("{:>6} {:>20} {:>20} {:>20}", "stale", "symbols", "Merkle, 16-ary", "version vector");
    for stale in [0, 10, 100, 1_000] {
        let (mut ours, mut trees) = (Vec::new(), Vec::new());
        for seed in 1..=9 {
            let sets = Sets::draw(stale, seed);
            ours.push(symbols(&sets.sketches(), stale));
            trees.push(merkle(&sets));
        }
        let cell = |costs: &mut Vec<Cost>| {
            costs.sort_by_key(|cost| cost.bytes);
            format!("{} in {}", costs[4].bytes, costs.iter().map(|cost| cost.trips).max().unwrap())
        };
        let vector = version_vector();
        println!(
            "{stale:>6} {:>20} {:>20} {:>20}",
            cell(&mut ours),
            cell(&mut trees),
            format!("{} in {}", vector.bytes, vector.trips)
        );
    }
    println!();
}

fn decoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("symbols");
    for stale in [0, 10, 100, 1_000] {
        let [ours, theirs] = Sets::draw(stale, 1).sketches();
        let n = sketch::symbols_for(2 * stale as u64);
        let run = Run::of(theirs.symbols(), n, 0);
        let (bytes, _) = run.encode(ENTRIES);
        group.bench_with_input(BenchmarkId::new("encode", stale), &run, |b, run| b.iter(|| run.encode(ENTRIES)));
        group.bench_with_input(BenchmarkId::new("decode", stale), &bytes, |b, bytes| {
            b.iter(|| {
                let run = Run::decode(ENTRIES, black_box(bytes), &[]).unwrap();
                sketch::difference(&ours.symbols()[..run.symbols.len()], &run.symbols)
            });
        });
    }
    let members: Vec<u64> = Sets::draw(0, 1).new.into_values().collect();
    group.sample_size(10);
    group.bench_function("what encoding 100,000 anew would take", |b| {
        b.iter(|| -> Vec<Symbol> {
            let mut sketch = Sketch::default();
            sketch.grow(8192, members.iter().copied());
            sketch.symbols().to_vec()
        });
    });
    group.finish();
}

criterion_group!(benches, decoding);

fn main() {
    table();
    benches();
    Criterion::default().configure_from_args().final_summary();
}
