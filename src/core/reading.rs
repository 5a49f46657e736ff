//! A reading: what a sensor said, how sure it is, and when it said it.

use serde::{Deserialize, Serialize};

use crate::core::time::Wall;

/// The latest word of one channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The measured value in `unit`; finite. Absent when the source failed (quality `bad`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Unit as people write it: `°C`, `%`, `hPa`, `MiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Standard uncertainty (one sigma) in `unit`; finite and not negative. Absent when the source states none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigma: Option<f64>,
    /// Whether the source stands behind the value.
    #[serde(default, skip_serializing_if = "Quality::is_good")]
    pub quality: Quality,
    /// Why the quality is not good, for people; at most [`NOTE_BYTES_MAX`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When the sensor was read: milliseconds since the Unix epoch by its gateway's clock.
    pub time: Wall,
}

/// Longest note, in bytes.
pub const NOTE_BYTES_MAX: usize = 200;
/// Longest unit, in bytes.
pub const UNIT_BYTES_MAX: usize = 32;

/// Whether a source stands behind a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quality {
    /// Measured as usual.
    #[default]
    Good,
    /// Measured, but the source doubts it (out of range, late, diagnosed as faulty).
    Uncertain,
    /// Not measured: the source failed. The value, if there is one, is the last good one.
    Bad,
}

impl Quality {
    /// True for [`Quality::Good`].
    pub fn is_good(&self) -> bool {
        *self == Self::Good
    }

    /// The word used on the wire and on the screen.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Uncertain => "uncertain",
            Self::Bad => "bad",
        }
    }
}

/// Why a reading was refused. Nothing was stored; the source or client must correct it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReadingError {
    /// Not a number, or infinite.
    #[error("{field} is {value}; it must be a finite number")]
    NotFinite { field: &'static str, value: f64 },
    /// A negative uncertainty.
    #[error("sigma is {0}; it must not be negative")]
    NegativeSigma(f64),
    /// Good quality without a value.
    #[error("a reading of quality good needs a value; one of quality bad says that its source gave none")]
    NoValue,
    /// Unit or note over its bound.
    #[error("{field} has {len} bytes; at most {max} are allowed")]
    TooLong { field: &'static str, len: usize, max: usize },
}

impl Reading {
    /// A good reading of `value` at `time`, without unit or stated uncertainty.
    pub fn new(value: f64, time: Wall) -> Self {
        Self { value: Some(value), unit: None, sigma: None, quality: Quality::Good, note: None, time }
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`ReadingError`] names the field that is wrong.
    pub fn check(&self) -> Result<(), ReadingError> {
        for (field, value) in [("value", self.value), ("sigma", self.sigma)] {
            if let Some(value) = value.filter(|v| !v.is_finite()) {
                return Err(ReadingError::NotFinite { field, value });
            }
        }
        if let Some(sigma) = self.sigma.filter(|s| *s < 0.0) {
            return Err(ReadingError::NegativeSigma(sigma));
        }
        if self.quality.is_good() && self.value.is_none() {
            return Err(ReadingError::NoValue);
        }
        for (field, text, max) in [("unit", &self.unit, UNIT_BYTES_MAX), ("note", &self.note, NOTE_BYTES_MAX)] {
            if let Some(len) = text.as_ref().map(String::len).filter(|len| *len > max) {
                return Err(ReadingError::TooLong { field, len, max });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uncertainty_of_zero_and_texts_up_to_their_bounds_are_taken_and_no_longer_ones() {
        let (unit, note) = (Some("u".repeat(UNIT_BYTES_MAX)), Some("n".repeat(NOTE_BYTES_MAX)));
        let exact = Reading { sigma: Some(0.0), unit, note, ..Reading::new(1.0, Wall::from_millis(1)) };
        assert_eq!(exact.check(), Ok(()));
        let long = Reading { note: Some("n".repeat(NOTE_BYTES_MAX + 1)), ..exact.clone() };
        assert!(matches!(long.check(), Err(ReadingError::TooLong { field: "note", .. })));
        let long = Reading { unit: Some("u".repeat(UNIT_BYTES_MAX + 1)), ..exact };
        assert!(matches!(long.check(), Err(ReadingError::TooLong { field: "unit", .. })));
    }

    #[test]
    fn a_reading_that_is_no_number_is_refused() {
        let mut reading = Reading::new(f64::NAN, Wall::from_millis(1));
        assert!(matches!(reading.check(), Err(ReadingError::NotFinite { field: "value", .. })));
        reading.value = Some(1.0);
        reading.sigma = Some(-0.1);
        assert_eq!(reading.check(), Err(ReadingError::NegativeSigma(-0.1)));
        reading.sigma = None;
        assert_eq!(reading.check(), Ok(()));
        reading.value = None;
        assert_eq!(reading.check(), Err(ReadingError::NoValue));
    }

    #[test]
    fn a_plain_reading_is_short_on_the_wire() {
        let reading = Reading { unit: Some("°C".into()), ..Reading::new(21.5, Wall::from_millis(1_700_000_000_000)) };
        assert_eq!(serde_json::to_string(&reading).unwrap(), r#"{"value":21.5,"unit":"°C","time":1700000000000}"#);
    }
}
