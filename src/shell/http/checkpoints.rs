//! `/v1/checkpoints…` and `/v1/documents/{hash}`: the region's ledger, and the top's.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use crate::core::event::{Command, Reply};
use crate::core::hard_state::Position;
use crate::core::id::{GroupId, Hash, Index};
use crate::core::ledger::body::Body;
use crate::core::ledger::document::Document;
use crate::core::pattern::Pattern;
use crate::shell::http::Api;
use crate::shell::http::error::Failure;
use crate::shell::http::model::{CheckpointRow, Checkpoints, Latest, ReadingRow};
use crate::shell::http::rows::{checkpoint_row, hash_or_index, reading_row};
use crate::shell::storage::ReadError;

/// Rows of one answer, unless told otherwise and at most.
const LIMIT: u64 = 20;
const LIMIT_MAX: u64 = 10_000;
/// How long a linearizable read may wait for a quorum.
const READ_PATIENCE: Duration = Duration::from_secs(5);

impl Api {
    /// Whose ledger is meant: `top`, or the node's own region by its name or without one.
    pub(super) fn group(&self, name: Option<&str>) -> Result<GroupId, Failure> {
        let own = &self.node.params().region;
        match name {
            None => Ok(GroupId::Region(own.clone())),
            Some("top") => Ok(GroupId::Top),
            Some(name) if name == own.as_str() || name == format!("region:{own}") => Ok(GroupId::Region(own.clone())),
            Some(name) => Err(Failure::not_found(format!(
                "the ledger of region {name} is not held by {}, a node of region {own}",
                self.node.params().node
            ))
            .hint(format!("ask a node of {name}: `sensorctl status` lists them, `--node` names one"))),
        }
    }

    fn row(&self, group: &GroupId, position: Position) -> Result<CheckpointRow, Failure> {
        let storage = self.node.storage();
        let missing = || Failure::gone(format!("document {} is not held here", position.hash.short()));
        let document = storage.document(&position.hash)?.ok_or_else(missing)?;
        let held = document.header().body.map(|body| storage.holds_body(&body)).transpose()?;
        Ok(checkpoint_row(group, position.index, &document, held.unwrap_or(true)))
    }

    fn position(&self, group: &GroupId, index: Index) -> Result<Position, Failure> {
        let found = self.node.storage().position(group, index)?;
        found.ok_or_else(|| {
            Failure::not_found(format!("checkpoint {} is not committed, as far as this node knows", index.get()))
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// The newest to show.
    to: Option<u64>,
    limit: Option<u64>,
    group: Option<String>,
}

pub(super) async fn list(
    State(api): State<Api>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Checkpoints>, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    let schema = "sensorctl/checkpoint-ls/v1".to_owned();
    let storage = api.node.storage();
    let group = api.group(query.group.as_deref())?;
    let Some(newest) = storage.newest(&group)? else {
        return Ok(Json(Checkpoints { schema, checkpoints: Vec::new() }));
    };
    let to = query.to.unwrap_or(u64::MAX).min(newest.index.get());
    let limit = query.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let from = (to + 1).saturating_sub(limit);
    let positions = storage.positions(&group, Index(from), Index(to))?;
    let checkpoints =
        positions.into_iter().rev().map(|position| api.row(&group, position)).collect::<Result<_, _>>()?;
    Ok(Json(Checkpoints { schema, checkpoints }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LatestQuery {
    #[serde(default)]
    linearizable: bool,
    group: Option<String>,
}

pub(super) async fn latest(
    State(api): State<Api>,
    query: Result<Query<LatestQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Latest>, Failure> {
    let Query(LatestQuery { linearizable, group }) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    let group = api.group(group.as_deref())?;
    let top = group == GroupId::Top;
    let latest = match api.node.ask(Command::Latest { linearizable, top }, READ_PATIENCE).await? {
        Reply::Latest { latest } => latest,
        Reply::Redirect { leader } => return Err(redirect(&api, leader).await?),
        Reply::Refused { why } => return Err(why.into()),
        Reply::Put { .. } | Reply::Done => unreachable!("latest is answered by latest, a redirect or a refusal"),
    };
    let checkpoint = match latest {
        // Committed this instant: the document may still be on its way into the ledger's table.
        Some(position) => Some(api.row(&group, position)?),
        None => None,
    };
    let node = api.node.params().node.to_string();
    Ok(Json(Latest { schema: "sensorctl/checkpoint-latest/v1".into(), node, linearizable, checkpoint }))
}

/// Where to ask instead.
pub(super) async fn redirect(api: &Api, leader: crate::core::id::NodeId) -> Result<Failure, Failure> {
    let view = api.node.view().await?;
    let member = view.members.iter().find(|member| member.node == leader);
    let address = member.and_then(|member| member.api.as_ref()).map(ToString::to_string);
    Ok(Failure::redirect(leader.as_str(), address))
}

/// Whose ledger an index is of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupQuery {
    group: Option<String>,
}

pub(super) async fn document_at(
    State(api): State<Api>,
    Path(index): Path<String>,
    query: Result<Query<GroupQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    Ok(document_bytes(&find(&api, &api.group(query.group.as_deref())?, &index)?.1))
}

pub(super) async fn document(State(api): State<Api>, Path(hash): Path<String>) -> Result<Response, Failure> {
    let hash: Hash =
        hash.parse().map_err(|error: crate::core::id::NameError| Failure::bad_request(error.to_string()))?;
    let missing = || Failure::not_found(format!("document {} is not held here", hash.short()));
    let document = api.node.storage().document(&hash)?.ok_or_else(missing)?;
    Ok(document_bytes(&document))
}

/// The exact bytes, whose SHA-256 is the checkpoint's identity.
fn document_bytes(document: &Document) -> Response {
    let headers =
        [(header::CONTENT_TYPE, "application/json".to_owned()), (header::ETAG, format!("\"{}\"", document.hash()))];
    (headers, document.bytes().to_owned()).into_response()
}

pub(super) async fn body_at(State(api): State<Api>, Path(index): Path<String>) -> Result<Response, Failure> {
    let (index, document) = find(&api, &api.group(None)?, &index)?;
    let body = body(&api, index, &document)?;
    let text = body.map(|body| body.text()).transpose().map_err(|error| corrupt(&error))?.unwrap_or_default();
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], text).into_response())
}

pub(super) fn corrupt(error: &crate::core::ledger::body::BodyError) -> Failure {
    ReadError::Corrupt { what: "body".into(), why: error.to_string() }.into()
}

pub(super) fn find(api: &Api, group: &GroupId, name: &str) -> Result<(Index, Document), Failure> {
    let storage = api.node.storage();
    let (index, hash) = match hash_or_index(name).map_err(Failure::bad_request)? {
        Ok(hash) => (None, hash),
        Err(index) => (Some(index), api.position(group, index)?.hash),
    };
    let missing = || Failure::not_found(format!("document {} is not held here", hash.short()));
    let document = storage.document(&hash)?.ok_or_else(missing)?;
    let index = index.or_else(|| document.index_in(group)).ok_or_else(missing)?;
    Ok((index, document))
}

/// The readings a document names; `None` if it names none (the genesis).
pub(super) fn body(api: &Api, index: Index, document: &Document) -> Result<Option<Body>, Failure> {
    let Some(hash) = document.header().body else { return Ok(None) };
    let kept = api.node.params().consensus.bodies_kept;
    let gone = || {
        let message = format!("the readings of checkpoint {} are no longer kept here", index.get());
        Failure::gone(message).hint(format!("the newest {kept} are, and one an hour for a week; see `checkpoint ls`"))
    };
    api.node.storage().body(&hash)?.ok_or_else(gone).map(Some)
}

/// Rows of the readings that a committed checkpoint names. Ages count to when it was taken.
pub(super) fn readings_at(api: &Api, name: &str, pattern: &Pattern) -> Result<(Index, Vec<ReadingRow>), Failure> {
    let (index, document) = find(api, &api.group(None)?, name)?;
    let region = api.node.params().region.to_string();
    let taken_at = document.header().taken_at.time.wall();
    let Some(body) = body(api, index, &document)? else { return Ok((index, Vec::new())) };
    let entries = body.entries().map_err(|error| corrupt(&error))?;
    let rows = entries.into_iter().filter_map(|keyed| {
        let (key, entry) = keyed.into_parts();
        let wanted = pattern.matches(&region, key.origin.as_str(), key.channel.as_str());
        wanted.then(|| reading_row(&key, &entry, &region, taken_at)).flatten()
    });
    Ok((index, rows.collect()))
}
