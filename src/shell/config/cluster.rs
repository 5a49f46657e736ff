//! A local cluster's file: its nodes, and what they have in common.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::core::params::{CROWD, ConsensusParams, LivenessParams, patience};
use crate::shell::config::duration::Span;
use crate::shell::config::error::{self, Locator};
use crate::shell::config::raw::RawNode;
use crate::shell::config::sources::{SimulatedSource, SourceConfig, SystemSource};
use crate::shell::config::{ConfigError, NodeConfig, Overrides};

/// A generated cluster of more nodes than this is many for one machine.
const MANY: usize = 30;
/// Readings that all of them together come to hold in a second.
const HELD_A_SECOND: u64 = 5_000;
/// How many of its own region a node contacts first, and of how many others one each.
const BOOTSTRAP_OWN: usize = 5;
const BOOTSTRAP_ABROAD: usize = 5;

/// Peers listen from one above this; APIs a hundred above peers.
pub const BASE_PORT: u16 = 7400;
const API_OFFSET: u16 = 100;

/// A local cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// Its name.
    pub name: String,
    /// Where its ports begin.
    #[serde(default = "base_port")]
    pub base_port: u16,
    /// Settings of every node, by section, over the defaults.
    #[serde(default)]
    pub defaults: Table,
    /// Its nodes.
    pub nodes: Vec<ClusterNode>,
}

/// One node of a local cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterNode {
    /// Its name.
    pub id: String,
    /// Its region.
    #[serde(default = "main_region")]
    pub region: String,
    /// Whether it is an initial voter.
    #[serde(default = "yes")]
    pub voter: bool,
    /// Peer address, if not the one that follows from the base port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// API address, if not the one that follows from the base port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// The network namespace in which its process runs, made by `ip netns add`, if not the one of whoever starts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Settings of this node alone, by section.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub settings: Table,
    /// Its sensors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceConfig>,
}

fn base_port() -> u16 {
    BASE_PORT
}

fn main_region() -> String {
    "main".into()
}

fn yes() -> bool {
    true
}

impl ClusterConfig {
    /// Reads and checks a cluster's file.
    ///
    /// # Errors
    /// [`ConfigError`] names file, line, what is wrong and what was probably meant.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&error::read(path)?, &path.display().to_string())
    }

    /// Checks a cluster's configuration; `file` names it in errors.
    ///
    /// # Errors
    /// See [`ClusterConfig::load`].
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        let config: Self = error::parse(text, file)?;
        let at = Locator::new(text, file);
        let mut ids = BTreeSet::new();
        for node in &config.nodes {
            if !ids.insert(&node.id) {
                return Err(ConfigError::new(format!("{}: two nodes are called {}", at.place("nodes", "id"), node.id)));
            }
        }
        if config.nodes.is_empty() {
            return Err(ConfigError::new(format!("{file}: a cluster needs nodes: write [[nodes]] with an id each")));
        }
        config.check(&at)?;
        Ok(config)
    }

    /// Checks every node's configuration as it would be written.
    fn check(&self, at: &Locator<'_>) -> Result<(), ConfigError> {
        for i in 0..self.nodes.len() {
            let text = self.node_toml(i, Path::new("data"));
            let name = format!("{} (node {})", at.place("defaults", ""), self.nodes[i].id);
            NodeConfig::parse(&text, &name, &Overrides::default())?;
        }
        Ok(())
    }

    /// `count` nodes in one region, on this machine's own sensors and a simulated temperature each.
    pub fn flat(name: &str, count: usize) -> Self {
        Self::regions(name, &["main".to_owned()], count)
    }

    /// Regions of `each` nodes. Many nodes share one machine: they read a simulated sensor alone, as often as it can
    /// take what all of them hold of it, and with several regions each keeps its readings. More than a [`CROWD`] have
    /// patience with each other, and take checkpoints, in proportion.
    pub fn regions(name: &str, regions: &[String], each: usize) -> Self {
        let mut nodes = Vec::new();
        let total = regions.len() * each;
        let many = total > MANY;
        let mut defaults = Table::new();
        if many && regions.len() > 1 {
            let state = Table::from_iter([("scope".to_owned(), Value::from("region"))]);
            defaults.insert("state".to_owned(), state.into());
        }
        if total > CROWD {
            let LivenessParams { keepalive_interval, silence_max, suspicion_timeout } = LivenessParams::of_crowd(total);
            let timing = [
                ("keepalive_interval", keepalive_interval),
                ("silence_max", silence_max),
                ("suspicion_timeout", suspicion_timeout),
            ];
            let span = |(name, time): (&str, Duration)| (name.to_owned(), Value::from(Span(time).to_string()));
            defaults.insert("liveness".to_owned(), Table::from_iter(timing.map(span)).into());
            let (own, top) = (ConsensusParams::default(), ConsensusParams::top());
            for (section, interval) in [("consensus", own.checkpoint_interval), ("hierarchy", top.checkpoint_interval)]
            {
                let interval = span(("checkpoint_interval", interval * patience(total)));
                defaults.insert(section.to_owned(), Table::from_iter([interval]).into());
            }
        }
        let holders = if regions.len() > 1 { each } else { total };
        let interval = Span::millis(((total * holders) as u64 * 1_000 / HELD_A_SECOND).max(1_000));
        for region in regions {
            for i in 0..each {
                let number = nodes.len() + 1;
                let sources = match many {
                    true => vec![SourceConfig::Simulated(SimulatedSource { interval, ..simulated(number) })],
                    false => own_sources(number),
                };
                nodes.push(ClusterNode {
                    id: format!("gw-{number}"),
                    region: region.clone(),
                    // The leader adds voters up to voters_max by itself; three are enough to begin with.
                    voter: i < 3,
                    listen: None,
                    api: None,
                    namespace: None,
                    settings: Table::new(),
                    sources,
                });
            }
        }
        Self { name: name.to_owned(), base_port: BASE_PORT, defaults, nodes }
    }

    /// Peer address of a node.
    pub fn listen(&self, i: usize) -> String {
        let port = self.base_port as usize + 1 + i;
        self.nodes[i].listen.clone().unwrap_or_else(|| format!("127.0.0.1:{port}"))
    }

    /// API address of a node.
    pub fn api(&self, i: usize) -> String {
        let offset = (API_OFFSET as usize).max(self.nodes.len().next_multiple_of(100));
        let port = self.base_port as usize + offset + 1 + i;
        self.nodes[i].api.clone().unwrap_or_else(|| format!("127.0.0.1:{port}"))
    }

    /// The complete file of one node. Its data directory is absolute, so that the file may lie anywhere.
    pub fn node_toml(&self, i: usize, data_dir: &Path) -> String {
        let node = &self.nodes[i];
        let mut table = Table::new();
        overlay(&mut table, &self.defaults);
        overlay(&mut table, &node.settings);
        let mut voters: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for voter in self.nodes.iter().filter(|node| node.voter) {
            voters.entry(voter.region.clone()).or_default().push(voter.id.clone().into());
        }
        let bootstrap: Vec<Value> = self.bootstrap(i).into_iter().map(|other| self.listen(other).into()).collect();
        let identity = Table::from_iter([
            ("id".to_owned(), Value::from(node.id.clone())),
            ("region".to_owned(), node.region.clone().into()),
            ("listen".to_owned(), self.listen(i).into()),
            ("api".to_owned(), self.api(i).into()),
            ("data_dir".to_owned(), data_dir.display().to_string().into()),
        ]);
        let cluster = Table::from_iter([
            ("name".to_owned(), Value::from(self.name.clone())),
            ("bootstrap".to_owned(), bootstrap.into()),
            ("voters".to_owned(), Value::Table(voters.into_iter().map(|(k, v)| (k, v.into())).collect())),
        ]);
        let own = Table::from_iter([("node".to_owned(), identity.into()), ("cluster".to_owned(), cluster.into())]);
        overlay(&mut table, &own);
        if !node.sources.is_empty() {
            let sources = Value::try_from(&node.sources).expect("our own types are TOML");
            table.insert("sources".into(), sources);
        }
        toml::to_string_pretty(&table).expect("tables are TOML")
    }

    /// Whom a node contacts first: a few of its own region, and one of some others; the rest is learned from them. The
    /// first voters found the cluster once all of them have met: nobody else can tell them of each other before.
    fn bootstrap(&self, i: usize) -> Vec<usize> {
        if self.nodes[i].voter {
            return (0..self.nodes.len()).filter(|other| *other != i && self.nodes[*other].voter).collect();
        }
        let region = &self.nodes[i].region;
        let others = (0..self.nodes.len()).filter(|other| *other != i);
        let (own, abroad): (Vec<usize>, Vec<usize>) = others.partition(|other| self.nodes[*other].region == *region);
        let mut firsts: BTreeMap<&str, usize> = BTreeMap::new();
        for other in abroad {
            firsts.entry(&self.nodes[other].region).or_insert(other);
        }
        // Those that follow one's own in order: not the same ones for everybody.
        let (before, after): (Vec<_>, Vec<_>) = firsts.into_iter().partition(|(name, _)| *name < region.as_str());
        let abroad = after.into_iter().chain(before).map(|(_, first)| first);
        own.into_iter().take(BOOTSTRAP_OWN).chain(abroad.take(BOOTSTRAP_ABROAD)).collect()
    }

    /// Makes room for a node that joins later, and returns its place.
    pub fn add_node(&mut self, region: Option<&str>) -> usize {
        let number = (1..).find(|n| !self.nodes.iter().any(|node| node.id == format!("gw-{n}"))).expect("some is free");
        let region = region.map_or_else(|| self.nodes[0].region.clone(), str::to_owned);
        // Its ports are its own from the beginning: those of the others must not move.
        let taken: BTreeSet<String> = (0..self.nodes.len()).flat_map(|i| [self.listen(i), self.api(i)]).collect();
        let apis = (API_OFFSET as usize).max(self.nodes.len().next_multiple_of(100));
        for i in 0..self.nodes.len() {
            let (listen, api) = (self.listen(i), self.api(i));
            self.nodes[i].listen = Some(listen);
            self.nodes[i].api = Some(api);
        }
        let free = |from: usize| {
            let mut ports = (from + 1..65_536).map(|port| format!("127.0.0.1:{port}"));
            ports.find(|addr| !taken.contains(addr)).unwrap_or_else(|| "127.0.0.1:0".into())
        };
        let (listen, api) = (free(self.base_port as usize), free(self.base_port as usize + apis));
        self.nodes.push(ClusterNode {
            id: format!("gw-{number}"),
            region,
            voter: false,
            listen: Some(listen),
            api: Some(api),
            namespace: None,
            settings: Table::new(),
            sources: own_sources(number),
        });
        self.nodes.len() - 1
    }

    /// The file that says all this.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("our own types are TOML")
    }
}

/// What a node of a generated cluster reads: this machine, and a temperature of its own.
fn own_sources(number: usize) -> Vec<SourceConfig> {
    vec![SourceConfig::System(SystemSource::default()), SourceConfig::Simulated(simulated(number))]
}

fn simulated(number: usize) -> SimulatedSource {
    SimulatedSource { seed: Some(number as u64), ..SimulatedSource::default() }
}

/// Lays sections over sections.
fn overlay(base: &mut Table, over: &Table) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => overlay(base, over),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

/// The defaults of a node, for `config show` without a file.
pub fn default_node() -> RawNode {
    RawNode::default()
}
