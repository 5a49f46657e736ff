//! Stores that are wiped, corrupt, cloned, full, or recovered from (rule C11).

use std::fs;
use std::io::Write;
use std::process::Command;

use crate::harness::Cluster;

/// The store id that a node said it started on last.
fn store(c: &Cluster, node: &str) -> String {
    let log = c.log(node);
    let line = log.lines().rfind(|line| line.contains("started") && line.contains("store=")).expect("it has started");
    line.split("store=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
}

/// Runs the cluster with gw-3 replaced by a stranger, until its vote has been taken over in order.
fn comes_back_as_a_stranger(c: &Cluster, old: &str) {
    assert_ne!(store(c, "gw-3"), old, "it has forgotten its votes and is somebody else");
    c.until("the leader replaces the old voter by the new one", || {
        let status = c.status_of("gw-1")?;
        let nodes = status["nodes"].as_array()?.clone();
        let node = nodes.iter().find(|node| node["id"] == "gw-3")?;
        (status["healthy"] == true && node["liveness"] == "alive").then_some(())
    });
    // It may be back before its death was noticed: then the others were healthy all along.
    let before = c.until("it joins the cluster that it is shown", || {
        let log = c.log("gw-3");
        let life = &log[log.rfind("store=")?..];
        life.find("joined the cluster").map(|joined| life[..joined].to_owned())
    });
    assert!(!before.contains("voted"), "it never votes before");
    assert_eq!(c.json(&["checkpoint", "verify"])["ok"], true);
}

#[test]
fn a_wiped_store_comes_back_as_an_observer_under_a_new_id() {
    let c = Cluster::start();
    let old = store(&c, "gw-3");
    c.ok(&["cluster", "kill", "gw-3"]);
    fs::remove_dir_all(c.dir("gw-3").join("data")).unwrap();
    c.ok(&["cluster", "restart", "gw-3"]);
    comes_back_as_a_stranger(&c, &old);
}

#[test]
fn a_corrupt_store_is_set_aside_and_its_node_is_a_stranger() {
    let c = Cluster::start();
    let old = store(&c, "gw-3");
    c.ok(&["cluster", "kill", "gw-3"]);
    let path = c.dir("gw-3").join("data/store.redb");
    let mut bytes = fs::read(&path).unwrap();
    bytes[..64].fill(0xA5);
    fs::write(&path, bytes).unwrap();
    c.ok(&["cluster", "restart", "gw-3"]);
    assert!(c.dir("gw-3").join("data/store.redb.corrupt-1").exists(), "nothing is deleted");
    comes_back_as_a_stranger_with_a_reason(&c, &old);
}

fn comes_back_as_a_stranger_with_a_reason(c: &Cluster, old: &str) {
    assert_ne!(store(c, "gw-3"), old);
    let status = c.until("status says so", || {
        let status = c.status_of("gw-3")?;
        status["reasons"].to_string().contains("has been set aside").then_some(status)
    });
    assert_eq!(status["healthy"], false);
    c.until("it holds the ledger again", || (c.ledger("gw-3").first()?.0 == 0 && c.index("gw-3") > 3).then_some(()));
}

#[test]
fn a_cloned_data_directory_is_refused() {
    let c = Cluster::start();
    c.ok(&["cluster", "kill", "gw-3"]);
    let clone = c.home.path().join("clone");
    fs::create_dir(&clone).unwrap();
    fs::copy(c.dir("gw-3").join("data/store.redb"), clone.join("store.redb")).unwrap();
    c.ok(&["cluster", "restart", "gw-3"]);
    c.ok(&["wait", "healthy"]);
    let config = c.dir("gw-3").join("node.toml").display().to_string();
    let dir = format!("node.data_dir={}", clone.display());
    let said = c.fails(
        1,
        &["node", "--config", &config, "--set", &dir, "--set", "node.listen=127.0.0.1:0", "--set", "node.api="],
    );
    assert!(said.contains("runs on a copy of the data directory of the live gw-3"), "{said}");
    assert_eq!(c.json(&["status"])["healthy"], true, "the one that was first goes on");
    let said = c.fails(1, &["node", "--config", &config, "--set", "node.listen=127.0.0.1:0", "--set", "node.api="]);
    assert!(said.contains("is in use by another process"), "{said}");
}

#[test]
fn a_directory_that_cannot_be_used_is_a_clear_error() {
    let c = Cluster::prepare();
    let file = c.home.path().join("file");
    fs::write(&file, "x").unwrap();
    let config = c.home.path().join("gw.toml");
    let text = format!(
        "[node]\nlisten = \"127.0.0.1:0\"\napi = \"\"\ndata_dir = \"{}\"\n[cluster.voters]\nmain = [\"gw-1\"]\n",
        file.join("data").display()
    );
    fs::write(&config, text).unwrap();
    let said = c.fails(1, &["node", "--config", &config.display().to_string()]);
    assert!(said.contains("a file stands where the directory should be"), "{said}");
}

/// Takes a small disk away at the end, so that its directory can go.
struct Unmounted(std::path::PathBuf);

impl Drop for Unmounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_stops_the_node_and_says_so() {
    let c = Cluster::prepare();
    let disk = c.home.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "none"]).arg(&disk).output();
    let _unmounted = Unmounted(disk.clone());
    if !mounted.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: no right to mount a small disk");
        return;
    }
    let config = c.home.path().join("gw.toml");
    let text = format!(
        "[node]\nlisten = \"127.0.0.1:0\"\napi = \"\"\ndata_dir = \"{}\"\n[cluster.voters]\nmain = [\"gw-1\"]\n\
         [consensus]\ncheckpoint_interval = \"50ms\"\n[[sources]]\nkind = \"simulated\"\ninterval = \"10ms\"\n",
        disk.display()
    );
    fs::write(&config, text).unwrap();
    let log = c.home.path().join("log");
    let mut command = c.command(&["node", "--config", &config.display().to_string()]);
    let mut node = command.stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
    let said = || fs::read_to_string(&log).unwrap();
    c.until("it commits", || said().contains("index=3 ").then_some(()));
    let mut filler = fs::File::create(disk.join("filler")).unwrap();
    while filler.write_all(&[1; 4096]).is_ok() {}
    let status = c.until("it stops", || node.try_wait().unwrap());
    let said = said();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("the disk is full; make room and start the node again"), "{said}");
}

#[test]
fn a_cluster_whose_majority_of_disks_is_gone_is_rebuilt_under_a_new_id() {
    let c = Cluster::start();
    c.ok(&["put", "kept", "7", "--ack", "checkpoint", "--node", "gw-2"]);
    c.until("gw-1 knows of it", || {
        let got = c.run(&["get", "gw-2:kept", "--as-of", &c.index("gw-1").to_string(), "--from", "gw-1", "-o", "json"]);
        String::from_utf8_lossy(&got.stdout).contains("\"value\": 7").then_some(())
    });
    let old = c.json(&["status"])["cluster"]["id"].as_str().unwrap().to_owned();
    for node in ["gw-1", "gw-2", "gw-3"] {
        c.ok(&["cluster", "kill", node]);
    }
    for node in ["gw-2", "gw-3"] {
        fs::remove_dir_all(c.dir(node).join("data")).unwrap();
    }
    let said = c.fails(1, &["cluster", "recover", "--from", "1000000", "--on", "gw-1"]);
    assert!(said.contains("not in this node's ledger") && said.contains("its newest is"), "{said}");
    let newest = said.split("its newest is ").nth(1).unwrap().trim().to_owned();
    let output = c.run(&["cluster", "recover", "--from", &newest]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("NEW cluster id") && said.contains("POSSIBLY LOST"), "{said}");
    c.ok(&["cluster", "start", "--detach", "--name", "test"]);
    let status = c.json(&["status"]);
    assert_ne!(status["cluster"]["id"].as_str().unwrap(), old);
    let genesis: serde_json::Value = serde_json::from_str(&c.ok(&["checkpoint", "export", "0"])).unwrap();
    assert!(genesis["parent"].is_string(), "the new genesis names the old checkpoint: {genesis}");
    let kept = c.json(&["get", "gw-2:kept", "--from", "gw-3"]);
    assert_eq!(kept["readings"][0]["value"], 7.0, "{kept}");
}
