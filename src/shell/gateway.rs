//! A gateway: one node with its store, ports, sources and API, as a process or as one of many in a process.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::core::effect::StopReason;
use crate::shell::chance;
use crate::shell::clock::Clock;
use crate::shell::config::NodeConfig;
use crate::shell::fusion::{Fuser, Watcher};
use crate::shell::http::{self, Api};
use crate::shell::runtime::{self, NodeHandle, Start, StopError};
use crate::shell::sensors;
use crate::shell::storage::{Depth, OpenError, Storage};
use crate::shell::transport::{ListenError, Listener, MemoryNet, listen};

/// Batches of readings that may wait for the node.
const SENSED_MAX: usize = 1024;

/// Why a gateway did not start. Nothing runs.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is not to be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The data directory is not to be had.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// What the gateways of one process have in common.
pub struct Together {
    /// Links those of its nodes that are on it; others are linked over TCP.
    pub net: MemoryNet,
    /// How far their stores write.
    pub depth: Depth,
}

/// A running gateway.
pub struct Gateway {
    /// Its node.
    pub node: NodeHandle,
    /// Where its store was moved because it was corrupt, if it was.
    pub set_aside: Option<PathBuf>,
    task: JoinHandle<Result<StopReason, StopError>>,
    stop: CancellationToken,
}

impl Gateway {
    /// Takes the ports, opens the store, and starts everything, as one of those that are `together` in a process or alone.
    ///
    /// # Errors
    /// [`StartError`] says what to do.
    pub async fn start(config: NodeConfig, together: Option<&Together>) -> Result<Self, StartError> {
        let tcp = listen("peer", &config.listen).await?;
        let memory = together.map(|all| all.net.listen(config.params.addr.clone()));
        let listener = Listener { tcp: Some(tcp), memory };
        let api_listener = match &config.api_listen {
            Some(addr) => Some(listen("API", addr).await?),
            None => None,
        };
        let opened = match &config.data_dir {
            Some(dir) => Storage::open_to(dir, together.map_or(Depth::Disk, |all| all.depth))?,
            None => Storage::in_memory(),
        };
        let set_aside = opened.set_aside.clone();
        if let Some((path, why)) = &set_aside {
            warn!(path = %path.display(), err = %why, "the store was corrupt and has been set aside; this node is a new observer");
        }
        let clock = Clock::new(config.clock_offset_ms);
        info!(
            id = %config.params.node, region = %config.params.region, peers = %config.listen,
            api = config.api_listen.as_deref().unwrap_or("none"), store = %opened.identity.id, "started"
        );
        let name = config.params.node.clone();
        let (node, task) = runtime::start(Start {
            params: config.params,
            clock,
            listener,
            opened,
            seed: chance::seed(),
            observer: None,
        });
        let stop = CancellationToken::new();
        let fuser = Fuser::new(node.clone(), config.fusion.smoothing);
        let watcher = Watcher::new(node.clone(), fuser.clone(), config.fusion.clone());
        let (out, mut sensed) = mpsc::channel(SENSED_MAX);
        let sources = Arc::new(sensors::start(&config.sources, &name, clock, &out));
        if let Some(listener) = api_listener {
            let shown = sources.clone();
            let why = set_aside.as_ref().map(|(_, why)| why.clone());
            let api = Api::new(node.clone(), Arc::new(move || shown.status()), why, fuser, watcher.clone());
            tokio::spawn(http::serve(listener, http::router(api), stop.clone()));
        }
        let (feed, stopped) = (node.clone(), stop.clone());
        tokio::spawn(async move {
            // The sources live as long as this task.
            let _sources = sources;
            loop {
                tokio::select! {
                    readings = sensed.recv() => {
                        let Some(mut readings) = readings else { return };
                        watcher.mark(&mut readings).await;
                        if feed.sense(readings).await.is_err() {
                            return;
                        }
                    }
                    () = stopped.cancelled() => return,
                }
            }
        });
        Ok(Self { node, set_aside: set_aside.map(|(path, _)| path), task, stop })
    }

    /// Runs until the node stops by itself.
    ///
    /// # Errors
    /// [`StopError`] if it had to.
    pub async fn run(&mut self) -> Result<StopReason, StopError> {
        let outcome = (&mut self.task).await;
        self.stop.cancel();
        outcome.unwrap_or(Ok(StopReason::Left))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.cancel();
        self.task.abort();
    }
}
