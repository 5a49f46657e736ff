//! Nine processes in three regions, and a flat cluster that becomes two regions.

use std::fmt::Write as _;

use crate::harness::{Cluster, free};

/// Three regions of three, with fast checkpoints.
fn three_by_three() -> Cluster {
    let home = tempfile::tempdir().unwrap();
    let addrs = free(18);
    let (peers, apis) = (addrs[..9].to_vec(), addrs[9..].to_vec());
    let mut text = "name = \"test\"\n[defaults.consensus]\ncheckpoint_interval = \"500ms\"\n[defaults.hierarchy]\n\
                    checkpoint_interval = \"1s\"\n[defaults.state]\nscope = \"region\"\n"
        .to_owned();
    for i in 0..9 {
        let (id, listen, api, region) = (i + 1, &peers[i], &apis[i], ["eu", "us", "ap"][i / 3]);
        write!(text, "[[nodes]]\nid = \"gw-{id}\"\nregion = \"{region}\"\nlisten = \"{listen}\"\napi = \"{api}\"\n")
            .unwrap();
        write!(text, "[[nodes.sources]]\nkind = \"simulated\"\ninterval = \"200ms\"\nseed = {id}\n").unwrap();
    }
    std::fs::write(home.path().join("test.toml"), text).unwrap();
    Cluster { home, peers, apis }
}

#[test]
fn another_region_leads_the_top_after_the_leading_one_is_killed_and_readings_are_forwarded() {
    let c = three_by_three();
    c.ok(&["cluster", "start", "--detach", "--config", &c.file()]);
    let status = c.json(&["status"]);
    assert_eq!((status["mode"].as_str(), status["regions"].as_array().unwrap().len()), (Some("hierarchical"), 3));
    let leader = status["leader"].as_str().unwrap().to_owned();
    let nodes = status["nodes"].as_array().unwrap().clone();
    let region_of =
        |id: &str| nodes.iter().find(|node| node["id"] == id).unwrap()["region"].as_str().unwrap().to_owned();
    let home = region_of(&leader);

    // Readings stay in their region: asked for by name elsewhere, they come from there and say so.
    let eu = c.json(&["get", "eu/*:temp", "--from", "gw-4"]);
    assert_eq!(eu["readings"].as_array().unwrap().len(), 3, "{eu}");
    assert_eq!(eu["forwarded"][0]["region"], "eu");
    assert!(["gw-1", "gw-2", "gw-3"].contains(&eu["forwarded"][0]["node"].as_str().unwrap()), "{eu}");

    let top = c.json(&["checkpoint", "latest", "--group", "top", "--linearizable"]);
    let before = top["checkpoint"]["index"].as_u64().unwrap();
    // What the regions' leaders say of their sensors is merged in the global document.
    let estimate = c.until("a global checkpoint fuses the sensors of all regions", || {
        let index = c.json(&["checkpoint", "latest", "--group", "top"])["checkpoint"]["index"].to_string();
        let document = c.ok(&["checkpoint", "export", &index, "--group", "top"]);
        let document: serde_json::Value = serde_json::from_str(&document).ok()?;
        let estimates = document["fused"]["estimates"].as_array()?.clone();
        estimates.into_iter().find(|estimate| estimate["quantity"] == "temp" && estimate["n"] == 9)
    });
    assert_eq!(estimate["status"], "ok", "{estimate}");
    // And anybody can compute it again, of the readings that the regions keep.
    let verified = c.json(&["checkpoint", "verify", "--group", "top"]);
    assert!(verified["ok"] == true && verified["estimates_checked"].as_u64() > Some(0), "{verified}");
    let dead: Vec<String> = (1..=9).map(|i| format!("gw-{i}")).filter(|id| region_of(id) == home).collect();
    for node in &dead {
        c.ok(&["cluster", "kill", node]);
    }
    let witness = (1..=9).map(|i| format!("gw-{i}")).find(|id| region_of(id) != home).unwrap();
    let next = c.until("another region leads the top", || {
        let status = c.status_of(&witness)?;
        let leader = status["leader"].as_str()?.to_owned();
        let index = status["checkpoint"]["index"].as_u64()?;
        (region_of(&leader) != home && index > before).then_some(leader)
    });
    assert_ne!(next, leader);
    assert_eq!(c.json(&["checkpoint", "verify", "--group", "top", "--node", &witness])["ok"], true);
    for node in &dead {
        c.ok(&["cluster", "restart", node]);
    }
    c.ok(&["wait", "healthy"]);
}

#[test]
fn a_flat_cluster_grows_and_takes_a_region_in() {
    let c = Cluster::start();
    let before = c.ledger("gw-1");
    c.ok(&["cluster", "grow"]);
    let kept = c.ledger("gw-1");
    assert!(crate::harness::extends(&kept, &before), "the ledger goes on");
    c.ok(&["cluster", "add-region", "asia"]);
    let status = c.until("both regions commit", || {
        let status = c.status_of("gw-1")?;
        let all = status["regions"].as_array()?;
        let commit = |region: &serde_json::Value| region["checkpoint"]["index"].as_u64() > Some(0);
        (all.len() == 2 && all.iter().all(commit)).then_some(status)
    });
    assert_eq!(status["mode"], "hierarchical");
    assert!(crate::harness::extends(&c.ledger("gw-1"), &kept));
    assert_eq!(c.json(&["checkpoint", "verify", "--group", "asia"])["ok"], true);
    let global = |text: &str| {
        let document = c.ok(&["checkpoint", "export", text, "--group", "top"]);
        let document: serde_json::Value = serde_json::from_str(&document).ok()?;
        Some(document["fused"]["estimates"].as_array()?.clone())
    };
    let newest = || Some(c.json(&["checkpoint", "latest", "--group", "top"])["checkpoint"]["index"].to_string());
    let of_both = |estimates: Vec<serde_json::Value>| estimates.iter().any(|e| e["n"].as_u64() > Some(3)).then_some(());
    c.until("a global checkpoint has estimates of both regions", || of_both(global(&newest()?)?));
    c.ok(&["cluster", "remove-region", "asia"]);
    // The document that takes the region out still has estimates of its readings.
    let verified = c.json(&["checkpoint", "verify", "--group", "top"]);
    assert!(verified["ok"] == true && verified["estimates_checked"].as_u64() > Some(0), "{verified}");
}

#[test]
fn a_rolling_restart_moves_readings_to_everybody_and_back_to_their_regions() {
    let c = three_by_three();
    c.ok(&["cluster", "start", "--detach", "--config", &c.file()]);
    let before = c.ledger("gw-1");
    // What a node of another region holds itself of this one's readings: values, and notes in place of values.
    let held = || {
        let rows = c.json(&["get", "**", "--from", "gw-4"])["readings"].as_array()?.clone();
        let eu = rows.into_iter().filter(|row| row["region"] == "eu" && row["channel"] == "temp");
        Some(eu.map(|row| (row["value"].as_f64(), row["note"].as_str().map(str::to_owned))).collect::<Vec<_>>())
    };
    assert_eq!(held().unwrap(), [], "readings stay in their region");
    let roll = |scope: &str| {
        for i in 1..=9 {
            c.ok(&["cluster", "restart", &format!("gw-{i}"), "--set", &format!("state.scope={scope}")]);
        }
    };
    roll("global");
    c.until("the others hold them", || {
        (held()?.iter().filter(|(value, _)| value.is_some()).count() == 3).then_some(())
    });
    roll("region");
    c.until("the others hold that they stay at home", || {
        let held = held()?;
        let stay = held.iter().filter(|(_, note)| note.as_deref() == Some("stays in its region"));
        (stay.count() == 3 && held.len() == 3).then_some(())
    });
    let eu = c.json(&["get", "eu/*:temp", "--from", "gw-4"]);
    assert!(eu["readings"].as_array().unwrap().iter().all(|row| row["value"].is_f64()), "asked for there: {eu}");
    c.ok(&["wait", "converged"]);
    assert!(crate::harness::extends(&c.ledger("gw-1"), &before), "the ledger goes on");
}
