//! Who and what takes part: nodes, documents and messages by number, and their fingerprints under every renaming.

use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::xxh3_128;

use crate::core::consensus::{Names, Pen, Word};
use crate::core::id::{GroupId, Hash, Index, NodeId, RegionId, StoreId, Term, Voter};
use crate::core::ledger::document::Document;
use crate::core::message::Message;

/// Fingerprints of one thing, one for each renaming of the nodes.
pub type Prints = Box<[u128]>;

/// Something that was sent.
pub struct Parcel {
    /// To whom.
    pub to: u8,
    /// What it is.
    pub load: Load,
    /// Its fingerprints.
    pub prints: Prints,
}

/// What was sent.
pub enum Load {
    /// A message.
    Message(Message),
    /// A document that was asked for.
    Content { from: u8, hash: Hash },
}

/// Everybody and everything there is.
pub struct Cast {
    /// The nodes.
    pub voters: Vec<Voter>,
    /// All that was ever sent.
    pub parcels: Vec<Parcel>,
    /// Renamings of the nodes: where each one's number goes.
    renamings: Vec<Vec<u8>>,
    documents: BTreeMap<Hash, u32>,
    shelf: Vec<(Document, Vec<u64>)>,
    parcel_numbers: BTreeMap<u128, u32>,
}

impl Cast {
    /// `voters` nodes that vote at first, which may be renamed to one another, and `others` that do not.
    pub fn new(voters: usize, others: usize) -> Self {
        let id =
            |i: usize| Voter { node: NodeId::new(&format!("n{i}")).expect("a good name"), store: StoreId(i as u128) };
        let renamings = renamings(voters);
        Self {
            voters: (0..voters + others).map(id).collect(),
            parcels: Vec::new(),
            renamings,
            documents: BTreeMap::new(),
            shelf: Vec::new(),
            parcel_numbers: BTreeMap::new(),
        }
    }

    /// How many renamings there are; the first changes nothing.
    pub fn renamings(&self) -> usize {
        self.renamings.len()
    }

    /// The number of a node, if it takes part.
    pub fn place(&self, node: &NodeId) -> Option<u8> {
        self.voters.iter().position(|voter| voter.node == *node).map(|place| place as u8)
    }

    /// A document by its hash.
    pub fn document(&self, hash: &Hash) -> &Document {
        &self.shelf[self.documents[hash] as usize].0
    }

    /// Takes a document in. Its fingerprints tell what it says, under every renaming.
    pub fn adopt(&mut self, document: &Document) {
        if self.documents.contains_key(&document.hash()) {
            return;
        }
        let header = document.header();
        let all = header.voters.iter().filter_map(|voter| self.place(&voter.node));
        let voters = all.fold(0, |all, place| all | 1 << place);
        let parent = header.parent.and_then(|parent| self.documents.get(&parent)).copied();
        let words = [
            Word::Number(header.index.get()),
            Word::Number(header.taken_at.time.bits()),
            self.place(&header.proposer).map_or(Word::Number(0), Word::Node),
            parent.map_or(Word::Number(0), Word::Document),
            Word::Nodes(voters),
        ];
        let prints = (0..self.renamings()).map(|renaming| self.print(&words, renaming) as u64).collect();
        self.documents.insert(document.hash(), self.shelf.len() as u32);
        self.shelf.push((document.clone(), prints));
    }

    /// A page to write a portrait on.
    pub fn pen(&self) -> Pen<'_, Self> {
        Pen::new(self)
    }

    /// Fingerprints of a portrait under every renaming.
    pub fn prints(&self, words: &[Word], bag: &[Vec<Word>]) -> Prints {
        let print = |renaming: usize| {
            let items = bag.iter().map(|item| self.print(item, renaming).rotate_left(64));
            items.fold(self.print(words, renaming), u128::wrapping_add)
        };
        (0..self.renamings()).map(print).collect()
    }

    fn print(&self, words: &[Word], renaming: usize) -> u128 {
        let names = &self.renamings[renaming];
        let mut bytes = Vec::with_capacity(9 * words.len());
        for word in words {
            let (kind, value) = match *word {
                Word::Number(number) => (0, number),
                Word::Node(node) => (1, u64::from(names[node as usize])),
                Word::Nodes(mask) => (2, renamed(mask, names)),
                Word::Document(number) => (3, self.shelf[number as usize].1[renaming]),
            };
            bytes.push(kind);
            bytes.extend(u64::to_le_bytes(value));
        }
        xxh3_128(&bytes)
    }

    /// A portrait of the past: what is committed and who led.
    pub fn past(&self, committed: &[(Index, Hash)], leaders: &[(Term, u8)]) -> Vec<Word> {
        let committed = committed.iter().map(|(_, hash)| Word::Document(self.documents[hash]));
        let leaders = leaders.iter().flat_map(|(term, place)| [Word::Number(term.get()), Word::Node(*place)]);
        committed.chain(leaders).collect()
    }

    /// The number of something sent.
    pub fn parcel(&mut self, to: u8, load: Load) -> u32 {
        let mut pen = self.pen();
        match &load {
            Load::Message(message) => pen.message(message),
            Load::Content { .. } => pen.number(50),
        }
        let mut words = std::mem::take(&mut pen.words);
        if let Load::Content { from, hash } = &load {
            words.extend([Word::Node(*from), Word::Document(self.documents[hash])]);
        }
        words.push(Word::Node(to));
        let prints = self.prints(&words, &[]);
        *self.parcel_numbers.entry(prints[0]).or_insert_with(|| {
            self.parcels.push(Parcel { to, load, prints });
            self.parcels.len() as u32 - 1
        })
    }

    /// The first document: all first voters vote.
    pub fn genesis(&mut self, voters: usize) -> Document {
        let region = RegionId::new("main").expect("a good name");
        let first = BTreeMap::from([(region, self.voters[..voters].to_vec())]);
        let genesis = Document::genesis("model", first).expect("there are voters");
        self.adopt(&genesis);
        genesis
    }
}

impl Names for Cast {
    fn node(&self, node: &NodeId) -> u8 {
        self.place(node).unwrap_or(63)
    }

    fn document(&self, hash: &Hash) -> u32 {
        self.documents[hash]
    }
}

/// The group that is walked.
pub fn main_group() -> GroupId {
    GroupId::Region(RegionId::new("main").expect("a good name"))
}

fn renamed(mask: u64, names: &[u8]) -> u64 {
    let (mut left, mut all) = (mask, 0);
    while left != 0 {
        all |= 1 << names[left.trailing_zeros() as usize];
        left &= left - 1;
    }
    all
}

/// All permutations of the first `voters` of 64 numbers, the identity first; the others stay.
fn renamings(voters: usize) -> Vec<Vec<u8>> {
    let mut all = BTreeSet::from([Vec::new()]);
    for _ in 0..voters {
        let longer = |some: &Vec<u8>| {
            let free = (0..voters as u8).filter(|name| !some.contains(name)).collect::<Vec<_>>();
            free.into_iter().map(|name| [some.as_slice(), &[name]].concat()).collect::<Vec<_>>()
        };
        all = all.iter().flat_map(longer).collect();
    }
    let others: Vec<u8> = (voters as u8..64).collect();
    all.into_iter().map(|some| [some.as_slice(), &others].concat()).collect()
}
