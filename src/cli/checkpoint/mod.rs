//! `sensorctl checkpoint`: the ledger.

mod diff;
mod export;
mod latest;
mod ls;
mod recompute;
mod show;
mod verify;

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::cli::Context;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::get::encode;
use crate::cli::output::NONE;
use crate::core::ledger::document::Document;
use crate::shell::http::model::{Latest, Status};

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Args)]
pub struct CheckpointArgs {
    #[command(subcommand)]
    verb: CheckpointVerb,
}

#[derive(Subcommand)]
enum CheckpointVerb {
    /// List committed checkpoints, newest first
    Ls(ls::LsArgs),
    /// Show what a checkpoint says
    Show(show::ShowArgs),
    /// Show the newest committed checkpoint
    Latest(latest::LatestArgs),
    /// Recompute every hash and parent, and say where the chain breaks
    Verify(verify::VerifyArgs),
    /// Write a checkpoint's exact bytes, whose SHA-256 is its identity
    Export(export::ExportArgs),
    /// Show which readings differ between two checkpoints
    Diff(diff::DiffArgs),
}

pub async fn run(cx: &Context, args: CheckpointArgs) -> Result<(), CliError> {
    match args.verb {
        CheckpointVerb::Ls(args) => ls::run(cx, args).await,
        CheckpointVerb::Show(args) => show::run(cx, args).await,
        CheckpointVerb::Latest(args) => latest::run(cx, args).await,
        CheckpointVerb::Verify(args) => verify::run(cx, args).await,
        CheckpointVerb::Export(args) => export::run(cx, args).await,
        CheckpointVerb::Diff(args) => diff::run(cx, args).await,
    }
}

/// Whose ledger.
#[derive(Args)]
struct Group {
    /// Whose ledger: `top`, or a region; that of the answering node's region without
    #[arg(long, value_name = "top|REGION")]
    group: Option<String>,
}

impl Group {
    /// The query for it, beginning with `first`.
    fn query(&self, first: char) -> String {
        self.group.as_ref().map(|group| format!("{first}group={}", encode(group))).unwrap_or_default()
    }

    /// A client that asks nodes of that region.
    async fn client(&self, cx: &Context) -> Result<Client, CliError> {
        let client = cx.client()?;
        let Some(region) = self.group.as_deref().filter(|group| *group != "top") else { return Ok(client) };
        let region = region.strip_prefix("region:").unwrap_or(region);
        let status: Status = client.get("/v1/status", PATIENCE).await?;
        asking_region(&client, &status, region)
    }
}

/// A client that asks nodes of a region.
fn asking_region(client: &Client, status: &Status, region: &str) -> Result<Client, CliError> {
    if !status.regions.iter().any(|known| known.id == region) {
        let known: Vec<&str> = status.regions.iter().map(|known| known.id.as_str()).collect();
        return Err(CliError::usage(format!("there is no region {region}"))
            .hint(format!("there are: {}; or say --group top", known.join(", "))));
    }
    let mut there: Vec<_> = status.nodes.iter().filter(|node| node.region == region).collect();
    there.sort_by_key(|node| (node.liveness != "alive", node.id != status.answered_by));
    let addrs: Vec<String> = there.iter().filter_map(|node| node.api.clone()).collect();
    match addrs.is_empty() {
        true => Err(CliError::unreachable(format!("no node of region {region} with an API is known"))),
        false => Ok(client.asking(addrs)),
    }
}

/// When a checkpoint was taken, for people. A genesis is made of names alone: every founder makes the same, at no time
/// of its own.
fn taken_at(index: u64, time: &str) -> String {
    if index == 0 && time.starts_with("1970-01-01") { NONE.to_owned() } else { time.to_owned() }
}

/// A checkpoint's document by index or hash, or the latest, its bytes checked against what they say.
async fn document(client: &Client, name: &str, group: &Group) -> Result<Document, CliError> {
    let latest = match name {
        "latest" => {
            let found: Latest = client.get(&format!("/v1/checkpoints/latest{}", group.query('?')), PATIENCE).await?;
            found.checkpoint.map(|row| row.hash)
        }
        _ => None,
    };
    let name = latest.as_deref().unwrap_or(name);
    let bytes = client.get_bytes(&format!("/v1/checkpoints/{name}{}", group.query('?')), PATIENCE).await?;
    let text = String::from_utf8(bytes).map_err(|error| CliError::because("the document is not text", &error))?;
    Document::parse(&text).map_err(|error| CliError::because("the document makes no sense", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_genesis_was_taken_at_no_time() {
        assert_eq!(taken_at(0, "1970-01-01T00:00:00.000Z"), "-");
        assert_eq!(taken_at(7, "2026-11-25T22:15:27.898Z"), "2026-11-25T22:15:27.898Z");
        assert_eq!(taken_at(0, "2026-11-25T22:15:27.898Z"), "2026-11-25T22:15:27.898Z", "of a recovered cluster");
    }
}
