//! One estimate over time: a Kalman filter of a value that wanders, with a gate for what does not fit.
//!
//! For screens and controllers. No document carries it: it depends on what came before.

use crate::core::time::Wall;

/// A wandering value, followed: the local-level model, `x' = x + noise` of variance `walk^2 * seconds`.
///
/// Source: Kalman, A new approach to linear filtering and prediction problems, J. Basic Eng. 82 (1960); the gate after
/// Bar-Shalom, Li and Kirubarajan, Estimation with Applications to Tracking and Navigation, 2001, section 5.4.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Smoother {
    walk: f64,
    state: Option<State>,
    gated: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct State {
    value: f64,
    variance: f64,
    at: Wall,
}

/// An innovation beyond this many of its own standard deviations is not taken.
const GATE: f64 = 4.0;
/// After so many in a row it is the filter that is wrong: it begins anew.
const GATED_MAX: u32 = 3;

impl Smoother {
    /// Of a value that wanders by `walk` (its unit) in a second, as a standard deviation.
    pub fn new(walk: f64) -> Self {
        Self { walk, state: None, gated: 0 }
    }

    /// Takes an estimate with its standard uncertainty; the smoothed value with its own, and whether it was taken.
    pub fn update(&mut self, at: Wall, value: f64, sigma: f64) -> (f64, f64, bool) {
        let fresh = State { value, variance: sigma * sigma, at };
        let Some(before) = self.state else {
            self.state = Some(fresh);
            return (value, sigma, true);
        };
        let seconds = at.millis_after(before.at).max(0) as f64 / 1000.0;
        let predicted = before.variance + self.walk * self.walk * seconds;
        let innovation = value - before.value;
        let variance = predicted + sigma * sigma;
        let taken = innovation * innovation <= GATE * GATE * variance;
        self.gated = if taken { 0 } else { self.gated + 1 };
        let next = match (taken, self.gated >= GATED_MAX) {
            (true, _) => {
                let gain = if variance > 0.0 { predicted / variance } else { 1.0 };
                State { value: before.value + gain * innovation, variance: (1.0 - gain) * predicted, at }
            }
            (false, true) => {
                self.gated = 0;
                fresh
            }
            (false, false) => State { value: before.value, variance: predicted, at },
        };
        self.state = Some(next);
        (next.value, next.variance.sqrt(), taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Wall {
        Wall::from_millis(1_700_000_000_000 + second * 1000)
    }

    /// A value that stands still, measured n times with sigma 1: the mean, known to 1 over the root of n.
    #[test]
    fn a_value_that_stands_still_is_averaged() {
        let mut smoother = Smoother::new(0.0);
        let mut last = (0.0, 0.0, false);
        for i in 0..16 {
            last = smoother.update(at(i), if i % 2 == 0 { 1.0 } else { -1.0 }, 1.0);
        }
        assert!(last.0.abs() < 1e-12 && (last.1 - 0.25).abs() < 1e-12, "{last:?}");
    }

    #[test]
    fn one_leap_is_not_followed_and_a_lasting_one_is() {
        let mut smoother = Smoother::new(0.01);
        (0..50).for_each(|i| {
            smoother.update(at(i), 20.0, 0.1);
        });
        let leap = smoother.update(at(50), 30.0, 0.1);
        assert!(!leap.2 && (leap.0 - 20.0).abs() < 1e-9, "{leap:?}");
        smoother.update(at(51), 30.0, 0.1);
        let lasting = smoother.update(at(52), 30.0, 0.1);
        assert_eq!(lasting.0, 30.0);
    }
}
