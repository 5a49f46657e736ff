//! A made-up sensor: a daily curve, noise, and faults, all from one seed.

use std::time::Duration;

use crate::core::id::{Channel, NodeId};
use crate::core::reading::{Quality, Reading};
use crate::core::rng::Rng;
use crate::core::time::Wall;
use crate::shell::config::sources::SimulatedSource;
use crate::shell::sensors::feed::Feed;

/// How long a stuck sensor sticks.
const STUCK_FOR: Duration = Duration::from_secs(60);

pub async fn run(config: SimulatedSource, node: &NodeId, feed: &Feed) {
    let Ok(channel) = Channel::new(&config.channel) else { return };
    let mut sensor = Simulated::new(config, node, feed.now());
    let mut ticks = tokio::time::interval(sensor.config.interval.0);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(reading) = sensor.read(feed.now()) {
            feed.send(vec![(channel.clone(), reading)]).await;
        }
    }
}

/// The sensor without the waiting.
pub struct Simulated {
    config: SimulatedSource,
    rng: Rng,
    began: Wall,
    stuck: Option<(f64, Wall)>,
}

impl Simulated {
    pub fn new(config: SimulatedSource, node: &NodeId, now: Wall) -> Self {
        let name = format!("{node}:{}", config.channel);
        let seed = config.seed.unwrap_or_else(|| xxhash_rust::xxh3::xxh3_64(name.as_bytes()));
        Self { config, rng: Rng::new(seed), began: now, stuck: None }
    }

    /// What it would read at `now` without noise or fault.
    pub fn truth(&self, now: Wall) -> f64 {
        let c = &self.config;
        let day = now.as_millis() as f64 / c.period.0.as_millis() as f64;
        c.mean + c.amplitude * (std::f64::consts::TAU * day).sin()
    }

    /// The reading at `now`, or nothing if it drops out.
    pub fn read(&mut self, now: Wall) -> Option<Reading> {
        let truth = self.truth(now);
        let c = &self.config;
        let hours = now.millis_after(self.began) as f64 / 3_600_000.0;
        let mut value = truth + c.bias + c.drift * hours + c.noise * gauss(&mut self.rng);
        // Every chance is drawn every time: one fault's rate does not move another's.
        let spike = self.rng.chance(c.spike_rate);
        let dropout = self.rng.chance(c.dropout_rate);
        let stuck = self.rng.chance(c.stuck_rate);
        if spike {
            value += c.spike;
        }
        if let Some((at, _)) = self.stuck.filter(|(_, until)| now < *until) {
            value = at;
        } else if stuck {
            self.stuck = Some((value, now + STUCK_FOR));
        } else {
            self.stuck = None;
        }
        let sigma = (c.noise > 0.0).then_some(c.noise);
        let reading = Reading {
            value: Some((value * 1e6).round() / 1e6),
            unit: Some(c.unit.clone()),
            sigma,
            quality: Quality::Good,
            note: None,
            time: now,
        };
        (!dropout).then_some(reading)
    }
}

/// A standard normal deviate, by the polar method (Marsaglia and Bray, 1964).
fn gauss(rng: &mut Rng) -> f64 {
    loop {
        let (x, y) = (2.0 * rng.unit() - 1.0, 2.0 * rng.unit() - 1.0);
        let s = x * x + y * y;
        if s > 0.0 && s < 1.0 {
            return x * (-2.0 * s.ln() / s).sqrt();
        }
    }
}
