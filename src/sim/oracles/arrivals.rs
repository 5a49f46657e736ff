//! How long updates take from their origin to every other node that is there all the while: within its region, and
//! across regions.
//!
//! As many updates are followed at a time as cost little; which ones is their writers' chance.

use std::collections::BTreeMap;

use crate::core::hlc::Hlc;
use crate::core::state::entry::{Entry, Key, Scope};

/// Updates followed at a time, of each scope.
const FOLLOWED_MAX: usize = 64;
/// How long each is followed, in microseconds.
const FOLLOW_US: u64 = 10_000_000;

/// Times of arrival, in microseconds, and nodes that were not reached in time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Times {
    /// From when an update was written to when another node held it or a newer one of its key.
    pub all_us: Vec<u32>,
    /// Nodes that held it too late or not at all, though they ran all the while.
    pub missed: u64,
}

impl Times {
    /// The time within which this share was reached, in milliseconds; `None` if fewer were.
    pub fn within_ms(&mut self, share: f64) -> Option<f64> {
        self.all_us.sort_unstable();
        let wanted = ((self.all_us.len() as u64 + self.missed) as f64 * share).ceil() as usize;
        self.all_us.get(wanted.max(1) - 1).map(|us| f64::from(*us) / 1e3)
    }

    /// Adds what another run measured.
    pub fn add(&mut self, other: &Self) {
        self.all_us.extend(&other.all_us);
        self.missed += other.missed;
    }
}

/// A node as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its region.
    pub region: &'a str,
    /// Since when it has been running, if it is.
    pub born: Option<u64>,
}

/// An update on its way.
#[derive(Clone, Debug)]
struct Followed {
    stamp: Hlc,
    scope: Scope,
    origin: usize,
    at: u64,
    arrived: BTreeMap<usize, u64>,
}

/// Updates on their way, and what has been measured.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    followed: BTreeMap<Key, Followed>,
    /// Nodes of the origin's region.
    pub near: Times,
    /// All others, where the update is for them.
    pub far: Times,
}

impl Arrivals {
    /// A node writes an entry of its own.
    pub fn written(&mut self, now: u64, origin: usize, key: &Key, entry: &Entry) {
        let same = self.followed.values().filter(|followed| followed.scope == entry.scope).count();
        if same < FOLLOWED_MAX && !self.followed.contains_key(key) {
            let followed =
                Followed { stamp: entry.stamp, scope: entry.scope, origin, at: now, arrived: BTreeMap::new() };
            self.followed.insert(key.clone(), followed);
        }
    }

    /// A node comes to hold another's entry.
    pub fn held(&mut self, now: u64, by: usize, key: &Key, entry: &Entry) {
        if let Some(followed) = self.followed.get_mut(key)
            && entry.stamp >= followed.stamp
        {
            followed.arrived.entry(by).or_insert(now - followed.at);
        }
    }

    /// True if an update has been followed for long enough.
    pub fn is_due(&self, now: u64) -> bool {
        self.followed.values().any(|followed| followed.at + FOLLOW_US <= now)
    }

    /// Counts what has been followed for long enough, over the nodes that ran all the while.
    pub fn settle(&mut self, now: u64, places: &[Place<'_>]) {
        let due: Vec<Key> =
            self.followed.iter().filter(|(_, f)| f.at + FOLLOW_US <= now).map(|(k, _)| k.clone()).collect();
        for followed in due.iter().filter_map(|key| self.followed.remove(key)) {
            let home = places[followed.origin].region;
            for (i, place) in places.iter().enumerate().filter(|(i, _)| *i != followed.origin) {
                let near = place.region == home;
                if place.born.is_none_or(|born| born > followed.at) || (!near && followed.scope == Scope::Region) {
                    continue;
                }
                let times = if near { &mut self.near } else { &mut self.far };
                match followed.arrived.get(&i) {
                    Some(us) if *us <= FOLLOW_US => times.all_us.push(*us as u32),
                    _ => times.missed += 1,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::{Channel, NodeId};
    use crate::core::reading::Reading;
    use crate::core::state::entry::Value;
    use crate::core::time::Wall;

    #[test]
    fn times_count_over_nodes_that_were_there_and_whom_the_update_is_for() {
        let node = NodeId::new("a1").unwrap();
        let key = |channel: &str| Key { origin: node.clone(), channel: Channel::new(channel).unwrap() };
        let entry = |time, scope| Entry {
            value: Value::of(&Reading::new(1.0, Wall::from_millis(1))),
            stamp: Hlc::from_bits(time),
            scope,
        };
        let mut arrivals = Arrivals::default();
        arrivals.written(1_000, 0, &key("far"), &entry(5, Scope::Global));
        arrivals.written(1_000, 0, &key("near"), &entry(5, Scope::Region));
        arrivals.held(3_000, 1, &key("near"), &entry(4, Scope::Region));
        arrivals.held(4_000, 1, &key("near"), &entry(6, Scope::Region));
        arrivals.held(5_000, 1, &key("near"), &entry(7, Scope::Region));
        arrivals.held(9_000, 2, &key("far"), &entry(5, Scope::Global));
        let place = |region, born| Place { region, born };
        let places = [place("a", Some(0)), place("a", Some(0)), place("b", Some(0)), place("b", None)];
        arrivals.settle(2_000_000, &places);
        assert_eq!(arrivals.near, Times::default(), "too early to count");
        arrivals.settle(20_000_000, &places);
        assert_eq!(arrivals.near, Times { all_us: vec![3_000], missed: 1 }, "a newer one is as good; one never came");
        assert_eq!(arrivals.far, Times { all_us: vec![8_000], missed: 0 });
        assert_eq!((arrivals.near.within_ms(0.5), arrivals.near.within_ms(0.99)), (Some(3.0), None));
    }
}
