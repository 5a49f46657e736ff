//! `sensorctl context`: which cluster is meant when nothing is said.

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::output::{self, Column, Rows, text};

#[derive(Args)]
pub struct ContextArgs {
    #[command(subcommand)]
    verb: Option<ContextVerb>,
}

#[derive(Subcommand)]
enum ContextVerb {
    /// Show all
    Ls,
    /// Mean this one from now on
    Use { name: String },
    /// Name a cluster elsewhere by the API addresses of its nodes
    Add {
        name: String,
        #[arg(required = true, value_name = "HOST:PORT")]
        addrs: Vec<String>,
    },
    /// Forget a cluster elsewhere
    Rm { name: String },
}

#[derive(Serialize)]
struct Listed {
    schema: &'static str,
    contexts: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    current: bool,
    local: bool,
    apis: Vec<String>,
}

pub fn run(cx: &Context, args: ContextArgs) -> Result<(), CliError> {
    let mut contexts = cx.home.contexts()?;
    let local = cx.home.clusters();
    match args.verb.unwrap_or(ContextVerb::Ls) {
        ContextVerb::Ls => return list(cx),
        ContextVerb::Use { name } => {
            if !local.contains(&name) && !contexts.remote.contains_key(&name) {
                return Err(
                    CliError::usage(format!("no context is called {name}")).hint("`sensorctl context ls` shows all")
                );
            }
            contexts.current = Some(name);
        }
        ContextVerb::Add { name, addrs } => {
            if local.contains(&name) {
                return Err(CliError::usage(format!("{name} is a local cluster; choose another name")));
            }
            if let Some(addr) = addrs.iter().find(|addr| !addr.contains(':')) {
                return Err(CliError::usage(format!("{addr} is not HOST:PORT")));
            }
            contexts.remote.insert(name.clone(), addrs);
            contexts.current.get_or_insert(name);
        }
        ContextVerb::Rm { name } => {
            if contexts.remote.remove(&name).is_none() {
                let hint = "local clusters go by `sensorctl cluster destroy`";
                return Err(CliError::usage(format!("no cluster elsewhere is called {name}")).hint(hint));
            }
            contexts.current = contexts.current.filter(|current| *current != name);
        }
    }
    cx.home.save_contexts(&contexts)
}

const COLUMNS: &[Column] = &[text("current"), text("name"), text("where"), text("apis")];

fn list(cx: &Context) -> Result<(), CliError> {
    let contexts = cx.home.contexts()?;
    let is_current = |name: &str| contexts.current.as_deref() == Some(name);
    let mut rows = Vec::new();
    for name in cx.home.clusters() {
        let apis = cx.home.cluster(&name)?.nodes.into_iter().map(|node| node.api).collect();
        rows.push(Row { current: is_current(&name), name, local: true, apis });
    }
    for (name, apis) in &contexts.remote {
        rows.push(Row { current: is_current(name), name: name.clone(), local: false, apis: apis.clone() });
    }
    let listed = Listed { schema: "sensorctl/context/v1", contexts: rows };
    output::print(cx.format, &listed, &listed.contexts, || {
        let mut rows = Rows::new(COLUMNS);
        for row in &listed.contexts {
            let (current, place) = (if row.current { "*" } else { "" }, if row.local { "here" } else { "elsewhere" });
            rows.push(vec![current.into(), row.name.clone(), place.into(), row.apis.join(" ")]);
        }
        rows
    })
}
