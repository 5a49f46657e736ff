//! A command's output: a number, or JSON lines.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::{MissedTickBehavior, timeout};

use crate::core::id::Channel;
use crate::core::reading::Reading;
use crate::core::time::Wall;
use crate::shell::config::sources::ExecSource;
use crate::shell::sensors::feed::Feed;
use crate::shell::sensors::{Sensed, lines};

/// Longest output, in bytes.
const OUTPUT_BYTES_MAX: u64 = 1024 * 1024;

pub async fn run(config: ExecSource, feed: &Feed) {
    let mut ticks = tokio::time::interval(config.interval.0);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let output = match output(&config.command, config.timeout.0).await {
            Ok(output) => output,
            Err(why) => {
                feed.fail(&config.channel, why).await;
                continue;
            }
        };
        match parse(&output, &config, feed.now()) {
            Ok(readings) => feed.send(readings).await,
            Err(why) => feed.fail(&config.channel, why).await,
        }
    }
}

/// What the command prints. It is killed when it takes too long, and with the node.
async fn output(command: &[String], patience: Duration) -> Result<String, String> {
    let program = command.first().ok_or("command is empty")?;
    let child = Command::new(program)
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let mut child = child.map_err(|error| format!("{program} cannot be started: {error}"))?;
    let stdout = child.stdout.take().ok_or("its output is not there")?;
    let run = async {
        let mut text = Vec::new();
        stdout.take(OUTPUT_BYTES_MAX).read_to_end(&mut text).await.map_err(|error| error.to_string())?;
        let status = child.wait().await.map_err(|error| error.to_string())?;
        if !status.success() {
            return Err(format!("{program} ended with {status}"));
        }
        String::from_utf8(text).map_err(|_| format!("{program} printed something that is not text"))
    };
    let done = timeout(patience, run).await;
    done.unwrap_or_else(|_| Err(format!("{program} took longer than {} ms", patience.as_millis())))
}

/// Readings of JSON lines, or the first number of anything else.
pub fn parse(output: &str, config: &ExecSource, now: Wall) -> Result<Sensed, String> {
    let text = output.trim();
    if text.starts_with('{') {
        return text.lines().filter(|line| !line.trim().is_empty()).map(|line| lines::parse(line, now)).collect();
    }
    let word = text.split_whitespace().next().ok_or("it printed nothing")?;
    let value: f64 = word.parse().map_err(|_| format!("it printed {word:?}, which is neither a number nor JSON"))?;
    let reading = Reading { unit: config.unit.clone(), ..Reading::new(value, now) };
    reading.check().map_err(|error| error.to_string())?;
    let channel = Channel::new(&config.channel).map_err(|error| error.to_string())?;
    Ok(vec![(channel, reading)])
}
