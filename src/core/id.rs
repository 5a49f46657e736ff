//! Names and numbers that identify things, each a type of its own so that none passes for another.
//!
//! Names are checked when they are made (from configuration, wire or disk) and correct ever after.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use smol_str::SmolStr;

/// Why a name was refused. Nothing was changed; whoever wrote the name must correct it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, or longer than its kind allows.
    #[error("{kind} {name:?} has {len} bytes; 1 to {max} are allowed")]
    Length { kind: &'static str, name: String, len: usize, max: usize },
    /// A character outside the kind's alphabet.
    #[error("{kind} {name:?} contains {found:?}; allowed are {allowed}")]
    Character { kind: &'static str, name: String, found: char, allowed: &'static str },
    /// Not as many hexadecimal digits as its kind has.
    #[error("{kind} {name:?} is not {digits} hexadecimal digits")]
    Hex { kind: &'static str, name: String, digits: usize },
    /// A group that is neither `top` nor `region:NAME`.
    #[error("group {name:?} is neither \"top\" nor \"region:NAME\"")]
    Group { name: String },
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $max:literal, $allowed:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(SmolStr);

        impl $name {
            /// Checks a name and takes it.
            ///
            /// # Errors
            /// [`NameError`] if it is empty, too long, or uses a character outside the alphabet.
            pub fn new(name: &str) -> Result<Self, NameError> {
                if name.is_empty() || name.len() > $max {
                    return Err(NameError::Length { kind: $kind, name: clip(name), len: name.len(), max: $max });
                }
                let check: fn(char) -> bool = $check;
                if let Some(found) = name.chars().find(|c| !check(*c)) {
                    return Err(NameError::Character { kind: $kind, name: clip(name), found, allowed: $allowed });
                }
                Ok(Self(name.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                Self::new(s)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                // A reader of bytes gives a name without an escape as it stands: nothing is allocated for it.
                struct Name;
                impl serde::de::Visitor<'_> for Name {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write!(f, "a {}", $kind)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::new(text).map_err(E::custom)
                    }
                }
                d.deserialize_str(Name)
            }
        }
    };
}

/// The start of a name too long to be repeated in full.
fn clip(name: &str) -> String {
    name.chars().take(80).collect()
}

fn in_short_alphabet(c: char) -> bool {
    matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-')
}

name_type!(
    /// A gateway's short name, unique in the cluster. Cheap to clone.
    NodeId, "node id", 64, "a-z 0-9 . _ -", in_short_alphabet
);
name_type!(
    /// The name of a region: the nodes that elect one leader. Cheap to clone.
    RegionId, "region id", 64, "a-z 0-9 . _ -", in_short_alphabet
);
name_type!(
    /// One sensor of a node: parts separated by `/`; a leading `@` belongs to the system. Cheap to clone.
    Channel, "channel", 200, "letters, digits and . _ - / @ + % ( )",
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '@' | '+' | '%' | '(' | ')')
);

impl Channel {
    /// True for channels that the system itself writes.
    pub fn is_system(&self) -> bool {
        self.0.starts_with('@')
    }
}

/// The largest number taken from wire or disk: whole in every JSON reader, and with room to go on counting for ever. A
/// stranger that names a larger term or index is talking garbage.
pub const COUNTED_MAX: u64 = (1 << 53) - 1;

macro_rules! number_type {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                match u64::deserialize(d)? {
                    number if number <= COUNTED_MAX => Ok(Self(number)),
                    number => Err(serde::de::Error::custom(format_args!("{number} is beyond all that was ever counted"))),
                }
            }
        }

        impl $name {
            /// The plain number.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The next one.
            ///
            /// # Panics
            /// After 2^64 of them.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.checked_add(1).expect("fewer than 2^64 of these are ever made"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

number_type!(
    /// Number of an election in a group; never falls. A ballot is the term under which a document was last proposed.
    Term, ""
);
number_type!(
    /// Place of a checkpoint in its ledger; the genesis is 0.
    Index, ""
);
number_type!(
    /// A leader's count of its own heartbeats, from which linearizable reads are confirmed.
    Round, ""
);
number_type!(
    /// One connection of this node, numbered by its driver; never reused within a process.
    LinkId, "link-"
);
number_type!(
    /// A question of a local client that waits for its answer.
    RequestId, "request-"
);
number_type!(
    /// Place of a write in the order in which this node asked for them.
    PersistSeq, ""
);

/// A data directory's own identity: 128 random bits written when it is created.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub u128);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}…", self.0 >> 96)
    }
}

impl FromStr for StoreId {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        let bad = || NameError::Hex { kind: "store id", name: clip(s), digits: 32 };
        if s.len() != 32 || !s.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        u128::from_str_radix(s, 16).map(Self).map_err(|_| bad())
    }
}

impl Serialize for StoreId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StoreId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A SHA-256: the name of a document or body by its exact bytes, and a cluster's id by its genesis.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The first 12 hexadecimal digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Hash {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        let bad = || NameError::Hex { kind: "hash", name: clip(s), digits: 64 };
        if s.len() != 64 || !s.is_ascii() {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&s[2 * i..2 * i + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A cluster's id: the hash of its genesis document.
pub type ClusterId = Hash;

/// Whose agreement a message or document belongs to. Written `top` or `region:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupId {
    /// The voters of one region.
    Region(RegionId),
    /// The voters of all regions.
    Top,
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(region) => write!(f, "region:{region}"),
            Self::Top => f.write_str("top"),
        }
    }
}

impl FromStr for GroupId {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        match s.strip_prefix("region:") {
            Some(region) => Ok(Self::Region(RegionId::new(region)?)),
            None if s == "top" => Ok(Self::Top),
            None => Err(NameError::Group { name: clip(s) }),
        }
    }
}

impl Serialize for GroupId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GroupId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A voter's full identity: a node that lost its disk has forgotten its votes and is somebody else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Voter {
    /// The gateway's name.
    pub node: NodeId,
    /// The data directory its votes are kept in.
    pub store: StoreId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_outside_the_alphabet_is_refused_in_words() {
        let error = NodeId::new("Gw 1").unwrap_err().to_string();
        assert_eq!(error, "node id \"Gw 1\" contains 'G'; allowed are a-z 0-9 . _ -");
        assert!(NodeId::new("").is_err());
        assert!(NodeId::new(&"a".repeat(65)).is_err());
        assert!(Channel::new("lobby/Temp").is_ok());
        assert!(Channel::new("@node").unwrap().is_system());
    }

    #[test]
    fn a_hash_of_another_length_is_refused_and_never_a_panic() {
        let text = Hash::of(b"abc").to_string();
        for wrong in [String::new(), text[..62].to_owned(), format!("{text}00")] {
            assert!(wrong.parse::<Hash>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn hashes_and_stores_round_trip_as_hexadecimal() {
        let hash = Hash::of(b"abc");
        assert_eq!(hash.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(hash.to_string().parse::<Hash>(), Ok(hash));
        assert!("é".repeat(32).parse::<Hash>().is_err());
        let store = StoreId(7);
        assert_eq!(store.to_string().parse::<StoreId>(), Ok(store));
        assert!("+0000000000000000000000000000007".parse::<StoreId>().is_err());
    }

    #[test]
    fn a_number_that_nobody_can_have_counted_to_is_refused() {
        assert_eq!(serde_json::from_str::<Term>("9007199254740991").unwrap(), Term(COUNTED_MAX));
        for beyond in ["9007199254740992", "18446744073709551615"] {
            let error = serde_json::from_str::<Term>(beyond).unwrap_err().to_string();
            assert!(error.contains("beyond all that was ever counted"), "{error}");
        }
    }

    #[test]
    fn groups_round_trip_as_text() {
        for text in ["top", "region:main"] {
            assert_eq!(text.parse::<GroupId>().unwrap().to_string(), text);
        }
        assert!("main".parse::<GroupId>().is_err());
    }
}
