//! What sensors and clients do.

use std::collections::BTreeMap;

use crate::core::event::{Ack, Command, Event, Reply};
use crate::core::hlc::Hlc;
use crate::core::id::{Channel, GroupId, Hash, RequestId};
use crate::core::reading::Reading;
use crate::core::state::entry::Key;
use crate::sim::cluster::Cluster;
use crate::sim::inject::exponential;
use crate::sim::oracles::acks::Write;
use crate::sim::phases::Phase;
use crate::sim::queue::What;

/// Channels that clients write at every node.
pub(crate) const CLIENT_CHANNELS: usize = 4;
/// Committed checkpoints that an acknowledged write may be found in.
const CHECKPOINTS_READ: usize = 3;

/// What the newest committed checkpoints hold, read once.
#[derive(Debug, Default)]
pub(crate) struct Checkpointed {
    documents: Vec<Hash>,
    stamps: BTreeMap<Key, Hlc>,
}

impl Cluster {
    /// Lets sensors and clients begin.
    pub(crate) fn start_load(&mut self) {
        for member in 0..self.members.len() {
            self.start_member_load(member);
        }
        self.schedule_put();
        self.schedule_read();
    }

    pub(crate) fn start_member_load(&mut self, member: usize) {
        let wait = exponential(&mut self.rng, self.plan.scenario.load.period_ms as f64 * 1000.0);
        self.queue.after(wait, What::Sense { member });
    }

    fn schedule_put(&mut self) {
        if self.plan.scenario.load.puts_per_s > 0.0 {
            let wait = exponential(&mut self.rng, 1e6 / self.plan.scenario.load.puts_per_s);
            self.queue.after(wait, What::Put);
        }
    }

    fn schedule_read(&mut self) {
        if self.plan.scenario.load.reads_per_s > 0.0 {
            let wait = exponential(&mut self.rng, 1e6 / self.plan.scenario.load.reads_per_s);
            self.queue.after(wait, What::Read { at: None });
        }
    }

    /// A node's sensors speak.
    pub(crate) fn on_sense(&mut self, m: usize) {
        if self.phase == Phase::Healed {
            return;
        }
        let waiting = self.members[m].node.as_ref().map_or(0, |node| node.waiting() as u64);
        self.oracles.spread.waiting_max = self.oracles.spread.waiting_max.max(waiting);
        let at = self.queue.now();
        let mad = self.members[m].mad_until > at;
        let period = self.plan.scenario.load.period_ms as f64 * if mad { 20.0 } else { 1000.0 };
        let wait = exponential(&mut self.rng, period);
        self.queue.after(wait, What::Sense { member: m });
        let wall = self.members[m].clock.now(at).wall;
        let mut readings = Vec::new();
        for channel in self.members[m].channels.clone() {
            if self.rng.chance(0.6) {
                let value = if mad { 1e300 * (self.rng.unit() - 0.5) } else { 20.0 + self.rng.unit() };
                readings.push((channel, Reading::new(value, wall)));
            }
        }
        if !readings.is_empty() {
            self.step(m, Event::Sensed { readings });
        }
    }

    /// A client writes somewhere.
    pub(crate) fn on_put(&mut self) {
        if self.phase == Phase::Healed {
            return;
        }
        self.schedule_put();
        let m = self.rng.below(self.members.len());
        let first = self.rng.below(CLIENT_CHANNELS);
        let count = 1 + self.rng.below(2);
        let channels: Vec<Channel> = (first..first + count)
            .map(|i| Channel::new(&format!("put{}", i % CLIENT_CHANNELS)).expect("a good name"))
            .collect();
        let ack = match self.rng.below(4) {
            0 => Ack::Memory,
            1 => Ack::Disk,
            2 => Ack::Peers(1 + self.rng.below(2) as u32),
            _ => Ack::Checkpoint,
        };
        if self.members[m].node.is_none() {
            return;
        }
        let wall = self.members[m].clock.now(self.queue.now()).wall;
        let readings = channels.iter().map(|c| (c.clone(), Reading::new(self.rng.unit(), wall))).collect();
        let id = self.request();
        let node = self.members[m].id.clone();
        self.oracles.stamps.asked(id, &node);
        self.oracles.acks.asked(id, Write { member: m, node, channels, ack });
        self.ask(m, id, Command::Put { readings, ack });
    }

    /// A client asks for the newest checkpoint.
    pub(crate) fn on_read(&mut self, at: Option<usize>) {
        if at.is_none() && self.phase != Phase::Healed {
            self.schedule_read();
        }
        let m = at.unwrap_or_else(|| self.rng.below(self.members.len()));
        if self.members[m].node.is_none() {
            return;
        }
        let id = self.request();
        let top = self.plan.scenario.regions > 1 && self.rng.chance(0.5);
        let group = if top { GroupId::Top } else { self.group_of(m) };
        self.oracles.reads.asked(id, &group);
        self.ask(m, id, Command::Latest { linearizable: true, top });
    }

    /// An operator asks for something.
    pub(crate) fn on_operate(&mut self, at: Option<usize>, command: Command) {
        let m = at.unwrap_or_else(|| self.rng.below(self.members.len()));
        if self.members[m].node.is_none() || self.phase != Phase::Faults {
            return;
        }
        if let Command::Forget { node } = &command {
            let node = node.clone();
            self.oracles.acks.excuse(&node);
            self.oracles.merges.forgotten(&node);
        }
        let id = self.request();
        self.operations.insert(id, command.clone());
        self.ask(m, id, command);
    }

    fn request(&mut self) -> u64 {
        self.next_request += 1;
        self.next_request
    }

    fn ask(&mut self, m: usize, id: u64, command: Command) {
        self.step(m, Event::Asked { request: RequestId(id), command });
    }

    /// A client is answered.
    pub(crate) fn on_reply(&mut self, m: usize, request: RequestId, reply: Reply) {
        let id = request.0;
        self.answered += 1;
        let operation = self.operations.remove(&id);
        match reply {
            Reply::Put { stamps } => {
                let verdict = self.oracles.stamps.answered(id, &stamps);
                self.judge("stamps", verdict);
                if self.oracles.acks.open(id).is_some_and(|write| write.ack == Ack::Checkpoint) {
                    self.read_checkpoints(m);
                }
                let held = |key: &Key, stamp: Hlc| self.checkpointed.stamps.get(key).is_some_and(|at| *at >= stamp);
                let store = self.members[m].disk.store();
                let verdict = self.oracles.acks.answered(id, &stamps, store, &self.oracles.merges, held);
                self.judge("acknowledged", verdict);
            }
            Reply::Latest { latest } => {
                let verdict = self.oracles.reads.answered(id, latest);
                self.judge("C10 reads", verdict);
            }
            Reply::Redirect { leader } => {
                if let Some(to) = self.member_named(&leader).filter(|to| *to != m) {
                    let what = match operation {
                        Some(command) => What::Operate { at: Some(to), command },
                        None => What::Read { at: Some(to) },
                    };
                    self.queue.after(1_000, what);
                }
            }
            Reply::Refused { .. } => self.oracles.acks.refused(id),
            Reply::Done => {}
        }
    }

    /// Reads the newest few committed checkpoints off any disk that has them: who acknowledges may trail by some.
    fn read_checkpoints(&mut self, m: usize) {
        let few = self.oracles.ledger.newest_few(&self.group_of(m), CHECKPOINTS_READ);
        if self.checkpointed.documents == few {
            return;
        }
        let mut stamps: BTreeMap<Key, Hlc> = BTreeMap::new();
        for document in few.iter().filter_map(|hash| self.oracles.quorums.known(hash)) {
            let Some(hash) = document.header().body else { continue };
            let body = self.members.iter().find_map(|member| member.disk.store().bodies.get(&hash));
            for entry in body.and_then(|body| body.entries().ok()).unwrap_or_default() {
                let held = stamps.entry(Key::new(entry.origin, entry.channel)).or_insert(entry.stamp);
                *held = entry.stamp.max(*held);
            }
        }
        self.checkpointed = Checkpointed { documents: few, stamps };
    }
}
