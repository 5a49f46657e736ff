//! Questions on their way through this node, and the answers gathered so far: one frame for a region's voters.
//!
//! Holds no acceptor state. What is forgotten here, by a crash or by age, is asked again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::id::NodeId;
use crate::core::message::Message;
use crate::core::time::Mono;

/// How long the rest is waited for once a majority has answered: a few round trips and writes within a region.
const GRACE: Duration = Duration::from_millis(20);
/// How long a majority is waited for before what there is goes back: a refusal must not wait for the dead.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long late answers are passed on.
const LIFE: Duration = Duration::from_secs(10);
/// Questions under way; beyond, the oldest are let go.
const PASSING_MAX: usize = 1024;

/// All questions under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Relays {
    passing: BTreeMap<(NodeId, u64), Passing>,
    ready: Vec<(NodeId, u64, Vec<Message>)>,
}

#[derive(Clone, Debug)]
struct Passing {
    asked: Mono,
    due: Mono,
    total: usize,
    waiting: BTreeSet<NodeId>,
    answers: Vec<Message>,
}

impl Relays {
    /// A question goes to these nodes.
    pub(super) fn pass(&mut self, now: Mono, asker: &NodeId, seq: u64, waiting: BTreeSet<NodeId>) {
        if waiting.is_empty() {
            return;
        }
        while self.passing.len() >= PASSING_MAX {
            let oldest = self.passing.iter().min_by_key(|(_, passing)| passing.asked).map(|(key, _)| key.clone());
            oldest.map(|key| self.passing.remove(&key));
        }
        let (total, due) = (waiting.len(), now + PATIENCE);
        self.passing.insert((asker.clone(), seq), Passing { asked: now, due, total, waiting, answers: Vec::new() });
    }

    /// One of them answers. Whoever is not waited for (any more) is not passed on: it was asked by somebody else.
    pub(super) fn gather(&mut self, now: Mono, asker: &NodeId, seq: u64, by: &NodeId, message: Message) {
        let key = (asker.clone(), seq);
        let Some(passing) = self.passing.get_mut(&key) else { return };
        if !passing.waiting.remove(by) {
            return;
        }
        passing.answers.push(message);
        if passing.waiting.is_empty() {
            let answers = self.passing.remove(&key).map(|passing| passing.answers).unwrap_or_default();
            self.ready.push((key.0, seq, answers));
        } else if 2 * (passing.total - passing.waiting.len()) > passing.total {
            passing.due = passing.due.min(now.max(passing.asked) + GRACE);
        }
    }

    /// Questions under way.
    pub(super) fn len(&self) -> usize {
        self.passing.len()
    }

    /// What goes back now.
    pub(super) fn take_ready(&mut self) -> Vec<(NodeId, u64, Vec<Message>)> {
        std::mem::take(&mut self.ready)
    }

    pub(super) fn deadline(&self) -> Mono {
        self.passing.values().map(|passing| passing.due).min().unwrap_or(Mono::NEVER)
    }

    /// Sends back what there is where the wait is over.
    pub(super) fn on_deadline(&mut self, now: Mono) {
        for ((asker, seq), passing) in &mut self.passing {
            if passing.due <= now {
                passing.due = (now + PATIENCE).min(passing.asked + LIFE);
                if !passing.answers.is_empty() {
                    self.ready.push((asker.clone(), *seq, std::mem::take(&mut passing.answers)));
                }
            }
        }
        self.passing.retain(|_, passing| now < passing.asked + LIFE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::message::session::Keepalive;

    fn name(text: &str) -> NodeId {
        NodeId::new(text).unwrap()
    }

    fn word() -> Message {
        Message::Keepalive(Keepalive {})
    }

    fn asked(names: &[&str]) -> (Relays, Mono) {
        let (mut relays, now) = (Relays::default(), Mono::from_micros(5_000_000));
        relays.pass(now, &name("asker"), 1, names.iter().map(|n| name(n)).collect());
        (relays, now)
    }

    #[test]
    fn all_answers_go_back_in_one_frame() {
        let (mut relays, now) = asked(&["a", "b", "c"]);
        for voter in ["a", "b", "c"] {
            assert!(relays.take_ready().is_empty());
            relays.gather(now, &name("asker"), 1, &name(voter), word());
        }
        let ready = relays.take_ready();
        assert_eq!(ready.iter().map(|(_, _, answers)| answers.len()).collect::<Vec<_>>(), [3]);
        assert_eq!(relays.deadline(), Mono::NEVER);
    }

    #[test]
    fn the_rest_is_waited_for_only_a_little_and_passed_on_when_it_comes() {
        let (mut relays, now) = asked(&["a", "b", "c"]);
        relays.gather(now, &name("asker"), 1, &name("a"), word());
        relays.gather(now, &name("asker"), 1, &name("b"), word());
        assert_eq!(relays.deadline(), now + GRACE);
        relays.on_deadline(now + GRACE);
        assert_eq!(relays.take_ready()[0].2.len(), 2);
        relays.gather(now + GRACE, &name("asker"), 1, &name("c"), word());
        assert_eq!(relays.take_ready()[0].2.len(), 1);
    }

    #[test]
    fn a_lone_answer_goes_back_without_a_majority_and_a_second_one_of_it_does_not() {
        let (mut relays, now) = asked(&["a", "b", "c"]);
        relays.gather(now, &name("asker"), 1, &name("a"), word());
        relays.gather(now, &name("asker"), 1, &name("a"), word());
        relays.gather(now, &name("asker"), 1, &name("z"), word());
        relays.on_deadline(now + PATIENCE);
        assert_eq!(relays.take_ready()[0].2.len(), 1);
        relays.on_deadline(now + LIFE);
        assert_eq!(relays.deadline(), Mono::NEVER);
    }
}
