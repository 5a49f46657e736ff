//! Estimates of real processes, in checkpoints and out of them; and of a real office, where its recording is at hand.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::Cluster;

/// The estimate of a group.
fn of<'a>(report: &'a Value, quantity: &str, group: &str) -> Option<&'a Value> {
    let estimates = report["estimates"].as_array()?;
    estimates.iter().find(|e| e["quantity"] == quantity && e["group"] == group)
}

#[test]
fn one_answer_from_all_gateways_stands_in_checkpoints_that_anybody_can_recompute() {
    let c = Cluster::start();
    for (i, (node, value)) in
        [("gw-1", "30.02"), ("gw-2", "29.97"), ("gw-3", "30.01"), ("gw-1", "30.0")].iter().enumerate()
    {
        let channel = format!("hall/{i}/heat");
        c.ok(&["--node", node, "put", &channel, value, "--unit", "°C", "--sigma", "0.1"]);
    }
    c.ok(&["--node", "gw-2", "put", "hall/9/heat", "77.0", "--unit", "°C", "--sigma", "0.1", "--ack", "checkpoint"]);
    let report = c.until("all five are fused", || {
        let report = c.json(&["fuse", "heat"]);
        of(&report, "heat", "main").is_some_and(|e| e["n"] == 5).then_some(report)
    });
    assert_eq!(report["schema"], "sensorctl/fuse/v1");
    let heat = of(&report, "heat", "main").unwrap();
    assert!((heat["value"].as_f64().unwrap() - 30.0).abs() < 0.1, "{heat}");
    assert_eq!(
        (heat["used"].as_u64(), heat["tolerates"].as_u64(), heat["status"].as_str()),
        (Some(4), Some(1), Some("ok"))
    );
    assert_eq!(
        (&heat["rejected"][0]["node"], &heat["rejected"][0]["channel"]),
        (&"gw-2".into(), &"hall/9/heat".into())
    );
    let interval = heat["interval"].as_array().unwrap();
    assert!(interval[0].as_f64().unwrap() < 30.0 && interval[1].as_f64().unwrap() > 30.0, "{heat}");
    let said = c.ok(&["fuse", "heat", "--explain"]);
    assert!(
        said.contains("used 4 of 5  tolerates 1 of 5; 1 rejected: gw-2 (outlier)") && said.contains("hall/0/heat"),
        "{said}"
    );

    let index = c.json(&["checkpoint", "latest"])["checkpoint"]["index"].as_u64().unwrap().to_string();
    let agreed = c.json(&["fuse", "heat", "--at", &index, "--explain"]);
    let agreed = of(&agreed, "heat", "main").unwrap();
    assert_eq!((agreed["n"].as_u64(), agreed["used"].as_u64()), (Some(5), Some(4)), "{agreed}");
    assert_eq!(agreed["contributions"].as_array().unwrap().len(), 5, "{agreed}");
    let verdict = c.json(&["checkpoint", "verify"]);
    assert!(verdict["ok"] == true && verdict["estimates_checked"].as_u64().unwrap() >= 2, "{verdict}");
    assert!(
        c.ok(&["checkpoint", "export", &index]).contains(r#""fused":{"params":{},"estimates":[{"quantity":"heat""#)
    );
    let none = c.json(&["fuse", "no-such-quantity"]);
    assert_eq!(none["estimates"].as_array().map(Vec::len), Some(0));
}

/// A sensor that says what cannot be is marked, and its gateway says so.
#[test]
fn a_faulty_sensor_is_marked_and_shown() {
    let c = Cluster::prepare();
    let text = std::fs::read_to_string(c.file()).unwrap();
    let rules = "[[defaults.fusion.sensor]]\nsensors = \"**/heat\"\nmin = 0.0\nmax = 60.0\n";
    std::fs::write(c.file(), text.replace("[[nodes]]\nid = \"gw-1\"", &format!("{rules}[[nodes]]\nid = \"gw-1\"")))
        .unwrap();
    c.ok(&["cluster", "start", "--detach", "--config", &c.file()]);
    (0..8).for_each(|_| {
        c.ok(&["--node", "gw-1", "put", "hall/heat", "122.15", "--unit", "°C", "--sigma", "0.1"]);
    });
    let reading = c.json(&["--node", "gw-1", "get", "hall/heat"]);
    assert_eq!(reading["readings"][0]["quality"], "uncertain", "{reading}");
    let sensors = c.json(&["--node", "gw-1", "sensors"]);
    assert_eq!(
        (&sensors["faults"][0]["channel"], &sensors["faults"][0]["fault"]),
        (&"hall/heat".into(), &"range".into())
    );
    assert!(c.ok(&["status"]).contains("1 faulty sensors: gw-1:hall/heat (range)"));
}

#[test]
fn fusing_is_measured_on_made_up_sensors_whose_truth_is_known() {
    let c = Cluster::prepare();
    let report = c.home.path().join("fusion.html");
    let measured = c.json(&["bench", "fusion", "--windows", "50", "--report", report.to_str().unwrap()]);
    let points = measured["synthetic"].as_array().unwrap();
    let of = |fault: &str, faulty: u64| points.iter().find(|p| p["fault"] == fault && p["faulty"] == faulty).unwrap();
    assert!(of("collusion", 3)["coverage"].as_f64().unwrap() >= 0.98, "{}", of("collusion", 3));
    assert!(of("collusion", 3)["rms_mean"].as_f64() > of("collusion", 3)["rms_fused"].as_f64());
    let html = std::fs::read_to_string(report).unwrap();
    assert!(html.contains("<svg") && !html.contains("http://") && !html.contains("https://"), "it needs nothing else");
}

/// The recorded office: next to the checkout, or where SENSORCTL_DATA says.
fn data() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let named = std::env::var_os("SENSORCTL_DATA").map(PathBuf::from);
    named.into_iter().chain([beside]).find(|dir| dir.join("intel-lab-nodes.csv").is_file())
}

#[test]
fn a_real_office_is_fused_and_the_sun_condemns_nobody() {
    let Some(data) = data() else {
        eprintln!("SKIPPED: no recording in ../shared/data, and SENSORCTL_DATA names none");
        return;
    };
    let c = Cluster::prepare();
    let file = |name: &str| data.join(name).display().to_string();
    let (recording, places) = (file("intel-lab-2004-03-04-05.csv.gz"), file("intel-lab-nodes.csv"));
    let measured = c.json(&["bench", "fusion", &recording, "--truth", &places, "--windows", "10", "--every", "12"]);
    let recorded = &measured["recorded"];
    assert!(recorded["nodes"].as_u64().unwrap() > 45, "{recorded}");
    assert!(!recorded["in_sun"].as_array().unwrap().is_empty(), "the sun shines in: {recorded}");
    assert_eq!(recorded["condemned"].as_array().map(Vec::len), Some(0), "{}", recorded["condemned"]);
    let third = &recorded["points"][3];
    assert_eq!(third["faulty"], 3);
    assert_eq!(third["fault"], "collusion, against clean neighbours");
    // The sun takes its part of the budget too.
    assert!(third["coverage"].as_f64().unwrap() >= 0.95, "{third}");
    assert!(recorded["points"][0]["coverage"].as_f64().unwrap() >= 0.99, "{}", recorded["points"][0]);
    assert!(third["rms_fused"].as_f64() < third["rms_mean"].as_f64(), "{third}");
}
