//! Opening a data directory, and what a node starts on.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError};

use crate::core::hard_state::{HardState, HeldBody, Position, Recovered, StoreIdentity};
use crate::core::hlc::Hlc;
use crate::core::id::{ClusterId, GroupId, Hash, Index, StoreId};
use crate::core::ledger::body::Body;
use crate::core::state::entry::KeyedEntry;
use crate::shell::chance;
use crate::shell::storage::Storage;
use crate::shell::storage::guard::guarded;
use crate::shell::storage::tables::{self, Corrupt, seal, unseal};
use crate::shell::storage::unsynced::Unsynced;

/// Bytes of pages that a store keeps in memory.
const CACHE_BYTES: usize = 4 * 1024 * 1024;
pub(super) const STORE_FILE: &str = "store.redb";
const LOCK_FILE: &str = "lock";

/// A store and what it gave back.
pub struct Opened {
    /// The store, ready for writes.
    pub storage: Storage,
    /// Whose it is.
    pub identity: StoreIdentity,
    /// What the node takes up.
    pub recovered: Recovered,
    /// Where a corrupt store was moved, and what was wrong with it (C11).
    pub set_aside: Option<(PathBuf, String)>,
}

/// Why a data directory was not opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process runs on it.
    #[error("{dir} is in use by another process (stop that node first, or give this one another data_dir)")]
    InUse { dir: PathBuf },
    /// The operating system refuses.
    #[error("data directory {dir} cannot be used: {hint}")]
    Io { dir: PathBuf, hint: String, source: io::Error },
    /// Written by a newer version.
    #[error("{dir} was written by a newer version (layout {found}; this one knows {known}): upgrade sensorctl")]
    Newer { dir: PathBuf, found: u32, known: u32 },
    /// The store's own library refuses.
    #[error("store in {dir} cannot be opened: {why}")]
    Store { dir: PathBuf, why: String },
}

/// What stands in the way of taking up a store as it is.
enum Trouble {
    Corrupt(String),
    Fatal(OpenError),
}

/// How far a write goes before it counts as durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// To the disk: it survives the machine.
    Disk,
    /// To the operating system: it survives the process. For hundreds of nodes that share one machine, whose one disk
    /// would have to wait for each of them, and which lose their power together.
    System,
}

impl From<Corrupt> for Trouble {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt.to_string())
    }
}

impl Storage {
    /// Opens or creates the store in `dir` and reads what the node starts on.
    ///
    /// A store that is corrupt is renamed, not deleted, and replaced by a fresh one: see [`Opened::set_aside`].
    ///
    /// # Errors
    /// [`OpenError`] if the directory is in use, not writable, full, or written by a newer version.
    pub fn open(dir: &Path) -> Result<Opened, OpenError> {
        Self::open_to(dir, Depth::Disk)
    }

    /// The same, with writes that go only so far.
    ///
    /// # Errors
    /// See [`Storage::open`].
    pub fn open_to(dir: &Path, depth: Depth) -> Result<Opened, OpenError> {
        fs::create_dir_all(dir).map_err(|error| io_error(dir, error))?;
        let lock = Arc::new(lock(dir)?);
        let path = dir.join(STORE_FILE);
        let taken = guarded(|| take_up(dir, &path, depth, &lock));
        match taken.unwrap_or_else(|why| Err(Trouble::Corrupt(format!("reading it fails: {why}")))) {
            Ok(opened) => Ok(opened),
            Err(Trouble::Fatal(error)) => Err(error),
            Err(Trouble::Corrupt(why)) => {
                let aside = set_aside(dir, &path, "corrupt").map_err(|error| io_error(dir, error))?;
                match take_up(dir, &path, depth, &lock) {
                    Ok(opened) => Ok(Opened { set_aside: Some((aside, why)), ..opened }),
                    Err(Trouble::Fatal(error)) => Err(error),
                    Err(Trouble::Corrupt(why)) => Err(OpenError::Store { dir: dir.to_owned(), why }),
                }
            }
        }
    }

    /// A store that lives in memory and dies with the process: for benchmarks and tests.
    pub fn in_memory() -> Opened {
        let backend = redb::backends::InMemoryBackend::new();
        let db = Database::builder().set_cache_size(256 * 1024).create_with_backend(backend);
        let db = db.expect("memory does not fail");
        let storage = Storage { db: Arc::new(db), _lock: None, dir: None };
        let identity = storage.claim(Path::new(":memory:")).unwrap_or_else(|_| unreachable!("memory does not fail"));
        Opened { storage, identity, recovered: Recovered::default(), set_aside: None }
    }

    /// Reads the identity, or writes one into an empty store.
    fn claim(&self, dir: &Path) -> Result<StoreIdentity, Trouble> {
        let found = {
            let read = self.db.begin_read().map_err(|error| trouble(dir, error))?;
            match read.open_table(tables::META) {
                Ok(meta) => {
                    let format = meta.get(tables::FORMAT).map_err(|error| trouble(dir, error))?;
                    let format: Option<u32> = format.map(|v| unseal("layout", v.value())).transpose()?;
                    if let Some(found) = format.filter(|found| *found > tables::FORMAT_VERSION) {
                        let (dir, known) = (dir.to_owned(), tables::FORMAT_VERSION);
                        return Err(Trouble::Fatal(OpenError::Newer { dir, found, known }));
                    }
                    let id = meta.get(tables::STORE_ID).map_err(|error| trouble(dir, error))?;
                    id.map(|v| unseal::<StoreId>("store id", v.value())).transpose()?
                }
                Err(redb::TableError::TableDoesNotExist(_)) => None,
                Err(error) => return Err(trouble(dir, error)),
            }
        };
        if let Some(id) = found {
            return Ok(StoreIdentity { id, fresh: false });
        }
        let id = StoreId(chance::bits());
        let write = self.db.begin_write().map_err(|error| trouble(dir, error))?;
        {
            let mut meta = write.open_table(tables::META).map_err(|error| trouble(dir, error))?;
            for (name, value) in [(tables::FORMAT, seal(&tables::FORMAT_VERSION)), (tables::STORE_ID, seal(&id))] {
                meta.insert(name, &value[..]).map_err(|error| trouble(dir, error))?;
            }
            write.open_table(tables::HARD).map_err(|error| trouble(dir, error))?;
            write.open_table(tables::DOCUMENTS).map_err(|error| trouble(dir, error))?;
            write.open_table(tables::BODIES).map_err(|error| trouble(dir, error))?;
            write.open_table(tables::LEDGER).map_err(|error| trouble(dir, error))?;
            write.open_table(tables::HELD).map_err(|error| trouble(dir, error))?;
            write.open_table(tables::OWN).map_err(|error| trouble(dir, error))?;
        }
        write.commit().map_err(|error| trouble(dir, error))?;
        Ok(StoreIdentity { id, fresh: true })
    }

    /// Everything a node starts on.
    fn recover(&self, dir: &Path) -> Result<Recovered, Trouble> {
        let read = self.db.begin_read().map_err(|error| trouble(dir, error))?;
        let mut recovered = Recovered::default();

        let meta = read.open_table(tables::META).map_err(|error| trouble(dir, error))?;
        let cluster = meta.get(tables::CLUSTER).map_err(|error| trouble(dir, error))?;
        recovered.cluster = cluster.map(|v| unseal::<ClusterId>("cluster id", v.value())).transpose()?;
        let mark = meta.get(tables::CLOCK_MARK).map_err(|error| trouble(dir, error))?;
        let seen = meta.get(tables::LAST_SEEN).map_err(|error| trouble(dir, error))?;
        // Addresses are hints: damaged ones are learned anew, and no reason to set a store aside.
        recovered.last_seen = seen.and_then(|v| unseal("last seen", v.value()).ok()).unwrap_or_default();
        recovered.clock_mark = mark.map(|v| unseal::<Hlc>("clock mark", v.value())).transpose()?.unwrap_or_default();

        let hard = read.open_table(tables::HARD).map_err(|error| trouble(dir, error))?;
        for item in hard.iter().map_err(|error| trouble(dir, error))? {
            let (group, state) = item.map_err(|error| trouble(dir, error))?;
            let group = group_id(group.value())?;
            recovered.hard.push((group, unseal::<HardState>("hard state", state.value())?));
        }

        let ledger = read.open_table(tables::LEDGER).map_err(|error| trouble(dir, error))?;
        for item in ledger.iter().map_err(|error| trouble(dir, error))? {
            let (place, hash) = item.map_err(|error| trouble(dir, error))?;
            let (group, index) = place.value();
            let hash: Hash = unseal("ledger", hash.value())?;
            recovered.ledger.push((group_id(group)?, Position { index: Index(index), hash }));
        }

        // The documents that the hard states stand on are needed; without one the hard state is a guess.
        let mut needed: Vec<Hash> = recovered.cluster.into_iter().collect();
        for (_, state) in &recovered.hard {
            needed.push(state.accepted.hash);
            needed.extend(state.committed.map(|position| position.hash));
        }
        needed.sort_unstable();
        needed.dedup();
        for hash in needed {
            let missing = || Trouble::Corrupt(format!("document {} that the hard state names is gone", hash.short()));
            let document = self.document(&hash).map_err(|error| Trouble::Corrupt(error.to_string()))?;
            recovered.documents.push(document.ok_or_else(missing)?);
        }
        if recovered.cluster.is_some() && recovered.hard.is_empty() {
            return Err(Trouble::Corrupt("the hard state is gone".into()));
        }

        let held = read.open_table(tables::HELD).map_err(|error| trouble(dir, error))?;
        for item in held.iter().map_err(|error| trouble(dir, error))? {
            let (_, held) = item.map_err(|error| trouble(dir, error))?;
            recovered.bodies_held.push(unseal::<HeldBody>("held body", held.value())?);
        }
        let named: Vec<Hash> = recovered.documents.iter().filter_map(|document| document.header().body).collect();
        let mut bodies: Vec<Body> = Vec::new();
        for hash in named {
            // The body of an accepted document was promised by an ACK (C4): without it the promise is broken.
            match self.body(&hash) {
                Ok(Some(body)) => bodies.push(body),
                Ok(None) => return Err(Trouble::Corrupt(format!("body {} of a checkpoint is gone", hash.short()))),
                Err(error) => return Err(Trouble::Corrupt(error.to_string())),
            }
        }
        // The newest readings held stand in for what this node had learned of the others.
        let newest = recovered.bodies_held.iter().max_by_key(|held| held.taken_at).map(|held| held.hash);
        if let Some(hash) = newest.filter(|hash| bodies.iter().all(|body| body.hash() != *hash)) {
            bodies.extend(self.body(&hash).ok().flatten());
        }
        recovered.bodies = bodies;

        let own = read.open_table(tables::OWN).map_err(|error| trouble(dir, error))?;
        for item in own.iter().map_err(|error| trouble(dir, error))? {
            let (_, entry) = item.map_err(|error| trouble(dir, error))?;
            recovered.own.push(unseal::<KeyedEntry>("own reading", entry.value())?);
        }
        Ok(recovered)
    }
}

/// A fresh store where none is.
pub(super) fn create(dir: &Path, path: &Path, lock: Option<Arc<File>>) -> Result<Storage, OpenError> {
    let failed = |why: String| OpenError::Store { dir: dir.to_owned(), why };
    let db = Database::builder().set_cache_size(CACHE_BYTES).create(path).map_err(|error| failed(error.to_string()))?;
    let storage = Storage { db: Arc::new(db), _lock: lock, dir: Some(dir.to_owned()) };
    match storage.claim(dir) {
        Ok(_) => Ok(storage),
        Err(Trouble::Fatal(error)) => Err(error),
        Err(Trouble::Corrupt(why)) => Err(failed(why)),
    }
}

fn take_up(dir: &Path, path: &Path, depth: Depth, lock: &Arc<File>) -> Result<Opened, Trouble> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    let db = match depth {
        Depth::Disk => builder.create(path),
        Depth::System => Unsynced::open(path).and_then(|file| builder.create_with_backend(file)),
    };
    let db = db.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => Trouble::Fatal(OpenError::InUse { dir: dir.to_owned() }),
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
            Trouble::Corrupt(error.to_string())
        }
        DatabaseError::Storage(error) => trouble(dir, error),
        error => Trouble::Fatal(OpenError::Store { dir: dir.to_owned(), why: error.to_string() }),
    })?;
    let storage = Storage { db: Arc::new(db), _lock: Some(lock.clone()), dir: Some(dir.to_owned()) };
    let identity = storage.claim(dir)?;
    let recovered = if identity.fresh { Recovered::default() } else { storage.recover(dir)? };
    Ok(Opened { storage, identity, recovered, set_aside: None })
}

/// Sorts what the library says into what replacing the store would mend and what it would not.
fn trouble(dir: &Path, error: impl Into<redb::Error>) -> Trouble {
    match error.into() {
        redb::Error::Io(error) => Trouble::Fatal(io_error(dir, error)),
        redb::Error::Backend(error) => Trouble::Fatal(OpenError::Store { dir: dir.to_owned(), why: error.to_string() }),
        error => Trouble::Corrupt(error.to_string()),
    }
}

fn group_id(text: &str) -> Result<GroupId, Trouble> {
    text.parse().map_err(|_| Trouble::Corrupt(format!("group {text:?} has no such name")))
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK_FILE);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(|error| io_error(dir, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io_error(dir, error)),
    }
}

/// Renames a store: nothing is ever deleted. `why` becomes part of its name.
pub(super) fn set_aside(dir: &Path, path: &Path, why: &str) -> io::Result<PathBuf> {
    let free = (1..).map(|n| dir.join(format!("{STORE_FILE}.{why}-{n}"))).find(|candidate| !candidate.exists());
    let aside = free.expect("some number is free");
    fs::rename(path, &aside)?;
    File::open(dir)?.sync_all()?;
    Ok(aside)
}

/// What to do about what the operating system says.
pub(super) fn io_hint(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk is full; make room and start the node again".to_owned()
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            format!("{error}; make it writable for this user, or choose another data_dir")
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "a file stands where the directory should be".to_owned()
        }
        _ => error.to_string(),
    }
}

pub(super) fn io_error(dir: &Path, source: io::Error) -> OpenError {
    OpenError::Io { dir: dir.to_owned(), hint: io_hint(&source), source }
}
