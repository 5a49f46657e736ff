//! Waiting for exactly the moment at which something is due.

use crate::shell::clock::machine_micros;

/// Waits on this thread for a moment of the machine's monotonic clock; past ones at once.
///
/// The runtime's own timers go by whole milliseconds: too coarse for latencies of some hundred microseconds
/// that count from when a write was due.
pub fn wait_until(due_us: u64) {
    let due = libc::timespec { tv_sec: (due_us / 1_000_000) as _, tv_nsec: (due_us % 1_000_000 * 1000) as _ };
    while machine_micros() < due_us {
        sleep_until(&due);
    }
}

#[cfg(target_os = "linux")]
fn sleep_until(due: &libc::timespec) {
    // SAFETY: the pointer is to a timespec of the caller's; an early return is looked at by the caller.
    unsafe {
        libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, due, std::ptr::null_mut());
    }
}

#[cfg(not(target_os = "linux"))]
fn sleep_until(due: &libc::timespec) {
    let due_us = due.tv_sec as u64 * 1_000_000 + due.tv_nsec as u64 / 1000;
    std::thread::park_timeout(std::time::Duration::from_micros(due_us.saturating_sub(machine_micros())));
}

/// Asks the system not to lump this thread's wake-ups together with others' (50 µs by default on Linux).
pub fn be_punctual() {
    #[cfg(target_os = "linux")]
    // SAFETY: it takes numbers and changes this thread alone.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1, 0, 0, 0);
    }
}

/// Runs `work` on a thread of its own that may sleep.
///
/// # Panics
/// If `work` does.
pub async fn on_own_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let paced = move || {
        be_punctual();
        work()
    };
    tokio::task::spawn_blocking(paced).await.expect("the pacing thread does not panic")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_woken_early() {
        let due = machine_micros() + 2_000;
        wait_until(due);
        assert!(machine_micros() >= due);
        let before = machine_micros();
        wait_until(0);
        assert!(machine_micros() >= before, "the past is not waited for");
    }
}
