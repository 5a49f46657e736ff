//! One writer and three readers, each on a connection of its own: the same for every system that has such a thing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::Effort;

/// Readers of each value.
pub const READERS: usize = 3;
/// How long the last reader may take: what has not come by then is lost.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// A system that loses so many values running is not measured any further.
const LOST_MAX: u32 = 3;

/// Writes one value: the bytes of the request, and whether an answer has to be read before the next.
pub type Write1 = Box<dyn FnMut(u64, usize) -> Vec<u8>>;

/// One writer and its readers.
pub struct PubSub {
    writer: TcpStream,
    request: Write1,
    answers: bool,
    seen: Receiver<(u64, Instant)>,
    next: u64,
    /// Values lost running.
    lost: u32,
    /// Where the writer connects anew for every round, and what it says first.
    again: Option<(String, Vec<u8>)>,
}

impl PubSub {
    /// `readers` have subscribed already; numbers stand behind `marker` in what they receive.
    pub fn new(
        writer: TcpStream,
        request: Write1,
        answers: bool,
        readers: Vec<TcpStream>,
        marker: &'static str,
    ) -> Self {
        let (tell, seen) = channel();
        for reader in readers {
            let tell = tell.clone();
            std::thread::spawn(move || read(reader, marker, &tell));
        }
        let _ = writer.set_nodelay(true);
        Self { writer, request, answers, seen, next: 1, lost: 0, again: None }
    }

    /// With a new connection to `addr` for the writer of every round, on which it says `greeting` first.
    pub fn reconnecting(self, addr: String, greeting: &[u8]) -> Self {
        Self { again: Some((addr, greeting.to_vec())), ..self }
    }

    /// Writes by the clock: µs from each write until the last reader had it; [`PATIENCE`] for one that was lost.
    pub fn round(&mut self, effort: Effort) -> Result<Vec<u64>, String> {
        if let Some((addr, greeting)) = &self.again {
            self.writer = TcpStream::connect(addr).map_err(|error| error.to_string())?;
            let _ = self.writer.set_nodelay(true);
            self.writer.write_all(greeting).map_err(|error| error.to_string())?;
        }
        let begun = Instant::now();
        let mut times = Vec::new();
        for i in 0..effort.writes {
            let due = begun + effort.interval * i as u32;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let number = self.next;
            self.next += 1;
            let request = (self.request)(number, effort.payload);
            let sent = Instant::now();
            self.writer.write_all(&request).map_err(|error| error.to_string())?;
            let mut last = sent;
            let mut readers = READERS;
            while readers > 0 {
                let left = (sent + PATIENCE).saturating_duration_since(Instant::now());
                let Ok((seen, at)) = self.seen.recv_timeout(left) else { break };
                if seen == number {
                    readers -= 1;
                    last = last.max(at);
                }
            }
            self.lost = if readers > 0 { self.lost + 1 } else { 0 };
            match self.lost {
                0 => {}
                LOST_MAX => {
                    return Err(format!("{LOST_MAX} values running, the last of them {number}, did not arrive"));
                }
                _ => last = sent + PATIENCE,
            }
            if self.answers {
                answer(&mut self.writer).map_err(|error| error.to_string())?;
            }
            times.push(last.duration_since(sent).as_micros() as u64);
        }
        Ok(times)
    }
}

/// Reads an HTTP answer to its end.
fn answer(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let n = stream.read(&mut chunk)?;
        bytes.extend_from_slice(&chunk[..n]);
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Ok(());
            }
        }
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Tells of every number behind `marker`.
fn read(mut stream: TcpStream, marker: &str, tell: &Sender<(u64, Instant)>) {
    let (mut buffer, mut chunk) = (Vec::new(), [0; 16 * 1024]);
    while let Ok(n) = stream.read(&mut chunk) {
        let at = Instant::now();
        if n == 0 {
            return;
        }
        buffer.extend_from_slice(&chunk[..n]);
        while let Some(number) = take(&mut buffer, marker.as_bytes()) {
            if tell.send((number, at)).is_err() {
                return;
            }
        }
    }
}

/// The next whole number behind `marker`; what lies before it is dropped.
fn take(buffer: &mut Vec<u8>, marker: &[u8]) -> Option<u64> {
    loop {
        let at = buffer.windows(marker.len()).position(|window| window == marker)? + marker.len();
        let digits = buffer[at..].iter().position(|byte| !byte.is_ascii_digit())?;
        let number = std::str::from_utf8(&buffer[at..at + digits]).ok().and_then(|text| text.parse().ok());
        buffer.drain(..at + digits);
        if number.is_some() {
            return number;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_whole() {
        let mut buffer = b"MSG x #12".to_vec();
        assert_eq!(take(&mut buffer, b"#"), None, "more digits may come");
        buffer.extend_from_slice(b"3#xx#7;");
        assert_eq!((take(&mut buffer, b"#"), take(&mut buffer, b"#")), (Some(123), Some(7)), "a marker alone is none");
    }
}
