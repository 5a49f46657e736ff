//! `sensorctl get`: the latest readings, or those of a committed checkpoint.

use std::time::Duration;

use clap::Args;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::output::{self, Column, Rows, duration_ms, number, or_dash, text, value_text};
use crate::shell::http::model::{ReadingRow, Readings};

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Args)]
pub struct GetArgs {
    /// Which readings: [[REGION/]NODE:]CHANNEL, each part a glob
    #[arg(default_value = "**")]
    pattern: String,
    /// Ask this node (a node id, or HOST:PORT) for what it holds
    #[arg(long, value_name = "NODE")]
    from: Option<String>,
    /// The state of this committed checkpoint, by index or hash
    #[arg(long, value_name = "INDEX")]
    as_of: Option<String>,
}

pub async fn run(cx: &Context, args: GetArgs) -> Result<(), CliError> {
    let client = cx.client_for(args.from.as_deref().or(cx.node.as_deref()))?;
    let as_of = args.as_of.map(|index| format!("&as_of={index}")).unwrap_or_default();
    let path = format!("/v1/readings?pattern={}{as_of}", encode(&args.pattern));
    let readings: Readings = client.get(&path, PATIENCE).await?;
    output::print(cx.format, &readings, &readings.readings, || rows(&readings.readings))?;
    if readings.readings.is_empty() && cx.format.is_for_people() {
        eprintln!("no reading matches {}", args.pattern);
    }
    Ok(())
}

/// A query value: everything but plain characters becomes %XX.
pub fn encode(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~/*:".contains(byte);
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

const COLUMNS: &[Column] = &[
    text("node"),
    text("channel"),
    number("value"),
    text("unit"),
    number("age"),
    text("quality"),
    text("region").wide(),
    number("sigma").wide(),
    text("time").wide(),
    text("stamp").wide(),
    text("note"),
];

/// Readings as a table.
pub fn rows(readings: &[ReadingRow]) -> Rows {
    let mut rows = Rows::new(COLUMNS);
    readings.iter().for_each(|reading| rows.push(cells(reading)));
    rows
}

fn cells(reading: &ReadingRow) -> Vec<String> {
    vec![
        reading.node.clone(),
        reading.channel.clone(),
        or_dash(reading.value.map(|value| value_text(value, reading.sigma))),
        reading.unit.clone().unwrap_or_default(),
        duration_ms(reading.age_ms),
        reading.quality.clone(),
        reading.region.clone(),
        or_dash(reading.sigma),
        reading.time.clone(),
        reading.stamp.clone(),
        reading.note.clone().unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_survives_a_query() {
        assert_eq!(encode("eu/*:temp"), "eu/*:temp");
        assert_eq!(encode("a&b=[c]%"), "a%26b%3D%5Bc%5D%25");
    }
}
