//! The answer: a value, how sure it is, what surely holds the truth, and who was not believed.

use serde::{Deserialize, Serialize};

use crate::core::fusion::grid::Grid;
use crate::core::fusion::interval::{self, Interval, faults_tolerated};
use crate::core::fusion::partial::{Partial, Rejected, Sensor, Sketch, Sorted, Terms, rejected, sort};
use crate::core::fusion::robust::{self, Datum, Location};
use crate::core::id::RegionId;
use crate::core::time::Wall;

/// Reason of a sensor whose gateway calls it good, but whose value lies too far from the others'.
pub const OUTLIER: &str = "outlier";

/// What an estimate is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subject {
    /// What is measured: the last part of the channels' names, or as the group's rule says.
    pub quantity: String,
    /// The group: a region's name, `global`, or the name of a rule.
    pub group: String,
    /// The region whose sensors these are; absent if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
    /// Unit of all numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

/// Whether an estimate can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The truth is in the interval while no more sensors are wrong than are tolerated.
    Ok,
    /// More sensors contradict each other than are tolerated: the numbers show how they scatter, and no more.
    Inconsistent,
    /// Nobody takes part whose uncertainty is known.
    Insufficient,
}

impl Status {
    /// The word used in JSON and on the screen.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Inconsistent => "inconsistent",
            Self::Insufficient => "insufficient",
        }
    }
}

/// A fused value. Field order is the order of the bytes in documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// What it is of.
    #[serde(flatten)]
    pub subject: Subject,
    /// The robust location; absent if insufficient.
    pub value: Option<f64>,
    /// Its standard uncertainty.
    pub sigma: Option<f64>,
    /// Holds the truth while at most `tolerates` sensors are wrong.
    pub interval: Option<Interval>,
    /// Sensors with a fresh reading, faulty ones included.
    pub n: u64,
    /// Sensors whose values are part of `value`.
    pub used: u64,
    /// Those with a fresh reading that are not, by name; of a sketch, those that are known to be faulty.
    pub rejected: Vec<Rejected>,
    /// Rejected ones beyond those that are named.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unnamed: u64,
    /// Sensors whose last reading is too old.
    pub stale: u64,
    /// So many of the `n` may be wrong: the faulty ones that are known, and fewer than a third of the rest.
    pub tolerates: u64,
    /// Whether it can be believed.
    pub status: Status,
    /// How far `value` may be from what all single values would give, if a sketch took their place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approximate: Option<f64>,
    /// By how much the sensors disagree more than they claim; 1 if they do not.
    pub inflation: f64,
    /// When the oldest reading was taken that takes part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Wall>,
    /// When the newest was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Wall>,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// One sensor's part in an estimate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contribution {
    /// Who.
    #[serde(flatten)]
    pub sensor: Sensor,
    /// Its value in the group's unit.
    pub value: Option<f64>,
    /// Its standard uncertainty at the time of the estimate, staleness and place included.
    pub sigma: Option<f64>,
    /// When it was read.
    pub time: Wall,
    /// Its share of the estimate; all shares add up to 1.
    pub weight: f64,
    /// How many of its own uncertainties it lies from the estimate.
    pub residual: Option<f64>,
    /// Why it is no part of it: `stale`, `outlier`, or what is wrong with it.
    pub reason: Option<String>,
}

/// The estimate of a partial at `at`.
///
/// Members beyond `terms.ttl_ms` are stale; a fresh one's variance is `sigma^2 (1 + walk^2 age) + spread^2`, age in
/// seconds (a random walk since it was read, and the difference between its place and the group's). Value and
/// sigma are [`robust::location`]'s. The interval is made by `terms.method` of the members' intervals,
/// `value ± coverage * sigma`, known faulty ones left out and outliers not: it needs no judgement of theirs.
/// Inconsistent if no point lies in all but the tolerated number of them (Marzullo's criterion).
pub fn estimate(subject: Subject, partial: &Partial, terms: &Terms, at: Wall) -> Estimate {
    match partial.members() {
        Some(members) => exact(subject, &sort(members, terms, at), terms).0,
        None => sketched(subject, partial, terms, at),
    }
}

/// The same, and everybody's part in it, in order of sensor; of a sketch nobody's.
pub fn explain(subject: Subject, partial: &Partial, terms: &Terms, at: Wall) -> (Estimate, Vec<Contribution>) {
    let Some(members) = partial.members() else {
        return (sketched(subject, partial, terms, at), Vec::new());
    };
    let sorted = sort(members, terms, at);
    let (estimate, parts) = exact(subject, &sorted, terms);
    (estimate.clone(), contributions(&estimate, &sorted, &parts))
}

fn exact(subject: Subject, sorted: &Sorted<'_>, terms: &Terms) -> (Estimate, Vec<bool>) {
    let data: Vec<Datum> = sorted.voters.iter().map(|(_, datum)| *datum).collect();
    let mut rejects: Vec<Rejected> = sorted.faulty.iter().map(|(m, reason)| rejected(m, reason.clone())).collect();
    let intervals: Vec<(Interval, u64)> =
        data.iter().map(|d| (Interval::around(d.value, terms.coverage * d.sigma), 1)).collect();
    let mut estimate = blank(subject, sorted.faulty.len() as u64, data.len() as u64, sorted.stale.len() as u64, terms);
    estimate.oldest = sorted.voters.iter().map(|(member, _)| member.time).min();
    estimate.newest = sorted.voters.iter().map(|(member, _)| member.time).max();
    let budget = budget(data.len() as u64, terms);
    let Some((location, parts)) = robust::location(&data, budget) else {
        estimate.rejected = rejects;
        return (estimate, vec![false; data.len()]);
    };
    let agreed = terms.method.apply(&intervals, budget);
    fill(&mut estimate, location, &intervals, agreed, budget);
    let out = sorted.voters.iter().zip(&parts).filter(|(_, part)| !**part);
    rejects.extend(out.map(|((member, _), _)| rejected(member, OUTLIER.to_owned())));
    rejects.sort_by(|a, b| (&a.node, &a.channel).cmp(&(&b.node, &b.channel)));
    estimate.rejected = rejects;
    estimate.used = parts.iter().filter(|part| **part).count() as u64;
    (estimate, parts)
}

fn sketched(subject: Subject, partial: &Partial, terms: &Terms, at: Wall) -> Estimate {
    let Some(sketch) = partial.sketch(terms, at) else { return blank(subject, 0, 0, 0, terms) };
    of_sketch(subject, &sketch, terms)
}

/// The estimate of everybody in a sketch.
pub fn of_sketch(subject: Subject, sketch: &Sketch, terms: &Terms) -> Estimate {
    let voters = sketch.grid.n();
    let mut estimate = blank(subject, sketch.faulty, voters, sketch.stale, terms);
    estimate.rejected = sketch.named.clone();
    (estimate.oldest, estimate.newest) = (sketch.oldest, sketch.newest);
    let data = data_of(&sketch.grid);
    let budget = budget(voters, terms);
    let Some((location, parts)) = robust::location(&data, budget) else { return estimate };
    let intervals: Vec<(Interval, u64)> = sketch
        .grid
        .cells()
        .map(|cell| {
            let reach = terms.coverage * cell.sigma;
            (Interval::new(cell.range.lo - reach, cell.range.hi + reach), cell.count)
        })
        .collect();
    let once = |ends: &[f64]| ends.iter().map(|end| (*end, 1)).collect::<Vec<_>>();
    // The ends that are kept are exact; beyond them cells, rounded outward, are safe.
    let agreed = match (budget as usize) < sketch.lowers.len() {
        true => interval::between(&once(&sketch.lowers), &once(&sketch.uppers), budget),
        false => terms.method.apply(&intervals, budget),
    };
    fill(&mut estimate, location, &intervals, agreed, budget);
    estimate.used = data.iter().zip(&parts).filter(|(_, part)| **part).map(|(d, _)| d.count).sum();
    estimate.unnamed = (estimate.n - estimate.used).saturating_sub(estimate.rejected.len() as u64);
    // Every value moves by half a cell at most, and so do medians; the deviations that make the gate and the weights
    // by twice that.
    estimate.approximate = Some(2.0 * sketch.grid.error());
    estimate
}

fn data_of(grid: &Grid) -> Vec<Datum> {
    grid.cells().map(|cell| Datum { value: cell.middle(), sigma: cell.sigma, count: cell.count }).collect()
}

/// How many of the voters may be wrong.
fn budget(voters: u64, terms: &Terms) -> u64 {
    let most = faults_tolerated(voters);
    terms.tolerate.map_or(most, |wanted| wanted.min(most))
}

fn blank(subject: Subject, faulty: u64, voters: u64, stale: u64, terms: &Terms) -> Estimate {
    Estimate {
        subject,
        value: None,
        sigma: None,
        interval: None,
        n: faulty + voters,
        used: 0,
        rejected: Vec::new(),
        unnamed: 0,
        stale,
        tolerates: faulty + budget(voters, terms),
        status: Status::Insufficient,
        approximate: None,
        inflation: 1.0,
        oldest: None,
        newest: None,
    }
}

fn fill(estimate: &mut Estimate, location: Location, all: &[(Interval, u64)], agreed: Option<Interval>, budget: u64) {
    estimate.value = Some(location.value);
    estimate.inflation = location.inflation;
    match agreed.filter(|_| interval::is_consistent(all, budget)) {
        Some(agreed) => {
            estimate.status = Status::Ok;
            estimate.sigma = Some(location.sigma);
            estimate.interval = Some(agreed);
        }
        // Nobody knows whom to believe: everything that anybody says is possible.
        None => {
            let lo = all.iter().map(|(interval, _)| interval.lo).fold(f64::INFINITY, f64::min);
            let hi = all.iter().map(|(interval, _)| interval.hi).fold(f64::NEG_INFINITY, f64::max);
            estimate.status = Status::Inconsistent;
            estimate.sigma = Some((hi - lo) / 2.0);
            estimate.interval = Some(Interval::new(lo, hi));
        }
    }
}

impl Estimate {
    /// Names at most so many of the rejected, and counts the others.
    #[must_use]
    pub fn naming(mut self, most: usize) -> Self {
        self.unnamed += self.rejected.len().saturating_sub(most) as u64;
        self.rejected.truncate(most);
        self
    }
}

fn contributions(estimate: &Estimate, sorted: &Sorted<'_>, parts: &[bool]) -> Vec<Contribution> {
    let mut found = Vec::new();
    let weight = |datum: &Datum| {
        let residual = (datum.value - estimate.value.unwrap_or(datum.value)) / datum.sigma;
        (1.0 / (datum.sigma * datum.sigma), residual)
    };
    let total: f64 =
        sorted.voters.iter().zip(parts).filter(|(_, part)| **part).map(|((_, datum), _)| weight(datum).0).sum();
    for ((member, datum), part) in sorted.voters.iter().zip(parts) {
        let (weight, residual) = weight(datum);
        found.push(Contribution {
            sensor: member.sensor.clone(),
            value: member.value,
            sigma: Some(datum.sigma),
            time: member.time,
            weight: if *part { weight / total } else { 0.0 },
            residual: Some(residual),
            reason: (!part).then(|| OUTLIER.to_owned()),
        });
    }
    let stale = sorted.stale.iter().map(|member| (*member, "stale".to_owned()));
    let faulty = sorted.faulty.iter().map(|(member, reason)| (*member, reason.clone()));
    for (member, reason) in stale.chain(faulty) {
        found.push(Contribution {
            sensor: member.sensor.clone(),
            value: member.value,
            sigma: member.sigma,
            time: member.time,
            weight: 0.0,
            residual: None,
            reason: Some(reason),
        });
    }
    found.sort_by(|a, b| a.sensor.cmp(&b.sensor));
    found
}

#[cfg(test)]
mod tests;
