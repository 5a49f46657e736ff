//! Links in use, by their number and by who is at the other end.

use std::collections::BTreeMap;

use crate::core::id::{LinkId, NodeId};
use crate::core::state::system::Addr;
use crate::core::time::Mono;

/// All links in use.
#[derive(Debug, Default)]
pub(super) struct Links {
    all: BTreeMap<LinkId, Neighbour>,
    by_node: BTreeMap<NodeId, LinkId>,
}

/// A peer on a link in use.
#[derive(Debug)]
pub(super) struct Neighbour {
    pub node: NodeId,
    pub addr: Addr,
    pub foreign: bool,
    /// We picked it.
    pub ours: bool,
    pub up: Mono,
    /// Until when a closed link answers our asking for it.
    pub asked: Mono,
    /// The link is made for a moment, and counts for nothing.
    pub passing: bool,
    /// We have given the link up ourselves.
    pub parting: bool,
}

impl Links {
    /// A link is in use.
    pub fn insert(&mut self, link: LinkId, neighbour: Neighbour) {
        self.by_node.insert(neighbour.node.clone(), link);
        self.all.insert(link, neighbour);
    }

    /// A link is in use no more.
    pub fn remove(&mut self, link: LinkId) -> Option<Neighbour> {
        let gone = self.all.remove(&link)?;
        if self.by_node.get(&gone.node) == Some(&link) {
            self.by_node.remove(&gone.node);
        }
        Some(gone)
    }

    /// Who is at the other end.
    pub fn get(&self, link: LinkId) -> Option<&Neighbour> {
        self.all.get(&link)
    }

    /// Who is at the other end, to note something of it.
    pub fn get_mut(&mut self, link: LinkId) -> Option<&mut Neighbour> {
        self.all.get_mut(&link)
    }

    /// The link to a node.
    pub fn to(&self, node: &NodeId) -> Option<LinkId> {
        self.by_node.get(node).copied()
    }

    /// True if there is a link to a node.
    pub fn has(&self, node: &NodeId) -> bool {
        self.by_node.contains_key(node)
    }

    /// True if somebody at this address is linked.
    pub fn has_addr(&self, addr: &Addr) -> bool {
        self.all.values().any(|neighbour| neighbour.addr == *addr)
    }

    /// True without a link.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All of them, in order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (LinkId, &Neighbour)> {
        self.all.iter().map(|(link, neighbour)| (*link, neighbour))
    }
}
