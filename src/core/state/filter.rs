//! What a set holds, told approximately in a few bits each: a Bloom filter of fingerprints.
//!
//! Two sets that differ in more than their symbols can tell are not sent whole for that: each sends what is not in
//! the other's filter. The few that a filter claims by mistake are found by the next comparison, whose filter is
//! salted anew.
//!
//! Source: Bloom, CACM 1970; two hashes for all probes: Kirsch and Mitzenmacher, ESA 2006.

/// A set's filter. The empty one holds nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    bits: Vec<u8>,
    salt: u64,
}

/// Bits for each member where there is room: three in a thousand strangers pass.
const BITS: usize = 12;
/// Of a handful of members the few bits set would be told by chance too often.
const BYTES_MIN: usize = 32;
/// Bits that a member sets.
const PROBES: u64 = 8;

impl Filter {
    /// The filter of `n` members, in at most `bytes_max` bytes: what is beyond lets more strangers pass.
    pub fn of(n: usize, bytes_max: usize, salt: u64, members: impl Iterator<Item = u64>) -> Self {
        let fitting = n.saturating_mul(BITS).div_ceil(8).max(BYTES_MIN);
        let bytes = if n == 0 { 0 } else { fitting.min(bytes_max) };
        let mut filter = Self { bits: vec![0; bytes], salt };
        for member in members {
            for bit in filter.probes(member) {
                filter.bits[bit / 8] |= 1 << (bit % 8);
            }
        }
        filter
    }

    /// A filter from its bytes as they travelled.
    pub fn from_bytes(bits: Vec<u8>, salt: u64) -> Self {
        Self { bits, salt }
    }

    /// Its bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bits
    }

    /// False if the fingerprint is certainly not a member's.
    pub fn holds(&self, fingerprint: u64) -> bool {
        !self.bits.is_empty() && self.probes(fingerprint).all(|bit| self.bits[bit / 8] >> (bit % 8) & 1 == 1)
    }

    /// Bits that stand for a fingerprint; none in an empty filter.
    fn probes(&self, fingerprint: u64) -> impl Iterator<Item = usize> + use<> {
        let bits = self.bits.len() as u64 * 8;
        // Fingerprints are hashes already; the salt must reach all bits of both halves.
        let mixed = (fingerprint ^ self.salt.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let (first, step) = (mixed >> 32, (mixed ^ (mixed >> 29)) & 0xffff_ffff | 1);
        let probe = move |i: u64| ((first.wrapping_add(i * step) & 0xffff_ffff) * bits) >> 32;
        (0..if bits == 0 { 0 } else { PROBES }).map(move |i| probe(i) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rng::Rng;

    #[test]
    fn members_are_held_and_few_strangers_are() {
        let mut rng = Rng::new(1);
        for n in [1, 10, 1_000, 20_000] {
            let members: Vec<u64> = (0..n).map(|_| rng.bits()).collect();
            let filter = Filter::of(n, usize::MAX, 7, members.iter().copied());
            let filter = Filter::from_bytes(filter.into_bytes(), 7);
            assert!(members.iter().all(|member| filter.holds(*member)));
            let passed = (0..10_000).filter(|_| filter.holds(rng.bits())).count();
            assert!(passed <= 100, "{passed} of 10000 strangers pass the filter of {n}");
        }
        assert!(!Filter::default().holds(7));
    }

    #[test]
    fn a_stranger_does_not_pass_the_next_filter() {
        let mut rng = Rng::new(2);
        let members: Vec<u64> = (0..5_000).map(|_| rng.bits()).collect();
        let [first, second] = [1, 2].map(|salt| Filter::of(members.len(), usize::MAX, salt, members.iter().copied()));
        let strangers: Vec<u64> = (0..100_000).map(|_| rng.bits()).filter(|bits| first.holds(*bits)).collect();
        assert!(strangers.len() > 100, "{}", strangers.len());
        let again = strangers.iter().filter(|stranger| second.holds(**stranger)).count();
        assert!(again * 20 < strangers.len(), "{again} of {} pass both", strangers.len());
    }
}
