//! Panics of the store's library over a damaged file, caught where a store is read first.
//!
//! redb finds most damage by its checksums and says so; over some bytes it panics. A process that ends there would end
//! at every start, so what panics while a store is taken up counts as corrupt, and the store is set aside (C11). Any
//! other panic is a broken invariant and ends the process: see [`abort_on_panic`].

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

thread_local! {
    /// Whether this thread is taking up a store.
    static TAKING_UP: Cell<bool> = const { Cell::new(false) };
}

/// Ends the process at every panic but those that [`guarded`] catches. Called once, by the program.
pub fn abort_on_panic() {
    let report = take_hook();
    set_hook(Box::new(move |panic| {
        if TAKING_UP.get() {
            return;
        }
        report(panic);
        std::process::abort();
    }));
}

/// Runs what reads a store for the first time.
///
/// # Errors
/// What the panic said. Nothing of what `read` made is left.
pub(super) fn guarded<T>(read: impl FnOnce() -> T) -> Result<T, String> {
    let before = TAKING_UP.replace(true);
    // Nothing outlives a panic: the database and all that was read of it are dropped on the way out.
    let done = catch_unwind(AssertUnwindSafe(read));
    TAKING_UP.set(before);
    done.map_err(|panic| words(&*panic))
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no words".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_words() {
        assert_eq!(guarded(|| 7), Ok(7));
        assert_eq!(guarded(|| panic!("page {}", 3)), Err::<(), _>("page 3".to_owned()));
        assert!(!TAKING_UP.get());
    }
}
