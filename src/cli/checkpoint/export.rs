//! `sensorctl checkpoint export`: the document's exact bytes.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::cli::Context;
use crate::cli::checkpoint::{Group, PATIENCE, document};
use crate::cli::error::CliError;

#[derive(Args)]
pub struct ExportArgs {
    /// Index or hash
    checkpoint: String,
    /// Write to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The readings it names instead, one JSON object a line: their SHA-256 is the document's `body`
    #[arg(long)]
    body: bool,
    #[command(flatten)]
    group: Group,
}

pub async fn run(cx: &Context, args: ExportArgs) -> Result<(), CliError> {
    let client = args.group.client(cx).await?;
    let bytes = match args.body {
        true => client.get_bytes(&format!("/v1/checkpoints/{}/body", args.checkpoint), PATIENCE).await?,
        false => document(&client, &args.checkpoint, &args.group).await?.bytes().as_bytes().to_vec(),
    };
    match args.out {
        None => Ok(std::io::stdout().write_all(&bytes)?),
        Some(path) => std::fs::write(&path, bytes)
            .map_err(|error| CliError::because(format!("cannot write {}", path.display()), &error)),
    }
}
