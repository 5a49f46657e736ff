//! Durations as people write them: `500ms`, `2s`, `1h 30m`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration that is not negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A duration that may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignedSpan(pub SignedDuration);

impl Span {
    /// That many milliseconds.
    pub const fn millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// That many seconds.
    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let units =
            [(3_600_000_000_000, "h"), (60_000_000_000, "m"), (1_000_000_000, "s"), (1_000_000, "ms"), (1000, "us")];
        match units.iter().find(|(unit, _)| nanos >= *unit && nanos.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", nanos / unit),
            None if nanos == 0 => f.write_str("0s"),
            None => write!(f, "{nanos}ns"),
        }
    }
}

impl fmt::Display for SignedSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0.is_negative() { "-" } else { "" };
        write!(f, "{sign}{}", Span(self.0.unsigned_abs()))
    }
}

fn parse(text: &str) -> Result<SignedDuration, String> {
    let wrong = || format!("{text:?} is not a duration; write for instance \"500ms\", \"2s\" or \"24h\"");
    text.parse::<SignedDuration>().map_err(|_| wrong())
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let positive = |span: SignedDuration| Duration::try_from(span).map_err(|_| format!("{text:?} is negative"));
        parse(text).and_then(positive).map(Self)
    }
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = SignedDuration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"500ms\", \"2s\" or \"24h\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SignedDuration, E> {
        parse(text).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for SignedSpan {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_str(DurationVisitor).map(Self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let signed = d.deserialize_str(DurationVisitor)?;
        Duration::try_from(signed).map(Self).map_err(|_| de::Error::custom("a duration here must not be negative"))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Serialize for SignedSpan {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
