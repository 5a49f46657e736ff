//! Names and layout of the tables, and the checksum around each value.

use redb::TableDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_64;

/// Single values by name: see the constants below.
pub const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// Hard states by group.
pub const HARD: TableDefinition<&str, &[u8]> = TableDefinition::new("hard");
/// Exact bytes of documents by hash.
pub const DOCUMENTS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("documents");
/// Packed bodies by hash.
pub const BODIES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("bodies");
/// Committed document hashes by group and index.
pub const LEDGER: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("ledger");
/// `HeldBody` by body hash.
pub const HELD: TableDefinition<&[u8], &[u8]> = TableDefinition::new("held");
/// Own entries by channel.
pub const OWN: TableDefinition<&str, &[u8]> = TableDefinition::new("own");

/// Layout of the store; a newer one is refused.
pub const FORMAT: &str = "format";
/// The data directory's own 128 bits.
pub const STORE_ID: &str = "store_id";
/// The cluster it belongs to.
pub const CLUSTER: &str = "cluster";
/// The hybrid clock's high-water mark.
pub const CLOCK_MARK: &str = "clock_mark";
/// Where members were last seen.
pub const LAST_SEEN: &str = "last_seen";

/// The only layout there is so far.
pub const FORMAT_VERSION: u32 = 1;

/// A value that fails its checksum or does not parse: changed outside this program.
#[derive(Debug, thiserror::Error)]
#[error("{what} is corrupt: {why}")]
pub struct Corrupt {
    pub what: String,
    pub why: String,
}

/// JSON of `value` behind its checksum.
pub fn seal<T: Serialize>(value: &T) -> Vec<u8> {
    let json = serde_json::to_vec(value).expect("our own types are JSON");
    let mut sealed = xxh3_64(&json).to_le_bytes().to_vec();
    sealed.extend_from_slice(&json);
    sealed
}

/// What [`seal`] wrote.
///
/// # Errors
/// [`Corrupt`] if the checksum does not fit or the JSON is another type's.
pub fn unseal<T: DeserializeOwned>(what: &str, sealed: &[u8]) -> Result<T, Corrupt> {
    let corrupt = |why: String| Corrupt { what: what.to_owned(), why };
    let Some((sum, json)) = sealed.split_first_chunk::<8>() else {
        return Err(corrupt("shorter than its checksum".into()));
    };
    if xxh3_64(json) != u64::from_le_bytes(*sum) {
        return Err(corrupt("its checksum does not fit".into()));
    }
    serde_json::from_slice(json).map_err(|error| corrupt(error.to_string()))
}
