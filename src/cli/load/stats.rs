//! What a run came to: latencies corrected and not, errors by kind, and when everybody saw what was written.

use std::collections::{BTreeMap, HashMap};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::cli::load::conn::Trouble;
use crate::cli::load::schedule::{Kind, Op};

/// Percentiles of times in µs; zeros of none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// Half are no longer.
    pub p50_us: u64,
    /// Nine of ten are no longer.
    pub p90_us: u64,
    /// 99 of a hundred are no longer.
    pub p99_us: u64,
    /// 999 of a thousand are no longer.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl Latency {
    /// Of what was recorded.
    pub fn of(times: &Histogram<u64>) -> Self {
        let at = |quantile| times.value_at_quantile(quantile);
        Self {
            count: times.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: times.max(),
        }
    }
}

/// A histogram of times in µs.
pub fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are allowed")
}

/// Notes a time.
pub fn record(times: &mut Histogram<u64>, us: u64) {
    times.record(us).expect("the histogram grows");
}

/// What became of one operation. Times are µs after the start.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Which.
    pub op: Op,
    /// When it was sent.
    pub sent_us: u64,
    /// When its answer was complete.
    pub done_us: u64,
    /// Whether it succeeded.
    pub result: Result<(), Trouble>,
}

/// Sums over outcomes.
pub struct Stats {
    /// From when an operation was due.
    pub corrected: Histogram<u64>,
    /// From when it was sent: what a closed loop would report.
    pub uncorrected: Histogram<u64>,
    /// Corrected, by kind.
    pub kinds: BTreeMap<&'static str, Histogram<u64>>,
    /// Failures by kind.
    pub errors: BTreeMap<&'static str, u64>,
    /// Requests sent.
    pub requests: u64,
    /// Readings and other operations sent, and how many of them succeeded.
    pub sent: u64,
    /// See `sent`.
    pub ok: u64,
    /// Requests that began too late.
    pub missed: u64,
    /// When the last answer came.
    pub last_us: u64,
    lateness_allowed_us: u64,
}

impl Stats {
    /// Nothing yet; an operation that begins later than this is missed.
    pub fn new(lateness_allowed_us: u64) -> Self {
        Self {
            corrected: histogram(),
            uncorrected: histogram(),
            kinds: BTreeMap::new(),
            errors: BTreeMap::new(),
            requests: 0,
            sent: 0,
            ok: 0,
            missed: 0,
            last_us: 0,
            lateness_allowed_us,
        }
    }

    /// Takes note of an outcome. Failures have no latency: they are counted.
    pub fn add(&mut self, outcome: &Outcome) {
        let Outcome { op, sent_us, done_us, result } = outcome;
        let weight = op.batch.max(1) as u64;
        self.requests += 1;
        self.sent += weight;
        self.missed += u64::from(*sent_us > op.due_us + self.lateness_allowed_us);
        self.last_us = self.last_us.max(*done_us);
        match result {
            Ok(()) => {
                self.ok += weight;
                let corrected = done_us.saturating_sub(op.due_us);
                record(&mut self.corrected, corrected);
                record(&mut self.uncorrected, done_us.saturating_sub(*sent_us));
                record(self.kinds.entry(op.kind.as_str()).or_insert_with(histogram), corrected);
            }
            Err(trouble) => *self.errors.entry(trouble.as_str()).or_default() += 1,
        }
    }
}

/// When readings were seen by those who watch.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Convergence {
    /// Nodes that were watched.
    pub watched: usize,
    /// Written readings that every one of them showed, or a newer one of the same channel.
    pub seen_by_all: u64,
    /// Acknowledged readings that one of them did not show in time.
    pub unseen: u64,
    /// Changes that went by too fast for a watcher to be told.
    pub gaps: u64,
    /// From when a reading was due until the last watcher saw it.
    pub to_all: Latency,
    /// Until the first did.
    pub to_first: Latency,
}

/// What one watcher saw, in order: number of the reading and µs after the start.
pub type Seen = Vec<(u64, u64)>;

/// Joins acknowledged puts with what watchers saw. `key` tells the channel of a reading.
pub fn convergence(
    acked: &[Op],
    seen: &[Seen],
    gaps: u64,
    key: impl Fn(&Op, u64) -> u64,
) -> (Convergence, Histogram<u64>) {
    let (mut to_all, mut to_first) = (histogram(), histogram());
    let mut result = Convergence { watched: seen.len(), gaps, ..Convergence::default() };
    let keys: HashMap<u64, u64> = acked.iter().flat_map(|op| readings(op).map(|n| (n, key(op, n)))).collect();
    let by_key: Vec<HashMap<u64, Seen>> = seen.iter().map(|seen| in_order(seen, &keys)).collect();
    for (op, number) in acked.iter().flat_map(|op| readings(op).map(move |number| (op, number))) {
        let at = |shown: &HashMap<u64, Seen>| {
            let shown = shown.get(&keys[&number])?;
            Some(shown.get(shown.partition_point(|(other, _)| *other < number))?.1.saturating_sub(op.due_us))
        };
        let times: Option<Vec<u64>> = by_key.iter().map(at).collect();
        match times.as_deref().map(|times| (times.iter().max(), times.iter().min())) {
            Some((Some(last), Some(first))) => {
                result.seen_by_all += 1;
                record(&mut to_all, *last);
                record(&mut to_first, *first);
            }
            Some(_) => {}
            None => result.unseen += 1,
        }
    }
    result.to_all = Latency::of(&to_all);
    result.to_first = Latency::of(&to_first);
    (result, to_all)
}

fn readings(op: &Op) -> std::ops::Range<u64> {
    let batch = if op.kind == Kind::Put { op.batch as u64 } else { 0 };
    op.first..op.first + batch
}

/// What was seen of each channel, rising: whoever has shown the newer has shown the older.
fn in_order(seen: &Seen, keys: &HashMap<u64, u64>) -> HashMap<u64, Seen> {
    let mut by_key: HashMap<u64, Seen> = HashMap::new();
    for (number, at) in seen {
        let Some(key) = keys.get(number) else { continue };
        let shown = by_key.entry(*key).or_default();
        if shown.last().is_none_or(|(newest, _)| newest < number) {
            shown.push((*number, *at));
        }
    }
    by_key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(first: u64, due_us: u64) -> Op {
        Op { due_us, kind: Kind::Put, target: 0, first, batch: 1 }
    }

    #[test]
    fn a_stall_shows_in_the_corrected_latency_alone() {
        let mut stats = Stats::new(1000);
        stats.add(&Outcome { op: put(0, 0), sent_us: 0, done_us: 50_000, result: Ok(()) });
        stats.add(&Outcome { op: put(1, 10_000), sent_us: 50_000, done_us: 50_200, result: Ok(()) });
        stats.add(&Outcome { op: put(2, 20_000), sent_us: 20_010, done_us: 21_000, result: Err(Trouble::Timeout) });
        assert_eq!((stats.missed, stats.sent, stats.ok, stats.errors["timeout"]), (1, 3, 2, 1));
        assert_eq!((stats.corrected.min() / 100, stats.uncorrected.min()), (401, 200));
    }

    #[test]
    fn convergence_is_by_the_last_watcher_and_a_newer_reading_will_do() {
        let acked = [put(0, 0), put(1, 100), put(2, 200)];
        let seen = [vec![(0, 50), (1, 150), (2, 250)], vec![(1, 400)]];
        // 0 and 1 are of one channel, 2 of another.
        let (c, _) = convergence(&acked, &seen, 0, |_, number| number / 2);
        assert_eq!((c.seen_by_all, c.unseen, c.to_all.max_us, c.to_first.max_us), (2, 1, 400, 50));
    }
}
