//! Makes a failing run smaller: fewer faults, then a shorter run, as long as the same rule breaks.

use crate::sim::cluster::{Report, run};
use crate::sim::fault::Fault;
use crate::sim::scenario::Scenario;
use crate::sim::swarm::{Cut, Plan};
use crate::sim::trace::Trace;

/// Ways in which the length of a run is tried to be cut.
const SHORTER: [f64; 4] = [0.25, 0.5, 0.75, 0.9];

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
        let base = cut.clone();
        let shorter = SHORTER.map(|share| Cut { duration_s: Some(length * share), ..base.clone() });
        if !shorter.into_iter().any(|smaller| attempt(smaller, &mut best, &mut cut)) {
            return Some((cut, best));
        }
    }
}
