//! Configuration: TOML becomes a checked [`NodeConfig`] once, at start; nobody checks again.
//!
//! [`raw`] is what files may say, with the defaults; [`mod@check`] what must hold between the values;
//! [`cluster`] whole local clusters. Precedence: flag, environment, file, default.

pub mod cluster;
pub mod raw;
pub mod sources;

mod check;
mod duration;
mod error;
mod fusion;
mod overrides;

use std::path::{Path, PathBuf};

use crate::core::params::Params;
use crate::shell::fusion::FusionConfig;
use crate::shell::telemetry::LogFormat;

pub use cluster::{ClusterConfig, ClusterNode};
pub use duration::{SignedSpan, Span};
pub use error::ConfigError;
pub use overrides::Overrides;
pub use raw::RawNode;
pub use sources::SourceConfig;

/// The value of `node.data_dir` that keeps everything in memory.
pub const IN_MEMORY: &str = ":memory:";

/// A node's configuration, checked.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Who it is, and every number of the protocol.
    pub params: Params,
    /// Where to listen for peers.
    pub listen: String,
    /// Where to serve the API, if at all.
    pub api_listen: Option<String>,
    /// The data directory; `None` keeps everything in memory.
    pub data_dir: Option<PathBuf>,
    /// Shifts the wall clock, for tests.
    pub clock_offset_ms: i64,
    /// A level or a tracing filter.
    pub log_level: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// What it fuses beyond what is agreed upon.
    pub fusion: FusionConfig,
    /// Local sensors.
    pub sources: Vec<SourceConfig>,
    raw: RawNode,
}

/// What a file turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigKind {
    /// One node's.
    Node,
    /// A local cluster's.
    Cluster,
}

impl NodeConfig {
    /// Reads and checks a node's file.
    ///
    /// # Errors
    /// [`ConfigError`] names file, line, what is wrong and what was probably meant.
    pub fn load(path: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let text = error::read(path)?;
        let mut config = Self::parse(&text, &path.display().to_string(), overrides)?;
        // A relative data directory is meant relative to the file that names it.
        if let (Some(dir), Some(base)) = (&config.data_dir, path.parent())
            && dir.is_relative()
            && !overrides.sets("node.data_dir")
        {
            config.data_dir = Some(base.join(dir));
        }
        Ok(config)
    }

    /// Checks a node's configuration; `file` names it in errors.
    ///
    /// # Errors
    /// See [`NodeConfig::load`].
    pub fn parse(text: &str, file: &str, overrides: &Overrides) -> Result<Self, ConfigError> {
        let raw: RawNode = error::parse(text, file)?;
        let raw = overrides.apply(text, file, raw)?;
        check::node(raw, &error::Locator::new(text, file))
    }

    /// The effective configuration, as a file.
    pub fn to_toml(&self) -> String {
        self.raw.to_toml()
    }
}

/// Reads a file and says what it is, or what is wrong with it.
///
/// # Errors
/// See [`NodeConfig::load`].
pub fn check(path: &Path) -> Result<ConfigKind, ConfigError> {
    let text = error::read(path)?;
    let file = path.display().to_string();
    // A cluster's file is the one that lists nodes.
    let is_cluster = text.parse::<toml::Table>().is_ok_and(|table| table.contains_key("nodes"));
    if is_cluster {
        return ClusterConfig::parse(&text, &file).map(|_| ConfigKind::Cluster);
    }
    NodeConfig::parse(&text, &file, &Overrides::default()).map(|_| ConfigKind::Node)
}

#[cfg(test)]
mod tests;
