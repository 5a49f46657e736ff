//! The curves as one HTML file that needs nothing else.

use std::fmt::Write as _;

use crate::cli::bench::fusion::{Point, Report, percent};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:2em auto;padding:0 1em;color:#1b1f24}\
h1{font-size:1.6em}h2{font-size:1.2em;margin-top:2em}table{border-collapse:collapse;font-size:13px}\
td,th{padding:.25em .7em;text-align:right;border-bottom:1px solid #e3e6ea}td:first-child,th:first-child{text-align:left}\
.charts{display:grid;grid-template-columns:1fr 1fr;gap:1.5em}figure{margin:0}figcaption{font-weight:600;margin-bottom:.3em}\
svg{width:100%;height:auto}.legend{margin:.2em 0 0;font-size:13px;font-weight:600}.legend span{margin-right:1em}.note{color:#57606a}";

/// A line of a chart: its name, its colour, and how to read it off a point.
type Series = (&'static str, &'static str, fn(&Point) -> f64);

const ERRORS: [Series; 3] = [
    ("mean", "#cf222e", |p| p.rms_mean),
    ("median", "#bf8700", |p| p.rms_median),
    ("fused", "#0969da", |p| p.rms_fused),
];
const SHARES: [Series; 4] = [
    ("interval holds the truth", "#1a7f37", |p| p.coverage),
    ("within 2 sigma", "#0969da", |p| p.within_2_sigma),
    ("mean within 2 sigma", "#cf222e", |p| p.mean_within_2_sigma),
    ("called inconsistent", "#8250df", |p| p.inconsistent),
];

/// The whole report.
pub(super) fn html(report: &Report) -> String {
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Fusion under faults</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style>\
         <h1>Fusion under faults</h1><p>{} made-up sensors of standard uncertainty 0.1 (a curve between 18 and 22), {} \
         windows for every point, seed {}. Up to {} of them may be wrong (the dashed line); beyond it nothing is \
         promised but that the answer says so.</p>",
        report.sensors, report.windows, report.seed, report.tolerates
    );
    section(&mut out, "Made-up sensors", &report.synthetic, report.tolerates);
    if let Some(recorded) = &report.recorded {
        section(&mut out, "Recording: held-out sensors against their neighbours", &recorded.points, report.tolerates);
        let words = recorded.words().replace('\n', "<br>");
        let _ = write!(out, "<p class=\"note\">{words}</p>");
    }
    out.push_str("<h2>Faults found</h2><table><tr><th>fault put in<th>sensors<th>found<th>by name<th>healthy<th>false alarms<th>median time to detect</tr>");
    for detection in &report.detection {
        out.push_str("<tr>");
        detection.cells().iter().for_each(|cell| {
            let _ = write!(out, "<td>{cell}");
        });
        out.push_str("</tr>");
    }
    out.push_str("</table></html>\n");
    out
}

fn section(out: &mut String, title: &str, points: &[Point], tolerates: u64) {
    let _ = write!(out, "<h2>{title}</h2><div class=\"charts\">");
    let mut kinds: Vec<&str> = points.iter().map(|point| point.fault.as_str()).collect();
    kinds.dedup();
    for kind in &kinds {
        let of: Vec<&Point> = points.iter().filter(|point| point.fault == *kind).collect();
        let _ = write!(out, "<figure><figcaption>{kind}: root mean square error</figcaption>");
        chart(out, &of, &ERRORS, tolerates, None);
        let _ = write!(out, "</figure><figure><figcaption>{kind}: share of windows</figcaption>");
        chart(out, &of, &SHARES, tolerates, Some(1.0));
        out.push_str("</figure>");
    }
    out.push_str("</div><table><tr><th>fault<th>faulty<th>rms mean<th>rms median<th>rms fused<th>within 2 sigma<th>coverage<th>Marzullo<th>sigma ratio<th>width ratio<th>inconsistent</tr>");
    for point in points {
        let _ = write!(
            out,
            "<tr><td>{}<td>{}<td>{:.3}<td>{:.3}<td>{:.3}<td>{}<td>{}<td>{}<td>{:.2}<td>{:.2}<td>{}</tr>",
            point.fault,
            point.faulty,
            point.rms_mean,
            point.rms_median,
            point.rms_fused,
            percent(point.within_2_sigma),
            percent(point.coverage),
            percent(point.coverage_marzullo),
            point.sigma_ratio,
            point.width_ratio,
            percent(point.inconsistent)
        );
    }
    out.push_str("</table>");
}

const WIDTH: f64 = 500.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 46.0;
const BOTTOM: f64 = 34.0;
const TOP: f64 = 10.0;
const RIGHT: f64 = 10.0;

/// Lines over the number of faulty sensors.
fn chart(out: &mut String, points: &[&Point], series: &[Series], tolerates: u64, top: Option<f64>) {
    let values = points.iter().flat_map(|point| series.iter().map(move |(_, _, read)| read(point)));
    let top = top.unwrap_or_else(|| values.fold(0.0, f64::max).max(1e-9) * 1.05);
    let most = points.last().map_or(1, |point| point.faulty.max(1)) as f64;
    let x = |faulty: f64| LEFT + (WIDTH - LEFT - RIGHT) * faulty / most;
    let y = |value: f64| HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (value / top).clamp(0.0, 1.0);
    let _ = write!(out, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-size=\"11\" fill=\"#57606a\" role=\"img\">");
    for tick in 0..=4 {
        let value = top * f64::from(tick) / 4.0;
        let at = y(value);
        let label = if top == 1.0 { percent(value) } else { format!("{value:.2}") };
        let _ = write!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at}\" y2=\"{at}\" stroke=\"#e3e6ea\"/>\
             <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{label}</text>",
            WIDTH - RIGHT,
            LEFT - 5.0,
            at + 4.0
        );
    }
    for point in points {
        let faulty = point.faulty;
        let (at, below) = (x(faulty as f64), HEIGHT - BOTTOM + 14.0);
        let _ = write!(out, "<text x=\"{at}\" y=\"{below}\" text-anchor=\"middle\">{faulty}</text>");
    }
    let (limit, floor) = (x(tolerates as f64), HEIGHT - BOTTOM);
    let _ = write!(
        out,
        "<line x1=\"{limit}\" x2=\"{limit}\" y1=\"{TOP}\" y2=\"{floor}\" stroke=\"#57606a\" stroke-dasharray=\"4 3\"/>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">faulty sensors</text>",
        LEFT + (WIDTH - LEFT) / 2.0,
        HEIGHT - 4.0
    );
    for (_, colour, read) in series {
        let line: Vec<String> =
            points.iter().map(|point| format!("{:.1},{:.1}", x(point.faulty as f64), y(read(point)))).collect();
        let _ = write!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            line.join(" ")
        );
    }
    out.push_str("</svg><p class=\"legend\">");
    for (name, colour, _) in series {
        let _ = write!(out, "<span style=\"color:{colour}\">&#9644; {name}</span> ");
    }
    out.push_str("</p>");
}
