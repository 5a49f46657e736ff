//! Dials under way, the addresses nobody is to dial, and when somebody is dialed again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::cx::Cx;
use crate::core::effect::Effect;
use crate::core::id::{LinkId, NodeId};
use crate::core::rng::Rng;
use crate::core::state::system::Addr;
use crate::core::time::Mono;

/// A dial under way counts as the neighbour it is to become for so long.
pub(super) const COUNTS_FOR: Duration = Duration::from_secs(1);

/// Dials under way, and those that stand, by the address that was dialed.
#[derive(Debug)]
pub(super) struct Dials {
    all: BTreeMap<Addr, Dial>,
    /// Addresses found to be our own.
    own: BTreeSet<Addr>,
}

#[derive(Debug)]
struct Dial {
    node: Option<NodeId>,
    since: Mono,
    link: Option<LinkId>,
    /// How often that neighbour has been dialed before, if it is one whose link broke.
    lost: Option<usize>,
}

/// When somebody is dialed again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Retry {
    pub due: Mono,
    wait: Duration,
}

impl Dials {
    /// None yet; `own` is where we are dialed ourselves.
    pub fn new(own: Addr) -> Self {
        Self { all: BTreeMap::new(), own: BTreeSet::from([own]) }
    }

    /// Dials an address, at which `node` is thought to be.
    pub fn dial(&mut self, cx: &mut Cx<'_>, addr: Addr, node: Option<NodeId>) {
        self.all.insert(addr.clone(), Dial { node, since: cx.now.mono, link: None, lost: None });
        cx.fx.push(Effect::Dial { addr });
    }

    /// Dials a neighbour whose link broke, after so many tries.
    pub fn dial_lost(&mut self, cx: &mut Cx<'_>, addr: Addr, node: NodeId, tries: usize) {
        let since = cx.now.mono;
        self.all.insert(addr.clone(), Dial { node: Some(node), since, link: None, lost: Some(tries) });
        cx.fx.push(Effect::Dial { addr });
    }

    /// A dial went through.
    pub fn on_connected(&mut self, link: LinkId, addr: &Addr) {
        if let Some(dial) = self.all.get_mut(addr) {
            dial.link = Some(link);
        }
    }

    /// A connection is gone: to which lost neighbour it was dialed, and after how many tries, if it was.
    pub fn on_disconnected(&mut self, link: LinkId) -> Option<(NodeId, usize)> {
        let addr = self.all.iter().find(|(_, dial)| dial.link == Some(link)).map(|(addr, _)| addr.clone())?;
        let dial = self.all.remove(&addr)?;
        Some((dial.node?, dial.lost?))
    }

    /// A dial failed: who was thought to be there, and since when it was dialed, if this is a dial of ours.
    pub fn on_failed(&mut self, addr: &Addr) -> Option<(Option<NodeId>, Mono)> {
        self.all.remove(addr).map(|dial| (dial.node, dial.since))
    }

    /// This address is our own.
    pub fn on_self_dialed(&mut self, addr: &Addr) {
        self.all.remove(addr);
        self.own.insert(addr.clone());
    }

    /// True for our own address, and for one that is dialed already.
    pub fn is_busy(&self, addr: &Addr) -> bool {
        self.own.contains(addr) || self.all.contains_key(addr)
    }

    /// How many are of late and may yet become a neighbour.
    pub fn fresh(&self, now: Mono, is_in_use: impl Fn(LinkId) -> bool) -> usize {
        let fresh = |dial: &&Dial| dial.since + COUNTS_FOR > now && !dial.link.is_some_and(&is_in_use);
        self.all.values().filter(fresh).count()
    }

    /// How many have become no neighbour yet.
    pub fn pending(&self, is_in_use: impl Fn(LinkId) -> bool) -> usize {
        self.all.values().filter(|dial| !dial.link.is_some_and(&is_in_use)).count()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }
}

impl Retry {
    /// Waits twice as long as the last time, with jitter.
    pub fn put_off(&mut self, now: Mono, rng: &mut Rng, least: Duration, most: Duration) {
        self.wait = (self.wait * 2).clamp(least, most);
        self.due = now + rng.between(self.wait / 2, self.wait * 3 / 2);
    }
}
