//! Robust location and scale of values that carry their own standard uncertainty.
//!
//! All functions take [`Datum`]s: a value, its standard uncertainty in the same unit, and how many sensors it stands
//! for. They are summed in the order given, so a caller that sorts first gets the same bits whoever calls.

use serde::{Deserialize, Serialize};

/// One value with its standard uncertainty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Datum {
    /// The value.
    pub value: f64,
    /// Its standard uncertainty, positive, in the value's unit.
    pub sigma: f64,
    /// How many sensors it stands for, 1 or more.
    pub count: u64,
}

/// What [`location`] found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Location {
    /// The middle.
    pub value: f64,
    /// Its standard uncertainty, inflated where the sensors disagree more than they claim.
    pub sigma: f64,
    /// By how much they do: 1 if they do not.
    pub inflation: f64,
    /// Data further than this many of their own inflated uncertainties from `value` were left out.
    pub gate: f64,
}

/// Standard deviation of a normal distribution over its median absolute deviation.
const MAD_TO_SIGMA: f64 = 1.482_602_218_505_602;
/// Huber's constant: 95% efficiency where nothing is wrong.
const HUBER_C: f64 = 1.345;
/// Beyond this many inflated uncertainties a value is not part of the estimate.
pub const GATE: f64 = 3.0;
const STEPS_MAX: usize = 64;

/// The lower weighted median: half of the sensors or more are at or below it, and half or more at or above.
///
/// `values` are (value, count), in any order; `None` without any. Of an even number the mean of the middle two.
pub fn median(values: &mut [(f64, u64)]) -> Option<f64> {
    values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let n: u64 = values.iter().map(|(_, count)| count).sum();
    let at = |place: u64| {
        let mut before = 0;
        values.iter().find_map(|(value, count)| {
            before += count;
            (before > place).then_some(*value)
        })
    };
    let (low, high) = (at(n.checked_sub(1)? / 2)?, at(n / 2)?);
    Some(low + (high - low) / 2.0)
}

/// The scale that makes the median absolute deviation from `center` what a normal distribution's would be.
///
/// Source: Hampel, The influence curve and its role in robust estimation, JASA 69 (1974).
pub fn mad(values: &[(f64, u64)], center: f64) -> Option<f64> {
    let mut deviations: Vec<(f64, u64)> =
        values.iter().map(|(value, count)| ((value - center).abs(), *count)).collect();
    median(&mut deviations).map(|mad| MAD_TO_SIGMA * mad)
}

/// How many times more the data scatter about `center` than they claim, by the median absolute deviation of
/// `(value - center) / sigma`; never below 1.
fn robust_inflation(data: &[Datum], center: f64) -> f64 {
    let residuals: Vec<(f64, u64)> = data.iter().map(|d| ((d.value - center) / d.sigma, d.count)).collect();
    mad(&residuals, 0.0).unwrap_or(1.0).max(1.0)
}

/// The Birge ratio of data about `center`: the square root of chi-squared over degrees of freedom, never below 1.
///
/// Source: Birge, The calculation of errors by the method of least squares, Phys. Rev. 40 (1932).
pub fn birge_ratio(data: &[Datum], center: f64) -> f64 {
    let n: u64 = data.iter().map(|d| d.count).sum();
    if n < 2 {
        return 1.0;
    }
    let chi2: f64 =
        data.iter().map(|d| d.count as f64 * ((d.value - center) / d.sigma) * ((d.value - center) / d.sigma)).sum();
    (chi2 / (n - 1) as f64).sqrt().max(1.0)
}

/// Huber's location of data about a start, weighted by their uncertainties: the root of
/// `sum(count / sigma * psi((value - m) / (scale * sigma)))`, by reweighting; and the sum of the last weights.
///
/// Source: Huber, Robust estimation of a location parameter, Ann. Math. Stat. 35 (1964).
pub fn huber(data: &[Datum], start: f64, scale: f64) -> (f64, f64) {
    let mut center = start;
    let mut total = 0.0;
    for _ in 0..STEPS_MAX {
        let (mut weights, mut pull) = (0.0, 0.0);
        for d in data {
            let weight = d.count as f64 / (d.sigma * d.sigma) * huber_weight((d.value - center) / (scale * d.sigma));
            weights += weight;
            pull += weight * (d.value - center);
        }
        total = weights;
        let step = pull / weights;
        center += step;
        // Far below the uncertainty of the result: nothing is left to gain.
        if step * step * weights <= 1e-18 {
            break;
        }
    }
    (center, total)
}

fn huber_weight(residual: f64) -> f64 {
    if residual.abs() <= HUBER_C { 1.0 } else { HUBER_C / residual.abs() }
}

/// The middle of data of which fewer than half are wrong, and which of them take part: a flag for each.
///
/// Begins at the median, inflates by the median absolute deviation, leaves out what lies beyond [`GATE`] inflated
/// uncertainties, and begins again until nothing more is left out; then Huber's location of the rest, whose standard
/// uncertainty is inflated by the rest's Birge ratio. `None` without data.
pub fn location(data: &[Datum], budget: u64) -> Option<(Location, Vec<bool>)> {
    let mut part = vec![true; data.len()];
    let mut rest = data.to_vec();
    let mut center;
    let mut scale;
    loop {
        let mut values: Vec<(f64, u64)> = rest.iter().map(|d| (d.value, d.count)).collect();
        center = median(&mut values)?;
        scale = robust_inflation(&rest, center);
        let before = rest.len();
        for (d, part) in data.iter().zip(&mut part) {
            *part &= (d.value - center).abs() <= GATE * scale * d.sigma;
        }
        rest = data.iter().zip(&part).filter(|(_, part)| **part).map(|(d, _)| *d).collect();
        // A few that all lie beyond the gate of their own median: it is as good a middle as any.
        if rest.is_empty() {
            return None;
        }
        if rest.len() == before {
            break;
        }
    }
    let (value, weights) = huber(&rest, center, scale);
    let inflation = birge_ratio(&rest, value);
    let (n, used) = (number(data), number(&rest));
    let bias = hidden_bias(used, budget.saturating_sub(n - used), inflation) * used as f64 / weights;
    let sigma = (inflation * inflation / weights + bias).sqrt();
    Some((Location { value, sigma, inflation, gate: GATE * scale }, part))
}

/// How many sensors they are.
fn number(data: &[Datum]) -> u64 {
    data.iter().map(|d| d.count).sum()
}

/// The squared bias that `hidden` faulty ones among `used` sensors may cause, in mean variances of a sensor.
///
/// A share e of the sensors that is off by d raises chi-squared over degrees of freedom from 1 to about
/// `1 + e (1 - e) d^2`, and moves the mean by `e d`: so by `e / (1 - e)` times the excess, squared. Where the sensors
/// agree as well as they claim there is no excess, and nothing is added.
fn hidden_bias(used: u64, hidden: u64, inflation: f64) -> f64 {
    let share = (hidden as f64 / used.max(1) as f64).min(0.5);
    (inflation * inflation - 1.0) * share / (1.0 - share)
}

/// Count, weight, mean and sum of squares of weighted values: mergeable.
///
/// Weights are inverse variances, so `1 / weight` is the variance of the weighted mean and `m2` is chi-squared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    /// How many values.
    pub n: u64,
    /// Sum of `1 / sigma^2`.
    pub weight: f64,
    /// Mean weighted by `1 / sigma^2`.
    pub mean: f64,
    /// Sum of `((value - mean) / sigma)^2`.
    pub m2: f64,
}

impl Moments {
    /// Of one datum.
    pub fn of(d: &Datum) -> Self {
        let weight = d.count as f64 / (d.sigma * d.sigma);
        Self { n: d.count, weight, mean: d.value, m2: 0.0 }
    }

    /// Of both sets of values. Commutative to the bit; associative but for rounding.
    ///
    /// Source: Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample variances,
    /// 1979, with weights for counts.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        if self.n == 0 || other.n == 0 {
            return if self.n == 0 { *other } else { *self };
        }
        let weight = self.weight + other.weight;
        let delta = other.mean - self.mean;
        Self {
            n: self.n + other.n,
            weight,
            mean: (self.weight * self.mean + other.weight * other.mean) / weight,
            m2: (self.m2 + other.m2) + delta * delta * (self.weight * other.weight / weight),
        }
    }

    /// The square root of chi-squared over degrees of freedom: how much more the values disagree than they claim.
    pub fn birge_ratio(&self) -> Option<f64> {
        (self.n >= 2).then(|| (self.m2 / (self.n - 1) as f64).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn data(values: &[f64], sigma: f64) -> Vec<Datum> {
        values.iter().map(|value| Datum { value: *value, sigma, count: 1 }).collect()
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        assert_eq!(median(&mut [(3.0, 1), (1.0, 1), (2.0, 1), (10.0, 1)]), Some(2.5));
        assert_eq!(median(&mut [(3.0, 1), (1.0, 5)]), Some(1.0));
        assert_eq!(median(&mut []), None);
        assert!((mad(&[(1.0, 1), (2.0, 1), (3.0, 1)], 2.0).unwrap() - MAD_TO_SIGMA).abs() < 1e-15);
    }

    /// Five equal sensors that agree: the mean, and sigma over the root of five.
    #[test]
    fn where_nothing_is_wrong_it_is_the_weighted_mean() {
        let (found, part) = location(&data(&[20.0, 20.1, 19.9, 20.05, 19.95], 0.1), 1).unwrap();
        assert!((found.value - 20.0).abs() < 1e-9, "{found:?}");
        assert!((found.sigma - 0.1 / 5f64.sqrt()).abs() < 1e-9, "{found:?}");
        assert_eq!((found.inflation, part), (1.0, vec![true; 5]));
    }

    #[test]
    fn a_third_far_away_does_not_move_it() {
        let values = [20.0, 20.1, 19.9, 20.05, 19.95, 20.02, 35.0, 35.1, 34.9];
        let (found, part) = location(&data(&values, 0.1), 2).unwrap();
        assert!((found.value - 20.0).abs() < 0.05, "{found:?}");
        assert_eq!(part.iter().filter(|part| !**part).count(), 3);
        assert!(found.sigma < 2.0 * 0.1 / 6f64.sqrt(), "{found:?}");
    }

    #[test]
    fn sensors_that_disagree_more_than_they_claim_inflate_the_uncertainty() {
        let (found, _) = location(&data(&[19.0, 21.0, 20.5, 19.5, 20.0], 0.1), 0).unwrap();
        assert!(found.inflation > 5.0 && found.sigma > 0.25, "{found:?}");
    }

    #[test]
    fn a_sensor_that_claims_more_counts_more() {
        let mut both = data(&[20.0, 21.0], 0.1);
        both[1].sigma = 1.0;
        let (found, _) = location(&both, 0).unwrap();
        assert!(found.value < 20.1, "{found:?}");
    }

    /// Five values about 20 that scatter by more than they claim, and none beyond the gate: the weighted mean, and the
    /// claim times the Birge ratio; with two faulty ones that may be hidden, what those may have moved it as well.
    #[test]
    fn the_uncertainty_is_the_claim_inflated_and_what_may_hide() {
        let values = data(&[19.5, 20.5, 20.4, 19.6, 20.0], 0.1);
        let birge = (82f64 / 4.0).sqrt();
        assert!((birge_ratio(&values, 20.0) - birge).abs() < 1e-9);
        let sure = location(&values, 0).unwrap().0;
        assert!((sure.value - 20.0).abs() < 1e-9 && (sure.inflation - birge).abs() < 1e-9, "{sure:?}");
        assert!((sure.sigma - birge / 500f64.sqrt()).abs() < 1e-9, "{sure:?}");
        let (excess, odds) = (82.0 / 4.0 - 1.0, 0.4 / 0.6);
        let wary = location(&values, 2).unwrap().0;
        assert!((wary.sigma - (sure.sigma * sure.sigma + excess * odds * 5.0 / 500.0).sqrt()).abs() < 1e-9, "{wary:?}");
        assert_eq!(hidden_bias(4, 4, 2.0), 3.0, "no more than half are taken to be hidden");
        assert_eq!((birge_ratio(&values[..1], 3.0), birge_ratio(&data(&[1.0, 1.1], 9.0), 1.0)), (1.0, 1.0));
    }

    /// The root of `4 psi(-m) + psi(10 - m)`, where the far one pulls with no more than its bend.
    #[test]
    fn hubers_location_is_pulled_by_no_more_than_the_bend() {
        let values = data(&[0.0, 0.0, 0.0, 0.0, 10.0], 1.0);
        let (center, weights) = huber(&values, 0.0, 1.0);
        assert!((center - HUBER_C / 4.0).abs() < 1e-6, "{center}");
        assert!((weights - (4.0 + HUBER_C / (10.0 - center))).abs() < 1e-6, "{weights}");
        let (wide, _) = huber(&values, 0.0, 10.0);
        assert!((wide - 2.0).abs() < 1e-6, "{wide}: nobody is far by ten times the scale");
    }

    #[test]
    fn moments_are_those_of_all_values_at_once() {
        let all = [(1.0, 0.5, 1), (2.0, 0.5, 3), (4.0, 2.0, 1), (-3.0, 1.0, 2)];
        let all = all.map(|(value, sigma, count)| Datum { value, sigma, count });
        let merged = all.iter().fold(Moments::default(), |sum, d| sum.merge(&Moments::of(d)));
        let weight = 4.0 + 12.0 + 0.25 + 2.0;
        let mean = (4.0 + 24.0 + 1.0 - 6.0) / weight;
        let squares = |value: f64| (value - mean) * (value - mean);
        let m2 = 4.0 * squares(1.0) + 12.0 * squares(2.0) + 0.25 * squares(4.0) + 2.0 * squares(-3.0);
        assert!(near(merged, Moments { n: 7, weight, mean, m2 }), "{merged:?}");
        assert!((merged.birge_ratio().unwrap() - birge_ratio(&all, mean)).abs() < 1e-9);
        assert_eq!((Moments::of(&all[0]).birge_ratio(), Moments::default().birge_ratio()), (None, None));
    }

    fn any_moments() -> impl Strategy<Value = Moments> {
        prop::collection::vec((-1e3..1e3f64, 0.01..10.0f64, 1u64..5), 0..20).prop_map(|values| {
            let data = values.into_iter().map(|(value, sigma, count)| Datum { value, sigma, count });
            data.fold(Moments::default(), |all, d| all.merge(&Moments::of(&d)))
        })
    }

    fn near(a: Moments, b: Moments) -> bool {
        let close = |a: f64, b: f64, scale: f64| (a - b).abs() <= 1e-9 * (1.0 + scale);
        a.n == b.n
            && close(a.weight, b.weight, a.weight)
            && close(a.mean, b.mean, 1e3)
            && close(a.m2, b.m2, 1e6 * a.weight)
    }

    proptest! {
        #[test]
        fn moments_merge_in_any_order(a in any_moments(), b in any_moments(), c in any_moments()) {
            prop_assert_eq!(a.merge(&b), b.merge(&a));
            prop_assert!(near(a.merge(&b).merge(&c), a.merge(&b.merge(&c))));
        }

        /// Shifting all data shifts the location; bad data of any size move it by a bounded distance.
        #[test]
        fn a_minority_cannot_carry_it_away(
            good in prop::collection::vec(-1.0..1.0f64, 3..30),
            bad in -1e6..1e6f64,
        ) {
            let few = (good.len() - 1) / 2;
            let mut all = data(&good, 1.0);
            all.extend(data(&vec![bad; few], 1.0));
            let (found, _) = location(&all, few as u64).unwrap();
            prop_assert!(found.value.abs() <= 4.0, "{found:?}");
        }
    }

    #[test]
    fn location_and_inflation_are_the_same_in_any_unit_and_direction() {
        assert_eq!(birge_ratio(&data(&[1.0, 3.0], 1.0), 1.0), 2.0);
        for (sign, sigma) in [(1.0, 1.0), (-1.0, 1.0), (1.0, 0.1), (1.0, 100.0), (1.0, 1e-6), (1.0, 1e10)] {
            let (center, _) = huber(&data(&[0.0, 0.0, 0.0, 0.0, 10.0 * sign * sigma], sigma), 0.0, 1.0);
            assert!((center / (sign * sigma) - HUBER_C / 4.0).abs() < 1e-6, "{sign} {sigma}: {center}");
        }
        let used = |values: &[f64]| location(&data(values, 0.1), 0).unwrap().1.iter().filter(|part| **part).count();
        assert_eq!(used(&[20.0, 20.0, 20.0, 20.0, 20.35]), 4);
        assert_eq!(used(&[19.0, 19.5, 20.0, 20.5, 21.0, 21.9]), 6);
    }
}
