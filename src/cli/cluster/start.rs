//! `sensorctl cluster start`: from nothing to a healthy cluster, shown while it lives.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::Context;
use crate::cli::bench::host::allow_files;
use crate::cli::client::{Client, Target};
use crate::cli::cluster::process;
use crate::cli::error::{CliError, Kind};
use crate::cli::home::{LocalCluster, LocalNode, ProcessRef, write_json};
use crate::cli::node::terminated;
use crate::cli::output::duration_ms;
use crate::cli::status;
use crate::core::id::RegionId;
use crate::core::params::CROWD;
use crate::core::view::{Liveness, MemberView, View};
use crate::shell::config::{ClusterConfig, NodeConfig, Overrides, SourceConfig};
use crate::shell::gateway::{Gateway, Together};
use crate::shell::http::model::Status;
use crate::shell::storage::Depth;
use crate::shell::telemetry::{self, LogFormat};
use crate::shell::transport::MemoryNet;

/// How long a cluster may take to become healthy.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Files of a node that shares its process with its peers, so that no link is a socket: its store, two listeners, and
/// clients.
const FILES_PER_NODE: u64 = 8;
/// Time between looks while it starts, and while it runs.
const START_LOOK: Duration = Duration::from_millis(50);
const LIVE_LOOK: Duration = Duration::from_secs(1);

#[derive(Args)]
pub struct StartArgs {
    /// The cluster's configuration; three nodes in one region without one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["nodes", "regions"])]
    config: Option<PathBuf>,
    /// Its name, under which its data outlives it
    #[arg(long)]
    name: Option<String>,
    /// Nodes in each region
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    nodes: Option<u16>,
    /// Regions, for hierarchical mode
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u16).range(1..=100))]
    regions: Option<u16>,
    /// Run all nodes in this one process, linked in memory; they end with it, so that there is nothing to --detach. More
    /// than a hundred do not sync their writes
    #[arg(long)]
    in_process: bool,
    /// Return once the cluster is healthy and leave it running, in processes of its own (not with --in-process)
    #[arg(long)]
    detach: bool,
    /// Where ports begin: peers from one above, APIs a hundred above those
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u16).range(1024..=60000))]
    base_port: Option<u16>,
    /// Where data, configuration and logs are kept
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

pub fn run(cx: &Context, args: StartArgs) -> Result<(), CliError> {
    check(&args)?;
    let config = as_it_has_become(cx, configuration(cx, &args)?)?;
    let cluster = prepare(cx, &config, &args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(async {
        if args.in_process { in_process(&cluster, &config).await } else { processes(&cluster, args.detach).await }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

fn check(args: &StartArgs) -> Result<(), CliError> {
    if args.in_process && args.detach {
        let why = "--detach leaves processes behind, and with --in-process there is none but this one";
        return Err(CliError::usage(why).hint(
            "leave out --in-process; or leave out --detach, let the shell run it in the background (`… --in-process &`), \
             and wait with `sensorctl wait`",
        ));
    }
    Ok(())
}

/// The configuration of the cluster that was made from the one asked for, with the nodes that have come and gone since.
fn as_it_has_become(cx: &Context, asked: ClusterConfig) -> Result<ClusterConfig, CliError> {
    if !cx.home.clusters().contains(&asked.name) {
        return Ok(asked);
    }
    let known = cx.home.cluster(&asked.name)?;
    match known.made_from == asked.to_toml() {
        true => ClusterConfig::parse(&known.config, &format!("cluster {}", known.name))
            .map_err(|error| CliError::new(Kind::Config, error.to_string())),
        false => Ok(asked),
    }
}

/// What is asked for: a file, a shape, a cluster that exists, or the default.
fn configuration(cx: &Context, args: &StartArgs) -> Result<ClusterConfig, CliError> {
    let wrong = |error: crate::shell::config::ConfigError| CliError::new(Kind::Config, error.to_string());
    let shaped = args.nodes.is_some() || args.regions.is_some();
    let mut config = match (&args.config, &args.name) {
        (Some(path), _) => ClusterConfig::load(path).map_err(wrong)?,
        (None, _) if shaped => shape(args.nodes, args.regions),
        (None, Some(name)) if cx.home.clusters().contains(name) => {
            let known = cx.home.cluster(name)?;
            ClusterConfig::parse(&known.config, &format!("cluster {name}")).map_err(wrong)?
        }
        (None, _) => {
            ClusterConfig::parse(include_str!("../../../configs/flat-3.toml"), "configs/flat-3.toml").map_err(wrong)?
        }
    };
    if let Some(name) = &args.name {
        config.name.clone_from(name);
    }
    if let Some(port) = args.base_port {
        config.base_port = port;
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if config.name.is_empty() || config.name.starts_with('.') || !config.name.chars().all(plain) {
        return Err(
            CliError::usage(format!("{:?} cannot be a cluster's name", config.name)).hint("use letters, digits, - _ .")
        );
    }
    Ok(config)
}

fn shape(nodes: Option<u16>, regions: Option<u16>) -> ClusterConfig {
    let each = usize::from(nodes.unwrap_or(3));
    match regions {
        None | Some(1) => ClusterConfig::flat(&format!("flat-{each}"), each),
        Some(regions) => {
            let names: Vec<String> = (1..=regions).map(|i| format!("region-{i}")).collect();
            ClusterConfig::regions(&format!("regions-{regions}x{each}"), &names, each)
        }
    }
}

/// Recordings that are to be replayed exist: one that does not would leave its node without readings for ever.
fn recordings_are_there(config: &ClusterConfig) -> Result<(), CliError> {
    for node in &config.nodes {
        for source in &node.sources {
            if let SourceConfig::Replay(replay) = source
                && let Err(why) = replay.locate()
            {
                return Err(CliError::failed(format!("{}: source {}: {why}", node.id, replay.name)));
            }
        }
    }
    Ok(())
}

/// Writes the cluster down, after making sure that nothing stands in its way.
fn prepare(cx: &Context, config: &ClusterConfig, args: &StartArgs) -> Result<LocalCluster, CliError> {
    let name = &config.name;
    let text = config.to_toml();
    let mut made_from = text.clone();
    if cx.home.clusters().contains(name) {
        let known = cx.home.cluster(name)?;
        made_from.clone_from(&known.made_from);
        let running = process::running(&known);
        if !running.is_empty() {
            let list: Vec<String> = running.iter().map(|(node, pid)| format!("{} (pid {pid})", node.id)).collect();
            return Err(CliError::failed(format!("cluster {name} is running already: {}", list.join(", "))).hint(format!(
                "`sensorctl cluster status --name {name}` shows it, `cluster stop --name {name}` stops it; or choose another --name and --base-port"
            )));
        }
        if known.config != text {
            return Err(CliError::failed(format!("cluster {name} exists, made from another configuration")).hint(format!(
                "start it as it was with `cluster start --name {name}`, delete it with `cluster destroy --name {name}`, or choose another --name"
            )));
        }
    }
    let root = args.data_dir.clone().unwrap_or_else(|| cx.home.cluster_dir(name));
    let root = std::path::absolute(root)?;
    let nodes = (0..config.nodes.len()).map(|i| local_node(config, i, &root)).collect();
    let cluster = LocalCluster { name: name.clone(), nodes, in_process: args.in_process, config: text, made_from };
    ports_are_free(&cluster)?;
    recordings_are_there(config)?;
    for (i, node) in cluster.nodes.iter().enumerate() {
        write_node(config, i, node)?;
    }
    cx.home.save_cluster(&cluster)?;
    cx.home.make_current(name)?;
    Ok(cluster)
}

/// Where a node of a cluster lives.
pub fn local_node(config: &ClusterConfig, i: usize, root: &Path) -> LocalNode {
    let node = &config.nodes[i];
    LocalNode {
        id: node.id.clone(),
        region: node.region.clone(),
        listen: config.listen(i),
        api: config.api(i),
        namespace: node.namespace.clone(),
        dir: root.join("nodes").join(&node.id),
    }
}

/// Writes a node's configuration into its directory.
pub fn write_node(config: &ClusterConfig, i: usize, node: &LocalNode) -> Result<(), CliError> {
    let failed = |error: std::io::Error| CliError::because(format!("cannot write {}", node.dir.display()), &error);
    std::fs::create_dir_all(&node.dir).map_err(failed)?;
    std::fs::write(node.config_file(), config.node_toml(i, &node.dir.join("data"))).map_err(failed)
}

/// Says which port is taken before anything is started.
fn ports_are_free(cluster: &LocalCluster) -> Result<(), CliError> {
    // What is free in another namespace cannot be seen from here.
    for node in cluster.nodes.iter().filter(|node| node.namespace.is_none()) {
        for (what, addr) in [("peer", &node.listen), ("API", &node.api)] {
            if let Err(error) = TcpListener::bind(addr) {
                return Err(CliError::failed(format!("{what} address {addr} of {} cannot be had: {error}", node.id))
                    .hint("`sensorctl cluster list` shows clusters that may hold it; `--base-port` moves this one"));
            }
        }
    }
    Ok(())
}

fn client(cluster: &LocalCluster) -> Client {
    let addrs = cluster.nodes.iter().map(|node| node.api.clone()).collect();
    Client::new(Target { addrs, cluster: Some(cluster.name.clone()) })
}

async fn processes(cluster: &LocalCluster, detach: bool) -> Result<(), CliError> {
    let mut children = Vec::new();
    for node in &cluster.nodes {
        children.push(process::spawn(node, &[])?);
    }
    let nodes: Vec<&LocalNode> = cluster.nodes.iter().collect();
    let mut dead = move || {
        let ended = children.iter_mut().zip(&cluster.nodes);
        ended
            .filter_map(|(child, node)| Some((node, child.try_wait().ok()??)))
            .map(|(node, status)| {
                let log = process::tail(&node.log_file(), 5);
                format!("{} ended with {status}; its log ends:\n{log}", node.id)
            })
            .next()
    };
    let started = tokio::select! {
        started = healthy(cluster, &mut dead) => started,
        () = terminated() => Err(CliError::silent(Kind::Interrupted)),
    };
    let started = match started {
        Ok(status) => status,
        Err(error) => {
            process::stop(&nodes).await;
            return Err(error);
        }
    };
    welcome(cluster, &started)?;
    if detach {
        return Ok(());
    }
    live(cluster).await;
    eprintln!("stopping {} nodes; Ctrl-C again kills them", nodes.len());
    tokio::select! {
        killed = process::stop(&nodes) => {
            if !killed.is_empty() {
                eprintln!("did not leave in time and were killed: {}", killed.join(", "));
            }
        }
        () = terminated() => {
            for node in &nodes {
                process::signal(node, libc::SIGKILL);
            }
            process::ended(&nodes, Duration::from_secs(5)).await;
        }
    }
    eprintln!("stopped; `sensorctl cluster start --name {}` goes on where it was", cluster.name);
    Ok(())
}

async fn in_process(cluster: &LocalCluster, config: &ClusterConfig) -> Result<(), CliError> {
    telemetry::init("warn", LogFormat::Text).map_err(CliError::failed)?;
    allow_files(FILES_PER_NODE * cluster.nodes.len() as u64 + 256)?;
    let crowded = cluster.nodes.len() > CROWD;
    let depth = if crowded { Depth::System } else { Depth::Disk };
    let together = Together { net: MemoryNet::beside_tcp(), depth };
    if crowded {
        eprintln!(
            "{} nodes share this machine's disk: their writes go to the operating system and are not synced, so that they \
             survive this process, but no loss of power",
            cluster.nodes.len()
        );
    }
    let mut gateways = tokio::select! {
        gateways = gateways(cluster, config, &together) => gateways?,
        () = terminated() => return Err(CliError::silent(Kind::Interrupted)),
    };
    let mut nobody_dies_alone = || None;
    let status = tokio::select! {
        status = healthy(cluster, &mut nobody_dies_alone) => status?,
        () = terminated() => return Err(CliError::silent(Kind::Interrupted)),
    };
    welcome(cluster, &status)?;
    live(cluster).await;
    for gateway in &gateways {
        gateway.node.leave().await;
    }
    for gateway in &mut gateways {
        let _ = gateway.run().await;
    }
    for node in &cluster.nodes {
        let _ = std::fs::remove_file(node.pid_file());
    }
    Ok(())
}

/// Starts all nodes within this process: first the voters, who found the cluster, then the others by a crowd at a time.
async fn gateways(
    cluster: &LocalCluster,
    config: &ClusterConfig,
    together: &Together,
) -> Result<Vec<Gateway>, CliError> {
    let mut gateways: Vec<Gateway> = Vec::new();
    let (voters, others): (Vec<usize>, Vec<usize>) = (0..cluster.nodes.len()).partition(|i| config.nodes[*i].voter);
    let bar = ProgressBar::new(cluster.nodes.len() as u64);
    bar.set_style(
        ProgressStyle::with_template("{bar:30.green} starting nodes, {pos} of {len}").expect("the template is valid"),
    );
    for (nth, i) in voters.iter().chain(&others).copied().enumerate() {
        let joined = nth.checked_sub(voters.len()).filter(|_| cluster.nodes.len() > CROWD);
        if joined.is_some_and(|joined| joined.is_multiple_of(CROWD)) {
            acquainted(&gateways).await;
        }
        bar.set_position(nth as u64);
        let node = &cluster.nodes[i];
        let text = config.node_toml(i, &node.dir.join("data"));
        let parsed = NodeConfig::parse(&text, &node.id, &Overrides::default());
        let parsed = parsed.map_err(|error| CliError::new(Kind::Config, error.to_string()))?;
        let started = Gateway::start(parsed, Some(together)).await;
        gateways.push(started.map_err(|error| CliError::failed(crate::cli::error::chain(&error)))?);
        let pid = std::process::id();
        let began = crate::cli::cluster::process::start_time(pid).unwrap_or_default();
        write_json(&node.pid_file(), &ProcessRef { pid, started: began })?;
    }
    bar.finish_and_clear();
    Ok(gateways)
}

/// Waits until each of these knows all others of its region, and a checkpoint; not for ever, for some may have no peers
/// that are up yet.
async fn acquainted(gateways: &[Gateway]) {
    let mut regions: BTreeMap<&RegionId, usize> = BTreeMap::new();
    for gateway in gateways {
        *regions.entry(&gateway.node.params().region).or_default() += 1;
    }
    let look = async {
        // A look costs a node time that grows with its members.
        let mut looks = tokio::time::interval(Duration::from_millis(10 + gateways.len() as u64 / 5));
        for gateway in gateways {
            let region = &gateway.node.params().region;
            let known = |view: &View| {
                let alive = |member: &&MemberView| member.region == *region && member.liveness == Liveness::Alive;
                view.members.iter().filter(alive).count() >= regions[region] && view.group.checkpoint.is_some()
            };
            while gateway.node.view().await.is_ok_and(|view| !known(&view)) {
                looks.tick().await;
            }
        }
    };
    let _ = tokio::time::timeout(START_PATIENCE, look).await;
}

/// Waits until a leader stands and the first checkpoint is committed, showing how far it has come.
async fn healthy(cluster: &LocalCluster, dead: &mut impl FnMut() -> Option<String>) -> Result<Status, CliError> {
    let nodes = cluster.nodes.len() as u64;
    let bar = ProgressBar::new(nodes + 2);
    bar.set_style(ProgressStyle::with_template("{bar:30.green} {msg}").expect("the template is valid"));
    let client = client(cluster);
    let mut last = "no node answers yet".to_owned();
    let look = async {
        let mut ticks = tokio::time::interval(START_LOOK + Duration::from_millis(nodes));
        loop {
            ticks.tick().await;
            if let Some(why) = dead() {
                return Err(CliError::failed(why));
            }
            let Ok(status) = status::ask(&client).await else {
                bar.set_message("starting nodes");
                continue;
            };
            let alive = alive_of(&status);
            let committed = status.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.index >= 1);
            bar.set_position(alive + u64::from(status.leader.is_some()) + u64::from(committed));
            bar.set_message(match (&status.leader, committed) {
                (None, _) => format!("{alive} of {nodes} nodes up, electing a leader"),
                (Some(leader), false) => format!("{leader} leads, committing the first checkpoint"),
                (Some(_), true) => "waiting until nothing is wrong".to_owned(),
            });
            last = status.reasons.join("; ");
            if status.healthy && committed && alive == nodes {
                return Ok(status);
            }
        }
    };
    let patience = START_PATIENCE + Duration::from_millis(200) * cluster.nodes.len() as u32;
    let outcome = tokio::time::timeout(patience, look).await;
    bar.finish_and_clear();
    outcome.unwrap_or_else(|_| {
        Err(CliError::unreachable(format!(
            "cluster {} is not healthy after {} s: {last}",
            cluster.name,
            patience.as_secs()
        ))
        .hint(format!("logs are in {}", cluster.nodes[0].dir.parent().unwrap_or(Path::new(".")).display())))
    })
}

/// Live nodes: a node knows those of other regions by their leaders' word where what they say stays there, and some may be
/// of a region that is not in the agreement.
fn alive_of(status: &Status) -> u64 {
    let agreed = |id: &str| status.regions.iter().any(|region| region.id == id);
    let others = status.nodes.iter().filter(|node| node.liveness == "alive" && !agreed(&node.region)).count() as u64;
    status.regions.iter().map(|region| region.alive).sum::<u64>() + others
}

/// What stands now, and what to try next.
fn welcome(cluster: &LocalCluster, status: &Status) -> Result<(), CliError> {
    let mut out = anstream::stdout().lock();
    let leader = status.leader.as_deref().unwrap_or("nobody");
    let index = status.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.index);
    let hierarchical = status.mode == "hierarchical";
    let what = if hierarchical { "top-level leader" } else { "leader" };
    writeln!(
        out,
        "cluster \x1b[1m{}\x1b[0m is healthy: {} nodes{}, {what} \x1b[1m{leader}\x1b[0m in term {}, checkpoint {index} committed",
        cluster.name,
        cluster.nodes.len(),
        if hierarchical { format!(" in {} regions", status.regions.len()) } else { String::new() },
        status.term
    )?;
    for node in cluster.nodes.iter().take(10) {
        writeln!(out, "  {:<8} API http://{}  peers {}", node.id, node.api, node.listen)?;
    }
    if cluster.nodes.len() > 10 {
        writeln!(out, "  … and {} more", cluster.nodes.len() - 10)?;
    }
    writeln!(out, "try, in another terminal:")?;
    let program =
        std::env::args().next().filter(|name| !name.contains("target/")).unwrap_or_else(|| "sensorctl".into());
    let next = [
        ("status", "who is there, and is anything wrong"),
        ("get", "the latest readings of all"),
        ("watch '*:temp'", "temperatures as they change"),
        ("put lobby/temp 21.5 --unit °C", "write one"),
        ("checkpoint verify", "recompute the whole ledger"),
    ];
    let program = Path::new(&program).file_name().map_or(program.clone(), |name| name.to_string_lossy().into_owned());
    for (verb, what) in next {
        writeln!(out, "  {:<44} {what}", format!("{program} {verb}"))?;
    }
    // Nodes of one process live and die together.
    let (last, what) = match cluster.in_process {
        true => (format!("{program} leader"), "who leads, and since which term"),
        false => (format!("{program} cluster kill {leader}"), "kill the leader, and see another take over"),
    };
    writeln!(out, "  {last:<44} {what}")?;
    Ok(())
}

/// One line that lives until Ctrl-C.
async fn live(cluster: &LocalCluster) {
    let client = client(cluster);
    let terminal = std::io::stderr().is_terminal();
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner:.green} {msg}").expect("the template is valid"));
    let mut shown = String::new();
    let show = async {
        let mut ticks = tokio::time::interval(LIVE_LOOK);
        loop {
            ticks.tick().await;
            let line = match status::ask(&client).await {
                Ok(status) => live_line(&status),
                Err(error) => error.message,
            };
            bar.tick();
            bar.set_message(line.clone());
            // Without a terminal, a line for every checkpoint tells enough.
            let stable = line.split(" (").next().unwrap_or_default().to_owned();
            if !terminal && stable != shown {
                eprintln!("{line}");
                shown = stable;
            }
        }
    };
    tokio::select! {
        () = show => {}
        () = terminated() => {}
    }
    bar.finish_and_clear();
}

fn live_line(status: &Status) -> String {
    let leader = status.leader.as_deref().unwrap_or("no leader");
    let checkpoint = status.checkpoint.as_ref();
    let entries = status.nodes.iter().filter_map(|node| node.entries).max().unwrap_or(0);
    let health =
        if status.healthy { "healthy".to_owned() } else { format!("unhealthy: {}", status.reasons.join("; ")) };
    format!(
        "{health} | leader {leader}, term {} | checkpoint {} ({} ago) | {entries} entries",
        status.term,
        checkpoint.map_or(0, |checkpoint| checkpoint.index),
        checkpoint.map_or_else(|| "-".into(), |checkpoint| duration_ms(checkpoint.age_ms)),
    )
}
