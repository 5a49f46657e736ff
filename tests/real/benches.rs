//! The benchmarks measure what they say; how fast that is, no test asserts.

use crate::harness::Cluster;

#[test]
fn convergence_is_measured_beside_plain_tcp_in_processes_of_their_own() {
    let c = Cluster::prepare();
    let few = ["--writes", "20", "--repetitions", "2", "--rate", "200"];
    let report = c.json(&[&["bench", "convergence", "--processes"], &few[..]].concat());
    let run = &report["runs"][0];
    assert_eq!(
        (run["nodes"].as_u64(), run["processes"].as_u64(), run["writes"].as_u64()),
        (Some(3), Some(3), Some(20))
    );
    let of = |what: &str, p: &str| run[what][p].as_u64().unwrap();
    assert!(of("to_all", "p50_us") > 0 && of("to_all", "p50_us") <= of("to_all", "max_us"), "{report}");
    assert!(of("to_50", "p50_us") <= of("to_all", "p50_us"), "{report}");
    assert!(of("raw_tcp", "p50_us") > 0 && run["frame_bytes"].as_u64().unwrap() > 100, "{report}");
    assert!(run["data_messages_per_node_update"].as_f64().unwrap() >= 0.66, "two of three hear of it: {report}");
    assert!(!report["host"]["cores"].is_null() && report["seed"] == 1, "{report}");
}

#[test]
fn a_sweep_in_one_process_leaves_a_page_a_baseline_and_a_verdict() {
    let c = Cluster::prepare();
    let (page, old) = (c.home.path().join("report.html"), c.home.path().join("old.json"));
    let few = ["--nodes", "2,4", "--transport", "tcp,memory", "--writes", "20", "--repetitions", "1", "--rate", "200"];
    let sweep = [&["bench", "convergence", "--report", page.to_str().unwrap()], &few[..]].concat();
    let report = c.json(&sweep);
    let runs = report["runs"].as_array().unwrap();
    let shape: Vec<_> =
        runs.iter().map(|run| (run["transport"].as_str().unwrap(), run["nodes"].as_u64().unwrap())).collect();
    assert_eq!(shape, [("tcp", 2), ("tcp", 4), ("memory", 2), ("memory", 4)], "{report}");
    assert!(runs.iter().all(|run| run["failed"].is_null()), "{report}");
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.contains("memory N=4") && html.ends_with("</html>\n"), "a page with every run");
    std::fs::write(&old, report.to_string()).unwrap();
    let again = ["bench", "convergence", "--nodes", "2", "--writes", "10", "--repetitions", "1", "--rate", "200"];
    let against = ["--baseline", old.to_str().unwrap(), "--threshold", "p99<0ms"];
    let said = c.fails(5, &[&again[..], &against].concat());
    assert!(said.contains("p99<0ms") && said.contains("P99 WAS"), "{said}");
    let said = c.fails(2, &["bench", "convergence", "--threshold", "p98<1ms"]);
    assert!(said.contains("no figure \"p98\""), "{said}");
}

#[test]
fn failover_is_measured_from_the_kill_to_the_next_commit() {
    let c = Cluster::prepare();
    let report = c.json(&["bench", "failover", "--kills", "2"]);
    let failovers = report["failovers"].as_array().unwrap();
    assert_eq!(failovers.len(), 2, "{report}");
    for failover in failovers {
        assert!(failover["killed"] != failover["leader"] && failover["ms"].as_f64().unwrap() > 0.0, "{failover}");
    }
    assert!(failovers[1]["index"].as_u64() > failovers[0]["index"].as_u64(), "{report}");
}

#[test]
fn throughput_is_of_what_all_nodes_hold_and_a_hot_key_ends_with_its_last_value_on_all() {
    let c = Cluster::prepare();
    let report = c.json(&["bench", "throughput", "--keys", "2000", "--hot-ms", "100", "--repetitions", "1"]);
    let (flood, hot) = (&report["floods"][0], &report["hot"][0]);
    let held = flood["updates_per_s"].as_f64().unwrap();
    assert!(held > 0.0 && flood["accepted_per_s"].as_f64().unwrap() >= held, "{report}");
    assert!(flood["bytes_per_update"].as_f64().unwrap() > 100.0, "two nodes received each: {report}");
    assert!(hot["updates_per_s"].as_f64().unwrap() > 0.0, "{report}");
    let seen = hot["seen_elsewhere"].as_f64().unwrap();
    assert!(seen > 0.0 && seen <= 1.0, "{report}");
}

#[test]
fn a_newcomer_gets_members_first_and_a_stopped_node_only_what_has_changed() {
    let c = Cluster::prepare();
    let few = ["--entries", "2000", "--newcomers", "1", "--pause-s", "1", "--rate", "1000", "--stale", "50"];
    let report = c.json(&[&["bench", "catchup"], &few[..]].concat());
    let (newcomer, paused) = (&report["newcomers"][0], &report["paused"]);
    assert!(newcomer["held_us"].as_u64().unwrap() > 0 && newcomer["members_first"] == true, "{report}");
    assert_eq!((paused["keys"].as_u64(), paused["written"].as_u64()), (Some(50), Some(1000)), "{report}");
    let changes = paused["changes"].as_u64().unwrap();
    assert!((50..2000).contains(&changes), "each of the keys, and not every entry: {report}");
}

#[test]
fn the_dead_are_seen_by_all_others_and_come_back() {
    let c = Cluster::prepare();
    let report = c.json(&["bench", "death", "--nodes", "4", "--deaths", "2"]);
    let of = |i: usize| &report["deaths"][i];
    assert_eq!((of(0)["how"].as_str(), of(1)["how"].as_str()), (Some("killed"), Some("stopped")), "{report}");
    for figure in [of(0), of(1)] {
        assert_eq!((figure["nodes"].as_u64(), figure["times"].as_u64()), (Some(4), Some(2)), "{report}");
        let (each, last) = (figure["each"]["p50_us"].as_u64().unwrap(), figure["last"]["max_us"].as_u64().unwrap());
        assert!(0 < each && each <= last, "{report}");
    }
    // A stopped process keeps its connections: it has to be silent for `silence_max`, less one keepalive on its way.
    assert!(of(1)["each"]["p50_us"].as_u64().unwrap() >= 1_500_000, "{report}");
}

#[test]
fn a_load_tells_latency_from_when_it_was_due_and_what_watchers_saw() {
    let c = Cluster::start();
    let hdr = c.home.path().join("load.hdr");
    let mixed = ["--mix", "put=8,get=1,watch=1,read=1", "--channels", "5", "--payload", "20"];
    let short = ["load", "--rate", "200", "--duration", "2s", "--hdr", hdr.to_str().unwrap()];
    let report = c.json(&[&short[..], &mixed].concat());
    // A machine that is busy cannot send all that was due in two seconds.
    let (scheduled, sent) = (report["scheduled"].as_u64().unwrap(), report["sent"].as_u64().unwrap());
    assert!(scheduled == 400 && (1..=scheduled).contains(&sent), "{report}");
    let errors: u64 = report["errors"].as_object().unwrap().iter().map(|(_, n)| n.as_u64().unwrap()).sum();
    assert_eq!(report["ok"].as_u64().unwrap() + errors, sent, "{report}");
    assert!(report["errors"].as_object().unwrap().keys().all(|kind| kind == "redirect"), "only one leads: {report}");
    let of = |what: &str, p: &str| report[what][p].as_u64().unwrap();
    assert!(of("latency", "p99_us") >= of("latency_uncorrected", "p99_us") && of("latency", "p50_us") > 0, "{report}");
    let puts = report["by_kind"]["put"]["count"].as_u64().unwrap();
    assert_eq!(
        (of("convergence", "watched"), of("convergence", "seen_by_all"), of("convergence", "unseen")),
        (3, puts, 0)
    );
    let log = std::fs::read_to_string(hdr).unwrap();
    assert!(["corrected", "uncorrected", "convergence"].iter().all(|tag| log.contains(&format!("Tag={tag}"))), "{log}");
}

#[test]
fn a_load_searches_for_what_holds_and_misses_what_cannot() {
    let c = Cluster::start();
    let batches = ["load", "--rate", "100", "--batch", "10", "--duration", "500ms", "--targets", "gw-1"];
    let said = c.fails(5, &[&batches[..], &["--find-max", "p99<0ms"]].concat());
    assert!(said.contains("no rate holds"), "{said}");
    let ramp = ["load", "--ramp", "50..150", "--batch", "10", "--duration", "500ms", "--ack", "disk"];
    let report = c.json(&ramp);
    assert_eq!((report["requests"].as_u64(), report["sent"].as_u64()), (Some(5), Some(50)), "{report}");
    let said = c.fails(2, &["load", "--targets", "gw-9"]);
    assert!(said.contains("gw-9") && said.contains("gw-1, gw-2, gw-3"), "{said}");
}
