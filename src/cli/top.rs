//! `sensorctl top`: the cluster on one screen, as it changes: who is there, what is wrong, how fast readings come.

use std::collections::{BTreeMap, VecDeque};
use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use ratatui::Frame;
use ratatui::crossterm::event::{self, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Sparkline, Table, TableState};
use tokio::sync::mpsc;

use crate::cli::Context;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::output::{NONE, duration_ms, or_dash, value_text};
use crate::cli::status;
use crate::cli::watch::{Events, Watched};
use crate::shell::clock::machine_micros;
use crate::shell::http::model::{NodeStatus, ReadingRow, Status};

/// Values remembered of each reading, one a column of its sparkline.
const MEMORY: usize = 24;
/// Time between two drawings.
const FRAME: Duration = Duration::from_millis(200);
/// Seconds over which the rate of readings is taken.
const RATE_OVER: usize = 5;

#[derive(Args)]
pub struct TopArgs {
    /// Which readings: [[REGION/]NODE:]CHANNEL, each part a glob
    #[arg(default_value = "**")]
    pattern: String,
    /// Time between looks at the nodes, in seconds
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    interval: f64,
}

pub async fn run(cx: &Context, args: TopArgs) -> Result<(), CliError> {
    if !std::io::stdout().is_terminal() {
        return Err(CliError::usage("top draws on a terminal").hint("`sensorctl status --watch` prints to anything"));
    }
    if !(0.1..=3600.0).contains(&args.interval) {
        return Err(CliError::usage(format!("--interval {} is not between 0.1 and 3600", args.interval)));
    }
    let client = cx.client()?;
    // What is wrong with the question is said before the screen is taken.
    let first = status::ask(&client).await?;
    let events = Events::open(&client, &args.pattern, true).await?;
    let mut screen = ratatui::init();
    let done = show(&mut screen, &client, &args, Top::new(first), events).await;
    ratatui::restore();
    done
}

async fn show(
    screen: &mut ratatui::DefaultTerminal,
    client: &Client,
    args: &TopArgs,
    mut top: Top,
    events: Events,
) -> Result<(), CliError> {
    let mut keys = keys();
    let mut events = Some(events);
    let mut frames = tokio::time::interval(FRAME);
    let mut looks = tokio::time::interval(Duration::from_secs_f64(args.interval));
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            key = keys.recv() => match key {
                Some(key) if top.on_key(key) => {}
                _ => return Ok(()),
            },
            event = next(&mut events) => match event {
                Ok(Watched::Reading(row)) => top.on_reading(*row),
                Ok(Watched::Missed(missed)) => top.arrived += missed,
                Err(_) => events = None,
            },
            _ = looks.tick() => {
                top.on_status(status::ask(client).await);
                if events.is_none() {
                    events = Events::open(client, &args.pattern, true).await.ok();
                }
            }
            _ = seconds.tick() => top.on_second(),
            _ = frames.tick() => {
                screen.draw(|frame| top.draw(frame))?;
            }
        }
    }
}

/// The next change; never, while the stream is broken.
async fn next(events: &mut Option<Events>) -> Result<Watched, CliError> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

/// Keys as they are pressed, read by a thread of their own: reading the terminal blocks.
fn keys() -> mpsc::UnboundedReceiver<event::KeyEvent> {
    let (tell, told) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if let event::Event::Key(key) = event
                && tell.send(key).is_err()
            {
                return;
            }
        }
    });
    told
}

/// What the screen shows.
struct Top {
    status: Status,
    /// Why the last look failed.
    trouble: Option<String>,
    readings: BTreeMap<(String, String), Shown>,
    nodes: TableState,
    /// Readings since the last second began.
    arrived: u64,
    /// Readings of the last seconds, newest last.
    rates: VecDeque<u64>,
}

/// A reading and the values before it.
struct Shown {
    row: ReadingRow,
    /// When it came, by the machine's clock.
    came_us: u64,
    values: VecDeque<f64>,
}

impl Shown {
    fn age_ms(&self, now_us: u64) -> u64 {
        self.row.age_ms + now_us.saturating_sub(self.came_us) / 1000
    }
}

impl Top {
    fn new(status: Status) -> Self {
        let nodes = TableState::default().with_selected(0);
        Self { status, trouble: None, readings: BTreeMap::new(), nodes, arrived: 0, rates: VecDeque::new() }
    }

    /// False if the key ends it.
    fn on_key(&mut self, key: event::KeyEvent) -> bool {
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
            KeyCode::Down | KeyCode::Char('j') => self.nodes.select_next(),
            KeyCode::Up | KeyCode::Char('k') => self.nodes.select_previous(),
            KeyCode::Home => self.nodes.select_first(),
            KeyCode::End => self.nodes.select_last(),
            _ => {}
        }
        true
    }

    fn on_reading(&mut self, row: ReadingRow) {
        self.arrived += 1;
        let key = (row.node.clone(), row.channel.clone());
        let shown =
            self.readings.entry(key).or_insert_with(|| Shown { row: row.clone(), came_us: 0, values: VecDeque::new() });
        shown.values.extend(row.value);
        if shown.values.len() > MEMORY {
            shown.values.pop_front();
        }
        (shown.row, shown.came_us) = (row, machine_micros());
    }

    fn on_second(&mut self) {
        self.rates.push_back(std::mem::take(&mut self.arrived));
        if self.rates.len() > MEMORY * 4 {
            self.rates.pop_front();
        }
    }

    fn on_status(&mut self, status: Result<Status, CliError>) {
        match status {
            Ok(status) => (self.status, self.trouble) = (status, None),
            Err(error) => self.trouble = Some(error.message),
        }
    }

    fn rate(&self) -> f64 {
        let last = self.rates.iter().rev().take(RATE_OVER);
        last.clone().sum::<u64>() as f64 / (last.count().max(1)) as f64
    }

    fn draw(&mut self, frame: &mut Frame<'_>) {
        let reasons = self.reasons();
        let nodes = (self.status.nodes.len() as u16 + 2).min(frame.area().height / 2);
        let [head, wrong, table, body, foot] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(reasons.len().min(4) as u16),
            Constraint::Length(nodes),
            Constraint::Min(3),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        self.draw_head(frame, head);
        frame.render_widget(Paragraph::new(reasons), wrong);
        self.draw_nodes(frame, table);
        self.draw_readings(frame, body);
        frame.render_widget(Line::from(" q quit   ↑ ↓ nodes").fg(Color::DarkGray), foot);
    }

    fn reasons(&self) -> Vec<Line<'static>> {
        let trouble = self.trouble.iter().map(|why| Line::from(format!(" {why}")).fg(Color::Red));
        let reasons = self.status.reasons.iter().map(|why| Line::from(format!(" {why}")).fg(Color::Yellow));
        trouble.chain(reasons).collect()
    }

    fn draw_head(&self, frame: &mut Frame<'_>, area: Rect) {
        let status = &self.status;
        let mut words = vec![
            Span::from(format!(" {} ", status.cluster.name)).bold(),
            match (self.trouble.is_some(), status.healthy) {
                (true, _) => Span::from("unreachable").fg(Color::Red).bold(),
                (false, true) => Span::from("healthy").fg(Color::Green).bold(),
                (false, false) => Span::from("unhealthy").fg(Color::Red).bold(),
            },
        ];
        let leader = status.leader.clone().unwrap_or_else(|| "nobody".to_owned());
        words.push(format!("   {}   leader {leader} in term {}", status.mode, status.term).into());
        if let Some(checkpoint) = &status.checkpoint {
            words.push(format!("   checkpoint {} {} ago", checkpoint.index, duration_ms(checkpoint.age_ms)).into());
        }
        if let Some(converged) = status.converged {
            words.push(format!("   {:.0}% converged", converged * 100.0).into());
        }
        let rate = format!("   {:.1} readings/s ", self.rate());
        let width = words.iter().map(Span::width).sum::<usize>() + rate.chars().count();
        words.push(rate.bold());
        let [left, right] = Layout::horizontal([Constraint::Length(width as u16), Constraint::Min(0)])
            .areas(Rect { height: 1, ..area });
        frame.render_widget(Line::from(words), left);
        let rates: Vec<u64> = self.rates.iter().rev().take(right.width as usize).rev().copied().collect();
        frame.render_widget(Sparkline::default().data(&rates).style(Style::default().fg(Color::Cyan)), right);
    }

    fn draw_nodes(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let rows = self.status.nodes.iter().map(node_row);
        let widths = [16, 10, 10, 6, 9, 9, 11, 9, 8].map(Constraint::Length);
        let names = ["NODE", "REGION", "ROLE", "TERM", "LIVENESS", "ENTRIES", "CHECKPOINT", "AGE", "LAG"];
        let table = Table::new(rows, widths)
            .header(Row::new(names).style(Style::default().fg(Color::DarkGray)))
            .row_highlight_style(Style::default().add_modifier(Modifier::REVERSED));
        frame.render_stateful_widget(table, area, &mut self.nodes);
    }

    /// Whether each node is there.
    fn lives(&self) -> BTreeMap<&str, &str> {
        self.status.nodes.iter().map(|node| (node.id.as_str(), node.liveness.as_str())).collect()
    }

    fn draw_readings(&self, frame: &mut Frame<'_>, area: Rect) {
        // The chosen node's readings first.
        let chosen = self.nodes.selected().and_then(|i| self.status.nodes.get(i)).map(|node| node.id.as_str());
        let mut shown: Vec<&Shown> = self.readings.values().collect();
        shown.sort_by_key(|shown| Some(shown.row.node.as_str()) != chosen);
        let (now_us, lives) = (machine_micros(), self.lives());
        let rows = shown.iter().take(area.height as usize).map(|shown| {
            let life = lives.get(shown.row.node.as_str()).copied().unwrap_or("alive");
            reading_row(shown, life, now_us)
        });
        let widths = [16, 26, 18, 8, 9, MEMORY as u16 + 1].map(Constraint::Length);
        let title = format!(" {} readings ", self.readings.len());
        let names = ["NODE", "CHANNEL", "VALUE", "UNIT", "AGE", "LATELY"];
        let table = Table::new(rows, widths)
            .header(Row::new(names).style(Style::default().fg(Color::DarkGray)))
            .block(Block::new().title(title).borders(ratatui::widgets::Borders::TOP).border_style(Color::DarkGray));
        frame.render_widget(table, area);
    }
}

fn node_row(node: &NodeStatus) -> Row<'static> {
    let liveness = match node.liveness.as_str() {
        "alive" => Style::default().fg(Color::Green),
        "suspect" => Style::default().fg(Color::Yellow),
        "left" => Style::default().fg(Color::DarkGray),
        _ => Style::default().fg(Color::Red),
    };
    let role = match node.role.as_deref() {
        Some("leader") => Cell::from("leader").bold(),
        role => Cell::from(or_dash(role)),
    };
    Row::new([
        Cell::from(node.id.clone()),
        Cell::from(node.region.clone()),
        role,
        Cell::from(or_dash(node.term)),
        Cell::from(node.liveness.clone()).style(liveness),
        Cell::from(or_dash(node.entries)),
        Cell::from(or_dash(node.checkpoint_index)),
        Cell::from(or_dash(node.checkpoint_age_ms.map(duration_ms))),
        Cell::from(or_dash(node.lag_ms.map(|lag| duration_ms(lag as u64)))),
    ])
}

/// A reading's line; what a node that is not there said last is shown as such.
fn reading_row(shown: &Shown, life: &str, now_us: u64) -> Row<'static> {
    let row = &shown.row;
    let node = match life {
        "alive" => Cell::from(row.node.clone()),
        other => Cell::from(format!("{} ({other})", row.node)).style(Style::default().fg(Color::DarkGray)),
    };
    let value = row.value.map_or_else(|| NONE.to_owned(), |value| value_text(value, row.sigma));
    let quality = if row.quality == "good" { Style::default() } else { Style::default().fg(Color::Yellow) };
    Row::new([
        node,
        Cell::from(row.channel.clone()),
        Cell::from(value).style(quality),
        Cell::from(row.unit.clone().unwrap_or_default()),
        Cell::from(duration_ms(shown.age_ms(now_us))),
        Cell::from(sparkline(&shown.values)).style(Style::default().fg(Color::Cyan)),
    ])
}

/// Values as bars between their own smallest and largest.
fn sparkline(values: &VecDeque<f64>) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let bar = |value: &f64| match high - low {
        width if width > 0.0 => BARS[(((value - low) / width) * 7.0).round().clamp(0.0, 7.0) as usize],
        _ => BARS[3],
    };
    values.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::http::model::ClusterRef;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn status() -> Status {
        let node = NodeStatus {
            id: "gw-1".into(),
            region: "main".into(),
            role: Some("leader".into()),
            liveness: "alive".into(),
            ..NodeStatus::default()
        };
        Status {
            schema: "sensorctl/status/v1".into(),
            healthy: false,
            reasons: vec!["voter gw-3 is dead".into()],
            cluster: ClusterRef { name: "lab".into(), id: None },
            mode: "flat".into(),
            leader: Some("gw-1".into()),
            term: 4,
            checkpoint: None,
            nodes: vec![node],
            regions: Vec::new(),
            converged: Some(1.0),
            answered_by: "gw-1".into(),
        }
    }

    fn reading(value: f64) -> ReadingRow {
        let text = r#"{"node":"gw-1","region":"main","channel":"temp","value":1.5,"unit":"K","sigma":null,
            "quality":"good","stamp":"0.0","time":"2026-01-01T00:00:00Z","age_ms":12}"#;
        ReadingRow { value: Some(value), ..serde_json::from_str(text).unwrap() }
    }

    #[test]
    fn the_screen_shows_nodes_readings_and_what_is_wrong() {
        let mut top = Top::new(status());
        (0..40).for_each(|i| top.on_reading(reading(f64::from(i))));
        top.on_second();
        let mut screen = Terminal::new(TestBackend::new(110, 20)).unwrap();
        screen.draw(|frame| top.draw(frame)).unwrap();
        let text: String = screen.backend().buffer().content().iter().map(|cell| cell.symbol()).collect();
        for word in ["lab", "unhealthy", "voter gw-3 is dead", "leader gw-1 in term 4", "40.0 readings/s", "temp", "39"]
        {
            assert!(text.contains(word), "{word} is not on the screen");
        }
        assert_eq!(top.readings.values().next().unwrap().values.len(), MEMORY);
    }

    #[test]
    fn what_a_dead_node_said_last_grows_old_and_is_marked() {
        let mut top = Top::new(status());
        top.status.nodes[0].liveness = "dead".into();
        top.on_reading(reading(1.5));
        let shown = top.readings.values_mut().next().unwrap();
        shown.came_us = 1_000_000;
        assert_eq!((shown.age_ms(1_000_000), shown.age_ms(5_500_000)), (12, 4512));
        let mut screen = Terminal::new(TestBackend::new(110, 20)).unwrap();
        screen.draw(|frame| top.draw(frame)).unwrap();
        let text: String = screen.backend().buffer().content().iter().map(|cell| cell.symbol()).collect();
        assert!(text.contains("gw-1 (dead)"), "{text}");
    }

    #[test]
    fn keys_move_and_end_it() {
        let mut top = Top::new(status());
        assert!(top.on_key(KeyCode::Down.into()));
        assert!(!top.on_key(KeyCode::Char('q').into()));
    }

    #[test]
    fn a_sparkline_spans_its_own_range() {
        assert_eq!(sparkline(&VecDeque::from([1.0, 2.0, 8.0])), "▁▂█");
        assert_eq!(sparkline(&VecDeque::from([5.0])), "▄");
    }
}
