//! The loop: real nodes, fed with what the models make happen, in virtual time, judged after every step.
//!
//! Who takes part is in [`members`], what connects them in [`links`], what is told and counted in [`counts`]. What goes
//! wrong when is `inject`'s business, what clients do is `load`'s, and when a run has passed is `phases`'.

mod members;
mod links;
mod counts;

use std::collections::BTreeMap;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::core::effect::Effect;
use crate::core::event::{Command, Event};
use crate::core::id::{GroupId, Index, NodeId, Voter};
use crate::core::rng::Rng;
use crate::core::state::system::Addr;
use crate::core::work::Work;
use crate::sim::clock::truth;
use crate::sim::cluster::members::Member;
use crate::sim::fault::{Fault, PerFault};
use crate::sim::inject::Undo;
use crate::sim::load::Checkpointed;
use crate::sim::network::Network;
use crate::sim::oracles::spread::Spread;
use crate::sim::oracles::{Actor, Oracles, Violation};
use crate::sim::phases::{Goal, Phase};
use crate::sim::queue::{Queue, What};
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
    run_watched(plan, trace, &mut |_| ())
}

/// The same, and says now and then how far it is.
pub fn run_watched(plan: &Plan, trace: Trace, tell: &mut dyn FnMut(Reached)) -> Report {
    let mut cluster = Cluster::new(plan, trace);
    cluster.run(tell);
    cluster.report()
}

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Reached {
    /// Virtual time, in microseconds.
    pub virtual_us: u64,
    /// Events that nodes have handled.
    pub steps: u64,
    /// What it is at.
    pub part: &'static str,
}

/// Steps between two words about how far a run is.
const TELL_EVERY: u64 = 1 << 14;

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

    /// A node that stops itself breaks a rule like any other, and the seed is told.
    fn run(&mut self, tell: &mut dyn FnMut(Reached)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.run_on(tell))) {
            let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
            let detail = said.unwrap_or("a panic without a word").to_owned();
            self.violation = Some(Violation { oracle: "assertion", detail });
        }
    }

    fn run_on(&mut self, tell: &mut dyn FnMut(Reached)) {
        let mut told = 0;
        while self.violation.is_none() && self.phase != Phase::Done {
            let Some(what) = self.queue.pop() else { break };
            self.happen(what);
            if self.steps >= told + TELL_EVERY {
                told = self.steps;
                tell(Reached { virtual_us: self.queue.now(), steps: self.steps, part: self.phase.as_str() });
            }
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
            | What::Computed { member, .. }
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
            What::Computed { member, life, done } => {
                if self.members[member].life == life {
                    self.step(member, Event::Computed { done });
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
            Effect::Compute { work } => {
                let takes = self.computing_us(&work);
                let (life, done) = (self.members[m].life, Box::new(work.run()));
                self.queue.after(takes, What::Computed { member: m, life, done });
            }
            Effect::Reply { request, reply } => self.on_reply(m, request, reply),
            Effect::Changed { key, entry } => {
                if key.origin == self.members[m].id {
                    self.oracles.spread.wrote(&key.origin, &key.channel);
                    self.note_written(&key, entry.stamp);
                }
                if self.is_counting() {
                    if key.origin != self.members[m].id {
                        self.oracles.spread.held(&key.origin, entry.stamp, truth(at));
                    }
                    self.follow(m, &key, &entry);
                }
                let verdict = self.oracles.merges.changed(m, &key, &entry);
                self.judge("merge", verdict);
            }
            Effect::Notice(notice) => self.on_notice(m, &notice),
            Effect::Stop { why } => self.on_stop(m, why),
        }
    }

    /// The member of this name.
    pub fn member_named(&self, node: &NodeId) -> Option<usize> {
        self.by_name.get(node).copied()
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

    /// How long work takes beside a node: mostly nothing, and while things go wrong now and then so long that its leader loses
    /// its place and gets it back.
    fn computing_us(&mut self, work: &Work) -> u64 {
        let is_long = self.phase == Phase::Faults && matches!(work, Work::Checkpoint(_));
        let most = match self.rng.below(64) {
            0..2 if is_long => 10_000_000,
            0..4 => 1_000_000,
            4..32 => 50_000,
            _ => return 0,
        };
        self.rng.below(most) as u64
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
