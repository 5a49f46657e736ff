//! One link as push sees it: what its two ends want of each other, and what waits to be sent.

use std::collections::BTreeSet;

use crate::core::cx::Cx;
use crate::core::gossip::push::bits::Bits;
use crate::core::gossip::push::outbox::Outbox;
use crate::core::id::{LinkId, NodeId};
use crate::core::message::Message;
use crate::core::message::exchange::{Graft, Prune};
use crate::core::time::Mono;

/// One link as push sees it.
#[derive(Debug)]
pub(super) struct Lane {
    pub node: NodeId,
    pub foreign: bool,
    /// Origins that the peer does not want from us.
    pub pruned: Bits,
    /// Origins that we do not want from the peer, and have told it so.
    pub told: Bits,
    pub told_at: Mono,
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
            pruned: Bits::default(),
            told: Bits::default(),
            told_at: now,
            grafts: BTreeSet::new(),
            prunes: BTreeSet::new(),
            next_wishes: Mono::ZERO,
            outbox: Outbox::default(),
            sending: false,
            next_flush: Mono::ZERO,
        }
    }

    /// The peer is to send an origin no more.
    pub fn tell(&mut self, number: u32) {
        self.told.set(number);
        self.grafts.remove(&number);
        self.prunes.insert(number);
    }

    /// The peer is to send it again, if it was told not to.
    pub fn untell(&mut self, number: u32) {
        if self.told.clear(number) {
            self.prunes.remove(&number);
            self.grafts.insert(number);
        }
    }

    /// Whether there is anything to say.
    pub fn has_work(&self) -> bool {
        !self.outbox.is_empty() || !self.grafts.is_empty() || !self.prunes.is_empty()
    }

    /// Who has no parent cannot wait; prunes come in crowds when trees are learned, and can.
    pub fn wishes_due(&self) -> Mono {
        match (self.grafts.is_empty(), self.prunes.is_empty()) {
            (false, _) => Mono::ZERO,
            (true, false) => self.next_wishes,
            (true, true) => Mono::NEVER,
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

    /// Says what is to be grafted and pruned; `name` gives the origin of a number.
    pub fn tell_wishes(&mut self, cx: &mut Cx<'_>, link: LinkId, name: impl Fn(u32) -> NodeId) {
        let named =
            |numbers: &mut BTreeSet<u32>| -> Vec<NodeId> { std::mem::take(numbers).into_iter().map(&name).collect() };
        let (grafted, pruned) = (named(&mut self.grafts), named(&mut self.prunes));
        if !grafted.is_empty() {
            cx.send(link, Message::Graft(Graft { origins: grafted }));
        }
        if !pruned.is_empty() {
            cx.send(link, Message::Prune(Prune { origins: pruned }));
        }
    }
}
