//! How a store comes to belong to a cluster: founded with all initial voters, or shown by a peer (section 1).

use std::collections::BTreeMap;

use crate::core::consensus::Holdings;
use crate::core::cx::Cx;
use crate::core::hard_state::{HardState, Position, Record};
use crate::core::id::{GroupId, Hash, Index, LinkId, PersistSeq};
use crate::core::ledger::document::Document;
use crate::core::message::agreement::Content;
use crate::core::node::Node;
use crate::core::notice::Notice;
use crate::core::session;

/// A join on its way.
#[derive(Clone, Debug)]
pub(super) enum Joining {
    /// The genesis of this hash was asked for.
    Fetching(Hash),
    /// It is being written.
    Writing { genesis: Document, founded: bool, write: PersistSeq },
}

impl Node {
    pub(super) fn on_session_fact(&mut self, cx: &mut Cx<'_>, fact: session::Fact) {
        match fact {
            session::Fact::Up(peer) => self.on_peer_up(cx, peer),
            session::Fact::Down(peer) => self.on_peer_down(cx, &peer),
            session::Fact::Shown { cluster, by } => self.on_shown(cx, cluster, by),
            session::Fact::Complete { voters } => {
                if self.joining.is_none() {
                    let genesis = Document::genesis(&self.params.cluster, voters);
                    let genesis = genesis.expect("configuration names every initial voter once");
                    self.join(cx, genesis, true);
                }
            }
            session::Fact::Outdone { theirs } => self.let_go(cx, theirs),
            session::Fact::ClockOffset { node, offset_ms } => self.on_clock_offset(cx, node, offset_ms),
            session::Fact::SelfDialed(addr) => self.on_self_dialed(&addr),
        }
    }

    fn on_shown(&mut self, cx: &mut Cx<'_>, cluster: Hash, by: LinkId) {
        if matches!(self.joining, Some(Joining::Writing { .. })) {
            return;
        }
        let Some(from) = self.sessions.name_on(by).cloned() else { return };
        self.joining = Some(Joining::Fetching(cluster));
        self.archive.fetch(cx, Content::Document, cluster, None, from);
    }

    /// A document has come; it may be the genesis we wait for.
    pub(super) fn on_maybe_genesis(&mut self, cx: &mut Cx<'_>, hash: Hash) {
        if !matches!(self.joining, Some(Joining::Fetching(wanted)) if wanted == hash) {
            return;
        }
        let Some(document) = self.archive.document(&hash) else { return };
        let named = document.header().genesis.as_ref().is_some_and(|genesis| genesis.name == self.params.cluster);
        if !named || document.header().index != Index(0) {
            self.joining = None;
            let why = format!("the cluster {} shown by a peer is not {:?}", hash.short(), self.params.cluster);
            cx.notice(Notice::RefusedByPeer { link: LinkId(0), why });
            return;
        }
        self.join(cx, document, false);
    }

    fn join(&mut self, cx: &mut Cx<'_>, genesis: Document, founded: bool) {
        let mut records = self.archive.adopt(&genesis);
        records.push(Record::Cluster(genesis.hash()));
        // A region that the genesis lacks may have been added since, or be about to be.
        let groups = self.groups_of(&genesis);
        records.extend(groups.into_iter().map(|group| Record::Hard(group, HardState::new(genesis.hash()))));
        let write = self.write(cx, records);
        self.joining = Some(Joining::Writing { genesis, founded, write });
    }

    /// The groups that a genesis gives this node a part in: its region's, and the top if there are several regions.
    fn groups_of(&self, genesis: &Document) -> Vec<GroupId> {
        let regions = genesis.header().voters.regions();
        let own = regions.contains_key(&self.params.region).then(|| GroupId::Region(self.params.region.clone()));
        own.into_iter().chain((regions.len() > 1).then_some(GroupId::Top)).collect()
    }

    /// The cluster exists for us only once that is durable.
    pub(super) fn finish_joining(&mut self, cx: &mut Cx<'_>) {
        let Some(Joining::Writing { genesis, founded, write }) = &self.joining else { return };
        if !self.writes.is_durable(*write) {
            return;
        }
        let (genesis, founded) = (genesis.clone(), *founded);
        self.joining = None;
        let cluster = genesis.hash();
        for group in self.groups_of(&genesis) {
            self.take_up_group(cx, group, HardState::new(cluster), std::slice::from_ref(&genesis));
        }
        cx.notice(Notice::Joined { cluster, founded });
        self.gossip.on_joined();
        self.sessions.join(cx, cluster);
        self.pin_voters();
    }

    /// Others have founded a cluster of our name, and it has committed something. If nobody has followed the genesis
    /// that we made (a voter's disk was replaced meanwhile, say), and we have promised nothing under it, we are as
    /// free as a fresh store, and become one.
    fn let_go(&mut self, cx: &mut Cx<'_>, theirs: Hash) {
        let Some(ours) = self.sessions.cluster() else { return };
        let mut groups = self.group.iter().chain(self.top());
        // Whoever has no part in its own cluster was shown it by others: it is theirs.
        if self.joining.is_some() || self.group.is_none() || !groups.all(|group| group.hard().is_unbound()) {
            return;
        }
        self.write(cx, vec![Record::NoCluster]);
        self.group = None;
        self.hierarchy = None;
        self.ledger_top.clear();
        self.said_voters = None;
        self.refuse_undecided(cx);
        cx.notice(Notice::LetGo { ours, theirs });
        self.sessions.let_go(cx);
    }

    /// Finds what is missing of the ledgers below the positions that a store gave back: a newcomer fills its own
    /// downwards while it goes on committing, and may have been stopped anywhere.
    pub(super) fn note_recovered_gaps(&mut self, cx: &Cx<'_>, ledger: &[(GroupId, Position)]) {
        let mut held: BTreeMap<&GroupId, BTreeMap<Index, Position>> = BTreeMap::new();
        for (group, position) in ledger {
            held.entry(group).or_default().insert(position.index, *position);
        }
        let top = |(group, held): (&&GroupId, &BTreeMap<Index, Position>)| {
            Some(((*group).clone(), *held.keys().next_back()?))
        };
        self.ledger_top.extend(held.iter().filter_map(top));
        let groups = self.group.iter().chain(self.top()).map(|group| (group.id().clone(), group.voters()));
        for (own, voters) in groups.collect::<Vec<_>>() {
            let mut others = voters.iter().map(|voter| voter.node.clone()).filter(|node| *node != self.me.node);
            let (Some(peer), Some(held)) = (others.next(), held.get(&own)) else { continue };
            let mut below = None;
            for position in held.values() {
                self.archive.note_hole(cx, &own, *position, below, &peer);
                below = Some(position.index);
            }
        }
    }
}
