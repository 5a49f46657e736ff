//! What the rest of the process holds of a running node.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot};

use crate::core::event::{Command, Event, Reply};
use crate::core::id::Channel;
use crate::core::node::Node;
use crate::core::params::Params;
use crate::core::reading::Reading;
use crate::core::time::Now;
use crate::core::view::View;
use crate::shell::clock::Clock;
use crate::shell::runtime::{Change, Changes, Input};
use crate::shell::storage::Storage;
use crate::shell::telemetry::Metrics;

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
    /// The answer did not come in time. What was asked may still happen.
    #[error("no answer within {} ms; what was asked may still happen", .0.as_millis())]
    TimedOut(Duration),
}

/// A running node. Cheap to clone.
#[derive(Clone)]
pub struct NodeHandle {
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) changes: Arc<Changes>,
    pub(super) storage: Storage,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    pub(super) params: Arc<Params>,
}

/// The node's answer to an [order](NodeHandle::order).
///
/// # Errors
/// [`AskError`] if it has stopped or takes longer than `patience`.
pub async fn answer(answered: oneshot::Receiver<Reply>, patience: Duration) -> Result<Reply, AskError> {
    match tokio::time::timeout(patience, answered).await {
        Ok(reply) => reply.map_err(|_| AskError::Stopped),
        Err(_) => Err(AskError::TimedOut(patience)),
    }
}

impl NodeHandle {
    /// Asks the node for something and waits for its answer.
    ///
    /// # Errors
    /// [`AskError`] if it has stopped or takes longer than `patience`.
    pub async fn ask(&self, command: Command, patience: Duration) -> Result<Reply, AskError> {
        answer(self.order(command).await?, patience).await
    }

    /// Asks the node for something, after all that was asked before; [`answer`] waits for what it says.
    ///
    /// # Errors
    /// [`AskError::Stopped`] if it has stopped.
    pub async fn order(&self, command: Command) -> Result<oneshot::Receiver<Reply>, AskError> {
        let (answer, answered) = oneshot::channel();
        self.inputs.send(Input::Ask { command, answer }).await.map_err(|_| AskError::Stopped)?;
        Ok(answered)
    }

    /// Looks at the node between two events. Keep it short: the node waits.
    ///
    /// # Errors
    /// [`AskError::Stopped`] if it has stopped.
    pub async fn inspect<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Node, Now) -> T + Send + 'static,
    ) -> Result<T, AskError> {
        let (answer, answered) = oneshot::channel();
        let look = Input::Inspect(Box::new(move |node, now| {
            let _ = answer.send(look(node, now));
        }));
        self.inputs.send(look).await.map_err(|_| AskError::Stopped)?;
        answered.await.map_err(|_| AskError::Stopped)
    }

    /// What the node knows.
    ///
    /// # Errors
    /// [`AskError::Stopped`] if it has stopped.
    pub async fn view(&self) -> Result<View, AskError> {
        self.inspect(Node::view).await
    }

    /// Hands over what the local sensors said.
    ///
    /// # Errors
    /// [`AskError::Stopped`] if the node has stopped.
    pub async fn sense(&self, readings: Vec<(Channel, Reading)>) -> Result<(), AskError> {
        let event = Input::Event(Event::Sensed { readings });
        self.inputs.send(event).await.map_err(|_| AskError::Stopped)
    }

    /// Every entry that changes from now on.
    pub fn watch(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Asks the node to leave in order; its task ends soon after.
    pub async fn leave(&self) {
        let _ = self.inputs.send(Input::Event(Event::Leave)).await;
    }

    /// Stops the node at once, as a crash would, but with its store intact.
    pub async fn stop(&self) {
        let _ = self.inputs.send(Input::Stop).await;
    }

    /// Its store.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Its counters.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Its clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// What it was told before it started.
    pub fn params(&self) -> &Params {
        &self.params
    }
}
