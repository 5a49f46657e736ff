//! Documents at hand anywhere in this process: of the many nodes that may run in it, as in a simulation, all but the
//! first to read one share it.
//!
//! Holds nothing itself, and changes nothing but how long reading takes: what is found has the very same bytes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use crate::core::id::Hash;
use crate::core::ledger::document::Sealed;

/// Entries before the first look for those that are gone.
const LOOK_AT_LEAST: usize = 64;

struct Shared {
    held: BTreeMap<Hash, Weak<Sealed>>,
    look_at: usize,
}

static SHARED: Mutex<Shared> = Mutex::new(Shared { held: BTreeMap::new(), look_at: LOOK_AT_LEAST });

fn shared() -> MutexGuard<'static, Shared> {
    SHARED.lock().expect("no holder panics")
}

/// The document of this hash, if somebody holds it.
pub(super) fn find(hash: Hash) -> Option<Arc<Sealed>> {
    shared().held.get(&hash)?.upgrade()
}

/// Lets others find this document for as long as somebody holds it.
pub(super) fn offer(hash: Hash, document: &Arc<Sealed>) {
    let mut shared = shared();
    shared.held.insert(hash, Arc::downgrade(document));
    if shared.held.len() >= shared.look_at {
        shared.held.retain(|_, held| held.strong_count() > 0);
        shared.look_at = (2 * shared.held.len()).max(LOOK_AT_LEAST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::{NodeId, RegionId, StoreId, Voter};
    use crate::core::ledger::document::Document;

    fn made(n: usize) -> Document {
        let voter = Voter { node: NodeId::new("a").unwrap(), store: StoreId(1) };
        let main = RegionId::new("main").unwrap();
        Document::genesis(&format!("shared-{n}"), BTreeMap::from([(main, vec![voter])])).unwrap()
    }

    #[test]
    fn what_is_held_is_found_and_what_is_gone_is_not_even_noted_for_ever() {
        let held = made(0);
        let gone = made(1).hash();
        // Other tests may offer meanwhile: so many more are enough for a look, whoever makes them.
        let until = shared().look_at;
        (2..until + 2).for_each(|n| drop(made(n)));
        assert!(find(held.hash()).is_some());
        let noted = shared().held.contains_key(&gone);
        assert!(!noted);
    }
}
