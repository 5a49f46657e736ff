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
    /// A question of another region's, which a relay of the hearer's region has.
    Relayed { asker: u8, message: Message },
    /// What a relay brings back: a voter's answer in its own words.
    Answer { via: u8, message: Message },
    /// A document that was asked for.
    Content { from: u8, hash: Hash },
}

/// Everybody and everything there is.
pub struct Cast {
    /// The nodes, region by region.
    pub voters: Vec<Voter>,
    /// The group that is walked.
    pub group: GroupId,
    /// Regions, and voters of each at first.
    regions: usize,
    voters_each: usize,
    /// All that was ever sent.
    pub parcels: Vec<Parcel>,
    /// Renamings of the nodes: where each one's number goes.
    renamings: Vec<Vec<u8>>,
    documents: BTreeMap<Hash, u32>,
    shelf: Vec<(Document, Vec<u64>)>,
    parcel_numbers: BTreeMap<u128, u32>,
}

impl Cast {
    /// `regions` of `voters` nodes that vote at first, and `others` that do not. Regions may be renamed to one another,
    /// and so may the voters of one; but for the first of each where there are several regions, which leads at first.
    pub fn new(regions: usize, voters: usize, others: usize) -> Self {
        let id =
            |i: usize| Voter { node: NodeId::new(&format!("n{i}")).expect("a good name"), store: StoreId(i as u128) };
        let renamings = if regions == 1 { renamings(voters) } else { renamings_of_regions(regions, voters) };
        let group = if regions == 1 { GroupId::Region(region(0)) } else { GroupId::Top };
        Self {
            voters: (0..regions * voters + others).map(id).collect(),
            group,
            regions,
            voters_each: voters,
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

    /// True if what is walked is the top, of several regions.
    pub fn is_top(&self) -> bool {
        self.group == GroupId::Top
    }

    /// The region of a node.
    pub fn region_of(&self, place: u8) -> RegionId {
        region(self.region_number(place))
    }

    fn region_number(&self, place: u8) -> usize {
        if self.is_top() { place as usize / self.voters_each } else { 0 }
    }

    /// The nodes of one's region.
    pub fn neighbours(&self, place: u8) -> std::ops::Range<u8> {
        let first = (self.region_number(place) * self.voters_each) as u8;
        first..first + self.voters_each as u8
    }

    /// True if a node leads its region at first.
    pub fn leads_at_first(&self, place: u8) -> bool {
        !self.is_top() || self.neighbours(place).start == place
    }

    /// The first document.
    pub fn first(&self) -> Hash {
        self.shelf[0].0.hash()
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
            // Whoever relays, the word is the same.
            Load::Message(message) | Load::Relayed { message, .. } | Load::Answer { message, .. } => {
                pen.message(message);
            }
            Load::Content { .. } => pen.number(50),
        }
        let mut words = std::mem::take(&mut pen.words);
        match &load {
            Load::Message(_) => {}
            Load::Relayed { asker, .. } => words.extend([Word::Number(51), Word::Node(*asker)]),
            Load::Answer { .. } => words.push(Word::Number(52)),
            Load::Content { from, hash } => words.extend([Word::Node(*from), Word::Document(self.documents[hash])]),
        }
        words.push(Word::Node(to));
        let prints = self.prints(&words, &[]);
        *self.parcel_numbers.entry(prints[0]).or_insert_with(|| {
            self.parcels.push(Parcel { to, load, prints });
            self.parcels.len() as u32 - 1
        })
    }

    /// The first document: all first voters vote.
    pub fn genesis(&mut self) -> Document {
        let of = |n: usize| (region(n), self.voters[n * self.voters_each..][..self.voters_each].to_vec());
        let first: BTreeMap<_, _> = (0..self.regions).map(of).collect();
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

fn region(n: usize) -> RegionId {
    RegionId::new(&format!("r{n}")).expect("a good name")
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

/// Renamings that keep regions together and the first of each first, the identity first.
fn renamings_of_regions(regions: usize, voters: usize) -> Vec<Vec<u8>> {
    let inner = renamings(voters - 1);
    // An order of the regions, and the names given so far, region by region.
    let mut all: Vec<(Vec<u8>, Vec<u8>)> = renamings(regions).into_iter().map(|order| (order, Vec::new())).collect();
    for place in 0..regions {
        let longer = |(order, names): &(Vec<u8>, Vec<u8>)| {
            let first = order[place] * voters as u8;
            let one = |inner: &Vec<u8>| {
                let others = inner[..voters - 1].iter().map(|name| first + 1 + name);
                (order.clone(), names.iter().copied().chain([first]).chain(others).collect())
            };
            inner.iter().map(one).collect::<Vec<_>>()
        };
        all = all.iter().flat_map(longer).collect();
    }
    let others = (regions * voters) as u8..64;
    all.into_iter().map(|(_, names)| names.into_iter().chain(others.clone()).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renamings_are_different_and_keep_what_tells_nodes_apart() {
        let distinct = |all: Vec<Vec<u8>>| all.iter().map(|names| names[..9].to_vec()).collect::<BTreeSet<_>>().len();
        assert_eq!(distinct(renamings(3)), 6);
        assert_eq!(distinct(renamings_of_regions(3, 3)), 6 * 8, "three regions, and two of each that never led");
        for names in renamings_of_regions(3, 3) {
            assert!((0..3).all(|region| names[3 * region].is_multiple_of(3)), "the first stays first: {names:?}");
            assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 64);
        }
    }
}
