//! The replicated state: a last-writer-wins map with single writers.

pub mod entry;
pub mod system;
pub mod store;
