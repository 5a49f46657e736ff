//! A snapshot body: the readings a checkpoint names, one entry a line in key order, named by the hash of
//! that text and kept and sent packed (LZ4 block).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::core::id::Hash;
use crate::core::ledger::difference::{DifferenceError, apply};
use crate::core::ledger::document::Counts;
use crate::core::state::entry::{Entry, KeyRef, KeyedEntry};

/// Longest unpacked body, in bytes.
pub const BODY_BYTES_MAX: usize = 1 << 30;
/// Longest text that is compared with another, in bytes.
pub const COMPARED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why bytes are not a body. Nothing was stored; whoever sent or stored them is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not an LZ4 block, or one that unpacks beyond its bounds.
    #[error("body does not unpack: {0}")]
    Packing(String),
    /// The bytes are another body's.
    #[error("body hashes to {found}, not to {expected}")]
    Hash { expected: Hash, found: Hash },
    /// What differs from another body does not fit that one.
    #[error("body is not made from its base: {0}")]
    Difference(#[from] DifferenceError),
    /// A line that is no entry.
    #[error("line {line} of the body is no entry: {why}")]
    Line { line: usize, why: String },
}

/// A snapshot body, packed. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Body {
    hash: Hash,
    packed: Arc<[u8]>,
}

impl Body {
    /// Writes entries down in the order given, which must be key order, and counts them.
    pub fn of<'a>(entries: impl Iterator<Item = (KeyRef<'a>, &'a Entry)>) -> (Self, Counts) {
        let mut text = Vec::new();
        let mut counts = Counts::default();
        let mut nodes = BTreeSet::new();
        for (key, entry) in entries {
            serde_json::to_writer(&mut text, &KeyedEntry::of(key, entry)).expect("an entry is JSON");
            text.push(b'\n');
            counts.readings += 1;
            nodes.insert(key.origin);
        }
        counts.nodes = nodes.len() as u64;
        (Self::of_text(&text), counts)
    }

    /// Packs a text that stands for itself: whoever expects a certain body compares the hash.
    pub fn of_text(text: &[u8]) -> Self {
        Self { hash: Hash::of(text), packed: lz4_flex::block::compress_prepend_size(text).into() }
    }

    /// Takes packed bytes that must hash, unpacked, to `expected`.
    ///
    /// # Errors
    /// [`BodyError`] if they do not unpack within bounds or are another body's.
    pub fn from_packed(packed: &[u8], expected: Hash) -> Result<Self, BodyError> {
        let text = unpack(packed)?;
        let found = Hash::of(&text);
        if found != expected {
            return Err(BodyError::Hash { expected, found });
        }
        Ok(Self { hash: expected, packed: packed.into() })
    }

    /// Makes the body that hashes to `expected` from this one and what differs.
    ///
    /// # Errors
    /// [`BodyError`] if that makes nothing, or another body.
    pub fn changed(&self, difference: &[u8], expected: Hash) -> Result<Self, BodyError> {
        let made = Self::of_text(&apply(&self.text()?, difference, COMPARED_BYTES_MAX)?);
        let found = made.hash;
        if found == expected { Ok(made) } else { Err(BodyError::Hash { expected, found }) }
    }

    /// SHA-256 of the unpacked text.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The bytes as they are kept and sent.
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// Length of the text.
    pub fn text_len(&self) -> usize {
        text_len(&self.packed)
    }

    /// The text: one entry a line, in key order.
    ///
    /// # Errors
    /// Never on a body made by this type; see [`Body::from_packed`].
    pub fn text(&self) -> Result<Vec<u8>, BodyError> {
        unpack(&self.packed)
    }

    /// The entries, in key order.
    ///
    /// # Errors
    /// [`BodyError::Line`] where the text holds something else.
    pub fn entries(&self) -> Result<Vec<KeyedEntry>, BodyError> {
        let text = self.text()?;
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines
            .enumerate()
            .map(|(i, line)| {
                serde_json::from_slice(line).map_err(|error| BodyError::Line { line: i + 1, why: error.to_string() })
            })
            .collect()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({:?}, {} bytes)", self.hash, self.packed.len())
    }
}

/// Length of the text that packed bytes claim to hold, as far as they can: LZ4 never expands beyond 255 to 1.
pub fn text_len(packed: &[u8]) -> usize {
    claimed(packed).unwrap_or(0).min(packed.len().saturating_mul(255))
}

/// Length of the text that packed bytes claim to hold; `None` if they are shorter than their header.
fn claimed(packed: &[u8]) -> Option<usize> {
    packed.first_chunk::<4>().map(|size| u32::from_le_bytes(*size) as usize)
}

/// Unpacks a block after checking the size it claims.
fn unpack(packed: &[u8]) -> Result<Vec<u8>, BodyError> {
    let claimed = claimed(packed).ok_or_else(|| BodyError::Packing("shorter than its header".into()))?;
    if claimed > BODY_BYTES_MAX || claimed > text_len(packed) {
        return Err(BodyError::Packing(format!("claims {claimed} bytes from {}", packed.len())));
    }
    lz4_flex::block::decompress_size_prepended(packed).map_err(|error| BodyError::Packing(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::hlc::Hlc;
    use crate::core::id::{Channel, NodeId};
    use crate::core::reading::Reading;
    use crate::core::state::entry::{Key, Scope, Value};
    use crate::core::time::Wall;

    fn sample() -> Vec<(Key, Entry)> {
        let wall = Wall::from_millis(1_700_000_000_000);
        let value = Value::of(&Reading::new(21.5, wall));
        let entry = Entry { value, stamp: Hlc::new(wall, 1), scope: Scope::Global };
        let key = |node: &str| Key::new(NodeId::new(node).unwrap(), Channel::new("temp").unwrap());
        vec![(key("gw-1"), entry.clone()), (key("gw-2"), entry)]
    }

    #[test]
    fn a_body_gives_back_its_entries() {
        let entries = sample();
        let (body, counts) = Body::of(entries.iter().map(|(k, e)| (k.borrowed(), e)));
        assert_eq!(counts, Counts { nodes: 2, readings: 2 });
        let again = Body::from_packed(body.packed(), body.hash()).unwrap();
        let back: Vec<_> = again.entries().unwrap().into_iter().map(KeyedEntry::into_parts).collect();
        assert_eq!(back, entries);
    }

    #[test]
    fn a_mangled_body_is_refused_before_it_is_allocated() {
        let entries = sample();
        let (body, _) = Body::of(entries.iter().map(|(k, e)| (k.borrowed(), e)));
        let mut huge = body.packed().to_vec();
        huge[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(Body::from_packed(&huge, body.hash()), Err(BodyError::Packing(_))));
        assert!(matches!(Body::from_packed(&[], body.hash()), Err(BodyError::Packing(_))));
        let other = Hash::of(b"other");
        assert!(matches!(Body::from_packed(body.packed(), other), Err(BodyError::Hash { .. })));
    }

    #[test]
    fn a_body_that_claims_more_than_it_can_hold_or_than_is_allowed_is_refused_unread() {
        for (claimed, length) in [(BODY_BYTES_MAX / 2, 100), (BODY_BYTES_MAX + 1, BODY_BYTES_MAX / 255 + 9)] {
            let mut packed = vec![0; length];
            packed[..4].copy_from_slice(&(claimed as u32).to_le_bytes());
            match Body::from_packed(&packed, Hash::of(b"")) {
                Err(BodyError::Packing(why)) => assert!(why.starts_with("claims"), "{why}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_line_that_is_no_entry_is_told_by_its_number() {
        let line = |text: &[u8]| match Body::of_text(text).entries() {
            Err(BodyError::Line { line, .. }) => line,
            other => panic!("{other:?}"),
        };
        let entries = sample();
        let (body, _) = Body::of(entries.iter().map(|(k, e)| (k.borrowed(), e)));
        let longer = [&body.text().unwrap()[..], &b"nonsense\n"[..]].concat();
        assert_eq!((line(b"nonsense\n"), line(&longer)), (1, 3));
    }
}
