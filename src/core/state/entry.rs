//! One entry of the replicated map: a key with its newest value and stamp.
//!
//! A value is kept as the exact JSON text its origin wrote: it is forwarded, compared, fingerprinted and
//! put into snapshot bodies byte for byte, so nodes of different versions never disagree about it.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::core::hlc::{Hlc, Stamp};
use crate::core::id::{Channel, NodeId};
use crate::core::reading::Reading;

/// What an entry is about. Only the origin writes it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The single writer.
    pub origin: NodeId,
    /// The sensor, or a system channel.
    pub channel: Channel,
}

impl Key {
    /// The key of `channel` at `origin`.
    pub fn new(origin: NodeId, channel: Channel) -> Self {
        Self { origin, channel }
    }

    /// The key as it is looked at in a map.
    pub fn borrowed(&self) -> KeyRef<'_> {
        KeyRef { origin: &self.origin, channel: &self.channel }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.origin, self.channel)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A key where it is kept: names that are not cloned to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyRef<'a> {
    /// The single writer.
    pub origin: &'a NodeId,
    /// The sensor, or a system channel.
    pub channel: &'a Channel,
}

impl KeyRef<'_> {
    /// The key itself.
    pub fn to_key(self) -> Key {
        Key::new(self.origin.clone(), self.channel.clone())
    }
}

impl fmt::Display for KeyRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.origin, self.channel)
    }
}

/// Longest value, in bytes of JSON text.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// Why a value was refused. Nothing was stored; the peer that sent it is at fault.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ValueError {
    /// More than [`VALUE_BYTES_MAX`] bytes.
    #[error("value has {0} bytes; at most {VALUE_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// A line break or another control character between tokens: a value is one line.
    #[error("value contains a control character")]
    Control,
    /// Not what this channel holds.
    #[error("value of {channel} is malformed: {why}")]
    Malformed { channel: String, why: String },
}

/// JSON text of at most [`VALUE_BYTES_MAX`] bytes on one line. Cheap to clone.
#[derive(Clone)]
pub struct Value(Arc<RawValue>);

impl Value {
    /// Writes `value` as JSON.
    ///
    /// # Panics
    /// If it cannot be written as JSON, which none of our own types can cause.
    pub fn of<T: Serialize>(value: &T) -> Self {
        let raw = serde_json::value::to_raw_value(value).expect("our own types are JSON");
        Self(Arc::from(raw))
    }

    /// The exact text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Reads the text as `T`.
    ///
    /// # Errors
    /// What `serde_json` says, when the text is not a `T`.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.as_str())
    }

    /// Reads the text as a reading; `None` if it is not one.
    pub fn reading(&self) -> Option<Reading> {
        self.read().ok()
    }

    /// Checks the bounds that every value keeps.
    ///
    /// # Errors
    /// [`ValueError`] if it is too long or spans lines.
    pub fn check(&self) -> Result<(), ValueError> {
        let text = self.as_str();
        if text.len() > VALUE_BYTES_MAX {
            return Err(ValueError::TooLong(text.len()));
        }
        if text.bytes().any(|byte| byte < 0x20) {
            return Err(ValueError::Control);
        }
        Ok(())
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Value {}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(s)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Self(Arc::from(Box::<RawValue>::deserialize(d)?)))
    }
}

/// How far an entry travels. Set by its origin, covered by its fingerprint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// To every node of every region.
    #[default]
    Global,
    /// To the nodes of its origin's region.
    Region,
}

impl Scope {
    /// True for [`Scope::Global`], the default that the wire leaves out.
    pub fn is_global(&self) -> bool {
        *self == Self::Global
    }
}

/// The newest known word on a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the origin wrote.
    pub value: Value,
    /// When it wrote, by its hybrid clock; the writer is the key's origin.
    pub stamp: Hlc,
    /// How far it travels.
    pub scope: Scope,
}

impl Entry {
    /// True if `self` replaces `other`: the larger stamp, and of equal stamps the larger value bytes, then scope.
    pub fn supersedes(&self, other: &Self) -> bool {
        let rank = |e: &Self| (e.stamp, e.scope);
        self.stamp > other.stamp
            || (self.stamp == other.stamp && (self.value.as_str(), rank(self)) > (other.value.as_str(), rank(other)))
    }
}

/// An entry with its key: one line of a snapshot body, one element of SENSOR_UPDATE and STATE_UPDATE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyedEntry {
    /// The single writer.
    pub origin: NodeId,
    /// The sensor, or a system channel.
    pub channel: Channel,
    /// When the origin wrote, by its hybrid clock.
    pub stamp: Hlc,
    /// How far it travels.
    #[serde(default, skip_serializing_if = "Scope::is_global")]
    pub scope: Scope,
    /// What the origin wrote.
    pub value: Value,
    /// True while the origin waits for its direct neighbours to CONFIRM; not part of the entry.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confirm: bool,
    /// True if a repair brought it to the sender, or to one before: no tree led here; not part of the entry.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repaired: bool,
}

impl KeyedEntry {
    /// Joins a key and its entry.
    pub fn new(key: &Key, entry: &Entry) -> Self {
        Self::of(key.borrowed(), entry)
    }

    /// Joins a key and its entry.
    pub fn of(key: KeyRef<'_>, entry: &Entry) -> Self {
        Self {
            origin: key.origin.clone(),
            channel: key.channel.clone(),
            stamp: entry.stamp,
            scope: entry.scope,
            value: entry.value.clone(),
            confirm: false,
            repaired: false,
        }
    }

    /// Takes key and entry apart.
    pub fn into_parts(self) -> (Key, Entry) {
        let entry = Entry { value: self.value, stamp: self.stamp, scope: self.scope };
        (Key::new(self.origin, self.channel), entry)
    }

    /// The stamp with its writer.
    pub fn stamp(&self) -> Stamp {
        Stamp { time: self.stamp, node: self.origin.clone() }
    }
}

/// Why an entry was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryRefusal {
    /// Stamped too far ahead of our wall clock, by this many milliseconds.
    Future { ahead_ms: u64 },
    /// Older than `retain`.
    Expired,
    /// Its origin was forgotten up to a later stamp.
    Forgotten,
    /// Of another region's scope.
    Foreign,
    /// Malformed.
    Malformed,
}
