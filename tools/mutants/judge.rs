//! Looks for something wrong: runs seeds of every scenario, then walks the model, until one judge objects or the time
//! is over. `tools/mutants/run` gives every mutant to it.
//!
//!     judge SECONDS SEEDS SCENARIO.toml...
//!
//! Prints `sim` and `model` lines, each `killed WHAT` or `survives`, and ends with 0 if at least one has killed.

#![allow(clippy::disallowed_methods, reason = "patience is real time")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
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
    let end = Instant::now() + Duration::from_secs(seconds);
    let (sim, model) = std::thread::scope(|scope| {
        let model = scope.spawn(|| model(end));
        let sim = sim(&scenarios, seeds, end);
        (sim, model.join().unwrap_or_else(|_| Err("?".into())))
    });
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

/// Seeds in turns over all scenarios.
fn sim(scenarios: &[Scenario], seeds: u64, end: Instant) -> Result<String, String> {
    let tried = AtomicU64::new(0);
    let killer = Mutex::new(None);
    let total = seeds * scenarios.len() as u64;
    loop {
        let turn = tried.fetch_add(1, Ordering::Relaxed);
        if turn >= total || Instant::now() >= end || killer.lock().expect("no holder panics").is_some() {
            break;
        }
        let scenario = &scenarios[(turn % scenarios.len() as u64) as usize];
        let seed = 1 + turn / scenarios.len() as u64;
        let verdict = caught(|| {
            run(&Plan::draw(scenario, seed, &Cut::default()), Trace::default())
                .violation
                .map(|broken| broken.oracle.to_owned())
        });
        if let Some(oracle) = verdict {
            let name = &scenario.name;
            let found = format!("{oracle} | `{name}` seed {seed} | {}", turn + 1);
            killer.lock().expect("no holder panics").get_or_insert(found);
        }
    }
    match killer.into_inner().expect("no holder panics") {
        Some(found) => Err(found),
        None => Ok(format!("{} seeds", tried.into_inner().saturating_sub(1).min(total))),
    }
}

fn model(end: Instant) -> Result<String, String> {
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
        if Instant::now() >= end {
            break;
        }
    }
    Ok(format!("{states} states"))
}

/// A mutant that stops itself is found, too.
fn caught(judge: impl FnOnce() -> Option<String>) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(judge)) {
        Ok(verdict) => verdict,
        Err(panic) => {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let said = said.unwrap_or_default();
            Some(format!("an assertion: {}", said.lines().next().unwrap_or_default().replace('|', "/")))
        }
    }
}
