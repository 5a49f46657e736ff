//! Failovers under virtual time: each in a cluster of its own, with links as they are told.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use indicatif::ProgressBar;

use crate::cli::bench::failover::hunt::{Agreement, Failover, Hunt, Victim, groups};
use crate::cli::bench::mark::Mark;
use crate::cli::bench::plan;
use crate::cli::error::CliError;
use crate::core::rng::Rng;
use crate::sim::crowd::{Crowd, Plan};

/// Virtual time between two nodes that start.
const APART_US: u64 = 1000;
/// Virtual time in which every group must have committed something.
const READY_US: u64 = 120_000_000;
/// The kill comes so long after that at least, and up to twice as long: at any point between two checkpoints.
const QUIET_US: u64 = 10_000_000;
/// Virtual time in which somebody else must have committed.
const OVER_US: u64 = 120_000_000;
/// Time between looks at what has been noted.
const LOOK_US: u64 = 50_000;

/// What was noted since the last look: when, and where.
pub type Notes = Rc<RefCell<Vec<(u64, usize, Mark)>>>;

/// Has a crowd's agreement noted.
pub fn note(crowd: &mut Crowd) -> Notes {
    let notes = Notes::default();
    let into = notes.clone();
    crowd.look_on(Box::new(move |at, place, seen| {
        let marks = Mark::of(seen, &plan::name(place));
        into.borrow_mut().extend(marks.into_iter().map(|mark| (at, place, mark)));
    }));
    notes
}

/// The nodes of every region by the names that they have in a crowd.
fn members(plan: &Plan) -> BTreeMap<String, BTreeSet<String>> {
    let mut members: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for place in 0..plan.nodes {
        members.entry(format!("r{}", plan.region_of(place))).or_default().insert(plan::name(place));
    }
    members
}

/// Lets a new crowd run until every group has committed something.
///
/// # Errors
/// If that does not happen in two virtual minutes.
pub fn ready(crowd: &mut Crowd, plan: &Plan, notes: &Notes) -> Result<Agreement, CliError> {
    let groups = groups(&members(plan).into_keys().collect());
    let mut agreement = Agreement::default();
    while !agreement.has_committed(&groups) {
        if crowd.now() > READY_US {
            return Err(CliError::unreachable("not every group has committed something in two virtual minutes"));
        }
        crowd.run_until(crowd.now() + LOOK_US);
        notes.take().iter().for_each(|(_, _, mark)| agreement.hear(mark));
    }
    Ok(agreement)
}

/// Kills as many victims, each in a new cluster of another seed. Blocks for as long as it takes to compute.
///
/// # Errors
/// If a cluster does not come up, or nobody takes over.
pub fn failovers(plan: &Plan, victim: Victim, kills: u32, progress: &ProgressBar) -> Result<Vec<Failover>, CliError> {
    let one = |turn: u32| {
        let plan = Plan { seed: plan.seed.wrapping_add(u64::from(turn)), ..plan.clone() };
        let over = failover(&plan, victim, turn as usize);
        progress.inc(1);
        over
    };
    (0..kills).map(one).collect()
}

fn failover(plan: &Plan, victim: Victim, turn: usize) -> Result<Failover, CliError> {
    let mut crowd = Crowd::new(plan.clone(), APART_US);
    let notes = note(&mut crowd);
    let mut agreement = ready(&mut crowd, plan, &notes)?;
    let quiet = QUIET_US + Rng::new(plan.seed ^ 0xFA11).below(QUIET_US as usize) as u64;
    crowd.run_until(crowd.now() + quiet);
    notes.take().iter().for_each(|(_, _, mark)| agreement.hear(mark));
    let hunt = Hunt::choose(victim, turn, &agreement, &members(plan));
    let mut hunt = hunt.ok_or_else(|| CliError::failed("nobody leads what is to be killed"))?;
    let killed_at = crowd.now();
    hunt.begin(killed_at);
    for name in hunt.dead() {
        crowd.kill(plan::place(name).expect("nodes are named by their places"));
    }
    while crowd.now() < killed_at + OVER_US {
        crowd.run_until(crowd.now() + LOOK_US);
        if let Some(over) = notes.take().iter().find_map(|(at, _, mark)| hunt.hear(*at, mark)) {
            return Ok(over);
        }
    }
    Err(CliError::unreachable(format!("seed {}: nobody took over in two virtual minutes", plan.seed)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::world::three_regions;

    #[test]
    fn another_region_takes_over_when_the_leading_one_is_killed() {
        let plan = three_regions(20_000, 0.1, 2_000, 5);
        let over = failovers(&plan, Victim::Region, 2, &ProgressBar::hidden()).unwrap();
        for failover in &over {
            let home = format!("r{}", plan.region_of(plan::place(&failover.leader).unwrap()));
            assert!(home != failover.killed && failover.elected_ms <= failover.ms, "{failover:?}");
        }
        assert_eq!(over, failovers(&plan, Victim::Region, 2, &ProgressBar::hidden()).unwrap(), "a seed decides");
        let leader = failovers(&plan, Victim::Leader, 1, &ProgressBar::hidden()).unwrap();
        assert!(leader[0].group.starts_with('r') && leader[0].killed != leader[0].leader, "{leader:?}");
    }

    #[test]
    fn two_regions_that_campaign_at_once_do_not_split_the_top() {
        // Three tenths of a second for a round trip: seeds at which both leaders that were left voted for themselves.
        for seed in [16, 23, 28, 32] {
            let plan = three_regions(150_000, 0.1, 2_000, seed);
            let over = failovers(&plan, Victim::Region, 1, &ProgressBar::hidden()).unwrap();
            assert!(over[0].ms < 8_000.0, "seed {seed}, at default timeouts: {over:?}");
        }
    }
}
