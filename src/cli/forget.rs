//! `sensorctl forget`: drop a departed node's readings everywhere.

use std::time::Duration;

use clap::Args;
use reqwest::Method;

use crate::cli::Context;
use crate::cli::error::CliError;

const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Args)]
pub struct ForgetArgs {
    /// The departed node
    node_id: String,
}

pub async fn run(cx: &Context, args: ForgetArgs) -> Result<(), CliError> {
    let path = format!("/v1/forget/{}", args.node_id);
    let _: serde_json::Value = cx.client()?.command(Method::POST, &path, None::<&()>, PATIENCE).await?;
    eprintln!("{} is being forgotten everywhere; what it wrote before now is refused from here on", args.node_id);
    Ok(())
}
