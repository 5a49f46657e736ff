//! Patterns that name readings: `[[REGION/]NODE:]CHANNEL`, each part a glob.

use glob::{MatchOptions, Pattern as Glob};

/// A pattern. `*` stands for anything within one part of a channel, `**` for any number of parts.
#[derive(Clone, Debug)]
pub struct Pattern {
    region: Option<Glob>,
    node: Option<Glob>,
    channel: Glob,
}

/// Why text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "pattern {pattern:?} is malformed: {why}; write [[REGION/]NODE:]CHANNEL, for instance temp, lobby/* or eu/*:temp"
)]
pub struct PatternError {
    pattern: String,
    why: String,
}

/// How globs match: `/` only by itself or `**`, letters as they are.
pub const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`PatternError`] if a part is empty or no glob.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let error = |why: &str| PatternError { pattern: text.to_owned(), why: why.to_owned() };
        let glob = |part: &str| match part {
            "" => Err(error("a part is empty")),
            part => Glob::new(part).map_err(|e| error(e.msg)),
        };
        let (origin, channel) = match text.split_once(':') {
            Some((origin, channel)) => (Some(origin), channel),
            None => (None, text),
        };
        let (region, node) = match origin.map(|origin| origin.split_once('/')) {
            Some(Some((region, node))) => (Some(glob(region)?), Some(glob(node)?)),
            Some(None) => (None, origin.map(glob).transpose()?),
            None => (None, None),
        };
        // All channels of a node, however deep, is what `gw-1:*` is written for.
        let channel = if channel == "*" { "**" } else { channel };
        Ok(Self { region, node, channel: glob(channel)? })
    }

    /// Whether the pattern says which region, and this is one of them.
    pub fn names_region(&self, region: &str) -> bool {
        self.region.as_ref().is_some_and(|glob| glob.matches_with(region, OPTIONS))
    }

    /// Whether the pattern names this reading.
    pub fn matches(&self, region: &str, node: &str, channel: &str) -> bool {
        let fits = |glob: &Option<Glob>, text: &str| glob.as_ref().is_none_or(|glob| glob.matches_with(text, OPTIONS));
        fits(&self.region, region) && fits(&self.node, node) && self.channel.matches_with(channel, OPTIONS)
    }
}

/// A query value: everything but plain characters becomes %XX.
pub fn encode(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~/*:".contains(byte);
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, region: &str, node: &str, channel: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(region, node, channel)
    }

    #[test]
    fn each_part_is_a_glob_of_its_own() {
        assert!(matches("temp", "main", "gw-1", "temp"));
        assert!(!matches("temp", "main", "gw-1", "temp/2"));
        assert!(matches("lobby/*", "main", "gw-1", "lobby/temp"));
        assert!(!matches("lobby/*", "main", "gw-1", "lobby/north/temp"));
        assert!(matches("lobby/**", "main", "gw-1", "lobby/north/temp"));
        assert!(matches("**/temp", "main", "gw-1", "lobby/north/temp"));
        assert!(matches("gw-1:*", "main", "gw-1", "lobby/temp"));
        assert!(!matches("gw-1:*", "main", "gw-2", "lobby/temp"));
        assert!(matches("eu/*:temp", "eu", "gw-7", "temp"));
        assert!(!matches("eu/*:temp", "us", "gw-7", "temp"));
    }

    #[test]
    fn a_malformed_pattern_says_how_to_write_one() {
        let error = Pattern::parse("gw-1:").unwrap_err().to_string();
        assert!(error.contains("a part is empty") && error.contains("[[REGION/]NODE:]CHANNEL"), "{error}");
        assert!(Pattern::parse("[").is_err());
    }
}
