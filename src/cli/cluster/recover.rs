//! `sensorctl cluster recover`: a new cluster from an old checkpoint, when a majority of disks is gone.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::Context;
use crate::cli::cluster::{Named, process};
use crate::cli::error::{CliError, Kind, chain};
use crate::core::id::{GroupId, Index};
use crate::core::ledger::document::Document;
use crate::shell::config::{NodeConfig, Overrides};
use crate::shell::http::{hash_or_index, rfc3339};
use crate::shell::storage::{Recovery, Storage};

#[derive(Args)]
pub struct RecoverArgs {
    /// The checkpoint to begin from: its index or hash in this node's ledger, or an exported file
    #[arg(long, value_name = "INDEX|FILE")]
    from: String,
    /// The surviving node of a local cluster whose disk is used; the first with a ledger without one
    #[arg(long, value_name = "ID", conflicts_with = "config")]
    on: Option<String>,
    /// The surviving node's own configuration, on a machine of a real cluster
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    named: Named,
}

pub fn run(cx: &Context, args: RecoverArgs) -> Result<(), CliError> {
    let load = |path: &Path| {
        NodeConfig::load(path, &Overrides::default()).map_err(|error| CliError::new(Kind::Config, error.to_string()))
    };
    if let Some(path) = &args.config {
        recover(&load(path)?, &args.from)?;
        eprintln!("start this node now, then every other one on an empty data directory: they join it as observers");
        return Ok(());
    }
    let cluster = cx.home.cluster(&cx.home.meant(args.named.name.as_deref())?)?;
    if !process::running(&cluster).is_empty() {
        return Err(CliError::failed(format!("cluster {} runs; recovery needs it stopped", cluster.name))
            .hint(format!("`sensorctl cluster stop --name {}`", cluster.name)));
    }
    let survivor = match &args.on {
        Some(id) => cluster.node(id)?,
        None => cluster
            .nodes
            .iter()
            .find(|node| node.dir.join("data").join("store.redb").exists())
            .ok_or_else(|| CliError::failed("no node of this cluster has a store left"))?,
    };
    recover(&load(&survivor.config_file())?, &args.from)?;
    for node in cluster.nodes.iter().filter(|node| node.id != survivor.id) {
        let dir = node.dir.join("data");
        if let Some(aside) = Storage::set_aside(&dir)? {
            eprintln!("{}: its store of the old cluster is kept as {}", node.id, aside.display());
        }
    }
    eprintln!("`sensorctl cluster start --name {}` starts the new cluster", cluster.name);
    Ok(())
}

fn recover(config: &NodeConfig, from: &str) -> Result<(), CliError> {
    let dir = config.data_dir.as_ref().ok_or_else(|| CliError::usage("this node keeps nothing on disk"))?;
    let opened = Storage::open(dir).map_err(|error| CliError::failed(chain(&error)))?;
    if let Some((aside, why)) = &opened.set_aside {
        let message =
            format!("the store in {} is corrupt ({why}) and was set aside as {}", dir.display(), aside.display());
        return Err(CliError::failed(message).hint("recover on another node, or from an exported file"));
    }
    let document = find(&opened.storage, config, from)?;
    let params = &config.params;
    let recovery = Recovery { cluster: &params.cluster, node: &params.node, region: &params.region, from: &document };
    let newest = opened.storage.newest(&GroupId::Region(params.region.clone())).ok().flatten();
    let done = opened
        .storage
        .recover_as_new(opened.recovered.own, recovery)
        .map_err(|error| CliError::failed(chain(&error)))?;
    let header = document.header();
    eprintln!("RECOVERED under a NEW cluster id {}", done.cluster);
    eprintln!(
        "  from checkpoint {} ({}), taken {}",
        header.index.get(),
        document.hash().short(),
        rfc3339(header.taken_at.time.wall())
    );
    match done.readings {
        Some(readings) => eprintln!("  with its {readings} readings, and what {} itself had read", params.node),
        None => eprintln!(
            "  WITHOUT its readings: they are not held here; only what {} itself had read is kept",
            params.node
        ),
    }
    if let Some(newest) = newest.filter(|newest| newest.index > header.index) {
        eprintln!("  LOST: checkpoints {} to {} that this node knew of", header.index.get() + 1, newest.index.get());
    }
    eprintln!("  POSSIBLY LOST: whatever the other nodes committed or wrote after it");
    eprintln!("  {} is its only voter; the leader adds others as they join", params.node);
    eprintln!("  the old store is kept as {}", done.set_aside.display());
    Ok(())
}

fn find(storage: &Storage, config: &NodeConfig, from: &str) -> Result<Document, CliError> {
    let path = Path::new(from);
    if path.is_file() {
        let text =
            std::fs::read_to_string(path).map_err(|error| CliError::because(format!("cannot read {from}"), &error))?;
        return Document::parse(&text).map_err(|error| CliError::because(from, &error));
    }
    let group = GroupId::Region(config.params.region.clone());
    let failed = |error: crate::shell::storage::ReadError| CliError::failed(chain(&error));
    let hash = match hash_or_index(from).map_err(|why| CliError::usage(format!("{why}, nor a file")))? {
        Ok(hash) => hash,
        Err(index) => position(storage, &group, index)?,
    };
    let missing = || CliError::failed(format!("checkpoint {from} is not held by {}", config.params.node));
    storage.document(&hash).map_err(failed)?.ok_or_else(missing)
}

fn position(storage: &Storage, group: &GroupId, index: Index) -> Result<crate::core::id::Hash, CliError> {
    let failed = |error: crate::shell::storage::ReadError| CliError::failed(chain(&error));
    if let Some(position) = storage.position(group, index).map_err(failed)? {
        return Ok(position.hash);
    }
    let newest = storage.newest(group).map_err(failed)?;
    let hint = newest
        .map_or_else(|| "its ledger is empty".to_owned(), |newest| format!("its newest is {}", newest.index.get()));
    Err(CliError::failed(format!("checkpoint {} is not in this node's ledger", index.get())).hint(hint))
}
