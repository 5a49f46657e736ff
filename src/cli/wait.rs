//! `sensorctl wait`: until the cluster is as asked for, for scripts.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::status;
use crate::shell::http::model::Status;

#[derive(Args)]
pub struct WaitArgs {
    /// What to wait for
    #[arg(value_enum, default_value_t)]
    what: What,
    /// With `checkpoint`: at least this index
    #[arg(long, default_value_t = 1)]
    index: u64,
    /// How long, in seconds
    #[arg(long, default_value_t = 60.0, value_name = "SECONDS")]
    timeout: f64,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum What {
    /// Nothing is wrong
    #[default]
    Healthy,
    /// Somebody leads
    Leader,
    /// A checkpoint is committed
    Checkpoint,
    /// All repairs found no difference
    Converged,
}

/// Time between looks.
const INTERVAL: Duration = Duration::from_millis(100);

pub async fn run(cx: &Context, args: WaitArgs) -> Result<(), CliError> {
    if !(0.0..=86_400.0).contains(&args.timeout) {
        return Err(CliError::usage(format!("--timeout {} is not between 0 and 86400", args.timeout)));
    }
    let client = cx.client()?;
    let mut last = "nobody has answered".to_owned();
    let look = async {
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            ticks.tick().await;
            match status::ask(&client).await {
                Ok(status) if holds(&args, &status) => return,
                Ok(status) => last = status.reasons.join("; "),
                Err(error) => last = error.message,
            }
        }
    };
    let timeout = Duration::from_secs_f64(args.timeout);
    let done = tokio::time::timeout(timeout, look).await;
    done.map_err(|_| CliError::unreachable(format!("not so within {} s: {last}", args.timeout)))
}

fn holds(args: &WaitArgs, status: &Status) -> bool {
    match args.what {
        What::Healthy => status.healthy,
        What::Leader => status.leader.is_some(),
        What::Checkpoint => status.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.index >= args.index),
        What::Converged => status.converged == Some(1.0),
    }
}
