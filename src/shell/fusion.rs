//! Estimates of the newest readings, kept while somebody asks for them, and a watch on the own sensors.
//!
//! A [`Fuser`] follows the node's changes: it notes which readings are new, and reads and files them when it is
//! asked. One changed reading touches the groups it is in. Nobody asks for a while: it stops following.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::{Mutex as AsyncMutex, broadcast};

use crate::core::fusion::diagnosis::{Diagnosis, Fault, Limits, Peers, Verdict};
use crate::core::fusion::estimate::{Contribution, Estimate, Status, Subject};
use crate::core::fusion::groups::{GroupKey, Groups, quantity};
use crate::core::fusion::params::Rules;
use crate::core::fusion::partial::Sensor;
use crate::core::fusion::smooth::Smoother;
use crate::core::id::{Channel, NodeId, RegionId};
use crate::core::node::Node;
use crate::core::reading::{NOTE_BYTES_MAX, Quality, Reading};
use crate::core::state::entry::{Entry, Key};
use crate::core::state::system::{self, Meaning};
use crate::core::time::{Mono, Wall};
use crate::shell::runtime::{AskError, Change, NodeHandle};

/// After this long without a question a fuser stops following.
const IDLE: Duration = Duration::from_secs(60);
/// A fuser reads everything anew this often: what the node has dropped goes too.
const ANEW: Duration = Duration::from_secs(60);
/// While nobody asks, changes are read this often.
const DRAIN_INTERVAL: Duration = Duration::from_secs(1);
/// Peers of an own sensor are asked this often.
const PEERS_INTERVAL: Duration = Duration::from_secs(2);

/// What a node fuses beyond what it agrees upon.
#[derive(Clone, Debug, PartialEq)]
pub struct FusionConfig {
    /// Whether own sensors are watched, and readings of faulty ones marked.
    pub diagnose: bool,
    /// A sensor this long away from its peers drifts.
    pub drift_after: Duration,
    /// A sensor beside one of this quantity runs on the battery that it measures.
    pub battery_quantity: String,
    /// Below this a battery is low; 0 for never.
    pub battery_min: f64,
    /// How fast what is measured wanders, in the estimates' own standard uncertainties per root second; 0 does not
    /// smooth.
    pub smoothing: f64,
}

impl Default for FusionConfig {
    fn default() -> Self {
        Self {
            diagnose: true,
            drift_after: Duration::from_secs(12 * 3600),
            battery_quantity: "voltage".into(),
            battery_min: 0.0,
            smoothing: 0.0,
        }
    }
}

/// An estimate as it is shown: with everybody's part in it, or smoothed, if asked for.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The estimate.
    pub estimate: Estimate,
    /// Everybody's part in it.
    pub contributions: Vec<Contribution>,
    /// Its value and standard uncertainty over time, and whether this estimate fitted.
    pub smoothed: Option<(f64, f64, bool)>,
}

/// Which estimates are wanted; everything that is absent is.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Of this quantity.
    pub quantity: Option<String>,
    /// Of this region's sensors alone.
    pub region: Option<String>,
    /// Of this group: a rule's name, a region's, or `global`.
    pub group: Option<String>,
}

impl Wanted {
    /// Whether a subject is wanted.
    pub fn takes(&self, subject: &Subject) -> bool {
        self.quantity.as_ref().is_none_or(|quantity| *quantity == subject.quantity)
            && self.group.as_ref().is_none_or(|group| *group == subject.group)
            && self.region.as_ref().is_none_or(|region| subject.region.as_ref().is_some_and(|of| of.as_str() == region))
    }
}

/// Keeps groups of the newest readings while somebody asks. Cheap to clone.
#[derive(Clone)]
pub struct Fuser {
    node: NodeHandle,
    smoothing: f64,
    state: Arc<AsyncMutex<Option<Following>>>,
}

/// What is kept while following.
struct Following {
    changes: broadcast::Receiver<Change>,
    groups: Groups,
    regions: BTreeMap<NodeId, RegionId>,
    fresh: HashMap<Key, Change>,
    began: Mono,
    asked: Mono,
    smoothers: BTreeMap<Subject, Smoother>,
}

impl Fuser {
    /// Follows `node` once it is asked.
    pub fn new(node: NodeHandle, smoothing: f64) -> Self {
        Self { node, smoothing, state: Arc::default() }
    }

    /// The wanted estimates as of now, in order of quantity, unit and group.
    ///
    /// # Errors
    /// [`AskError::Stopped`] if the node has stopped.
    pub async fn estimates(&self, wanted: &Wanted, explained: bool) -> Result<Vec<Shown>, AskError> {
        let mut state = self.state.lock().await;
        let now = self.catch_up(&mut state).await?;
        let following = state.as_mut().expect("it has just caught up");
        let subjects = following.groups.subjects();
        let wanted = subjects.iter().filter(|(key, region)| wanted.takes(&key.subject(region.as_ref())));
        let shown: Vec<Shown> =
            wanted.map(|(key, region)| show(&following.groups, key, region.as_ref(), now, explained)).collect();
        Ok(shown.into_iter().map(|shown| following.smooth(shown, self.smoothing, now)).collect())
    }

    /// What a sensor's peers in its region say of its quantity.
    async fn peers_of(&self, sensor: &Sensor) -> Option<Peers> {
        let mut state = self.state.lock().await;
        let now = self.catch_up(&mut state).await.ok()?;
        let groups = &state.as_ref()?.groups;
        // The last group is the narrowest: rules come after the quantity.
        let (key, region) = groups.of(sensor).last()?;
        let estimate = groups.estimate(key, Some(region), now);
        let enough = estimate.status == Status::Ok && estimate.used >= 3;
        Some(Peers { value: estimate.value?, sigma: estimate.sigma? }).filter(|_| enough)
    }

    /// Reads what has changed, or everything; the wall clock that the node believes.
    async fn catch_up(&self, state: &mut Option<Following>) -> Result<Wall, AskError> {
        let now = self.node.clock().now();
        let worn = |following: &Following| now.mono.since(following.began) > ANEW;
        if state.as_mut().is_none_or(|following| worn(following) || !following.drain()) {
            let before = state.take();
            if before.is_none() {
                self.stop_when_idle();
            }
            let smoothers = before.map(|following| following.smoothers).unwrap_or_default();
            *state = Some(self.follow(now.mono, smoothers).await?);
        }
        let following = state.as_mut().expect("it follows now");
        following.asked = now.mono;
        following.file();
        self.node.inspect(|_, now| now.wall).await
    }

    async fn follow(&self, now: Mono, smoothers: BTreeMap<Subject, Smoother>) -> Result<Following, AskError> {
        // Subscribe first: what changes between the two is read twice rather than not at all.
        let changes = self.node.watch();
        let held = |node: &Node, _| node.store().iter().map(|(k, e)| (k.to_key(), e.clone())).collect::<Vec<_>>();
        let held: Vec<(Key, Entry)> = self.node.inspect(held).await?;
        let rules: Rules = self.node.params().fusion.clone();
        let groups = Groups::new(rules);
        let regions = BTreeMap::new();
        let mut following =
            Following { changes, groups, regions, fresh: HashMap::new(), began: now, asked: now, smoothers };
        let (system, readings): (Vec<_>, Vec<_>) = held.into_iter().partition(|(key, _)| key.channel.is_system());
        system.iter().for_each(|(key, entry)| following.note_region(key, entry));
        readings.iter().for_each(|(key, entry)| following.put(key, entry, &self.node.params().region));
        Ok(following)
    }

    /// Reads on while nobody asks for a moment, so that nothing runs over, and stops when nobody asks for long.
    fn stop_when_idle(&self) {
        let (state, clock) = (Arc::downgrade(&self.state), self.node.clock());
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(DRAIN_INTERVAL);
            loop {
                ticks.tick().await;
                let Some(state) = state.upgrade() else { return };
                let mut state = state.lock().await;
                let Some(following) = state.as_mut() else { return };
                let idle = clock.now().mono.since(following.asked) > IDLE;
                if idle || !following.drain() {
                    *state = None;
                    return;
                }
            }
        });
    }
}

impl Following {
    /// Notes what has changed; false if some of it was missed.
    fn drain(&mut self) -> bool {
        loop {
            match self.changes.try_recv() {
                Ok(change) => {
                    self.fresh.insert(change.0.clone(), change);
                }
                Err(TryRecvError::Empty | TryRecvError::Closed) => return true,
                Err(TryRecvError::Lagged(_)) => return false,
            }
        }
    }

    /// Files what has been noted.
    fn file(&mut self) {
        let mut fresh: Vec<Change> = std::mem::take(&mut self.fresh).into_values().collect();
        // `@node` first, which says where readings belong.
        fresh.sort_by(|a, b| (!a.0.channel.is_system(), &a.0).cmp(&(!b.0.channel.is_system(), &b.0)));
        let unknown = RegionId::new("unknown").expect("a good name");
        for change in fresh {
            let (key, entry) = &*change;
            match key.channel.is_system() {
                true => self.note_region(key, entry),
                false => self.put(key, entry, &unknown),
            }
        }
    }

    fn note_region(&mut self, key: &Key, entry: &Entry) {
        if key.channel.as_str() != system::NODE {
            return;
        }
        if let Ok(Meaning::Node(info)) = system::understand(&key.channel, &entry.value) {
            self.regions.insert(key.origin.clone(), info.region);
        }
    }

    fn put(&mut self, key: &Key, entry: &Entry, unknown: &RegionId) {
        if let Some(reading) = entry.value.reading() {
            let region = self.regions.get(&key.origin).unwrap_or(unknown);
            self.groups.put(region, &key.origin, &key.channel, &reading);
        }
    }

    fn smooth(&mut self, mut shown: Shown, smoothing: f64, now: Wall) -> Shown {
        let estimate = &shown.estimate;
        if let (true, Status::Ok, Some(value), Some(sigma)) =
            (smoothing > 0.0, estimate.status, estimate.value, estimate.sigma)
        {
            let fresh = || Smoother::new(smoothing * sigma);
            let smoother = self.smoothers.entry(estimate.subject.clone()).or_insert_with(fresh);
            shown.smoothed = Some(smoother.update(now, value, sigma));
        }
        shown
    }
}

fn show(groups: &Groups, key: &GroupKey, region: Option<&RegionId>, now: Wall, explained: bool) -> Shown {
    let (estimate, contributions) = match explained {
        true => groups.explain(key, region, now),
        false => (groups.estimate(key, region, now), Vec::new()),
    };
    Shown { estimate, contributions, smoothed: None }
}

/// Watches the own sensors and marks what they should not have said. Cheap to clone.
#[derive(Clone)]
pub struct Watcher(Arc<Watching>);

struct Watching {
    node: NodeHandle,
    fuser: Fuser,
    config: FusionConfig,
    sensors: Mutex<BTreeMap<Channel, Watched>>,
}

struct Watched {
    diagnosis: Diagnosis,
    limits: Limits,
    /// What the peers said, if there were enough of them, and when they were asked.
    peers: Option<(Option<Peers>, Mono)>,
}

/// A fault of an own sensor that stands.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The sensor.
    pub channel: Channel,
    /// What is wrong, since when, and how sure that is.
    pub verdict: Verdict,
}

impl Watcher {
    /// Watches the sensors of `node`.
    pub fn new(node: NodeHandle, fuser: Fuser, config: FusionConfig) -> Self {
        Self(Arc::new(Watching { node, fuser, config, sensors: Mutex::default() }))
    }

    /// Judges readings on their way to the node: one that is faulty loses its good quality, and its note says why.
    pub async fn mark(&self, readings: &mut [(Channel, Reading)]) {
        if !self.0.config.diagnose {
            return;
        }
        let is_sensor = |channel: &Channel| !channel.is_system() && !self.0.node.params().fusion.excludes(channel);
        for (channel, reading) in readings {
            let Some(value) = reading.value.filter(|_| reading.quality.is_good() && is_sensor(channel)) else {
                continue;
            };
            let peers = self.peers(channel).await;
            if let Some(fault) = self.0.judge(channel, reading, value, peers) {
                reading.quality = Quality::Uncertain;
                reading.note = Some(note(fault));
            }
        }
    }

    /// What the peers say, asked anew now and then.
    async fn peers(&self, channel: &Channel) -> Option<Peers> {
        let now = self.0.node.clock().now().mono;
        let known = self.0.sensors.lock().expect("no holder panics").get(channel).and_then(|watched| watched.peers);
        if let Some((peers, at)) = known
            && now.since(at) < PEERS_INTERVAL
        {
            return peers;
        }
        let sensor = Sensor { node: self.0.node.params().node.clone(), channel: channel.clone() };
        let peers = self.0.fuser.peers_of(&sensor).await;
        if let Some(watched) = self.0.sensors.lock().expect("no holder panics").get_mut(channel) {
            watched.peers = Some((peers, now));
        }
        peers
    }

    /// The faults that stand, by channel.
    pub fn standing(&self) -> Vec<Standing> {
        let now = self.0.node.clock().now().wall;
        let mut sensors = self.0.sensors.lock().expect("no holder panics");
        let stands = sensors.iter_mut().filter_map(|(channel, watched)| {
            watched.diagnosis.look(now, &watched.limits);
            Some(Standing { channel: channel.clone(), verdict: watched.diagnosis.standing()? })
        });
        stands.collect()
    }
}

impl Watching {
    fn judge(&self, channel: &Channel, reading: &Reading, value: f64, peers: Option<Peers>) -> Option<Fault> {
        let mut sensors = self.sensors.lock().expect("no holder panics");
        if quantity(channel) == self.config.battery_quantity && self.config.battery_min > 0.0 {
            let low = value < self.config.battery_min;
            let place = channel.as_str().rsplit_once('/').map(|(place, _)| place);
            let beside = |other: &Channel| other.as_str().rsplit_once('/').map(|(place, _)| place) == place;
            for (_, watched) in sensors.iter_mut().filter(|(other, _)| *other != channel && beside(other)) {
                watched.diagnosis.note_battery(reading.time, low);
            }
        }
        let limits = self.limits(channel, reading);
        match sensors.get_mut(channel) {
            Some(watched) => {
                watched.limits = limits;
                let this = watched.diagnosis.observe(reading.time, value, &limits, peers);
                this.or(watched
                    .diagnosis
                    .standing()
                    .map(|verdict| verdict.fault)
                    .filter(|fault| *fault != Fault::Silent))
            }
            None => {
                let diagnosis = Diagnosis::new(reading.time, value);
                sensors.insert(channel.clone(), Watched { diagnosis, limits, peers: None });
                None
            }
        }
    }

    fn limits(&self, channel: &Channel, reading: &Reading) -> Limits {
        let params = self.node.params();
        let known = params.fusion.sensor(&params.region, &params.node, channel);
        Limits {
            sigma: reading.sigma.filter(|sigma| *sigma > 0.0).or_else(|| known.and_then(|rule| rule.sigma)),
            spread: known.and_then(|rule| rule.spread).unwrap_or(0.0),
            min: known.and_then(|rule| rule.min),
            max: known.and_then(|rule| rule.max),
            drift_after_ms: self.config.drift_after.as_millis() as u64,
            silent_after_ms: params.fusion.params().ttl_ms.saturating_mul(3),
        }
    }
}

/// The fault's word first: it is the reason that estimates give.
fn note(fault: Fault) -> String {
    let why = match fault {
        Fault::Range => "beyond what this sensor can measure",
        Fault::Stuck => "repeats itself while its peers move",
        Fault::Spike => "leaps away from its last values",
        Fault::Noise => "scatters more than it used to",
        Fault::Drift => "has been away from its peers for too long",
        Fault::Silent => "has said nothing for too long",
        Fault::Battery => "its battery is low",
    };
    let note = format!("{}: {why}", fault.as_str());
    debug_assert!(note.len() <= NOTE_BYTES_MAX);
    note
}
