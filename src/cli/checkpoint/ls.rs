//! `sensorctl checkpoint ls`.

use clap::Args;

use crate::cli::Context;
use crate::cli::checkpoint::{Group, PATIENCE, taken_at};
use crate::cli::error::CliError;
use crate::cli::output::{self, Column, Rows, number, or_dash, text};
use crate::shell::http::model::{CheckpointRow, Checkpoints};

#[derive(Args)]
pub struct LsArgs {
    /// At most this many
    #[arg(long, default_value_t = 20)]
    limit: u64,
    /// Begin at this index instead of the newest
    #[arg(long, value_name = "INDEX")]
    to: Option<u64>,
    #[command(flatten)]
    group: Group,
}

pub async fn run(cx: &Context, args: LsArgs) -> Result<(), CliError> {
    let to = args.to.map(|to| format!("&to={to}")).unwrap_or_default();
    let path = format!("/v1/checkpoints?limit={}{to}{}", args.limit, args.group.query('&'));
    let found: Checkpoints = args.group.client(cx).await?.get(&path, PATIENCE).await?;
    output::print(cx.format, &found, &found.checkpoints, || rows(&found.checkpoints))
}

const COLUMNS: &[Column] = &[
    number("index"),
    text("hash"),
    text("taken at"),
    text("proposer"),
    number("readings"),
    text("kept"),
    text("group").wide(),
    text("parent").wide(),
];

pub fn rows(checkpoints: &[CheckpointRow]) -> Rows {
    let mut rows = Rows::new(COLUMNS);
    for row in checkpoints {
        rows.push(vec![
            row.index.to_string(),
            row.hash[..12].to_owned(),
            taken_at(row.index, &row.taken_at),
            row.proposer.clone(),
            row.readings.to_string(),
            if row.body_held { "yes".into() } else { "no".into() },
            row.group.clone(),
            or_dash(row.parent.clone()),
        ]);
    }
    rows
}
