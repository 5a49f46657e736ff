//! The shell performs: clocks, sockets, files, sensors and HTTP around one or many nodes.

pub mod chance;
pub mod clock;
pub mod config;
pub mod fusion;
pub mod gateway;
pub mod http;
pub mod runtime;
pub mod sensors;
pub mod storage;
pub mod telemetry;
pub mod transport;
