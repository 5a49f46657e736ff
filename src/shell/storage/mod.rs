//! Storage: a node's data directory, one embedded ACID store (redb) behind one writer.
//!
//! Every value carries a checksum of its own besides the store's. What fails it was changed outside this
//! program: a store whose hard state cannot be trusted is set aside, never read as if it were empty, and the
//! node comes back under a new `StoreId` as an observer (rule C11).
//!
//! Invariant: a batch is answered only once it is as durable as the store's [`Depth`] says; a failed write is never
//! retried, it stops the node.

mod guard;
mod open;
mod read;
mod recover;
mod tables;
mod unsynced;
mod write;

use std::path::PathBuf;
use std::sync::Arc;

use redb::Database;

pub use guard::abort_on_panic;
pub use open::{Depth, OpenError, Opened};
pub use read::ReadError;
pub use recover::{RecoverError, Recovery};
pub use write::{WriteError, Writer};

/// A node's store. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct Storage {
    db: Arc<Database>,
    /// Holds the directory's lock while any clone lives. `None` in memory.
    _lock: Option<Arc<std::fs::File>>,
    dir: Option<PathBuf>,
}

impl Storage {
    /// The data directory; `None` in memory.
    pub fn dir(&self) -> Option<&std::path::Path> {
        self.dir.as_deref()
    }
}

#[cfg(test)]
mod tests;
