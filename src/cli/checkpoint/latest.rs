//! `sensorctl checkpoint latest`.

use clap::Args;
use reqwest::Method;

use crate::cli::Context;
use crate::cli::checkpoint::{Group, PATIENCE, ls};
use crate::cli::error::CliError;
use crate::cli::output;
use crate::shell::http::model::Latest;

#[derive(Args)]
pub struct LatestArgs {
    /// Ask the leader, and have a quorum confirm that nothing newer is committed (rule C10)
    #[arg(long)]
    linearizable: bool,
    #[command(flatten)]
    group: Group,
}

pub async fn run(cx: &Context, args: LatestArgs) -> Result<(), CliError> {
    let path = format!("/v1/checkpoints/latest?linearizable={}{}", args.linearizable, args.group.query('&'));
    let latest: Latest = args.group.client(cx).await?.command(Method::GET, &path, None::<&()>, PATIENCE).await?;
    let rows = latest.checkpoint.as_slice();
    output::print(cx.format, &latest, rows, || ls::rows(rows))
}
