//! The page that `--report` writes: one file, charts inline, nothing fetched.

use std::fmt::Write as _;

use crate::cli::bench::failover::hunt::Victim;
use crate::cli::bench::failover::{Figure, Report};
use crate::cli::bench::svg::{self, Axis, Line, STYLE, escape, percent, trim, us};

/// The whole page.
pub fn page(report: &Report) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><title>sensorctl bench failover</title>\
         <style>{STYLE}</style></head><body><main><h1>How long until another leader has committed</h1>"
    );
    let _ = write!(
        html,
        "<p class=\"sub\">{} regions of {} voters, {}</p><div class=\"tiles\">",
        report.regions,
        report.nodes,
        escape(&report.host.started_at)
    );
    for figure in &report.figures {
        let what = format!("median, {} killed, {}", figure.victim.as_str(), figure.setting());
        let _ = write!(
            html,
            "<div class=\"tile\"><b>{:.0} ms</b><span>{}</span></div>",
            figure.committed.p50_ms,
            escape(&what)
        );
    }
    html.push_str("</div><div class=\"charts\">");
    let mut settings: Vec<String> = report.figures.iter().map(Figure::setting).collect();
    settings.dedup();
    for setting in &settings {
        let of: Vec<&Figure> = report.figures.iter().filter(|figure| figure.setting() == *setting).collect();
        chart(&mut html, setting, &distribution(&of), "Share of the failovers that were over within a time.");
    }
    if settings.len() > 1 {
        let note = "Median and longest failover by the round trip between regions.";
        chart(&mut html, "By distance", &by_distance(report), note);
    }
    html.push_str("</div>");
    table(&mut html, report);
    let _ = writeln!(
        html,
        "<footer><p>{}</p><p>From the kill until somebody says that it leads, and until it says that a checkpoint newer \
         than all before the kill is committed. Under virtual time every failover is in a cluster of its own, and \
         processors take no time.</p></footer></main></body></html>",
        escape(&report.host.line())
    );
    html
}

fn chart(html: &mut String, title: &str, chart: &str, note: &str) {
    let _ = write!(html, "<figure><figcaption>{}</figcaption>{chart}<p>{note}</p></figure>", escape(title));
}

fn distribution(figures: &[&Figure]) -> String {
    let line = |(i, figure): (usize, &&Figure)| {
        let count = figure.each_ms.len().max(1) as f64;
        let points = figure.each_ms.iter().enumerate().map(|(n, ms)| (ms * 1000.0, (n + 1) as f64 / count));
        let name = format!("{} killed", figure.victim.as_str());
        Line { name, style: i, dashed: false, dots: false, points: points.collect() }
    };
    let lines: Vec<Line> = figures.iter().enumerate().map(line).collect();
    let x = Axis::linear(lines.iter().flat_map(|l| l.points.iter().map(|p| p.0)), "time to the next commit", us);
    svg::lines(&x, &Axis::fixed(0.0, 1.0, "share of failovers", percent), &lines)
}

fn by_distance(report: &Report) -> String {
    let mut lines = Vec::new();
    for (i, victim) in [Victim::Leader, Victim::TopLeader, Victim::Region].into_iter().enumerate() {
        for (what, dashed, pick) in [("median", false, true), ("longest", true, false)] {
            let of = report.figures.iter().filter(|figure| figure.victim == victim);
            let points = of.filter_map(|figure| {
                let ms = if pick { figure.committed.p50_ms } else { figure.committed.max_ms };
                Some((2.0 * figure.far_ms?, ms * 1000.0))
            });
            let name = format!("{} killed, {what}", victim.as_str());
            lines.push(Line { name, style: i, dashed, dots: true, points: points.collect() });
        }
    }
    lines.retain(|line| !line.points.is_empty());
    let values = |pick: fn(&(f64, f64)) -> f64| lines.iter().flat_map(move |line| line.points.iter().map(pick));
    let x = Axis::linear(values(|p| p.0), "round trip between regions, ms", trim);
    svg::lines(&x, &Axis::linear(values(|p| p.1), "time to the next commit", us), &lines)
}

fn table(html: &mut String, report: &Report) {
    html.push_str(
        "<div class=\"scroll\"><table><thead><tr><th>setting</th><th>killed</th><th>times</th><th>elected p50</th>\
         <th>p99</th><th>max</th><th>committed p50</th><th>p99</th><th>max</th></tr></thead><tbody>",
    );
    for figure in &report.figures {
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td>",
            escape(&figure.setting()),
            figure.victim.as_str(),
            figure.kills
        );
        for times in [figure.elected, figure.committed] {
            for ms in [times.p50_ms, times.p99_ms, times.max_ms] {
                let _ = write!(html, "<td>{ms:.0} ms</td>");
            }
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table></div>");
}
