//! A distributed sensor-fusion system: gateways that share readings, agree on checkpoints, and say how sure they are.
//!
//! Begin with [`docs::architecture`], then read [`core`] floor by floor; [`core::node::Node`] is the whole of it.
//! `shell` performs what the core decides, on real sockets, disks and clocks; `cli` is the program `sensorctl`.

#[cfg(feature = "shell")]
pub mod cli;
pub mod core;
pub mod docs;
#[cfg(feature = "shell")]
pub mod shell;
pub mod sim;
