//! What a user does with a healthy cluster.

use std::process::Stdio;

use sha2::{Digest, Sha256};

use crate::harness::{Cluster, extends};

#[test]
fn a_cluster_answers_every_verb_and_goes_on_after_a_stop() {
    let c = Cluster::start();
    let status = c.json(&["status"]);
    assert_eq!(status["healthy"], true, "{status}");
    assert_eq!(status["schema"], "sensorctl/status/v1");
    assert_eq!((status["mode"].as_str(), status["nodes"].as_array().unwrap().len()), (Some("flat"), 3));
    for node in status["nodes"].as_array().unwrap() {
        assert!(node["pid"].as_u64().is_some() && node["role"].is_string(), "{node}");
    }

    for ack in ["memory", "disk", "peers=2", "checkpoint"] {
        let value = ack.len().to_string();
        c.ok(&["put", "lobby/temp", &value, "--unit", "°C", "--sigma", "0.2", "--ack", ack, "--node", "gw-2"]);
        if ack != "memory" && ack != "disk" {
            let got = c.json(&["get", "gw-2:lobby/*", "--from", "gw-1"]);
            assert_eq!(got["readings"][0]["value"], ack.len() as f64, "{ack}: {got}");
        }
    }
    let index = c.index("gw-1");
    let then = c.json(&["get", "lobby/temp", "--as-of", &index.to_string()]);
    assert_eq!((then["as_of"].as_u64(), then["readings"][0]["value"].as_f64()), (Some(index), Some(10.0)), "{then}");

    let export = c.ok(&["checkpoint", "export", "1"]);
    let hash: String = Sha256::digest(export.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hash, c.ledger("gw-1")[1].1, "an exported file's SHA-256 is its id");
    assert_eq!(c.json(&["checkpoint", "verify", "--bodies"])["ok"], true);
    let latest = c.json(&["checkpoint", "latest", "--linearizable"]);
    assert!(latest["checkpoint"]["index"].as_u64().unwrap() >= index, "{latest}");
    assert_eq!(latest["node"].as_str(), c.json(&["leader"])["leader"].as_str(), "the leader answers");
    let csv = c.ok(&["get", "*:temp", "-o", "csv"]);
    assert!(csv.starts_with("node,region,channel,value,unit,") && csv.lines().count() == 4, "{csv}");
    assert_eq!(c.ok(&["watch", "gw-3:temp", "--count", "3", "-o", "ndjson"]).lines().count(), 3);
    c.ok(&["wait", "converged"]);
    assert!(c.ok(&["cluster", "list"]).contains("test"));
    assert!(c.fails(1, &["cluster", "start", "--detach", "--config", &c.file()]).contains("running already"));

    let before = c.ledger("gw-1");
    c.ok(&["cluster", "stop"]);
    assert!(c.fails(4, &["status"]).contains("nobody listens"));
    c.ok(&["cluster", "start", "--detach", "--name", "test"]);
    assert!(extends(&c.ledger("gw-1"), &before), "the ledger outlives a restart");
    let kept = c.json(&["get", "gw-2:lobby/temp", "--from", "gw-3"]);
    assert_eq!(kept["readings"][0]["value"], 10.0, "{kept}");
}

#[test]
fn mistakes_are_refused_in_words_and_by_exit_code() {
    let c = Cluster::prepare();
    assert!(c.fails(4, &["status", "--node", &c.apis[0]]).contains("nobody listens on"));
    assert!(c.fails(1, &["cluster", "stop", "--name", "nope"]).contains("no local cluster called nope"));
    c.fails(2, &["stauts"]);
    let file = c.home.path().join("bad.toml");
    std::fs::write(&file, "[consensus]\nhearbeat_interval = \"1s\"\n").unwrap();
    let said = c.fails(78, &["config", "check", &file.display().to_string()]);
    assert!(
        said.contains("bad.toml:2: unknown setting `hearbeat_interval`; did you mean `heartbeat_interval`?"),
        "{said}"
    );
    c.fails(78, &["node", "--config", &file.display().to_string()]);
    let held = std::net::TcpListener::bind(&c.peers[1]).unwrap();
    let said = c.fails(1, &["cluster", "start", "--detach", "--config", &c.file()]);
    assert!(said.contains(&format!("peer address {} of gw-2 cannot be had", c.peers[1])), "{said}");
    drop(held);
}

#[test]
fn voters_are_added_and_removed_while_it_runs() {
    let c = Cluster::start();
    c.ok(&["cluster", "add-node"]);
    c.until("the newcomer follows", || {
        let status = c.json(&["status"]);
        let nodes = status["nodes"].as_array()?;
        nodes
            .iter()
            .find(|node| node["id"] == "gw-4" && node["liveness"] == "alive" && node["checkpoint_index"].is_u64())
            .map(|_| ())
    });
    let leader = c.leader();
    let gone = ["gw-1", "gw-2", "gw-3"].into_iter().find(|node| *node != leader).unwrap();
    c.ok(&["cluster", "remove-node", gone]);
    let status = c.until("it is healthy without the one that left", || {
        let status = c.json(&["status"]);
        (status["healthy"] == true).then_some(status)
    });
    let voters: Vec<&str> = status["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|node| node["voter"] == true)
        .map(|node| node["id"].as_str().unwrap())
        .collect();
    assert!(!voters.contains(&gone), "{voters:?}");
    assert_eq!(c.json(&["checkpoint", "verify"])["ok"], true);
}

/// Two releases in one cluster: the second, which is made up, speaks a version more.
#[test]
fn a_rolling_upgrade_goes_on_committing_and_whoever_speaks_another_version_is_refused_in_words() {
    let c = Cluster::start();
    let speaking = |node: &str, versions: &str| ["cluster", "restart", node, "--set", versions].map(str::to_owned);
    let restart = |node: &str, versions: &str| {
        let args = speaking(node, &format!("node.protocol={versions}"));
        c.ok(&args.each_ref().map(String::as_str));
    };
    let before = c.ledger("gw-1");
    for node in ["gw-1", "gw-2", "gw-3"] {
        restart(node, "[1, 2]");
        let index = c.index("gw-1");
        c.until("two releases commit together", || (c.index("gw-1") > index).then_some(()));
    }
    // The next release speaks the first version no more: it works with those that speak both.
    restart("gw-3", "[2, 2]");
    c.ok(&["wait", "converged"]);
    assert!(crate::harness::extends(&c.ledger("gw-3"), &before), "the ledger goes on");
    // One that was never upgraded has nothing in common with it, and both say so.
    restart("gw-1", "[1, 1]");
    let words = "gw-3 speaks protocol versions 2 to 2, gw-1 speaks 1 to 1: upgrade the older of them";
    c.until("the older says why", || c.log("gw-1").contains(words).then_some(()));
    let other = "gw-1 speaks protocol versions 1 to 1, gw-3 speaks 2 to 2: upgrade the older of them";
    c.until("the newer says why", || c.log("gw-3").contains(other).then_some(()));
    let index = c.index("gw-2");
    c.until("who speaks both goes on with either", || (c.index("gw-2") > index).then_some(()));
}

#[test]
fn nodes_of_one_process_are_a_cluster_and_end_with_it() {
    let c = Cluster::prepare();
    let mut command = c.command(&["cluster", "start", "--in-process", "--config", &c.file()]);
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let committed = || (c.status_of("gw-2")?["checkpoint"]["index"].as_u64() >= Some(2)).then_some(());
    c.until("they commit", committed);
    let kept = c.ledger("gw-1");
    // SAFETY: a signal to a process of our own that has not been waited for.
    unsafe { libc::kill(process.id() as libc::pid_t, libc::SIGINT) };
    let ended = c.until("they end with their process", || process.try_wait().unwrap());
    assert!(ended.success(), "{ended}");
    c.ok(&["cluster", "start", "--detach", "--config", &c.file()]);
    assert!(extends(&c.ledger("gw-1"), &kept), "what they agreed on outlives them");
}
