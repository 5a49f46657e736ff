use super::*;
use crate::core::params::LivenessParams;

fn error(text: &str) -> String {
    NodeConfig::parse(text, "node.toml", &Overrides::default()).map(|_| ()).unwrap_err().to_string()
}

const WHOLE: &str = "[cluster]\nbootstrap = [\"127.0.0.1:7402\"]\n[cluster.voters]\nmain = [\"gw-1\", \"gw-2\"]\n";

#[test]
fn an_unknown_setting_is_named_with_its_line_and_what_was_meant() {
    let text = format!("{WHOLE}\n[consensus]\nhearbeat_interval = \"100ms\"\n");
    assert_eq!(error(&text), "node.toml:7: unknown setting `hearbeat_interval`; did you mean `heartbeat_interval`?");
    let text = format!("{WHOLE}[[sources]]\nkind = \"sytem\"\n");
    assert!(error(&text).ends_with("unknown value `sytem`; did you mean `system`?"), "{}", error(&text));
}

#[test]
fn a_wrong_type_is_named_with_its_line() {
    let text = format!("{WHOLE}[gossip]\npush_delay = 2\n");
    assert!(
        error(&text).starts_with("node.toml:6: invalid type: integer `2`, expected a duration"),
        "{}",
        error(&text)
    );
    let text = format!("{WHOLE}[gossip]\npush_delay = \"soon\"\n");
    assert!(error(&text).contains("\"soon\" is not a duration; write for instance"), "{}", error(&text));
}

#[test]
fn values_out_of_range_and_contradictions_are_all_reported_at_once() {
    let text = format!(
        "{WHOLE}[consensus]\nheartbeat_interval = \"200ms\"\nelection_timeout = \"300ms\"\nvoters_max = 99\n\
         [node]\nlisten = \"0.0.0.0:7401\"\n"
    );
    let error = error(&text);
    assert!(error.contains("node.toml:7: consensus.election_timeout is 300ms; keep it at five"), "{error}");
    assert!(error.contains("node.toml:8: consensus.voters_max is 99; it must lie between 1 and 15"), "{error}");
    assert!(error.contains("node.advertise must say where peers reach this node"), "{error}");
}

#[test]
fn a_node_that_could_never_find_anybody_is_refused() {
    assert!(error("").contains("cluster.voters must list the cluster's initial voters"));
    assert!(error("[cluster.voters]\nmain = [\"gw-1\", \"gw-2\"]\n").contains("cluster.bootstrap is empty"));
    assert!(error("[cluster.voters]\nmain = [\"gw-1\", \"gw-1\"]\n").contains("listed already"));
    assert!(error("[cluster.voters]\neu = [\"gw-1\"]\n").contains("no voters for this node's region main"));
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let text = format!("{WHOLE}[log]\nlevel = \"error\"\n[consensus]\nbodies_kept = 7\n");
    let vars = [("SENSORCTL_LOG_LEVEL", "warn"), ("SENSORCTL_CONSENSUS_BODIES_KEPT", "8"), ("SENSORCTL_HOME", "x")];
    let mut overrides = Overrides::from_env(vars.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter()).unwrap();
    overrides.add_flag("log.level=debug").unwrap();
    let config = NodeConfig::parse(&text, "node.toml", &overrides).unwrap();
    assert_eq!(config.log_level, "debug");
    assert_eq!(config.params.consensus.bodies_kept, 8);
}

#[test]
fn a_misspelt_override_is_refused_wherever_it_comes_from() {
    let vars = [("SENSORCTL_LOG_LEVL".to_owned(), "warn".to_owned())];
    let error = Overrides::from_env(vars.into_iter()).unwrap_err().to_string();
    assert_eq!(error, "environment SENSORCTL_LOG_LEVL: unknown setting `levl` in [log]; did you mean `level`?");
    let error = Overrides::default().add_flag("log.levl=debug").unwrap_err().to_string();
    assert_eq!(error, "--set log.levl: unknown setting `log.levl`; did you mean `log.level`?");
    let mut overrides = Overrides::default();
    overrides.add_flag("consensus.voters_max=many").unwrap();
    let error = NodeConfig::parse(WHOLE, "node.toml", &overrides).unwrap_err().to_string();
    assert!(error.starts_with("--set consensus.voters_max: invalid type"), "{error}");
}

#[test]
fn every_field_is_documented_at_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/node.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let written: RawNode = error::parse(&text, "configs/node.toml").unwrap();
    let defaults = RawNode {
        cluster: raw::RawCluster {
            bootstrap: written.cluster.bootstrap.clone(),
            voters: written.cluster.voters.clone(),
            ..Default::default()
        },
        sources: written.sources.clone(),
        ..RawNode::default()
    };
    assert_eq!(written, defaults, "configs/node.toml shows something else than the defaults");
    for source in &written.sources {
        let table = toml::Table::try_from(source).unwrap();
        let kind = format!("kind = \"{}\"", source.kind());
        let section = text.split("[[sources]]").find(|section| section.contains(&kind)).unwrap();
        for key in table.keys() {
            assert!(section.lines().any(|line| line.starts_with(&format!("{key} ="))), "{kind}: {key} is not shown");
        }
    }
    let kinds: Vec<&str> = written.sources.iter().map(SourceConfig::kind).collect();
    assert_eq!(kinds, ["system", "simulated", "hwmon", "exec", "stdin", "file", "replay"]);
    let table: toml::Table = RawNode::default().to_toml().parse().unwrap();
    for (section, value) in &table {
        let shown = text.split(&format!("\n[{section}]")).nth(1).unwrap_or_else(|| panic!("[{section}] is not shown"));
        let shown = shown.split("\n[").next().unwrap();
        for key in value.as_table().unwrap().keys().filter(|key| *key != "voters") {
            let comment_above = shown
                .lines()
                .zip(shown.lines().skip(1))
                .any(|(above, line)| line.starts_with(&format!("{key} =")) && above.starts_with('#'));
            assert!(comment_above, "[{section}] {key} is not documented");
        }
    }
}

#[test]
fn the_shipped_clusters_are_valid_and_what_is_generated_by_default() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let flat = ClusterConfig::load(&configs.join("flat-3.toml")).unwrap();
    assert_eq!(flat, ClusterConfig::flat("flat-3", 3));
    let regions = ClusterConfig::load(&configs.join("regions-3x3.toml")).unwrap();
    assert_eq!(regions.nodes.len(), 9);
    for file in ["gw-1.toml", "gw-2.toml", "gw-3.toml"] {
        let path = configs.join("three-machines").join(file);
        NodeConfig::load(&path, &Overrides::default()).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn a_cluster_says_which_of_its_nodes_is_wrong() {
    let text = "name = \"lab\"\n[defaults.consensus]\nvoters_max = 0\n[[nodes]]\nid = \"gw-1\"\n";
    let error = ClusterConfig::parse(text, "lab.toml").unwrap_err().to_string();
    assert!(error.contains("node gw-1") && error.contains("consensus.voters_max is 0"), "{error}");
    let error = ClusterConfig::parse("name = \"lab\"\n[[nodes]]\nid = \"a\"\n[[nodes]]\nid = \"a\"\n", "lab.toml");
    assert!(error.unwrap_err().to_string().contains("two nodes are called a"));
}

#[test]
fn a_node_that_is_added_takes_ports_of_its_own_and_moves_nobody() {
    let mut cluster = ClusterConfig::flat("lab", 3);
    let before: Vec<String> = (0..3).map(|i| cluster.api(i)).collect();
    let added = cluster.add_node(None);
    assert_eq!((cluster.nodes[added].id.as_str(), cluster.listen(added).as_str()), ("gw-4", "127.0.0.1:7404"));
    assert_eq!((0..3).map(|i| cluster.api(i)).collect::<Vec<_>>(), before);
    let config = NodeConfig::parse(&cluster.node_toml(added, Path::new("d")), "x", &Overrides::default()).unwrap();
    assert_eq!(config.params.initial_voters.values().next().unwrap().len(), 3);
}

#[test]
fn a_unit_that_does_not_convert_to_its_groups_names_both() {
    let text = format!(
        "{WHOLE}[[fusion.group]]\nname = \"hall\"\nchannels = [\"**/temp\"]\nunit = \"°C\"\n\
         [[sources]]\nkind = \"simulated\"\nchannel = \"hall/temp\"\nunit = \"hPa\"\n"
    );
    let said = error(&text);
    let expected = "hall takes hall/temp of source simulated, but hPa does not convert to °C";
    assert!(said.contains("fusion.group") && said.contains(expected), "{said}");
    assert!(NodeConfig::parse(&text.replace("hPa", "°F"), "node.toml", &Overrides::default()).is_ok());
    let twice = text.replace("hPa", "K").replace("[\"**/temp\"]", "[]");
    assert!(error(&twice).contains("channels is empty"), "{}", error(&twice));
    assert!(error(&format!("{WHOLE}[fusion]\ncoverage = 0.0\n")).contains("fusion.coverage is 0"));
    let said = error(&format!("{WHOLE}[fusion]\nexclude = [\"[\"]\n"));
    assert!(said.contains("fusion.exclude is refused"), "{said}");
}

#[test]
fn durations_are_written_as_they_are_read() {
    for text in ["500ms", "2s", "24h", "90s", "0s", "1us"] {
        let table: toml::Table = format!("v = \"{text}\"").parse().unwrap();
        let span: Span = table["v"].clone().try_into().unwrap();
        assert_eq!(span.to_string(), if text == "90s" { "90s" } else { text });
    }
}

#[test]
fn many_nodes_on_one_machine_read_less_and_contact_few() {
    let names: Vec<String> = (1..=30).map(|i| format!("region-{i:02}")).collect();
    let many = ClusterConfig::regions("many", &names, 30);
    let node = |config: &ClusterConfig, i: usize| {
        let text = config.node_toml(i, std::path::Path::new("data"));
        NodeConfig::parse(&text, "a node", &Overrides::default()).unwrap()
    };
    let (voter, one) = (node(&many, 450), node(&many, 455));
    assert_eq!((voter.params.bootstrap.len(), one.params.bootstrap.len(), one.sources.len()), (89, 10, 1));
    assert_eq!(one.params.scope, crate::core::state::entry::Scope::Region);
    assert_eq!(one.params.liveness.silence_max, 9 * LivenessParams::default().silence_max, "as many times as crowds");
    let intervals = [one.params.consensus.checkpoint_interval, one.params.top.checkpoint_interval];
    assert_eq!(intervals.map(|interval| interval.as_secs()), [45, 90]);
    let few = node(&ClusterConfig::regions("few", &names[..3], 3), 0);
    assert_eq!((few.params.bootstrap.len(), few.sources.len()), (8, 2));
    assert_eq!(few.params.liveness, LivenessParams::default());
    assert_eq!(few.params.scope, crate::core::state::entry::Scope::Global);
}
