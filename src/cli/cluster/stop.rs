//! `sensorctl cluster stop`.

use clap::Args;

use crate::cli::Context;
use crate::cli::cluster::{Named, process};
use crate::cli::error::CliError;

#[derive(Args)]
pub struct StopArgs {
    #[command(flatten)]
    named: Named,
}

pub async fn run(cx: &Context, args: StopArgs) -> Result<(), CliError> {
    let name = cx.home.meant(args.named.name.as_deref())?;
    let cluster = cx.home.cluster(&name)?;
    let running = process::running(&cluster);
    if running.is_empty() {
        eprintln!("cluster {name} does not run");
        return Ok(());
    }
    let count = running.len();
    let nodes: Vec<_> = running.into_iter().map(|(node, _)| node).collect();
    let killed = process::stop(&nodes).await;
    match killed.is_empty() {
        true => eprintln!("cluster {name}: {count} nodes have left and stopped; its data stays"),
        false => {
            eprintln!("cluster {name}: {count} nodes stopped, of which these had to be killed: {}", killed.join(", "))
        }
    }
    Ok(())
}
