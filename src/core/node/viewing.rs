//! What the node shows of itself and of the others.

use std::collections::BTreeSet;

use crate::core::consensus::Group;
use crate::core::hard_state::Position;
use crate::core::id::{GroupId, NodeId, RegionId, Term, Voter};
use crate::core::ledger::document::Document;
use crate::core::node::Node;
use crate::core::state::system::NodeInfo;
use crate::core::time::Now;
use crate::core::view::{CheckpointView, Footprint, GroupView, Liveness, MemberView, RegionView, Role, View};

impl Node {
    /// A plain copy of what this node knows, as of now.
    pub fn view(&self, now: Now) -> View {
        View {
            cluster: self.sessions.cluster(),
            waiting_for: self.sessions.waiting_for(),
            refused: self.sessions.refused().map(str::to_owned),
            group: self.group_view(),
            in_region: self.group.is_some(),
            top: self.top_view(),
            regions: self.region_views(),
            members: self.member_views(now),
            entries: self.store.len(),
            readings: self.store.iter().filter(|(key, _)| !key.channel.is_system()).count(),
            converged: self.gossip.converged(),
            clock_offset_ms: self.time.median(now),
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

    /// What this node holds in memory, counted.
    pub fn footprint(&self) -> Footprint {
        let groups = self.group.iter().chain(self.top());
        let mut footprint = Footprint {
            entries: self.store.len(),
            links: self.sessions.len(),
            requests: self.pending.requests(),
            unwritten: self.pending.unwritten(),
            held: groups.map(Group::held).sum(),
            relayed: self.hierarchy.as_ref().map_or(0, |hierarchy| hierarchy.under_way()),
            ..Footprint::default()
        };
        self.gossip.count(&mut footprint);
        self.liveness.count(&mut footprint);
        self.archive.count(&mut footprint);
        footprint
    }

    fn top_view(&self) -> Option<GroupView> {
        let group = self.top()?;
        Some(GroupView {
            id: GroupId::Top,
            role: group.role(),
            term: group.hard().term,
            leader: self.top_leader().cloned(),
            voters: group.voters().iter().cloned().collect(),
            checkpoint: group.committed().map(|document| checkpoint_view(document, &GroupId::Top)),
        })
    }

    /// What is known of every region: of our own at first hand, of the others by their word.
    fn region_views(&self) -> Vec<RegionView> {
        let own = self.group_view();
        let own = RegionView {
            id: self.params.region.clone(),
            leader: own.leader,
            term: own.term,
            checkpoint: own.checkpoint,
            voters: own.voters,
            top_voters: Vec::new(),
            observers: None,
        };
        let Some(hierarchy) = &self.hierarchy else { return vec![own] };
        let present = hierarchy.group().voters();
        let said = hierarchy.regions();
        let view = |(region, voters): (&RegionId, &BTreeSet<Voter>)| {
            let top_voters = voters.iter().cloned().collect();
            if *region == own.id {
                return RegionView { top_voters, ..own.clone() };
            }
            let claim = said.leader(region);
            let checkpoint = said.checkpoint(region).map(|known| CheckpointView {
                position: Position { index: known.index, hash: known.hash },
                taken_at: known.taken_at.wall(),
                counts: known.counts,
            });
            RegionView {
                id: region.clone(),
                leader: claim.map(|claim| claim.node.clone()),
                term: claim.map_or(Term(0), |claim| claim.term),
                checkpoint,
                voters: said.voters(region).unwrap_or(voters).iter().cloned().collect(),
                top_voters,
                observers: said.checkpoint(region).and_then(|known| known.observers),
            }
        };
        present.regions().iter().map(view).collect()
    }

    fn group_view(&self) -> GroupView {
        let group = self.group.as_ref();
        let own = GroupId::Region(self.params.region.clone());
        GroupView {
            id: own.clone(),
            role: group.map_or(Role::Observer, Group::role),
            term: group.map_or(Term(0), |group| group.hard().term),
            leader: self.leader().cloned(),
            voters: group.map(|group| group.voters().iter().cloned().collect()).unwrap_or_default(),
            checkpoint: group.and_then(Group::committed).map(|document| checkpoint_view(document, &own)),
        }
    }

    fn member_views(&self, now: Now) -> Vec<MemberView> {
        // Of another region what its leader has said, or the top has agreed on.
        let top = self.top().map(Group::voters);
        let own = self.group.as_ref().map(Group::voters);
        let votes = |node: &NodeId, info: &NodeInfo| {
            let identity = Voter { node: node.clone(), store: info.store };
            match (&own, &self.hierarchy) {
                (Some(own), _) if info.region == self.params.region => own.contains(&identity),
                // What has left the top has no votes to miss.
                (_, Some(_)) if !top.as_ref().is_some_and(|top| top.regions().contains_key(&info.region)) => false,
                (_, Some(hierarchy)) => match hierarchy.regions().voters(&info.region) {
                    Some(said) => said.contains(&identity),
                    None => top.as_ref().is_some_and(|top| top.contains(&identity)),
                },
                (own, None) => own.as_ref().is_some_and(|own| own.contains(&identity)),
            }
        };
        self.members()
            .map(|(node, info)| {
                let own = *node == self.me.node;
                let state = self.liveness.state_of(node).unwrap_or(Liveness::Dead);
                MemberView {
                    voter: votes(node, &info),
                    node: node.clone(),
                    store: info.store,
                    region: info.region,
                    addr: info.addr,
                    api: info.api,
                    version: info.version,
                    liveness: if own { Liveness::Alive } else { state },
                    entries: self.store.count_of(node),
                    last_heard: self.sessions.heard(node).map(|heard| now.mono.since(heard)),
                    clock_offset_ms: self.time.offset_of(now, node),
                    holds: self.group.as_ref().and_then(|group| group.holds(node)),
                }
            })
            .collect()
    }
}

fn checkpoint_view(document: &Document, group: &GroupId) -> CheckpointView {
    let index = document.index_in(group).unwrap_or(document.header().index);
    CheckpointView {
        position: Position { index, hash: document.hash() },
        taken_at: document.header().taken_at.time.wall(),
        counts: document.header().counts,
    }
}
