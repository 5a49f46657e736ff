//! The page that `--report` writes: one file, charts inline, nothing fetched.

use std::fmt::Write as _;

use crate::cli::bench::Percentiles;
use crate::cli::bench::convergence::compare;
use crate::cli::bench::convergence::result::{Report, Run};
use crate::cli::bench::convergence::setting::Transport;
use crate::cli::bench::svg::{self, Axis, Line, STYLE, escape, percent, trim, us};
use crate::cli::output::duration_us;

/// The whole page; with a baseline, both are shown.
pub fn page(report: &Report, baseline: Option<&Report>) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><title>sensorctl bench convergence</title>\
         <style>{STYLE}</style></head><body><main>"
    );
    let _ = write!(html, "<h1>How long until every node holds an update</h1><p class=\"sub\">{}</p>", lead(report));
    html.push_str(&tiles(report));
    let measured: Vec<&Run> = report.runs.iter().filter(|run| run.complaint().is_none()).collect();
    html.push_str("<div class=\"charts\">");
    for series in series(&measured) {
        if series.runs.len() > 1 {
            figure(
                &mut html,
                &series.title("Latency by number of nodes"),
                &latency_by_nodes(&series.runs, baseline),
                "From when an update was due until that share of the nodes held it. Medians of the repetitions.",
            );
        }
        figure(
            &mut html,
            &series.title("Distribution of the time to all nodes"),
            &distribution(&series.runs),
            "Share of the updates that all nodes held within a time.",
        );
        figure(
            &mut html,
            &series.title("Bytes received per node and update"),
            &traffic(&series.runs),
            "All frames, by type: heartbeats, repair and agreement are in it, and weigh more when updates are rare.",
        );
        if let Some(run) = series.runs.iter().rev().find(|run| run.heat.bins > 1) {
            let what = if run.heat.bins < run.setting.nodes { "group of nodes" } else { "node" };
            let row = if run.heat.bins < run.setting.nodes { "writing group" } else { "writing node" };
            let column = if run.heat.bins < run.setting.nodes { "receiving group" } else { "receiving node" };
            let chart = svg::heat(run.heat.bins, &run.heat.means(), row, column, us);
            figure(
                &mut html,
                &format!("Mean time from each {what} to each, {}", run.setting),
                &chart,
                "A column that stands out is a node that hears late, a row that stands out one that is heard late.",
            );
        }
    }
    html.push_str("</div>");
    html.push_str(&table(report, baseline));
    let _ = writeln!(
        html,
        "<footer><p>{}</p><p>Writes were due at fixed times whether or not earlier ones had arrived, and every time counts from \
         when the write was <em>due</em>: a stall is charged to all writes that it delayed. An update counts as held by a \
         node once the node holds it or a newer one of the same writer. All clocks are one: the machine's monotonic clock. \
         A run that began more than 1% of its writes late shows no figures.</p></footer></main></body></html>",
        escape(&report.host.line())
    );
    html
}

fn lead(report: &Report) -> String {
    let first = report.runs.first();
    let effort =
        first.map(|run| format!("{} repetitions of {} updates", run.repetitions, run.writes)).unwrap_or_default();
    escape(&format!("{} settings, {effort} each, seed {}, {}", report.runs.len(), report.seed, report.host.started_at))
}

/// The figures that people look for first.
fn tiles(report: &Report) -> String {
    let mut html = String::from("<div class=\"tiles\">");
    let measured: Vec<&Run> = report.runs.iter().filter(|run| run.complaint().is_none()).collect();
    let mut shown: Vec<&Run> = measured.first().into_iter().chain(measured.last()).copied().collect();
    shown.dedup_by(|a, b| std::ptr::eq(*a, *b));
    for run in shown {
        let ratio = run.ratio_p50.map(|r| format!(", {r:.1} × plain TCP")).unwrap_or_default();
        let _ = write!(
            html,
            "<div class=\"tile\"><b>{}</b><span>p99 to all, {}{}</span></div>",
            duration_us(run.to_all.p99_us),
            escape(&run.setting.to_string()),
            ratio
        );
        let _ = write!(
            html,
            "<div class=\"tile\"><b>{:.2}</b><span>data messages per node and update, {}</span></div>",
            run.data_messages_per_node_update,
            escape(&run.setting.to_string())
        );
    }
    html.push_str("</div>");
    html
}

/// Runs that differ in the number of nodes alone.
struct Series<'a> {
    name: String,
    runs: Vec<&'a Run>,
}

impl Series<'_> {
    fn title(&self, what: &str) -> String {
        if self.name.is_empty() { what.to_owned() } else { format!("{what}: {}", self.name) }
    }
}

fn series<'a>(runs: &[&'a Run]) -> Vec<Series<'a>> {
    let mut all: Vec<Series<'a>> = Vec::new();
    for &run in runs {
        let s = &run.setting;
        let mut name = match s.transport {
            Transport::Model => "model of push".to_owned(),
            Transport::Sim => format!("full nodes in virtual time, {}/s", s.rate),
            real => format!("{}, {}/s", real.as_str(), s.rate),
        };
        if s.transport.is_virtual() {
            let _ = write!(name, ", links of {} ms", s.link_ms);
        }
        if s.loss > 0.0 {
            let _ = write!(name, ", loss {}%", s.loss * 100.0);
        }
        if s.regions > 1 {
            let _ = write!(name, ", {} regions", s.regions);
        }
        let _ = write!(name, ", degree {}", s.degree);
        if s.payload > 0 {
            let _ = write!(name, ", {} B", s.payload);
        }
        match all.iter_mut().find(|series| series.name == name) {
            Some(series) => series.runs.push(run),
            None => all.push(Series { name, runs: vec![run] }),
        }
    }
    all.iter_mut().for_each(|series| series.runs.sort_by_key(|run| run.setting.nodes));
    all
}

fn count(value: f64) -> String {
    trim(value)
}

fn bytes(value: f64) -> String {
    if value >= 10_000.0 { format!("{} kB", trim(value / 1000.0)) } else { format!("{} B", trim(value)) }
}

fn latency_by_nodes(runs: &[&Run], baseline: Option<&Report>) -> String {
    let nodes = |run: &Run| run.setting.nodes as f64;
    let line = |name: &str, style, dashed, pick: &dyn Fn(&Run) -> Option<u64>| {
        let points = runs.iter().filter_map(|run| Some((nodes(run), pick(run)? as f64)));
        Line { name: name.to_owned(), style, dashed, dots: true, points: points.collect() }
    };
    let mut lines = vec![
        line("to all, p99", 0, false, &|run| Some(run.to_all.p99_us)),
        line("to all, p50", 1, false, &|run| Some(run.to_all.p50_us)),
        line("to half the nodes, p50", 2, false, &|run| Some(run.to_50.p50_us)),
        line("plain TCP to all, p50", 3, true, &|run| run.raw_tcp.map(|raw| raw.p50_us)),
    ];
    if let Some(baseline) = baseline {
        let old = |run: &Run, pick: fn(Percentiles) -> u64| compare::same(baseline, run).map(|old| pick(old.to_all));
        lines.push(line("baseline p99", 4, true, &|run| old(run, |p| p.p99_us)));
        lines.push(line("baseline p50", 5, true, &|run| old(run, |p| p.p50_us)));
    }
    lines.retain(|line| !line.points.is_empty());
    let values = |pick: fn(&(f64, f64)) -> f64| lines.iter().flat_map(move |line| line.points.iter().map(pick));
    let x = Axis::log(values(|p| p.0), "nodes", count).marked(runs.iter().map(|run| nodes(run)));
    let y = Axis::log(values(|p| p.1), "time", us);
    svg::lines(&x, &y, &lines)
}

fn distribution(runs: &[&Run]) -> String {
    let lines: Vec<Line> = runs
        .iter()
        .enumerate()
        .map(|(i, run)| Line {
            name: format!("N = {}", run.setting.nodes),
            style: i % 8,
            dashed: false,
            dots: false,
            points: run.cdf.iter().map(|(us, share)| (*us as f64, *share)).collect(),
        })
        .collect();
    let x = Axis::log(lines.iter().flat_map(|line| line.points.iter().map(|p| p.0)), "time to all nodes", us);
    svg::lines(&x, &Axis::fixed(0.0, 1.0, "share of updates", percent), &lines)
}

/// Message types that are told apart; the rest is one.
const KINDS: &[(&str, &str)] = &[
    ("SENSOR_UPDATE", "push"),
    ("STATE_DIGEST", "digests"),
    ("STATE_UPDATE", "repair"),
    ("KEEPALIVE", "keepalives"),
    ("HEARTBEAT", "heartbeats"),
];

fn traffic(runs: &[&Run]) -> String {
    let stack = |run: &Run| -> Vec<(usize, f64)> {
        let of = |kind: &str| run.traffic.get(kind).map_or(0.0, |traffic| traffic.bytes);
        let known: Vec<(usize, f64)> = KINDS.iter().enumerate().map(|(i, (kind, _))| (i, of(kind))).collect();
        let rest = run.traffic.values().map(|t| t.bytes).sum::<f64>() - known.iter().map(|(_, b)| b).sum::<f64>();
        known.into_iter().chain([(KINDS.len(), rest.max(0.0))]).collect()
    };
    let stacks: Vec<_> = runs.iter().map(|run| stack(run)).collect();
    let names: Vec<String> = runs.iter().map(|run| format!("N = {}", run.setting.nodes)).collect();
    let legend: Vec<(String, usize)> = KINDS
        .iter()
        .map(|(_, name)| *name)
        .chain(["the rest"])
        .enumerate()
        .map(|(i, name)| (name.to_owned(), i))
        .collect();
    let y =
        Axis::linear(stacks.iter().map(|stack| stack.iter().map(|(_, v)| v).sum()), "bytes per node and update", bytes);
    svg::bars(&y, &names, &stacks, &legend)
}

fn figure(html: &mut String, title: &str, chart: &str, note: &str) {
    let _ = write!(html, "<figure><figcaption>{}</figcaption>{chart}<p>{}</p></figure>", escape(title), escape(note));
}

fn table(report: &Report, baseline: Option<&Report>) -> String {
    let heads = [
        "setting",
        "p50 to all",
        "p90",
        "p99",
        "max",
        "p99 to 99%",
        "p50 to 50%",
        "own region p50, p99",
        "other regions p50, p99",
        "plain TCP p50",
        "messages",
        "bytes",
        "CPU per node and update",
        "memory per node",
        "late",
    ];
    let mut html = String::from("<div class=\"scroll\"><table><thead><tr>");
    heads.iter().for_each(|head| {
        let _ = write!(html, "<th>{}</th>", escape(head));
    });
    html.push_str("</tr></thead><tbody>");
    for run in &report.runs {
        let _ = write!(html, "<tr><td>{}</td>", escape(&run.setting.to_string()));
        if let Some(why) = run.complaint() {
            let _ = write!(html, "<td class=\"bad\" colspan=\"{}\">{}</td></tr>", heads.len() - 1, escape(&why));
            continue;
        }
        let old = baseline.and_then(|baseline| compare::same(baseline, run));
        let was = |pick: fn(&Run) -> u64| {
            old.map(|old| format!("<small>was {}</small>", duration_us(pick(old)))).unwrap_or_default()
        };
        let dash = || "-".to_owned();
        let both = |times: Percentiles| format!("{}, {}", duration_us(times.p50_us), duration_us(times.p99_us));
        let cells = [
            duration_us(run.to_all.p50_us) + &was(|run| run.to_all.p50_us),
            duration_us(run.to_all.p90_us),
            duration_us(run.to_all.p99_us) + &was(|run| run.to_all.p99_us),
            duration_us(run.to_all.max_us),
            duration_us(run.to_99.p99_us),
            duration_us(run.to_50.p50_us),
            run.own_region.map_or_else(dash, both),
            run.other_regions.map_or_else(dash, both),
            run.raw_tcp.map_or_else(dash, |raw| duration_us(raw.p50_us)),
            format!("{:.3}", run.data_messages_per_node_update),
            format!("{:.0}", run.bytes_per_node_update),
            run.cpu_us_per_node_update.map_or_else(dash, |us| format!("{us:.0} µs")),
            run.rss_per_node_kib.map_or_else(dash, |kib| format!("{kib} KiB")),
            run.missed_sends.to_string(),
        ];
        cells.iter().for_each(|cell| {
            let _ = write!(html, "<td>{cell}</td>");
        });
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table></div>");
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::convergence::result::Repetition;
    use crate::cli::bench::convergence::setting::Setting;

    fn run(nodes: usize) -> Run {
        let setting =
            Setting { transport: Transport::Memory, nodes, regions: 1, degree: 6, rate: 100.0, ..Setting::default() };
        let mut repetition = Repetition::default();
        (1..=100).for_each(|us| repetition.times.to_all.record(us * nodes as u64).unwrap());
        Run::of(setting, 200, 100, &[repetition])
    }

    #[test]
    fn a_page_is_whole_and_fetches_nothing() {
        let failed = Run::failed(run(1000).setting, "node 3 <stopped>".to_owned());
        let report =
            Report { schema: String::new(), seed: 1, host: Default::default(), runs: vec![run(3), run(10), failed] };
        let page = page(&report, Some(&report));
        assert!(page.ends_with("</html>\n") && page.matches("<svg").count() == 3, "{page}");
        assert!(page.contains("node 3 &lt;stopped&gt;") && page.contains("baseline p99"));
        assert!(!page.contains("http") && !page.contains("src=") && !page.contains("NaN"), "{page}");
    }
}
