//! What fusing costs. Goals: 10,000 readings into one estimate under 1 ms, a merge of two partials under 2 µs, and one
//! changed reading without another look at the rest of the world.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use sensorctl::core::fusion::estimate::{Subject, estimate, of_sketch};
use sensorctl::core::fusion::groups::Groups;
use sensorctl::core::fusion::params::Rules;
use sensorctl::core::fusion::partial::{EXACT_MAX, Member, Partial, Sensor, Share, Sketch};
use sensorctl::core::id::{Channel, NodeId, RegionId};
use sensorctl::core::reading::Reading;
use sensorctl::core::rng::Rng;
use sensorctl::core::time::Wall;

const NOW: Wall = Wall::from_millis(1_700_000_000_000);

fn members(from: usize, count: usize) -> Vec<Member> {
    let mut rng = Rng::new(from as u64 + 1);
    let member = |i: usize| {
        let sensor =
            Sensor { node: NodeId::new(&format!("gw-{i:06}")).unwrap(), channel: Channel::new("temp").unwrap() };
        let value = if i.is_multiple_of(4) { 30.0 * rng.unit() } else { 20.0 + rng.unit() };
        Member { sensor, value: Some(value), sigma: Some(0.3), spread: 0.0, time: NOW, fault: None }
    };
    (from..from + count).map(member).collect()
}

fn region(i: usize) -> RegionId {
    RegionId::new(&format!("region-{i}")).unwrap()
}

fn subject() -> Subject {
    Subject { quantity: "temp".into(), group: "main".into(), region: None, unit: None }
}

fn fusing(c: &mut Criterion) {
    let terms = Rules::default().terms(None);
    let mut group = c.benchmark_group("fuse");
    for count in [10, 100, 512, 10_000] {
        let members = members(0, count);
        group.bench_with_input(BenchmarkId::new("readings", count), &members, |b, members| {
            if members.len() > EXACT_MAX {
                b.iter(|| of_sketch(subject(), &Sketch::of(black_box(members), &terms, NOW), &terms));
            } else {
                let partial = Partial::of(region(0), Share::new(members.clone(), EXACT_MAX, &terms, NOW));
                b.iter(|| estimate(subject(), black_box(&partial), &terms, NOW));
            }
        });
    }
    group.finish();
}

fn merging(c: &mut Criterion) {
    let terms = Rules::default().terms(None);
    let partial = |regions: std::ops::Range<usize>, each: usize| {
        let mut all = Partial::default();
        for i in regions {
            all.merge(&Partial::of(region(i), Share::new(members(i * each, each), EXACT_MAX, &terms, NOW)));
        }
        all
    };
    let mut group = c.benchmark_group("merge");
    for (name, each) in [("two partials of 5 regions of 100 sensors", 100), ("of 10,000 sensors", 10_000)] {
        let (a, b) = (partial(0..5, each), partial(3..8, each));
        group.bench_function(name, |bench| {
            bench.iter_batched_ref(|| a.clone(), |a| a.merge(black_box(&b)), BatchSize::SmallInput);
        });
    }
    let (a, b) = (Sketch::of(&members(0, 5000), &terms, NOW), Sketch::of(&members(5000, 5000), &terms, NOW));
    group.bench_function("two sketches of 5,000 sensors", |bench| bench.iter(|| black_box(&a).merge(black_box(&b))));
    group.finish();
}

fn changing(c: &mut Criterion) {
    let mut group = c.benchmark_group("change");
    for others in [100, 100_000] {
        let mut groups = Groups::new(Rules::default());
        let channel = |i: usize| Channel::new(&format!("x/q{}", i / 20)).unwrap();
        let reading = |i: usize| Reading { sigma: Some(0.3), ..Reading::new(20.0 + (i % 7) as f64 * 0.1, NOW) };
        for i in 0..others {
            groups.put(&region(0), &NodeId::new(&format!("gw-{i:06}")).unwrap(), &channel(i), &reading(i));
        }
        let (node, changed) = (NodeId::new("gw-000007").unwrap(), channel(7));
        let key = groups.subjects()[0].0.clone();
        group.bench_function(BenchmarkId::new("one reading and its estimate, beside", others), |b| {
            let mut i = 0;
            b.iter(|| {
                i += 1;
                groups.put(&region(0), &node, &changed, &reading(i));
                groups.estimate(&key, Some(&region(0)), NOW)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, fusing, merging, changing);
criterion_main!(benches);
