//! The entries of one origin, in channel order and little more memory than they are.
//!
//! Short sorted vectors in a row: a tree of the standard library's would keep a third of its slots empty, which
//! with millions of replicas in one process is what memory goes to.

use std::iter;

use crate::core::id::Channel;
use crate::core::state::entry::Entry;

/// An entry where it is kept.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub channel: Channel,
    pub entry: Entry,
    pub fingerprint: u64,
}

/// Items of one origin.
#[derive(Clone, Debug)]
pub(super) struct Shelf {
    /// Of the origin, among all that something is held of.
    pub number: u32,
    /// None is empty, none is longer than [`ITEMS_MAX`]; sorted within and among each other.
    rows: Vec<Vec<Item>>,
}

/// Row and place there of a channel's item; as an error, where it would have to be.
pub(super) type Place = Result<(usize, usize), (usize, usize)>;

/// Items in one row: what a new item moves at most, and what a search in rows leaves to one in items.
const ITEMS_MAX: usize = 128;

impl Shelf {
    /// An empty one.
    pub fn new(number: u32) -> Self {
        Self { number, rows: Vec::new() }
    }

    /// How many items.
    pub fn len(&self) -> usize {
        self.rows.iter().map(Vec::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Item> {
        self.rows.iter().flatten()
    }

    pub fn get(&self, channel: &Channel) -> Option<&Item> {
        self.find(channel.as_str()).ok().map(|place| self.at(place))
    }

    /// The item at a place that was found.
    pub fn at(&self, (row, at): (usize, usize)) -> &Item {
        &self.rows[row][at]
    }

    /// Items from `channel` on; without it when `beyond`.
    pub fn from<'a>(&'a self, channel: &str, beyond: bool) -> impl Iterator<Item = &'a Item> {
        let (row, at) = match self.find(channel) {
            Ok((row, at)) => (row, at + usize::from(beyond)),
            Err(place) => place,
        };
        let first = self.rows.get(row).map_or(&[][..], |row| &row[at.min(row.len())..]);
        first.iter().chain(self.rows.iter().skip(row + 1).flatten())
    }

    /// Puts an item where [`Shelf::find`] has just found its place, and gives back the one that was there.
    pub fn put(&mut self, place: Place, item: Item) -> Option<Item> {
        match place {
            Ok((row, at)) => Some(std::mem::replace(&mut self.rows[row][at], item)),
            Err((row, at)) => {
                self.insert_at(row, at, item);
                None
            }
        }
    }

    /// Takes out the items that `gone` holds for, in order.
    pub fn extract(&mut self, mut gone: impl FnMut(&Item) -> bool) -> Vec<Item> {
        let mut taken = Vec::new();
        for row in &mut self.rows {
            taken.extend(row.extract_if(.., |item| gone(item)));
        }
        if !taken.is_empty() {
            (0..self.rows.len()).rev().for_each(|row| self.tidy(row));
        }
        taken
    }

    /// Where the channel's item is, or where it would have to be: in which row, and there.
    pub fn find(&self, channel: &str) -> Place {
        let above = self.rows.partition_point(|row| row[0].channel.as_str() <= channel);
        // Below all others it goes into the first row, else into the last that begins at or below it.
        let row = above.saturating_sub(1);
        let Some(items) = self.rows.get(row) else { return Err((0, 0)) };
        match items.binary_search_by(|item| item.channel.as_str().cmp(channel)) {
            Ok(at) => Ok((row, at)),
            Err(at) => Err((row, at)),
        }
    }

    fn insert_at(&mut self, row: usize, at: usize, item: Item) {
        let last = row + 1 == self.rows.len();
        let Some(items) = self.rows.get_mut(row) else {
            return self.add_row(0, iter::once(item).collect());
        };
        if items.len() < ITEMS_MAX {
            make_room(items);
            return items.insert(at, item);
        }
        if at == ITEMS_MAX && last {
            // Written in order, as a stream of the whole state is: rows stay full.
            return self.add_row(row + 1, iter::once(item).collect());
        }
        let mut upper = items.split_off(ITEMS_MAX / 2);
        items.shrink_to_fit();
        if at < ITEMS_MAX / 2 {
            items.insert(at, item)
        } else {
            upper.insert(at - ITEMS_MAX / 2, item)
        }
        self.add_row(row + 1, upper);
    }

    fn add_row(&mut self, at: usize, row: Vec<Item>) {
        make_room(&mut self.rows);
        self.rows.insert(at, row);
    }

    /// Drops a row that has emptied, and joins one that has become short with the next.
    fn tidy(&mut self, row: usize) {
        if self.rows[row].is_empty() {
            self.rows.remove(row);
        } else if row + 1 < self.rows.len() && self.rows[row].len() + self.rows[row + 1].len() <= ITEMS_MAX / 2 {
            let mut next = self.rows.remove(row + 1);
            self.rows[row].append(&mut next);
        } else if self.rows[row].len() * 2 < self.rows[row].capacity() {
            self.rows[row].shrink_to_fit();
        }
    }
}

/// Room for one more, by a quarter at a time: doubling would leave a third of all memory unused.
fn make_room<T>(items: &mut Vec<T>) {
    if items.len() == items.capacity() {
        items.reserve_exact(1 + items.len() / 4);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::core::hlc::Hlc;
    use crate::core::state::entry::{Scope, Value};

    fn item(channel: u16, fingerprint: u64) -> Item {
        let channel = Channel::new(&format!("c{channel:04}")).unwrap();
        let entry = Entry { value: Value::of(&1), stamp: Hlc::ZERO, scope: Scope::Global };
        Item { channel, entry, fingerprint }
    }

    proptest! {
        #[test]
        fn a_shelf_is_a_sorted_map(steps in prop::collection::vec((0..900u16, 0..8u8), 1..600)) {
            let (mut shelf, mut map) = (Shelf::new(0), BTreeMap::new());
            for (i, (channel, what)) in steps.iter().enumerate() {
                let fresh = item(*channel, i as u64);
                let key = fresh.channel.clone();
                match what {
                    0 => {
                        let gone = shelf.extract(|item| item.channel == key);
                        prop_assert_eq!(gone.first().map(|item| item.fingerprint), map.remove(&key));
                    }
                    1 if i % 50 == 0 => {
                        let gone = |fingerprint: u64| fingerprint.is_multiple_of(3);
                        shelf.extract(|item| gone(item.fingerprint));
                        map.retain(|_, fingerprint| !gone(*fingerprint));
                    }
                    _ => {
                        let place = shelf.find(key.as_str());
                        prop_assert_eq!(shelf.put(place, fresh).map(|i| i.fingerprint), map.insert(key, i as u64));
                    }
                }
            }
            let held: Vec<_> = shelf.iter().map(|i| (i.channel.clone(), i.fingerprint)).collect();
            prop_assert_eq!(held, map.iter().map(|(c, f)| (c.clone(), *f)).collect::<Vec<_>>());
            prop_assert_eq!(shelf.len(), map.len());
            prop_assert!(shelf.rows.iter().all(|row| !row.is_empty() && row.len() <= ITEMS_MAX));
            for (channel, _) in steps.iter().take(20) {
                let at = item(*channel, 0).channel;
                prop_assert_eq!(shelf.get(&at).map(|i| i.fingerprint), map.get(&at).copied());
                for beyond in [false, true] {
                    let tail: Vec<_> = shelf.from(at.as_str(), beyond).map(|i| i.fingerprint).collect();
                    let is_in = |c: &Channel| if beyond { *c > at } else { *c >= at };
                    let expected: Vec<_> = map.iter().filter(|(c, _)| is_in(c)).map(|(_, f)| *f).collect();
                    prop_assert_eq!(tail, expected);
                }
            }
        }
    }

    #[test]
    fn rows_written_in_order_and_rows_that_shrink_stay_in_order() {
        let full = || {
            let mut shelf = Shelf::new(0);
            for n in 0..256u16 {
                let fresh = item(n, u64::from(n));
                let place = shelf.find(fresh.channel.as_str());
                assert!(place.is_err() && shelf.put(place, fresh).is_none());
            }
            shelf
        };
        let held = |shelf: &Shelf| shelf.iter().map(|i| i.fingerprint).collect::<Vec<u64>>();
        let rows = |shelf: &Shelf| shelf.rows.iter().map(Vec::len).collect::<Vec<_>>();
        let mut shelf = full();
        assert_eq!((rows(&shelf), held(&shelf)), (vec![128, 128], (0..256).collect()));
        shelf.extract(|i| (20..236).contains(&i.fingerprint));
        assert_eq!((rows(&shelf), held(&shelf)), (vec![40], (0..20).chain(236..256).collect()));
        assert!((0..20).chain(236..256).all(|n| shelf.get(&item(n, 0).channel).is_some()));
        let mut uneven = full();
        uneven.extract(|i| (20..128).contains(&i.fingerprint));
        assert_eq!(rows(&uneven), [20, 128]);
    }
}
