//! The loop: real nodes, fed with what the models make happen, in virtual time, judged after every step.
//!
//! What goes wrong when is `inject`'s business, what clients do is `load`'s, and when a run has passed is `phases`'.

use std::collections::BTreeMap;
use std::mem;

use crate::core::effect::{Effect, StopReason};
use crate::core::event::{Command, Event};
use crate::core::id::{Channel, GroupId, Index, LinkId, NodeId, RegionId, StoreId, Voter};
use crate::core::ledger::document::PROTOCOL_VERSION;
use crate::core::message::Message;
use crate::core::node::Node;
use crate::core::notice::Notice;
use crate::core::params::Params;
use crate::core::rng::Rng;
use crate::core::state::entry::{Entry, Key};
use crate::core::state::system::Addr;
use crate::sim::clock::NodeClock;
use crate::sim::disk::Disk;
use crate::sim::fault::{Fault, PerFault};
use crate::sim::inject::Undo;
use crate::sim::load::Checkpointed;
use crate::sim::network::{Arrival, Network};
use crate::sim::oracles::arrivals::Place;
use crate::sim::oracles::spread::Spread;
use crate::sim::oracles::{Actor, Oracles, Violation};
use crate::sim::phases::{Goal, Phase};
use crate::sim::queue::{Queue, What};
use crate::sim::scenario::Expect;
use crate::sim::swarm::Plan;
use crate::sim::trace::Trace;

/// What a run came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Events handled by nodes.
    pub steps: u64,
    /// Virtual time that passed, in microseconds.
    pub virtual_us: u64,
    /// Hash of everything that happened.
    pub trace: u64,
    /// Faults that struck.
    pub faults: PerFault<u64>,
    /// Documents committed.
    pub commits: u64,
    /// Index of the newest global one.
    pub global: u64,
    /// Elections won.
    pub elections: u64,
    /// Client operations that were answered, refusals included.
    pub answered: u64,
    /// What was counted of spreading and watching.
    pub spread: Spread,
    /// The first broken rule.
    pub violation: Option<Violation>,
}

/// Runs a plan to its end or to the first broken rule.
pub fn run(plan: &Plan, trace: Trace) -> Report {
    let mut cluster = Cluster::new(plan, trace);
    cluster.run();
    cluster.report()
}

/// A node with everything it runs on.
pub(crate) struct Member {
    pub id: NodeId,
    pub addr: Addr,
    pub params: Params,
    pub voter: Voter,
    pub clock: NodeClock,
    pub disk: Disk,
    /// Mean time of a write, in microseconds.
    pub disk_us: u64,
    pub life: u32,
    pub node: Option<Node>,
    pub paused_until: u64,
    /// When the earliest `Wake` in the queue is.
    pub wake_at: u64,
    spins: (u64, u32),
    next_link: u64,
    pub dials_fail_until: u64,
    pub mad_until: u64,
    /// It left, or its run is over: nothing starts it again but a rejoin.
    pub gone: bool,
    pub channels: Vec<Channel>,
    /// When its process last ended, in microseconds.
    pub died: u64,
    /// When it last began.
    pub born: u64,
}

/// In a cluster larger than this some judges look at some nodes only.
const LARGE: usize = 256;
/// And so many they look at.
const LOOKED_AT: usize = 32;
/// In a region with more observers than this they join by any address.
const MANY_OBSERVERS: usize = 16;
/// A process that has just begun may still be taken for what it was.
const NEWS_TRAVEL_US: u64 = 1_000_000;
/// A process paused for longer may rightly be taken for dead.
const PAUSE_TOLERATED_US: u64 = 1_000_000;

/// Wakes at one instant beyond which a node is taken to spin.
const SPINS_MAX: u32 = 1_000;

/// A running simulation.
pub(crate) struct Cluster {
    pub plan: Plan,
    pub queue: Queue,
    pub net: Network,
    pub members: Vec<Member>,
    pub by_addr: BTreeMap<Addr, usize>,
    by_name: BTreeMap<NodeId, usize>,
    pub oracles: Oracles,
    pub trace: Trace,
    pub phase: Phase,
    /// From when on what spreads is counted.
    warm_at: u64,
    /// Chance of everything but the network and single faults.
    pub rng: Rng,
    pub fault_rng: Vec<Rng>,
    pub injected: PerFault<u64>,
    pub episodes: Vec<Option<Undo>>,
    /// Identities that do not come back, or are away for an unknown time.
    pub lost: BTreeMap<Voter, &'static str>,
    pub next_request: u64,
    pub answered: u64,
    elections: u64,
    steps: u64,
    fx: Vec<Effect>,
    frame: Vec<u8>,
    pub violation: Option<Violation>,
    /// What operators have asked for and not been answered.
    pub operations: BTreeMap<u64, Command>,
    pub checkpointed: Checkpointed,
    pub goal: Goal,
    /// Newest index of every group whose commit has been counted.
    newest: BTreeMap<GroupId, Index>,
}

impl Cluster {
    fn new(plan: &Plan, trace: Trace) -> Self {
        let mut rng = Rng::new(plan.seed);
        let mut net = Network::new(rng.fork());
        let (least, most) = plan.scenario.wan_ms;
        net.wan_us = (least * 500, most * 500);
        let fault_rng = Fault::ALL.iter().map(|_| rng.fork()).collect();
        let mut cluster = Self {
            plan: plan.clone(),
            queue: Queue::default(),
            net,
            members: Vec::new(),
            by_addr: BTreeMap::new(),
            by_name: BTreeMap::new(),
            oracles: Oracles::default(),
            trace,
            phase: Phase::Faults,
            warm_at: (plan.scenario.expect.warm_up_s * 1e6) as u64,
            rng,
            fault_rng,
            injected: PerFault::default(),
            episodes: Vec::new(),
            lost: BTreeMap::new(),
            next_request: 0,
            answered: 0,
            elections: 0,
            steps: 0,
            fx: Vec::new(),
            frame: Vec::new(),
            violation: None,
            operations: BTreeMap::new(),
            checkpointed: Checkpointed::default(),
            goal: Goal::default(),
            newest: BTreeMap::new(),
        };
        cluster.populate();
        cluster.start_faults();
        cluster.start_load();
        cluster.start_phases();
        cluster
    }

    fn populate(&mut self) {
        let scenario = self.plan.scenario.clone();
        if scenario.nodes() > LARGE {
            self.oracles.merges.limit(LOOKED_AT);
        }
        let names = initial_names(scenario.regions, scenario.voters, scenario.observers);
        let voters = |region: &str| -> Vec<NodeId> {
            names.iter().filter(|n| n.1 == region && n.2).map(|n| node_id(&n.0)).collect()
        };
        let initial: BTreeMap<RegionId, Vec<NodeId>> =
            names.iter().map(|(_, region, _)| (region_id(region), voters(region))).collect();
        for (name, region, _) in &names {
            let member = self.add_member(name, region, &initial);
            let start = self.rng.below(1_000_000) as u64;
            self.queue.at(start, What::Start { member });
        }
    }

    /// Adds a node that does not run yet.
    pub fn add_member(&mut self, name: &str, region: &str, initial: &BTreeMap<RegionId, Vec<NodeId>>) -> usize {
        let (id, region) = (node_id(name), region_id(region));
        let addr: Addr = format!("{name}:7400").into();
        let number = self.members.len();
        let mut params = self.params(&id, &region, &addr, initial);
        params.bootstrap = self.bootstrap(initial, &id, &params.region);
        self.by_addr.insert(addr.clone(), number);
        self.by_name.insert(id.clone(), number);
        // Nobody is named by a region that was not there at the beginning.
        let home = initial.keys().position(|named| *named == region).expect("a region of the scenario");
        self.net.add(home, self.plan.scenario.distance);
        let store = self.new_store();
        let drift = self.plan.rates[Fault::Drift];
        let skew = self.plan.rates[Fault::Skew];
        let drift_ppm = ((2.0 * self.rng.unit() - 1.0) * drift) as i64;
        let skew_ms = ((2.0 * self.rng.unit() - 1.0) * skew * 1000.0) as i64;
        self.injected[Fault::Drift] += u64::from(drift_ppm != 0);
        self.injected[Fault::Skew] += u64::from(skew_ms != 0);
        let channels = (0..self.plan.scenario.load.channels).map(channel_id).collect();
        self.members.push(Member {
            voter: Voter { node: id.clone(), store },
            id,
            addr,
            params,
            clock: NodeClock::new(drift_ppm, skew_ms),
            disk: Disk::new(store),
            disk_us: 150 + self.rng.below(3_000) as u64,
            life: 0,
            node: None,
            paused_until: 0,
            wake_at: u64::MAX,
            spins: (0, 0),
            next_link: 0,
            dials_fail_until: 0,
            mad_until: 0,
            gone: false,
            channels,
            died: 0,
            born: 0,
        });
        number
    }

    fn params(&self, id: &NodeId, region: &RegionId, addr: &Addr, initial: &BTreeMap<RegionId, Vec<NodeId>>) -> Params {
        let ms = std::time::Duration::from_millis;
        let timing = &self.plan.scenario.timing;
        let mut params = Params::new("sim", id.clone(), region.clone(), addr.clone());
        params.initial_voters = initial.clone();
        params.scope = self.plan.scenario.scope;
        params.gossip.redial_max = ms(2_000);
        params.consensus.heartbeat_interval = ms(timing.heartbeat_ms);
        params.consensus.election_timeout = ms(timing.election_timeout_ms);
        params.consensus.checkpoint_interval = ms(timing.checkpoint_ms);
        params.consensus.voter_replace_after = ms(timing.voter_replace_after_ms);
        params.consensus.voters_max = timing.voters_max;
        params.consensus.bodies_kept = timing.bodies_kept;
        let top = &self.plan.scenario.top;
        params.top.heartbeat_interval = ms(top.heartbeat_ms);
        params.top.election_timeout = ms(top.election_timeout_ms);
        params.top.checkpoint_interval = ms(top.checkpoint_ms);
        params
    }

    /// Whom a node contacts first: all initial voters, so that a genesis can be made; of many observers each some
    /// of its region that were there before it.
    fn bootstrap(&mut self, initial: &BTreeMap<RegionId, Vec<NodeId>>, own: &NodeId, home: &RegionId) -> Vec<Addr> {
        let votes = initial.values().flatten().any(|id| id == own);
        if !votes && self.plan.scenario.observers > MANY_OBSERVERS {
            let there: Vec<&Member> = self.members.iter().filter(|member| member.params.region == *home).collect();
            return (0..2).map(|_| there[self.rng.below(there.len())].addr.clone()).collect();
        }
        initial.values().flatten().filter(|id| *id != own).map(|id| format!("{id}:7400").into()).collect()
    }

    /// Draws a data directory's identity.
    pub fn new_store(&mut self) -> StoreId {
        StoreId((u128::from(self.rng.bits()) << 64) | u128::from(self.rng.bits()))
    }

    fn run(&mut self) {
        while self.violation.is_none() && self.phase != Phase::Done {
            let Some(what) = self.queue.pop() else { break };
            self.happen(what);
        }
    }

    fn report(&self) -> Report {
        let mut faults = self.injected.clone();
        faults[Fault::Loss] = self.net.mangled.lost;
        faults[Fault::Duplicate] = self.net.mangled.doubled;
        faults[Fault::Reorder] = self.net.mangled.overtaken;
        faults[Fault::Retransmit] = self.net.mangled.again;
        Report {
            seed: self.plan.seed,
            steps: self.steps,
            virtual_us: self.queue.now(),
            trace: self.trace.hash(),
            faults,
            commits: self.oracles.ledger.len() as u64,
            global: self.oracles.ledger.newest(&GroupId::Top).map_or(0, |at| at.index.get()),
            elections: self.elections,
            answered: self.answered,
            spread: self.oracles.spread.clone(),
            violation: self.violation.clone(),
        }
    }

    /// Whose process would notice, and so puts it off while it is paused.
    fn target(&self, what: &What) -> Option<usize> {
        match what {
            What::Wake { member, .. }
            | What::DialFailed { member, .. }
            | What::Persisted { member, .. }
            | What::Loaded { member, .. }
            | What::Sense { member } => Some(*member),
            What::Connect { from, .. } => Some(*from),
            What::Deliver { conn, side } | What::Stray { conn, side, .. } => Some(self.net.end(*conn, 1 - side).member),
            What::Accept { conn } => Some(self.net.end(*conn, 1).member),
            What::Down { conn, side } | What::Ready { conn, side } => Some(self.net.end(*conn, *side).member),
            What::Start { .. }
            | What::TcpTimeout { .. }
            | What::Disk { .. }
            | What::Put
            | What::Read { .. }
            | What::Operate { .. }
            | What::Fault(_)
            | What::Undo { .. }
            | What::Look => None,
        }
    }

    fn happen(&mut self, what: What) {
        if let Some(member) = self.target(&what)
            && self.members[member].paused_until > self.queue.now()
        {
            let until = self.members[member].paused_until;
            return self.queue.at(until, what);
        }
        match what {
            What::Start { member } => self.start(member),
            What::Wake { member, life, at } => self.on_wake(member, life, at),
            What::Deliver { conn, side } => self.on_deliver(conn, side),
            What::Stray { conn, side, message } => {
                if let Some((member, link)) = self.net.stray(conn, side) {
                    self.step(member, Event::Received { link, message });
                }
            }
            What::Connect { from, life, to } => self.on_connect(from, life, to),
            What::DialFailed { member, life, addr, refused } => {
                if self.members[member].life == life {
                    self.step(member, Event::DialFailed { addr, refused });
                }
            }
            What::Accept { conn } => self.on_accept(conn),
            What::Down { conn, side } => {
                if let Some(end) = self.net.down(conn, side) {
                    self.step(end.member, Event::LinkDown { link: end.link });
                }
            }
            What::Ready { conn, side } => {
                if let Some((member, link)) = self.net.ready(&self.queue, conn, side).map(|end| (end.member, end.link))
                {
                    self.step(member, Event::LinkReady { link });
                }
            }
            What::TcpTimeout { conn, side, moved } => {
                if self.net.gave_up(conn, side, moved) {
                    self.queue.after(0, What::Down { conn, side });
                }
            }
            What::Disk { member, life } => self.on_disk(member, life),
            What::Persisted { member, life, seq } => {
                if self.members[member].life == life {
                    self.step(member, Event::Persisted { seq });
                }
            }
            What::Loaded { member, life, content, hash } => {
                if self.members[member].life == life {
                    let bytes = self.members[member].disk.load(content, &hash);
                    self.step(member, Event::Loaded { content, hash, bytes });
                }
            }
            What::Sense { member } => self.on_sense(member),
            What::Put => self.on_put(),
            What::Read { at } => self.on_read(at),
            What::Operate { at, command } => self.on_operate(at, command),
            What::Fault(fault) => self.on_fault(fault),
            What::Undo { episode } => self.undo(episode),
            What::Look => self.on_look(),
        }
    }

    /// Starts a process on what its disk gives back.
    pub fn start(&mut self, m: usize) {
        if self.members[m].node.is_some() || self.members[m].gone {
            return;
        }
        if self.members[m].disk.is_damaged() {
            // The checksum finds the flipped bit; the store is set aside for a new one (C11).
            self.lose_disk(m, "corrupt");
        }
        let (origin, seed) = (self.rng.below(1 << 40) as u64, self.rng.bits());
        let at = self.queue.now();
        let member = &mut self.members[m];
        member.clock.reboot(at, origin);
        member.life += 1;
        member.born = at;
        if self.plan.scenario.upgrade && member.life > 1 {
            member.params.versions.1 = PROTOCOL_VERSION + 1;
        }
        member.wake_at = u64::MAX;
        member.paused_until = 0;
        let (identity, recovered) = member.disk.recover();
        let verdict = self.oracles.acks.recovered(&member.id, member.disk.store());
        let now = member.clock.now(at);
        member.node = Some(Node::recover(member.params.clone(), identity, recovered, seed, now));
        self.oracles.merges.reborn(m);
        self.oracles.hierarchy.reborn(&self.members[m].voter);
        self.trace.remark(at, self.members[m].id.as_str(), format_args!("starts"));
        self.judge("acknowledged", verdict);
        self.step(m, Event::Wake);
    }

    /// Ends a process. Unanswered writes are kept as far as chance will have it.
    pub fn crash(&mut self, m: usize, fin: bool) {
        if self.members[m].node.take().is_none() {
            return;
        }
        let at = self.queue.now();
        self.trace.remark(at, self.members[m].id.as_str(), format_args!("dies"));
        let keep = self.rng.below(self.members[m].disk.unsynced() + 1);
        let Member { disk, voter, .. } = &mut self.members[m];
        let (oracles, mut verdict) = (&mut self.oracles, Ok(()));
        disk.crash(keep, |store, record| {
            if verdict.is_ok() {
                verdict = oracles.durable(Actor { voter, store }, record);
            }
        });
        self.members[m].wake_at = u64::MAX;
        self.members[m].died = at;
        if self.phase == Phase::Faults {
            let others = self.members.iter().filter(|member| member.node.is_some()).count();
            self.oracles.spread.deaths_expected += others as u64;
        }
        self.net.process_died(&mut self.queue, m, fin);
        self.break_on(verdict);
    }

    /// Gives one event to a node and does what it asks for.
    pub fn step(&mut self, m: usize, event: Event) {
        let (at, counting) = (self.queue.now(), self.is_counting());
        let member = &mut self.members[m];
        let Some(node) = member.node.as_mut() else { return };
        self.trace.event(at, member.id.as_str(), &event);
        if let Event::Received { message, .. } = &event
            && counting
        {
            self.oracles.spread.received(message);
        }
        let mut fx = mem::take(&mut self.fx);
        node.handle(event, member.clock.now(at), &mut fx);
        self.steps += 1;
        let cut = self.mid_step_crash(fx.len());
        for (i, effect) in fx.drain(..).enumerate() {
            if self.violation.is_some() || self.members[m].node.is_none() {
                break;
            }
            if cut.is_none_or(|cut| i < cut) {
                self.perform(m, effect);
            } else if matches!(effect, Effect::Changed { .. }) {
                // Memory had changed before anything was sent, whether or not anybody was still told.
                self.perform(m, effect);
            }
        }
        self.fx = fx;
        if cut.is_some() {
            self.injected[Fault::CrashMidStep] += 1;
            self.crash_for_a_while(m, true);
        }
        self.schedule_wake(m);
    }

    fn perform(&mut self, m: usize, effect: Effect) {
        let at = self.queue.now();
        self.trace.effect(at, self.members[m].id.as_str(), &effect);
        match effect {
            Effect::Dial { addr } => self.dial(m, addr),
            Effect::Send { link, message, notify } => self.send(m, link, message, notify),
            Effect::Hangup { link } => self.net.hang_up(&mut self.queue, m, link),
            Effect::Persist { seq, records } => {
                let latency = self.disk_latency(m);
                let member = &mut self.members[m];
                let due = member.disk.write(seq, records, at, latency);
                self.queue.at(due, What::Disk { member: m, life: member.life });
            }
            Effect::Load { content, hash } => {
                let latency = self.disk_latency(m);
                let member = &mut self.members[m];
                let due = member.disk.read_at(at, latency);
                self.queue.at(due, What::Loaded { member: m, life: member.life, content, hash });
            }
            Effect::Reply { request, reply } => self.on_reply(m, request, reply),
            Effect::Changed { key, entry } => {
                if self.is_counting() {
                    self.follow(m, &key, &entry);
                }
                let verdict = self.oracles.merges.changed(m, &key, &entry);
                self.judge("merge", verdict);
            }
            Effect::Notice(notice) => self.on_notice(m, &notice),
            Effect::Stop { why } => self.on_stop(m, why),
        }
    }

    /// Counts an update, or its arrival at another node.
    fn follow(&mut self, m: usize, key: &Key, entry: &Entry) {
        let now = self.queue.now();
        if key.origin != self.members[m].id {
            return self.oracles.arrivals.held(now, m, key, entry);
        }
        self.oracles.spread.updates += 1;
        if self.oracles.arrivals.is_due(now) {
            self.settle_arrivals();
        }
        self.oracles.arrivals.written(now, m, key, entry);
    }

    /// Counts arrivals of what has been followed for long enough.
    pub fn settle_arrivals(&mut self) {
        let place = |member: &'_ Member| (member.params.region.clone(), member.node.is_some().then_some(member.born));
        let places: Vec<_> = self.members.iter().map(place).collect();
        let places: Vec<Place<'_>> =
            places.iter().map(|(region, born)| Place { region: region.as_str(), born: *born }).collect();
        self.oracles.arrivals.settle(self.queue.now(), &places);
    }

    fn send(&mut self, m: usize, link: LinkId, message: Message, notify: bool) {
        let member = &self.members[m];
        let actor = Actor { voter: &member.voter, store: member.disk.store() };
        let verdict = self.oracles.sent(actor, &message);
        self.break_on(verdict);
        if self.is_counting() {
            self.frame.clear();
            message.encode(&mut self.frame);
            self.oracles.spread.sent(&message, self.frame.len() + 4);
        }
        let message = if self.plan.codec { self.through_the_wire(message) } else { message };
        self.net.send(&mut self.queue, m, link, message, notify);
    }

    /// Writes a message down and reads it back.
    fn through_the_wire(&mut self, message: Message) -> Message {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        match Message::decode(&bytes) {
            Ok(back) if back == message => back,
            other => {
                let verdict = Err(format!("{message:?} comes back from the wire as {other:?}"));
                self.judge("codec", verdict);
                message
            }
        }
    }

    fn on_notice(&mut self, m: usize, notice: &Notice) {
        let member = &self.members[m];
        let actor = Actor { voter: &member.voter, store: member.disk.store() };
        let verdict = self.oracles.told(actor, notice);
        match notice {
            Notice::BecameLeader { .. } => self.elections += 1,
            Notice::Committed { group, position, .. } => {
                let newest = self.oracles.ledger.newest(group).map(|newest| newest.index);
                if self.phase == Phase::Faults
                    && newest == Some(position.index)
                    && self.newest.get(group) < Some(&position.index)
                {
                    self.newest.insert(group.clone(), position.index);
                    self.oracles.spread.committed(self.queue.now(), self.warm_at, group);
                }
            }
            Notice::Died { node } => self.on_death_told(m, node),
            Notice::FutureDropped { .. } => self.oracles.merges.reborn(m),
            Notice::ClockReset => {
                // What it stamped in a refused future is stamped anew, with lower stamps.
                self.oracles.stamps.excuse(&member.id);
                self.oracles.acks.excuse(&member.id);
                self.oracles.merges.reborn(m);
            }
            _ => {}
        }
        self.break_on(verdict);
    }

    /// Somebody says that a node is dead.
    fn on_death_told(&mut self, by: usize, node: &NodeId) {
        let (now, counting) = (self.queue.now(), self.phase == Phase::Faults);
        let Some(victim) = self.member_named(node).map(|m| &self.members[m]).filter(|_| counting) else { return };
        if victim.node.is_none() {
            if self.members[by].born > victim.died {
                return; // It hears of what was before it.
            }
            self.oracles.spread.deaths_us.push(now - victim.died);
        } else if victim.paused_until < now + PAUSE_TOLERATED_US && victim.born + NEWS_TRAVEL_US < now {
            self.oracles.spread.false_deaths += 1;
        }
    }

    /// Whether messages and updates are counted now.
    fn is_counting(&self) -> bool {
        self.plan.scenario.expect != Expect::default()
            && self.phase == Phase::Faults
            && self.queue.now() >= self.warm_at
    }

    /// The member of this name.
    pub fn member_named(&self, node: &NodeId) -> Option<usize> {
        self.by_name.get(node).copied()
    }

    fn on_stop(&mut self, m: usize, why: StopReason) {
        match why {
            StopReason::Left => {
                self.crash(m, true);
                self.left(m);
            }
            StopReason::Clone(why) | StopReason::Refused(why) => {
                let verdict = Err(format!("{} stops itself: {why}", self.members[m].id));
                self.judge("stopped", verdict);
            }
        }
    }

    fn on_wake(&mut self, m: usize, life: u32, at: u64) {
        let now = self.queue.now();
        let member = &mut self.members[m];
        if member.life != life || member.wake_at != at {
            return;
        }
        member.wake_at = u64::MAX;
        let Some(node) = &member.node else { return };
        // The deadline may have moved on since this was asked for.
        if member.clock.when(node.deadline()) > now {
            return self.schedule_wake(m);
        }
        member.spins = if member.spins.0 == now { (now, member.spins.1 + 1) } else { (now, 0) };
        if member.spins.1 > SPINS_MAX {
            let verdict = Err(format!("{} wants to be woken over and over at one instant", member.id));
            self.judge("spin", verdict);
        }
        self.step(m, Event::Wake);
    }

    fn schedule_wake(&mut self, m: usize) {
        let now = self.queue.now();
        let member = &mut self.members[m];
        let Some(node) = &member.node else { return };
        let due = member.clock.when(node.deadline()).max(now);
        if due < member.wake_at {
            member.wake_at = due;
            self.queue.at(due, What::Wake { member: m, life: member.life, at: due });
        }
    }

    fn on_deliver(&mut self, conn: usize, side: usize) {
        match self.net.deliver(&mut self.queue, conn, side) {
            Arrival::Message { member, link, message } => self.step(member, Event::Received { link, message }),
            Arrival::Closed => {
                if let Some(end) = self.net.down(conn, 1 - side) {
                    self.step(end.member, Event::LinkDown { link: end.link });
                }
            }
            Arrival::Nothing => {}
        }
    }

    fn on_disk(&mut self, m: usize, life: u32) {
        let at = self.queue.now();
        if self.members[m].life != life {
            return;
        }
        let Member { disk, voter, .. } = &mut self.members[m];
        let (oracles, mut verdict) = (&mut self.oracles, Ok(()));
        let synced = disk.sync(at, |store, record| {
            if verdict.is_ok() {
                verdict = oracles.durable(Actor { voter, store }, record);
            }
        });
        if let Some(due) = disk.next_due() {
            self.queue.at(due, What::Disk { member: m, life });
        }
        self.break_on(verdict);
        let Some(seq) = synced else { return };
        if self.members[m].paused_until > at {
            let until = self.members[m].paused_until;
            return self.queue.at(until, What::Persisted { member: m, life, seq });
        }
        self.step(m, Event::Persisted { seq });
    }

    fn disk_latency(&mut self, m: usize) -> u64 {
        let mean = self.members[m].disk_us as f64;
        (-(1.0 - self.rng.unit()).ln() * mean) as u64 + 30
    }

    fn dial(&mut self, m: usize, addr: Addr) {
        let (life, now) = (self.members[m].life, self.queue.now());
        let Some(to) = self.by_addr.get(&addr).copied() else {
            return self.queue.after(300, What::DialFailed { member: m, life, addr, refused: true });
        };
        if self.net.is_blocked(m, to) || self.net.is_blocked(to, m) || self.members[to].dials_fail_until > now {
            let patience = 1_000_000 + self.rng.below(2_000_000) as u64;
            return self.queue.after(patience, What::DialFailed { member: m, life, addr, refused: false });
        }
        let round_trip = self.net.latency(m, to) + self.net.latency(to, m);
        if self.members[to].node.is_none() {
            return self.queue.after(round_trip, What::DialFailed { member: m, life, addr, refused: true });
        }
        self.queue.after(round_trip, What::Connect { from: m, life, to });
    }

    fn on_connect(&mut self, from: usize, life: u32, to: usize) {
        if self.members[from].life != life || self.members[from].node.is_none() {
            return;
        }
        let addr = self.members[to].addr.clone();
        let refused = self.members[to].node.is_none();
        if refused || self.net.is_blocked(from, to) || self.net.is_blocked(to, from) {
            return self.step(from, Event::DialFailed { addr, refused });
        }
        let [dialer, other] = [from, to].map(|m| (m, self.members[m].life, self.next_link(m)));
        self.net.connect(&mut self.queue, dialer, other);
        self.step(from, Event::LinkUp { link: dialer.2, dialed: Some(addr) });
    }

    fn on_accept(&mut self, conn: usize) {
        let (member, life) = (self.net.end(conn, 1).member, self.net.end(conn, 1).life);
        if self.members[member].node.is_none() || self.members[member].life != life {
            return self.queue.after(100, What::Down { conn, side: 0 });
        }
        let link = self.net.accept(conn);
        self.step(member, Event::LinkUp { link, dialed: None });
    }

    fn next_link(&mut self, m: usize) -> LinkId {
        self.members[m].next_link += 1;
        LinkId(self.members[m].next_link)
    }

    /// Takes note of a judge's verdict; the first bad one ends the run.
    pub fn judge(&mut self, oracle: &'static str, verdict: Result<(), String>) {
        self.break_on(verdict.map_err(|detail| Violation { oracle, detail }));
    }

    /// Ends the run on a violation.
    pub fn break_on(&mut self, verdict: Result<(), Violation>) {
        if let Err(violation) = verdict
            && self.violation.is_none()
        {
            let at = self.queue.now();
            self.trace.remark(at, "sim", format_args!("{}: {}", violation.oracle, violation.detail));
            self.violation = Some(violation);
        }
    }

    /// The groups agreement goes on in.
    pub fn group_of(&self, m: usize) -> GroupId {
        GroupId::Region(self.members[m].params.region.clone())
    }
}

/// Names, regions and whether they vote from the beginning.
fn initial_names(regions: usize, voters: usize, observers: usize) -> Vec<(String, String, bool)> {
    let mut names = Vec::new();
    for region in 1..=regions {
        for n in 1..=voters + observers {
            let votes = n <= voters;
            names.push(match regions {
                1 => (format!("gw-{n}"), "main".to_owned(), votes),
                _ => (format!("r{region}-gw-{n}"), format!("r{region}"), votes),
            });
        }
    }
    names
}

fn node_id(name: &str) -> NodeId {
    NodeId::new(name).expect("simulated names keep to the alphabet")
}

fn region_id(name: &str) -> RegionId {
    RegionId::new(name).expect("simulated names keep to the alphabet")
}

fn channel_id(n: usize) -> Channel {
    Channel::new(&format!("c{n}")).expect("simulated names keep to the alphabet")
}
