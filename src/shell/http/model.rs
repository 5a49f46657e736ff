//! What the HTTP API and `-o json` say: names that scripts rely on. Times are RFC 3339 in UTC,
//! durations are numbers with the unit in the name.

use serde::{Deserialize, Serialize};

/// `GET /v1/status`, and `sensorctl status -o json` after asking every node for its own part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// `sensorctl/status/v1`.
    pub schema: String,
    /// True if nothing in `reasons`.
    pub healthy: bool,
    /// What is wrong, one sentence each.
    pub reasons: Vec<String>,
    /// Name and id of the cluster.
    pub cluster: ClusterRef,
    /// `flat` or `hierarchical`.
    pub mode: String,
    /// The flat or top-level leader.
    pub leader: Option<String>,
    /// Its term.
    pub term: u64,
    /// Newest committed checkpoint.
    pub checkpoint: Option<CheckpointAge>,
    /// Everyone known.
    pub nodes: Vec<NodeStatus>,
    /// Every region.
    pub regions: Vec<RegionStatus>,
    /// Share of peers with whom the last repair found no settled difference, 0 to 1.
    pub converged: Option<f64>,
    /// The node that answered.
    pub answered_by: String,
}

/// Name and id of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRef {
    /// Its name in the configuration.
    pub name: String,
    /// Hash of its genesis; absent before there is one.
    pub id: Option<String>,
}

/// A committed checkpoint and how old it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointAge {
    /// Place in its ledger.
    pub index: u64,
    /// Its identity.
    pub hash: String,
    /// Time since it was taken.
    pub age_ms: u64,
}

/// One node, `GET /v1/node` for the answering one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub id: String,
    /// Its region.
    pub region: String,
    /// `leader`, `follower`, `candidate` or `observer`; null if it was not asked or did not answer.
    pub role: Option<String>,
    /// True if it is the top-level leader.
    #[serde(default)]
    pub leads_top: bool,
    /// Its term.
    pub term: Option<u64>,
    /// `alive`, `suspect`, `dead` or `left`.
    pub liveness: String,
    /// Entries it holds.
    pub entries: Option<u64>,
    /// Index of the newest committed checkpoint it knows.
    pub checkpoint_index: Option<u64>,
    /// Age of that checkpoint.
    pub checkpoint_age_ms: Option<u64>,
    /// How far it trails: median time from stamp to arrival of the entries it lately received.
    pub lag_ms: Option<f64>,
    /// Process id, in a local cluster.
    pub pid: Option<u32>,
    /// Time since the answering node last heard it directly.
    pub last_heard_ms: Option<u64>,
    /// Its wall clock against the answering node's.
    pub clock_offset_ms: Option<i64>,
    /// Who it has a direct link with, in its region and others; null if it was not asked or did not answer.
    #[serde(default)]
    pub neighbours: Option<Vec<String>>,
    /// Whether it votes.
    pub voter: bool,
    /// Its peer address.
    pub addr: String,
    /// Its HTTP address.
    pub api: Option<String>,
    /// Its software version.
    pub version: String,
    /// What is wrong with it, one sentence each: failing sources, slow disk, clock.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// Its own sensors that are faulty: their readings are marked, and the node is none the worse for it.
    #[serde(default)]
    pub faults: Vec<FaultRow>,
}

/// One region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegionStatus {
    /// Its name.
    pub id: String,
    /// Its leader.
    pub leader: Option<String>,
    /// Its leader's term.
    pub term: u64,
    /// Its newest committed checkpoint.
    pub checkpoint: Option<CheckpointAge>,
    /// Nodes alive.
    pub alive: u64,
    /// Nodes that vote.
    pub voters: u64,
    /// Voters alive.
    #[serde(default)]
    pub voters_alive: u64,
    /// Nodes alive that do not vote.
    #[serde(default)]
    pub observers_alive: u64,
    /// The largest lag of its nodes that were asked.
    #[serde(default)]
    pub lag_ms: Option<f64>,
}

/// `GET /v1/readings`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Readings {
    /// `sensorctl/get/v1`.
    pub schema: String,
    /// The node that answered, or that was asked in another region.
    #[serde(default)]
    pub answered_by: String,
    /// The checkpoint these were taken from, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<u64>,
    /// By node and channel.
    pub readings: Vec<ReadingRow>,
    /// What other regions were asked for, where their readings stay with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwarded: Vec<Forwarded>,
}

/// Readings that came from another region's node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forwarded {
    /// The region.
    pub region: String,
    /// The node that answered; absent if none did.
    pub node: Option<String>,
    /// How many readings it gave.
    pub readings: u64,
    /// Age of the newest of them.
    pub newest_age_ms: Option<u64>,
    /// Why none answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One reading with its origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReadingRow {
    /// Its gateway.
    pub node: String,
    /// The gateway's region.
    pub region: String,
    /// The sensor.
    pub channel: String,
    /// The value; null if the source failed.
    pub value: Option<f64>,
    /// Unit of value and sigma.
    pub unit: Option<String>,
    /// Standard uncertainty.
    pub sigma: Option<f64>,
    /// `good`, `uncertain` or `bad`.
    pub quality: String,
    /// Why not good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Hybrid time of the write, `milliseconds.counter`.
    pub stamp: String,
    /// When the sensor was read.
    pub time: String,
    /// Time since then.
    pub age_ms: u64,
    /// Whether its gateway is there, as the node that answers takes it: `alive`, `suspect`, `dead` or `left`. Absent where
    /// that was not asked: in checkpoints, and for a change that has just come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<String>,
}

/// One element of `POST /v1/readings` (an object or an array of them).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushReading {
    /// The sensor, without node or region.
    pub channel: String,
    /// The value; absent or null if the source gave none, with quality `bad`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Unit of value and sigma.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Standard uncertainty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigma: Option<f64>,
    /// `good` (default), `uncertain` or `bad`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<String>,
    /// Why not good, or anything else that people should read beside the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When the sensor was read, RFC 3339; now if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
}

/// Answer to `POST /v1/readings?ack=memory|disk|peers=K|checkpoint`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutReply {
    /// `sensorctl/put/v1`.
    pub schema: String,
    /// The node that wrote.
    pub node: String,
    /// `milliseconds.counter` of each reading, in order.
    pub stamps: Vec<String>,
    /// What was acknowledged: `memory`, `disk`, `peers=K` or `checkpoint`.
    pub ack: String,
}

/// Last line of the answer to `POST /v1/readings/stream?ack=`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamReply {
    /// `sensorctl/put-stream/v1`.
    pub schema: String,
    /// The node that wrote.
    pub node: String,
    /// What was acknowledged: `memory`, `disk`, `peers=K` or `checkpoint`.
    pub ack: String,
    /// Readings that were acknowledged.
    pub taken: u64,
    /// Lines that were not.
    pub refused: u64,
    /// Why nothing more was read.
    pub ended: String,
}

/// A line before it: what was not taken, or not acknowledged in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedLines {
    /// The line, from 1.
    pub line: u64,
    /// The last of them, where they were refused together; those between that have an answer of their own have had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// Why.
    pub error: String,
}

/// `GET /v1/checkpoints`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoints {
    /// `sensorctl/checkpoint-ls/v1`.
    pub schema: String,
    /// Newest first.
    pub checkpoints: Vec<CheckpointRow>,
}

/// One checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRow {
    /// `region:NAME` or `top`.
    pub group: String,
    /// Place in its ledger.
    pub index: u64,
    /// SHA-256 of the document.
    pub hash: String,
    /// SHA-256 of the one before.
    pub parent: Option<String>,
    /// When it was taken.
    pub taken_at: String,
    /// Who made it.
    pub proposer: String,
    /// How many readings it covers.
    pub readings: u64,
    /// Whether this node still holds the readings themselves.
    pub body_held: bool,
}

/// `GET /v1/checkpoints/latest?linearizable=true|false`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latest {
    /// `sensorctl/checkpoint-latest/v1`.
    pub schema: String,
    /// The node that answered.
    pub node: String,
    /// Whether a quorum confirmed, after the question came, that nothing newer is committed.
    pub linearizable: bool,
    /// Null before the first.
    pub checkpoint: Option<CheckpointRow>,
}

/// `GET /v1/sensors`: the answering node's own sources.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sources {
    /// `sensorctl/sensors/v1`.
    pub schema: String,
    /// The node.
    pub node: String,
    /// In the order of the configuration.
    pub sources: Vec<SourceStatus>,
    /// Its own sensors that are faulty, by channel.
    #[serde(default)]
    pub faults: Vec<FaultRow>,
}

/// A faulty sensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultRow {
    /// The sensor.
    pub channel: String,
    /// `range`, `stuck`, `spike`, `noise`, `drift`, `silent` or `battery`.
    pub fault: String,
    /// How sure that is, 0 to 1.
    pub score: f64,
    /// Since when it stands.
    pub since: String,
}

/// `GET /v1/fuse`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimates {
    /// `sensorctl/fuse/v1`.
    pub schema: String,
    /// The checkpoint that says so, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    /// As of when.
    pub time: String,
    /// By quantity, unit and group.
    pub estimates: Vec<EstimateRow>,
}

/// One estimate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EstimateRow {
    /// What is measured.
    pub quantity: String,
    /// A region, `global`, or the name of a rule.
    pub group: String,
    /// The region whose sensors these are; null if there are several.
    pub region: Option<String>,
    /// The fused value; null if insufficient.
    pub value: Option<f64>,
    /// Unit of all numbers.
    pub unit: Option<String>,
    /// Standard uncertainty.
    pub sigma: Option<f64>,
    /// Holds the truth while at most `tolerates` sensors are wrong.
    pub interval: Option<(f64, f64)>,
    /// Sensors with a fresh reading.
    pub n: u64,
    /// Those that are part of `value`.
    pub used: u64,
    /// Those that are not.
    pub rejected: Vec<RejectedRow>,
    /// Rejected ones that are not named.
    #[serde(default)]
    pub unnamed: u64,
    /// Sensors whose last reading is too old.
    pub stale: u64,
    /// So many of `n` may be wrong.
    pub tolerates: u64,
    /// `ok`, `inconsistent` or `insufficient`.
    pub status: String,
    /// How far `value` may be from what all single values would give, if there were too many for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approximate: Option<f64>,
    /// By how much the sensors disagree more than they claim; 1 if they do not.
    pub inflation: f64,
    /// Age of the oldest reading that takes part.
    pub oldest_age_ms: Option<u64>,
    /// Age of the newest.
    pub newest_age_ms: Option<u64>,
    /// Over time, if smoothing is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smoothed: Option<SmoothedRow>,
    /// Everybody's part in it, if asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contributions: Vec<ContributionRow>,
}

/// A sensor that an estimate does not use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedRow {
    /// Its gateway.
    pub node: String,
    /// Its channel.
    pub channel: String,
    /// `outlier`, or what is wrong with it.
    pub reason: String,
}

/// An estimate over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SmoothedRow {
    /// The value.
    pub value: f64,
    /// Its standard uncertainty.
    pub sigma: f64,
    /// Whether the newest estimate fitted; if not it was not taken.
    pub fits: bool,
}

/// One sensor's part in an estimate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContributionRow {
    /// Its gateway.
    pub node: String,
    /// Its channel.
    pub channel: String,
    /// Its value in the group's unit.
    pub value: Option<f64>,
    /// Its standard uncertainty, staleness and place included.
    pub sigma: Option<f64>,
    /// Its share of the estimate, 0 to 1.
    pub weight: f64,
    /// How many of its own uncertainties it lies from the estimate.
    pub residual: Option<f64>,
    /// Age of its reading.
    pub age_ms: u64,
    /// Why it is no part of it: `stale`, `outlier`, or what is wrong with it.
    pub reason: Option<String>,
}

/// One local source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Its name in the configuration.
    pub name: String,
    /// `system`, `simulated`, …
    pub kind: String,
    /// Whether its last attempt succeeded.
    pub ok: bool,
    /// Its last error.
    pub error: Option<String>,
    /// Readings so far.
    pub readings: u64,
    /// Failures so far.
    pub failures: u64,
    /// Channels it has fed.
    pub channels: Vec<String>,
    /// Time since its last reading.
    pub last_reading_ms: Option<u64>,
}

/// Any answer that is not 2xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiErrorBody {
    /// What went wrong.
    pub error: ApiError,
}

/// What went wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// For programs: `not_found`, `bad_request`, `not_ready`, `redirect`, `gone`, `timeout`, …
    pub kind: String,
    /// For people.
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// With kind `redirect`: HTTP address of the node to ask instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
}
