//! The ledger: checkpoint documents, each naming its parent by hash, and the snapshot bodies they name.
//!
//! Who may add to it is `consensus`'s business; here is only what the bytes are.

pub mod body;
pub mod difference;
pub mod document;
mod shared;
