//! `sensorctl put`: write a reading, and wait until it is as safe as asked for; or, with `--lines`, those of standard
//! input as they come.

mod lines;

use std::time::Duration;

use clap::Args;
use reqwest::Method;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::get::encode;
use crate::cli::output;
use crate::cli::output::{Column, Rows, text};
use crate::shell::http::model::{PushReading, PutReply};

#[derive(Args)]
pub struct PutArgs {
    /// The sensor, without a node: the node that is asked writes it as its own
    #[arg(required_unless_present = "lines")]
    channel: Option<String>,
    /// The value; left out with `--quality bad`, there is none
    #[arg(allow_negative_numbers = true, value_parser = finite, required_unless_present_any = ["quality", "lines"])]
    value: Option<f64>,
    /// Unit of value and sigma
    #[arg(long)]
    unit: Option<String>,
    /// Standard uncertainty
    #[arg(long, value_parser = finite)]
    sigma: Option<f64>,
    /// good, uncertain or bad
    #[arg(long, value_parser = ["good", "uncertain", "bad"])]
    quality: Option<String>,
    /// Why it is not good, or anything else to read beside it
    #[arg(long)]
    note: Option<String>,
    /// When it is acknowledged: memory, disk, peers=K or checkpoint
    #[arg(long, default_value = "memory")]
    ack: String,
    /// How long to wait for that, in seconds
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    timeout: f64,
    /// Write what comes on standard input, each line as soon as it is whole: a JSON object with channel, value and, where
    /// known, unit, sigma, quality, note and time
    #[arg(long, conflicts_with_all = ["channel", "unit", "sigma", "quality", "note"])]
    lines: bool,
}

/// A value or an uncertainty.
fn finite(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value: &f64| value.is_finite());
    value.ok_or_else(|| {
        "a reading must be a finite number; if the sensor gave none, leave the value out and say --quality bad".into()
    })
}

pub async fn run(cx: &Context, args: PutArgs) -> Result<(), CliError> {
    if !(0.0..=120.0).contains(&args.timeout) {
        return Err(CliError::usage(format!("--timeout {} is not between 0 and 120", args.timeout)));
    }
    if args.lines {
        return lines::run(cx, &asked(&args)).await;
    }
    if args.value.is_none() && args.quality.as_deref() != Some("bad") {
        return Err(CliError::usage("a reading without a value must be of --quality bad"));
    }
    let client = cx.client()?;
    let timeout = Duration::from_secs_f64(args.timeout);
    let path = format!("/v1/readings?{}", asked(&args));
    let PutArgs { channel: Some(channel), value, unit, sigma, quality, note, .. } = args else {
        return Err(CliError::usage("say which channel"));
    };
    let reading = PushReading { channel, value, unit, sigma, quality, note, time: None };
    let patience = timeout + Duration::from_secs(2);
    let reply: PutReply = client.command(Method::POST, &path, Some(&reading), patience).await?;
    const COLUMNS: &[Column] = &[text("node"), text("channel"), text("stamp"), text("acknowledged")];
    output::print(cx.format, &reply, std::slice::from_ref(&reply), || {
        let mut rows = Rows::new(COLUMNS);
        for stamp in &reply.stamps {
            rows.push(vec![reply.node.clone(), reading.channel.clone(), stamp.clone(), reply.ack.clone()]);
        }
        rows
    })
}

/// Query of a write.
fn asked(args: &PutArgs) -> String {
    format!("ack={}&timeout_ms={}", encode(&args.ack), Duration::from_secs_f64(args.timeout).as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_finite_number_is_refused_in_words_that_say_what_to_do() {
        assert_eq!((finite("21.5"), finite("-1e3")), (Ok(21.5), Ok(-1000.0)));
        for text in ["NaN", "inf", "-inf", "1e999", "warm"] {
            let said = finite(text).unwrap_err();
            assert!(said.contains("must be a finite number") && said.contains("--quality bad"), "{text}: {said}");
        }
    }
}
