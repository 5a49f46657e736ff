//! Merge: within one life, what a node holds of a key is only ever superseded.

use std::collections::BTreeMap;

use crate::core::hlc::Hlc;
use crate::core::id::NodeId;
use crate::core::state::entry::{Entry, Key};
use crate::sim::oracles::Verdict;

/// The newest entry of every key each member has shown.
#[derive(Debug, Default)]
pub struct Merges {
    /// In a large cluster only so many members are looked at, and of the others only what clients write.
    whole: Option<usize>,
    held: Vec<BTreeMap<Key, Entry>>,
    /// By member, over all its lives: the newest stamp of each key it ever held.
    ever: Vec<BTreeMap<Key, Hlc>>,
}

impl Merges {
    /// Looks at everything that the first `members` hold, and of the others only at what clients write.
    pub fn limit(&mut self, members: usize) {
        self.whole = Some(members);
    }

    /// A member starts a new life: its memory is what its disk gives it.
    pub fn reborn(&mut self, member: usize) {
        self.grow(member);
        self.held[member].clear();
    }

    /// A member holds an entry now.
    ///
    /// # Errors
    /// If it held a newer one.
    pub fn changed(&mut self, member: usize, key: &Key, entry: &Entry) -> Verdict {
        if self.whole.is_some_and(|whole| member >= whole) && !key.channel.as_str().starts_with("put") {
            return Ok(());
        }
        self.grow(member);
        match self.held[member].get_mut(key) {
            Some(held) if held.supersedes(entry) => {
                return Err(format!("{key} goes back from {} to {}", held.stamp, entry.stamp));
            }
            Some(held) => *held = entry.clone(),
            None => {
                self.held[member].insert(key.clone(), entry.clone());
            }
        }
        match self.ever[member].get_mut(key) {
            Some(ever) => *ever = entry.stamp.max(*ever),
            None => {
                self.ever[member].insert(key.clone(), entry.stamp);
            }
        }
        Ok(())
    }

    /// The stamp of what a member holds of a key now.
    pub fn held(&self, member: usize, key: &Key) -> Option<Hlc> {
        self.held.get(member)?.get(key).map(|entry| entry.stamp)
    }

    /// How many other members have ever held this of a key, or something newer.
    pub fn holders(&self, besides: usize, key: &Key, stamp: Hlc) -> usize {
        let holds = |ever: &BTreeMap<Key, Hlc>| ever.get(key).is_some_and(|held| *held >= stamp);
        self.ever.iter().enumerate().filter(|(member, ever)| *member != besides && holds(ever)).count()
    }

    /// An origin was forgotten by an operator: what comes of it again starts anew.
    pub fn forgotten(&mut self, origin: &NodeId) {
        self.held.iter_mut().for_each(|held| held.retain(|key, _| key.origin != *origin));
    }

    fn grow(&mut self, member: usize) {
        while self.held.len() <= member {
            self.held.push(BTreeMap::new());
            self.ever.push(BTreeMap::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::Channel;
    use crate::core::state::entry::{Scope, Value};

    #[test]
    fn a_merge_that_goes_back_is_seen() {
        let key = Key::new(NodeId::new("a").unwrap(), Channel::new("t").unwrap());
        let entry = |stamp| Entry { value: Value::of(&1), stamp: Hlc::from_bits(stamp), scope: Scope::Global };
        let mut merges = Merges::default();
        assert_eq!(merges.changed(1, &key, &entry(2)), Ok(()));
        assert_eq!(merges.changed(0, &key, &entry(1)), Ok(()));
        assert!(merges.changed(1, &key, &entry(1)).is_err());
        assert_eq!(merges.holders(0, &key, Hlc::from_bits(2)), 1);
        merges.reborn(1);
        assert_eq!(merges.changed(1, &key, &entry(1)), Ok(()), "memory does not outlive a process");
        assert_eq!(merges.holders(0, &key, Hlc::from_bits(2)), 1, "but it did hold it");
    }
}
