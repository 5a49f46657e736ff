//! What must hold of the values and between them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use crate::core::id::{NodeId, RegionId};
use crate::core::params::{ConsensusParams, GossipParams, LivenessParams, Params};
use crate::shell::config::duration::Span;
use crate::shell::config::error::Locator;
use crate::shell::config::raw::{RawLogFormat, RawNode};
use crate::shell::config::{ConfigError, IN_MEMORY, NodeConfig};
use crate::shell::telemetry::LogFormat;

/// Collects findings, each with its place.
struct Findings<'a> {
    at: &'a Locator<'a>,
    found: Vec<String>,
}

impl Findings<'_> {
    fn add(&mut self, section: &str, key: &str, why: impl AsRef<str>) {
        let place = self.at.place(section, key);
        self.found.push(format!("{place}: {section}.{key} {}", why.as_ref()));
    }

    fn duration(&mut self, section: &str, key: &str, value: Span, min: Duration, max: Duration) -> Duration {
        if value.0 < min || value.0 > max {
            self.add(section, key, format!("is {value}; it must lie between {} and {}", Span(min), Span(max)));
        }
        value.0
    }

    fn count(&mut self, section: &str, key: &str, value: u64, min: u64, max: u64) -> usize {
        if value < min || value > max {
            self.add(section, key, format!("is {value}; it must lie between {min} and {max}"));
        }
        value as usize
    }

    fn address(&mut self, section: &str, key: &str, value: &str) {
        let port = value.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(_))) {
            self.add(section, key, format!("is {value:?}; write HOST:PORT, for instance \"127.0.0.1:7401\""));
        }
    }
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Checks everything and reports all findings at once.
pub(super) fn node(raw: RawNode, at: &Locator<'_>) -> Result<NodeConfig, ConfigError> {
    let mut f = Findings { at, found: Vec::new() };
    let id = NodeId::new(&raw.node.id).map_err(|error| f.add("node", "id", format!("is refused: {error}"))).ok();
    let region = RegionId::new(&raw.node.region);
    let region = region.map_err(|error| f.add("node", "region", format!("is refused: {error}"))).ok();
    let voters = voters(&raw, &mut f);
    addresses(&raw, &mut f);
    let gossip = gossip(&raw, &mut f);
    let liveness = liveness(&raw, &mut f);
    let consensus = consensus(&raw, &mut f);
    let top = top(&raw, &mut f);
    let clock_skew_max = f.duration("state", "clock_skew_max", raw.state.clock_skew_max, 100 * MS, HOUR);
    let retain = f.duration("state", "retain", raw.state.retain, 10 * SECOND, 365 * DAY);
    let store_interval = f.duration("state", "store_interval", raw.state.store_interval, 10 * MS, HOUR);
    let frame_bytes_max = f.count("state", "frame_bytes_max", raw.state.frame_bytes_max, 3 << 20, 64 << 20);
    if gossip.flush_bytes * 4 > frame_bytes_max {
        f.add(
            "gossip",
            "flush_bytes",
            format!("is {}; keep it below a quarter of state.frame_bytes_max", gossip.flush_bytes),
        );
    }
    let [lowest, highest] = raw.node.protocol;
    if lowest == 0 || lowest > highest {
        f.add(
            "node",
            "protocol",
            format!("is [{lowest}, {highest}]; write the lowest version spoken, 1 or more, and the highest"),
        );
    }
    if raw.cluster.name.is_empty() || raw.cluster.name.len() > 64 {
        f.add("cluster", "name", "must have 1 to 64 characters");
    }
    sources(&raw, &mut f);
    let fusion = super::fusion::check(&raw, |key, why| f.add("fusion", key, why));
    ConfigError::from_findings(f.found)?;

    let (id, region) = (id.expect("checked above"), region.expect("checked above"));
    let advertise = if raw.node.advertise.is_empty() { &raw.node.listen } else { &raw.node.advertise };
    let params = Params {
        api: (!raw.node.api.is_empty()).then(|| raw.node.api.as_str().into()),
        bootstrap: raw.cluster.bootstrap.iter().map(|addr| addr.as_str().into()).collect(),
        initial_voters: voters,
        scope: raw.state.scope,
        clock_skew_max,
        retain,
        store_interval,
        frame_bytes_max,
        gossip,
        liveness,
        consensus,
        fusion: fusion.0,
        estimates: raw.fusion.in_checkpoints,
        top,
        versions: (lowest, highest),
        ..Params::new(&raw.cluster.name, id, region, advertise.as_str().into())
    };
    let offset = raw.node.clock_offset.0.as_millis();
    Ok(NodeConfig {
        params,
        listen: raw.node.listen.clone(),
        api_listen: (!raw.node.api.is_empty()).then(|| raw.node.api.clone()),
        data_dir: (raw.node.data_dir != IN_MEMORY).then(|| PathBuf::from(&raw.node.data_dir)),
        clock_offset_ms: i64::try_from(offset).unwrap_or(i64::MAX),
        log_level: raw.log.level.clone(),
        log_format: match raw.log.format {
            RawLogFormat::Text => LogFormat::Text,
            RawLogFormat::Json => LogFormat::Json,
        },
        fusion: fusion.1,
        sources: raw.sources.clone(),
        raw,
    })
}

fn voters(raw: &RawNode, f: &mut Findings<'_>) -> BTreeMap<RegionId, Vec<NodeId>> {
    let mut voters = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (region, names) in &raw.cluster.voters {
        let region_id = match RegionId::new(region) {
            Ok(region_id) => region_id,
            Err(error) => {
                f.add("cluster.voters", region, format!("is refused: {error}"));
                continue;
            }
        };
        if names.is_empty() {
            f.add("cluster.voters", region, "is empty; a region needs a voter, three or five are usual");
        }
        let mut ids = Vec::new();
        for name in names {
            match NodeId::new(name) {
                Ok(id) if seen.insert(id.clone()) => ids.push(id),
                Ok(id) => f.add("cluster.voters", region, format!("names {id}, which is listed already")),
                Err(error) => f.add("cluster.voters", region, format!("is refused: {error}")),
            }
        }
        voters.insert(region_id, ids);
    }
    if voters.is_empty() && raw.cluster.bootstrap.is_empty() {
        let why = "must list the cluster's initial voters, for instance main = [\"gw-1\", \"gw-2\", \"gw-3\"]; \
                   or name cluster.bootstrap addresses to join a cluster that exists";
        f.add("cluster", "voters", why);
    }
    // A region that was added later is not among the initial ones: its nodes find the cluster by an address.
    let listed = voters.is_empty() || raw.cluster.voters.contains_key(&raw.node.region);
    if !listed && raw.cluster.bootstrap.is_empty() {
        let why = "has no voters for this node's region";
        f.add("cluster", "voters", format!("{why} {}", raw.node.region));
    }
    let others = voters.values().flatten().any(|voter| voter.as_str() != raw.node.id);
    if others && raw.cluster.bootstrap.is_empty() {
        f.add("cluster", "bootstrap", "is empty, so the other voters cannot be found; name their peer addresses");
    }
    voters
}

fn addresses(raw: &RawNode, f: &mut Findings<'_>) {
    f.address("node", "listen", &raw.node.listen);
    if !raw.node.api.is_empty() {
        f.address("node", "api", &raw.node.api);
        if raw.node.api == raw.node.listen {
            f.add("node", "api", "is the same address as node.listen; peers and clients need a port each");
        }
    }
    if !raw.node.advertise.is_empty() {
        f.address("node", "advertise", &raw.node.advertise);
    } else if raw.node.listen.starts_with("0.0.0.0") || raw.node.listen.starts_with("[::]") {
        f.add("node", "advertise", "must say where peers reach this node, since node.listen is every address");
    }
    for addr in &raw.cluster.bootstrap {
        f.address("cluster", "bootstrap", addr);
    }
}

fn gossip(raw: &RawNode, f: &mut Findings<'_>) -> GossipParams {
    let (s, g) = ("gossip", &raw.gossip);
    let params = GossipParams {
        overlay_degree: f.count(s, "overlay_degree", g.overlay_degree, 2, 64),
        cross_links: f.count(s, "cross_links", g.cross_links, 1, 32),
        push_delay: f.duration(s, "push_delay", g.push_delay, Duration::ZERO, SECOND),
        flush_bytes: f.count(s, "flush_bytes", g.flush_bytes, 4096, 16 << 20),
        repair_interval: f.duration(s, "repair_interval", g.repair_interval, 10 * MS, HOUR),
        settle_after: f.duration(s, "settle_after", g.settle_after, Duration::ZERO, HOUR),
        sketch_symbols_max: f.count(s, "sketch_symbols_max", g.sketch_symbols_max, 64, 1 << 20),
        redial_min: f.duration(s, "redial_min", g.redial_min, MS, HOUR),
        redial_max: f.duration(s, "redial_max", g.redial_max, MS, HOUR),
        swap_interval: f.duration(s, "swap_interval", g.swap_interval, 1000 * MS, 24 * HOUR),
    };
    if params.redial_max < params.redial_min {
        f.add(s, "redial_max", "is below gossip.redial_min");
    }
    params
}

fn liveness(raw: &RawNode, f: &mut Findings<'_>) -> LivenessParams {
    let (s, l) = ("liveness", &raw.liveness);
    let params = LivenessParams {
        keepalive_interval: f.duration(s, "keepalive_interval", l.keepalive_interval, 10 * MS, HOUR),
        silence_max: f.duration(s, "silence_max", l.silence_max, 50 * MS, HOUR),
        suspicion_timeout: f.duration(s, "suspicion_timeout", l.suspicion_timeout, 50 * MS, HOUR),
    };
    if params.silence_max < 2 * params.keepalive_interval {
        let why = format!("is {}; keep it at twice liveness.keepalive_interval or more", l.silence_max);
        f.add(s, "silence_max", why);
    }
    params
}

fn consensus(raw: &RawNode, f: &mut Findings<'_>) -> ConsensusParams {
    let (s, c) = ("consensus", &raw.consensus);
    let params = ConsensusParams {
        election_spread: ConsensusParams::default().election_spread,
        heartbeat_interval: f.duration(s, "heartbeat_interval", c.heartbeat_interval, 5 * MS, 60 * SECOND),
        election_timeout: f.duration(s, "election_timeout", c.election_timeout, 25 * MS, 600 * SECOND),
        checkpoint_interval: f.duration(s, "checkpoint_interval", c.checkpoint_interval, 50 * MS, DAY),
        voters_max: f.count(s, "voters_max", c.voters_max, 1, 15),
        voter_replace_after: f.duration(s, "voter_replace_after", c.voter_replace_after, SECOND, 365 * DAY),
        bodies_kept: f.count(s, "bodies_kept", c.bodies_kept, 1, 100_000),
    };
    if params.election_timeout < 5 * params.heartbeat_interval {
        let (timeout, beat) = (c.election_timeout, c.heartbeat_interval);
        f.add(
            s,
            "election_timeout",
            format!("is {timeout}; keep it at five consensus.heartbeat_interval ({beat}) or more"),
        );
    }
    params
}

fn top(raw: &RawNode, f: &mut Findings<'_>) -> ConsensusParams {
    let (s, h) = ("hierarchy", &raw.hierarchy);
    let (least, most) = (h.election_timeout, h.election_timeout_max);
    let params = ConsensusParams {
        heartbeat_interval: f.duration(s, "heartbeat_interval", h.heartbeat_interval, 10 * MS, 60 * SECOND),
        election_timeout: f.duration(s, "election_timeout", least, 50 * MS, 600 * SECOND),
        election_spread: 0,
        checkpoint_interval: f.duration(s, "checkpoint_interval", h.checkpoint_interval, 50 * MS, DAY),
        ..ConsensusParams::top()
    };
    if params.election_timeout < 5 * params.heartbeat_interval {
        let why =
            format!("is {least}; keep it at five hierarchy.heartbeat_interval ({}) or more", h.heartbeat_interval);
        f.add(s, "election_timeout", why);
    }
    if most.0 < least.0 + least.0 / 10 || most.0 > 4 * least.0 {
        let why = format!("is {most}; it must lie between 1.1 and 4 times hierarchy.election_timeout ({least})");
        f.add(s, "election_timeout_max", why);
        return params;
    }
    let spread = (most.0 - least.0).as_micros() * 1000 / least.0.as_micros().max(1);
    ConsensusParams { election_spread: u32::try_from(spread).unwrap_or(u32::MAX), ..params }
}

fn sources(raw: &RawNode, f: &mut Findings<'_>) {
    let mut names = BTreeSet::new();
    for source in &raw.sources {
        if !names.insert(source.name().to_owned()) {
            f.add(
                "sources",
                "name",
                format!("{} is given to two sources; give one of them a name of its own", source.name()),
            );
        }
        for why in source.findings() {
            f.add("sources", "kind", format!("{}: {why}", source.name()));
        }
    }
}
