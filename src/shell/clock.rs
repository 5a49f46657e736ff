//! The only place that asks a clock.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::core::time::{Mono, Now, Wall};

/// Monotonic and wall time of this process.
///
/// `offset_ms` shifts the wall reading: a test aid (`clock_offset` in a node's configuration) that shows
/// what a wrong clock does without touching the machine's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    offset_ms: i64,
}

/// Two readings no further apart are of one instant.
const TOGETHER: Duration = Duration::from_millis(1);
/// So often they are taken, at most.
const READINGS_MAX: usize = 10;

impl Clock {
    /// A clock whose wall reading is off by that many milliseconds.
    pub const fn new(offset_ms: i64) -> Self {
        Self { offset_ms }
    }

    /// Both readings, of one instant: a thread that is put aside between the two would seem to have its wall clock
    /// stepped back, so they are taken again if that took long.
    #[expect(clippy::disallowed_methods, reason = "time enters the program here and nowhere else")]
    pub fn now(&self) -> Now {
        let mut mono = origin().elapsed();
        let mut since_epoch = Duration::ZERO;
        for _ in 0..READINGS_MAX {
            since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let began = std::mem::replace(&mut mono, origin().elapsed());
            if mono - began < TOGETHER {
                break;
            }
        }
        let wall = (since_epoch.as_millis() as i64).saturating_add(self.offset_ms).max(0);
        Now { mono: Mono::from_micros(mono.as_micros() as u64), wall: Wall::from_millis(wall as u64) }
    }
}

/// Turns a monotonic reading of [`Clock`] into the runtime's.
pub fn instant(mono: Mono) -> Instant {
    let far = std::time::Duration::from_secs(365 * 24 * 3600);
    origin() + mono.since(Mono::ZERO).min(far)
}

/// The first question asked: monotonic readings count from it.
#[expect(clippy::disallowed_methods, reason = "time enters the program here and nowhere else")]
fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

/// Microseconds of the machine's monotonic clock: comparable between processes on one machine, and nowhere else.
pub fn machine_micros() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of our own.
    let known = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) } == 0;
    assert!(known, "every Unix has a monotonic clock");
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}
