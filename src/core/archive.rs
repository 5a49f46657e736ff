//! The archive: documents and bodies by their hash: held, fetched from peers, served to them, and dropped in time.
//!
//! What is committed is decided elsewhere (see `consensus`); here bytes are checked against their names and
//! nothing else is believed. Documents are kept for ever, bodies by retention: the newest, one an hour for a week.
//!
//! Invariant: memory holds the newest few of each, never the history.

mod differences;
mod proposals;
mod retention;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::core::consensus::Holdings;
use crate::core::cx::Cx;
use crate::core::effect::Effect;
use crate::core::hard_state::{HeldBody, Position, Record};
use crate::core::id::{GroupId, Hash, Index, NodeId, RegionId};
use crate::core::ledger::body::{BODY_BYTES_MAX, Body, BodyError, COMPARED_BYTES_MAX};
use crate::core::ledger::document::{DOCUMENT_BYTES_MAX, Document};
use crate::core::message::Message;
use crate::core::message::agreement::{CheckpointBody, CheckpointFetch, Content};
use crate::core::notice::Notice;
use crate::core::state::system::CheckpointRef;
use crate::core::time::Mono;
use crate::core::view::Footprint;
use crate::core::work::{Source, Work};

use differences::Differences;
use proposals::Proposals;
use retention::Retention;

/// What the archive wants of the node around it.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// Send this to that node.
    Send { to: NodeId, message: Message },
    /// What was fetched is at hand.
    Arrived { content: Content, hash: Hash, from: NodeId },
}

/// Bytes of a document or body carried by one CHECKPOINT_BODY, before base64.
const CHUNK_BYTES: usize = 256 * 1024;
/// How long an answer to a fetch may take before another peer is asked.
const FETCH_PATIENCE: Duration = Duration::from_secs(1);
/// Peers asked in vain before a fetch is given up; whoever wants the content asks anew.
const FETCH_ATTEMPTS: u32 = 20;
/// Documents kept in memory: that many if they are small,
const DOCUMENTS_CACHED: usize = 64;
/// fewer if they have more bytes than these together (one of a thousand regions has 380 kB),
const DOCUMENT_BYTES_CACHED: usize = 128 * 1024;
/// and these whatever they have.
const DOCUMENTS_CACHED_MIN: usize = 8;
/// Bodies kept in memory.
const BODIES_CACHED: usize = 2;
/// Peers that may wait for one thing that is on its way to us.
const AWAITED_MAX: usize = 64;
/// Fetches of peers that may wait for our disk at a time.
const LOADS_MAX: usize = 64;

/// Documents and bodies of one node.
#[derive(Debug)]
pub struct Archive {
    documents: BTreeMap<Hash, (Document, bool)>,
    document_age: VecDeque<Hash>,
    document_bytes: usize,
    bodies: BTreeMap<Hash, Body>,
    body_age: VecDeque<Hash>,
    retention: Retention,
    fetches: BTreeMap<(Content, Hash), Fetch>,
    loads: BTreeMap<(Content, Hash), Vec<Asked>>,
    /// Peers that asked for what is on its way to us: documents run down the tree by which their announcement came.
    awaited: BTreeMap<(Content, Hash), Vec<Asked>>,
    /// Peers that wait until two bodies have been compared: the one that they hold, and the one they ask for.
    comparing: BTreeMap<(Hash, Hash), Vec<Asked>>,
    differences: Differences,
    proposals: Proposals,
    gaps: Vec<Gap>,
    facts: Vec<Fact>,
}

/// A document or body on its way to us.
#[derive(Debug)]
struct Fetch {
    from: NodeId,
    /// What we hold of the same kind, until a difference to it has been in vain.
    base: Option<Hash>,
    bytes: Vec<u8>,
    due: Mono,
    attempts: u32,
    /// What has come and is being checked.
    checked: Option<Come>,
}

/// What comes of a body that is asked for: the whole, or what differs from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Come {
    Whole,
    Difference,
}

/// A peer that asks for a document or body.
#[derive(Debug)]
struct Asked {
    by: NodeId,
    offset: u64,
    base: Option<Hash>,
}

/// A stretch of a ledger that this node knows to be committed and does not hold.
#[derive(Debug)]
struct Gap {
    group: GroupId,
    /// The next to fetch, going down.
    next: Position,
    /// The highest index below the gap that is held.
    floor: Option<Index>,
}

impl Archive {
    /// Takes up what a store of this region's holds: documents that were accepted or committed with their bodies, and
    /// which other bodies there are.
    pub fn recover(
        region: &RegionId,
        bodies_kept: usize,
        documents: Vec<Document>,
        bodies: Vec<Body>,
        held: &[HeldBody],
    ) -> Self {
        let elsewhere = |document: &&Document| match &document.header().group {
            GroupId::Region(of) => of != region,
            GroupId::Top => false,
        };
        let retention = Retention::recover(bodies_kept, held, documents.iter().filter(elsewhere));
        let mut archive = Self {
            retention,
            documents: BTreeMap::new(),
            document_age: VecDeque::new(),
            document_bytes: 0,
            bodies: BTreeMap::new(),
            body_age: VecDeque::new(),
            fetches: BTreeMap::new(),
            loads: BTreeMap::new(),
            awaited: BTreeMap::new(),
            comparing: BTreeMap::new(),
            differences: Differences::default(),
            proposals: Proposals::default(),
            gaps: Vec::new(),
            facts: Vec::new(),
        };
        for document in documents {
            archive.cache_document(document, true);
        }
        for body in bodies {
            archive.retention.write(body.hash());
            archive.cache_body(body);
        }
        archive
    }

    /// Counts what is in memory.
    pub fn count(&self, footprint: &mut Footprint) {
        let waiting: usize = [&self.loads, &self.awaited]
            .into_iter()
            .flat_map(BTreeMap::values)
            .chain(self.comparing.values())
            .map(Vec::len)
            .sum();
        footprint.documents = self.documents.len();
        footprint.bodies = self.bodies.len();
        footprint.fetches = self.fetches.len() + waiting;
        footprint.gaps = self.gaps.len();
    }

    /// Takes what the archive has wanted since the last call, in order.
    pub fn take_facts(&mut self) -> Vec<Fact> {
        std::mem::take(&mut self.facts)
    }

    /// Puts a body made here at hand.
    pub fn cache_body(&mut self, body: Body) {
        let hash = body.hash();
        if self.bodies.insert(hash, body).is_none() {
            self.body_age.push_back(hash);
        }
        for _ in BODIES_CACHED..self.body_age.len() {
            let Some(old) = self.body_age.pop_front() else { break };
            // A body that is nowhere else stays a little longer: its document may be about to come.
            if self.retention.is_written(&old) || self.body_age.len() > 2 * BODIES_CACHED {
                self.bodies.remove(&old);
            } else {
                self.body_age.push_back(old);
            }
        }
    }

    fn cache_document(&mut self, document: Document, written: bool) {
        let hash = document.hash();
        match self.documents.get_mut(&hash) {
            Some((_, known)) => *known |= written,
            None => {
                self.document_bytes += document.bytes().len();
                self.documents.insert(hash, (document, written));
                self.document_age.push_back(hash);
            }
        }
        while (self.document_bytes > DOCUMENT_BYTES_CACHED && self.document_age.len() > DOCUMENTS_CACHED_MIN)
            || self.document_age.len() > DOCUMENTS_CACHED
        {
            let Some(old) = self.document_age.pop_front() else { break };
            if let Some((document, _)) = self.documents.remove(&old) {
                self.document_bytes -= document.bytes().len();
            }
        }
    }

    /// The body of this hash if it is in memory; else it is loaded, should the disk hold it.
    pub fn body_or_load(&mut self, cx: &mut Cx<'_>, hash: &Hash) -> Option<&Body> {
        if !self.bodies.contains_key(hash) && self.retention.is_written(hash) {
            self.load(cx, (Content::Body, *hash));
        }
        self.bodies.get(hash)
    }

    /// Whether the body of this hash can be had from this node.
    pub fn holds_body(&self, hash: &Hash) -> bool {
        self.bodies.contains_key(hash) || self.retention.is_written(hash)
    }

    /// Takes note that a document is committed: what is to be written about the body it names, and about bodies
    /// that are no longer kept. The body named by what is `accepted` stays, however old: whoever may have to
    /// propose it again must be able to hand it out.
    pub fn on_committed(&mut self, document: &Document, accepted: Option<Hash>) -> Vec<Record> {
        let Some(hash) = document.header().body else { return Vec::new() };
        let (held, gone) = self.retention.on_committed(document, hash, accepted);
        self.drop_bodies(held, gone)
    }

    /// Takes note that a global document is committed: the body of what it names of this region is kept as long as
    /// others like it. Same as above, as far as it is held.
    pub fn on_global(&mut self, document: &Document, region: &RegionId) -> Vec<Record> {
        let named = document.header().regions.get(region).and_then(|at| self.documents.get(&at.hash));
        let Some((named, _)) = named else { return Vec::new() };
        let kept = self.retention.on_named(document, named);
        kept.map(|(held, gone)| self.drop_bodies(held, gone)).unwrap_or_default()
    }

    fn drop_bodies(&mut self, held: HeldBody, gone: Vec<Hash>) -> Vec<Record> {
        gone.iter().for_each(|hash| {
            self.bodies.remove(hash);
        });
        std::iter::once(Record::KeepBody(held)).chain(gone.into_iter().map(Record::DropBody)).collect()
    }

    /// A region's checkpoint is heard of: global documents are told by it.
    pub fn hear_checkpoint(&mut self, checkpoint: &CheckpointRef) {
        self.differences.hear(checkpoint);
    }

    /// Asks `from` for a document or body, unless it is on its way already. With `base`, which follows or precedes
    /// it, what differs will do.
    pub fn fetch(&mut self, cx: &Cx<'_>, content: Content, hash: Hash, base: Option<&Document>, from: NodeId) {
        let key = (content, hash);
        if self.fetches.contains_key(&key) {
            return;
        }
        let due = cx.now.mono + FETCH_PATIENCE;
        let base = base.and_then(|base| match content {
            Content::Document => Some(base.hash()).filter(|base| self.documents.contains_key(base)),
            Content::Body => base.header().body.filter(|base| self.bodies.contains_key(base)),
        });
        self.fetches.insert(key, Fetch { from, base, bytes: Vec::new(), due, attempts: 0, checked: None });
        self.ask(key);
    }

    fn ask(&mut self, key: (Content, Hash)) {
        let Some(fetch) = self.fetches.get(&key) else { return };
        let (content, hash) = key;
        let offset = fetch.bytes.len() as u64;
        let base = fetch.base.filter(|_| offset == 0);
        let message = Message::CheckpointFetch(CheckpointFetch { content, hash, offset, base });
        self.facts.push(Fact::Send { to: fetch.from.clone(), message });
    }

    /// Asks another of `peers`, or gives up after many.
    fn ask_another(&mut self, cx: &mut Cx<'_>, key: (Content, Hash), peers: &[NodeId]) {
        let Some(fetch) = self.fetches.get_mut(&key) else { return };
        fetch.attempts += 1;
        if fetch.attempts >= FETCH_ATTEMPTS {
            cx.notice(Notice::FetchFailed { hash: key.1, peer: fetch.from.clone() });
            self.fetches.remove(&key);
            self.serve_awaited(cx, key);
            return;
        }
        fetch.due = cx.now.mono + FETCH_PATIENCE;
        if let Some(peer) = cx.rng.pick(peers) {
            fetch.from = peer.clone();
        }
        self.ask(key);
    }

    /// When the archive next wants attention.
    pub fn deadline(&self) -> Mono {
        self.fetches.values().map(|fetch| fetch.due).min().unwrap_or(Mono::NEVER)
    }

    /// Asks others where an answer is overdue. `peers` are those that can be reached.
    pub fn on_deadline(&mut self, cx: &mut Cx<'_>, peers: &[NodeId]) {
        let now = cx.now.mono;
        let overdue: Vec<_> = self.fetches.iter().filter(|(_, f)| f.due <= now).map(|(key, _)| *key).collect();
        for key in overdue {
            self.ask_another(cx, key, peers);
        }
    }

    /// Takes a chunk that came through a relay, from whoever was asked.
    pub fn on_relayed_body(&mut self, cx: &mut Cx<'_>, chunk: CheckpointBody, peers: &[NodeId]) {
        let asked = self.fetches.get(&(chunk.content, chunk.hash)).map(|fetch| fetch.from.clone());
        if let Some(from) = asked {
            self.on_checkpoint_body(cx, &from, chunk, peers);
        }
    }

    /// Takes a chunk of what was asked for.
    pub fn on_checkpoint_body(&mut self, cx: &mut Cx<'_>, from: &NodeId, chunk: CheckpointBody, peers: &[NodeId]) {
        let key = (chunk.content, chunk.hash);
        let asked = |fetch: &&mut Fetch| fetch.from == *from && fetch.checked.is_none();
        let Some(fetch) = self.fetches.get_mut(&key).filter(asked) else { return };
        if let Some(base) = chunk.base {
            // Only what was asked for; whatever does not fit is asked for whole.
            if fetch.base.take_if(|asked| *asked == base).is_some() {
                self.take_difference(cx, chunk, base, from);
            }
            return;
        }
        let bound = match chunk.content {
            Content::Document => DOCUMENT_BYTES_MAX,
            Content::Body => BODY_BYTES_MAX,
        } as u64;
        let total = match chunk.total {
            Some(total) if total <= bound && chunk.offset == fetch.bytes.len() as u64 => total,
            // The peer does not hold it, or sends nonsense: wait a little, then ask another.
            _ => {
                fetch.due = cx.now.mono + FETCH_PATIENCE / 5;
                return;
            }
        };
        fetch.bytes.extend_from_slice(&chunk.data);
        fetch.due = cx.now.mono + FETCH_PATIENCE;
        let length = fetch.bytes.len() as u64;
        if length < total && !chunk.data.is_empty() {
            return self.ask(key);
        }
        let bytes = std::mem::take(&mut fetch.bytes);
        match chunk.content {
            _ if length != total => self.is_in_vain(cx, key, peers),
            Content::Body => self.check_body(cx, chunk.hash, Source::Packed(bytes), Come::Whole),
            Content::Document if self.take_document(chunk.hash, &bytes) => self.arrived(cx, key, from),
            Content::Document => self.is_in_vain(cx, key, peers),
        }
    }

    /// What has come is not what was asked for: another peer is asked.
    fn is_in_vain(&mut self, cx: &mut Cx<'_>, key: (Content, Hash), peers: &[NodeId]) {
        let Some(fetch) = self.fetches.get(&key) else { return };
        cx.notice(Notice::FetchFailed { hash: key.1, peer: fetch.from.clone() });
        self.ask_another(cx, key, peers);
    }

    /// All of a body has come: whether it is what its name says is found out beside the node.
    fn check_body(&mut self, cx: &mut Cx<'_>, hash: Hash, from: Source, come: Come) {
        let Some(fetch) = self.fetches.get_mut(&(Content::Body, hash)) else { return };
        (fetch.checked, fetch.due) = (Some(come), Mono::NEVER);
        cx.fx.push(Effect::Compute { work: Work::Body { hash, from } });
    }

    /// A body that has come, or was on the disk, was checked.
    pub fn on_body_made(&mut self, cx: &mut Cx<'_>, hash: Hash, body: Result<Body, BodyError>, peers: &[NodeId]) {
        let key = (Content::Body, hash);
        let is_sound = body.map(|body| self.cache_body(body)).is_ok();
        self.serve_loaded(cx, key);
        let Some(fetch) = self.fetches.get_mut(&key) else { return };
        let (come, from) = (fetch.checked.take(), fetch.from.clone());
        if come.is_some() {
            fetch.due = cx.now.mono + FETCH_PATIENCE;
        }
        match come {
            _ if is_sound => self.arrived(cx, key, &from),
            Some(Come::Difference) => self.ask(key),
            Some(Come::Whole) => self.is_in_vain(cx, key, peers),
            // Only what the disk had is not sound.
            None => {}
        }
    }

    fn arrived(&mut self, cx: &mut Cx<'_>, key: (Content, Hash), from: &NodeId) {
        self.fetches.remove(&key);
        self.serve_awaited(cx, key);
        self.facts.push(Fact::Arrived { content: key.0, hash: key.1, from: from.clone() });
    }

    /// Makes what was asked for from what is held; whatever does not fit is asked for whole.
    fn take_difference(&mut self, cx: &mut Cx<'_>, chunk: CheckpointBody, base: Hash, from: &NodeId) {
        let (key, difference) = ((chunk.content, chunk.hash), chunk.data);
        let document = self.documents.get(&base).filter(|_| key.0 == Content::Document);
        let body = self.bodies.get(&base).filter(|_| key.0 == Content::Body).cloned();
        if let Some(base) = body {
            return self.check_body(cx, key.1, Source::Difference { base, difference }, Come::Difference);
        }
        match document.and_then(|(base, _)| self.differences.document(base, &difference, key.1)) {
            Some(document) => {
                self.cache_document(document, false);
                self.arrived(cx, key, from);
            }
            None => self.ask(key),
        }
    }

    /// Takes a document's bytes if they are what their name says.
    fn take_document(&mut self, hash: Hash, bytes: &[u8]) -> bool {
        let text = std::str::from_utf8(bytes).ok();
        let document = text.and_then(|text| Document::parse_as(text, hash).ok());
        document.map(|document| self.cache_document(document, false)).is_some()
    }

    /// Serves a peer: from memory at once, else after a look on the disk.
    pub fn on_checkpoint_fetch(&mut self, cx: &mut Cx<'_>, from: &NodeId, fetch: &CheckpointFetch) {
        let key = (fetch.content, fetch.hash);
        let asked = Asked { by: from.clone(), offset: fetch.offset, base: fetch.base };
        if self.is_cached(key) {
            return self.serve(cx, key, asked);
        }
        if self.fetches.get(&key).is_some_and(|under_way| under_way.from != *from) {
            let awaited = self.awaited.entry(key).or_default();
            if awaited.len() < AWAITED_MAX {
                return awaited.push(asked);
            }
        }
        let gone = fetch.content == Content::Body && !self.retention.is_written(&fetch.hash);
        if gone || self.loads.len() >= LOADS_MAX {
            return self.serve(cx, key, asked);
        }
        self.load(cx, key).push(asked);
    }

    /// Asks the disk, once at a time, and tells who is to have it.
    fn load(&mut self, cx: &mut Cx<'_>, key: (Content, Hash)) -> &mut Vec<Asked> {
        self.loads.entry(key).or_insert_with(|| {
            cx.fx.push(Effect::Load { content: key.0, hash: key.1 });
            Vec::new()
        })
    }

    fn is_cached(&self, (content, hash): (Content, Hash)) -> bool {
        match content {
            Content::Document => self.documents.contains_key(&hash),
            Content::Body => self.bodies.contains_key(&hash),
        }
    }

    /// Answers from memory, at once or when what the asker holds has been compared with it.
    fn serve(&mut self, cx: &mut Cx<'_>, key: (Content, Hash), asked: Asked) {
        let Some((base, body)) = self.to_compare(key, &asked) else { return self.answer(key, &asked) };
        let waiting = self.comparing.entry((base.hash(), body.hash())).or_insert_with(|| {
            cx.fx.push(Effect::Compute { work: Work::Compare { base, body } });
            Vec::new()
        });
        if waiting.len() < AWAITED_MAX {
            waiting.push(asked);
        }
    }

    /// What the asker holds and what it asks for, if these bodies are here, not too long, and have not been compared yet.
    fn to_compare(&self, (content, hash): (Content, Hash), asked: &Asked) -> Option<(Body, Body)> {
        let base = asked.base.filter(|_| content == Content::Body && asked.offset == 0)?;
        let pair = (self.bodies.get(&base)?.clone(), self.bodies.get(&hash)?.clone());
        let is_new = self.differences.of_body(base, hash).is_none();
        (is_new && pair.0.text_len().max(pair.1.text_len()) <= COMPARED_BYTES_MAX).then_some(pair)
    }

    /// Two bodies have been compared: answers those who waited for it.
    pub fn on_compared(&mut self, base: Hash, hash: Hash, difference: Vec<u8>) {
        self.differences.on_compared(base, hash, difference);
        for asked in self.comparing.remove(&(base, hash)).unwrap_or_default() {
            self.answer((Content::Body, hash), &asked);
        }
    }

    /// Answers with what differs from what the asker holds, if that is less.
    fn answer(&mut self, key: (Content, Hash), asked: &Asked) {
        let (content, hash) = key;
        let message = asked.base.filter(|_| asked.offset == 0).and_then(|base| self.difference(key, base));
        let message = message.unwrap_or_else(|| {
            let held = match content {
                Content::Document => self.documents.get(&hash).map(|(document, _)| document.bytes().as_bytes()),
                Content::Body => self.bodies.get(&hash).map(Body::packed),
            };
            chunk(content, hash, held, asked.offset)
        });
        self.facts.push(Fact::Send { to: asked.by.clone(), message });
    }

    fn difference(&mut self, (content, hash): (Content, Hash), base: Hash) -> Option<Message> {
        let (data, whole) = match content {
            Content::Document => {
                let (document, base) = (&self.documents.get(&hash)?.0, &self.documents.get(&base)?.0);
                (self.differences.of_document(base, document), document.bytes().len())
            }
            Content::Body => {
                let body = self.bodies.get(&hash)?;
                (self.differences.of_body(base, hash)?.clone(), body.packed().len())
            }
        };
        let total = Some(data.len() as u64);
        let message = CheckpointBody { content, hash, offset: 0, total, base: Some(base), data };
        (message.data.len() < whole.min(CHUNK_BYTES)).then_some(Message::CheckpointBody(message))
    }

    /// What was on its way is here, or will not come: answers those who asked meanwhile.
    fn serve_awaited(&mut self, cx: &mut Cx<'_>, key: (Content, Hash)) {
        for asked in self.awaited.remove(&key).unwrap_or_default() {
            self.serve(cx, key, asked);
        }
    }

    /// Takes what the disk had: a body is checked first.
    pub fn on_loaded(&mut self, cx: &mut Cx<'_>, content: Content, hash: Hash, bytes: Option<Vec<u8>>) {
        match (content, bytes) {
            (Content::Body, Some(bytes)) => {
                let from = Source::Packed(bytes);
                return cx.fx.push(Effect::Compute { work: Work::Body { hash, from } });
            }
            (Content::Document, Some(bytes)) if self.take_document(hash, &bytes) => {
                let (_, written) = self.documents.get_mut(&hash).expect("it was taken");
                *written = true;
            }
            _ => {}
        }
        self.serve_loaded(cx, (content, hash));
    }

    /// Serves those who waited for the disk; the content stays in memory for their next chunks.
    fn serve_loaded(&mut self, cx: &mut Cx<'_>, key: (Content, Hash)) {
        for asked in self.loads.remove(&key).unwrap_or_default() {
            self.serve(cx, key, asked);
        }
    }

    /// Takes note of a committed document whose parent may be missing, and begins to fill the gap below it.
    /// `below` is the highest index held under it.
    pub fn note_gap(&mut self, cx: &Cx<'_>, group: &GroupId, document: &Document, below: Option<Index>, from: &NodeId) {
        let Some(index) = document.index_in(group).filter(|index| *index > Index(0)) else { return };
        let next = Index(index.get() - 1);
        let Some(parent) = document.header().parent.filter(|_| below < Some(next)) else { return };
        let next = Position { index: next, hash: parent };
        self.gaps.push(Gap { group: group.clone(), next, floor: below });
        self.fill(cx, from);
    }

    /// Takes note of a committed position whose parent may be missing, and begins to fill the gap below it. `below` is
    /// the highest index held under it. The document itself is asked for too: it names the parent, and may not be in
    /// memory.
    pub fn note_hole(&mut self, cx: &Cx<'_>, group: &GroupId, position: Position, below: Option<Index>, from: &NodeId) {
        let begins = below.map_or(Index(0), Index::next);
        if position.index > begins {
            self.gaps.push(Gap { group: group.clone(), next: position, floor: below });
            self.fill(cx, from);
        }
    }

    /// True while an older part of the ledger is still being fetched.
    pub fn is_filling(&self) -> bool {
        !self.gaps.is_empty()
    }

    fn fill(&mut self, cx: &Cx<'_>, from: &NodeId) {
        if let Some(hash) = self.gaps.last().map(|gap| gap.next.hash) {
            self.fetch(cx, Content::Document, hash, None, from.clone());
        }
    }

    /// Goes on filling gaps after an arrival: what is to be written.
    pub fn fill_gaps(&mut self, cx: &Cx<'_>, from: &NodeId) -> Vec<Record> {
        let mut records = Vec::new();
        while let Some(gap) = self.gaps.last_mut() {
            let Some((document, written)) = self.documents.get_mut(&gap.next.hash) else { break };
            if !*written {
                *written = true;
                records.push(Record::Document(document.clone()));
            }
            records.push(Record::Committed(gap.group.clone(), gap.next));
            let below = gap.next.index.get().checked_sub(1).map(Index);
            let parent = document.header().parent;
            match (below, parent) {
                (Some(index), Some(hash)) if gap.floor < Some(index) => gap.next = Position { index, hash },
                _ => {
                    self.gaps.pop();
                }
            }
        }
        self.fill(cx, from);
        records
    }
}

impl Holdings for Archive {
    fn document(&self, hash: &Hash) -> Option<Document> {
        self.documents.get(hash).map(|(document, _)| document.clone())
    }

    fn has_body(&self, hash: &Hash) -> bool {
        self.holds_body(hash)
    }

    fn adopt(&mut self, document: &Document) -> Vec<Record> {
        let mut records = Vec::new();
        self.cache_document(document.clone(), false);
        if let Some((_, written)) = self.documents.get_mut(&document.hash())
            && !std::mem::replace(written, true)
        {
            records.push(Record::Document(document.clone()));
        }
        if let Some(hash) = document.header().body {
            self.retention.want(hash, document.header().index);
            if let Some(body) = self.bodies.get(&hash).filter(|_| !self.retention.is_written(&hash)) {
                records.push(Record::Body(body.clone()));
                self.retention.write(hash);
            }
        }
        records
    }
}

fn chunk(content: Content, hash: Hash, bytes: Option<&[u8]>, offset: u64) -> Message {
    let rest = bytes.and_then(|bytes| bytes.get(usize::try_from(offset).ok()?..)).unwrap_or_default();
    let data = rest[..rest.len().min(CHUNK_BYTES)].to_vec();
    let total = bytes.map(|b| b.len() as u64);
    Message::CheckpointBody(CheckpointBody { content, hash, offset, total, base: None, data })
}

#[cfg(test)]
mod tests;
