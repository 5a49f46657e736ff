//! Who belongs together, how well a sensor measures, and every number that estimates are computed with.
//!
//! Documents carry [`FusionParams`] whole: whoever checks an estimate needs nothing else but the readings.

use glob::Pattern as Glob;
use serde::{Deserialize, Serialize};

use crate::core::fusion::interval::Method;
use crate::core::fusion::partial::Terms;
use crate::core::id::{Channel, NodeId, RegionId};
use crate::core::pattern::{OPTIONS, Pattern};

/// How estimates are computed. What is at its default is not written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FusionParams {
    /// A reading older than this takes no part, in milliseconds.
    #[serde(skip_serializing_if = "is_default_ttl")]
    pub ttl_ms: u64,
    /// How fast a reading that is not renewed loses its worth: its variance grows by the square of this, times itself,
    /// every second.
    #[serde(skip_serializing_if = "is_default_walk")]
    pub walk: f64,
    /// A sensor's interval is its value give or take this many standard uncertainties.
    #[serde(skip_serializing_if = "is_default_coverage")]
    pub coverage: f64,
    /// What makes the fault-tolerant interval.
    #[serde(skip_serializing_if = "Method::is_default")]
    pub method: Method,
    /// Groups beside those by quantity and region.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupRule>,
    /// What is known of sensors; the first that names a sensor counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sensors: Vec<SensorRule>,
    /// Channels that are no sensors, as globs: they take part in nothing, whatever a group names.
    #[serde(skip_serializing_if = "is_default_exclude")]
    pub exclude: Vec<String>,
}

impl Default for FusionParams {
    fn default() -> Self {
        Self {
            ttl_ms: 300_000,
            walk: 0.1,
            coverage: 4.0,
            method: Method::default(),
            groups: Vec::new(),
            sensors: Vec::new(),
            exclude: ["sensorctl-*/*", "cpu/load", "memory/used"].map(String::from).into(),
        }
    }
}

fn is_default_ttl(value: &u64) -> bool {
    *value == FusionParams::default().ttl_ms
}

fn is_default_walk(value: &f64) -> bool {
    *value == FusionParams::default().walk
}

fn is_default_coverage(value: &f64) -> bool {
    *value == FusionParams::default().coverage
}

fn is_default_exclude(value: &[String]) -> bool {
    *value == FusionParams::default().exclude
}

/// A group of sensors that measure the same thing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupRule {
    /// Its name.
    pub name: String,
    /// Its channels, as globs: `**/temp`.
    pub channels: Vec<String>,
    /// Its gateways, as globs; all of them if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// What it measures; the last part of each channel's name if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantity: Option<String>,
    /// The unit that readings are converted to; each keeps its own if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Faulty sensors to tolerate; as many as their number allows if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerate: Option<u64>,
    /// What makes the interval, if not the same as everywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
}

/// What is known of sensors that do not say it themselves. Numbers are in the readings' own unit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SensorRule {
    /// Which: `[[REGION/]NODE:]CHANNEL`, each part a glob.
    pub sensors: String,
    /// Standard uncertainty of those that state none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigma: Option<f64>,
    /// How far their places may truly be from what their group measures, as a standard deviation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<f64>,
    /// Below this no such sensor can measure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Above this no such sensor can measure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// Why rules are refused. The operator must correct them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {why}")]
pub struct RuleError {
    /// The group or sensor pattern.
    pub rule: String,
    /// What is wrong with it.
    pub why: String,
}

/// The params, ready to be applied.
#[derive(Clone, Debug)]
pub struct Rules {
    params: FusionParams,
    groups: Vec<Compiled>,
    sensors: Vec<Pattern>,
    exclude: Vec<Glob>,
}

#[derive(Clone, Debug)]
struct Compiled {
    channels: Vec<Glob>,
    nodes: Vec<Glob>,
}

impl Rules {
    /// Reads the patterns and checks the numbers.
    ///
    /// # Errors
    /// [`RuleError`] names the first rule that is wrong.
    pub fn new(params: FusionParams) -> Result<Self, RuleError> {
        let mut names = std::collections::BTreeSet::new();
        let mut groups = Vec::new();
        for rule in &params.groups {
            let error = |why: String| RuleError { rule: format!("group {:?}", rule.name), why };
            if rule.name.is_empty() || !names.insert(&rule.name) {
                return Err(error("every group needs a name of its own".into()));
            }
            if rule.channels.is_empty() {
                return Err(error("channels is empty; write for instance [\"**/temp\"]".into()));
            }
            let globs = |texts: &[String]| {
                let glob =
                    |text: &String| Glob::new(text).map_err(|e| error(format!("{text:?} is no glob: {}", e.msg)));
                texts.iter().map(glob).collect::<Result<Vec<_>, _>>()
            };
            groups.push(Compiled { channels: globs(&rule.channels)?, nodes: globs(&rule.nodes)? });
        }
        let exclude = params.exclude.iter().map(|text| {
            let rule = "exclude".to_owned();
            Glob::new(text).map_err(|e| RuleError { rule, why: format!("{text:?} is no glob: {}", e.msg) })
        });
        let exclude = exclude.collect::<Result<Vec<_>, _>>()?;
        let mut sensors = Vec::new();
        for rule in &params.sensors {
            let error = |why: String| RuleError { rule: format!("sensors {:?}", rule.sensors), why };
            sensors.push(Pattern::parse(&rule.sensors).map_err(|e| error(e.to_string()))?);
            for (name, value) in [("sigma", rule.sigma), ("spread", rule.spread)] {
                if value.is_some_and(|value| !(value >= 0.0 && value.is_finite())) {
                    return Err(error(format!("{name} must not be negative")));
                }
            }
            if rule.min.zip(rule.max).is_some_and(|(min, max)| min.partial_cmp(&max) != Some(std::cmp::Ordering::Less))
            {
                return Err(error("min must be below max".into()));
            }
        }
        let finite = (0.0..=1e3).contains(&params.walk) && params.coverage > 0.0 && params.coverage <= 1e3;
        if !finite {
            return Err(RuleError {
                rule: "fusion".into(),
                why: "walk and coverage must be positive, and 1000 at most".into(),
            });
        }
        Ok(Self { params, groups, sensors, exclude })
    }

    /// What they were made of.
    pub fn params(&self) -> &FusionParams {
        &self.params
    }

    /// Whether a channel is no sensor and takes part in nothing.
    pub fn excludes(&self, channel: &Channel) -> bool {
        self.exclude.iter().any(|glob| glob.matches_with(channel.as_str(), OPTIONS))
    }

    /// The group rules that name a sensor.
    pub fn groups_of(&self, node: &NodeId, channel: &Channel) -> impl Iterator<Item = &GroupRule> {
        let fits = move |globs: &[Glob], text: &str| globs.iter().any(|glob| glob.matches_with(text, OPTIONS));
        let named = self.params.groups.iter().zip(&self.groups).filter(move |(_, compiled)| {
            fits(&compiled.channels, channel.as_str())
                && (compiled.nodes.is_empty() || fits(&compiled.nodes, node.as_str()))
        });
        named.map(|(rule, _)| rule)
    }

    /// What is known of a sensor.
    pub fn sensor(&self, region: &RegionId, node: &NodeId, channel: &Channel) -> Option<&SensorRule> {
        let fits = |pattern: &Pattern| pattern.matches(region.as_str(), node.as_str(), channel.as_str());
        self.params.sensors.iter().zip(&self.sensors).find(|(_, pattern)| fits(pattern)).map(|(rule, _)| rule)
    }

    /// How the estimates of a group are computed: those of this rule, or of a quantity and region.
    pub fn terms(&self, group: Option<&str>) -> Terms {
        let rule = group.and_then(|name| self.params.groups.iter().find(|rule| rule.name == name));
        Terms {
            ttl_ms: self.params.ttl_ms,
            walk: self.params.walk,
            coverage: self.params.coverage,
            tolerate: rule.and_then(|rule| rule.tolerate),
            method: rule.and_then(|rule| rule.method).unwrap_or(self.params.method),
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::new(FusionParams::default()).expect("the defaults are sound")
    }
}

impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        self.params == other.params
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_is_wrong_is_named() {
        let refused = |groups: Vec<GroupRule>, sensors: Vec<SensorRule>| {
            Rules::new(FusionParams { groups, sensors, ..FusionParams::default() }).unwrap_err().to_string()
        };
        let hall = GroupRule { name: "hall".into(), channels: vec!["**/temp".into()], ..GroupRule::default() };
        assert!(refused(vec![hall.clone(), hall.clone()], vec![]).contains("a name of its own"));
        assert!(refused(vec![GroupRule { channels: vec!["[".into()], ..hall.clone() }], vec![]).contains("is no glob"));
        assert!(refused(vec![GroupRule { channels: vec![], ..hall }], vec![]).contains("channels is empty"));
        let exclude = vec!["load/[".to_owned()];
        let wrong = Rules::new(FusionParams { exclude, ..FusionParams::default() }).unwrap_err().to_string();
        assert!(wrong.starts_with("exclude: \"load/[\" is no glob"), "{wrong}");
        let sensor = SensorRule { sensors: "temp".into(), min: Some(2.0), max: Some(1.0), ..SensorRule::default() };
        assert_eq!(refused(vec![], vec![sensor]), "sensors \"temp\": min must be below max");
    }

    #[test]
    fn defaults_are_not_written() {
        assert_eq!(serde_json::to_string(&FusionParams::default()).unwrap(), "{}");
        assert_eq!(serde_json::from_str::<FusionParams>("{}").unwrap(), FusionParams::default());
    }
}
