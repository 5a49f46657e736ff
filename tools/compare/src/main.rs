//! Ours beside other systems, in turns, in one run, on one machine: how long from writing a value at one place until
//! the last of three others has it.
//!
//! Every system gets the same treatment: one writer, an even schedule, values of one size, and readers that note the
//! machine's monotonic clock when a value arrives. What is not installed is left out, and said.

mod gossip;
mod pubsub;
mod systems;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use systems::System;

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Effort {
    /// Rounds in which all systems take turns.
    pub rounds: usize,
    /// Values that each writes in a round.
    pub writes: u64,
    /// Time between two of them.
    pub interval: Duration,
    /// Bytes of padding in each value.
    pub payload: usize,
}

/// What a system came to.
struct Result {
    name: &'static str,
    what: &'static str,
    /// p50 and p99 of each round, in µs.
    rounds: Vec<(f64, f64)>,
    /// Values that did not arrive, of all.
    lost: usize,
    skipped: Option<String>,
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(sensorctl) = args.next() else {
        eprintln!("usage: compare PATH-TO-SENSORCTL [ROUNDS] [WRITES]; tools/compare/run does it all");
        return ExitCode::from(2);
    };
    let number = |text: Option<String>, default| text.and_then(|text| text.parse().ok()).unwrap_or(default);
    let effort = Effort {
        rounds: number(args.next(), 5),
        writes: number(args.next(), 300) as u64,
        interval: Duration::from_millis(10),
        payload: 100,
    };
    let mut running: Vec<(Result, Option<Box<dyn System>>)> = Vec::new();
    for (name, what, start) in systems::all(&sensorctl) {
        eprintln!("starting {name}");
        let (system, skipped) = match start(effort) {
            Ok(system) => (Some(system), None),
            Err(why) => (None, Some(why)),
        };
        if let Some(why) = &skipped {
            eprintln!("SKIPPED {name}: {why}");
        }
        running.push((Result { name, what, rounds: Vec::new(), lost: 0, skipped }, system));
    }
    for round in 0..=effort.rounds {
        for (result, system) in &mut running {
            let Some(system) = system else { continue };
            eprintln!("round {round} of {}: {}", effort.rounds, result.name);
            match system.round(effort) {
                // The first warms up.
                Ok(mut times) if round > 0 => {
                    result.lost += times.iter().filter(|us| u128::from(**us) >= pubsub::PATIENCE.as_micros()).count();
                    result.rounds.push((at(&mut times, 0.5), at(&mut times, 0.99)));
                }
                Ok(_) => {}
                Err(why) => result.skipped = Some(why),
            }
        }
    }
    let results: Vec<Result> = running.into_iter().map(|(result, _)| result).collect();
    println!("{}", table(&results, effort));
    if let Ok(path) = std::env::var("COMPARE_SVG") {
        if let Err(error) = std::fs::write(&path, chart(&results)) {
            eprintln!("{path}: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// The value below which that share of the times lies.
fn at(times: &mut [u64], share: f64) -> f64 {
    times.sort_unstable();
    let place = ((times.len() as f64 * share).ceil() as usize).clamp(1, times.len().max(1)) - 1;
    times.get(place).copied().unwrap_or(0) as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Result {
    /// Medians over the rounds, or why there are none.
    fn figures(&self) -> std::result::Result<(f64, f64), String> {
        if let Some(why) = &self.skipped {
            return Err(why.clone());
        }
        Ok((median(self.rounds.iter().map(|r| r.0).collect()), median(self.rounds.iter().map(|r| r.1).collect())))
    }
}

fn time(us: f64) -> String {
    if us < 1000.0 { format!("{us:.0} µs") } else { format!("{:.3} ms", us / 1000.0) }
}

fn table(results: &[Result], effort: Effort) -> String {
    let mut text = String::from("| system | from, until | p50 | p99 |\n|---|---|---|---|\n");
    for result in results {
        let (p50, p99) = match result.figures() {
            Ok((p50, p99)) => (time(p50), time(p99)),
            Err(why) => (format!("skipped: {why}"), String::new()),
        };
        let lost = match result.lost {
            0 => String::new(),
            lost => format!(
                "; {lost} of {} did not arrive within 5 s, and count as that",
                effort.writes * effort.rounds as u64
            ),
        };
        let _ = writeln!(text, "| {} | {}{lost} | {p50} | {p99} |", result.name, result.what);
    }
    let per_second = 1.0 / effort.interval.as_secs_f64();
    let _ = write!(
        text,
        "\nMedians of {} rounds in which all took turns, {} values each at {per_second:.0}/s.",
        effort.rounds, effort.writes
    );
    text
}

/// Bars on a logarithmic scale, p50 with a mark at p99.
fn chart(results: &[Result]) -> String {
    let shown: Vec<(&Result, (f64, f64))> = results.iter().filter_map(|r| Some((r, r.figures().ok()?))).collect();
    let (left, width, row) = (250.0, 430.0, 30.0);
    let height = row * shown.len() as f64 + 46.0;
    let (lo, hi) = (50.0f64, shown.iter().map(|(_, f)| f.1).fold(1000.0, f64::max) * 1.3);
    let x = |us: f64| left + width * ((us.max(lo) / lo).ln() / (hi / lo).ln());
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 {height}\" font-family=\"system-ui, sans-serif\" \
         font-size=\"13\"><style>text{{fill:#57606a}}.g{{stroke:#8884}}.o{{fill:#c2410c}}.t{{fill:#6b8fd6}}.m{{stroke:#57606a;stroke-width:2}}\
         @media(prefers-color-scheme:dark){{text{{fill:#9aa2ab}}.o{{fill:#fb923c}}.m{{stroke:#9aa2ab}}}}</style>"
    );
    for decade in [100.0, 1000.0, 10_000.0, 100_000.0, 1_000_000.0].into_iter().filter(|us| *us < hi) {
        let _ = write!(
            svg,
            "<line class=\"g\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"6\" y2=\"{1:.1}\"/>",
            x(decade),
            height - 30.0
        );
        let label = if decade < 1000.0 { "0.1 ms".to_owned() } else { format!("{} ms", decade / 1000.0) };
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            x(decade),
            height - 12.0
        );
    }
    for (i, (result, (p50, p99))) in shown.iter().enumerate() {
        let y = 8.0 + row * i as f64;
        let class = if result.name.starts_with("sensorctl") { "o" } else { "t" };
        let _ =
            write!(svg, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>", left - 10.0, y + 17.0, result.name);
        let _ = write!(
            svg,
            "<rect class=\"{class}\" x=\"{left}\" y=\"{}\" width=\"{:.1}\" height=\"18\" rx=\"2\"/>",
            y + 3.0,
            x(*p50) - left
        );
        let _ = write!(
            svg,
            "<line class=\"m\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{1}\" y2=\"{2}\"/>",
            x(*p99),
            y + 2.0,
            y + 22.0
        );
        let _ = write!(svg, "<text x=\"{:.1}\" y=\"{}\">{}</text>", x(*p99) + 6.0, y + 17.0, time(*p50));
    }
    svg + "</svg>\n"
}
