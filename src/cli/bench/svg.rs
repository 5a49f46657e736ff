//! Charts as inline SVG: axes, lines, bars and cells; colours come from the page, so that they follow its theme.

use std::fmt::Write as _;

/// What pages look like.
pub const STYLE: &str = include_str!("page.css");

/// Size of a chart in its own units; the page scales it.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 340.0;
/// Room for labels: left, right, top, bottom.
const MARGIN: (f64, f64, f64, f64) = (74.0, 16.0, 14.0, 46.0);

/// How a value is placed on an axis.
#[derive(Clone, Debug)]
pub struct Axis {
    lo: f64,
    hi: f64,
    log: bool,
    /// Writes a value.
    label: fn(f64) -> String,
    /// What the axis shows.
    pub title: &'static str,
    /// Values that get a line, instead of round numbers.
    marks: Option<Vec<f64>>,
}

impl Axis {
    /// Powers of ten around the values; they must be above zero to be shown.
    pub fn log(values: impl Iterator<Item = f64>, title: &'static str, label: fn(f64) -> String) -> Self {
        let (mut lo, mut hi) = (f64::INFINITY, 0.0f64);
        for value in values.filter(|value| *value > 0.0) {
            (lo, hi) = (lo.min(value), hi.max(value));
        }
        if hi == 0.0 {
            (lo, hi) = (1.0, 10.0);
        }
        // A little air, and at least half a decade.
        let middle = (lo * hi).sqrt();
        let (lo, hi) = ((lo / 1.15).min(middle / 1.8), (hi * 1.15).max(middle * 1.8));
        Self { lo, hi, log: true, label, title, marks: None }
    }

    /// From zero to a little above the largest value.
    pub fn linear(values: impl Iterator<Item = f64>, title: &'static str, label: fn(f64) -> String) -> Self {
        let hi = values.fold(0.0, f64::max);
        Self { lo: 0.0, hi: if hi > 0.0 { hi * 1.08 } else { 1.0 }, log: false, label, title, marks: None }
    }

    /// Exactly this far.
    pub fn fixed(lo: f64, hi: f64, title: &'static str, label: fn(f64) -> String) -> Self {
        Self { lo, hi, log: false, label, title, marks: None }
    }

    /// With lines at exactly these values.
    pub fn marked(mut self, values: impl Iterator<Item = f64>) -> Self {
        self.marks = Some(values.collect());
        self
    }

    /// Place of a value between 0 and 1.
    fn place(&self, value: f64) -> f64 {
        let place = match self.log {
            true => (value.max(self.lo) / self.lo).ln() / (self.hi / self.lo).ln(),
            false => (value - self.lo) / (self.hi - self.lo),
        };
        place.clamp(0.0, 1.0)
    }

    /// Values worth a line.
    fn ticks(&self) -> Vec<f64> {
        if let Some(marks) = &self.marks {
            return marks.clone();
        }
        if !self.log {
            let step = nice_step((self.hi - self.lo) / 5.0);
            let first = (self.lo / step).ceil() as i64;
            return (first..).map(|i| i as f64 * step).take_while(|tick| *tick <= self.hi * 1.0001).collect();
        }
        let steps: &[f64] = if self.hi / self.lo > 300.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let decades = self.lo.log10().floor() as i32..=self.hi.log10().ceil() as i32;
        let all = decades.flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)));
        all.filter(|tick| (self.lo..=self.hi).contains(tick)).collect()
    }
}

fn nice_step(rough: f64) -> f64 {
    let decade = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
    steps.into_iter().map(|step| step * decade).find(|step| *step >= rough).unwrap_or(decade * 10.0)
}

/// A line through points, with its name in the legend. `style` numbers the page's colours.
pub struct Line {
    /// Its name.
    pub name: String,
    /// Which colour.
    pub style: usize,
    /// Dashed: something to compare with.
    pub dashed: bool,
    /// Whether points are marked.
    pub dots: bool,
    /// In order of x.
    pub points: Vec<(f64, f64)>,
}

/// Lines over two axes.
pub fn lines(x: &Axis, y: &Axis, lines: &[Line]) -> String {
    let mut svg = open(HEIGHT);
    axes(&mut svg, x, y, true);
    for line in lines.iter().filter(|line| !line.points.is_empty()) {
        let points: Vec<(f64, f64)> = line.points.iter().map(|p| (at_x(x.place(p.0)), at_y(y.place(p.1)))).collect();
        let path: Vec<String> = points.iter().map(|(px, py)| format!("{px:.1},{py:.1}")).collect();
        let dash = if line.dashed { " stroke-dasharray=\"5 4\"" } else { "" };
        let _ = write!(
            svg,
            "<polyline class=\"s{}\" fill=\"none\" stroke-width=\"2\"{dash} points=\"{}\"/>",
            line.style,
            path.join(" ")
        );
        for ((px, py), (vx, vy)) in points.iter().zip(&line.points).filter(|_| line.dots) {
            let tip = format!("{}: {} at {}", line.name, (y.label)(*vy), (x.label)(*vx));
            let _ = write!(
                svg,
                "<circle class=\"f{}\" cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"3.4\"><title>{}</title></circle>",
                line.style,
                escape(&tip)
            );
        }
    }
    close(svg, &lines.iter().map(|line| (line.name.as_str(), line.style, line.dashed)).collect::<Vec<_>>())
}

/// Stacked bars over names. Each part is (style, value), from the bottom up.
pub fn bars(y: &Axis, names: &[String], stacks: &[Vec<(usize, f64)>], legend: &[(String, usize)]) -> String {
    let mut svg = open(HEIGHT);
    let none = Axis::fixed(0.0, 1.0, "", |_| String::new());
    axes(&mut svg, &none, y, false);
    let slot = (WIDTH - MARGIN.0 - MARGIN.1) / names.len().max(1) as f64;
    let width = (slot * 0.62).min(72.0);
    for (i, (name, stack)) in names.iter().zip(stacks).enumerate() {
        let middle = MARGIN.0 + slot * (i as f64 + 0.5);
        let mut base = 0.0;
        for (style, value) in stack.iter().filter(|(_, value)| *value > 0.0) {
            let (low, high) = (at_y(y.place(base)), at_y(y.place(base + value)));
            base += value;
            let title = legend.iter().find(|(_, s)| s == style).map_or("", |(name, _)| name);
            let _ = write!(
                svg,
                "<rect class=\"f{style}\" x=\"{:.1}\" y=\"{high:.1}\" width=\"{width:.1}\" height=\"{:.1}\"><title>{}</title></rect>",
                middle - width / 2.0,
                (low - high).max(0.5),
                escape(&format!("{title}: {}", (y.label)(*value)))
            );
        }
        let _ = write!(
            svg,
            "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\" dy=\"-5\">{}</text>",
            at_y(y.place(base)),
            escape(&(y.label)(base))
        );
        let _ = write!(
            svg,
            "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - MARGIN.3 + 18.0,
            escape(name)
        );
    }
    let legend: Vec<(&str, usize, bool)> = legend.iter().map(|(name, style)| (name.as_str(), *style, false)).collect();
    close(svg, &legend)
}

/// Cells of a square, row by row; what is not known stays empty. Darker is more.
pub fn heat(bins: usize, cells: &[Option<f64>], row: &str, column: &str, label: fn(f64) -> String) -> String {
    let side = 300.0;
    let (left, top) = (64.0, 12.0);
    let height = top + side + 34.0;
    let mut svg = open(height);
    let known = || cells.iter().flatten().copied();
    let (lo, hi) = (known().fold(f64::INFINITY, f64::min), known().fold(0.0, f64::max));
    let cell = side / bins.max(1) as f64;
    for (i, value) in cells.iter().enumerate() {
        let Some(value) = value else { continue };
        let share = if hi > lo { (value - lo) / (hi - lo) } else { 0.5 };
        let (r, c) = (i / bins, i % bins);
        let _ = write!(
            svg,
            "<rect class=\"heat\" fill-opacity=\"{:.3}\" x=\"{:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{:.2}\"><title>{row} {r} to {column} {c}: {}</title></rect>",
            0.06 + 0.94 * share,
            left + c as f64 * cell,
            top + r as f64 * cell,
            cell * 0.96,
            cell * 0.96,
            escape(&label(*value))
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        left + side / 2.0,
        top + side + 22.0,
        escape(column)
    );
    let (rx, ry) = (left - 16.0, top + side / 2.0);
    let _ = write!(
        svg,
        "<text x=\"{rx}\" y=\"{ry}\" text-anchor=\"middle\" transform=\"rotate(-90 {rx} {ry})\">{}</text>",
        escape(row)
    );
    // A scale beside it.
    for step in 0..24 {
        let share = f64::from(step) / 23.0;
        let y = top + side - (f64::from(step) + 1.0) * (side / 24.0);
        let _ = write!(
            svg,
            "<rect class=\"heat\" fill-opacity=\"{:.3}\" x=\"{}\" y=\"{y:.1}\" width=\"16\" height=\"{:.1}\"/>",
            0.06 + 0.94 * share,
            left + side + 40.0,
            side / 24.0 + 0.4
        );
    }
    if hi > 0.0 {
        let x = left + side + 64.0;
        let _ = write!(svg, "<text x=\"{x}\" y=\"{}\">{}</text>", top + 12.0, escape(&label(hi)));
        let _ = write!(svg, "<text x=\"{x}\" y=\"{}\">{}</text>", top + side, escape(&label(lo)));
    }
    svg.push_str("</svg>");
    svg
}

fn open(height: f64) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">")
}

fn close(mut svg: String, legend: &[(&str, usize, bool)]) -> String {
    svg.push_str("</svg>");
    let mut html = String::from("<div class=\"legend\">");
    for (name, style, dashed) in legend {
        let kind = if *dashed { " dashed" } else { "" };
        let _ = write!(html, "<span><i class=\"b{style}{kind}\"></i>{}</span>", escape(name));
    }
    html.push_str("</div>");
    svg + &html
}

fn at_x(place: f64) -> f64 {
    MARGIN.0 + place * (WIDTH - MARGIN.0 - MARGIN.1)
}

fn at_y(place: f64) -> f64 {
    HEIGHT - MARGIN.3 - place * (HEIGHT - MARGIN.2 - MARGIN.3)
}

fn axes(svg: &mut String, x: &Axis, y: &Axis, x_ticks: bool) {
    let (left, right, bottom) = (at_x(0.0), at_x(1.0), at_y(0.0));
    for tick in y.ticks() {
        let py = at_y(y.place(tick));
        let _ = write!(svg, "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" y1=\"{py:.1}\" y2=\"{py:.1}\"/>");
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{py:.1}\" dy=\"4\" text-anchor=\"end\">{}</text>",
            left - 8.0,
            escape(&(y.label)(tick))
        );
    }
    for tick in x.ticks().into_iter().filter(|_| x_ticks) {
        let px = at_x(x.place(tick));
        let _ =
            write!(svg, "<line class=\"grid\" x1=\"{px:.1}\" x2=\"{px:.1}\" y1=\"{}\" y2=\"{bottom}\"/>", at_y(1.0));
        let _ = write!(
            svg,
            "<text x=\"{px:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            bottom + 18.0,
            escape(&(x.label)(tick))
        );
    }
    let _ = write!(svg, "<line class=\"axis\" x1=\"{left}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>");
    let _ = write!(
        svg,
        "<text class=\"title\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        (left + right) / 2.0,
        HEIGHT - 8.0,
        escape(x.title)
    );
    let middle = at_y(0.5);
    let _ = write!(
        svg,
        "<text class=\"title\" x=\"14\" y=\"{middle}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {middle})\">{}</text>",
        escape(y.title)
    );
}

/// Text as HTML shows it.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A time in µs as labels show it.
pub fn us(us: f64) -> String {
    match us {
        0.0 => "0".to_owned(),
        us if us < 1000.0 => format!("{} µs", trim(us)),
        us if us < 1_000_000.0 => format!("{} ms", trim(us / 1000.0)),
        us => format!("{} s", trim(us / 1_000_000.0)),
    }
}

/// A number in as few digits as make sense.
pub fn trim(value: f64) -> String {
    let text = if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A share as labels show it.
pub fn percent(share: f64) -> String {
    format!("{}%", trim(share * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(value: f64) -> String {
        format!("{value}")
    }

    #[test]
    fn ticks_are_round_numbers_inside_the_axis() {
        let axis = Axis::log([3.0, 1000.0].into_iter(), "n", plain);
        assert_eq!(axis.ticks(), [1.0, 10.0, 100.0, 1000.0].into_iter().filter(|t| *t >= axis.lo).collect::<Vec<_>>());
        assert_eq!(Axis::linear([93.0].into_iter(), "y", plain).ticks(), [0.0, 25.0, 50.0, 75.0, 100.0]);
        assert!(Axis::log(std::iter::empty(), "n", plain).ticks().contains(&10.0), "nothing at all is an axis too");
    }

    #[test]
    fn values_are_placed_in_proportion() {
        let axis = Axis::fixed(0.0, 4.0, "x", plain);
        assert_eq!((axis.place(1.0), axis.place(9.0)), (0.25, 1.0));
        let log = Axis { lo: 1.0, hi: 100.0, log: true, label: plain, title: "y", marks: None };
        assert_eq!(log.place(10.0), 0.5);
    }

    #[test]
    fn text_does_not_break_the_page() {
        let line = Line { name: "<b>".into(), style: 0, dashed: false, dots: true, points: vec![(1.0, 1.0)] };
        let x = Axis::linear([1.0].into_iter(), "x", plain);
        assert!(!lines(&x, &x, &[line]).contains("<b>"));
    }

    #[test]
    fn times_are_short() {
        assert_eq!([us(0.0), us(250.0), us(1500.0), us(30_000.0), us(2e6)].join(" "), "0 250 µs 1.5 ms 30 ms 2 s");
    }
}
