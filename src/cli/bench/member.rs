//! A member of a benchmark: runs nodes, writes by the clock, and notes when each update is held.
//!
//! In a process of its own it takes orders on stdin; in the directing process, from a channel.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::cli::bench::flood::Flooded;
use crate::cli::bench::mark::Mark;
use crate::cli::bench::plan::{CHANNEL, ClusterPlan, NodePlan, Notes, Order, Schedule, Share, Told, Traffic, place};
use crate::cli::bench::raw;
use crate::cli::error::CliError;
use crate::cli::pace;
use crate::core::id::{Channel, NodeId, RegionId};
use crate::core::message::Message;
use crate::core::params::{CROWD, LivenessParams, Params};
use crate::core::reading::{NOTE_BYTES_MAX, Reading};
use crate::core::state::system;
use crate::core::time::Wall;
use crate::core::view::{Liveness, Seen};
use crate::shell::chance;
use crate::shell::clock::{Clock, machine_micros};
use crate::shell::runtime::{self, NodeHandle, Start};
use crate::shell::storage::Storage;
use crate::shell::transport::{Listener, MemoryNet};

/// How long the last updates may take to be held everywhere.
const HELD_PATIENCE: Duration = Duration::from_secs(20);
/// Time between looks at whether all is held; no latency depends on it.
const HELD_LOOK: Duration = Duration::from_millis(5);

/// Obeys the orders on stdin until it closes.
///
/// # Errors
/// If stdin or stdout break.
pub fn run() -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(obey_stdin());
    runtime.shutdown_background();
    done
}

async fn obey_stdin() -> Result<(), CliError> {
    let (tell, mut told) = mpsc::unbounded_channel::<Told>();
    tokio::spawn(async move {
        let mut out = tokio::io::stdout();
        while let Some(told) = told.recv().await {
            let mut line = serde_json::to_vec(&told).expect("what is told is JSON");
            line.push(b'\n');
            if out.write_all(&line).await.is_err() || out.flush().await.is_err() {
                return;
            }
        }
    });
    let (order, orders) = mpsc::unbounded_channel();
    tokio::spawn(obey(Member::new(None), orders, tell));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let read = serde_json::from_str(&line).map_err(|error| CliError::because("an order is not one", &error))?;
        if order.send(read).is_err() {
            break;
        }
    }
    Ok(())
}

/// Obeys orders until nobody is left to give any.
pub async fn obey(mut member: Member, mut orders: mpsc::UnboundedReceiver<Order>, tell: mpsc::UnboundedSender<Told>) {
    while let Some(order) = orders.recv().await {
        let answer = match member.carry_out(order, &tell).await {
            Ok(answer) => answer,
            Err(error) => Told::Failed { why: error.message },
        };
        if tell.send(answer).is_err() {
            break;
        }
    }
    for (_, node) in &member.nodes {
        node.stop().await;
    }
}

/// What a node holds, noted on its own task.
#[derive(Default)]
pub(super) struct Held {
    pub flooded: Flooded,
    notes: Vec<(u64, usize, u64)>,
    /// One above the newest update held of each writer.
    newest: Vec<u64>,
}

impl Held {
    fn note(&mut self, update: u64, writer: usize, at_us: u64) {
        self.notes.push((update, writer, at_us));
        if self.newest.len() <= writer {
            self.newest.resize(writer + 1, 0);
        }
        self.newest[writer] = self.newest[writer].max(update + 1);
    }

    /// True if the newest update of every writer, or a newer one, is held.
    fn has(&self, last: &BTreeMap<usize, u64>) -> bool {
        last.iter().all(|(writer, update)| self.newest.get(*writer).is_some_and(|newest| newest > update))
    }
}

pub(super) type SharedHeld = Arc<Mutex<Held>>;

/// The nodes of one member.
#[derive(Default)]
pub struct Member {
    /// Without sockets, if it is not to have any.
    memory: Option<MemoryNet>,
    bound: Vec<(NodePlan, Listener, Params)>,
    pub(super) nodes: Vec<(usize, NodeHandle)>,
    pub(super) held: Vec<SharedHeld>,
}

impl Member {
    /// A member without nodes yet.
    pub fn new(memory: Option<MemoryNet>) -> Self {
        Self { memory, ..Self::default() }
    }

    async fn carry_out(&mut self, order: Order, tell: &mpsc::UnboundedSender<Told>) -> Result<Told, CliError> {
        match order {
            Order::Bind { nodes, cluster } => self.bind(nodes, &cluster).await,
            Order::Join { bootstrap, members, background_ms, marks } => {
                self.join(bootstrap, background_ms, marks.then_some(tell)).await?;
                self.wait_for_all(0, members).await?;
                Ok(Told::Ready)
            }
            Order::Write { schedule } => self.write(schedule).await.map(Told::Wrote),
            Order::WriteRaw { schedule, receivers, bytes } => {
                let places: Vec<usize> = self.nodes.iter().map(|(place, _)| *place).collect();
                let writing = move || raw::write(schedule, &receivers, bytes, &places);
                let (latencies_us, missed) = pace::on_own_thread(writing).await?;
                Ok(Told::WroteRaw { latencies_us, missed })
            }
            Order::Flood { flood } => self.flood(flood).await.map(|share| Told::Flooded { share }),
            Order::Heat { writer, millis, first } => {
                self.heat(writer, millis, first).await.map(|heat| Told::Heated { heat })
            }
            Order::Stream { stream } => self.stream(stream).await.map(|streamed| Told::Streamed { streamed }),
            Order::Kept { keys, value } => self.kept(keys, value).await.map(|kept| Told::Kept { kept }),
            Order::Cool { value } => self.cool(value).await.map(|heard| Told::Cooled { heard }),
        }
    }

    async fn bind(&mut self, nodes: Vec<NodePlan>, cluster: &ClusterPlan) -> Result<Told, CliError> {
        let wrong = |error: crate::core::id::NameError| CliError::usage(error.to_string());
        let mut voters = BTreeMap::new();
        for (region, names) in &cluster.voters {
            let names = names.iter().map(|name| NodeId::new(name).map_err(wrong)).collect::<Result<Vec<_>, _>>()?;
            voters.insert(RegionId::new(region).map_err(wrong)?, names);
        }
        let mut peers = Vec::new();
        for plan in nodes {
            let (listener, addr) = self.listen(&plan).await?;
            let (id, region) = (NodeId::new(&plan.id()).map_err(wrong)?, RegionId::new(&plan.region).map_err(wrong)?);
            let mut params = Params::new("bench", id, region, addr.as_str().into());
            params.initial_voters = voters.clone();
            params.consensus.checkpoint_interval = Duration::from_millis(cluster.checkpoint_ms);
            if let Some(interval) = cluster.top_checkpoint_ms {
                params.top.checkpoint_interval = Duration::from_millis(interval);
            }
            if let Some(degree) = cluster.degree {
                params.gossip.overlay_degree = degree;
            }
            params.liveness = LivenessParams::of_crowd(cluster.nodes);
            peers.push(addr);
            self.bound.push((plan, listener, params));
        }
        let receiver = TcpListener::bind("127.0.0.1:0").await?;
        let raw = receiver.local_addr()?.to_string();
        tokio::spawn(raw::receive(receiver));
        Ok(Told::Bound { peers, raw })
    }

    async fn listen(&self, plan: &NodePlan) -> Result<(Listener, String), CliError> {
        if let Some(net) = &self.memory {
            let addr = plan.id();
            return Ok((net.listen(addr.as_str().into()).into(), addr));
        }
        let listener = TcpListener::bind(&plan.listen).await?;
        let addr = listener.local_addr()?.to_string();
        Ok((listener.into(), addr))
    }

    /// Starts the nodes, the next few when the last few know all before them: a thousand that join at once have more to
    /// tell each other than one machine can take.
    async fn join(
        &mut self,
        bootstrap: Vec<Vec<String>>,
        background_ms: Option<u64>,
        marks: Option<&mpsc::UnboundedSender<Told>>,
    ) -> Result<(), CliError> {
        let bound = std::mem::take(&mut self.bound);
        for ((plan, listener, mut params), bootstrap) in bound.into_iter().zip(bootstrap) {
            let started = self.nodes.len();
            let votes = params.initial_voters.values().any(|voters| voters.contains(&params.node));
            if !votes && started >= CROWD && started.is_multiple_of(CROWD) {
                self.wait_for_all(started - CROWD, started).await?;
            }
            params.bootstrap = bootstrap.iter().map(|addr| addr.as_str().into()).collect();
            let opened = match &plan.dir {
                Some(dir) => Storage::open(dir).map_err(|error| CliError::because("a store cannot be had", &error))?,
                None => Storage::in_memory(),
            };
            let held = SharedHeld::default();
            let observer: runtime::Observer = Box::new({
                let (held, marks, node) = (held.clone(), marks.cloned(), plan.place);
                let name = plan.id();
                move |observed| {
                    note(observed, &held);
                    if let Some(tell) = &marks {
                        mark(observed, node, &name, tell);
                    }
                }
            });
            let seed = chance::seed();
            let clock = Clock::default();
            let (handle, _) = runtime::start(Start { params, clock, listener, opened, seed, observer: Some(observer) });
            if let Some(interval) = background_ms {
                tokio::spawn(sense(handle.clone(), Duration::from_millis(interval)));
            }
            self.held.push(held);
            self.nodes.push((plan.place, handle));
        }
        Ok(())
    }

    /// Until every own node from the `first` on sees that many alive, and a checkpoint.
    async fn wait_for_all(&self, first: usize, members: usize) -> Result<(), CliError> {
        // A look costs a node time that grows with its members.
        let mut looks = tokio::time::interval(Duration::from_millis(10 + members as u64 / 5));
        for (_, node) in self.nodes.iter().skip(first) {
            loop {
                looks.tick().await;
                let view = node.view().await.map_err(|error| CliError::because("a node has stopped", &error))?;
                let alive = view.members.iter().filter(|member| member.liveness == Liveness::Alive).count();
                if alive >= members && view.group.leader.is_some() && view.group.checkpoint.is_some() {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn write(&self, schedule: Schedule) -> Result<Share, CliError> {
        // Those of this schedule may have begun to come from members that were faster.
        for held in &self.held {
            held.lock().expect("no holder panics").notes.retain(|(update, _, _)| *update >= schedule.first);
        }
        let (before, cpu_before) = (self.traffic(), cpu_us());
        let missed = self.pace(schedule).await?;
        let behind = self.wait_until_held(schedule).await;
        let places = self.nodes.iter().map(|(place, _)| *place);
        let notes = places.zip(&self.held).map(|(place, held)| Notes {
            place,
            held: std::mem::take(&mut held.lock().expect("no holder panics").notes),
        });
        Ok(Share {
            missed,
            notes: notes.collect(),
            behind,
            received: self.traffic().since(&before),
            cpu_us: cpu_us() - cpu_before,
            rss_kib: resident_kib(),
        })
    }

    /// Writes what falls to the own nodes when it is due: how many writes began too late.
    async fn pace(&self, schedule: Schedule) -> Result<u64, CliError> {
        let places: BTreeMap<usize, NodeHandle> = self.nodes.iter().cloned().collect();
        let tasks = tokio::runtime::Handle::current();
        let written = pace::on_own_thread(move || {
            let channel = Channel::new(CHANNEL).expect("a good name");
            let mut missed = 0;
            for (update, writer, due) in schedule.updates() {
                let Some(node) = places.get(&writer) else { continue };
                pace::wait_until(due);
                missed += u64::from(machine_micros() > due + schedule.lateness_allowed_us());
                let reading = update_of(update, schedule.payload, node.clock().now().wall);
                tasks.block_on(node.sense(vec![(channel.clone(), reading)]))?;
            }
            Ok::<_, runtime::AskError>(missed)
        });
        written.await.map_err(|error| CliError::because("a node has stopped", &error))
    }

    /// Places of the own nodes that do not hold everything in time.
    async fn wait_until_held(&self, schedule: Schedule) -> Vec<usize> {
        let last: BTreeMap<usize, u64> = schedule.updates().map(|(update, writer, _)| (writer, update)).collect();
        let end = schedule.begin_us + schedule.takes_us();
        let patience = Duration::from_micros(end.saturating_sub(machine_micros())) + HELD_PATIENCE;
        let mut behind: Vec<usize> = (0..self.nodes.len()).collect();
        let mut looks = tokio::time::interval(HELD_LOOK);
        let all = async {
            loop {
                behind.retain(|i| !self.held[*i].lock().expect("no holder panics").has(&last));
                if behind.is_empty() {
                    return;
                }
                looks.tick().await;
            }
        };
        // What is still behind then is told.
        let _ = tokio::time::timeout(patience, all).await;
        behind.into_iter().map(|i| self.nodes[i].0).collect()
    }

    pub(super) fn traffic(&self) -> Traffic {
        let mut traffic = Traffic::default();
        for (_, node) in &self.nodes {
            let of = |kind: &&'static str| ((*kind).to_owned(), node.metrics().frames("in", kind));
            traffic.add(&Traffic(Message::TYPES.iter().map(of).collect()));
        }
        traffic
    }
}

/// The reading that an update is: its number as the value, padded to the asked size.
pub fn update_of(update: u64, payload: usize, time: Wall) -> Reading {
    let reading = Reading::new(update as f64, time);
    let natural = serde_json::to_vec(&reading).expect("a reading is JSON").len();
    // `,"note":""` takes ten bytes of its own.
    let padding = payload.saturating_sub(natural + 10).min(NOTE_BYTES_MAX);
    let note = (padding > 0).then(|| "x".repeat(padding));
    Reading { note, ..reading }
}

/// Notes what a node comes to hold.
fn note(seen: Seen<'_>, held: &SharedHeld) {
    let Seen::Changed(key, entry) = seen else { return };
    let at_us = machine_micros();
    let held = || held.lock().expect("no holder panics");
    match key.channel.as_str() {
        CHANNEL => {
            let update = entry.value.reading().and_then(|reading| reading.value);
            if let Some((update, writer)) = update.zip(place(key.origin.as_str())) {
                held().note(update as u64, writer, at_us);
            }
        }
        system::NODE => held().flooded.note_member(&key.origin),
        _ if key.channel.is_system() => {}
        _ => held().flooded.note(key, entry, at_us),
    }
}

/// Tells what is seen of agreement.
fn mark(seen: Seen<'_>, place: usize, name: &str, tell: &mpsc::UnboundedSender<Told>) {
    for mark in Mark::of(seen, name) {
        let _ = tell.send(Told::Marked { place, at_us: machine_micros(), mark });
    }
}

/// A sensor like any other, so that checkpoints have something to hold.
async fn sense(node: NodeHandle, interval: Duration) {
    let channel = Channel::new("background").expect("a good name");
    let mut ticks = tokio::time::interval(interval);
    for value in 0u32.. {
        ticks.tick().await;
        let reading = Reading::new(f64::from(value), node.clock().now().wall);
        if node.sense(vec![(channel.clone(), reading)]).await.is_err() {
            return;
        }
    }
}

/// Resident memory of this process in KiB, where the system tells.
pub fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find(|line| line.starts_with("VmRSS:"))?.split_whitespace().nth(1)?.parse().ok()
}

/// Processor time that this process has used, in µs.
pub fn cpu_us() -> u64 {
    // SAFETY: all-zero is a valid rusage, and the pointer is to our own.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let us = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    us(usage.ru_utime) + us(usage.ru_stime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_has_the_asked_size() {
        let size =
            |payload| serde_json::to_vec(&update_of(7, payload, Wall::from_millis(1_700_000_000_000))).unwrap().len();
        assert_eq!((size(100), size(200)), (100, 200));
        assert!(size(0) < 50);
    }

    #[test]
    fn a_newer_update_of_the_same_writer_is_as_good() {
        let mut held = Held::default();
        held.note(8, 1, 100);
        assert!(held.has(&BTreeMap::from([(1, 7)])) && held.has(&BTreeMap::from([(1, 8)])));
        assert!(!held.has(&BTreeMap::from([(1, 9)])) && !held.has(&BTreeMap::from([(0, 7)])));
    }
}
