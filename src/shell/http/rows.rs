//! Turning the core's values into what the API says.

use jiff::Timestamp;

use crate::core::id::{GroupId, Hash, Index};
use crate::core::ledger::document::Document;
use crate::core::reading::Reading;
use crate::core::state::entry::{Entry, Key};
use crate::core::time::Wall;
use crate::shell::http::model::{CheckpointRow, ReadingRow};

/// RFC 3339 in UTC, to the millisecond.
pub fn rfc3339(wall: Wall) -> String {
    let millis = i64::try_from(wall.as_millis()).unwrap_or(i64::MAX);
    match Timestamp::from_millisecond(millis) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => format!("{millis}ms"),
    }
}

/// A checkpoint is asked for by its place or by its hash.
///
/// # Errors
/// What would be accepted.
pub fn hash_or_index(text: &str) -> Result<Result<Hash, Index>, String> {
    if let Ok(index) = text.parse() {
        return Ok(Err(Index(index)));
    }
    text.parse().map(Ok).map_err(|_| format!("{text:?} is neither an index nor a hash of 64 hexadecimal digits"))
}

/// A row of `get`, or `None` if the entry is no reading.
pub(super) fn reading_row(key: &Key, entry: &Entry, region: &str, now: Wall) -> Option<ReadingRow> {
    if key.channel.is_system() {
        return None;
    }
    let reading: Reading = entry.value.reading()?;
    Some(ReadingRow {
        node: key.origin.to_string(),
        region: region.to_owned(),
        channel: key.channel.to_string(),
        value: reading.value,
        unit: reading.unit,
        sigma: reading.sigma,
        quality: reading.quality.as_str().to_owned(),
        note: reading.note,
        stamp: entry.stamp.to_string(),
        time: rfc3339(reading.time),
        age_ms: now.millis_after(reading.time).max(0) as u64,
        liveness: None,
    })
}

/// A row of `checkpoint ls`.
pub(super) fn checkpoint_row(group: &GroupId, index: Index, document: &Document, body_held: bool) -> CheckpointRow {
    let header = document.header();
    CheckpointRow {
        group: group.to_string(),
        index: index.get(),
        hash: document.hash().to_string(),
        parent: header.parent.map(|parent| parent.to_string()),
        taken_at: rfc3339(header.taken_at.time.wall()),
        proposer: header.proposer.to_string(),
        readings: header.counts.readings,
        body_held,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(rfc3339(Wall::from_millis(1_700_000_000_007)), "2023-11-14T22:13:20.007Z");
        assert_eq!(rfc3339(Wall::from_millis(u64::MAX)), "9223372036854775807ms");
    }

    #[test]
    fn a_checkpoint_is_named_by_index_or_hash() {
        assert_eq!(hash_or_index("17"), Ok(Err(Index(17))));
        let hash = Hash::of(b"x");
        assert_eq!(hash_or_index(&hash.to_string()), Ok(Ok(hash)));
        assert!(hash_or_index("latest!").unwrap_err().contains("neither an index"));
    }
}
