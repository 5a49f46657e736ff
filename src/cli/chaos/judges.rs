//! Judges over a history: what clients saw can be explained by one ledger and one order of events, or it cannot.
//!
//! **Linearizable reads.** The newest committed index is a register that only rises. Nobody outside sees a commit
//! begin or end, so its time is bounded by what clients saw: checkpoint *i* is committed before the answer of any
//! operation that shows it (or a later one) has come, and after the invocation of any write whose value its body holds.
//! Reads confirmed by a quorum must fit: an order exists exactly if
//!
//! 1. no read returns less than what an operation answered before its invocation had shown, and
//! 2. no operation that shows *i* was answered before the invocation of a write in the body of some checkpoint up to *i*.
//!
//! Necessary is plain. Sufficient: let checkpoint *i* be committed at `t(i)`, the latest among the invocations of writes
//! in bodies up to *i* and of confirmed reads that returned less than *i*. Then `t` rises with *i*; whatever shows *i*
//! is answered after `t(i)`, by 2 for the writes and by 1 for the reads; and a confirmed read of *i* was invoked before
//! `t(i + 1)`, so that the span from its invocation to its answer meets the span from `t(i)` to `t(i + 1)`. This is
//! what a search over all orders (Wing and Gong 1993; Herlihy and Wing 1990) would find, at the cost of a sort.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::cli::chaos::history::{History, Key, Level, Op, Place, What};

/// What cannot be explained.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Violation {
    /// The judge that saw it.
    pub judge: &'static str,
    /// What it saw.
    pub detail: String,
}

/// Violations that one judge reports; more tell nothing new.
const REPORTED: usize = 5;

/// A write acknowledged by peers is on its own disk, too, long before that much time has passed.
const SETTLED_US: u64 = 10_000_000;

/// How many checkpoints any client saw.
pub fn checkpoints(history: &History) -> u64 {
    places(history).map(|(_, place)| place.index).collect::<BTreeSet<_>>().len() as u64
}

type Judge = fn(&History) -> Vec<String>;

/// All judges by name.
const JUDGES: [(&str, Judge); 5] = [
    ("one chain", one_chain),
    ("no rollback", no_rollback),
    ("linearizable", linearizable),
    ("no invention", no_invention),
    ("acknowledged", acknowledged),
];

/// What of this history breaks a promise.
pub fn judge(history: &History) -> Vec<Violation> {
    let judged = |(judge, see): (&'static str, Judge)| {
        see(history).into_iter().take(REPORTED).map(move |detail| Violation { judge, detail })
    };
    JUDGES.into_iter().flat_map(judged).collect()
}

fn answered(history: &History) -> impl Iterator<Item = (&Op, u64)> {
    history.ops.iter().filter_map(|op| Some((op, op.answered_us?)))
}

/// Every checkpoint that any client saw.
fn places(history: &History) -> impl Iterator<Item = (&Op, &Place)> {
    answered(history).flat_map(|(op, _)| {
        let rows: &[Place] = match &op.what {
            What::Latest { found } => found.as_slice(),
            What::Ledger { rows } => rows,
            What::Put { .. } | What::Body { .. } | What::Held { .. } => &[],
        };
        rows.iter().map(move |place| (op, place))
    })
}

/// Each index has one hash and one parent, whoever is asked, whenever; and the parent is what stands before it.
fn one_chain(history: &History) -> Vec<String> {
    let mut chain: BTreeMap<u64, (&Place, &Op)> = BTreeMap::new();
    let mut broken = Vec::new();
    for (op, place) in places(history) {
        let (first, seen) = chain.entry(place.index).or_insert((place, op));
        if *first != place {
            broken.push(format!(
                "checkpoint {} is {} at {} ({} us) and {} at {} ({} us)",
                place.index, first.hash, seen.node, seen.invoked_us, place.hash, op.node, op.invoked_us
            ));
        }
    }
    let links =
        chain.iter().filter_map(|(index, (place, _))| Some((*index, place, chain.get(&index.checked_sub(1)?)?)));
    for (index, place, (before, _)) in links {
        if place.parent.as_deref() != Some(before.hash.as_str()) {
            broken.push(format!("checkpoint {index} names {:?} as its parent, not {}", place.parent, before.hash));
        }
    }
    broken
}

/// What a node has once shown of its ledger, it shows ever after.
fn no_rollback(history: &History) -> Vec<String> {
    let mut broken = Vec::new();
    for node in history.ops.iter().map(|op| &op.node).collect::<BTreeSet<_>>() {
        let shown = answered(history).filter(|(op, _)| op.node == *node).filter_map(|(op, at)| match &op.what {
            What::Ledger { rows } => Some((op.invoked_us, at, rows.first().map(|place| place.index))),
            _ => None,
        });
        let shown: Vec<_> = shown.collect();
        let floor = Floor::of(shown.iter().filter_map(|(_, at, index)| Some((*at, (*index)?))));
        for (invoked, _, index) in &shown {
            if let Some(before) = floor.before(*invoked).filter(|before| index.is_none_or(|index| index < *before)) {
                broken.push(format!("{node} showed checkpoint {before}, and at {invoked} us no more than {index:?}"));
            }
        }
    }
    broken
}

/// The largest index shown before any moment.
struct Floor(Vec<(u64, u64)>);

impl Floor {
    fn of(shown: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut all: Vec<(u64, u64)> = shown.collect();
        all.sort_unstable();
        let mut highest = 0;
        for (_, index) in &mut all {
            highest = highest.max(*index);
            *index = highest;
        }
        Self(all)
    }

    fn before(&self, moment: u64) -> Option<u64> {
        let place = self.0.partition_point(|(at, _)| *at < moment);
        Some(self.0[place.checked_sub(1)?].1)
    }
}

/// The newest committed index that an answer shows.
fn shows(op: &Op) -> Option<u64> {
    match &op.what {
        What::Latest { found } => found.as_ref().map(|place| place.index),
        What::Ledger { rows } => rows.first().map(|place| place.index),
        What::Body { index, .. } => Some(*index),
        What::Put { .. } | What::Held { .. } => None,
    }
}

fn linearizable(history: &History) -> Vec<String> {
    let mut broken = Vec::new();
    let floor = Floor::of(answered(history).filter_map(|(op, at)| Some((at, shows(op)?))));
    for (op, at) in answered(history) {
        let What::Latest { found } = &op.what else { continue };
        let index = found.as_ref().map(|place| place.index);
        if let Some(before) = floor.before(op.invoked_us).filter(|before| index.is_none_or(|index| index < *before)) {
            broken.push(format!(
                "a read of the latest checkpoint from {} to {at} us returned {index:?}, though {before} had been shown",
                op.invoked_us
            ));
        }
    }
    let begun = beginnings(history);
    for (op, at) in answered(history) {
        let Some(index) = shows(op) else { continue };
        let latest = begun.range(..=index).next_back().map(|(_, invoked)| *invoked);
        if let Some(invoked) = latest.filter(|invoked| *invoked > at) {
            broken.push(format!(
                "{} showed checkpoint {index} at {at} us, which holds a value first written at {invoked} us",
                op.node
            ));
        }
    }
    broken
}

/// Before when no checkpoint of this index can have been made: when the newest value in its body, or in one before
/// it, was first written.
fn beginnings(history: &History) -> BTreeMap<u64, u64> {
    let invoked: BTreeMap<(&str, &str, u64), u64> = history
        .ops
        .iter()
        .filter_map(|op| match &op.what {
            What::Put { channel, value, .. } => Some(((op.node.as_str(), channel.as_str(), *value), op.invoked_us)),
            _ => None,
        })
        .collect();
    let mut begun = BTreeMap::new();
    for (op, _) in answered(history) {
        let What::Body { index, values } = &op.what else { continue };
        let newest = values.iter().filter_map(|(node, channel, value)| invoked.get(&(node, channel, *value))).max();
        if let Some(newest) = newest {
            let known = begun.entry(*index).or_insert(*newest);
            *known = (*known).max(*newest);
        }
    }
    let mut latest = 0;
    for invoked in begun.values_mut() {
        latest = latest.max(*invoked);
        *invoked = latest;
    }
    begun
}

/// Nobody holds a value that no client had written by then.
fn no_invention(history: &History) -> Vec<String> {
    let mut written: BTreeMap<(&str, &str), BTreeMap<u64, u64>> = BTreeMap::new();
    for op in &history.ops {
        if let What::Put { channel, value, .. } = &op.what {
            written.entry((&op.node, channel)).or_default().insert(*value, op.invoked_us);
        }
    }
    let mut broken = Vec::new();
    for (op, at) in answered(history) {
        let (What::Body { values, .. } | What::Held { values }) = &op.what else { continue };
        for (node, channel, value) in values {
            let invoked = written.get(&(node.as_str(), channel.as_str())).and_then(|values| values.get(value));
            if invoked.is_none_or(|invoked| *invoked > at) {
                broken.push(format!("{} shows {value} of {node}:{channel} at {at} us; nobody wrote it", op.node));
            }
        }
    }
    broken
}

/// What is held in the end, by everybody and in the newest checkpoint, is at least what was acknowledged.
fn acknowledged(history: &History) -> Vec<String> {
    let owed = owed(history);
    let mut broken = Vec::new();
    let newest = answered(history).filter_map(|(op, _)| match &op.what {
        What::Body { index, .. } => Some(*index),
        _ => None,
    });
    let newest = newest.max();
    let ended =
        answered(history).filter(|(op, _)| matches!(op.what, What::Held { .. })).map(|(op, _)| op.invoked_us).min();
    for (op, at) in answered(history) {
        let (values, whole) = match &op.what {
            What::Held { values } => (values, true),
            // Only a body asked for at the end must hold all that was acknowledged.
            What::Body { index, values } if Some(*index) == newest => {
                (values, ended.is_some_and(|ended| op.invoked_us >= ended))
            }
            _ => continue,
        };
        if !whole {
            continue;
        }
        let held: BTreeMap<(&str, &str), u64> =
            values.iter().map(|(node, channel, value)| ((node.as_str(), channel.as_str()), *value)).collect();
        for ((node, channel), value) in &owed {
            let found = held.get(&(node.as_str(), channel.as_str()));
            if found.is_none_or(|found| found < value) {
                broken.push(format!(
                    "{value} of {node}:{channel} was acknowledged; {} holds {found:?} at {at} us",
                    op.node
                ));
            }
        }
    }
    broken
}

/// The largest value of each key that an acknowledgement still promises after all that was done.
fn owed(history: &History) -> BTreeMap<Key, u64> {
    let crashes: Vec<(u64, &[String])> =
        history.deeds.iter().filter(|deed| deed.crash).map(|deed| (deed.at_us, deed.nodes.as_slice())).collect();
    let survives = |op: &Op, at: u64, ack: Level| match ack {
        Level::Memory => false,
        Level::Disk | Level::Checkpoint => true,
        // Loss of this node and one other is survived; of more, before the origin has it on disk, not.
        Level::Peers => {
            let near = crashes.iter().filter(|(when, _)| (op.invoked_us..at + SETTLED_US).contains(when));
            near.flat_map(|(_, nodes)| nodes.iter()).collect::<BTreeSet<_>>().len() <= 2
        }
    };
    let mut owed: BTreeMap<Key, u64> = BTreeMap::new();
    for (op, at) in answered(history) {
        if let What::Put { channel, value, ack } = &op.what
            && survives(op, at, *ack)
        {
            let known = owed.entry((op.node.clone(), channel.clone())).or_default();
            *known = (*known).max(*value);
        }
    }
    owed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::chaos::history::Deed;

    fn op(node: &str, invoked_us: u64, answered_us: u64, what: What) -> Op {
        Op { node: node.into(), invoked_us, answered_us: Some(answered_us), what }
    }

    fn place(index: u64, hash: &str, parent: &str) -> Place {
        Place { index, hash: hash.into(), parent: (!parent.is_empty()).then(|| parent.into()) }
    }

    fn put(invoked: u64, answered: u64, value: u64, ack: Level) -> Op {
        op("a", invoked, answered, What::Put { channel: "t".into(), value, ack })
    }

    fn read(invoked: u64, answered: u64, index: u64) -> Op {
        op("a", invoked, answered, What::Latest { found: Some(place(index, &format!("h{index}"), &parent(index))) })
    }

    fn parent(index: u64) -> String {
        index.checked_sub(1).map_or_else(String::new, |index| format!("h{index}"))
    }

    fn body(node: &str, invoked: u64, answered: u64, index: u64, value: u64) -> Op {
        op(node, invoked, answered, What::Body { index, values: vec![("a".into(), "t".into(), value)] })
    }

    fn held(value: u64) -> Op {
        op("b", 900, 901, What::Held { values: vec![("a".into(), "t".into(), value)] })
    }

    fn seen(ops: Vec<Op>) -> Vec<&'static str> {
        judge(&History { ops, deeds: Vec::new() }).into_iter().map(|violation| violation.judge).collect()
    }

    #[test]
    fn a_history_of_one_ledger_is_accepted() {
        let overlapping = vec![
            put(1, 4, 1, Level::Checkpoint),
            read(5, 20, 2),
            read(6, 8, 1),
            body("b", 9, 10, 1, 1),
            op("b", 21, 22, What::Ledger { rows: vec![place(2, "h2", "h1"), place(1, "h1", "h0")] }),
            held(1),
        ];
        assert_eq!(seen(overlapping), Vec::<&str>::new());
    }

    #[test]
    fn a_fork_and_a_wrong_parent_are_seen() {
        let other = op("b", 3, 4, What::Ledger { rows: vec![place(2, "x2", "h1")] });
        assert_eq!(seen(vec![read(1, 2, 2), other]), ["one chain"]);
        let orphan = op("b", 3, 4, What::Ledger { rows: vec![place(3, "h3", "x2"), place(2, "h2", "h1")] });
        assert_eq!(seen(vec![orphan]), ["one chain"]);
    }

    #[test]
    fn a_ledger_that_shrinks_is_seen() {
        let rows = |index| What::Ledger { rows: vec![place(index, &format!("h{index}"), &parent(index))] };
        assert_eq!(seen(vec![op("b", 1, 2, rows(4)), op("b", 3, 4, rows(3))]), ["no rollback"]);
        assert_eq!(seen(vec![op("b", 1, 2, rows(4)), op("c", 3, 4, rows(3))]), Vec::<&str>::new(), "another may lag");
    }

    #[test]
    fn a_read_behind_what_was_shown_before_is_not_linearizable() {
        assert_eq!(seen(vec![read(1, 2, 4), read(3, 5, 3)]), ["linearizable"]);
        assert_eq!(seen(vec![read(1, 4, 4), read(3, 5, 3)]), Vec::<&str>::new(), "they overlap");
        let local = op("b", 1, 2, What::Ledger { rows: vec![place(4, "h4", "h3")] });
        assert_eq!(seen(vec![local, read(3, 5, 3)]), ["linearizable"]);
    }

    #[test]
    fn a_checkpoint_shown_before_what_it_holds_was_written_is_not_linearizable() {
        let late = vec![read(1, 2, 3), put(5, 6, 1, Level::Disk), body("b", 7, 8, 2, 1), held(1)];
        assert_eq!(seen(late), ["linearizable"]);
    }

    #[test]
    fn a_value_that_nobody_wrote_is_seen() {
        assert_eq!(seen(vec![put(1, 2, 1, Level::Memory), held(2)]), ["no invention"]);
    }

    #[test]
    fn a_lost_acknowledged_write_is_seen_unless_it_promised_less() {
        let lost = |ack| vec![put(1, 2, 1, Level::Disk), put(3, 4, 2, ack), held(1)];
        assert_eq!(seen(lost(Level::Disk)), ["acknowledged"]);
        assert_eq!(seen(lost(Level::Checkpoint)), ["acknowledged"]);
        assert_eq!(seen(lost(Level::Peers)), ["acknowledged"]);
        assert_eq!(seen(lost(Level::Memory)), Vec::<&str>::new());
        let all = Deed { at_us: 5, fault: "storm".into(), nodes: ["a", "b", "c"].map(Into::into).into(), crash: true };
        let two = Deed { nodes: vec!["a".into(), "b".into()], ..all.clone() };
        let judged = |deed: Deed| judge(&History { ops: lost(Level::Peers), deeds: vec![deed] }).len();
        assert_eq!((judged(all), judged(two)), (0, 1), "three crashes at once are more than two copies survive");
    }

    #[test]
    fn a_history_read_back_is_the_same() {
        let deeds = vec![Deed { at_us: 1, fault: "kill".into(), nodes: vec!["a".into()], crash: true }];
        let history = History { ops: vec![put(1, 2, 1, Level::Disk), read(3, 4, 1), held(1)], deeds };
        let file = tempfile::NamedTempFile::new().unwrap();
        history.save(file.path()).unwrap();
        assert_eq!(History::load(file.path()).unwrap(), history);
    }
}
