//! A map that is only looked things up in.
//!
//! Hashed, for what is looked up with all that comes and goes: among thousands of names a tree compares a dozen, each
//! somewhere else in memory. It cannot be iterated, so no order of it can reach a trace, and its hashes are the same in
//! every run.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash};

/// A hashed map without an order.
#[derive(Clone, Debug)]
pub struct Lookup<K, V>(HashMap<K, V, BuildHasherDefault<DefaultHasher>>);

impl<K, V> Default for Lookup<K, V> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<K: Eq + Hash, V> Lookup<K, V> {
    /// What is held for a key.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(key)
    }

    /// Holds a value for a key, in place of what was held for it.
    pub fn insert(&mut self, key: K, value: V) {
        self.0.insert(key, value);
    }

    /// Holds nothing for a key any more, and gives back what was.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.0.remove(key)
    }

    /// How many keys something is held for.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_value_of_a_key_is_found_until_it_is_removed() {
        let mut lookup: Lookup<u64, &str> = Lookup::default();
        lookup.insert(1, "old");
        lookup.insert(1, "new");
        lookup.insert(2, "other");
        assert_eq!((lookup.get(&1), lookup.get(&3), lookup.count()), (Some(&"new"), None, 2));
        assert_eq!((lookup.remove(&1), lookup.remove(&1), lookup.get(&1)), (Some("new"), None, None));
    }
}
