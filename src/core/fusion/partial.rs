//! What can be merged: who contributed to an estimate, and enough of what they said.
//!
//! A [`Partial`] holds one [`Share`] for every region that took part. Merging keeps the newer share of each region,
//! so it is commutative, associative and idempotent, and nobody is counted twice however often a summary comes
//! round. Within a share every sensor stands once, word for word, up to [`EXACT_MAX`] sensors; beyond that a
//! [`Sketch`] takes their place, and results say that they are approximate.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::core::fusion::grid::Grid;
use crate::core::fusion::interval::{Interval, Method};
use crate::core::fusion::robust::{Datum, Moments, mad, median};
use crate::core::id::{Channel, NodeId, RegionId};
use crate::core::time::Wall;

/// Up to this many sensors an estimate is computed from their very values.
pub const EXACT_MAX: usize = 512;
/// Interval ends kept beside a sketch, so that up to this many faults less one are tolerated exactly.
pub const ENDS_KEPT: usize = 64;
/// Faulty sensors that a sketch still names; the others it counts.
const NAMED_MAX: usize = 16;
/// Numbers beyond this measure nothing, and their squares would overflow: such a sensor is faulty.
pub const NUMBER_MAX: f64 = 1e100;
/// Most sensors that somebody else's sketch may claim.
const COUNT_MAX: u64 = 1 << 40;

/// One sensor: its gateway and its channel there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sensor {
    /// The gateway.
    pub node: NodeId,
    /// The channel.
    pub channel: Channel,
}

/// A sensor's contribution, in the unit of its group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Who says so.
    #[serde(flatten)]
    pub sensor: Sensor,
    /// What it measured; absent if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Standard uncertainty when it was read, as stated or configured; absent if nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigma: Option<f64>,
    /// How far its place may truly be from what the group measures, as a standard deviation.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub spread: f64,
    /// When it was read.
    pub time: Wall,
    /// What is wrong with it, in a word, if its gateway or the group's rule says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

/// How estimates of a group are computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// A reading older than this is stale and takes no part, in milliseconds.
    pub ttl_ms: u64,
    /// A reading's variance grows by this squared, times its own variance, every second.
    pub walk: f64,
    /// A sensor's interval is its value give or take this many standard uncertainties.
    pub coverage: f64,
    /// Faulty sensors to tolerate; as many as their number allows if absent.
    pub tolerate: Option<u64>,
    /// What makes the interval.
    pub method: Method,
}

/// Somebody who is not part of an estimate, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// The gateway.
    pub node: NodeId,
    /// The channel.
    pub channel: Channel,
    /// Why, in a word or two: `drift`, `stuck`, `outlier`, …
    pub reason: String,
}

/// One region's contribution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// When it was put together.
    pub taken: Wall,
    /// Its sensors, or what is kept of them.
    #[serde(flatten)]
    pub content: Content,
}

/// Sensors word for word, or a sketch of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// In order of sensor, each once.
    Members(Vec<Member>),
    /// As of the time that the share was taken.
    Sketch(Box<Sketch>),
}

/// Too many sensors to name. All that is counted by its order (`grid`, the ends, the counts) merges exactly; `moments`
/// but for rounding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sketch {
    /// Values with their uncertainties at that time, staleness and place included.
    pub grid: Grid,
    /// Inverse-variance moments of the same.
    pub moments: Moments,
    /// The largest lower ends of their intervals, descending.
    pub lowers: Vec<f64>,
    /// The smallest upper ends, ascending.
    pub uppers: Vec<f64>,
    /// Sensors that are too old.
    pub stale: u64,
    /// Sensors that are faulty or have failed.
    pub faulty: u64,
    /// The first of those, by name.
    pub named: Vec<Rejected>,
    /// When the oldest value was read that takes part.
    pub oldest: Option<Wall>,
    /// When the newest was.
    pub newest: Option<Wall>,
}

/// Members sorted by what becomes of them at some time.
#[derive(Debug)]
pub(super) struct Sorted<'a> {
    /// Those that take part, with their uncertainty at that time.
    pub voters: Vec<(&'a Member, Datum)>,
    /// Those that are too old.
    pub stale: Vec<&'a Member>,
    /// Those that are faulty or have failed, and why.
    pub faulty: Vec<(&'a Member, String)>,
}

/// The partial of one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Partial {
    shares: BTreeMap<RegionId, Arc<Share>>,
}

impl Partial {
    /// One region's.
    pub fn of(region: RegionId, share: Share) -> Self {
        Self { shares: BTreeMap::from([(region, Arc::new(share))]) }
    }

    /// Everything known to either: of every region the newer share.
    pub fn merge(&mut self, other: &Self) {
        for (region, theirs) in &other.shares {
            match self.shares.get_mut(region) {
                None => {
                    self.shares.insert(region.clone(), theirs.clone());
                }
                Some(ours) if theirs.supersedes(ours) => *ours = theirs.clone(),
                Some(_) => {}
            }
        }
    }

    /// The shares, by region.
    pub fn shares(&self) -> impl Iterator<Item = (&RegionId, &Share)> {
        self.shares.iter().map(|(region, share)| (region, &**share))
    }

    /// All members in order of sensor, each once, if there are at most [`EXACT_MAX`] and no sketch among them.
    ///
    /// A sensor in two regions' shares (its node has moved) counts where its reading is newer.
    pub(super) fn members(&self) -> Option<Vec<&Member>> {
        let mut all: Vec<&Member> = Vec::new();
        for share in self.shares.values() {
            match &share.content {
                Content::Members(members) if all.len() + members.len() <= EXACT_MAX => all.extend(members),
                _ => return None,
            }
        }
        if self.shares.len() > 1 {
            all.sort_by(|a, b| a.sensor.cmp(&b.sensor).then(b.time.cmp(&a.time)));
            all.dedup_by(|later, first| later.sensor == first.sensor);
        }
        Some(all)
    }

    /// One sketch of everybody.
    pub(super) fn sketch(&self, terms: &Terms, at: Wall) -> Option<Sketch> {
        let sketches = self.shares.values().map(|share| match &share.content {
            Content::Members(members) => Sketch::of(members, terms, at),
            Content::Sketch(sketch) => (**sketch).clone(),
        });
        sketches.reduce(|a, b| a.merge(&b))
    }
}

impl Share {
    /// Of members in order of sensor, each once; word for word if they are few enough.
    pub fn new(members: Vec<Member>, exact_max: usize, terms: &Terms, taken: Wall) -> Self {
        let content = match members.len() <= exact_max {
            true => Content::Members(members),
            false => Content::Sketch(Box::new(Sketch::of(&members, terms, taken))),
        };
        Self { taken, content }
    }

    /// Checks what somebody else made.
    ///
    /// # Errors
    /// What breaks its bounds.
    pub fn check(&self) -> Result<(), &'static str> {
        match &self.content {
            Content::Members(members) => {
                if members.len() > EXACT_MAX {
                    return Err("a share of more sensors than it may name");
                }
                if members.windows(2).any(|pair| pair[0].sensor >= pair[1].sensor) {
                    return Err("sensors of a share out of order");
                }
            }
            Content::Sketch(sketch) => {
                let ordered = |ends: &[f64]| ends.windows(2).all(|pair| pair[0] <= pair[1]);
                let reversed: Vec<f64> = sketch.lowers.iter().rev().copied().collect();
                if sketch.lowers.len().max(sketch.uppers.len()) > ENDS_KEPT
                    || !ordered(&reversed)
                    || !ordered(&sketch.uppers)
                {
                    return Err("interval ends of a sketch that are too many or out of order");
                }
                if sketch.stale.max(sketch.faulty).max(sketch.moments.n) > COUNT_MAX || sketch.named.len() > NAMED_MAX {
                    return Err("a sketch that counts more than there can be");
                }
            }
        }
        Ok(())
    }

    /// The newer one; of two of the same time the one whose text is larger, so that all choose alike.
    fn supersedes(&self, other: &Self) -> bool {
        let text = |share: &Self| serde_json::to_string(share).expect("a share is JSON");
        self.taken > other.taken || (self.taken == other.taken && self != other && text(self) > text(other))
    }
}

/// Sorts members by what becomes of them at `at`, in the order given.
pub(super) fn sort<'a>(members: impl IntoIterator<Item = &'a Member>, terms: &Terms, at: Wall) -> Sorted<'a> {
    let mut sorted = Sorted { voters: Vec::new(), stale: Vec::new(), faulty: Vec::new() };
    let mut fresh: Vec<(&Member, f64)> = Vec::new();
    for member in members {
        if at.millis_after(member.time) > terms.ttl_ms as i64 {
            sorted.stale.push(member);
        } else if let Some(fault) = &member.fault {
            sorted.faulty.push((member, fault.clone()));
        } else {
            let sound = |number: f64| number.abs() <= NUMBER_MAX;
            match member.value {
                Some(value) if sound(value) && member.sigma.is_none_or(sound) && sound(member.spread) => {
                    fresh.push((member, value));
                }
                Some(_) => sorted.faulty.push((member, "range".to_owned())),
                None => sorted.faulty.push((member, "failed".to_owned())),
            }
        }
    }
    let unknown = unstated_sigma(&fresh);
    sorted.voters = fresh
        .into_iter()
        .filter_map(|(member, value)| {
            let sigma = member.sigma.or(unknown)?;
            let age_s = at.millis_after(member.time).max(0) as f64 / 1000.0;
            let floor = value.abs() * 1e-9 + 1e-12;
            let variance =
                sigma * sigma * (1.0 + terms.walk * terms.walk * age_s) + member.spread * member.spread + floor * floor;
            Some((member, Datum { value, sigma: variance.sqrt(), count: 1 }))
        })
        .collect();
    sorted
}

/// The uncertainty taken for those that state none: how far the values of all scatter, or what their last digit leaves
/// open where most agree to it; for one that stands alone there is none.
fn unstated_sigma(fresh: &[(&Member, f64)]) -> Option<f64> {
    if fresh.iter().all(|(member, _)| member.sigma.is_some()) || fresh.len() < 2 {
        return None;
    }
    let mut values: Vec<(f64, u64)> = fresh.iter().map(|(_, value)| (*value, 1)).collect();
    let center = median(&mut values)?;
    let mut stated: Vec<(f64, u64)> = fresh.iter().filter_map(|(member, _)| Some((member.sigma?, 1))).collect();
    let scatter = mad(&values, center)?;
    let values = values.iter().map(|(value, _)| *value);
    let digits = if scatter == 0.0 { step_of_last_digit(values) / 3f64.sqrt() } else { 0.0 };
    let scatter = scatter.max(digits).max(center.abs() * 1e-6).max(1e-9);
    Some(median(&mut stated).map_or(scatter, |stated| stated.max(scatter)))
}

/// The step between neighbouring values of as many decimals as the one that has most: 0.1 of 21.5 and 22. Rounding
/// hides half a step, and of noise about as much again: a rectangle of a step either way, whose standard uncertainty
/// is the step by the root of three.
///
/// Source: JCGM 100:2008 (GUM), 4.3.7 and F.2.2.1.
fn step_of_last_digit(values: impl Iterator<Item = f64>) -> f64 {
    let decimals = |value: f64| value.to_string().split_once('.').map_or(0, |(_, decimals)| decimals.len());
    10f64.powi(-(values.map(decimals).max().unwrap_or(0).min(300) as i32))
}

impl Sketch {
    /// Of members at `at`.
    pub fn of(members: &[Member], terms: &Terms, at: Wall) -> Self {
        let sorted = sort(members, terms, at);
        let ends = |d: &Datum| Interval::around(d.value, terms.coverage * d.sigma);
        let data = || sorted.voters.iter().map(|(_, datum)| datum);
        let mut lowers: Vec<f64> = data().map(|d| ends(d).lo).collect();
        let mut uppers: Vec<f64> = data().map(|d| ends(d).hi).collect();
        keep_smallest(&mut uppers, f64::total_cmp);
        keep_smallest(&mut lowers, |a, b| b.total_cmp(a));
        let named = sorted.faulty.iter().take(NAMED_MAX).map(|(member, reason)| rejected(member, reason.clone()));
        Self {
            grid: Grid::of(data().map(|d| (d.value, d.sigma))),
            moments: data().fold(Moments::default(), |all, d| all.merge(&Moments::of(d))),
            lowers,
            uppers,
            stale: sorted.stale.len() as u64,
            faulty: sorted.faulty.len() as u64,
            named: named.collect(),
            oldest: sorted.voters.iter().map(|(member, _)| member.time).min(),
            newest: sorted.voters.iter().map(|(member, _)| member.time).max(),
        }
    }

    /// Of everybody in both, who must be different sensors.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        let join = |a: &[f64], b: &[f64]| [a, b].concat();
        let (mut lowers, mut uppers) = (join(&self.lowers, &other.lowers), join(&self.uppers, &other.uppers));
        keep_smallest(&mut uppers, f64::total_cmp);
        keep_smallest(&mut lowers, |a, b| b.total_cmp(a));
        let mut named = [self.named.clone(), other.named.clone()].concat();
        named.sort_by(|a, b| (&a.node, &a.channel, &a.reason).cmp(&(&b.node, &b.channel, &b.reason)));
        named.truncate(NAMED_MAX);
        Self {
            grid: self.grid.merge(&other.grid),
            moments: self.moments.merge(&other.moments),
            lowers,
            uppers,
            stale: self.stale + other.stale,
            faulty: self.faulty + other.faulty,
            named,
            oldest: [self.oldest, other.oldest].into_iter().flatten().min(),
            newest: self.newest.max(other.newest),
        }
    }
}

pub(super) fn rejected(member: &Member, reason: String) -> Rejected {
    Rejected { node: member.sensor.node.clone(), channel: member.sensor.channel.clone(), reason }
}

/// Sorts, and keeps the first [`ENDS_KEPT`].
fn keep_smallest(values: &mut Vec<f64>, order: impl Fn(&f64, &f64) -> std::cmp::Ordering + Copy) {
    if values.len() > ENDS_KEPT {
        values.select_nth_unstable_by(ENDS_KEPT, order);
        values.truncate(ENDS_KEPT);
    }
    values.sort_unstable_by(order);
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms =
        Terms { ttl_ms: 60_000, walk: 0.0, coverage: 2.0, tolerate: None, method: Method::SchmidSchossmaier };
    const NOW: Wall = Wall::from_millis(1_000_000);

    fn member(i: usize) -> Member {
        let sensor =
            Sensor { node: NodeId::new(&format!("gw-{i:04}")).unwrap(), channel: Channel::new("temp").unwrap() };
        Member { sensor, value: Some(20.0 + i as f64), sigma: Some(0.5), spread: 0.0, time: NOW, fault: None }
    }

    fn members(n: usize) -> Share {
        Share { taken: NOW, content: Content::Members((0..n).map(member).collect()) }
    }

    fn sketch(change: impl FnOnce(&mut Sketch)) -> Share {
        let mut sketch = Sketch::of(&(0..9).map(member).collect::<Vec<_>>(), &TERMS, NOW);
        change(&mut sketch);
        Share { taken: NOW, content: Content::Sketch(Box::new(sketch)) }
    }

    #[test]
    fn a_share_of_somebody_else_is_refused_where_it_breaks_its_bounds() {
        assert_eq!((members(EXACT_MAX).check(), sketch(|_| ()).check()), (Ok(()), Ok(())));
        assert!(members(EXACT_MAX + 1).check().unwrap_err().contains("more sensors"));
        let pair = |a, b| Share { taken: NOW, content: Content::Members(vec![member(a), member(b)]) }.check();
        assert!(pair(1, 2).is_ok() && pair(2, 1).unwrap_err().contains("out of order") && pair(1, 1).is_err());
        let ends = |change: fn(&mut Sketch)| sketch(change).check().unwrap_err().contains("ends of a sketch");
        assert!(ends(|s| s.lowers.reverse()) && ends(|s| s.uppers.reverse()));
        assert!(ends(|s| s.lowers = vec![1.0; ENDS_KEPT + 1]) && ends(|s| s.uppers = vec![1.0; ENDS_KEPT + 1]));
        assert!(sketch(|s| s.lowers = vec![1.0; ENDS_KEPT]).check().is_ok());
        let counts = |change: fn(&mut Sketch)| sketch(change).check().unwrap_err().contains("counts more");
        assert!(counts(|s| s.stale = COUNT_MAX + 1) && counts(|s| s.faulty = COUNT_MAX + 1));
        assert!(counts(|s| s.moments.n = COUNT_MAX + 1));
        assert!(counts(|s| s.named = vec![rejected(&member(1), "drift".to_owned()); NAMED_MAX + 1]));
        let most = |s: &mut Sketch| {
            (s.stale, s.faulty, s.moments.n) = (COUNT_MAX, COUNT_MAX, COUNT_MAX);
            s.named = vec![rejected(&member(1), "drift".to_owned()); NAMED_MAX];
        };
        assert!(sketch(most).check().is_ok());
    }

    #[test]
    fn of_two_shares_all_choose_the_newer_and_of_two_as_new_the_same() {
        let (old, few, many) = (Share { taken: Wall::from_millis(1), ..members(3) }, members(1), members(2));
        assert!(few.supersedes(&old) && !old.supersedes(&few));
        assert!(few.supersedes(&many) != many.supersedes(&few) && !few.supersedes(&few));
        let region = RegionId::new("eu").unwrap();
        let merged = |first: &Share, then: &Share| {
            let mut partial = Partial::of(region.clone(), first.clone());
            partial.merge(&Partial::of(region.clone(), then.clone()));
            partial
        };
        assert_eq!(merged(&few, &many), merged(&many, &few));
        assert_eq!(merged(&old, &few), Partial::of(region.clone(), few.clone()));
    }

    #[test]
    fn a_number_that_measures_nothing_is_out_of_range_and_age_and_place_add_to_the_uncertainty() {
        let odd = |change: fn(&mut Member)| {
            let mut odd = member(1);
            change(&mut odd);
            sort(&[odd], &TERMS, NOW).faulty.first().map(|(_, why)| why.clone())
        };
        assert_eq!(odd(|_| ()), None);
        assert_eq!(odd(|m| m.value = Some(NUMBER_MAX)), None);
        assert_eq!(odd(|m| m.value = Some(-1e101)), Some("range".to_owned()));
        assert_eq!(odd(|m| m.sigma = Some(1e101)), Some("range".to_owned()));
        assert_eq!(odd(|m| m.spread = 1e101), Some("range".to_owned()));
        assert_eq!(odd(|m| m.value = None), Some("failed".to_owned()));
        let old = Member { time: Wall::from_millis(NOW.as_millis() - 10_000), spread: 1.5, ..member(1) };
        let terms = Terms { walk: 0.3, ..TERMS };
        let all = [old];
        let sorted = sort(&all, &terms, NOW);
        let sigma = sorted.voters[0].1.sigma;
        assert!((sigma - (0.25f64 * (1.0 + 0.09 * 10.0) + 2.25).sqrt()).abs() < 1e-6, "{sigma}");
    }

    #[test]
    fn a_sketch_of_all_is_that_of_its_parts() {
        let all: Vec<Member> = (0..200).map(member).collect();
        let faulty = |mut m: Member| {
            m.fault = Some("drift".to_owned());
            m
        };
        let stale = |m: Member| Member { time: Wall::from_millis(NOW.as_millis() - 61_000), ..m };
        let all: Vec<Member> = all
            .into_iter()
            .enumerate()
            .map(|(i, m)| match i % 10 {
                0 => faulty(m),
                1 => stale(m),
                _ => m,
            })
            .collect();
        let (a, b) = all.split_at(77);
        let (whole, parts) =
            (Sketch::of(&all, &TERMS, NOW), Sketch::of(a, &TERMS, NOW).merge(&Sketch::of(b, &TERMS, NOW)));
        assert_eq!((whole.stale, whole.faulty, whole.named.len(), whole.lowers.len()), (20, 20, NAMED_MAX, ENDS_KEPT));
        assert_eq!((&parts.lowers, &parts.uppers, &parts.named), (&whole.lowers, &whole.uppers, &whole.named));
        assert_eq!((parts.stale, parts.faulty, parts.oldest, parts.newest), (20, 20, whole.oldest, whole.newest));
        assert_eq!(parts.grid, whole.grid);
    }

    #[test]
    fn two_silent_ones_zero_sigma_and_exactly_as_many_ends_as_are_kept() {
        for n in [ENDS_KEPT - 1, ENDS_KEPT, ENDS_KEPT + 1] {
            let sketch = Sketch::of(&(0..n).map(member).collect::<Vec<_>>(), &TERMS, NOW);
            assert_eq!((sketch.lowers.len(), sketch.uppers.len()), (n.min(ENDS_KEPT), n.min(ENDS_KEPT)));
        }
        let silent = [20.0, 20.4].map(|v| Member { sigma: None, value: Some(v), ..member(v as usize) });
        assert_eq!(sort(&silent, &TERMS, NOW).voters.len(), 2);
        for value in [0.0f64, 20.0, -3e6] {
            let sure = [Member { sigma: Some(0.0), value: Some(value), ..member(1) }];
            let sigma = sort(&sure, &TERMS, NOW).voters[0].1.sigma;
            assert!((sigma / (value.abs() * 1e-9 + 1e-12) - 1.0).abs() < 1e-9, "{value}: {sigma}");
        }
    }

    #[test]
    fn a_share_is_read_back_as_it_was_written() {
        let placed = Member { spread: 1.5, ..member(1) };
        let failed = Member { value: None, sigma: None, fault: Some("drift".to_owned()), ..member(2) };
        let few = Share { taken: NOW, content: Content::Members(vec![member(0), placed, failed]) };
        for share in [few, sketch(|_| ())] {
            let text = serde_json::to_string(&share).unwrap();
            assert_eq!(serde_json::from_str::<Share>(&text).unwrap(), share, "{text}");
        }
    }
}
