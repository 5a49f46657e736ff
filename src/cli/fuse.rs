//! `sensorctl fuse`: one answer from many sensors, how sure it is, and who was not believed.

use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;

use crate::cli::Context;
use crate::cli::client::Client;
use crate::cli::error::{CliError, chain};
use crate::cli::flat;
use crate::cli::get::encode;
use crate::cli::output::{self, Column, Format, Rows, duration_ms, json_line, number, or_dash, text, value_text};
use crate::shell::http::model::{ContributionRow, EstimateRow, Estimates};

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Args)]
pub struct FuseArgs {
    /// What is measured: the last part of the channels' names, for instance temp
    quantity: Option<String>,
    /// Only this region's sensors
    #[arg(long)]
    region: Option<String>,
    /// Only this group: a rule of [[fusion.group]], a region, or global
    #[arg(long)]
    group: Option<String>,
    /// Show everybody's part in it
    #[arg(long)]
    explain: bool,
    /// As a committed checkpoint has it, by index or hash
    #[arg(long, value_name = "INDEX")]
    at: Option<String>,
    /// Show estimates again whenever they change
    #[arg(short, long, conflicts_with_all = ["at", "explain"])]
    watch: bool,
}

pub async fn run(cx: &Context, args: FuseArgs) -> Result<(), CliError> {
    let client = cx.client()?;
    if args.watch {
        return watch(cx, &client, &args).await;
    }
    let estimates: Estimates = client.get(&format!("/v1/fuse?{}", query(&args)), PATIENCE).await?;
    match cx.format.is_for_people() && args.explain {
        true => explained(&estimates)?,
        false => output::print(cx.format, &estimates, &estimates.estimates, || rows(&estimates.estimates))?,
    }
    if estimates.estimates.is_empty() && cx.format.is_for_people() {
        eprintln!("no group of sensors matches; `sensorctl get` lists the readings");
    }
    Ok(())
}

fn query(args: &FuseArgs) -> String {
    let part = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("{name}={}", encode(value)));
    let parts = [
        part("quantity", &args.quantity),
        part("region", &args.region),
        part("group", &args.group),
        part("at", &args.at),
        args.explain.then(|| "explain=true".to_owned()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("&")
}

/// Columns of `--watch -o csv`.
const FIELDS: &[&str] = &[
    "quantity",
    "group",
    "region",
    "value",
    "unit",
    "sigma",
    "interval",
    "n",
    "used",
    "rejected",
    "stale",
    "tolerates",
    "status",
    "smoothed_value",
    "smoothed_sigma",
];

async fn watch(cx: &Context, client: &Client, args: &FuseArgs) -> Result<(), CliError> {
    let response = client.stream(&format!("/v1/fuse/watch?{}", query(args))).await?;
    if cx.format == Format::Csv {
        println!("{}", FIELDS.join(","));
    }
    let mut bytes = response.bytes_stream();
    let mut buffer = Vec::new();
    loop {
        while let Some(end) = buffer.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = buffer.drain(..end + 2).collect();
            let event = String::from_utf8_lossy(&event);
            let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")) else { continue };
            let Ok(row) = serde_json::from_str::<EstimateRow>(data) else { continue };
            match cx.format {
                Format::Table | Format::Wide => println!("{}", line(&row)),
                Format::Json | Format::Ndjson => println!("{}", json_line("sensorctl/fuse-watch/v1", &row)),
                Format::Csv => print!("{}", flat::csv_row(FIELDS, &row)),
            }
        }
        match bytes.next().await {
            Some(Ok(more)) => buffer.extend_from_slice(&more),
            Some(Err(error)) => return Err(CliError::unreachable(format!("the node has gone: {}", chain(&error)))),
            None => return Err(CliError::unreachable("the node has ended the stream")),
        }
    }
}

const COLUMNS: &[Column] = &[
    text("quantity"),
    text("group"),
    text("region"),
    number("estimate"),
    text("unit"),
    number("interval"),
    text("used"),
    text("tolerates"),
    text("status").wide(),
    number("smoothed").wide(),
    text("notes"),
];

fn rows(estimates: &[EstimateRow]) -> Rows {
    let mut rows = Rows::new(COLUMNS);
    for row in estimates {
        rows.push(vec![
            row.quantity.clone(),
            row.group.clone(),
            row.region.clone().unwrap_or_default(),
            or_dash(row.value.map(|value| value_text(value, row.sigma))),
            row.unit.clone().unwrap_or_default(),
            or_dash(row.interval.map(|interval| interval_text(interval, row.sigma))),
            format!("{} of {}", row.used, row.n),
            format!("{} of {}", row.tolerates, row.n),
            row.status.clone(),
            or_dash(row.smoothed.as_ref().map(|s| value_text(s.value, Some(s.sigma)))),
            notes(row),
        ]);
    }
    rows
}

/// What is not as it should be: in words, and nothing if all is well.
fn notes(row: &EstimateRow) -> String {
    let mut notes = Vec::new();
    match row.status.as_str() {
        "inconsistent" => notes.push("INCONSISTENT: more sensors contradict each other than are tolerated".to_owned()),
        "insufficient" => notes.push("insufficient: no fresh sensor of known uncertainty".to_owned()),
        _ => {}
    }
    if !row.rejected.is_empty() || row.unnamed > 0 {
        let named: Vec<String> = row.rejected.iter().take(4).map(|r| format!("{} ({})", r.node, r.reason)).collect();
        let count = row.rejected.len() as u64 + row.unnamed;
        let more = if count > named.len() as u64 { ", …" } else { "" };
        notes.push(format!("{count} rejected: {}{more}", named.join(", ")));
    }
    if row.stale > 0 {
        notes.push(format!("{} stale", row.stale));
    }
    if let Some(error) = row.approximate {
        notes.push(format!("approximate to ±{error:.2e}"));
    }
    notes.join("; ")
}

/// Ends to as many digits as the estimate's uncertainty has.
fn interval_text((lo, hi): (f64, f64), sigma: Option<f64>) -> String {
    let sigma = sigma.filter(|sigma| *sigma > 0.0 && sigma.is_finite()).unwrap_or((hi - lo).abs() / 8.0);
    let digits = if sigma > 0.0 { (1 - sigma.log10().floor() as i32).clamp(0, 9) as usize } else { 6 };
    format!("[{lo:.digits$}, {hi:.digits$}]")
}

/// An estimate on one line.
fn line(row: &EstimateRow) -> String {
    let unit = row.unit.as_deref().map(|unit| format!(" {unit}")).unwrap_or_default();
    let value = row.value.map_or_else(|| "?".to_owned(), |value| value_text(value, row.sigma));
    let interval = row.interval.map(|interval| interval_text(interval, row.sigma)).unwrap_or_default();
    let region = row.region.as_ref().filter(|region| **region != row.group);
    let region = region.map(|region| format!(" ({region})")).unwrap_or_default();
    let notes = notes(row);
    let notes = if notes.is_empty() { notes } else { format!("; {notes}") };
    format!(
        "{} {}{region}: {value}{unit}  {interval}  used {} of {}  tolerates {} of {}{notes}",
        row.quantity, row.group, row.used, row.n, row.tolerates, row.n
    )
}

const PARTS: &[Column] = &[
    text("  node"),
    text("channel"),
    number("value"),
    number("sigma"),
    number("weight"),
    number("off by"),
    number("age"),
    text("reason"),
];

fn explained(estimates: &Estimates) -> Result<(), CliError> {
    use std::io::Write as _;
    let mut out = anstream::stdout().lock();
    for row in &estimates.estimates {
        writeln!(out, "\x1b[1m{}\x1b[0m", line(row))?;
        let mut rows = Rows::new(PARTS);
        row.contributions.iter().for_each(|part| rows.push(part_cells(part)));
        if row.contributions.is_empty() {
            writeln!(out, "  too many sensors to name\n")?;
        } else {
            writeln!(out, "{}\n", rows.to_table(true))?;
        }
    }
    Ok(())
}

fn part_cells(part: &ContributionRow) -> Vec<String> {
    vec![
        format!("  {}", part.node),
        part.channel.clone(),
        or_dash(
            part.value.map(|value| value_text(value, part.sigma).split(" ±").next().unwrap_or_default().to_owned()),
        ),
        or_dash(part.sigma.map(|sigma| format!("{sigma:.2e}").parse::<f64>().unwrap_or(sigma))),
        format!("{:.1}%", part.weight * 100.0),
        or_dash(part.residual.map(|residual| format!("{residual:+.1} sigma"))),
        duration_ms(part.age_ms),
        part.reason.clone().unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::http::model::RejectedRow;

    #[test]
    fn an_estimate_reads_as_a_sentence() {
        let row = EstimateRow {
            quantity: "temp".into(),
            group: "main".into(),
            value: Some(22.4123),
            unit: Some("°C".into()),
            sigma: Some(0.08),
            interval: Some((22.1, 22.7)),
            n: 10,
            used: 9,
            rejected: vec![RejectedRow { node: "gw-7".into(), channel: "temp".into(), reason: "drift".into() }],
            tolerates: 3,
            status: "ok".into(),
            ..EstimateRow::default()
        };
        let expected =
            "temp main: 22.412 ± 0.080 °C  [22.100, 22.700]  used 9 of 10  tolerates 3 of 10; 1 rejected: gw-7 (drift)";
        assert_eq!(line(&row), expected);
        let lost = EstimateRow { status: "inconsistent".into(), stale: 2, ..EstimateRow::default() };
        assert!(notes(&lost).contains("contradict each other") && notes(&lost).ends_with("2 stale"));
    }
}
