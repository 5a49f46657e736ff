//! The simulator: real [`crate::core::node::Node`]s under virtual time, one seed and faults of every kind.
//!
//! Nothing here asks a clock, a socket or a file: time is a number, chance is a seed, disks and links are
//! models. Reading order: what can go wrong ([`fault`]), under which settings ([`scenario`], [`swarm`]), the models
//! ([`clock`], [`disk`], [`network`]), the loop ([`cluster`] with [`inject`], [`load`] and [`phases`]), and the
//! judges ([`oracles`]). Beside them, without faults and judges: [`crowd`], very many nodes, and [`flood`], a model of more.
//!
//! Invariant: a scenario and a seed decide everything; two runs of them leave the same [`trace`].

pub mod fault;
pub mod scenario;
pub mod swarm;
pub mod queue;
pub mod clock;
pub mod disk;
pub mod network;
pub mod trace;
pub mod oracles;
pub mod cluster;
mod inject;
mod load;
mod phases;
pub mod minimize;
pub mod model;
pub mod crowd;
pub mod flight;
pub mod flood;
