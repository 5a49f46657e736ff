//! A node's disk: batches of records that are atomic, in order, and durable only once the disk has said so.
//!
//! A crash keeps a prefix of what was asked for and not yet answered; a torn batch is a lost one. Nothing that was
//! answered is ever lost, but to a wipe or to a flipped bit that the checksum finds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::core::hard_state::{HardState, HeldBody, Position, Record, Recovered, StoreIdentity};
use crate::core::hlc::Hlc;
use crate::core::id::{Channel, ClusterId, GroupId, Hash, Index, NodeId, PersistSeq, StoreId};
use crate::core::ledger::body::Body;
use crate::core::ledger::document::Document;
use crate::core::message::agreement::Content;
use crate::core::rng::Rng;
use crate::core::state::entry::KeyedEntry;
use crate::core::state::system::Addr;

/// What is durable.
#[derive(Clone, Debug, Default)]
pub struct Store {
    /// The cluster it belongs to.
    pub cluster: Option<ClusterId>,
    /// Hard states by group.
    pub hard: Vec<(GroupId, HardState)>,
    /// Documents by hash.
    pub documents: BTreeMap<Hash, Document>,
    /// Bodies by hash.
    pub bodies: BTreeMap<Hash, Body>,
    /// By body, the newest committed checkpoint that names it.
    pub kept: BTreeMap<Hash, HeldBody>,
    /// Committed documents by place.
    pub ledger: BTreeMap<(GroupId, Index), Hash>,
    /// High-water mark of the clock.
    pub clock_mark: Hlc,
    /// Own entries.
    pub own: BTreeMap<Channel, KeyedEntry>,
    /// Where members were last seen.
    pub last_seen: BTreeMap<NodeId, Addr>,
}

impl Store {
    /// The hard state of a group.
    pub fn hard(&self, group: &GroupId) -> Option<&HardState> {
        self.hard.iter().find(|(of, _)| of == group).map(|(_, hard)| hard)
    }

    /// The first index below the newest that is missing in the ledger of a group, if any of it is held.
    pub fn lacks_of_ledger(&self, group: &GroupId) -> Option<Index> {
        let held = self.ledger.range((group.clone(), Index(0))..).take_while(|((of, _), _)| of == group);
        (0..).map(Index).zip(held).find_map(|(next, ((_, index), _))| (*index != next).then_some(next))
    }

    fn apply(&mut self, record: &Record) {
        match record {
            Record::Cluster(cluster) => self.cluster = Some(*cluster),
            Record::NoCluster => {
                self.cluster = None;
                self.hard.clear();
            }
            Record::Hard(group, hard) => match self.hard.iter_mut().find(|(of, _)| of == group) {
                Some((_, slot)) => *slot = hard.clone(),
                None => self.hard.push((group.clone(), hard.clone())),
            },
            Record::Document(document) => {
                self.documents.insert(document.hash(), document.clone());
            }
            Record::Body(body) => {
                self.bodies.insert(body.hash(), body.clone());
            }
            Record::Committed(group, at) => {
                self.ledger.insert((group.clone(), at.index), at.hash);
            }
            Record::ClockMark(mark) => self.clock_mark = *mark,
            Record::Own(entry) => {
                self.own.insert(entry.channel.clone(), entry.clone());
            }
            Record::KeepBody(held) => {
                self.kept.insert(held.hash, *held);
            }
            Record::DropBody(hash) => {
                self.bodies.remove(hash);
                self.kept.remove(hash);
            }
            Record::DropOwn(channel) => {
                self.own.remove(channel);
            }
            Record::LastSeen(addrs) => self.last_seen = addrs.clone(),
        }
    }

    /// Documents that a node starts on.
    fn needed(&self) -> Vec<Hash> {
        let mut hashes: Vec<Hash> = self.cluster.into_iter().collect();
        for (group, hard) in &self.hard {
            hashes.push(hard.accepted.hash);
            hashes.extend(hard.committed.map(|at| at.hash));
            let last = self.ledger.range((group.clone(), Index(0))..=(group.clone(), Index(u64::MAX))).next_back();
            hashes.extend(last.map(|(_, hash)| *hash));
        }
        hashes.sort();
        hashes.dedup();
        hashes
    }

    /// Bodies of these documents.
    fn bodies_of(&self, documents: &[Hash]) -> Vec<Hash> {
        documents.iter().filter_map(|hash| self.documents.get(hash)?.header().body).collect()
    }

    /// What a starting node is given: the accepted, newest committed and first documents with their bodies, and
    /// the rest as a real store gives it.
    fn recovered(&self) -> Recovered {
        let hashes = self.needed();
        let documents: Vec<Document> = hashes.iter().filter_map(|hash| self.documents.get(hash).cloned()).collect();
        let bodies =
            documents.iter().filter_map(|d| d.header().body).filter_map(|hash| self.bodies.get(&hash).cloned());
        Recovered {
            cluster: self.cluster,
            hard: self.hard.clone(),
            clock_mark: self.clock_mark,
            bodies: bodies.collect(),
            documents,
            bodies_held: self.kept.values().filter(|held| self.bodies.contains_key(&held.hash)).copied().collect(),
            ledger: self.ledger.iter().map(|((g, i), h)| (g.clone(), Position { index: *i, hash: *h })).collect(),
            own: self.own.values().cloned().collect(),
            last_seen: self.last_seen.clone(),
        }
    }
}

/// A batch that was asked for and not yet answered.
#[derive(Debug)]
struct Batch {
    seq: PersistSeq,
    due: u64,
    records: Vec<Record>,
}

/// A disk.
#[derive(Debug)]
pub struct Disk {
    identity: StoreIdentity,
    store: Store,
    pending: VecDeque<Batch>,
    /// When the last batch asked for will be durable: the disk works in order.
    busy_until: u64,
    flipped: bool,
    /// Documents and bodies in which a bit has flipped.
    rotten: BTreeSet<Hash>,
}

impl Disk {
    /// An empty disk.
    pub fn new(id: StoreId) -> Self {
        let identity = StoreIdentity { id, fresh: true };
        Self {
            identity,
            store: Store::default(),
            pending: VecDeque::new(),
            busy_until: 0,
            flipped: false,
            rotten: BTreeSet::new(),
        }
    }

    /// The identity votes are cast under.
    pub fn id(&self) -> StoreId {
        self.identity.id
    }

    /// What is durable.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// True if a checksum is known (to the simulator) to fail at the next start: of a hard state, or of a document or
    /// body that the node would start on.
    pub fn is_damaged(&self) -> bool {
        let needed = self.store.needed();
        let is_rotten = |hash: &Hash| self.rotten.contains(hash);
        self.flipped || needed.iter().any(is_rotten) || self.store.bodies_of(&needed).iter().any(is_rotten)
    }

    /// Takes a batch, durable at `now + latency` or after what came before it; says when.
    pub fn write(&mut self, seq: PersistSeq, records: Vec<Record>, now: u64, latency: u64) -> u64 {
        self.busy_until = (now + latency).max(self.busy_until);
        self.pending.push_back(Batch { seq, due: self.busy_until, records });
        self.busy_until
    }

    /// When a read asked for now is answered: after what was asked for before it.
    pub fn read_at(&mut self, now: u64, latency: u64) -> u64 {
        self.busy_until = (now + latency).max(self.busy_until);
        self.busy_until
    }

    /// Nothing more is answered before `until`.
    pub fn delay_until(&mut self, until: u64) {
        self.busy_until = self.busy_until.max(until);
        for batch in &mut self.pending {
            batch.due = batch.due.max(until);
        }
    }

    /// A disk that was slow or stuck works again: what it owes is durable soon.
    pub fn hurry(&mut self, now: u64) {
        let soon = now + 1_000;
        self.busy_until = self.busy_until.min(soon);
        for batch in &mut self.pending {
            batch.due = batch.due.min(soon);
        }
    }

    /// When the next batch becomes durable.
    pub fn next_due(&self) -> Option<u64> {
        self.pending.front().map(|batch| batch.due)
    }

    /// Makes durable what is due, each record shown to `each` first; the number of the last batch, if there was one.
    pub fn sync(&mut self, now: u64, mut each: impl FnMut(&Store, &Record)) -> Option<PersistSeq> {
        let mut last = None;
        while self.pending.front().is_some_and(|batch| batch.due <= now) {
            last = self.sync_one(&mut each);
        }
        last
    }

    /// The process or its host dies: the first `keep` unanswered batches turn out durable, the rest is lost.
    pub fn crash(&mut self, keep: usize, mut each: impl FnMut(&Store, &Record)) {
        for _ in 0..keep.min(self.pending.len()) {
            self.sync_one(&mut each);
        }
        self.pending.clear();
        self.busy_until = 0;
    }

    /// Batches not yet answered.
    pub fn unsynced(&self) -> usize {
        self.pending.len()
    }

    /// A bit flips: of a hard state; of a document, old or new; of a body that the node would start on.
    pub fn flip(&mut self, rng: &mut Rng) {
        let bodies = self.store.bodies_of(&self.store.needed());
        let held: Vec<Hash> = self.store.documents.keys().copied().chain(bodies).collect();
        match rng.pick(&held).filter(|_| rng.chance(0.5)) {
            Some(hash) => drop(self.rotten.insert(*hash)),
            None => self.flipped = true,
        }
    }

    /// Everything is gone; what starts next has another identity.
    pub fn wipe(&mut self, id: StoreId) {
        *self = Self::new(id);
    }

    /// What a node starting now is given.
    pub fn recover(&mut self) -> (StoreIdentity, Recovered) {
        let identity = self.identity;
        self.identity.fresh = false;
        (identity, self.store.recovered())
    }

    /// A document or body by its hash.
    pub fn load(&self, content: Content, hash: &Hash) -> Option<Vec<u8>> {
        if self.rotten.contains(hash) {
            return None;
        }
        match content {
            Content::Document => self.store.documents.get(hash).map(|document| document.bytes().as_bytes().to_vec()),
            Content::Body => self.store.bodies.get(hash).map(|body| body.packed().to_vec()),
        }
    }

    fn sync_one(&mut self, each: &mut impl FnMut(&Store, &Record)) -> Option<PersistSeq> {
        let batch = self.pending.pop_front()?;
        for record in &batch.records {
            match record {
                Record::Document(document) => drop(self.rotten.remove(&document.hash())),
                Record::Body(body) => drop(self.rotten.remove(&body.hash())),
                _ => {}
            }
            self.store.apply(record);
        }
        // Judges see a batch as a whole: it is atomic.
        for record in &batch.records {
            each(&self.store, record);
        }
        Some(batch.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::Wall;

    fn mark(millis: u64) -> Vec<Record> {
        vec![Record::ClockMark(Hlc::new(Wall::from_millis(millis), 0))]
    }

    fn marked(disk: &Disk) -> u64 {
        disk.store().clock_mark.wall().as_millis()
    }

    #[test]
    fn writes_are_durable_in_order_and_not_before_they_are_answered() {
        let mut disk = Disk::new(StoreId(1));
        assert_eq!(disk.write(PersistSeq(1), mark(1), 0, 100), 100);
        assert_eq!(disk.write(PersistSeq(2), mark(2), 10, 20), 100, "a fast write waits for the slow one before it");
        assert_eq!(disk.sync(99, |_, _| ()), None);
        assert_eq!(marked(&disk), 0);
        assert_eq!(disk.sync(100, |_, _| ()), Some(PersistSeq(2)));
        assert_eq!(marked(&disk), 2);
    }

    #[test]
    fn a_flipped_bit_is_found_where_it_is_read() {
        let genesis = crate::sim::oracles::samples::document(0, None, "abc");
        let old = crate::sim::oracles::samples::document(1, Some(&genesis), "ab");
        let group = genesis.header().group.clone();
        let hard = HardState::new(genesis.hash());
        let records = vec![Record::Document(genesis.clone()), Record::Document(old.clone()), Record::Hard(group, hard)];
        let (mut seen, mut rng) = (BTreeSet::new(), Rng::new(1));
        for _ in 0..50 {
            let mut disk = Disk::new(StoreId(1));
            disk.write(PersistSeq(1), records.clone(), 0, 10);
            disk.sync(10, |_, _| ());
            assert!(!disk.is_damaged());
            disk.flip(&mut rng);
            let lost = [&genesis, &old].map(|d| disk.load(Content::Document, &d.hash()).is_none());
            seen.insert((disk.is_damaged(), lost));
            disk.write(PersistSeq(2), records.clone(), 10, 10);
            disk.sync(20, |_, _| ());
            assert!(disk.load(Content::Document, &genesis.hash()).is_some(), "written anew");
        }
        let all = [(true, [false, false]), (true, [true, false]), (false, [false, true])];
        assert_eq!(seen, BTreeSet::from(all), "a hard state, what the node starts on, what it only serves");
    }

    #[test]
    fn a_crash_keeps_a_prefix_and_a_wipe_keeps_nothing() {
        let mut disk = Disk::new(StoreId(1));
        assert!(disk.recover().0.fresh);
        for n in 1..=3 {
            disk.write(PersistSeq(n), mark(n), 0, 10);
        }
        disk.crash(2, |_, _| ());
        assert_eq!((marked(&disk), disk.unsynced()), (2, 0));
        let (identity, recovered) = disk.recover();
        assert!(!identity.fresh && recovered.clock_mark.wall().as_millis() == 2);
        disk.wipe(StoreId(2));
        assert_eq!((marked(&disk), disk.id(), disk.recover().0.fresh), (0, StoreId(2), true));
    }
}
