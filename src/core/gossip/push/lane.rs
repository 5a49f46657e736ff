//! One link as push sees it: what its two ends want of each other, and what waits to be sent.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::core::cx::Cx;
use crate::core::gossip::push::bits::Bits;
use crate::core::gossip::push::outbox::Outbox;
use crate::core::id::{LinkId, NodeId};
use crate::core::message::Message;
use crate::core::message::exchange::{Graft, Prune};
use crate::core::time::Mono;

/// So many origins are many, when the peer is told which of them we do not want,
const MANY: usize = 32;
/// and then those that we do want are few enough to be named instead if they are so many times fewer.
const MANY_TO_ONE: usize = 4;

/// What was said so long ago has arrived.
const ARRIVES: Duration = Duration::from_secs(5);

/// One link as push sees it.
#[derive(Debug)]
pub(super) struct Lane {
    pub node: NodeId,
    pub foreign: bool,
    /// The link was made for a moment: what comes over it makes nobody a parent that has one.
    pub passing: bool,
    /// Origins that the peer does not want from us.
    pub pruned: Bits,
    /// Origins that we do not want from the peer, and have told it so.
    pub told: Bits,
    pub told_at: Mono,
    /// Origins of which the peer may know that we do not want them: it was told to send nothing but what was named, and
    /// they may have been unheard of then, by it or by us.
    unsure: Bits,
    /// When the peer was told so, and whether that is yet to be said.
    all_told: Option<Mono>,
    all_due: bool,
    /// Origins to ask the peer for, and to tell it that we do not want.
    pub grafts: BTreeSet<u32>,
    pub prunes: BTreeSet<u32>,
    pub next_wishes: Mono,
    pub outbox: Outbox,
    /// A flush is on its way to the network.
    pub sending: bool,
    pub next_flush: Mono,
}

impl Lane {
    /// A link to `node` that is new: both ends want everything.
    pub fn new(now: Mono, node: NodeId, foreign: bool) -> Self {
        Self {
            node,
            foreign,
            passing: false,
            pruned: Bits::default(),
            told: Bits::default(),
            told_at: now,
            unsure: Bits::default(),
            all_told: None,
            all_due: false,
            grafts: BTreeSet::new(),
            prunes: BTreeSet::new(),
            next_wishes: Mono::ZERO,
            outbox: Outbox::default(),
            sending: false,
            next_flush: Mono::ZERO,
        }
    }

    /// The peer is to send nothing of these, of so many origins that there are; if that is most, it is said in few words.
    pub fn tell_at_first(&mut self, now: Mono, unwanted: &[u32], origins: usize) {
        if unwanted.len() >= MANY && origins - unwanted.len() <= unwanted.len() / MANY_TO_ONE {
            unwanted.iter().for_each(|number| self.unsure.set(*number));
            (self.all_told, self.all_due) = (Some(now), true);
        } else {
            unwanted.iter().for_each(|number| self.tell(*number));
        }
    }

    /// An origin is heard of that was not before.
    pub fn on_origin(&mut self, number: u32) {
        if self.all_told.is_some() {
            self.unsure.set(number);
        }
    }

    /// Something of an origin came from the peer: it was not told to send none, unless that was on its way to it.
    pub fn on_carried(&mut self, now: Mono, number: u32) {
        if self.all_told.is_none_or(|at| at + ARRIVES <= now) {
            self.unsure.clear(number);
        }
    }

    /// An origin is gone, and its number may be another's.
    pub fn on_forgotten(&mut self, number: u32) {
        for bits in [&mut self.pruned, &mut self.told, &mut self.unsure] {
            bits.clear(number);
        }
        self.grafts.remove(&number);
        self.prunes.remove(&number);
    }

    /// The peer wants nothing of an origin.
    pub fn prune(&mut self, number: u32, origin: &NodeId) {
        self.pruned.set(number);
        self.outbox.drop_origin(origin);
    }

    /// Whether the peer was told to send none of an origin, or may have been.
    pub fn has_told(&self, number: u32) -> bool {
        self.told.has(number) || self.unsure.has(number)
    }

    /// The peer is to send an origin no more.
    pub fn tell(&mut self, number: u32) {
        self.told.set(number);
        self.unsure.clear(number);
        self.grafts.remove(&number);
        self.prunes.insert(number);
    }

    /// The peer is to send it again, if it was told not to.
    pub fn untell(&mut self, number: u32) {
        let may_be_told = self.unsure.clear(number);
        if self.told.clear(number) || may_be_told {
            self.prunes.remove(&number);
            self.grafts.insert(number);
        }
    }

    /// The peer is to send an origin, if it may have taken it for one that we do not want.
    pub fn ask_if_unsure(&mut self, number: u32) {
        if self.unsure.has(number) {
            self.untell(number);
        }
    }

    /// Whether there is anything to say.
    pub fn has_work(&self) -> bool {
        !self.outbox.is_empty() || !self.grafts.is_empty() || self.has_prunes()
    }

    fn has_prunes(&self) -> bool {
        self.all_due || !self.prunes.is_empty()
    }

    /// Who has no parent cannot wait; prunes come in crowds when trees are learned, and can.
    pub fn wishes_due(&self) -> Mono {
        match (self.grafts.is_empty(), self.has_prunes()) {
            (false, _) => Mono::ZERO,
            (true, true) => self.next_wishes,
            (true, false) => Mono::NEVER,
        }
    }

    /// When there is something to send that waits for nothing but time.
    pub fn due(&self) -> Mono {
        match self.sending || self.outbox.is_empty() {
            true => self.wishes_due(),
            false => self.next_flush.min(self.wishes_due()),
        }
    }

    /// Whether a flush may be sent.
    pub fn is_due(&self, now: Mono) -> bool {
        !self.sending && !self.outbox.is_empty() && self.next_flush <= now
    }

    /// Says what is to be grafted and pruned, of origins numbered below `numbers`; `name` gives whom a number stands for.
    pub fn tell_wishes(&mut self, cx: &mut Cx<'_>, link: LinkId, numbers: u32, name: impl Fn(u32) -> Option<NodeId>) {
        let named = |numbers: &mut dyn Iterator<Item = u32>| -> Vec<NodeId> { numbers.filter_map(&name).collect() };
        if std::mem::take(&mut self.all_due) {
            // Who is told of all others goes on sending what is its own.
            self.prunes.retain(|number| name(*number).as_ref() == Some(&self.node));
            let mut wanted = (0..numbers).filter(|number| !self.told.has(*number) && !self.unsure.has(*number));
            let all_but = named(&mut wanted).into_iter().filter(|node| *node != self.node).collect();
            cx.send(link, Message::Prune(Prune { origins: Vec::new(), all_but: Some(all_but) }));
        }
        let take = |numbers: &mut BTreeSet<u32>| named(&mut std::mem::take(numbers).into_iter());
        let (grafted, pruned) = (take(&mut self.grafts), take(&mut self.prunes));
        if !grafted.is_empty() {
            cx.send(link, Message::Graft(Graft { origins: grafted }));
        }
        if !pruned.is_empty() {
            cx.send(link, Message::Prune(Prune { origins: pruned, all_but: None }));
        }
    }
}
