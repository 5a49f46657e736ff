//! Promise 1: a write is as safe as its acknowledgement says, at the moment it is given and ever after.

use std::collections::BTreeMap;

use crate::core::event::Ack;
use crate::core::hlc::Hlc;
use crate::core::id::{Channel, NodeId};
use crate::core::state::entry::Key;
use crate::sim::disk::Store;
use crate::sim::oracles::Verdict;
use crate::sim::oracles::merges::Merges;

/// A write under way.
#[derive(Clone, Debug)]
pub struct Write {
    /// Where it was asked for, as a member.
    pub member: usize,
    /// And by name.
    pub node: NodeId,
    /// What was written.
    pub channels: Vec<Channel>,
    /// How safe it is to be.
    pub ack: Ack,
}

/// Writes under way, and those that must never be lost.
#[derive(Debug, Default)]
pub struct Acks {
    open: BTreeMap<u64, Write>,
    /// Newest stamp of each key acknowledged as durable.
    safe: BTreeMap<Key, Hlc>,
    /// Newest stamp of each key acknowledged as agreed: in a committed checkpoint, on a majority of disks.
    agreed: BTreeMap<Key, Hlc>,
    /// Acknowledgements by level, for the summary.
    pub given: BTreeMap<&'static str, u64>,
}

impl Acks {
    /// A client writes.
    pub fn asked(&mut self, id: u64, write: Write) {
        self.open.insert(id, write);
        while self.open.len() > 10_000 {
            self.open.pop_first();
        }
    }

    /// The write under this number.
    pub fn open(&self, id: u64) -> Option<&Write> {
        self.open.get(&id)
    }

    /// The write was refused.
    pub fn refused(&mut self, id: u64) {
        self.open.remove(&id);
    }

    /// The write is acknowledged. `in_checkpoint` tells whether a committed checkpoint holds a key with this stamp
    /// or a newer one.
    ///
    /// # Errors
    /// If it is not as safe as asked for.
    pub fn answered(
        &mut self,
        id: u64,
        stamps: &[Hlc],
        store: &Store,
        merges: &Merges,
        in_checkpoint: impl Fn(&Key, Hlc) -> bool,
    ) -> Verdict {
        let Some(write) = self.open.remove(&id) else { return Ok(()) };
        if stamps.len() != write.channels.len() {
            return Err(format!("{} stamps for {} readings", stamps.len(), write.channels.len()));
        }
        for (channel, stamp) in write.channels.iter().zip(stamps) {
            let key = Key::new(write.node.clone(), channel.clone());
            let on_disk = || store.own.get(channel).is_some_and(|entry| entry.stamp >= *stamp);
            let safe = match write.ack {
                Ack::Memory => true,
                Ack::Disk => on_disk(),
                Ack::Peers(k) => merges.holders(write.member, &key, *stamp) >= k as usize,
                Ack::Checkpoint => in_checkpoint(&key, *stamp),
            };
            if !safe {
                return Err(format!("{key} at {stamp} is acknowledged as {:?} and is not", write.ack));
            }
            match write.ack {
                Ack::Disk => drop(self.safe.insert(key, *stamp)),
                Ack::Checkpoint => drop(self.agreed.insert(key, *stamp)),
                Ack::Memory | Ack::Peers(_) => {}
            }
        }
        let level = match write.ack {
            Ack::Memory => "memory",
            Ack::Disk => "disk",
            Ack::Peers(_) => "peers",
            Ack::Checkpoint => "checkpoint",
        };
        *self.given.entry(level).or_default() += 1;
        Ok(())
    }

    /// A node starts on what its store gives back.
    ///
    /// # Errors
    /// If something acknowledged as durable is not there.
    pub fn recovered(&self, node: &NodeId, store: &Store) -> Verdict {
        let own = self.safe.iter().filter(|(key, _)| key.origin == *node);
        for (key, stamp) in own {
            if store.own.get(&key.channel).is_none_or(|entry| entry.stamp < *stamp) {
                return Err(format!("{key} at {stamp} was acknowledged as durable and is lost"));
            }
        }
        Ok(())
    }

    /// A node's disk is gone: what only it held may be lost. What a checkpoint holds is not.
    pub fn wiped(&mut self, node: &NodeId) {
        self.safe.retain(|key, _| key.origin != *node);
        self.open.retain(|_, write| write.node != *node);
    }

    /// A node is forgotten, or its clock started anew: what it wrote is dropped, or has lower stamps.
    pub fn excuse(&mut self, node: &NodeId) {
        self.wiped(node);
        self.agreed.retain(|key, _| key.origin != *node);
    }

    /// What must be held by everyone in the end, with what it was acknowledged as.
    pub fn lasting(&self) -> impl Iterator<Item = (&Key, Hlc, &'static str)> {
        let durable = self.safe.iter().map(|(key, stamp)| (key, *stamp, "durable"));
        durable.chain(self.agreed.iter().map(|(key, stamp)| (key, *stamp, "agreed")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::state::entry::{Entry, KeyedEntry, Scope, Value};

    fn key() -> Key {
        Key::new(NodeId::new("a").unwrap(), Channel::new("t").unwrap())
    }

    fn entry(stamp: u64) -> Entry {
        Entry { value: Value::of(&1), stamp: Hlc::from_bits(stamp), scope: Scope::Global }
    }

    fn acked(ack: Ack, store: &Store, merges: &Merges, in_checkpoint: bool) -> Verdict {
        let mut acks = Acks::default();
        acks.asked(1, Write { member: 0, node: key().origin, channels: vec![key().channel], ack });
        acks.answered(1, &[Hlc::from_bits(5)], store, merges, |_, _| in_checkpoint)
    }

    #[test]
    fn an_acknowledgement_that_promises_too_much_is_seen() {
        let (mut store, mut merges) = (Store::default(), Merges::default());
        assert_eq!(acked(Ack::Memory, &store, &merges, false), Ok(()));
        for ack in [Ack::Disk, Ack::Peers(1), Ack::Checkpoint] {
            assert!(acked(ack, &store, &merges, false).is_err(), "{ack:?}");
        }
        store.own.insert(key().channel, KeyedEntry::new(&key(), &entry(5)));
        merges.changed(1, &key(), &entry(6)).unwrap();
        for ack in [Ack::Disk, Ack::Peers(1), Ack::Checkpoint] {
            assert_eq!(acked(ack, &store, &merges, true), Ok(()), "{ack:?}");
        }
        assert!(acked(Ack::Peers(2), &store, &merges, true).is_err());
    }

    #[test]
    fn a_durable_write_that_is_lost_is_seen() {
        let mut store = Store::default();
        store.own.insert(key().channel, KeyedEntry::new(&key(), &entry(5)));
        let mut acks = Acks::default();
        acks.asked(1, Write { member: 0, node: key().origin, channels: vec![key().channel], ack: Ack::Disk });
        acks.answered(1, &[Hlc::from_bits(5)], &store, &Merges::default(), |_, _| false).unwrap();
        assert_eq!(acks.recovered(&key().origin, &store), Ok(()));
        assert!(acks.recovered(&key().origin, &Store::default()).is_err());
        acks.wiped(&key().origin);
        assert_eq!(acks.recovered(&key().origin, &Store::default()), Ok(()));
        assert_eq!(acks.lasting().count(), 0);
    }

    #[test]
    fn what_is_in_a_checkpoint_outlives_its_writers_disk_but_not_its_being_forgotten() {
        let mut acks = Acks::default();
        acks.asked(1, Write { member: 0, node: key().origin, channels: vec![key().channel], ack: Ack::Checkpoint });
        acks.answered(1, &[Hlc::from_bits(5)], &Store::default(), &Merges::default(), |_, _| true).unwrap();
        acks.wiped(&key().origin);
        assert_eq!(acks.lasting().collect::<Vec<_>>(), [(&key(), Hlc::from_bits(5), "agreed")]);
        acks.excuse(&key().origin);
        assert_eq!(acks.lasting().count(), 0);
    }
}
