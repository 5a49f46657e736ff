//! `sensorctl leader`: who leads.

use clap::Args;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::error::{CliError, Kind};
use crate::cli::output::{self, Column, Rows, number, or_dash, text};
use crate::cli::status;

#[derive(Args)]
pub struct LeaderArgs {}

#[derive(Serialize)]
struct Leader {
    schema: &'static str,
    leader: Option<String>,
    term: u64,
    api: Option<String>,
}

pub async fn run(cx: &Context, _: LeaderArgs) -> Result<(), CliError> {
    let status = status::ask(&cx.client()?).await?;
    let api =
        status.nodes.iter().find(|node| Some(&node.id) == status.leader.as_ref()).and_then(|node| node.api.clone());
    let leader = Leader { schema: "sensorctl/leader/v1", leader: status.leader, term: status.term, api };
    const COLUMNS: &[Column] = &[text("leader"), number("term"), text("api at")];
    output::print(cx.format, &leader, std::slice::from_ref(&leader), || {
        let mut rows = Rows::new(COLUMNS);
        rows.push(vec![or_dash(leader.leader.clone()), leader.term.to_string(), or_dash(leader.api.clone())]);
        rows
    })?;
    if leader.leader.is_none() { Err(CliError::new(Kind::Unhealthy, "no leader stands")) } else { Ok(()) }
}
