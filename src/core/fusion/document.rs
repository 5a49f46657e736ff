//! What checkpoints and summaries carry of fusion: estimates that anybody can compute again from the same readings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::core::fusion::estimate::{Estimate, estimate};
use crate::core::fusion::groups::{GroupKey, GroupRef, Groups, by_rule, member, places};
use crate::core::fusion::params::{FusionParams, Rules};
use crate::core::fusion::partial::{EXACT_MAX, Member, Partial, Sensor, Share};
use crate::core::id::{Index, RegionId};
use crate::core::state::entry::{Entry, KeyRef};
use crate::core::time::Wall;

/// Most estimates in a document.
pub const ESTIMATES_MAX: usize = 256;
/// Rejected sensors that an estimate in a document names; the others it counts.
const REJECTED_MAX: usize = 16;
/// Longest summary, in bytes of JSON: it must fit a value, and reach every node.
pub const SUMMARY_BYTES_MAX: usize = 48 * 1024;
/// Up to this many sensors a summary names every one.
const SUMMARY_EXACT_MAX: usize = 64;

/// Estimates, and what they were computed with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fused {
    /// Every number and rule; with the readings and `taken_at` of their document all that is needed.
    pub params: FusionParams,
    /// In order of quantity, unit and rule.
    pub estimates: Vec<Estimate>,
    /// Estimates that were left out because there are too many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: u64,
    /// Only in a global document: regions whose share is not of the checkpoint that the document names, and which one it
    /// is of; null where none was heard.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub of: BTreeMap<RegionId, Option<Index>>,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// `@summary`: a region's groups, mergeable with those of the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Whose.
    pub region: RegionId,
    /// Of which checkpoint's readings.
    pub index: Index,
    /// As of when that was taken.
    pub taken: Wall,
    /// Its groups.
    pub parts: Vec<Part>,
    /// Groups left out because they did not fit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: u64,
}

/// A region's share of one group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// What is measured.
    pub quantity: String,
    /// In which unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The rule that makes the group; absent for all sensors of the quantity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What the region's sensors say.
    pub share: Share,
}

impl Summary {
    /// Checks what somebody else made.
    ///
    /// # Errors
    /// What breaks its bounds.
    pub fn check(&self) -> Result<(), &'static str> {
        self.parts.iter().try_for_each(|part| part.share.check())
    }
}

/// A region's readings by group; what is no reading is left out.
pub fn groups_of<'a>(
    entries: impl Iterator<Item = (KeyRef<'a>, &'a Entry)>,
    region: &RegionId,
    rules: &Rules,
) -> Groups {
    let mut groups = Groups::new(rules.clone());
    for (key, entry) in entries.filter(|(key, _)| !key.channel.is_system()) {
        if let Some(reading) = entry.value.reading() {
            groups.put(region, key.origin, key.channel, &reading);
        }
    }
    groups
}

/// A region's groups that documents and summaries have room for, each with its members in order: among a hundred
/// thousand sensors there may be as many quantities, and those that nobody is told are counted and no more.
#[derive(Clone, Debug)]
pub struct Chosen {
    region: RegionId,
    rules: Rules,
    groups: BTreeMap<GroupKey, Vec<Member>>,
    /// Those that a document estimates: what a rule makes, and quantities with two sensors or more.
    estimated: Vec<GroupKey>,
    /// How many more there are.
    omitted: u64,
    /// Those that a summary tells, lone sensors among them: another region may have more of them.
    told: Vec<GroupKey>,
}

impl Chosen {
    /// Takes a region's readings, in key order.
    pub fn of<'a>(entries: impl Iterator<Item = (KeyRef<'a>, &'a Entry)>, region: &RegionId, rules: &Rules) -> Self {
        let readings = entries.filter(|(key, _)| !key.channel.is_system());
        let readings: Vec<_> = readings.filter_map(|(key, entry)| Some((key, entry.value.reading()?))).collect();
        let mut sensors: BTreeMap<GroupRef<'_>, u32> = BTreeMap::new();
        for (at, reading) in &readings {
            for (place, _) in places(rules, at.origin, at.channel, reading.unit.as_deref()) {
                *sensors.entry(place).or_default() += 1;
            }
        }
        let told: Vec<GroupRef<'_>> = sensors.keys().take(ESTIMATES_MAX).copied().collect();
        let wanted = sensors.iter().filter(|(place, count)| place.rule.is_some() || **count > 1);
        let mut estimated: Vec<GroupRef<'_>> = wanted.map(|(place, _)| *place).collect();
        let omitted = estimated.len().saturating_sub(ESTIMATES_MAX) as u64;
        estimated.truncate(ESTIMATES_MAX);
        let chosen = told.iter().chain(&estimated);
        let mut groups: BTreeMap<GroupRef<'_>, Vec<Member>> = chosen.map(|place| (*place, Vec::new())).collect();
        for (at, reading) in &readings {
            let unit = reading.unit.as_deref();
            let mut own = None;
            for (place, rule) in places(rules, at.origin, at.channel, unit) {
                let Some(group) = groups.get_mut(&place) else { continue };
                let sensor = || Sensor { node: at.origin.clone(), channel: at.channel.clone() };
                let own = own.get_or_insert_with(|| member(rules, region, sensor(), reading));
                group.push(rule.map_or_else(|| own.clone(), |rule| by_rule(own, unit, rule)));
            }
        }
        let keys = |places: Vec<GroupRef<'_>>| places.into_iter().map(GroupRef::to_key).collect();
        Self {
            region: region.clone(),
            rules: rules.clone(),
            estimated: keys(estimated),
            omitted,
            told: keys(told),
            groups: groups.into_iter().map(|(place, members)| (place.to_key(), members)).collect(),
        }
    }

    fn share(&self, key: &GroupKey, exact_max: usize, at: Wall) -> Share {
        let members = self.groups.get(key).cloned().unwrap_or_default();
        Share::new(members, exact_max, &self.rules.terms(key.rule.as_deref()), at)
    }
}

/// The estimates of a region's groups as of `at`. The same readings, rules and time give the same bytes.
pub fn fuse_region(chosen: &Chosen, at: Wall) -> Fused {
    let Chosen { region, rules, estimated, omitted, .. } = chosen;
    let estimated = estimated.iter().map(|key| {
        let partial = Partial::of(region.clone(), chosen.share(key, EXACT_MAX, at));
        estimate(key.subject(Some(region)), &partial, &rules.terms(key.rule.as_deref()), at).naming(REJECTED_MAX)
    });
    let params = rules.params().clone();
    Fused { params, estimates: estimated.collect(), omitted: *omitted, of: BTreeMap::new() }
}

/// What a region's leader publishes of the checkpoint `index`, taken `at`.
pub fn summarize(chosen: &Chosen, index: Index, at: Wall) -> Summary {
    let Chosen { region, told, .. } = chosen;
    let parts = |exact_max: usize| {
        let part = |key: &GroupKey| {
            let GroupKey { quantity, unit, rule } = key.clone();
            Part { quantity, unit, rule, share: chosen.share(key, exact_max, at) }
        };
        told.iter().map(part).collect::<Vec<Part>>()
    };
    let bytes = |part: &Part| serde_json::to_string(part).expect("a part is JSON").len();
    let mut kept = parts(SUMMARY_EXACT_MAX);
    if kept.iter().map(bytes).sum::<usize>() > SUMMARY_BYTES_MAX {
        kept = parts(0);
    }
    let mut omitted = 0;
    let mut sizes: Vec<usize> = kept.iter().map(bytes).collect();
    while sizes.iter().sum::<usize>() > SUMMARY_BYTES_MAX {
        let largest = (0..sizes.len()).max_by_key(|i| sizes[*i]).expect("something is too long");
        kept.remove(largest);
        sizes.remove(largest);
        omitted += 1;
    }
    Summary { region: region.clone(), index, taken: at, parts: kept, omitted }
}

/// The estimates across regions as of `at`, merged from their summaries, in any order; one a region counts, the newest.
pub fn fuse_global<'a>(summaries: impl IntoIterator<Item = &'a Summary>, rules: &Rules, at: Wall) -> Fused {
    let mut partials: BTreeMap<GroupKey, Partial> = BTreeMap::new();
    for summary in summaries {
        for part in &summary.parts {
            let key = GroupKey { quantity: part.quantity.clone(), unit: part.unit.clone(), rule: part.rule.clone() };
            partials.entry(key).or_default().merge(&Partial::of(summary.region.clone(), part.share.clone()));
        }
    }
    let count = partials.len();
    let estimates = partials.into_iter().take(ESTIMATES_MAX).map(|(key, partial)| {
        let terms = rules.terms(key.rule.as_deref());
        estimate(key.subject(None), &partial, &terms, at).naming(REJECTED_MAX)
    });
    let (params, estimates) = (rules.params().clone(), estimates.collect());
    Fused { params, estimates, omitted: count.saturating_sub(ESTIMATES_MAX) as u64, of: BTreeMap::new() }
}

/// Whether a document's estimates are those of its readings, byte for byte.
///
/// # Errors
/// What differs, for people.
pub fn verify<'a>(
    fused: &Fused,
    entries: impl Iterator<Item = (KeyRef<'a>, &'a Entry)>,
    region: &RegionId,
    at: Wall,
) -> Result<(), String> {
    let rules = rules_of(fused)?;
    same(fused, &fuse_region(&Chosen::of(entries, region, &rules), at))
}

/// Whether a global document's estimates are those of its regions' summaries, byte for byte. The summaries are made
/// anew, by [`summarize_again`], of the checkpoints that the document names, and where `of` names others, of those.
///
/// # Errors
/// What differs, for people.
pub fn verify_global(fused: &Fused, summaries: &[Summary], at: Wall) -> Result<(), String> {
    let again = fuse_global(summaries, &rules_of(fused)?, at);
    same(fused, &Fused { of: fused.of.clone(), ..again })
}

/// The summary that a region's leader made of a checkpoint's readings by the parameters which that names.
///
/// # Errors
/// If the parameters are refused.
pub fn summarize_again<'a>(
    fused: &Fused,
    entries: impl Iterator<Item = (KeyRef<'a>, &'a Entry)>,
    region: &RegionId,
    index: Index,
    at: Wall,
) -> Result<Summary, String> {
    Ok(summarize(&Chosen::of(entries, region, &rules_of(fused)?), index, at))
}

fn rules_of(fused: &Fused) -> Result<Rules, String> {
    Rules::new(fused.params.clone()).map_err(|error| format!("its fusion rules are refused: {error}"))
}

fn same(fused: &Fused, again: &Fused) -> Result<(), String> {
    let text = |fused: &Fused| serde_json::to_string(fused).expect("estimates are JSON");
    if text(again) == text(fused) {
        return Ok(());
    }
    let pair = again.estimates.iter().zip(&fused.estimates).find(|(ours, theirs)| ours != theirs);
    Err(match pair {
        Some((ours, theirs)) => {
            let shown = |e: &Estimate| e.value.map_or_else(|| e.status.as_str().to_owned(), |value| value.to_string());
            let subject = &theirs.subject;
            let (theirs, ours) = (shown(theirs), shown(ours));
            format!(
                "its estimate of {} in {} is {theirs}, but its readings give {ours}",
                subject.quantity, subject.group
            )
        }
        None => format!("it has {} estimates, but its readings give {}", fused.estimates.len(), again.estimates.len()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fusion::interval::Method;
    use crate::core::fusion::params::GroupRule;
    use crate::core::fusion::partial::Content;
    use crate::core::hlc::Hlc;
    use crate::core::id::{Channel, NodeId};
    use crate::core::reading::Reading;
    use crate::core::state::entry::{Key, Scope, Value};

    const NOW: Wall = Wall::from_millis(1_700_000_000_000);

    fn region(name: &str) -> RegionId {
        RegionId::new(name).unwrap()
    }

    fn entries(count: u32, offset: f64) -> Vec<(Key, Entry)> {
        let entry = |i: u32| {
            let reading = Reading { sigma: Some(0.1), ..Reading::new(20.0 + offset + f64::from(i % 7) * 0.03, NOW) };
            let key = Key::new(NodeId::new(&format!("gw-{i}")).unwrap(), Channel::new("temp").unwrap());
            (key, Entry { value: Value::of(&reading), stamp: Hlc::new(NOW, 0), scope: Scope::Global })
        };
        let mut all: Vec<_> = (0..count).map(entry).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    fn refs(entries: &[(Key, Entry)]) -> impl Iterator<Item = (KeyRef<'_>, &Entry)> {
        entries.iter().map(|(key, entry)| (key.borrowed(), entry))
    }

    #[test]
    fn the_estimates_of_a_document_are_recomputed_from_its_readings() {
        let (eu, rules, readings) = (region("eu"), Rules::default(), entries(10, 0.0));
        let fused = fuse_region(&Chosen::of(refs(&readings), &eu, &rules), NOW);
        assert_eq!((fused.estimates.len(), fused.estimates[0].used), (1, 10));
        let read: Fused = serde_json::from_str(&serde_json::to_string(&fused).unwrap()).unwrap();
        assert_eq!(verify(&read, refs(&readings), &eu, NOW), Ok(()));
        let mut lie = read.clone();
        lie.estimates[0].value = Some(25.0);
        let why = verify(&lie, refs(&readings), &eu, NOW).unwrap_err();
        assert!(why.starts_with("its estimate of temp in eu is 25, but its readings give 20.0"), "{why}");
        assert!(verify(&read, refs(&readings[1..]), &eu, NOW).is_err());
    }

    /// Global estimates from summaries are those of all readings in one heap, to the bit while they are few.
    #[test]
    fn fused_through_regions_is_fused_flat() {
        for count in [3, 20, 60] {
            let parts: Vec<_> = (0..3).map(|i| entries(count, f64::from(i) * 0.01)).collect();
            let names = ["ap", "eu", "us"].map(region);
            let rules = Rules::default();
            let mut flat = Groups::new(rules.clone());
            let mut summaries = Vec::new();
            for ((i, part), name) in parts.iter().enumerate().zip(&names) {
                let renamed: Vec<(Key, Entry)> = part
                    .iter()
                    .map(|(key, entry)| {
                        let origin = NodeId::new(&format!("r{i}-{}", key.origin)).unwrap();
                        (Key::new(origin, key.channel.clone()), entry.clone())
                    })
                    .collect();
                for (key, entry) in &renamed {
                    flat.put(&region("one"), &key.origin, &key.channel, &entry.value.reading().unwrap());
                }
                let summary = summarize(&Chosen::of(refs(&renamed), name, &rules), Index(7), NOW);
                summaries.push(serde_json::from_str::<Summary>(&serde_json::to_string(&summary).unwrap()).unwrap());
                assert_eq!(summary.index, Index(7));
            }
            let global = fuse_global(&summaries, &rules, NOW).estimates.remove(0);
            summaries.reverse();
            summaries.push(summaries[0].clone());
            assert_eq!(fuse_global(&summaries, &rules, NOW).estimates[0], global, "any order, any repetition");
            let key = flat.subjects()[0].0.clone();
            let mut heap = flat.estimate(&key, Some(&region("one")), NOW);
            heap.subject = global.subject.clone();
            assert_eq!(heap, global);
            assert_eq!(global.n, u64::from(count) * 3);
        }
    }

    #[test]
    fn the_estimates_of_a_global_document_are_recomputed_from_its_regions_readings() {
        let (rules, names) = (Rules::default(), ["ap", "eu"].map(region));
        let of = |name: &RegionId| {
            let mut held = entries(10, 0.0);
            held.iter_mut().for_each(|(key, _)| key.origin = NodeId::new(&format!("{name}-{}", key.origin)).unwrap());
            held
        };
        let readings: Vec<_> = names.iter().map(|name| (name, of(name))).collect();
        let own: Vec<Fused> =
            readings.iter().map(|(name, held)| fuse_region(&Chosen::of(refs(held), name, &rules), NOW)).collect();
        let again = |i: usize, entries: &[(Key, Entry)]| {
            summarize_again(&own[i], refs(entries), readings[i].0, Index(3), NOW).unwrap()
        };
        let summaries = [again(0, &readings[0].1), again(1, &readings[1].1)];
        let mut fused = fuse_global(&summaries, &rules, NOW);
        fused.of = BTreeMap::from([(region("eu"), Some(Index(2))), (region("us"), None)]);
        let read: Fused = serde_json::from_str(&serde_json::to_string(&fused).unwrap()).unwrap();
        assert_eq!(verify_global(&read, &summaries, NOW), Ok(()));
        let fewer = [again(0, &readings[0].1), again(1, &readings[1].1[1..])];
        assert!(verify_global(&read, &fewer, NOW).is_err());
        assert!(verify_global(&read, &summaries[..1], NOW).is_err());
    }

    #[test]
    fn a_summary_of_any_size_fits() {
        let sensor = |i: u32| {
            let value = Reading { sigma: Some(0.1), ..Reading::new(f64::from(i) * 0.731, NOW) };
            let channel = Channel::new(&format!("x/q{}", i % 40)).unwrap();
            let key = Key::new(NodeId::new(&format!("gw-{i}")).unwrap(), channel);
            (key, Entry { value: Value::of(&value), stamp: Hlc::new(NOW, 0), scope: Scope::Global })
        };
        let readings: Vec<_> = (0..4000).map(sensor).collect();
        let summary = summarize(&Chosen::of(refs(&readings), &region("eu"), &Rules::default()), Index(7), NOW);
        assert!(serde_json::to_string(&summary).unwrap().len() < SUMMARY_BYTES_MAX + 4096);
        assert_eq!(summary.parts.len() as u64 + summary.omitted, 40);
    }

    #[test]
    fn quantities_that_have_no_room_are_counted_and_their_readings_not_taken() {
        let (eu, rules) = (region("eu"), Rules::default());
        let alone = |i: usize| {
            let channel = Channel::new(&format!("lone-{i:05}")).unwrap();
            let value = Value::of(&Reading::new(20.0, NOW));
            (Key::new(NodeId::new("gw-0").unwrap(), channel), value)
        };
        let in_twos = |i: usize| {
            let channel = Channel::new(&format!("pair-{:05}", i / 2)).unwrap();
            let value = Value::of(&Reading { sigma: Some(0.1), ..Reading::new(20.0, NOW) });
            (Key::new(NodeId::new(&format!("gw-{}", i % 2)).unwrap(), channel), value)
        };
        let entry = |(key, value)| (key, Entry { value, stamp: Hlc::new(NOW, 0), scope: Scope::Global });
        let readings: Vec<_> = (0..3_000).map(alone).chain((0..2 * 300).map(in_twos)).map(entry).collect();
        let chosen = Chosen::of(refs(&readings), &eu, &rules);
        let taken: usize = chosen.groups.values().map(Vec::len).sum();
        assert_eq!(taken, ESTIMATES_MAX + 2 * ESTIMATES_MAX, "lone ones, and pairs");
        let fused = fuse_region(&chosen, NOW);
        assert_eq!((fused.estimates.len(), fused.omitted), (ESTIMATES_MAX, 300 - ESTIMATES_MAX as u64));
        assert!(fused.estimates.iter().all(|estimate| estimate.n == 2));
        let told = summarize(&chosen, Index(7), NOW);
        assert_eq!(told.parts.len() as u64 + told.omitted, ESTIMATES_MAX as u64);
    }

    #[test]
    fn a_document_names_the_rules_it_was_made_by() {
        let method = Some(Method::BrooksIyengar);
        let hall = GroupRule {
            name: "hall".into(),
            channels: vec!["temp".into()],
            tolerate: Some(1),
            method,
            ..GroupRule::default()
        };
        let params = FusionParams {
            ttl_ms: 60_000,
            walk: 0.2,
            coverage: 3.0,
            method: Method::Marzullo,
            groups: vec![hall],
            exclude: vec!["spare/*".into()],
            ..FusionParams::default()
        };
        let (eu, rules, readings) = (region("eu"), Rules::new(params.clone()).unwrap(), entries(10, 0.0));
        let terms = rules.terms(Some("hall"));
        assert_eq!((terms.tolerate, Some(terms.method)), (Some(1), method));
        let fused = fuse_region(&Chosen::of(refs(&readings), &eu, &rules), NOW);
        assert_eq!(fused.params, params);
        let read: Fused = serde_json::from_str(&serde_json::to_string(&fused).unwrap()).unwrap();
        assert_eq!(read, fused);
        assert_eq!(verify(&read, refs(&readings), &eu, NOW), Ok(()));
    }

    #[test]
    fn how_many_were_left_out_is_written_and_read_back() {
        let fused = Fused { omitted: 44, ..Fused::default() };
        let text = serde_json::to_string(&fused).unwrap();
        assert_eq!(serde_json::from_str::<Fused>(&text).unwrap(), fused, "{text}");
        let summary = Summary { region: region("eu"), index: Index(7), taken: NOW, parts: Vec::new(), omitted: 3 };
        let text = serde_json::to_string(&summary).unwrap();
        assert_eq!(serde_json::from_str::<Summary>(&text).unwrap(), summary, "{text}");
    }

    #[test]
    fn a_summary_of_somebody_else_is_refused_for_any_one_of_its_shares() {
        let (eu, rules, readings) = (region("eu"), Rules::default(), entries(3, 0.0));
        let sound = summarize(&Chosen::of(refs(&readings), &eu, &rules), Index(7), NOW);
        assert_eq!((sound.parts.len(), sound.check()), (1, Ok(())));
        let mut twice = sound.parts[0].clone();
        let Content::Members(members) = &mut twice.share.content else { panic!("three are told by name") };
        let first = members[0].clone();
        members.push(first);
        let summary = Summary { parts: vec![sound.parts[0].clone(), twice], ..sound };
        assert_eq!(summary.check(), Err("sensors of a share out of order"));
    }

    #[test]
    fn groups_too_long_for_a_summary_by_name_are_told_as_sketches_and_not_left_out() {
        let (eu, rules, few) = (region("eu"), Rules::default(), SUMMARY_EXACT_MAX as u32);
        let told = |readings: &[(Key, Entry)]| summarize(&Chosen::of(refs(readings), &eu, &rules), Index(7), NOW);
        let sketches = |summary: &Summary| {
            summary.parts.iter().filter(|part| matches!(part.share.content, Content::Sketch(_))).count()
        };
        let (by_name, one_more) = (told(&entries(few, 0.0)), told(&entries(few + 1, 0.0)));
        assert_eq!((by_name.parts.len(), sketches(&by_name)), (1, 0));
        assert_eq!((one_more.parts.len(), sketches(&one_more)), (1, 1));
        // Twelve groups of 64, about a hundred bytes a sensor.
        let mut readings: Vec<(Key, Entry)> = Vec::new();
        for quantity in 0..12 {
            let channel = Channel::new(&format!("x/q{quantity}")).unwrap();
            for (key, entry) in entries(few, 0.0) {
                let origin = NodeId::new(&format!("in-the-hall-to-the-north-{}", key.origin)).unwrap();
                readings.push((Key::new(origin, channel.clone()), entry));
            }
        }
        readings.sort_by(|a, b| a.0.cmp(&b.0));
        let summary = told(&readings);
        assert_eq!((summary.parts.len(), sketches(&summary), summary.omitted), (12, 12, 0));
        let numbers: Vec<u64> = fuse_global([&summary], &rules, NOW).estimates.iter().map(|found| found.n).collect();
        assert_eq!(numbers, [64; 12]);
    }
}
