//! Performing a node's effects, in order.

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::{Arc, LazyLock};

use tokio::sync::{Semaphore, oneshot};
use tracing::error;

use crate::core::effect::{Effect, StopReason};
use crate::core::event::{Event, Reply};
use crate::core::id::{Hash, LinkId, NodeId, RequestId};
use crate::core::message::Message;
use crate::core::message::agreement::Content;
use crate::core::notice::Notice;
use crate::core::state::system::Addr;
use crate::core::view::Seen;
use crate::core::work::Work;
use crate::shell::clock::Clock;
use crate::shell::runtime::{Change, Changes, Input, Links, Observer, Shared};
use crate::shell::storage::{Opened, Storage, Writer};
use crate::shell::telemetry::{Metrics, tell};
use crate::shell::transport::{self, LinkHandle};

/// Work that takes no longer is done where it is asked for: a thread is not worth its while.
const COMPUTED_AT_ONCE_US: u64 = 1000;
/// Turns of those that compute beside their nodes.
static TURNS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(1, NonZero::get)));

/// The hands of one node.
pub(super) struct Performer {
    shared: Arc<Shared>,
    changes: Arc<Changes>,
    clock: Clock,
    node: NodeId,
    storage: Storage,
    writer: Writer,
    frame_bytes_max: usize,
    /// The frame last sent, and what was written into it if that may go to several links.
    frame: Vec<u8>,
    framed: Option<Message>,
    /// Changes that nobody has been told of yet.
    changed: Vec<Change>,
    links: Links,
    /// What the node is to hear of at once: links that have taken all, and work that was soon done.
    at_once: Vec<Event>,
    answers: HashMap<RequestId, oneshot::Sender<Reply>>,
    next_request: u64,
    pub observer: Option<Observer>,
}

impl Performer {
    pub fn new(
        shared: Arc<Shared>,
        changes: Arc<Changes>,
        clock: Clock,
        opened: &Opened,
        frame_bytes_max: usize,
        node: NodeId,
    ) -> Self {
        let inputs = shared.inputs.clone();
        let writer = Writer::start(opened.storage.clone(), move |done| {
            // The queue is bounded, and its owner never waits for the writer: this ends.
            let inputs = inputs.clone();
            if let Err(error) = inputs.try_send(Input::Stored(done)) {
                tokio::spawn(async move { inputs.send(error.into_inner()).await });
            }
        });
        Self {
            shared,
            changes,
            clock,
            node,
            storage: opened.storage.clone(),
            writer,
            frame_bytes_max,
            frame: Vec::new(),
            framed: None,
            changed: Vec::new(),
            links: Links::new(),
            at_once: Vec::new(),
            answers: HashMap::new(),
            next_request: 0,
            observer: None,
        }
    }

    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    pub fn on_link_up(&mut self, handle: LinkHandle, dialed: Option<Addr>) -> Event {
        let link = handle.id;
        self.links.insert(link, handle);
        Event::LinkUp { link, dialed }
    }

    pub fn on_event(&mut self, event: Event) -> Event {
        match &event {
            Event::LinkDown { link } => {
                self.links.remove(link);
            }
            Event::Received { message, .. } => self.show(Seen::Received(message)),
            _ => {}
        }
        event
    }

    fn show(&mut self, seen: Seen<'_>) {
        if let Some(observe) = &mut self.observer {
            observe(seen);
        }
    }

    /// What has come of what was performed since the last call.
    pub fn take_at_once(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.at_once)
    }

    /// True while there is more of that.
    pub fn has_more(&self) -> bool {
        !self.at_once.is_empty()
    }

    pub fn on_ask(&mut self, answer: oneshot::Sender<Reply>) -> RequestId {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        // Whoever stopped waiting is forgotten.
        self.answers.retain(|_, answer| !answer.is_closed());
        self.answers.insert(request, answer);
        request
    }

    /// Performs everything in `fx` and empties it. A reason to stop ends it at once.
    pub fn perform(&mut self, fx: &mut Vec<Effect>) -> Option<StopReason> {
        for effect in fx.drain(..) {
            match effect {
                Effect::Dial { addr } => transport::dial(addr, self.shared.clone()),
                Effect::Send { link, message, notify } => self.send(link, message, notify),
                Effect::Hangup { link } => {
                    if let Some(handle) = self.links.get(&link) {
                        handle.hang_up();
                    }
                }
                Effect::Persist { seq, records } => self.writer.write(seq, records),
                Effect::Load { content, hash } => self.load(content, hash),
                Effect::Compute { work } => self.compute(work),
                Effect::Reply { request, reply } => {
                    if let Some(answer) = self.answers.remove(&request) {
                        let _ = answer.send(reply);
                    }
                }
                Effect::Changed { key, entry } => {
                    self.show(Seen::Changed(&key, &entry));
                    if key.origin != self.node {
                        let wall = self.clock.now().wall;
                        self.shared.metrics.observe_lag(wall.millis_after(entry.stamp.wall()).max(0) as u64);
                    }
                    if self.changes.are_watched() {
                        self.changed.push(Arc::new((key, entry)));
                    }
                }
                Effect::Notice(notice) => {
                    self.show(Seen::Notice(&notice));
                    tell(&notice, &self.shared.metrics);
                }
                Effect::Stop { why } => return Some(why),
            }
        }
        self.framed = None;
        // Peers first: telling a watcher wakes somebody who then wants this processor, or the other one.
        for change in self.changed.drain(..) {
            self.changes.tell(change);
        }
        None
    }

    fn send(&mut self, link: LinkId, message: Message, notify: bool) {
        self.show(Seen::Sent(&message));
        let Some(handle) = self.links.get(&link) else { return };
        // What one has pushed to it, the next often has as well: names that are shared compare at once.
        let again = self.framed.as_ref() == Some(&message);
        if !again && let Err(bytes) = transport::frame(&message, self.frame_bytes_max, &mut self.frame) {
            self.framed = None;
            return self.refuse_to_send(link, &message, bytes);
        }
        if handle.send(&self.frame, notify) {
            self.at_once.push(Event::LinkReady { link });
        }
        self.shared.metrics.count_frame("out", message.type_name(), self.frame.len());
        self.framed = Some(message).filter(|message| matches!(message, Message::SensorUpdate(_)));
    }

    fn refuse_to_send(&self, link: LinkId, message: &Message, bytes: usize) {
        // The node cuts what it sends to size; a frame beyond it would be refused by the peer anyway.
        error!(kind = message.type_name(), bytes, "a message is larger than frame_bytes_max and is not sent");
        let notice = Notice::Rejected { link, why: format!("our own {} is too large", message.type_name()) };
        self.shared.metrics.count_notice(&notice);
    }

    fn compute(&mut self, work: Work) {
        if work.micros() <= COMPUTED_AT_ONCE_US {
            let done = Box::new(work.run());
            return self.at_once.push(Event::Computed { done });
        }
        let inputs = self.shared.inputs.clone();
        tokio::spawn(async move {
            // Many nodes may share this process: no more of them compute at a time than there are processors.
            let turn = TURNS.acquire().await.expect("it is never closed");
            if inputs.is_closed() {
                return;
            }
            // What is not done is that of a process that ends: a panic has ended it already.
            let Ok(done) = tokio::task::spawn_blocking(move || work.run()).await else { return };
            drop(turn);
            let done = Box::new(done);
            let _ = inputs.send(Input::Event(Event::Computed { done })).await;
        });
    }

    fn load(&self, content: Content, hash: Hash) {
        let (storage, inputs) = (self.storage.clone(), self.shared.inputs.clone());
        tokio::task::spawn_blocking(move || {
            let bytes = match content {
                Content::Document => storage.document(&hash).map(|held| held.map(|d| d.bytes().as_bytes().to_vec())),
                Content::Body => storage.body(&hash).map(|held| held.map(|body| body.packed().to_vec())),
            };
            let bytes = bytes.unwrap_or_else(|why| {
                error!(err = %why, "cannot be served to a peer");
                None
            });
            let _ = inputs.blocking_send(Input::Event(Event::Loaded { content, hash, bytes }));
        });
    }
}
