//! The clients: they write, read and look at the ledger, and take down what they see.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Method;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cli::chaos::history::{Deed, History, Level, Op, Place, What};
use crate::cli::client::{Client, Target};
use crate::cli::error::CliError;
use crate::cli::get::encode;
use crate::cli::home::LocalNode;
use crate::core::rng::Rng;
use crate::shell::clock::machine_micros;
use crate::shell::http::model::{CheckpointRow, Checkpoints, Latest, PushReading, PutReply, Readings};

/// How long a client waits for an answer before it gives up and does not know.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time between two operations of one client.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(100));
/// Time between two looks at a node's ledger.
const LOOK: Duration = Duration::from_millis(500);
/// How much of it is looked at.
const LOOK_ROWS: u64 = 50;
/// One read in so many is followed by a look at what the checkpoint holds.
const LOOKED_INTO: f64 = 0.2;
/// Where the clients write.
const CHANNELS: &str = "sensorctl-chaos/";

/// Takes down what clients see and what is done to the cluster.
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<History>>);

impl Recorder {
    fn op(&self, op: Op) {
        self.0.lock().expect("no holder panics").ops.push(op);
    }

    /// Something is about to be done to these nodes.
    pub fn deed(&self, fault: &str, nodes: &[&LocalNode], crash: bool) {
        let nodes = nodes.iter().map(|node| node.id.clone()).collect();
        let deed = Deed { at_us: machine_micros(), fault: fault.to_owned(), nodes, crash };
        self.0.lock().expect("no holder panics").deeds.push(deed);
    }

    /// How many operations were answered so far, and how many were not.
    pub fn counts(&self) -> (u64, u64) {
        let counts = self.0.lock().expect("no holder panics").counts();
        counts.values().fold((0, 0), |(yes, no), (answered, open)| (yes + answered, no + open))
    }

    /// All of it.
    pub fn history(&self) -> History {
        self.0.lock().expect("no holder panics").clone()
    }
}

/// Who asks whom.
pub struct Clients {
    tasks: JoinSet<()>,
    enough: CancellationToken,
    nodes: Vec<LocalNode>,
    recorder: Recorder,
    first: u64,
}

impl Clients {
    /// Starts a writer for every node and level, `readers` that ask anybody for the latest checkpoint, and one look
    /// at every node's ledger. `first` is above every value that their keys hold.
    pub fn start(nodes: &[LocalNode], readers: usize, first: u64, recorder: &Recorder, rng: &mut Rng) -> Self {
        let (mut tasks, enough) = (JoinSet::new(), CancellationToken::new());
        let begin = |rng: Rng| Asker { rng, recorder: recorder.clone(), http: Client::new(nobody()), first };
        for node in nodes {
            for level in Level::ALL {
                tasks.spawn(stopped(enough.clone(), begin(rng.fork()).write(node.clone(), level)));
            }
            tasks.spawn(stopped(enough.clone(), begin(rng.fork()).look(node.clone())));
        }
        for _ in 0..readers {
            tasks.spawn(stopped(enough.clone(), begin(rng.fork()).read(nodes.to_vec())));
        }
        Self { tasks, enough, nodes: nodes.to_vec(), recorder: recorder.clone(), first }
    }

    /// Stops all clients; what they wait for is taken down as unanswered.
    pub async fn stop(mut self) -> Self {
        self.enough.cancel();
        while self.tasks.join_next().await.is_some() {}
        self
    }

    /// Takes down what every node holds, its whole ledger, and what its newest checkpoint holds. The cluster must be
    /// whole, and the clients stopped.
    ///
    /// # Errors
    /// If a node does not answer.
    pub async fn look_at_all(&self) -> Result<(), CliError> {
        let (recorder, http) = (self.recorder.clone(), Client::new(nobody()));
        let asker = Asker { rng: Rng::new(0), recorder, http, first: self.first };
        for node in &self.nodes {
            asker.held(node).await?;
            let rows = asker.ledger(node, 10_000).await?;
            if let Some(newest) = rows.first() {
                asker.body(node, newest.index).await?;
            }
        }
        Ok(())
    }
}

async fn stopped(enough: CancellationToken, asking: impl Future<Output = ()>) {
    // A put cut short here is not taken down as answered: it may have worked.
    enough.run_until_cancelled(asking).await;
}

fn nobody() -> Target {
    Target { addrs: Vec::new(), cluster: None }
}

/// One above the largest value that clients of an earlier run have left.
///
/// # Errors
/// If no node answers.
pub async fn first_value(client: &Client) -> Result<u64, CliError> {
    let path = format!("/v1/readings?pattern={}", encode(&format!("*:{CHANNELS}*")));
    let held: Readings = client.get(&path, PATIENCE).await?;
    Ok(values(&held).into_iter().map(|(_, _, value)| value + 1).max().unwrap_or(1))
}

fn values(readings: &Readings) -> Vec<(String, String, u64)> {
    let rows = readings.readings.iter();
    rows.filter_map(|row| Some((row.node.clone(), row.channel.clone(), row.value? as u64))).collect()
}

fn place(row: &CheckpointRow) -> Place {
    Place { index: row.index, hash: row.hash.clone(), parent: row.parent.clone() }
}

struct Asker {
    rng: Rng,
    recorder: Recorder,
    http: Client,
    /// Smaller values are of an earlier run.
    first: u64,
}

impl Asker {
    fn values(&self, readings: &Readings) -> Vec<(String, String, u64)> {
        values(readings).into_iter().filter(|(_, _, value)| *value >= self.first).collect()
    }

    fn to(&self, node: &LocalNode) -> Client {
        self.http.at(&node.api)
    }

    async fn pause(&mut self) {
        tokio::time::sleep(self.rng.between(PAUSE.0, PAUSE.1)).await;
    }

    /// Writes ever larger values, one after another, each acknowledged or given up before the next.
    async fn write(mut self, node: LocalNode, ack: Level) {
        let channel = format!("{CHANNELS}{}", ack.ack().replace('=', "-"));
        let wait = PATIENCE.saturating_sub(Duration::from_millis(500)).as_millis();
        let path = format!("/v1/readings?ack={}&timeout_ms={wait}", encode(ack.ack()));
        for value in self.first.. {
            let reading = PushReading {
                channel: channel.clone(),
                value: Some(value as f64),
                unit: None,
                sigma: None,
                quality: None,
                note: None,
                time: None,
            };
            let what = What::Put { channel: channel.clone(), value, ack };
            // Taken down before it is asked, in case this client is stopped meanwhile: the write may work all the same.
            let mut note = Note::begin(&self.recorder, &node, what);
            let sent = self.to(&node).command::<PutReply>(Method::POST, &path, Some(&reading), PATIENCE).await;
            note.answered_us = sent.is_ok().then(machine_micros);
            drop(note);
            self.pause().await;
        }
    }

    /// Asks anybody for the latest checkpoint, following to the leader.
    async fn read(mut self, nodes: Vec<LocalNode>) {
        loop {
            let node = self.rng.pick(&nodes).expect("a cluster has nodes").clone();
            let invoked_us = machine_micros();
            let path = "/v1/checkpoints/latest?linearizable=true";
            if let Ok(latest) = self.to(&node).command::<Latest>(Method::GET, path, None::<&()>, PATIENCE).await {
                let found = latest.checkpoint.as_ref().map(place);
                let index = found.as_ref().map(|place| place.index);
                let answered_us = Some(machine_micros());
                self.recorder.op(Op {
                    node: latest.node.clone(),
                    invoked_us,
                    answered_us,
                    what: What::Latest { found },
                });
                if let Some(index) = index.filter(|_| self.rng.chance(LOOKED_INTO)) {
                    // A node that lags does not have it yet, one that was asked late no more.
                    let _ = self.body(&node, index).await;
                }
            }
            self.pause().await;
        }
    }

    async fn look(self, node: LocalNode) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // A node that is down shows nothing.
            let _ = self.ledger(&node, LOOK_ROWS).await;
        }
    }

    async fn ledger(&self, node: &LocalNode, limit: u64) -> Result<Vec<Place>, CliError> {
        let invoked_us = machine_micros();
        let path = format!("/v1/checkpoints?limit={limit}");
        let shown: Checkpoints = self.to(node).get(&path, PATIENCE).await?;
        let rows: Vec<Place> = shown.checkpoints.iter().map(place).collect();
        let what = What::Ledger { rows: rows.clone() };
        self.recorder.op(Op { node: node.id.clone(), invoked_us, answered_us: Some(machine_micros()), what });
        Ok(rows)
    }

    async fn body(&self, node: &LocalNode, index: u64) -> Result<(), CliError> {
        let invoked_us = machine_micros();
        let path = format!("/v1/readings?as_of={index}&pattern={}", encode(&format!("*:{CHANNELS}*")));
        let shown: Readings = self.to(node).get(&path, PATIENCE).await?;
        let what = What::Body { index, values: self.values(&shown) };
        self.recorder.op(Op { node: node.id.clone(), invoked_us, answered_us: Some(machine_micros()), what });
        Ok(())
    }

    async fn held(&self, node: &LocalNode) -> Result<(), CliError> {
        let invoked_us = machine_micros();
        let path = format!("/v1/readings?pattern={}", encode(&format!("*:{CHANNELS}*")));
        let shown: Readings = self.to(node).get(&path, PATIENCE).await?;
        let what = What::Held { values: self.values(&shown) };
        self.recorder.op(Op { node: node.id.clone(), invoked_us, answered_us: Some(machine_micros()), what });
        Ok(())
    }
}

/// An operation under way: taken down when it ends, however it ends.
struct Note<'a> {
    recorder: &'a Recorder,
    op: Option<Op>,
    answered_us: Option<u64>,
}

impl<'a> Note<'a> {
    fn begin(recorder: &'a Recorder, node: &LocalNode, what: What) -> Self {
        let op = Op { node: node.id.clone(), invoked_us: machine_micros(), answered_us: None, what };
        Self { recorder, op: Some(op), answered_us: None }
    }
}

impl Drop for Note<'_> {
    fn drop(&mut self) {
        if let Some(op) = self.op.take() {
            self.recorder.op(Op { answered_us: self.answered_us, ..op });
        }
    }
}

/// What every node holds of the clients' keys right now, to see whether they agree.
pub async fn agreed(client: &Client, nodes: &[LocalNode]) -> bool {
    let path = format!("/v1/readings?pattern={}", encode(&format!("*:{CHANNELS}*")));
    let mut seen: Option<BTreeMap<(String, String), u64>> = None;
    for node in nodes {
        let Ok(held) = client.get_from::<Readings>(&node.api, &path, PATIENCE).await else { return false };
        let held = values(&held).into_iter().map(|(node, channel, value)| ((node, channel), value)).collect();
        if seen.as_ref().is_some_and(|seen| *seen != held) {
            return false;
        }
        seen = Some(held);
    }
    true
}

/// Whether every node has this checkpoint.
pub async fn everybody_beyond(client: &Client, nodes: &[LocalNode], index: u64) -> bool {
    for node in nodes {
        let shown = client.get_from::<Checkpoints>(&node.api, "/v1/checkpoints?limit=1", PATIENCE).await;
        if !shown.is_ok_and(|shown| shown.checkpoints.first().is_some_and(|row| row.index >= index)) {
            return false;
        }
    }
    true
}
