//! What may be done to a local cluster, and how it is undone.
//!
//! Only to the processes, namespaces and disks of the cluster named; everything that was done is undone at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;

use crate::cli::chaos::clients::Recorder;
use crate::cli::cluster::{nodes, process};
use crate::cli::error::CliError;
use crate::cli::home::{LocalCluster, LocalNode};
use crate::core::rng::Rng;

/// A fault by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Fault {
    /// kill -9, and a start some time later
    Kill,
    /// kill -9 of all nodes at once
    Storm,
    /// SIGSTOP, and SIGCONT some time later
    Pause,
    /// Stop in order, and start
    Restart,
    /// Kill, and run for a while with a clock that is off by seconds to an hour
    Clock,
    /// Fill the node's disk, where that is a small file system of its own
    Disk,
    /// Cut the nodes into two groups, where each runs in a network namespace of its own
    Cut,
    /// Cut one direction of one link
    OneWay,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Kill, Self::Storm, Self::Pause, Self::Restart, Self::Clock, Self::Disk, Self::Cut, Self::OneWay];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Storm => "storm",
            Self::Pause => "pause",
            Self::Restart => "restart",
            Self::Clock => "clock",
            Self::Disk => "disk",
            Self::Cut => "cut",
            Self::OneWay => "one-way",
        }
    }
}

/// Largest file system that is filled.
const DISK_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How long a node whose disk is full may take to notice.
const FULL_PATIENCE: Duration = Duration::from_secs(10);
/// How long a killed process may take to end.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// Name of the file that fills a disk.
const BALLAST: &str = "ballast";

/// Does faults to one cluster, one after another, and undoes them.
pub struct Hand {
    nodes: Vec<LocalNode>,
    recorder: Recorder,
    rng: Rng,
    /// How often each was done.
    pub done: BTreeMap<&'static str, u64>,
    cuts: BTreeSet<(String, String)>,
    /// Nodes that run with settings of a fault.
    odd: BTreeSet<String>,
    children: Vec<Child>,
}

impl Hand {
    /// A hand that has done nothing yet.
    pub fn new(cluster: &LocalCluster, recorder: Recorder, rng: Rng) -> Self {
        let (done, cuts, odd) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Self { nodes: cluster.nodes.clone(), recorder, rng, done, cuts, odd, children: Vec::new() }
    }

    /// Why this fault cannot be done here, if it cannot.
    pub fn obstacle(&self, fault: Fault) -> Option<String> {
        match fault {
            Fault::Kill | Fault::Storm | Fault::Pause | Fault::Restart | Fault::Clock => None,
            Fault::Disk => self.small_disks().is_empty().then(|| {
                let most = DISK_BYTES_MAX / 1024 / 1024;
                format!("no node's data directory is a mounted file system of its own of at most {most} MiB")
            }),
            Fault::Cut | Fault::OneWay if self.nodes.len() < 2 => Some("one node has no links".to_owned()),
            Fault::Cut | Fault::OneWay => match self.nodes.iter().find(|node| node.namespace.is_none()) {
                Some(node) => Some(format!(
                    "{} does not run in a network namespace of its own (`namespace` in the cluster's file)",
                    node.id
                )),
                None => Command::new("ip")
                    .arg("-V")
                    .output()
                    .err()
                    .map(|error| format!("`ip` of iproute2 cannot be run: {error}")),
            },
        }
    }

    /// Nodes whose data directory is a small file system of its own: nothing else can be hurt by filling it.
    fn small_disks(&self) -> Vec<LocalNode> {
        let own = |node: &&LocalNode| {
            let data = node.dir.join("data");
            let (Ok(inside), Ok(outside)) = (fs::metadata(&data), fs::metadata(&node.dir)) else { return false };
            inside.dev() != outside.dev() && size_of_disk(&data).is_some_and(|size| size <= DISK_BYTES_MAX)
        };
        self.nodes.iter().filter(own).cloned().collect()
    }

    /// Does a fault, waits for a while, and undoes it.
    ///
    /// # Errors
    /// If it cannot be done or undone: a process that does not start again, for instance.
    pub async fn strike(&mut self, fault: Fault) -> Result<(), CliError> {
        *self.done.entry(fault.as_str()).or_default() += 1;
        self.children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        let victim = self.rng.pick(&self.nodes).expect("a cluster has nodes").clone();
        match fault {
            Fault::Kill => {
                self.kill(&[&victim]).await?;
                self.linger(300, 4000).await;
                self.start(&victim, &[]).await
            }
            Fault::Storm => {
                let all = self.nodes.clone();
                self.kill(&all.iter().collect::<Vec<_>>()).await?;
                self.linger(0, 1000).await;
                self.start_missing().await
            }
            Fault::Pause => {
                self.recorder.deed(fault.as_str(), &[&victim], false);
                process::signal(&victim, libc::SIGSTOP);
                self.linger(200, 6000).await;
                process::signal(&victim, libc::SIGCONT);
                Ok(())
            }
            Fault::Restart => {
                self.recorder.deed(fault.as_str(), &[&victim], false);
                process::stop(&[&victim]).await;
                self.start(&victim, &[]).await
            }
            Fault::Clock => {
                let offsets = [-3_600_000, -20_000, -2000, 2000, 20_000, 3_600_000];
                let offset = *self.rng.pick(&offsets).expect("there are some");
                self.kill(&[&victim]).await?;
                self.odd.insert(victim.id.clone());
                self.start(&victim, &[format!("node.clock_offset={offset}ms")]).await?;
                self.linger(3000, 8000).await;
                self.kill(&[&victim]).await?;
                self.odd.clear();
                self.start(&victim, &[]).await
            }
            Fault::Disk => self.fill().await,
            Fault::Cut => {
                let mut order = self.nodes.clone();
                self.rng.shuffle(&mut order);
                let (few, many) = order.split_at(1 + self.rng.below(order.len() / 2));
                let links = few.iter().flat_map(|a| many.iter().flat_map(move |b| [(a, b), (b, a)]));
                self.recorder.deed(fault.as_str(), &few.iter().collect::<Vec<_>>(), false);
                self.cut(links)?;
                self.linger(1000, 8000).await;
                self.mend()
            }
            Fault::OneWay => {
                let mut order = self.nodes.clone();
                self.rng.shuffle(&mut order);
                self.recorder.deed(fault.as_str(), &[&order[0], &order[1]], false);
                self.cut([(&order[0], &order[1])].into_iter())?;
                self.linger(1000, 8000).await;
                self.mend()
            }
        }
    }

    /// Undoes whatever is still done: everything mended, everybody there.
    ///
    /// # Errors
    /// If a node does not start.
    pub async fn heal(&mut self) -> Result<(), CliError> {
        self.mend()?;
        for node in &self.nodes {
            process::signal(node, libc::SIGCONT);
            let _ = fs::remove_file(node.dir.join("data").join(BALLAST));
        }
        let odd: Vec<&LocalNode> = self.nodes.iter().filter(|node| self.odd.contains(&node.id)).collect();
        process::stop(&odd).await;
        self.start_missing().await
    }

    async fn linger(&mut self, least_ms: u64, most_ms: u64) {
        let (least, most) = (Duration::from_millis(least_ms), Duration::from_millis(most_ms));
        tokio::time::sleep(self.rng.between(least, most)).await;
    }

    async fn kill(&mut self, victims: &[&LocalNode]) -> Result<(), CliError> {
        self.recorder.deed(if victims.len() > 1 { "storm" } else { "kill" }, victims, true);
        for victim in victims {
            process::signal(victim, libc::SIGKILL);
        }
        match process::ended(victims, END_PATIENCE).await {
            true => Ok(()),
            false => Err(CliError::failed("a killed process does not end")),
        }
    }

    async fn start(&mut self, node: &LocalNode, set: &[String]) -> Result<(), CliError> {
        self.children.push(nodes::run_node(node, set).await?);
        Ok(())
    }

    /// Starts all that do not run, together: alone, none of them might become ready.
    async fn start_missing(&mut self) -> Result<(), CliError> {
        let missing: Vec<&LocalNode> =
            self.nodes.iter().filter(|node| process::Processes::running(node).is_none()).collect();
        let started = futures_util::future::try_join_all(missing.iter().map(|node| nodes::run_node(node, &[]))).await?;
        self.children.extend(started);
        Ok(())
    }

    /// Fills a disk until its node notices, and makes room again.
    async fn fill(&mut self) -> Result<(), CliError> {
        let Some(victim) = self.rng.pick(&self.small_disks()).cloned() else { return Ok(()) };
        self.recorder.deed(Fault::Disk.as_str(), &[&victim], true);
        let ballast = victim.dir.join("data").join(BALLAST);
        let mut file = fs::File::create(&ballast)?;
        while file.write_all(&[0x5A; 64 * 1024]).is_ok() {}
        while file.write_all(&[0x5A; 512]).is_ok() {}
        drop(file);
        let noticed = process::ended(&[&victim], FULL_PATIENCE).await;
        fs::remove_file(&ballast)?;
        match noticed {
            true => self.start(&victim, &[]).await,
            // Nothing was written meanwhile that did not fit.
            false => Ok(()),
        }
    }

    fn cut<'a>(&mut self, links: impl Iterator<Item = (&'a LocalNode, &'a LocalNode)>) -> Result<(), CliError> {
        for (from, to) in links {
            let (Some(namespace), Some(host)) = (&from.namespace, host_of(&to.listen)) else { continue };
            ip(namespace, "add", host)?;
            self.cuts.insert((namespace.clone(), host.to_owned()));
        }
        Ok(())
    }

    fn mend(&mut self) -> Result<(), CliError> {
        self.recorder.deed("heal", &[], false);
        while let Some((namespace, host)) = self.cuts.pop_first() {
            ip(&namespace, "del", &host)?;
        }
        Ok(())
    }
}

/// Whatever goes from this namespace to that host is lost without a word to those who wait for it.
fn ip(namespace: &str, verb: &str, host: &str) -> Result<(), CliError> {
    let mut command = Command::new("ip");
    command.args(["-n", namespace, "route", verb, "blackhole"]).arg(format!("{host}/32"));
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(()),
        false => Err(CliError::failed(format!("ip -n {namespace} route {verb} blackhole {host}: {}", said.trim()))),
    }
}

fn host_of(addr: &str) -> Option<&str> {
    addr.rsplit_once(':').map(|(host, _)| host)
}

fn size_of_disk(path: &std::path::Path) -> Option<u64> {
    let path = std::ffi::CString::new(PathBuf::from(path).into_os_string().into_encoded_bytes()).ok()?;
    let mut told = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the path ends with a zero byte, and the struct is as large as the call expects.
    let told = unsafe { (libc::statvfs(path.as_ptr(), told.as_mut_ptr()) == 0).then(|| told.assume_init()) }?;
    Some(told.f_blocks * told.f_frsize)
}
