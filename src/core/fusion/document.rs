//! What checkpoints and summaries carry of fusion: estimates that anybody can compute again from the same readings.

use serde::{Deserialize, Serialize};

use crate::core::fusion::estimate::{Estimate, estimate};
use crate::core::fusion::groups::{GroupKey, Groups};
use crate::core::fusion::params::{FusionParams, Rules};
use crate::core::fusion::partial::{Partial, Share};
use crate::core::id::RegionId;
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
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// `@summary`: a region's groups, mergeable with those of the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Whose.
    pub region: RegionId,
    /// As of when.
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

/// The estimates of a region's groups as of `at`: of groups that a rule makes, and of quantities with two sensors or
/// more. The same readings, rules and time give the same bytes.
pub fn fuse_region(groups: &Groups, region: &RegionId, at: Wall) -> Fused {
    let wanted = keys(groups, region);
    let estimates = wanted.iter().take(ESTIMATES_MAX).map(|key| groups.estimate(key, Some(region), at));
    let estimates = estimates.map(|estimate| estimate.naming(REJECTED_MAX)).collect();
    let omitted = wanted.len().saturating_sub(ESTIMATES_MAX) as u64;
    Fused { params: groups.rules().params().clone(), estimates, omitted }
}

fn keys(groups: &Groups, region: &RegionId) -> Vec<GroupKey> {
    let of_region = groups.subjects().into_iter().filter(|(_, of)| of.as_ref() == Some(region)).map(|(key, _)| key);
    of_region.filter(|key| key.rule.is_some() || groups.len_of(key, Some(region)) > 1).collect()
}

/// What a region's leader publishes. A quantity that one sensor alone measures is in it too: another region may have
/// more of them.
pub fn summarize(groups: &Groups, region: &RegionId, at: Wall) -> Summary {
    let parts = |exact_max: usize| {
        let of_region = groups.subjects().into_iter().filter(|(_, of)| of.as_ref() == Some(region));
        let part = |(key, _): (GroupKey, _)| {
            let share = groups.share(&key, region, exact_max, at)?;
            let GroupKey { quantity, unit, rule } = key;
            Some(Part { quantity, unit, rule, share })
        };
        of_region.filter_map(part).take(ESTIMATES_MAX).collect::<Vec<Part>>()
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
    Summary { region: region.clone(), taken: at, parts: kept, omitted }
}

/// The estimates across regions as of `at`, merged from their summaries, in any order; one a region counts, the newest.
pub fn fuse_global<'a>(summaries: impl IntoIterator<Item = &'a Summary>, rules: &Rules, at: Wall) -> Fused {
    let mut partials: std::collections::BTreeMap<GroupKey, Partial> = std::collections::BTreeMap::new();
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
    let estimates = estimates.collect();
    Fused { params: rules.params().clone(), estimates, omitted: count.saturating_sub(ESTIMATES_MAX) as u64 }
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
    let rules = Rules::new(fused.params.clone()).map_err(|error| format!("its fusion rules are refused: {error}"))?;
    let again = fuse_region(&groups_of(entries, region, &rules), region, at);
    let text = |fused: &Fused| serde_json::to_string(fused).expect("estimates are JSON");
    if text(&again) == text(fused) {
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
        let fused = fuse_region(&groups_of(refs(&readings), &eu, &rules), &eu, NOW);
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
                let summary = summarize(&groups_of(refs(&renamed), name, &rules), name, NOW);
                summaries.push(serde_json::from_str::<Summary>(&serde_json::to_string(&summary).unwrap()).unwrap());
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
    fn a_summary_of_any_size_fits() {
        let mut groups = Groups::new(Rules::default());
        for i in 0..4000 {
            let channel = Channel::new(&format!("x/q{}", i % 40)).unwrap();
            let value = Reading { sigma: Some(0.1), ..Reading::new(f64::from(i) * 0.731, NOW) };
            groups.put(&region("eu"), &NodeId::new(&format!("gw-{i}")).unwrap(), &channel, &value);
        }
        let summary = summarize(&groups, &region("eu"), NOW);
        assert!(serde_json::to_string(&summary).unwrap().len() < SUMMARY_BYTES_MAX + 4096);
        assert_eq!(summary.parts.len() as u64 + summary.omitted, 40);
    }
}
