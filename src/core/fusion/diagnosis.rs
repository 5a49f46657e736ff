//! What is wrong with one sensor, judged reading by reading from what it says and what its peers say.
//!
//! Each kind of fault has a score between 0 and 1 that forgets exponentially: evidence raises it, clean readings lower
//! it, so a sensor earns trust back. A fault stands from [`CONDEMNED`] on until its score has fallen below
//! [`ABSOLVED`]. Single readings that cannot be (out of range, a spike) are refused at once and on their own.
//!
//! Invariant: being far from the peers for a while is no fault. Direct sun on a window sensor is a true reading; a
//! drift is a distance that stays for longer than any sun does.

use serde::{Deserialize, Serialize};

use crate::core::time::Wall;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// Beyond what such a sensor can measure.
    Range,
    /// The same value again and again, while its peers move.
    Stuck,
    /// Leaps away and back.
    Spike,
    /// Scatters far more than it used to or claims to.
    Noise,
    /// Has been away from its peers for longer than weather explains.
    Drift,
    /// Says nothing any more.
    Silent,
    /// Its battery is low: what it says will soon be wrong.
    Battery,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 7] =
        [Self::Range, Self::Stuck, Self::Spike, Self::Noise, Self::Drift, Self::Silent, Self::Battery];

    /// The word used in JSON, in notes and on the screen.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::Stuck => "stuck",
            Self::Spike => "spike",
            Self::Noise => "noise",
            Self::Drift => "drift",
            Self::Silent => "silent",
            Self::Battery => "battery",
        }
    }
}

/// What is known of a sensor beforehand, in its own unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Its standard uncertainty, if stated or configured.
    pub sigma: Option<f64>,
    /// How far its place may truly be from its peers', as a standard deviation.
    pub spread: f64,
    /// The smallest value that can be.
    pub min: Option<f64>,
    /// The largest.
    pub max: Option<f64>,
    /// A distance from its peers is a drift after this long, in milliseconds.
    pub drift_after_ms: u64,
    /// It is silent after this long, in milliseconds.
    pub silent_after_ms: u64,
}

/// What the peers say at the time of a reading: their estimate and its standard uncertainty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peers {
    /// The estimate.
    pub value: f64,
    /// Its standard uncertainty.
    pub sigma: f64,
}

/// A fault that stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Which.
    pub fault: Fault,
    /// Its score.
    pub score: f64,
    /// Since when it stands.
    pub since: Wall,
}

/// From this score on a fault stands.
pub const CONDEMNED: f64 = 0.5;
/// Below this score it stands no more.
pub const ABSOLVED: f64 = 0.1;
/// Readings after which a score has moved most of the way to its evidence.
const MEMORY: f64 = 8.0;
/// Readings over which the usual noise of a sensor is learned.
const NOISE_MEMORY: f64 = 200.0;
/// Before this many readings nothing is usual.
const WARM: u32 = 20;
/// Leaps in a row after which the next is a new level.
const LEAPS_MAX: u32 = 3;
/// Mean of |x'' | of white noise of standard deviation 1: the root of 6 times the root of 2 over pi.
const SECOND_DIFFERENCE: f64 = 1.954_410_047_6;

/// What one sensor has been like.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    seen: u32,
    last_at: Wall,
    recent: [f64; 5],
    run: u32,
    run_usual: f64,
    peers_at_run: Option<f64>,
    leaps: f64,
    since_leap: u32,
    /// Leaps in a row from `level`, which may yet turn out to be a new level.
    leaping: u32,
    level: f64,
    noise: f64,
    noise_usual: f64,
    away: f64,
    away_since: Option<Wall>,
    scores: [f64; 7],
    since: [Option<Wall>; 7],
}

impl Diagnosis {
    /// Of a sensor that has just said its first word.
    pub fn new(at: Wall, value: f64) -> Self {
        Self {
            seen: 1,
            last_at: at,
            recent: [value; 5],
            run: 1,
            run_usual: 1.0,
            peers_at_run: None,
            leaps: 0.0,
            since_leap: u32::MAX,
            leaping: 0,
            level: value,
            noise: 0.0,
            noise_usual: 0.0,
            away: 0.0,
            away_since: None,
            scores: [0.0; 7],
            since: [None; 7],
        }
    }

    /// Judges a reading. What is wrong with this very reading, if anything is; see [`Diagnosis::standing`] for the
    /// sensor. A reading older than the last is not judged.
    pub fn observe(&mut self, at: Wall, value: f64, limits: &Limits, peers: Option<Peers>) -> Option<Fault> {
        if at.millis_after(self.last_at) < 0 {
            return None;
        }
        let seconds = at.millis_after(self.last_at) as f64 / 1000.0;
        self.last_at = at;
        self.seen = self.seen.saturating_add(1);
        self.score(Fault::Silent, 0.0, at);
        let out = limits.min.is_some_and(|min| value < min) || limits.max.is_some_and(|max| value > max);
        self.score(Fault::Range, if out { 1.0 } else { 0.0 }, at);
        if out {
            return Some(Fault::Range);
        }
        let spike = self.is_spike(value, limits);
        self.learn_leaps(at, value, spike);
        self.learn_noise(at, value, limits);
        self.learn_run(at, value, limits, peers);
        if let Some(peers) = peers {
            self.learn_distance(at, seconds, value - peers.value, limits, peers.sigma);
        }
        self.recent.rotate_left(1);
        self.recent[4] = value;
        spike.then_some(Fault::Spike)
    }

    /// Looks whether the sensor has fallen silent.
    pub fn look(&mut self, now: Wall, limits: &Limits) {
        let silent = now.millis_after(self.last_at) > limits.silent_after_ms as i64;
        if silent {
            self.set(Fault::Silent, 1.0, now);
        }
    }

    /// Takes note of the sensor's battery.
    pub fn note_battery(&mut self, at: Wall, low: bool) {
        self.score(Fault::Battery, if low { 1.0 } else { 0.0 }, at);
    }

    /// The fault that stands, the one with the highest score if there are several.
    pub fn standing(&self) -> Option<Verdict> {
        let stands = Fault::ALL.into_iter().filter_map(|fault| {
            let since = self.since[fault as usize]?;
            Some(Verdict { fault, score: self.scores[fault as usize], since })
        });
        stands.max_by(|a, b| a.score.total_cmp(&b.score))
    }

    fn score(&mut self, fault: Fault, evidence: f64, at: Wall) {
        let score = self.scores[fault as usize];
        self.set(fault, score + (evidence - score) / MEMORY, at);
    }

    fn set(&mut self, fault: Fault, score: f64, at: Wall) {
        let i = fault as usize;
        self.scores[i] = score;
        if score >= CONDEMNED && self.since[i].is_none() {
            self.since[i] = Some(at);
        } else if score < ABSOLVED {
            self.since[i] = None;
        }
    }

    /// Far from the middle of the last five, and from the last value that was no leap; a ramp is neither for long.
    fn is_spike(&self, value: f64, limits: &Limits) -> bool {
        if self.seen <= WARM {
            return false;
        }
        let mut recent = self.recent;
        recent.sort_unstable_by(f64::total_cmp);
        let usual = (10.0 * self.noise_usual).max(5.0 * limits.sigma.unwrap_or(0.0));
        usual > 0.0 && (value - recent[2]).abs() > usual && (value - self.level).abs() > usual
    }

    /// A leap is one once the sensor has come back; three in a row that do not come back are a new level. Now and then
    /// it is forgotten; more than one in five readings is a fault. If most readings leap, there is no level left to
    /// leap from: that is noise.
    fn learn_leaps(&mut self, at: Wall, value: f64, leap: bool) {
        self.leaps += (if leap { 1.0 } else { 0.0 } - self.leaps) / MEMORY;
        self.since_leap = if leap { 0 } else { self.since_leap.saturating_add(1) };
        let score = self.scores[Fault::Spike as usize];
        if leap && self.leaping < LEAPS_MAX {
            self.leaping += 1;
            return;
        }
        let back = if leap { 0 } else { std::mem::take(&mut self.leaping) };
        self.leaping = 0;
        self.level = value;
        let next = match back > 0 && self.leaps <= 0.5 {
            true => (0..back).fold(score, |score, _| score + (1.0 - score) / 6.0),
            false => score * (1.0 - 1.0 / (3.0 * MEMORY)),
        };
        self.set(Fault::Spike, next, at);
    }

    /// Noise is what second differences show: a ramp, however steep, has none.
    fn learn_noise(&mut self, at: Wall, value: f64, limits: &Limits) {
        // A leap is in three second differences. It may not look like noise, nor become usual.
        if self.since_leap < 3 && self.leaps <= 0.5 {
            return;
        }
        let rough = (value - 2.0 * self.recent[4] + self.recent[3]).abs() / SECOND_DIFFERENCE;
        let warm = self.seen > WARM;
        let most = if warm { (20.0 * self.noise_usual).max(20.0 * limits.sigma.unwrap_or(0.0)) } else { rough };
        let rough = rough.min(most);
        self.noise += (rough - self.noise) / MEMORY;
        let claimed = limits.sigma.unwrap_or(0.0);
        let noisy = warm && self.noise > (6.0 * self.noise_usual).max(3.0 * claimed) && self.noise > 0.0;
        self.score(Fault::Noise, if noisy { 1.0 } else { 0.0 }, at);
        let memory = if warm { NOISE_MEMORY } else { MEMORY };
        if !noisy {
            self.noise_usual += (rough - self.noise_usual) / memory;
        }
    }

    /// A run of equal values is a fault if it is far longer than usual while the peers have moved by more than the
    /// sensor's uncertainty.
    fn learn_run(&mut self, at: Wall, value: f64, limits: &Limits, peers: Option<Peers>) {
        if value == self.recent[4] {
            self.run = self.run.saturating_add(1);
        } else {
            if self.scores[Fault::Stuck as usize] < ABSOLVED {
                self.run_usual += (f64::from(self.run) - self.run_usual) / MEMORY;
            }
            self.run = 1;
            self.peers_at_run = None;
        }
        let start = match (self.peers_at_run, peers) {
            (None, Some(peers)) => *self.peers_at_run.insert(peers.value),
            (Some(start), _) => start,
            (None, None) => f64::NAN,
        };
        let moved = peers.is_some_and(|peers| {
            let enough = 3.0 * limits.sigma.unwrap_or(0.0).min(peers.sigma * 4.0).max(peers.sigma);
            (peers.value - start).abs() > enough
        });
        // A held value is evidence for as long as it is held: the peers may come back to it.
        let stuck = f64::from(self.run) > 12.0 + 8.0 * self.run_usual
            && (moved || self.scores[Fault::Stuck as usize] >= CONDEMNED);
        self.score(Fault::Stuck, if stuck { 1.0 } else { 0.0 }, at);
    }

    /// The distance from the peers, averaged over a part of the time that makes it a drift.
    fn learn_distance(&mut self, at: Wall, seconds: f64, distance: f64, limits: &Limits, peers_sigma: f64) {
        let Some(sigma) = limits.sigma else { return };
        let memory_s = limits.drift_after_ms as f64 / 1000.0 / 6.0;
        self.away += (distance - self.away) * (seconds / (memory_s + seconds));
        let limit = 3.0 * (sigma * sigma + limits.spread * limits.spread + peers_sigma * peers_sigma).sqrt();
        if self.away.abs() > limit {
            let since = *self.away_since.get_or_insert(at);
            let long = at.millis_after(since) as f64 / limits.drift_after_ms.max(1) as f64;
            self.set(Fault::Drift, (long * CONDEMNED).min(1.0), at);
        } else if self.away.abs() < limit / 2.0 {
            self.away_since = None;
            self.score(Fault::Drift, 0.0, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rng::Rng;

    const HOUR: u64 = 3_600_000;
    const LIMITS: Limits = Limits {
        sigma: Some(0.2),
        spread: 1.0,
        min: Some(-40.0),
        max: Some(85.0),
        drift_after_ms: 12 * HOUR,
        silent_after_ms: 300_000,
    };

    /// Plays two days, a reading every half minute; `fault` changes what is measured. When each fault stood first.
    fn play(fault: impl Fn(f64, f64, &mut Rng) -> f64) -> Vec<(Fault, f64)> {
        let mut rng = Rng::new(7);
        let mut diagnosis = Diagnosis::new(Wall::from_millis(0), 20.0);
        let mut found: Vec<(Fault, f64)> = Vec::new();
        for i in 1..5760u64 {
            let hours = i as f64 / 120.0;
            let day = ((hours / 24.0 - 0.5).fract() - 0.5).abs() * 4.0 - 1.0;
            let truth = 20.0 + 3.0 * day;
            let value = (fault(truth + 0.1 * (rng.unit() - 0.5), hours, &mut rng) * 100.0).round() / 100.0;
            let at = Wall::from_millis(i * 30_000);
            diagnosis.observe(at, value, &LIMITS, Some(Peers { value: truth, sigma: 0.1 }));
            if let Some(verdict) = diagnosis.standing()
                && !found.iter().any(|(fault, _)| *fault == verdict.fault)
            {
                found.push((verdict.fault, hours));
            }
        }
        found
    }

    #[test]
    fn a_healthy_sensor_is_left_alone() {
        assert_eq!(play(|value, _, _| value), []);
    }

    #[test]
    fn direct_sun_is_no_fault() {
        let sun = |value: f64, hours: f64, _: &mut Rng| {
            let height = 1.0 - ((hours % 24.0 - 10.0) / 3.0).powi(2);
            value + 9.0 * height.max(0.0)
        };
        assert_eq!(play(sun), []);
    }

    #[test]
    fn each_fault_is_found_and_called_by_its_name() {
        let faults =
            |fault: &dyn Fn(f64, f64, &mut Rng) -> f64| play(|v, h, rng| if h > 6.0 { fault(v, h, rng) } else { v });
        let stuck = faults(&|_, _, _| 21.37);
        assert!(stuck[0].0 == Fault::Stuck && stuck[0].1 < 8.0, "{stuck:?}");
        let spikes = faults(&|v, _, rng| if rng.chance(0.3) { v + 15.0 } else { v });
        assert!(spikes.iter().take(1).any(|(fault, h)| *fault == Fault::Spike && *h < 7.0), "{spikes:?}");
        let noise = faults(&|v, _, rng| v + 4.0 * (rng.unit() - 0.5));
        assert!(noise.iter().any(|(fault, h)| *fault == Fault::Noise && *h < 7.0), "{noise:?}");
        let drift = faults(&|v, h, _| v + 0.5 * (h - 6.0));
        assert!(drift.len() == 1 && drift[0].0 == Fault::Drift && drift[0].1 < 30.0, "{drift:?}");
        let range = faults(&|_, _, rng| 122.15 + rng.unit());
        assert!(range[0].0 == Fault::Range && range[0].1 < 6.2, "{range:?}");
    }

    #[test]
    fn a_single_impossible_reading_is_refused_and_the_sensor_is_not_condemned() {
        let mut diagnosis = Diagnosis::new(Wall::from_millis(0), 20.0);
        let mut rng = Rng::new(3);
        for i in 1..100u64 {
            let value = 20.0 + 0.1 * rng.unit();
            assert_eq!(diagnosis.observe(Wall::from_millis(i * 1000), value, &LIMITS, None), None);
        }
        assert_eq!(diagnosis.observe(Wall::from_millis(100_000), 122.15, &LIMITS, None), Some(Fault::Range));
        assert_eq!(diagnosis.observe(Wall::from_millis(101_000), 45.0, &LIMITS, None), Some(Fault::Spike));
        assert_eq!(diagnosis.observe(Wall::from_millis(102_000), 20.05, &LIMITS, None), None);
        assert_eq!(diagnosis.standing(), None);
    }

    #[test]
    fn silence_and_a_low_battery_stand_until_they_are_over() {
        let mut diagnosis = Diagnosis::new(Wall::from_millis(0), 20.0);
        diagnosis.look(Wall::from_millis(200_000), &LIMITS);
        assert_eq!(diagnosis.standing(), None);
        diagnosis.look(Wall::from_millis(400_000), &LIMITS);
        assert_eq!(diagnosis.standing().map(|v| v.fault), Some(Fault::Silent));
        for i in 0..30 {
            diagnosis.observe(Wall::from_millis(500_000 + i), 20.0, &LIMITS, None);
        }
        assert_eq!(diagnosis.standing(), None, "trust is earned back");
        (0..10).for_each(|i| diagnosis.note_battery(Wall::from_millis(600_000 + i), true));
        assert_eq!(diagnosis.standing().map(|v| v.fault), Some(Fault::Battery));
        (0..30).for_each(|i| diagnosis.note_battery(Wall::from_millis(700_000 + i), false));
        assert_eq!(diagnosis.standing(), None);
    }

    /// Readings a second apart, and the fault that stands after each.
    struct Told {
        diagnosis: Diagnosis,
        seconds: u64,
        limits: Limits,
    }

    impl Told {
        /// Of a sensor that has said `value` thirty times, each a little different from the one before.
        fn usual(limits: Limits, value: f64) -> Self {
            let mut told = Self { diagnosis: Diagnosis::new(Wall::from_millis(0), value), seconds: 0, limits };
            (0..30).for_each(|i| assert_eq!(told.says(value + f64::from(i % 2) * 1e-6, None), None));
            told
        }

        /// What is wrong with this reading.
        fn says(&mut self, value: f64, peers: Option<Peers>) -> Option<Fault> {
            self.seconds += 1;
            self.diagnosis.observe(Wall::from_millis(self.seconds * 1000), value, &self.limits, peers)
        }

        fn stands(&self) -> Option<Fault> {
            self.diagnosis.standing().map(|verdict| verdict.fault)
        }
    }

    #[test]
    fn bounds_are_within_what_can_be_and_an_older_reading_is_not_judged() {
        let mut told = Told::usual(Limits { min: Some(19.5), max: Some(20.5), ..LIMITS }, 20.0);
        let said: Vec<Option<Fault>> = [19.5, 20.5, 19.499, 20.501].map(|value| told.says(value, None)).into();
        assert_eq!(said, [None, None, Some(Fault::Range), Some(Fault::Range)]);
        assert_eq!(told.diagnosis.observe(Wall::from_millis(1), 1e9, &told.limits, None), None);
        let last = Wall::from_millis(told.seconds * 1000);
        assert_eq!(told.diagnosis.observe(last, 1e9, &told.limits, None), Some(Fault::Range), "as old is not older");
    }

    /// Five claimed uncertainties from the usual, where nothing was ever noisy.
    #[test]
    fn a_leap_is_farther_than_what_is_claimed_from_what_is_usual() {
        for (leap, found) in [(0.999, None), (1.001, Some(Fault::Spike)), (-1.001, Some(Fault::Spike))] {
            assert_eq!(Told::usual(LIMITS, 20.0).says(20.0 + leap, None), found, "{leap}");
        }
        let mut level = Told::usual(LIMITS, 20.0);
        let said: Vec<bool> = (0..5).map(|_| level.says(30.0, None).is_some()).collect();
        assert_eq!(said, [true, true, true, false, false], "a new level");
        assert_eq!(level.says(20.0, None), Some(Fault::Spike), "from which it leaps");
    }

    /// An alternation by `a` has second differences of `4 a`.
    #[test]
    fn noise_is_three_times_what_is_claimed() {
        let claimed = 3.0 * 0.2 * SECOND_DIFFERENCE / 4.0;
        for (scale, found) in [(0.95, None), (1.1, Some(Fault::Noise))] {
            let mut told = Told::usual(LIMITS, 20.0);
            (0..60).for_each(|i| {
                told.says(20.0 + scale * claimed * if i % 2 == 0 { 1.0 } else { -1.0 }, None);
            });
            assert_eq!(told.stands(), found, "{scale}");
        }
    }

    /// Three times its uncertainty, which is taken for between one and four times that of the peers.
    #[test]
    fn a_held_value_is_a_fault_once_the_peers_have_moved() {
        for (sigma, peers, moved, found) in [
            (0.2, 0.1, 0.59, None),
            (0.2, 0.1, 0.61, Some(Fault::Stuck)),
            (9.0, 0.1, 1.19, None),
            (9.0, 0.1, 1.21, Some(Fault::Stuck)),
            (0.01, 0.1, 0.29, None),
            (0.01, 0.1, 0.31, Some(Fault::Stuck)),
        ] {
            let mut told = Told::usual(Limits { sigma: Some(sigma), ..LIMITS }, 20.0);
            let peers = |value: f64| Some(Peers { value, sigma: peers });
            told.says(20.0, peers(20.0));
            (0..40).for_each(|_| assert_eq!(told.says(20.0, peers(20.0 + moved)), None));
            assert_eq!(told.stands(), found, "{sigma} {moved}");
            (0..40).for_each(|_| assert_eq!(told.says(20.0, peers(20.0)), None));
            assert_eq!(told.stands(), found, "the peers may come back to it");
        }
    }

    /// Three times the root of 3^2 + 4^2 + 12^2, which is 39.
    #[test]
    fn a_drift_is_a_distance_that_stays_beyond_what_all_uncertainties_explain() {
        let limits = Limits { sigma: Some(3.0), spread: 4.0, min: None, max: None, drift_after_ms: 60_000, ..LIMITS };
        let play = |told: &mut Told, distance: f64, seconds: u64| {
            for i in 0..seconds {
                let value = 20.0 + (i % 2) as f64 * 1e-6;
                told.says(value, Some(Peers { value: value - distance, sigma: 12.0 }));
            }
            told.stands()
        };
        for sign in [1.0, -1.0] {
            assert_eq!(play(&mut Told::usual(limits, 20.0), 38.5 * sign, 600), None);
            let mut told = Told::usual(limits, 20.0);
            assert_eq!(play(&mut told, 1e6 * sign, 60), None, "from the first reading beyond it on");
            assert_eq!(play(&mut told, 1e6 * sign, 2), Some(Fault::Drift));
            let mut told = Told::usual(limits, 20.0);
            assert_eq!(play(&mut told, 39.5 * sign, 600), Some(Fault::Drift));
            assert_eq!(play(&mut told, 20.0 * sign, 600), Some(Fault::Drift), "half of it is not back");
            assert_eq!(play(&mut told, 19.0 * sign, 600), None);
        }
    }

    #[test]
    fn what_is_usual_is_learned_and_what_was_wrong_is_forgotten() {
        let limits = Limits { sigma: None, ..LIMITS };
        let new = || Told { diagnosis: Diagnosis::new(Wall::from_millis(0), 20.0), seconds: 0, limits };
        let mut still = new();
        (0..30).for_each(|_| assert_eq!(still.says(20.0, None), None));
        (0..40).for_each(|_| assert_eq!(still.says(21.0, None), None));
        assert_eq!(still.stands(), None, "it claims nothing, and may move");
        let mut rough = new();
        (0..100).for_each(|i| assert_eq!(rough.says(if i % 2 == 0 { 19.9 } else { 20.1 }, None), None));
        assert_eq!((rough.stands(), rough.says(30.0, None)), (None, Some(Fault::Spike)));
        let mut told = Told::usual(LIMITS, 20.0);
        assert_eq!((told.says(122.15, None), told.stands()), (Some(Fault::Range), None), "once is no fault");
        assert_eq!([30.0, 30.0, 30.0, 20.0].map(|v| told.says(v, None).is_some()), [true, true, true, false]);
        let mut leaps = Told::usual(LIMITS, 20.0);
        (0..400).for_each(|i| {
            leaps.says(if i % 4 == 0 { 30.0 } else { 20.0 }, None);
        });
        assert_eq!(leaps.stands(), Some(Fault::Spike));
        (0..100).for_each(|_| {
            leaps.says(20.0, None);
        });
        assert_eq!(leaps.stands(), None, "trust is earned back");
    }

    #[test]
    fn drift_is_averaged_and_measured_by_what_is_usual_and_claimed() {
        let peers = |value: f64, sigma: f64| Some(Peers { value, sigma });
        let mut coarse = Told::usual(LIMITS, 20.0);
        (0..600).for_each(|i| {
            coarse.says(20.0 + 0.1 * f64::from(i / 10 % 2), None);
        });
        coarse.says(20.0, peers(20.0, 0.1));
        (0..50).for_each(|_| {
            coarse.says(20.0, peers(25.0, 0.1));
        });
        assert_eq!(coarse.stands(), None, "runs of ten are usual");
        let limits = |sigma, spread| Limits {
            sigma: Some(sigma),
            spread,
            min: None,
            max: None,
            drift_after_ms: 60_000,
            ..LIMITS
        };
        let (mut far, mut near) = (Told::usual(limits(3.0, 4.0), 20.0), Told::usual(limits(30.0, 0.0), 20.0));
        for i in 0..600 {
            let value = 20.0 + f64::from(i % 2) * 1e-6;
            far.says(value, peers(value - if i % 10 == 9 { 0.0 } else { 100.0 }, 12.0));
            near.says(value, peers(value - 60.0, 0.1));
        }
        assert_eq!((far.stands(), near.stands()), (Some(Fault::Drift), None));
    }

    /// Three times what is claimed, whether that is a fifth or twenty; and for long enough.
    #[test]
    fn noise_is_found_in_any_unit_and_not_by_a_few_readings() {
        let alternates = |claim: f64, scale: f64, readings: u32| {
            let limits = Limits { sigma: Some(claim), min: None, max: None, ..LIMITS };
            let mut told = Told::usual(limits, 20.0);
            let reach = scale * 3.0 * claim * SECOND_DIFFERENCE / 4.0;
            (0..readings).for_each(|i| {
                told.says(20.0 + if i % 2 == 0 { reach } else { -reach }, None);
            });
            told.stands()
        };
        for claim in [0.2, 20.0] {
            assert_eq!(alternates(claim, 0.95, 60), None, "{claim}");
            assert_eq!(alternates(claim, 1.1, 60), Some(Fault::Noise), "{claim}");
            assert_eq!(alternates(claim, 1.1, 10), None, "{claim}");
        }
    }

    #[test]
    fn a_sensor_that_has_served_for_long_is_found_stuck_as_soon_as_a_new_one() {
        for served in [0, 3_000] {
            let mut told = Told::usual(LIMITS, 20.0);
            (0..served).for_each(|i| assert_eq!(told.says(20.0 + f64::from(i % 2) * 1e-6, None), None));
            for peers in [20.0].into_iter().chain([25.0; 30]) {
                told.says(20.0, Some(Peers { value: peers, sigma: 0.1 }));
            }
            assert_eq!(told.stands(), Some(Fault::Stuck), "{served}");
        }
    }

    /// Readings that are a sixth of the time apart that makes a drift, and more.
    #[test]
    fn a_sensor_that_seldom_speaks_drifts_only_where_it_is_away() {
        for drift_after_ms in [6_000, 3_000] {
            let mut told = Told::usual(Limits { drift_after_ms, ..LIMITS }, 20.0);
            let mut play = |distances: [f64; 2], readings: usize| {
                for i in 0..readings {
                    let value = 20.0 + (i % 2) as f64 * 1e-6;
                    told.says(value, Some(Peers { value: value - distances[i % 2], sigma: 0.1 }));
                }
                told.stands()
            };
            assert_eq!(play([0.5, -0.4], 60), None, "{drift_after_ms}");
            assert_eq!(play([10.0, 10.0], 20), Some(Fault::Drift), "{drift_after_ms}");
            assert_eq!(play([0.5, -0.4], 60), None, "{drift_after_ms}");
        }
    }

    /// Five claimed uncertainties, which are 1, from the middle of the last five, which is 20, and from the last.
    #[test]
    fn a_leap_is_farther_from_both_the_middle_and_the_last() {
        for (last, leap, found) in [
            (19.9, 21.0, None),
            (19.9, 21.001, Some(Fault::Spike)),
            (20.5, 21.5, None),
            (20.5, 21.501, Some(Fault::Spike)),
        ] {
            let mut told = Told::usual(LIMITS, 20.0);
            assert_eq!(told.says(last, None), None);
            assert_eq!(told.says(leap, None), found, "{leap} after {last}");
        }
    }
}
