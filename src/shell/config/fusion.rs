//! What must hold of `[fusion]`, and of the units of local sources and groups.

use std::time::Duration;

use crate::core::fusion::params::{FusionParams, Rules};
use crate::core::fusion::units::Conversion;
use crate::core::id::{Channel, NodeId};
use crate::shell::config::duration::Span;
use crate::shell::config::raw::RawNode;
use crate::shell::config::sources::SourceConfig;
use crate::shell::fusion::FusionConfig;

/// Checks everything; what is wrong is given to `add` with its key.
pub(super) fn check(raw: &RawNode, mut add: impl FnMut(&str, String)) -> (Rules, FusionConfig) {
    let r = &raw.fusion;
    for (key, span, min) in [("ttl", r.ttl, 10), ("drift_after", r.drift_after, 1000)] {
        let (least, most) = (Duration::from_millis(min), Duration::from_secs(365 * 24 * 3600));
        if span.0 < least || span.0 > most {
            add(key, format!("is {span}; it must lie between {} and {}", Span(least), Span(most)));
        }
    }
    for (key, value, max) in
        [("walk", r.walk, 1000.0), ("coverage", r.coverage, 1000.0), ("smoothing", r.smoothing, 1000.0)]
    {
        let positive = key != "coverage" || value > 0.0;
        if !(0.0..=max).contains(&value) || !positive {
            add(key, format!("is {value}; it must lie between 0 and {max}"));
        }
    }
    if !r.battery_min.is_finite() || r.battery_min < 0.0 {
        add("battery_min", format!("is {}; it must not be negative", r.battery_min));
    }
    let params = FusionParams {
        ttl_ms: r.ttl.0.as_millis() as u64,
        walk: r.walk,
        coverage: r.coverage,
        method: r.method,
        groups: r.group.clone(),
        sensors: r.sensor.clone(),
        exclude: r.exclude.clone(),
    };
    let rules = match Rules::new(params) {
        Ok(rules) => rules,
        Err(error) => {
            let key = error.rule.split(' ').next().filter(|key| ["group", "exclude"].contains(key)).unwrap_or("sensor");
            add(key, format!("is refused: {error}"));
            Rules::default()
        }
    };
    for why in incompatible(raw, &rules) {
        add("group", why);
    }
    let config = FusionConfig {
        diagnose: r.diagnose,
        drift_after: r.drift_after.0,
        battery_quantity: r.battery_quantity.clone(),
        battery_min: r.battery_min,
        smoothing: r.smoothing,
    };
    (rules, config)
}

/// Local sources that feed a group in a unit that does not convert to the group's.
fn incompatible(raw: &RawNode, rules: &Rules) -> Vec<String> {
    let Ok(node) = NodeId::new(&raw.node.id) else { return Vec::new() };
    let mut found = Vec::new();
    for source in &raw.sources {
        for (channel, unit) in channels_with_units(source) {
            let Ok(channel) = Channel::new(&channel) else { continue };
            for group in rules.groups_of(&node, &channel) {
                let Some(wanted) = &group.unit else { continue };
                if let Err(error) = Conversion::between(Some(&unit), wanted) {
                    let (source, name) = (source.name(), &group.name);
                    found.push(format!("{name} takes {channel} of source {source}, but {error}"));
                }
            }
        }
    }
    found
}

/// The channels that a source is known to feed before it starts, with their units.
fn channels_with_units(source: &SourceConfig) -> Vec<(String, String)> {
    match source {
        SourceConfig::Simulated(source) => vec![(source.channel.clone(), source.unit.clone())],
        SourceConfig::Exec(source) => source.unit.iter().map(|unit| (source.channel.clone(), unit.clone())).collect(),
        SourceConfig::Replay(source) => {
            let of_prefix = |prefix: &String| {
                let named = source.units.iter();
                let prefix = prefix.clone();
                named.map(move |(sensor, unit)| {
                    let channel = if prefix.is_empty() { sensor.clone() } else { format!("{prefix}/{sensor}") };
                    (channel, unit.clone())
                })
            };
            source.nodes.values().flat_map(of_prefix).collect()
        }
        SourceConfig::System(_) | SourceConfig::Hwmon(_) | SourceConfig::Stdin(_) | SourceConfig::File(_) => Vec::new(),
    }
}
