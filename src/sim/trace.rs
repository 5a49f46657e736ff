//! What happened, as a running hash that two runs of one seed share, and as text for those who ask.

use std::fmt::{self, Write as _};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::core::effect::Effect;
use crate::core::event::Event;
use crate::core::hard_state::Record;
use crate::core::message::Message;
use crate::core::state::entry::KeyedEntry;
use crate::core::work::Work;

/// Who wants to read along.
pub type Listener = Box<dyn FnMut(&str)>;

/// The trace of a run.
#[derive(Default)]
pub struct Trace {
    hash: u64,
    step: Vec<u8>,
    text: Option<Listener>,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({:016x})", self.hash)
    }
}

impl Trace {
    /// A trace that also tells every line to `text`.
    pub fn told(text: Listener) -> Self {
        Self { text: Some(text), ..Self::default() }
    }

    /// The hash so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Something that is neither an event nor an effect: a fault, a phase.
    pub fn remark(&mut self, at: u64, who: &str, what: fmt::Arguments<'_>) {
        self.number(at);
        self.bytes(who.as_bytes());
        self.debug(&what);
        self.seal();
        self.line(at, who, "!!", what);
    }

    /// An event a node is about to handle.
    pub fn event(&mut self, at: u64, who: &str, event: &Event) {
        self.number(at);
        self.bytes(who.as_bytes());
        match event {
            Event::Wake => self.number(0),
            Event::LinkUp { link, dialed } => {
                self.numbers(&[1, link.get()]);
                self.bytes(dialed.as_deref().unwrap_or("").as_bytes());
            }
            Event::LinkDown { link } => self.numbers(&[2, link.get()]),
            Event::DialFailed { addr, refused } => {
                self.numbers(&[3, u64::from(*refused)]);
                self.bytes(addr.as_bytes());
            }
            Event::LinkReady { link } => self.numbers(&[4, link.get()]),
            // The message itself was hashed when it was sent.
            Event::Received { link, message } => {
                self.numbers(&[5, link.get()]);
                self.bytes(message.type_name().as_bytes());
            }
            Event::Persisted { seq } => self.numbers(&[6, seq.get()]),
            // What is done depends on the work alone, which was hashed when it was asked for.
            Event::Computed { .. } => self.number(7),
            other => self.debug(other),
        }
        self.seal();
        if self.text.is_some() {
            self.line(at, who, "<-", format_args!("{event:?}"));
        }
    }

    /// An effect a node has asked for.
    pub fn effect(&mut self, at: u64, who: &str, effect: &Effect) {
        match effect {
            Effect::Send { link, message, notify } => {
                self.numbers(&[1, link.get(), u64::from(*notify)]);
                self.message(message);
            }
            Effect::Persist { seq, records } => {
                self.numbers(&[2, seq.get()]);
                records.iter().for_each(|record| self.record(record));
            }
            Effect::Changed { key, entry } => self.entry(&KeyedEntry::new(key, entry)),
            Effect::Compute { work } => self.work(work),
            other => self.debug(other),
        }
        self.seal();
        if self.text.is_some() {
            self.line(at, who, "->", format_args!("{effect:?}"));
        }
    }

    fn work(&mut self, work: &Work) {
        match work {
            Work::Checkpoint(readings) => {
                self.numbers(&[3, readings.index.get(), readings.taken_at.bits()]);
                readings.entries.iter().for_each(|(key, entry)| self.entry(&KeyedEntry::new(key, entry)));
            }
            Work::Body { hash, .. } => {
                self.number(4);
                self.bytes(hash.as_bytes());
            }
            Work::Find { body, .. } | Work::Compare { body, .. } => {
                self.number(5);
                self.bytes(body.hash().as_bytes());
            }
        }
    }

    fn message(&mut self, message: &Message) {
        match message {
            Message::Keepalive(_) => self.number(1),
            Message::SensorUpdate(update) => update.entries.iter().for_each(|entry| self.entry(entry)),
            Message::Heartbeat(beat) => {
                self.numbers(&[3, beat.term.get(), beat.round.get()]);
                self.numbers(&[beat.committed.map_or(u64::MAX, |at| at.index.get())]);
            }
            Message::HeartbeatAck(ack) => {
                self.numbers(&[4, ack.term.get(), ack.round.get()]);
                self.numbers(&[ack.holds.map_or(u64::MAX, |at| at.index.get())]);
            }
            // The rest is rare: its wire form says everything.
            other => other.encode(&mut self.step),
        }
    }

    fn record(&mut self, record: &Record) {
        match record {
            Record::Own(entry) => self.entry(entry),
            Record::Body(body) => self.bytes(body.hash().as_bytes()),
            Record::Document(document) => self.bytes(document.hash().as_bytes()),
            other => self.debug(other),
        }
    }

    fn entry(&mut self, entry: &KeyedEntry) {
        self.bytes(entry.origin.as_str().as_bytes());
        self.bytes(entry.channel.as_str().as_bytes());
        self.number(entry.stamp.bits());
        self.bytes(entry.value.as_str().as_bytes());
    }

    fn number(&mut self, number: u64) {
        self.step.extend_from_slice(&number.to_le_bytes());
    }

    fn numbers(&mut self, numbers: &[u64]) {
        numbers.iter().for_each(|number| self.number(*number));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.step.extend_from_slice(bytes);
        self.step.push(0);
    }

    fn debug(&mut self, what: &dyn fmt::Debug) {
        struct Into<'a>(&'a mut Vec<u8>);
        impl fmt::Write for Into<'_> {
            fn write_str(&mut self, s: &str) -> fmt::Result {
                self.0.extend_from_slice(s.as_bytes());
                Ok(())
            }
        }
        write!(Into(&mut self.step), "{what:?}").expect("a vector takes everything");
    }

    /// Takes what was gathered into the hash.
    fn seal(&mut self) {
        self.hash = xxh3_64_with_seed(&self.step, self.hash);
        self.step.clear();
    }

    fn line(&mut self, at: u64, who: &str, arrow: &str, what: fmt::Arguments<'_>) {
        if let Some(text) = &mut self.text {
            text(&format!("{:>4}.{:06} {who:>8} {arrow} {what}", at / 1_000_000, at % 1_000_000));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::LinkId;

    #[test]
    fn a_trace_depends_on_everything_in_its_order() {
        let trace = |events: &[Event]| {
            let mut trace = Trace::default();
            events.iter().enumerate().for_each(|(at, event)| trace.event(at as u64, "gw-1", event));
            trace.hash()
        };
        let (up, down) = (Event::LinkUp { link: LinkId(1), dialed: None }, Event::LinkDown { link: LinkId(1) });
        assert_eq!(trace(&[up.clone(), down.clone()]), trace(&[up.clone(), down.clone()]));
        assert_ne!(trace(&[up.clone(), down.clone()]), trace(&[down, up]));
    }
}
