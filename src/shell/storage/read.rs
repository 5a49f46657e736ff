//! Reading while the node runs: documents, bodies and the ledger, each checked against its name.

use redb::ReadableDatabase;

use crate::core::hard_state::Position;
use crate::core::id::{GroupId, Hash, Index};
use crate::core::ledger::body::Body;
use crate::core::ledger::document::Document;
use crate::shell::storage::Storage;
use crate::shell::storage::tables::{self, unseal};

/// Why something held could not be read. The node goes on; peers may hold it.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk or the store's library says no.
    #[error("store cannot be read: {0}")]
    Store(String),
    /// The bytes are not what their name says.
    #[error("stored {what} is corrupt: {why}")]
    Corrupt { what: String, why: String },
}

fn store(error: impl Into<redb::Error>) -> ReadError {
    ReadError::Store(error.into().to_string())
}

impl Storage {
    /// The document of this hash.
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails or the bytes are not the document's.
    pub fn document(&self, hash: &Hash) -> Result<Option<Document>, ReadError> {
        let read = self.db.begin_read().map_err(store)?;
        let table = read.open_table(tables::DOCUMENTS).map_err(store)?;
        let Some(bytes) = table.get(&hash.as_bytes()[..]).map_err(store)? else { return Ok(None) };
        let corrupt = |why: String| ReadError::Corrupt { what: format!("document {}", hash.short()), why };
        let text = std::str::from_utf8(bytes.value()).map_err(|error| corrupt(error.to_string()))?;
        Document::parse_as(text, *hash).map(Some).map_err(|error| corrupt(error.to_string()))
    }

    /// The body of this hash.
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails or the bytes are not the body's.
    pub fn body(&self, hash: &Hash) -> Result<Option<Body>, ReadError> {
        let read = self.db.begin_read().map_err(store)?;
        let table = read.open_table(tables::BODIES).map_err(store)?;
        let Some(bytes) = table.get(&hash.as_bytes()[..]).map_err(store)? else { return Ok(None) };
        let corrupt = |why: String| ReadError::Corrupt { what: format!("body {}", hash.short()), why };
        Body::from_packed(bytes.value(), *hash).map(Some).map_err(|error| corrupt(error.to_string()))
    }

    /// Whether the body of this hash is held.
    ///
    /// # Errors
    /// [`ReadError::Store`] if the disk fails.
    pub fn holds_body(&self, hash: &Hash) -> Result<bool, ReadError> {
        let read = self.db.begin_read().map_err(store)?;
        let table = read.open_table(tables::BODIES).map_err(store)?;
        Ok(table.get(&hash.as_bytes()[..]).map_err(store)?.is_some())
    }

    /// The committed position at `index` of a group's ledger.
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails or the entry is corrupt.
    pub fn position(&self, group: &GroupId, index: Index) -> Result<Option<Position>, ReadError> {
        Ok(self.positions(group, index, index)?.pop())
    }

    /// Committed positions of a group's ledger between two indices, both included, ascending.
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails or an entry is corrupt.
    pub fn positions(&self, group: &GroupId, from: Index, to: Index) -> Result<Vec<Position>, ReadError> {
        if from > to {
            return Ok(Vec::new());
        }
        let read = self.db.begin_read().map_err(store)?;
        let table = read.open_table(tables::LEDGER).map_err(store)?;
        let name = group.to_string();
        let range = table.range((name.as_str(), from.get())..=(name.as_str(), to.get())).map_err(store)?;
        range
            .map(|item| {
                let (place, hash) = item.map_err(store)?;
                let corrupt =
                    |error: tables::Corrupt| ReadError::Corrupt { what: error.what.clone(), why: error.why.clone() };
                let hash = unseal("ledger", hash.value()).map_err(corrupt)?;
                Ok(Position { index: Index(place.value().1), hash })
            })
            .collect()
    }

    /// The newest committed position of a group's ledger on disk.
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails or the entry is corrupt.
    pub fn newest(&self, group: &GroupId) -> Result<Option<Position>, ReadError> {
        let read = self.db.begin_read().map_err(store)?;
        let table = read.open_table(tables::LEDGER).map_err(store)?;
        let name = group.to_string();
        let last = table.range((name.as_str(), 0)..=(name.as_str(), u64::MAX)).map_err(store)?.next_back();
        let Some(last) = last.transpose().map_err(store)? else { return Ok(None) };
        self.position(group, Index(last.0.value().1))
    }
}
