//! Linux sysfs: `class/thermal/thermal_zone*` and `class/hwmon/hwmon*`.
//!
//! Source: Documentation/hwmon/sysfs-interface in the Linux kernel (millidegrees, millivolts, milliamperes,
//! microwatts, revolutions per minute).

use std::fs;
use std::path::{Path, PathBuf};

use crate::core::id::Channel;
use crate::core::reading::{Quality, Reading};
use crate::core::time::Wall;
use crate::shell::config::sources::HwmonSource;
use crate::shell::sensors::Sensed;
use crate::shell::sensors::feed::{Feed, part};

pub async fn run(config: HwmonSource, feed: &Feed) {
    let root = PathBuf::from(&config.root);
    let mut ticks = tokio::time::interval(config.interval.0);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (root, time) = (root.clone(), feed.now());
        // Some drivers take their time to answer.
        let readings = tokio::task::spawn_blocking(move || read_tree(&root, time)).await.unwrap_or_default();
        if readings.is_empty() {
            let why = format!("{}/class/thermal and hwmon show no sensor", config.root);
            feed.fail("hwmon", why).await;
        }
        feed.send(readings).await;
    }
}

/// Prefix of a file, its unit, and what one of its units is worth.
const KINDS: &[(&str, &str, f64)] = &[
    ("temp", "°C", 1e-3),
    ("in", "V", 1e-3),
    ("curr", "A", 1e-3),
    ("power", "W", 1e-6),
    ("fan", "rpm", 1.0),
    ("humidity", "%", 1e-3),
];

/// Everything below `root` that can be read; a sensor that cannot is a reading of quality bad.
pub fn read_tree(root: &Path, time: Wall) -> Sensed {
    let mut readings = Vec::new();
    for zone in folders(&root.join("class/thermal"), "thermal_zone") {
        let name = first_line(&zone.join("type")).unwrap_or_else(|| file_name(&zone));
        readings.push((format!("thermal/{}", part(&name)), read(&zone.join("temp"), "°C", 1e-3, time)));
    }
    for chip in folders(&root.join("class/hwmon"), "hwmon") {
        let chip_name = first_line(&chip.join("name")).unwrap_or_else(|| file_name(&chip));
        for (input, stem, unit, scale) in inputs(&chip) {
            let label = first_line(&chip.join(format!("{stem}_label"))).unwrap_or(stem);
            let name = format!("hwmon/{}/{}", part(&chip_name), part(&label));
            readings.push((name, read(&input, unit, scale, time)));
        }
    }
    number_duplicates(&mut readings);
    readings.into_iter().filter_map(|(name, reading)| Some((Channel::new(&name).ok()?, reading))).collect()
}

/// Two chips of one name are told apart by number, in the order of the tree.
fn number_duplicates(readings: &mut [(String, Reading)]) {
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for (name, _) in readings {
        let count = seen.entry(name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            *name = format!("{name}.{count}");
        }
    }
}

fn read(path: &Path, unit: &str, scale: f64, time: Wall) -> Reading {
    let unit = Some(unit.to_owned());
    let value = fs::read_to_string(path).map_err(|error| error.to_string());
    let value =
        value.and_then(|text| text.trim().parse::<f64>().map_err(|error| format!("{:?}: {error}", text.trim())));
    match value {
        // Thousandths are whole numbers; multiplying would leave a tail of digits that nobody measured.
        Ok(value) => Reading { unit, ..Reading::new(value / (1.0 / scale).round(), time) },
        Err(why) => Reading { value: None, unit, sigma: None, quality: Quality::Bad, note: Some(why), time },
    }
}

fn folders(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let mut found: Vec<(u64, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?, entry.path())))
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// Files such as `temp1_input`, with their stem, unit and scale.
fn inputs(chip: &Path) -> Vec<(PathBuf, String, &'static str, f64)> {
    let Ok(entries) = fs::read_dir(chip) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Some(stem) = name.strip_suffix("_input") else { continue };
        let kind = KINDS.iter().find(|(prefix, ..)| {
            stem.strip_prefix(prefix)
                .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
        });
        if let Some((_, unit, scale)) = kind {
            found.push((entry.path(), stem.to_owned(), *unit, *scale));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

fn first_line(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().next()?.trim().to_owned();
    (!line.is_empty()).then_some(line)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
