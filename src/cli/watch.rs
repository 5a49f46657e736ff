//! `sensorctl watch`: readings as they change.

use std::io::Write as _;

use clap::Args;
use futures_util::StreamExt;

use crate::cli::Context;
use crate::cli::client::Client;
use crate::cli::error::{CliError, chain};
use crate::cli::flat;
use crate::cli::get::encode;
use crate::cli::output::{Format, json_line, or_dash, value_text};
use crate::shell::http::model::ReadingRow;

#[derive(Args)]
pub struct WatchArgs {
    /// Which readings: [[REGION/]NODE:]CHANNEL, each part a glob
    #[arg(default_value = "**")]
    pattern: String,
    /// Begin with everything held now
    #[arg(long)]
    initial: bool,
    /// End after this many readings
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

pub async fn run(cx: &Context, args: WatchArgs) -> Result<(), CliError> {
    let client = cx.client()?;
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut events = Events::open(&client, &args.pattern, args.initial).await?;
    let mut out = std::io::stdout();
    if cx.format == Format::Csv {
        writeln!(out, "{}", FIELDS.join(","))?;
    }
    while left > 0 {
        match events.next().await? {
            Watched::Reading(row) => {
                write!(out, "{}", line(cx.format, &row))?;
                out.flush()?;
                left -= 1;
            }
            Watched::Missed(missed) => eprintln!("{missed} changes came too fast to be shown"),
        }
    }
    Ok(())
}

/// Columns of `-o csv`: a stream cannot wait for what its rows will have.
const FIELDS: &[&str] =
    &["time", "node", "region", "channel", "value", "unit", "sigma", "quality", "note", "stamp", "age_ms"];

fn line(format: Format, row: &ReadingRow) -> String {
    match format {
        Format::Json | Format::Ndjson => json_line("sensorctl/watch/v1", row) + "\n",
        Format::Csv => flat::csv_row(FIELDS, row),
        Format::Table | Format::Wide => {
            let value = or_dash(row.value.map(|value| value_text(value, row.sigma)));
            let clock = row.time.get(11..23).unwrap_or(&row.time);
            let note = row.note.as_ref().map(|note| format!("  {}: {note}", row.quality)).unwrap_or_default();
            let unit = row.unit.as_deref().unwrap_or_default();
            format!("{clock}  {:<12} {:<28} {value:>16} {unit}{note}\n", row.node, row.channel)
        }
    }
}

/// One event of the stream.
pub enum Watched {
    /// A reading changed.
    Reading(Box<ReadingRow>),
    /// We were too slow for this many.
    Missed(u64),
}

/// A node's changes, read from its event stream.
pub struct Events {
    bytes: std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<axum::body::Bytes>> + Send>>,
    buffer: Vec<u8>,
}

impl Events {
    /// Subscribes.
    pub async fn open(client: &Client, pattern: &str, initial: bool) -> Result<Self, CliError> {
        let path = format!("/v1/watch?pattern={}&initial={initial}", encode(pattern));
        let response = client.stream(&path).await?;
        Ok(Self { bytes: Box::pin(response.bytes_stream()), buffer: Vec::new() })
    }

    /// The next event.
    ///
    /// # Errors
    /// When the node has gone (exit code 4).
    pub async fn next(&mut self) -> Result<Watched, CliError> {
        loop {
            // An event ends with an empty line.
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.buffer.drain(..end + 2).collect();
                match parse(&String::from_utf8_lossy(&event)) {
                    Some(watched) => return Ok(watched),
                    None => continue,
                }
            }
            match self.bytes.next().await {
                Some(Ok(bytes)) => self.buffer.extend_from_slice(&bytes),
                Some(Err(error)) => return Err(CliError::unreachable(format!("the node has gone: {}", chain(&error)))),
                None => return Err(CliError::unreachable("the node has ended the stream")),
            }
        }
    }
}

fn parse(event: &str) -> Option<Watched> {
    let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let data = field("data")?;
    match field("event")? {
        "reading" => serde_json::from_str(data).ok().map(Watched::Reading),
        "missed" => data.parse().ok().map(Watched::Missed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_programs_name_their_schema_and_hold_plain_values() {
        let text = r#"{"node":"gw-1","region":"eu","channel":"temp","value":21.5,"unit":"a,b","sigma":null,
            "quality":"good","stamp":"1.0","time":"2026-01-01T00:00:00.000Z","age_ms":1500}"#;
        let row: ReadingRow = serde_json::from_str(text).unwrap();
        let json = line(Format::Json, &row);
        assert!(json.starts_with(r#"{"schema":"sensorctl/watch/v1","node":"gw-1","region":"eu","#), "{json}");
        assert_eq!(json.lines().count(), 1);
        assert_eq!(line(Format::Csv, &row), "2026-01-01T00:00:00.000Z,gw-1,eu,temp,21.5,\"a,b\",,good,,1.0,1500\n");
    }

    #[test]
    fn events_are_read_and_comments_are_not() {
        assert!(matches!(parse("event: missed\ndata: 7\n\n"), Some(Watched::Missed(7))));
        assert!(parse(":\n\n").is_none());
        assert!(parse("event: other\ndata: 7\n\n").is_none());
    }
}
