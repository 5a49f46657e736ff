//! The core decides: pure, seeded, without I/O.
//!
//! Reading order is floor by floor; imports point down only.

// Floor 0: values.
pub mod time;
pub mod rng;
pub mod id;
pub mod hlc;
pub mod reading;
pub mod pattern;
pub mod lookup;
// Floor 1: data, no protocol.
pub mod voters;
pub mod fusion;
pub mod state;
pub mod ledger;
// Floor 2: vocabulary.
pub mod message;
pub mod hard_state;
pub mod notice;
pub mod work;
pub mod event;
pub mod effect;
pub mod params;
pub mod cx;
pub mod view;
pub mod writes;
// Floor 3: machines, which never know each other.
pub mod consensus;
pub mod archive;
pub mod session;
pub mod gossip;
pub mod liveness;
// Floor 4: what spans regions.
pub mod hierarchy;
// Floor 5: the whole.
pub mod node;
