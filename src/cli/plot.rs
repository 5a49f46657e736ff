//! `sensorctl plot`: readings over time as a chart in the terminal, from the ledger's checkpoints and then live.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write as _};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Color, Style};
use ratatui::symbols::Marker;
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Widget};
use serde::Serialize;

use crate::cli::Context;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::get::encode;
use crate::cli::output::{self, value_text};
use crate::cli::watch::{Events, Watched};
use crate::core::time::Wall;
use crate::shell::http::model::{Checkpoints, ReadingRow, Readings};
use crate::shell::http::rfc3339;

const PATIENCE: Duration = Duration::from_secs(10);
/// More lines than this cannot be told apart.
const SERIES_MAX: usize = 12;
/// Time between two drawings while readings come.
const FRAME: Duration = Duration::from_millis(250);
const COLORS: [Color; 6] = [Color::Cyan, Color::Yellow, Color::Green, Color::Magenta, Color::Blue, Color::Red];
/// Size of a chart where no terminal tells its own.
const SIZE: (u16, u16) = (100, 24);

#[derive(Args)]
pub struct PlotArgs {
    /// Which readings: [[REGION/]NODE:]CHANNEL, each part a glob
    pattern: String,
    /// Begin with the readings of this many newest checkpoints, as far as they are kept
    #[arg(long, default_value_t = 60, value_name = "N")]
    history: usize,
    /// Go on with what comes, for this long (Ctrl-C ends it earlier)
    #[arg(long, value_name = "SECONDS")]
    follow: Option<f64>,
}

/// One line of the chart.
#[derive(Debug, Serialize)]
struct Series {
    node: String,
    channel: String,
    unit: Option<String>,
    /// When it was read, in milliseconds since 1970, and the value; ascending.
    points: Vec<(i64, f64)>,
}

#[derive(Serialize)]
struct Plot {
    schema: &'static str,
    series: Vec<Series>,
}

/// Lines by node and channel.
type Lines = BTreeMap<(String, String), Series>;

pub async fn run(cx: &Context, args: PlotArgs) -> Result<(), CliError> {
    let client = cx.client()?;
    let mut lines = Lines::new();
    history(&client, &args, &mut lines).await?;
    if let Some(seconds) = args.follow {
        if !(0.0..=86_400.0).contains(&seconds) {
            return Err(CliError::usage(format!("--follow {seconds} is not between 0 and 86400 seconds")));
        }
        follow(cx, &client, &args.pattern, Duration::from_secs_f64(seconds), &mut lines).await?;
        if cx.format.is_for_people() && std::io::stdout().is_terminal() {
            return Ok(());
        }
    }
    if lines.is_empty() && cx.format.is_for_people() {
        eprintln!("no reading matches {}", args.pattern);
        return Ok(());
    }
    if cx.format.is_for_people() {
        return draw(&lines);
    }
    let plot = Plot { schema: "sensorctl/plot/v1", series: lines.into_values().collect() };
    output::print(cx.format, &plot, &points(&plot.series), || unreachable!("people are shown a chart"))
}

/// What the newest checkpoints hold, oldest first, and what is held now.
async fn history(client: &Client, args: &PlotArgs, lines: &mut Lines) -> Result<(), CliError> {
    let pattern = encode(&args.pattern);
    let listed: Checkpoints = client.get("/v1/checkpoints", PATIENCE).await?;
    let held = listed.checkpoints.iter().filter(|row| row.body_held).take(args.history);
    let mut places: Vec<u64> = held.map(|row| row.index).collect();
    places.sort_unstable();
    for index in places {
        let path = format!("/v1/readings?pattern={pattern}&as_of={index}");
        // Retention may drop a body between the listing and the question.
        if let Ok(readings) = client.get::<Readings>(&path, PATIENCE).await {
            readings.readings.iter().for_each(|row| add(lines, row));
        }
    }
    let now: Readings = client.get(&format!("/v1/readings?pattern={pattern}"), PATIENCE).await?;
    now.readings.iter().for_each(|row| add(lines, row));
    Ok(())
}

async fn follow(
    cx: &Context,
    client: &Client,
    pattern: &str,
    time: Duration,
    lines: &mut Lines,
) -> Result<(), CliError> {
    let live = cx.format.is_for_people() && std::io::stdout().is_terminal();
    let mut events = Events::open(client, pattern, false).await?;
    let end = tokio::time::Instant::now() + time;
    let mut frames = tokio::time::interval(FRAME);
    loop {
        tokio::select! {
            event = events.next() => if let Watched::Reading(row) = event? { add(lines, &row) },
            _ = frames.tick(), if live && !lines.is_empty() => {
                print!("\x1b[H\x1b[J");
                draw(lines)?;
            }
            () = tokio::time::sleep_until(end) => return Ok(()),
        }
    }
}

/// Adds a reading to its line; one that was not read, or is held already, adds nothing.
fn add(lines: &mut Lines, row: &ReadingRow) {
    let (Some(value), Ok(time)) = (row.value, row.time.parse::<Timestamp>()) else { return };
    let line = lines.entry((row.node.clone(), row.channel.clone())).or_insert_with(|| Series {
        node: row.node.clone(),
        channel: row.channel.clone(),
        unit: row.unit.clone(),
        points: Vec::new(),
    });
    let at = time.as_millisecond();
    if line.points.last().is_none_or(|(last, _)| *last < at) {
        line.points.push((at, value));
    }
}

/// One point of a line, as a row.
#[derive(Serialize)]
struct Point<'a> {
    time: String,
    node: &'a str,
    channel: &'a str,
    value: f64,
    unit: Option<&'a str>,
}

fn points(series: &[Series]) -> Vec<Point<'_>> {
    let mut points = Vec::new();
    for Series { node, channel, unit, points: line } in series {
        points.extend(line.iter().map(|(at, value)| Point {
            time: rfc3339(Wall::from_millis(u64::try_from(*at).unwrap_or_default())),
            node,
            channel,
            value: *value,
            unit: unit.as_deref(),
        }));
    }
    points
}

fn draw(lines: &Lines) -> Result<(), CliError> {
    let (width, height) = ratatui::crossterm::terminal::size().unwrap_or(SIZE);
    let shown: Vec<&Series> = lines.values().take(SERIES_MAX).collect();
    let buffer = chart(&shown, Rect::new(0, 0, width.clamp(40, 200), (height.saturating_sub(2)).clamp(10, 40)));
    let mut out = anstream::stdout().lock();
    write_buffer(&mut out, &buffer)?;
    if lines.len() > shown.len() {
        writeln!(out, "{} more lines are not shown: a narrower pattern shows them", lines.len() - shown.len())?;
    }
    Ok(out.flush()?)
}

/// Draws lines with their axes; `area` is in cells.
fn chart(lines: &[&Series], area: Rect) -> Buffer {
    let points = || lines.iter().flat_map(|line| line.points.iter());
    let (from, to) = bounds(points().map(|(at, _)| *at as f64));
    let (low, high) = bounds(points().map(|(_, value)| *value));
    let scaled: Vec<Vec<(f64, f64)>> =
        lines.iter().map(|line| line.points.iter().map(|(at, value)| (*at as f64, *value)).collect()).collect();
    let datasets = lines.iter().zip(&scaled).enumerate().map(|(i, (line, points))| {
        let unit = line.unit.as_deref().unwrap_or_default();
        let last = points.last().map(|(_, value)| value_text(*value, None)).unwrap_or_default();
        Dataset::default()
            .name(format!("{}:{} {last} {unit}", line.node, line.channel))
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::default().fg(COLORS[i % COLORS.len()]))
            .data(points)
    });
    let clock = |at: f64| {
        let time = Timestamp::from_millisecond(at as i64).map(|time| time.to_string()).unwrap_or_default();
        time.get(11..19).unwrap_or_default().to_owned()
    };
    let grey = Style::default().fg(Color::DarkGray);
    let x = Axis::default().style(grey).bounds([from, to]).labels([clock(from), clock((from + to) / 2.0), clock(to)]);
    let digits = (1.0 - (high - low).log10().floor()).clamp(0.0, 9.0) as usize;
    let labels = [low, (low + high) / 2.0, high].map(|value| format!("{value:.digits$}"));
    let y = Axis::default().style(grey).bounds([low, high]).labels(labels);
    let mut buffer = Buffer::empty(area);
    let half = Constraint::Percentage(50);
    let chart = Chart::new(datasets.collect()).hidden_legend_constraints((half, half));
    chart.x_axis(x).y_axis(y).render(area, &mut buffer);
    buffer
}

/// Smallest and largest, a little apart even where all are one.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    match (low.is_finite(), high - low) {
        (false, _) => (0.0, 1.0),
        (true, width) if width > 0.0 => (low - width * 0.05, high + width * 0.05),
        (true, _) => (low - 1.0, high + 1.0),
    }
}

fn write_buffer(out: &mut impl std::io::Write, buffer: &Buffer) -> std::io::Result<()> {
    for y in 0..buffer.area.height {
        let mut line = String::new();
        let mut color = Color::Reset;
        for x in 0..buffer.area.width {
            let cell = &buffer[(x, y)];
            if cell.fg != color {
                color = cell.fg;
                line.push_str(ansi(color));
            }
            line.push_str(cell.symbol());
        }
        writeln!(out, "{}\x1b[0m", line.trim_end())?;
    }
    Ok(())
}

fn ansi(color: Color) -> &'static str {
    match color {
        Color::Cyan => "\x1b[36m",
        Color::Yellow => "\x1b[33m",
        Color::Green => "\x1b[32m",
        Color::Magenta => "\x1b[35m",
        Color::Blue => "\x1b[34m",
        Color::Red => "\x1b[31m",
        Color::DarkGray => "\x1b[90m",
        _ => "\x1b[0m",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(node: &str, second: u32, value: Option<f64>) -> ReadingRow {
        let time = format!("2026-01-01T00:00:{second:02}Z");
        let text = format!(
            r#"{{"node":"{node}","region":"main","channel":"temp","value":{},"unit":"K","sigma":null,"quality":"good",
                "stamp":"0.0","time":"{time}","age_ms":0}}"#,
            value.map_or_else(|| "null".to_owned(), |value| value.to_string())
        );
        serde_json::from_str(&text).unwrap()
    }

    fn lines() -> Lines {
        let mut lines = Lines::new();
        for second in 0..10 {
            add(&mut lines, &row("gw-1", second, Some(f64::from(second))));
        }
        lines
    }

    #[test]
    fn a_line_takes_each_reading_once_and_in_order() {
        let mut lines = lines();
        add(&mut lines, &row("gw-1", 9, Some(50.0)));
        add(&mut lines, &row("gw-1", 3, Some(50.0)));
        add(&mut lines, &row("gw-1", 11, None));
        assert_eq!(lines.len(), 1);
        let points = &lines.values().next().unwrap().points;
        assert_eq!((points.len(), points[9].1), (10, 9.0));
    }

    #[test]
    fn a_chart_rises_from_the_lower_left_to_the_upper_right() {
        let lines = lines();
        let buffer = chart(&[lines.values().next().unwrap()], Rect::new(0, 0, 60, 20));
        let braille = |x: u16, y: u16| buffer[(x, y)].symbol().chars().all(|c| ('\u{2801}'..='\u{28ff}').contains(&c));
        let column = |y: u16| (0..60).find(|x| braille(*x, y));
        let (upper, lower) = (column(4).unwrap(), column(15).unwrap());
        assert!(lower < upper, "the line is at {lower} below and at {upper} above");
    }

    #[test]
    fn equal_and_absent_values_have_bounds_too() {
        assert_eq!(bounds([5.0, 5.0].into_iter()), (4.0, 6.0));
        assert_eq!(bounds(std::iter::empty()), (0.0, 1.0));
    }
}
