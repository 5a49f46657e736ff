//! The command line: one file a verb. Names that scripts rely on stand in `docs/cli`.

pub mod error;
pub mod output;

mod bench;
mod chaos;
mod checkpoint;
mod client;
mod cluster;
mod config;
mod context;
mod doctor;
mod flat;
mod forget;
mod fuse;
mod get;
mod help;
mod home;
mod leader;
mod load;
mod node;
mod pace;
mod plot;
mod put;
mod regions;
mod sensors;
mod sim;
mod status;
mod threshold;
mod top;
mod wait;
mod watch;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use client::{Client, Target};
use error::{BROKEN_PIPE, CliError, Kind};
use home::Home;
use output::Format;

use crate::shell::storage::abort_on_panic;

/// Gateways that share sensor readings, agree on checkpoints, and say how sure they are.
#[derive(Parser)]
#[command(name = "sensorctl", version, max_term_width = 100, infer_subcommands = false)]
#[command(after_help = "Begin with `sensorctl cluster start`. Exit codes: 0 done, 1 failed, 2 usage, 3 unhealthy, \
    4 unreachable or timed out, 5 threshold missed, 78 configuration, 130 interrupted.")]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Args)]
struct Global {
    /// Format of the result
    #[arg(short, long, global = true, value_enum, default_value_t, env = "SENSORCTL_OUTPUT")]
    output: Format,
    /// Node to ask: a node id of the current cluster, or HOST:PORT of its API
    #[arg(long, global = true, value_name = "NODE", env = "SENSORCTL_NODE")]
    node: Option<String>,
    /// Cluster to ask instead of the current one (see `sensorctl context`)
    #[arg(long, global = true, value_name = "NAME", env = "SENSORCTL_CONTEXT")]
    context: Option<String>,
}

#[derive(Subcommand)]
enum Verb {
    /// Start, show and stop a cluster on this machine
    Cluster(cluster::ClusterArgs),
    /// Run one gateway in the foreground
    Node(node::NodeArgs),
    /// Show every node's role, liveness and checkpoint, and what is wrong
    Status(status::StatusArgs),
    /// Show the latest readings
    Get(get::GetArgs),
    /// Show readings as they change
    Watch(watch::WatchArgs),
    /// Draw readings over time, from the ledger and live
    Plot(plot::PlotArgs),
    /// Write a reading
    Put(put::PutArgs),
    /// Fuse the sensors of a quantity into one answer, and say how sure it is
    Fuse(fuse::FuseArgs),
    /// Show a node's own sources and what fails
    Sensors(sensors::SensorsArgs),
    /// Look at the ledger of checkpoints
    Checkpoint(checkpoint::CheckpointArgs),
    /// Show every region with its leader and newest checkpoint
    Regions(regions::RegionsArgs),
    /// Print who leads
    Leader(leader::LeaderArgs),
    /// Drop a departed node's readings everywhere
    Forget(forget::ForgetArgs),
    /// Measure a cluster of real processes on this machine
    Bench(bench::BenchArgs),
    /// Load a running cluster through its API, and measure how it bears it
    Load(Box<load::LoadArgs>),
    /// Run the same nodes under virtual time and faults, from a seed
    Sim(sim::SimArgs),
    /// Hurt a running local cluster, and judge what its clients saw
    Chaos(chaos::ChaosArgs),
    /// Check or show a configuration
    Config(config::ConfigArgs),
    /// Look for what is wrong with this machine or cluster
    Doctor(doctor::DoctorArgs),
    /// Show the cluster and its readings on one live screen
    Top(top::TopArgs),
    /// Wait until the cluster is as asked for
    Wait(wait::WaitArgs),
    /// Choose which cluster is meant when nothing is said
    Context(context::ContextArgs),
    /// Print completions for a shell
    Completions(help::CompletionsArgs),
    /// Print manual pages
    Man(help::ManArgs),
}

/// What every verb is given.
pub struct Context {
    /// Format of the result.
    pub format: Format,
    /// Local clusters and contexts.
    pub home: Home,
    node: Option<String>,
    context: Option<String>,
}

impl Context {
    /// A client for whoever is meant.
    fn client(&self) -> Result<Client, CliError> {
        self.client_for(self.node.as_deref())
    }

    /// A client for this node, or for whoever is meant.
    fn client_for(&self, node: Option<&str>) -> Result<Client, CliError> {
        Ok(Client::new(Target::find(&self.home, node, self.context.as_deref())?))
    }
}

/// Parses the command line, runs it, prints what went wrong, and gives the exit code.
pub fn main() -> ExitCode {
    abort_on_panic();
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn dispatch(cli: Cli) -> Result<(), CliError> {
    let cx =
        Context { format: cli.global.output, home: Home::find()?, node: cli.global.node, context: cli.global.context };
    match cli.verb {
        Verb::Cluster(args) => cluster::run(&cx, args),
        Verb::Node(args) => node::run(&cx, args),
        Verb::Status(args) => wait_for(status::run(&cx, args)),
        Verb::Get(args) => wait_for(get::run(&cx, args)),
        Verb::Watch(args) => wait_for(watch::run(&cx, args)),
        Verb::Plot(args) => wait_for(plot::run(&cx, args)),
        Verb::Put(args) => wait_for(put::run(&cx, args)),
        Verb::Fuse(args) => wait_for(fuse::run(&cx, args)),
        Verb::Sensors(args) => wait_for(sensors::run(&cx, args)),
        Verb::Checkpoint(args) => wait_for(checkpoint::run(&cx, args)),
        Verb::Regions(args) => wait_for(regions::run(&cx, args)),
        Verb::Leader(args) => wait_for(leader::run(&cx, args)),
        Verb::Forget(args) => wait_for(forget::run(&cx, args)),
        Verb::Bench(args) => bench::run(&cx, args),
        Verb::Load(args) => load::run(&cx, *args),
        Verb::Sim(args) => sim::run(&cx, args),
        Verb::Chaos(args) => chaos::run(&cx, &args),
        Verb::Config(args) => config::run(&cx, args),
        Verb::Doctor(args) => wait_for(doctor::run(&cx, args)),
        Verb::Top(args) => wait_for(top::run(&cx, args)),
        Verb::Wait(args) => wait_for(wait::run(&cx, args)),
        Verb::Context(args) => context::run(&cx, args),
        Verb::Completions(args) => help::completions(args),
        Verb::Man(args) => help::man(args),
    }
}

/// Runs a verb that asks nodes; Ctrl-C ends it.
fn wait_for(verb: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        tokio::select! {
            done = verb => done,
            _ = tokio::signal::ctrl_c() => Err(CliError::silent(Kind::Interrupted)),
        }
    });
    // Standard input may be waited for by a thread of its own, and for ever.
    runtime.shutdown_background();
    done
}

fn report(error: &CliError) -> ExitCode {
    if error.message == BROKEN_PIPE {
        return ExitCode::SUCCESS;
    }
    let mut err = anstream::stderr().lock();
    if !error.message.is_empty() {
        let _ = writeln!(err, "\x1b[1;31merror:\x1b[0m {}", error.message);
    }
    if let Some(hint) = &error.hint {
        let _ = writeln!(err, "  \x1b[36mhint:\x1b[0m {hint}");
    }
    ExitCode::from(error.kind as u8)
}
