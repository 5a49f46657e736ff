//! Liveness: who is alive, suspect or dead.
//!
//! A neighbour that breaks off and cannot be reached again, or is silent, is doubted in public: an entry
//! `@suspect/<node>` names the newest `@node` of it that the doubter knows, and is void as soon as a newer one is
//! known. The suspect refutes by saying who it is anew. Not refuted in time it is dead; at once if its host says that
//! nobody listens there, and a second neighbour agrees.

use std::collections::BTreeMap;
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
use crate::core::state::system::{self, Addr, NodeInfo, Suspicion};
use crate::core::time::Mono;
use crate::core::view::Liveness as Life;

/// What liveness tells the node.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// A node's state changed; `why` it is doubted, if it is.
    Changed { node: NodeId, state: Life, why: SuspicionCause },
    /// Write this of our own.
    Publish { channel: Channel, value: Value },
    /// Somebody doubts us: say who we are anew.
    Refute,
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
    facts: Vec<Fact>,
}

#[derive(Debug)]
struct MemberState {
    state: Life,
    since: Mono,
    addr: Option<Addr>,
    /// Stamp of its newest `@node`.
    known: Hlc,
    /// Who doubts it, and whether its host refused them.
    doubts: BTreeMap<NodeId, Suspicion>,
    /// Since when we have no link to it that we once had.
    broken: Option<Mono>,
    /// How often our own doubts were refuted in a row.
    refuted: u32,
}

#[derive(Debug)]
struct Watched {
    node: NodeId,
    up: Mono,
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

    fn member(&mut self, now: Mono, node: &NodeId) -> &mut MemberState {
        self.members.entry(node.clone()).or_insert_with(|| MemberState {
            state: Life::Left,
            since: now,
            addr: None,
            known: Hlc::ZERO,
            doubts: BTreeMap::new(),
            broken: None,
            refuted: 0,
        })
    }

    fn set(&mut self, now: Mono, node: &NodeId, state: Life, why: SuspicionCause) {
        let member = self.member(now, node);
        if member.state != state {
            (member.state, member.since) = (state, now);
            self.facts.push(Fact::Changed { node: node.clone(), state, why });
        }
    }

    fn is_linked(&self, node: &NodeId) -> bool {
        self.links.values().any(|watched| watched.node == *node)
    }

    /// A link is ready for use.
    pub fn on_link_up(&mut self, cx: &mut Cx<'_>, peer: &Peer) {
        let now = cx.now.mono;
        self.links.insert(peer.link, Watched { node: peer.node.clone(), up: now, heard: now, sent: now });
        let member = self.member(now, &peer.node);
        member.addr = Some(peer.addr.clone());
        member.broken = None;
        self.believe(now, &peer.node);
    }

    /// Somebody is there with our own eyes, whatever others doubt.
    fn believe(&mut self, now: Mono, node: &NodeId) {
        self.member(now, node).doubts.clear();
        self.set(now, node, Life::Alive, SuspicionCause::Broken);
    }

    /// A link is no longer in use.
    ///
    /// One that an end gave up on purpose (`parted`) says nothing of its peer.
    pub fn on_link_down(&mut self, cx: &mut Cx<'_>, link: LinkId, parted: bool) {
        let Some(watched) = self.links.remove(&link) else { return };
        if !parted && !self.is_linked(&watched.node) {
            let stood = cx.now.mono.since(watched.up);
            let member = self.member(cx.now.mono, &watched.node);
            member.broken = Some(cx.now.mono);
            if stood >= PATIENCE_MAX {
                member.refuted = 0;
            }
        }
    }

    /// Nobody answers at a member's address; with `refused`, its host says that nobody listens there.
    pub fn on_dial_failed(&mut self, cx: &mut Cx<'_>, own: &NodeId, node: &NodeId, refused: bool) {
        if !self.is_linked(node) {
            let why = if refused { SuspicionCause::Refused } else { SuspicionCause::Broken };
            self.doubt(cx.now.mono, own, node, why);
        }
    }

    /// Doubts a member in public, unless we did already or were wrong too lately.
    fn doubt(&mut self, now: Mono, own: &NodeId, node: &NodeId, why: SuspicionCause) {
        let patience = self.patience(node);
        let member = self.member(now, node);
        let refused = why == SuspicionCause::Refused;
        let waited = member.broken.is_none_or(|at| member.refuted == 0 || at + patience <= now);
        let news = member.doubts.get(own).is_none_or(|doubt| doubt.of < member.known || (refused && !doubt.refused));
        if member.known == Hlc::ZERO || !waited || !news || member.state == Life::Dead || member.state == Life::Left {
            return;
        }
        let suspicion = Suspicion { of: member.known, refused };
        self.facts.push(Fact::Publish { channel: system::suspect_channel(node), value: Value::of(&suspicion) });
        self.take_doubt(now, own, node, suspicion, why);
    }

    /// How long we wait before we doubt a member that has proved us wrong.
    fn patience(&self, node: &NodeId) -> Duration {
        let refuted = self.members.get(node).map_or(0, |member| member.refuted);
        (REDIAL_GRACE * 2u32.saturating_pow(refuted.min(16))).min(PATIENCE_MAX)
    }

    fn take_doubt(&mut self, now: Mono, doubter: &NodeId, node: &NodeId, suspicion: Suspicion, why: SuspicionCause) {
        let member = self.member(now, node);
        member.doubts.insert(doubter.clone(), suspicion);
        let agreed = member.doubts.len() > 1 && member.doubts.values().any(|doubt| doubt.refused);
        if member.state == Life::Alive {
            self.set(now, node, Life::Suspect, why);
        }
        if agreed && self.state_of(node) == Some(Life::Suspect) {
            self.set(now, node, Life::Dead, why);
        }
    }

    /// Somebody else doubts a member. `own` is who we are, and `known` the stamp of our newest `@node`.
    pub fn on_suspicion(
        &mut self,
        cx: &mut Cx<'_>,
        own: (&NodeId, Option<Hlc>),
        doubter: &NodeId,
        node: &NodeId,
        suspicion: Suspicion,
    ) {
        if node == own.0 {
            if own.1.is_some_and(|known| suspicion.of >= known) {
                self.facts.push(Fact::Refute);
            }
            return;
        }
        let member = self.member(cx.now.mono, node);
        let void = suspicion.of < member.known || matches!(member.state, Life::Dead | Life::Left);
        if !void && !self.is_linked(node) {
            let why = if suspicion.refused { SuspicionCause::Refused } else { SuspicionCause::Silent };
            self.take_doubt(cx.now.mono, doubter, node, suspicion, why);
        }
    }

    /// Anything came on this link.
    pub fn on_frame(&mut self, cx: &mut Cx<'_>, link: LinkId) {
        let now = cx.now.mono;
        let Some(watched) = self.links.get_mut(&link) else { return };
        watched.heard = now;
        let node = watched.node.clone();
        if self.state_of(&node) != Some(Life::Alive) && self.state_of(&node) != Some(Life::Left) {
            self.believe(now, &node);
        }
    }

    /// A member said who it is, under this stamp.
    pub fn on_member(&mut self, cx: &mut Cx<'_>, own: &NodeId, node: &NodeId, info: &NodeInfo, stamp: Hlc) {
        let now = cx.now.mono;
        let member = self.member(now, node);
        member.addr = Some(info.addr.clone());
        member.known = member.known.max(stamp);
        let known = member.known;
        if member.doubts.get(own).is_some_and(|doubt| doubt.of < known) {
            member.refuted += 1;
            member.broken = member.broken.map(|_| now);
        }
        member.doubts.retain(|_, doubt| doubt.of >= known);
        if info.left {
            self.set(cx.now.mono, node, Life::Left, SuspicionCause::Broken);
        } else if self.member(cx.now.mono, node).doubts.is_empty() {
            self.set(cx.now.mono, node, Life::Alive, SuspicionCause::Broken);
        }
    }

    /// A node's entries were forgotten.
    pub fn on_forgotten(&mut self, node: &NodeId) {
        self.members.remove(node);
    }

    fn overdue(&self, node: &NodeId, member: &MemberState) -> Mono {
        match member.state {
            Life::Suspect => member.since + self.params.liveness.suspicion_timeout,
            Life::Alive => member.broken.map_or(Mono::NEVER, |at| at + self.patience(node)),
            Life::Dead | Life::Left => Mono::NEVER,
        }
    }

    /// When liveness next wants attention.
    pub fn deadline(&self) -> Mono {
        let idle = |w: &Watched| {
            (w.sent + self.params.liveness.keepalive_interval).min(w.heard + self.params.liveness.silence_max)
        };
        let links = self.links.values().map(idle).min().unwrap_or(Mono::NEVER);
        let members = self.members.iter().map(|(node, member)| self.overdue(node, member)).min();
        links.min(members.unwrap_or(Mono::NEVER))
    }

    /// Acts on whatever is due.
    pub fn on_deadline(&mut self, cx: &mut Cx<'_>, own: &NodeId) {
        let now = cx.now.mono;
        let mut silent = Vec::new();
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
        let due: Vec<(NodeId, Life)> = self
            .members
            .iter()
            .filter(|(node, member)| self.overdue(node, member) <= now)
            .map(|(node, member)| (node.clone(), member.state))
            .collect();
        for (node, state) in due {
            match state {
                Life::Suspect => self.set(now, &node, Life::Dead, SuspicionCause::Silent),
                _ => {
                    self.doubt(now, own, &node, SuspicionCause::Broken);
                    // Whoever is not doubted now is looked at again later.
                    if let Some(member) = self.members.get_mut(&node).filter(|member| member.state == Life::Alive) {
                        member.broken = Some(now);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::{RegionId, StoreId};
    use crate::core::rng::Rng;
    use crate::core::time::{Now, Wall};

    struct World {
        live: Liveness,
        now: Mono,
        fx: Vec<Effect>,
    }

    fn name(text: &str) -> NodeId {
        NodeId::new(text).unwrap()
    }

    fn stamp(n: u64) -> Hlc {
        Hlc::from_bits(n)
    }

    impl World {
        fn new() -> Self {
            let params = Params::new("lab", name("me"), RegionId::new("main").unwrap(), "me".into());
            Self { live: Liveness::new(&params), now: Mono::from_micros(1), fx: Vec::new() }
        }

        fn with<T>(&mut self, act: impl FnOnce(&mut Liveness, &mut Cx<'_>) -> T) -> T {
            let mut rng = Rng::new(1);
            let now = Now { mono: self.now, wall: Wall::from_millis(1) };
            let mut cx = Cx { now, rng: &mut rng, fx: &mut self.fx };
            act(&mut self.live, &mut cx)
        }

        fn known(&mut self, node: &str, at: u64) {
            let info = NodeInfo {
                addr: node.into(),
                api: None,
                region: RegionId::new("main").unwrap(),
                store: StoreId(1),
                start: stamp(1),
                version: "x".into(),
                left: false,
            };
            self.with(|live, cx| live.on_member(cx, &name("me"), &name(node), &info, stamp(at)));
        }

        fn linked(&mut self, node: &str, link: u64) {
            let (store, region) = (StoreId(1), RegionId::new("main").unwrap());
            let (addr, link) = (node.into(), LinkId(link));
            let peer = Peer { link, node: name(node), store, region, start: stamp(1), addr, dialed: None };
            self.with(|live, cx| live.on_link_up(cx, &peer));
        }

        fn cut(&mut self, link: u64) {
            self.with(|live, cx| live.on_link_down(cx, LinkId(link), false));
        }

        fn pass(&mut self, span: Duration) {
            let end = self.now + span;
            while self.live.deadline() <= end {
                self.now = self.live.deadline().max(self.now);
                self.with(|live, cx| live.on_deadline(cx, &name("me")));
            }
            self.now = end;
        }

        fn state(&self, node: &str) -> Option<Life> {
            self.live.state_of(&name(node))
        }

        fn doubts(&mut self, doubter: &str, node: &str, of: u64, refused: bool) {
            let suspicion = Suspicion { of: stamp(of), refused };
            self.with(|live, cx| {
                live.on_suspicion(cx, (&name("me"), Some(stamp(9))), &name(doubter), &name(node), suspicion);
            });
        }
    }

    const SECONDS: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn a_broken_link_makes_a_doubt_then_a_death_and_a_newer_word_refutes_both() {
        let mut world = World::new();
        world.known("a", 5);
        world.linked("a", 1);
        world.cut(1);
        assert_eq!(world.state("a"), Some(Life::Alive), "it may come back at once");
        world.pass(SECONDS(2));
        assert_eq!(world.state("a"), Some(Life::Suspect));
        let said = |world: &mut World| world.live.take_facts().into_iter().any(|f| matches!(f, Fact::Publish { .. }));
        assert!(said(&mut world), "in public");
        world.known("a", 6);
        assert_eq!(world.state("a"), Some(Life::Alive));
        world.pass(SECONDS(1));
        assert_eq!(world.state("a"), Some(Life::Alive), "who was wrong waits longer");
        world.pass(SECONDS(20));
        assert_eq!(world.state("a"), Some(Life::Dead));
        world.linked("a", 2);
        assert_eq!(world.state("a"), Some(Life::Alive));
    }

    #[test]
    fn two_doubters_and_a_refusal_make_a_death_at_once() {
        let mut world = World::new();
        world.known("a", 5);
        world.linked("a", 1);
        world.cut(1);
        world.with(|live, cx| live.on_dial_failed(cx, &name("me"), &name("a"), true));
        assert_eq!(world.state("a"), Some(Life::Suspect));
        world.doubts("b", "a", 5, true);
        assert_eq!(world.state("a"), Some(Life::Dead));
    }

    #[test]
    fn a_silent_link_is_closed_and_its_peer_doubted() {
        let mut world = World::new();
        world.known("a", 5);
        world.linked("a", 1);
        world.pass(SECONDS(3));
        assert_eq!(world.state("a"), Some(Life::Suspect));
        assert!(world.fx.iter().any(|effect| matches!(effect, Effect::Hangup { link: LinkId(1) })));
    }

    #[test]
    fn a_doubt_of_us_is_refuted_unless_it_is_void() {
        let mut world = World::new();
        world.doubts("b", "me", 8, false);
        assert!(world.live.take_facts().is_empty(), "an older word of ours is doubted: that is void");
        world.doubts("b", "me", 9, false);
        assert_eq!(world.live.take_facts(), vec![Fact::Refute]);
    }

    #[test]
    fn a_void_doubt_is_ignored() {
        let mut world = World::new();
        world.known("a", 5);
        world.doubts("b", "a", 4, true);
        assert_eq!(world.state("a"), Some(Life::Alive));
    }
}
