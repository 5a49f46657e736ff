//! The yardstick: plain TCP, one writer to all receivers, each frame waited for.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::cli::bench::plan::Schedule;
use crate::cli::error::CliError;
use crate::cli::pace;
use crate::shell::clock::machine_micros;

/// How long to wait before connections are accepted again when one could not be.
const ACCEPT_AGAIN: Duration = Duration::from_millis(10);

/// Answers every frame with the time at which it was whole, until the task is dropped.
pub async fn receive(listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(async move {
                // The writer going away is the end.
                let _ = answer(stream).await;
            })),
            // Its peer has gone, or there is no descriptor left for a moment: the others still come.
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
    }
}

async fn answer(mut stream: tokio::net::TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut content = Vec::new();
    loop {
        let length = stream.read_u32().await? as usize;
        content.resize(length, 0);
        stream.read_exact(&mut content).await?;
        stream.write_u64(machine_micros()).await?;
    }
}

/// Writes what falls to `places`: latencies in µs from the write until the last receiver had each frame whole, and
/// how many writes were begun too late. Blocks.
///
/// # Errors
/// If a receiver cannot be reached or goes away.
pub fn write(
    schedule: Schedule,
    receivers: &[String],
    bytes: usize,
    places: &[usize],
) -> Result<(Vec<u64>, u64), CliError> {
    let mut streams = Vec::new();
    for receiver in receivers {
        let stream = TcpStream::connect(receiver)?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let mut frame = (bytes as u32).to_be_bytes().to_vec();
    frame.resize(4 + bytes, b'x');
    let (mut latencies, mut missed) = (Vec::new(), 0);
    for (_, _, due) in schedule.updates().filter(|(_, writer, _)| places.contains(writer)) {
        pace::wait_until(due);
        let begun = machine_micros();
        missed += u64::from(begun > due + schedule.lateness_allowed_us());
        for stream in &mut streams {
            stream.write_all(&frame)?;
        }
        let mut last = begun;
        for stream in &mut streams {
            let mut at = [0; 8];
            stream.read_exact(&mut at)?;
            last = last.max(u64::from_be_bytes(at));
        }
        latencies.push(last - begun);
    }
    Ok((latencies, missed))
}
