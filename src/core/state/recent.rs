//! What was put last: most of what two nodes differ in is under way between them, and need not be looked for among
//! all that is held.

use std::collections::VecDeque;

use crate::core::state::entry::Key;

/// Fingerprints of the entries put last, and their keys, oldest first; they may have been replaced since.
#[derive(Debug, Default)]
pub(super) struct Recent {
    prints: VecDeque<u64>,
    keys: VecDeque<Key>,
}

impl Recent {
    /// An entry was put; `room` of them are remembered.
    pub fn note(&mut self, print: u64, key: Key, room: usize) {
        while self.prints.len() >= room.max(1) {
            self.prints.pop_front();
            self.keys.pop_front();
        }
        self.prints.push_back(print);
        self.keys.push_back(key);
    }

    /// Those of `wanted`, in rising order, that are remembered: their places in it, and their keys.
    pub fn find<'a>(&'a self, wanted: &'a [u64]) -> impl Iterator<Item = (usize, &'a Key)> {
        let places = self.prints.iter().zip(&self.keys);
        places.filter_map(move |(print, key)| Some((wanted.binary_search(print).ok()?, key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::{Channel, NodeId};

    #[test]
    fn the_last_ones_are_remembered() {
        let mut recent = Recent::default();
        let key = |n: u64| Key::new(NodeId::new("a").unwrap(), Channel::new(&format!("t{n}")).unwrap());
        (1..=5).for_each(|n| recent.note(n * 10, key(n), 3));
        let found: Vec<_> = recent.find(&[10, 20, 30, 50, 60]).collect();
        assert_eq!(found, [(2, &key(3)), (3, &key(5))]);
    }
}
