//! JSON lines in a file that grows, as `tail -F` reads it: a file that is replaced or cut is read anew.

use std::io::{self, SeekFrom};
use std::path::Path;

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::time::MissedTickBehavior;

use crate::shell::config::sources::FileSource;
use crate::shell::sensors::feed::Feed;
use crate::shell::sensors::lines::{self, LINE_BYTES_MAX};

pub async fn run(config: FileSource, feed: &Feed) {
    let mut tail = Tail { position: if config.from_start { Some(0) } else { None }, rest: Vec::new(), missing: false };
    let mut ticks = tokio::time::interval(config.interval.0);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match tail.read(Path::new(&config.path)).await {
            Ok(lines) => {
                for line in lines {
                    match lines::parse(line.trim(), feed.now()) {
                        Ok(reading) => feed.send(vec![reading]).await,
                        Err(why) => feed.complain(why),
                    }
                }
            }
            Err(error) if !tail.missing => {
                tail.missing = true;
                feed.fail("file", format!("{}: {error}", config.path)).await;
            }
            Err(_) => {}
        }
    }
}

/// Where reading has come to.
struct Tail {
    /// `None` before the first look at a file whose past is not wanted.
    position: Option<u64>,
    /// A line that is not whole yet.
    rest: Vec<u8>,
    missing: bool,
}

impl Tail {
    async fn read(&mut self, path: &Path) -> io::Result<Vec<String>> {
        let mut file = match File::open(path).await {
            Ok(file) => file,
            Err(error) => {
                // What appears later is new from its first line.
                self.position = Some(0);
                return Err(error);
            }
        };
        self.missing = false;
        let len = file.metadata().await?.len();
        let position = self.position.unwrap_or(len);
        let position = if position > len { 0 } else { position };
        file.seek(SeekFrom::Start(position)).await?;
        // A long file is read in pieces, so that one look never holds it whole.
        let mut bytes = Vec::new();
        let read = file.take(4 * LINE_BYTES_MAX as u64).read_to_end(&mut bytes).await?;
        self.position = Some(position + read as u64);
        self.rest.extend_from_slice(&bytes);
        let mut lines = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line).trim().to_owned();
            if !line.is_empty() {
                lines.push(line);
            }
        }
        if self.rest.len() > LINE_BYTES_MAX {
            self.rest.clear();
        }
        Ok(lines)
    }
}
