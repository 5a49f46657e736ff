//! Makes a failing run smaller: fewer faults, then a shorter run, as long as the same rule breaks.

use crate::sim::cluster::{Report, run};
use crate::sim::fault::Fault;
use crate::sim::scenario::Scenario;
use crate::sim::swarm::{Cut, Plan};
use crate::sim::trace::Trace;

/// Ways in which the length of a run is tried to be cut.
const SHORTER: [f64; 4] = [0.25, 0.5, 0.75, 0.9];
/// A run is not cut below this many virtual seconds: what breaks without any time under faults breaks at every length.
const SHORTEST_S: f64 = 0.1;

/// The smallest cut found under which the seed still breaks the same rule, and what that run came to; `None` if the
/// seed breaks none.
pub fn minimize(scenario: &Scenario, seed: u64, mut tried: impl FnMut(&Cut)) -> Option<(Cut, Report)> {
    let go = |cut: &Cut| run(&Plan::draw(scenario, seed, cut), Trace::default());
    let mut cut = Cut::default();
    let mut best = go(&cut);
    let broken = best.violation.clone()?.oracle;
    let mut attempt = |cut: Cut, best: &mut Report, kept: &mut Cut| {
        tried(&cut);
        let report = go(&cut);
        let same = report.violation.as_ref().is_some_and(|violation| violation.oracle == broken);
        if same {
            (*best, *kept) = (report, cut);
        }
        same
    };
    let plan = Plan::draw(scenario, seed, &Cut::default());
    for fault in Fault::ALL.iter().copied().filter(|fault| plan.rates[*fault] > 0.0) {
        let mut smaller = cut.clone();
        smaller.without.push(fault);
        attempt(smaller, &mut best, &mut cut);
    }
    loop {
        let length = cut.duration_s.unwrap_or(scenario.duration_s).min(best.virtual_us as f64 / 1e6);
        if length <= SHORTEST_S {
            return Some((cut, best));
        }
        let base = cut.clone();
        let shorter = SHORTER.map(|share| Cut { duration_s: Some(length * share), ..base.clone() });
        if !shorter.into_iter().any(|smaller| attempt(smaller, &mut best, &mut cut)) {
            return Some((cut, best));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sim::scenario::{Expect, Timing};

    /// Checkpoints come an hour apart, so that a whole quorum does not commit, whatever has gone wrong before.
    fn late() -> Scenario {
        let timing = Timing { checkpoint_ms: 3_600_000, ..Timing::default() };
        let faults = BTreeMap::from([(Fault::Crash, 0.2), (Fault::Reset, 0.5), (Fault::Pause, 0.2)]);
        Scenario { timing, faults, swarm: false, duration_s: 8.0, ..Scenario::default() }
    }

    #[test]
    fn what_does_not_matter_is_cut_and_the_same_rule_still_breaks() {
        let whole = run(&Plan::draw(&late(), 3, &Cut::default()), Trace::default());
        let broken = whole.violation.expect("it is late").oracle;
        let mut tried = 0;
        let (cut, report) = minimize(&late(), 3, |_| tried += 1).expect("it breaks");
        assert!(tried > 3, "{cut:?}");
        assert_eq!(report.violation.as_ref().map(|violation| violation.oracle), Some(broken));
        assert!(!cut.without.is_empty() && cut.duration_s.is_some_and(|s| s < 4.0), "{cut:?}");
        let again = run(&Plan::draw(&late(), 3, &cut), Trace::default());
        assert_eq!(again, report, "what is printed replays it");
    }

    #[test]
    fn a_run_cut_before_anything_is_counted_is_not_judged_by_what_was_counted() {
        let expect = Expect { warm_up_s: 60.0, copies_max: Some(0.0), ..Expect::default() };
        let plan =
            Plan::draw(&Scenario { expect, ..Scenario::default() }, 1, &Cut { duration_s: Some(2.0), without: vec![] });
        let report = run(&plan, Trace::default());
        assert_eq!((report.spread.counted_us, report.violation), (0, None));
    }

    #[test]
    fn a_seed_that_breaks_nothing_has_nothing_to_cut() {
        let calm = Scenario { duration_s: 3.0, ..Scenario::default() };
        assert_eq!(minimize(&calm, 1, |_| ()), None);
    }
}
