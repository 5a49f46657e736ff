//! `--threshold 'p99<50ms'`: what a measurement must keep to, else the exit code is 5.

use std::fmt;
use std::str::FromStr;

use crate::cli::error::{CliError, Kind};

/// A bound on one figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    metric: String,
    above: bool,
    inclusive: bool,
    /// In µs for times.
    bound: f64,
    text: String,
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("{text:?} is not of the form METRIC<VALUE, for example p99<50ms");
        let at = text.find(['<', '>']).ok_or_else(form)?;
        let (metric, rest) = text.split_at(at);
        let (above, rest) = (rest.starts_with('>'), &rest[1..]);
        let (inclusive, value) = rest.strip_prefix('=').map_or((false, rest), |value| (true, value));
        let value = value.trim();
        let unit_at = value.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(value.len());
        let (number, unit) = value.split_at(unit_at);
        let factor = match unit.trim() {
            "" | "us" | "µs" => 1.0,
            "ms" => 1e3,
            "s" => 1e6,
            "%" => 0.01,
            other => return Err(format!("unit {other:?} in {text:?} is none of us, ms, s, %")),
        };
        let bound = number.parse::<f64>().map_err(|_| form())? * factor;
        let metric = metric.trim().to_owned();
        if metric.is_empty() {
            return Err(form());
        }
        Ok(Self { metric, above, inclusive, bound, text: text.to_owned() })
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Threshold {
    /// The figure that is bounded.
    pub fn metric(&self) -> &str {
        &self.metric
    }

    /// True if a figure keeps to it.
    pub fn is_kept_by(&self, value: f64) -> bool {
        match (self.above, self.inclusive) {
            (false, false) => value < self.bound,
            (false, true) => value <= self.bound,
            (true, false) => value > self.bound,
            (true, true) => value >= self.bound,
        }
    }

    /// Refuses a metric that nobody measures.
    ///
    /// # Errors
    /// With the names there are.
    pub fn check(&self, known: &[&str]) -> Result<(), CliError> {
        if known.contains(&self.metric.as_str()) {
            return Ok(());
        }
        Err(CliError::usage(format!("--threshold {self}: there is no figure {:?}", self.metric))
            .hint(format!("there are {}", known.join(", "))))
    }
}

/// Ends with exit code 5 if anything was missed.
///
/// # Errors
/// What was missed, one a line.
pub fn verdict(missed: &[String]) -> Result<(), CliError> {
    match missed {
        [] => Ok(()),
        missed => Err(CliError::new(Kind::Threshold, missed.join("\n"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_with_their_units() {
        let threshold: Threshold = "p99<50ms".parse().unwrap();
        assert_eq!(threshold.metric(), "p99");
        assert!(threshold.is_kept_by(49_999.0) && !threshold.is_kept_by(50_000.0));
        let threshold: Threshold = "errors <= 1%".parse().unwrap();
        assert!(threshold.is_kept_by(0.01) && !threshold.is_kept_by(0.02));
        let threshold: Threshold = "rate>=1000".parse().unwrap();
        assert!(threshold.is_kept_by(1000.0) && !threshold.is_kept_by(999.0));
    }

    #[test]
    fn what_is_no_threshold_is_refused_in_words() {
        let error = |text: &str| text.parse::<Threshold>().unwrap_err();
        assert!(error("p99").contains("METRIC<VALUE") && error("<5").contains("METRIC<VALUE"));
        assert!(error("p99<5h").contains("none of us, ms, s"));
        assert!(
            "p98<1".parse::<Threshold>().unwrap().check(&["p50", "p99"]).unwrap_err().hint.unwrap().contains("p99")
        );
    }
}
