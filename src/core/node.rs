//! The node: owns the state, composes the machines, and routes their facts.

use crate::core::effect::Effect;
use crate::core::event::Event;
use crate::core::hard_state::{Recovered, StoreIdentity};
use crate::core::params::Params;
use crate::core::rng::Rng;
use crate::core::time::{Mono, Now};

/// One sensor gateway, without the world around it.
pub struct Node {
    params: Params,
    rng: Rng,
}

impl Node {
    /// Starts a node on what its store gave back; a fresh node recovers from nothing.
    ///
    /// Call [`Node::handle`] with `Event::Wake` next: it asks for the first writes and connections.
    pub fn recover(params: Params, identity: StoreIdentity, recovered: Recovered, seed: u64, now: Now) -> Self {
        let _ = (identity, recovered, now);
        Self { params, rng: Rng::new(seed) }
    }

    /// Takes note of one event and appends what the world is to do about it to `fx`, in order.
    pub fn handle(&mut self, event: Event, now: Now, fx: &mut Vec<Effect>) {
        let _ = (event, now, fx, &mut self.rng);
    }

    /// The instant at which `Event::Wake` is due; calling earlier or later is harmless.
    pub fn deadline(&self) -> Mono {
        Mono::NEVER
    }

    /// What the node was told before it started.
    pub fn params(&self) -> &Params {
        &self.params
    }
}
