//! `sensorctl completions` and `sensorctl man`.

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::cli::error::CliError;

#[derive(Args)]
pub struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

#[derive(Args)]
pub struct ManArgs {
    /// Write one page a verb into this directory instead of the main page to stdout
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub fn completions(args: CompletionsArgs) -> Result<(), CliError> {
    // Into memory first: the generator panics when a pipe is closed.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sensorctl", &mut text);
    Ok(io::Write::write_all(&mut io::stdout(), &text)?)
}

pub fn man(args: ManArgs) -> Result<(), CliError> {
    let command = Cli::command();
    match args.dir {
        None => Ok(clap_mangen::Man::new(command).render(&mut io::stdout())?),
        Some(dir) => {
            fs::create_dir_all(&dir)?;
            Ok(clap_mangen::generate_to(command, dir)?)
        }
    }
}
