//! Errors that say file, line, reason, and what was probably meant.

use std::fmt;
use std::path::Path;

use serde::de::DeserializeOwned;

/// What is wrong with a configuration; nothing was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    findings: Vec<String>,
}

impl ConfigError {
    /// One finding.
    pub fn new(finding: impl Into<String>) -> Self {
        Self { findings: vec![finding.into()] }
    }

    /// Several findings; none is no error.
    ///
    /// # Errors
    /// If there are any.
    pub fn from_findings(findings: Vec<String>) -> Result<(), Self> {
        if findings.is_empty() { Ok(()) } else { Err(Self { findings }) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.findings.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// The file's text.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError::new(format!("{}: {error}", path.display())))
}

/// Reads TOML as `T`.
pub(super) fn parse<T: DeserializeOwned>(text: &str, file: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        ConfigError::new(format!("{file}:{line}: {}", words(error.message())))
    })
}

/// What the library says, shortened, with what was probably meant.
pub(super) fn words(message: &str) -> String {
    for (prefix, kind) in [("unknown field `", "setting"), ("unknown variant `", "value")] {
        let Some(rest) = message.strip_prefix(prefix) else { continue };
        let Some((found, expected)) = rest.split_once('`') else { continue };
        let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
        return format!("unknown {kind} `{found}`{}", did_you_mean(found, &known));
    }
    message.lines().collect::<Vec<_>>().join(" ")
}

/// A hint at the nearest known word, or at all of them if they are few.
pub(super) fn did_you_mean(found: &str, known: &[&str]) -> String {
    let near = known.iter().map(|word| (strsim::damerau_levenshtein(found, word), word));
    match near.min() {
        Some((distance, word)) if distance <= 1 + found.len() / 3 => format!("; did you mean `{word}`?"),
        Some(_) if known.len() <= 12 => format!("; known here: {}", known.join(", ")),
        _ => String::new(),
    }
}

/// Finds the line of a setting by its path.
pub(super) struct Locator<'a> {
    text: &'a str,
    file: &'a str,
}

impl<'a> Locator<'a> {
    pub fn new(text: &'a str, file: &'a str) -> Self {
        Self { text, file }
    }

    /// `file:line` of `section` and `key`, the section's if the key is not there, the file's if neither is.
    pub fn place(&self, section: &str, key: &str) -> String {
        let mut inside = false;
        let mut header = None;
        for (i, line) in self.text.lines().enumerate() {
            let line = line.trim();
            if let Some(name) = line.strip_prefix('[') {
                inside = name.trim_start_matches('[').split(']').next().is_some_and(|name| name.trim() == section);
                if inside && header.is_none() {
                    header = Some(i + 1);
                }
            } else if inside && line.split('=').next().is_some_and(|name| name.trim() == key) {
                return format!("{}:{}", self.file, i + 1);
            }
        }
        match header {
            Some(line) => format!("{}:{line}", self.file),
            None => self.file.to_owned(),
        }
    }
}
