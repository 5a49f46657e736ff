//! The clocks of a simulated node: monotonic with an origin and a rate of its own, wall with offset and jumps.

use std::time::Duration;

use crate::core::time::{Mono, Now, Wall};

/// Wall time at the beginning of every run: 2025-01-01 00:00:00 UTC.
pub const EPOCH_MS: u64 = 1_735_689_600_000;

/// What a wall clock that is right shows at virtual time `at`, in microseconds.
pub fn truth(at: u64) -> Wall {
    Wall::from_millis(EPOCH_MS + at / 1000)
}

/// A node's clocks as functions of virtual time, in microseconds.
#[derive(Clone, Debug)]
pub struct NodeClock {
    /// Deviation from true rate, in parts per million; beyond -1,000,000 time would run back.
    drift_ppm: i64,
    /// Monotonic reading at virtual time `anchor`.
    origin: u64,
    anchor: u64,
    /// What the wall clock is off by, beside its drift.
    offset_ms: i64,
}

impl NodeClock {
    /// A clock of this rate, off by `offset_ms` from the beginning.
    pub fn new(drift_ppm: i64, offset_ms: i64) -> Self {
        Self { drift_ppm, origin: 0, anchor: 0, offset_ms }
    }

    /// A new process: the monotonic clock starts at another origin.
    pub fn reboot(&mut self, at: u64, origin: u64) {
        self.anchor = at;
        self.origin = origin;
    }

    /// Moves the wall clock.
    pub fn jump(&mut self, by_ms: i64) {
        self.offset_ms += by_ms;
    }

    /// Sets the wall clock right at virtual time `at`.
    pub fn correct(&mut self, at: u64) {
        self.offset_ms = -(self.stretch(at) as i64 - at as i64) / 1000;
    }

    /// Both readings at virtual time `at`.
    pub fn now(&self, at: u64) -> Now {
        let mono = Mono::from_micros(self.mono(at));
        let wall = (EPOCH_MS + self.stretch(at) / 1000).saturating_add_signed(self.offset_ms);
        Now { mono, wall: Wall::from_millis(wall) }
    }

    /// The first virtual time at which the monotonic clock shows `mono` or more.
    pub fn when(&self, mono: Mono) -> u64 {
        let Some(ahead) = mono.as_micros().checked_sub(self.origin) else { return self.anchor };
        if mono == Mono::NEVER {
            return u64::MAX;
        }
        let true_us = u128::from(ahead) * 1_000_000 / (1_000_000 + self.drift_ppm) as u128;
        let mut at = self.anchor.saturating_add(u64::try_from(true_us).unwrap_or(u64::MAX));
        while at < u64::MAX && self.mono(at) < mono.as_micros() {
            at += 1;
        }
        at
    }

    /// How far the wall clock is from the truth at virtual time `at`.
    pub fn error(&self, at: u64) -> Duration {
        Duration::from_millis(self.now(at).wall.millis_after(truth(at)).unsigned_abs())
    }

    fn mono(&self, at: u64) -> u64 {
        self.origin + self.stretch(at.saturating_sub(self.anchor))
    }

    /// What this clock makes of a true span.
    fn stretch(&self, span: u64) -> u64 {
        let drift = (span as i128 * self.drift_ppm as i128 / 1_000_000) as i64;
        span.saturating_add_signed(drift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_met_at_the_first_instant_that_shows_it() {
        for drift in [-200_000, -77, 0, 31, 90_000] {
            let mut clock = NodeClock::new(drift, 0);
            clock.reboot(5_000, 1_234_567);
            for ahead in [0, 1, 999, 1_000_003] {
                let mono = Mono::from_micros(1_234_567 + ahead);
                let at = clock.when(mono);
                assert!(clock.now(at).mono >= mono);
                assert!(at == 5_000 || clock.now(at - 1).mono < mono, "drift {drift} ahead {ahead}");
            }
            assert_eq!(clock.when(Mono::NEVER), u64::MAX);
        }
    }

    #[test]
    fn a_wall_clock_jumps_and_is_corrected_without_the_monotonic_one() {
        let mut clock = NodeClock::new(50_000, 200);
        let before = clock.now(10_000_000);
        clock.jump(-3_000);
        assert_eq!(clock.now(10_000_000).wall.millis_after(before.wall), -3_000);
        assert_eq!(clock.now(10_000_000).mono, before.mono);
        clock.correct(10_000_000);
        assert!(clock.error(10_000_000) <= Duration::from_millis(1));
    }
}
