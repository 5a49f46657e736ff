//! A recording: CSV with a header `timestamp,node,sensor,value`, plain or gzip, in order of time.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use tokio::sync::mpsc;

use crate::core::id::Channel;
use crate::core::reading::Reading;
use crate::core::time::Wall;
use crate::shell::clock::Clock;
use crate::shell::config::sources::ReplaySource;
use crate::shell::sensors::feed::{Feed, part};

/// Rows read ahead.
const AHEAD: usize = 1024;

/// One row that this node plays.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// When it was recorded, in milliseconds since 1970.
    pub recorded_ms: i64,
    /// The channel it is played on.
    pub channel: Channel,
    /// The value.
    pub value: f64,
    /// Its unit.
    pub unit: Option<String>,
}

pub async fn run(config: ReplaySource, feed: Arc<Feed>) {
    let mut config = config;
    loop {
        match config.locate() {
            Ok(path) => config.path = path.display().to_string(),
            Err(why) => {
                feed.fail("replay", why).await;
                tokio::time::sleep(Duration::from_secs(5)).await;
                continue;
            }
        }
        let (rows, mut waiting) = mpsc::channel(AHEAD);
        let reading = config.clone();
        let complain = feed.clone();
        // Files and decompression block; the reader ends when nobody takes its rows any more.
        let reader = tokio::task::spawn_blocking(move || {
            let rows_of = read_rows(Path::new(&reading.path), &reading, |row| match row {
                Ok(row) => rows.blocking_send(row).is_ok(),
                Err(why) => {
                    complain.complain(why);
                    true
                }
            });
            rows_of.map_err(|error| format!("{}: {error}", reading.path))
        });
        let mut pace = Pace::default();
        while let Some(row) = waiting.recv().await {
            pace.wait(row.recorded_ms, config.speed).await;
            let reading = Reading { unit: row.unit, ..Reading::new(row.value, feed.now()) };
            feed.send(vec![(row.channel, reading)]).await;
        }
        match reader.await {
            Ok(Ok(())) if config.repeat => {}
            Ok(Ok(())) => return,
            Ok(Err(why)) => {
                feed.fail("replay", why).await;
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
            Err(_) => return,
        }
    }
}

/// Turns recorded time into waiting.
#[derive(Default)]
struct Pace {
    first: Option<(i64, crate::core::time::Mono)>,
}

impl Pace {
    async fn wait(&mut self, recorded_ms: i64, speed: f64) {
        if speed == 0.0 {
            return tokio::task::yield_now().await;
        }
        let now = Clock::default().now().mono;
        let (recorded_first, began) = *self.first.get_or_insert((recorded_ms, now));
        let since = recorded_ms.saturating_sub(recorded_first).max(0) as f64 / 1000.0 / speed;
        let due = began + Duration::from_secs_f64(since.min(1e9));
        tokio::time::sleep(due.since(now)).await;
    }
}

/// Reads rows until `take` says enough. Rows that make no sense are given to `take` as errors.
///
/// # Errors
/// If the file cannot be read or has another header.
pub fn read_rows(
    path: &Path,
    config: &ReplaySource,
    mut take: impl FnMut(Result<Row, String>) -> bool,
) -> Result<(), String> {
    let input = open(path).map_err(|error| error.to_string())?;
    let mut csv = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(input);
    let header = csv.headers().map_err(|error| error.to_string())?.clone();
    let column = |name: &str| {
        let found = header.iter().position(|column| column.eq_ignore_ascii_case(name));
        found.ok_or_else(|| format!("the header has no column {name}; write timestamp,node,sensor,value"))
    };
    let columns = (column("timestamp")?, column("node")?, column("sensor")?, column("value")?);
    for (i, record) in csv.records().enumerate() {
        let line = i + 2;
        let row = match record {
            Ok(record) => parse(&record, columns, config).map_err(|why| format!("line {line}: {why}")).transpose(),
            // A broken stream does not mend; a row of too few columns is skipped.
            Err(error) if error.is_io_error() => return Err(format!("line {line}: {error}")),
            Err(error) => Some(Err(format!("line {line}: {error}"))),
        };
        if let Some(row) = row
            && !take(row)
        {
            return Ok(());
        }
    }
    Ok(())
}

fn open(path: &Path) -> std::io::Result<Box<dyn Read + Send>> {
    let mut file = File::open(path)?;
    let mut magic = [0; 2];
    let read = file.read(&mut magic)?;
    file.seek(SeekFrom::Start(0))?;
    let input = BufReader::with_capacity(64 * 1024, file);
    Ok(if read == 2 && magic == [0x1F, 0x8B] { Box::new(MultiGzDecoder::new(input)) } else { Box::new(input) })
}

/// The row, or `None` if another node plays it.
fn parse(
    record: &csv::StringRecord,
    columns: (usize, usize, usize, usize),
    config: &ReplaySource,
) -> Result<Option<Row>, String> {
    let field = |i: usize| record.get(i).unwrap_or_default();
    let (node, sensor) = (field(columns.1), field(columns.2));
    let prefix = match config.nodes.is_empty() {
        true => part(node),
        false => match config.nodes.get(node) {
            Some(prefix) => prefix.clone(),
            None => return Ok(None),
        },
    };
    let time: jiff::Timestamp =
        field(columns.0).parse().map_err(|_| format!("timestamp {:?} is not RFC 3339", field(columns.0)))?;
    let value: f64 = field(columns.3).parse().map_err(|_| format!("value {:?} is not a number", field(columns.3)))?;
    let name = if prefix.is_empty() { part(sensor) } else { format!("{prefix}/{}", part(sensor)) };
    let channel = Channel::new(&name).map_err(|error| error.to_string())?;
    Reading::new(value, Wall::from_millis(0)).check().map_err(|error| error.to_string())?;
    let unit = config.units.get(sensor).cloned();
    Ok(Some(Row { recorded_ms: time.as_millisecond(), channel, value, unit }))
}
