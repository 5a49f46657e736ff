//! `GET /v1/fuse` and `/v1/fuse/watch`: estimates of the newest readings, or those of a committed checkpoint.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::Stream;
use futures_util::stream;
use serde::Deserialize;

use crate::core::fusion::document::groups_of;
use crate::core::fusion::estimate::{Contribution, Estimate};
use crate::core::fusion::params::Rules;
use crate::core::id::GroupId;
use crate::core::time::Wall;
use crate::shell::fusion::{Shown, Wanted};
use crate::shell::http::Api;
use crate::shell::http::checkpoints;
use crate::shell::http::error::Failure;
use crate::shell::http::model::{ContributionRow, EstimateRow, Estimates, RejectedRow, SmoothedRow};
use crate::shell::http::rows::rfc3339;

/// How often a watched estimate may be shown, unless told otherwise, at least and at most.
const INTERVAL_MS: u64 = 1000;
const INTERVALS_MS: std::ops::RangeInclusive<u64> = 50..=3_600_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FuseQuery {
    quantity: Option<String>,
    region: Option<String>,
    group: Option<String>,
    /// A committed checkpoint, by index or hash.
    at: Option<String>,
    #[serde(default)]
    explain: bool,
}

pub(super) async fn fuse(
    State(api): State<Api>,
    query: Result<Query<FuseQuery>, QueryRejection>,
) -> Result<Json<Estimates>, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    let wanted = Wanted { quantity: query.quantity, region: query.region, group: query.group };
    let schema = "sensorctl/fuse/v1".to_owned();
    if let Some(at) = &query.at {
        let (index, taken_at, shown) = at_checkpoint(&api, at, &wanted, query.explain)?;
        let estimates = shown.into_iter().map(|shown| row(shown, taken_at)).collect();
        return Ok(Json(Estimates { schema, at: Some(index), time: rfc3339(taken_at), estimates }));
    }
    let shown = api.fuser.estimates(&wanted, query.explain).await?;
    let now = api.node.inspect(|_, now| now.wall).await?;
    let estimates = shown.into_iter().map(|shown| row(shown, now)).collect();
    Ok(Json(Estimates { schema, at: None, time: rfc3339(now), estimates }))
}

/// What a document says; to explain it, its readings are fused again.
fn at_checkpoint(api: &Api, name: &str, wanted: &Wanted, explain: bool) -> Result<(u64, Wall, Vec<Shown>), Failure> {
    let (index, document) = checkpoints::find(api, &api.group(None)?, name)?;
    let header = document.header();
    let taken_at = header.taken_at.time.wall();
    let none = || Failure::not_found(format!("checkpoint {} carries no estimates", index.get()));
    let fused = header.fused.as_ref().ok_or_else(none)?;
    let plain = |estimate: &Estimate| Shown { estimate: estimate.clone(), contributions: Vec::new(), smoothed: None };
    let wanted_ones = fused.estimates.iter().filter(|estimate| wanted.takes(&estimate.subject));
    let GroupId::Region(region) = &header.group else {
        return Ok((index.get(), taken_at, wanted_ones.map(plain).collect()));
    };
    if !explain {
        return Ok((index.get(), taken_at, wanted_ones.map(plain).collect()));
    }
    let body = checkpoints::body(api, index, &document)?.ok_or_else(none)?;
    let entries = body.entries().map_err(|error| checkpoints::corrupt(&error))?;
    let entries: Vec<_> = entries.into_iter().map(crate::core::state::entry::KeyedEntry::into_parts).collect();
    let rules = Rules::new(fused.params.clone()).map_err(|error| Failure::gone(error.to_string()))?;
    let groups = groups_of(entries.iter().map(|(key, entry)| (key.borrowed(), entry)), region, &rules);
    let subjects = groups.subjects();
    let shown = wanted_ones.map(|estimate| {
        let of = subjects.iter().find(|(key, of)| key.subject(of.as_ref()) == estimate.subject);
        let parts = of.map(|(key, of)| groups.explain(key, of.as_ref(), taken_at).1);
        Shown { contributions: parts.unwrap_or_default(), ..plain(estimate) }
    });
    Ok((index.get(), taken_at, shown.collect()))
}

fn row(shown: Shown, now: Wall) -> EstimateRow {
    let age = |time: Wall| now.millis_after(time).max(0) as u64;
    let Shown { estimate, contributions, smoothed } = shown;
    let rejected = estimate.rejected.into_iter().map(|r| RejectedRow {
        node: r.node.to_string(),
        channel: r.channel.to_string(),
        reason: r.reason,
    });
    let part = |c: Contribution| ContributionRow {
        node: c.sensor.node.to_string(),
        channel: c.sensor.channel.to_string(),
        value: c.value,
        sigma: c.sigma,
        weight: c.weight,
        residual: c.residual,
        age_ms: age(c.time),
        reason: c.reason,
    };
    EstimateRow {
        quantity: estimate.subject.quantity,
        group: estimate.subject.group,
        region: estimate.subject.region.map(|region| region.to_string()),
        value: estimate.value,
        unit: estimate.subject.unit,
        sigma: estimate.sigma,
        interval: estimate.interval.map(Into::into),
        n: estimate.n,
        used: estimate.used,
        rejected: rejected.collect(),
        unnamed: estimate.unnamed,
        stale: estimate.stale,
        tolerates: estimate.tolerates,
        status: estimate.status.as_str().to_owned(),
        approximate: estimate.approximate,
        inflation: estimate.inflation,
        oldest_age_ms: estimate.oldest.map(age),
        newest_age_ms: estimate.newest.map(age),
        smoothed: smoothed.map(|(value, sigma, fits)| SmoothedRow { value, sigma, fits }),
        contributions: contributions.into_iter().map(part).collect(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WatchQuery {
    quantity: Option<String>,
    region: Option<String>,
    group: Option<String>,
    interval_ms: Option<u64>,
}

/// Events: `estimate` with a row as data, at first for each and then for those that have changed.
pub(super) async fn watch(
    State(api): State<Api>,
    query: Result<Query<WatchQuery>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    let interval = query.interval_ms.unwrap_or(INTERVAL_MS);
    if !INTERVALS_MS.contains(&interval) {
        return Err(Failure::bad_request(format!("interval_ms is {interval}; it must lie between 50 and 3600000")));
    }
    let wanted = Wanted { quantity: query.quantity, region: query.region, group: query.group };
    let mut ticks = tokio::time::interval(Duration::from_millis(interval));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let start = (api, wanted, ticks, BTreeMap::new());
    let looks = stream::unfold(start, |(api, wanted, mut ticks, mut last)| async move {
        ticks.tick().await;
        let shown = api.fuser.estimates(&wanted, false).await.ok()?;
        let now = api.node.inspect(|_, now| now.wall).await.ok()?;
        let mut events = Vec::new();
        for one in shown {
            let estimate = &one.estimate;
            let seen = (estimate.value, estimate.status, estimate.n, estimate.used);
            if last.insert(estimate.subject.clone(), seen) != Some(seen) {
                let data = serde_json::to_string(&row(one, now)).expect("a row is JSON");
                events.push(Ok(Event::default().event("estimate").data(data)));
            }
        }
        Some((stream::iter(events), (api, wanted, ticks, last)))
    });
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(5));
    Ok(Sse::new(futures_util::StreamExt::flatten(looks)).keep_alive(keep_alive))
}
