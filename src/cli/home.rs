//! Where local clusters and contexts live: `$SENSORCTL_HOME`, else the platform's data directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cli::error::CliError;

/// The directory of everything local.
#[derive(Clone, Debug)]
pub struct Home(PathBuf);

/// Which clusters are known, and which one is meant when nothing is said.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Contexts {
    /// The one meant when nothing is said.
    pub current: Option<String>,
    /// Clusters elsewhere: API addresses by name. Local ones are found by their directories.
    #[serde(default)]
    pub remote: BTreeMap<String, Vec<String>>,
}

/// A local cluster as it was last started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LocalCluster {
    /// Its name.
    pub name: String,
    /// Its nodes, in the order of the configuration.
    pub nodes: Vec<LocalNode>,
    /// All nodes run in one process.
    pub in_process: bool,
    /// The configuration it has, as TOML.
    pub config: String,
    /// The configuration it was made from, where nodes have come and gone since.
    #[serde(default)]
    pub made_from: String,
}

/// One node of a local cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LocalNode {
    /// Its name.
    pub id: String,
    /// Its region.
    pub region: String,
    /// Where peers connect.
    pub listen: String,
    /// Where its API is.
    pub api: String,
    /// The network namespace in which its process runs, if not the one of whoever starts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its directory: configuration, data, log.
    pub dir: PathBuf,
}

/// A process as its pid file tells; the pid alone may be somebody else's by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRef {
    /// Process id.
    pub pid: u32,
    /// When it was started, in seconds since 1970.
    pub started: u64,
}

impl Home {
    /// `$SENSORCTL_HOME`, else the platform's data directory.
    ///
    /// # Errors
    /// If neither is known.
    pub fn find() -> Result<Self, CliError> {
        if let Some(home) = std::env::var_os("SENSORCTL_HOME").filter(|home| !home.is_empty()) {
            return Ok(Self(home.into()));
        }
        let data = dirs::data_dir().ok_or_else(|| {
            CliError::failed("no data directory is known for this user").hint("set SENSORCTL_HOME to a directory")
        })?;
        Ok(Self(data.join("sensorctl")))
    }

    /// The directory of the cluster called `name`.
    pub fn cluster_dir(&self, name: &str) -> PathBuf {
        self.0.join("clusters").join(name)
    }

    /// Names of all local clusters.
    pub fn clusters(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.0.join("clusters")) else { return Vec::new() };
        let named = entries.flatten().filter(|entry| entry.path().join("cluster.json").is_file());
        let mut names: Vec<String> = named.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The local cluster called `name`.
    ///
    /// # Errors
    /// If there is none, or its file is damaged.
    pub fn cluster(&self, name: &str) -> Result<LocalCluster, CliError> {
        let path = self.cluster_dir(name).join("cluster.json");
        read_json(&path)?.ok_or_else(|| {
            let known = self.clusters();
            let hint = match known.is_empty() {
                true => "start one with `sensorctl cluster start`".to_owned(),
                false => format!("local clusters: {}", known.join(", ")),
            };
            CliError::failed(format!("there is no local cluster called {name}")).hint(hint)
        })
    }

    /// Writes a local cluster down.
    ///
    /// # Errors
    /// If its directory cannot be written.
    pub fn save_cluster(&self, cluster: &LocalCluster) -> Result<(), CliError> {
        write_json(&self.cluster_dir(&cluster.name).join("cluster.json"), cluster)
    }

    /// The contexts.
    ///
    /// # Errors
    /// If their file is damaged.
    pub fn contexts(&self) -> Result<Contexts, CliError> {
        Ok(read_json(&self.0.join("contexts.json"))?.unwrap_or_default())
    }

    /// Writes the contexts down.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn save_contexts(&self, contexts: &Contexts) -> Result<(), CliError> {
        write_json(&self.0.join("contexts.json"), contexts)
    }

    /// Makes a cluster the one meant when nothing is said.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn make_current(&self, name: &str) -> Result<(), CliError> {
        let contexts = self.contexts()?;
        self.save_contexts(&Contexts { current: Some(name.to_owned()), ..contexts })
    }

    /// The cluster meant by `--name` or, without one, by the current context.
    ///
    /// # Errors
    /// If nothing is meant.
    pub fn meant(&self, name: Option<&str>) -> Result<String, CliError> {
        if let Some(name) = name {
            return Ok(name.to_owned());
        }
        if let Some(current) = self.contexts()?.current {
            return Ok(current);
        }
        match self.clusters().as_slice() {
            [only] => Ok(only.clone()),
            [] => Err(CliError::failed("there is no local cluster").hint("start one with `sensorctl cluster start`")),
            several => {
                Err(CliError::usage("which cluster is meant?")
                    .hint(format!("say --name, one of: {}", several.join(", "))))
            }
        }
    }
}

impl LocalCluster {
    /// The node called `id`.
    ///
    /// # Errors
    /// If there is none, with those there are.
    pub fn node(&self, id: &str) -> Result<&LocalNode, CliError> {
        self.nodes.iter().find(|node| node.id == id).ok_or_else(|| {
            let names: Vec<&str> = self.nodes.iter().map(|node| node.id.as_str()).collect();
            CliError::usage(format!("cluster {} has no node {id}", self.name))
                .hint(format!("nodes: {}", names.join(", ")))
        })
    }
}

impl LocalNode {
    /// Its configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.dir.join("node.toml")
    }

    /// Its log.
    pub fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Where its process is written down.
    pub fn pid_file(&self) -> PathBuf {
        self.dir.join("process.json")
    }
}

/// The file's content, `None` if there is none.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, CliError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CliError::because(format!("cannot read {}", path.display()), &error)),
    };
    serde_json::from_str(&text).map(Some).map_err(|error| {
        CliError::because(format!("{} is damaged", path.display()), &error).hint("remove it, or put it right by hand")
    })
}

/// Replaces the file's content as a whole: a crash leaves the old or the new.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), CliError> {
    let failed = |error: std::io::Error| CliError::because(format!("cannot write {}", path.display()), &error);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    let text = serde_json::to_string_pretty(value).expect("our own types are JSON");
    let fresh = path.with_extension("new");
    fs::write(&fresh, text + "\n").map_err(failed)?;
    fs::rename(&fresh, path).map_err(failed)
}
