//! Anti-entropy: what push did not bring is found by reconciling sets of fingerprints with a peer, and mended.
//!
//! One side opens with count and sum of its set. Equal: that is all. Otherwise the other answers with coded symbols,
//! the opener subtracts its own, asks for more of them until it can tell what differs, asks for what it lacks and
//! then sends what the other does. Sets too far apart for symbols tell by filters what they hold, and stream to each
//! other what the filters do not. The opener sends last: most of what it alone holds is older than what it is sent.
//!
//! Decides whom to compare with and what to send; merging what comes back is `Gossip`'s, and links are `overlay`'s.
//!
//! Invariants: nothing is remembered of a peer's symbols from one message to the next, since both sets go on
//! changing; a link carries one chunk of entries at a time, so that push gets its turn; entries that have expired at
//! one of the two are as good as absent at both.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::core::cx::Cx;
use crate::core::effect::Effect;
use crate::core::id::{LinkId, NodeId};
use crate::core::message::Message;
use crate::core::message::exchange::{Rest, StateDigest, StateRequest, StateUpdate};
use crate::core::notice::Notice;
use crate::core::params::Params;
use crate::core::session::Peer;
use crate::core::state::entry::{Entry, Key, KeyRef, KeyedEntry, Scope};
use crate::core::state::filter::Filter;
use crate::core::state::sketch::{self, Difference, Run};
use crate::core::state::store::{Cursor, Share, Store};
use crate::core::time::{Mono, Wall};

/// Whole symbols of a first answer: a handful of differences shows at once.
const FIRST_SYMBOLS: usize = 32;
/// Counts after those, from which the distance is guessed to a tenth or so.
const FIRST_COUNTS: usize = 224;
/// Symbols are asked for on top of what the guess needs, as a fraction of it: two standard deviations.
const GUESS_MARGIN: (u64, u64) = (6, 5);
/// A symbol in base64 on the wire, in bytes.
const SYMBOL_BYTES: u64 = 19;
/// A filter's share of one entry in base64, in bytes.
const FILTER_BYTES: u64 = 2;
/// Symbols of so many bytes are asked for even if filters are shorter: they leave nothing to the next exchange.
const SYMBOLS_WORTH: u64 = 4096;
/// A set this many times smaller than the other is sent whole rather than told what the other holds.
const MUCH_SMALLER: u64 = 64;
/// Entries sent in one piece, in bytes of JSON as far as they can be told before.
const CHUNK_BYTES: usize = 64 * 1024;
/// Entries looked at for one piece.
const CHUNK_LOOKS: usize = 20_000;
/// Answers that one peer may have waiting; it asks again for what goes beyond.
const ANSWERS_MAX: usize = 4;
/// One partner in so many is drawn from all members without a link, so that a region cut off from its neighbours is
/// found. Each costs a connection: more would be most of an idle node's traffic.
const AFAR_EVERY: u64 = 64;
/// Repair intervals without a word after which an exchange is given up.
const PATIENCE: u32 = 5;

/// Repairs with all peers of one node.
#[derive(Debug)]
pub(super) struct Repair {
    params: Params,
    due: Mono,
    session: u64,
    rounds: u64,
    partners: BTreeMap<LinkId, Partner>,
    /// Links still to be compared with since they came up.
    owed: BTreeSet<LinkId>,
}

/// What repair knows of one linked peer.
#[derive(Debug)]
struct Partner {
    share: Share,
    /// Whether the last exchange found no settled difference; `None` before the first.
    equal: Option<bool>,
    /// While an exchange goes on: whether it has found anything settled so far.
    missed: bool,
    /// The exchange that we have opened.
    open: Option<Open>,
    /// When a stream of what we lack was last heard of.
    filling: Option<Mono>,
    /// What this peer is still to be sent.
    answers: VecDeque<Answer>,
    /// True while a chunk is on its way to the network.
    sending: bool,
}

/// An exchange from its opener's side.
#[derive(Debug)]
struct Open {
    session: u64,
    young: bool,
    /// Symbols asked for after the first answer.
    asked: usize,
    /// Fingerprints that we alone hold, to be sent once the other has sent its own.
    mine: Vec<u64>,
    /// What has expired at the other.
    horizon: Wall,
    heard: Mono,
}

/// Entries that a peer is to be sent, in chunks.
#[derive(Debug)]
struct Answer {
    session: u64,
    terms: Terms,
    what: What,
}

#[derive(Debug)]
enum What {
    /// The newest of these keys.
    Keys(VecDeque<Key>),
    /// Everything from here on that the filter does not hold; then, with `both`, the like is asked for.
    Rest { from: Cursor, filter: Filter, both: Option<StateRequest> },
}

/// A chunk of a peer's answer that was merged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Merged<'a> {
    /// The exchange that it belongs to.
    pub session: u64,
    /// Origins of what was new in it, and so old that push should have brought it.
    pub settled: &'a BTreeSet<NodeId>,
    /// True if more is to follow.
    pub more: bool,
}

/// Which entries may be sent.
#[derive(Clone, Copy, Debug)]
struct Terms {
    share: Share,
    /// None stamped before this: they have expired at one of the two.
    horizon: Wall,
    /// None stamped after this: they are left to push.
    settled_by: Wall,
}

impl Terms {
    fn allow(&self, entry: &Entry) -> bool {
        let at = entry.stamp.wall();
        self.share.includes(entry.scope) && self.horizon <= at && at <= self.settled_by
    }
}

impl Repair {
    /// Exchanges that we have opened, and answers that peers are still to be sent.
    pub fn under_way(&self) -> usize {
        self.partners.values().map(|partner| usize::from(partner.open.is_some()) + partner.answers.len()).sum()
    }

    /// Has compared with nobody yet.
    pub fn new(params: &Params) -> Self {
        Self {
            params: params.clone(),
            due: Mono::ZERO,
            session: 0,
            rounds: 0,
            partners: BTreeMap::new(),
            owed: BTreeSet::new(),
        }
    }

    /// A link is ready for use: whoever dialed opens an exchange, which leaves nothing to push.
    pub fn on_link_up(&mut self, cx: &mut Cx<'_>, store: &Store, peer: &Peer, wall: Wall) {
        let partner = Partner {
            share: Share::between(&self.params.region, &peer.region),
            equal: None,
            missed: false,
            open: None,
            filling: None,
            answers: VecDeque::new(),
            sending: false,
        };
        self.partners.insert(peer.link, partner);
        if peer.dialed.is_some() {
            self.start_with(cx, store, peer.link, wall);
        }
    }

    /// A link is no longer in use.
    pub fn on_link_down(&mut self, cx: &Cx<'_>, link: LinkId) {
        self.partners.remove(&link);
        self.owed.remove(&link);
        self.pay_soon(cx);
    }

    /// Compares states with the peer on `link`, young entries included: at once, or as soon as the exchange that
    /// goes on is over.
    pub fn start_with(&mut self, cx: &mut Cx<'_>, store: &Store, link: LinkId, wall: Wall) {
        if self.partners.keys().any(|link| self.is_busy(cx.now.mono, *link)) {
            self.owed.insert(link);
        } else {
            self.open(cx, store, link, wall, true);
        }
    }

    fn open(&mut self, cx: &mut Cx<'_>, store: &Store, link: LinkId, wall: Wall, young: bool) {
        let Some(partner) = self.partners.get_mut(&link) else { return };
        self.session += 1;
        self.owed.remove(&link);
        let (mine, horizon) = (Vec::new(), Wall::default());
        partner.open = Some(Open { session: self.session, young, asked: 0, mine, horizon, heard: cx.now.mono });
        partner.missed = false;
        let digest = digest(cx, store, partner.share, self.session, wall, &Run::default());
        cx.send(link, Message::StateDigest(digest));
    }

    /// A peer shows what its state looks like.
    pub fn on_digest(&mut self, cx: &mut Cx<'_>, store: &Store, link: LinkId, digest: &StateDigest, wall: Wall) {
        let Some(partner) = self.partners.get(&link) else { return };
        if scope_of(partner.share) != digest.scope {
            return reject(cx, link, "a digest of another scope than the two nodes share");
        }
        if digest.symbols.is_empty() {
            self.on_opened(cx, store, link, digest, wall);
        } else {
            self.on_symbols(cx, store, link, digest, wall);
        }
    }

    fn on_opened(&mut self, cx: &mut Cx<'_>, store: &Store, link: LinkId, theirs: &StateDigest, wall: Wall) {
        if self.is_filled_by_another(cx.now.mono, link) {
            // Whoever compares with a newcomer now would only send the same once more.
            return;
        }
        let Some(partner) = self.partners.get_mut(&link) else { return };
        let (session, share) = (theirs.session, partner.share);
        let summary = store.summary_of(share);
        if summary == (theirs.count, theirs.sum) {
            partner.equal = Some(true);
            let done = StateUpdate { session, entries: Vec::new(), more: false };
            return cx.send(link, Message::StateUpdate(done));
        }
        if summary.0 == 0 {
            partner.filling = Some(cx.now.mono);
            let rest = Rest { filter: Vec::new(), salt: 0, both: false };
            let request = StateRequest { rest: Some(rest), young: true, ..request(store, share, session, wall) };
            return cx.send(link, Message::StateRequest(request));
        }
        let run = Run::of(&store.symbols_of(share, FIRST_SYMBOLS + FIRST_COUNTS), FIRST_SYMBOLS, FIRST_COUNTS);
        let answer = digest(cx, store, share, session, wall, &run);
        cx.send(link, Message::StateDigest(answer));
    }

    /// The answer to a digest of ours, or to a request for more symbols.
    fn on_symbols(&mut self, cx: &mut Cx<'_>, store: &Store, link: LinkId, theirs: &StateDigest, wall: Wall) {
        let Some(partner) = self.partners.get_mut(&link) else { return };
        let Some(open) = partner.open.as_mut().filter(|open| open.session == theirs.session) else { return };
        open.heard = cx.now.mono;
        let run = match Run::decode(theirs.count, &theirs.symbols, &theirs.counts) {
            Ok(run) => run,
            Err(error) => {
                partner.open = None;
                return reject(cx, link, &error.to_string());
            }
        };
        // Most of them nobody looks at: a copy of all would cost more than the rest of an exchange.
        let ours = store.symbols_of(partner.share, run.all_counts().len());
        let in_all = store.symbols_len(partner.share);
        let common = ours.len().min(run.symbols.len());
        if let Some(difference) = sketch::difference(&ours[..common], &run.symbols[..common]) {
            return self.mend(cx, store, link, theirs.horizon, wall, difference);
        }
        let guess = sketch::distance(&ours, &run.all_counts()).saturating_mul(GUESS_MARGIN.0) / GUESS_MARGIN.1;
        let wanted = sketch::symbols_for(guess).max(if open.asked == 0 { 0 } else { run.symbols.len() * 2 });
        let filters = (theirs.count + store.summary_of(partner.share).0).saturating_mul(FILTER_BYTES);
        let too_many = wanted as u64 * SYMBOL_BYTES > filters.max(SYMBOLS_WORTH);
        // Who sends fewer than it was asked for has no more.
        if too_many || wanted > in_all || run.symbols.len() < open.asked {
            return self.exchange_filters(cx, store, link, theirs, wall);
        }
        open.asked = wanted;
        let more = u32::try_from(wanted).ok();
        let request = StateRequest { symbols: more, ..request(store, partner.share, theirs.session, wall) };
        cx.send(link, Message::StateRequest(request));
    }

    /// What differs is known: asks for what we lack, and then sends what the other does.
    fn mend(
        &mut self,
        cx: &mut Cx<'_>,
        store: &Store,
        link: LinkId,
        horizon: Wall,
        wall: Wall,
        difference: Difference,
    ) {
        let Some(partner) = self.partners.get_mut(&link) else { return };
        let Some(open) = &mut partner.open else { return };
        (open.mine, open.horizon) = (difference.ours, horizon);
        if difference.theirs.is_empty() {
            return self.finish(cx, store, link, wall);
        }
        let want = difference.theirs.iter().flat_map(|fingerprint| fingerprint.to_le_bytes()).collect();
        let request = StateRequest { want, young: open.young, ..request(store, partner.share, open.session, wall) };
        cx.send(link, Message::StateRequest(request));
    }

    /// All that the other has sent is merged: sends what we alone hold even so, and ends the exchange.
    fn finish(&mut self, cx: &mut Cx<'_>, store: &Store, link: LinkId, wall: Wall) {
        let Some(partner) = self.partners.get_mut(&link) else { return };
        let Some(open) = partner.open.take() else { return };
        let terms = self.params.terms(store, partner.share, open.horizon, wall, open.young);
        let (keys, settled) = self.params.find(store, &terms, &open.mine, wall);
        partner.equal = Some(!partner.missed && !settled);
        partner.missed = false;
        if !keys.is_empty() {
            self.answer(cx, store, link, Answer { session: open.session, terms, what: What::Keys(keys) });
        }
        self.pay_soon(cx);
    }

    /// The two are too far apart: each is to send what the other's filter does not hold.
    fn exchange_filters(&mut self, cx: &mut Cx<'_>, store: &Store, link: LinkId, theirs: &StateDigest, wall: Wall) {
        let Some(partner) = self.partners.get_mut(&link) else { return };
        let Some(open) = &partner.open else { return };
        let (session, young, share) = (open.session, open.young, partner.share);
        // Of a set that is hardly anything, all is sent: shorter than the filter that would tell what to leave out.
        let all = store.summary_of(share).0.saturating_mul(MUCH_SMALLER) <= theirs.count;
        partner.filling = Some(cx.now.mono);
        let rest = self.params.rest(cx, store, share, !all);
        let request = StateRequest { rest: Some(rest), young, ..request(store, share, session, wall) };
        cx.send(link, Message::StateRequest(request));
        if all {
            let terms = self.params.terms(store, share, theirs.horizon, wall, young);
            let what = What::Rest { from: Cursor::start(), filter: Filter::default(), both: None };
            self.answer(cx, store, link, Answer { session, terms, what });
        }
    }

    /// A peer asks for what it lacks.
    pub fn on_request(&mut self, cx: &mut Cx<'_>, store: &Store, link: LinkId, asked: StateRequest, wall: Wall) {
        let Some(partner) = self.partners.get_mut(&link) else { return };
        if scope_of(partner.share) != asked.scope {
            return reject(cx, link, "a request of another scope than the two nodes share");
        }
        let (session, share) = (asked.session, partner.share);
        let terms = self.params.terms(store, share, asked.horizon, wall, asked.young);
        if let Some(symbols) = asked.symbols {
            let run = Run::of(&store.symbols_of(share, symbols as usize), symbols as usize, 0);
            let digest = digest(cx, store, share, session, wall, &run);
            cx.send(link, Message::StateDigest(digest));
        }
        if !asked.want.is_empty() {
            let mut wanted: Vec<u64> = asked.want.chunks_exact(8).map(le_u64).collect();
            wanted.sort_unstable();
            let (keys, settled) = self.params.find(store, &terms, &wanted, wall);
            if settled {
                partner.equal = Some(false);
            }
            self.answer(cx, store, link, Answer { session, terms, what: What::Keys(keys) });
        }
        if let Some(Rest { filter, salt, both }) = asked.rest {
            let likewise = StateRequest { young: asked.young, ..request(store, share, session, wall) };
            let filter = Filter::from_bytes(filter, salt);
            let what = What::Rest { from: Cursor::start(), filter, both: both.then_some(likewise) };
            self.answer(cx, store, link, Answer { session, terms, what });
        }
    }

    /// A chunk of a peer's answer was merged.
    pub fn on_update(&mut self, cx: &mut Cx<'_>, store: &Store, link: LinkId, update: Merged<'_>, wall: Wall) {
        let Some(partner) = self.partners.get_mut(&link) else { return };
        partner.missed |= !update.settled.is_empty();
        let now = cx.now.mono;
        if update.more {
            partner.filling = partner.filling.map(|_| now);
            if let Some(open) = &mut partner.open {
                open.heard = now;
            }
            return;
        }
        partner.filling = None;
        if partner.open.as_ref().is_some_and(|open| open.session == update.session) {
            return self.finish(cx, store, link, wall);
        }
        partner.equal = Some(!partner.missed);
        partner.missed = false;
        self.pay_soon(cx);
    }

    /// There is room for the next chunk on a link.
    pub fn on_link_ready(&mut self, cx: &mut Cx<'_>, store: &Store, link: LinkId) {
        if let Some(partner) = self.partners.get_mut(&link) {
            partner.sending = false;
            self.send(cx, store, link);
        }
    }

    /// Sends the next chunk of what a peer is to be sent, unless one is still on its way.
    fn send(&mut self, cx: &mut Cx<'_>, store: &Store, link: LinkId) {
        let Some(partner) = self.partners.get_mut(&link).filter(|partner| !partner.sending) else { return };
        let Some(answer) = partner.answers.front_mut() else { return };
        let (entries, more) = answer.take(store);
        let update = StateUpdate { session: answer.session, entries, more };
        partner.sending = true;
        cx.fx.push(Effect::Send { link, message: Message::StateUpdate(update), notify: true });
        if more {
            return;
        }
        let done = partner.answers.pop_front().map(|answer| answer.what);
        if let Some(What::Rest { both: Some(request), .. }) = done
            && !self.is_filled_by_another(cx.now.mono, link)
            && let Some(partner) = self.partners.get_mut(&link)
        {
            partner.filling = Some(cx.now.mono);
            let rest = self.params.rest(cx, store, partner.share, false);
            cx.send(link, Message::StateRequest(StateRequest { rest: Some(rest), ..request }));
        }
    }

    fn answer(&mut self, cx: &mut Cx<'_>, store: &Store, link: LinkId, answer: Answer) {
        let Some(partner) = self.partners.get_mut(&link) else { return };
        if partner.answers.len() >= ANSWERS_MAX {
            return reject(cx, link, "more repairs are asked for than are served at a time");
        }
        partner.answers.push_back(answer);
        self.send(cx, store, link);
    }

    /// Opens a repair with one of `links` when it is time. True if one with any member, linked or not, is due
    /// as well.
    pub fn on_deadline(&mut self, cx: &mut Cx<'_>, store: &Store, links: &[LinkId], wall: Wall) -> bool {
        let now = cx.now.mono;
        if self.due > now {
            return false;
        }
        let interval = self.params.gossip.repair_interval;
        self.due = now + cx.rng.between(interval / 2, interval * 3 / 2);
        if self.partners.keys().any(|link| self.is_filled(now, *link)) {
            return false;
        }
        if let Some(link) = self.owed.pop_first() {
            self.open(cx, store, link, wall, true);
            self.pay_soon(cx);
            return false;
        }
        self.rounds += 1;
        let free: Vec<LinkId> = links.iter().copied().filter(|link| !self.is_busy(now, *link)).collect();
        if let Some(link) = cx.rng.pick(&free) {
            self.open(cx, store, *link, wall, false);
        }
        self.rounds.is_multiple_of(AFAR_EVERY)
    }

    /// Links that are owed a comparison get it as soon as nothing else goes on.
    fn pay_soon(&mut self, cx: &Cx<'_>) {
        if !self.owed.is_empty() && !self.partners.keys().any(|link| self.is_busy(cx.now.mono, *link)) {
            self.due = cx.now.mono;
        }
    }

    /// True while an exchange that we have opened, or a stream to us, goes on with this peer.
    fn is_busy(&self, now: Mono, link: LinkId) -> bool {
        let open = self.partners.get(&link).and_then(|partner| partner.open.as_ref());
        open.is_some_and(|open| self.is_recent(now, open.heard)) || self.is_filled(now, link)
    }

    fn is_filled(&self, now: Mono, link: LinkId) -> bool {
        let filling = self.partners.get(&link).and_then(|partner| partner.filling);
        filling.is_some_and(|heard| self.is_recent(now, heard))
    }

    fn is_filled_by_another(&self, now: Mono, link: LinkId) -> bool {
        self.partners.keys().any(|other| *other != link && self.is_filled(now, *other))
    }

    fn is_recent(&self, now: Mono, heard: Mono) -> bool {
        now.since(heard) < self.params.gossip.repair_interval * PATIENCE
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
}

impl Answer {
    /// The next chunk, and whether more may follow.
    fn take(&mut self, store: &Store) -> (Vec<KeyedEntry>, bool) {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        let mut add = |key: KeyRef<'_>, entry: &Entry| {
            // Names of fields, quotes and stamp come on top.
            bytes += 64 + key.origin.as_str().len() + key.channel.as_str().len() + entry.value.as_str().len();
            entries.push(KeyedEntry::of(key, entry));
            bytes >= CHUNK_BYTES
        };
        match &mut self.what {
            What::Keys(keys) => {
                while let Some(key) = keys.pop_front() {
                    // What has become young meanwhile is on its way by push.
                    let words = store.words(&key, self.terms.share).filter(|entry| self.terms.allow(entry));
                    let mut full = false;
                    for entry in words {
                        full |= add(key.borrowed(), entry);
                    }
                    if full {
                        break;
                    }
                }
                let more = !keys.is_empty();
                (entries, more)
            }
            What::Rest { from, filter, .. } => {
                let mut reached = None;
                for (looks, (fingerprint, key, entry)) in store.stream(self.terms.share, from).enumerate() {
                    let sent = self.terms.allow(entry) && !filter.holds(fingerprint);
                    if (sent && add(key, entry)) || looks >= CHUNK_LOOKS {
                        reached = Some(Cursor::after(key));
                        break;
                    }
                }
                let more = reached.is_some();
                *from = reached.unwrap_or(Cursor::start());
                (entries, more)
            }
        }
    }
}

impl Params {
    /// Which entries may be sent to a peer whose horizon is `theirs`.
    ///
    /// The later of two horizons holds, so that what has expired at one of the two is neither sent nor missed,
    /// unless the peer's is later than its clock may be wrong.
    fn terms(&self, store: &Store, share: Share, theirs: Wall, wall: Wall, young: bool) -> Terms {
        let own = store.horizon(wall);
        let latest = store.horizon(wall + self.clock_skew_max);
        let horizon = if theirs <= latest { own.max(theirs) } else { own };
        let settled_by = if young { Wall::from_millis(u64::MAX) } else { wall - self.gossip.settle_after };
        Terms { share, horizon, settled_by }
    }

    /// Keys of those of the fingerprints, in rising order, that may be sent; and whether any of them is settled.
    fn find(&self, store: &Store, terms: &Terms, wanted: &[u64], wall: Wall) -> (VecDeque<Key>, bool) {
        let (mut keys, mut settled) = (VecDeque::new(), false);
        if wanted.is_empty() {
            return (keys, settled);
        }
        let settled_by = wall - self.gossip.settle_after;
        for (key, entry) in store.with_fingerprints(terms.share, wanted) {
            if terms.allow(entry) {
                settled |= entry.stamp.wall() < settled_by;
                keys.push_back(key.to_key());
            }
        }
        (keys, settled)
    }

    fn rest(&self, cx: &mut Cx<'_>, store: &Store, share: Share, both: bool) -> Rest {
        let count = store.summary_of(share).0 as usize;
        let salt = cx.rng.bits() >> 12;
        let held = store.fingerprints(share).map(|(fingerprint, ..)| fingerprint);
        let filter = Filter::of(count, self.frame_bytes_max / 4, salt, held);
        Rest { filter: filter.into_bytes(), salt, both }
    }
}

fn digest(cx: &Cx<'_>, store: &Store, share: Share, session: u64, wall: Wall, run: &Run) -> StateDigest {
    let (count, sum) = store.summary_of(share);
    let (symbols, counts) = run.encode(count);
    let horizon = store.horizon(wall);
    StateDigest { session, scope: scope_of(share), count, sum, horizon, wall: cx.now.wall, symbols, counts }
}

fn request(store: &Store, share: Share, session: u64, wall: Wall) -> StateRequest {
    StateRequest {
        session,
        scope: scope_of(share),
        horizon: store.horizon(wall),
        symbols: None,
        want: Vec::new(),
        rest: None,
        young: false,
    }
}

fn scope_of(share: Share) -> Scope {
    match share {
        Share::All => Scope::Region,
        Share::Global => Scope::Global,
    }
}

fn le_u64(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("chunks of eight bytes"))
}

fn reject(cx: &mut Cx<'_>, link: LinkId, why: &str) {
    cx.notice(Notice::Rejected { link, why: why.to_owned() });
}

#[cfg(test)]
mod tests;
