//! `GET /v1/watch`: readings as they change, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::Stream;
use futures_util::stream::{self, StreamExt};
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;

use crate::shell::http::error::Failure;
use crate::shell::http::model::ReadingRow;
use crate::shell::http::readings::{Regions, matching, parse_pattern};
use crate::shell::http::{Api, rows};
use crate::shell::runtime::Change;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WatchQuery {
    pattern: Option<String>,
    /// Begin with everything held now.
    #[serde(default)]
    initial: bool,
}

/// Events: `reading` with a row as data; `missed` with a number when the watcher was too slow: ask again then.
pub(super) async fn watch(
    State(api): State<Api>,
    query: Result<Query<WatchQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    let pattern = parse_pattern(query.pattern.as_deref())?;
    // Subscribe first: what changes between the two is shown twice rather than not at all.
    let changes = api.node.watch();
    let initial = match query.initial {
        true => {
            let pattern = pattern.clone();
            api.node.inspect(move |node, now| matching(node, &pattern, now.wall)).await?
        }
        false => Vec::new(),
    };
    let own_region = api.node.params().region.to_string();
    let live = stream::unfold((changes, api), |(mut changes, api)| async move {
        let item = match changes.recv().await {
            Ok(change) => Ok(change),
            Err(RecvError::Lagged(missed)) => Err(missed),
            Err(RecvError::Closed) => return None,
        };
        let item = match item {
            Ok(change) => Ok(row(&api, change).await),
            Err(missed) => Err(missed),
        };
        Some((item, (changes, api)))
    });
    let live = live.filter_map(move |item| {
        let event = match item {
            Ok(Some(row)) => {
                let region = if row.region.is_empty() { &own_region } else { &row.region };
                pattern.matches(region, &row.node, &row.channel).then(|| reading_event(&row))
            }
            Ok(None) => None,
            Err(missed) => Some(Event::default().event("missed").data(missed.to_string())),
        };
        async move { event }
    });
    let initial = stream::iter(initial).map(|row| reading_event(&row));
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(5));
    Ok(Sse::new(initial.chain(live).map(Ok)).keep_alive(keep_alive))
}

fn reading_event(row: &ReadingRow) -> Event {
    Event::default().event("reading").data(serde_json::to_string(row).expect("a row is JSON"))
}

async fn row(api: &Api, change: Change) -> Option<ReadingRow> {
    let (key, _) = &*change;
    if key.channel.is_system() {
        return None;
    }
    let now = api.node.clock().now().wall;
    let origin = key.origin.clone();
    // Flat mode has one region: only then need the node not be asked.
    let region = match api.node.params().initial_voters.len() {
        0 | 1 => api.node.params().region.to_string(),
        _ => api.node.inspect(move |node, _| Regions::default().of(node, &origin).to_owned()).await.ok()?,
    };
    let (key, entry) = &*change;
    rows::reading_row(key, entry, &region, now)
}
