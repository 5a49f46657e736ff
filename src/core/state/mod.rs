//! The replicated state: a last-writer-wins map with single writers.

pub mod entry;
pub mod filter;
pub mod sketch;
pub mod system;
mod prints;
mod shelf;
pub mod store;
