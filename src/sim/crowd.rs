//! A crowd: very many full nodes under virtual time without faults, to see how updates spread.
//!
//! Nothing judges it step by step (that is [`crate::sim::cluster`]'s business, at a few dozen nodes); it is made to be
//! small and quick instead. Handling a message takes no time: what is measured is links and rules, not processors.
//! Links are TCP: they keep order, and what is lost on the way arrives late and holds up what follows.
//!
//! Invariant: a plan decides everything; two runs of it are equal.

use std::collections::BTreeMap;

use crate::core::effect::Effect;
use crate::core::event::Event;
use crate::core::hard_state::{Record, Recovered, StoreIdentity};
use crate::core::id::{Channel, Hash, LinkId, NodeId, PersistSeq, RegionId, StoreId};
use crate::core::message::Message;
use crate::core::message::agreement::Content;
use crate::core::node::Node;
use crate::core::params::Params;
use crate::core::reading::Reading;
use crate::core::rng::Rng;
use crate::core::state::system::Addr;
use crate::core::time::{Mono, Now, Wall};
use crate::core::view::Seen;
use crate::core::work::Done;
use crate::sim::queue::Queue;

/// How links behave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Links {
    /// Mean time in µs that a message takes between nodes of a region; links differ by half of it either way.
    pub near_us: u64,
    /// The same between regions.
    pub far_us: u64,
    /// A message takes up to this share longer than its link's least.
    pub jitter: f64,
    /// Share of messages that TCP has to send again.
    pub loss: f64,
}

/// How long TCP waits before it sends again what was lost, in µs.
const RETRANSMIT_US: u64 = 200_000;
/// How long a write takes to be durable where nothing depends on it, in µs.
pub const DISK_US: u64 = 200;
/// Wall clock of every node at the start, in ms since 1970.
const WALL_MS: u64 = 1_700_000_000_000;

impl Links {
    /// Draws the least time of a link in µs.
    pub fn draw(&self, rng: &mut Rng, far: bool) -> u64 {
        let mean = if far { self.far_us } else { self.near_us } as f64;
        (mean * (0.5 + rng.unit())) as u64
    }

    /// Draws the time of one message over a link in µs.
    pub fn delay(&self, rng: &mut Rng, least: u64) -> u64 {
        let lost = if rng.chance(self.loss) { RETRANSMIT_US } else { 0 };
        least + (least as f64 * self.jitter * rng.unit()) as u64 + lost
    }
}

/// What a crowd is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Nodes.
    pub nodes: usize,
    /// Regions; nodes take turns.
    pub regions: usize,
    /// Voters of each region.
    pub voters: usize,
    /// Neighbours kept in the own region.
    pub degree: usize,
    /// How links behave.
    pub links: Links,
    /// How long a write takes to be durable, in µs.
    pub disk_us: u64,
    /// Seed of everything.
    pub seed: u64,
}

impl Plan {
    /// The region of a node.
    pub fn region_of(&self, node: usize) -> usize {
        node % self.regions
    }

    fn region(&self, node: usize) -> RegionId {
        RegionId::new(&format!("r{}", self.region_of(node))).expect("a good name")
    }

    fn params(&self, node: usize) -> Params {
        let mut voters: BTreeMap<RegionId, Vec<NodeId>> = BTreeMap::new();
        for place in 0..(self.regions * self.voters).min(self.nodes) {
            voters.entry(self.region(place)).or_default().push(name(place));
        }
        let mut params = Params::new("crowd", name(node), self.region(node), addr(node));
        params.bootstrap = voters.values().flatten().map(|id| id.as_str().into()).collect();
        params.initial_voters = voters;
        params.gossip.overlay_degree = self.degree;
        params
    }
}

fn name(node: usize) -> NodeId {
    NodeId::new(&format!("n{node}")).expect("a good name")
}

fn addr(node: usize) -> Addr {
    format!("n{node}").as_str().into()
}

fn place(addr: &str) -> Option<usize> {
    addr.strip_prefix('n')?.parse().ok()
}

/// One thing that is going to happen.
enum What {
    Start { node: usize },
    Wake { node: usize },
    Dial { from: usize, to: usize },
    Accept { conn: usize, dialed: Addr },
    Deliver { conn: usize, side: usize, message: Box<Message> },
    Down { conn: usize, side: usize },
    Ready { node: usize, link: LinkId },
    Persisted { node: usize, seq: PersistSeq },
    Loaded { node: usize, content: Content, hash: Hash },
    Computed { node: usize, done: Box<Done> },
    Write { node: usize, update: Box<Reading> },
}

struct Conn {
    /// Node and its name for the link, the dialing side first.
    ends: [(usize, LinkId); 2],
    least_us: u64,
    /// When the last message of each side arrives: order is kept.
    last: [u64; 2],
    open: bool,
}

struct Member {
    node: Option<Node>,
    /// Connection and side of each link, by its number.
    links: Vec<(usize, usize)>,
    wake_at: u64,
    documents: BTreeMap<Hash, Vec<u8>>,
    bodies: BTreeMap<Hash, Vec<u8>>,
}

/// Looks on: when, which node, what.
pub type Onlooker = Box<dyn FnMut(u64, usize, Seen<'_>)>;

/// Messages and bytes, by type.
pub type Traffic = BTreeMap<&'static str, (u64, u64)>;

/// A running crowd.
pub struct Crowd {
    plan: Plan,
    members: Vec<Member>,
    conns: Vec<Conn>,
    queue: Queue<What>,
    rng: Rng,
    fx: Vec<Effect>,
    channel: Channel,
    /// For each node: update, its writer, and when it came to be held.
    held: Vec<Vec<(u64, usize, u64)>>,
    /// What has been sent since it was last taken.
    traffic: Traffic,
    onlooker: Option<Onlooker>,
    scratch: Vec<u8>,
    steps: u64,
}

impl Crowd {
    /// Nodes that will start one after another, `apart_us` between them, voters first.
    pub fn new(plan: Plan, apart_us: u64) -> Self {
        let member = || Member {
            node: None,
            links: Vec::new(),
            wake_at: u64::MAX,
            documents: BTreeMap::new(),
            bodies: BTreeMap::new(),
        };
        let mut crowd = Self {
            members: (0..plan.nodes).map(|_| member()).collect(),
            conns: Vec::new(),
            queue: Queue::default(),
            rng: Rng::new(plan.seed),
            fx: Vec::new(),
            channel: Channel::new("bench").expect("a good name"),
            held: vec![Vec::new(); plan.nodes],
            traffic: Traffic::new(),
            onlooker: None,
            scratch: Vec::new(),
            steps: 0,
            plan,
        };
        for node in 0..crowd.plan.nodes {
            crowd.queue.at(node as u64 * apart_us, What::Start { node });
        }
        crowd
    }

    /// Virtual time in µs.
    pub fn now(&self) -> u64 {
        self.queue.now()
    }

    /// Events handled by nodes.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The node of a place, if it runs.
    pub fn node(&self, place: usize) -> Option<&Node> {
        self.members[place].node.as_ref()
    }

    /// Has somebody look on from now on.
    pub fn look_on(&mut self, onlooker: Onlooker) {
        self.onlooker = Some(onlooker);
    }

    /// Ends a node's process: its host closes its connections, and what was under way on them is lost.
    pub fn kill(&mut self, node: usize) {
        self.members[node].node = None;
        for link in 1..=self.members[node].links.len() {
            self.hang_up(node, LinkId(link as u64));
        }
    }

    /// Has a node write an update at a time to come: a reading whose value is the update's number.
    pub fn write_at(&mut self, at_us: u64, node: usize, update: Reading) {
        self.queue.at(at_us, What::Write { node, update: Box::new(update) });
    }

    /// What the nodes' wall clocks say at a time.
    pub fn wall_at(at_us: u64) -> Wall {
        Wall::from_millis(WALL_MS + at_us / 1000)
    }

    /// Lets everything happen up to and including a time.
    pub fn run_until(&mut self, until_us: u64) {
        while let Some(what) = self.queue.pop_until(until_us) {
            self.happen(what);
        }
    }

    /// True if every node runs and all hold the same number of entries, at least one of every node.
    pub fn is_whole(&self) -> bool {
        let entries = |member: &Member| member.node.as_ref().map(|node| node.store().iter().count());
        let first = entries(&self.members[0]);
        first.is_some_and(|count| count >= self.plan.nodes) && self.members.iter().all(|m| entries(m) == first)
    }

    /// True if every node has noted this update since what is held was last taken.
    pub fn all_hold(&self, update: u64) -> bool {
        self.held.iter().all(|held| held.iter().rev().any(|(noted, _, _)| *noted == update))
    }

    /// Takes what each node came to hold: update, writer, and when.
    pub fn take_held(&mut self) -> Vec<Vec<(u64, usize, u64)>> {
        self.held.iter_mut().map(std::mem::take).collect()
    }

    /// Takes what was sent since the last call.
    pub fn take_traffic(&mut self) -> Traffic {
        std::mem::take(&mut self.traffic)
    }

    fn clock(&self) -> Now {
        Now { mono: Mono::from_micros(self.now()), wall: Self::wall_at(self.now()) }
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Start { node } => self.start(node),
            What::Wake { node } => {
                if self.members[node].wake_at <= self.now() {
                    self.members[node].wake_at = u64::MAX;
                    self.step(node, Event::Wake);
                }
            }
            What::Dial { from, to } => self.connect(from, to),
            What::Accept { conn, dialed } => {
                let [(from, near), (to, far)] = self.conns[conn].ends;
                self.step(to, Event::LinkUp { link: far, dialed: None });
                self.step(from, Event::LinkUp { link: near, dialed: Some(dialed) });
            }
            What::Deliver { conn, side, message } => {
                let (node, link) = self.conns[conn].ends[1 - side];
                if self.conns[conn].open {
                    self.show(node, Seen::Received(&message));
                    self.step(node, Event::Received { link, message });
                }
            }
            What::Down { conn, side } => {
                let (node, link) = self.conns[conn].ends[side];
                self.step(node, Event::LinkDown { link });
            }
            What::Ready { node, link } => self.step(node, Event::LinkReady { link }),
            What::Persisted { node, seq } => self.step(node, Event::Persisted { seq }),
            What::Loaded { node, content, hash } => {
                let member = &self.members[node];
                let held = if content == Content::Document { &member.documents } else { &member.bodies };
                let bytes = held.get(&hash).cloned();
                self.step(node, Event::Loaded { content, hash, bytes });
            }
            What::Computed { node, done } => self.step(node, Event::Computed { done }),
            What::Write { node, update } => {
                self.step(node, Event::Sensed { readings: vec![(self.channel.clone(), *update)] });
            }
        }
    }

    fn start(&mut self, node: usize) {
        let store = StoreId((u128::from(self.rng.bits()) << 64) | u128::from(self.rng.bits()));
        let (identity, seed) = (StoreIdentity { id: store, fresh: true }, self.rng.bits());
        let started = Node::recover(self.plan.params(node), identity, Recovered::default(), seed, self.clock());
        self.members[node].node = Some(started);
        self.step(node, Event::Wake);
    }

    fn connect(&mut self, from: usize, to: usize) {
        if self.members[to].node.is_none() {
            return self.step(from, Event::DialFailed { addr: addr(to), refused: true });
        }
        let far = self.plan.region_of(from) != self.plan.region_of(to);
        let least_us = self.plan.links.draw(&mut self.rng, far);
        let conn = self.conns.len();
        let mut end = |node: usize, side| {
            let links = &mut self.members[node].links;
            links.push((conn, side));
            (node, LinkId(links.len() as u64))
        };
        let ends = [end(from, 0), end(to, 1)];
        self.conns.push(Conn { ends, least_us, last: [0; 2], open: true });
        self.queue.after(least_us, What::Accept { conn, dialed: addr(to) });
    }

    fn step(&mut self, node: usize, event: Event) {
        let now = self.clock();
        let Some(running) = self.members[node].node.as_mut() else { return };
        let mut fx = std::mem::take(&mut self.fx);
        running.handle(event, now, &mut fx);
        let deadline = running.deadline().as_micros();
        self.steps += 1;
        for effect in fx.drain(..) {
            self.perform(node, effect);
        }
        self.fx = fx;
        if deadline < self.members[node].wake_at {
            self.members[node].wake_at = deadline;
            self.queue.at(deadline, What::Wake { node });
        }
    }

    fn show(&mut self, node: usize, seen: Seen<'_>) {
        if let Some(onlooker) = &mut self.onlooker {
            onlooker(self.queue.now(), node, seen);
        }
    }

    fn perform(&mut self, node: usize, effect: Effect) {
        match effect {
            Effect::Dial { addr: to } => match place(&to).filter(|to| *to < self.plan.nodes) {
                Some(to) => self.queue.after(self.plan.links.near_us, What::Dial { from: node, to }),
                None => debug_assert!(false, "nobody has the address {to}"),
            },
            Effect::Send { link, message, notify } => self.send(node, link, message, notify),
            Effect::Hangup { link } => self.hang_up(node, link),
            Effect::Persist { seq, records } => {
                records.into_iter().for_each(|record| keep(&mut self.members[node], record));
                self.queue.after(self.plan.disk_us, What::Persisted { node, seq });
            }
            Effect::Load { content, hash } => self.queue.after(self.plan.disk_us, What::Loaded { node, content, hash }),
            Effect::Compute { work } => {
                let done = Box::new(work.run());
                self.queue.after(0, What::Computed { node, done });
            }
            Effect::Changed { key, entry } => {
                self.show(node, Seen::Changed(&key, &entry));
                if key.channel == self.channel
                    && let Some(update) = entry.value.reading().and_then(|reading| reading.value)
                    && let Some(writer) = place(key.origin.as_str())
                {
                    self.held[node].push((update as u64, writer, self.queue.now()));
                }
            }
            Effect::Notice(notice) => self.show(node, Seen::Notice(&notice)),
            Effect::Reply { .. } => {}
            Effect::Stop { why } => panic!("n{node} stops in a crowd without faults: {why:?}"),
        }
    }

    fn send(&mut self, node: usize, link: LinkId, message: Message, notify: bool) {
        let (conn, side) = self.members[node].links[link.0 as usize - 1];
        if !self.conns[conn].open {
            return;
        }
        self.show(node, Seen::Sent(&message));
        self.scratch.clear();
        message.encode(&mut self.scratch);
        let sent = self.traffic.entry(message.type_name()).or_default();
        *sent = (sent.0 + 1, sent.1 + 4 + self.scratch.len() as u64);
        let delay = self.plan.links.delay(&mut self.rng, self.conns[conn].least_us);
        let last = &mut self.conns[conn].last[side];
        let arrives = (self.queue.now() + delay).max(*last);
        *last = arrives;
        self.queue.at(arrives, What::Deliver { conn, side, message: Box::new(message) });
        if notify {
            self.queue.after(0, What::Ready { node, link });
        }
    }

    fn hang_up(&mut self, node: usize, link: LinkId) {
        let (conn, side) = self.members[node].links[link.0 as usize - 1];
        if std::mem::replace(&mut self.conns[conn].open, false) {
            let there = (self.now() + self.conns[conn].least_us).max(self.conns[conn].last[side]);
            self.queue.after(0, What::Down { conn, side });
            self.queue.at(there, What::Down { conn, side: 1 - side });
        }
    }
}

/// Keeps what may be asked for again.
fn keep(member: &mut Member, record: Record) {
    match record {
        Record::Document(document) => {
            member.documents.insert(document.hash(), document.bytes().as_bytes().to_vec());
        }
        Record::Body(body) => {
            member.bodies.insert(body.hash(), body.packed().to_vec());
        }
        Record::DropBody(hash) => {
            member.bodies.remove(&hash);
        }
        Record::Cluster(_)
        | Record::NoCluster
        | Record::Hard(..)
        | Record::Committed(..)
        | Record::ClockMark(_)
        | Record::Own(_)
        | Record::KeepBody(_)
        | Record::DropOwn(_)
        | Record::LastSeen(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn plan(nodes: usize) -> Plan {
        let links = Links { near_us: 1000, far_us: 30_000, jitter: 0.1, loss: 0.0 };
        Plan { nodes, regions: 1, voters: 3, degree: 6, links, disk_us: DISK_US, seed: 7 }
    }

    /// Has a node write an update so much later.
    fn write(crowd: &mut Crowd, after_us: u64, node: usize, update: u64) {
        let due = crowd.now() + after_us;
        crowd.write_at(due, node, Reading::new(update as f64, Crowd::wall_at(due)));
    }

    /// A whole crowd in which every node has written twice.
    fn taught(plan: Plan) -> Crowd {
        let mut crowd = Crowd::new(plan, 1000);
        while !crowd.is_whole() {
            assert!(crowd.now() < 60_000_000, "it never becomes whole");
            crowd.run_until(crowd.now() + 500_000);
        }
        // Until everybody has the neighbours that it keeps.
        crowd.run_until(crowd.now() + 10_000_000);
        for node in (0..crowd.plan.nodes).cycle().take(3 * crowd.plan.nodes) {
            write(&mut crowd, 20_000, node, 0);
            crowd.run_until(crowd.now() + 20_000);
        }
        crowd.run_until(crowd.now() + 1_000_000);
        crowd.take_held();
        crowd.take_traffic();
        crowd
    }

    #[test]
    fn updates_go_along_trees_and_take_a_few_links() {
        let mut crowd = taught(plan(40));
        let begun = crowd.now();
        for i in 0..50u64 {
            write(&mut crowd, i * 20_000, i as usize % 40, 1 + i);
        }
        crowd.run_until(begun + 2_000_000);
        let held = crowd.take_held();
        assert!(held.iter().all(|held| held.len() == 50), "everybody holds everything");
        let pushes = crowd.take_traffic()["SENSOR_UPDATE"].0 as f64 / (50.0 * 40.0);
        // Flooding takes about seven. An overlay that is still choosing its links floods over each new one once.
        assert!((0.95..2.0).contains(&pushes), "{pushes} copies per node and update");
        let late = held.iter().flatten().map(|(update, _, at)| at - (begun + (update - 1) * 20_000)).max();
        assert!((1_000..12_000).contains(&late.unwrap()), "{late:?}");
    }

    #[test]
    fn a_crowd_repeats_itself() {
        let run = || {
            let mut crowd = Crowd::new(Plan { links: Links { loss: 0.01, ..plan(1).links }, ..plan(12) }, 1000);
            crowd.run_until(3_000_000);
            (crowd.steps(), crowd.take_traffic())
        };
        assert_eq!(run(), run());
    }
}
