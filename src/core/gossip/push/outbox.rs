//! What waits to be sent to one neighbour: keys, never messages. A flush takes the newest value of each, so a slow
//! neighbour costs memory for keys and never for updates.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::core::id::{Channel, NodeId};
use crate::core::state::entry::{Key, KeyedEntry};
use crate::core::state::store::Store;

/// What an entry costs on the wire beyond its names and value, in bytes, roughly.
const ENTRY_OVERHEAD: usize = 72;
/// Entries of a message that room is made for at once.
const ENTRIES_EXPECTED: usize = 64;

/// What is said with the newest value of a key.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    /// The peer is to confirm that it holds it.
    pub confirm: bool,
    /// It came by way of a repair.
    pub repaired: bool,
}

/// Keys that have news for a peer. The system's own go first.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    system: BTreeMap<Key, Mark>,
    readings: BTreeMap<Key, Mark>,
}

impl Outbox {
    fn half(&mut self, channel: &Channel) -> &mut BTreeMap<Key, Mark> {
        if channel.is_system() { &mut self.system } else { &mut self.readings }
    }

    /// A key has news.
    pub fn add(&mut self, key: &Key, mark: Mark) {
        let half = self.half(&key.channel);
        match half.get_mut(key) {
            Some(waiting) => *waiting = Mark { confirm: waiting.confirm || mark.confirm, ..mark },
            None => {
                half.insert(key.clone(), mark);
            }
        }
    }

    /// A key has none.
    pub fn remove(&mut self, key: &Key) {
        let half = self.half(&key.channel);
        if !half.is_empty() {
            half.remove(key);
        }
    }

    /// The peer wants nothing of an origin.
    pub fn drop_origin(&mut self, origin: &NodeId) {
        // The first name that a channel can have.
        let Ok(first) = Channel::new("%") else { return };
        let from = Bound::Included(Key::new(origin.clone(), first));
        for half in [&mut self.system, &mut self.readings] {
            let of_origin = half.range((from.clone(), Bound::Unbounded)).take_while(|(key, _)| key.origin == *origin);
            // Whoever waits for confirmation has asked on every link.
            let gone: Vec<Key> = of_origin.filter(|(_, mark)| !mark.confirm).map(|(key, _)| key.clone()).collect();
            for key in gone {
                half.remove(&key);
            }
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.system.is_empty() && self.readings.is_empty()
    }

    /// Takes the newest values of the first keys, up to so many bytes; one at least.
    pub fn take(&mut self, store: &Store, bytes_max: usize) -> Vec<KeyedEntry> {
        let mut entries = Vec::with_capacity((self.system.len() + self.readings.len()).min(ENTRIES_EXPECTED));
        let mut bytes = 0;
        for half in [&mut self.system, &mut self.readings] {
            while bytes < bytes_max
                && let Some((key, Mark { confirm, repaired })) = half.pop_first()
            {
                // What was forgotten meanwhile is no news.
                let Some(entry) = store.get(&key) else { continue };
                bytes += key.origin.as_str().len() + key.channel.as_str().len() + entry.value.as_str().len();
                bytes += ENTRY_OVERHEAD;
                entries.push(KeyedEntry { confirm, repaired, ..KeyedEntry::new(&key, entry) });
            }
        }
        entries
    }

    /// Keys that wait.
    pub fn len(&self) -> usize {
        self.system.len() + self.readings.len()
    }
}
