//! Configuration files: any text is a configuration or an error in words.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sensorctl::shell::config::{ClusterConfig, NodeConfig, Overrides};

fuzz_target!(|text: &str| {
    let _ = NodeConfig::parse(text, "fuzz.toml", &Overrides::default());
    if let Ok(cluster) = ClusterConfig::parse(text, "fuzz.toml") {
        let again = ClusterConfig::parse(&cluster.to_toml(), "again.toml").expect("what we write we can read");
        assert_eq!(again, cluster);
    }
});
