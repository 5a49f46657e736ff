//! `bench failover`: how long a group, or the top of all regions, is without a leader that commits.

mod hunt;
mod real;
mod report;
pub mod virtual_time;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::bench::host::Host;
use crate::cli::bench::world::{self, Transport, WorldArgs};
use crate::cli::bench::{Percentiles, bar, histogram, record};
use crate::cli::error::CliError;
use crate::cli::output::{self, Column, NONE, Rows, number, text};
use crate::cli::threshold::{Threshold, verdict};
use crate::sim::crowd::Plan;

use hunt::{Failover, Victim};

#[derive(Args)]
#[command(
    after_help = "With regions, what is killed is in turn the leader of one region, the top-level leader alone, and \
    the whole region that leads the top. With --transport sim each kill is in a cluster of its own, under virtual time \
    and over links that are told; --far-ms between commas measures several. Thresholds: p50, p99, max and elected_p50, \
    elected_p99, elected_max, of everything measured."
)]
pub struct FailoverArgs {
    /// Victims of each kind
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    kills: u32,
    /// Voters of each region, each in its own process
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(3..=5))]
    nodes: u32,
    /// Regions
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    regions: u32,
    /// Whom to kill; all that there are, one kind after another
    #[arg(long, value_enum, value_delimiter = ',')]
    victim: Vec<Victim>,
    #[command(flatten)]
    world: WorldArgs,
    /// Seed of when and whom to kill, and of everything under virtual time
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Also write a page with charts
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// End with exit code 5 unless this is kept, for example 'p50<900ms'; may be said again
    #[arg(long, value_name = "FIGURE<VALUE")]
    threshold: Vec<Threshold>,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    host: Host,
    nodes: u32,
    regions: u32,
    /// One a setting and kind of victim.
    figures: Vec<Figure>,
    /// All failovers, in that order.
    failovers: Vec<Failover>,
    /// Of the first figure.
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

/// Failovers of one kind in one setting.
#[derive(Clone, Debug, Serialize)]
struct Figure {
    transport: Transport,
    victim: Victim,
    /// Mean time of a message within a region and between regions, under virtual time.
    link_ms: Option<f64>,
    far_ms: Option<f64>,
    kills: usize,
    /// From the kill until somebody says that it leads.
    elected: Times,
    /// Until it says that something newer is committed.
    committed: Times,
    /// All times until then, sorted, in ms.
    each_ms: Vec<f64>,
}

/// Percentiles in ms.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Times {
    /// Half are no longer.
    pub p50_ms: f64,
    /// 99 of a hundred are no longer.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Times {
    /// Of times in ms.
    pub fn of(ms: impl Iterator<Item = f64>) -> Self {
        let mut times = histogram();
        ms.for_each(|ms| record(&mut times, (ms * 1000.0) as u64));
        let Percentiles { p50_us, p99_us, max_us, .. } = Percentiles::of(&times);
        let ms = |us: u64| us as f64 / 1000.0;
        Self { p50_ms: ms(p50_us), p99_ms: ms(p99_us), max_ms: ms(max_us) }
    }

    fn by_name(self, name: &str) -> f64 {
        match name {
            "p50" => self.p50_ms,
            "p99" => self.p99_ms,
            _ => self.max_ms,
        }
    }
}

impl Figure {
    /// Where and over what it was measured.
    fn setting(&self) -> String {
        match self.far_ms {
            None => self.transport.as_str().to_owned(),
            Some(far) => format!("{}, regions {} ms apart", self.transport.as_str(), 2.0 * far),
        }
    }

    fn figure(&self, name: &str) -> f64 {
        match name.strip_prefix("elected_") {
            Some(name) => self.elected.by_name(name),
            None => self.committed.by_name(name),
        }
    }
}

const THRESHOLDS: &[&str] = &["p50", "p99", "max", "elected_p50", "elected_p99", "elected_max"];

const COLUMNS: &[Column] = &[
    text("transport"),
    number("nodes"),
    number("regions"),
    number("round trip far"),
    number("round trip near").wide(),
    text("killed"),
    number("times"),
    number("elected p50"),
    number("elected p99"),
    number("elected max"),
    number("committed p50"),
    number("committed p99"),
    number("committed max"),
];

pub async fn run(cx: &Context, args: FailoverArgs) -> Result<(), CliError> {
    args.threshold.iter().try_for_each(|threshold| threshold.check(THRESHOLDS))?;
    let victims = victims(&args)?;
    let progress = bar(u64::from(args.kills) * (victims.len() * args.world.settings()) as u64, "killing leaders");
    let measured = match args.world.transport {
        Transport::Tcp => {
            let failovers = real::failovers(
                world::crew(args.nodes, args.regions, None),
                &victims,
                args.kills,
                args.seed,
                &progress,
            )
            .await?;
            vec![(None, failovers)]
        }
        Transport::Sim => {
            let plan = |far: f64| args.world.plan(args.nodes, args.regions, far, args.seed);
            let plans: Vec<(f64, Plan)> = args.world.far_ms.0.iter().map(|far| (*far, plan(*far))).collect();
            let (kills, bar, victims) = (args.kills, progress.clone(), victims.clone());
            let computing = tokio::task::spawn_blocking(move || {
                let mut measured = Vec::new();
                for (far, plan) in plans {
                    let all = victims.iter().map(|v| virtual_time::failovers(&plan, *v, kills, &bar));
                    measured.push((Some(far), all.collect::<Result<Vec<_>, _>>()?.concat()));
                }
                Ok(measured)
            });
            computing.await.unwrap_or_else(|error| Err(CliError::because("the simulation broke", &error)))?
        }
    };
    progress.finish_and_clear();
    let report = report(&args, measured);
    if let Some(path) = &args.report {
        let page = report::page(&report);
        std::fs::write(path, page).map_err(|error| CliError::because(path.display().to_string(), &error))?;
    }
    output::print(cx.format, &report, &report.figures, || rows(&report))?;
    if cx.format.is_for_people() {
        eprintln!("\n{}", report.host.line());
        eprintln!(
            "from the kill until somebody says that it leads, and until it says that a newer checkpoint is committed"
        );
    }
    judge(&report, &args.threshold)
}

fn victims(args: &FailoverArgs) -> Result<Vec<Victim>, CliError> {
    let all = [Victim::Leader, Victim::TopLeader, Victim::Region];
    match (args.victim.as_slice(), args.regions) {
        ([], 1) => Ok(vec![Victim::Leader]),
        ([], 2) => Ok(vec![Victim::Leader, Victim::TopLeader]),
        ([], _) => Ok(all.to_vec()),
        (some, regions) if regions < 3 && some.contains(&Victim::Region) => {
            Err(CliError::usage("a region can be lost only where two others remain: say --regions 3"))
        }
        (some, 1) if some.contains(&Victim::TopLeader) => {
            Err(CliError::usage("there is a top-level leader only with several regions: say --regions"))
        }
        (some, _) => Ok(some.to_vec()),
    }
}

fn report(args: &FailoverArgs, measured: Vec<(Option<f64>, Vec<Failover>)>) -> Report {
    let mut figures = Vec::new();
    for (far_ms, failovers) in &measured {
        let mut kinds: Vec<Victim> = failovers.iter().map(|failover| failover.victim).collect();
        kinds.dedup();
        for victim in kinds {
            let of = || failovers.iter().filter(|failover| failover.victim == victim);
            let mut each_ms: Vec<f64> = of().map(|failover| failover.ms).collect();
            each_ms.sort_by(f64::total_cmp);
            figures.push(Figure {
                transport: args.world.transport,
                victim,
                link_ms: far_ms.map(|_| args.world.link_ms),
                far_ms: *far_ms,
                kills: each_ms.len(),
                elected: Times::of(of().map(|failover| failover.elected_ms)),
                committed: Times::of(of().map(|failover| failover.ms)),
                each_ms,
            });
        }
    }
    let Times { p50_ms, p99_ms, max_ms } = figures.first().map_or_else(Times::default, |figure| figure.committed);
    Report {
        schema: "sensorctl/bench-failover/v1",
        host: Host::here(),
        nodes: args.nodes,
        regions: args.regions,
        figures,
        failovers: measured.into_iter().flat_map(|(_, failovers)| failovers).collect(),
        p50_ms,
        p99_ms,
        max_ms,
    }
}

fn rows(report: &Report) -> Rows {
    let mut rows = Rows::new(COLUMNS);
    for figure in &report.figures {
        let cell = |ms: f64| format!("{ms:.0} ms");
        let trip = |ms: Option<f64>| ms.map_or_else(|| NONE.to_owned(), |ms| format!("{} ms", 2.0 * ms));
        rows.push(vec![
            figure.transport.as_str().to_owned(),
            report.nodes.to_string(),
            report.regions.to_string(),
            trip(figure.far_ms),
            trip(figure.link_ms),
            figure.victim.as_str().to_owned(),
            figure.kills.to_string(),
            cell(figure.elected.p50_ms),
            cell(figure.elected.p99_ms),
            cell(figure.elected.max_ms),
            cell(figure.committed.p50_ms),
            cell(figure.committed.p99_ms),
            cell(figure.committed.max_ms),
        ]);
    }
    rows
}

fn judge(report: &Report, thresholds: &[Threshold]) -> Result<(), CliError> {
    let mut missed = Vec::new();
    for (figure, threshold) in report.figures.iter().flat_map(|figure| thresholds.iter().map(move |t| (figure, t))) {
        let ms = figure.figure(threshold.metric());
        if !threshold.is_kept_by(ms * 1000.0) {
            let (setting, victim) = (figure.setting(), figure.victim.as_str());
            missed.push(format!("{setting}, {victim} killed: {} is {ms:.0} ms, not {threshold}", threshold.metric()));
        }
    }
    verdict(&missed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::convergence::List;

    fn world(transport: Transport) -> WorldArgs {
        WorldArgs { transport, link_ms: 1.0, far_ms: List(vec![5.0]), disk_ms: 2.0 }
    }

    #[test]
    fn figures_are_of_one_kind_and_setting_each() {
        let one = |victim, ms: f64| Failover {
            victim,
            killed: "n1".into(),
            group: "r1".into(),
            leader: "n2".into(),
            index: 3,
            elected_ms: ms / 2.0,
            ms,
        };
        let (leader, region) = (Victim::Leader, Victim::Region);
        let failovers = vec![one(leader, 600.0), one(leader, 900.0), one(region, 4000.0)];
        let args = FailoverArgs {
            kills: 2,
            nodes: 3,
            regions: 3,
            victim: vec![],
            world: world(Transport::Sim),
            seed: 1,
            report: None,
            threshold: vec!["max<1s".parse().unwrap()],
        };
        let report = report(&args, vec![(Some(5.0), failovers)]);
        let of: Vec<_> = report.figures.iter().map(|f| (f.victim, f.kills, f.committed.max_ms as u64 / 100)).collect();
        assert_eq!(of, [(leader, 2, 9), (region, 1, 40)]);
        let said = judge(&report, &args.threshold).unwrap_err().message;
        assert!(said.contains("region killed") && !said.contains("leader killed"), "{said}");
        let page = report::page(&report);
        assert!(page.ends_with("</html>\n") && page.contains("<svg") && !page.contains("NaN"), "{page}");
    }

    #[test]
    fn a_region_is_killed_only_where_a_majority_of_regions_remains() {
        let args = |regions, victim| FailoverArgs {
            kills: 1,
            nodes: 3,
            regions,
            victim,
            world: world(Transport::Tcp),
            seed: 1,
            report: None,
            threshold: vec![],
        };
        assert_eq!(victims(&args(1, vec![])).unwrap(), [Victim::Leader]);
        assert_eq!(victims(&args(3, vec![])).unwrap().len(), 3);
        assert!(
            victims(&args(2, vec![Victim::Region])).is_err() && victims(&args(1, vec![Victim::TopLeader])).is_err()
        );
    }
}
