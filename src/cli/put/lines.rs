//! `put --lines`: standard input, as it comes, on one request.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use reqwest::Body;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, Stdin};

use crate::cli::Context;
use crate::cli::error::{CliError, Kind, chain};
use crate::cli::output;
use crate::cli::output::{Column, Rows, number, text};
use crate::shell::http::model::{RefusedLines, StreamReply};

/// A line of the answer to a stream.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Refused(RefusedLines),
    Ended(StreamReply),
}

/// How long standard input may be quiet before the node is told that we are still there.
const QUIET: Duration = Duration::from_secs(20);

/// Standard input, on its way.
struct Input {
    stdin: Stdin,
    buffer: Vec<u8>,
    within_line: bool,
}

impl Default for Input {
    fn default() -> Self {
        Self { stdin: tokio::io::stdin(), buffer: vec![0; 64 * 1024], within_line: false }
    }
}

impl Input {
    /// What comes next, at the end nothing.
    async fn next(&mut self) -> Option<std::io::Result<Vec<u8>>> {
        loop {
            match tokio::time::timeout(QUIET, self.stdin.read(&mut self.buffer)).await {
                Ok(Ok(0)) => return None,
                Ok(Ok(n)) => {
                    self.within_line = self.buffer[n - 1] != b'\n';
                    return Some(Ok(self.buffer[..n].to_vec()));
                }
                Ok(Err(error)) => return Some(Err(error)),
                // Before a line a space means nothing.
                Err(_) if !self.within_line => return Some(Ok(vec![b' '])),
                Err(_) => {}
            }
        }
    }
}

/// Sends lines until they end, with this query, and shows what is refused as it is.
pub(super) async fn run(cx: &Context, query: &str) -> Result<(), CliError> {
    let client = cx.client()?;
    let input = stream::unfold(Input::default(), |mut input| async { Some((input.next().await?, input)) });
    let response = client.post_stream(&format!("/v1/readings/stream?{query}"), Body::wrap_stream(input)).await?;
    let (mut bytes, mut buffer) = (response.bytes_stream(), Vec::new());
    while let Some(chunk) = bytes.next().await {
        let chunk = chunk.map_err(|error| CliError::unreachable(format!("the node has gone: {}", chain(&error))))?;
        buffer.extend_from_slice(&chunk);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(Answer::Refused(refused)) => eprintln!("{}", words(&refused)),
                Ok(Answer::Ended(reply)) => return conclude(cx, &reply),
                Err(error) => return Err(CliError::because("the answer makes no sense to this version", &error)),
            }
        }
    }
    Err(CliError::unreachable("the node ended the stream without a last word"))
}

fn words(refused: &RefusedLines) -> String {
    match refused.to {
        None => format!("line {}: {}", refused.line, refused.error),
        Some(to) => format!("lines {} to {to}: {}", refused.line, refused.error),
    }
}

fn conclude(cx: &Context, reply: &StreamReply) -> Result<(), CliError> {
    const COLUMNS: &[Column] = &[text("node"), number("taken"), number("refused"), text("acknowledged"), text("ended")];
    output::print(cx.format, reply, std::slice::from_ref(reply), || {
        let mut rows = Rows::new(COLUMNS);
        let counts = [reply.taken, reply.refused].map(|count| count.to_string());
        let [taken, refused] = counts;
        rows.push(vec![reply.node.clone(), taken, refused, reply.ack.clone(), reply.ended.clone()]);
        rows
    })?;
    if reply.refused > 0 { Err(CliError::silent(Kind::Failed)) } else { Ok(()) }
}
