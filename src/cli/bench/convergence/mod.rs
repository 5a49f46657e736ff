//! `bench convergence`: how long a write on one node takes until all nodes hold it.

mod compare;
pub(super) mod held;
mod real;
mod report;
mod result;
mod setting;
mod virtual_time;

use std::path::PathBuf;

use clap::Args;
use indicatif::ProgressBar;

use crate::cli::Context;
use crate::cli::bench::bar;
use crate::cli::bench::host::Host;
use crate::cli::error::CliError;
use crate::cli::output::{self, Column, NONE, Rows, duration_us, number, text};
use crate::cli::threshold::{Threshold, verdict};

use real::Effort;
use result::{Report, Run};
use setting::{Lists, Setting, Transport};

pub use setting::List;

#[derive(Args)]
#[command(
    after_help = "Lists of values between commas are swept in every combination. Latency counts from when a write \
    was due, not from when it was sent; a run that could not keep its schedule says so. What is measured and what is \
    not: src/docs/measuring.md."
)]
pub struct ConvergenceArgs {
    /// Nodes in the cluster
    #[arg(long, default_value = "3", value_name = "N,...")]
    nodes: List<usize>,
    /// How frames travel
    #[arg(long, value_enum, value_delimiter = ',', default_value = "tcp")]
    transport: Vec<Transport>,
    /// Real processes for the nodes to run in, one each when no number is said; without this all run in this one
    #[arg(long, value_name = "P", num_args = 0..=1, default_missing_value = "0")]
    processes: Option<usize>,
    /// Regions that the nodes are spread over
    #[arg(long, default_value = "1", value_name = "R,...")]
    regions: List<usize>,
    /// Neighbours that each node keeps in its region
    #[arg(long, default_value = "6", value_name = "D,...")]
    degree: List<usize>,
    /// Writes a second in the whole cluster
    #[arg(long, default_value = "100", value_name = "RATE,...")]
    rate: List<f64>,
    /// Bytes of a written value, 0 to 250; 0 is a reading without a note. A model has none
    #[arg(long, default_value = "0", value_name = "BYTES,...")]
    payload: List<usize>,
    /// Share of messages that TCP has to send again, under virtual time
    #[arg(long, default_value = "0", value_name = "SHARE,...")]
    loss: List<f64>,
    /// Mean time of a message between nodes of a region under virtual time, in ms; links differ by half of it either way
    #[arg(long, default_value_t = 1.0, value_name = "MS")]
    link_ms: f64,
    /// The same between regions
    #[arg(long, default_value_t = 30.0, value_name = "MS")]
    far_ms: f64,
    /// Under virtual time, messages take up to this share longer than their link's least
    #[arg(long, default_value_t = 0.1, value_name = "SHARE")]
    jitter: f64,
    /// Writes of each repetition
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u64).range(10..=10_000_000))]
    writes: u64,
    /// Repetitions of each setting; figures are their medians
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    repetitions: u64,
    /// Seed of the choice of writers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Do not let plain TCP take turns
    #[arg(long)]
    no_raw: bool,
    /// Also write a page with charts
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// End with exit code 5 unless every run keeps to this, for example 'p99<50ms'; may be said again
    #[arg(long, value_name = "FIGURE<VALUE")]
    threshold: Vec<Threshold>,
    /// Compare with an earlier result, written by -o json
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
}

const COLUMNS: &[Column] = &[
    text("transport"),
    number("nodes"),
    number("regions").wide(),
    number("processes").wide(),
    number("degree").wide(),
    number("rate"),
    number("payload").wide(),
    number("p50 to all"),
    number("p90").wide(),
    number("p99"),
    number("max"),
    number("p50 to 50%"),
    number("p99 to 99%").wide(),
    number("own region p50").wide(),
    number("own region p99").wide(),
    number("other regions p50").wide(),
    number("other regions p99").wide(),
    number("plain TCP p50"),
    number("ratio"),
    number("messages"),
    number("bytes"),
    number("CPU"),
    number("memory"),
    number("late"),
    text("note"),
];

pub async fn run(cx: &Context, args: ConvergenceArgs) -> Result<(), CliError> {
    let settings = settings(&args)?;
    args.threshold.iter().try_for_each(|threshold| threshold.check(Run::FIGURES))?;
    let baseline = args.baseline.as_deref().map(compare::read).transpose()?;
    let effort =
        Effort { writes: args.writes, repetitions: args.repetitions as usize, seed: args.seed, raw: !args.no_raw };
    let host = Host::here();
    if host.build == "debug" {
        eprintln!("this is a debug build: its times mean nothing");
    }
    let progress = bar(settings.iter().map(|setting| real::updates(setting, effort)).sum(), "starting");
    let mut runs = Vec::new();
    for setting in settings {
        runs.push(measure(setting, effort, &progress).await);
    }
    progress.finish_and_clear();
    let report = Report { schema: "sensorctl/bench-convergence/v1".to_owned(), seed: args.seed, host, runs };
    if let Some(path) = &args.report {
        let page = report::page(&report, baseline.as_ref());
        std::fs::write(path, page).map_err(|error| CliError::because(path.display().to_string(), &error))?;
    }
    output::print(cx.format, &report, &report.runs, || rows(&report.runs))?;
    if cx.format.is_for_people() {
        words(&report, &args);
        if let Some(baseline) = &baseline {
            eprintln!("\n{}", compare::rows(&report, baseline).to_table(false));
        }
    }
    judge(&report, &args)
}

/// The whole sweep, or what is wrong with it.
fn settings(args: &ConvergenceArgs) -> Result<Vec<Setting>, CliError> {
    let lists = Lists {
        nodes: args.nodes.clone(),
        regions: args.regions.clone(),
        degree: args.degree.clone(),
        rate: args.rate.clone(),
        payload: args.payload.clone(),
        processes: args.processes,
        loss: args.loss.clone(),
        links: (args.link_ms, args.far_ms, args.jitter),
    };
    let settings = setting::grid(&args.transport, &lists);
    settings.iter().try_for_each(|setting| setting.check()).map_err(CliError::usage)?;
    Ok(settings)
}

async fn measure(setting: Setting, effort: Effort, progress: &ProgressBar) -> Run {
    let begun = progress.position();
    let measured = match setting.transport {
        Transport::Tcp | Transport::Memory => real::measure(setting, effort, progress).await,
        Transport::Sim | Transport::Model => {
            let bar = progress.clone();
            let computing = tokio::task::spawn_blocking(move || match setting.transport {
                Transport::Model => virtual_time::model(setting, effort, &bar),
                _ => virtual_time::crowd(setting, effort, &bar),
            });
            computing.await.unwrap_or_else(|error| Err(CliError::because("the simulation broke", &error)))
        }
    };
    // One setting that fails is not the end of a sweep.
    progress.set_position(begun + real::updates(&setting, effort));
    measured.unwrap_or_else(|error| Run::failed(setting, error.message))
}

fn rows(runs: &[Run]) -> Rows {
    let mut rows = Rows::new(COLUMNS);
    for run in runs {
        let s = &run.setting;
        let shown = run.complaint().is_none();
        let time = |us: u64| if shown { duration_us(us) } else { NONE.to_owned() };
        let figure = |text: Option<String>| text.filter(|_| shown).unwrap_or_else(|| NONE.to_owned());
        rows.push(vec![
            s.transport.as_str().to_owned(),
            s.nodes.to_string(),
            s.regions.to_string(),
            s.processes.to_string(),
            s.degree.to_string(),
            if s.transport == Transport::Model { NONE.to_owned() } else { format!("{}/s", s.rate) },
            s.payload.to_string(),
            time(run.to_all.p50_us),
            time(run.to_all.p90_us),
            time(run.to_all.p99_us),
            time(run.to_all.max_us),
            time(run.to_50.p50_us),
            time(run.to_99.p99_us),
            figure(run.own_region.map(|own| duration_us(own.p50_us))),
            figure(run.own_region.map(|own| duration_us(own.p99_us))),
            figure(run.other_regions.map(|others| duration_us(others.p50_us))),
            figure(run.other_regions.map(|others| duration_us(others.p99_us))),
            figure(run.raw_tcp.map(|raw| duration_us(raw.p50_us))),
            figure(run.ratio_p50.map(|ratio| format!("{ratio:.2}"))),
            figure(Some(format!("{:.3}", run.data_messages_per_node_update))),
            figure((run.bytes_per_node_update > 0.0).then(|| format!("{:.0}", run.bytes_per_node_update))),
            figure(run.cpu_us_per_node_update.map(|us| format!("{us:.0} µs"))),
            figure(run.rss_per_node_kib.map(memory)),
            run.missed_sends.to_string(),
            run.complaint().unwrap_or_default(),
        ]);
    }
    rows
}

fn memory(kib: u64) -> String {
    if kib < 10_240 { format!("{kib} KiB") } else { format!("{:.1} MiB", kib as f64 / 1024.0) }
}

/// What the table cannot say.
fn words(report: &Report, args: &ConvergenceArgs) {
    eprintln!("\n{}", report.host.line());
    eprintln!(
        "medians of {} repetitions of {} writes, from when each write was due; messages and bytes are what a node \
         receives for each update, CPU and memory what it uses; the ratio is that of the median from accepted to held \
         by all over that of plain TCP to as many receivers",
        args.repetitions, args.writes
    );
    if report.runs.iter().any(|run| run.setting.transport.is_virtual()) {
        eprintln!(
            "sim and model: virtual time, links of {} ms on average ({} ms between regions); model is push alone, a model \
             and no measurement",
            args.link_ms, args.far_ms
        );
    }
    for model in report.runs.iter().filter(|run| run.setting.transport == Transport::Model) {
        let full = report.runs.iter().find(|run| is_full_twin(run, model));
        if let Some(full) = full.filter(|full| full.complaint().is_none()) {
            let ratio = model.to_all.p50_us as f64 / full.to_all.p50_us.max(1) as f64;
            eprintln!("N={}: the model's median is {ratio:.2} times that of full nodes", model.setting.nodes);
        }
    }
    for run in &report.runs {
        if let Some((own, others)) = run.own_region.zip(run.other_regions) {
            eprintln!(
                "{}: own region p50 {} p99 {}, other regions p50 {} p99 {}",
                run.setting,
                duration_us(own.p50_us),
                duration_us(own.p99_us),
                duration_us(others.p50_us),
                duration_us(others.p99_us)
            );
        }
    }
}

/// Whether a run is of full nodes in the very setting that was modelled.
fn is_full_twin(run: &Run, model: &Run) -> bool {
    let (full, model) = (&run.setting, &model.setting);
    full.transport == Transport::Sim
        && (full.nodes, full.degree, full.regions) == (model.nodes, model.degree, model.regions)
        && (full.link_ms, full.jitter, full.loss) == (model.link_ms, model.jitter, model.loss)
}

fn judge(report: &Report, args: &ConvergenceArgs) -> Result<(), CliError> {
    let mut missed = Vec::new();
    for (run, threshold) in report.runs.iter().flat_map(|run| args.threshold.iter().map(move |t| (run, t))) {
        let value = run.figure(threshold.metric());
        match (run.complaint(), value) {
            (Some(why), _) => missed.push(format!("{}: {threshold} cannot be said: {why}", run.setting)),
            (None, None) => missed.push(format!("{}: {threshold} was not measured", run.setting)),
            (None, Some(value)) if !threshold.is_kept_by(value) => {
                missed.push(format!("{}: {} is {value}, not {threshold}", run.setting, threshold.metric()));
            }
            _ => {}
        }
    }
    verdict(&missed)?;
    let failed = report.runs.iter().filter_map(|run| Some(format!("{}: {}", run.setting, run.failed.as_ref()?)));
    let failed: Vec<String> = failed.collect();
    if failed.is_empty() { Ok(()) } else { Err(CliError::unreachable(failed.join("\n"))) }
}
