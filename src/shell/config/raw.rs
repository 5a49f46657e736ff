//! What a node's file may say, with the defaults. `configs/node.toml` documents every field.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::core::fusion::interval::Method;
use crate::core::fusion::params::{FusionParams, GroupRule, SensorRule};
use crate::core::ledger::document::PROTOCOL_VERSION;
use crate::core::params::{ConsensusParams, GossipParams, LivenessParams};
use crate::core::state::entry::Scope;
use crate::shell::config::duration::{SignedSpan, Span};
use crate::shell::config::sources::SourceConfig;
use crate::shell::fusion::FusionConfig;

/// A node's file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawNode {
    pub node: RawIdentity,
    pub cluster: RawCluster,
    pub state: RawState,
    pub gossip: RawGossip,
    pub liveness: RawLiveness,
    pub consensus: RawConsensus,
    pub fusion: RawFusion,
    pub hierarchy: RawHierarchy,
    pub log: RawLog,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceConfig>,
}

impl RawNode {
    /// The file that says all this.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("our own types are TOML")
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawIdentity {
    pub id: String,
    pub region: String,
    pub listen: String,
    pub advertise: String,
    pub api: String,
    pub data_dir: String,
    pub clock_offset: SignedSpan,
    pub protocol: [u32; 2],
}

impl Default for RawIdentity {
    fn default() -> Self {
        Self {
            id: "gw-1".into(),
            region: "main".into(),
            listen: "127.0.0.1:7401".into(),
            advertise: String::new(),
            api: "127.0.0.1:7501".into(),
            data_dir: "data".into(),
            clock_offset: SignedSpan::default(),
            protocol: [PROTOCOL_VERSION; 2],
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawCluster {
    pub name: String,
    pub bootstrap: Vec<String>,
    pub voters: BTreeMap<String, Vec<String>>,
}

impl Default for RawCluster {
    fn default() -> Self {
        Self { name: "sensors".into(), bootstrap: Vec::new(), voters: BTreeMap::new() }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawState {
    pub scope: Scope,
    pub clock_skew_max: Span,
    pub retain: Span,
    pub store_interval: Span,
    pub frame_bytes_max: u64,
}

impl Default for RawState {
    fn default() -> Self {
        Self {
            scope: Scope::Global,
            clock_skew_max: Span::secs(10),
            retain: Span::secs(24 * 3600),
            store_interval: Span::secs(1),
            frame_bytes_max: 4 * 1024 * 1024,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawGossip {
    pub overlay_degree: u64,
    pub cross_links: u64,
    pub push_delay: Span,
    pub flush_bytes: u64,
    pub repair_interval: Span,
    pub settle_after: Span,
    pub sketch_symbols_max: u64,
    pub redial_min: Span,
    pub redial_max: Span,
    pub swap_interval: Span,
}

impl Default for RawGossip {
    fn default() -> Self {
        let p = GossipParams::default();
        Self {
            overlay_degree: p.overlay_degree as u64,
            cross_links: p.cross_links as u64,
            push_delay: Span(p.push_delay),
            flush_bytes: p.flush_bytes as u64,
            repair_interval: Span(p.repair_interval),
            settle_after: Span(p.settle_after),
            sketch_symbols_max: p.sketch_symbols_max as u64,
            redial_min: Span(p.redial_min),
            redial_max: Span(p.redial_max),
            swap_interval: Span(p.swap_interval),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawLiveness {
    pub keepalive_interval: Span,
    pub silence_max: Span,
    pub suspicion_timeout: Span,
}

impl Default for RawLiveness {
    fn default() -> Self {
        let p = LivenessParams::default();
        Self {
            keepalive_interval: Span(p.keepalive_interval),
            silence_max: Span(p.silence_max),
            suspicion_timeout: Span(p.suspicion_timeout),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawConsensus {
    pub heartbeat_interval: Span,
    pub election_timeout: Span,
    pub checkpoint_interval: Span,
    pub voters_max: u64,
    pub voter_replace_after: Span,
    pub bodies_kept: u64,
}

impl Default for RawConsensus {
    fn default() -> Self {
        let p = ConsensusParams::default();
        Self {
            heartbeat_interval: Span(p.heartbeat_interval),
            election_timeout: Span(p.election_timeout),
            checkpoint_interval: Span(p.checkpoint_interval),
            voters_max: p.voters_max as u64,
            voter_replace_after: Span(p.voter_replace_after),
            bodies_kept: p.bodies_kept as u64,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawFusion {
    pub ttl: Span,
    pub walk: f64,
    pub coverage: f64,
    pub method: Method,
    pub exclude: Vec<String>,
    pub in_checkpoints: bool,
    pub diagnose: bool,
    pub drift_after: Span,
    pub battery_quantity: String,
    pub battery_min: f64,
    pub smoothing: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group: Vec<GroupRule>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sensor: Vec<SensorRule>,
}

impl Default for RawFusion {
    fn default() -> Self {
        let (p, c) = (FusionParams::default(), FusionConfig::default());
        Self {
            ttl: Span::millis(p.ttl_ms),
            walk: p.walk,
            coverage: p.coverage,
            method: p.method,
            exclude: p.exclude,
            in_checkpoints: true,
            diagnose: c.diagnose,
            drift_after: Span(c.drift_after),
            battery_quantity: c.battery_quantity,
            battery_min: c.battery_min,
            smoothing: c.smoothing,
            group: Vec::new(),
            sensor: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawHierarchy {
    pub heartbeat_interval: Span,
    pub election_timeout: Span,
    pub election_timeout_max: Span,
    pub checkpoint_interval: Span,
}

impl Default for RawHierarchy {
    fn default() -> Self {
        Self {
            heartbeat_interval: Span(ConsensusParams::top().heartbeat_interval),
            election_timeout: Span::secs(3),
            election_timeout_max: Span::secs(5),
            checkpoint_interval: Span(ConsensusParams::top().checkpoint_interval),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawLog {
    pub level: String,
    pub format: RawLogFormat,
}

impl Default for RawLog {
    fn default() -> Self {
        Self { level: "info".into(), format: RawLogFormat::Text }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawLogFormat {
    Text,
    Json,
}
