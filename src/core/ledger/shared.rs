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
