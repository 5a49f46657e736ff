//! `sensorctl cluster list`.

use clap::Args;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::cluster::process;
use crate::cli::error::CliError;
use crate::cli::output::{self, Column, Rows, number, text};

#[derive(Args)]
pub struct ListArgs {}

#[derive(Serialize)]
struct Listed {
    schema: &'static str,
    clusters: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    current: bool,
    nodes: usize,
    running: usize,
    api: String,
    data: String,
}

pub fn run(cx: &Context, _: ListArgs) -> Result<(), CliError> {
    let current = cx.home.contexts()?.current;
    let mut clusters = Vec::new();
    for name in cx.home.clusters() {
        let cluster = cx.home.cluster(&name)?;
        let first = cluster.nodes.first();
        clusters.push(Row {
            current: current.as_deref() == Some(&name),
            nodes: cluster.nodes.len(),
            running: process::running(&cluster).len(),
            api: first.map(|node| node.api.clone()).unwrap_or_default(),
            data: first.and_then(|node| node.dir.parent()).map(|dir| dir.display().to_string()).unwrap_or_default(),
            name,
        });
    }
    let listed = Listed { schema: "sensorctl/cluster-list/v1", clusters };
    const COLUMNS: &[Column] =
        &[text("current"), text("name"), number("nodes"), number("running"), text("api"), text("data").wide()];
    output::print(cx.format, &listed, &listed.clusters, || {
        let mut rows = Rows::new(COLUMNS);
        for row in &listed.clusters {
            let current = if row.current { "*" } else { "" };
            let (nodes, running) = (row.nodes.to_string(), row.running.to_string());
            rows.push(vec![current.into(), row.name.clone(), nodes, running, row.api.clone(), row.data.clone()]);
        }
        rows
    })?;
    if listed.clusters.is_empty() && cx.format.is_for_people() {
        eprintln!("no cluster on this machine; `sensorctl cluster start` starts one");
    }
    Ok(())
}
