//! Driving one run: a thread that keeps the schedule, connections that send, watchers that look.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::Method;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use crate::cli::error::CliError;
use crate::cli::load::conn::Conn;
use crate::cli::load::schedule::{Kind, Op, Plan};
use crate::cli::load::stats::{Outcome, Seen, Stats};
use crate::cli::pace;
use crate::shell::clock::machine_micros;

/// Whom to load, and with what.
#[derive(Clone)]
pub struct Job {
    /// What is due when.
    pub plan: Plan,
    /// API addresses of the nodes that are asked, by target.
    pub targets: Vec<String>,
    /// The target that led when the run began: linearizable reads go there.
    pub leader: Option<usize>,
    /// API addresses of the nodes that are watched.
    pub watched: Vec<String>,
    /// Channels of each target.
    pub channels: u64,
    /// Bytes of the note of each reading.
    pub payload: usize,
    /// How safe a put must be before it is acknowledged.
    pub ack: String,
    /// Connections to each target: requests that may be under way at once.
    pub connections: usize,
    /// How long a request may take.
    pub patience: Duration,
    /// Number of the first reading: no other run's readings are taken for ours.
    pub base: u64,
}

impl Job {
    /// The channel that a reading goes to.
    pub fn channel(&self, number: u64) -> u64 {
        number % self.channels
    }

    /// Tells one channel of one target from all others.
    pub fn key(&self, op: &Op, number: u64) -> u64 {
        op.target as u64 * self.channels + self.channel(number)
    }
}

/// What a run gave.
pub struct Ran {
    /// Sums.
    pub stats: Stats,
    /// Acknowledged puts.
    pub acked: Vec<Op>,
    /// What each watcher saw.
    pub seen: Vec<Seen>,
    /// Changes that watchers were told they missed.
    pub gaps: u64,
}

/// What a bar shows meanwhile.
#[derive(Default)]
pub struct Live {
    /// Outcomes since the bar last looked.
    pub recent: Mutex<Vec<Outcome>>,
    /// Operations done.
    pub done: AtomicU64,
}

/// What the channels that are written begin with. By default, no node takes such a channel for a sensor.
const CHANNELS: &str = "sensorctl-load";
/// Time for connections and watchers to stand before the first operation is due.
const NOTICE_US: u64 = 100_000;
/// How long watchers may take to see the last of what was acknowledged.
const SEEN_PATIENCE: Duration = Duration::from_secs(3);

/// Runs a job to its end, or until `stop`.
///
/// # Errors
/// If a node that is to be watched cannot be.
pub async fn run(job: &Job, live: &Arc<Live>, stop: &Arc<AtomicBool>) -> Result<Ran, CliError> {
    let mut watchers = Vec::new();
    for addr in &job.watched {
        watchers.push(Watcher::start(addr, job.base).await?);
    }
    let begun_us = machine_micros() + NOTICE_US;
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut queues = Vec::new();
    let mut workers = JoinSet::new();
    for addr in &job.targets {
        let (queue, ops) = async_queue();
        queues.push(queue);
        for _ in 0..job.connections {
            workers.spawn(work(Arc::new(job.clone()), addr.clone(), ops.clone(), tell.clone(), begun_us));
        }
    }
    drop(tell);
    let pacing = pace_out(job, queues, begun_us, stop.clone());
    let mut stats = Stats::new(job.plan.lateness_allowed_us());
    let mut acked = Vec::new();
    while let Some(outcome) = told.recv().await {
        stats.add(&outcome);
        if outcome.op.kind == Kind::Put && outcome.result.is_ok() {
            acked.push(outcome.op);
        }
        live.done.fetch_add(outcome.op.batch.max(1) as u64, Ordering::Relaxed);
        live.recent.lock().expect("no holder panics").push(outcome);
    }
    pacing.await.expect("the pacing thread does not panic");
    acked.sort_by_key(|op| op.first);
    let (seen, gaps) = collect(watchers, &last_of_each_channel(job, &acked), begun_us).await;
    Ok(Ran { stats, acked, seen, gaps })
}

type Ops = Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Op>>>;

fn async_queue() -> (mpsc::UnboundedSender<Op>, Ops) {
    let (queue, ops) = mpsc::unbounded_channel();
    (queue, Arc::new(tokio::sync::Mutex::new(ops)))
}

/// Hands out every operation when it is due, from a thread of its own.
fn pace_out(job: &Job, queues: Vec<mpsc::UnboundedSender<Op>>, begun_us: u64, stop: Arc<AtomicBool>) -> JoinHandle<()> {
    let (plan, leader) = (job.plan.clone(), job.leader);
    tokio::task::spawn_blocking(move || {
        pace::be_punctual();
        for op in plan.ops() {
            pace::wait_until(begun_us + op.due_us);
            let target = leader.filter(|_| op.kind == Kind::Read).unwrap_or(op.target);
            // Workers outlive the queue: an operation that cannot be handed out is not possible.
            if stop.load(Ordering::Relaxed) || queues[target].send(op).is_err() {
                return;
            }
        }
    })
}

/// Sends operations over one connection, one at a time, until there are no more.
async fn work(job: Arc<Job>, addr: String, ops: Ops, tell: mpsc::UnboundedSender<Outcome>, begun_us: u64) {
    let mut conn = Conn::new(addr);
    let put = format!("/v1/readings?ack={}&timeout_ms={}", job.ack, job.patience.as_millis());
    let get = format!("/v1/readings?pattern={CHANNELS}/*");
    loop {
        let Some(op) = ops.lock().await.recv().await else { return };
        let sent_us = machine_micros().saturating_sub(begun_us);
        let result = match op.kind {
            Kind::Put => conn.ask(Method::POST, &put, body(&job, &op), job.patience).await,
            Kind::Get => conn.ask(Method::GET, &get, Vec::new(), job.patience).await,
            Kind::Read => {
                let path = "/v1/checkpoints/latest?linearizable=true";
                conn.ask(Method::GET, path, Vec::new(), job.patience).await
            }
            Kind::Watch => conn.first_event("/v1/watch?pattern=**&initial=true", job.patience).await,
        };
        let done_us = machine_micros().saturating_sub(begun_us);
        if tell.send(Outcome { op, sent_us, done_us, result }).is_err() {
            return;
        }
    }
}

/// The JSON of a batch: each reading's value is its number.
fn body(job: &Job, op: &Op) -> Vec<u8> {
    let note = if job.payload > 0 { format!(",\"note\":\"{}\"", "x".repeat(job.payload)) } else { String::new() };
    let reading = |number: u64| {
        let (channel, value) = (job.channel(number), job.base + number);
        format!("{{\"channel\":\"{CHANNELS}/{channel}\",\"value\":{value}{note}}}")
    };
    let readings: Vec<String> = (op.first..op.first + op.batch as u64).map(reading).collect();
    format!("[{}]", readings.join(",")).into_bytes()
}

/// Looks at one node's changes.
struct Watcher {
    seen: Arc<Mutex<WatchedSoFar>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct WatchedSoFar {
    /// Number of the reading, and when by the machine's clock.
    seen: Seen,
    gaps: u64,
}

impl Watcher {
    async fn start(addr: &str, base: u64) -> Result<Self, CliError> {
        let mut conn = Conn::new(addr.to_owned());
        let opened = conn.events(&format!("/v1/watch?pattern={CHANNELS}/*")).await;
        let mut events = opened
            .map_err(|trouble| CliError::unreachable(format!("{addr} cannot be watched: {}", trouble.as_str())))?;
        let seen = Arc::new(Mutex::new(WatchedSoFar::default()));
        let task = tokio::spawn({
            let seen = seen.clone();
            async move {
                // The connection lives as long as this task.
                let _conn = conn;
                while events.next(|event| note(&seen, event, base)).await {}
            }
        });
        Ok(Self { seen, task })
    }
}

fn note(watched: &Mutex<WatchedSoFar>, event: &str, base: u64) {
    let at = machine_micros();
    let mut watched = watched.lock().expect("no holder panics");
    if let Some(number) = number_in(event).and_then(|value| (value as u64).checked_sub(base)) {
        watched.seen.push((number, at));
    } else if event.starts_with("event: missed") {
        watched.gaps += event.lines().find_map(|line| line.strip_prefix("data: ")?.parse::<u64>().ok()).unwrap_or(1);
    }
}

/// The value of a reading's event, found without reading the rest of it.
fn number_in(event: &str) -> Option<f64> {
    let from = event.find("\"value\":")? + "\"value\":".len();
    let rest = &event[from..];
    rest[..rest.find([',', '}'])?].parse().ok()
}

/// The newest acknowledged reading of every channel: with those, a watcher has seen everything.
fn last_of_each_channel(job: &Job, acked: &[Op]) -> HashSet<u64> {
    let readings = acked.iter().flat_map(|op| (op.first..op.first + op.batch as u64).map(move |n| (job.key(op, n), n)));
    readings.collect::<HashMap<u64, u64>>().into_values().collect()
}

/// Waits until every watcher has seen the last readings, or for as long as patience lasts.
async fn collect(watchers: Vec<Watcher>, last: &HashSet<u64>, begun_us: u64) -> (Vec<Seen>, u64) {
    let caught_up = async {
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        for watcher in &watchers {
            let (mut missing, mut looked_at) = (last.clone(), 0);
            while !missing.is_empty() {
                {
                    let watched = watcher.seen.lock().expect("no holder panics");
                    watched.seen[looked_at..].iter().for_each(|(number, _)| {
                        missing.remove(number);
                    });
                    looked_at = watched.seen.len();
                }
                looks.tick().await;
            }
        }
    };
    // What was not seen by then is counted as such.
    let _ = tokio::time::timeout(SEEN_PATIENCE, caught_up).await;
    let mut gaps = 0;
    let mut all = Vec::new();
    for watcher in watchers {
        watcher.task.abort();
        let mut watched = std::mem::take(&mut *watcher.seen.lock().expect("no holder panics"));
        gaps += watched.gaps;
        watched.seen.iter_mut().for_each(|(_, at)| *at = at.saturating_sub(begun_us));
        all.push(watched.seen);
    }
    (all, gaps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_known_by_its_value() {
        let event =
            "event: reading\ndata: {\"node\":\"gw-1\",\"channel\":\"sensorctl-load/1\",\"value\":1042.0,\"unit\":null}";
        let watched = Mutex::new(WatchedSoFar::default());
        note(&watched, event, 1000);
        note(&watched, "event: missed\ndata: 7", 1000);
        note(&watched, &event.replace("1042", "12"), 1000);
        let watched = watched.into_inner().unwrap();
        assert_eq!(
            (watched.seen[0].0, watched.seen.len(), watched.gaps),
            (42, 1, 7),
            "an older run's reading is not ours"
        );
    }
}
