//! Which clock is believed, and what stamps are issued by it (section 1).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::core::cx::Cx;
use crate::core::hard_state::Record;
use crate::core::hlc::{Clock, Hlc, MARK_STEP};
use crate::core::id::{NodeId, PersistSeq};
use crate::core::node::Node;
use crate::core::notice::Notice;
use crate::core::params::Params;
use crate::core::state::entry::{Entry, Key};
use crate::core::time::{Mono, Now, Wall};

/// A node's hybrid clock and what its neighbours make of the wall clock under it.
#[derive(Debug)]
pub(super) struct Timekeeper {
    clock: Clock,
    skew_max: Duration,
    /// Milliseconds by which each neighbour's wall clock is ahead of our *monotonic* one: when ours is set, we see at
    /// once that it was ours.
    neighbours: BTreeMap<NodeId, i64>,
    /// The same in order.
    ordered: Vec<i64>,
    /// The two in the middle of them.
    middle: Option<(i64, i64)>,
    /// True while our own wall clock is too far off to be used, as of the last event.
    unused: bool,
    marks: VecDeque<(PersistSeq, Hlc)>,
    mark_due: Mono,
    /// The believed time at the last event.
    seen: Option<Now>,
}

/// The believed wall clock stepped back if it lost more than this against the monotonic one.
const STEP_MIN: Duration = Duration::from_millis(100);

impl Timekeeper {
    pub(super) fn recover(params: &Params, mark: Hlc) -> Self {
        Self {
            clock: Clock::recover(mark),
            skew_max: params.clock_skew_max,
            neighbours: BTreeMap::new(),
            ordered: Vec::new(),
            middle: None,
            unused: false,
            marks: VecDeque::new(),
            mark_due: Mono::ZERO,
            seen: None,
        }
    }

    pub(super) fn deadline(&self) -> Mono {
        self.mark_due
    }

    /// The wall clock that stamps follow: our own, or the neighbours' median where ours is off.
    pub(super) fn trusted(&self, now: Now) -> Wall {
        match self.median(now).filter(|_| self.is_off(now)) {
            Some(offset) => Wall::from_millis(now.wall.as_millis().saturating_add_signed(offset)),
            None => now.wall,
        }
    }

    /// By how many milliseconds the neighbours' median is ahead of us; of two in the middle the one nearer to us.
    pub(super) fn median(&self, now: Now) -> Option<i64> {
        let (low, high) = self.middle?;
        let (low, high) = (low.saturating_sub(lead(now)), high.saturating_sub(lead(now)));
        Some(if low.unsigned_abs() < high.unsigned_abs() { low } else { high })
    }

    fn differs(&self, now: Now) -> bool {
        self.median(now).is_some_and(|median| median.unsigned_abs() > self.skew_max.as_millis() as u64)
    }

    /// One neighbour alone may be the one that is wrong.
    fn is_off(&self, now: Now) -> bool {
        self.neighbours.len() >= 2 && self.differs(now)
    }

    fn set_offset(&mut self, now: Now, node: NodeId, offset_ms: i64) {
        let offset = offset_ms.saturating_add(lead(now));
        let before = self.neighbours.insert(node, offset);
        self.replace(before, Some(offset));
    }

    /// Keeps the offsets in order: of hundreds of neighbours, one at a time says HELLO.
    fn replace(&mut self, before: Option<i64>, after: Option<i64>) {
        if let Some(place) = before.and_then(|before| self.ordered.binary_search(&before).ok()) {
            self.ordered.remove(place);
        }
        if let Some(after) = after {
            self.ordered.insert(self.ordered.partition_point(|offset| *offset < after), after);
        }
        let all = &self.ordered;
        self.middle = all.len().checked_sub(1).map(|last| (all[last / 2], all[all.len() / 2]));
    }

    pub(super) fn is_unused(&self) -> bool {
        self.unused
    }

    pub(super) fn offset_of(&self, now: Now, node: &NodeId) -> Option<i64> {
        self.neighbours.get(node).map(|offset| offset.saturating_sub(lead(now)))
    }

    pub(super) fn forget_offset(&mut self, node: &NodeId) {
        let before = self.neighbours.remove(node);
        self.replace(before, None);
    }

    pub(super) fn observe(&mut self, own: Hlc) {
        self.clock.observe(own);
    }

    pub(super) fn last(&self) -> Hlc {
        self.clock.last()
    }
}

/// Milliseconds by which our wall clock is ahead of our monotonic one: changes only when it is set.
fn lead(now: Now) -> i64 {
    now.wall.as_millis() as i64 - (now.mono.as_micros() / 1000) as i64
}

impl Node {
    /// `now` with the wall clock that this node believes.
    pub fn believed(&self, now: Now) -> Now {
        Now { wall: self.time.trusted(now), ..now }
    }

    /// Issues a stamp, or `None` while the disk has not kept up with the clock's high-water mark.
    pub(super) fn issue(&mut self, cx: &mut Cx<'_>) -> Option<Hlc> {
        let wall = self.time.trusted(cx.now);
        let stamp = self.time.clock.issue(wall);
        if stamp.is_none() {
            self.want_mark(cx);
        }
        stamp
    }

    /// Writes the clock's high-water mark ahead, in steps.
    pub(super) fn keep_time(&mut self, cx: &mut Cx<'_>) {
        if self.time.mark_due <= cx.now.mono {
            self.want_mark(cx);
            self.time.mark_due = cx.now.mono + MARK_STEP / 4;
        }
    }

    /// A clock that was ahead let entries in that nobody with a right one takes, and that would win for ever: once
    /// it has stepped back they go, as they would have been refused (section 1). Of our own, see `restart_clock`.
    pub(super) fn notice_a_step(&mut self, cx: &mut Cx<'_>) {
        self.judge_own_clock(cx);
        let now = self.believed(cx.now);
        let Some(seen) = self.time.seen.replace(now) else { return };
        let expected = seen.wall + now.mono.since(seen.mono);
        if expected.millis_after(now.wall) < STEP_MIN.as_millis() as i64 {
            return;
        }
        let dropped = self.store.drop_future(&self.me.node, now.wall + self.time.skew_max);
        if dropped > 0 {
            self.disown_taken();
            cx.notice(Notice::FutureDropped { entries: dropped });
        }
    }

    fn want_mark(&mut self, cx: &mut Cx<'_>) {
        let wall = self.time.trusted(cx.now);
        if let Some(mark) = self.time.clock.wants_mark(wall) {
            let write = self.write(cx, vec![Record::ClockMark(mark)]);
            self.time.marks.push_back((write, mark));
        }
    }

    pub(super) fn on_time_durable(&mut self, cx: &mut Cx<'_>) {
        while let Some((_, mark)) = self.time.marks.front().copied().filter(|(write, _)| self.writes.is_durable(*write))
        {
            self.time.marks.pop_front();
            self.time.clock.on_durable(mark);
        }
        if self.start.is_none()
            && let Some(start) = self.issue(cx)
        {
            (self.start, self.began) = (Some(start), Some(self.time.trusted(cx.now)));
            // What the store gave back from beyond our mark was stamped in a future that we have left since.
            let dropped = self.store.drop_after(&self.me.node, start);
            self.publish_anew(cx, dropped);
            self.publish_self(cx, false);
            self.rescope_own(cx);
            self.sessions.begin(cx, start);
        }
        self.publish_unstamped(cx);
    }

    /// A neighbour told its wall clock: judge ours by the median of all.
    pub(super) fn on_clock_offset(&mut self, cx: &mut Cx<'_>, node: NodeId, offset_ms: i64) {
        self.time.set_offset(cx.now, node, offset_ms);
        self.judge_own_clock(cx);
        let agreed = self.time.is_off(cx.now) || !self.time.differs(cx.now);
        if agreed && self.time.last().wall() > self.time.trusted(cx.now) + self.time.skew_max {
            self.restart_clock(cx);
        }
    }

    /// Says so when our wall clock becomes too far off to be used, or fit again.
    fn judge_own_clock(&mut self, cx: &mut Cx<'_>) {
        let off = self.time.is_off(cx.now);
        match (std::mem::replace(&mut self.time.unused, off), off) {
            (false, true) => cx.notice(Notice::ClockOff { offset_ms: self.time.median(cx.now).unwrap_or(0) }),
            (true, false) => cx.notice(Notice::ClockBack),
            _ => {}
        }
    }

    /// The clock stands in a future that everybody refuses: drops what it stamped there, and stamps it anew.
    fn restart_clock(&mut self, cx: &mut Cx<'_>) {
        let trusted = self.time.trusted(cx.now);
        let bound = Hlc::new(trusted + self.time.skew_max, u16::MAX);
        let dropped = self.store.drop_after(&self.me.node, bound);
        self.disown_taken();
        self.time.clock.reset(trusted, bound);
        // What stays is not to be replaced by lower stamps.
        if let Some(newest) = self.store.of_origin(&self.me.node).map(|(_, entry)| entry.stamp).max() {
            self.time.clock.observe(newest);
        }
        self.time.marks.clear();
        cx.notice(Notice::ClockReset);
        let replaced = dropped.iter().map(|(key, _)| &key.channel).collect();
        self.refuse_stamped_after(cx, bound, &replaced);
        self.publish_anew(cx, dropped);
        self.publish_self(cx, false);
        self.want_mark(cx);
    }

    fn publish_anew(&mut self, cx: &mut Cx<'_>, dropped: Vec<(Key, Entry)>) {
        for (key, entry) in dropped {
            self.publish_scoped(cx, key.channel, entry.value, entry.scope);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::RegionId;

    #[test]
    fn the_median_is_of_what_each_neighbour_has_told_last() {
        let name = |text: &str| NodeId::new(text).unwrap();
        let params = Params::new("lab", name("me"), RegionId::new("main").unwrap(), "me".into());
        let mut time = Timekeeper::recover(&params, Hlc::ZERO);
        let now = Now { mono: Mono::from_micros(1), wall: Wall::from_millis(1_700_000_000_000) };
        assert_eq!(time.median(now), None);
        for (node, offset_ms) in [("a", 100), ("b", 500), ("c", -300), ("d", 900), ("e", 40)] {
            time.set_offset(now, name(node), offset_ms);
        }
        assert_eq!(time.median(now), Some(100));
        time.forget_offset(&name("d"));
        assert_eq!(time.median(now), Some(40), "of two in the middle the nearer");
        time.set_offset(now, name("e"), 700);
        assert_eq!(time.median(now), Some(100));
        time.set_offset(now, name("c"), 60);
        time.set_offset(now, name("d"), 20);
        assert_eq!(time.median(now), Some(100), "of five the third, though others are nearer to us");
    }
}
