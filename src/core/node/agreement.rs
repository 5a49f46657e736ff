//! Routes between the region's group, the archive, and the links.

use std::collections::BTreeSet;

use crate::core::archive;
use crate::core::consensus::{self, Contents, Group, Member, Snapshot};
use crate::core::cx::Cx;
use crate::core::effect::Effect;
use crate::core::hard_state::Position;
use crate::core::hierarchy::is_own;
use crate::core::hlc::Stamp;
use crate::core::id::{GroupId, Hash, Index, LinkId, NodeId};
use crate::core::ledger::document::Document;
use crate::core::message::Message;
use crate::core::message::agreement::Content;
use crate::core::node::Node;
use crate::core::notice::Notice;
use crate::core::state::entry::{KeyRef, Value};
use crate::core::state::system::{self, CheckpointRef, LeaderClaim};
use crate::core::time::Mono;
use crate::core::work::{Done, Made, Readings, Work};

/// How often a leader looks whether its voters should change.
pub(super) const PLAN_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// What a node is making a checkpoint of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Taking {
    /// None is being made.
    #[default]
    Nothing,
    /// Readings that it holds.
    Readings,
    /// Readings of which it has taken some back since: it is made in vain.
    Disowned,
}

impl Node {
    /// Readings are taken back: no checkpoint is to hold them.
    pub(super) fn disown_taken(&mut self) {
        if self.taking == Taking::Readings {
            self.taking = Taking::Disowned;
        }
    }

    /// A message of the group. Voters speak for themselves: who says so must be at the other end of the link.
    pub(super) fn on_group_message(&mut self, cx: &mut Cx<'_>, link: LinkId, from: &NodeId, message: Message) {
        let Some(sender) = self.sender_on(link) else { return };
        let about = match &message {
            Message::Heartbeat(m) => &m.group,
            Message::HeartbeatAck(m) => &m.group,
            Message::ElectionRequest(m) => &m.group,
            Message::ElectionVote(m) => &m.group,
            Message::CheckpointPropose(m) => &m.group,
            Message::CheckpointAck(m) => &m.group,
            _ => return,
        };
        let ours = match about {
            GroupId::Top => true,
            GroupId::Region(region) => *region == self.params.region,
        };
        if !ours || !is_own(&sender, &message) {
            let why = format!("{} from {from} is not of its group or not its own", message.type_name());
            return cx.notice(Notice::Rejected { link, why });
        }
        if *about == GroupId::Top {
            return self.on_top_message(cx, &sender, &message);
        }
        let Some(group) = &mut self.group else { return };
        let (writes, archive) = (&mut self.writes, &mut self.archive);
        match &message {
            Message::Heartbeat(m) => group.on_heartbeat(cx, writes, archive, m),
            Message::HeartbeatAck(m) => group.on_heartbeat_ack(cx, writes, m),
            Message::ElectionRequest(m) => group.on_election_request(cx, writes, m),
            Message::ElectionVote(m) => group.on_election_vote(cx, writes, archive, m),
            Message::CheckpointPropose(m) => {
                if let Some(whole) = archive.whole(cx, m) {
                    group.on_checkpoint_propose(cx, writes, archive, &whole);
                }
            }
            Message::CheckpointAck(m) => {
                group.on_checkpoint_ack(cx, writes, m);
                if archive.wants_whole(m) {
                    group.remind(|voter| *voter == m.voter);
                }
            }
            _ => {}
        }
    }

    pub(super) fn on_group_fact(&mut self, cx: &mut Cx<'_>, fact: consensus::Fact) {
        match fact {
            consensus::Fact::Send { to, message } => self.send_wanted(cx, &to, message),
            consensus::Fact::Ask { to, message } => {
                to.iter().for_each(|to| self.send_wanted(cx, to, message.clone()));
            }
            consensus::Fact::Fetch { content, hash, from } => {
                let from = self.within_reach(cx, from);
                let held = self.group.as_ref().map(Group::newest);
                self.archive.fetch(cx, content, hash, held, from);
            }
            consensus::Fact::WantCheckpoint => self.take_checkpoint(cx),
            consensus::Fact::Committed { position, document } => self.on_committed(cx, position, &document),
            consensus::Fact::LeadershipChanged => self.on_leadership_changed(cx),
            consensus::Fact::ReadReady { request, latest } => self.on_read_ready(cx, request, latest),
            consensus::Fact::ReadFailed { request } => self.on_read_failed(cx, request),
        }
    }

    /// Voters are linked to each other; a newcomer that is to become one is not yet.
    fn send_wanted(&mut self, cx: &mut Cx<'_>, to: &NodeId, message: Message) {
        let message = self.archive.shortened(&self.me.node, to, message);
        if self.sessions.link_of(to).is_none() {
            self.gossip.want(cx.now.mono, to);
        }
        self.send_to(cx, to, message);
    }

    pub(super) fn on_archive_fact(&mut self, cx: &mut Cx<'_>, fact: archive::Fact) {
        match fact {
            archive::Fact::Send { to, message } => self.send_to(cx, &to, message),
            archive::Fact::Arrived { content, hash, from } => {
                if content == Content::Document {
                    self.on_maybe_genesis(cx, hash);
                    self.go_on_proposed(cx, hash);
                }
                if let Some(group) = &mut self.group {
                    group.on_content(cx, &mut self.writes, &mut self.archive, &from);
                }
                if let Some(hierarchy) = &mut self.hierarchy {
                    hierarchy.group_mut().on_content(cx, &mut self.writes, &mut self.archive, &from);
                }
                self.go_on_seeking(cx, &from);
                let records = self.archive.fill_gaps(cx, &from);
                if !records.is_empty() {
                    self.write(cx, records);
                }
            }
        }
    }

    /// A document has come; a proposal of it may wait for it.
    fn go_on_proposed(&mut self, cx: &mut Cx<'_>, hash: Hash) {
        let Some(propose) = self.archive.take_proposal(hash) else { return };
        let (writes, archive) = (&mut self.writes, &mut self.archive);
        match (&propose.group, &mut self.group, &mut self.hierarchy) {
            (GroupId::Region(_), Some(group), _) => group.on_checkpoint_propose(cx, writes, archive, &propose),
            (GroupId::Top, _, Some(hierarchy)) => {
                hierarchy.hear(cx, writes, archive, &Message::CheckpointPropose(propose));
            }
            _ => {}
        }
    }

    /// Sends on the link in use, or on one that is only known; a peer that cannot be reached hears later.
    fn send_to(&mut self, cx: &mut Cx<'_>, to: &NodeId, message: Message) {
        if let Some(link) = self.sessions.link_of(to).or_else(|| self.sessions.known_link_of(to)) {
            cx.send(link, message);
        } else if let Some(hierarchy) = &mut self.hierarchy {
            let sessions = &self.sessions;
            hierarchy.send_content(to, message, &|node| sessions.link_of(node).is_some());
        }
    }

    /// Somebody to ask in the place of a node that has no link to us: everybody holds what spreads.
    pub(super) fn within_reach(&self, cx: &mut Cx<'_>, node: NodeId) -> NodeId {
        let linked = self.sessions.link_of(&node).or_else(|| self.sessions.known_link_of(&node)).is_some();
        if linked { node } else { cx.rng.pick(&self.sessions.peers()).cloned().unwrap_or(node) }
    }

    /// Has a checkpoint made of the readings held, unless one is being made.
    fn take_checkpoint(&mut self, cx: &mut Cx<'_>) {
        if self.taking != Taking::Nothing {
            return;
        }
        let stamp = self.issue(cx);
        let abroad = self.abroad();
        let Some(group) = &self.group else { return };
        let (parent, before) = (group.accepted().hash(), group.accepted().header().taken_at.time);
        let taken_at = stamp.filter(|stamp| *stamp > before).unwrap_or(before.next());
        let own = |key: &KeyRef<'_>| !key.channel.is_system() && !abroad.contains(key.origin);
        let held = self.store.iter().filter(|(key, _)| own(key));
        let readings = Readings {
            parent,
            index: group.next_index(),
            taken_at,
            entries: held.map(|(key, entry)| (key.to_key(), entry.clone())).collect(),
            region: self.params.region.clone(),
            rules: self.params.estimates.then(|| self.params.fusion.clone()),
            summarized: self.has_other_regions(),
        };
        self.taking = Taking::Readings;
        cx.fx.push(Effect::Compute { work: Work::Checkpoint(Box::new(readings)) });
    }

    pub(super) fn on_computed(&mut self, cx: &mut Cx<'_>, done: Done) {
        match done {
            Done::Checkpoint(made) => self.on_checkpoint_made(cx, made),
            Done::Body { hash, body } => {
                let is_sound = body.is_ok();
                self.archive.on_body_made(cx, hash, body, &self.sessions.peers());
                if is_sound {
                    self.on_body_at_hand(cx, hash);
                }
            }
            Done::Compared { base, hash, difference } => self.archive.on_compared(base, hash, difference),
            Done::Found { held } => self.on_found(cx, held),
        }
    }

    /// Hands a checkpoint to the group, if it still follows the last one; a leader that has gone on meanwhile takes another.
    fn on_checkpoint_made(&mut self, cx: &mut Cx<'_>, made: Made) {
        let is_true = std::mem::take(&mut self.taking) == Taking::Readings;
        let (members, unwanted) = self.voting(cx.now.mono);
        let Some(group) = self.group.as_mut().filter(|group| group.is_settled()) else { return };
        if group.accepted().hash() != made.parent || !is_true {
            return self.take_checkpoint(cx);
        }
        group.reconsider(cx.now.mono, &members, &unwanted);
        let hash = made.body.hash();
        self.archive.cache_body(made.body);
        self.summary = made.summary;
        let taken_at = Stamp { time: made.taken_at, node: self.me.node.clone() };
        let founds_top = !self.pending.growing.is_empty() && self.hierarchy.is_none();
        let contents = Contents::Readings { body: hash, fused: made.fused, founds_top };
        let snapshot = Snapshot { taken_at, counts: made.counts, contents };
        group.propose(cx, &mut self.writes, &mut self.archive, snapshot);
    }

    fn on_committed(&mut self, cx: &mut Cx<'_>, position: Position, document: &Document) {
        self.note_committed(cx, &GroupId::Region(self.params.region.clone()), position, document);
        self.pin_voters();
        self.answer_checkpointed(cx, document);
        self.answer_removed(cx);
        self.grow_with(cx, document);
        self.republish_scope(cx);
        if self.is_leader() {
            let (region, header) = (self.params.region.clone(), document.header());
            let (taken_at, counts) = (header.taken_at.time, header.counts);
            let Position { index, hash } = position;
            let observers = Some(self.observers_alive(cx.now.mono));
            let checkpoint = CheckpointRef { region, index, hash, taken_at, counts, observers };
            self.note_checkpoint(&checkpoint);
            let mut news = vec![(system::channel(system::CHECKPOINT), Value::of(&checkpoint))];
            news.extend(self.take_summary(position.index, taken_at.wall()));
            self.publish_together(cx, news);
            self.say_region(cx, position.index);
        }
    }

    /// Live nodes of our region that do not vote there.
    fn observers_alive(&self, now: Mono) -> u64 {
        let voters = self.group.as_ref().map(|group| group.voters());
        let votes = |member: &Member| voters.as_ref().is_some_and(|voters| voters.contains(&member.voter));
        let members = self.members_of_region(now);
        members.iter().filter(|member| member.alive && !votes(member)).count() as u64
    }

    /// Nodes of other regions: their readings stand in their own region's checkpoints.
    fn abroad(&self) -> BTreeSet<NodeId> {
        match &self.hierarchy {
            None => BTreeSet::new(),
            Some(_) => {
                let others = self.members().filter(|(_, info)| info.region != self.params.region);
                others.map(|(node, _)| node.clone()).collect()
            }
        }
    }

    /// Keeps the ledger of a group whole, and its bodies by retention.
    pub(super) fn note_committed(&mut self, cx: &mut Cx<'_>, group: &GroupId, position: Position, document: &Document) {
        let accepted = self.group.as_ref().and_then(|group| group.accepted().header().body);
        let mut records = self.archive.on_committed(document, accepted);
        if *group == GroupId::Top {
            records.extend(self.archive.on_global(document, &self.params.region));
        }
        let below = self.newest_below(group, position.index);
        let from = self.within_reach(cx, document.header().proposer.clone());
        self.archive.note_gap(cx, group, document, below, &from);
        records.extend(self.archive.fill_gaps(cx, &from));
        if !records.is_empty() {
            self.write(cx, records);
        }
        self.ledger_top.insert(group.clone(), position.index);
        self.sessions.on_committed();
    }

    /// The highest index of a ledger below `index`; everything under it is held or being fetched.
    /// `None` in a newcomer, whose ledger begins with the genesis like all others.
    fn newest_below(&self, group: &GroupId, index: Index) -> Option<Index> {
        self.ledger_top.get(group).copied().filter(|top| *top < index)
    }

    fn on_leadership_changed(&mut self, cx: &mut Cx<'_>) {
        let Some(group) = &self.group else { return };
        self.said_voters = None;
        if !group.is_leader() {
            self.unwanted.clear();
            self.answer_removed(cx);
            self.give_up_growing(cx);
            return;
        }
        let claim = LeaderClaim { region: self.params.region.clone(), term: group.hard().term };
        self.claims.insert(claim.region.clone(), (claim.term, self.me.node.clone()));
        if let Some(hierarchy) = &mut self.hierarchy {
            hierarchy.on_region_leader(&claim.region, claim.term, &self.me.node);
        }
        self.plan_due = cx.now.mono + PLAN_INTERVAL;
        self.publish(cx, system::channel(system::LEADER), Value::of(&claim));
        self.pin_voters();
    }

    /// A leader claims its region: observers follow its word, voters know better.
    pub(super) fn on_claim(&mut self, origin: &NodeId, claim: LeaderClaim) {
        let newest = self.claims.entry(claim.region).or_insert((claim.term, origin.clone()));
        if claim.term >= newest.0 {
            *newest = (claim.term, origin.clone());
        }
    }

    /// A checkpoint of our region is said to be committed.
    pub(super) fn on_checkpoint_ref(&mut self, cx: &mut Cx<'_>, from: &NodeId, checkpoint: &CheckpointRef) {
        if checkpoint.region != self.params.region {
            return;
        }
        let position = Position { index: checkpoint.index, hash: checkpoint.hash };
        if let Some(group) = &mut self.group {
            group.learn(cx, &mut self.writes, &mut self.archive, position, from);
        }
    }

    /// What is known of the nodes that could vote in our region, and who is not to.
    fn voting(&self, now: Mono) -> (Vec<Member>, BTreeSet<NodeId>) {
        // A voter that has moved to another region votes here no more.
        let mut unwanted = self.unwanted.clone();
        let moved = self.members().filter(|(_, info)| info.region != self.params.region && !info.left);
        unwanted.extend(moved.map(|(node, _)| node.clone()));
        (self.members_of_region(now), unwanted)
    }

    pub(super) fn plan_voters(&mut self, cx: &mut Cx<'_>) {
        let (members, unwanted) = self.voting(cx.now.mono);
        if let Some(group) = &mut self.group {
            group.plan_voters(cx, &members, &unwanted);
        }
        self.plan_regions(cx);
    }

    /// Whom this node takes for its region's leader.
    pub(super) fn leader(&self) -> Option<&NodeId> {
        let claimed = self.claims.get(&self.params.region).map(|(_, node)| node);
        let group = self.group.as_ref()?;
        group.leader().or_else(|| claimed.filter(|_| !group.is_voter()))
    }
}
