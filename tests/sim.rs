//! The simulator as part of every test run: few seeds, all scenarios. Thousands are `sensorctl sim sweep`'s business.

use std::collections::BTreeMap;

use sensorctl::core::consensus::Group;
use sensorctl::core::id::Index;
use sensorctl::sim::cluster::{Report, run};
use sensorctl::sim::crowd::{Crowd, DISK_US, Links};
use sensorctl::sim::fault::Fault;
use sensorctl::sim::oracles::Violation;
use sensorctl::sim::scenario::{Expect, Load, Scenario, Timing};
use sensorctl::sim::swarm::{Cut, Plan};
use sensorctl::sim::trace::Trace;

fn go(scenario: &Scenario, seed: u64) -> Report {
    run(&Plan::draw(scenario, seed, &Cut::default()), Trace::default())
}

fn stormy() -> Scenario {
    let common = [
        (Fault::Crash, 0.2),
        (Fault::CrashMidStep, 0.0005),
        (Fault::Pause, 0.1),
        (Fault::Reset, 0.3),
        (Fault::Isolate, 0.1),
        (Fault::OneWay, 0.1),
        (Fault::Bridge, 0.1),
        (Fault::Loss, 0.03),
        (Fault::Duplicate, 0.03),
        (Fault::Reorder, 0.03),
        (Fault::StuckDisk, 0.1),
        (Fault::Wipe, 0.02),
        (Fault::BitFlip, 0.02),
        (Fault::ClockJump, 0.1),
        (Fault::Join, 0.1),
        (Fault::Leave, 0.1),
    ];
    Scenario { observers: 2, duration_s: 8.0, faults: BTreeMap::from(common), ..Scenario::default() }
}

#[test]
fn one_seed_leaves_one_trace_and_another_seed_another() {
    let (first, again, other) = (go(&stormy(), 7), go(&stormy(), 7), go(&stormy(), 8));
    assert_eq!(first, again);
    assert_ne!(first.trace, other.trace);
    assert!(first.steps > 500 && first.commits > 3 && first.answered > 10, "{first:?}");
}

#[test]
fn rules_hold_under_a_storm_of_faults() {
    let mut struck = BTreeMap::new();
    for seed in 1..=30 {
        for voters in [3, 5] {
            let report = go(&Scenario { voters, ..stormy() }, seed);
            assert_eq!(report.violation, None, "seed {seed}, {voters} voters");
            for (fault, n) in report.faults.iter().filter(|(_, n)| *n > 0) {
                *struck.entry(fault).or_insert(0) += n;
            }
        }
    }
    let on = stormy().faults;
    assert!(on.keys().all(|fault| struck.contains_key(fault)), "every kind of fault has struck: {struck:?}");
}

#[test]
fn deaths_are_seen_in_time_wherever_somebody_dies() {
    let expect = Expect { warm_up_s: 2.0, dead_within_ms: Some(2000.0), no_false_death: true, ..Expect::default() };
    let faults = BTreeMap::from([(Fault::Crash, 0.3)]);
    let scenario = Scenario { observers: 7, swarm: false, duration_s: 20.0, expect, faults, ..Scenario::default() };
    let mut seen = 0;
    for seed in 1..=3 {
        let report = go(&scenario, seed);
        assert_eq!(report.violation, None, "seed {seed}");
        seen += report.spread.deaths_us.len();
    }
    assert!(seen > 20, "somebody died: {seen}");
}

#[test]
fn rules_hold_between_regions_under_a_storm_of_faults() {
    let common = [
        (Fault::Crash, 0.2),
        (Fault::CrashMidStep, 0.0003),
        (Fault::Pause, 0.1),
        (Fault::Reset, 0.3),
        (Fault::Isolate, 0.1),
        (Fault::OneWay, 0.1),
        (Fault::Loss, 0.03),
        (Fault::Duplicate, 0.03),
        (Fault::Reorder, 0.03),
        (Fault::StuckDisk, 0.1),
        (Fault::Wipe, 0.02),
        (Fault::RegionCut, 0.2),
        (Fault::RegionSplit, 0.2),
        (Fault::RegionLoss, 0.1),
        (Fault::LeaderCrash, 0.3),
    ];
    let load = Load { channels: 1, period_ms: 2_000, ..Load::default() };
    let faults = BTreeMap::from(common);
    let scenario = Scenario { regions: 3, wan_ms: (10, 300), duration_s: 10.0, load, faults, ..Scenario::default() };
    let mut struck = BTreeMap::new();
    for seed in 1..=8 {
        let report = go(&scenario, seed);
        assert_eq!(report.violation, None, "seed {seed}");
        for (fault, n) in report.faults.iter().filter(|(_, n)| *n > 0) {
            *struck.entry(fault).or_insert(0) += n;
        }
    }
    for fault in [Fault::RegionCut, Fault::RegionSplit, Fault::RegionLoss, Fault::LeaderCrash] {
        assert!(struck.contains_key(&fault), "{fault:?} has struck: {struck:?}");
    }
}

#[test]
fn a_judge_ends_the_run_when_the_promise_cannot_be_kept() {
    // Checkpoints come an hour apart: commits do not go on within the time that they must, once all is whole.
    let timing = Timing { checkpoint_ms: 3_600_000, ..Timing::default() };
    let late = Scenario { timing, duration_s: 8.0, swarm: false, ..Scenario::default() };
    let judged = |seed| go(&late, seed).violation.expect("it is seen");
    let all: Vec<_> = (1..=24).map(judged).collect();
    // Where the leader stays the same, a whole quorum has nothing to commit either, and the run ends before.
    assert!(all.iter().all(|violation| ["equal", "liveness"].contains(&violation.oracle)), "{all:?}");
    let late = |violation: &&Violation| violation.oracle == "equal";
    assert!(all.iter().find(late).expect("one gets there").detail.contains("commits do not go on"), "{all:?}");
}

#[test]
fn a_rolling_upgrade_to_another_protocol_version_loses_nothing() {
    let faults = BTreeMap::from([(Fault::Crash, 0.4), (Fault::CrashMidStep, 0.001), (Fault::Reset, 0.2)]);
    let rolling = Scenario { upgrade: true, swarm: false, duration_s: 8.0, faults, ..Scenario::default() };
    for seed in 1..=6 {
        let report = go(&rolling, seed);
        assert_eq!(report.violation, None, "seed {seed}");
        let crashes = report.faults[Fault::Crash] + report.faults[Fault::CrashMidStep];
        assert!(crashes > 0 && report.commits > 3, "seed {seed}: {report:?}");
    }
}

/// A region whose voters are killed one after another.
struct Region {
    crowd: Crowd,
    nodes: usize,
    alive: Vec<bool>,
}

impl Region {
    fn new(nodes: usize) -> Self {
        let links = Links { near_us: 500, far_us: 0, jitter: 0.5, loss: 0.0 };
        let plan =
            sensorctl::sim::crowd::Plan { nodes, regions: 1, voters: 3, degree: 6, links, disk_us: DISK_US, seed: 4 };
        Self { crowd: Crowd::new(plan, 1000), nodes, alive: vec![true; nodes] }
    }

    fn groups(&self) -> impl Iterator<Item = (usize, &Group)> {
        (0..self.nodes).filter_map(|place| Some((place, self.crowd.node(place)?.group()?)))
    }

    fn leader(&self) -> Option<(usize, &Group)> {
        self.groups().filter(|(_, group)| group.is_leader()).max_by_key(|(_, group)| group.hard().term)
    }

    /// Places of those who vote by the newest committed document, and its index.
    fn committed(&self) -> Option<(Vec<usize>, Index)> {
        let document = self.leader()?.1.committed()?;
        let place =
            |voter: &str| voter.strip_prefix('n').and_then(|n| n.parse().ok()).expect("nodes are named n0, n1, …");
        Some((document.header().voters.iter().map(|v| place(v.node.as_str())).collect(), document.header().index))
    }

    /// Lets virtual time pass until this holds; false if it does not within that many seconds.
    fn until(&mut self, seconds: u64, holds: impl Fn(&Self) -> bool) -> bool {
        let end = self.crowd.now() + seconds * 1_000_000;
        while !holds(self) {
            if self.crowd.now() >= end {
                return false;
            }
            self.crowd.run_until(self.crowd.now() + 100_000);
        }
        true
    }

    /// True if a leader's voters are all there, and as many as may be.
    fn is_replenished(&self) -> bool {
        self.committed().is_some_and(|(voters, _)| voters.len() == 5 && voters.iter().all(|place| self.alive[*place]))
    }

    fn kill(&mut self, place: usize) {
        self.crowd.kill(place);
        self.alive[place] = false;
    }
}

/// Kills leaders and followers in turns until no majority of voters is left; how many could be lost.
fn kill_voters(nodes: usize) -> usize {
    let mut region = Region::new(nodes);
    assert!(region.until(120, Region::is_replenished), "five vote of {nodes}");
    for killed in 0.. {
        let (voters, before) = region.committed().expect("somebody leads");
        let leader = region.leader().expect("somebody leads").0;
        let others = voters.iter().copied().find(|place| *place != leader && region.alive[*place]);
        let living = region.alive.iter().filter(|alive| **alive).count();
        region.kill(if killed % 2 == 0 { leader } else { others.expect("a majority is there") });
        let commits = region.until(20, |r| r.committed().is_some_and(|(_, index)| index > before));
        if living > 5 {
            assert!(commits, "after {killed} losses another one stops it");
            assert!(region.until(120, Region::is_replenished), "an observer takes the place of voter {killed}");
        } else if !commits {
            assert!(region.leader().is_none(), "two of five lead nobody");
            return killed;
        }
    }
    unreachable!("a majority cannot be lost for ever")
}

#[test]
fn a_region_replaces_its_voters_and_commits_until_the_last_majority_is_gone() {
    assert_eq!(kill_voters(9), 4 + 2, "four by observers, and two more of five");
}

#[test]
#[ignore = "half an hour of virtual time: `cargo test --release --test sim -- --ignored fifty`"]
fn a_region_of_fifty_outlives_forty_seven_voters() {
    assert_eq!(kill_voters(50), 45 + 2);
}
