//! `sensorctl get`: the latest readings, or those of a committed checkpoint.

use std::time::Duration;

use clap::Args;

use crate::cli::Context;
use crate::cli::error::{CliError, Kind};
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
    if cx.format.is_for_people() {
        for way in &readings.forwarded {
            let age = way.newest_age_ms.map(|age| format!(", the newest {} old", duration_ms(age))).unwrap_or_default();
            match (&way.node, &way.error) {
                (Some(node), _) => eprintln!("{} of region {} from {node}{age}", counted(way.readings), way.region),
                (None, why) => eprintln!("region {} did not answer: {}", way.region, why.as_deref().unwrap_or("?")),
            }
        }
    }
    if readings.forwarded.iter().any(|way| way.node.is_none()) {
        // Said above for people; what matches there nobody knows.
        return Err(CliError::silent(Kind::Unreachable));
    }
    if readings.readings.is_empty() && cx.format.is_for_people() {
        eprintln!("no reading matches {}", args.pattern);
    }
    Ok(())
}

pub use crate::core::pattern::encode;

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
        whose(reading),
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

/// Its gateway, and in what way that is not there: what such a one said last may be good and is old.
fn whose(reading: &ReadingRow) -> String {
    match reading.liveness.as_deref() {
        None | Some("alive") => reading.node.clone(),
        Some(other) => format!("{} ({other})", reading.node),
    }
}

fn counted(readings: u64) -> String {
    if readings == 1 { "1 reading".into() } else { format!("{readings} readings") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_of_a_dead_gateway_says_so_beside_its_age() {
        let text = r#"{"node":"gw-3","region":"main","channel":"temp","value":21.5,"unit":"°C","sigma":null,
            "quality":"good","stamp":"0.0","time":"2026-01-01T00:00:00Z","age_ms":34000}"#;
        let row: ReadingRow = serde_json::from_str(text).unwrap();
        let dead = ReadingRow { liveness: Some("dead".into()), ..row.clone() };
        let table = rows(&[row, dead]).to_table(false);
        let lines: Vec<&str> = table.lines().skip(1).collect();
        assert!(lines[0].starts_with("gw-3  ") && lines[1].starts_with("gw-3 (dead)"), "{table}");
        assert!(lines[1].contains("34 s"), "{table}");
    }

    #[test]
    fn a_pattern_survives_a_query() {
        assert_eq!(encode("eu/*:temp"), "eu/*:temp");
        assert_eq!(encode("a&b=[c]%"), "a%26b%3D%5Bc%5D%25");
    }
}
