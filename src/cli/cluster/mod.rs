//! `sensorctl cluster`: the life of a local cluster.

mod destroy;
mod list;
mod logs;
pub mod nodes;
pub mod process;
mod recover;
mod regions;
mod start;
mod status;
mod stop;

use clap::{Args, Subcommand};

use crate::cli::error::CliError;
use crate::cli::{Context, wait_for};

#[derive(Args)]
pub struct ClusterArgs {
    #[command(subcommand)]
    verb: ClusterVerb,
}

#[derive(Subcommand)]
enum ClusterVerb {
    /// Start a cluster on this machine, and show it until Ctrl-C
    Start(start::StartArgs),
    /// Stop all its nodes in order; its data stays
    Stop(stop::StopArgs),
    /// Show its processes and its health
    Status(status::StatusArgs),
    /// Show all clusters on this machine
    List(list::ListArgs),
    /// Show what nodes logged
    Logs(logs::LogsArgs),
    /// Kill a node's process at once, as a crash would
    Kill(nodes::KillArgs),
    /// Start a node again, stopping it first if it runs
    Restart(nodes::RestartArgs),
    /// Add a node and start it; the leader makes it a voter when one is needed
    AddNode(nodes::AddArgs),
    /// Take a node out of the voters, stop it, and forget its readings
    RemoveNode(nodes::RemoveArgs),
    /// Give a flat cluster a top level, so that regions can be added
    Grow(regions::GrowArgs),
    /// Add a region of new nodes to a hierarchical cluster
    AddRegion(regions::AddRegionArgs),
    /// Take a region out and stop its nodes; its name is not used again
    RemoveRegion(regions::RemoveRegionArgs),
    /// Stop a cluster and delete its data
    Destroy(destroy::DestroyArgs),
    /// Rebuild a cluster whose majority of disks is gone, from a checkpoint, under a new cluster id
    Recover(recover::RecoverArgs),
}

/// Which local cluster is meant.
#[derive(Args, Clone)]
pub struct Named {
    /// Its name; the current context's without one
    #[arg(long)]
    name: Option<String>,
}

pub fn run(cx: &Context, args: ClusterArgs) -> Result<(), CliError> {
    match args.verb {
        ClusterVerb::Start(args) => start::run(cx, args),
        ClusterVerb::Stop(args) => wait_for(stop::run(cx, args)),
        ClusterVerb::Status(args) => wait_for(status::run(cx, args)),
        ClusterVerb::List(args) => list::run(cx, args),
        ClusterVerb::Logs(args) => wait_for(logs::run(cx, args)),
        ClusterVerb::Kill(args) => wait_for(nodes::kill(cx, args)),
        ClusterVerb::Restart(args) => wait_for(nodes::restart(cx, args)),
        ClusterVerb::AddNode(args) => wait_for(nodes::add(cx, args)),
        ClusterVerb::RemoveNode(args) => wait_for(nodes::remove(cx, args)),
        ClusterVerb::Grow(args) => wait_for(regions::grow(cx, args)),
        ClusterVerb::AddRegion(args) => wait_for(regions::add(cx, args)),
        ClusterVerb::RemoveRegion(args) => wait_for(regions::remove(cx, args)),
        ClusterVerb::Destroy(args) => wait_for(destroy::run(cx, args)),
        ClusterVerb::Recover(args) => recover::run(cx, args),
    }
}
