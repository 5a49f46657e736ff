//! Writing as fast as a node takes it: many keys once each, or one key over and over.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cli::bench::member::{self, Member};
use crate::cli::bench::plan::{Told, Traffic, name};
use crate::cli::error::CliError;
use crate::cli::pace;
use crate::core::id::{Channel, NodeId};
use crate::core::state::entry::{Entry, Key};
use crate::shell::clock::machine_micros;
use crate::shell::runtime::{AskError, NodeHandle};

/// Channels that a flood writes once each begin so.
const FLOODED: &str = "flood/";
/// The channel that is written over and over.
const HOT: &str = "hot";
/// How long the nodes may take to hold what was written.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Time between looks at whether all is held; no figure depends on it.
const HELD_LOOK: Duration = Duration::from_millis(2);

/// What a node has come to hold of all that was ever written here, noted on its own task.
#[derive(Default)]
pub struct Flooded {
    /// Changes of channels that are written once each, and when the last one was.
    keys: u64,
    keys_us: u64,
    /// Nodes that had said who they are before the first of these changes.
    members: BTreeSet<NodeId>,
    /// Changes of the hot channel, its newest value, and when that came.
    hot: Heard,
}

/// What a node has heard of the hot channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// How often it changed here.
    pub changes: u64,
    /// Its newest value.
    pub newest: u64,
    /// When that came, by the machine's monotonic clock in µs.
    pub at_us: u64,
}

impl Flooded {
    /// Notes who a node is.
    pub fn note_member(&mut self, node: &NodeId) {
        if self.keys == 0 {
            self.members.insert(node.clone());
        }
    }

    /// Notes a change, if it is of a flood.
    pub fn note(&mut self, key: &Key, entry: &Entry, at_us: u64) {
        let channel = key.channel.as_str();
        if channel.starts_with(FLOODED) {
            (self.keys, self.keys_us) = (self.keys + 1, at_us);
        } else if channel == HOT
            && let Some(newest) = entry.value.reading().and_then(|reading| reading.value)
        {
            self.hot = Heard { changes: self.hot.changes + 1, newest: newest as u64, at_us };
        }
    }
}

/// One flood: every member is told the same.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Flood {
    /// The place of the node that is written to.
    pub writer: usize,
    /// Channels written, once each.
    pub keys: u64,
    /// Floods of as many keys that came before.
    pub before: u64,
    /// Readings handed over at a time.
    pub batch: usize,
    /// Bytes of a value.
    pub payload: usize,
}

/// A member's part of a flood. Times are the machine's monotonic clock in µs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FloodShare {
    /// When the writer began.
    pub begun_us: Option<u64>,
    /// Places of the own nodes, and when each held all of it.
    pub held_us: Vec<(usize, u64)>,
    /// What the own nodes received meanwhile.
    pub received: Traffic,
    /// Processor time that the process used meanwhile.
    pub cpu_us: u64,
    /// Resident memory of the process in KiB, where the system tells.
    pub rss_kib: Option<u64>,
}

/// What the writer of the hot key did.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Heat {
    /// Updates handed over, of which the last has the highest value.
    pub written: u64,
    /// How long that took.
    pub took_us: u64,
    /// When the last one had been handed over.
    pub stopped_us: u64,
}

/// Updates of the first keys of a flood in turn, by the clock.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Stream {
    /// The place of the node that is written to.
    pub writer: usize,
    /// How many keys.
    pub keys: u64,
    /// Updates a second.
    pub rate: u64,
    /// For how long.
    pub seconds: u64,
    /// Value of the first turn; later ones count on.
    pub value: u64,
}

/// What the writer of a stream did.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Streamed {
    /// Updates written: a whole number of turns.
    pub written: u64,
    /// Value of the last turn.
    pub newest: u64,
    /// How long it took.
    pub took_us: u64,
    /// Resident memory of the process meanwhile in KiB, the most of what was seen twice a second.
    pub rss_max_kib: Option<u64>,
}

/// What a node has come to so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Kept {
    /// When it was asked, or held what was asked for, by the machine's monotonic clock in µs.
    pub at_us: u64,
    /// Changes of keys of floods and streams.
    pub changes: u64,
    /// Nodes that had said who they are before the first of these.
    pub members_before_keys: u64,
    /// What was received.
    pub received: Traffic,
    /// Resident memory of the process in KiB, where the system tells.
    pub rss_kib: Option<u64>,
}

/// Time between two batches of a stream.
const STREAM_INTERVAL_US: u64 = 10_000;
/// Batches from one look at the memory to the next.
const STREAM_LOOKS: u64 = 50;

impl Member {
    /// Writes a stream.
    pub(super) async fn stream(&self, stream: Stream) -> Result<Streamed, CliError> {
        let node = self.node_at(stream.writer).ok_or_else(|| CliError::failed("the writer is somebody else's node"))?;
        let tasks = tokio::runtime::Handle::current();
        let streamed = pace::on_own_thread(move || {
            let turns = (stream.rate * stream.seconds).div_ceil(stream.keys).max(1);
            let written = turns * stream.keys;
            let begun = machine_micros();
            let (mut next, mut rss_max_kib) = (0, None);
            for tick in 1.. {
                let until = (stream.rate * tick * STREAM_INTERVAL_US).div_ceil(1_000_000).min(written);
                let now = node.clock().now().wall;
                let update = |i| (flooded(i % stream.keys), member::update_of(stream.value + i / stream.keys, 0, now));
                tasks.block_on(node.sense((next..until).map(update).collect()))?;
                next = until;
                if tick % STREAM_LOOKS == 0 {
                    rss_max_kib = rss_max_kib.max(member::resident_kib());
                }
                if next == written {
                    break;
                }
                pace::wait_until(begun + tick * STREAM_INTERVAL_US);
            }
            let took_us = machine_micros() - begun;
            Ok::<_, AskError>(Streamed { written, newest: stream.value + turns - 1, took_us, rss_max_kib })
        });
        streamed.await.map_err(|error| stopped(&error))
    }

    /// Tells what the own node holds, once that is this value or a newer one of so many of the first node's keys.
    pub(super) async fn kept(&self, keys: u64, value: u64) -> Result<Kept, CliError> {
        let (Some((_, node)), Some(held)) = (self.nodes.first(), self.held.first()) else {
            return Err(CliError::failed("a member has no node"));
        };
        let origin = NodeId::new(&name(0)).expect("a good name");
        let wanted: Arc<Vec<Key>> = Arc::new((0..keys).map(|key| Key::new(origin.clone(), flooded(key))).collect());
        let all = async {
            loop {
                let wanted = wanted.clone();
                let is_new =
                    move |entry: &Entry| entry.value.reading().and_then(|r| r.value).is_some_and(|v| v >= value as f64);
                let holds =
                    node.inspect(move |node, _| wanted.iter().all(|key| node.store().get(key).is_some_and(&is_new)));
                if holds.await? {
                    return Ok::<_, AskError>(machine_micros());
                }
                tokio::time::sleep(HELD_LOOK).await;
            }
        };
        let at_us = tokio::time::timeout(PATIENCE, all).await;
        let at_us = at_us.map_err(|_| CliError::unreachable("a node did not come to hold what was written"))?;
        let held = held.lock().expect("no holder panics");
        Ok(Kept {
            at_us: at_us.map_err(|error| stopped(&error))?,
            changes: held.flooded.keys,
            members_before_keys: held.flooded.members.len() as u64,
            received: self.traffic(),
            rss_kib: member::resident_kib(),
        })
    }

    /// Writes a flood if the writer is one's own, and waits until the own nodes hold it.
    pub(super) async fn flood(&self, flood: Flood) -> Result<FloodShare, CliError> {
        let (before, cpu_before) = (self.traffic(), member::cpu_us());
        let writing = match self.node_at(flood.writer) {
            Some(node) => Some(write(node, flood).await?),
            None => None,
        };
        let until = flood.keys * (flood.before + 1);
        let held_us = self.all_held(|held| (held.keys >= until).then_some(held.keys_us)).await?;
        Ok(FloodShare {
            begun_us: writing,
            held_us,
            received: self.traffic().since(&before),
            cpu_us: member::cpu_us() - cpu_before,
            rss_kib: member::resident_kib(),
        })
    }

    /// Writes one key as fast as it goes, if the writer is one's own.
    pub(super) async fn heat(&self, writer: usize, millis: u64, first: u64) -> Result<Option<Heat>, CliError> {
        let Some(node) = self.node_at(writer) else { return Ok(None) };
        let tasks = tokio::runtime::Handle::current();
        let heated = pace::on_own_thread(move || {
            let channel = Channel::new(HOT).expect("a good name");
            let begun = machine_micros();
            let mut written = 0;
            while machine_micros() < begun + millis * 1000 {
                let reading = member::update_of(first + written, 0, node.clock().now().wall);
                tasks.block_on(node.sense(vec![(channel.clone(), reading)]))?;
                written += 1;
            }
            let stopped_us = machine_micros();
            Ok::<_, AskError>(Heat { written, took_us: stopped_us - begun, stopped_us })
        });
        heated.await.map(Some).map_err(|error| stopped(&error))
    }

    /// Waits until the own nodes hold that value of the hot key or a newer one.
    pub(super) async fn cool(&self, value: u64) -> Result<Vec<(usize, Heard)>, CliError> {
        self.all_held(|held| (held.hot.newest >= value).then_some(held.hot)).await
    }

    fn node_at(&self, place: usize) -> Option<NodeHandle> {
        self.nodes.iter().find(|(at, _)| *at == place).map(|(_, node)| node.clone())
    }

    async fn all_held<T>(&self, done: impl Fn(&Flooded) -> Option<T>) -> Result<Vec<(usize, T)>, CliError> {
        let mut looks = tokio::time::interval(HELD_LOOK);
        let all = async {
            loop {
                let places = self.nodes.iter().map(|(place, _)| *place);
                let held = places.zip(&self.held).map(|(place, held)| {
                    let held = held.lock().expect("no holder panics");
                    Some((place, done(&held.flooded)?))
                });
                if let Some(all) = held.collect() {
                    return all;
                }
                looks.tick().await;
            }
        };
        let held = tokio::time::timeout(PATIENCE, all).await;
        held.map_err(|_| CliError::unreachable("a node did not come to hold what was written"))
    }
}

/// Hands everything over as fast as the node takes it: when that began.
async fn write(node: NodeHandle, flood: Flood) -> Result<u64, CliError> {
    let tasks = tokio::runtime::Handle::current();
    let written = pace::on_own_thread(move || {
        let now = node.clock().now().wall;
        let value = flood.before + 1;
        let reading = |key| (flooded(key), member::update_of(value, flood.payload, now));
        let keys: Vec<u64> = (0..flood.keys).collect();
        let batches: Vec<Vec<_>> =
            keys.chunks(flood.batch).map(|batch| batch.iter().copied().map(reading).collect()).collect();
        let begun = machine_micros();
        for batch in batches {
            tasks.block_on(node.sense(batch))?;
        }
        Ok::<_, AskError>(begun)
    });
    written.await.map_err(|error| stopped(&error))
}

/// The channel of a flood's key.
fn flooded(key: u64) -> Channel {
    Channel::new(&format!("{FLOODED}{key}")).expect("a good name")
}

fn stopped(error: &AskError) -> CliError {
    CliError::because("a node has stopped", error)
}

/// A member's part in a flood, if that is what it says.
pub fn share(told: Told) -> Option<FloodShare> {
    if let Told::Flooded { share } = told { Some(share) } else { None }
}
