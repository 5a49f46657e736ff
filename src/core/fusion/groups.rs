//! Keeping groups up to date reading by reading: one changed reading touches its own groups, and no other.

use std::collections::BTreeMap;

use crate::core::fusion::estimate::{Contribution, Estimate, Subject, estimate, explain};
use crate::core::fusion::params::{GroupRule, Rules};
use crate::core::fusion::partial::{EXACT_MAX, Member, Partial, Sensor, Share};
use crate::core::fusion::units::Conversion;
use crate::core::id::{Channel, NodeId, RegionId};
use crate::core::reading::{Quality, Reading};
use crate::core::time::Wall;

/// The group of all regions' sensors of a quantity.
pub const GLOBAL: &str = "global";

/// What a group of one region's sensors is known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// What is measured.
    pub quantity: String,
    /// In which unit.
    pub unit: Option<String>,
    /// The rule that makes it a group; `None` for all sensors of the quantity.
    pub rule: Option<String>,
}

impl GroupKey {
    /// What an estimate of it is of, in one region or across several.
    pub fn subject(&self, region: Option<&RegionId>) -> Subject {
        let by_region = || region.map_or_else(|| GLOBAL.to_owned(), ToString::to_string);
        Subject {
            quantity: self.quantity.clone(),
            group: self.rule.clone().unwrap_or_else(by_region),
            region: region.cloned(),
            unit: self.unit.clone(),
        }
    }
}

/// All groups, with the newest reading of each of their sensors.
#[derive(Clone, Debug)]
pub struct Groups {
    rules: Rules,
    groups: BTreeMap<GroupKey, BTreeMap<RegionId, BTreeMap<Sensor, Member>>>,
    /// Which groups a sensor is in.
    places: BTreeMap<Sensor, Vec<(GroupKey, RegionId)>>,
}

impl Groups {
    /// None yet.
    pub fn new(rules: Rules) -> Self {
        Self { rules, groups: BTreeMap::new(), places: BTreeMap::new() }
    }

    /// The rules that make them.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Takes a sensor's newest reading.
    pub fn put(&mut self, region: &RegionId, node: &NodeId, channel: &Channel, reading: &Reading) {
        let sensor = Sensor { node: node.clone(), channel: channel.clone() };
        let members = members(&self.rules, region, &sensor, reading);
        let same = self.places.get(&sensor).is_some_and(|places| {
            places.iter().zip(&members).all(|((key, at), (new, _))| key == new && at == region)
                && places.len() == members.len()
        });
        if !same {
            self.remove(&sensor);
            let places = members.iter().map(|(key, _)| (key.clone(), region.clone())).collect();
            self.places.insert(sensor.clone(), places);
        }
        for (key, member) in members {
            let group = self.groups.entry(key).or_default().entry(region.clone()).or_default();
            group.insert(sensor.clone(), member);
        }
    }

    /// Takes a sensor out.
    pub fn remove(&mut self, sensor: &Sensor) {
        for (key, region) in self.places.remove(sensor).unwrap_or_default() {
            let Some(regions) = self.groups.get_mut(&key) else { continue };
            if let Some(group) = regions.get_mut(&region) {
                group.remove(sensor);
            }
            regions.retain(|_, group| !group.is_empty());
            if regions.is_empty() {
                self.groups.remove(&key);
            }
        }
    }

    /// The groups that a sensor is in.
    pub fn of(&self, sensor: &Sensor) -> &[(GroupKey, RegionId)] {
        self.places.get(sensor).map_or(&[], Vec::as_slice)
    }

    /// All sensors with the time of their newest reading.
    pub fn sensors(&self) -> impl Iterator<Item = (&Sensor, Wall)> {
        self.places.iter().filter_map(|(sensor, places)| {
            let (key, region) = places.first()?;
            Some((sensor, self.groups.get(key)?.get(region)?.get(sensor)?.time))
        })
    }

    /// How many sensors a group has: in one region, or in all.
    pub fn len_of(&self, key: &GroupKey, region: Option<&RegionId>) -> usize {
        self.regions(key, region).map(|(_, members)| members.len()).sum()
    }

    fn regions<'a>(
        &'a self,
        key: &GroupKey,
        region: Option<&'a RegionId>,
    ) -> impl Iterator<Item = (&'a RegionId, &'a BTreeMap<Sensor, Member>)> {
        let regions = self.groups.get(key).into_iter().flatten();
        regions.filter(move |(of, _)| region.is_none_or(|region| region == *of))
    }

    /// A region's share of a group, word for word up to `exact_max` sensors.
    pub fn share(&self, key: &GroupKey, region: &RegionId, exact_max: usize, at: Wall) -> Option<Share> {
        let members = self.groups.get(key)?.get(region)?;
        let terms = self.rules.terms(key.rule.as_deref());
        Some(Share::new(members.values().cloned().collect(), exact_max, &terms, at))
    }

    /// A group's partial: of one region, or of all.
    pub fn partial(&self, key: &GroupKey, region: Option<&RegionId>, at: Wall) -> Partial {
        let mut partial = Partial::default();
        for (of, _) in self.regions(key, region) {
            if let Some(share) = self.share(key, of, EXACT_MAX, at) {
                partial.merge(&Partial::of(of.clone(), share));
            }
        }
        partial
    }

    /// A group's estimate: of one region, or of all.
    pub fn estimate(&self, key: &GroupKey, region: Option<&RegionId>, at: Wall) -> Estimate {
        let terms = self.rules.terms(key.rule.as_deref());
        estimate(key.subject(region), &self.partial(key, region, at), &terms, at)
    }

    /// The same, and everybody's part in it.
    pub fn explain(&self, key: &GroupKey, region: Option<&RegionId>, at: Wall) -> (Estimate, Vec<Contribution>) {
        let terms = self.rules.terms(key.rule.as_deref());
        explain(key.subject(region), &self.partial(key, region, at), &terms, at)
    }

    /// Every region's groups, in order; where a group has several regions, that of all of them first.
    pub fn subjects(&self) -> Vec<(GroupKey, Option<RegionId>)> {
        let mut found = Vec::new();
        for (key, regions) in &self.groups {
            if regions.len() > 1 {
                found.push((key.clone(), None));
            }
            found.extend(regions.keys().map(|region| (key.clone(), Some(region.clone()))));
        }
        found
    }
}

/// A group's key in borrowed words, in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupRef<'a> {
    quantity: &'a str,
    unit: Option<&'a str>,
    pub(super) rule: Option<&'a str>,
}

impl GroupRef<'_> {
    pub(super) fn to_key(self) -> GroupKey {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        GroupKey { quantity: self.quantity.to_owned(), unit: owned(self.unit), rule: owned(self.rule) }
    }
}

/// The groups of a sensor that measures in `unit`: that of its quantity first, then those that rules make; none of a
/// channel that is no sensor.
pub(super) fn places<'a>(
    rules: &'a Rules,
    node: &'a NodeId,
    channel: &'a Channel,
    unit: Option<&'a str>,
) -> impl Iterator<Item = (GroupRef<'a>, Option<&'a GroupRule>)> {
    let quantity = quantity(channel);
    let by_rule = move |rule: &'a GroupRule| {
        let place = GroupRef {
            quantity: rule.quantity.as_deref().unwrap_or(quantity),
            unit: rule.unit.as_deref().or(unit),
            rule: Some(&rule.name),
        };
        (place, Some(rule))
    };
    let all = std::iter::once((GroupRef { quantity, unit, rule: None }, None));
    let is_sensor = !rules.excludes(channel);
    all.chain(rules.groups_of(node, channel).map(by_rule)).filter(move |_| is_sensor)
}

/// A reading as a member of the group of its quantity.
pub(super) fn member(rules: &Rules, region: &RegionId, sensor: Sensor, reading: &Reading) -> Member {
    let known = rules.sensor(region, &sensor.node, &sensor.channel);
    let outside = |value: f64| {
        known.is_some_and(|rule| rule.min.is_some_and(|min| value < min) || rule.max.is_some_and(|max| value > max))
    };
    let fault = match reading.quality {
        Quality::Good if reading.value.is_some_and(outside) => Some("range".to_owned()),
        Quality::Good => None,
        Quality::Uncertain => Some(reason(reading.note.as_deref(), "uncertain")),
        Quality::Bad => Some("failed".to_owned()),
    };
    Member {
        sensor,
        value: reading.value,
        sigma: reading.sigma.or_else(|| known.and_then(|rule| rule.sigma)),
        spread: known.and_then(|rule| rule.spread).unwrap_or(0.0),
        time: reading.time,
        fault,
    }
}

/// A member that measures in `unit`, as a member of the group that a rule makes.
pub(super) fn by_rule(member: &Member, unit: Option<&str>, rule: &GroupRule) -> Member {
    let conversion = match &rule.unit {
        Some(wanted) => Conversion::between(unit, wanted),
        None => Ok(Conversion::IDENTITY),
    };
    match conversion {
        Ok(c) => Member {
            value: member.value.map(|value| c.value(value)).filter(|value| value.is_finite()),
            sigma: member.sigma.map(|sigma| c.sigma(sigma)),
            spread: c.sigma(member.spread),
            ..member.clone()
        },
        Err(error) => Member { value: None, fault: Some(format!("unit {}", error.from)), ..member.clone() },
    }
}

/// A reading as a member of each of its groups: that of its quantity first, then those of the rules.
fn members(rules: &Rules, region: &RegionId, sensor: &Sensor, reading: &Reading) -> Vec<(GroupKey, Member)> {
    let (own, unit) = (member(rules, region, sensor.clone(), reading), reading.unit.as_deref());
    let placed = places(rules, &sensor.node, &sensor.channel, unit).map(|(place, rule)| {
        let member = rule.map_or_else(|| own.clone(), |rule| by_rule(&own, unit, rule));
        (place.to_key(), member)
    });
    placed.collect()
}

/// What a channel measures: the last part of its name.
pub fn quantity(channel: &Channel) -> &str {
    channel.as_str().rsplit('/').next().unwrap_or_default()
}

/// The first word of a note, if it has one.
fn reason(note: Option<&str>, other: &str) -> String {
    let word = note.and_then(|note| note.split(|c: char| !c.is_alphanumeric() && c != '-' && c != ' ').next());
    word.map(str::trim).filter(|word| !word.is_empty()).unwrap_or(other).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fusion::estimate::Status;
    use crate::core::fusion::params::{FusionParams, SensorRule};

    const NOW: Wall = Wall::from_millis(1_700_000_000_000);

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn put(groups: &mut Groups, region: &str, name: &str, channel: &str, value: f64, unit: &str) {
        let reading = Reading { unit: Some(unit.into()), sigma: Some(0.1), ..Reading::new(value, NOW) };
        groups.put(&RegionId::new(region).unwrap(), &node(name), &Channel::new(channel).unwrap(), &reading);
    }

    fn subjects(groups: &Groups) -> Vec<(String, String)> {
        let shown = groups.subjects().into_iter().map(|(key, region)| {
            let subject = key.subject(region.as_ref());
            (subject.quantity, subject.group)
        });
        shown.collect()
    }

    #[test]
    fn sensors_are_grouped_by_quantity_unit_and_region() {
        let mut groups = Groups::new(Rules::default());
        put(&mut groups, "eu", "a", "lobby/temp", 20.0, "°C");
        put(&mut groups, "eu", "b", "temp", 20.1, "°C");
        put(&mut groups, "us", "c", "temp", 20.2, "°C");
        put(&mut groups, "us", "c", "hum", 40.0, "%");
        let of = |quantity: &str, group: &str| (quantity.to_owned(), group.to_owned());
        assert_eq!(subjects(&groups), [of("hum", "us"), of("temp", "global"), of("temp", "eu"), of("temp", "us")]);
        let (key, _) = groups.subjects()[1].clone();
        assert_eq!(groups.estimate(&key, None, NOW).n, 3);
        groups.remove(&Sensor { node: node("c"), channel: Channel::new("temp").unwrap() });
        assert_eq!(subjects(&groups), [of("hum", "us"), of("temp", "eu")]);
    }

    #[test]
    fn a_channel_that_is_no_sensor_takes_part_in_nothing() {
        let all = GroupRule { name: "all".into(), channels: vec!["**".into()], ..GroupRule::default() };
        let params = FusionParams { groups: vec![all], ..FusionParams::default() };
        let mut groups = Groups::new(Rules::new(params).unwrap());
        put(&mut groups, "eu", "a", "sensorctl-load/7", 1e9, "°C");
        assert!(groups.subjects().is_empty());
        put(&mut groups, "eu", "a", "7", 20.0, "°C");
        put(&mut groups, "eu", "a", "sensorctl-load/7", 1e9, "°C");
        assert_eq!(subjects(&groups).len(), 2, "that of its quantity, and the rule's");
        assert!(groups.subjects().iter().all(|(key, region)| groups.len_of(key, region.as_ref()) == 1));
    }

    #[test]
    fn a_sensor_that_moves_or_changes_its_unit_stands_in_one_place() {
        let mut groups = Groups::new(Rules::default());
        put(&mut groups, "eu", "a", "temp", 20.0, "°C");
        put(&mut groups, "us", "a", "temp", 20.0, "°C");
        put(&mut groups, "us", "a", "temp", 68.0, "°F");
        assert_eq!(subjects(&groups), [("temp".to_owned(), "us".to_owned())]);
        assert_eq!(groups.subjects()[0].0.unit.as_deref(), Some("°F"));
    }

    #[test]
    fn a_rule_converts_units_and_rejects_what_does_not_convert() {
        let hall = GroupRule {
            name: "hall".into(),
            channels: vec!["hall/*".into(), "temp".into()],
            nodes: vec!["gw-*".into()],
            quantity: Some("temperature".into()),
            unit: Some("°C".into()),
            ..GroupRule::default()
        };
        let rules = Rules::new(FusionParams { groups: vec![hall], ..FusionParams::default() }).unwrap();
        let mut groups = Groups::new(rules);
        put(&mut groups, "eu", "gw-1", "temp", 20.0, "°C");
        put(&mut groups, "eu", "gw-2", "hall/a", 68.0, "°F");
        put(&mut groups, "eu", "gw-3", "hall/b", 20.05, "°C");
        put(&mut groups, "eu", "gw-4", "hall/c", 1000.0, "hPa");
        put(&mut groups, "eu", "other", "temp", 90.0, "°C");
        let (key, region) = groups.subjects().into_iter().find(|(key, _)| key.rule.is_some()).unwrap();
        let estimate = groups.estimate(&key, region.as_ref(), NOW);
        assert_eq!((estimate.n, estimate.used, estimate.status), (4, 3, Status::Ok));
        assert_eq!((estimate.rejected[0].node.as_str(), estimate.rejected[0].reason.as_str()), ("gw-4", "unit hPa"));
        assert!((estimate.value.unwrap() - 20.0).abs() < 0.1, "{estimate:?}");
    }

    #[test]
    fn what_a_gateway_says_of_its_sensor_counts() {
        let sensor = SensorRule { sensors: "**/temp".into(), max: Some(60.0), ..SensorRule::default() };
        let rules = Rules::new(FusionParams { sensors: vec![sensor], ..FusionParams::default() }).unwrap();
        let mut groups = Groups::new(rules);
        put(&mut groups, "eu", "a", "temp", 20.0, "°C");
        put(&mut groups, "eu", "b", "temp", 122.15, "°C");
        let drifting = Reading {
            unit: Some("°C".into()),
            quality: Quality::Uncertain,
            note: Some("drift: 4.1 °C from its peers".into()),
            ..Reading::new(24.0, NOW)
        };
        groups.put(&RegionId::new("eu").unwrap(), &node("c"), &Channel::new("temp").unwrap(), &drifting);
        let (key, region) = groups.subjects()[0].clone();
        let reasons: Vec<String> =
            groups.estimate(&key, region.as_ref(), NOW).rejected.into_iter().map(|r| r.reason).collect();
        assert_eq!(reasons, ["range", "drift"]);
    }

    #[test]
    fn a_rules_bounds_are_values_that_can_be() {
        let sensor = SensorRule { sensors: "**/hum".into(), min: Some(0.0), max: Some(100.0), ..SensorRule::default() };
        let rules = Rules::new(FusionParams { sensors: vec![sensor], ..FusionParams::default() }).unwrap();
        let fault = |value: f64| {
            let sensor = Sensor { node: node("a"), channel: Channel::new("hum").unwrap() };
            member(&rules, &RegionId::new("eu").unwrap(), sensor, &Reading::new(value, NOW)).fault
        };
        assert!([0.0, 50.0, 100.0].into_iter().all(|value| fault(value).is_none()));
        assert!([-0.1, 100.1].into_iter().all(|value| fault(value).as_deref() == Some("range")));
    }

    /// The narrowest last: that is where its peers are looked for.
    #[test]
    fn a_sensor_is_in_the_group_of_its_quantity_and_then_in_those_of_the_rules_that_name_it() {
        let hall = GroupRule { name: "hall".into(), channels: vec!["hall/*".into()], ..GroupRule::default() };
        let rules = Rules::new(FusionParams { groups: vec![hall], ..FusionParams::default() }).unwrap();
        let mut groups = Groups::new(rules);
        put(&mut groups, "eu", "a", "hall/temp", 20.0, "°C");
        put(&mut groups, "us", "b", "temp", 20.0, "°C");
        let sensor = |name: &str, channel: &str| Sensor { node: node(name), channel: Channel::new(channel).unwrap() };
        let of = |groups: &Groups, sensor: &Sensor| {
            let places = groups.of(sensor).iter();
            places.map(|(key, region)| (key.quantity.clone(), key.rule.clone(), region.to_string())).collect::<Vec<_>>()
        };
        let place = |rule: Option<&str>, region: &str| ("temp".to_owned(), rule.map(str::to_owned), region.to_owned());
        let (a, b) = (sensor("a", "hall/temp"), sensor("b", "temp"));
        assert_eq!(of(&groups, &a), [place(None, "eu"), place(Some("hall"), "eu")]);
        assert_eq!(of(&groups, &b), [place(None, "us")]);
        assert!(of(&groups, &sensor("b", "hall/temp")).is_empty());
        groups.remove(&a);
        assert!(of(&groups, &a).is_empty());
    }
}
