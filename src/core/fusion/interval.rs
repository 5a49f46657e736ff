//! Intervals of which at most `f` are wrong, and what they say together.
//!
//! A sensor's interval is right if it holds the truth. All functions take intervals that stand for `count` sensors
//! each (1, or more where a sketch has put equal ones together); `n` is the sum of counts.
//!
//! Invariant: with `3 f < n` and at most `f` wrong ones, [`fault_tolerant`] holds the truth and is no wider than the
//! widest right one.

use serde::{Deserialize, Serialize};

/// A closed interval, `lo <= hi`, both finite. Written `[lo, hi]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "(f64, f64)", into = "(f64, f64)")]
pub struct Interval {
    /// Its lower end.
    pub lo: f64,
    /// Its upper end.
    pub hi: f64,
}

impl Interval {
    /// From any two ends.
    pub fn new(a: f64, b: f64) -> Self {
        if a <= b { Self { lo: a, hi: b } } else { Self { lo: b, hi: a } }
    }

    /// `center` give or take `half`.
    pub fn around(center: f64, half: f64) -> Self {
        Self::new(center - half, center + half)
    }

    /// Upper end less lower end.
    pub fn width(self) -> f64 {
        self.hi - self.lo
    }

    /// Whether it holds `value`, ends included.
    pub fn holds(self, value: f64) -> bool {
        self.lo <= value && value <= self.hi
    }
}

impl From<(f64, f64)> for Interval {
    fn from((a, b): (f64, f64)) -> Self {
        Self::new(a, b)
    }
}

impl From<Interval> for (f64, f64) {
    fn from(interval: Interval) -> Self {
        (interval.lo, interval.hi)
    }
}

/// Which rule makes the fault-tolerant interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// [`fault_tolerant`]: small changes of the input move it little.
    #[default]
    SchmidSchossmaier,
    /// [`marzullo`]: the smallest that is sure, but it jumps.
    Marzullo,
    /// [`brooks_iyengar`]: Marzullo's interval, with a point inside it.
    BrooksIyengar,
}

impl Method {
    /// True for the default, which the wire leaves out.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Applies the rule.
    pub fn apply(self, intervals: &[(Interval, u64)], f: u64) -> Option<Interval> {
        match self {
            Self::SchmidSchossmaier => fault_tolerant(intervals, f),
            Self::Marzullo => marzullo(intervals, f),
            Self::BrooksIyengar => brooks_iyengar(intervals, f).map(|(_, interval)| interval),
        }
    }
}

/// The most faults that `n` sensors tolerate: the largest `f` with `3 f < n`.
pub fn faults_tolerated(n: u64) -> u64 {
    n.saturating_sub(1) / 3
}

/// The fault-tolerant interval function: from the (f+1)-th largest lower to the (f+1)-th smallest upper end.
///
/// Holds the truth while at most `f` of `n` are wrong; with `3 f < n` no wider than the widest right interval; and an
/// input that moves by d moves the result by at most d (a Lipschitz condition that [`marzullo`] lacks). `None` if
/// `f >= n` or the ends cross: then more than `f` are wrong.
///
/// Source: F. of Schmid and Schossmaier, How to reconcile fault-tolerant interval intersection with the Lipschitz
/// condition, Distributed Computing 14 (2001).
pub fn fault_tolerant(intervals: &[(Interval, u64)], f: u64) -> Option<Interval> {
    let mut lowers: Vec<(f64, u64)> = intervals.iter().map(|(i, count)| (i.lo, *count)).collect();
    let mut uppers: Vec<(f64, u64)> = intervals.iter().map(|(i, count)| (i.hi, *count)).collect();
    lowers.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    uppers.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    between(&lowers, &uppers, f)
}

/// As [`fault_tolerant`], from the largest lower ends, descending, and the smallest upper ends, ascending; `None` also
/// if these are fewer than `f + 1`.
pub fn between(lowers: &[(f64, u64)], uppers: &[(f64, u64)], f: u64) -> Option<Interval> {
    let (lo, hi) = (place(lowers, f)?, place(uppers, f)?);
    (lo <= hi).then_some(Interval { lo, hi })
}

/// The element at place `at` of a list in which each stands for `count`.
fn place(sorted: &[(f64, u64)], at: u64) -> Option<f64> {
    let mut before = 0;
    sorted.iter().find_map(|(value, count)| {
        before += count;
        (before > at).then_some(*value)
    })
}

/// The smallest interval that holds every point covered by at least `n - f` intervals; `None` if no point is.
///
/// Holds the truth while at most `f` are wrong. Source: Marzullo, Tolerating failures of continuous-valued sensors,
/// ACM TOCS 8 (1990).
pub fn marzullo(intervals: &[(Interval, u64)], f: u64) -> Option<Interval> {
    let pieces = covered(intervals, f);
    Some(Interval { lo: pieces.first()?.0.lo, hi: pieces.last()?.0.hi })
}

/// Marzullo's interval and, within it, the mean of the covered pieces' middles weighted by how many cover each.
///
/// Source: Brooks and Iyengar, Robust distributed computing and sensing algorithm, IEEE Computer 29 (1996).
pub fn brooks_iyengar(intervals: &[(Interval, u64)], f: u64) -> Option<(f64, Interval)> {
    let pieces = covered(intervals, f);
    let (mut weight, mut sum) = (0.0, 0.0);
    for (piece, count) in &pieces {
        weight += *count as f64;
        sum += *count as f64 * (piece.lo + (piece.hi - piece.lo) / 2.0);
    }
    let interval = Interval { lo: pieces.first()?.0.lo, hi: pieces.last()?.0.hi };
    Some((sum / weight, interval))
}

/// Whether some point lies in at least `n - f` intervals: if not, more than `f` are wrong.
pub fn is_consistent(intervals: &[(Interval, u64)], f: u64) -> bool {
    !covered(intervals, f).is_empty()
}

/// The pieces of the line covered by at least `n - f` intervals, in order, each with how many cover it.
fn covered(intervals: &[(Interval, u64)], f: u64) -> Vec<(Interval, u64)> {
    let n: u64 = intervals.iter().map(|(_, count)| count).sum();
    let Some(needed) = n.checked_sub(f).filter(|needed| *needed > 0) else { return Vec::new() };
    let mut starts: Vec<(f64, u64)> = intervals.iter().map(|(i, count)| (i.lo, *count)).collect();
    let mut ends: Vec<(f64, u64)> = intervals.iter().map(|(i, count)| (i.hi, *count)).collect();
    starts.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    ends.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut pieces = Vec::new();
    let (mut s, mut e, mut cover, mut from) = (0, 0, 0, f64::NEG_INFINITY);
    while e < ends.len() {
        // Ends belong to their intervals: at one point, what starts comes before what ends.
        let starting = s < starts.len() && starts[s].0 <= ends[e].0;
        let at = if starting { starts[s].0 } else { ends[e].0 };
        if cover >= needed {
            pieces.push((Interval { lo: from, hi: at }, cover));
        }
        if starting {
            cover += starts[s].1;
            s += 1;
        } else {
            cover -= ends[e].1;
            e += 1;
        }
        from = at;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(ends: &[(f64, f64)]) -> Vec<(Interval, u64)> {
        ends.iter().map(|(lo, hi)| (Interval::new(*lo, *hi), 1)).collect()
    }

    /// The example of the two papers' comparisons: four clocks, one of them wrong.
    #[test]
    fn three_that_agree_outvote_the_fourth() {
        let intervals = of(&[(8.0, 12.0), (11.0, 13.0), (10.0, 12.0), (20.0, 21.0)]);
        assert_eq!(marzullo(&intervals, 1), Some(Interval::new(11.0, 12.0)));
        assert_eq!(fault_tolerant(&intervals, 1), Some(Interval::new(11.0, 12.0)));
        assert_eq!(brooks_iyengar(&intervals, 1), Some((11.5, Interval::new(11.0, 12.0))));
        assert!(is_consistent(&intervals, 1) && !is_consistent(&intervals, 0));
        assert_eq!(marzullo(&intervals, 0), None);
    }

    /// Two points that touch are agreement; nothing at all is none.
    #[test]
    fn ends_belong_to_their_intervals() {
        assert_eq!(marzullo(&of(&[(0.0, 1.0), (1.0, 2.0)]), 0), Some(Interval::new(1.0, 1.0)));
        assert_eq!(marzullo(&[], 0), None);
        assert_eq!(fault_tolerant(&[], 0), None);
        assert_eq!(fault_tolerant(&of(&[(0.0, 1.0)]), 1), None);
        assert_eq!((faults_tolerated(0), faults_tolerated(3), faults_tolerated(4), faults_tolerated(10)), (0, 0, 1, 3));
    }

    /// Where Marzullo's interval jumps by more than any input moved, that of Schmid and Schossmaier does not.
    #[test]
    fn a_small_move_of_one_input_moves_the_result_little() {
        let touching = of(&[(0.0, 4.0), (4.0, 8.0), (4.0, 8.0), (6.0, 9.0)]);
        let apart = of(&[(0.0, 3.999), (4.0, 8.0), (4.0, 8.0), (6.0, 9.0)]);
        assert!(marzullo(&apart, 1).unwrap().lo - marzullo(&touching, 1).unwrap().lo > 1.9);
        let (a, b) = (fault_tolerant(&touching, 1).unwrap(), fault_tolerant(&apart, 1).unwrap());
        assert!((a.lo - b.lo).abs() <= 0.001 && (a.hi - b.hi).abs() <= 0.001, "{a:?} {b:?}");
    }

    type Ends = Vec<(f64, f64)>;

    fn healthy_and_faulty() -> impl Strategy<Value = (Ends, Ends)> {
        let healthy = prop::collection::vec((0.0..5.0f64, 0.0..5.0f64), 3..20);
        healthy.prop_flat_map(|healthy| {
            let f = (healthy.len() - 1) / 2;
            (Just(healthy), prop::collection::vec((-50.0..50.0f64, -50.0..50.0f64), 0..=f))
        })
    }

    proptest! {
        /// The truth is 0; healthy intervals hold it, faulty ones are anything, and fewer than a third of all.
        #[test]
        fn all_three_hold_the_truth_and_are_no_wider_than_the_widest_right_one((right, wrong) in healthy_and_faulty()) {
            let mut intervals = of(&right.iter().map(|(a, b)| (-a, *b)).collect::<Vec<_>>());
            let widest = intervals.iter().map(|(i, _)| i.width()).fold(0.0, f64::max);
            intervals.extend(of(&wrong));
            let f = faults_tolerated(intervals.len() as u64);
            prop_assume!(wrong.len() as u64 <= f);
            for method in [Method::SchmidSchossmaier, Method::Marzullo, Method::BrooksIyengar] {
                let found = method.apply(&intervals, f).unwrap();
                prop_assert!(found.holds(0.0), "{method:?} {found:?}");
                prop_assert!(found.width() <= widest, "{method:?} {found:?}");
            }
            let smallest = marzullo(&intervals, f).unwrap();
            let safe = fault_tolerant(&intervals, f).unwrap();
            prop_assert!(safe.lo <= smallest.lo && smallest.hi <= safe.hi);
        }

        /// An interval that stands for three is the same as three.
        #[test]
        fn counts_stand_for_repetition(ends in prop::collection::vec((-5.0..5.0f64, -5.0..5.0f64), 1..10), f in 0u64..8) {
            let counted: Vec<_> = ends.iter().map(|(a, b)| (Interval::new(*a, *b), 3)).collect();
            let repeated: Vec<_> = counted.iter().flat_map(|(i, _)| [(*i, 1); 3]).collect();
            for method in [Method::SchmidSchossmaier, Method::Marzullo] {
                prop_assert_eq!(method.apply(&counted, f), method.apply(&repeated, f));
            }
        }
    }

    #[test]
    fn an_interval_holds_what_lies_between_its_ends_and_nothing_else() {
        let interval = Interval::new(3.0, 1.0);
        let held = [0.9, 1.0, 2.0, 3.0, 3.1].map(|value| interval.holds(value));
        assert_eq!(held, [false, true, true, true, false]);
        assert_eq!((interval, interval.width()), (Interval::around(2.0, 1.0), 2.0));
        assert_eq!(serde_json::to_string(&interval).unwrap(), "[1.0,3.0]");
        assert_eq!(serde_json::from_str::<Interval>("[3.0,1.0]").unwrap(), interval);
    }
}
