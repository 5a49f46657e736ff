//! A distributed sensor-fusion system: gateways that share readings, agree on checkpoints, and say how sure they are.

#[cfg(feature = "shell")]
pub mod cli;
pub mod core;
#[cfg(feature = "shell")]
pub mod shell;
