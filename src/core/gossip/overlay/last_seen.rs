//! Where members were last seen: addresses that outlive the process, for a node that comes back when every bootstrap
//! peer is elsewhere (section 3).
//!
//! Decides which few of them are kept, and when they are written. Whom to dial is the overlay's business.
//!
//! Invariants: bounded, whatever the number of members; a list that has not changed is not written.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::id::NodeId;
use crate::core::state::system::Addr;
use crate::core::time::Mono;

/// Members kept.
pub(super) const KEPT: usize = 32;
/// What changes within this time is written at once: a node that joins learns of all the others in a moment.
const WRITE_DELAY: Duration = Duration::from_secs(1);

/// Some of the members and their addresses.
#[derive(Debug)]
pub(super) struct LastSeen {
    addrs: BTreeMap<NodeId, Addr>,
    changed: bool,
    write_due: Mono,
}

impl LastSeen {
    /// What the store gave back.
    pub fn recover(addrs: BTreeMap<NodeId, Addr>) -> Self {
        Self { addrs, changed: false, write_due: Mono::NEVER }
    }

    /// True if there is something to write.
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// A member is there. It is kept if there is room, or if one that is kept gives way to it.
    pub fn note(&mut self, node: &NodeId, addr: &Addr, gives_way: impl Fn(&NodeId) -> bool) {
        if self.addrs.contains_key(node) {
            return self.on_moved(node, addr);
        }
        if self.addrs.len() >= KEPT {
            let Some(gone) = self.addrs.keys().find(|kept| gives_way(kept)).cloned() else { return };
            self.addrs.remove(&gone);
        }
        self.addrs.insert(node.clone(), addr.clone());
        self.changed = true;
    }

    /// A member is elsewhere.
    pub fn on_moved(&mut self, node: &NodeId, addr: &Addr) {
        if let Some(kept) = self.addrs.get_mut(node)
            && kept != addr
        {
            *kept = addr.clone();
            self.changed = true;
        }
    }

    /// A member is none any more.
    pub fn on_forgotten(&mut self, node: &NodeId) {
        self.changed |= self.addrs.remove(node).is_some();
    }

    /// What is to be written now; or when to ask again.
    pub fn take_due(&mut self, now: Mono) -> Result<BTreeMap<NodeId, Addr>, Mono> {
        if !self.changed {
            return Err(Mono::NEVER);
        }
        if self.write_due == Mono::NEVER {
            self.write_due = now + WRITE_DELAY;
        }
        if self.write_due > now {
            return Err(self.write_due);
        }
        (self.changed, self.write_due) = (false, Mono::NEVER);
        Ok(self.addrs.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> NodeId {
        NodeId::new(&format!("n{n:02}")).unwrap()
    }

    fn noted(n: usize) -> LastSeen {
        let mut seen = LastSeen::recover(BTreeMap::new());
        (0..n).for_each(|n| seen.note(&name(n), &"a:1".into(), |_| false));
        seen
    }

    fn written(seen: &mut LastSeen, at: u64) -> Option<BTreeMap<NodeId, Addr>> {
        seen.take_due(Mono::from_micros(at * 1_000_000)).ok()
    }

    #[test]
    fn what_changes_is_written_once_and_what_does_not_never() {
        let mut seen = noted(3);
        assert_eq!(written(&mut seen, 10), None, "others may follow at once");
        assert_eq!(written(&mut seen, 11).map(|all| all.len()), Some(3));
        seen.note(&name(1), &"a:1".into(), |_| true);
        seen.on_forgotten(&name(7));
        assert_eq!(seen.take_due(Mono::from_micros(u64::MAX / 2)), Err(Mono::NEVER));
        seen.note(&name(1), &"b:1".into(), |_| false);
        seen.on_forgotten(&name(0));
        assert_eq!(written(&mut seen, 20), None);
        let kept = BTreeMap::from([(name(1), "b:1".into()), (name(2), "a:1".into())]);
        assert_eq!(written(&mut seen, 21), Some(kept));
    }

    #[test]
    fn only_so_many_are_kept_and_some_give_way() {
        let mut seen = noted(KEPT + 5);
        assert_eq!(seen.addrs.len(), KEPT);
        seen.note(&name(90), &"a:1".into(), |kept| *kept == name(4));
        assert_eq!(seen.addrs.len(), KEPT);
        assert!(seen.addrs.contains_key(&name(90)) && !seen.addrs.contains_key(&name(4)));
    }

    #[test]
    fn forgetting_one_takes_back_no_other_change_and_is_one_itself() {
        let mut seen = noted(2);
        seen.on_forgotten(&name(7));
        assert!(seen.is_changed());
        assert_eq!(written(&mut seen, 10), None);
        assert_eq!(written(&mut seen, 11).map(|all| all.len()), Some(2));
        assert!(!seen.is_changed());
        seen.on_forgotten(&name(0));
        assert!(seen.is_changed());
    }
}
