//! A checkpoint document: JSON made once by its proposer, identified by the SHA-256 of its exact bytes.
//!
//! Invariant: nobody re-serialises a document. [`Document::bytes`] is what was hashed, sent, stored and exported.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::core::fusion::document::Fused;
use crate::core::hlc::{Hlc, Stamp};
use crate::core::id::{GroupId, Hash, Index, NodeId, RegionId, Voter};
use crate::core::ledger::shared;
use crate::core::voters::{Voters, VotersError};

/// The only protocol version there is so far; part of the genesis and of HELLO.
pub const PROTOCOL_VERSION: u32 = 1;
/// Longest document, in bytes: it must fit a frame.
pub const DOCUMENT_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What a document says. Field order is the order of the bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Whose ledger it belongs to. A genesis belongs to `top` and is index 0 of every region too.
    pub group: GroupId,
    /// Its place there.
    pub index: Index,
    /// The document before it; of a recovered cluster's genesis, the one it was recovered from.
    pub parent: Option<Hash>,
    /// When it was taken, above the parent's.
    pub taken_at: Stamp,
    /// The leader that made it.
    pub proposer: NodeId,
    /// Who votes from the moment this document is accepted.
    pub voters: Voters,
    /// How much it covers.
    pub counts: Counts,
    /// The readings it names: hash of the snapshot body. None in a genesis and in global documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Hash>,
    /// Estimates of those readings, and what they were computed with. None where the proposer was told to make none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fused: Option<Box<Fused>>,
    /// Only in a global document: the newest known committed checkpoint of every region that has one (H4).
    /// A region that was taken out stays as it was.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub regions: BTreeMap<RegionId, RegionCheckpoint>,
    /// Only in a region's document, once the flat cluster has grown a top level out of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top: Option<TopOrigin>,
    /// Only in a genesis: what makes this cluster this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis: Option<Genesis>,
}

/// A region in a global document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionCheckpoint {
    /// Place in the region's ledger; never falls from one global document to the next.
    pub index: Index,
    /// Identity of the document there.
    pub hash: Hash,
    /// When it was taken, by its proposer's clock.
    pub taken_at: Hlc,
    /// How much it covers.
    pub counts: Counts,
    /// Its age in milliseconds, if the region has not been heard from for long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_ms: Option<u64>,
}

/// Where a cluster that began flat has the first document of its top level: in its region's own ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TopOrigin {
    /// This very document is index 0 of the top as well.
    Here,
    /// That one is.
    At(Hash),
}

/// How much a document covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Nodes with at least one reading.
    pub nodes: u64,
    /// Readings in the snapshot body.
    pub readings: u64,
}

/// The identity of a cluster, inside its first document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// The cluster's name.
    pub name: String,
    /// Protocol version it was made with.
    pub protocol: u32,
}

/// Why bytes are not a document. Nothing was stored; whoever sent or stored them is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// More than [`DOCUMENT_BYTES_MAX`] bytes.
    #[error("document has {0} bytes; at most {DOCUMENT_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// Not a document's JSON.
    #[error("document is malformed: {0}")]
    Malformed(String),
    /// The bytes are another document's.
    #[error("document hashes to {found}, not to {expected}")]
    Hash { expected: Hash, found: Hash },
    /// Index above 0 without a parent.
    #[error("document {0} names no parent")]
    NoParent(Index),
}

/// A document: its exact bytes, their hash, and what they say. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Document(Arc<Sealed>);

#[derive(Debug)]
pub(super) struct Sealed {
    bytes: Arc<str>,
    hash: Hash,
    header: Header,
}

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        self.0.hash == other.0.hash
    }
}

impl Eq for Document {}

impl Document {
    /// Writes a header down, once.
    ///
    /// # Panics
    /// If the header cannot be written as JSON, which no value of it can cause.
    pub fn seal(header: Header) -> Self {
        let bytes: Arc<str> = serde_json::to_string(&header).expect("a header is JSON").into();
        let document = Self(Arc::new(Sealed { hash: Hash::of(bytes.as_bytes()), bytes, header }));
        shared::offer(document.hash(), &document.0);
        document
    }

    /// Makes the first document of a cluster. Every initial voter makes the very same bytes.
    ///
    /// # Errors
    /// [`VotersError`] if a region has no voters or a node stands among them twice.
    pub fn genesis(name: &str, voters: BTreeMap<RegionId, Vec<Voter>>) -> Result<Self, VotersError> {
        Self::first(name, voters, None)
    }

    /// Makes the first document of a cluster that goes on from a checkpoint of another, which it names as parent.
    ///
    /// # Errors
    /// See [`Document::genesis`].
    pub fn recovered_genesis(
        name: &str,
        voters: BTreeMap<RegionId, Vec<Voter>>,
        from: &Self,
    ) -> Result<Self, VotersError> {
        Self::first(name, voters, Some(from))
    }

    fn first(name: &str, voters: BTreeMap<RegionId, Vec<Voter>>, from: Option<&Self>) -> Result<Self, VotersError> {
        let voters = voters.into_iter().map(|(region, voters)| (region, voters.into_iter().collect()));
        let voters = Voters::try_from(voters.collect::<BTreeMap<_, std::collections::BTreeSet<_>>>())?;
        let first = voters.iter().map(|v| v.node.clone()).min().ok_or(VotersError::Empty)?;
        let taken_at = from.map_or(Hlc::ZERO, |from| from.header().taken_at.time.next());
        Ok(Self::seal(Header {
            group: GroupId::Top,
            index: Index(0),
            parent: from.map(Self::hash),
            taken_at: Stamp { time: taken_at, node: first.clone() },
            proposer: first,
            voters,
            counts: Counts::default(),
            body: None,
            fused: None,
            regions: BTreeMap::new(),
            top: None,
            genesis: Some(Genesis { name: name.to_owned(), protocol: PROTOCOL_VERSION }),
        }))
    }

    /// Reads a document from bytes of unknown origin.
    ///
    /// # Errors
    /// [`DocumentError`] says what is wrong with them.
    pub fn parse(bytes: &str) -> Result<Self, DocumentError> {
        if bytes.len() > DOCUMENT_BYTES_MAX {
            return Err(DocumentError::TooLong(bytes.len()));
        }
        let header: Header =
            serde_json::from_str(bytes).map_err(|error| DocumentError::Malformed(error.to_string()))?;
        if header.index > Index(0) && header.parent.is_none() {
            return Err(DocumentError::NoParent(header.index));
        }
        Ok(Self(Arc::new(Sealed { hash: Hash::of(bytes.as_bytes()), bytes: bytes.into(), header })))
    }

    /// Reads the document that has this very hash.
    ///
    /// # Errors
    /// [`DocumentError`] if the bytes are malformed or another document's.
    pub fn parse_as(bytes: &str, expected: Hash) -> Result<Self, DocumentError> {
        if let Some(held) = shared::find(expected).filter(|held| *held.bytes == *bytes) {
            return Ok(Self(held));
        }
        let found = Hash::of(bytes.as_bytes());
        if found != expected {
            return Err(DocumentError::Hash { expected, found });
        }
        let document = Self::parse(bytes)?;
        shared::offer(expected, &document.0);
        Ok(document)
    }

    /// The exact bytes.
    pub fn bytes(&self) -> &str {
        &self.0.bytes
    }

    /// The same, shared.
    pub fn shared_bytes(&self) -> Arc<str> {
        self.0.bytes.clone()
    }

    /// SHA-256 of the bytes.
    pub fn hash(&self) -> Hash {
        self.0.hash
    }

    /// What it says.
    pub fn header(&self) -> &Header {
        &self.0.header
    }

    /// Its place in `group`'s ledger: its own index, or 0 where a global document founded a region, or a region's
    /// document the top. `None` if it has no place there.
    pub fn index_in(&self, group: &GroupId) -> Option<Index> {
        match (&self.header().group, group) {
            (own, group) if own == group => Some(self.header().index),
            (GroupId::Top, GroupId::Region(region)) => {
                self.header().voters.regions().contains_key(region).then_some(Index(0))
            }
            (GroupId::Region(_), GroupId::Top) => (self.header().top == Some(TopOrigin::Here)).then_some(Index(0)),
            _ => None,
        }
    }

    /// Who votes in `group` once this document is accepted there; `None` if it has no place there.
    pub fn voters_in(&self, group: &GroupId) -> Option<Voters> {
        match group {
            GroupId::Region(region) if self.header().group == GroupId::Top => {
                let voters = self.header().voters.regions().get(region)?;
                Voters::of_region(region.clone(), voters.iter().cloned()).ok()
            }
            group => self.index_in(group).map(|_| self.header().voters.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::StoreId;

    fn genesis() -> Document {
        let voter = |name: &str, store| Voter { node: NodeId::new(name).unwrap(), store: StoreId(store) };
        let main = RegionId::new("main").unwrap();
        Document::genesis("lab", BTreeMap::from([(main, vec![voter("b", 2), voter("a", 1)])])).unwrap()
    }

    #[test]
    fn a_document_read_back_is_the_same_document() {
        let genesis = genesis();
        let again = Document::parse(genesis.bytes()).unwrap();
        assert_eq!(again.header(), genesis.header());
        assert_eq!(again.hash(), Hash::of(genesis.bytes().as_bytes()));
    }

    #[test]
    fn what_is_read_by_hash_is_held_once_for_as_long_as_somebody_holds_it() {
        let voter = Voter { node: NodeId::new("a").unwrap(), store: StoreId(1) };
        let own =
            Document::genesis("held-once", BTreeMap::from([(RegionId::new("main").unwrap(), vec![voter])])).unwrap();
        let (bytes, hash) = (own.bytes().to_owned(), own.hash());
        let read = Document::parse_as(&bytes, hash).unwrap();
        assert!(Arc::ptr_eq(&own.0, &read.0));
        drop((own, read));
        assert!(shared::find(hash).is_none());
        let anew = Document::parse_as(&bytes, hash).unwrap();
        assert!(shared::find(hash).is_some_and(|held| Arc::ptr_eq(&held, &anew.0)));
    }

    #[test]
    fn a_changed_byte_is_found() {
        let genesis = genesis();
        let changed = genesis.bytes().replace("lab", "lob");
        assert!(matches!(Document::parse_as(&changed, genesis.hash()), Err(DocumentError::Hash { .. })));
        assert!(matches!(Document::parse("{}"), Err(DocumentError::Malformed(_))));
    }

    #[test]
    fn a_genesis_is_index_zero_of_each_of_its_regions() {
        let genesis = genesis();
        let main: GroupId = "region:main".parse().unwrap();
        assert_eq!(genesis.index_in(&main), Some(Index(0)));
        assert_eq!(genesis.voters_in(&main).unwrap().len(), 2);
        assert_eq!(genesis.index_in(&"region:other".parse().unwrap()), None);
    }

    #[test]
    fn what_is_too_long_or_names_no_parent_is_refused() {
        let first = genesis();
        let padded = |length: usize| format!("{}{}", first.bytes(), " ".repeat(length - first.bytes().len()));
        assert!(Document::parse(&padded(DOCUMENT_BYTES_MAX)).is_ok());
        for length in [DOCUMENT_BYTES_MAX + 1, DOCUMENT_BYTES_MAX + 2] {
            assert_eq!(Document::parse(&padded(length)).err(), Some(DocumentError::TooLong(length)));
        }
        let second =
            |parent: Option<Hash>| Document::seal(Header { index: Index(1), parent, ..first.header().clone() });
        assert_eq!(Document::parse(second(None).bytes()), Err(DocumentError::NoParent(Index(1))));
        let child = second(Some(first.hash()));
        assert_eq!(Document::parse(child.bytes()), Ok(child));
    }
}
