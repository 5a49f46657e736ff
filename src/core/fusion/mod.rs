//! Fusion: one answer from many sensors, and how sure it is, although some of them lie.
//!
//! Arithmetic only: no clock, no messages, no chance. Times are arguments. Only `+ - * /`, `sqrt` and comparisons
//! are used, which IEEE 754 rounds in one way, and every order in which numbers are added is fixed; so what is
//! agreed upon is the same to the bit wherever it is computed again.
//!
//! Reading order: [`interval`] what holds the truth while at most F of n are wrong, [`robust`] where the middle is
//! and how wide, [`partial`] what can be merged, [`estimate`] the answer, [`params`] who belongs together,
//! [`groups`] keeping that up to date reading by reading, [`document`] what checkpoints and summaries carry,
//! [`diagnosis`] what is wrong with one sensor, [`smooth`] an estimate over time, [`units`] degrees to degrees.

pub mod interval;
pub mod robust;
pub mod grid;
pub mod partial;
pub mod estimate;
pub mod units;
pub mod params;
pub mod groups;
pub mod document;
pub mod diagnosis;
pub mod smooth;
