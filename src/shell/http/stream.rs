//! `POST /v1/readings/stream`: readings as they come, one a line, on one request for as long as its sender likes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, FuturesUnordered, StreamExt};

use crate::core::event::{Ack, Command, RefusedCommand, Reply};
use crate::core::id::Channel;
use crate::core::reading::Reading;
use crate::core::time::Wall;
use crate::shell::http::Api;
use crate::shell::http::error::Failure;
use crate::shell::http::model::{RefusedLines, StreamReply};
use crate::shell::http::readings::{Acknowledged, BATCH_MAX, PushQuery, acknowledged};
use crate::shell::runtime::{AskError, answer};
use crate::shell::sensors::lines::{self, LINE_BYTES_MAX};

/// How long a sender may say nothing, not even a space between lines.
const LINE_PATIENCE: Duration = Duration::from_secs(60);
/// Batches that wait for what their sender wants to be acknowledged; more are not read until one of them is.
const WAITING_MAX: usize = 256;

/// Takes each line as soon as it is whole, and answers with a JSON line for what is refused, at once, and one at the end.
pub(super) async fn push(
    State(api): State<Api>,
    query: Result<Query<PushQuery>, QueryRejection>,
    body: Body,
) -> Result<Response, Failure> {
    let Acknowledged { ack, text, patience } = acknowledged(query)?;
    let taker = Taker {
        api,
        ack,
        ack_text: text,
        patience,
        body: body.into_data_stream(),
        lines: Lines::default(),
        waiting: FuturesUnordered::new(),
        told: VecDeque::new(),
        taken: 0,
        refused: 0,
        ended: None,
        said_all: false,
    };
    let answers = stream::unfold(taker, |mut taker| async move {
        let line = taker.next().await?;
        Some((Ok::<_, Infallible>(line), taker))
    });
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(answers)).into_response())
}

/// What became of a batch: its lines, how many readings they had, and the node's answer.
type Answered = (RangeInclusive<u64>, u64, Result<Reply, AskError>);

struct Taker {
    api: Api,
    ack: Ack,
    ack_text: String,
    patience: Duration,
    body: BodyDataStream,
    lines: Lines,
    waiting: FuturesUnordered<Pin<Box<dyn Future<Output = Answered> + Send>>>,
    /// Answers to be sent.
    told: VecDeque<String>,
    taken: u64,
    refused: u64,
    /// Why nothing more is read.
    ended: Option<String>,
    said_all: bool,
}

impl Taker {
    /// The next line of the answer, at the end none.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(line) = self.told.pop_front() {
                return Some(line);
            }
            if self.said_all {
                return None;
            }
            if self.waiting.is_empty()
                && let Some(ended) = self.ended.take()
            {
                self.said_all = true;
                return Some(self.summary(ended));
            }
            let hears = self.ended.is_none() && self.waiting.len() < WAITING_MAX;
            tokio::select! {
                Some(answered) = self.waiting.next(), if !self.waiting.is_empty() => self.on_answer(answered),
                heard = tokio::time::timeout(LINE_PATIENCE, self.body.next()), if hears => match heard {
                    Ok(Some(Ok(bytes))) => self.on_bytes(&bytes).await,
                    // What came of its last line may be a part of it.
                    Ok(Some(Err(error))) => self.ended = Some(format!("the connection broke: {error}")),
                    Ok(None) => self.on_end().await,
                    Err(_) => {
                        let seconds = LINE_PATIENCE.as_secs();
                        let kept = "a space or an empty line now and then keeps a quiet sender connected";
                        self.ended = Some(format!("nothing came for {seconds} s; {kept}"));
                    }
                },
            }
        }
    }

    async fn on_bytes(&mut self, bytes: &Bytes) {
        let lines = self.lines.add(bytes);
        self.take(lines).await;
        if self.ended.is_none() && self.lines.rest.len() > LINE_BYTES_MAX {
            let line = self.lines.count + 1;
            self.refuse(line, too_long());
            self.ended = Some("a line was too long".to_owned());
        }
    }

    async fn on_end(&mut self) {
        let last = self.lines.end();
        self.take(last.into_iter().collect()).await;
        self.ended.get_or_insert_with(|| "all was read".to_owned());
    }

    /// Hands lines to the node, in order.
    async fn take(&mut self, lines: Vec<(u64, Vec<u8>)>) {
        let now = self.api.node.clock().now().wall;
        for batch in lines.chunks(BATCH_MAX) {
            let mut readings: Vec<(Channel, Reading)> = Vec::with_capacity(batch.len());
            for (line, text) in batch {
                match parse(text, now) {
                    Ok(reading) => readings.push(reading),
                    Err(why) => self.refuse(*line, why),
                }
            }
            let (Some((first, _)), Some((last, _))) = (batch.first(), batch.last()) else { return };
            if readings.is_empty() {
                continue;
            }
            self.api.watcher.mark(&mut readings).await;
            let (lines, count, patience) = (*first..=*last, readings.len() as u64, self.patience);
            match self.api.node.order(Command::Put { readings, ack: self.ack }).await {
                Ok(answered) => self.waiting.push(Box::pin(async move {
                    let answered = answer(answered, patience).await;
                    (lines, count, answered)
                })),
                Err(error) => {
                    self.ended = Some(error.to_string());
                    return;
                }
            }
        }
    }

    fn on_answer(&mut self, (lines, count, answer): Answered) {
        match answer {
            Ok(Reply::Put { .. }) => self.taken += count,
            Ok(Reply::Refused { why }) => self.refuse_many(lines, count, why.to_string()),
            Ok(Reply::Redirect { .. } | Reply::Latest { .. } | Reply::Done) => {
                unreachable!("a put is answered by stamps or refused")
            }
            Err(error) => self.refuse_many(lines, count, error.to_string()),
        }
    }

    fn refuse(&mut self, line: u64, why: String) {
        self.refuse_many(line..=line, 1, why);
    }

    fn refuse_many(&mut self, lines: RangeInclusive<u64>, count: u64, error: String) {
        self.refused += count;
        let (line, to) = lines.into_inner();
        self.told.push_back(json_line(&RefusedLines { line, to: Some(to).filter(|to| *to != line), error }));
    }

    fn summary(&self, ended: String) -> String {
        let node = self.api.node.params().node.to_string();
        let (schema, ack) = ("sensorctl/put-stream/v1".to_owned(), self.ack_text.clone());
        json_line(&StreamReply { schema, node, ack, taken: self.taken, refused: self.refused, ended })
    }
}

/// A line's reading.
///
/// # Errors
/// What is wrong with it: a line is refused alone, and not with those that came together with it.
fn parse(text: &[u8], now: Wall) -> Result<(Channel, Reading), String> {
    if text.len() > LINE_BYTES_MAX {
        return Err(too_long());
    }
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    let (channel, reading) = lines::parse(text, now)?;
    if channel.is_system() {
        return Err(RefusedCommand::SystemChannel(channel).to_string());
    }
    Ok((channel, reading))
}

fn too_long() -> String {
    format!("a line has at most {LINE_BYTES_MAX} bytes")
}

fn json_line(said: &impl serde::Serialize) -> String {
    serde_json::to_string(said).expect("an answer is JSON") + "\n"
}

/// Lines out of bytes that are cut anywhere.
#[derive(Default)]
struct Lines {
    /// What has no end yet.
    rest: Vec<u8>,
    /// Lines so far, empty ones too.
    count: u64,
}

impl Lines {
    /// The lines that are whole now and not empty, each with its number from 1.
    fn add(&mut self, bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let mut lines = Vec::new();
        let mut parts = bytes.split(|byte| *byte == b'\n');
        let last = parts.next_back().unwrap_or_default();
        for part in parts {
            self.rest.extend_from_slice(part);
            lines.extend(self.end());
        }
        self.rest.extend_from_slice(last);
        lines
    }

    /// What is there is a line, unless it is empty.
    fn end(&mut self) -> Option<(u64, Vec<u8>)> {
        self.count += 1;
        let line = std::mem::take(&mut self.rest);
        (!line.trim_ascii().is_empty()).then_some((self.count, line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_wherever_bytes_are_cut() {
        let text = b"{\"a\":1}\n\n  \r\n{\"b\":2}\r\n{\"c\":3}";
        let whole = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let mut lines = Lines::default();
            let mut all: Vec<_> = pieces.flat_map(|piece| lines.add(piece)).collect();
            all.extend(lines.end());
            all
        };
        let expected = [(1, b"{\"a\":1}".to_vec()), (4, b"{\"b\":2}\r".to_vec()), (5, b"{\"c\":3}".to_vec())];
        for size in 1..=text.len() {
            assert_eq!(whole(&mut text.chunks(size)), expected, "in pieces of {size}");
        }
        assert_eq!(whole(&mut [&b"{\"a\":1}\n"[..]].into_iter()), [(1, b"{\"a\":1}".to_vec())]);
    }
}
