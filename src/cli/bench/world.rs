//! Where the groups of a benchmark run: in real processes, or as the same nodes under virtual time.

use clap::Args;
use serde::Serialize;

use crate::cli::bench::convergence::List;
use crate::cli::bench::crew::{CrewPlan, Place};
use crate::sim::crowd::{Links, Plan};

/// The world, as the command line tells it.
#[derive(Args, Clone, Debug)]
pub struct WorldArgs {
    /// Real processes, or the same nodes under virtual time
    #[arg(long, value_enum, default_value = "tcp")]
    pub transport: Transport,
    /// Mean time of a message between nodes of a region under virtual time, in ms; links differ by half of it either way
    #[arg(long, default_value_t = 1.0, value_name = "MS")]
    pub link_ms: f64,
    /// The same between regions; several are measured one after another
    #[arg(long, default_value = "30", value_name = "MS,...")]
    pub far_ms: List<f64>,
    /// Time of a durable write under virtual time, in ms
    #[arg(long, default_value_t = 2.0, value_name = "MS")]
    pub disk_ms: f64,
}

/// Where the nodes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Real processes over loopback, with their stores
    Tcp,
    /// The same nodes under virtual time
    Sim,
}

impl Transport {
    /// The word on the command line and in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Sim => "sim",
        }
    }
}

impl WorldArgs {
    /// How many settings are measured.
    pub fn settings(&self) -> usize {
        match self.transport {
            Transport::Tcp => 1,
            Transport::Sim => self.far_ms.0.len(),
        }
    }

    /// `regions` of `nodes` voters each under virtual time, so far apart.
    pub fn plan(&self, nodes: u32, regions: u32, far_ms: f64, seed: u64) -> Plan {
        let us = |ms: f64| (ms * 1000.0) as u64;
        Plan {
            nodes: (nodes * regions) as usize,
            regions: regions as usize,
            voters: nodes as usize,
            degree: 6,
            links: Links { near_us: us(self.link_ms), far_us: us(far_ms), jitter: 0.1, loss: 0.0 },
            disk_us: us(self.disk_ms),
            seed,
        }
    }
}

/// The same in real processes that tell of their agreement, with a global checkpoint every so often or at the default.
pub fn crew(nodes: u32, regions: u32, top_checkpoint_ms: Option<u64>) -> CrewPlan {
    let all = (nodes * regions) as usize;
    CrewPlan {
        nodes: all,
        regions: regions as usize,
        place: Place::Processes(all),
        voters: nodes as usize,
        checkpoint_ms: 5000,
        top_checkpoint_ms,
        marks: true,
        background_ms: Some(100),
        degree: None,
    }
}

/// Three regions of three, for tests: links within a region take a millisecond.
#[cfg(test)]
pub fn three_regions(far_us: u64, jitter: f64, disk_us: u64, seed: u64) -> Plan {
    let links = Links { near_us: 1_000, far_us, jitter, loss: 0.0 };
    Plan { nodes: 9, regions: 3, voters: 3, degree: 6, links, disk_us, seed }
}
