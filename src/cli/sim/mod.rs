//! `sensorctl sim`: the shipped nodes under virtual time, from a seed.

mod model;
mod scenarios;
mod sweep;

use std::io::Write as _;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::cli::Context;
use crate::cli::error::{CliError, Kind};
use crate::cli::output::{self, Column, Rows, number, text};
use crate::sim::cluster::{Reached, Report, run as simulate, run_watched};
use crate::sim::fault::Fault;
use crate::sim::minimize::minimize;
use crate::sim::oracles::spread::Spread;
use crate::sim::scenario::Scenario;
use crate::sim::swarm::{Cut, Plan};
use crate::sim::trace::Trace;

#[derive(Args)]
pub struct SimArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Run one seed of a scenario, twice, and compare the traces
    Run(RunArgs),
    /// Run many seeds
    Sweep(sweep::SweepArgs),
    /// Walk every order in which a small group can hear, forget, crash and campaign
    Model(model::ModelArgs),
    /// List the scenarios that come with the program
    List,
}

#[derive(Args)]
struct RunArgs {
    /// A scenario that comes with the program, or a file
    #[arg(default_value = "mixed")]
    scenario: String,
    /// The seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print everything that happens, on stderr
    #[arg(long)]
    trace: bool,
    /// Leave this fault out; may be given again
    #[arg(long, value_name = "FAULT")]
    without: Vec<String>,
    /// Length of the part with faults, in virtual seconds
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,
    /// Run it once: the comparison of two traces is left out
    #[arg(long)]
    once: bool,
    /// Look for fewer faults and a shorter run that break the same rule
    #[arg(long)]
    minimize: bool,
}

/// What a run or a sweep found, by the names that scripts rely on.
#[derive(Serialize)]
struct Found {
    schema: &'static str,
    scenario: String,
    seeds: u64,
    steps: u64,
    steps_per_s: f64,
    virtual_s: f64,
    commits: u64,
    /// Global checkpoints among them, by their newest index.
    global_commits: u64,
    elections: u64,
    answered: u64,
    violations: Vec<Broken>,
    faults: std::collections::BTreeMap<&'static str, u64>,
    spread: Option<Spreading>,
    /// The most memory that this process has had, in MiB, where the system tells.
    memory_max_mib: Option<u64>,
}

/// What was counted of spreading and watching, over all seeds that counted.
#[derive(Serialize)]
struct Spreading {
    nodes: u64,
    updates: u64,
    /// Copies of each update that came to each other node by push, of origins whose trees are learned.
    copies: Option<f64>,
    /// The same of an origin's first readings.
    learning_copies: Option<f64>,
    repaired: u64,
    /// Entries that a node came to hold half a second late or more.
    late: u64,
    /// Bytes sent per node and second, heartbeats apart.
    bytes_per_s: Option<f64>,
    /// The same by type, heartbeats included, and messages.
    by_type: std::collections::BTreeMap<&'static str, ByType>,
    /// From a process's end to another's word that it is dead.
    dead_p50_ms: Option<f64>,
    dead_p99_ms: Option<f64>,
    dead_max_ms: Option<f64>,
    false_deaths: u64,
    waiting_max: u64,
    /// The longest time without a commit in a region, and at the top.
    commit_gap_ms: Option<f64>,
    global_gap_ms: Option<f64>,
    /// From an update to the other nodes of its region, and of a global one to those of other regions.
    near_p50_ms: Option<f64>,
    near_p99_ms: Option<f64>,
    far_p50_ms: Option<f64>,
    far_p99_ms: Option<f64>,
    /// From when all was whole to when everybody was equal, at the worst.
    equal_ms: Option<f64>,
}

#[derive(Serialize)]
struct ByType {
    messages_per_s: f64,
    bytes_per_s: f64,
}

impl Spreading {
    fn of(reports: &[Report]) -> Option<Self> {
        let mut all = Spread::default();
        for spread in reports.iter().map(|report| &report.spread).filter(|spread| spread.counted_us > 0) {
            all.add(spread);
        }
        let seconds = all.counted_us as f64 / 1e6 * all.nodes as f64;
        let per_s = |n: u64| n as f64 / seconds;
        (all.counted_us > 0).then(|| Self {
            nodes: all.nodes,
            updates: all.updates,
            copies: all.copies(),
            learning_copies: all.learning_copies(),
            repaired: all.repaired,
            late: all.late,
            bytes_per_s: all.bytes_per_s(),
            by_type: all
                .sent
                .iter()
                .map(|(kind, (n, bytes))| (*kind, ByType { messages_per_s: per_s(*n), bytes_per_s: per_s(*bytes) }))
                .collect(),
            dead_p50_ms: all.dead_within_ms(0.5),
            dead_p99_ms: all.dead_within_ms(0.99),
            dead_max_ms: all.dead_within_ms(1.0),
            false_deaths: all.false_deaths,
            waiting_max: all.waiting_max,
            commit_gap_ms: all.gap_ms(false),
            global_gap_ms: all.gap_ms(true),
            near_p50_ms: all.near.within_ms(0.5),
            near_p99_ms: all.near.within_ms(0.99),
            far_p50_ms: all.far.within_ms(0.5),
            far_p99_ms: all.far.within_ms(0.99),
            equal_ms: all.equal_us.map(|us| us as f64 / 1e3),
        })
    }

    /// What was measured, and nothing of what was not.
    fn line(&self) -> String {
        let pair = |p50: Option<f64>, p99: Option<f64>, digits: usize| {
            let p99 = p99.map(|p99| format!(" {p99:.digits$} ms (p99)")).unwrap_or_default();
            p50.map(|p50| format!("{p50:.digits$} ms (p50){p99}"))
        };
        let parts = [
            self.copies.map(|copies| format!("{copies:.3} copies a node and update")),
            self.learning_copies.map(|copies| format!("{copies:.2} of those by which trees are learned")),
            (self.late > 0).then(|| format!("{} entries held late", self.late)),
            self.bytes_per_s.map(|bytes| format!("{bytes:.0} bytes a node and second")),
            pair(self.near_p50_ms, self.near_p99_ms, 1).map(|times| format!("held in its region after {times}")),
            pair(self.far_p50_ms, self.far_p99_ms, 1).map(|times| format!("in others after {times}")),
            pair(self.dead_p50_ms, self.dead_p99_ms, 0).map(|times| format!("death seen in {times}")),
            Some(format!("{} false deaths", self.false_deaths)),
            Some(format!("{} keys waiting at most", self.waiting_max)),
            self.commit_gap_ms.map(|ms| format!("{ms:.0} ms at most without a commit in a region")),
            self.global_gap_ms.map(|ms| format!("{ms:.0} ms at the top")),
            self.equal_ms.map(|ms| format!("equal after {ms:.0} ms")),
        ];
        format!("spreading: {}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

#[derive(Clone, Serialize)]
struct Broken {
    seed: u64,
    scenario: String,
    oracle: String,
    detail: String,
    replay: String,
}

pub fn run(cx: &Context, args: SimArgs) -> Result<(), CliError> {
    match args.what {
        What::Run(args) => one(cx, &args),
        What::Sweep(args) => sweep::run(cx, &args),
        What::Model(args) => model::run(cx, &args),
        What::List => list(cx),
    }
}

fn one(cx: &Context, args: &RunArgs) -> Result<(), CliError> {
    let scenario = scenarios::find(&args.scenario)?;
    let mut without = Vec::new();
    for name in &args.without {
        without.push(Fault::named(name).ok_or_else(|| {
            let all: Vec<&str> = Fault::ALL.iter().map(|fault| fault.as_str()).collect();
            CliError::usage(format!("no fault is called {name:?}; there are: {}", all.join(", ")))
        })?);
    }
    let cut = Cut { without, duration_s: args.duration };
    let plan = Plan::draw(&scenario, args.seed, &cut);
    let begun = crate::shell::clock::machine_micros();
    let trace = match args.trace {
        true => Trace::told(Box::new(|line| {
            let _ = writeln!(anstream::stderr(), "{line}");
        })),
        false => Trace::default(),
    };
    let report = {
        let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}").expect("a template");
        // Both go to the same terminal.
        let bar = if args.trace { ProgressBar::hidden() } else { ProgressBar::new_spinner() }.with_style(style);
        let report = run_watched(&plan, trace, &mut |at| {
            bar.set_message(format!("{}, {} steps", how_far(at), at.steps));
            bar.tick();
        });
        bar.finish_and_clear();
        report
    };
    let took_us = crate::shell::clock::machine_micros() - begun;
    let again = if args.once { report.clone() } else { simulate(&plan, Trace::default()) };
    if again != report {
        return Err(CliError::failed(format!(
            "seed {} leaves the trace {:016x} once and {:016x} again: the simulation is not deterministic",
            args.seed, report.trace, again.trace
        )));
    }
    let found =
        Found::of(&scenario, std::slice::from_ref(&report), took_us, |_| replay(&args.scenario, args.seed, &cut));
    found.print(cx)?;
    if args.minimize && report.violation.is_some() {
        eprintln!("\nlooking for a smaller run");
        if let Some((cut, _)) = minimize(&scenario, args.seed, |_| ()) {
            eprintln!("{}", replay(&args.scenario, args.seed, &cut));
        }
    }
    found.verdict()
}

fn how_far(at: Reached) -> String {
    format!("{} s of virtual time, {}", at.virtual_us / 1_000_000, at.part)
}

/// The one command that shows a failure again.
fn replay(scenario: &str, seed: u64, cut: &Cut) -> String {
    let mut text = format!("sensorctl sim run {scenario} --seed {seed}");
    for fault in &cut.without {
        text.push_str(&format!(" --without {}", fault.as_str()));
    }
    if let Some(duration) = cut.duration_s {
        text.push_str(&format!(" --duration {duration}"));
    }
    text
}

impl Found {
    fn of(scenario: &Scenario, reports: &[Report], took_us: u64, replay: impl Fn(u64) -> String) -> Self {
        let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
        let steps = sum(|report| report.steps);
        let broken = |report: &Report| {
            let violation = report.violation.clone()?;
            Some(Broken {
                seed: report.seed,
                scenario: scenario.name.clone(),
                oracle: violation.oracle.to_owned(),
                detail: violation.detail,
                replay: replay(report.seed),
            })
        };
        let count = |fault: Fault| reports.iter().map(|report| report.faults[fault]).sum::<u64>();
        Self {
            schema: "sensorctl/sim/v1",
            scenario: scenario.name.clone(),
            seeds: reports.len() as u64,
            steps,
            steps_per_s: steps as f64 * 1e6 / took_us.max(1) as f64,
            virtual_s: sum(|report| report.virtual_us) as f64 / 1e6,
            commits: sum(|report| report.commits),
            global_commits: sum(|report| report.global),
            elections: sum(|report| report.elections),
            answered: sum(|report| report.answered),
            violations: reports.iter().filter_map(broken).collect(),
            faults: Fault::ALL.iter().map(|f| (f.as_str(), count(*f))).filter(|(_, n)| *n > 0).collect(),
            spread: Spreading::of(reports),
            memory_max_mib: memory_max_mib(),
        }
    }

    fn print(&self, cx: &Context) -> Result<(), CliError> {
        const COLUMNS: &[Column] = &[
            text("scenario"),
            number("seeds"),
            number("steps"),
            number("steps/s"),
            number("virtual time"),
            number("elections"),
            number("commits"),
            number("answers"),
            number("violations"),
        ];
        output::print(cx.format, self, std::slice::from_ref(self), || {
            let mut rows = Rows::new(COLUMNS);
            rows.push(vec![
                self.scenario.clone(),
                self.seeds.to_string(),
                self.steps.to_string(),
                format!("{:.0}", self.steps_per_s),
                output::duration_ms((self.virtual_s * 1000.0) as u64),
                self.elections.to_string(),
                self.commits.to_string(),
                self.answered.to_string(),
                self.violations.len().to_string(),
            ]);
            rows
        })?;
        if cx.format.is_for_people() {
            let faults: Vec<String> = self.faults.iter().map(|(name, n)| format!("{name} {n}")).collect();
            eprintln!("\nfaults: {}", if faults.is_empty() { "none".to_owned() } else { faults.join(", ") });
            if self.global_commits > 0 {
                eprintln!("{} of the commits are global checkpoints", self.global_commits);
            }
            if let Some(memory) = self.memory_max_mib {
                eprintln!("memory: {memory} MiB at most");
            }
            if let Some(spread) = &self.spread {
                eprintln!("{}", spread.line());
            }
            for broken in &self.violations {
                eprintln!("\nseed {} breaks {}: {}\n  {}", broken.seed, broken.oracle, broken.detail, broken.replay);
            }
        }
        Ok(())
    }

    fn verdict(&self) -> Result<(), CliError> {
        match self.violations.is_empty() {
            true => Ok(()),
            false => Err(CliError::silent(Kind::Failed)),
        }
    }
}

/// The most memory that this process has had resident, where the system tells.
fn memory_max_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024)
}

fn list(cx: &Context) -> Result<(), CliError> {
    const COLUMNS: &[Column] =
        &[text("scenario"), number("voters"), number("observers"), number("faults"), text("about")];
    let all = scenarios::all();
    output::print(cx.format, &all, &all, || {
        let mut rows = Rows::new(COLUMNS);
        for scenario in &all {
            rows.push(vec![
                scenario.name.clone(),
                scenario.voters.to_string(),
                scenario.observers.to_string(),
                scenario.faults.len().to_string(),
                scenario.about.clone(),
            ]);
        }
        rows
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_not_spoken_of() {
        let spread = Spread { nodes: 3, counted_us: 1_000_000, ..Spread::default() };
        let report = crate::sim::cluster::run(&Plan::draw(&calm(), 1, &Cut::default()), Trace::default());
        let line = Spreading::of(&[Report { spread, ..report }]).expect("something was counted").line();
        assert!(line.starts_with("spreading: ") && line.contains("0 false deaths"), "{line}");
        assert!(!line.contains("- ms") && !line.contains("death seen") && !line.contains("copies"), "{line}");
    }

    fn calm() -> Scenario {
        Scenario { duration_s: 0.5, ..Scenario::default() }
    }
}
