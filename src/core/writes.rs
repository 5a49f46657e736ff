//! The order of this node's own writes: what was asked for, and how far it is durable.
//!
//! Invariant: nobody says that a write is durable before the driver has said so.

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::cx::Cx;
use crate::core::effect::Effect;
use crate::core::hard_state::Record;
use crate::core::id::PersistSeq;
use crate::core::time::Mono;

/// All writes of one node, in one order.
#[derive(Clone, Debug, Default)]
pub struct Writes {
    last: PersistSeq,
    durable: PersistSeq,
    unanswered: VecDeque<(PersistSeq, Mono)>,
}

impl Writes {
    /// Asks for records to be written atomically, after all earlier ones.
    pub fn write(&mut self, cx: &mut Cx<'_>, records: Vec<Record>) -> PersistSeq {
        self.last = self.last.next();
        self.unanswered.push_back((self.last, cx.now.mono));
        cx.fx.push(Effect::Persist { seq: self.last, records });
        self.last
    }

    /// Takes note that everything up to `seq` is durable.
    pub fn on_persisted(&mut self, seq: PersistSeq) {
        assert!(seq <= self.last, "the driver confirms only what was asked for");
        self.durable = self.durable.max(seq);
        while self.unanswered.front().is_some_and(|(asked, _)| *asked <= seq) {
            self.unanswered.pop_front();
        }
    }

    /// True once the write is durable.
    pub fn is_durable(&self, seq: PersistSeq) -> bool {
        seq <= self.durable
    }

    /// How many unanswered writes there are up to and including this one.
    pub fn ahead(&self, seq: PersistSeq) -> u64 {
        seq.get().saturating_sub(self.durable.get())
    }

    /// How long the oldest unanswered write has been waiting; zero if none is.
    pub fn oldest_wait(&self, now: Mono) -> Duration {
        self.unanswered.front().map_or(Duration::ZERO, |(_, asked)| now.since(*asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rng::Rng;
    use crate::core::time::{Now, Wall};

    #[test]
    fn unanswered_writes_up_to_each_are_counted() {
        let (mut writes, mut rng, mut fx) = (Writes::default(), Rng::new(1), Vec::new());
        let now = Now { mono: Mono::ZERO, wall: Wall::from_millis(1) };
        let mut cx = Cx { now, rng: &mut rng, fx: &mut fx };
        let asked = [(); 3].map(|()| writes.write(&mut cx, Vec::new()));
        assert_eq!(asked.map(|seq| writes.ahead(seq)), [1, 2, 3]);
        writes.on_persisted(asked[1]);
        assert_eq!(asked.map(|seq| writes.ahead(seq)), [0, 0, 1]);
    }
}
