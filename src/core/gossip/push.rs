//! Push: every origin's entries flow along a tree of their own, learned by flood and prune (section 3).
//!
//! Each node has one *parent* for each origin: the link that first delivered something of it, or the origin's own
//! link where there is one. On a duplicate from any other link it answers PRUNE, and that link carries the origin no
//! more until it is grafted. What waits to be sent is a set of keys, not of messages: a flush takes the newest value
//! of each, so a slow neighbour costs memory for keys and never for updates.
//!
//! Invariants: the parent of an origin is never pruned. `told` here and `pruned` at the other end of a link say the
//! same, but for what is on its way.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use crate::core::cx::Cx;
use crate::core::effect::Effect;
use crate::core::gossip::bits::Bits;
use crate::core::gossip::lag::Lag;
use crate::core::hlc::Hlc;
use crate::core::id::{Channel, LinkId, NodeId};
use crate::core::message::Message;
use crate::core::message::exchange::{Graft, Prune, SensorUpdate};
use crate::core::params::Params;
use crate::core::state::entry::{Key, KeyedEntry, Scope};
use crate::core::state::store::Store;
use crate::core::time::Mono;

/// What an entry costs on the wire beyond its names and value, in bytes, roughly.
const ENTRY_OVERHEAD: usize = 72;
/// Entries of a message that room is made for at once.
const ENTRIES_EXPECTED: usize = 64;
/// Prunes wait for each other for so many times `push_delay`.
const WISHES_WAIT: u32 = 5;
/// A peer that goes on sending what was pruned this long ago has lost the prune, by forgetting the origin for
/// instance: it is told again.
const TELL_AGAIN: Duration = Duration::from_secs(5);

/// Trees and outboxes of one node.
#[derive(Debug)]
pub(super) struct Push {
    params: Params,
    /// Origins are numbered, so that what is known of each on each link is a bit.
    numbers: BTreeMap<NodeId, u32>,
    origins: Vec<Origin>,
    free: Vec<u32>,
    lanes: BTreeMap<LinkId, Lane>,
    /// Those with something to say: a leader has many lanes, and most are silent most of the time.
    busy: BTreeSet<LinkId>,
    lag: Lag,
    /// When to look whether a doubt about a parent has stood long enough.
    doubts_due: Mono,
    /// What [`Push::deadline`] said last, until a lane changes: it is asked for after every event, and most change none.
    due: Cell<Option<Mono>>,
}

#[derive(Clone, Debug)]
struct Origin {
    node: NodeId,
    parent: Option<LinkId>,
    /// A link that has been faster than the parent.
    rival: Option<LinkId>,
    /// When a rival last took the parent's place.
    replaced: Option<Mono>,
    /// Since when something is missing that the parent should have brought; `NEVER` if nothing is.
    doubted: Mono,
    /// When its life began, as far as its `@node` is known.
    start: Hlc,
}

/// One link as push sees it.
#[derive(Debug)]
struct Lane {
    node: NodeId,
    foreign: bool,
    /// Origins that the peer does not want from us.
    pruned: Bits,
    /// Origins that we do not want from the peer, and have told it so.
    told: Bits,
    told_at: Mono,
    /// Origins to ask the peer for, and to tell it that we do not want.
    grafts: BTreeSet<u32>,
    prunes: BTreeSet<u32>,
    next_wishes: Mono,
    outbox: Outbox,
    /// A flush is on its way to the network.
    sending: bool,
    next_flush: Mono,
}

/// Keys that have news for a peer, and whether it is to confirm them. The system's own go first.
#[derive(Debug, Default)]
struct Outbox {
    system: BTreeMap<Key, bool>,
    readings: BTreeMap<Key, bool>,
}

/// Why entries are offered to the neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// They are our own; `confirm` if we wait for who holds them.
    Own { confirm: bool },
    /// A neighbour brought them.
    From(LinkId),
}

impl Push {
    /// Knows no origin and no neighbour.
    pub fn new(params: &Params) -> Self {
        Self {
            params: params.clone(),
            numbers: BTreeMap::new(),
            origins: Vec::new(),
            free: Vec::new(),
            lanes: BTreeMap::new(),
            busy: BTreeSet::new(),
            lag: Lag::new(params.gossip.settle_after),
            doubts_due: Mono::NEVER,
            due: Cell::default(),
        }
    }

    fn number(&mut self, node: &NodeId) -> u32 {
        if let Some(number) = self.numbers.get(node) {
            return *number;
        }
        let origin = Origin {
            node: node.clone(),
            parent: None,
            rival: None,
            replaced: None,
            doubted: Mono::NEVER,
            start: Hlc::ZERO,
        };
        let number = match self.free.pop() {
            Some(number) => {
                self.origins[number as usize] = origin;
                number
            }
            None => {
                self.origins.push(origin);
                self.origins.len() as u32 - 1
            }
        };
        self.numbers.insert(node.clone(), number);
        number
    }

    /// A link is ready for use. It begins pruned for every origin that has a parent, but for the peer's own: a tree
    /// that stands is not flooded anew for one more link.
    pub fn on_link_up(&mut self, now: Mono, link: LinkId, node: &NodeId, foreign: bool) {
        let mut lane = Lane {
            node: node.clone(),
            foreign,
            pruned: Bits::default(),
            told: Bits::default(),
            told_at: now,
            grafts: BTreeSet::new(),
            prunes: BTreeSet::new(),
            next_wishes: Mono::ZERO,
            outbox: Outbox::default(),
            sending: false,
            next_flush: Mono::ZERO,
        };
        for (number, origin) in (0..).zip(&self.origins) {
            if origin.parent.is_some() && origin.node != *node {
                lane.tell(number);
            }
        }
        self.lanes.insert(link, lane);
        self.note_work(link);
    }

    /// A lane may have something to say.
    fn note_work(&mut self, link: LinkId) {
        self.due.take();
        if self.lanes.get(&link).is_some_and(Lane::has_work) {
            self.busy.insert(link);
        }
    }

    /// A link is no longer in use: origins that lost their parent are grafted on all others. The link of one that
    /// is asked for them, to repair with at once, if there were any.
    pub fn on_link_down(&mut self, link: LinkId) -> Option<LinkId> {
        self.lanes.remove(&link)?;
        self.busy.remove(&link);
        self.due.take();
        let lost = |(number, origin): (u32, &Origin)| (origin.parent == Some(link)).then_some(number);
        let orphans: Vec<u32> = (0..).zip(&self.origins).filter_map(lost).collect();
        orphans.iter().for_each(|number| self.graft(*number));
        let asked = |(_, lane): &(&LinkId, &Lane)| !lane.grafts.is_empty();
        let first = self.lanes.iter().find(asked).or_else(|| self.lanes.iter().next());
        first.filter(|_| !orphans.is_empty()).map(|(link, _)| *link)
    }

    /// An origin has no parent: every link may carry it again, and the first to deliver news is taken.
    fn graft(&mut self, number: u32) {
        let origin = &mut self.origins[number as usize];
        (origin.parent, origin.rival, origin.doubted) = (None, None, Mono::NEVER);
        for (link, lane) in &mut self.lanes {
            lane.untell(number);
            if lane.has_work() {
                self.busy.insert(*link);
            }
        }
        self.due.take();
    }

    /// An entry of `origin` was new, and came on `link`, so long after it was written.
    pub fn on_news(&mut self, link: LinkId, origin: &NodeId, lag: Duration) {
        self.lag.on_pushed(lag);
        let number = self.number(origin);
        let origin = &mut self.origins[number as usize];
        if origin.parent == Some(link) {
            origin.doubted = Mono::NEVER;
        }
        if origin.parent.is_none() || (origin.rival == Some(link) && origin.parent != Some(link)) {
            // One that brings news again has a parent beside it that brings none.
            self.adopt(link, number);
        } else if origin.parent != Some(link) && !self.prefer_the_origin(link, number) {
            self.origins[number as usize].rival = Some(link);
        }
    }

    /// Something held already came on `link`.
    pub fn on_duplicate(&mut self, now: Mono, link: LinkId, origin: &NodeId) {
        let number = self.number(origin);
        let parent = self.origins[number as usize].parent;
        if parent == Some(link) {
            self.origins[number as usize].doubted = Mono::NEVER;
        }
        if self.prefer_the_origin(link, number) || parent.is_none() {
            return;
        }
        // The parent is never pruned: whoever prunes on any copy is cut off sooner or later. But a link that was faster
        // takes its place: what comes later on the parent's link may have come by way of us, and whoever prunes its
        // source for that is cut off with all that hang on it.
        if parent == Some(link) && !self.replace_parent(now, number) {
            return;
        }
        if let Some(lane) = self.lanes.get_mut(&link)
            && (!lane.told.has(number) || lane.told_at + TELL_AGAIN <= now)
        {
            lane.told_at = now;
            lane.tell(number);
            self.note_work(link);
        }
    }

    /// The rival becomes the parent, now and then: of two links that take turns in being faster one is left alone.
    fn replace_parent(&mut self, now: Mono, number: u32) -> bool {
        let origin = &mut self.origins[number as usize];
        let Some(rival) = origin.rival.take() else { return false };
        if !self.lanes.contains_key(&rival) || origin.replaced.is_some_and(|at| now < at + TELL_AGAIN) {
            return false;
        }
        origin.replaced = Some(now);
        self.adopt(rival, number);
        true
    }

    fn adopt(&mut self, link: LinkId, number: u32) {
        if let Some(lane) = self.lanes.get_mut(&link) {
            lane.untell(number);
            let origin = &mut self.origins[number as usize];
            (origin.parent, origin.rival, origin.doubted) = (Some(link), None, Mono::NEVER);
            self.note_work(link);
        }
    }

    /// The origin's own link is the best parent there is, and cannot close a circle: it replaces any other.
    fn prefer_the_origin(&mut self, link: LinkId, number: u32) -> bool {
        let origin = &self.origins[number as usize];
        if self.lanes.get(&link).is_none_or(|lane| lane.node != origin.node) {
            return false;
        }
        if let Some(parent) = origin.parent
            && let Some(old) = self.lanes.get_mut(&parent)
        {
            old.tell(number);
            self.note_work(parent);
        }
        self.adopt(link, number);
        true
    }

    /// An origin says when its life began: what was learned in an earlier one is void.
    pub fn on_start(&mut self, origin: &NodeId, start: Hlc) {
        let number = self.number(origin);
        let known = std::mem::replace(&mut self.origins[number as usize].start, start);
        if known != Hlc::ZERO && known < start {
            self.graft(number);
            for lane in self.lanes.values_mut() {
                lane.pruned.clear(number);
            }
        }
    }

    /// A repair on `link` brought settled entries of `origin`: where push is quick, its tree does not reach us. Where it
    /// is late the tree may well stand: the link that brought them may carry the origin again, and the others only if
    /// the parent brings nothing more.
    pub fn on_missed(&mut self, now: Mono, link: LinkId, origin: &NodeId) {
        let number = self.number(origin);
        let is_quick = self.lag.is_quick();
        let origin = &mut self.origins[number as usize];
        if is_quick || origin.parent.is_none() {
            return self.graft(number);
        }
        origin.doubted = origin.doubted.min(now);
        self.doubts_due = self.doubts_due.min(origin.doubted + self.lag.patience());
        if let Some(lane) = self.lanes.get_mut(&link) {
            lane.untell(number);
        }
        self.note_work(link);
    }

    /// Gives up the parents that have brought nothing since they were doubted.
    fn judge_parents(&mut self, now: Mono) {
        if self.doubts_due > now {
            return;
        }
        self.doubts_due = Mono::NEVER;
        for number in 0..self.origins.len() as u32 {
            let origin = &self.origins[number as usize];
            if origin.doubted == Mono::NEVER {
                continue;
            }
            match origin.doubted + self.lag.patience() {
                due if due <= now => self.graft(number),
                due => self.doubts_due = self.doubts_due.min(due),
            }
        }
        self.due.take();
    }

    /// A peer has a better parent for these origins: its link carries them no more, the outbox included.
    pub fn on_prune(&mut self, link: LinkId, prune: &Prune) {
        self.due.take();
        for origin in &prune.origins {
            let number = self.number(origin);
            let Some(lane) = self.lanes.get_mut(&link) else { return };
            lane.pruned.set(number);
            lane.outbox.drop_origin(origin);
        }
    }

    /// A peer has lost its parent for these origins: its link carries them again.
    pub fn on_graft(&mut self, link: LinkId, graft: &Graft) {
        for origin in &graft.origins {
            let number = self.number(origin);
            let Some(lane) = self.lanes.get_mut(&link) else { return };
            lane.pruned.clear(number);
        }
    }

    /// A node's entries were forgotten, or are too old to be kept.
    pub fn on_forgotten(&mut self, origin: &NodeId) {
        let Some(number) = self.numbers.remove(origin) else { return };
        (self.origins[number as usize].parent, self.origins[number as usize].doubted) = (None, Mono::NEVER);
        for lane in self.lanes.values_mut() {
            lane.pruned.clear(number);
            lane.told.clear(number);
            lane.grafts.remove(&number);
            lane.prunes.remove(&number);
            lane.outbox.drop_origin(origin);
        }
        self.free.push(number);
        self.due.take();
    }

    /// An entry has news for all neighbours that want its origin, but for the one that brought it. With `skip`, some
    /// are left out.
    pub fn offer(&mut self, key: &Key, scope: Scope, offer: Offer, skip: impl Fn(LinkId) -> bool) {
        self.due.take();
        let number = self.number(&key.origin);
        let (from, confirm) = match offer {
            Offer::Own { confirm } => (None, confirm),
            Offer::From(link) => (Some(link), false),
        };
        for (link, lane) in &mut self.lanes {
            if Some(*link) == from {
                lane.outbox.remove(key);
                continue;
            }
            // Whoever waits for confirmation asks every neighbour.
            let wanted = confirm || !lane.pruned.has(number);
            let reaches = scope.is_global() || !lane.foreign;
            if wanted && reaches && lane.node != key.origin && !skip(*link) {
                lane.outbox.add(key, confirm);
                self.busy.insert(*link);
            }
        }
    }

    /// There is room for more on `link`.
    pub fn on_ready(&mut self, link: LinkId) {
        if let Some(lane) = self.lanes.get_mut(&link) {
            lane.sending = false;
            self.due.take();
        }
    }

    /// Sends what may be sent now: one flush at a time on each link, at once on one that is idle, every `push_delay`
    /// on a busy one.
    pub fn flush(&mut self, cx: &mut Cx<'_>, store: &Store) {
        if self.deadline() > cx.now.mono {
            return;
        }
        self.judge_parents(cx.now.mono);
        self.due.take();
        let params = &self.params.gossip;
        let (lanes, origins) = (&mut self.lanes, &self.origins);
        self.busy.retain(|link| {
            let Some(lane) = lanes.get_mut(link) else { return false };
            if lane.wishes_due() <= cx.now.mono {
                lane.next_wishes = cx.now.mono + params.push_delay * WISHES_WAIT;
                lane.tell_wishes(cx, *link, origins);
            }
            if lane.is_due(cx.now.mono) {
                let entries = lane.outbox.take(store, params.flush_bytes);
                if !entries.is_empty() {
                    lane.sending = true;
                    lane.next_flush = cx.now.mono + params.push_delay;
                    let message = Message::SensorUpdate(SensorUpdate { entries });
                    cx.fx.push(Effect::Send { link: *link, message, notify: true });
                }
            }
            lane.has_work()
        });
    }

    /// When a flush is due that waits for nothing but time.
    pub fn deadline(&self) -> Mono {
        let due = |lane: &Lane| match lane.sending || lane.outbox.is_empty() {
            true => lane.wishes_due(),
            false => lane.next_flush.min(lane.wishes_due()),
        };
        let busy = || self.busy.iter().filter_map(|link| self.lanes.get(link));
        let due = self.due.get().unwrap_or_else(|| busy().map(due).min().unwrap_or(Mono::NEVER));
        self.due.set(Some(due));
        due.min(self.doubts_due)
    }

    /// Origins that have a parent, or had one.
    pub fn origins(&self) -> usize {
        self.numbers.len()
    }

    /// Keys waiting in all outboxes.
    pub fn waiting(&self) -> usize {
        self.lanes.values().map(|lane| lane.outbox.system.len() + lane.outbox.readings.len()).sum()
    }
}

impl Lane {
    fn tell(&mut self, number: u32) {
        self.told.set(number);
        self.grafts.remove(&number);
        self.prunes.insert(number);
    }

    fn untell(&mut self, number: u32) {
        if self.told.clear(number) {
            self.prunes.remove(&number);
            self.grafts.insert(number);
        }
    }

    fn has_work(&self) -> bool {
        !self.outbox.is_empty() || !self.grafts.is_empty() || !self.prunes.is_empty()
    }

    /// Who has no parent cannot wait; prunes come in crowds when trees are learned, and can.
    fn wishes_due(&self) -> Mono {
        match (self.grafts.is_empty(), self.prunes.is_empty()) {
            (false, _) => Mono::ZERO,
            (true, false) => self.next_wishes,
            (true, true) => Mono::NEVER,
        }
    }

    fn is_due(&self, now: Mono) -> bool {
        !self.sending && !self.outbox.is_empty() && self.next_flush <= now
    }

    fn tell_wishes(&mut self, cx: &mut Cx<'_>, link: LinkId, origins: &[Origin]) {
        let named = |numbers: &mut BTreeSet<u32>| -> Vec<NodeId> {
            std::mem::take(numbers).into_iter().map(|number| origins[number as usize].node.clone()).collect()
        };
        let (grafted, pruned) = (named(&mut self.grafts), named(&mut self.prunes));
        if !grafted.is_empty() {
            cx.send(link, Message::Graft(Graft { origins: grafted }));
        }
        if !pruned.is_empty() {
            cx.send(link, Message::Prune(Prune { origins: pruned }));
        }
    }
}

impl Outbox {
    fn half(&mut self, channel: &Channel) -> &mut BTreeMap<Key, bool> {
        if channel.is_system() { &mut self.system } else { &mut self.readings }
    }

    fn add(&mut self, key: &Key, confirm: bool) {
        let half = self.half(&key.channel);
        match half.get_mut(key) {
            Some(asked) => *asked |= confirm,
            None => {
                half.insert(key.clone(), confirm);
            }
        }
    }

    fn remove(&mut self, key: &Key) {
        let half = self.half(&key.channel);
        if !half.is_empty() {
            half.remove(key);
        }
    }

    fn drop_origin(&mut self, origin: &NodeId) {
        // The first name that a channel can have.
        let Ok(first) = Channel::new("%") else { return };
        let from = Bound::Included(Key::new(origin.clone(), first));
        for half in [&mut self.system, &mut self.readings] {
            let of_origin = half.range((from.clone(), Bound::Unbounded)).take_while(|(key, _)| key.origin == *origin);
            // Whoever waits for confirmation has asked on every link.
            let gone: Vec<Key> = of_origin.filter(|(_, confirm)| !**confirm).map(|(key, _)| key.clone()).collect();
            for key in gone {
                half.remove(&key);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.system.is_empty() && self.readings.is_empty()
    }

    /// Takes the newest values of the first keys, up to so many bytes; one at least.
    fn take(&mut self, store: &Store, bytes_max: usize) -> Vec<KeyedEntry> {
        let mut entries = Vec::with_capacity((self.system.len() + self.readings.len()).min(ENTRIES_EXPECTED));
        let mut bytes = 0;
        for half in [&mut self.system, &mut self.readings] {
            while bytes < bytes_max
                && let Some((key, confirm)) = half.pop_first()
            {
                // What was forgotten meanwhile is no news.
                let Some(entry) = store.get(&key) else { continue };
                bytes += key.origin.as_str().len() + key.channel.as_str().len() + entry.value.as_str().len();
                bytes += ENTRY_OVERHEAD;
                entries.push(KeyedEntry { confirm, ..KeyedEntry::new(&key, entry) });
            }
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::RegionId;
    use crate::core::reading::Reading;
    use crate::core::rng::Rng;
    use crate::core::state::entry::{Entry, Value};
    use crate::core::time::{Now, Wall};

    struct World {
        push: Push,
        store: Store,
        now: Mono,
        stamp: u64,
    }

    fn name(text: &str) -> NodeId {
        NodeId::new(text).unwrap()
    }

    impl World {
        /// Links 1, 2, … to the named nodes.
        fn new(neighbours: &[&str]) -> Self {
            let params = Params::new("lab", name("me"), RegionId::new("main").unwrap(), "me".into());
            let store = Store::new(params.clock_skew_max, params.retain, 64);
            let mut world = Self { push: Push::new(&params), store, now: Mono::from_micros(1), stamp: 0 };
            for (link, node) in (1..).zip(neighbours) {
                world.push.on_link_up(world.now, LinkId(link), &name(node), false);
            }
            world
        }

        fn flush(&mut self) -> Vec<(u64, Message)> {
            let (mut rng, mut fx) = (Rng::new(1), Vec::new());
            let now = Now { mono: self.now, wall: Wall::from_millis(1) };
            self.push.flush(&mut Cx { now, rng: &mut rng, fx: &mut fx }, &self.store);
            let sent = |effect| match effect {
                Effect::Send { link, message, .. } => Some((link.get(), message)),
                _ => None,
            };
            fx.into_iter().filter_map(sent).collect()
        }

        /// Tells at once; gives what was told.
        fn told(&mut self) -> Vec<(u64, &'static str)> {
            let sent = self.flush();
            sent.into_iter().map(|(link, message)| (link, message.type_name())).collect()
        }

        fn put(&mut self, origin: &str, channel: &str) -> (Key, Entry) {
            self.stamp += 1;
            let key = Key::new(name(origin), Channel::new(channel).unwrap());
            let value = Value::of(&Reading::new(self.stamp as f64, Wall::from_millis(1)));
            let entry = Entry { value, stamp: Hlc::from_bits(self.stamp), scope: Scope::Global };
            self.store.insert_own(key.clone(), entry.clone());
            (key, entry)
        }

        fn own(&mut self, channel: &str, confirm: bool) {
            let (key, entry) = self.put("me", channel);
            self.push.offer(&key, entry.scope, Offer::Own { confirm }, |_| false);
        }

        fn news(&mut self, link: u64, origin: &str) {
            let (key, entry) = self.put(origin, "t");
            self.push.on_news(LinkId(link), &name(origin), Duration::from_millis(1));
            self.push.offer(&key, entry.scope, Offer::From(LinkId(link)), |_| false);
        }

        fn duplicate(&mut self, link: u64, origin: &str) {
            self.push.on_duplicate(self.now, LinkId(link), &name(origin));
        }

        fn missed(&mut self, link: u64, origin: &str) {
            self.push.on_missed(self.now, LinkId(link), &name(origin));
        }

        fn ready(&mut self) {
            (1..9).for_each(|link| self.push.on_ready(LinkId(link)));
            self.now = self.now + Duration::from_millis(20);
        }
    }

    fn keys(sent: &[(u64, Message)], to: u64) -> Vec<String> {
        let updates = sent.iter().filter(|(link, _)| *link == to);
        let entries =
            updates.filter_map(|(_, m)| if let Message::SensorUpdate(u) = m { Some(&u.entries) } else { None });
        entries.flatten().map(|entry| format!("{}:{}", entry.origin, entry.channel)).collect()
    }

    #[test]
    fn news_goes_on_to_all_but_who_brought_it_and_whose_it_is() {
        let mut world = World::new(&["a", "b", "c"]);
        world.news(2, "a");
        assert_eq!(world.told(), [(3, "SENSOR_UPDATE")]);
    }

    #[test]
    fn a_duplicate_is_pruned_once_and_the_parent_never() {
        let mut world = World::new(&["a", "b", "c"]);
        world.news(1, "z");
        world.ready();
        world.flush();
        for _ in 0..3 {
            world.duplicate(1, "z");
        }
        assert_eq!(world.told(), [], "the first to deliver is the parent");
        for _ in 0..3 {
            world.duplicate(2, "z");
        }
        assert_eq!(world.told(), [(2, "PRUNE")]);
    }

    #[test]
    fn a_link_that_is_faster_than_the_parent_takes_its_place_now_and_then() {
        let mut world = World::new(&["a", "b"]);
        world.news(1, "z");
        world.news(2, "z");
        world.flush();
        world.duplicate(1, "z");
        assert_eq!(world.told(), [(1, "PRUNE")], "what came later may have come by way of us");
        world.ready();
        world.news(1, "z");
        world.duplicate(2, "z");
        assert!(!world.told().iter().any(|(_, kind)| *kind != "SENSOR_UPDATE"), "they do not take turns");
        world.now = world.now + TELL_AGAIN;
        world.news(1, "z");
        world.duplicate(2, "z");
        assert!(world.told().contains(&(2, "PRUNE")));
    }

    #[test]
    fn a_parent_that_brings_no_news_is_replaced_by_who_does() {
        let mut world = World::new(&["a", "b"]);
        world.news(1, "z");
        world.news(2, "z");
        world.news(2, "z");
        world.flush();
        world.duplicate(1, "z");
        assert_eq!(world.told(), [(1, "PRUNE")]);
    }

    #[test]
    fn an_origins_own_link_takes_the_place_of_any_other_parent() {
        let mut world = World::new(&["a", "z"]);
        world.news(1, "z");
        world.flush();
        world.duplicate(2, "z");
        assert_eq!(world.told(), [(1, "PRUNE")]);
    }

    #[test]
    fn a_pruned_link_carries_the_origin_no_more_the_outbox_included_until_it_is_grafted() {
        let mut world = World::new(&["a", "b"]);
        world.news(1, "z");
        world.flush();
        world.news(1, "z");
        let prune = Prune { origins: vec![name("z")] };
        world.push.on_prune(LinkId(2), &prune);
        world.ready();
        assert_eq!(world.told(), []);
        world.news(1, "z");
        assert_eq!(world.told(), []);
        world.push.on_graft(LinkId(2), &Graft { origins: vec![name("z")] });
        world.news(1, "z");
        assert_eq!(world.told(), [(2, "SENSOR_UPDATE")]);
    }

    #[test]
    fn a_lost_parent_grafts_what_was_pruned_and_a_repair_is_asked_for() {
        let mut world = World::new(&["a", "b", "c"]);
        world.news(1, "z");
        world.duplicate(2, "z");
        world.flush();
        assert_eq!(world.push.on_link_down(LinkId(1)), Some(LinkId(2)));
        assert_eq!(world.told(), [(2, "GRAFT")], "the third was never pruned");
        assert_eq!(world.push.on_link_down(LinkId(3)), None, "nobody's parent");
    }

    #[test]
    fn a_newer_start_clears_what_was_learned_of_an_origin() {
        let mut world = World::new(&["a", "b", "c"]);
        world.push.on_start(&name("z"), Hlc::from_bits(1));
        world.news(1, "z");
        world.duplicate(2, "z");
        world.push.on_prune(LinkId(3), &Prune { origins: vec![name("z")] });
        world.flush();
        world.push.on_start(&name("z"), Hlc::from_bits(1));
        assert_eq!(world.told(), [], "the same life");
        world.push.on_start(&name("z"), Hlc::from_bits(2));
        assert_eq!(world.told(), [(2, "GRAFT")]);
        world.ready();
        world.news(2, "z");
        assert_eq!(world.told(), [(1, "SENSOR_UPDATE"), (3, "SENSOR_UPDATE")], "and the second is the parent now");
        world.duplicate(1, "z");
        assert_eq!(world.told(), [(1, "PRUNE")]);
    }

    #[test]
    fn a_tree_that_does_not_reach_us_is_given_up() {
        let mut world = World::new(&["a", "b", "c"]);
        world.news(1, "z");
        world.duplicate(2, "z");
        world.flush();
        world.missed(3, "z");
        assert_eq!(world.told(), [(2, "GRAFT")]);
        world.ready();
        world.news(2, "z");
        world.duplicate(1, "z");
        assert!(world.told().contains(&(1, "PRUNE")), "whoever delivers first is the parent");
    }

    #[test]
    fn where_push_is_late_a_parent_is_given_up_only_if_it_brings_nothing_more() {
        for is_late in [true, false] {
            let mut world = World::new(&["a", "b", "c"]);
            world.news(1, "z");
            world.duplicate(2, "z");
            world.duplicate(3, "z");
            world.flush();
            (0..50).for_each(|_| world.push.lag.on_pushed(Duration::from_secs(1)));
            world.missed(2, "z");
            world.ready();
            assert_eq!(world.told(), [(2, "GRAFT")], "it has what was missing");
            if is_late {
                world.duplicate(1, "z");
            }
            world.now = world.now + world.push.lag.patience();
            assert!(world.push.deadline() <= world.now);
            assert_eq!(world.told(), if is_late { vec![] } else { vec![(3, "GRAFT")] });
            assert_eq!(world.push.deadline(), Mono::NEVER);
        }
    }

    #[test]
    fn a_new_link_begins_pruned_for_what_has_a_parent() {
        let mut world = World::new(&["a"]);
        world.news(1, "z");
        world.push.on_link_up(world.now, LinkId(2), &name("b"), false);
        assert_eq!(world.told(), [(2, "PRUNE")]);
        world.push.on_link_up(world.now, LinkId(3), &name("z"), false);
        assert_eq!(world.told(), [], "but for the peer's own");
    }

    #[test]
    fn a_slow_neighbour_costs_keys_and_gets_the_newest_of_each_system_first() {
        let mut world = World::new(&["a"]);
        world.own("warm-up", false);
        assert_eq!(world.told(), [(1, "SENSOR_UPDATE")], "at once when idle");
        for _ in 0..1000 {
            world.own("t1", false);
            world.own("t2", false);
            world.own("@leader", false);
            assert_eq!(world.told(), [], "one flush at a time");
        }
        assert_eq!(world.push.waiting(), 3);
        world.push.on_ready(LinkId(1));
        assert_eq!(world.told(), [], "not before push_delay has passed");
        world.now = world.push.deadline();
        let sent = world.flush();
        assert_eq!(keys(&sent, 1), ["me:@leader", "me:t1", "me:t2"]);
        let Some((_, Message::SensorUpdate(update))) = sent.first() else { panic!("an update") };
        assert!(update.entries.iter().all(|entry| entry.stamp > Hlc::from_bits(2990)), "the newest");
        assert_eq!(world.push.deadline(), Mono::NEVER);
    }

    #[test]
    fn a_flush_keeps_to_its_bytes() {
        let mut world = World::new(&["a"]);
        world.push.params.gossip.flush_bytes = 1000;
        (0..100).for_each(|n| world.own(&format!("t{n}"), false));
        let first = keys(&world.flush(), 1).len();
        assert!((5..=15).contains(&first), "{first}");
        let mut rest = 0;
        while world.push.waiting() > 0 {
            world.ready();
            rest += keys(&world.flush(), 1).len();
        }
        assert_eq!(first + rest, 100);
    }

    #[test]
    fn who_waits_for_confirmation_asks_every_neighbour_pruned_or_not() {
        let mut world = World::new(&["a", "b"]);
        world.push.on_prune(LinkId(1), &Prune { origins: vec![name("me")] });
        world.own("t", false);
        assert_eq!(world.told(), [(2, "SENSOR_UPDATE")]);
        world.ready();
        world.own("t", true);
        world.push.on_prune(LinkId(1), &Prune { origins: vec![name("me")] });
        let sent = world.flush();
        assert_eq!((keys(&sent, 1).len(), keys(&sent, 2).len()), (1, 1));
    }

    #[test]
    fn entries_of_region_scope_stay_in_their_region() {
        let mut world = World::new(&["a"]);
        world.push.on_link_up(world.now, LinkId(2), &name("abroad"), true);
        let (key, entry) = world.put("me", "t");
        let entry = Entry { scope: Scope::Region, ..entry };
        world.push.offer(&key, entry.scope, Offer::Own { confirm: false }, |_| false);
        assert_eq!(world.told(), [(1, "SENSOR_UPDATE")]);
    }
}
