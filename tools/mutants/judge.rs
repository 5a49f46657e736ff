//! Looks for something wrong: runs seeds of every scenario, then walks the model, until one judge objects or the time
//! is over. `tools/mutants/run` gives every mutant to it.
//!
//!     judge SECONDS SEEDS SCENARIO.toml...
//!
//! SECONDS are of processor time: a busy machine changes nothing. Prints `sim` and `model` lines, each `killed WHAT` or
//! `survives`, and ends with 0 if at least one has killed.

#![allow(clippy::disallowed_methods, reason = "scenarios take turns by real time")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sensorctl::sim::cluster::run;
use sensorctl::sim::model::{Bounds, walk};
use sensorctl::sim::scenario::Scenario;
use sensorctl::sim::swarm::{Cut, Plan};
use sensorctl::sim::trace::Trace;

/// Worlds of the model, the small ones first. Each is walked as far as these states.
const WORLDS: [Bounds; 6] = [
    world(3, 2, 1, 1, 1, 0, 0),
    world(3, 2, 2, 0, 0, 1, 1),
    top(3, 1),
    world(3, 3, 2, 0, 0, 0, 0),
    world(5, 2, 1, 0, 0, 0, 0),
    top(2, 2),
];

/// Three regions of three, of which so many come to have another leader.
const fn top(region_leaders: u8, terms: u64) -> Bounds {
    Bounds { regions: 3, region_leaders, ..world(3, terms, 1, 0, 0, 0, 0) }
}

const fn world(voters: usize, terms: u64, checkpoints: u64, crashes: u8, late: u8, added: u8, removed: u8) -> Bounds {
    Bounds {
        regions: 1,
        voters,
        terms,
        checkpoints,
        crashes,
        late_writes: late,
        additions: added,
        removals: removed,
        region_leaders: 0,
        depth: 10_000,
        states: 400_000,
    }
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let seconds = args.next().and_then(|text| text.parse().ok()).expect("seconds");
    let seeds: u64 = args.next().and_then(|text| text.parse().ok()).expect("seeds");
    let scenarios: Vec<Scenario> = args.map(|path| load(&path)).collect();
    std::panic::set_hook(Box::new(|_| ()));
    let search = Search::new(&scenarios, seeds, Duration::from_secs(seconds));
    let model = std::thread::scope(|scope| {
        // Whoever is done with the model goes on with seeds.
        let model = scope.spawn(|| {
            let verdict = search.model();
            search.sim();
            verdict
        });
        search.sim();
        model.join().unwrap_or_else(|_| Err("?".into()))
    });
    let sim = search.verdict();
    let line = |judge: &str, verdict: &Result<String, String>| match verdict {
        Ok(tried) => println!("{judge} survives {tried}"),
        Err(killer) => println!("{judge} killed {killer}"),
    };
    line("sim", &sim);
    line("model", &model);
    if sim.is_err() || model.is_err() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn load(path: &str) -> Scenario {
    let text = std::fs::read_to_string(path).expect("a scenario");
    let mut scenario: Scenario = toml::from_str(&text).expect("a scenario");
    scenario.name = std::path::Path::new(path).file_stem().expect("a name").to_string_lossy().into_owned();
    scenario
}

/// What is looked at by all threads together.
struct Search<'a> {
    scenarios: &'a [Scenario],
    seeds: u64,
    end: Duration,
    turns: Mutex<Turns>,
}

struct Turns {
    /// Of each scenario: time spent on it, and seeds tried or being tried.
    spent: Vec<(Duration, u64)>,
    killer: Option<(String, Duration)>,
}

/// What this process has used of all processors.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("the system tells what a process has used");
    let mut after_name = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
    let mut ticks = || after_name.next().and_then(|text| text.parse::<u64>().ok()).expect("a count of ticks");
    Duration::from_millis((ticks() + ticks()) * 10)
}

/// How much longer the model is walked once the simulator has killed.
const MODEL_AFTER: Duration = Duration::from_secs(8);

impl<'a> Search<'a> {
    fn new(scenarios: &'a [Scenario], seeds: u64, end: Duration) -> Self {
        let turns = Mutex::new(Turns { spent: vec![(Duration::ZERO, 0); scenarios.len()], killer: None });
        Self { scenarios, seeds, end, turns }
    }

    /// The next seed of the scenario that has had the least time; nothing once one has killed or the time is over.
    fn next(&self) -> Option<(usize, u64, u64)> {
        let mut turns = self.turns.lock().expect("no holder panics");
        if turns.killer.is_some() || processor_time() >= self.end {
            return None;
        }
        let open = turns.spent.iter().enumerate().filter(|(_, (_, tried))| *tried < self.seeds);
        let (at, _) = open.min_by_key(|(_, spent)| **spent)?;
        turns.spent[at].1 += 1;
        Some((at, turns.spent[at].1, turns.spent.iter().map(|(_, tried)| tried).sum()))
    }

    /// Seeds of all scenarios, the same time for each, until one kills.
    fn sim(&self) {
        while let Some((at, seed, tried)) = self.next() {
            let (scenario, begun) = (&self.scenarios[at], Instant::now());
            let report = run(&Plan::draw(scenario, seed, &Cut::default()), Trace::default());
            let verdict = report.violation.map(|broken| match broken.oracle {
                "assertion" => assertion(&broken.detail),
                oracle => oracle.to_owned(),
            });
            let mut turns = self.turns.lock().expect("no holder panics");
            turns.spent[at].0 += begun.elapsed();
            if let Some(oracle) = verdict {
                let found = format!("{oracle} | `{}` seed {seed} | {tried}", scenario.name);
                turns.killer.get_or_insert((found, processor_time()));
            }
        }
    }

    fn verdict(self) -> Result<String, String> {
        let turns = self.turns.into_inner().expect("no holder panics");
        match turns.killer {
            Some((found, _)) => Err(found),
            None => Ok(format!("{} seeds", turns.spent.iter().map(|(_, tried)| tried).sum::<u64>())),
        }
    }

    fn model(&self) -> Result<String, String> {
        let mut states = 0;
        for bounds in &WORLDS {
            let mut walked = 0;
            let verdict = caught(|| {
                let report = walk(bounds, &mut |_| ());
                walked = report.states;
                report.violation.map(|(broken, path)| format!("{broken} | {} steps", path.len()))
            });
            states += walked;
            if let Some(found) = verdict {
                return Err(format!("{found} | {states}"));
            }
            let killed = self.turns.lock().expect("no holder panics").killer.as_ref().map(|(_, at)| *at);
            if processor_time() >= killed.map_or(self.end, |at| self.end.min(at + MODEL_AFTER)) {
                break;
            }
        }
        Ok(format!("{states} states"))
    }
}

/// A mutant that stops itself in the model is found, too.
fn caught(judge: impl FnOnce() -> Option<String>) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(judge)) {
        Ok(verdict) => verdict,
        Err(panic) => {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Some(assertion(&said.unwrap_or_default()))
        }
    }
}

fn assertion(said: &str) -> String {
    format!("an assertion: {}", said.lines().next().unwrap_or_default().replace('|', "/"))
}
