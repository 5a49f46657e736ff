//! Making a new cluster from what is left of an old one, offline.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::core::hard_state::{HardState, HeldBody, Record};
use crate::core::id::{ClusterId, GroupId, Index, NodeId, PersistSeq, RegionId, StoreId, Voter};
use crate::core::ledger::document::Document;
use crate::core::state::entry::KeyedEntry;
use crate::core::voters::VotersError;
use crate::shell::chance;
use crate::shell::storage::open::{self, OpenError};
use crate::shell::storage::tables::{self, seal};
use crate::shell::storage::{ReadError, Storage, WriteError};

/// What a new cluster is made from.
pub struct Recovery<'a> {
    /// Its name.
    pub cluster: &'a str,
    /// Its first and only voter.
    pub node: &'a NodeId,
    /// That node's region.
    pub region: &'a RegionId,
    /// The old checkpoint that its genesis names as parent.
    pub from: &'a Document,
}

/// What became of it.
pub struct Recovered {
    /// The new cluster.
    pub cluster: ClusterId,
    /// Readings of the old checkpoint that were taken over; `None` if they are not held here.
    pub readings: Option<u64>,
    /// Where the old store is.
    pub set_aside: PathBuf,
}

/// Why no new cluster was made. The old store is where it was, unless the error says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The old store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The genesis cannot be made.
    #[error("the new genesis cannot be made: {0}")]
    Genesis(#[from] VotersError),
    /// The old store cannot be moved, or the new one not be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The new store cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Nothing to move: the store is in memory.
    #[error("a store in memory cannot be recovered")]
    InMemory,
}

impl Storage {
    /// Renames the store in `dir`, if there is one, so that the node begins on an empty one.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn set_aside(dir: &Path) -> io::Result<Option<PathBuf>> {
        let path = dir.join(open::STORE_FILE);
        if path.exists() { open::set_aside(dir, &path, "old").map(Some) } else { Ok(None) }
    }

    /// Replaces this store by one of a new cluster whose genesis names `from` as its parent and whose only
    /// voter is this node, under a new store id. `own` are the readings of this node that go on.
    ///
    /// # Errors
    /// [`RecoverError`]; the old store is never deleted.
    pub fn recover_as_new(self, own: Vec<KeyedEntry>, recovery: Recovery<'_>) -> Result<Recovered, RecoverError> {
        let dir = self.dir.clone().ok_or(RecoverError::InMemory)?;
        let header = recovery.from.header();
        let body = match header.body {
            Some(hash) => self.body(&hash)?,
            None => None,
        };
        let mark = self.clock_mark()?;
        let store = StoreId(chance::bits());
        let voter = Voter { node: recovery.node.clone(), store };
        let voters = BTreeMap::from([(recovery.region.clone(), vec![voter])]);
        let genesis = Document::recovered_genesis(recovery.cluster, voters, recovery.from)?;
        let cluster = genesis.hash();

        let lock = self._lock.clone();
        drop(self);
        let path = dir.join(open::STORE_FILE);
        let set_aside = open::set_aside(&dir, &path, "old").map_err(|source| open::io_error(&dir, source))?;
        let fresh = open::create(&dir, &path, lock)?;
        fresh.set_identity(store)?;

        let group = GroupId::Region(recovery.region.clone());
        let mut records = vec![
            Record::Cluster(cluster),
            Record::Document(recovery.from.clone()),
            Record::Document(genesis),
            Record::Hard(group, HardState::new(cluster)),
        ];
        records.extend(mark.map(Record::ClockMark));
        records.extend(own.into_iter().map(Record::Own));
        let readings = body.as_ref().map(|_| header.counts.readings);
        if let Some(body) = body {
            let taken_at = header.taken_at.time.wall();
            let held = HeldBody { index: Index(0), taken_at, hash: body.hash(), global: None };
            records.extend([Record::Body(body), Record::KeepBody(held)]);
        }
        fresh.commit(vec![(PersistSeq(1), records)])?;
        Ok(Recovered { cluster, readings, set_aside })
    }

    fn clock_mark(&self) -> Result<Option<crate::core::hlc::Hlc>, ReadError> {
        use redb::ReadableDatabase;
        let store = |error: redb::Error| ReadError::Store(error.to_string());
        let read = self.db.begin_read().map_err(|error| store(error.into()))?;
        let meta = read.open_table(tables::META).map_err(|error| store(error.into()))?;
        let mark = meta.get(tables::CLOCK_MARK).map_err(|error| store(error.into()))?;
        let corrupt = |error: tables::Corrupt| ReadError::Corrupt { what: error.what.clone(), why: error.why.clone() };
        mark.map(|mark| tables::unseal("clock mark", mark.value())).transpose().map_err(corrupt)
    }

    fn set_identity(&self, id: StoreId) -> Result<(), WriteError> {
        let write = || -> Result<(), redb::Error> {
            let write = self.db.begin_write()?;
            write.open_table(tables::META)?.insert(tables::STORE_ID, &seal(&id)[..])?;
            Ok(write.commit()?)
        };
        write().map_err(|error| WriteError {
            dir: self.dir.as_ref().map_or_else(String::new, |dir| dir.display().to_string()),
            hint: error.to_string(),
        })
    }
}
