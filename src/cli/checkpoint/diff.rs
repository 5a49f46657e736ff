//! `sensorctl checkpoint diff`: which readings differ between two checkpoints.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::checkpoint::PATIENCE;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::output::{self, Column, Rows, number, or_dash, text, value_text};
use crate::shell::http::model::{ReadingRow, Readings};

#[derive(Args)]
pub struct DiffArgs {
    /// The older: index or hash
    from: String,
    /// The newer: index or hash
    to: String,
}

#[derive(Serialize)]
struct Diff {
    schema: &'static str,
    from: u64,
    to: u64,
    differences: Vec<Difference>,
}

#[derive(Serialize)]
struct Difference {
    node: String,
    channel: String,
    change: &'static str,
    before: Option<f64>,
    after: Option<f64>,
    unit: Option<String>,
}

type Named = BTreeMap<(String, String), ReadingRow>;

pub async fn run(cx: &Context, args: DiffArgs) -> Result<(), CliError> {
    let client = cx.client()?;
    let (from, before) = readings(&client, &args.from).await?;
    let (to, after) = readings(&client, &args.to).await?;
    let diff = Diff { schema: "sensorctl/checkpoint-diff/v1", from, to, differences: compare(&before, &after) };
    output::print(cx.format, &diff, &diff.differences, || rows(&diff.differences))
}

async fn readings(client: &Client, name: &str) -> Result<(u64, Named), CliError> {
    let readings: Readings = client.get(&format!("/v1/readings?as_of={name}"), PATIENCE).await?;
    let index =
        readings.as_of.ok_or_else(|| CliError::failed("the node did not say which checkpoint it answered for"))?;
    let named = readings.readings.into_iter().map(|row| ((row.node.clone(), row.channel.clone()), row));
    Ok((index, named.collect()))
}

fn compare(before: &Named, after: &Named) -> Vec<Difference> {
    let mut keys: Vec<_> = before.keys().chain(after.keys()).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter()
        .filter_map(|key| {
            let (old, new) = (before.get(key), after.get(key));
            let change = match (old, new) {
                (None, Some(_)) => "added",
                (Some(_), None) => "gone",
                (Some(old), Some(new)) if old.stamp != new.stamp => "changed",
                _ => return None,
            };
            Some(Difference {
                node: key.0.clone(),
                channel: key.1.clone(),
                change,
                before: old.and_then(|row| row.value),
                after: new.and_then(|row| row.value),
                unit: new.or(old).and_then(|row| row.unit.clone()),
            })
        })
        .collect()
}

const COLUMNS: &[Column] =
    &[text("node"), text("channel"), text("change"), number("before"), number("after"), text("unit")];

fn rows(differences: &[Difference]) -> Rows {
    let mut rows = Rows::new(COLUMNS);
    for difference in differences {
        rows.push(vec![
            difference.node.clone(),
            difference.channel.clone(),
            difference.change.to_owned(),
            or_dash(difference.before.map(|value| value_text(value, None))),
            or_dash(difference.after.map(|value| value_text(value, None))),
            difference.unit.clone().unwrap_or_default(),
        ]);
    }
    rows
}
