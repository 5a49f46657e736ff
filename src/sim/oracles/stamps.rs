//! Stamps: no origin issues one twice, restarts included, and a client's later write has the later stamp.

use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::xxh3_64;

use crate::core::hlc::Hlc;
use crate::core::id::NodeId;
use crate::core::state::entry::KeyedEntry;
use crate::sim::oracles::Verdict;

/// What every stamp was used for.
#[derive(Debug, Default)]
pub struct Stamps {
    used: BTreeMap<NodeId, BTreeMap<Hlc, u64>>,
    acked: BTreeMap<NodeId, Hlc>,
    open: BTreeMap<u64, (NodeId, Hlc)>,
    excused: BTreeSet<NodeId>,
}

impl Stamps {
    /// An origin has lost its clock's memory, to a wiped disk or on purpose: it may repeat itself.
    pub fn excuse(&mut self, origin: &NodeId) {
        self.excused.insert(origin.clone());
        self.used.remove(origin);
        self.acked.remove(origin);
        self.open.retain(|_, (of, _)| of != origin);
    }

    /// An origin has written an entry.
    ///
    /// # Errors
    /// If it has used the stamp for something else.
    pub fn written(&mut self, entry: &KeyedEntry) -> Verdict {
        if self.excused.contains(&entry.origin) {
            return Ok(());
        }
        let what = xxh3_64(entry.channel.as_str().as_bytes()) ^ xxh3_64(entry.value.as_str().as_bytes()).rotate_left(1);
        let used = match self.used.get_mut(&entry.origin) {
            Some(used) => used,
            None => self.used.entry(entry.origin.clone()).or_default(),
        };
        if *used.entry(entry.stamp).or_insert(what) != what {
            return Err(format!("{} uses stamp {} twice, now for {}", entry.origin, entry.stamp, entry.channel));
        }
        Ok(())
    }

    /// A client writes at a node.
    pub fn asked(&mut self, write: u64, node: &NodeId) {
        let floor = self.acked.get(node).copied().unwrap_or(Hlc::ZERO);
        self.open.insert(write, (node.clone(), floor));
        while self.open.len() > 10_000 {
            self.open.pop_first();
        }
    }

    /// The write is acknowledged with these stamps.
    ///
    /// # Errors
    /// If one is not above those acknowledged before the client asked, or they do not rise.
    pub fn answered(&mut self, write: u64, stamps: &[Hlc]) -> Verdict {
        let Some((node, floor)) = self.open.remove(&write) else { return Ok(()) };
        if stamps.first().is_some_and(|first| *first <= floor) || !stamps.is_sorted_by(|a, b| a < b) {
            return Err(format!("{node} acknowledges {stamps:?} for a write asked after {floor} was acknowledged"));
        }
        if let Some(last) = stamps.last() {
            let acked = self.acked.entry(node).or_insert(*last);
            *acked = (*acked).max(*last);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::Channel;
    use crate::core::state::entry::{Scope, Value};

    fn entry(channel: &str, stamp: u64, value: &str) -> KeyedEntry {
        KeyedEntry {
            origin: NodeId::new("a").unwrap(),
            channel: Channel::new(channel).unwrap(),
            stamp: Hlc::from_bits(stamp),
            scope: Scope::Global,
            value: Value::of(&value),
            confirm: false,
            repaired: false,
        }
    }

    #[test]
    fn a_stamp_used_twice_is_seen() {
        let mut stamps = Stamps::default();
        assert_eq!(stamps.written(&entry("t", 1, "x")), Ok(()));
        assert_eq!(stamps.written(&entry("t", 1, "x")), Ok(()), "the same write again");
        assert!(stamps.written(&entry("t", 1, "y")).is_err());
        assert!(stamps.written(&entry("u", 1, "x")).is_err());
        stamps.excuse(&NodeId::new("a").unwrap());
        assert_eq!(stamps.written(&entry("u", 1, "z")), Ok(()));
    }

    #[test]
    fn a_later_write_with_an_earlier_stamp_is_seen() {
        let (mut stamps, a) = (Stamps::default(), NodeId::new("a").unwrap());
        stamps.asked(1, &a);
        assert_eq!(stamps.answered(1, &[Hlc::from_bits(7), Hlc::from_bits(8)]), Ok(()));
        stamps.asked(2, &a);
        assert!(stamps.answered(2, &[Hlc::from_bits(8)]).is_err());
    }
}
