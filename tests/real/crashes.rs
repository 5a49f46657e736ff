//! kill -9.

use crate::harness::{Cluster, extends};

#[test]
fn another_leader_commits_after_the_first_is_killed_and_nothing_committed_is_lost() {
    let c = Cluster::start();
    let leader = c.leader();
    let other = ["gw-1", "gw-2", "gw-3"].into_iter().find(|node| *node != leader).unwrap();
    let before = c.ledger(&leader);
    c.ok(&["cluster", "kill", &leader]);
    let last = before.last().unwrap().0;
    c.until("the others commit without it", || (c.index(other) > last + 1).then_some(()));
    assert!(extends(&c.ledger(other), &before), "what the dead leader had committed stands");
    let status = c.until("its death is seen", || {
        let status = c.status_of(other)?;
        status["reasons"].to_string().contains(&format!("{leader} is dead")).then_some(status)
    });
    assert_eq!(status["healthy"], false);
    c.fails(3, &["status", "--node", other]);

    c.ok(&["cluster", "restart", &leader]);
    c.ok(&["wait", "healthy"]);
    c.ok(&["wait", "converged"]);
    let known = c.ledger(other);
    c.until("it catches up", || extends(&c.ledger(&leader), &known).then_some(()));
}

#[test]
fn all_three_killed_in_the_middle_of_writing_come_back_with_a_whole_ledger() {
    let c = Cluster::start();
    for round in 0..3u32 {
        let value = f64::from(round);
        c.ok(&["put", "kept/disk", &value.to_string(), "--ack", "disk", "--node", "gw-1"]);
        c.ok(&["put", "kept/checkpoint", &value.to_string(), "--ack", "checkpoint", "--node", "gw-2"]);
        let before = c.ledger("gw-3");
        for node in ["gw-1", "gw-2", "gw-3"] {
            c.ok(&["cluster", "kill", node]);
        }
        c.ok(&["cluster", "start", "--detach", "--name", "test"]);
        assert!(extends(&c.ledger("gw-3"), &before), "round {round}");
        for node in ["gw-1", "gw-2", "gw-3"] {
            assert_eq!(
                c.json(&["checkpoint", "verify", "--bodies", "--node", node])["ok"],
                true,
                "round {round}: {node}"
            );
        }
        for channel in ["gw-1:kept/disk", "gw-2:kept/checkpoint"] {
            let got = c.json(&["get", channel, "--from", "gw-3"]);
            assert_eq!(got["readings"][0]["value"], value, "round {round}: {channel}: {got}");
        }
    }
}
