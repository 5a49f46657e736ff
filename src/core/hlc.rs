//! The hybrid logical clock that stamps every write (Kulkarni et al., OPODIS 2014).
//!
//! Invariant: a clock never issues the same or a smaller stamp twice, restarts included, because it
//! never issues one above its durable high-water mark, and after a restart starts above it. A clock that is
//! reset from a future that everybody refuses stays above all it has issued this side of that future.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::core::id::NodeId;
use crate::core::time::Wall;

/// A hybrid timestamp: 48 bits of milliseconds since the Unix epoch, 16 bits of counter.
///
/// Written `[milliseconds, counter]` on the wire, so that any JSON parser keeps it exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hlc(u64);

impl Hlc {
    /// Below every stamp ever issued.
    pub const ZERO: Self = Self(0);
    /// Above every stamp that can be issued.
    pub const MAX: Self = Self(u64::MAX);

    /// Makes a timestamp; milliseconds beyond 48 bits are clipped.
    pub const fn new(wall: Wall, counter: u16) -> Self {
        let millis = if wall.as_millis() >> 48 == 0 { wall.as_millis() } else { (1 << 48) - 1 };
        Self((millis << 16) | counter as u64)
    }

    /// The physical part.
    pub const fn wall(self) -> Wall {
        Wall::from_millis(self.0 >> 16)
    }

    /// The logical part.
    pub const fn counter(self) -> u16 {
        self.0 as u16
    }

    /// All 64 bits; order as numbers is order in time.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// From all 64 bits.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The next one; saturates.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.wall().as_millis(), self.counter())
    }
}

impl Serialize for Hlc {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        (self.wall().as_millis(), self.counter()).serialize(s)
    }
}

impl<'de> Deserialize<'de> for Hlc {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let (millis, counter) = <(u64, u16)>::deserialize(d)?;
        if millis >> 48 != 0 {
            return Err(serde::de::Error::custom("a stamp has 48 bits of milliseconds"));
        }
        Ok(Self::new(Wall::from_millis(millis), counter))
    }
}

/// A total order on all writes: hybrid time, ties broken by the writer's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Hybrid time of the write.
    pub time: Hlc,
    /// Who wrote.
    pub node: NodeId,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.time, self.node)
    }
}

/// One node's clock.
///
/// Milliseconds follow the wall clock but never pass `mark`, the durable high-water mark; the counter
/// keeps stamps apart meanwhile, so a slow disk delays stamps' physical part and not the writes.
#[derive(Clone, Debug)]
pub struct Clock {
    last: Hlc,
    mark: Hlc,
    asked: Hlc,
    issued: Issued,
}

/// How far ahead the durable mark is written: after a crash stamps run ahead of the wall by at most this.
pub const MARK_STEP: Duration = Duration::from_secs(3);

impl Clock {
    /// Starts above everything a former life can have issued, given its durable mark.
    ///
    /// Nothing can be issued before a new mark is durable.
    pub fn recover(mark: Hlc) -> Self {
        Self { last: mark, mark, asked: mark, issued: Issued::all_up_to(mark) }
    }

    /// Issues a stamp above all earlier ones, or `None` while no room is left under the durable mark.
    pub fn issue(&mut self, wall: Wall) -> Option<Hlc> {
        let physical = Some(Hlc::new(wall, 0)).filter(|physical| *physical <= self.mark).unwrap_or(Hlc::ZERO);
        let next = physical.max(self.last.next());
        if next > self.mark {
            return None;
        }
        self.last = next;
        self.issued.insert(next);
        Some(next)
    }

    /// The newest stamp issued or learned.
    pub fn last(&self) -> Hlc {
        self.last
    }

    /// Moves the clock above a stamp of our own origin that we do not remember having issued.
    pub fn observe(&mut self, own: Hlc) {
        self.last = self.last.max(own);
        self.issued.insert(own);
    }

    /// The mark to be made durable now, if the present one is half used up; asked for once.
    pub fn wants_mark(&mut self, wall: Wall) -> Option<Hlc> {
        let base = Hlc::new(wall, 0).max(self.last);
        if Hlc::new(base.wall() + MARK_STEP / 2, 0) <= self.asked {
            return None;
        }
        self.asked = Hlc::new(base.wall() + MARK_STEP, 0);
        Some(self.asked)
    }

    /// Takes note that `mark` is durable.
    pub fn on_durable(&mut self, mark: Hlc) {
        self.mark = self.mark.max(mark);
    }

    /// Forgets a future that peers refuse, all beyond `bound`: starts anew at `wall`, above every stamp up to `bound` that
    /// may have been issued, under a mark still to be made durable.
    pub fn reset(&mut self, wall: Wall, bound: Hlc) {
        let floor = self.issued.last_up_to(bound).unwrap_or(Hlc::ZERO).max(Hlc::new(wall, 0));
        (self.last, self.mark, self.asked) = (floor, floor, floor);
    }
}

/// Which stamps may have been issued, in few runs from a first to a last, ascending and apart.
///
/// A clock that is set back to a time at which it has been before must not issue again what it issued then, not even
/// what a later write has replaced since.
#[derive(Clone, Debug)]
struct Issued(Vec<(Hlc, Hlc)>);

/// Stamps nearer to each other than this are of one run.
const RUN_GAP: Duration = Duration::from_secs(1);

/// More runs than this melt together, the nearest first.
const RUNS_MAX: usize = 16;

impl Issued {
    /// What a former life with this mark may have issued.
    fn all_up_to(mark: Hlc) -> Self {
        Self(Vec::from_iter((mark > Hlc::ZERO).then_some((Hlc::ZERO, mark))))
    }

    fn insert(&mut self, stamp: Hlc) {
        let runs = &mut self.0;
        let at = runs.partition_point(|(_, last)| last.wall() + RUN_GAP < stamp.wall());
        match runs.get_mut(at) {
            Some((first, last)) if first.wall() <= stamp.wall() + RUN_GAP => {
                (*first, *last) = ((*first).min(stamp), (*last).max(stamp));
            }
            _ => runs.insert(at, (stamp, stamp)),
        }
        let gap = |runs: &[(Hlc, Hlc)], left: usize| runs[left + 1].0.wall().millis_after(runs[left].1.wall());
        let melts = |gap: i64, count: usize| gap <= RUN_GAP.as_millis() as i64 || count > RUNS_MAX;
        while let Some(left) = (0..runs.len().saturating_sub(1)).min_by_key(|left| gap(runs, *left))
            && melts(gap(runs, left), runs.len())
        {
            let (_, last) = runs.remove(left + 1);
            runs[left].1 = last;
        }
    }

    /// The last one that may have been issued up to `bound`.
    fn last_up_to(&self, bound: Hlc) -> Option<Hlc> {
        self.0.iter().rev().find(|(first, _)| *first <= bound).map(|(_, last)| (*last).min(bound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Wall {
        Wall::from_millis(millis)
    }

    #[test]
    fn nothing_is_issued_before_the_mark_is_durable() {
        let mut clock = Clock::recover(Hlc::ZERO);
        assert_eq!(clock.issue(at(1000)), None);
        let mark = clock.wants_mark(at(1000)).unwrap();
        assert_eq!(clock.wants_mark(at(1000)), None);
        clock.on_durable(mark);
        assert_eq!(clock.issue(at(1000)), Some(Hlc::new(at(1000), 0)));
    }

    #[test]
    fn stamps_rise_while_the_wall_stands_still_or_falls_back() {
        let mut clock = Clock::recover(Hlc::ZERO);
        let mark = clock.wants_mark(at(1000)).unwrap();
        clock.on_durable(mark);
        let stamps: Vec<_> = [1000, 1000, 900, 1001].map(|t| clock.issue(at(t)).unwrap()).into();
        assert!(stamps.is_sorted_by(|a, b| a < b), "{stamps:?}");
    }

    #[test]
    fn a_restart_starts_above_everything_issued() {
        let mut clock = Clock::recover(Hlc::ZERO);
        let mark = clock.wants_mark(at(1000)).unwrap();
        clock.on_durable(mark);
        let before = clock.issue(at(1500)).unwrap();
        let mut again = Clock::recover(mark);
        let mark = again.wants_mark(at(200)).unwrap();
        again.on_durable(mark);
        assert!(again.issue(at(200)).unwrap() > before);
    }

    /// A clock under a mark far ahead, having issued a stamp at each of the times.
    fn issued_at(times: &[u64]) -> (Clock, Vec<Hlc>) {
        let mut clock = Clock::recover(Hlc::ZERO);
        clock.on_durable(Hlc::new(at(100_000_000), 0));
        let stamps = times.iter().map(|t| clock.issue(at(*t)).unwrap()).collect();
        (clock, stamps)
    }

    #[test]
    fn a_clock_set_back_twice_issues_nothing_twice() {
        let (mut clock, stamps) = issued_at(&[1000, 1000, 90_000]);
        for _ in 0..3 {
            clock.reset(at(1000), Hlc::new(at(11_000), u16::MAX));
            clock.on_durable(Hlc::new(at(100_000), 0));
            let again = clock.issue(at(1000)).unwrap();
            assert!(!stamps.contains(&again) && again.wall() == at(1000), "{again}");
            clock.issue(at(90_000)).unwrap();
        }
    }

    #[test]
    fn a_reset_clock_starts_at_the_wall_where_it_has_not_been_before() {
        let (mut clock, _) = issued_at(&[1000, 90_000]);
        clock.reset(at(5000), Hlc::new(at(15_000), u16::MAX));
        assert_eq!(clock.last(), Hlc::new(at(5000), 0));
    }

    #[test]
    fn a_reset_in_a_second_life_takes_all_for_issued() {
        let mut clock = Clock::recover(Hlc::new(at(90_000), 0));
        let bound = Hlc::new(at(15_000), u16::MAX);
        clock.reset(at(5000), bound);
        assert_eq!(clock.last(), bound);
    }

    #[test]
    fn runs_stay_few_and_cover_all_that_was_issued() {
        let times: Vec<u64> = (0..200).map(|i| i * 5000 + (i * i) % 1500).collect();
        let (clock, stamps) = issued_at(&times);
        assert!(clock.issued.0.len() <= RUNS_MAX);
        assert!(stamps.iter().all(|stamp| clock.issued.last_up_to(*stamp) == Some(*stamp)));
    }

    #[test]
    fn a_disk_that_lags_slows_the_physical_part_only() {
        let mut clock = Clock::recover(Hlc::ZERO);
        let mark = clock.wants_mark(at(1000)).unwrap();
        clock.on_durable(mark);
        let first = clock.issue(at(1500)).unwrap();
        let late = clock.issue(at(9000)).unwrap();
        assert_eq!(late, first.next());
        assert!(late <= mark);
    }

    #[test]
    fn what_was_issued_early_and_late_says_nothing_of_the_time_between() {
        let (mut clock, _) = issued_at(&[90_000]);
        let bound = |millis: u64| Hlc::new(at(millis), u16::MAX);
        clock.reset(at(1000), bound(11_000));
        clock.on_durable(Hlc::new(at(100_000), 0));
        assert_eq!(clock.issue(at(1000)).map(Hlc::wall), Some(at(1000)));
        clock.reset(at(5000), bound(15_000));
        assert_eq!(clock.last(), Hlc::new(at(5000), 0));
        // Nor is anything issued again that others hold.
        let known = Hlc::new(at(12_000), 3);
        clock.on_durable(Hlc::new(at(100_000), 0));
        clock.observe(known);
        assert_eq!(clock.issue(at(5000)), Some(known.next()));
        clock.reset(at(5000), bound(15_000));
        assert_eq!(clock.last(), known.next());
    }
}
