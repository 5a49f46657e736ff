//! What clients of a cluster saw: every operation with when it was asked and answered, by one clock.
//!
//! A history is a file of JSON lines, so that a violation can be judged again, and by others.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cli::error::CliError;

/// A key that the clients write: the node, and the channel there.
pub type Key = (String, String);

/// One operation of one client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Op {
    /// The node asked.
    pub node: String,
    /// When it was asked, in microseconds of one monotonic clock.
    pub invoked_us: u64,
    /// When the answer was there; absent if there was none, so that it may have worked or not, or may yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_us: Option<u64>,
    /// What was asked, with the answer.
    pub what: What,
}

/// What was asked, with the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Write a value that is larger than any that this key had before.
    Put { channel: String, value: u64, ack: Level },
    /// The newest committed checkpoint, confirmed by a quorum after the question came.
    Latest { found: Option<Place> },
    /// The newest part of the ledger that a node has on disk, newest first.
    Ledger { rows: Vec<Place> },
    /// The clients' own keys in a committed checkpoint.
    Body { index: u64, values: Vec<(String, String, u64)> },
    /// The clients' own keys as a node holds them once all is whole.
    Held { values: Vec<(String, String, u64)> },
}

/// How safe an acknowledged write is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Survives nothing.
    Memory,
    /// Survives a crash of its node.
    Disk,
    /// Is held by two other nodes.
    Peers,
    /// Is in a committed checkpoint.
    Checkpoint,
}

impl Level {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Memory, Self::Disk, Self::Peers, Self::Checkpoint];

    /// As the API calls it.
    pub const fn ack(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Peers => "peers=2",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// A checkpoint as a client saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its place in the ledger.
    pub index: u64,
    /// Its identity.
    pub hash: String,
    /// The one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
}

/// Something that was done to the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deed {
    /// When, by the clock of the operations.
    pub at_us: u64,
    /// Which fault, or `heal`.
    pub fault: String,
    /// To whom.
    pub nodes: Vec<String>,
    /// True if processes ended by it without a chance to write anything.
    pub crash: bool,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// In the order in which they ended.
    pub ops: Vec<Op>,
    /// In the order in which they were done.
    pub deeds: Vec<Deed>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Op(Op),
    Deed(Deed),
}

impl History {
    /// Writes it down, one JSON object a line.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), CliError> {
        let failed = |error: std::io::Error| CliError::because(format!("cannot write {}", path.display()), &error);
        let mut file = BufWriter::new(std::fs::File::create(path).map_err(failed)?);
        let deeds = self.deeds.iter().cloned().map(Line::Deed);
        for line in deeds.chain(self.ops.iter().cloned().map(Line::Op)) {
            serde_json::to_writer(&mut file, &line).map_err(|error| failed(error.into()))?;
            file.write_all(b"\n").map_err(failed)?;
        }
        file.flush().map_err(failed)
    }

    /// Reads one that was written down.
    ///
    /// # Errors
    /// If the file cannot be read, or a line is none of a history.
    pub fn load(path: &Path) -> Result<Self, CliError> {
        let failed = |error: std::io::Error| CliError::because(format!("cannot read {}", path.display()), &error);
        let mut history = Self::default();
        for (number, line) in BufReader::new(std::fs::File::open(path).map_err(failed)?).lines().enumerate() {
            match serde_json::from_str(&line.map_err(failed)?) {
                Ok(Line::Op(op)) => history.ops.push(op),
                Ok(Line::Deed(deed)) => history.deeds.push(deed),
                Err(error) => {
                    let place = format!("{}:{} is no line of a history", path.display(), number + 1);
                    return Err(CliError::because(place, &error));
                }
            }
        }
        Ok(history)
    }

    /// How many operations of each kind were answered, and how many were not.
    pub fn counts(&self) -> BTreeMap<&'static str, (u64, u64)> {
        let mut counts: BTreeMap<&'static str, (u64, u64)> = BTreeMap::new();
        for op in &self.ops {
            let (answered, open) = counts.entry(op.what.kind()).or_default();
            *(if op.answered_us.is_some() { answered } else { open }) += 1;
        }
        counts
    }
}

impl What {
    /// Its name in summaries.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Put { ack: Level::Memory, .. } => "put memory",
            Self::Put { ack: Level::Disk, .. } => "put disk",
            Self::Put { ack: Level::Peers, .. } => "put peers=2",
            Self::Put { ack: Level::Checkpoint, .. } => "put checkpoint",
            Self::Latest { .. } => "latest",
            Self::Ledger { .. } => "ledger",
            Self::Body { .. } => "body",
            Self::Held { .. } => "held",
        }
    }
}
