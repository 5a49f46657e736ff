//! Sensors: local sources that feed the node, one file a kind.
//!
//! A source that fails publishes a reading of quality `bad` with the reason on its channels, shows in status,
//! and tries again; it never stops the node.

mod exec;
mod feed;
mod file;
mod hwmon;
pub mod lines;
mod replay;
mod simulated;
mod stdin;
mod system;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::core::id::{Channel, NodeId};
use crate::core::reading::Reading;
use crate::shell::clock::Clock;
use crate::shell::config::SourceConfig;
use crate::shell::http::model::SourceStatus;

use feed::Feed;
pub use replay::read_rows;
pub use simulated::Simulated;

/// Readings on their way to the node.
pub type Sensed = Vec<(Channel, Reading)>;

/// The running sources of one node.
pub struct Sources {
    feeds: Vec<Arc<Feed>>,
    tasks: Vec<JoinHandle<()>>,
}

/// Starts every source. What they read is sent to `out`; dropping the result stops them.
pub fn start(configs: &[SourceConfig], node: &NodeId, clock: Clock, out: &mpsc::Sender<Sensed>) -> Sources {
    let mut sources = Sources { feeds: Vec::new(), tasks: Vec::new() };
    for config in configs {
        let feed = Arc::new(Feed::new(config.name(), config.kind(), clock, out.clone()));
        let span = tracing::info_span!("source", name = config.name());
        sources.tasks.push(tokio::spawn(run(config.clone(), node.clone(), feed.clone()).instrument(span)));
        sources.feeds.push(feed);
    }
    sources
}

async fn run(config: SourceConfig, node: NodeId, feed: Arc<Feed>) {
    match config {
        SourceConfig::System(config) => system::run(config, &feed).await,
        SourceConfig::Simulated(config) => simulated::run(config, &node, &feed).await,
        SourceConfig::Hwmon(config) => hwmon::run(config, &feed).await,
        SourceConfig::Exec(config) => exec::run(config, &feed).await,
        SourceConfig::Stdin(config) => stdin::run(config, &feed).await,
        SourceConfig::File(config) => file::run(config, &feed).await,
        SourceConfig::Replay(config) => replay::run(config, feed).await,
    }
}

impl Sources {
    /// How each source is doing, in the order of the configuration.
    pub fn status(&self) -> Vec<SourceStatus> {
        self.feeds.iter().map(|feed| feed.status()).collect()
    }
}

impl Drop for Sources {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

#[cfg(test)]
mod tests;
