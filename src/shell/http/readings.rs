//! `GET` and `POST /v1/readings`.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;

use crate::core::event::{Ack, Command, Reply};
use crate::core::id::{Channel, NodeId};
use crate::core::node::Node;
use crate::core::pattern::Pattern;
use crate::core::reading::{Quality, Reading};
use crate::core::state::entry::{Key, Scope};
use crate::core::state::system::{self, Meaning};
use crate::core::time::Wall;
use crate::core::view::Liveness;
use crate::shell::http::error::Failure;
use crate::shell::http::model::{PushReading, PutReply, ReadingRow, Readings};
use crate::shell::http::{Api, checkpoints, forward, rows};

/// How long a write waits for the safety it asked for, unless told otherwise.
const ACK_PATIENCE_MS: u64 = 10_000;
const ACK_PATIENCE_MAX_MS: u64 = 120_000;
/// Readings in one request.
pub(super) const BATCH_MAX: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    pattern: Option<String>,
    as_of: Option<String>,
    /// Only what this node holds, whatever region the pattern names.
    #[serde(default)]
    here: bool,
}

pub(super) async fn list(
    State(api): State<Api>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Readings>, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    let pattern = parse_pattern(query.pattern.as_deref())?;
    let schema = "sensorctl/get/v1".to_owned();
    let answered_by = api.node.params().node.to_string();
    if let Some(as_of) = query.as_of {
        let (index, readings) = checkpoints::readings_at(&api, &as_of, &pattern)?;
        let forwarded = Vec::new();
        return Ok(Json(Readings { schema, answered_by, as_of: Some(index.get()), readings, forwarded }));
    }
    let held = pattern.clone();
    let mut readings = api.node.inspect(move |node, now| matching(node, &held, now.wall)).await?;
    let mut forwarded = Vec::new();
    // Where readings stay in their region, a region that is named is asked itself.
    if api.node.params().scope == Scope::Region && !query.here {
        let view = api.node.view().await?;
        let (theirs, how) = forward::ask(&api, &view, query.pattern.as_deref().unwrap_or("**"), &pattern).await;
        let asked = |row: &ReadingRow| how.iter().any(|way| way.node.is_some() && way.region == row.region);
        readings.retain(|row| !asked(row));
        readings.extend(theirs);
        readings.sort_by(|a, b| (&a.node, &a.channel).cmp(&(&b.node, &b.channel)));
        forwarded = how;
    }
    Ok(Json(Readings { schema, answered_by, as_of: None, readings, forwarded }))
}

pub(super) fn parse_pattern(text: Option<&str>) -> Result<Pattern, Failure> {
    Pattern::parse(text.unwrap_or("**")).map_err(|error| Failure::bad_request(error.to_string()))
}

/// Rows of what the node holds, by node and channel.
pub(super) fn matching(node: &Node, pattern: &Pattern, now: Wall) -> Vec<ReadingRow> {
    let mut regions = Regions::default();
    let entries = node.store().iter().filter(|(key, _)| !key.channel.is_system());
    entries
        .filter_map(|(key, entry)| {
            let region = regions.of(node, key.origin);
            if !pattern.matches(region, key.origin.as_str(), key.channel.as_str()) {
                return None;
            }
            let row = rows::reading_row(&key.to_key(), entry, region, now)?;
            Some(ReadingRow { liveness: liveness(node, key.origin), ..row })
        })
        .collect()
}

/// Whether a reading's gateway is there; a node that answers is.
fn liveness(node: &Node, origin: &NodeId) -> Option<String> {
    let life = if *origin == node.params().node { Some(Liveness::Alive) } else { node.life_of(origin) };
    life.map(|life| life.as_str().to_owned())
}

/// Which region an origin belongs to, as its `@node` says.
#[derive(Default)]
pub(super) struct Regions(BTreeMap<NodeId, String>);

impl Regions {
    pub fn of(&mut self, node: &Node, origin: &NodeId) -> &str {
        if !self.0.contains_key(origin) {
            let channel = system::node_channel();
            let info = node.store().get(&Key::new(origin.clone(), channel.clone()));
            let region = match info.map(|entry| system::understand(&channel, &entry.value)) {
                Some(Ok(Meaning::Node(info))) => info.region.to_string(),
                _ => node.params().region.to_string(),
            };
            self.0.insert(origin.clone(), region);
        }
        &self.0[origin]
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PushQuery {
    ack: Option<String>,
    timeout_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Pushed {
    Batch(Vec<serde_json::Value>),
    One(serde_json::Value),
}

pub(super) async fn push(
    State(api): State<Api>,
    query: Result<Query<PushQuery>, QueryRejection>,
    body: Bytes,
) -> Result<Json<PutReply>, Failure> {
    let Acknowledged { ack, text, patience } = acknowledged(query)?;
    let mut readings = parse_readings(&body, api.node.clock().now().wall).map_err(Failure::bad_request)?;
    api.watcher.mark(&mut readings).await;
    match api.node.ask(Command::Put { readings, ack }, patience).await? {
        Reply::Put { stamps } => Ok(Json(PutReply {
            schema: "sensorctl/put/v1".into(),
            node: api.node.params().node.to_string(),
            stamps: stamps.iter().map(ToString::to_string).collect(),
            ack: text,
        })),
        Reply::Refused { why } => Err(why.into()),
        Reply::Redirect { .. } | Reply::Latest { .. } | Reply::Done => {
            unreachable!("a put is answered by stamps or refused")
        }
    }
}

/// How safe a write is to be, in the asker's words too, and how long it may wait for that.
pub(super) struct Acknowledged {
    pub ack: Ack,
    pub text: String,
    pub patience: Duration,
}

/// What a writer asks for.
///
/// # Errors
/// What is wrong with it.
pub(super) fn acknowledged(query: Result<Query<PushQuery>, QueryRejection>) -> Result<Acknowledged, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    let text = query.ack.unwrap_or_else(|| "memory".to_owned());
    let ack = parse_ack(&text).map_err(Failure::bad_request)?;
    let patience = Duration::from_millis(query.timeout_ms.unwrap_or(ACK_PATIENCE_MS).min(ACK_PATIENCE_MAX_MS));
    Ok(Acknowledged { ack, text, patience })
}

/// Reads `memory`, `disk`, `peers=K` or `checkpoint`.
fn parse_ack(text: &str) -> Result<Ack, String> {
    match text {
        "memory" => Ok(Ack::Memory),
        "disk" => Ok(Ack::Disk),
        "checkpoint" => Ok(Ack::Checkpoint),
        other => match other.strip_prefix("peers=").map(str::parse::<u32>) {
            Some(Ok(peers)) => Ok(Ack::Peers(peers)),
            _ => Err(format!("ack {other:?} is none of memory, disk, peers=K, checkpoint")),
        },
    }
}

/// All readings of a request, or what is wrong with the first that is none: a batch is taken whole or not at all.
fn parse_readings(body: &[u8], now: Wall) -> Result<Vec<(Channel, Reading)>, String> {
    let pushed: Pushed = serde_json::from_slice(body).map_err(|error| format!("body is not JSON: {error}"))?;
    let values = match pushed {
        Pushed::Batch(values) => values,
        Pushed::One(value) => vec![value],
    };
    if values.is_empty() || values.len() > BATCH_MAX {
        return Err(format!("{} readings in one request; 1 to {BATCH_MAX} are allowed", values.len()));
    }
    let parse = |(i, value): (usize, serde_json::Value)| {
        let pushed: PushReading =
            serde_json::from_value(value).map_err(|error| format!("reading {}: {error}", i + 1))?;
        parse_reading(pushed, now).map_err(|why| format!("reading {}: {why}", i + 1))
    };
    values.into_iter().enumerate().map(parse).collect()
}

/// Checks a pushed reading; `now` is its time if it brings none.
///
/// # Errors
/// What is wrong with it.
pub fn parse_reading(pushed: PushReading, now: Wall) -> Result<(Channel, Reading), String> {
    let channel = Channel::new(&pushed.channel).map_err(|error| error.to_string())?;
    let quality = match pushed.quality.as_deref() {
        None | Some("good") => Quality::Good,
        Some("uncertain") => Quality::Uncertain,
        Some("bad") => Quality::Bad,
        Some(other) => return Err(format!("quality {other:?} is none of good, uncertain, bad")),
    };
    let time = match pushed.time {
        None => now,
        Some(text) => {
            let time: jiff::Timestamp = text.parse().map_err(|error| format!("time {text:?}: {error}"))?;
            Wall::from_millis(u64::try_from(time.as_millisecond()).map_err(|_| "time lies before 1970".to_owned())?)
        }
    };
    if pushed.value.is_none() && quality != Quality::Bad {
        return Err("a reading without a value must be of quality bad, which says that its source gave none".into());
    }
    let reading =
        Reading { value: pushed.value, unit: pushed.unit, sigma: pushed.sigma, quality, note: pushed.note, time };
    reading.check().map_err(|error| error.to_string())?;
    Ok((channel, reading))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall::from_millis(1_700_000_000_000);

    #[test]
    fn a_single_reading_and_a_batch_are_taken() {
        let one = parse_readings(br#"{"channel":"temp","value":21.5,"unit":"C"}"#, NOW).unwrap();
        assert_eq!(one[0].1, Reading { unit: Some("C".into()), ..Reading::new(21.5, NOW) });
        let body = br#"[{"channel":"a","value":1},{"channel":"b","value":2,"time":"2023-11-14T22:13:20.007Z"}]"#;
        let batch = parse_readings(body, NOW).unwrap();
        assert_eq!(batch[1].1.time, Wall::from_millis(1_700_000_000_007));
    }

    #[test]
    fn a_bad_reading_says_which_and_why() {
        let error = |body: &str| parse_readings(body.as_bytes(), NOW).unwrap_err();
        assert!(
            error(r#"[{"channel":"a","value":1},{"channel":"b"}]"#).contains("reading 2: a reading without a value")
        );
        assert!(error(r#"{"channel":"b","value":null,"quality":"uncertain"}"#).contains("must be of quality bad"));
        assert!(error(r#"{"channel":"a b","value":1}"#).contains("contains ' '"));
        assert!(error(r#"{"channel":"a","value":1,"quality":"fine"}"#).contains("none of good"));
        assert!(error("[]").contains("0 readings"));
        assert!(error("{").contains("not JSON"));
        assert!(error(r#"{"channel":"a","value":1,"time":"noon"}"#).contains("noon"));
    }

    #[test]
    fn a_source_that_gave_no_value_says_so_by_a_bad_reading() {
        let none = parse_readings(br#"{"channel":"temp","quality":"bad","note":"unplugged"}"#, NOW).unwrap();
        assert_eq!((none[0].1.value, none[0].1.quality), (None, Quality::Bad));
    }

    #[test]
    fn acks_are_read() {
        assert_eq!(parse_ack("peers=2"), Ok(Ack::Peers(2)));
        assert_eq!(parse_ack("checkpoint"), Ok(Ack::Checkpoint));
        assert!(parse_ack("peers=").unwrap_err().contains("peers=K"));
    }
}
