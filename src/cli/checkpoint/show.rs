//! `sensorctl checkpoint show`.

use clap::Args;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::checkpoint::{Group, document, taken_at};
use crate::cli::error::CliError;
use crate::cli::output::{self, Column, Rows, duration_ms, or_dash, text};
use crate::core::ledger::document::Header;
use crate::shell::http::rfc3339;

#[derive(Args)]
pub struct ShowArgs {
    /// Index or hash, or `latest`
    checkpoint: String,
    #[command(flatten)]
    group: Group,
}

#[derive(Serialize)]
struct Shown<'a> {
    schema: &'static str,
    group: String,
    index: u64,
    hash: String,
    parent: Option<String>,
    taken_at: String,
    proposer: String,
    readings: u64,
    /// Its header, word for word.
    document: &'a Header,
}

pub async fn run(cx: &Context, args: ShowArgs) -> Result<(), CliError> {
    let document = document(&args.group.client(cx).await?, &args.checkpoint, &args.group).await?;
    let header = document.header();
    let shown = Shown {
        schema: "sensorctl/checkpoint-show/v1",
        group: header.group.to_string(),
        index: header.index.get(),
        hash: document.hash().to_string(),
        parent: header.parent.map(|parent| parent.to_string()),
        taken_at: rfc3339(header.taken_at.time.wall()),
        proposer: header.proposer.to_string(),
        readings: header.counts.readings,
        document: header,
    };
    const COLUMNS: &[Column] = &[text("field"), text("value")];
    output::print(cx.format, &shown, std::slice::from_ref(&shown), || {
        let mut rows = Rows::new(COLUMNS);
        let mut row = |field: &str, value: String| rows.push(vec![field.to_owned(), value]);
        row("group", shown.group.clone());
        row("index", shown.index.to_string());
        row("hash", shown.hash.clone());
        row("parent", or_dash(shown.parent.clone()));
        row("taken at", taken_at(shown.index, &shown.taken_at));
        row("proposer", shown.proposer.clone());
        row("voters", header.voters.iter().map(|voter| voter.node.to_string()).collect::<Vec<_>>().join(" "));
        for (region, at) in &header.regions {
            let taken = rfc3339(at.taken_at.wall());
            let stale = at.stale_ms.map(|age| format!(", stale: {} old", duration_ms(age))).unwrap_or_default();
            let gone = if header.voters.regions().contains_key(region) { "" } else { ", taken out" };
            row(
                &format!("region {region}"),
                format!(
                    "checkpoint {} ({}), {} readings of {} nodes, taken {taken}{stale}{gone}",
                    at.index.get(),
                    at.hash.short(),
                    at.counts.readings,
                    at.counts.nodes
                ),
            );
        }
        row("nodes", header.counts.nodes.to_string());
        row("readings", header.counts.readings.to_string());
        row("body", or_dash(header.body));
        if let Some(genesis) = &header.genesis {
            row("genesis of", genesis.name.clone());
        }
        rows
    })
}
