//! Swarm testing: every seed draws which of its scenario's faults are on, and how strong (Groce et al., ISSTA 2012).
//!
//! A run with everything on hides what needs one fault to be rare; a run with few faults reaches deeper.

use crate::core::rng::Rng;
use crate::sim::fault::{Fault, PerFault};
use crate::sim::scenario::Scenario;

/// What a seed makes of its scenario.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The scenario.
    pub scenario: Scenario,
    /// The seed.
    pub seed: u64,
    /// Strength of every fault in this run.
    pub rates: PerFault<f64>,
    /// Every message goes through its wire form.
    pub codec: bool,
}

/// What to leave out of a run, to make a failing one smaller.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cut {
    /// Faults switched off.
    pub without: Vec<Fault>,
    /// Length of the fault phase, if not the scenario's.
    pub duration_s: Option<f64>,
}

/// Share of a scenario's faults that a seed switches on.
const SHARE_ON: f64 = 0.45;

impl Plan {
    /// Draws the plan of `seed`. What is cut changes nothing else that is drawn.
    pub fn draw(scenario: &Scenario, seed: u64, cut: &Cut) -> Self {
        let mut rng = Rng::new(seed ^ 0x5157_4152_4d00_0000);
        let mut rates = PerFault::default();
        for fault in Fault::ALL {
            let full = scenario.faults.get(fault).copied().unwrap_or(0.0);
            let (on, strength) = (rng.chance(SHARE_ON), strength(&mut rng));
            rates[*fault] = if !scenario.swarm {
                full
            } else if on {
                full * strength
            } else {
                0.0
            };
            if !fault.is_rate() && !matches!(fault, Fault::Skew | Fault::Drift) {
                rates[*fault] = rates[*fault].min(1.0);
            }
        }
        let codec = rng.chance(1.0 / 16.0);
        for fault in &cut.without {
            rates[*fault] = 0.0;
        }
        let mut scenario = scenario.clone();
        if let Some(duration_s) = cut.duration_s {
            scenario.duration_s = duration_s;
        }
        Self { scenario, seed, rates, codec }
    }
}

/// A factor between a third and three, evenly spread by its logarithm.
fn strength(rng: &mut Rng) -> f64 {
    3f64.powf(2.0 * rng.unit() - 1.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn all_on() -> Scenario {
        Scenario { faults: Fault::ALL.iter().map(|fault| (*fault, 0.1)).collect(), ..Scenario::default() }
    }

    #[test]
    fn seeds_draw_different_faults_and_a_cut_leaves_the_others_alone() {
        let on = |seed| -> BTreeMap<Fault, bool> {
            Plan::draw(&all_on(), seed, &Cut::default()).rates.iter().map(|(f, rate)| (f, rate > 0.0)).collect()
        };
        assert_ne!(on(1), on(2));
        let whole = Plan::draw(&all_on(), 1, &Cut::default());
        let cut = Plan::draw(&all_on(), 1, &Cut { without: vec![Fault::Crash], duration_s: Some(1.0) });
        assert!(Fault::ALL.iter().all(|f| *f == Fault::Crash || cut.rates[*f] == whole.rates[*f]));
        assert_eq!((cut.rates[Fault::Crash], cut.scenario.duration_s), (0.0, 1.0));
    }

    #[test]
    fn without_swarm_the_numbers_stand_as_written() {
        let plan = Plan::draw(&Scenario { swarm: false, ..all_on() }, 3, &Cut::default());
        assert!(plan.rates.iter().all(|(_, rate)| rate == 0.1));
    }
}
