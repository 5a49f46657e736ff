//! Liveness: who is alive, suspect or dead.
//!
//! A neighbour that breaks off and cannot be reached again, or is silent, is doubted in public: an entry
//! `@suspect/<node>` names the newest `@node` of it that the doubter knows, and is void as soon as a newer one is
//! known. The suspect refutes by saying who it is anew. Not refuted in time it is dead; at once if its host says that
//! nobody listens there, and a second neighbour agrees.
//!
//! Watched are the neighbours of the overlay; of everyone else the doubts of others tell. A link carries a keepalive
//! when nothing else was sent on it.
//!
//! Invariant: nothing here looks at all members; those in doubt are kept in the order of their deadlines.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::cx::Cx;
use crate::core::effect::Effect;
use crate::core::hlc::Hlc;
use crate::core::id::{Channel, LinkId, NodeId};
use crate::core::message::Message;
use crate::core::message::session::Keepalive;
use crate::core::notice::SuspicionCause;
use crate::core::params::Params;
use crate::core::session::Peer;
use crate::core::state::entry::Value;
use crate::core::state::system::{self, NodeInfo, Suspicion};
use crate::core::time::Mono;
use crate::core::view::{Footprint, Liveness as Life};

/// What liveness tells the node.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// A node's state changed; `why` it is doubted, if it is.
    Changed { node: NodeId, state: Life, why: SuspicionCause },
    /// Write this of our own.
    Publish { channel: Channel, value: Value },
    /// Somebody doubts us: say who we are anew.
    Refute,
    /// Half the time that a suspect has to refute is over: ask it ourselves.
    Seek { node: NodeId },
}

/// How long a broken link may take to be made again before its peer is doubted.
const REDIAL_GRACE: Duration = Duration::from_secs(1);
/// Longest wait of a doubter whose doubts are refuted again and again.
const PATIENCE_MAX: Duration = Duration::from_secs(60);

/// All members as this node sees them.
#[derive(Debug)]
pub struct Liveness {
    params: Params,
    members: BTreeMap<NodeId, MemberState>,
    links: BTreeMap<LinkId, Watched>,
    /// The link whose deadline is the first, until that one changes: others only move on, or come and go.
    first: Cell<Option<(Mono, LinkId)>>,
    /// Members with something to wait for, by when it is due.
    due: BTreeSet<(Mono, NodeId)>,
    facts: Vec<Fact>,
}

#[derive(Debug)]
struct MemberState {
    state: Life,
    since: Mono,
    /// Stamp of its newest `@node`, and when that came.
    known: Hlc,
    told: Mono,
    /// Few have any.
    trouble: Option<Box<Trouble>>,
}

/// What speaks against a member.
#[derive(Debug)]
struct Trouble {
    /// Who doubts it, and whether its host refused them.
    doubts: BTreeMap<NodeId, Suspicion>,
    /// Since when we have no link to it that we once had, or know that one cannot be made.
    broken: Option<Mono>,
    /// How often in a row it has proved our doubts wrong.
    refuted: u32,
    /// A suspect has been sought by ourselves: what it says may have been lost on its way to us.
    sought: bool,
    /// When somebody doubted it last while we had a link to it.
    kept: Option<Mono>,
    /// Under which instant it stands in `due`.
    due: Mono,
}

impl Default for Trouble {
    fn default() -> Self {
        Self { doubts: BTreeMap::new(), broken: None, refuted: 0, sought: false, kept: None, due: Mono::NEVER }
    }
}

impl Trouble {
    /// When a broken link counts against its peer.
    fn broken_at(&self) -> Mono {
        self.broken.map_or(Mono::NEVER, |at| at + patience(self.refuted))
    }

    /// When a link will have outlived what others doubt, after the time that a suspect has to refute.
    fn outlived_at(&self, timeout: Duration) -> Mono {
        self.kept.map_or(Mono::NEVER, |at| at + timeout)
    }
}

#[derive(Debug)]
struct Watched {
    node: NodeId,
    up: Mono,
    heard: Mono,
    sent: Mono,
    /// Its peer is not taken to be alive: anything heard settles that.
    doubted: bool,
}

impl Liveness {
    /// Knows nobody.
    pub fn new(params: &Params) -> Self {
        Self {
            params: params.clone(),
            members: BTreeMap::new(),
            links: BTreeMap::new(),
            first: Cell::default(),
            due: BTreeSet::new(),
            facts: Vec::new(),
        }
    }

    /// Counts whom it watches.
    pub fn count(&self, footprint: &mut Footprint) {
        let doubted = |member: &&MemberState| member.trouble.as_ref().is_some_and(|trouble| !trouble.doubts.is_empty());
        footprint.members = footprint.members.max(self.members.len());
        footprint.doubted = self.members.values().filter(doubted).count();
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

    fn member(&mut self, now: Mono, node: &NodeId) -> &mut MemberState {
        if !self.members.contains_key(node) {
            let unknown = MemberState { state: Life::Left, since: now, known: Hlc::ZERO, told: now, trouble: None };
            self.members.insert(node.clone(), unknown);
        }
        self.members.get_mut(node).expect("it was put in above")
    }

    fn trouble(&mut self, now: Mono, node: &NodeId) -> &mut Trouble {
        self.member(now, node).trouble.get_or_insert_default()
    }

    fn set(&mut self, now: Mono, node: &NodeId, state: Life, why: SuspicionCause) {
        let member = self.member(now, node);
        if member.state != state {
            (member.state, member.since) = (state, now);
            if let Some(trouble) = &mut member.trouble {
                trouble.sought = false;
            }
            for watched in self.links.values_mut().filter(|watched| watched.node == *node) {
                watched.doubted = state != Life::Alive;
            }
            self.facts.push(Fact::Changed { node: node.clone(), state, why });
        }
        self.schedule(node);
    }

    /// Puts a member where it belongs among the deadlines.
    fn schedule(&mut self, node: &NodeId) {
        let due = self.members.get(node).map_or(Mono::NEVER, |member| self.overdue(member));
        let Some(member) = self.members.get_mut(node) else { return };
        let Some(trouble) = &mut member.trouble else { return };
        let old = std::mem::replace(&mut trouble.due, due);
        let over = due == Mono::NEVER && trouble.doubts.is_empty() && trouble.broken.is_none() && trouble.refuted == 0;
        if over {
            member.trouble = None;
        }
        if old != due {
            self.due.remove(&(old, node.clone()));
            if due != Mono::NEVER {
                self.due.insert((due, node.clone()));
            }
        }
    }

    fn is_linked(&self, node: &NodeId) -> bool {
        self.links.values().any(|watched| watched.node == *node)
    }

    /// A link is ready for use.
    pub fn on_link_up(&mut self, cx: &mut Cx<'_>, peer: &Peer) {
        let now = cx.now.mono;
        let watched = Watched { node: peer.node.clone(), up: now, heard: now, sent: now, doubted: false };
        self.links.insert(peer.link, watched);
        self.first.take();
        if let Some(trouble) = &mut self.member(now, &peer.node).trouble {
            trouble.broken = None;
        }
        self.believe(now, &peer.node);
    }

    /// Somebody is there with our own eyes, whatever others doubt.
    fn believe(&mut self, now: Mono, node: &NodeId) {
        let own = self.params.node.clone();
        let doubts = self.member(now, node).trouble.as_mut().map(|trouble| std::mem::take(&mut trouble.doubts));
        if doubts.is_some_and(|doubts| doubts.contains_key(&own)) {
            let withdrawn = Suspicion { of: Hlc::ZERO, refused: false };
            self.facts.push(Fact::Publish { channel: system::suspect_channel(node), value: Value::of(&withdrawn) });
        }
        self.set(now, node, Life::Alive, SuspicionCause::Broken);
    }

    /// Something was sent on a link.
    pub fn on_sent(&mut self, now: Mono, link: LinkId) {
        if let Some(watched) = self.links.get_mut(&link) {
            watched.sent = now;
            self.on_moved(link);
        }
    }

    /// A link's deadline has moved on.
    fn on_moved(&self, link: LinkId) {
        self.first.set(self.first.get().filter(|(_, first)| *first != link));
    }

    /// A link is no longer in use.
    ///
    /// One that an end gave up on purpose (`parted`) says nothing of its peer; what others said of it meanwhile does.
    pub fn on_link_down(&mut self, cx: &mut Cx<'_>, link: LinkId, parted: bool) {
        let Some(watched) = self.links.remove(&link) else { return };
        self.first.take();
        if self.is_linked(&watched.node) {
            return;
        }
        let now = cx.now.mono;
        if !parted {
            let stood = now.since(watched.up);
            let trouble = self.trouble(now, &watched.node);
            trouble.broken = Some(now);
            if stood >= PATIENCE_MAX {
                trouble.refuted = 0;
            }
        }
        let member = self.member(now, &watched.node);
        let doubted = member.trouble.as_ref().is_some_and(|trouble| !trouble.doubts.is_empty());
        match doubted && member.state == Life::Alive {
            true => self.set(now, &watched.node, Life::Suspect, SuspicionCause::Broken),
            false => self.schedule(&watched.node),
        }
    }

    /// Nobody answered at a member's address, which was dialed at `since`; with `refused`, its host says that nobody
    /// listens there. Whoever has said who it is since then has started after that.
    pub fn on_dial_failed(&mut self, cx: &mut Cx<'_>, own: &NodeId, node: &NodeId, since: Mono, refused: bool) {
        let now = cx.now.mono;
        if !self.is_linked(node) && self.member(now, node).told <= since {
            let trouble = self.trouble(now, node);
            if !refused && trouble.refuted > 0 && trouble.broken.is_none() {
                // It has proved us wrong before: it has some time to be reached again.
                trouble.broken = Some(now);
                return self.schedule(node);
            }
            let why = if refused { SuspicionCause::Refused } else { SuspicionCause::Broken };
            self.doubt(now, own, node, why);
        }
    }

    /// Doubts a member in public, unless we did already or were wrong too lately.
    fn doubt(&mut self, now: Mono, own: &NodeId, node: &NodeId, why: SuspicionCause) {
        let member = self.member(now, node);
        if member.known == Hlc::ZERO || matches!(member.state, Life::Dead | Life::Left) {
            return;
        }
        let known = member.known;
        let refused = why == SuspicionCause::Refused;
        let trouble = self.trouble(now, node);
        // A process that lives does not refuse: that is no guess, and needs no patience.
        let wait = if refused || trouble.refuted == 0 { Duration::ZERO } else { patience(trouble.refuted) };
        let waited = trouble.broken.is_none_or(|at| at + wait <= now);
        let news = trouble.doubts.get(own).is_none_or(|doubt| doubt.of < known || (refused && !doubt.refused));
        if !waited || !news {
            return self.schedule(node);
        }
        let suspicion = Suspicion { of: known, refused };
        self.facts.push(Fact::Publish { channel: system::suspect_channel(node), value: Value::of(&suspicion) });
        self.take_doubt(now, own, node, suspicion, (why, true));
    }

    /// With `at_once`, two that agree and of whom one was refused are enough for a death.
    fn take_doubt(
        &mut self,
        now: Mono,
        doubter: &NodeId,
        node: &NodeId,
        suspicion: Suspicion,
        (why, at_once): (SuspicionCause, bool),
    ) {
        let trouble = self.trouble(now, node);
        trouble.doubts.insert(doubter.clone(), suspicion);
        let agreed = trouble.doubts.len() > 1 && trouble.doubts.values().any(|doubt| doubt.refused);
        if self.state_of(node) == Some(Life::Alive) {
            self.set(now, node, Life::Suspect, why);
        }
        if agreed && at_once && self.state_of(node) == Some(Life::Suspect) {
            self.set(now, node, Life::Dead, why);
        }
    }

    /// Somebody else doubts a member. `own` is who we are, and the stamp of our newest `@node`. Unless it `is_news`, what
    /// the suspect said since may still be on its way to us.
    pub fn on_suspicion(
        &mut self,
        cx: &mut Cx<'_>,
        own: (&NodeId, Option<Hlc>),
        doubter: &NodeId,
        node: &NodeId,
        suspicion: Suspicion,
        is_news: bool,
    ) {
        if node == own.0 {
            if own.1.is_some_and(|known| suspicion.of >= known) {
                self.facts.push(Fact::Refute);
            }
            return;
        }
        if suspicion.of == Hlc::ZERO {
            return self.on_withdrawn(cx.now.mono, doubter, node);
        }
        let member = self.member(cx.now.mono, node);
        if suspicion.of < member.known || matches!(member.state, Life::Dead | Life::Left) {
            return;
        }
        if self.is_linked(node) {
            // Our link stands, but it may be the last to break: until the suspect has refuted, the word is kept.
            let trouble = self.trouble(cx.now.mono, node);
            trouble.doubts.insert(doubter.clone(), suspicion);
            trouble.kept = Some(cx.now.mono);
            self.schedule(node);
        } else {
            let why = if suspicion.refused { SuspicionCause::Refused } else { SuspicionCause::Silent };
            self.take_doubt(cx.now.mono, doubter, node, suspicion, (why, is_news));
        }
    }

    /// A doubter has reached the suspect since.
    fn on_withdrawn(&mut self, now: Mono, doubter: &NodeId, node: &NodeId) {
        let Some(trouble) = self.members.get_mut(node).and_then(|member| member.trouble.as_mut()) else { return };
        let was_last = trouble.doubts.remove(doubter).is_some() && trouble.doubts.is_empty();
        if was_last && self.state_of(node) != Some(Life::Left) {
            self.set(now, node, Life::Alive, SuspicionCause::Broken);
        } else {
            self.schedule(node);
        }
    }

    /// Anything came on this link.
    pub fn on_frame(&mut self, cx: &mut Cx<'_>, link: LinkId) {
        let now = cx.now.mono;
        let Some(watched) = self.links.get_mut(&link) else { return };
        watched.heard = now;
        let doubted = watched.doubted.then(|| watched.node.clone());
        self.on_moved(link);
        if let Some(node) = doubted
            && self.state_of(&node) != Some(Life::Left)
        {
            self.believe(now, &node);
        }
    }

    /// A member said who it is, under this stamp.
    pub fn on_member(&mut self, cx: &mut Cx<'_>, own: &NodeId, node: &NodeId, info: &NodeInfo, stamp: Hlc) {
        let now = cx.now.mono;
        let member = self.member(now, node);
        let newborn = info.start > member.known;
        if stamp > member.known {
            (member.known, member.told) = (stamp, now);
        }
        let known = member.known;
        if let Some(trouble) = &mut member.trouble {
            if newborn {
                // It was gone, and is back: nobody was wrong.
                trouble.refuted = 0;
            } else if trouble.doubts.get(own).is_some_and(|doubt| doubt.of < known) {
                trouble.refuted += 1;
            }
            // It lives, with or without a link to us.
            trouble.broken = None;
            trouble.doubts.retain(|_, doubt| doubt.of >= known);
        }
        let doubted = member.trouble.as_ref().is_some_and(|trouble| !trouble.doubts.is_empty());
        if info.left {
            self.set(now, node, Life::Left, SuspicionCause::Broken);
        } else if !doubted {
            self.set(now, node, Life::Alive, SuspicionCause::Broken);
        } else {
            self.schedule(node);
        }
    }

    /// A node's entries were forgotten, or are too old to be kept.
    pub fn on_forgotten(&mut self, node: &NodeId) {
        if let Some(trouble) = self.members.remove(node).and_then(|member| member.trouble) {
            self.due.remove(&(trouble.due, node.clone()));
        }
    }

    fn overdue(&self, member: &MemberState) -> Mono {
        let Some(trouble) = &member.trouble else { return Mono::NEVER };
        match member.state {
            Life::Suspect => {
                let timeout = self.params.liveness.suspicion_timeout;
                member.since + if trouble.sought { timeout } else { timeout / 2 }
            }
            Life::Alive => trouble.broken_at().min(trouble.outlived_at(self.params.liveness.suspicion_timeout)),
            Life::Dead | Life::Left => Mono::NEVER,
        }
    }

    /// Whether a link that broke has not been made again in time.
    fn is_overdue(&self, now: Mono, node: &NodeId) -> bool {
        let trouble = self.members.get(node).and_then(|member| member.trouble.as_ref());
        trouble.is_some_and(|trouble| trouble.broken_at() <= now)
    }

    /// A link that stands is worth more than what others said long enough ago.
    fn drop_outlived(&mut self, now: Mono, node: &NodeId) {
        let (is_linked, timeout) = (self.is_linked(node), self.params.liveness.suspicion_timeout);
        let trouble = self.members.get_mut(node).and_then(|member| member.trouble.as_mut());
        if let Some(trouble) = trouble.filter(|trouble| trouble.outlived_at(timeout) <= now) {
            trouble.kept = None;
            if is_linked {
                trouble.doubts.clear();
            }
        }
    }

    /// When liveness next wants attention.
    pub fn deadline(&self) -> Mono {
        let idle = |w: &Watched| {
            (w.sent + self.params.liveness.keepalive_interval).min(w.heard + self.params.liveness.silence_max)
        };
        let first = || self.links.iter().map(|(link, watched)| (idle(watched), *link)).min();
        self.first.set(self.first.get().or_else(first));
        let links = self.first.get().map_or(Mono::NEVER, |(due, _)| due);
        links.min(self.due.first().map_or(Mono::NEVER, |(due, _)| *due))
    }

    /// Acts on whatever is due.
    pub fn on_deadline(&mut self, cx: &mut Cx<'_>, own: &NodeId) {
        self.watch_links(cx, own);
        let now = cx.now.mono;
        while let Some((due, node)) = self.due.first().cloned().filter(|(due, _)| *due <= now) {
            if self.state_of(&node) == Some(Life::Suspect) {
                self.seek_or_bury(now, &node);
            } else {
                self.drop_outlived(now, &node);
                if self.is_overdue(now, &node) {
                    self.doubt(now, own, &node, SuspicionCause::Broken);
                    // Whoever is not doubted now is looked at again when the next dial fails.
                    let alive = self.members.get_mut(&node).filter(|member| member.state == Life::Alive);
                    if let Some(trouble) = alive.and_then(|member| member.trouble.as_mut()) {
                        trouble.broken = None;
                    }
                }
                self.schedule(&node);
            }
            assert!(self.due.first() != Some(&(due, node)), "what was due has been dealt with");
        }
    }

    /// Nobody is taken for dead on the word of others alone: there is time to ask it ourselves.
    fn seek_or_bury(&mut self, now: Mono, node: &NodeId) {
        let trouble = self.members.get_mut(node).and_then(|member| member.trouble.as_mut());
        match trouble.filter(|trouble| !trouble.sought) {
            Some(trouble) => {
                trouble.sought = true;
                self.facts.push(Fact::Seek { node: node.clone() });
                self.schedule(node);
            }
            None => self.set(now, node, Life::Dead, SuspicionCause::Silent),
        }
    }

    fn watch_links(&mut self, cx: &mut Cx<'_>, own: &NodeId) {
        let now = cx.now.mono;
        let mut silent = Vec::new();
        self.first.take();
        for (link, watched) in &mut self.links {
            if watched.sent + self.params.liveness.keepalive_interval <= now {
                watched.sent = now;
                cx.send(*link, Message::Keepalive(Keepalive {}));
            }
            if watched.heard + self.params.liveness.silence_max <= now {
                watched.heard = now;
                silent.push((*link, watched.node.clone()));
            }
        }
        for (link, node) in silent {
            // Half open, or its process stands still: another link is tried.
            cx.fx.push(Effect::Hangup { link });
            self.doubt(now, own, &node, SuspicionCause::Silent);
        }
    }
}

/// How long we wait before we doubt a member that has proved us wrong so often in a row.
fn patience(refuted: u32) -> Duration {
    (REDIAL_GRACE * 2u32.saturating_pow(refuted.min(16))).min(PATIENCE_MAX)
}

#[cfg(test)]
mod tests;
