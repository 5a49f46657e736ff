//! The simulated source with faults put in: its truth is known.

use crate::cli::bench::fusion::{Detection, Point, Tally, Window, member};
use crate::cli::error::CliError;
use crate::core::fusion::diagnosis::{Diagnosis, Fault, Limits, Peers};
use crate::core::fusion::params::Rules;
use crate::core::fusion::partial::Member;
use crate::core::id::NodeId;
use crate::core::rng::Rng;
use crate::core::time::Wall;
use crate::shell::config::Span;
use crate::shell::config::sources::SimulatedSource;
use crate::shell::sensors::Simulated;

/// Standard uncertainty of every made-up sensor.
const SIGMA: f64 = 0.1;
/// Time between windows.
const STEP_MS: u64 = 10_000;
const BEGAN_MS: u64 = 1_700_000_000_000;

/// What faulty sensors do.
#[derive(Clone, Copy)]
enum Kind {
    Stuck,
    Drift,
    Spikes,
    /// All say the same, far from the truth.
    Collusion,
    /// All say the same, where it hurts most: just within what is believed.
    SlyCollusion,
    /// Each does something else.
    Mixed,
}

const KINDS: [(Kind, &str); 6] = [
    (Kind::Stuck, "stuck"),
    (Kind::Drift, "drift"),
    (Kind::Spikes, "spikes"),
    (Kind::Collusion, "collusion"),
    (Kind::SlyCollusion, "sly collusion"),
    (Kind::Mixed, "mixed"),
];

fn source(kind: Option<Kind>, place: usize, seed: u64) -> SimulatedSource {
    let sign = if place.is_multiple_of(2) { 1.0 } else { -1.0 };
    let healthy = SimulatedSource {
        mean: 20.0,
        amplitude: 2.0,
        period: Span::secs(3600),
        noise: SIGMA,
        seed: Some(seed * 1000 + place as u64),
        ..SimulatedSource::default()
    };
    match kind {
        None => healthy,
        Some(Kind::Stuck) => {
            SimulatedSource { amplitude: 0.0, noise: 0.0, bias: sign * 0.5 * (1 + place % 4) as f64, ..healthy }
        }
        Some(Kind::Drift) => SimulatedSource { drift: sign * (1 + place % 3) as f64, ..healthy },
        Some(Kind::Spikes) => SimulatedSource { spike_rate: 0.3, spike: sign * 10.0, ..healthy },
        Some(Kind::Collusion) => SimulatedSource { bias: 2.0, ..healthy },
        Some(Kind::SlyCollusion) => SimulatedSource { bias: 2.5 * SIGMA, ..healthy },
        Some(Kind::Mixed) => {
            let kinds = [Kind::Stuck, Kind::Drift, Kind::Spikes, Kind::Collusion];
            source(Some(kinds[place % 4]), place, seed)
        }
    }
}

/// Error and coverage as the faulty ones grow in number, past the breakdown point.
pub(super) fn curves(sensors: usize, windows: u64, seed: u64) -> Result<Vec<Point>, CliError> {
    let terms = Rules::default().terms(None);
    let most = (sensors / 2 + 1).min(sensors - 1);
    let mut points = Vec::new();
    for (kind, name) in KINDS {
        for faulty in 0..=most {
            let mut tally = Tally::default();
            let mut played = play(sensors, faulty, kind, seed);
            for i in 0..windows {
                let at = Wall::from_millis(BEGAN_MS + i * STEP_MS);
                let members: Vec<Member> = played
                    .iter_mut()
                    .enumerate()
                    .filter_map(|(place, source)| {
                        let value = source.read(at)?.value?;
                        Some(member(&format!("gw-{place:03}"), value, SIGMA, 0.0, at))
                    })
                    .collect();
                let truth = played[sensors - 1].truth(at);
                tally.add(&Window { truth, truth_sigma: 0.0, all: &members, healthy: &members[faulty..], at }, &terms);
            }
            points.push(tally.point(name, faulty as u64));
        }
    }
    Ok(points)
}

fn play(sensors: usize, faulty: usize, kind: Kind, seed: u64) -> Vec<Simulated> {
    let node = NodeId::new("gw").expect("a good name");
    let of = |place: usize| {
        let kind = (place < faulty).then_some(kind);
        Simulated::new(source(kind, place, seed), &node, Wall::from_millis(BEGAN_MS))
    };
    (0..sensors).map(of).collect()
}

/// Faults that begin after an hour in one of ten sensors, and when they stand: so many times each.
pub(super) fn detection(seed: u64, repeats: u64) -> Result<Vec<Detection>, CliError> {
    let faults: [(&str, Fault, Kind); 3] = [
        ("stuck", Fault::Stuck, Kind::Stuck),
        ("drift", Fault::Drift, Kind::Drift),
        ("spikes", Fault::Spike, Kind::Spikes),
    ];
    const SENSORS: usize = 10;
    let mut found = Vec::new();
    for (name, fault, kind) in faults {
        let mut detection = Detection {
            fault: format!("{name} (simulated)"),
            injected: repeats,
            found: 0,
            named: 0,
            healthy: repeats * (SENSORS as u64 - 1),
            false_alarms: 0,
            median_to_detect_s: None,
        };
        let mut times = Vec::new();
        for repeat in 0..repeats {
            let (when, alarms) = watch(SENSORS, kind, fault, seed * 100 + repeat);
            detection.false_alarms += alarms;
            if let Some((seconds, right)) = when {
                detection.found += 1;
                detection.named += u64::from(right);
                times.push(seconds);
            }
        }
        times.sort_unstable_by(f64::total_cmp);
        detection.median_to_detect_s = times.get(times.len() / 2).copied();
        found.push(detection);
    }
    Ok(found)
}

/// Time until the first sensor's fault stood and whether by its name; and how many of the others were condemned.
fn watch(sensors: usize, kind: Kind, fault: Fault, seed: u64) -> (Option<(f64, bool)>, u64) {
    let terms = Rules::default().terms(None);
    let begins = 360;
    let mut rng = Rng::new(seed);
    let place = rng.below(3);
    let node = NodeId::new("gw").expect("a good name");
    let broken_at = Wall::from_millis(BEGAN_MS + begins * STEP_MS);
    let mut played = play(sensors, 0, kind, seed);
    let mut broken = Simulated::new(source(Some(kind), place, seed), &node, broken_at);
    let mut watched: Vec<Option<Diagnosis>> = vec![None; sensors];
    let mut condemned = vec![false; sensors];
    let mut found = None;
    let limits = Limits {
        sigma: Some(SIGMA),
        spread: 0.0,
        min: None,
        max: None,
        // Made-up days last an hour.
        drift_after_ms: 1_800_000,
        silent_after_ms: 300_000,
    };
    for i in 0..3600 {
        let at = Wall::from_millis(BEGAN_MS + i * STEP_MS);
        let read = |(place, source): (usize, &mut Simulated)| {
            let value = source.read(at).and_then(|reading| reading.value).unwrap_or_default();
            member(&format!("gw-{place:03}"), value, SIGMA, 0.0, at)
        };
        let mut members: Vec<Member> = played.iter_mut().enumerate().map(read).collect();
        if i >= begins {
            members[0].value = broken.read(at).and_then(|reading| reading.value);
        }
        let fused = super::fuse(&members, &terms, at);
        let peers = fused.value.zip(fused.sigma).map(|(value, sigma)| Peers { value, sigma });
        for (place, member) in members.iter().enumerate() {
            let Some(value) = member.value else { continue };
            let diagnosis = watched[place].get_or_insert_with(|| Diagnosis::new(at, value));
            diagnosis.observe(at, value, &limits, peers);
            let Some(verdict) = diagnosis.standing() else { continue };
            if place == 0 && i >= begins && found.is_none() {
                found = Some((((i - begins) * STEP_MS) as f64 / 1000.0, verdict.fault == fault));
            }
            condemned[place] |= place > 0 || i < begins;
        }
    }
    (found, condemned.iter().skip(1).filter(|condemned| **condemned).count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fusion::interval::faults_tolerated;

    /// What the goal asks of fusing, and what it says itself beyond its budget.
    #[test]
    fn up_to_a_third_is_held_and_beyond_it_is_no_confident_lie() {
        let points = curves(10, 200, 1).unwrap();
        let of = |fault: &str, faulty: u64| points.iter().find(|p| p.fault == fault && p.faulty == faulty).unwrap();
        for (_, name) in KINDS {
            for faulty in 0..=faults_tolerated(10) {
                let point = of(name, faulty);
                assert!(point.coverage >= 0.99, "{point:?}");
                assert!(point.sigma_ratio <= 2.0 && point.width_ratio <= 1.0 + 1e-6, "{point:?}");
                assert!(name == "sly collusion" || point.within_2_sigma >= 0.93, "{point:?}");
            }
        }
        assert!(of("collusion", 3).mean_within_2_sigma < 0.01);
        assert!(of("collusion", 4).inconsistent > 0.99, "{:?}", of("collusion", 4));
    }
}
