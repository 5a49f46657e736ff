//! Spreading and watching: copies of updates, bytes by type, how soon deaths are seen, and deaths that are none.

use std::collections::BTreeMap;

use crate::core::hlc::Hlc;
use crate::core::id::{Channel, GroupId, NodeId};
use crate::core::message::Message;
use crate::core::time::Wall;
use crate::sim::oracles::Verdict;
use crate::sim::oracles::arrivals::Times;
use crate::sim::scenario::Expect;

/// Fewer copies than this, and updates have got lost or become one on the way: nothing was measured.
const COPIES_MIN: f64 = 0.95;

/// Readings that an origin writes before its tree is learned: the first is flooded, and whoever was about to send the
/// second where it was not wanted is told so by then.
const LEARNED: u32 = 2;

/// Who holds an entry only so many milliseconds after it was written was not reached by its tree.
const LATE_MS: i64 = 500;

/// What was counted of spreading.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spread {
    /// Virtual time of counting, in microseconds.
    pub counted_us: u64,
    /// Nodes at its end.
    pub nodes: u64,
    /// Entries written by origins whose trees are learned.
    pub updates: u64,
    /// Of such origins, entries that came by push.
    pub pushed: u64,
    /// Entries written by the others, and those of theirs that came by push.
    pub learning: (u64, u64),
    /// Readings that each origin has written since it began, counted or not.
    pub wrote: BTreeMap<NodeId, u32>,
    /// Entries that came by repair.
    pub repaired: u64,
    /// Entries of origins whose trees are learned that a node came to hold long after they were written.
    pub late: u64,
    /// Messages and bytes sent, by type.
    pub sent: BTreeMap<&'static str, (u64, u64)>,
    /// Times from a process's end to another's word that it is dead, in microseconds.
    pub deaths_us: Vec<u64>,
    /// How many of those times there should be: one for each death and each other process that took the
    /// victim for alive and had the time to see it.
    pub deaths_expected: u64,
    /// Processes that were declared dead while they ran.
    pub false_deaths: u64,
    /// Most keys that waited in the outboxes of one node.
    pub waiting_max: u64,
    /// When each group committed last, and its longest time between two commits, in microseconds.
    pub commits: BTreeMap<GroupId, (u64, u64)>,
    /// Times of updates to the other nodes of their region.
    pub near: Times,
    /// Times of global updates to the nodes of other regions.
    pub far: Times,
    /// Time from when all was whole to when everybody was equal, in microseconds.
    pub equal_us: Option<u64>,
}

impl Spread {
    /// A message was sent; `bytes` of its frame.
    pub fn sent(&mut self, message: &Message, bytes: usize) {
        let count = self.sent.entry(message.type_name()).or_default();
        *count = (count.0 + 1, count.1 + bytes as u64);
    }

    /// An origin has written an entry on this channel.
    pub fn wrote(&mut self, origin: &NodeId, channel: &Channel) {
        if !channel.is_system() {
            *self.wrote.entry(origin.clone()).or_default() += 1;
        }
    }

    /// An origin has written an entry that counts.
    pub fn updated(&mut self, origin: &NodeId) {
        match self.has_learned(origin) {
            true => self.updates += 1,
            false => self.learning.0 += 1,
        }
    }

    /// An origin begins anew, and so do those who learn its tree.
    pub fn began(&mut self, origin: &NodeId) {
        self.wrote.remove(origin);
    }

    fn has_learned(&self, origin: &NodeId) -> bool {
        self.wrote.get(origin).is_some_and(|readings| *readings > LEARNED)
    }

    /// A node came to hold another's entry at this true time.
    pub fn held(&mut self, origin: &NodeId, stamp: Hlc, now: Wall) {
        self.late += u64::from(self.has_learned(origin) && now.millis_after(stamp.wall()) >= LATE_MS);
    }

    /// A message was received.
    pub fn received(&mut self, message: &Message) {
        match message {
            Message::SensorUpdate(update) => {
                for entry in &update.entries {
                    match self.has_learned(&entry.origin) {
                        true => self.pushed += 1,
                        false => self.learning.1 += 1,
                    }
                }
            }
            Message::StateUpdate(update) => self.repaired += update.entries.len() as u64,
            _ => {}
        }
    }

    /// A group commits something new, or counting ends. What was before `from` does not count.
    pub fn committed(&mut self, now: u64, from: u64, group: &GroupId) {
        let (last, longest) = self.commits.entry(group.clone()).or_insert((now, 0));
        *longest = (*longest).max(now.saturating_sub((*last).max(from)));
        *last = now;
    }

    /// The longest time between two commits of the top, or of any region, in milliseconds.
    pub fn gap_ms(&self, top: bool) -> Option<f64> {
        let of = self.commits.iter().filter(|(group, _)| (**group == GroupId::Top) == top);
        of.map(|(_, (_, longest))| *longest as f64 / 1e3).max_by(f64::total_cmp)
    }

    /// Copies of each update of an origin whose tree is learned that came to each other node by push, on average.
    pub fn copies(&self) -> Option<f64> {
        self.copies_of(self.updates, self.pushed)
    }

    /// The same of those that are not.
    pub fn learning_copies(&self) -> Option<f64> {
        self.copies_of(self.learning.0, self.learning.1)
    }

    fn copies_of(&self, updates: u64, pushed: u64) -> Option<f64> {
        let wanted = updates * self.nodes.saturating_sub(1);
        (wanted > 0).then(|| pushed as f64 / wanted as f64)
    }

    /// Bytes sent per node and second, heartbeats apart.
    pub fn bytes_per_s(&self) -> Option<f64> {
        let all = self.sent.iter().filter(|(kind, _)| !kind.starts_with("HEARTBEAT"));
        let bytes: u64 = all.map(|(_, (_, bytes))| bytes).sum();
        let seconds = self.counted_us as f64 / 1e6 * self.nodes as f64;
        (seconds > 0.0 && bytes > 0).then(|| bytes as f64 / seconds)
    }

    /// The time within which this share of the living saw a death, in milliseconds; `None` if fewer ever did.
    pub fn dead_within_ms(&self, share: f64) -> Option<f64> {
        let mut all = self.deaths_us.clone();
        all.sort_unstable();
        let expected = self.deaths_expected.max(all.len() as u64);
        let at = ((expected as f64 * share).ceil() as usize).max(1) - 1;
        all.get(at).map(|us| *us as f64 / 1e3)
    }

    /// Adds what another run counted.
    pub fn add(&mut self, other: &Self) {
        // Times add up, nodes do not: a rate is per node of a run.
        self.counted_us += other.counted_us;
        self.nodes = self.nodes.max(other.nodes);
        self.updates += other.updates;
        self.pushed += other.pushed;
        self.learning = (self.learning.0 + other.learning.0, self.learning.1 + other.learning.1);
        self.repaired += other.repaired;
        self.late += other.late;
        for (kind, (n, bytes)) in &other.sent {
            let count = self.sent.entry(kind).or_default();
            *count = (count.0 + n, count.1 + bytes);
        }
        self.deaths_us.extend(&other.deaths_us);
        self.deaths_expected += other.deaths_expected;
        self.false_deaths += other.false_deaths;
        self.waiting_max = self.waiting_max.max(other.waiting_max);
        for (group, (last, longest)) in &other.commits {
            let known = self.commits.entry(group.clone()).or_default();
            *known = (known.0.max(*last), known.1.max(*longest));
        }
        self.near.add(&other.near);
        self.far.add(&other.far);
        self.equal_us = self.equal_us.max(other.equal_us);
    }

    /// Judges what was counted while things went wrong, or nothing did.
    ///
    /// # Errors
    /// If a scenario expects better.
    pub fn judge(&self, expect: &Expect) -> Verdict {
        let over = |what: &str, measured: Option<f64>, most: Option<f64>| match (measured, most) {
            (_, None) => Ok(()),
            (None, Some(_)) => Err(format!("no {what} were measured")),
            (Some(measured), Some(most)) if measured > most => Err(format!("{measured:.3} {what}, {most} at most")),
            _ => Ok(()),
        };
        over("copies of each update a node", self.copies(), expect.copies_max)?;
        if expect.copies_max.is_some() && self.copies().is_none_or(|copies| copies < COPIES_MIN) {
            return Err(format!("only {:?} copies of each update a node", self.copies()));
        }
        over("entries held late", Some(self.late as f64), expect.late_max.map(|most| most as f64))?;
        over("bytes a node and second", self.bytes_per_s(), expect.bytes_per_s_max)?;
        // A run in which chance let nobody die has nothing to show.
        if self.deaths_expected > 0 || !self.deaths_us.is_empty() {
            over("ms until 99 of 100 saw a death", self.dead_within_ms(0.99), expect.dead_within_ms)?;
        }
        over("ms without a commit in a region", self.gap_ms(false), expect.commit_gap_max_ms)?;
        over("ms without a global commit", self.gap_ms(true), expect.global_gap_max_ms)?;
        over("ms to 99 of 100 nodes of a region", self.near.clone().within_ms(0.99), expect.near_within_ms)?;
        over("ms to 99 of 100 nodes of other regions", self.far.clone().within_ms(0.99), expect.far_within_ms)?;
        if expect.no_false_death && self.false_deaths > 0 {
            return Err(format!("{} times somebody alive was declared dead", self.false_deaths));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::message::session::Keepalive;

    #[test]
    fn each_expectation_is_judged() {
        let mut spread = Spread { counted_us: 1_000_000, nodes: 3, updates: 10, pushed: 20, ..Spread::default() };
        spread.sent(&Message::Keepalive(Keepalive {}), 600);
        spread.deaths_us = vec![1_000, 2_000_000];
        let good = Expect {
            copies_max: Some(1.05),
            bytes_per_s_max: Some(600.0),
            dead_within_ms: Some(2000.0),
            no_false_death: true,
            ..Expect::default()
        };
        assert_eq!(spread.judge(&good), Ok(()));
        assert!(Spread { pushed: 22, ..spread.clone() }.judge(&good).is_err(), "too many copies");
        assert!(Spread { pushed: 10, ..spread.clone() }.judge(&good).is_err(), "too few");
        assert!(Spread { deaths_us: vec![2_000_001], ..spread.clone() }.judge(&good).is_err());
        assert!(Spread { deaths_expected: 3, ..spread.clone() }.judge(&good).is_err(), "one never saw it");
        let unseen = Spread { deaths_us: vec![], deaths_expected: 2, ..spread.clone() };
        assert!(unseen.judge(&good).is_err(), "nothing measured is no pass");
        assert_eq!(Spread { deaths_expected: 0, ..unseen }.judge(&good), Ok(()), "nobody died");
        let gap = Expect { commit_gap_max_ms: Some(3.0), ..good.clone() };
        let group = GroupId::Region(crate::core::id::RegionId::new("main").unwrap());
        let mut commits = spread.clone();
        [5_000, 8_000].into_iter().for_each(|at| commits.committed(at, 0, &group));
        assert_eq!(commits.judge(&gap), Ok(()));
        commits.committed(12_000, 9_000, &group);
        assert_eq!(commits.judge(&gap), Ok(()), "what was before counting began does not count");
        commits.committed(15_001, 9_000, &group);
        assert!(commits.judge(&gap).is_err() && spread.judge(&gap).is_err(), "a gap, or no commit at all");
        let near = Expect { near_within_ms: Some(2.0), ..good.clone() };
        assert!(spread.judge(&near).is_err(), "nothing measured is no pass");
        let times = |us| Times { all_us: vec![1_000, us], missed: 0 };
        assert_eq!(Spread { near: times(2_000), ..spread.clone() }.judge(&near), Ok(()));
        assert!(Spread { near: times(2_001), ..spread.clone() }.judge(&near).is_err(), "too late");
        assert!(Spread { near: Times { missed: 1, ..times(2_000) }, ..spread.clone() }.judge(&near).is_err());
        let late = Expect { late_max: Some(0), ..good.clone() };
        assert_eq!(spread.judge(&late), Ok(()));
        assert!(Spread { late: 1, ..spread.clone() }.judge(&late).is_err());
        assert!(Spread { false_deaths: 1, ..spread.clone() }.judge(&good).is_err());
        assert!(spread.judge(&Expect { bytes_per_s_max: Some(100.0), ..good }).is_err());
    }

    #[test]
    fn what_floods_is_counted_apart_until_its_tree_is_learned() {
        use crate::core::message::exchange::SensorUpdate;
        use crate::core::state::entry::{KeyedEntry, Scope};

        let (origin, channel) = (NodeId::new("gw-1").unwrap(), Channel::new("temp").unwrap());
        let node = Channel::new("@node").unwrap();
        let entry = |channel: &Channel| {
            let (origin, channel) = (origin.clone(), channel.clone());
            let (stamp, scope, confirm) = (crate::core::hlc::Hlc::ZERO, Scope::Global, false);
            KeyedEntry {
                origin,
                channel,
                stamp,
                scope,
                value: crate::core::state::entry::Value::of(&1),
                confirm,
                repaired: false,
            }
        };
        let copy = |channel: &Channel| Message::SensorUpdate(SensorUpdate { entries: vec![entry(channel)] });
        let mut spread = Spread { nodes: 3, ..Spread::default() };
        let mut write = |channel: &Channel, copies: usize| {
            spread.wrote(&origin, channel);
            spread.updated(&origin);
            (0..copies).for_each(|_| spread.received(&copy(channel)));
            (spread.learning_copies(), spread.copies())
        };
        assert_eq!(write(&node, 10), (Some(5.0), None), "a system channel is flooded with the first reading");
        assert_eq!(write(&channel, 10), (Some(5.0), None));
        assert_eq!(write(&channel, 4), (Some(4.0), None));
        assert_eq!(write(&channel, 2), (Some(4.0), Some(1.0)));
        assert_eq!(write(&node, 3), (Some(4.0), Some(1.25)));
        for (ms, late) in [(LATE_MS - 1, 0), (LATE_MS, 1)] {
            spread.held(&origin, Hlc::ZERO, Wall::from_millis(ms as u64));
            assert_eq!(spread.late, late, "{ms} ms after it was written");
        }
        spread.began(&origin);
        spread.updated(&origin);
        assert_eq!((spread.updates, spread.learning.0), (2, 4), "a new life is learned anew");
        spread.held(&origin, Hlc::ZERO, Wall::from_millis(LATE_MS as u64));
        assert_eq!(spread.late, 1, "nor is any late before");
    }
}
