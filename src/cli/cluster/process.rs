//! The processes of a local cluster: started apart from the terminal, found again by pid and start time.

use std::fs::{self, OpenOptions};
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use sysinfo::{Pid, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System};

use crate::cli::error::CliError;
use crate::cli::home::{LocalCluster, LocalNode, ProcessRef, read_json, write_json};

/// How long nodes may take to leave before they are killed.
const LEAVE_PATIENCE: Duration = Duration::from_secs(10);
/// Time between looks at processes that are to end.
const LOOK: Duration = Duration::from_millis(20);
/// Start times are told in seconds, and rounded by either side.
const START_SLACK_S: u64 = 2;

/// Starts a node's process in a group of its own, so that Ctrl-C reaches us alone.
///
/// # Errors
/// If it cannot be started.
pub fn spawn(node: &LocalNode, extra: &[String]) -> Result<std::process::Child, CliError> {
    let program = std::env::current_exe()?;
    let log = OpenOptions::new().create(true).append(true).open(node.log_file())?;
    let mut command = Command::new(program);
    command.arg("node").arg("--config").arg(node.config_file());
    for setting in extra {
        command.arg("--set").arg(setting);
    }
    // What is meant for the client must not configure the node.
    for name in ["SENSORCTL_NODE", "SENSORCTL_CONTEXT", "SENSORCTL_OUTPUT"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
    if let Some(namespace) = &node.namespace {
        enter(&mut command, namespace)?;
    }
    let child = command.spawn().map_err(|error| CliError::because("a node's process cannot be started", &error))?;
    let pid = child.id();
    let started = Processes::look(&[pid]).started(pid).unwrap_or_default();
    write_json(&node.pid_file(), &ProcessRef { pid, started })?;
    Ok(child)
}

/// Lets the process begin in a network namespace made by `ip netns add`.
#[cfg(target_os = "linux")]
fn enter(command: &mut Command, namespace: &str) -> Result<(), CliError> {
    let path = Path::new("/run/netns").join(namespace);
    let file = fs::File::open(&path).map_err(|error| {
        CliError::because(format!("network namespace {namespace} cannot be entered"), &error)
            .hint(format!("`ip netns add {namespace}` makes it, as root"))
    })?;
    let enter = move || {
        // SAFETY: a plain system call on a file that is open, between fork and exec.
        match unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: what runs between fork and exec makes one system call and allocates nothing.
    unsafe { command.pre_exec(enter) };
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn enter(_: &mut Command, namespace: &str) -> Result<(), CliError> {
    Err(CliError::usage(format!("network namespace {namespace}: there are none on this system")))
}

/// Processes as they were at one look.
pub struct Processes(System);

impl Processes {
    /// Looks at these processes.
    pub fn look(pids: &[u32]) -> Self {
        let mut system = System::new().expect("an empty system needs nothing");
        let pids: Vec<Pid> = pids.iter().map(|pid| Pid::from_u32(*pid)).collect();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&pids), true, ProcessRefreshKind::nothing());
        Self(system)
    }

    fn started(&self, pid: u32) -> Option<u64> {
        let process = self.0.process(Pid::from_u32(pid))?;
        let ended = matches!(process.status(), ProcessStatus::Zombie | ProcessStatus::Dead);
        (!ended || has_threads(pid)).then(|| process.start_time())
    }

    /// The node's process, if it runs: a pid that somebody else has by now does not count.
    pub fn running(node: &LocalNode) -> Option<u32> {
        let noted: ProcessRef = read_json(&node.pid_file()).ok()??;
        let started = Self::look(&[noted.pid]).started(noted.pid)?;
        (started.abs_diff(noted.started) <= START_SLACK_S).then_some(noted.pid)
    }
}

/// True while more than the first thread of a process is there: that one may have ended before the others, which hold
/// its ports and files until they have, too.
fn has_threads(pid: u32) -> bool {
    fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|threads| threads.count() > 1)
}

/// Sends a signal to the node's process; false if it does not run.
pub fn signal(node: &LocalNode, signal: i32) -> bool {
    let Some(pid) = Processes::running(node) else { return false };
    // SAFETY: plain system call on a process id that was verified above.
    unsafe { libc::kill(pid as i32, signal) == 0 }
}

/// Waits until none of these nodes runs any more; false if one still does at the end of `patience`.
pub async fn ended(nodes: &[&LocalNode], patience: Duration) -> bool {
    let look = async {
        let mut ticks = tokio::time::interval(LOOK);
        while nodes.iter().any(|node| Processes::running(node).is_some()) {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(patience, look).await.is_ok()
}

/// Stops these nodes in order; whoever does not leave in time is killed. Returns the names of those killed.
pub async fn stop(nodes: &[&LocalNode]) -> Vec<String> {
    for node in nodes {
        signal(node, libc::SIGTERM);
    }
    let mut killed = Vec::new();
    if !ended(nodes, LEAVE_PATIENCE).await {
        for node in nodes {
            if signal(node, libc::SIGKILL) {
                killed.push(node.id.clone());
            }
        }
        ended(nodes, LEAVE_PATIENCE).await;
    }
    for node in nodes {
        let _ = fs::remove_file(node.pid_file());
    }
    killed
}

/// Nodes of a cluster that run now, with their process ids.
pub fn running(cluster: &LocalCluster) -> Vec<(&LocalNode, u32)> {
    cluster.nodes.iter().filter_map(|node| Some((node, Processes::running(node)?))).collect()
}

/// The last lines of a file.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// When a process was started, in seconds since 1970.
pub fn start_time(pid: u32) -> Option<u64> {
    Processes::look(&[pid]).started(pid)
}
