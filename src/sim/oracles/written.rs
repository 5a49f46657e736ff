//! What is written while everybody is to become equal: regions commit on and say so, so that among many of them there may
//! be no moment at which nothing is on its way.

use std::collections::{BTreeMap, VecDeque};

use crate::core::hlc::Hlc;
use crate::core::state::entry::Key;

/// Time that what is written may be on its way, in microseconds.
const ON_ITS_WAY_US: u64 = 1_000_000;

/// Writes by key, in order, each with its stamp and when it was.
#[derive(Debug, Default)]
pub(crate) struct Written(BTreeMap<Key, VecDeque<(Hlc, u64)>>);

impl Written {
    /// An origin writes.
    pub fn note(&mut self, now: u64, key: &Key, stamp: Hlc) {
        let writes = self.0.entry(key.clone()).or_default();
        writes.push_back((stamp, now));
        // Of those that everybody is to hold by now the newest is enough.
        while writes.get(1).is_some_and(|(_, at)| at + ON_ITS_WAY_US <= now) {
            writes.pop_front();
        }
    }

    /// True if somebody may hold this stamp of a key, or nothing under it, while others hold something newer: nothing newer
    /// has been written for long enough to have arrived.
    pub fn may_lag(&self, now: u64, key: &Key, held: Option<Hlc>) -> bool {
        let Some(writes) = self.0.get(key) else { return false };
        let settled = writes.iter().rev().find(|(_, at)| at + ON_ITS_WAY_US <= now);
        settled.is_none_or(|(stamp, _)| held >= Some(*stamp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::{Channel, NodeId};
    use crate::core::time::Wall;

    #[test]
    fn whoever_holds_what_was_written_a_second_ago_may_lack_what_came_since() {
        let key = Key::new(NodeId::new("gw-1").unwrap(), Channel::new("@checkpoint").unwrap());
        let stamp = |n: u64| Hlc::new(Wall::from_millis(n), 0);
        let mut written = Written::default();
        assert!(!written.may_lag(0, &key, Some(stamp(1))), "nothing was written");
        written.note(0, &key, stamp(10));
        assert!(written.may_lag(999_999, &key, None));
        assert!(!written.may_lag(1_000_000, &key, None) && !written.may_lag(1_000_000, &key, Some(stamp(9))));
        written.note(900_000, &key, stamp(20));
        written.note(1_800_000, &key, stamp(30));
        assert!(written.may_lag(1_850_000, &key, Some(stamp(10))));
        assert!(!written.may_lag(1_900_000, &key, Some(stamp(10))));
        assert!(written.may_lag(1_900_000, &key, Some(stamp(20))));
    }
}
