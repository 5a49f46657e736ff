//! Failovers of real processes: killed, and started again for the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use indicatif::ProgressBar;

use crate::cli::bench::crew::{Crew, CrewPlan};
use crate::cli::bench::failover::hunt::{Agreement, Failover, Hunt, Victim, groups};
use crate::cli::bench::plan::{self, Told};
use crate::cli::error::CliError;
use crate::core::rng::Rng;
use crate::shell::clock::machine_micros;

/// How long somebody may take to say anything at all.
const PATIENCE: Duration = Duration::from_secs(60);
/// A kill comes up to this long after all is well, so that it meets any point between two heartbeats.
const QUIET_MS: usize = 1000;

/// A cluster of processes, each with one node and a store of its own.
pub struct Cluster {
    crew: Crew,
    members: BTreeMap<String, BTreeSet<String>>,
    agreement: Agreement,
    rng: Rng,
}

impl Cluster {
    /// Starts it and waits until every group has committed something.
    ///
    /// # Errors
    /// If that does not come to pass.
    pub async fn start(plan: CrewPlan, seed: u64) -> Result<Self, CliError> {
        let mut members: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for place in 0..plan.nodes {
            members.entry(plan.region_name(place)).or_default().insert(plan::name(place));
        }
        let crew = Crew::start(plan).await?;
        let mut cluster = Self { crew, members, agreement: Agreement::default(), rng: Rng::new(seed) };
        let groups = groups(&cluster.members.keys().cloned().collect());
        while !cluster.agreement.has_committed(&groups) {
            cluster.hear().await?;
        }
        Ok(cluster)
    }

    async fn hear(&mut self) -> Result<(), CliError> {
        if let (_, Told::Marked { mark, .. }) = self.crew.next(PATIENCE).await? {
            self.agreement.hear(&mark);
        }
        Ok(())
    }

    /// Kills one victim, waits until somebody else has committed, and makes the cluster whole again.
    ///
    /// # Errors
    /// If nobody takes over, or the killed do not come back.
    pub async fn failover(&mut self, victim: Victim, turn: usize) -> Result<Failover, CliError> {
        let quiet = Duration::from_millis(self.rng.below(QUIET_MS) as u64);
        let until = tokio::time::Instant::now() + quiet;
        while let Ok(heard) = tokio::time::timeout_at(until, self.hear()).await {
            heard?;
        }
        let hunt = Hunt::choose(victim, turn, &self.agreement, &self.members);
        let mut hunt = hunt.ok_or_else(|| CliError::failed("nobody leads what is to be killed"))?;
        let places: Vec<usize> = hunt.dead().iter().filter_map(|name| plan::place(name)).collect();
        let orphaned = self.agreement.led_by(hunt.dead());
        hunt.begin(machine_micros());
        for place in &places {
            self.crew.kill(*place).await?;
        }
        let over = tokio::time::timeout(PATIENCE, self.pursue(&mut hunt)).await;
        let over = over.unwrap_or_else(|_| Err(CliError::unreachable("nobody took over in a minute")))?;
        let agreement = &mut self.agreement;
        let mut hear = |told: Told| {
            if let Told::Marked { mark, .. } = told {
                agreement.hear(&mark);
            }
        };
        self.crew.restart(&places, &mut hear).await?;
        // What lost its leader goes on, before it is counted on.
        while orphaned.iter().any(|(group, index)| self.agreement.index(group) <= *index) {
            self.hear().await?;
        }
        Ok(over)
    }

    async fn pursue(&mut self, hunt: &mut Hunt) -> Result<Failover, CliError> {
        loop {
            if let (_, Told::Marked { at_us, mark, .. }) = self.crew.next(PATIENCE).await? {
                self.agreement.hear(&mark);
                if let Some(over) = hunt.hear(at_us, &mark) {
                    return Ok(over);
                }
            }
        }
    }
}

/// Kills as many victims of each kind.
///
/// # Errors
/// If the cluster does not come up, nobody takes over, or the killed do not come back.
pub async fn failovers(
    plan: CrewPlan,
    victims: &[Victim],
    kills: u32,
    seed: u64,
    progress: &ProgressBar,
) -> Result<Vec<Failover>, CliError> {
    let mut cluster = Cluster::start(plan, seed).await?;
    let mut failovers = Vec::new();
    for victim in victims {
        for turn in 0..kills {
            failovers.push(cluster.failover(*victim, turn as usize).await?);
            progress.inc(1);
        }
    }
    cluster.crew.dismiss().await;
    Ok(failovers)
}
