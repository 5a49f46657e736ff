//! `bench fusion`: how near fused values come to the truth while sensors lie, and who is found out.
//!
//! [`synthetic`] plays the simulated source, whose truth is known, with more and more faulty sensors, to the
//! breakdown point and beyond; [`recorded`] holds out one sensor of a recording at a time and compares it with what
//! its neighbours say. Both use the very functions that nodes use.

mod recorded;
mod report;
mod synthetic;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::output::{self, Column, Rows, number, text};
use crate::core::fusion::estimate::{Estimate, Subject, estimate};
use crate::core::fusion::partial::{EXACT_MAX, Member, Partial, Sensor, Share, Terms};
use crate::core::id::{Channel, NodeId, RegionId};
use crate::core::time::Wall;

#[derive(Args)]
pub struct FusionArgs {
    /// A recording: CSV with a header timestamp,node,sensor,value, plain or gzip; besides made-up sensors
    #[arg(value_name = "DATA", requires = "truth")]
    data: Option<PathBuf>,
    /// Where its sensors are: CSV with a header node,x_m,y_m. Each sensor is held out in turn and its nearest neighbours
    /// are fused while some of them lie; the truth is the median of what they said before, and what the held-out
    /// sensor says itself
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// The recorded sensor
    #[arg(long, default_value = "temperature")]
    sensor: String,
    /// Standard uncertainty of recorded sensors, in their unit
    #[arg(long, default_value_t = 0.3)]
    sigma: f64,
    /// How far neighbours' places truly differ, as a standard deviation; measured on the recording without it
    #[arg(long)]
    spread: Option<f64>,
    /// Neighbours that are fused
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(4..=40))]
    neighbours: u32,
    /// Hold out sensors only in every so many windows of the recording
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    every: u32,
    /// Made-up sensors
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(4..=512))]
    sensors: u32,
    /// Windows of made-up readings for every number of faults
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    windows: u32,
    /// Seed of everything that is drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write curves and tables as one HTML file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    sensors: u32,
    windows: u32,
    seed: u64,
    tolerates: u64,
    synthetic: Vec<Point>,
    detection: Vec<Detection>,
    recorded: Option<recorded::Recorded>,
}

/// What came of so many faulty sensors of one kind.
#[derive(Clone, Debug, Serialize)]
struct Point {
    /// What the faulty ones do.
    fault: String,
    faulty: u64,
    /// Windows.
    windows: u64,
    /// Root mean square errors, in the sensors' unit.
    rms_mean: f64,
    rms_median: f64,
    rms_fused: f64,
    /// Share of windows in which the estimate is within two of its standard uncertainties of the truth.
    within_2_sigma: f64,
    /// The same of the plain mean, with the same uncertainty.
    mean_within_2_sigma: f64,
    /// Share of windows in which the interval holds the truth, by rule.
    coverage: f64,
    coverage_marzullo: f64,
    /// Median of the standard uncertainty over that of the healthy sensors alone.
    sigma_ratio: f64,
    /// Widest interval that was not called inconsistent, over the widest of a healthy sensor.
    width_ratio: f64,
    /// Share of windows that were called inconsistent.
    inconsistent: f64,
}

/// How faults of one kind were found.
#[derive(Clone, Debug, Serialize)]
struct Detection {
    /// What is wrong, and what data it is put into.
    fault: String,
    /// Sensors that have it.
    injected: u64,
    /// Those that were called faulty, whatever it was called.
    found: u64,
    /// Those that were called by the right name.
    named: u64,
    /// Healthy sensors watched at the same time, and those called faulty.
    healthy: u64,
    false_alarms: u64,
    /// Median time from the beginning of the fault until it stood.
    median_to_detect_s: Option<f64>,
}

pub fn run(cx: &Context, args: FusionArgs) -> Result<(), CliError> {
    let synthetic = synthetic::curves(args.sensors as usize, u64::from(args.windows), args.seed)?;
    let mut detection = synthetic::detection(args.seed, u64::from(args.windows / 100).clamp(1, 20))?;
    let recorded = match (&args.data, &args.truth) {
        (Some(data), Some(truth)) => {
            let plan = recorded::Plan {
                data: data.clone(),
                places: truth.clone(),
                sensor: args.sensor.clone(),
                sigma: args.sigma,
                spread: args.spread,
                neighbours: args.neighbours as usize,
                every: args.every as usize,
                seed: args.seed,
            };
            let (recorded, found) = recorded::run(&plan)?;
            detection.extend(found);
            Some(recorded)
        }
        _ => None,
    };
    let report = Report {
        schema: "sensorctl/bench-fusion/v1",
        sensors: args.sensors,
        windows: args.windows,
        seed: args.seed,
        tolerates: crate::core::fusion::interval::faults_tolerated(u64::from(args.sensors)),
        synthetic,
        detection,
        recorded,
    };
    if let Some(path) = &args.report {
        std::fs::write(path, report::html(&report))
            .map_err(|error| CliError::because(format!("cannot write {}", path.display()), &error))?;
        eprintln!("curves are in {}", path.display());
    }
    print(cx, &report)
}

const POINTS: &[Column] = &[
    text("sensors"),
    text("fault"),
    number("faulty"),
    number("windows"),
    number("rms mean"),
    number("rms median"),
    number("rms fused"),
    number("within 2 sigma"),
    number("mean within").wide(),
    number("coverage"),
    number("marzullo").wide(),
    number("sigma ratio"),
    number("width ratio"),
    number("inconsistent"),
];
const DETECTIONS: &[Column] = &[
    text("fault put in"),
    number("sensors"),
    number("found"),
    number("by name"),
    number("healthy"),
    number("false alarms"),
    number("median time"),
];

/// A point as a row: of sensors that were made up, or recorded.
#[derive(Serialize)]
struct Item<'a> {
    from: &'static str,
    #[serde(flatten)]
    point: &'a Point,
}

fn print(cx: &Context, report: &Report) -> Result<(), CliError> {
    let recorded = report.recorded.iter().flat_map(|recorded| &recorded.points);
    let all = || report.synthetic.iter().map(|p| ("made up", p)).chain(recorded.clone().map(|p| ("recorded", p)));
    let items: Vec<Item<'_>> = all().map(|(from, point)| Item { from, point }).collect();
    output::print(cx.format, report, &items, || {
        let mut rows = Rows::new(POINTS);
        all().for_each(|(from, point)| rows.push(point.cells(from)));
        rows
    })?;
    if cx.format.is_for_people() {
        let mut rows = Rows::new(DETECTIONS);
        report.detection.iter().for_each(|detection| rows.push(detection.cells()));
        println!("\n{}", rows.to_table(false));
        if let Some(recorded) = &report.recorded {
            println!("\n{}", recorded.words());
        }
    }
    Ok(())
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

impl Point {
    fn cells(&self, from: &str) -> Vec<String> {
        let number = |value: f64| format!("{value:.3}");
        vec![
            from.to_owned(),
            self.fault.clone(),
            self.faulty.to_string(),
            self.windows.to_string(),
            number(self.rms_mean),
            number(self.rms_median),
            number(self.rms_fused),
            percent(self.within_2_sigma),
            percent(self.mean_within_2_sigma),
            percent(self.coverage),
            percent(self.coverage_marzullo),
            format!("{:.2}", self.sigma_ratio),
            format!("{:.2}", self.width_ratio),
            percent(self.inconsistent),
        ]
    }
}

impl Detection {
    fn cells(&self) -> Vec<String> {
        let time = self.median_to_detect_s.map(|s| output::duration_ms((s * 1000.0) as u64));
        vec![
            self.fault.clone(),
            self.injected.to_string(),
            self.found.to_string(),
            self.named.to_string(),
            self.healthy.to_string(),
            self.false_alarms.to_string(),
            output::or_dash(time),
        ]
    }
}

/// Adds up windows of one kind.
#[derive(Default)]
struct Tally {
    windows: u64,
    mean2: f64,
    median2: f64,
    fused2: f64,
    within: u64,
    mean_within: u64,
    covered: u64,
    covered_marzullo: u64,
    inconsistent: u64,
    ratios: Vec<f64>,
    width_ratio: f64,
}

/// One window: what all sensors say, and what the healthy ones among them say.
#[derive(Clone, Copy)]
struct Window<'a> {
    truth: f64,
    /// How far what is taken for the truth may itself be from it, as a standard deviation.
    truth_sigma: f64,
    all: &'a [Member],
    healthy: &'a [Member],
    at: Wall,
}

impl Tally {
    fn add(&mut self, window: &Window<'_>, terms: &Terms) {
        let fused = fuse(window.all, terms, window.at);
        let (Some(value), Some(sigma), Some(interval)) = (fused.value, fused.sigma, fused.interval) else { return };
        let marzullo = Terms { method: crate::core::fusion::interval::Method::Marzullo, ..*terms };
        let smallest = fuse(window.all, &marzullo, window.at).interval;
        let mut values: Vec<(f64, u64)> = window.all.iter().filter_map(|m| Some((m.value?, 1))).collect();
        let mean = values.iter().map(|(value, _)| value).sum::<f64>() / values.len() as f64;
        let median = crate::core::fusion::robust::median(&mut values).expect("there are values");
        let truth = window.truth;
        let reach = 2.0 * (sigma * sigma + window.truth_sigma * window.truth_sigma).sqrt();
        self.windows += 1;
        self.mean2 += (mean - truth) * (mean - truth);
        self.median2 += (median - truth) * (median - truth);
        self.fused2 += (value - truth) * (value - truth);
        self.within += u64::from((value - truth).abs() <= reach);
        self.mean_within += u64::from((mean - truth).abs() <= reach);
        self.covered += u64::from(interval.holds(truth));
        self.covered_marzullo += u64::from(smallest.is_some_and(|interval| interval.holds(truth)));
        self.inconsistent += u64::from(fused.status != crate::core::fusion::estimate::Status::Ok);
        if let Some(alone) = fuse(window.healthy, terms, window.at).sigma {
            self.ratios.push(sigma / alone);
        }
        if fused.status != crate::core::fusion::estimate::Status::Ok {
            return;
        }
        let widest =
            window.healthy.iter().map(|m| 2.0 * terms.coverage * width(m, terms, window.at)).fold(0.0, f64::max);
        self.width_ratio = self.width_ratio.max(interval.width() / widest);
    }

    fn point(mut self, fault: &str, faulty: u64) -> Point {
        let n = self.windows.max(1) as f64;
        self.ratios.sort_unstable_by(f64::total_cmp);
        Point {
            fault: fault.to_owned(),
            faulty,
            windows: self.windows,
            rms_mean: (self.mean2 / n).sqrt(),
            rms_median: (self.median2 / n).sqrt(),
            rms_fused: (self.fused2 / n).sqrt(),
            within_2_sigma: self.within as f64 / n,
            mean_within_2_sigma: self.mean_within as f64 / n,
            coverage: self.covered as f64 / n,
            coverage_marzullo: self.covered_marzullo as f64 / n,
            sigma_ratio: self.ratios.get(self.ratios.len() / 2).copied().unwrap_or(f64::NAN),
            width_ratio: self.width_ratio,
            inconsistent: self.inconsistent as f64 / n,
        }
    }
}

/// A sensor's standard uncertainty at that time, as fusing takes it.
fn width(member: &Member, terms: &Terms, at: Wall) -> f64 {
    let age_s = at.millis_after(member.time).max(0) as f64 / 1000.0;
    let sigma = member.sigma.unwrap_or(0.0);
    (sigma * sigma * (1.0 + terms.walk * terms.walk * age_s) + member.spread * member.spread).sqrt()
}

fn fuse(members: &[Member], terms: &Terms, at: Wall) -> Estimate {
    let region = RegionId::new("main").expect("a good name");
    let subject = Subject { quantity: "bench".into(), group: "bench".into(), region: None, unit: None };
    let share = Share::new(members.to_vec(), EXACT_MAX, terms, at);
    estimate(subject, &Partial::of(region, share), terms, at)
}

fn member(name: &str, value: f64, sigma: f64, spread: f64, time: Wall) -> Member {
    let node = NodeId::new(name).expect("names here keep to the alphabet");
    let sensor = Sensor { node, channel: Channel::new("bench").expect("a good name") };
    Member { sensor, value: Some(value), sigma: Some(sigma), spread, time, fault: None }
}
