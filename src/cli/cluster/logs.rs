//! `sensorctl cluster logs`.

use std::io::Write as _;
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::cli::Context;
use crate::cli::cluster::{Named, process};
use crate::cli::error::CliError;
use crate::cli::home::LocalNode;

/// Time between looks while following.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Args)]
pub struct LogsArgs {
    /// Only this node's
    node_id: Option<String>,
    /// As many last lines of each
    #[arg(short = 'n', long, default_value_t = 20)]
    lines: usize,
    /// Go on as they grow
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    named: Named,
}

pub async fn run(cx: &Context, args: LogsArgs) -> Result<(), CliError> {
    let cluster = cx.home.cluster(&cx.home.meant(args.named.name.as_deref())?)?;
    let nodes: Vec<&LocalNode> = match &args.node_id {
        Some(id) => vec![cluster.node(id)?],
        None => cluster.nodes.iter().collect(),
    };
    let mut out = std::io::stdout();
    let prefix = |node: &LocalNode| if nodes.len() > 1 { format!("{:<8} ", node.id) } else { String::new() };
    let mut positions = Vec::new();
    for node in &nodes {
        positions.push(std::fs::metadata(node.log_file()).map_or(0, |file| file.len()));
        for line in process::tail(&node.log_file(), args.lines).lines() {
            writeln!(out, "{}{line}", prefix(node))?;
        }
    }
    if !args.follow {
        return Ok(());
    }
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        ticks.tick().await;
        for (node, position) in nodes.iter().zip(&mut positions) {
            let Ok(mut file) = tokio::fs::File::open(node.log_file()).await else { continue };
            let mut text = String::new();
            file.seek(std::io::SeekFrom::Start(*position)).await?;
            file.read_to_string(&mut text).await?;
            // A line that is not whole yet waits for the next look.
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            *position += whole as u64;
            for line in text[..whole].lines() {
                writeln!(out, "{}{line}", prefix(node))?;
            }
        }
        out.flush()?;
    }
}
