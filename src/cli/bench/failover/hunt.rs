//! Who leads what in a cluster that is watched, and how long it takes until somebody else does.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::cli::bench::mark::{Mark, TOP};

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Victim {
    /// The leader of a region; with several, of one that does not lead the top
    Leader,
    /// The top-level leader alone
    TopLeader,
    /// All nodes of the region whose leader leads the top
    Region,
}

impl Victim {
    /// The word on the command line and in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::TopLeader => "top-leader",
            Self::Region => "region",
        }
    }
}

/// One failover.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failover {
    /// What was killed.
    pub victim: Victim,
    /// The node or the region.
    pub killed: String,
    /// The group that had to go on.
    pub group: String,
    /// Who leads it now.
    pub leader: String,
    /// The first checkpoint that it committed.
    pub index: u64,
    /// From the kill until somebody said that it leads.
    pub elected_ms: f64,
    /// Until it said that the checkpoint is committed.
    pub ms: f64,
}

/// Newest known leader and committed index of each group.
#[derive(Clone, Debug, Default)]
pub struct Agreement {
    groups: BTreeMap<String, Standing>,
}

#[derive(Clone, Debug, Default)]
struct Standing {
    leader: String,
    term: u64,
    index: u64,
}

impl Agreement {
    /// Takes note. What is older than what is known changes nothing: whoever starts again hears old claims anew.
    pub fn hear(&mut self, mark: &Mark) {
        match mark {
            Mark::Leads { group, node, term } => {
                let standing = self.groups.entry(group.clone()).or_default();
                if *term > standing.term {
                    (standing.term, standing.leader) = (*term, node.clone());
                }
            }
            Mark::Committed { group, node, index } => {
                let standing = self.groups.entry(group.clone()).or_default();
                if *index > standing.index {
                    (standing.index, standing.leader) = (*index, node.clone());
                }
            }
            _ => {}
        }
    }

    /// Who leads a group.
    pub fn leader(&self, group: &str) -> Option<&str> {
        self.groups.get(group).map(|standing| standing.leader.as_str())
    }

    /// The newest index that is known to be committed in a group.
    pub fn index(&self, group: &str) -> u64 {
        self.groups.get(group).map_or(0, |standing| standing.index)
    }

    /// Groups that one of these leads, and how far each has come.
    pub fn led_by(&self, nodes: &BTreeSet<String>) -> Vec<(String, u64)> {
        let led = self.groups.iter().filter(|(_, standing)| nodes.contains(&standing.leader));
        led.map(|(group, standing)| (group.clone(), standing.index)).collect()
    }

    /// True if something is committed in all of these groups.
    pub fn has_committed<'a>(&self, groups: impl IntoIterator<Item = &'a String>) -> bool {
        groups.into_iter().all(|group| self.groups.get(group).is_some_and(|standing| standing.index > 0))
    }
}

/// The groups of a cluster of these regions.
pub fn groups(regions: &BTreeSet<String>) -> Vec<String> {
    let top = (regions.len() > 1).then(|| TOP.to_owned());
    regions.iter().cloned().chain(top).collect()
}

/// A failover under way.
pub struct Hunt {
    victim: Victim,
    killed: String,
    dead: BTreeSet<String>,
    group: String,
    before: Standing,
    killed_at: u64,
    elected: Option<u64>,
}

impl Hunt {
    /// Chooses whom to kill: the hunt, which begins when that is done. `turn` chooses among regions; `members` are
    /// the nodes of every region. `None` while nobody leads what is to be hurt.
    pub fn choose(
        victim: Victim,
        turn: usize,
        agreement: &Agreement,
        members: &BTreeMap<String, BTreeSet<String>>,
    ) -> Option<Self> {
        let home =
            |node: &str| members.iter().find(|(_, nodes)| nodes.contains(node)).map(|(region, _)| region.clone());
        let (killed, dead, group) = match victim {
            Victim::Leader => {
                let leading = agreement.leader(TOP).and_then(home);
                let others: Vec<&String> = members.keys().filter(|region| Some(*region) != leading.as_ref()).collect();
                let group = others.get(turn % others.len().max(1)).map_or_else(String::new, |region| (*region).clone());
                let leader = agreement.leader(&group)?.to_owned();
                (leader.clone(), BTreeSet::from([leader]), group)
            }
            Victim::TopLeader => {
                let leader = agreement.leader(TOP)?.to_owned();
                (leader.clone(), BTreeSet::from([leader]), TOP.to_owned())
            }
            Victim::Region => {
                let region = home(agreement.leader(TOP)?)?;
                (region.clone(), members[&region].clone(), TOP.to_owned())
            }
        };
        let before = agreement.groups.get(&group)?.clone();
        Some(Self { victim, killed, dead, group, before, killed_at: 0, elected: None })
    }

    /// The nodes that die.
    pub fn dead(&self) -> &BTreeSet<String> {
        &self.dead
    }

    /// They have been killed.
    pub fn begin(&mut self, at_us: u64) {
        self.killed_at = at_us;
    }

    /// Hears of something; the failover if it is over.
    pub fn hear(&mut self, at_us: u64, mark: &Mark) -> Option<Failover> {
        let ms = |at: u64| at.saturating_sub(self.killed_at) as f64 / 1000.0;
        match mark {
            Mark::Leads { group, node, term } if *group == self.group && !self.dead.contains(node) => {
                if *term > self.before.term {
                    self.elected.get_or_insert(at_us);
                }
                None
            }
            Mark::Committed { group, node, index } => {
                // Without an election it was not the leader that died.
                let elected = self.elected?;
                let over = *group == self.group && !self.dead.contains(node) && *index > self.before.index;
                over.then(|| Failover {
                    victim: self.victim,
                    killed: self.killed.clone(),
                    group: self.group.clone(),
                    leader: node.clone(),
                    index: *index,
                    elected_ms: ms(elected),
                    ms: ms(at_us),
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leads(group: &str, node: &str, term: u64) -> Mark {
        Mark::Leads { group: group.into(), node: node.into(), term }
    }

    fn committed(group: &str, node: &str, index: u64) -> Mark {
        Mark::Committed { group: group.into(), node: node.into(), index }
    }

    fn members() -> BTreeMap<String, BTreeSet<String>> {
        let region = |name: &str, nodes: [&str; 2]| (name.to_owned(), nodes.map(str::to_owned).into());
        [region("a", ["a1", "a2"]), region("b", ["b1", "b2"]), region("c", ["c1", "c2"])].into()
    }

    fn agreement() -> Agreement {
        let mut agreement = Agreement::default();
        for mark in [
            leads("a", "a1", 3),
            committed("a", "a1", 5),
            leads("b", "b1", 1),
            committed("b", "b1", 5),
            committed("c", "c2", 4),
            leads(TOP, "a1", 2),
            committed(TOP, "a1", 7),
            leads("a", "a2", 2),
        ] {
            agreement.hear(&mark);
        }
        agreement
    }

    #[test]
    fn victims_are_who_leads_now_and_old_claims_change_nothing() {
        let choose = |victim, turn| Hunt::choose(victim, turn, &agreement(), &members()).unwrap();
        assert_eq!(choose(Victim::Leader, 0).killed, "b1", "of a region that does not lead the top");
        assert_eq!(choose(Victim::Leader, 1).killed, "c2");
        assert_eq!(choose(Victim::TopLeader, 0).killed, "a1");
        let region = choose(Victim::Region, 0);
        assert_eq!((region.killed.as_str(), region.dead().len()), ("a", 2));
        assert!(Hunt::choose(Victim::Region, 0, &Agreement::default(), &members()).is_none());
    }

    #[test]
    fn a_failover_is_over_when_somebody_else_has_committed_something_newer() {
        let mut hunt = Hunt::choose(Victim::Region, 0, &agreement(), &members()).unwrap();
        hunt.begin(1_000_000);
        assert_eq!(hunt.hear(1_001_000, &committed(TOP, "a1", 8)), None, "still under way from the dead one");
        assert_eq!(hunt.hear(1_002_000, &leads(TOP, "b1", 2)), None);
        assert_eq!(hunt.hear(4_000_000, &leads(TOP, "b1", 3)), None);
        assert_eq!(hunt.hear(4_000_100, &committed(TOP, "b1", 7)), None);
        let over = hunt.hear(4_500_000, &committed(TOP, "b1", 8)).unwrap();
        assert_eq!((over.elected_ms, over.ms, over.leader.as_str()), (3000.0, 3500.0, "b1"));
    }
}
