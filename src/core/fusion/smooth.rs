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

    /// Sigma 10 twice, four seconds apart, of a value that wanders by 0.5 in one: what was known has a variance of 101
    /// by then, and what is measured of 100.
    #[test]
    fn what_was_known_and_what_is_measured_are_weighed_by_their_variances() {
        let mut smoother = Smoother::new(0.5);
        assert_eq!(smoother.update(at(0), 20.0, 10.0), (20.0, 10.0, true));
        let variance = 101.0 * 100.0 / 201.0;
        let (value, sigma, taken) = smoother.update(at(4), 30.0, 10.0);
        assert!(taken && (value - (20.0 + 10.0 * 101.0 / 201.0)).abs() < 1e-9, "{value}");
        assert!((sigma - f64::sqrt(variance)).abs() < 1e-9, "{sigma}");
        let (_, sigma, taken) = smoother.update(at(4), 30.0, 10.0);
        let variance = variance * 100.0 / (variance + 100.0);
        assert!(taken && (sigma - f64::sqrt(variance)).abs() < 1e-9, "{sigma}: no time has passed");
        let mut sure = Smoother::new(0.0);
        assert_eq!([0, 1].map(|second| sure.update(at(second), 20.0, 0.0)), [(20.0, 0.0, true); 2]);
    }

    /// Four roots of the sum of both variances: of two equal ones 5.657 of their uncertainties.
    #[test]
    fn the_gate_is_as_wide_in_any_unit_and_either_way() {
        for sigma in [0.1, 1.0, 10.0] {
            for (leap, taken) in [(0.0, true), (5.6, true), (-5.6, true), (5.7, false), (-5.7, false)] {
                let mut smoother = Smoother::new(0.0);
                smoother.update(at(0), 20.0, sigma);
                let found = smoother.update(at(1), 20.0 + leap * sigma, sigma);
                let middle = if taken { 20.0 + leap * sigma / 2.0 } else { 20.0 };
                assert!(found.2 == taken && (found.0 - middle).abs() < 1e-9, "{leap} {sigma}: {found:?}");
            }
        }
    }

    #[test]
    fn what_is_refused_leaves_it_less_sure_and_only_three_in_a_row_begin_it_anew() {
        let mut smoother = Smoother::new(0.1);
        smoother.update(at(0), 20.0, 1.0);
        let refused = smoother.update(at(100), -80.0, 1.0);
        assert!(!refused.2 && refused.0 == 20.0 && (refused.1 - 2f64.sqrt()).abs() < 1e-9, "{refused:?}");
        let said = [-80.0, 20.0, -80.0, -80.0].map(|value| smoother.update(at(100), value, 1.0));
        assert_eq!(
            said.map(|(value, _, taken)| (value, taken)),
            [false, true, false, false].map(|taken| (20.0, taken))
        );
        assert_eq!(smoother.update(at(100), -80.0, 1.0), (-80.0, 1.0, false));
        let next = smoother.update(at(100), -80.0, 1.0);
        assert!(next.2 && next.0 == -80.0 && (next.1 - 0.5f64.sqrt()).abs() < 1e-9, "{next:?}");
    }
}
