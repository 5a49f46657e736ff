//! Liveness: who is alive, suspect or dead.

use std::collections::BTreeMap;

use crate::core::cx::Cx;
use crate::core::id::{Channel, LinkId, NodeId};
use crate::core::message::Message;
use crate::core::message::session::Keepalive;
use crate::core::params::Params;
use crate::core::session::Peer;
use crate::core::state::entry::Value;
use crate::core::state::system::NodeInfo;
use crate::core::time::Mono;
use crate::core::view::Liveness as Life;

/// What liveness tells the node.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// A node's state changed.
    Changed { node: NodeId, state: Life },
    /// Write this of our own.
    Publish { channel: Channel, value: Value },
    /// Somebody doubts us: say who we are anew.
    Refute,
}

/// All members as this node sees them.
#[derive(Debug)]
pub struct Liveness {
    params: Params,
    members: BTreeMap<NodeId, MemberState>,
    links: BTreeMap<LinkId, Watched>,
    facts: Vec<Fact>,
}

#[derive(Debug)]
struct MemberState {
    state: Life,
    since: Mono,
    doubted: Option<Mono>,
}

#[derive(Debug)]
struct Watched {
    node: NodeId,
    heard: Mono,
    sent: Mono,
}

impl Liveness {
    /// Knows nobody.
    pub fn new(params: &Params) -> Self {
        Self { params: params.clone(), members: BTreeMap::new(), links: BTreeMap::new(), facts: Vec::new() }
    }

    /// Takes what happened since the last call, in order.
    pub fn take_facts(&mut self) -> Vec<Fact> {
        std::mem::take(&mut self.facts)
    }

    /// A node's state; `None` if it is not known.
    pub fn state_of(&self, node: &NodeId) -> Option<Life> {
        self.members.get(node).map(|member| member.state)
    }

    /// Since when it is in that state.
    pub fn since(&self, node: &NodeId) -> Option<Mono> {
        self.members.get(node).map(|member| member.since)
    }

    fn set(&mut self, now: Mono, node: &NodeId, state: Life) {
        let member =
            self.members.entry(node.clone()).or_insert(MemberState { state: Life::Left, since: now, doubted: None });
        if state == Life::Alive {
            member.doubted = None;
        }
        if member.state != state {
            (member.state, member.since) = (state, now);
            self.facts.push(Fact::Changed { node: node.clone(), state });
        }
    }

    /// A link is ready for use.
    pub fn on_link_up(&mut self, cx: &mut Cx<'_>, peer: &Peer) {
        let now = cx.now.mono;
        self.links.insert(peer.link, Watched { node: peer.node.clone(), heard: now, sent: now });
        self.set(now, &peer.node, Life::Alive);
    }

    /// A link is no longer in use.
    pub fn on_link_down(&mut self, cx: &mut Cx<'_>, link: LinkId) {
        let Some(watched) = self.links.remove(&link) else { return };
        if !self.links.values().any(|other| other.node == watched.node) {
            self.doubt(cx.now.mono, &watched.node);
        }
    }

    fn doubt(&mut self, now: Mono, node: &NodeId) {
        if self.state_of(node) == Some(Life::Alive) {
            self.set(now, node, Life::Suspect);
            if let Some(member) = self.members.get_mut(node) {
                member.doubted = Some(now);
            }
        }
    }

    /// Anything came on this link.
    pub fn on_frame(&mut self, cx: &mut Cx<'_>, link: LinkId) {
        let now = cx.now.mono;
        let Some(watched) = self.links.get_mut(&link) else { return };
        watched.heard = now;
        let node = watched.node.clone();
        if self.state_of(&node) == Some(Life::Suspect) {
            self.set(now, &node, Life::Alive);
        }
    }

    /// A member said who it is.
    pub fn on_member(&mut self, cx: &mut Cx<'_>, node: &NodeId, info: &NodeInfo) {
        self.set(cx.now.mono, node, if info.left { Life::Left } else { Life::Alive });
    }

    /// A node's entries were forgotten.
    pub fn on_forgotten(&mut self, node: &NodeId) {
        self.members.remove(node);
    }

    /// When liveness next wants attention.
    pub fn deadline(&self) -> Mono {
        let idle = |w: &Watched| {
            (w.sent + self.params.liveness.keepalive_interval).min(w.heard + self.params.liveness.silence_max)
        };
        let doubt = |m: &MemberState| m.doubted.map_or(Mono::NEVER, |at| at + self.params.liveness.suspicion_timeout);
        let links = self.links.values().map(idle).min().unwrap_or(Mono::NEVER);
        links.min(self.members.values().map(doubt).min().unwrap_or(Mono::NEVER))
    }

    /// Acts on whatever is due.
    pub fn on_deadline(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        let mut silent = Vec::new();
        for (link, watched) in &mut self.links {
            if watched.sent + self.params.liveness.keepalive_interval <= now {
                watched.sent = now;
                cx.send(*link, Message::Keepalive(Keepalive {}));
            }
            if watched.heard + self.params.liveness.silence_max <= now {
                watched.heard = now;
                silent.push(watched.node.clone());
            }
        }
        for node in silent {
            self.doubt(now, &node);
        }
        let timeout = self.params.liveness.suspicion_timeout;
        let overdue = |m: &MemberState| m.doubted.is_some_and(|at| at + timeout <= now);
        let dead: Vec<NodeId> = self.members.iter().filter(|(_, m)| overdue(m)).map(|(n, _)| n.clone()).collect();
        for node in dead {
            self.set(now, &node, Life::Dead);
            if let Some(member) = self.members.get_mut(&node) {
                member.doubted = None;
            }
        }
    }
}
