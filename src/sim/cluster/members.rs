//! Who takes part: names, parameters and stores of simulated nodes, and the lives of their processes.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::effect::StopReason;
use crate::core::event::Event;
use crate::core::id::{Channel, NodeId, RegionId, StoreId, Voter};
use crate::core::ledger::document::PROTOCOL_VERSION;
use crate::core::node::Node;
use crate::core::params::Params;
use crate::core::state::entry::KeyedEntry;
use crate::core::state::system::Addr;
use crate::sim::clock::NodeClock;
use crate::sim::cluster::Cluster;
use crate::sim::disk::Disk;
use crate::sim::fault::Fault;
use crate::sim::oracles::{Actor, Verdict};
use crate::sim::queue::What;

/// In a cluster larger than this some judges look at some nodes only.
const LARGE: usize = 256;
/// And so many they look at.
const LOOKED_AT: usize = 32;
/// In a region with more observers than this they join by any address.
const MANY_OBSERVERS: usize = 16;

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
    pub(super) spins: (u64, u32),
    pub(super) next_link: u64,
    pub dials_fail_until: u64,
    /// Until then the port of the process that died last takes connections, and drops them.
    pub lingers_until: u64,
    pub mad_until: u64,
    /// It left, or its run is over: nothing starts it again but a rejoin.
    pub gone: bool,
    pub channels: Vec<Channel>,
    /// When its process last ended, in microseconds.
    pub died: u64,
    /// When it last began.
    pub born: u64,
    /// Others that are still to see that it died.
    pub unseen: BTreeSet<usize>,
}

impl Cluster {
    pub(super) fn populate(&mut self) {
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
            lingers_until: 0,
            mad_until: 0,
            gone: false,
            channels,
            died: 0,
            born: 0,
            unseen: BTreeSet::new(),
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

    /// A node that has met nobody yet, while all that it was told of have moved or are gone, can find nobody: somebody
    /// gives it a good address and starts it again.
    pub fn redirect_strangers(&mut self) {
        let good = self.members[0].addr.clone();
        for m in 0..self.members.len() {
            let member = &self.members[m];
            let known = &member.params.bootstrap;
            let is_there = |at: &Addr| self.by_addr.get(at).is_some_and(|there| !self.members[*there].gone);
            if member.disk.store().cluster.is_none() && !known.is_empty() && !known.iter().any(is_there) {
                self.crash(m, true);
                self.members[m].params.bootstrap = vec![good.clone()];
            }
        }
    }

    /// Draws a data directory's identity.
    pub fn new_store(&mut self) -> StoreId {
        StoreId((u128::from(self.rng.bits()) << 64) | u128::from(self.rng.bits()))
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
        self.excuse_short_death(m);
        self.oracles.spread.began(&self.members[m].id);
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
        let agreed: Vec<KeyedEntry> =
            recovered.bodies.iter().filter_map(|body| body.entries().ok()).flatten().collect();
        member.node = Some(Node::recover(member.params.clone(), identity, recovered, seed, now));
        self.oracles.merges.reborn(m);
        let restored = self.restored(m, agreed);
        self.oracles.hierarchy.reborn(&self.members[m].voter);
        self.trace.remark(at, self.members[m].id.as_str(), format_args!("starts"));
        self.judge("acknowledged", verdict);
        self.judge("merge", restored);
        self.step(m, Event::Wake);
    }

    /// A new life holds what its disk's bodies say of others, where it has taken it: nobody is told, for nobody
    /// listens yet.
    fn restored(&mut self, m: usize, agreed: Vec<KeyedEntry>) -> Verdict {
        let Member { node: Some(node), id, .. } = &self.members[m] else { return Ok(()) };
        for (key, entry) in agreed.into_iter().map(KeyedEntry::into_parts).filter(|(key, _)| key.origin != *id) {
            if node.store().get(&key) == Some(&entry) {
                self.oracles.merges.changed(m, &key, &entry)?;
            }
        }
        Ok(())
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
        self.members[m].lingers_until = if fin { self.draw_linger() } else { at };
        self.expect_death_seen(m);
        self.net.process_died(&mut self.queue, m, fin);
        self.break_on(verdict);
    }

    pub(super) fn on_stop(&mut self, m: usize, why: StopReason) {
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
