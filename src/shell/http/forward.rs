//! Readings of other regions, where they stay with them: asked for at one of the region's own nodes.

use std::time::Duration;

use crate::core::pattern::{Pattern, encode};
use crate::core::view::{Liveness, MemberView, View};
use crate::shell::http::Api;
use crate::shell::http::model::{Forwarded, ReadingRow, Readings};

/// How long a node of another region may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Nodes of a region that are asked in turn.
const TRIES: usize = 3;
/// Bytes of an answer that are taken.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Asks every other region that `pattern` names, all at once: their readings, and what became of each question.
pub(super) async fn ask(api: &Api, view: &View, text: &str, pattern: &Pattern) -> (Vec<ReadingRow>, Vec<Forwarded>) {
    let own = &api.node.params().region;
    let others = view.regions.iter().map(|region| &region.id).filter(|region| *region != own);
    let named = others.filter(|region| pattern.names_region(region.as_str()));
    let asked = named.map(|region| {
        let leader = view.regions.iter().find(|known| known.id == *region).and_then(|known| known.leader.clone());
        let mut there: Vec<&MemberView> = view.members.iter().filter(|member| member.region == *region).collect();
        // The leader first: its region's readings reach it soonest as well as anybody, and it is known to live.
        there.sort_by_key(|member| (Some(&member.node) != leader.as_ref(), member.liveness != Liveness::Alive));
        let addrs: Vec<String> =
            there.iter().filter_map(|m| m.api.as_ref()).take(TRIES).map(ToString::to_string).collect();
        ask_region(api, region.to_string(), addrs, text)
    });
    let (mut readings, mut forwarded) = (Vec::new(), Vec::new());
    for (rows, how) in futures_util::future::join_all(asked).await {
        readings.extend(rows);
        forwarded.push(how);
    }
    (readings, forwarded)
}

async fn ask_region(api: &Api, region: String, addrs: Vec<String>, text: &str) -> (Vec<ReadingRow>, Forwarded) {
    let mut why = format!("no node of {region} with an API is known here");
    for addr in addrs {
        match ask_node(api, &addr, text).await {
            Ok(answer) => {
                let rows: Vec<ReadingRow> = answer.readings.into_iter().filter(|row| row.region == region).collect();
                let forwarded = Forwarded {
                    region,
                    node: Some(answer.answered_by),
                    readings: rows.len() as u64,
                    newest_age_ms: rows.iter().map(|row| row.age_ms).min(),
                    error: None,
                };
                return (rows, forwarded);
            }
            Err(error) => why = format!("{addr}: {error}"),
        }
    }
    (Vec::new(), Forwarded { region, node: None, readings: 0, newest_age_ms: None, error: Some(why) })
}

async fn ask_node(api: &Api, addr: &str, text: &str) -> Result<Readings, String> {
    let say = |error: reqwest::Error| if error.is_timeout() { "no answer in time".to_owned() } else { chain(&error) };
    let request = api.http.get(format!("http://{addr}/v1/readings?pattern={}&here=true", encode(text)));
    let response = request.timeout(PATIENCE).send().await.map_err(say)?;
    if !response.status().is_success() {
        return Err(format!("it answers {}", response.status()));
    }
    if response.content_length().is_some_and(|length| length > ANSWER_BYTES_MAX as u64) {
        return Err("its answer is too long; name fewer readings".to_owned());
    }
    let bytes = response.bytes().await.map_err(say)?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

fn chain(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
