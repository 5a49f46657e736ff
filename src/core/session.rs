//! Sessions: who is at the other end of a link, whether we may talk, and how a cluster comes to be.
//!
//! Decides from HELLO alone; what flows over an accepted link is others' business.
//!
//! Invariants: at most one link per peer is in use; a peer of another cluster never is; of two live nodes with
//! one name the later start is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::cx::Cx;
use crate::core::effect::{Effect, StopReason};
use crate::core::hlc::Hlc;
use crate::core::id::{ClusterId, LinkId, NodeId, RegionId, StoreId, Voter};
use crate::core::message::Message;
use crate::core::message::session::{ErrorCode, ErrorMessage, Hello};
use crate::core::notice::Notice;
use crate::core::params::Params;
use crate::core::state::system::Addr;
use crate::core::time::Mono;

/// A peer on a link that is ready for use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The link.
    pub link: LinkId,
    /// Who is there.
    pub node: NodeId,
    /// Its data directory.
    pub store: StoreId,
    /// Its region.
    pub region: RegionId,
    /// When its life began.
    pub start: Hlc,
    /// Where it listens.
    pub addr: Addr,
    /// The address that we dialed, if we did.
    pub dialed: Option<Addr>,
    /// One of us belonged to no cluster when we met.
    pub founding: bool,
}

/// What sessions tell the node.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// This link is ready for use.
    Up(Peer),
    /// It is no longer.
    Down(Peer),
    /// A fresh store is shown an existing cluster by this peer.
    Shown { cluster: ClusterId, by: LinkId },
    /// Our cluster is not that of a peer, which has committed something in its own under the same name.
    Outdone { theirs: ClusterId },
    /// A fresh store knows all initial voters: they found the cluster.
    Complete { voters: BTreeMap<RegionId, Vec<Voter>> },
    /// A peer's wall clock is ahead of ours by this many milliseconds.
    ClockOffset { node: NodeId, offset_ms: i64 },
    /// The address we dialed is our own.
    SelfDialed(Addr),
}

/// How long a link may take to say HELLO.
const GREETING_PATIENCE: Duration = Duration::from_secs(5);
/// A link that is known and not yet in use carries nothing else: HELLO is said again this often.
const GREET_AGAIN: Duration = Duration::from_secs(2);
/// Such a link silent for this long is half open.
const KNOWN_SILENCE_MAX: Duration = Duration::from_secs(7);
/// Frames not this much younger than a rival's HELLO do not prove that the older link lives.
const TRIAL_GRACE: Duration = Duration::from_millis(600);
/// Nor does what had been on its way when its sender died and comes late, all at once: another must come so much later.
const TRIAL_APART: Duration = Duration::from_millis(400);
/// How long the older link has to prove it.
const TRIAL_PATIENCE: Duration = Duration::from_millis(2500);

/// All links of one node.
#[derive(Debug)]
pub struct Sessions {
    params: Params,
    store: StoreId,
    start: Option<Hlc>,
    life: u32,
    cluster: Option<ClusterId>,
    /// Something is committed in it.
    committed: bool,
    links: BTreeMap<LinkId, Link>,
    /// Those that are neither in use nor closing, each with a time before which it is not due.
    dues: BTreeSet<(Mono, LinkId)>,
    /// Those of them that are on trial.
    trials: BTreeSet<LinkId>,
    /// The link in use for each peer.
    in_use: BTreeMap<NodeId, LinkId>,
    /// An initial voter that a fresh store still waits for: while it does, nothing else needs to be looked at.
    awaited: Option<NodeId>,
    /// Peers refused for good, so that it is said once.
    told: BTreeSet<(NodeId, StoreId)>,
    /// Why a peer refused us last.
    refused: Option<String>,
    facts: Vec<Fact>,
}

#[derive(Debug)]
struct Link {
    dialed: Option<Addr>,
    opened: Mono,
    heard: Mono,
    /// When we last said HELLO.
    greeted: Mono,
    /// One of its ends belonged to no cluster when they met.
    founding: bool,
    peer: Option<Hello>,
    /// A HELLO that came before we could say ours: taken up right after that.
    early: Option<Hello>,
    state: State,
    /// Its place among those that have deadlines; `NEVER` if it has none.
    queued: Mono,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// HELLO not yet received.
    Greeting,
    /// Known, but not both in one cluster yet.
    Known,
    /// In use.
    Ready,
    /// Rival of an older link under the same name: waits for that one to prove its life, or to fail to. It was `heard` once.
    Trial { rival: LinkId, since: Mono, heard: Option<Mono> },
    /// Refused, on its way down.
    Closing,
}

impl Sessions {
    /// Sessions of a node on this store, a member of `cluster` already or not.
    pub fn new(params: &Params, store: StoreId, life: u32, cluster: Option<ClusterId>) -> Self {
        Self {
            params: params.clone(),
            store,
            start: None,
            life,
            cluster,
            committed: false,
            links: BTreeMap::new(),
            dues: BTreeSet::new(),
            trials: BTreeSet::new(),
            in_use: BTreeMap::new(),
            awaited: None,
            told: BTreeSet::new(),
            refused: None,
            facts: Vec::new(),
        }
    }

    /// Takes what happened since the last call, in order.
    pub fn take_facts(&mut self) -> Vec<Fact> {
        std::mem::take(&mut self.facts)
    }

    /// The cluster this store belongs to.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// Why a peer refused us last; cleared when one accepts us.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// The link in use for `node`.
    pub fn link_of(&self, node: &NodeId) -> Option<LinkId> {
        self.in_use.get(node).copied()
    }

    /// A link on which `node` has said HELLO, in use or not.
    pub fn known_link_of(&self, node: &NodeId) -> Option<LinkId> {
        let is = |link: &Link| link.state == State::Known && link.peer.as_ref().is_some_and(|p| p.node == *node);
        self.links.iter().find(|(_, link)| is(link)).map(|(id, _)| *id)
    }

    /// The peer on `link`, if it is in use.
    pub fn peer_on(&self, link: LinkId) -> Option<Peer> {
        let state = self.links.get(&link)?;
        (state.state == State::Ready).then(|| peer(link, state)).flatten()
    }

    /// The peer's name on `link`, if it has said HELLO.
    pub fn name_on(&self, link: LinkId) -> Option<&NodeId> {
        self.links.get(&link)?.peer.as_ref().map(|hello| &hello.node)
    }

    /// True if the peer on `link` may still say who it is.
    pub fn awaits_hello(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|link| link.state == State::Greeting)
    }

    /// All peers in use, by name.
    pub fn peers(&self) -> Vec<NodeId> {
        self.in_use.keys().cloned().collect()
    }

    /// How many links there are, in use or not.
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// When anything was last heard of `node` on a link in use.
    pub fn heard(&self, node: &NodeId) -> Option<Mono> {
        self.links.get(self.in_use.get(node)?).map(|link| link.heard)
    }

    /// Initial voters that a fresh store still waits for.
    pub fn waiting_for(&self) -> Vec<NodeId> {
        if self.cluster.is_some() {
            return Vec::new();
        }
        let known: BTreeSet<&NodeId> = self.known().map(|hello| &hello.node).collect();
        let initial = self.params.initial_voters.values().flatten();
        initial.filter(|node| **node != self.params.node && !known.contains(node)).cloned().collect()
    }

    fn known(&self) -> impl Iterator<Item = &Hello> {
        let usable = |link: &&Link| matches!(link.state, State::Known | State::Ready);
        self.links.values().filter(usable).filter_map(|link| link.peer.as_ref())
    }

    /// The node's clock is ready: greets links that came up before.
    pub fn begin(&mut self, cx: &mut Cx<'_>, start: Hlc) {
        self.start = Some(start);
        self.greet_all(cx);
        let early: Vec<(LinkId, Hello)> =
            self.links.iter_mut().filter_map(|(id, link)| Some((*id, link.early.take()?))).collect();
        for (link, hello) in early {
            self.on_hello(cx, link, hello);
        }
        self.look_for_founders(None);
    }

    /// A connection stands.
    pub fn on_link_up(&mut self, cx: &mut Cx<'_>, link: LinkId, dialed: Option<Addr>) {
        let now = cx.now.mono;
        let state = State::Greeting;
        let (opened, heard, greeted, queued) = (now, now, now, Mono::NEVER);
        let founding = self.cluster.is_none();
        let held = Link { dialed, opened, heard, greeted, founding, peer: None, early: None, state, queued };
        self.links.insert(link, held);
        self.set_state(link, State::Greeting);
        self.greet(cx, link);
    }

    fn greet_all(&mut self, cx: &mut Cx<'_>) {
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        links.into_iter().for_each(|link| self.greet(cx, link));
    }

    fn greet(&mut self, cx: &mut Cx<'_>, link: LinkId) {
        let Some(start) = self.start else { return };
        if let Some(state) = self.links.get_mut(&link) {
            state.greeted = cx.now.mono;
        }
        let hello = Hello {
            versions: self.params.versions,
            cluster: self.cluster,
            committed: self.committed,
            name: self.params.cluster.clone(),
            node: self.params.node.clone(),
            store: self.store,
            region: self.params.region.clone(),
            start,
            life: self.life,
            addr: self.params.addr.clone(),
            software: self.params.software.clone(),
            wall: cx.now.wall,
        };
        cx.send(link, Message::Hello(hello));
    }

    /// A connection is gone.
    pub fn on_link_down(&mut self, cx: &mut Cx<'_>, link: LinkId) {
        let Some(gone) = self.links.remove(&link) else { return };
        self.dues.remove(&(gone.queued, link));
        self.trials.remove(&link);
        if gone.state == State::Ready {
            self.retire(cx, link, &gone);
        }
        // Whoever was on trial against it has won.
        let won = |l: &Link| matches!(l.state, State::Trial { rival, .. } if rival == link);
        let winners = self.on_trial(won);
        for winner in winners {
            self.accept(cx, winner);
        }
    }

    fn retire(&mut self, cx: &mut Cx<'_>, link: LinkId, gone: &Link) {
        let Some(peer) = peer(link, gone) else { return };
        if self.in_use.get(&peer.node) == Some(&link) {
            self.in_use.remove(&peer.node);
        }
        cx.notice(Notice::PeerDown { link, peer: peer.node.clone() });
        self.facts.push(Fact::Down(peer));
    }

    /// Closes a link that is in use.
    fn dismiss(&mut self, cx: &mut Cx<'_>, link: LinkId) {
        if let Some(held) = self.links.remove(&link) {
            self.retire(cx, link, &held);
            self.links.insert(link, held);
            self.close(cx, link);
        }
    }

    /// Anything came on this link: it lives. True if the link is in use.
    pub fn on_frame(&mut self, cx: &mut Cx<'_>, link: LinkId) -> bool {
        let Some(state) = self.links.get_mut(&link) else { return false };
        state.heard = cx.now.mono;
        let ready = state.state == State::Ready;
        if ready {
            self.judge_trials(cx, link);
        }
        ready
    }

    /// Two frames on the older link, well after a rival's HELLO and after each other, prove that two nodes share a name.
    fn judge_trials(&mut self, cx: &mut Cx<'_>, older: LinkId) {
        let now = cx.now.mono;
        let mut losers = Vec::new();
        for on_trial in &self.trials {
            let Some(Link { state: State::Trial { rival, since, heard }, .. }) = self.links.get_mut(on_trial) else {
                continue;
            };
            if *rival != older || now.since(*since) < TRIAL_GRACE {
                continue;
            }
            if now.since(*heard.get_or_insert(now)) >= TRIAL_APART {
                losers.push(*on_trial);
            }
        }
        for loser in losers {
            let older = self.links.get(&older).and_then(|link| link.peer.clone());
            let Some((older, newer)) = older.zip(self.links.get(&loser).and_then(|link| link.peer.clone())) else {
                continue;
            };
            cx.notice(Notice::DuplicateNode { node: newer.node.clone(), ours: older.store, theirs: newer.store });
            self.refuse(cx, loser, ErrorCode::Duplicate, duplicate_message(&older, &newer));
        }
    }

    /// Takes a peer's HELLO, the first or a renewed one.
    pub fn on_hello(&mut self, cx: &mut Cx<'_>, link: LinkId, hello: Hello) {
        let Some(state) = self.links.get_mut(&link) else { return };
        if state.state == State::Closing {
            return;
        }
        if self.start.is_none() {
            state.early = Some(hello);
            return;
        }
        let again = state.peer.is_some();
        if again && state.peer.as_ref().is_some_and(|p| p.node != hello.node || life(p) != life(&hello)) {
            return self.refuse(cx, link, ErrorCode::Protocol, "a link does not change its owner".to_owned());
        }
        let dialed = state.dialed.clone();
        state.founding |= hello.cluster.is_none();
        state.peer = Some(hello.clone());
        if hello.node == self.params.node {
            return self.on_namesake(cx, link, dialed, &hello);
        }
        if let Some((code, why)) = self.objection(&hello) {
            if let Some(theirs) = hello.cluster.filter(|_| hello.committed && hello.name == self.params.cluster)
                && self.cluster.is_some_and(|ours| ours != theirs)
            {
                self.facts.push(Fact::Outdone { theirs });
            }
            return self.refuse(cx, link, code, why);
        }
        let offset_ms = hello.wall.millis_after(cx.now.wall);
        self.facts.push(Fact::ClockOffset { node: hello.node.clone(), offset_ms });
        let state = self.links.get(&link).map(|link| link.state);
        if matches!(state, Some(State::Greeting | State::Known)) {
            self.accept(cx, link);
        }
    }

    /// Why we cannot talk to this peer at all.
    fn objection(&self, hello: &Hello) -> Option<(ErrorCode, String)> {
        // Two nodes speak the highest version that both know; a rolling upgrade leaves one in common at every step.
        let ((low, high), (lowest, highest)) = (hello.versions, self.params.versions);
        if low.max(lowest) > high.min(highest) {
            let why = format!(
                "{} speaks protocol versions {low} to {high}, {} speaks {lowest} to {highest}: upgrade the older of them",
                hello.node, self.params.node
            );
            return Some((ErrorCode::Version, why));
        }
        let (me, other) = (&self.params.node, &hello.node);
        match (self.cluster, hello.cluster) {
            (Some(ours), Some(theirs)) if ours != theirs => Some((
                ErrorCode::Cluster,
                format!(
                    "{me} belongs to cluster {:?} with id {ours}, {other} to {:?} with id {theirs}: correct the \
                     bootstrap addresses, or wipe the data directory of the one that is to move over",
                    self.params.cluster, hello.name
                ),
            )),
            _ if self.params.cluster != hello.name => Some((
                ErrorCode::Cluster,
                format!(
                    "{me} is configured for cluster {:?}, {other} for {:?}: correct the name or the bootstrap addresses",
                    self.params.cluster, hello.name
                ),
            )),
            _ => None,
        }
    }

    /// Somebody has our own name.
    fn on_namesake(&mut self, cx: &mut Cx<'_>, link: LinkId, dialed: Option<Addr>, hello: &Hello) {
        let Some(start) = self.start else { return };
        let ours = Hello { start, life: self.life, store: self.store, addr: self.params.addr.clone(), ..hello.clone() };
        if life(hello) == life(&ours) {
            self.facts.extend(dialed.map(Fact::SelfDialed));
            return self.close(cx, link);
        }
        // The later start is refused; of two that began at one mark, either.
        if (hello.start, hello.life) > (start, self.life) {
            return self.refuse(cx, link, ErrorCode::Duplicate, duplicate_message(&ours, hello));
        }
        cx.fx.push(Effect::Stop { why: StopReason::Clone(duplicate_message(hello, &ours)) });
    }

    /// Takes a link into use as far as clusters and rivals allow.
    fn accept(&mut self, cx: &mut Cx<'_>, link: LinkId) {
        let now = cx.now.mono;
        let Some(hello) = self.links.get(&link).and_then(|link| link.peer.clone()) else { return };
        if self.cluster.is_none() || self.cluster != hello.cluster {
            self.set_state(link, State::Known);
            match hello.cluster {
                Some(cluster) if self.cluster.is_none() => self.facts.push(Fact::Shown { cluster, by: link }),
                _ => self.look_for_founders(Some(&hello.node)),
            }
            return;
        }
        let rival = self.in_use.get(&hello.node).copied().filter(|rival| *rival != link);
        if let Some((rival, older)) = rival.and_then(|rival| Some((rival, self.links.get(&rival)?.peer.clone()?))) {
            if life(&older) != life(&hello) {
                return self.set_state(link, State::Trial { rival, since: now, heard: None });
            }
            if !self.prefers(link, rival, &hello.node) {
                return self.close(cx, link);
            }
            self.dismiss(cx, rival);
        }
        self.set_state(link, State::Ready);
        self.refused = None;
        self.in_use.insert(hello.node.clone(), link);
        cx.notice(Notice::PeerUp { link, peer: hello.node.clone(), addr: hello.addr.clone() });
        self.facts.extend(self.links.get(&link).and_then(|state| peer(link, state)).map(Fact::Up));
    }

    /// Of two links between the same two lives both ends keep the same one: that dialed by the smaller name, and
    /// of two from the same side the newer.
    fn prefers(&self, new: LinkId, old: LinkId, other: &NodeId) -> bool {
        let ours = |link: LinkId| self.links.get(&link).is_some_and(|link| link.dialed.is_some());
        match (ours(new), ours(old)) {
            (new_is_ours, old_is_ours) if new_is_ours == old_is_ours => true,
            (new_is_ours, _) => new_is_ours == (self.params.node < *other),
        }
    }

    /// Tells the node once all initial voters are known to one that is among them; `met` has just said HELLO, if anybody.
    fn look_for_founders(&mut self, met: Option<&NodeId>) {
        if self.cluster.is_some() || self.start.is_none() || (self.awaited.is_some() && met != self.awaited.as_ref()) {
            return;
        }
        let me = &self.params.node;
        if !self.params.initial_voters.values().flatten().any(|node| node == me) {
            return;
        }
        self.awaited = self.waiting_for().pop();
        if self.awaited.is_some() {
            return;
        }
        let mut stores: BTreeMap<&NodeId, StoreId> = self.known().map(|hello| (&hello.node, hello.store)).collect();
        stores.insert(me, self.store);
        let voter = |node: &NodeId| Some(Voter { node: node.clone(), store: *stores.get(node)? });
        let voters = self
            .params
            .initial_voters
            .iter()
            .map(|(region, nodes)| (region.clone(), nodes.iter().filter_map(voter).collect()))
            .collect();
        self.facts.push(Fact::Complete { voters });
    }

    /// This store belongs to a cluster now: says so on every link and takes into use those of the same one.
    pub fn join(&mut self, cx: &mut Cx<'_>, cluster: ClusterId) {
        assert!(self.cluster.is_none_or(|ours| ours == cluster), "a store joins one cluster");
        self.cluster = Some(cluster);
        self.greet_all(cx);
        let known: Vec<LinkId> =
            self.links.iter().filter(|(_, l)| l.state == State::Known).map(|(id, _)| *id).collect();
        for link in known {
            let objection = self.links.get(&link).and_then(|l| l.peer.as_ref()).and_then(|h| self.objection(h));
            match objection {
                Some((code, why)) => self.refuse(cx, link, code, why),
                None => self.accept(cx, link),
            }
        }
    }

    /// Something is committed in our cluster: it is there to stay.
    pub fn on_committed(&mut self) {
        self.committed = true;
    }

    /// This store belongs to no cluster any more: whoever is of that one is left, and found again if need be.
    pub fn let_go(&mut self, cx: &mut Cx<'_>) {
        self.cluster = None;
        self.awaited = None;
        self.told.clear();
        for link in self.in_use.values().copied().collect::<Vec<_>>() {
            self.dismiss(cx, link);
        }
        self.greet_all(cx);
    }

    /// A peer refused us, or something we said.
    pub fn on_error(&mut self, cx: &mut Cx<'_>, link: LinkId, error: &ErrorMessage) {
        let why: String = error.message.chars().take(500).collect();
        cx.notice(Notice::RefusedByPeer { link, why: why.clone() });
        match error.code {
            ErrorCode::Duplicate => cx.fx.push(Effect::Stop { why: StopReason::Clone(why) }),
            ErrorCode::Cluster | ErrorCode::Version => self.refused = Some(why),
            ErrorCode::Protocol | ErrorCode::UnknownType | ErrorCode::Other => {}
        }
    }

    fn refuse(&mut self, cx: &mut Cx<'_>, link: LinkId, code: ErrorCode, message: String) {
        let peer = self.links.get(&link).and_then(|link| link.peer.as_ref()).map(|p| (p.node.clone(), p.store));
        if peer.is_none_or(|peer| self.told.insert(peer)) {
            cx.notice(Notice::PeerRefused { link, why: message.clone() });
        }
        cx.send(link, Message::Error(ErrorMessage { code, message }));
        self.close(cx, link);
    }

    fn close(&mut self, cx: &mut Cx<'_>, link: LinkId) {
        if self.links.contains_key(&link) {
            self.set_state(link, State::Closing);
            cx.fx.push(Effect::Hangup { link });
        }
    }

    fn set_state(&mut self, link: LinkId, state: State) {
        let Some(held) = self.links.get_mut(&link) else { return };
        held.state = state;
        match state {
            State::Trial { .. } => self.trials.insert(link),
            _ => self.trials.remove(&link),
        };
        self.queue(link);
    }

    /// Gives a link its place among those that have deadlines.
    fn queue(&mut self, link: LinkId) {
        let Some(held) = self.links.get_mut(&link) else { return };
        self.dues.remove(&(held.queued, link));
        held.queued = due(held);
        if held.queued < Mono::NEVER {
            self.dues.insert((held.queued, link));
        }
    }

    fn on_trial(&self, is: impl Fn(&Link) -> bool) -> Vec<LinkId> {
        self.trials.iter().filter(|id| self.links.get(id).is_some_and(&is)).copied().collect()
    }

    /// When sessions next want attention, at the earliest: what is heard and said meanwhile makes it later.
    pub fn deadline(&self) -> Mono {
        self.dues.first().map_or(Mono::NEVER, |(due, _)| *due)
    }

    /// Closes links that never greeted, and decides trials in which the older link stayed silent.
    pub fn on_deadline(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        let now_due: Vec<LinkId> = self.dues.iter().take_while(|(due, _)| *due <= now).map(|(_, link)| *link).collect();
        for link in now_due {
            let Some(held) = self.links.get(&link) else { continue };
            match held.state {
                _ if due(held) > now => {}
                State::Known if held.heard + KNOWN_SILENCE_MAX > now => self.greet(cx, link),
                State::Known | State::Greeting => self.close(cx, link),
                State::Trial { rival, .. } => {
                    self.dismiss(cx, rival);
                    self.accept(cx, link);
                }
                State::Ready | State::Closing => {}
            }
            self.queue(link);
        }
    }
}

/// When something is to be done about this link.
fn due(link: &Link) -> Mono {
    match link.state {
        State::Greeting => link.opened + GREETING_PATIENCE,
        State::Trial { since, .. } => since + TRIAL_PATIENCE,
        State::Known => (link.greeted + GREET_AGAIN).min(link.heard + KNOWN_SILENCE_MAX),
        State::Ready | State::Closing => Mono::NEVER,
    }
}

/// What tells one life of a data directory from its next, and from that of a copy.
fn life(hello: &Hello) -> (StoreId, Hlc, u32) {
    (hello.store, hello.start, hello.life)
}

fn peer(link: LinkId, state: &Link) -> Option<Peer> {
    let hello = state.peer.as_ref()?;
    Some(Peer {
        link,
        node: hello.node.clone(),
        store: hello.store,
        region: hello.region.clone(),
        start: hello.start,
        addr: hello.addr.clone(),
        dialed: state.dialed.clone(),
        founding: state.founding,
    })
}

fn duplicate_message(older: &Hello, newer: &Hello) -> String {
    if older.store == newer.store {
        format!(
            "{} at {} runs on a copy of the data directory of the live {} at {} (store {}): stop one of them, and start \
             it again on an empty data directory under a name of its own",
            newer.node, newer.addr, older.node, older.addr, older.store
        )
    } else {
        format!(
            "{} at {} has the name of a live node at {}: node ids are unique in a cluster, give one of them another",
            newer.node, newer.addr, older.addr
        )
    }
}

#[cfg(test)]
mod tests;
