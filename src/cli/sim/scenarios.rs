//! Scenarios that come with the program, and those in files.

use std::path::Path;

use crate::cli::error::{CliError, Kind};
use crate::sim::scenario::Scenario;

const BUILT_IN: &[(&str, &str)] = &[
    ("calm", include_str!("../../../configs/scenarios/calm.toml")),
    ("network", include_str!("../../../configs/scenarios/network.toml")),
    ("crashes", include_str!("../../../configs/scenarios/crashes.toml")),
    ("disks", include_str!("../../../configs/scenarios/disks.toml")),
    ("clocks", include_str!("../../../configs/scenarios/clocks.toml")),
    ("mixed", include_str!("../../../configs/scenarios/mixed.toml")),
    ("five", include_str!("../../../configs/scenarios/five.toml")),
    ("spread-100", include_str!("../../../configs/scenarios/spread-100.toml")),
    ("spread-1000", include_str!("../../../configs/scenarios/spread-1000.toml")),
    ("spread-3000", include_str!("../../../configs/scenarios/spread-3000.toml")),
    ("idle-10", include_str!("../../../configs/scenarios/idle-10.toml")),
    ("idle-100", include_str!("../../../configs/scenarios/idle-100.toml")),
    ("idle-1000", include_str!("../../../configs/scenarios/idle-1000.toml")),
    ("deaths", include_str!("../../../configs/scenarios/deaths.toml")),
    ("third", include_str!("../../../configs/scenarios/third.toml")),
    ("churn", include_str!("../../../configs/scenarios/churn.toml")),
    ("weather", include_str!("../../../configs/scenarios/weather.toml")),
    ("partitions", include_str!("../../../configs/scenarios/partitions.toml")),
    ("slow", include_str!("../../../configs/scenarios/slow.toml")),
    ("regions-3x3", include_str!("../../../configs/scenarios/regions-3x3.toml")),
    ("regions-5x5", include_str!("../../../configs/scenarios/regions-5x5.toml")),
    ("regions-10x5", include_str!("../../../configs/scenarios/regions-10x5.toml")),
    ("regions-100x100", include_str!("../../../configs/scenarios/regions-100x100.toml")),
];

/// All that come with the program.
pub fn all() -> Vec<Scenario> {
    BUILT_IN.iter().map(|(name, text)| parse(name, text).expect("a test reads them all")).collect()
}

/// A scenario by its name, or from a file.
///
/// # Errors
/// If there is none, or it makes no sense.
pub fn find(name: &str) -> Result<Scenario, CliError> {
    if let Some((name, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
        return parse(name, text);
    }
    let path = Path::new(name);
    if !path.exists() {
        let known: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
        return Err(CliError::usage(format!("no scenario and no file is called {name:?}"))
            .hint(format!("there are: {}", known.join(", "))));
    }
    let stem = path.file_stem().map_or_else(|| name.to_owned(), |stem| stem.to_string_lossy().into_owned());
    parse(&stem, &std::fs::read_to_string(path)?)
}

fn parse(name: &str, text: &str) -> Result<Scenario, CliError> {
    let wrong = |why: String| CliError::new(Kind::Config, format!("scenario {name}: {why}"));
    let mut scenario: Scenario = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
    scenario.name = name.to_owned();
    scenario.check().map_err(|error| wrong(error.to_string()))?;
    Ok(scenario)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_come_with_the_program_make_sense() {
        assert_eq!(all().len(), BUILT_IN.len());
        assert!(all().iter().all(|scenario| !scenario.about.is_empty()));
    }

    #[test]
    fn mistakes_are_named() {
        assert!(find("nope").unwrap_err().hint.unwrap().contains("mixed"));
        assert!(parse("x", "voters = 0").unwrap_err().message.contains("voters is 0"));
        assert!(parse("x", "[faults]\nquake = 1.0").unwrap_err().message.contains("quake"));
    }
}
