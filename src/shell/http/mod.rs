//! The HTTP API beside the peer port, which `sensorctl` itself uses.

pub mod model;
