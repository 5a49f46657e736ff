//! Linearizable reads of the newest committed checkpoint (C10).

use crate::core::consensus::{Fact, Group, Part, Read};
use crate::core::cx::Cx;
use crate::core::id::{RequestId, Voter};

impl Group {
    /// Answers with the newest committed checkpoint once a quorum has confirmed this leader in a heartbeat
    /// round that begins now, and not before something is committed in its own term.
    pub fn read_latest(&mut self, cx: &mut Cx<'_>, request: RequestId) {
        let Part::Leader(leading) = &mut self.part else {
            self.facts.push(Fact::ReadFailed { request });
            return;
        };
        leading.reads.push(Read { request, round: None });
        self.start_reads(cx);
    }

    /// Begins a round for reads that have none yet, if the ledger is known to be complete.
    pub(super) fn start_reads(&mut self, cx: &mut Cx<'_>) {
        let Part::Leader(leading) = &self.part else { return };
        if !leading.current || leading.reads.iter().all(|read| read.round.is_some()) {
            return;
        }
        self.beat(cx);
        let Part::Leader(leading) = &mut self.part else { return };
        let round = leading.round;
        for read in leading.reads.iter_mut().filter(|read| read.round.is_none()) {
            read.round = Some(round);
        }
        self.answer_reads();
    }

    /// Answers the reads whose round a quorum has echoed.
    pub(super) fn answer_reads(&mut self) {
        let Part::Leader(leading) = &self.part else { return };
        if leading.reads.is_empty() {
            return;
        }
        let in_force = self.in_force();
        let echoed = |read: &Read, voter: &Voter| {
            *voter == self.me || leading.heard.get(voter).map(|heard| heard.round) >= read.round
        };
        let confirmed = |read: &Read| {
            read.round.is_some() && in_force.iter().all(|voters| voters.is_quorum(|voter| echoed(read, voter)))
        };
        let (ready, waiting): (Vec<Read>, Vec<Read>) = leading.reads.iter().partition(|read| confirmed(read));
        let latest = self.hard.committed;
        let Part::Leader(leading) = &mut self.part else { return };
        leading.reads = waiting;
        self.facts.extend(ready.iter().map(|read| Fact::ReadReady { request: read.request, latest }));
    }
}
