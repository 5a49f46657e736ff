//! `sensorctl cluster kill`, `restart`, `add-node` and `remove-node`.

use std::process::Child;
use std::time::Duration;

use clap::Args;
use reqwest::Method;

use crate::cli::Context;
use crate::cli::client::{Client, Target};
use crate::cli::cluster::{Named, process, start};
use crate::cli::error::{CliError, Kind};
use crate::cli::home::{LocalCluster, LocalNode};
use crate::cli::output::duration_ms;
use crate::shell::clock::Clock;
use crate::shell::config::ClusterConfig;

/// How long a started node may take to answer.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long a change of voters may take.
const VOTERS_PATIENCE: Duration = Duration::from_secs(65);

#[derive(Args)]
pub struct KillArgs {
    /// The node
    node_id: String,
    #[command(flatten)]
    named: Named,
}

#[derive(Args)]
pub struct RestartArgs {
    /// The node
    node_id: String,
    /// A setting for this run alone
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    named: Named,
}

#[derive(Args)]
pub struct AddArgs {
    /// Its region; the first node's without one
    #[arg(long)]
    region: Option<String>,
    #[command(flatten)]
    named: Named,
}

#[derive(Args)]
pub struct RemoveArgs {
    /// The node
    node_id: String,
    #[command(flatten)]
    named: Named,
}

pub async fn kill(cx: &Context, args: KillArgs) -> Result<(), CliError> {
    let cluster = cx.home.cluster(&cx.home.meant(args.named.name.as_deref())?)?;
    let node = cluster.node(&args.node_id)?;
    if cluster.in_process {
        return Err(CliError::usage("all nodes of this cluster run in one process; one alone cannot be killed"));
    }
    if !process::signal(node, libc::SIGKILL) {
        return Err(CliError::failed(format!("{} does not run", node.id))
            .hint(format!("`sensorctl cluster restart {}` starts it", node.id)));
    }
    process::ended(&[node], Duration::from_secs(5)).await;
    eprintln!("{} is killed; `sensorctl cluster restart {}` brings it back", node.id, node.id);
    Ok(())
}

pub async fn restart(cx: &Context, args: RestartArgs) -> Result<(), CliError> {
    let cluster = cx.home.cluster(&cx.home.meant(args.named.name.as_deref())?)?;
    let node = cluster.node(&args.node_id)?;
    if cluster.in_process {
        return Err(CliError::usage("all nodes of this cluster run in one process; one alone cannot be restarted"));
    }
    process::stop(&[node]).await;
    let began = Clock::default().now().mono;
    run_node(node, &args.set).await?;
    let took = Clock::default().now().mono.since(began);
    eprintln!("{} runs and answers after {}", node.id, duration_ms(took.as_millis() as u64));
    Ok(())
}

/// Starts a node's process and waits until it answers.
pub async fn run_node(node: &LocalNode, set: &[String]) -> Result<Child, CliError> {
    let mut child = process::spawn(node, set)?;
    let client = Client::new(Target { addrs: vec![node.api.clone()], cluster: None });
    let answer = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            if let Ok(Some(status)) = child.try_wait() {
                let log = process::tail(&node.log_file(), 5);
                return Err(CliError::failed(format!("{} ended with {status}; its log ends:\n{log}", node.id)));
            }
            if client.get_bytes("/livez", Duration::from_secs(1)).await.is_ok() {
                return Ok(());
            }
        }
    };
    let in_time = tokio::time::timeout(START_PATIENCE, answer).await;
    in_time.unwrap_or_else(|_| Err(CliError::unreachable(format!("{} runs but does not answer", node.id))))?;
    Ok(child)
}

fn config_of(cluster: &LocalCluster) -> Result<ClusterConfig, CliError> {
    ClusterConfig::parse(&cluster.config, &format!("cluster {}", cluster.name))
        .map_err(|error| CliError::new(Kind::Config, error.to_string()))
}

fn must_run_as_processes(cluster: &LocalCluster) -> Result<(), CliError> {
    let name = &cluster.name;
    if cluster.in_process {
        return Err(CliError::usage(format!(
            "all nodes of cluster {name} run in one process: none can come or go alone"
        )));
    }
    match process::running(cluster).is_empty() {
        true => Err(CliError::failed(format!("cluster {name} does not run"))
            .hint(format!("`sensorctl cluster start --name {name}` starts it"))),
        false => Ok(()),
    }
}

pub async fn add(cx: &Context, args: AddArgs) -> Result<(), CliError> {
    let mut cluster = cx.home.cluster(&cx.home.meant(args.named.name.as_deref())?)?;
    must_run_as_processes(&cluster)?;
    let node = add_one(cx, &mut cluster, args.region.as_deref()).await?;
    eprintln!(
        "{} runs: API http://{}, peers {}; it observes until the leader needs another voter",
        node.id, node.api, node.listen
    );
    Ok(())
}

/// Adds a node, starts it and writes it down.
pub async fn add_one(cx: &Context, cluster: &mut LocalCluster, region: Option<&str>) -> Result<LocalNode, CliError> {
    let mut config = config_of(cluster)?;
    let place = config.add_node(region);
    let root = cluster.nodes[0].dir.parent().and_then(|nodes| nodes.parent()).map(std::path::Path::to_owned);
    let root = root.ok_or_else(|| CliError::failed("the cluster's directory has no parent"))?;
    let node = start::local_node(&config, place, &root);
    start::write_node(&config, place, &node)?;
    run_node(&node, &[]).await?;
    cluster.config = config.to_toml();
    cluster.nodes.push(node.clone());
    cx.home.save_cluster(cluster)?;
    Ok(node)
}

pub async fn remove(cx: &Context, args: RemoveArgs) -> Result<(), CliError> {
    let mut cluster = cx.home.cluster(&cx.home.meant(args.named.name.as_deref())?)?;
    let node = cluster.node(&args.node_id)?.clone();
    must_run_as_processes(&cluster)?;
    let addrs: Vec<String> = process::running(&cluster).iter().map(|(node, _)| node.api.clone()).collect();
    let client = Client::new(Target { addrs, cluster: Some(cluster.name.clone()) });
    let path = format!("/v1/voters/{}", node.id);
    let _: serde_json::Value = client.command(Method::DELETE, &path, None::<&()>, VOTERS_PATIENCE).await?;
    eprintln!("{} is not among the voters (any more)", node.id);
    process::stop(&[&node]).await;
    let others = process::running(&cluster).iter().map(|(node, _)| node.api.clone()).collect();
    let client = Client::new(Target { addrs: others, cluster: Some(cluster.name.clone()) });
    let path = format!("/v1/forget/{}", node.id);
    // It has just left; those who have not heard of it yet still take it for alive.
    let forget = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            let asked = client.command::<serde_json::Value>(Method::POST, &path, None::<&()>, START_PATIENCE).await;
            match asked {
                Err(error) if error.message.contains("is alive") => {}
                other => return other,
            }
        }
    };
    match tokio::time::timeout(START_PATIENCE, forget).await {
        Ok(Ok(_)) => eprintln!("{} is stopped and forgotten; its data stays in {}", node.id, node.dir.display()),
        Ok(Err(error)) => return Err(error),
        Err(_) => return Err(CliError::unreachable(format!("{} is stopped, but still taken for alive", node.id))),
    }
    let mut config = config_of(&cluster)?;
    let (listens, apis): (Vec<_>, Vec<_>) = (0..config.nodes.len()).map(|i| (config.listen(i), config.api(i))).unzip();
    for (i, other) in config.nodes.iter_mut().enumerate() {
        other.listen = Some(listens[i].clone());
        other.api = Some(apis[i].clone());
    }
    config.nodes.retain(|other| other.id != node.id);
    cluster.config = config.to_toml();
    cluster.nodes.retain(|other| other.id != node.id);
    cx.home.save_cluster(&cluster)
}
