//! What every source is given: a way to send, to fail, and to be looked at.

use std::collections::BTreeSet;
use std::sync::Mutex;

use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::core::id::Channel;
use crate::core::reading::{NOTE_BYTES_MAX, Quality, Reading};
use crate::core::time::{Mono, Wall};
use crate::shell::clock::Clock;
use crate::shell::http::model::SourceStatus;
use crate::shell::sensors::Sensed;

/// One source's way to the node.
pub struct Feed {
    name: String,
    kind: &'static str,
    clock: Clock,
    out: mpsc::Sender<Sensed>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    error: Option<String>,
    readings: u64,
    failures: u64,
    channels: BTreeSet<String>,
    last: Option<Mono>,
}

impl Feed {
    pub fn new(name: &str, kind: &'static str, clock: Clock, out: mpsc::Sender<Sensed>) -> Self {
        Self { name: name.to_owned(), kind, clock, out, state: Mutex::default() }
    }

    /// The wall clock, for readings that bring no time of their own.
    pub fn now(&self) -> Wall {
        self.clock.now().wall
    }

    /// Sends readings, and takes note that the source works. Waits while the node is behind.
    pub async fn send(&self, readings: Sensed) {
        if readings.is_empty() {
            return;
        }
        {
            let mut state = self.state.lock().expect("no holder panics");
            if state.error.take().is_some() {
                info!("works again");
            }
            state.readings += readings.len() as u64;
            state.last = Some(self.clock.now().mono);
            for (channel, _) in &readings {
                if !state.channels.contains(channel.as_str()) {
                    state.channels.insert(channel.to_string());
                }
            }
        }
        // A node that has stopped stops its sources too.
        let _ = self.out.send(readings).await;
    }

    /// Takes note of a failure, and says so on the source's channels, or on `channel` before there are any.
    pub async fn fail(&self, channel: &str, why: impl Into<String>) {
        let why = why.into();
        let channels: Vec<String> = {
            let mut state = self.state.lock().expect("no holder panics");
            state.failures += 1;
            if state.error.as_ref() != Some(&why) {
                warn!(err = %why, "fails");
            }
            state.error = Some(why.clone());
            match state.channels.is_empty() {
                true => vec![channel.to_owned()],
                false => state.channels.iter().cloned().collect(),
            }
        };
        let (time, note) = (self.now(), clip(&why));
        let bad = channels.iter().filter_map(|channel| {
            let reading =
                Reading { value: None, unit: None, sigma: None, quality: Quality::Bad, note: Some(note.clone()), time };
            Some((Channel::new(channel).ok()?, reading))
        });
        let _ = self.out.send(bad.collect()).await;
    }

    /// Takes note of something wrong in one item of the input; the source goes on.
    pub fn complain(&self, why: String) {
        let mut state = self.state.lock().expect("no holder panics");
        state.failures += 1;
        if state.error.as_ref() != Some(&why) {
            warn!(err = %why, "refused");
        }
        state.error = Some(why);
    }

    pub fn status(&self) -> SourceStatus {
        let state = self.state.lock().expect("no holder panics");
        SourceStatus {
            name: self.name.clone(),
            kind: self.kind.to_owned(),
            ok: state.error.is_none(),
            error: state.error.clone(),
            readings: state.readings,
            failures: state.failures,
            channels: state.channels.iter().cloned().collect(),
            last_reading_ms: state.last.map(|last| self.clock.now().mono.since(last).as_millis() as u64),
        }
    }
}

/// A note as long as the state allows.
fn clip(text: &str) -> String {
    let mut end = text.len().min(NOTE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// A name from hardware as part of a channel: what the alphabet lacks becomes `_`.
pub fn part(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' };
    let part: String = text.trim().chars().map(plain).take(60).collect();
    if part.is_empty() { "_".to_owned() } else { part }
}
