//! `sensorctl cluster destroy`.

use std::io::{BufRead, IsTerminal, Write as _};

use clap::Args;

use crate::cli::Context;
use crate::cli::cluster::{Named, process};
use crate::cli::error::CliError;

#[derive(Args)]
pub struct DestroyArgs {
    /// Ask nothing
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    named: Named,
}

pub async fn run(cx: &Context, args: DestroyArgs) -> Result<(), CliError> {
    let name = cx.home.meant(args.named.name.as_deref())?;
    let cluster = cx.home.cluster(&name)?;
    if !args.yes && !confirmed(&name)? {
        return Err(CliError::failed("nothing was deleted"));
    }
    let nodes: Vec<_> = cluster.nodes.iter().collect();
    process::stop(&nodes).await;
    for node in &nodes {
        remove(&node.dir)?;
    }
    remove(&cx.home.cluster_dir(&name))?;
    let mut contexts = cx.home.contexts()?;
    if contexts.current.as_deref() == Some(&name) {
        contexts.current = None;
        cx.home.save_contexts(&contexts)?;
    }
    eprintln!("cluster {name} and its data are gone");
    Ok(())
}

fn confirmed(name: &str) -> Result<bool, CliError> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(
            CliError::usage("this deletes all data of the cluster").hint("say --yes to do it without being asked")
        );
    }
    eprint!("delete cluster {name} with all its data? Type its name: ");
    std::io::stderr().flush()?;
    let mut line = String::new();
    stdin.lock().read_line(&mut line)?;
    Ok(line.trim() == name)
}

fn remove(dir: &std::path::Path) -> Result<(), CliError> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(CliError::because(format!("cannot delete {}", dir.display()), &error))
        }
        _ => Ok(()),
    }
}
