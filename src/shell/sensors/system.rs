//! This machine: CPU load, memory, component temperatures, by the `sysinfo` library.

use sysinfo::{Component, Components, CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use crate::core::id::Channel;
use crate::core::reading::Reading;
use crate::core::time::Wall;
use crate::shell::config::sources::SystemSource;
use crate::shell::sensors::Sensed;
use crate::shell::sensors::feed::{Feed, part};

pub async fn run(config: SystemSource, feed: &Feed) {
    let kinds = RefreshKind::nothing()
        .with_cpu(CpuRefreshKind::nothing().with_usage())
        .with_memory(MemoryRefreshKind::nothing().with_ram());
    let mut system = match System::new_with_specifics(kinds) {
        Ok(system) => system,
        Err(error) => return feed.fail("cpu/load", error.to_string()).await,
    };
    // A machine without sensors of temperature is not at fault.
    let mut components = Components::new_with_refreshed_list().ok();
    let mut ticks = tokio::time::interval(config.interval.0);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        system.refresh_specifics(kinds);
        if let Some(components) = &mut components {
            components.refresh(false);
        }
        let readings = read(&system, components.as_deref().unwrap_or_default(), feed.now());
        if readings.is_empty() {
            feed.fail("cpu/load", "this machine shows neither load nor memory").await;
        }
        feed.send(readings).await;
    }
}

fn read(system: &System, components: &[Component], time: Wall) -> Sensed {
    let percent =
        |value: f64| Reading { unit: Some("%".into()), ..Reading::new((value * 100.0).round() / 100.0, time) };
    let mut readings = Vec::new();
    // The first look has nothing to compare with.
    let load = f64::from(system.global_cpu_usage());
    if load.is_finite() {
        readings.push(("cpu/load".to_owned(), percent(load)));
    }
    if system.total_memory() > 0 {
        let used = system.used_memory() as f64 / system.total_memory() as f64;
        readings.push(("memory/used".to_owned(), percent(used * 100.0)));
    }
    for component in components {
        let celsius = component.temperature().map(f64::from).filter(|value| value.is_finite());
        if let Some(celsius) = celsius {
            let reading = Reading { unit: Some("°C".into()), ..Reading::new(celsius, time) };
            readings.push((format!("temp/{}", part(component.label())), reading));
        }
    }
    let named = readings.into_iter().filter_map(|(name, reading)| Some((Channel::new(&name).ok()?, reading)));
    named.collect()
}
