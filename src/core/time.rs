//! Time as plain numbers that the driver supplies.
//!
//! Two readings with two uses that never mix: [`Mono`] drives timeouts, [`Wall`] feeds only the
//! hybrid clock and the ages shown to people. Nothing here asks a clock.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A monotonic instant: microseconds since an origin that each driver chooses for itself.
///
/// Two nodes' instants are not comparable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(u64);

impl Mono {
    /// The driver's origin.
    pub const ZERO: Self = Self(0);
    /// Later than any instant: the deadline of a machine that waits for nothing.
    pub const NEVER: Self = Self(u64::MAX);

    /// Makes an instant from microseconds since the driver's origin.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the driver's origin.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Time that has passed since `earlier`; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// A wall-clock reading: milliseconds since the Unix epoch, in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Wall(u64);

impl Wall {
    /// Makes a reading from milliseconds since the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Milliseconds from `other` to `self`, negative when `other` is later.
    pub const fn millis_after(self, other: Self) -> i64 {
        (self.0 as i64).saturating_sub(other.0 as i64)
    }
}

impl Add<Duration> for Wall {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Wall {
    type Output = Self;

    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(rhs.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// Both clocks of a node as they stand when an event is handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Drives every timeout.
    pub mono: Mono,
    /// Feeds the hybrid clock, and ages shown to people.
    pub wall: Wall,
}
