//! The states seen so far: fingerprints in one flat table, 16 bytes each and a third of room to grow.

/// A set of fingerprints, which are well mixed: their own low bits say where they stand.
pub struct Seen {
    /// Zero where nothing stands. Its length is a power of two.
    slots: Vec<u128>,
    len: usize,
}

impl Seen {
    /// An empty set.
    pub fn new() -> Self {
        Self { slots: vec![0; 1 << 12], len: 0 }
    }

    /// Takes a fingerprint in; false if it was there.
    pub fn insert(&mut self, print: u128) -> bool {
        if 4 * self.len >= 3 * self.slots.len() {
            self.grow();
        }
        // The one print that means nothing is taken for its neighbour.
        let print = print.max(1);
        let slot = self.slot_of(print);
        let new = self.slots[slot] == 0;
        self.slots[slot] = print;
        self.len += usize::from(new);
        new
    }

    /// Where it stands, or would.
    fn slot_of(&self, print: u128) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = print as usize & mask;
        while self.slots[slot] != 0 && self.slots[slot] != print {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn grow(&mut self) {
        let double = vec![0; 2 * self.slots.len()];
        let old = std::mem::replace(&mut self.slots, double);
        for print in old.into_iter().filter(|print| *print != 0) {
            let slot = self.slot_of(print);
            self.slots[slot] = print;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rng::Rng;

    #[test]
    fn what_was_seen_is_known_and_what_was_not_is_new() {
        let (mut seen, mut rng, mut other) = (Seen::new(), Rng::new(1), Rng::new(1));
        let draw = |rng: &mut Rng| u128::from(rng.bits()) << 64 | u128::from(rng.bits());
        assert!((0..50_000).all(|_| seen.insert(draw(&mut rng))), "through several doublings");
        assert!((0..50_000).all(|_| !seen.insert(draw(&mut other))));
        assert!(seen.insert(draw(&mut rng)));
    }
}
