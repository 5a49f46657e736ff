//! Which mutant is switched on, and which switches have been passed. `tools/mutants/core/run` puts this into a copy of
//! the tree.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};

/// More than there are.
const MANY: usize = 8192;
/// Before the environment was read.
const UNKNOWN: u32 = u32::MAX;

static WHICH: AtomicU32 = AtomicU32::new(UNKNOWN);
static RECORDS: AtomicBool = AtomicBool::new(false);
static PASSED: [AtomicU8; MANY] = [const { AtomicU8::new(0) }; MANY];
static BEGIN: Once = Once::new();

unsafe extern "C" {
    fn atexit(callback: extern "C" fn()) -> i32;
    fn _exit(code: i32) -> !;
}

extern "C" fn tell() {
    if let Ok(path) = std::env::var("SWITCH_RECORD") {
        let passed = (0..MANY).filter(|n| PASSED[*n].load(Relaxed) > 0).map(|n| n.to_string());
        let _ = std::fs::write(path, passed.collect::<Vec<_>>().join("\n"));
    }
}

/// `SWITCH` is the mutant's number; with `SWITCH_RECORD` the numbers passed are written to that file at the end; with
/// `SWITCH_FAST` the first panic ends the process.
#[cold]
fn begin() {
    BEGIN.call_once(|| {
        if std::env::var_os("SWITCH_RECORD").is_some() {
            RECORDS.store(true, Relaxed);
            unsafe { atexit(tell) };
        }
        if std::env::var_os("SWITCH_FAST").is_some() {
            std::panic::set_hook(Box::new(|_| unsafe { _exit(101) }));
        }
        let which = std::env::var("SWITCH").ok().and_then(|text| text.parse().ok());
        WHICH.store(which.unwrap_or(0), Relaxed);
    });
}

/// Whether mutant `n` is switched on.
#[inline]
pub fn on(n: u32) -> bool {
    if WHICH.load(Relaxed) == UNKNOWN {
        begin();
    }
    if RECORDS.load(Relaxed) {
        PASSED[n as usize].store(1, Relaxed);
    }
    WHICH.load(Relaxed) == n
}
