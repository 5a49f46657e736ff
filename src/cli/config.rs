//! `sensorctl config`: check a file, or show what is in effect.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::Context;
use crate::cli::error::{CliError, Kind};
use crate::cli::node::overrides;
use crate::shell::config::{self, ConfigKind, NodeConfig, RawNode};

#[derive(Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    verb: ConfigVerb,
}

#[derive(Subcommand)]
enum ConfigVerb {
    /// Say what is wrong with a node's or a cluster's file
    Check {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Print every setting in effect: flag over environment over file over default
    Show {
        /// A node's file; the defaults without one
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// A setting that wins over environment and file
        #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
        set: Vec<String>,
    },
}

pub fn run(_: &Context, args: ConfigArgs) -> Result<(), CliError> {
    match args.verb {
        ConfigVerb::Check { files } => check(&files),
        ConfigVerb::Show { file, set } => {
            let text = match file {
                None => RawNode::default().to_toml(),
                Some(path) => NodeConfig::load(&path, &overrides(&set)?)
                    .map_err(|error| CliError::new(Kind::Config, error.to_string()))?
                    .to_toml(),
            };
            Ok(std::io::stdout().write_all(text.as_bytes())?)
        }
    }
}

fn check(files: &[PathBuf]) -> Result<(), CliError> {
    let mut wrong = Vec::new();
    for path in files {
        match config::check(path) {
            Ok(ConfigKind::Node) => eprintln!("{}: a valid node", path.display()),
            Ok(ConfigKind::Cluster) => eprintln!("{}: a valid cluster", path.display()),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(CliError::new(Kind::Config, wrong.join("\n"))) }
}
