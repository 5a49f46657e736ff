//! A scenario: how many nodes, under what load, with which faults, for how long. Parsing is the caller's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::core::state::entry::Scope;
use crate::sim::fault::Fault;

/// What a run is made of, but for the seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// Its name, by which it is replayed; the file's name without `.toml`.
    pub name: String,
    /// What it is for, in a sentence.
    pub about: String,
    /// Regions; one is flat mode.
    pub regions: usize,
    /// Initial voters of each region.
    pub voters: usize,
    /// Further nodes of each region from the start.
    pub observers: usize,
    /// How far apart the nodes of a region are; regions are always a WAN apart.
    pub distance: Distance,
    /// Virtual seconds of the phase with faults.
    pub duration_s: f64,
    /// Each seed draws which of the faults are on and how strong; otherwise all are, as they stand.
    pub swarm: bool,
    /// After the faults, a quorum alone must go on while the rest stays broken.
    pub broken_rest: bool,
    /// A process that starts again is of the next release: it speaks a further protocol version.
    pub upgrade: bool,
    /// What must hold beyond the rules.
    pub expect: Expect,
    /// How far readings spread.
    pub scope: Scope,
    /// Shortest and longest round trip between regions, in milliseconds.
    pub wan_ms: (u64, u64),
    /// What nodes and clients do meanwhile.
    pub load: Load,
    /// Timing of agreement.
    pub timing: Timing,
    /// Timing of agreement between regions.
    pub top: TopTiming,
    /// Rate or probability of each fault; see [`Fault`] for which.
    pub faults: BTreeMap<Fault, f64>,
}

/// How far apart two nodes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distance {
    /// On one host: tens of microseconds.
    Host,
    /// In one network: some hundred microseconds, with a tail of milliseconds.
    #[default]
    Lan,
    /// Between sites: tens of milliseconds.
    Wan,
}

/// What nodes and clients do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Load {
    /// Channels of each node's sensors.
    pub channels: usize,
    /// Mean time between two words of a node's sensors, in milliseconds.
    pub period_ms: u64,
    /// Clients' writes per second, of every acknowledgement level in turn.
    pub puts_per_s: f64,
    /// Clients' linearizable reads of the newest checkpoint per second.
    pub reads_per_s: f64,
}

/// What must hold of spreading and watching, where a scenario says so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Counting begins after so many virtual seconds, and ends with the faults.
    pub warm_up_s: f64,
    /// At most so many copies of each update reach each node by push, on average; at least 0.95.
    pub copies_max: Option<f64>,
    /// At most so many entries are held half a second or more after they were written, of origins whose trees are learned.
    pub late_max: Option<u64>,
    /// At most so many bytes are sent per node and second, heartbeats apart.
    pub bytes_per_s_max: Option<f64>,
    /// 99 of 100 nodes show a process that died as dead within so many milliseconds.
    pub dead_within_ms: Option<f64>,
    /// No region goes without a commit for so many milliseconds.
    pub commit_gap_max_ms: Option<f64>,
    /// The top does not go without a commit for so many milliseconds.
    pub global_gap_max_ms: Option<f64>,
    /// 99 of 100 nodes of its region hold an update within so many milliseconds.
    pub near_within_ms: Option<f64>,
    /// 99 of 100 nodes of other regions hold a global update within so many milliseconds.
    pub far_within_ms: Option<f64>,
    /// Nobody is declared dead whose process runs.
    pub no_false_death: bool,
    /// Once all is whole and nobody writes, everybody is equal within so many milliseconds.
    pub equal_within_ms: Option<f64>,
}

/// Timing of agreement, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    /// Time between a leader's heartbeats.
    pub heartbeat_ms: u64,
    /// Shortest election timeout.
    pub election_timeout_ms: u64,
    /// Time between checkpoints.
    pub checkpoint_ms: u64,
    /// A voter dead for this long is replaced.
    pub voter_replace_after_ms: u64,
    /// At most this many voters in a region.
    pub voters_max: usize,
    /// Bodies of this many checkpoints are kept.
    pub bodies_kept: usize,
}

/// Timing of agreement between regions, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TopTiming {
    /// Time between the top-level leader's heartbeats.
    pub heartbeat_ms: u64,
    /// Shortest election timeout.
    pub election_timeout_ms: u64,
    /// Time between global checkpoints.
    pub checkpoint_ms: u64,
}

impl Default for TopTiming {
    fn default() -> Self {
        Self { heartbeat_ms: 500, election_timeout_ms: 3_000, checkpoint_ms: 3_000 }
    }
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: "unnamed".to_owned(),
            about: String::new(),
            regions: 1,
            voters: 3,
            observers: 0,
            distance: Distance::Lan,
            scope: Scope::Global,
            wan_ms: (30, 110),
            duration_s: 20.0,
            swarm: true,
            broken_rest: true,
            upgrade: false,
            expect: Expect::default(),
            load: Load::default(),
            timing: Timing::default(),
            top: TopTiming::default(),
            faults: BTreeMap::new(),
        }
    }
}

impl Default for Load {
    fn default() -> Self {
        Self { channels: 3, period_ms: 400, puts_per_s: 4.0, reads_per_s: 4.0 }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_ms: 100,
            election_timeout_ms: 500,
            checkpoint_ms: 1000,
            voter_replace_after_ms: 4000,
            voters_max: 5,
            bodies_kept: 10,
        }
    }
}

/// Why a scenario cannot be run; whoever wrote it must correct it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ScenarioError {
    /// A number out of its range.
    #[error("{field} is {value}; it must be {range}")]
    Range { field: &'static str, value: f64, range: &'static str },
}

impl Scenario {
    /// How many nodes there are at the beginning.
    pub fn nodes(&self) -> usize {
        self.regions * (self.voters + self.observers)
    }

    /// Checks that the scenario can be run.
    ///
    /// # Errors
    /// [`ScenarioError`] names the field that is out of range.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let ranges = [
            ("regions", self.regions as f64, 1.0, 1000.0, "1 to 1000"),
            ("voters", self.voters as f64, 1.0, 9.0, "1 to 9"),
            ("observers", self.observers as f64, 0.0, 20_000.0, "0 to 20000"),
            ("duration_s", self.duration_s, 0.0, 86_400.0, "0 to 86400"),
            ("expect.warm_up_s", self.expect.warm_up_s, 0.0, self.duration_s, "0 to duration_s"),
            ("load.channels", self.load.channels as f64, 0.0, 1000.0, "0 to 1000"),
            ("load.period_ms", self.load.period_ms as f64, 1.0, 3.6e6, "1 to 3600000"),
            ("load.puts_per_s", self.load.puts_per_s, 0.0, 1e4, "0 to 10000"),
            ("load.reads_per_s", self.load.reads_per_s, 0.0, 1e4, "0 to 10000"),
            ("timing.heartbeat_ms", self.timing.heartbeat_ms as f64, 1.0, 6e4, "1 to 60000"),
            ("timing.election_timeout_ms", self.timing.election_timeout_ms as f64, 5.0, 6e5, "5 to 600000"),
            ("timing.checkpoint_ms", self.timing.checkpoint_ms as f64, 10.0, 3.6e6, "10 to 3600000"),
            ("timing.voters_max", self.timing.voters_max as f64, 1.0, 9.0, "1 to 9"),
            ("wan_ms", self.wan_ms.0 as f64, 0.0, self.wan_ms.1 as f64, "the shorter of two, in milliseconds"),
            ("wan_ms", self.wan_ms.1 as f64, 0.0, 1e4, "0 to 10000"),
            ("top.heartbeat_ms", self.top.heartbeat_ms as f64, 1.0, 6e4, "1 to 60000"),
            ("top.election_timeout_ms", self.top.election_timeout_ms as f64, 5.0, 6e5, "5 to 600000"),
            ("top.checkpoint_ms", self.top.checkpoint_ms as f64, 10.0, 3.6e6, "10 to 3600000"),
            ("timing.bodies_kept", self.timing.bodies_kept as f64, 1.0, 1e6, "1 to 1000000"),
        ];
        for (field, value, lo, hi, range) in ranges {
            if !(lo..=hi).contains(&value) {
                return Err(ScenarioError::Range { field, value, range });
            }
        }
        for (fault, value) in &self.faults {
            let hi = if fault.is_rate() || matches!(fault, Fault::Skew) { 1000.0 } else { 1.0 };
            let hi = if *fault == Fault::Drift { 100_000.0 } else { hi };
            if !(0.0..=hi).contains(value) {
                let range = "0 to 1000 as a rate, 0 to 1 as a probability, 0 to 100000 as a drift";
                return Err(ScenarioError::Range { field: fault.as_str(), value: *value, range });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_out_of_range_is_refused_by_field() {
        assert_eq!(Scenario::default().check(), Ok(()));
        let none = Scenario { voters: 0, ..Scenario::default() };
        assert_eq!(none.check().unwrap_err().to_string(), "voters is 0; it must be 1 to 9");
        let sure = Scenario { faults: BTreeMap::from([(Fault::Loss, 1.5)]), ..Scenario::default() };
        assert!(matches!(sure.check(), Err(ScenarioError::Range { field: "loss", .. })));
    }
}
