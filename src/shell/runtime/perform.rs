//! Performing a node's effects, in order.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{broadcast, oneshot};
use tracing::error;

use crate::core::effect::{Effect, StopReason};
use crate::core::event::{Event, Reply};
use crate::core::id::{Hash, LinkId, NodeId, RequestId};
use crate::core::message::Message;
use crate::core::message::agreement::Content;
use crate::core::notice::Notice;
use crate::core::state::system::Addr;
use crate::shell::clock::Clock;
use crate::shell::runtime::{Change, Input, Links, Observed, Observer, Shared};
use crate::shell::storage::{Opened, Storage, Writer};
use crate::shell::telemetry::{Metrics, tell};
use crate::shell::transport::{self, LinkHandle};

/// The hands of one node.
pub(super) struct Performer {
    shared: Arc<Shared>,
    changes: broadcast::Sender<Change>,
    clock: Clock,
    node: NodeId,
    storage: Storage,
    writer: Writer,
    frame_bytes_max: usize,
    links: Links,
    answers: HashMap<RequestId, oneshot::Sender<Reply>>,
    next_request: u64,
    pub observer: Option<Observer>,
}

impl Performer {
    pub fn new(
        shared: Arc<Shared>,
        changes: broadcast::Sender<Change>,
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
            links: Links::new(),
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
            Event::Received { message, .. } => self.show(Observed::Received(message)),
            _ => {}
        }
        event
    }

    fn show(&mut self, observed: Observed<'_>) {
        if let Some(observe) = &mut self.observer {
            observe(observed);
        }
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
                Effect::Send { link, message, notify } => self.send(link, &message, notify),
                Effect::Hangup { link } => {
                    if let Some(handle) = self.links.get(&link) {
                        handle.hang_up();
                    }
                }
                Effect::Persist { seq, records } => self.writer.write(seq, records),
                Effect::Load { content, hash } => self.load(content, hash),
                Effect::Reply { request, reply } => {
                    if let Some(answer) = self.answers.remove(&request) {
                        let _ = answer.send(reply);
                    }
                }
                Effect::Changed { key, entry } => {
                    self.show(Observed::Changed(&key, &entry));
                    if key.origin != self.node {
                        let wall = self.clock.now().wall;
                        self.shared.metrics.observe_lag(wall.millis_after(entry.stamp.wall()).max(0) as u64);
                    }
                    if self.changes.receiver_count() > 0 {
                        let _ = self.changes.send(Arc::new((key, entry)));
                    }
                }
                Effect::Notice(notice) => {
                    self.show(Observed::Notice(&notice));
                    tell(&notice, &self.shared.metrics);
                }
                Effect::Stop { why } => return Some(why),
            }
        }
        None
    }

    fn send(&mut self, link: LinkId, message: &Message, notify: bool) {
        self.show(Observed::Sent(message));
        let Some(handle) = self.links.get(&link) else { return };
        match transport::frame(message, self.frame_bytes_max) {
            Ok(bytes) => {
                self.shared.metrics.count_frame("out", message.type_name(), bytes.len());
                handle.send(bytes, notify);
            }
            Err(bytes) => {
                // The node cuts what it sends to size; a frame beyond it would be refused by the peer anyway.
                error!(kind = message.type_name(), bytes, "a message is larger than frame_bytes_max and is not sent");
                let notice = Notice::Rejected { link, why: format!("our own {} is too large", message.type_name()) };
                self.shared.metrics.count_notice(&notice);
            }
        }
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
