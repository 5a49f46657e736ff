//! Errors of commands: a kind that becomes the exit code, words with their causes, perhaps a hint.

use std::error::Error;
use std::fmt::Write as _;

/// What kind of failure: the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It did not work.
    Failed = 1,
    /// It was asked for in a way that makes no sense.
    Usage = 2,
    /// The cluster is not healthy.
    Unhealthy = 3,
    /// Nobody answered, or not in time.
    Unreachable = 4,
    /// A threshold was missed.
    Threshold = 5,
    /// The configuration is wrong.
    Config = 78,
    /// Ctrl-C.
    Interrupted = 130,
}

/// Why a command ended without doing what was asked.
#[derive(Debug)]
pub struct CliError {
    /// The exit code.
    pub kind: Kind,
    /// What went wrong, causes included; empty when everything has been said already.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl CliError {
    /// An error of this kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// It did not work.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// It was asked for in a way that makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Nobody answered, or not in time.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unreachable, message)
    }

    /// Ends with this exit code and says nothing more.
    pub fn silent(kind: Kind) -> Self {
        Self::new(kind, "")
    }

    /// Adds what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An error that says what was tried, with the causes of what came of it.
    pub fn because(what: impl Into<String>, error: &dyn Error) -> Self {
        let mut message = what.into();
        let _ = write!(message, ": {}", chain(error));
        Self::failed(message)
    }
}

/// An error with its causes, each said once.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            let _ = write!(text, ": {more}");
        }
        cause = error.source();
    }
    text
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        // `| head` is not a failure.
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::new(Kind::Failed, BROKEN_PIPE),
            _ => Self::failed(error.to_string()),
        }
    }
}

/// The message of an error that is none: whoever read our output has closed it.
pub const BROKEN_PIPE: &str = "broken pipe";
