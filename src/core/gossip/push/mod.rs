//! Push: every origin's entries flow along a tree of their own, learned by flood and prune (section 3).
//!
//! Each node has one *parent* for each origin: the link that first delivered something of it, or the origin's own
//! link where there is one. On a duplicate from any other link it answers PRUNE, and that link carries the origin no
//! more until it is grafted. What each link carries and what waits for it stand beside this, in its lane and outbox.
//!
//! Invariants: the parent of an origin is never pruned. `told` here and `pruned` at the other end of a link say the
//! same, but for what is on its way; where that is in doubt, `unsure` says so.

mod bits;
mod lag;
mod lane;
mod outbox;
mod search;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::cx::Cx;
use crate::core::effect::Effect;
use crate::core::gossip::push::lag::Lag;
use crate::core::gossip::push::lane::Lane;
use crate::core::gossip::push::outbox::Mark;
use crate::core::hlc::Hlc;
use crate::core::id::{LinkId, NodeId};
use crate::core::lookup::Lookup;
use crate::core::message::Message;
use crate::core::message::exchange::{Graft, Prune, SensorUpdate};
use crate::core::params::Params;
use crate::core::state::entry::{Key, Scope};
use crate::core::state::store::Store;
use crate::core::time::Mono;

/// Prunes wait for each other for so many times `push_delay`.
const WISHES_WAIT: u32 = 5;
/// A peer that goes on sending what was pruned this long ago has lost the prune, by forgetting the origin for
/// instance: it is told again.
const TELL_AGAIN: Duration = Duration::from_secs(5);

/// Trees and outboxes of one node.
#[derive(Debug)]
pub(super) struct Push {
    params: Params,
    /// Origins are numbered, so that what is known of each on each link is a bit. Looked up for all that comes and goes:
    /// a tree of names would be most of that work.
    numbers: Lookup<NodeId, u32>,
    origins: Vec<Origin>,
    free: Vec<u32>,
    lanes: BTreeMap<LinkId, Lane>,
    /// Those with something to say: a leader has many lanes, and most are silent most of the time.
    busy: BTreeSet<LinkId>,
    lag: Lag,
    /// When to look whether a doubt about a parent has stood long enough.
    doubts_due: Mono,
    /// No lane is due before this: worked out anew when lanes are flushed, since it is asked for after every event.
    due: Mono,
}

#[derive(Clone, Debug)]
struct Origin {
    node: NodeId,
    parent: Option<LinkId>,
    /// A link that was faster than the parent the last time. Who was so before that may have its news from us by now.
    rival: Option<LinkId>,
    /// Links on which some were asked for it, since its parent was lost or has none, while there are more to ask; and when.
    asked: Vec<LinkId>,
    asked_at: Mono,
    /// When a rival last took the parent's place.
    replaced: Option<Mono>,
    /// Since when something is missing that the parent should have brought; `NEVER` if nothing is.
    doubted: Mono,
    /// When its life began, as far as its `@node` is known.
    start: Hlc,
}

/// Why entries are offered to the neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// They are our own; `confirm` if we wait for who holds them.
    Own { confirm: bool },
    /// A neighbour brought them; `repaired` if a repair did, here or on the way to it.
    From { link: LinkId, repaired: bool },
}

impl Push {
    /// Knows no origin and no neighbour.
    pub fn new(params: &Params) -> Self {
        Self {
            params: params.clone(),
            numbers: Lookup::default(),
            origins: Vec::new(),
            free: Vec::new(),
            lanes: BTreeMap::new(),
            busy: BTreeSet::new(),
            lag: Lag::new(params.gossip.settle_after),
            doubts_due: Mono::NEVER,
            due: Mono::NEVER,
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
            asked: Vec::new(),
            asked_at: Mono::ZERO,
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
        self.lanes.values_mut().for_each(|lane| lane.on_origin(number));
        number
    }

    /// A link is ready for use. It begins pruned for every origin that has a parent, but for the peer's own: a tree
    /// that stands is not flooded anew for one more link.
    pub fn on_link_up(&mut self, now: Mono, link: LinkId, node: &NodeId, foreign: bool) {
        let mut lane = Lane::new(now, node.clone(), foreign);
        let unwanted =
            |(number, origin): (u32, &Origin)| (origin.parent.is_some() && origin.node != *node).then_some(number);
        let unwanted: Vec<u32> = (0..).zip(&self.origins).filter_map(unwanted).collect();
        lane.tell_at_first(now, &unwanted, self.numbers.count());
        self.lanes.insert(link, lane);
        self.note_work(link);
    }

    /// A link was made for a moment, by us or by the peer, who has said so: nothing of either end's own flows over it
    /// unless it is asked for. A direct link is the best parent there is, and what hangs on it would be cut off when it
    /// goes.
    pub fn on_passing(&mut self, link: LinkId, by_us: bool) {
        let Some((own, number, lane)) = self.ends(link) else { return };
        lane.passing = true;
        lane.pruned.set(own);
        match by_us {
            true => lane.tell(number),
            false => lane.told.set(number),
        }
        self.note_work(link);
    }

    /// The origins at this end of a link and at the other, and its lane.
    fn ends(&mut self, link: LinkId) -> Option<(u32, u32, &mut Lane)> {
        let peer = self.lanes.get(&link)?.node.clone();
        let (own, number) = (self.number(&self.params.node.clone()), self.number(&peer));
        Some((own, number, self.lanes.get_mut(&link)?))
    }

    /// A link made for a moment stays: what is either end's own flows over it.
    pub fn on_staying(&mut self, link: LinkId) {
        let Some((own, number, lane)) = self.ends(link) else { return };
        lane.passing = false;
        lane.pruned.clear(own);
        lane.untell(number);
        // Its other end sends its own again when it is asked.
        lane.grafts.insert(number);
        self.note_work(link);
    }

    /// A lane may have something to say.
    fn note_work(&mut self, link: LinkId) {
        if let Some(lane) = self.lanes.get(&link).filter(|lane| lane.has_work()) {
            self.busy.insert(link);
            self.due = self.due.min(lane.due());
        }
    }

    /// A link is no longer in use: origins that lost their parent are asked of others. If there were any, whom to repair
    /// with at once.
    pub fn on_link_down(&mut self, now: Mono, link: LinkId) -> Option<LinkId> {
        let gone = self.lanes.remove(&link)?;
        self.busy.remove(&link);
        self.look_for_lost(now, link, gone.foreign)
    }

    /// The number of an origin of which something came on `link`.
    fn number_carried(&mut self, now: Mono, link: LinkId, origin: &NodeId) -> u32 {
        let number = self.number(origin);
        if let Some(lane) = self.lanes.get_mut(&link) {
            lane.on_carried(now, number);
        }
        number
    }

    /// An entry of `origin` was new, and came on `link`, so long after it was written.
    pub fn on_news(&mut self, now: Mono, link: LinkId, origin: &NodeId, lag: Duration) {
        self.lag.on_pushed(lag);
        let number = self.number_carried(now, link, origin);
        let origin = &mut self.origins[number as usize];
        if origin.parent == Some(link) {
            (origin.rival, origin.doubted) = (None, Mono::NEVER);
        }
        if origin.parent.is_none() || (origin.rival == Some(link) && origin.parent != Some(link)) {
            // One that brings news again has a parent beside it that brings none.
            self.adopt(link, number);
        } else if origin.parent != Some(link)
            && !self.prefer_the_origin(link, number)
            && self.lanes.get(&link).is_some_and(|lane| !lane.passing)
        {
            self.origins[number as usize].rival = Some(link);
        }
    }

    /// Something held already came on `link`; `repaired` if not by trees alone.
    pub fn on_duplicate(&mut self, now: Mono, link: LinkId, origin: &NodeId, repaired: bool) {
        let number = self.number_carried(now, link, origin);
        let origin = &mut self.origins[number as usize];
        let parent = origin.parent;
        if parent == Some(link) {
            origin.doubted = Mono::NEVER;
        } else if origin.rival == Some(link) {
            origin.rival = None;
        }
        if self.prefer_the_origin(link, number) {
            return;
        }
        if parent.is_none() {
            // If it came by trees alone, a repair was faster than they are.
            if !repaired {
                self.claim(link, number);
            }
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
        match self.lag.is_quick() {
            true => self.claim(rival, number),
            // Where push is late, parents change often: asking each time makes it later.
            false => self.adopt(rival, number),
        }
        true
    }

    /// Adopts a parent that may have chosen us meanwhile, since it has not pruned the origin: it is asked, and who is asked
    /// by its own parent looks for another. Two that chose each other would both wait.
    fn claim(&mut self, link: LinkId, number: u32) {
        self.adopt(link, number);
        if let Some(lane) = self.lanes.get_mut(&link)
            && !lane.pruned.has(number)
        {
            lane.grafts.insert(number);
            self.note_work(link);
        }
    }

    fn adopt(&mut self, link: LinkId, number: u32) {
        if let Some(lane) = self.lanes.get_mut(&link) {
            lane.untell(number);
            let origin = &mut self.origins[number as usize];
            (origin.parent, origin.rival, origin.doubted) = (Some(link), None, Mono::NEVER);
            origin.asked.clear();
            self.note_work(link);
        }
    }

    /// The origin's own link is the best parent there is, and cannot close a circle: it replaces any other.
    fn prefer_the_origin(&mut self, link: LinkId, number: u32) -> bool {
        let origin = &self.origins[number as usize];
        if self.lanes.get(&link).is_none_or(|lane| lane.node != origin.node || lane.passing) {
            return false;
        }
        if origin.parent == Some(link) {
            return true;
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

    /// A peer has a better parent for these origins: its link carries them no more, the outbox included.
    pub fn on_prune(&mut self, link: LinkId, prune: &Prune) {
        for origin in &prune.origins {
            let number = self.number(origin);
            let Some(lane) = self.lanes.get_mut(&link) else { return };
            lane.prune(number, origin);
        }
        if let (Some(wanted), Some(lane)) = (&prune.all_but, self.lanes.get_mut(&link)) {
            let peer = lane.node.clone();
            let wanted: BTreeSet<&NodeId> = wanted.iter().chain([&self.params.node, &peer]).collect();
            let lives = |number: u32, origin: &Origin| self.numbers.get(&origin.node) == Some(&number);
            for (number, origin) in (0..).zip(&self.origins).filter(|(number, origin)| lives(*number, origin)) {
                if !wanted.contains(&origin.node) {
                    lane.prune(number, &origin.node);
                }
            }
        }
    }

    /// A peer wants these origins from us: its link carries them again. If it was our parent for one, we have none.
    pub fn on_graft(&mut self, now: Mono, link: LinkId, graft: &Graft) {
        for origin in &graft.origins {
            let number = self.number(origin);
            let Some(lane) = self.lanes.get_mut(&link) else { return };
            lane.pruned.clear(number);
            self.on_asked(now, link, number);
        }
    }

    /// A node's entries were forgotten, or are too old to be kept.
    pub fn on_forgotten(&mut self, origin: &NodeId) {
        let Some(number) = self.numbers.remove(origin) else { return };
        let gone = &mut self.origins[number as usize];
        (gone.parent, gone.doubted) = (None, Mono::NEVER);
        gone.asked.clear();
        for lane in self.lanes.values_mut() {
            lane.on_forgotten(number);
            lane.outbox.drop_origin(origin);
        }
        self.free.push(number);
    }

    /// An entry has news for all neighbours that want its origin, but for the one that brought it. With `skip`, some
    /// are left out.
    pub fn offer(&mut self, key: &Key, scope: Scope, offer: Offer, skip: impl Fn(LinkId) -> bool) {
        let number = self.number(&key.origin);
        let (from, mark) = match offer {
            Offer::Own { confirm } => (None, Mark { confirm, repaired: false }),
            Offer::From { link, repaired } => (Some(link), Mark { confirm: false, repaired }),
        };
        // What came by a repair is on its way to the parent, and from there to us.
        let parent = self.origins[number as usize].parent.filter(|_| mark.repaired);
        for (link, lane) in &mut self.lanes {
            if Some(*link) == from {
                lane.outbox.remove(key);
                continue;
            }
            // Whoever waits for confirmation asks every neighbour.
            let wanted = mark.confirm || !(lane.pruned.has(number) || parent == Some(*link));
            let reaches = scope.is_global() || !lane.foreign;
            if wanted && reaches && lane.node != key.origin && !skip(*link) {
                lane.outbox.add(key, mark);
                self.busy.insert(*link);
                self.due = self.due.min(lane.due());
            }
        }
    }

    /// There is room for more on `link`.
    pub fn on_ready(&mut self, link: LinkId) {
        if let Some(lane) = self.lanes.get_mut(&link) {
            lane.sending = false;
            self.due = self.due.min(lane.due());
        }
    }

    /// Sends what may be sent now: one flush at a time on each link, at once on one that is idle, every `push_delay`
    /// on a busy one.
    pub fn flush(&mut self, cx: &mut Cx<'_>, store: &Store) {
        if self.deadline() > cx.now.mono {
            return;
        }
        self.judge_parents(cx.now.mono);
        let mut next = Mono::NEVER;
        let params = &self.params.gossip;
        let (lanes, origins, numbers) = (&mut self.lanes, &self.origins, &self.numbers);
        let name = |number: u32| {
            let node = &origins[number as usize].node;
            (numbers.get(node) == Some(&number) && *node != self.params.node).then(|| node.clone())
        };
        self.busy.retain(|link| {
            let Some(lane) = lanes.get_mut(link) else { return false };
            if lane.wishes_due() <= cx.now.mono {
                lane.next_wishes = cx.now.mono + params.push_delay * WISHES_WAIT;
                lane.tell_wishes(cx, *link, origins.len() as u32, name);
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
            next = next.min(lane.due());
            lane.has_work()
        });
        self.due = next;
    }

    /// When a flush is due that waits for nothing but time, at the earliest: what is pruned meanwhile makes it later.
    pub fn deadline(&self) -> Mono {
        self.due.min(self.doubts_due)
    }

    /// Origins that have a parent, or had one.
    pub fn origins(&self) -> usize {
        self.numbers.count()
    }

    /// Keys waiting in all outboxes.
    pub fn waiting(&self) -> usize {
        self.lanes.values().map(|lane| lane.outbox.len()).sum()
    }
}

#[cfg(test)]
mod tests;
