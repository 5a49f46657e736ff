//! JSON lines on standard input.

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

use crate::shell::config::sources::StdinSource;
use crate::shell::sensors::feed::Feed;
use crate::shell::sensors::lines::{self, LINE_BYTES_MAX};

pub async fn run(_: StdinSource, feed: &Feed) {
    read_lines(tokio::io::stdin(), feed).await;
    feed.fail("stdin", "standard input has ended").await;
}

/// Sends every line's reading until the input ends. A line that is none is refused by itself.
pub async fn read_lines(input: impl AsyncRead + Unpin, feed: &Feed) {
    let mut input = BufReader::new(input);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut input).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => return feed.fail("stdin", error.to_string()).await,
        }
        let text = String::from_utf8_lossy(&line);
        if text.trim().is_empty() {
            continue;
        }
        match lines::parse(text.trim(), feed.now()) {
            Ok(reading) => feed.send(vec![reading]).await,
            Err(why) => feed.complain(why),
        }
    }
}
