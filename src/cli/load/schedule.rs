//! An open loop: when each operation is due, whatever became of those before it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::core::rng::Rng;

/// Readings per second over time: constant, or rising in a straight line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ramp {
    /// At the start.
    pub from: f64,
    /// At the end.
    pub to: f64,
}

impl FromStr for Ramp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once("..").ok_or_else(|| format!("{text:?} is not FROM..TO"))?;
        let rate = |text: &str| text.trim().parse::<f64>().map_err(|error| format!("{text:?}: {error}"));
        Ok(Self { from: rate(from)?, to: rate(to)? })
    }
}

impl fmt::Display for Ramp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (rounded(self.from), rounded(self.to));
        if self.from == self.to { write!(f, "{from}/s") } else { write!(f, "{from}..{to}/s") }
    }
}

/// A rate as it is read: what a search tries in between has no end of digits.
fn rounded(rate: f64) -> f64 {
    if rate < 10.0 { rate } else { (rate * 10.0).round() / 10.0 }
}

impl Ramp {
    /// Seconds after which the `n`-th reading is due, in a run of `total` seconds.
    fn due_s(&self, n: f64, total: f64) -> f64 {
        let slope = (self.to - self.from) / total;
        if slope.abs() < 1e-9 {
            return n / self.from;
        }
        // n = from t + slope t² / 2, solved in the form that does not cancel.
        2.0 * n / (self.from + (self.from * self.from + 2.0 * slope * n).max(0.0).sqrt())
    }

    /// Readings that fall into a run of that long.
    pub fn readings(&self, takes: Duration) -> u64 {
        ((self.from + self.to) / 2.0 * takes.as_secs_f64()).round() as u64
    }
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Writes a batch of readings.
    Put,
    /// Reads what a node holds of the loaded channels.
    Get,
    /// Opens a stream of changes, waits for its first event, and closes it.
    Watch,
    /// Asks for the newest checkpoint, confirmed by a quorum.
    Read,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Put, Self::Get, Self::Watch, Self::Read];

    /// The word on the command line and in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Watch => "watch",
            Self::Read => "read",
        }
    }
}

/// Shares of the operations.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix(Vec<(Kind, f64)>);

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let part = |part: &str| {
            let (name, share) = part.trim().split_once('=').unwrap_or((part.trim(), "1"));
            let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == name);
            let kind = kind.ok_or_else(|| format!("{name:?} is none of put, get, watch, read"))?;
            let share: f64 = share.parse().map_err(|error| format!("{part:?}: {error}"))?;
            if share.is_finite() && share >= 0.0 { Ok((kind, share)) } else { Err(format!("{part:?} is no share")) }
        };
        let parts = text.split(',').map(part).collect::<Result<Vec<_>, String>>()?;
        if parts.iter().map(|(_, share)| share).sum::<f64>() > 0.0 {
            Ok(Self(parts))
        } else {
            Err("all shares are zero".to_owned())
        }
    }
}

impl Mix {
    fn draw(&self, rng: &mut Rng) -> Kind {
        let mut at = rng.unit() * self.0.iter().map(|(_, share)| share).sum::<f64>();
        for (kind, share) in &self.0 {
            at -= share;
            if at < 0.0 {
                return *kind;
            }
        }
        self.0.last().expect("a mix is not empty").0
    }
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    /// When it is due, in µs after the start.
    pub due_us: u64,
    /// What.
    pub kind: Kind,
    /// Which target is asked.
    pub target: usize,
    /// Number of its first reading.
    pub first: u64,
    /// Its readings.
    pub batch: usize,
}

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Readings a second.
    pub ramp: Ramp,
    /// For how long.
    pub takes: Duration,
    /// Readings in one request.
    pub batch: usize,
    /// What clients do.
    pub mix: Mix,
    /// How many nodes are asked.
    pub targets: usize,
    /// Seed of all choices.
    pub seed: u64,
}

impl Plan {
    /// Operations in the order in which they are due. An operation that is no put stands for one reading's share of
    /// the rate.
    pub fn ops(&self) -> impl Iterator<Item = Op> {
        let plan = self.clone();
        let mut rng = Rng::new(self.seed);
        let (total_s, all) = (self.takes.as_secs_f64(), self.ramp.readings(self.takes));
        let (mut shares, mut first) = (0u64, 0u64);
        std::iter::from_fn(move || {
            if shares >= all {
                return None;
            }
            let due_us = (plan.ramp.due_s(shares as f64, total_s) * 1e6) as u64;
            let kind = plan.mix.draw(&mut rng);
            let batch = if kind == Kind::Put { plan.batch } else { 0 };
            let op = Op { due_us, kind, target: rng.below(plan.targets), first, batch };
            shares += batch.max(1) as u64;
            first += batch as u64;
            Some(op)
        })
    }

    /// How late an operation may begin and still count as sent in time, in µs: the time between two of them at the
    /// highest rate, and never less than 1 ms.
    pub fn lateness_allowed_us(&self) -> u64 {
        let fastest = self.ramp.from.max(self.ramp.to) / self.batch as f64;
        ((1e6 / fastest) as u64).max(1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(ramp: &str, mix: &str, batch: usize) -> Plan {
        let (ramp, mix) = (ramp.parse().unwrap(), mix.parse().unwrap());
        Plan { ramp, takes: Duration::from_secs(10), batch, mix, targets: 3, seed: 1 }
    }

    #[test]
    fn a_rate_is_shown_without_digits_that_mean_nothing() {
        let shown = |from: f64, to: f64| Ramp { from, to }.to_string();
        assert_eq!((shown(835.4190259, 835.4190259), shown(0.25, 2000.0)), ("835.4/s".into(), "0.25..2000/s".into()));
    }

    #[test]
    fn a_constant_rate_is_evenly_spaced() {
        let ops: Vec<Op> = plan("100..100", "put", 1).ops().collect();
        assert_eq!(ops.len(), 1000);
        assert!(ops.windows(2).all(|pair| (9_999..=10_001).contains(&(pair[1].due_us - pair[0].due_us))));
        assert_eq!((ops[999].first, ops[999].batch), (999, 1));
    }

    #[test]
    fn a_ramp_rises_in_a_straight_line() {
        let ops: Vec<Op> = plan("0..200", "put", 1).ops().collect();
        assert_eq!(ops.len(), 1000);
        let by_half = ops.iter().filter(|op| op.due_us < 5_000_000).count();
        assert!((249..=251).contains(&by_half), "a quarter of a triangle lies in its first half: {by_half}");
        assert!(ops.iter().all(|op| op.due_us <= 10_000_000));
    }

    #[test]
    fn batches_carry_the_rate_in_fewer_requests() {
        let ops: Vec<Op> = plan("100..100", "put", 50).ops().collect();
        assert_eq!((ops.len(), ops[19].first, ops[1].due_us), (20, 950, 500_000));
    }

    #[test]
    fn a_mix_is_kept() {
        let ops: Vec<Op> = plan("100..100", "put=3,get=1", 1).ops().collect();
        let gets = ops.iter().filter(|op| op.kind == Kind::Get).count();
        assert!((200..300).contains(&gets), "{gets}");
        assert!(
            "put=0".parse::<Mix>().unwrap_err().contains("zero")
                && "pull=1".parse::<Mix>().unwrap_err().contains("none of")
        );
        assert!("5".parse::<Ramp>().unwrap_err().contains("FROM..TO"));
    }
}
