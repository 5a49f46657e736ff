//! A set of small numbers, one bit each.

/// Grows as far as its largest member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// True if `number` is in the set.
    pub fn has(&self, number: u32) -> bool {
        self.0.get(number as usize / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// Puts `number` in.
    pub fn set(&mut self, number: u32) {
        let at = number as usize / 64;
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        self.0[at] |= 1 << (number % 64);
    }

    /// Takes `number` out: whether it was in.
    pub fn clear(&mut self, number: u32) -> bool {
        let was = self.has(number);
        if was {
            self.0[number as usize / 64] &= !(1 << (number % 64));
        }
        was
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_in_the_set_from_set_to_clear() {
        let mut bits = Bits::default();
        assert!(!bits.has(200) && !bits.clear(200));
        bits.set(200);
        bits.set(3);
        assert!(bits.has(200) && bits.has(3) && !bits.has(201));
        assert!(bits.clear(200) && !bits.has(200) && bits.has(3));
    }
}
