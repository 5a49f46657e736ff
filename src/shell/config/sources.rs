//! What a file may say of local sensors: one `[[sources]]` each.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::id::Channel;
use crate::shell::config::duration::Span;

/// One local source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum SourceConfig {
    /// This machine: CPU load, memory, component temperatures.
    System(SystemSource),
    /// A made-up sensor with made-up faults.
    Simulated(SimulatedSource),
    /// Linux sysfs: thermal zones and hwmon.
    Hwmon(HwmonSource),
    /// A command's output.
    Exec(ExecSource),
    /// JSON lines on standard input.
    Stdin(StdinSource),
    /// JSON lines in a file that grows.
    File(FileSource),
    /// A recording, at its own pace or faster.
    Replay(ReplaySource),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SystemSource {
    /// Shown in status.
    pub name: String,
    /// Time between readings.
    pub interval: Span,
}

impl Default for SystemSource {
    fn default() -> Self {
        Self { name: "system".into(), interval: Span::secs(1) }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimulatedSource {
    /// Shown in status.
    pub name: String,
    /// The channel it feeds.
    pub channel: String,
    /// Its unit.
    pub unit: String,
    /// Time between readings.
    pub interval: Span,
    /// Mean of the daily curve.
    pub mean: f64,
    /// Half of what the daily curve spans.
    pub amplitude: f64,
    /// Length of a day.
    pub period: Span,
    /// Standard deviation of each reading.
    pub noise: f64,
    /// Constant error.
    pub bias: f64,
    /// Error that grows, per hour.
    pub drift: f64,
    /// Probability that a reading is a spike.
    pub spike_rate: f64,
    /// Size of a spike.
    pub spike: f64,
    /// Probability that a reading is missing.
    pub dropout_rate: f64,
    /// Probability, per reading, that the sensor begins to stick at its value for a minute.
    pub stuck_rate: f64,
    /// Seed; the node's name and the channel if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl Default for SimulatedSource {
    fn default() -> Self {
        Self {
            name: "simulated".into(),
            channel: "temp".into(),
            unit: "°C".into(),
            interval: Span::secs(1),
            mean: 21.0,
            amplitude: 2.0,
            period: Span::secs(24 * 3600),
            noise: 0.1,
            bias: 0.0,
            drift: 0.0,
            spike_rate: 0.0,
            spike: 10.0,
            dropout_rate: 0.0,
            stuck_rate: 0.0,
            seed: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HwmonSource {
    /// Shown in status.
    pub name: String,
    /// Where sysfs is.
    pub root: String,
    /// Time between readings.
    pub interval: Span,
}

impl Default for HwmonSource {
    fn default() -> Self {
        Self { name: "hwmon".into(), root: "/sys".into(), interval: Span::secs(1) }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExecSource {
    /// Shown in status.
    pub name: String,
    /// Program and arguments; no shell.
    pub command: Vec<String>,
    /// The channel of a plain number; JSON lines name their own.
    pub channel: String,
    /// Unit of a plain number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Time between starts.
    pub interval: Span,
    /// A command that takes longer is killed.
    pub timeout: Span,
}

impl Default for ExecSource {
    fn default() -> Self {
        Self {
            name: "exec".into(),
            command: Vec::new(),
            channel: "exec".into(),
            unit: None,
            interval: Span::secs(10),
            timeout: Span::secs(5),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StdinSource {
    /// Shown in status.
    pub name: String,
}

impl Default for StdinSource {
    fn default() -> Self {
        Self { name: "stdin".into() }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileSource {
    /// Shown in status.
    pub name: String,
    /// The file.
    pub path: String,
    /// Begin at its start instead of its end.
    pub from_start: bool,
    /// Time between looks.
    pub interval: Span,
}

impl Default for FileSource {
    fn default() -> Self {
        Self { name: "file".into(), path: String::new(), from_start: false, interval: Span::millis(200) }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReplaySource {
    /// Shown in status.
    pub name: String,
    /// CSV with a header `timestamp,node,sensor,value`, plain or gzip.
    pub path: String,
    /// Recorded seconds per second; 0 as fast as it is read.
    pub speed: f64,
    /// Which recorded nodes this one plays, and the prefix that their channels get; empty plays all as `<node>/`.
    pub nodes: BTreeMap<String, String>,
    /// Unit of each recorded sensor.
    pub units: BTreeMap<String, String>,
    /// Begin anew at the end.
    pub repeat: bool,
}

impl Default for ReplaySource {
    fn default() -> Self {
        Self {
            name: "replay".into(),
            path: String::new(),
            speed: 1.0,
            nodes: BTreeMap::new(),
            units: BTreeMap::new(),
            repeat: false,
        }
    }
}

impl ReplaySource {
    /// Where the recording is: where `path` says, or by its name in the directory that SENSORCTL_DATA names.
    ///
    /// # Errors
    /// Where it was looked for.
    pub fn locate(&self) -> Result<PathBuf, String> {
        let path = PathBuf::from(&self.path);
        if path.is_file() {
            return Ok(path);
        }
        let elsewhere = std::env::var_os("SENSORCTL_DATA").map(PathBuf::from);
        let found = elsewhere.zip(path.file_name()).map(|(dir, name)| dir.join(name)).filter(|path| path.is_file());
        found.ok_or_else(|| {
            format!("there is no recording {}; SENSORCTL_DATA may name the directory that holds it", self.path)
        })
    }
}

impl SourceConfig {
    /// Its name, shown in status.
    pub fn name(&self) -> &str {
        match self {
            Self::System(source) => &source.name,
            Self::Simulated(source) => &source.name,
            Self::Hwmon(source) => &source.name,
            Self::Exec(source) => &source.name,
            Self::Stdin(source) => &source.name,
            Self::File(source) => &source.name,
            Self::Replay(source) => &source.name,
        }
    }

    /// Its kind, as in the file.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::System(_) => "system",
            Self::Simulated(_) => "simulated",
            Self::Hwmon(_) => "hwmon",
            Self::Exec(_) => "exec",
            Self::Stdin(_) => "stdin",
            Self::File(_) => "file",
            Self::Replay(_) => "replay",
        }
    }

    /// What is wrong with it.
    pub(super) fn findings(&self) -> Vec<String> {
        let mut found = Vec::new();
        match self {
            Self::System(source) => interval(&mut found, source.interval),
            Self::Simulated(source) => {
                interval(&mut found, source.interval);
                channel(&mut found, &source.channel);
                for (name, rate) in [
                    ("spike_rate", source.spike_rate),
                    ("dropout_rate", source.dropout_rate),
                    ("stuck_rate", source.stuck_rate),
                ] {
                    if !(0.0..=1.0).contains(&rate) {
                        found.push(format!("{name} is {rate}; a probability lies between 0 and 1"));
                    }
                }
                if !(source.noise >= 0.0 && source.noise.is_finite()) {
                    found.push(format!("noise is {}; it must not be negative", source.noise));
                }
                if source.period.0 < Duration::from_secs(1) {
                    found.push(format!("period is {}; it must be a second or more", source.period));
                }
            }
            Self::Hwmon(source) => interval(&mut found, source.interval),
            Self::Exec(source) => {
                interval(&mut found, source.interval);
                channel(&mut found, &source.channel);
                if source.command.is_empty() {
                    found.push("command is empty; write for instance [\"cat\", \"/proc/loadavg\"]".into());
                }
                if source.timeout.0 < Duration::from_millis(10) {
                    found.push(format!("timeout is {}; it must be 10ms or more", source.timeout));
                }
            }
            Self::Stdin(_) => {}
            Self::File(source) => {
                interval(&mut found, source.interval);
                required(&mut found, "path", &source.path);
            }
            Self::Replay(source) => {
                required(&mut found, "path", &source.path);
                if !(source.speed >= 0.0 && source.speed.is_finite()) {
                    found.push(format!("speed is {}; it must not be negative", source.speed));
                }
            }
        }
        found
    }
}

fn interval(found: &mut Vec<String>, interval: Span) {
    if interval.0 < Duration::from_millis(1) || interval.0 > Duration::from_secs(24 * 3600) {
        found.push(format!("interval is {interval}; it must lie between 1ms and 24h"));
    }
}

fn channel(found: &mut Vec<String>, name: &str) {
    match Channel::new(name) {
        Ok(channel) if channel.is_system() => {
            found.push(format!("channel {name} begins with @, which is the system's"))
        }
        Ok(_) => {}
        Err(error) => found.push(error.to_string()),
    }
}

fn required(found: &mut Vec<String>, key: &str, value: &str) {
    if value.is_empty() {
        found.push(format!("{key} is missing"));
    }
}
