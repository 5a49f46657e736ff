//! The benchmarks measure what they say; how fast that is, no test asserts.

use crate::harness::Cluster;

#[test]
fn convergence_is_measured_beside_plain_tcp() {
    let c = Cluster::prepare();
    let report = c.json(&["bench", "convergence", "--writes", "40", "--rate", "200"]);
    let run = &report["runs"][0];
    assert_eq!((run["nodes"].as_u64(), run["writes"].as_u64()), (Some(3), Some(40)), "{report}");
    let of = |what: &str, p: &str| run[what][p].as_u64().unwrap();
    assert!(of("to_all", "p50_us") > 0 && of("to_all", "p50_us") <= of("to_all", "max_us"), "{report}");
    assert!(of("to_50", "p50_us") <= of("to_all", "p50_us"), "{report}");
    assert!(of("raw_tcp", "p50_us") > 0 && run["payload"].as_u64().unwrap() > 100, "{report}");
    assert!(run["data_messages_per_node_update"].as_f64().unwrap() >= 0.66, "two of three hear of it: {report}");
    let said = c.fails(5, &["bench", "convergence", "--writes", "10", "--rate", "200", "--max-p99-ms", "0"]);
    assert!(said.contains("above the limit of 0 ms"), "{said}");
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
