//! `sensorctl checkpoint`: the ledger.

mod diff;
mod export;
mod latest;
mod ls;
mod show;
mod verify;

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::cli::Context;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::core::ledger::document::Document;

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

/// A checkpoint's document by index or hash, its bytes checked against what they say.
async fn document(client: &Client, name: &str) -> Result<Document, CliError> {
    let bytes = client.get_bytes(&format!("/v1/checkpoints/{name}"), PATIENCE).await?;
    let text = String::from_utf8(bytes).map_err(|error| CliError::because("the document is not text", &error))?;
    Document::parse(&text).map_err(|error| CliError::because("the document makes no sense", &error))
}
