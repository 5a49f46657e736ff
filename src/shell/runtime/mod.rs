//! The runtime: one task around one [`Node`], which performs its effects in order and wakes it in time.
//!
//! Decides nothing. Everything that happens reaches the node through two short queues that take turns: what peers and
//! the disk say, and what local sensors and clients do. While one is full, whoever fills it waits: links stop reading, and
//! TCP tells the peers. A flood at the API so delays no heartbeat, nor peers a client.

mod handle;
mod perform;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span};

use crate::core::effect::StopReason;
use crate::core::event::{Command, Event, Reply};
use crate::core::id::{LinkId, PersistSeq};
use crate::core::node::Node;
use crate::core::notice::Notice;
use crate::core::params::Params;
use crate::core::state::entry::{Entry, Key};
use crate::core::state::system::Addr;
use crate::core::time::{Mono, Now};
use crate::core::view::Seen;
use crate::shell::clock::{Clock, instant};
use crate::shell::storage::{Opened, WriteError};
use crate::shell::telemetry::{Metrics, tell};
use crate::shell::transport::{self, LinkHandle, Listener, MemoryNet, Sink};

pub use handle::{AskError, NodeHandle, answer};
use perform::Performer;

/// Messages that may wait for the node: with those of a flood, each may be as long as a flush and take some milliseconds.
const PEERS_QUEUE: usize = 64;
/// What may wait of sensors and clients.
const LOCAL_QUEUE: usize = 128;
/// Changes that a slow watcher may fall behind before it is told that it missed some.
const CHANGES_KEPT: usize = 16 * 1024;

/// An entry that changed, for those who watch.
pub type Change = Arc<(Key, Entry)>;

/// Where those who watch listen. What is kept for them is two thirds of a megabyte, so it waits for the first of them:
/// of the many nodes in one process hardly any is watched.
#[derive(Default)]
struct Changes(OnceLock<broadcast::Sender<Change>>);

impl Changes {
    fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.0.get_or_init(|| broadcast::channel(CHANGES_KEPT).0).subscribe()
    }

    fn are_watched(&self) -> bool {
        self.0.get().is_some_and(|watchers| watchers.receiver_count() > 0)
    }

    fn tell(&self, change: Change) {
        if let Some(watchers) = self.0.get() {
            // Whoever has left meanwhile misses nothing.
            let _ = watchers.send(change);
        }
    }
}

/// How a node ended.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// The store failed; nothing that was acknowledged is lost.
    #[error(transparent)]
    Storage(#[from] WriteError),
    /// Another live node runs on a copy of this data directory.
    #[error("{0}")]
    Clone(String),
    /// The cluster refuses this node.
    #[error("{0}")]
    Refused(String),
}

/// What a node needs of the world to run.
pub struct Start {
    /// Who it is, and every number of the protocol.
    pub params: Params,
    /// Its clock.
    pub clock: Clock,
    /// Where peers connect.
    pub listener: Listener,
    /// Its store, and what that gave back.
    pub opened: Opened,
    /// Seed of its generator.
    pub seed: u64,
    /// Told of what the node does, before anybody else is: for measuring.
    pub observer: Option<Observer>,
}

/// Looks on, on the node's own task; keep it short, the node waits.
pub type Observer = Box<dyn FnMut(Seen<'_>) + Send>;

/// A look at the node between two events, at the time that it believes.
type Look = Box<dyn FnOnce(&Node, Now) + Send>;

/// One thing in the node's queue.
enum Input {
    Event(Event),
    LinkUp { handle: LinkHandle, dialed: Option<Addr> },
    Stored(Result<(PersistSeq, std::time::Duration), WriteError>),
    Ask { command: Command, answer: oneshot::Sender<Reply> },
    Inspect(Look),
    Notice(Notice),
    Stop,
}

/// What links, dials and the writer of one node share.
struct Shared {
    inputs: mpsc::Sender<Input>,
    metrics: Arc<Metrics>,
    next_link: AtomicU64,
    frame_bytes_max: usize,
    memory: Option<MemoryNet>,
    stopped: CancellationToken,
}

impl Sink for Shared {
    async fn up(&self, handle: LinkHandle, dialed: Option<Addr>) {
        let _ = self.inputs.send(Input::LinkUp { handle, dialed }).await;
    }

    async fn event(&self, event: Event) {
        // There is room, mostly. A node that has stopped hears no more.
        if let Err(TrySendError::Full(input)) = self.inputs.try_send(Input::Event(event)) {
            let _ = self.inputs.send(input).await;
        }
    }

    fn count_in(&self, type_name: &'static str, bytes: usize) {
        self.metrics.count_frame("in", type_name, bytes);
    }

    fn reject(&self, link: LinkId, why: String, _unknown: bool) {
        // A flood of garbage must not fill the queue: what does not fit is only counted.
        let notice = Notice::Rejected { link, why };
        if let Err(error) = self.inputs.try_send(Input::Notice(notice))
            && let Input::Notice(notice) = error.into_inner()
        {
            self.metrics.count_notice(&notice);
        }
    }

    fn next_link(&self) -> LinkId {
        LinkId(self.next_link.fetch_add(1, Ordering::Relaxed))
    }

    fn frame_bytes_max(&self) -> usize {
        self.frame_bytes_max
    }

    fn memory(&self) -> Option<&MemoryNet> {
        self.memory.as_ref()
    }

    async fn stopped(&self) {
        self.stopped.cancelled().await;
    }
}

/// Starts a node. The task ends when the node stops; dropping the handle does not stop it.
pub fn start(start: Start) -> (NodeHandle, JoinHandle<Result<StopReason, StopError>>) {
    let Start { params, clock, listener, opened, seed, observer } = start;
    let (inputs, peers) = mpsc::channel(PEERS_QUEUE);
    let (local_inputs, local) = mpsc::channel(LOCAL_QUEUE);
    let queues = Queues { peers, local, local_next: false };
    let changes = Arc::new(Changes::default());
    let metrics = Arc::new(Metrics::default());
    let stopped = CancellationToken::new();
    let shared = Arc::new(Shared {
        inputs,
        metrics: metrics.clone(),
        next_link: AtomicU64::new(1),
        frame_bytes_max: params.frame_bytes_max,
        memory: listener.memory.as_ref().map(|listener| listener.net().clone()),
        stopped: stopped.clone(),
    });
    let span = info_span!("node", id = %params.node);
    let handle = NodeHandle {
        inputs: local_inputs,
        changes: changes.clone(),
        storage: opened.storage.clone(),
        metrics,
        clock,
        params: Arc::new(params.clone()),
    };
    let accept = tokio::spawn(transport::serve(listener, shared.clone()).instrument(span.clone()));
    let mut performer = Performer::new(shared, changes, clock, &opened, params.frame_bytes_max, params.node.clone());
    performer.observer = observer;
    let node = Node::recover(params, opened.identity, opened.recovered, seed, clock.now());
    let task = async move {
        let outcome = drive(node, performer, queues, clock).await;
        accept.abort();
        stopped.cancel();
        outcome
    };
    (handle, tokio::spawn(task.instrument(span)))
}

/// Feeds the node until it stops.
async fn drive(
    mut node: Node,
    mut performer: Performer,
    mut queues: Queues,
    clock: Clock,
) -> Result<StopReason, StopError> {
    let mut fx = Vec::new();
    let mut alarm = Alarm::new();
    node.handle(Event::Wake, clock.now(), &mut fx);
    loop {
        if let Some(reason) = performer.perform(&mut fx) {
            return stopped(reason);
        }
        for event in performer.take_at_once() {
            node.handle(event, clock.now(), &mut fx);
            if let Some(reason) = performer.perform(&mut fx) {
                return stopped(reason);
            }
        }
        let Some(input) = next(&mut queues, &mut alarm, node.deadline(), performer.has_more(), clock).await else {
            node.handle(Event::Wake, clock.now(), &mut fx);
            continue;
        };
        let event = match input {
            Input::Event(event) => performer.on_event(event),
            Input::LinkUp { handle, dialed } => performer.on_link_up(handle, dialed),
            Input::Stored(Ok((seq, took))) => {
                performer.metrics().observe_fsync(took);
                Event::Persisted { seq }
            }
            Input::Stored(Err(error)) => return Err(error.into()),
            Input::Ask { command, answer } => Event::Asked { request: performer.on_ask(answer), command },
            Input::Inspect(look) => {
                look(&node, node.believed(clock.now()));
                continue;
            }
            Input::Notice(notice) => {
                tell(&notice, performer.metrics());
                continue;
            }
            Input::Stop => return Ok(StopReason::Left),
        };
        node.handle(event, clock.now(), &mut fx);
    }
}

fn stopped(reason: StopReason) -> Result<StopReason, StopError> {
    match reason {
        StopReason::Left => Ok(StopReason::Left),
        StopReason::Clone(why) => Err(StopError::Clone(why)),
        StopReason::Refused(why) => Err(StopError::Refused(why)),
    }
}

/// The next input, or `None` once `deadline` has passed, or when there is none and the caller is `busy`.
async fn next(queues: &mut Queues, alarm: &mut Alarm, deadline: Mono, busy: bool, clock: Clock) -> Option<Input> {
    // What waits already goes first, unless the deadline has passed: then neither starves the other.
    if deadline <= clock.now().mono {
        return None;
    }
    if let Some(input) = queues.take() {
        return Some(input);
    }
    if busy {
        // Whoever fills the queues gets a turn.
        tokio::task::yield_now().await;
        return None;
    }
    alarm.set(deadline);
    tokio::select! {
        biased;
        input = queues.recv() => Some(input),
        () = alarm.rings() => None,
    }
}

/// What waits for the node.
struct Queues {
    peers: mpsc::Receiver<Input>,
    local: mpsc::Receiver<Input>,
    local_next: bool,
}

impl Queues {
    /// What waits, of both in turns.
    fn take(&mut self) -> Option<Input> {
        self.local_next = !self.local_next;
        let (first, second) = match self.local_next {
            true => (&mut self.peers, &mut self.local),
            false => (&mut self.local, &mut self.peers),
        };
        first.try_recv().or_else(|_| second.try_recv()).ok()
    }

    async fn recv(&mut self) -> Input {
        tokio::select! {
            biased;
            Some(input) = self.peers.recv() => input,
            Some(input) = self.local.recv() => input,
            else => unreachable!("the node's own links hold the other end"),
        }
    }
}

/// Wakes the node no later than its deadline.
///
/// A node that is woken early does nothing, so an alarm is left where it is when the deadline moves away: with every
/// event that comes it moves a little, and setting a timer is dearer than many an event.
struct Alarm {
    sleep: Pin<Box<Sleep>>,
    at: Mono,
}

impl Alarm {
    fn new() -> Self {
        Self { sleep: Box::pin(tokio::time::sleep_until(instant(Mono::NEVER).into())), at: Mono::NEVER }
    }

    fn set(&mut self, deadline: Mono) {
        if deadline < self.at {
            self.at = deadline;
            self.sleep.as_mut().reset(instant(deadline).into());
        }
    }

    async fn rings(&mut self) {
        if self.at == Mono::NEVER {
            return std::future::pending().await;
        }
        self.sleep.as_mut().await;
        self.at = Mono::NEVER;
    }
}

/// Links by number.
type Links = HashMap<LinkId, LinkHandle>;

#[cfg(test)]
mod tests;
