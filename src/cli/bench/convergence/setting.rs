//! One point of a sweep, and the grid that the command line spans.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How frames travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Real sockets on loopback
    #[default]
    Tcp,
    /// The same nodes and frames in one process, without sockets
    Memory,
    /// The same nodes under virtual time
    Sim,
    /// A model of push alone, for more nodes than fit
    Model,
}

impl Transport {
    /// The word on the command line and in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Memory => "memory",
            Self::Sim => "sim",
            Self::Model => "model",
        }
    }

    /// Whether time is a number that the bench moves, and links are what it is told.
    pub const fn is_virtual(self) -> bool {
        matches!(self, Self::Sim | Self::Model)
    }
}

/// One point of a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// Under virtual time: mean time of a message between nodes of a region, in ms; 0 elsewhere, as the next three.
    #[serde(default)]
    pub link_ms: f64,
    /// The same between regions.
    #[serde(default)]
    pub far_ms: f64,
    /// Messages take up to this share longer than their link's least.
    #[serde(default)]
    pub jitter: f64,
    /// Share of messages that TCP has to send again.
    #[serde(default)]
    pub loss: f64,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} N={}", self.transport.as_str(), self.nodes)?;
        if self.regions > 1 {
            write!(f, " R={}", self.regions)?;
        }
        if self.loss > 0.0 {
            write!(f, " loss {}%", self.loss * 100.0)?;
        }
        match self.transport {
            Transport::Model => Ok(()),
            _ => write!(f, " {}/s", self.rate),
        }
    }
}

impl Setting {
    /// Checks that it can be run at all.
    ///
    /// # Errors
    /// Which value is out of its range.
    pub fn check(&self) -> Result<(), String> {
        let nodes_max = match self.transport {
            Transport::Tcp | Transport::Memory | Transport::Sim => 10_000.0,
            Transport::Model => 5_000_000.0,
        };
        let ranges = [
            ("nodes", self.nodes as f64, 1.0, nodes_max),
            ("loss", self.loss, 0.0, 0.5),
            ("link-ms", self.link_ms, 0.0, 10_000.0),
            ("far-ms", self.far_ms, 0.0, 10_000.0),
            ("jitter", self.jitter, 0.0, 100.0),
            ("regions", self.regions as f64, 1.0, self.nodes as f64),
            ("degree", self.degree as f64, 2.0, 64.0),
            ("rate", self.rate, 0.1, 1_000_000.0),
            ("payload", self.payload as f64, 0.0, 250.0),
            ("processes", self.processes as f64, 0.0, 64.0),
        ];
        if self.transport == Transport::Model && self.regions > 1 {
            return Err("--transport model knows one region".to_owned());
        }
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
        let loss = if transport.is_virtual() { lists.loss.0.as_slice() } else { &[0.0] };
        // The model counts messages and knows no bytes.
        let payload = if transport == Transport::Model { &[0] } else { lists.payload.0.as_slice() };
        for &regions in &lists.regions.0 {
            for &degree in &lists.degree.0 {
                for &loss in loss {
                    for &payload in payload {
                        for &rate in &lists.rate.0 {
                            let sizes = lists.nodes.0.iter();
                            settings.extend(sizes.map(|&nodes| {
                                let processes = lists.processes_of(transport, nodes);
                                let setting = Setting {
                                    nodes,
                                    transport,
                                    regions,
                                    processes,
                                    degree,
                                    rate,
                                    payload,
                                    loss,
                                    ..Setting::default()
                                };
                                lists.with_links(setting)
                            }));
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
    /// Shares of messages lost, under virtual time.
    pub loss: List<f64>,
    /// What links take under virtual time, near and far, in ms, and their jitter.
    pub links: (f64, f64, f64),
}

impl Lists {
    fn processes_of(&self, transport: Transport, nodes: usize) -> usize {
        match (transport, self.processes) {
            (Transport::Tcp, Some(0)) => nodes,
            (Transport::Tcp, Some(processes)) => processes.min(nodes),
            _ => 0,
        }
    }

    fn with_links(&self, setting: Setting) -> Setting {
        let (link_ms, far_ms, jitter) = if setting.transport.is_virtual() { self.links } else { (0.0, 0.0, 0.0) };
        Setting { link_ms, far_ms, jitter, ..setting }
    }
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
            payload: "0,200".parse().unwrap(),
            processes: Some(0),
            loss: "0,0.1".parse().unwrap(),
            links: (1.0, 30.0, 0.1),
        };
        let grid = grid(&[Transport::Tcp, Transport::Memory], &lists);
        assert_eq!(grid.len(), 16);
        assert_eq!((grid[1].nodes, grid[1].rate, grid[1].processes), (10, 100.0, 10));
        assert_eq!((grid[15].to_string().as_str(), grid[15].payload), ("memory N=10 1000/s", 200));
        let simulated = super::grid(&[Transport::Sim], &lists);
        assert_eq!((simulated.len(), simulated[0].link_ms, grid[0].link_ms), (16, 1.0, 0.0), "only virtual links lose");
        let modelled = super::grid(&[Transport::Model], &lists);
        assert!(modelled.len() == 8 && modelled.iter().all(|setting| setting.payload == 0), "a model has no bytes");
        assert_eq!(Setting { rate: 0.0, ..grid[0] }.check().unwrap_err(), "--rate 0 is not between 0.1 and 1000000");
        assert!("3,x".parse::<List<usize>>().unwrap_err().contains("\"x\""));
    }
}
