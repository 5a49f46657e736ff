//! `sensorctl sensors`: a node's own sources and what fails.

use std::time::Duration;

use clap::Args;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::output::{self, Column, Rows, duration_ms, number, or_dash, text};
use crate::shell::http::model::Sources;

const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Args)]
pub struct SensorsArgs {}

pub async fn run(cx: &Context, _: SensorsArgs) -> Result<(), CliError> {
    let sources: Sources = cx.client()?.get("/v1/sensors", PATIENCE).await?;
    output::print(cx.format, &sources, &sources.sources, || rows(&sources))?;
    if cx.format.is_for_people() {
        for fault in &sources.faults {
            println!("{}:{} is faulty: {} since {}", sources.node, fault.channel, fault.fault, fault.since);
        }
    }
    Ok(())
}

const COLUMNS: &[Column] = &[
    text("node"),
    text("source"),
    text("kind"),
    text("state"),
    number("readings"),
    number("failures"),
    number("last"),
    text("channels").wide(),
    text("error"),
];

fn rows(sources: &Sources) -> Rows {
    let mut rows = Rows::new(COLUMNS);
    for source in &sources.sources {
        rows.push(vec![
            sources.node.clone(),
            source.name.clone(),
            source.kind.clone(),
            if source.ok { "ok".into() } else { "failing".into() },
            source.readings.to_string(),
            source.failures.to_string(),
            or_dash(source.last_reading_ms.map(duration_ms)),
            source.channels.join(" "),
            source.error.clone().unwrap_or_default(),
        ]);
    }
    rows
}
