//! A member process of a benchmark: runs nodes, writes by the clock, and notes when each update is held.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, mpsc};

use crate::cli::bench::plan::{CHANNEL, NodePlan, Order, Schedule, Share, Told};
use crate::cli::bench::raw;
use crate::cli::error::CliError;
use crate::core::id::{Channel, NodeId, RegionId};
use crate::core::message::Message;
use crate::core::params::Params;
use crate::core::reading::Reading;
use crate::core::state::system::{self, Meaning};
use crate::core::view::Liveness;
use crate::shell::chance;
use crate::shell::clock::{Clock, machine_micros};
use crate::shell::runtime::{self, Change, NodeHandle, Start};
use crate::shell::storage::Storage;

/// How long the last updates may take to be held everywhere.
const HELD_PATIENCE: Duration = Duration::from_secs(20);
/// Time between looks at nodes that are joining.
const LOOK: Duration = Duration::from_millis(10);

/// Obeys the orders on stdin until it closes.
///
/// # Errors
/// If stdin or stdout break.
pub fn run() -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(obey());
    runtime.shutdown_background();
    done
}

async fn obey() -> Result<(), CliError> {
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
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let mut member = Member::default();
    while let Some(line) = orders.next_line().await? {
        let order = serde_json::from_str(&line).map_err(|error| CliError::because("an order is not one", &error))?;
        let answer = match member.carry_out(order, &tell).await {
            Ok(answer) => answer,
            Err(error) => Told::Failed { why: error.message },
        };
        let _ = tell.send(answer);
    }
    Ok(())
}

/// Waits for a moment of the machine's monotonic clock; past ones at once.
pub async fn wait_until(due_us: u64) {
    let now = machine_micros();
    if due_us > now {
        tokio::time::sleep(Duration::from_micros(due_us - now)).await;
    }
}

/// When the own nodes came to hold each update.
#[derive(Default)]
struct Held {
    times: Mutex<BTreeMap<u64, Vec<u64>>>,
    more: Notify,
}

#[derive(Default)]
struct Member {
    bound: Vec<(NodePlan, TcpListener, Params)>,
    nodes: Vec<(usize, NodeHandle)>,
    held: Arc<Held>,
    counted: Count,
}

impl Member {
    async fn carry_out(&mut self, order: Order, tell: &mpsc::UnboundedSender<Told>) -> Result<Told, CliError> {
        match order {
            Order::Bind { cluster, nodes, voters, checkpoint_ms } => {
                self.bind(&cluster, nodes, &voters, checkpoint_ms).await
            }
            Order::Join { bootstrap, members, background_ms } => {
                self.join(&bootstrap, background_ms, tell)?;
                self.wait_for_all(members).await?;
                Ok(Told::Ready)
            }
            Order::Write { schedule } => self.write(schedule).await.map(Told::Wrote),
            Order::WriteRaw { schedule, receivers, bytes } => {
                let places: Vec<usize> = self.nodes.iter().map(|(place, _)| *place).collect();
                let (latencies_us, missed) = raw::write(schedule, &receivers, bytes, &places).await?;
                Ok(Told::WroteRaw { latencies_us, missed })
            }
        }
    }

    async fn bind(
        &mut self,
        cluster: &str,
        nodes: Vec<NodePlan>,
        voters: &[String],
        checkpoint_ms: u64,
    ) -> Result<Told, CliError> {
        let name = |text: &str| NodeId::new(text).map_err(|error| CliError::usage(error.to_string()));
        let region = RegionId::new("main").expect("a good name");
        let voters = voters.iter().map(|voter| name(voter)).collect::<Result<Vec<_>, _>>()?;
        let mut peers = Vec::new();
        for plan in nodes {
            let listener = TcpListener::bind(&plan.listen).await?;
            let addr = listener.local_addr()?.to_string();
            let mut params = Params::new(cluster, name(&plan.id)?, region.clone(), addr.as_str().into());
            params.initial_voters = BTreeMap::from([(region.clone(), voters.clone())]);
            params.consensus.checkpoint_interval = Duration::from_millis(checkpoint_ms);
            peers.push(addr);
            self.bound.push((plan, listener, params));
        }
        let receiver = TcpListener::bind("127.0.0.1:0").await?;
        let raw = receiver.local_addr()?.to_string();
        tokio::spawn(raw::receive(receiver));
        Ok(Told::Bound { peers, raw })
    }

    fn join(
        &mut self,
        bootstrap: &[String],
        background_ms: Option<u64>,
        tell: &mpsc::UnboundedSender<Told>,
    ) -> Result<(), CliError> {
        for (plan, listener, mut params) in self.bound.drain(..) {
            params.bootstrap = bootstrap.iter().map(|addr| addr.as_str().into()).collect();
            let opened = match &plan.dir {
                Some(dir) => Storage::open(dir).map_err(|error| CliError::because("a store cannot be had", &error))?,
                None => Storage::in_memory(),
            };
            let start = Start { params, clock: Clock::default(), listener, opened, seed: chance::seed() };
            let (handle, _) = runtime::start(start);
            tokio::spawn(note(handle.clone(), self.held.clone(), tell.clone()));
            if let Some(interval) = background_ms {
                tokio::spawn(sense(handle.clone(), Duration::from_millis(interval)));
            }
            self.nodes.push((plan.place, handle));
        }
        Ok(())
    }

    /// Until every own node sees that many alive, and a checkpoint as new as its leader's.
    async fn wait_for_all(&self, members: usize) -> Result<(), CliError> {
        let mut looks = tokio::time::interval(LOOK);
        for (_, node) in &self.nodes {
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

    async fn write(&mut self, schedule: Schedule) -> Result<Share, CliError> {
        let mut share = Share::default();
        let places: BTreeMap<usize, NodeHandle> = self.nodes.iter().cloned().collect();
        self.counted = self.count();
        for (update, writer, due) in schedule.updates() {
            let Some(node) = places.get(&writer) else { continue };
            wait_until(due).await;
            // Two updates of one channel may become one on the way; of so many they are not.
            let channel = Channel::new(&format!("{CHANNEL}/{}", update % 64)).expect("a good name");
            let at = machine_micros();
            share.missed += u64::from(at > due + schedule.interval_us);
            let reading = Reading::new(update as f64, node.clock().now().wall);
            node.sense(vec![(channel, reading)])
                .await
                .map_err(|error| CliError::because("a node has stopped", &error))?;
            share.writes.push((update, at));
        }
        share.held = self.wait_until_held(schedule).await?;
        let count = self.count();
        share.frames = count.frames - self.counted.frames;
        share.update_bytes = count.update_bytes - self.counted.update_bytes;
        share.bytes = count.bytes - self.counted.bytes;
        share.rss_kib = resident_kib();
        Ok(share)
    }

    async fn wait_until_held(&self, schedule: Schedule) -> Result<Vec<(u64, Vec<u64>)>, CliError> {
        let end = schedule.begin_us + schedule.count * schedule.interval_us;
        let patience = Duration::from_micros(end.saturating_sub(machine_micros())) + HELD_PATIENCE;
        let updates = schedule.first..schedule.first + schedule.count;
        let all = async {
            loop {
                let more = self.held.more.notified();
                {
                    let mut times = self.held.times.lock().expect("no holder panics");
                    let whole = |update: u64| times.get(&update).is_some_and(|held| held.len() == self.nodes.len());
                    if updates.clone().all(whole) {
                        return std::mem::take(&mut *times).into_iter().collect();
                    }
                }
                more.await;
            }
        };
        tokio::time::timeout(patience, all)
            .await
            .map_err(|_| CliError::unreachable(format!("updates did not arrive within {} s", HELD_PATIENCE.as_secs())))
    }

    fn count(&self) -> Count {
        let mut count = Count::default();
        for (_, node) in &self.nodes {
            let (frames, bytes) = node.metrics().frames("in", "SENSOR_UPDATE");
            count.frames += frames;
            count.update_bytes += bytes;
            count.bytes += Message::TYPES.iter().map(|kind| node.metrics().frames("in", kind).1).sum::<u64>();
        }
        count
    }
}

/// What the own nodes have received so far: SENSOR_UPDATE frames, their bytes, and the bytes of all frames.
#[derive(Clone, Copy, Default)]
struct Count {
    frames: u64,
    update_bytes: u64,
    bytes: u64,
}

/// Notes what a node comes to hold, and tells of commits.
async fn note(node: NodeHandle, held: Arc<Held>, tell: mpsc::UnboundedSender<Told>) {
    let mut changes = node.watch();
    loop {
        match changes.recv().await {
            Ok(change) => {
                let at_us = machine_micros();
                note_change(&change, at_us, &held, &tell);
            }
            Err(RecvError::Lagged(missed)) => {
                let _ = tell.send(Told::Failed { why: format!("{missed} changes went by unseen: lower the rate") });
            }
            Err(RecvError::Closed) => return,
        }
    }
}

fn note_change(change: &Change, at_us: u64, held: &Held, tell: &mpsc::UnboundedSender<Told>) {
    let (key, entry) = &**change;
    if key.channel.as_str().starts_with(CHANNEL) {
        if let Some(update) = entry.value.reading().and_then(|reading| reading.value) {
            held.times.lock().expect("no holder panics").entry(update as u64).or_default().push(at_us);
            held.more.notify_waiters();
        }
    } else if let Ok(Meaning::Checkpoint(checkpoint)) = system::understand(&key.channel, &entry.value) {
        let _ = tell.send(Told::Committed { origin: key.origin.to_string(), index: checkpoint.index.get(), at_us });
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
fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find(|line| line.starts_with("VmRSS:"))?.split_whitespace().nth(1)?.parse().ok()
}
