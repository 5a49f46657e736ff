//! Small worlds, walked to their end.

use super::*;

fn small() -> Bounds {
    Bounds {
        regions: 1,
        voters: 3,
        terms: 1,
        checkpoints: 1,
        crashes: 0,
        late_writes: 0,
        additions: 0,
        removals: 0,
        region_leaders: 0,
        depth: 500,
        states: 200_000,
    }
}

/// Walks to the end, where nothing must be broken and all of `what` must have been reached.
fn walked(bounds: &Bounds, what: &[&str]) -> Report {
    let report = walk(bounds, &mut |_| ());
    assert_eq!(report.violation, None, "{report:?}");
    assert!(report.complete, "{report:?}");
    assert!(what.iter().all(|what| report.reached.get(what) > Some(&5)), "{report:?}");
    report
}

#[test]
fn one_term_and_one_checkpoint_are_walked_to_the_end() {
    let report = walked(&small(), &["elections", "commits"]);
    assert_eq!(walk(&small(), &mut |_| ()), report, "the same walk twice");
}

#[test]
fn crashes_that_take_open_writes_are_walked_to_the_end() {
    walked(&Bounds { crashes: 1, late_writes: 1, checkpoints: 0, ..small() }, &["crashes", "elections", "raised"]);
}

#[test]
fn voters_that_come_and_voters_that_go_are_walked_to_the_end() {
    walked(&Bounds { additions: 1, ..small() }, &["additions", "commits"]);
    walked(&Bounds { removals: 1, ..small() }, &["removals", "commits"]);
}

#[test]
fn five_voters_are_walked_under_all_their_renamings() {
    walked(&Bounds { voters: 5, checkpoints: 0, ..small() }, &["elections", "commits"]);
}

fn top() -> Bounds {
    Bounds { regions: 3, checkpoints: 0, ..small() }
}

#[test]
fn three_regions_of_one_and_their_relays_are_walked_to_the_end() {
    walked(&Bounds { voters: 1, checkpoints: 1, ..top() }, &["elections", "commits"]);
    walked(&Bounds { voters: 1, terms: 2, crashes: 1, ..top() }, &["elections", "commits", "crashes"]);
}

#[test]
fn regions_of_three_change_their_leaders_in_the_middle_of_a_vote() {
    let bounds = Bounds { voters: 3, region_leaders: 1, terms: 2, states: 20_000, ..top() };
    let report = walk(&bounds, &mut |_| ());
    assert_eq!(report.violation, None, "{report:?}");
    let all = ["elections", "region leaders", "commits", "raised"];
    assert!(all.iter().all(|what| report.reached.contains_key(what)), "{report:?}");
}

#[test]
fn what_the_model_does_not_know_it_refuses() {
    assert_eq!(top().check(), Ok(()));
    assert_eq!(Bounds { voters: 4, ..top() }.check(), Err(BoundsError::Voters(4)));
    assert_eq!(Bounds { removals: 1, ..top() }.check(), Err(BoundsError::Changes));
    assert_eq!(Bounds { late_writes: 1, ..top() }.check(), Err(BoundsError::LateWrites));
    assert_eq!(Bounds { voters: 5, additions: 1, late_writes: 1, ..small() }.check(), Ok(()));
}

#[test]
fn a_walk_that_ends_early_says_so() {
    let report = walk(&Bounds { terms: 3, states: 1000, ..small() }, &mut |_| ());
    assert!(!report.complete && report.states >= 1000, "{report:?}");
}
