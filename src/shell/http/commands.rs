//! What operators ask: forget a node, take out a voter, add and take out regions, leave.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::event::{Command, Reply};
use crate::core::id::{NodeId, RegionId};
use crate::shell::http::Api;
use crate::shell::http::checkpoints::redirect;
use crate::shell::http::error::Failure;

/// How long the change of voters may take to be committed.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(60);
const FORGET_PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn forget(State(api): State<Api>, Path(node): Path<String>) -> Result<Json<Value>, Failure> {
    let node = parse(&node)?;
    run(&api, Command::Forget { node }, FORGET_PATIENCE).await
}

pub(super) async fn remove_voter(State(api): State<Api>, Path(node): Path<String>) -> Result<Json<Value>, Failure> {
    let node = parse(&node)?;
    run(&api, Command::RemoveVoter { node }, REMOVAL_PATIENCE).await
}

pub(super) async fn grow(State(api): State<Api>) -> Result<Json<Value>, Failure> {
    run(&api, Command::Grow, REMOVAL_PATIENCE).await
}

/// The first voters of a region that is added.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AddRegion {
    voters: Vec<String>,
}

pub(super) async fn add_region(
    State(api): State<Api>,
    Path(region): Path<String>,
    body: Result<Json<AddRegion>, JsonRejection>,
) -> Result<Json<Value>, Failure> {
    let Json(AddRegion { voters }) = body.map_err(|error| Failure::bad_request(error.body_text()))?;
    let voters = voters.iter().map(|voter| parse(voter)).collect::<Result<_, _>>()?;
    run(&api, Command::AddRegion { region: parse_region(&region)?, voters }, REMOVAL_PATIENCE).await
}

pub(super) async fn remove_region(State(api): State<Api>, Path(region): Path<String>) -> Result<Json<Value>, Failure> {
    run(&api, Command::RemoveRegion { region: parse_region(&region)? }, REMOVAL_PATIENCE).await
}

fn parse_region(name: &str) -> Result<RegionId, Failure> {
    RegionId::new(name).map_err(|error| Failure::bad_request(error.to_string()))
}

pub(super) async fn leave(State(api): State<Api>) -> Json<Value> {
    api.node.leave().await;
    Json(json!({ "ok": true }))
}

fn parse(name: &str) -> Result<NodeId, Failure> {
    NodeId::new(name).map_err(|error| Failure::bad_request(error.to_string()))
}

async fn run(api: &Api, command: Command, patience: Duration) -> Result<Json<Value>, Failure> {
    match api.node.ask(command, patience).await? {
        Reply::Done => Ok(Json(json!({ "ok": true }))),
        Reply::Redirect { leader } => Err(redirect(api, leader).await?),
        Reply::Refused { why } => Err(why.into()),
        Reply::Put { .. } | Reply::Latest { .. } => unreachable!("an operator's command is done or refused"),
    }
}
