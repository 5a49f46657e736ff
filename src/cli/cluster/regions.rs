//! `sensorctl cluster grow`, `add-region` and `remove-region`: regions of a running cluster.

use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde_json::json;

use crate::cli::client::{Client, Target};
use crate::cli::cluster::{Named, nodes, process};
use crate::cli::error::CliError;
use crate::cli::home::{LocalCluster, LocalNode};
use crate::cli::{Context, status};

/// How long a document of the top or of a region may take to be committed, elections included.
const COMMIT_PATIENCE: Duration = Duration::from_secs(65);
/// How long new nodes may take to be known to everybody.
const JOIN_PATIENCE: Duration = Duration::from_secs(60);

#[derive(Args)]
pub struct GrowArgs {
    #[command(flatten)]
    named: Named,
}

#[derive(Args)]
pub struct AddRegionArgs {
    /// Its name, never used before
    region: String,
    /// Its nodes; the first three of them vote from the beginning
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    nodes: u16,
    #[command(flatten)]
    named: Named,
}

#[derive(Args)]
pub struct RemoveRegionArgs {
    /// Its name
    region: String,
    #[command(flatten)]
    named: Named,
}

fn client(cluster: &LocalCluster) -> Result<Client, CliError> {
    let addrs: Vec<String> = process::running(cluster).iter().map(|(node, _)| node.api.clone()).collect();
    if cluster.in_process || addrs.is_empty() {
        return Err(CliError::failed(format!("cluster {} does not run as processes", cluster.name)));
    }
    Ok(Client::new(Target { addrs, cluster: Some(cluster.name.clone()) }))
}

pub async fn grow(cx: &Context, args: GrowArgs) -> Result<(), CliError> {
    let cluster = cx.home.cluster(&cx.home.meant(args.named.name.as_deref())?)?;
    let client = client(&cluster)?;
    let _: serde_json::Value = client.command(Method::POST, "/v1/grow", None::<&()>, COMMIT_PATIENCE).await?;
    eprintln!("cluster {} has a top level; `sensorctl cluster add-region NAME` adds a region", cluster.name);
    Ok(())
}

pub async fn add(cx: &Context, args: AddRegionArgs) -> Result<(), CliError> {
    let mut cluster = cx.home.cluster(&cx.home.meant(args.named.name.as_deref())?)?;
    let client = client(&cluster)?;
    let known = status::ask(&client).await?;
    if known.mode != "hierarchical" {
        return Err(CliError::failed(format!("cluster {} is flat", cluster.name))
            .hint("`sensorctl cluster grow` gives it a top level first"));
    }
    if known.regions.iter().any(|region| region.id == args.region) {
        return Err(CliError::failed(format!("region {} exists", args.region)));
    }
    let mut there: Vec<String> =
        cluster.nodes.iter().filter(|node| node.region == args.region).map(|node| node.id.clone()).collect();
    // A second attempt goes on with the nodes of the first.
    while there.len() < usize::from(args.nodes) {
        let node = nodes::add_one(cx, &mut cluster, Some(&args.region)).await?;
        there.push(node.id);
    }
    let alive = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            let Ok(seen) = status::ask(&client).await else { continue };
            let up = |id: &String| seen.nodes.iter().any(|node| node.id == *id && node.liveness == "alive");
            if there.iter().all(up) {
                return;
            }
        }
    };
    tokio::time::timeout(JOIN_PATIENCE, alive)
        .await
        .map_err(|_| CliError::unreachable(format!("the nodes of {} are not all known yet; try again", args.region)))?;
    let voters: Vec<&String> = there.iter().take(if there.len() < 3 { 1 } else { 3 }).collect();
    let path = format!("/v1/regions/{}", args.region);
    let body = json!({ "voters": voters });
    let _: serde_json::Value = client.command(Method::POST, &path, Some(&body), COMMIT_PATIENCE).await?;
    eprintln!("region {} is part of cluster {}: {}", args.region, cluster.name, there.join(", "));
    Ok(())
}

pub async fn remove(cx: &Context, args: RemoveRegionArgs) -> Result<(), CliError> {
    let cluster = cx.home.cluster(&cx.home.meant(args.named.name.as_deref())?)?;
    let path = format!("/v1/regions/{}", args.region);
    let client = client(&cluster)?;
    let _: serde_json::Value = client.command(Method::DELETE, &path, None::<&()>, COMMIT_PATIENCE).await?;
    eprintln!("region {} takes part no more", args.region);
    let nodes: Vec<&LocalNode> = cluster.nodes.iter().filter(|node| node.region == args.region).collect();
    process::stop(&nodes).await;
    eprintln!("its {} nodes are stopped; their data stays", nodes.len());
    Ok(())
}
