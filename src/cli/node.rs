//! `sensorctl node`: one gateway in the foreground.

use std::path::PathBuf;

use clap::Args;
use tracing::{error, info};

use crate::cli::Context;
use crate::cli::error::{CliError, Kind, chain};
use crate::shell::config::{NodeConfig, Overrides};
use crate::shell::gateway::{Gateway, StartError};
use crate::shell::telemetry;

#[derive(Args)]
pub struct NodeArgs {
    /// Its configuration
    #[arg(long, value_name = "FILE", env = "SENSORCTL_CONFIG")]
    config: PathBuf,
    /// A setting that wins over environment and file, for instance log.level=debug
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

/// The settings that win over the file: environment, then flags.
pub fn overrides(flags: &[String]) -> Result<Overrides, CliError> {
    let config = |error: crate::shell::config::ConfigError| CliError::new(Kind::Config, error.to_string());
    let mut overrides = Overrides::from_env(std::env::vars()).map_err(config)?;
    for flag in flags {
        overrides.add_flag(flag).map_err(config)?;
    }
    Ok(overrides)
}

pub fn run(_: &Context, args: NodeArgs) -> Result<(), CliError> {
    let config = NodeConfig::load(&args.config, &overrides(&args.set)?);
    let config = config.map_err(|error| CliError::new(Kind::Config, error.to_string()))?;
    telemetry::init(&config.log_level, config.log_format).map_err(|why| CliError::new(Kind::Config, why))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(serve(config));
    // A sensor's command or a slow disk does not hold up the end.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    outcome
}

async fn serve(config: NodeConfig) -> Result<(), CliError> {
    let mut gateway = Gateway::start(config, None).await.map_err(|error| match error {
        StartError::Listen(_) | StartError::Open(_) => CliError::failed(chain(&error)),
    })?;
    let node = gateway.node.clone();
    let mut asked = false;
    loop {
        tokio::select! {
            outcome = gateway.run() => {
                return match outcome {
                    Ok(_) => {
                        info!("stopped");
                        Ok(())
                    }
                    Err(why) => {
                        error!(err = %why, "stopped");
                        Err(CliError::failed(chain(&why)))
                    }
                };
            }
            () = terminated() => {
                if asked {
                    return Err(CliError::silent(Kind::Interrupted));
                }
                asked = true;
                info!("leaving; once more stops at once");
                node.leave().await;
            }
        }
    }
}

/// SIGINT or SIGTERM.
pub async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut term) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
