//! What the node shows of itself and of the others.

use crate::core::consensus::Group;
use crate::core::hard_state::Position;
use crate::core::id::{GroupId, NodeId, Term};
use crate::core::ledger::document::Document;
use crate::core::node::Node;
use crate::core::time::Now;
use crate::core::view::{CheckpointView, GroupView, Liveness, MemberView, Role, View};

impl Node {
    /// A plain copy of what this node knows, as of now.
    pub fn view(&self, now: Now) -> View {
        View {
            cluster: self.sessions.cluster().filter(|_| self.group.is_some()),
            waiting_for: self.sessions.waiting_for(),
            refused: self.sessions.refused().map(str::to_owned),
            group: self.group_view(),
            members: self.member_views(now),
            entries: self.store.len(),
            readings: self.store.iter().filter(|(key, _)| !key.channel.is_system()).count(),
            converged: self.gossip.converged(),
            clock_offset_ms: self.time.median(),
            clock_unused: self.time.is_unused(),
            disk_wait: self.writes.oldest_wait(now.mono),
            refused_entries: self.refusals.iter().map(|(why, (n, who))| (*why, *n, who.clone())).collect(),
        }
    }

    /// What this node takes another for; `None` if it does not know it.
    pub fn life_of(&self, node: &NodeId) -> Option<Liveness> {
        self.liveness.state_of(node)
    }

    /// Keys that wait to be sent, in the outboxes of all links.
    pub fn waiting(&self) -> usize {
        self.gossip.waiting()
    }

    fn group_view(&self) -> GroupView {
        let checkpoint = |document: &Document| CheckpointView {
            position: Position { index: document.header().index, hash: document.hash() },
            taken_at: document.header().taken_at.time.wall(),
            counts: document.header().counts,
        };
        let group = self.group.as_ref();
        GroupView {
            id: GroupId::Region(self.params.region.clone()),
            role: group.map_or(Role::Observer, Group::role),
            term: group.map_or(Term(0), |group| group.hard().term),
            leader: self.leader().cloned(),
            voters: group.map(|group| group.voters().iter().cloned().collect()).unwrap_or_default(),
            checkpoint: group.and_then(Group::committed).map(checkpoint),
        }
    }

    fn member_views(&self, now: Now) -> Vec<MemberView> {
        let voters = self.group.as_ref().map(Group::voters);
        self.members()
            .map(|(node, info)| {
                let own = *node == self.me.node;
                let state = self.liveness.state_of(node).unwrap_or(Liveness::Dead);
                MemberView {
                    node: node.clone(),
                    store: info.store,
                    region: info.region,
                    addr: info.addr,
                    api: info.api,
                    version: info.version,
                    liveness: if own { Liveness::Alive } else { state },
                    voter: voters
                        .as_ref()
                        .is_some_and(|v| v.of_node(node).is_some_and(|voter| voter.store == info.store)),
                    entries: self.store.count_of(node),
                    last_heard: self.sessions.heard(node).map(|heard| now.mono.since(heard)),
                    clock_offset_ms: self.time.offset_of(node),
                    holds: self.group.as_ref().and_then(|group| group.holds(node)),
                }
            })
            .collect()
    }
}
