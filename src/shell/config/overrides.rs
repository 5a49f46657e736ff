//! Settings from flags and from the environment, laid over the file.

use toml::{Table, Value};

use crate::shell::config::RawNode;
use crate::shell::config::error::{ConfigError, did_you_mean, words};

/// Settings that take precedence over the file, weakest first.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    set: Vec<Setting>,
}

#[derive(Clone, Debug)]
struct Setting {
    /// Who says so, for errors.
    from: String,
    /// `section.key`.
    path: String,
    value: String,
}

impl Overrides {
    /// Settings named `SENSORCTL_<SECTION>_<KEY>` among `vars`, for instance `SENSORCTL_NODE_ID`.
    ///
    /// # Errors
    /// If such a name begins with a section and ends in no setting of it.
    pub fn from_env(vars: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let known = known();
        let mut overrides = Self::default();
        for (name, value) in vars {
            let Some(rest) = name.strip_prefix("SENSORCTL_") else { continue };
            let rest = rest.to_ascii_lowercase();
            let Some((section, keys)) = known.iter().find(|(section, _)| {
                rest.strip_prefix(section.as_str()).is_some_and(|key| key.starts_with('_') && key.len() > 1)
            }) else {
                continue;
            };
            let key = &rest[section.len() + 1..];
            if !keys.iter().any(|known| known == key) {
                let names: Vec<&str> = keys.iter().map(String::as_str).collect();
                let hint = did_you_mean(key, &names);
                return Err(ConfigError::new(format!(
                    "environment {name}: unknown setting `{key}` in [{section}]{hint}"
                )));
            }
            overrides.set.push(Setting {
                from: format!("environment {name}"),
                path: format!("{section}.{key}"),
                value,
            });
        }
        Ok(overrides)
    }

    /// Adds a flag of the form `section.key=value`.
    ///
    /// # Errors
    /// If it has another form or names no setting.
    pub fn add_flag(&mut self, flag: &str) -> Result<(), ConfigError> {
        let form = || ConfigError::new(format!("--set {flag}: write section.key=value, for instance log.level=debug"));
        let (path, value) = flag.split_once('=').ok_or_else(form)?;
        self.add(&format!("--set {path}"), path, value)
    }

    /// Adds a setting; `from` names its origin in errors.
    ///
    /// # Errors
    /// If `path` names no setting.
    pub fn add(&mut self, from: &str, path: &str, value: &str) -> Result<(), ConfigError> {
        let known = known();
        let all: Vec<String> =
            known.iter().flat_map(|(section, keys)| keys.iter().map(move |key| format!("{section}.{key}"))).collect();
        if !all.iter().any(|known| known == path) {
            let names: Vec<&str> = all.iter().map(String::as_str).collect();
            return Err(ConfigError::new(format!("{from}: unknown setting `{path}`{}", did_you_mean(path, &names))));
        }
        self.set.push(Setting { from: from.to_owned(), path: path.to_owned(), value: value.to_owned() });
        Ok(())
    }

    /// Whether anything is said of `path`.
    pub fn sets(&self, path: &str) -> bool {
        self.set.iter().any(|setting| setting.path == path)
    }

    /// Lays the settings over a file that has been read as `raw`.
    pub(super) fn apply(&self, text: &str, file: &str, raw: RawNode) -> Result<RawNode, ConfigError> {
        if self.set.is_empty() {
            return Ok(raw);
        }
        let mut table: Table = text.parse().map_err(|error| ConfigError::new(format!("{file}: {error}")))?;
        let mut read = raw;
        for setting in &self.set {
            let (section, key) = setting.path.split_once('.').expect("only known paths are added");
            let place = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(place) = place {
                place.insert(key.to_owned(), value(&setting.value));
            }
            read = table.clone().try_into().map_err(|error: toml::de::Error| {
                ConfigError::new(format!("{}: {}", setting.from, words(error.message())))
            })?;
        }
        Ok(read)
    }
}

/// TOML where it is TOML, else the text itself: nobody quotes twice on a command line.
fn value(text: &str) -> Value {
    format!("v = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("v")).unwrap_or_else(|| text.into())
}

/// Sections with the names of their settings, as the defaults have them.
fn known() -> Vec<(String, Vec<String>)> {
    let table: Table = RawNode::default().to_toml().parse().expect("what we write we can read");
    let sections = table.into_iter().filter_map(|(section, value)| match value {
        Value::Table(keys) => Some((section, keys.into_iter().map(|(key, _)| key).collect())),
        _ => None,
    });
    sections.collect()
}
