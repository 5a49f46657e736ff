//! `sensorctl cluster status`: processes first, then what the nodes say.

use clap::Args;

use crate::cli::Context;
use crate::cli::client::{Client, Target};
use crate::cli::cluster::{Named, process};
use crate::cli::error::{CliError, Kind};
use crate::cli::status;
use crate::shell::http::model::NodeStatus;

#[derive(Args)]
pub struct StatusArgs {
    #[command(flatten)]
    named: Named,
}

pub async fn run(cx: &Context, args: StatusArgs) -> Result<(), CliError> {
    let name = cx.home.meant(args.named.name.as_deref())?;
    let cluster = cx.home.cluster(&name)?;
    let running = process::running(&cluster);
    if running.is_empty() {
        return Err(CliError::unreachable(format!("cluster {name}: none of its {} nodes runs", cluster.nodes.len()))
            .hint(format!("`sensorctl cluster start --name {name}` goes on where it was")));
    }
    let addrs = running.iter().map(|(node, _)| node.api.clone()).collect();
    let client = Client::new(Target { addrs, cluster: Some(name.clone()) });
    let mut status = status::ask(&client).await?;
    for node in &cluster.nodes {
        let pid = running.iter().find(|(running, _)| running.id == node.id).map(|(_, pid)| *pid);
        match status.nodes.iter_mut().find(|known| known.id == node.id) {
            Some(known) => known.pid = pid,
            // Never heard of: it died before it said a word.
            None => status.nodes.push(NodeStatus {
                id: node.id.clone(),
                region: node.region.clone(),
                liveness: if pid.is_some() { "alive".into() } else { "dead".into() },
                pid,
                addr: node.listen.clone(),
                api: Some(node.api.clone()),
                ..NodeStatus::default()
            }),
        }
        if pid.is_none() {
            status.reasons.push(format!(
                "{}: its process does not run; `sensorctl cluster restart {}` starts it",
                node.id, node.id
            ));
        }
    }
    status.healthy = status.reasons.is_empty();
    status::print(cx.format, &status)?;
    if status.healthy { Ok(()) } else { Err(CliError::silent(Kind::Unhealthy)) }
}
