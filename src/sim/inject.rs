//! What goes wrong, when, and how it is made good again.

use std::collections::BTreeMap;

use crate::core::event::Event;
use crate::core::id::{GroupId, Index, RegionId, Voter};
use crate::core::rng::Rng;
use crate::core::state::system::Addr;
use crate::sim::cluster::Cluster;
use crate::sim::fault::Fault;
use crate::sim::network::Mangling;
use crate::sim::oracles::is_quorum;
use crate::sim::phases::Phase;
use crate::sim::queue::What;

/// How a lasting fault ends.
#[derive(Debug)]
pub(crate) enum Undo {
    /// These paths open again.
    Open(Vec<(usize, usize)>),
    /// The path between two nodes goes and comes, so many more times.
    Flap { pair: (usize, usize), turns: u32, blocked: bool },
    /// A member's paths are fast again.
    Fast(usize),
    /// A member's disk takes this long again.
    Disk(usize, u64),
    /// A member's wall clock moves back by so many milliseconds.
    Clock(usize, i64),
}

/// Nodes that may join beyond those of the beginning.
const JOINERS_MAX: usize = 3;
/// How long the port of a process that died may take connections at most.
const LINGER_MAX_US: usize = 30_000;

impl Cluster {
    /// Draws when each fault strikes first.
    pub(crate) fn start_faults(&mut self) {
        let rates = &self.plan.rates;
        self.net.mangling = Mangling {
            loss: rates[Fault::Loss],
            duplicate: rates[Fault::Duplicate],
            reorder: rates[Fault::Reorder],
            retransmit: rates[Fault::Retransmit],
        };
        for fault in Fault::ALL.iter().copied().filter(|fault| fault.is_rate()) {
            self.schedule_fault(fault);
        }
    }

    fn schedule_fault(&mut self, fault: Fault) {
        let rate = self.plan.rates[fault];
        if rate > 0.0 {
            let wait = exponential(&mut self.fault_rng[fault as usize], 1e6 / rate);
            self.queue.after(wait, What::Fault(fault));
        }
    }

    /// A fault strikes, and is drawn anew.
    pub(crate) fn on_fault(&mut self, fault: Fault) {
        if self.phase != Phase::Faults {
            return;
        }
        let mut rng = std::mem::replace(&mut self.fault_rng[fault as usize], Rng::new(0));
        if self.strike(fault, &mut rng) {
            self.injected[fault] += 1;
            let at = self.queue.now();
            self.trace.remark(at, "sim", format_args!("{}", fault.as_str()));
        }
        self.fault_rng[fault as usize] = rng;
        self.schedule_fault(fault);
    }

    /// True if there was something to strike.
    fn strike(&mut self, fault: Fault, rng: &mut Rng) -> bool {
        let n = self.members.len();
        let m = rng.below(n);
        let now = self.queue.now();
        let seconds = |rng: &mut Rng, lo: f64, hi: f64| ((lo + (hi - lo) * rng.unit()) * 1e6) as u64;
        match fault {
            Fault::Crash => self.crash_for_a_while(m, true),
            Fault::PowerLoss => self.crash_for_a_while(m, false),
            Fault::Pause => {
                self.members[m].paused_until = now + seconds(rng, 0.05, 3.0);
                self.members[m].node.is_some()
            }
            Fault::Reset => self.net.reset_one(&mut self.queue, rng),
            Fault::HalfOpen => self.net.half_open_one(&mut self.queue, rng),
            Fault::OneWay => {
                let to = other(rng, n, m);
                let span = seconds(rng, 0.2, 6.0);
                to.is_some_and(|to| self.block(vec![(m, to)], span))
            }
            Fault::Isolate => {
                let paths = (0..n).filter(|i| *i != m).flat_map(|i| [(m, i), (i, m)]).collect();
                let span = seconds(rng, 0.3, 6.0);
                self.block(paths, span)
            }
            Fault::Split => {
                let side: Vec<bool> = (0..n).map(|_| rng.chance(0.5)).collect();
                let span = seconds(rng, 0.3, 6.0);
                self.block(pairs(n, |a, b| side[a] != side[b]), span)
            }
            Fault::Ring => {
                let mut order: Vec<usize> = (0..n).collect();
                rng.shuffle(&mut order);
                let mut place = vec![0; n];
                order.iter().enumerate().for_each(|(i, member)| place[*member] = i);
                let next = |a: usize, b: usize| (place[a] + 1) % n == place[b] || (place[b] + 1) % n == place[a];
                let span = seconds(rng, 0.5, 6.0);
                self.block(pairs(n, |a, b| !next(a, b)), span)
            }
            Fault::Bridge => {
                let side: Vec<bool> = (0..n).map(|_| rng.chance(0.5)).collect();
                let span = seconds(rng, 0.5, 6.0);
                self.block(pairs(n, |a, b| a != m && b != m && side[a] != side[b]), span)
            }
            Fault::Flap => match other(rng, n, m) {
                Some(to) => {
                    self.lasting(Undo::Flap { pair: (m, to), turns: 4 + rng.below(12) as u32, blocked: false }, 0);
                    true
                }
                None => false,
            },
            Fault::DialTimeout => {
                self.members[m].dials_fail_until = now + seconds(rng, 0.5, 6.0);
                true
            }
            Fault::Stall => {
                let span = seconds(rng, 0.1, 5.0);
                self.net.stall_one(&self.queue, rng, span)
            }
            Fault::DelaySpike => {
                self.net.slow_down(m, 20 + rng.below(400) as u64);
                let span = seconds(rng, 0.3, 4.0);
                self.lasting(Undo::Fast(m), span);
                true
            }
            Fault::SlowDisk => {
                let usual = self.members[m].disk_us.min(5_000);
                self.members[m].disk_us = 10_000 * (2 + rng.below(60) as u64);
                let span = seconds(rng, 0.5, 6.0);
                self.lasting(Undo::Disk(m, usual), span);
                true
            }
            Fault::StuckDisk => {
                let until = now + seconds(rng, 0.2, 4.0);
                self.members[m].disk.delay_until(until);
                self.members[m].node.is_some()
            }
            // A store that cannot be written stops its process at once; nothing unanswered is kept.
            Fault::FullDisk => self.crash_for_a_while(m, true),
            Fault::BitFlip => {
                let may = self.may_lose(m);
                if may {
                    self.crash_for_a_while(m, true);
                    self.members[m].disk.flip(rng);
                }
                may
            }
            Fault::Wipe => {
                let may = self.may_lose(m);
                if may {
                    self.crash_for_a_while(m, true);
                    self.lose_disk(m, "wiped");
                }
                may
            }
            Fault::ClockJump => {
                let by = (rng.unit() * 16_000.0) as i64 - 8_000;
                self.members[m].clock.jump(by);
                true
            }
            Fault::ClockMad => {
                let by = (30_000.0 + rng.unit() * 3_600_000.0) as i64 * if rng.chance(0.5) { 1 } else { -1 };
                self.members[m].clock.jump(by);
                let span = seconds(rng, 0.5, 5.0);
                self.lasting(Undo::Clock(m, -by), span);
                true
            }
            Fault::MadSource => {
                self.members[m].mad_until = now + seconds(rng, 0.2, 2.0);
                true
            }
            Fault::Join => self.join_one(rng),
            Fault::Leave => {
                let up = self.members[m].node.is_some();
                if up {
                    self.step(m, Event::Leave);
                }
                up
            }
            Fault::RemoveVoter => self.remove_one(m),
            Fault::Forget => self.forget_one(m, rng),
            Fault::Move => self.move_one(m),
            Fault::LoseThird => self.lose_third(rng),
            Fault::Hiccup => {
                self.members[m].paused_until = now + seconds(rng, 0.05, 1.0);
                self.members[m].node.is_some()
            }
            Fault::RegionCut => {
                let region = self.group_of(m);
                let inside: Vec<bool> = (0..n).map(|i| self.group_of(i) == region).collect();
                let span = seconds(rng, 0.5, 8.0);
                self.block(pairs(n, |a, b| inside[a] != inside[b]), span)
            }
            Fault::RegionSplit => {
                let region = self.group_of(m);
                let (side, outside) = ((0..n).map(|_| rng.chance(0.5)).collect::<Vec<_>>(), rng.chance(0.5));
                let place: Vec<u8> =
                    (0..n).map(|i| if self.group_of(i) != region { 2 } else { u8::from(side[i]) }).collect();
                // One half stays with the others; or they are cut off from each other alone.
                let cut =
                    |a: u8, b: u8| (a.min(b) == 0 && a.max(b) == 1) || (outside && a.min(b) == 0 && a.max(b) == 2);
                let span = seconds(rng, 0.5, 8.0);
                self.block(pairs(n, |a, b| cut(place[a], place[b])), span)
            }
            Fault::RegionLoss => {
                let region = self.group_of(m);
                let there: Vec<usize> = (0..n).filter(|i| self.group_of(*i) == region).collect();
                let mut any = false;
                for i in there {
                    any |= self.crash_for_a_while(i, true);
                }
                any
            }
            Fault::LeaderCrash => {
                let top = rng.chance(0.3);
                let leads = |i: &usize| {
                    let node = self.members[*i].node.as_ref();
                    node.is_some_and(
                        |node| if top { node.top().is_some_and(|t| t.is_leader()) } else { node.is_leader() },
                    )
                };
                let leaders: Vec<usize> = (0..n).filter(leads).collect();
                rng.pick(&leaders).copied().is_some_and(|leader| self.crash_for_a_while(leader, true))
            }
            Fault::CrashMidStep
            | Fault::Linger
            | Fault::Loss
            | Fault::Duplicate
            | Fault::Reorder
            | Fault::Retransmit
            | Fault::Skew
            | Fault::Drift => false,
        }
    }

    /// Closes paths for a while.
    fn block(&mut self, paths: Vec<(usize, usize)>, span: u64) -> bool {
        for (from, to) in &paths {
            self.net.block(*from, *to);
        }
        let any = !paths.is_empty();
        self.lasting(Undo::Open(paths), span);
        any
    }

    fn lasting(&mut self, undo: Undo, span: u64) {
        self.episodes.push(Some(undo));
        self.queue.after(span, What::Undo { episode: self.episodes.len() - 1 });
    }

    /// A lasting fault ends.
    pub(crate) fn undo(&mut self, episode: usize) {
        match self.episodes[episode].take() {
            None => {}
            Some(Undo::Open(paths)) => {
                for (from, to) in paths {
                    self.net.unblock(&mut self.queue, from, to);
                }
            }
            Some(Undo::Flap { pair: (a, b), turns, blocked }) => {
                for (from, to) in [(a, b), (b, a)] {
                    match blocked {
                        true => self.net.unblock(&mut self.queue, from, to),
                        false => self.net.block(from, to),
                    }
                }
                if turns > 0 && self.phase == Phase::Faults || !blocked {
                    let span = 50_000 + self.rng.below(400_000) as u64;
                    self.lasting(Undo::Flap { pair: (a, b), turns: turns.saturating_sub(1), blocked: !blocked }, span);
                }
            }
            Some(Undo::Fast(m)) => self.net.slow_down(m, 1),
            Some(Undo::Disk(m, usual)) => self.members[m].disk_us = usual,
            Some(Undo::Clock(m, by)) => self.members[m].clock.jump(by),
        }
    }

    /// Ends every lasting fault now.
    pub(crate) fn undo_all(&mut self) {
        for episode in 0..self.episodes.len() {
            // A flapping path that is open stays so.
            if let Some(Undo::Flap { blocked: false, .. }) = self.episodes[episode] {
                self.episodes[episode] = None;
            }
            self.undo(episode);
        }
    }

    /// Whether a step of so many effects is cut short by a crash, and where.
    pub(crate) fn mid_step_crash(&mut self, effects: usize) -> Option<usize> {
        let p = self.plan.rates[Fault::CrashMidStep];
        if p == 0.0 || effects == 0 || self.phase != Phase::Faults {
            return None;
        }
        let rng = &mut self.fault_rng[Fault::CrashMidStep as usize];
        rng.chance(p).then(|| rng.below(effects))
    }

    /// Until when the port of a process that dies now takes connections all the same.
    pub(crate) fn draw_linger(&mut self) -> u64 {
        let (p, now) = (self.plan.rates[Fault::Linger], self.queue.now());
        let rng = &mut self.fault_rng[Fault::Linger as usize];
        if p == 0.0 || !rng.chance(p) {
            return now;
        }
        self.injected[Fault::Linger] += 1;
        now + rng.below(LINGER_MAX_US) as u64
    }

    /// Ends a process and has it started again some time later; false if it did not run.
    pub(crate) fn crash_for_a_while(&mut self, m: usize, fin: bool) -> bool {
        if self.members[m].node.is_none() {
            return false;
        }
        self.crash(m, fin);
        let down = 10_000 + exponential(&mut self.rng, 1.5e6);
        self.queue.after(down, What::Start { member: m });
        true
    }

    /// A node comes back elsewhere. The first stays where it is: somebody's address must be good.
    fn move_one(&mut self, m: usize) -> bool {
        let may = m > 0 && self.crash_for_a_while(m, true);
        if may {
            let addr: Addr = format!("{}:{}", self.members[m].id, 7401 + self.members[m].life).into();
            self.by_addr.remove(&self.members[m].addr);
            self.by_addr.insert(addr.clone(), m);
            self.members[m].params.addr = addr.clone();
            self.members[m].addr = addr;
        }
        may
    }

    fn lose_third(&mut self, rng: &mut Rng) -> bool {
        let mut all: Vec<usize> = (0..self.members.len()).collect();
        rng.shuffle(&mut all);
        all.truncate(self.members.len() / 3);
        all.retain(|m| self.members[*m].node.is_some());
        for m in all {
            self.crash(m, true);
            let away = 10_000_000 + rng.below(2_000_000) as u64;
            self.queue.after(away, What::Start { member: m });
        }
        true
    }

    /// A node has left in order. It comes back some time later.
    pub(crate) fn left(&mut self, m: usize) {
        let away = 500_000 + exponential(&mut self.rng, 3e6);
        self.queue.after(away, What::Start { member: m });
    }

    /// A member's disk is lost: what it was, is no more.
    pub(crate) fn lose_disk(&mut self, m: usize, why: &'static str) {
        let store = self.new_store();
        let member = &mut self.members[m];
        let old = std::mem::replace(&mut member.voter.store, store);
        self.lost.insert(Voter { node: member.id.clone(), store: old }, why);
        self.oracles.acks.wiped(&member.id);
        self.oracles.stamps.excuse(&member.id);
        member.disk.wipe(store);
    }

    /// Whether a majority of disks stays if this one is lost: nothing is promised beyond.
    fn may_lose(&self, m: usize) -> bool {
        let group = self.group_of(m);
        let from = self.oracles.ledger.newest(&group).map_or(Index(0), |at| at.index);
        let going = &self.members[m].voter;
        let mut known = self.oracles.quorums.documents_from(&group, from).peekable();
        // At the top too: nothing is promised beyond a majority of regions, each with a majority of its voters.
        let from = self.oracles.ledger.newest(&GroupId::Top).map_or(Index(0), |at| at.index);
        let mut global = self.oracles.quorums.documents_from(&GroupId::Top, from);
        let top_stays = self.plan.scenario.regions == 1
            || global.all(|document| {
                let stays = |voter: &Voter| voter != going && !self.lost.contains_key(voter);
                document.voters_in(&GroupId::Top).is_none_or(|voters| {
                    voters.regions().values().all(|all| 2 * all.iter().filter(|v| stays(v)).count() > all.len())
                })
            });
        // A voter added to a lost one's place may be on its way: one at a time.
        top_stays
            && known.peek().is_some()
            && known.all(|document| {
                document.voters_in(&group).is_none_or(|voters| {
                    !voters.iter().any(|voter| self.lost.contains_key(voter))
                        && is_quorum(&voters, |voter| voter != going)
                        && voters.len() > 2
                })
            })
            && !self.members.iter().any(|member| member.disk.is_damaged())
    }

    fn join_one(&mut self, rng: &mut Rng) -> bool {
        let scenario = &self.plan.scenario;
        let begun = scenario.regions * (scenario.voters + scenario.observers);
        if self.members.len() >= begun + JOINERS_MAX {
            return false;
        }
        let like = &self.members[rng.below(begun)];
        let (region, initial): (RegionId, BTreeMap<_, _>) =
            (like.params.region.clone(), like.params.initial_voters.clone());
        let name = format!("new-{}", self.members.len() - begun + 1);
        let member = self.add_member(&name, region.as_str(), &initial);
        self.start(member);
        self.start_member_load(member);
        true
    }

    /// An operator takes a live voter out, if enough stay.
    fn remove_one(&mut self, m: usize) -> bool {
        let group = self.group_of(m);
        let from = self.oracles.ledger.newest(&group).map_or(Index(0), |at| at.index);
        let mut known = self.oracles.quorums.documents_from(&group, from);
        let enough = known.all(|d| d.voters_in(&group).is_none_or(|voters| voters.len() > 3));
        if enough {
            let command = crate::core::event::Command::RemoveVoter { node: self.members[m].id.clone() };
            self.queue.after(0, What::Operate { at: None, command });
        }
        enough
    }

    /// An operator has somebody forgotten that is not there.
    fn forget_one(&mut self, m: usize, rng: &mut Rng) -> bool {
        if self.members[m].node.is_some() {
            return false;
        }
        let at = rng.below(self.members.len());
        let node = self.members[m].id.clone();
        self.queue.after(0, What::Operate { at: Some(at), command: crate::core::event::Command::Forget { node } });
        true
    }
}

/// A wait of this mean, in microseconds.
pub(crate) fn exponential(rng: &mut Rng, mean: f64) -> u64 {
    (-(1.0 - rng.unit()).ln() * mean) as u64
}

fn other(rng: &mut Rng, n: usize, not: usize) -> Option<usize> {
    (n > 1).then(|| (not + 1 + rng.below(n - 1)) % n)
}

fn pairs(n: usize, blocked: impl Fn(usize, usize) -> bool) -> Vec<(usize, usize)> {
    let all = (0..n).flat_map(|a| (0..n).map(move |b| (a, b)));
    all.filter(|(a, b)| a != b && blocked(*a, *b)).collect()
}
