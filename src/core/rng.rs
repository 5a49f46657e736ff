//! Chance: one seeded generator, named by its algorithm (xoshiro256++), handed to whoever draws.
//!
//! The same seed gives the same draws on every platform and release; nothing else in the core is random.

use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng};

/// The generator. Cloning it repeats the draws; [`Rng::fork`] makes an independent one.
#[derive(Clone, Debug)]
pub struct Rng(Xoshiro256PlusPlus);

impl Rng {
    /// Makes the generator that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// Makes an independent generator, advancing this one by one draw.
    pub fn fork(&mut self) -> Self {
        Self::new(self.bits())
    }

    /// Draws 64 uniform bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Draws uniformly from `0..n`; the bias is below 2^-32 for any `n` under 2^32.
    ///
    /// # Panics
    /// If `n` is zero: there is nothing to draw from.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "a draw needs at least one outcome");
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// Draws uniformly from `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with probability `p`; never for 0 or less, always for 1 or more.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Draws uniformly between two durations, in whole microseconds, `hi` excluded unless equal to `lo`.
    pub fn between(&mut self, lo: Duration, hi: Duration) -> Duration {
        let span = hi.saturating_sub(lo).as_micros() as usize;
        if span == 0 { lo } else { lo + Duration::from_micros(self.below(span) as u64) }
    }

    /// Picks one element; `None` from an empty slice.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { Some(&from[self.below(from.len())]) }
    }

    /// Puts the slice into a uniformly drawn order.
    pub fn shuffle<T>(&mut self, slice: &mut [T]) {
        for i in (1..slice.len()).rev() {
            slice.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same() {
        let (mut a, mut b) = (Rng::new(7), Rng::new(7));
        let draws: Vec<usize> = (0..100).map(|_| a.below(10)).collect();
        assert_eq!(draws, (0..100).map(|_| b.below(10)).collect::<Vec<_>>());
        assert!((0..10).all(|n| draws.contains(&n)));
    }

    #[test]
    fn draws_stay_in_range() {
        let mut rng = Rng::new(1);
        for _ in 0..1000 {
            assert!((0.0..1.0).contains(&rng.unit()));
            let d = rng.between(Duration::from_millis(5), Duration::from_millis(10));
            assert!((Duration::from_millis(5)..Duration::from_millis(10)).contains(&d));
        }
        assert!(!rng.chance(0.0));
        assert!(rng.chance(1.0));
    }
}
