//! Anti-entropy: what push did not bring is found by comparing states with a random peer, and mended.
//!
//! Decides whom to compare with and what to send; merging what comes back is `Gossip`'s.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::cx::Cx;
use crate::core::id::{LinkId, NodeId};
use crate::core::message::Message;
use crate::core::message::exchange::{StateDigest, StateRequest, StateUpdate, StreamFrom};
use crate::core::params::Params;
use crate::core::session::Peer;
use crate::core::state::entry::{KeyedEntry, Scope};
use crate::core::state::store::Store;
use crate::core::time::{Mono, Wall};

/// Repairs with all peers of one node.
#[derive(Debug)]
pub(super) struct Repair {
    params: Params,
    due: Mono,
    session: u64,
    partners: BTreeMap<LinkId, Partner>,
}

/// What repair knows of one linked peer.
#[derive(Debug, Default)]
struct Partner {
    /// Whether the last exchange found no settled difference; `None` before the first.
    equal: Option<bool>,
    /// While an answer is not complete yet: whether it has brought anything settled so far.
    missed: Option<bool>,
}

impl Repair {
    /// Has compared with nobody yet.
    pub fn new(params: &Params) -> Self {
        Self { params: params.clone(), due: Mono::ZERO, session: 0, partners: BTreeMap::new() }
    }

    /// A link is ready for use.
    pub fn on_link_up(&mut self, cx: &mut Cx<'_>, store: &Store, peer: &Peer) {
        self.partners.insert(peer.link, Partner::default());
        self.send_all(cx, store, peer.link);
    }

    /// A link is no longer in use.
    pub fn on_link_down(&mut self, link: LinkId) {
        self.partners.remove(&link);
    }

    /// Compares states with the peer on `link` at once.
    pub fn start_with(&mut self, cx: &mut Cx<'_>, store: &Store, link: LinkId) {
        let (count, sum) = store.summary();
        self.session += 1;
        let digest = StateDigest {
            session: self.session,
            scope: Scope::Global,
            count,
            sum,
            horizon: Wall::default(),
            wall: cx.now.wall,
            offset: 0,
            symbols: Vec::new(),
        };
        cx.send(link, Message::StateDigest(digest));
    }

    /// A peer shows what its state looks like.
    pub fn on_digest(&mut self, cx: &mut Cx<'_>, store: &Store, link: LinkId, digest: &StateDigest) {
        let Some(partner) = self.partners.get_mut(&link) else { return };
        if store.summary() == (digest.count, digest.sum) {
            partner.equal = Some(true);
            return;
        }
        self.send_all(cx, store, link);
        cx.send(
            link,
            Message::StateRequest(StateRequest {
                session: digest.session,
                scope: Scope::Global,
                symbols_from: None,
                count: 0,
                want: Vec::new(),
                stream_after: Some(StreamFrom { after: None }),
            }),
        );
    }

    /// A peer asks for what it lacks.
    pub fn on_request(&mut self, cx: &mut Cx<'_>, store: &Store, link: LinkId, _request: &StateRequest) {
        self.send_all(cx, store, link);
    }

    /// A chunk of a peer's answer was merged, `more` to follow; it brought `settled` origins' entries that push
    /// should have brought.
    pub fn on_update(&mut self, link: LinkId, settled: &BTreeSet<NodeId>, more: bool) {
        let Some(partner) = self.partners.get_mut(&link) else { return };
        let missed = partner.missed.take().unwrap_or(false) || !settled.is_empty();
        match more {
            true => partner.missed = Some(missed),
            false => partner.equal = Some(!missed),
        }
    }

    /// Begins a repair with one of `links` when it is time.
    pub fn on_deadline(&mut self, cx: &mut Cx<'_>, store: &Store, links: &[LinkId]) {
        let now = cx.now.mono;
        if self.due > now {
            return;
        }
        let interval = self.params.gossip.repair_interval;
        self.due = now + cx.rng.between(interval / 2, interval * 3 / 2);
        if let Some(link) = cx.rng.pick(links) {
            self.start_with(cx, store, *link);
        }
    }

    /// When the next repair is due.
    pub fn deadline(&self) -> Mono {
        self.due
    }

    /// Whether a comparison with the peer on `link` has come to an end.
    pub fn has_compared(&self, link: LinkId) -> bool {
        self.partners.get(&link).is_some_and(|partner| partner.equal.is_some())
    }

    /// Share of peers with whom the last exchange found no settled difference.
    pub fn converged(&self) -> Option<f64> {
        let known: Vec<bool> = self.partners.values().filter_map(|partner| partner.equal).collect();
        let equal = known.iter().filter(|equal| **equal).count();
        (!known.is_empty()).then(|| equal as f64 / known.len() as f64)
    }

    fn send_all(&self, cx: &mut Cx<'_>, store: &Store, link: LinkId) {
        let all: Vec<KeyedEntry> = store.iter().map(|(key, entry)| KeyedEntry::of(key, entry)).collect();
        let mut chunks = all.chunks(1000).peekable();
        while let Some(chunk) = chunks.next() {
            let update = StateUpdate { session: self.session, entries: chunk.to_vec(), more: chunks.peek().is_some() };
            cx.send(link, Message::StateUpdate(update));
        }
    }
}
