use proptest::prelude::*;

use super::*;
use crate::core::fusion::params::{FusionParams, Rules};
use crate::core::fusion::partial::{Content, EXACT_MAX, Member, Share};
use crate::core::id::{Channel, NodeId};
use crate::core::rng::Rng;

const NOW: Wall = Wall::from_millis(1_700_000_000_000);

fn terms() -> Terms {
    Rules::default().terms(None)
}

fn subject() -> Subject {
    Subject { quantity: "temp".into(), group: "main".into(), region: None, unit: Some("°C".into()) }
}

fn member(i: usize, value: f64) -> Member {
    let sensor = Sensor { node: NodeId::new(&format!("gw-{i:05}")).unwrap(), channel: Channel::new("temp").unwrap() };
    Member { sensor, value: Some(value), sigma: Some(0.1), spread: 0.0, time: NOW, fault: None }
}

fn region(i: usize) -> RegionId {
    RegionId::new(&format!("r{i}")).unwrap()
}

fn of(members: Vec<Member>) -> Partial {
    Partial::of(region(0), Share::new(members, EXACT_MAX, &terms(), NOW))
}

fn fuse(values: &[f64]) -> Estimate {
    let members = values.iter().enumerate().map(|(i, value)| member(i, *value)).collect();
    estimate(subject(), &of(members), &terms(), NOW)
}

#[test]
fn nine_agree_and_one_does_not() {
    let found = fuse(&[20.0, 20.1, 19.9, 20.05, 19.95, 20.02, 19.98, 20.08, 19.92, 25.0]);
    assert!((found.value.unwrap() - 20.0).abs() < 0.02, "{found:?}");
    assert_eq!((found.n, found.used, found.tolerates, found.status), (10, 9, 3, Status::Ok));
    assert_eq!((found.rejected[0].node.as_str(), found.rejected[0].reason.as_str()), ("gw-00009", "outlier"));
    assert!(found.interval.unwrap().holds(20.0) && found.interval.unwrap().width() <= 0.8 + 1e-9, "{found:?}");
}

#[test]
fn a_sensor_that_is_known_to_be_faulty_has_no_say_and_counts_in_the_budget() {
    let mut members: Vec<Member> = (0..10).map(|i| member(i, 20.0 + 0.01 * i as f64)).collect();
    members[3].fault = Some("drift".into());
    members[4].value = None;
    members[5].time = Wall::from_millis(NOW.as_millis() - 301_000);
    let found = estimate(subject(), &of(members), &terms(), NOW);
    let reasons: Vec<&str> = found.rejected.iter().map(|r| r.reason.as_str()).collect();
    assert_eq!(reasons, ["drift", "failed"]);
    assert_eq!((found.n, found.used, found.stale, found.tolerates), (9, 7, 1, 4));
}

/// Sensors that state no uncertainty.
fn fuse_unstated(values: &[f64]) -> Estimate {
    let members = values.iter().enumerate().map(|(i, value)| Member { sigma: None, ..member(i, *value) }).collect();
    estimate(subject(), &of(members), &terms(), NOW)
}

#[test]
fn those_who_agree_to_the_last_digit_are_as_sure_as_it_lets_them_be() {
    let found = fuse_unstated(&[21.5, 21.5, 21.5, 21.5]);
    let alone = 0.1 / 3f64.sqrt();
    assert!((found.sigma.unwrap() - alone / 2.0).abs() < 1e-6, "{found:?}");
    let found = fuse_unstated(&[21.5, 21.5, 21.5, 21.6]);
    assert_eq!(
        (found.used, found.rejected.len(), found.status),
        (4, 0, Status::Ok),
        "one step off is no fault: {found:?}"
    );
    let found = fuse_unstated(&[21.5, 21.5, 21.5, 23.0]);
    assert_eq!(found.rejected.len(), 1, "{found:?}");
}

#[test]
fn two_camps_are_never_a_confident_answer() {
    let found = fuse(&[20.0, 20.1, 20.05, 30.0, 30.1, 30.05]);
    assert_eq!(found.status, Status::Inconsistent);
    assert!(found.sigma.unwrap() > 5.0 && found.interval.unwrap().holds(20.0) && found.interval.unwrap().holds(30.0));
    assert_eq!(fuse(&[20.0, 30.0]).status, Status::Inconsistent);
}

#[test]
fn nobody_or_one_without_a_known_uncertainty_is_insufficient() {
    let none = fuse(&[]);
    assert_eq!((none.status, none.value, none.interval), (Status::Insufficient, None, None));
    let mut alone = member(0, 20.0);
    alone.sigma = None;
    assert_eq!(estimate(subject(), &of(vec![alone]), &terms(), NOW).status, Status::Insufficient);
    let sure = fuse(&[20.0]);
    assert_eq!((sure.status, sure.tolerates), (Status::Ok, 0));
    assert!((sure.sigma.unwrap() - 0.1).abs() < 1e-6);
}

/// At the default walk of 0.1 per root second a reading of 100 s has twice the variance it had.
#[test]
fn staleness_widens_and_ends() {
    let aged = |seconds: u64| {
        let mut old = member(0, 20.0);
        old.time = Wall::from_millis(NOW.as_millis() - seconds * 1000);
        estimate(subject(), &of(vec![old]), &terms(), NOW)
    };
    assert!((aged(100).sigma.unwrap() / aged(0).sigma.unwrap() - 2f64.sqrt()).abs() < 1e-6);
    assert_eq!((aged(300).stale, aged(301).stale, aged(301).status), (0, 1, Status::Insufficient));
}

#[test]
fn sensors_that_state_nothing_are_judged_by_how_they_scatter() {
    let silent = |values: &[f64]| {
        let mut members: Vec<Member> = values.iter().enumerate().map(|(i, value)| member(i, *value)).collect();
        members.iter_mut().for_each(|member| member.sigma = None);
        estimate(subject(), &of(members), &terms(), NOW)
    };
    let found = silent(&[50.0, 51.0, 49.0, 50.5, 49.5, 400.0]);
    assert!((found.value.unwrap() - 50.0).abs() < 0.5 && found.used == 5, "{found:?}");
    assert!(found.sigma.unwrap() > 0.2 && found.sigma.unwrap() < 1.0, "{found:?}");
    assert_eq!(silent(&[100.0, 100.0, 100.0]).value, Some(100.0));
}

#[test]
fn explained_weights_add_up_and_name_everybody() {
    let mut members: Vec<Member> = (0..6).map(|i| member(i, 20.0 + 0.01 * i as f64)).collect();
    members[1].value = Some(27.0);
    members[2].fault = Some("stuck".into());
    let (estimate, parts) = explain(subject(), &of(members), &terms(), NOW);
    assert_eq!(parts.len(), 6);
    assert!((parts.iter().map(|part| part.weight).sum::<f64>() - 1.0).abs() < 1e-12);
    let reasons: Vec<Option<&str>> = parts.iter().map(|part| part.reason.as_deref()).collect();
    assert_eq!(reasons, [None, Some("outlier"), Some("stuck"), None, None, None]);
    assert_eq!(estimate.used, 4);
}

/// Value, age in milliseconds, fault.
type State = (f64, u64, Option<String>);

/// Twelve members a region, in any of a few states.
fn any_shares() -> impl Strategy<Value = Vec<Share>> {
    let state = (19.0..21.0f64, 0u64..400_000, prop_oneof![9 => Just(None), 1 => Just(Some("drift".to_owned()))]);
    let members = prop::collection::vec(state, 0..12);
    prop::collection::vec((members, 0u64..3), 4).prop_map(|regions| {
        let share = |(i, (states, taken)): (usize, (Vec<State>, u64))| {
            let of_state = |(j, (value, age, fault)): (usize, (f64, u64, Option<String>))| Member {
                time: Wall::from_millis(NOW.as_millis() - age),
                fault,
                ..member(i * 100 + j, value)
            };
            let members = states.into_iter().enumerate().map(of_state).collect();
            Share::new(members, 8, &terms(), Wall::from_millis(NOW.as_millis() - taken))
        };
        regions.into_iter().enumerate().map(share).collect()
    })
}

proptest! {
    /// Shares of two lives of three regions, merged in any order and as often as one likes.
    #[test]
    fn merging_partials_commutes_associates_and_repeats_harmlessly(shares in any_shares()) {
        let p: Vec<Partial> = shares.into_iter().enumerate().map(|(i, share)| Partial::of(region(i % 3), share)).collect();
        let merged = |order: &[usize]| order.iter().fold(Partial::default(), |mut all, i| { all.merge(&p[*i]); all });
        let all = merged(&[0, 1, 2, 3]);
        prop_assert_eq!(&merged(&[3, 2, 1, 0]), &all);
        prop_assert_eq!(&merged(&[2, 3, 0, 1, 1, 3, 0]), &all);
        let (mut left, right) = (merged(&[0, 3]), merged(&[1, 2]));
        left.merge(&right);
        prop_assert_eq!(&left, &all);
    }

    /// A heap of sensors cut into regions any way gives the same estimate to the bit, while they are few.
    #[test]
    fn fused_through_regions_is_fused_flat_exactly(
        values in prop::collection::vec((15.0..25.0f64, 0usize..5), 1..120),
    ) {
        let members: Vec<Member> = values.iter().enumerate().map(|(i, (value, _))| member(i, *value)).collect();
        let mut parts = Partial::default();
        for r in 0..5 {
            let of_region = members.iter().zip(&values).filter(|(_, (_, at))| *at == r).map(|(m, _)| m.clone()).collect();
            parts.merge(&Partial::of(region(r), Share::new(of_region, EXACT_MAX, &terms(), NOW)));
        }
        prop_assert_eq!(estimate(subject(), &parts, &terms(), NOW), estimate(subject(), &of(members), &terms(), NOW));
    }
}

/// Beyond the bound regions and heap give the same sketch, and that is within its stated error of all single values.
#[test]
fn beyond_the_bound_it_is_approximate_within_the_stated_error() {
    let mut rng = Rng::new(5);
    let values: Vec<f64> =
        (0..3000).map(|i| if i % 4 == 0 { 26.0 + rng.unit() } else { 20.0 + 0.3 * rng.unit() }).collect();
    let members: Vec<Member> = values.iter().enumerate().map(|(i, value)| member(i, *value)).collect();
    let heap = estimate(subject(), &of(members.clone()), &terms(), NOW);
    let mut parts = Partial::default();
    for (r, chunk) in members.chunks(400).enumerate() {
        parts.merge(&Partial::of(region(r), Share::new(chunk.to_vec(), EXACT_MAX, &terms(), NOW)));
    }
    let regions = estimate(subject(), &parts, &terms(), NOW);
    assert_eq!(regions, heap);
    let data: Vec<Datum> = values.iter().map(|value| Datum { value: *value, sigma: 0.1, count: 1 }).collect();
    let (exact, _) = robust::location(&data, 999).unwrap();
    let error = heap.approximate.unwrap();
    assert!(error < 0.05 && (heap.value.unwrap() - exact.value).abs() <= error, "{heap:?} {exact:?}");
    assert_eq!((heap.n, heap.status, heap.tolerates), (3000, Status::Ok, 999));
}

#[test]
fn a_sketch_of_few_faults_to_tolerate_uses_the_exact_ends() {
    let members: Vec<Member> = (0..1000).map(|i| member(i, 20.0 + 0.0001 * i as f64)).collect();
    let terms = Terms { tolerate: Some(5), ..terms() };
    let share = Share::new(members, EXACT_MAX, &terms, NOW);
    assert!(matches!(share.content, Content::Sketch(_)));
    let found = estimate(subject(), &Partial::of(region(0), share), &terms, NOW);
    let interval = found.interval.unwrap();
    assert!((interval.lo - (20.0994 - 0.4)).abs() < 1e-9 && (interval.hi - (20.0005 + 0.4)).abs() < 1e-9, "{found:?}");
    assert_eq!(found.tolerates, 5);
}

fn gauss(rng: &mut Rng) -> f64 {
    (0..12).map(|_| rng.unit()).sum::<f64>() - 6.0
}

/// What is promised with a third of the sensors wrong, over a thousand windows of every kind of malice at once.
#[test]
fn with_a_third_arbitrarily_faulty_the_estimate_and_the_interval_hold() {
    let mut rng = Rng::new(11);
    for n in [10, 16, 31] {
        let faulty = faults_tolerated(n) as usize;
        let (mut within, mut covered, mut mean_within) = (0, 0, 0);
        let mut ratio = Vec::new();
        for window in 0..1000 {
            let truth = 20.0 + gauss(&mut rng);
            let collusion = (rng.unit() - 0.5) * 20.0;
            let value = |i: usize, rng: &mut Rng| match (i < faulty, window % 4) {
                (false, _) => truth + 0.1 * gauss(rng),
                (true, 0) => truth + collusion,
                (true, 1) => 3.0,
                (true, 2) => truth + 1.0 + rng.unit() * 5.0,
                (true, _) => truth + (rng.unit() - 0.5) * 40.0,
            };
            let values: Vec<f64> = (0..n as usize).map(|i| value(i, &mut rng)).collect();
            let found = fuse(&values);
            let healthy = fuse(&values[faulty..]);
            let sigma = found.sigma.unwrap();
            within += u32::from((found.value.unwrap() - truth).abs() <= 2.0 * sigma);
            covered += u32::from(found.interval.unwrap().holds(truth));
            assert!(found.interval.unwrap().width() <= 0.8 + 1e-6, "no wider than the widest healthy one: {found:?}");
            ratio.push(sigma / healthy.sigma.unwrap());
            let mean = values.iter().sum::<f64>() / n as f64;
            mean_within += u32::from((mean - truth).abs() <= 2.0 * sigma);
        }
        ratio.sort_by(f64::total_cmp);
        assert!(within >= 950, "n {n}: {within}");
        assert!(covered >= 990, "n {n}: {covered}");
        assert!(ratio[500] <= 2.0, "n {n}: {}", ratio[500]);
        assert!(mean_within < 300, "the plain mean is not: {mean_within}");
        eprintln!("n {n}: within {within} covered {covered} sigma ratio {:.2} mean {mean_within}", ratio[500]);
    }
}

#[test]
fn the_params_of_a_document_are_all_that_is_needed() {
    assert_eq!(Rules::new(FusionParams::default()).unwrap().terms(None), terms());
}

#[test]
fn the_unnamed_are_counted_the_span_is_told_and_parts_are_weighed() {
    let mut members: Vec<Member> = (0..30).map(|i| member(i, 20.0)).collect();
    members[..20].iter_mut().for_each(|m| m.fault = Some("drift".into()));
    let found = estimate(subject(), &of(members), &terms(), NOW).naming(16);
    assert_eq!((found.rejected.len(), found.unnamed), (16, 4));
    assert_eq!(serde_json::from_str::<Estimate>(&serde_json::to_string(&found).unwrap()).unwrap(), found);
    assert!((fuse(&[20.0, 30.0]).sigma.unwrap() - 5.4).abs() < 1e-6);
    let pair = vec![member(0, 20.0), Member { sigma: Some(0.2), ..member(1, 20.3) }];
    let (_, parts) = explain(subject(), &of(pair), &terms(), NOW);
    for (part, (weight, residual)) in parts.iter().zip([(0.8, -0.6), (0.2, 1.2)]) {
        assert!((part.weight - weight).abs() < 1e-6 && (part.residual.unwrap() - residual).abs() < 1e-6, "{part:?}");
    }
}

#[test]
fn a_sketchs_interval_is_that_of_its_sensors_and_a_cell() {
    let members: Vec<Member> = (0..1000).map(|i| member(i, 20.0 + 0.0001 * i as f64)).collect();
    let found = estimate(subject(), &of(members.clone()), &terms(), NOW);
    let interval = found.interval.unwrap();
    assert!((interval.lo - (20.0666 - 0.4)).abs() < 0.01 && (interval.hi - (20.0333 + 0.4)).abs() < 0.01, "{found:?}");
    assert_eq!((found.status, found.used, found.unnamed), (Status::Ok, 1000, 0));
    let terms = Terms { tolerate: Some(64), ..terms() };
    let share = Share::new(members, EXACT_MAX, &terms, NOW);
    assert_eq!(estimate(subject(), &Partial::of(region(0), share), &terms, NOW).status, Status::Ok);
}
