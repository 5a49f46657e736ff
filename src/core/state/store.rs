//! The replicated map as one node holds it, with coded symbols of what is in it.
//!
//! Invariant: the sketches are those of the entries held, entry by entry; nobody ever encodes the state anew.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::core::hlc::Hlc;
use crate::core::id::{Channel, NodeId};
use crate::core::state::entry::{Entry, EntryRefusal, Key, KeyRef, KeyedEntry, Scope};
use crate::core::state::prints::Prints;
use crate::core::state::shelf::{Item, Place, Shelf};
use crate::core::state::sketch::{self, Sketch, Symbol};
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

/// Which entries two nodes have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Nodes of one region: everything.
    All,
    /// Nodes of different regions: entries of global scope.
    Global,
}

/// The map.
#[derive(Debug)]
pub struct Store {
    shelves: BTreeMap<NodeId, Shelf>,
    len: usize,
    forgotten: BTreeMap<NodeId, Hlc>,
    /// The newest word of global scope on keys whose newest of all stays in the region: other regions hold it still,
    /// and what is global must be the same everywhere. With its fingerprint.
    widest: BTreeMap<Key, (u64, Entry)>,
    /// Whose the newest words are, by their fingerprints.
    prints: Prints,
    /// Symbols of the entries of global scope, and of those that stay in the region.
    global: Sketch,
    region: Sketch,
    /// How many symbols a sketch of anything has.
    symbols: usize,
    symbols_max: usize,
    skew_max: Duration,
    retain: Duration,
    /// Entries stamped before this have been dropped.
    expired_to: Wall,
}

/// A sketch of anything has at least this many symbols.
const SYMBOLS_MIN: usize = 64;
/// Entries expire in batches, this many in the time that they are kept: a look at all of them is not for every
/// millisecond.
const EXPIRY_BATCHES: u64 = 256;

impl Store {
    /// An empty map.
    ///
    /// Stamps more than `skew_max` ahead are refused, entries older than `retain` leave, and sketches have at most
    /// `symbols_max` symbols.
    pub fn new(skew_max: Duration, retain: Duration, symbols_max: usize) -> Self {
        Self {
            shelves: BTreeMap::new(),
            len: 0,
            forgotten: BTreeMap::new(),
            widest: BTreeMap::new(),
            prints: Prints::default(),
            global: Sketch::default(),
            region: Sketch::default(),
            symbols: SYMBOLS_MIN.min(symbols_max),
            symbols_max,
            skew_max,
            retain,
            expired_to: Wall::default(),
        }
    }

    /// The newest word on a key.
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        Some(&self.shelves.get(&key.origin)?.get(&key.channel)?.entry)
    }

    /// All that is held of a key and shared: its newest word, and the newest global one below a word that stays in the
    /// region.
    pub fn words(&self, key: &Key, share: Share) -> impl Iterator<Item = &Entry> {
        let newest = self.get(key).filter(|entry| share.includes(entry.scope));
        newest.into_iter().chain(self.widest.get(key).map(|(_, entry)| entry))
    }

    /// All entries in key order.
    pub fn iter(&self) -> impl Iterator<Item = (KeyRef<'_>, &Entry)> {
        self.shelves.iter().flat_map(|(origin, shelf)| shelf.iter().map(move |item| parts(origin, item)))
    }

    /// Entries of one origin in channel order.
    pub fn of_origin(&self, origin: &NodeId) -> impl Iterator<Item = (KeyRef<'_>, &Entry)> {
        let shelf = self.shelves.get_key_value(origin);
        shelf.into_iter().flat_map(|(origin, shelf)| shelf.iter().map(move |item| parts(origin, item)))
    }

    /// The entry of one channel, of every origin that has one, in the order of origins.
    pub fn of_channel<'a>(&'a self, channel: &'a str) -> impl Iterator<Item = (&'a NodeId, &'a Entry)> {
        let found = |shelf: &'a Shelf| shelf.find(channel).ok().map(|place| &shelf.at(place).entry);
        self.shelves.iter().filter_map(move |(origin, shelf)| Some((origin, found(shelf)?)))
    }

    /// How many entries of one origin.
    pub fn count_of(&self, origin: &NodeId) -> usize {
        self.shelves.get(origin).map_or(0, Shelf::len)
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Count and order-independent fingerprint of everything.
    pub fn summary(&self) -> (u64, u64) {
        self.summary_of(Share::All)
    }

    /// Count and order-independent fingerprint of what is shared: the fingerprints' sum modulo 2^64.
    pub fn summary_of(&self, share: Share) -> (u64, u64) {
        let (count, sum) = self.global.summary();
        match share {
            Share::Global => (count, sum),
            Share::All => {
                let (more, added) = self.region.summary();
                (count + more, sum.wrapping_add(added))
            }
        }
    }

    /// The first coded symbols of what is shared, `most` or as many as there are: none of nothing.
    pub fn symbols_of(&self, share: Share, most: usize) -> Vec<Symbol> {
        let first = |sketch: &Sketch| sketch.symbols()[..most.min(sketch.symbols().len())].to_vec();
        match share {
            Share::All if self.global.is_empty() => first(&self.region),
            // All sketches of anything are of one length.
            Share::All => sketch::union(first(&self.global), self.region.symbols()),
            Share::Global => first(&self.global),
        }
    }

    /// How many coded symbols of what is shared there are.
    pub fn symbols_len(&self, share: Share) -> usize {
        match share {
            Share::All if self.global.is_empty() => self.region.symbols().len(),
            Share::All | Share::Global => self.global.symbols().len(),
        }
    }

    /// Fingerprints of what is shared: of newest words in key order, then of global ones below words that stay in the
    /// region, likewise.
    pub fn fingerprints(&self, share: Share) -> impl Iterator<Item = (u64, KeyRef<'_>, &Entry)> {
        let items = self.shelves.iter().flat_map(|(origin, shelf)| shelf.iter().map(move |item| (origin, item)));
        let newest = items.filter(move |(_, item)| share.includes(item.entry.scope)).map(|(origin, item)| {
            let (key, entry) = parts(origin, item);
            (item.fingerprint, key, entry)
        });
        newest.chain(self.widest.iter().map(|(key, (fingerprint, entry))| (*fingerprint, key.borrowed(), entry)))
    }

    /// Those of the fingerprints, in rising order, that are held and shared, in the order of keys. Looks at what is held
    /// of their origins.
    pub fn with_fingerprints(&self, share: Share, wanted: &[u64]) -> Vec<(KeyRef<'_>, &Entry)> {
        let asked = |print: u64, entry: &Entry| share.includes(entry.scope) && wanted.binary_search(&print).is_ok();
        let shelves =
            self.prints.origins_of(wanted).into_iter().filter_map(|origin| self.shelves.get_key_value(origin));
        let items = shelves.flat_map(|(origin, shelf)| shelf.iter().map(move |item| (origin, item)));
        let newest = items.filter(|(_, item)| asked(item.fingerprint, &item.entry));
        let mut found: Vec<(KeyRef<'_>, &Entry)> = newest.map(|(origin, item)| parts(origin, item)).collect();
        if found.len() < wanted.len() && !self.widest.is_empty() {
            let below = self.widest.iter().filter(|(_, (print, entry))| asked(*print, entry));
            found.extend(below.map(|(key, (_, entry))| (key.borrowed(), entry)));
            found.sort_by_key(|(key, _)| *key);
        }
        found
    }

    /// One word of each key that is shared, with its fingerprint, from a place in the order of a stream on: first the
    /// system's channels, then the others, each in key order. Global words below newer ones go to other regions only.
    pub fn stream<'a>(&'a self, share: Share, from: &'a Cursor) -> impl Iterator<Item = (u64, KeyRef<'a>, &'a Entry)> {
        let system = from.system.then(|| self.pass(from.after.as_ref(), true));
        let rest = self.pass(from.after.as_ref().filter(|_| !from.system), false);
        system.into_iter().flatten().chain(rest).filter_map(move |(fingerprint, key, entry)| {
            if share.includes(entry.scope) {
                return Some((fingerprint, key, entry));
            }
            let (fingerprint, entry) = self.widest.get(&key.to_key())?;
            Some((*fingerprint, key, entry))
        })
    }

    fn pass<'a>(&'a self, after: Option<&'a Key>, system: bool) -> impl Iterator<Item = (u64, KeyRef<'a>, &'a Entry)> {
        let first = after.map_or(Bound::Unbounded, |key| Bound::Included(&key.origin));
        let shelves = self.shelves.range::<NodeId, _>((first, Bound::Unbounded));
        shelves.flat_map(move |(origin, shelf)| {
            let (from, beyond) = match after {
                Some(key) if key.origin == *origin => (key.channel.as_str(), true),
                _ if system => (system::FIRST, false),
                _ => ("", false),
            };
            // The system's channels stand together.
            let items = shelf.from(from, beyond).take_while(move |item| !system || item.channel.is_system());
            items.filter(move |item| item.channel.is_system() == system).map(move |item| {
                let (key, entry) = parts(origin, item);
                (item.fingerprint, key, entry)
            })
        })
    }

    /// Takes an entry of our own.
    pub fn insert_own(&mut self, key: Key, entry: Entry) {
        self.seek_and_put(key, entry);
    }

    /// Judges and merges an entry that a peer sent; `wall` is the clock that is believed.
    ///
    /// The key that comes back shares its names with the map's.
    pub fn admit(&mut self, keyed: KeyedEntry, wall: Wall) -> Outcome {
        let (mut key, entry) = keyed.into_parts();
        let ahead = entry.stamp.wall().millis_after(wall);
        if ahead > self.skew_max.as_millis() as i64 {
            return Outcome::Refused { key, why: EntryRefusal::Future { ahead_ms: ahead as u64 } };
        }
        if entry.stamp.wall() < self.horizon(wall) {
            return Outcome::Refused { key, why: EntryRefusal::Expired };
        }
        if self.forgotten.get(&key.origin).is_some_and(|up_to| entry.stamp <= *up_to) {
            return Outcome::Refused { key, why: EntryRefusal::Forgotten };
        }
        let mut place = Err((0, 0));
        if let Some((origin, shelf)) = self.shelves.get_key_value(&key.origin) {
            key.origin = origin.clone();
            place = shelf.find(key.channel.as_str());
            if let Some(held) = place.ok().map(|place| shelf.at(place)) {
                if !entry.supersedes(&held.entry) {
                    let below = held.entry.scope == Scope::Region && entry.scope == Scope::Global;
                    if below && system::understand(&key.channel, &entry.value).is_ok() {
                        key.channel = held.channel.clone();
                        self.put_below(key, entry);
                    }
                    return Outcome::Duplicate;
                }
                key.channel = held.channel.clone();
            }
        }
        match system::understand(&key.channel, &entry.value) {
            Ok(meaning) => {
                self.put(key.clone(), entry.clone(), place);
                Outcome::New { key, entry, meaning }
            }
            Err(_) => Outcome::Refused { key, why: EntryRefusal::Malformed },
        }
    }

    /// Drops entries of `origin` stamped up to `up_to`, and refuses them from now on.
    pub fn forget(&mut self, origin: &NodeId, up_to: Hlc) -> Vec<Key> {
        let bound = self.forgotten.entry(origin.clone()).or_insert(up_to);
        *bound = up_to.max(*bound);
        self.drop_of(origin, |entry| entry.stamp <= up_to).into_iter().map(|(key, _)| key).collect()
    }

    /// Entries stamped before this have expired, by the clock `wall`.
    pub fn horizon(&self, wall: Wall) -> Wall {
        let batch = (self.retain.as_millis() as u64 / EXPIRY_BATCHES).max(1);
        Wall::from_millis((wall - self.retain).as_millis() / batch * batch)
    }

    /// Drops entries that have expired by the clock `wall`. Costs nothing most of the time.
    pub fn expire(&mut self, wall: Wall) -> Vec<Key> {
        let horizon = self.horizon(wall);
        if horizon <= self.expired_to {
            return Vec::new();
        }
        self.expired_to = horizon;
        self.drop_where(|_, entry| entry.stamp.wall() < horizon)
    }

    /// Drops entries of `origin` stamped after `bound`, and gives them back.
    pub fn drop_after(&mut self, origin: &NodeId, bound: Hlc) -> Vec<(Key, Entry)> {
        self.drop_of(origin, |entry| entry.stamp > bound)
    }

    /// Drops entries of everybody but `own` that are stamped after `bound`: how many.
    pub fn drop_future(&mut self, own: &NodeId, bound: Wall) -> usize {
        self.drop_where(|origin, entry| origin != own && entry.stamp.wall() > bound).len()
    }

    fn drop_where(&mut self, gone: impl Fn(&NodeId, &Entry) -> bool) -> Vec<Key> {
        let origins: Vec<NodeId> = self.shelves.keys().cloned().collect();
        let dropped = origins.into_iter().flat_map(|origin| self.drop_of(&origin, |entry| gone(&origin, entry)));
        dropped.map(|(key, _)| key).collect()
    }

    fn drop_of(&mut self, origin: &NodeId, gone: impl Fn(&Entry) -> bool) -> Vec<(Key, Entry)> {
        let Some(shelf) = self.shelves.get_mut(origin) else { return Vec::new() };
        let items = shelf.extract(|item| gone(&item.entry));
        if shelf.is_empty()
            && let Some(shelf) = self.shelves.remove(origin)
        {
            self.prints.dismiss(shelf.number);
        }
        self.len -= items.len();
        for item in &items {
            self.prints.remove(item.fingerprint);
            self.sketch(item.entry.scope).remove(item.fingerprint);
        }
        self.settle_below(origin, &gone);
        items.into_iter().map(|item| (Key::new(origin.clone(), item.channel), item.entry)).collect()
    }

    /// Keeps a global word below a newer one that stays in the region, if it is the newest global one.
    fn put_below(&mut self, key: Key, entry: Entry) {
        if self.widest.get(&key).is_some_and(|(_, held)| !entry.supersedes(held)) {
            return;
        }
        let print = fingerprint(&key.origin, &key.channel, &entry);
        if let Some((old, _)) = self.widest.insert(key, (print, entry)) {
            self.global.remove(old);
        }
        match self.global.is_empty() {
            true => self.grow_sketches(Scope::Global),
            false => self.global.insert(print),
        }
    }

    /// Newest words of `origin` have gone: so do global ones below them for which `gone` holds, and the others are the
    /// newest again.
    fn settle_below(&mut self, origin: &NodeId, gone: impl Fn(&Entry) -> bool) {
        if self.widest.is_empty() {
            return;
        }
        let below = self.widest.iter().filter(|(key, _)| key.origin == *origin);
        let loose = below.filter(|(key, (_, entry))| gone(entry) || self.get(key).is_none());
        for key in loose.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            let Some((print, entry)) = self.widest.remove(&key) else { continue };
            self.global.remove(print);
            if !gone(&entry) {
                self.seek_and_put(key, entry);
            }
        }
    }

    fn seek_and_put(&mut self, key: Key, entry: Entry) {
        let place = self.shelves.get(&key.origin).map_or(Err((0, 0)), |shelf| shelf.find(key.channel.as_str()));
        self.put(key, entry, place);
    }

    /// Puts an entry where it was found to belong on its origin's shelf.
    fn put(&mut self, key: Key, entry: Entry, place: Place) {
        let (scope, fingerprint) = (entry.scope, fingerprint(&key.origin, &key.channel, &entry));
        let full = key.clone();
        let item = Item { channel: key.channel, entry, fingerprint };
        let shelf = match self.shelves.get_mut(&key.origin) {
            Some(shelf) => shelf,
            None => {
                let number = self.prints.enroll(&key.origin);
                self.shelves.entry(key.origin).or_insert(Shelf::new(number))
            }
        };
        let (number, replaced) = (shelf.number, shelf.put(place, item));
        if let Some(old) = &replaced {
            self.prints.remove(old.fingerprint);
        }
        self.prints.insert(fingerprint, number);
        match replaced {
            // Other regions keep it: it stays among what is global.
            Some(old) if (old.entry.scope, scope) == (Scope::Global, Scope::Region) => {
                self.widest.insert(full, (old.fingerprint, old.entry));
            }
            Some(old) => {
                self.sketch(old.entry.scope).remove(old.fingerprint);
                if scope == Scope::Global
                    && let Some((below, _)) = self.widest.remove(&full)
                {
                    self.global.remove(below);
                }
            }
            None => self.len += 1,
        }
        if self.sketch(scope).is_empty() || (self.symbols < self.symbols_max && self.len * 2 > self.symbols) {
            return self.grow_sketches(scope);
        }
        self.sketch(scope).insert(fingerprint);
    }

    /// The set has outgrown its symbols, or is the first of its scope: encodes it anew, as rarely as a vector moves.
    fn grow_sketches(&mut self, scope: Scope) {
        if self.len * 2 > self.symbols {
            self.symbols = (self.len * 4).next_power_of_two().min(self.symbols_max).max(self.symbols);
        }
        for grown in [Scope::Global, Scope::Region] {
            if grown == scope || !self.sketch(grown).is_empty() {
                let mut sketch = Sketch::default();
                let items = self.shelves.values().flat_map(Shelf::iter).filter(|item| item.entry.scope == grown);
                let below =
                    self.widest.values().filter(|_| grown == Scope::Global).map(|(fingerprint, _)| *fingerprint);
                sketch.grow(self.symbols, items.map(|item| item.fingerprint).chain(below));
                *self.sketch(grown) = sketch;
            }
        }
    }

    fn sketch(&mut self, scope: Scope) -> &mut Sketch {
        match scope {
            Scope::Global => &mut self.global,
            Scope::Region => &mut self.region,
        }
    }
}

impl Share {
    /// True if entries of this scope are shared.
    pub fn includes(self, scope: Scope) -> bool {
        self == Self::All || scope == Scope::Global
    }

    /// What a node of `region` shares with one of `other`.
    pub fn between(region: &crate::core::id::RegionId, other: &crate::core::id::RegionId) -> Self {
        if region == other { Self::All } else { Self::Global }
    }
}

/// A place in the order in which the whole state is streamed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// True while the system's channels are on.
    pub system: bool,
    /// The last key that was sent.
    pub after: Option<Key>,
}

impl Cursor {
    /// Before everything.
    pub fn start() -> Self {
        Self { system: true, after: None }
    }

    /// Right after `key`.
    pub fn after(key: KeyRef<'_>) -> Self {
        Self { system: key.channel.is_system(), after: Some(key.to_key()) }
    }
}

fn parts<'a>(origin: &'a NodeId, item: &'a Item) -> (KeyRef<'a>, &'a Entry) {
    (KeyRef { origin, channel: &item.channel }, &item.entry)
}

/// 64 bits that stand for an entry: all nodes compute the same.
///
/// XXH3 of the value's text, seeded by XXH3 of the channel, seeded by XXH3 of the origin, seeded by the stamp; the
/// value's seed has its lowest bit flipped for region scope.
pub fn fingerprint(origin: &NodeId, channel: &Channel, entry: &Entry) -> u64 {
    let by_origin = xxh3_64_with_seed(origin.as_str().as_bytes(), entry.stamp.bits());
    let by_key = xxh3_64_with_seed(channel.as_str().as_bytes(), by_origin);
    xxh3_64_with_seed(entry.value.as_str().as_bytes(), by_key ^ u64::from(entry.scope == Scope::Region))
}

#[cfg(test)]
mod tests;
