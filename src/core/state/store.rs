//! The replicated map as one node holds it.

use std::collections::BTreeMap;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::core::hlc::Hlc;
use crate::core::id::NodeId;
use crate::core::state::entry::{Entry, EntryRefusal, Key, KeyedEntry};
use crate::core::state::system::{self, Meaning};
use crate::core::time::Wall;

/// What became of an entry that a peer sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is the newest word on its key.
    New { key: Key, entry: Entry, meaning: Meaning },
    /// It was held already, or something newer is.
    Duplicate,
    /// It was not merged.
    Refused { key: Key, why: EntryRefusal },
}

/// The map.
#[derive(Debug)]
pub struct Store {
    entries: BTreeMap<Key, Entry>,
    forgotten: BTreeMap<NodeId, Hlc>,
    sum: u64,
    skew_max: Duration,
    retain: Duration,
}

impl Store {
    /// An empty map.
    pub fn new(skew_max: Duration, retain: Duration) -> Self {
        Self { entries: BTreeMap::new(), forgotten: BTreeMap::new(), sum: 0, skew_max, retain }
    }

    /// The newest word on a key.
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// All entries in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter()
    }

    /// Entries of one origin in channel order.
    pub fn of_origin<'a>(&'a self, origin: &'a NodeId) -> impl Iterator<Item = (&'a Key, &'a Entry)> {
        self.entries.iter().filter(move |(key, _)| key.origin == *origin)
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Count and order-independent fingerprint.
    pub fn summary(&self) -> (u64, u64) {
        (self.entries.len() as u64, self.sum)
    }

    /// Takes an entry of our own.
    pub fn insert_own(&mut self, key: Key, entry: Entry) {
        self.put(key, entry);
    }

    /// Judges and merges an entry that a peer sent; `wall` is the clock that is believed.
    pub fn admit(&mut self, keyed: KeyedEntry, wall: Wall) -> Outcome {
        let (key, entry) = keyed.into_parts();
        let ahead = entry.stamp.wall().millis_after(wall);
        if ahead > self.skew_max.as_millis() as i64 {
            return Outcome::Refused { key, why: EntryRefusal::Future { ahead_ms: ahead as u64 } };
        }
        if entry.stamp.wall() < wall - self.retain {
            return Outcome::Refused { key, why: EntryRefusal::Expired };
        }
        if self.forgotten.get(&key.origin).is_some_and(|up_to| entry.stamp <= *up_to) {
            return Outcome::Refused { key, why: EntryRefusal::Forgotten };
        }
        if self.entries.get(&key).is_some_and(|held| !entry.supersedes(held)) {
            return Outcome::Duplicate;
        }
        match system::understand(&key.channel, &entry.value) {
            Ok(meaning) => {
                self.put(key.clone(), entry.clone());
                Outcome::New { key, entry, meaning }
            }
            Err(_) => Outcome::Refused { key, why: EntryRefusal::Malformed },
        }
    }

    /// Drops entries of `origin` stamped up to `up_to`, and refuses them from now on.
    pub fn forget(&mut self, origin: &NodeId, up_to: Hlc) -> Vec<Key> {
        let bound = self.forgotten.entry(origin.clone()).or_insert(up_to);
        *bound = up_to.max(*bound);
        self.remove_where(|key, entry| key.origin == *origin && entry.stamp <= up_to)
    }

    /// Drops entries stamped before `horizon`.
    pub fn expire(&mut self, horizon: Wall) -> Vec<Key> {
        self.remove_where(|_, entry| entry.stamp.wall() < horizon)
    }

    /// Drops entries of `origin` stamped after `bound`, and gives them back.
    pub fn drop_after(&mut self, origin: &NodeId, bound: Hlc) -> Vec<(Key, Entry)> {
        let keys: Vec<Key> =
            self.of_origin(origin).filter(|(_, entry)| entry.stamp > bound).map(|(key, _)| key.clone()).collect();
        keys.into_iter().filter_map(|key| self.remove(&key).map(|entry| (key, entry))).collect()
    }

    /// Drops entries of everybody but `own` that are stamped after `bound`: how many.
    pub fn drop_future(&mut self, own: &NodeId, bound: Wall) -> usize {
        self.remove_where(|key, entry| key.origin != *own && entry.stamp.wall() > bound).len()
    }

    fn remove_where(&mut self, gone: impl Fn(&Key, &Entry) -> bool) -> Vec<Key> {
        let keys: Vec<Key> = self.iter().filter(|(k, e)| gone(k, e)).map(|(key, _)| key.clone()).collect();
        for key in &keys {
            self.remove(key);
        }
        keys
    }

    fn remove(&mut self, key: &Key) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.sum = self.sum.wrapping_sub(fingerprint(key, &entry));
        Some(entry)
    }

    fn put(&mut self, key: Key, entry: Entry) {
        self.remove(&key);
        self.sum = self.sum.wrapping_add(fingerprint(&key, &entry));
        self.entries.insert(key, entry);
    }
}

fn fingerprint(key: &Key, entry: &Entry) -> u64 {
    let text = serde_json::to_vec(&KeyedEntry::new(key, entry)).expect("an entry is JSON");
    xxh3_64(&text)
}
