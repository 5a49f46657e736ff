//! Members of an earlier life of whom nobody has spoken in this one.
//!
//! Says whom of them to look for, where they were last seen, a few at a time: until somebody has been met, and from
//! then on those of whom nobody speaks. If all bootstrap peers are elsewhere, one of these may not be.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::gossip::overlay::dials::Retry;
use crate::core::id::NodeId;
use crate::core::params::Params;
use crate::core::rng::Rng;
use crate::core::state::system::Addr;
use crate::core::time::Mono;

/// Addresses at which members were last seen that are tried at a time: one answer is enough.
pub(super) const AT_ONCE: usize = 2;
/// How long the first peer has to say who else is there, before more of those addresses are tried.
pub(super) const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// Where members were last seen in an earlier life, as long as nobody has told us where they are in this one.
#[derive(Debug)]
pub(super) struct Untold {
    addrs: BTreeMap<NodeId, (Addr, Retry)>,
    due: Mono,
    /// No member that has been silent for so long is kept by anybody.
    until: Mono,
}

impl Untold {
    /// Nobody has been spoken of.
    pub fn new(last_seen: &BTreeMap<NodeId, Addr>) -> Self {
        let addrs = last_seen.iter().map(|(node, addr)| (node.clone(), (addr.clone(), Retry::default()))).collect();
        Self { addrs, due: Mono::ZERO, until: Mono::ZERO }
    }

    /// The first peer has been met.
    pub fn on_met(&mut self, now: Mono) {
        self.due = now + TOLD_WITHIN;
    }

    /// Somebody has said where a member is, or that it is none.
    pub fn on_told(&mut self, node: &NodeId) {
        self.addrs.remove(node);
    }

    /// Of how many nobody has spoken.
    pub fn len(&self) -> usize {
        self.addrs.len()
    }

    /// Whom to look for now, and when to ask again.
    pub fn take_due(
        &mut self,
        now: Mono,
        rng: &mut Rng,
        params: &Params,
        is_busy: impl Fn(&Addr) -> bool,
    ) -> (Vec<(NodeId, Addr)>, Mono) {
        if self.addrs.is_empty() {
            return (Vec::new(), Mono::NEVER);
        }
        if self.until == Mono::ZERO {
            self.until = now + params.retain;
        }
        if self.until <= now {
            self.addrs.clear();
            return (Vec::new(), Mono::NEVER);
        }
        let mut sought = Vec::new();
        if self.due <= now {
            let free = self.addrs.iter().filter(|(_, (addr, retry))| retry.due <= now && !is_busy(addr));
            let mut free: Vec<NodeId> = free.map(|(node, _)| node.clone()).collect();
            rng.shuffle(&mut free);
            let (least, most) = (params.gossip.redial_min * 2, params.gossip.redial_max);
            for node in free.into_iter().take(AT_ONCE) {
                let Some((addr, retry)) = self.addrs.get_mut(&node) else { continue };
                retry.put_off(now, rng, least, most);
                sought.push((node, addr.clone()));
            }
            self.due = now + params.gossip.redial_min;
        }
        let next = self.addrs.values().map(|(_, retry)| retry.due).min().unwrap_or(Mono::NEVER);
        (sought, next.max(self.due))
    }
}
