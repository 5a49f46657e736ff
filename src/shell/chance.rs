//! The only place that asks the operating system for chance: identities and seeds.

use rand::TryRng as _;
use rand::rngs::SysRng;

/// 128 random bits.
///
/// # Panics
/// If the operating system has no randomness to give, in which case no identity would be unique.
pub fn bits() -> u128 {
    let mut bytes = [0; 16];
    SysRng.try_fill_bytes(&mut bytes).expect("the operating system gives random bytes");
    u128::from_le_bytes(bytes)
}

/// A seed for a node's generator.
pub fn seed() -> u64 {
    bits() as u64
}
