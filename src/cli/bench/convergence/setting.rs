//! One point of a sweep, and the grid that the command line spans.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How frames travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Real sockets on loopback
    Tcp,
    /// The same nodes and frames in one process, without sockets
    Memory,
}

impl Transport {
    /// The word on the command line and in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Memory => "memory",
        }
    }
}

/// One point of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// How frames travel.
    pub transport: Transport,
    /// Nodes.
    pub nodes: usize,
    /// Regions; nodes take turns.
    pub regions: usize,
    /// Processes that the nodes run in, with `tcp`; 0 is this one.
    pub processes: usize,
    /// Neighbours kept in the own region.
    pub degree: usize,
    /// Writes a second in the whole cluster.
    pub rate: f64,
    /// Bytes of an update's value; 0 is a reading without a note.
    pub payload: usize,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} N={}", self.transport.as_str(), self.nodes)?;
        if self.regions > 1 {
            write!(f, " R={}", self.regions)?;
        }
        write!(f, " {}/s", self.rate)
    }
}

impl Setting {
    /// Checks that it can be run at all.
    ///
    /// # Errors
    /// Which value is out of its range.
    pub fn check(&self) -> Result<(), String> {
        let ranges = [
            ("nodes", self.nodes as f64, 1.0, 10_000.0),
            ("regions", self.regions as f64, 1.0, self.nodes as f64),
            ("degree", self.degree as f64, 2.0, 64.0),
            ("rate", self.rate, 0.1, 1_000_000.0),
            ("payload", self.payload as f64, 0.0, 250.0),
            ("processes", self.processes as f64, 0.0, 64.0),
        ];
        for (name, value, lo, hi) in ranges {
            if !(lo..=hi).contains(&value) {
                return Err(format!("--{name} {value} is not between {lo} and {hi}"));
            }
        }
        Ok(())
    }
}

/// Every combination, in the order in which it is run.
pub fn grid(transports: &[Transport], lists: &Lists) -> Vec<Setting> {
    let mut settings = Vec::new();
    for &transport in transports {
        for &regions in &lists.regions.0 {
            for &degree in &lists.degree.0 {
                for &payload in &lists.payload.0 {
                    for &rate in &lists.rate.0 {
                        for &nodes in &lists.nodes.0 {
                            let processes = match (transport, lists.processes) {
                                (Transport::Memory, _) | (_, None) => 0,
                                (_, Some(0)) => nodes,
                                (_, Some(processes)) => processes.min(nodes),
                            };
                            settings.push(Setting { transport, nodes, regions, processes, degree, rate, payload });
                        }
                    }
                }
            }
        }
    }
    settings
}

/// What is swept.
pub struct Lists {
    /// Sizes.
    pub nodes: List<usize>,
    /// Numbers of regions.
    pub regions: List<usize>,
    /// Overlay degrees.
    pub degree: List<usize>,
    /// Writes a second.
    pub rate: List<f64>,
    /// Bytes of a value.
    pub payload: List<usize>,
    /// Processes: none is this one, 0 one a node.
    pub processes: Option<usize>,
}

/// Values between commas.
#[derive(Clone, Debug, PartialEq)]
pub struct List<T>(pub Vec<T>);

impl<T: FromStr<Err: fmt::Display>> FromStr for List<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let value = |part: &str| part.trim().replace('_', "").parse().map_err(|error| format!("{part:?}: {error}"));
        text.split(',').map(value).collect::<Result<Vec<T>, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_is_every_combination() {
        let lists = Lists {
            nodes: "3,10".parse().unwrap(),
            regions: "1".parse().unwrap(),
            degree: "6".parse().unwrap(),
            rate: "100, 1_000".parse().unwrap(),
            payload: "0".parse().unwrap(),
            processes: Some(0),
        };
        let grid = grid(&[Transport::Tcp, Transport::Memory], &lists);
        assert_eq!(grid.len(), 8);
        assert_eq!((grid[1].nodes, grid[1].rate, grid[1].processes), (10, 100.0, 10));
        assert_eq!((grid[7].to_string().as_str(), grid[7].rate), ("memory N=10 1000/s", 1000.0));
        assert_eq!(Setting { rate: 0.0, ..grid[0] }.check().unwrap_err(), "--rate 0 is not between 0.1 and 1000000");
        assert!("3,x".parse::<List<usize>>().unwrap_err().contains("\"x\""));
    }
}
