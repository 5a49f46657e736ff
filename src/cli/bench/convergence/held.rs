//! From who held what when to how long each update took.
//!
//! An update counts as held by a node once the node holds it or a newer one of the same writer: whoever holds the
//! newer never needs the older.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::cli::bench::plan::{Notes, Schedule};
use crate::cli::bench::{histogram, record};

/// Times in µs of one repetition.
#[derive(Clone)]
pub struct Times {
    /// From when an update was due until the last node held it.
    pub to_all: Histogram<u64>,
    /// Until 99% of the nodes did.
    pub to_99: Histogram<u64>,
    /// Until 90% did.
    pub to_90: Histogram<u64>,
    /// Until half did.
    pub to_50: Histogram<u64>,
    /// From when the writer held it until the last node did.
    pub accepted_to_all: Histogram<u64>,
    /// Until the last of the writer's own region did, and the last of the others, with more regions than one.
    pub own_region: Histogram<u64>,
    /// See `own_region`.
    pub other_regions: Histogram<u64>,
    /// From writer to receiver.
    pub heat: Heat,
}

impl Default for Times {
    fn default() -> Self {
        let [to_all, to_99, to_90, to_50, accepted_to_all, own_region, other_regions] =
            std::array::from_fn(|_| histogram());
        Self { to_all, to_99, to_90, to_50, accepted_to_all, own_region, other_regions, heat: Heat::default() }
    }
}

impl Times {
    /// Adds those of another part of the same repetition.
    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.to_all, &other.to_all),
            (&mut self.to_99, &other.to_99),
            (&mut self.to_90, &other.to_90),
            (&mut self.to_50, &other.to_50),
            (&mut self.accepted_to_all, &other.accepted_to_all),
            (&mut self.own_region, &other.own_region),
            (&mut self.other_regions, &other.other_regions),
        ];
        for (own, other) in pairs {
            own.add(other).expect("histograms of one kind add up");
        }
        self.heat.add(&other.heat);
    }

    /// Of what a schedule wrote and nodes noted.
    ///
    /// # Errors
    /// The first update and node that never held it.
    pub fn of(schedule: Schedule, notes: &[Notes], region_of: impl Fn(usize) -> usize) -> Result<Self, (u64, usize)> {
        let held: Vec<(usize, ByWriter)> = notes.iter().map(|notes| (notes.place, by_writer(notes))).collect();
        let mut times = Self { heat: Heat::new(schedule.nodes), ..Self::default() };
        let mut arrivals = Vec::with_capacity(held.len());
        for (update, writer, due) in schedule.updates() {
            arrivals.clear();
            let (mut accepted, mut own, mut others) = (due, due, due);
            for (place, held) in &held {
                let seen = held.get(&writer).map(Vec::as_slice).unwrap_or_default();
                let at = seen.get(seen.partition_point(|(other, _)| *other < update)).ok_or((update, *place))?.1;
                times.heat.note(writer, *place, at.saturating_sub(due));
                let last = if region_of(*place) == region_of(writer) { &mut own } else { &mut others };
                *last = at.max(*last);
                if *place == writer {
                    accepted = at;
                }
                arrivals.push(at);
            }
            arrivals.sort_unstable();
            let by = |share: f64| arrivals[((arrivals.len() as f64 * share).ceil() as usize).max(1) - 1];
            record(&mut times.to_all, by(1.0).saturating_sub(due));
            record(&mut times.to_99, by(0.99).saturating_sub(due));
            record(&mut times.to_90, by(0.9).saturating_sub(due));
            record(&mut times.to_50, by(0.5).saturating_sub(due));
            record(&mut times.accepted_to_all, by(1.0).saturating_sub(accepted));
            record(&mut times.own_region, own.saturating_sub(due));
            record(&mut times.other_regions, others.saturating_sub(due));
        }
        Ok(times)
    }
}

/// Updates of each writer, and when they were held.
type ByWriter = BTreeMap<usize, Vec<(u64, u64)>>;

/// Updates of each writer in the order in which they were held, with when; one that was overtaken is left out.
fn by_writer(notes: &Notes) -> ByWriter {
    let mut by_writer = ByWriter::new();
    for (update, writer, at) in &notes.held {
        let seen = by_writer.entry(*writer).or_default();
        if seen.last().is_none_or(|(newest, _)| newest < update) {
            seen.push((*update, *at));
        }
    }
    by_writer
}

/// Mean time from writer to receiver; of many nodes, from a group of them to a group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Heat {
    /// Nodes.
    pub nodes: usize,
    /// Rows and columns.
    pub bins: usize,
    /// Sums in µs and counts, row by row: writers down, receivers across.
    cells: Vec<(u64, u64)>,
}

/// Rows of a heat map at most.
const BINS_MAX: usize = 32;

impl Heat {
    fn new(nodes: usize) -> Self {
        let bins = nodes.min(BINS_MAX);
        Self { nodes, bins, cells: vec![(0, 0); bins * bins] }
    }

    fn note(&mut self, writer: usize, receiver: usize, us: u64) {
        let bin = |place: usize| place * self.bins / self.nodes;
        let cell = bin(writer) * self.bins + bin(receiver);
        self.cells[cell] = (self.cells[cell].0 + us, self.cells[cell].1 + 1);
    }

    fn add(&mut self, other: &Self) {
        if self.bins == 0 {
            *self = other.clone();
            return;
        }
        for (own, other) in self.cells.iter_mut().zip(&other.cells) {
            *own = (own.0 + other.0, own.1 + other.1);
        }
    }

    /// Mean in µs, row by row; `None` where nothing was written.
    pub fn means(&self) -> Vec<Option<f64>> {
        self.cells.iter().map(|(sum, count)| (*count > 0).then(|| *sum as f64 / *count as f64)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(count: u64) -> Schedule {
        Schedule {
            begin_us: 1000,
            interval_ns: 10_000_000,
            first: 0,
            count,
            seed: 3,
            in_turn: false,
            nodes: 2,
            payload: 0,
        }
    }

    #[test]
    fn latency_counts_from_when_an_update_was_due() {
        let (update, writer, due) = schedule(1).updates().next().unwrap();
        let notes = [
            Notes { place: writer, held: vec![(update, writer, due + 300)] },
            Notes { place: 1 - writer, held: vec![(update, writer, due + 750)] },
        ];
        let times = Times::of(schedule(1), &notes, |place| place).unwrap();
        assert_eq!((times.to_all.max(), times.to_50.max(), times.accepted_to_all.max()), (750, 300, 450));
        assert_eq!((times.own_region.max(), times.other_regions.max()), (300, 750));
        assert_eq!(times.heat.means().into_iter().flatten().sum::<f64>(), 1050.0);
    }

    #[test]
    fn who_holds_a_newer_update_holds_the_older() {
        let one = Schedule { nodes: 1, interval_ns: 1_000_000, ..schedule(2) };
        let newest = one.begin_us + 1_000;
        let notes = [Notes { place: 0, held: vec![(1, 0, newest + 40)] }];
        let times = Times::of(one, &notes, |_| 0).unwrap();
        assert_eq!((times.to_all.min(), times.to_all.max()), (40, 1_040));
        assert!(matches!(Times::of(one, &[Notes::default()], |_| 0), Err((0, 0))), "what is missing is named");
    }
}
