//! How late push is: how long after they were written entries come by it.
//!
//! What a repair brings although push should have brought it says that a tree does not reach us, or that push is late
//! because there is more to do than processors for it. A tree that stands is not to be given up and flooded anew for
//! that: the floods make push later still, and it never comes back. So a parent is waited for in proportion to how
//! late push is.

use std::time::Duration;

/// One delivery's share in the mean, as a part of it.
const WEIGHT: u32 = 16;
/// So many times the mean lag push may take for one delivery among many.
const SPREAD: u32 = 4;
/// Nobody is waited for longer than so many times the least, whatever push does, and however wrong a clock is.
const LONGEST: u32 = 10;

/// The lag of push, and what follows from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lag {
    least: Duration,
    mean: Duration,
}

impl Lag {
    /// Nothing has come yet; nobody is waited for for less than `least`.
    pub fn new(least: Duration) -> Self {
        Self { least, mean: Duration::ZERO }
    }

    /// Something came by push so long after it was written, and was new.
    pub fn on_pushed(&mut self, lag: Duration) {
        self.mean = (self.mean * (WEIGHT - 1) + lag.min(self.least * LONGEST)) / WEIGHT;
    }

    /// Whether what has not come by push by the least time will not come.
    pub fn is_quick(&self) -> bool {
        self.mean * SPREAD <= self.least
    }

    /// How long to wait for what is missing before push is taken not to bring it.
    pub fn patience(&self) -> Duration {
        (self.mean * SPREAD).clamp(self.least, self.least * LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Patience in milliseconds when what was pushed came so late.
    fn patience(pushed: impl IntoIterator<Item = u64>) -> u128 {
        let mut lag = Lag::new(Duration::from_secs(1));
        pushed.into_iter().for_each(|late| lag.on_pushed(Duration::from_millis(late)));
        lag.patience().as_millis()
    }

    #[test]
    fn patience_follows_how_late_push_is_between_two_bounds() {
        assert_eq!(patience([]), 1_000);
        assert_eq!(patience([5; 100]), 1_000, "push is quick");
        let late = patience([1_500; 100]);
        assert!((5_900..=6_000).contains(&late), "four times as late: {late}");
        assert_eq!(patience([600_000; 200]), 10_000, "a bound that nothing lifts");
        assert_eq!(patience([600_000; 100].into_iter().chain([5; 100])), 1_000, "and it recovers");
    }

    #[test]
    fn push_is_quick_until_it_takes_a_quarter_of_the_least() {
        let is_quick = |late| {
            let mut lag = Lag::new(Duration::from_secs(1));
            (0..100).for_each(|_| lag.on_pushed(Duration::from_millis(late)));
            lag.is_quick()
        };
        assert_eq!((is_quick(200), is_quick(300)), (true, false));
    }

    #[test]
    fn one_late_delivery_among_quick_ones_changes_little() {
        assert!(patience([5, 5, 5, 5_000, 5]) < 1_500);
    }
}
