//! A cluster of real processes on ports of its own, in a directory of its own, gone at the end of the test.

#![allow(clippy::disallowed_methods, reason = "patience with real processes is real time")]

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Long enough for a slow machine under load; nothing waits for it when all is well.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Cluster {
    pub home: tempfile::TempDir,
    pub peers: Vec<String>,
    pub apis: Vec<String>,
}

/// Addresses that are free, and stay so: below the ports that systems draw for outgoing connections, or a redial to a
/// dead node could take that node's own port; and each given out once.
pub fn free(count: usize) -> Vec<String> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 97) as u16 * 128;
    let draw = || format!("127.0.0.1:{}", 20_000 + (first - 20_000 + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_500);
    std::iter::repeat_with(draw).filter(|addr| TcpListener::bind(addr).is_ok()).take(count).collect()
}

impl Cluster {
    /// Three nodes, healthy, with checkpoints every 300 ms and one simulated temperature each.
    pub fn start() -> Self {
        let cluster = Self::prepare();
        cluster.ok(&["cluster", "start", "--detach", "--config", &cluster.file()]);
        cluster
    }

    /// Written down, not yet started.
    pub fn prepare() -> Self {
        let home = tempfile::tempdir().unwrap();
        let addrs = free(6);
        let (peers, apis) = (addrs[..3].to_vec(), addrs[3..].to_vec());
        let mut text = "name = \"test\"\n[defaults.consensus]\ncheckpoint_interval = \"300ms\"\n\
                        voter_replace_after = \"2s\"\n"
            .to_owned();
        for i in 0..3 {
            let (id, listen, api) = (i + 1, &peers[i], &apis[i]);
            write!(text, "[[nodes]]\nid = \"gw-{id}\"\nlisten = \"{listen}\"\napi = \"{api}\"\n").unwrap();
            write!(text, "[[nodes.sources]]\nkind = \"simulated\"\ninterval = \"100ms\"\nseed = {id}\n").unwrap();
        }
        std::fs::write(home.path().join("test.toml"), text).unwrap();
        Self { home, peers, apis }
    }

    pub fn file(&self) -> String {
        self.home.path().join("test.toml").display().to_string()
    }

    pub fn dir(&self, node: &str) -> PathBuf {
        self.home.path().join("home/clusters/test/nodes").join(node)
    }

    pub fn log(&self, node: &str) -> String {
        std::fs::read_to_string(self.dir(node).join("log")).unwrap_or_default()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sensorctl"));
        command.args(args).env("SENSORCTL_HOME", self.home.path().join("home")).env_remove("SENSORCTL_NODE");
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command to its end. One that does not end is killed, and the test fails with what it said.
    pub fn run(&self, args: &[&str]) -> Output {
        let said = tempfile::NamedTempFile::new().unwrap();
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(said.reopen().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let output = runtime.block_on(async {
            let mut command = tokio::process::Command::from(command);
            let child = command.kill_on_drop(true).spawn().unwrap();
            tokio::time::timeout(PATIENCE, child.wait_with_output()).await
        });
        let stderr = std::fs::read(said.path()).unwrap();
        match output {
            Ok(output) => Output { stderr, ..output.unwrap() },
            Err(_) => {
                let end = String::from_utf8_lossy(&stderr[stderr.len().saturating_sub(4000)..]).into_owned();
                panic!("sensorctl {}: did not end\n{end}", args.join(" "))
            }
        }
    }

    /// Runs a command that must succeed, and gives what it printed.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "sensorctl {}: {}\n{out}{err}", args.join(" "), output.status);
        out.into_owned()
    }

    /// Runs a command that must end with this code, and gives what it said.
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "sensorctl {}: {said}", args.join(" "));
        said
    }

    /// JSON of a command, whatever its exit code says.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["-o", "json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
            panic!("sensorctl {}: no JSON: {}", args.join(" "), String::from_utf8_lossy(&output.stderr))
        })
    }

    /// Looks until `done` gives something.
    pub fn until<T>(&self, what: &str, mut done: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = done() {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: not within {} s\n{}", PATIENCE.as_secs(), self.logs());
        }
    }

    fn logs(&self) -> String {
        let tail = |node: &str| {
            let log = self.log(node);
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains("committed group")).collect();
            format!("--- {node}\n{}\n", lines[lines.len().saturating_sub(15)..].join("\n"))
        };
        ["gw-1", "gw-2", "gw-3"].map(tail).concat()
    }

    /// The status as this node sees it, if it answers.
    pub fn status_of(&self, node: &str) -> Option<Value> {
        let output = self.run(&["status", "--node", node, "-o", "json"]);
        serde_json::from_slice(&output.stdout).ok()
    }

    /// The checkpoints that a node has committed, oldest first, as (index, hash).
    pub fn ledger(&self, node: &str) -> Vec<(u64, String)> {
        let rows = self.json(&["checkpoint", "ls", "--limit", "10000", "--node", node]);
        let mut ledger: Vec<(u64, String)> = rows["checkpoints"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (row["index"].as_u64().unwrap(), row["hash"].as_str().unwrap().to_owned()))
            .collect();
        ledger.reverse();
        ledger
    }

    pub fn leader(&self) -> String {
        self.until("a leader stands", || Some(self.json(&["status"])["leader"].as_str()?.to_owned()))
    }

    /// The newest committed index that this node knows.
    pub fn index(&self, node: &str) -> u64 {
        self.ledger(node).last().map_or(0, |(index, _)| *index)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.run(&["cluster", "destroy", "--yes", "--name", "test"]);
    }
}

/// Whether `longer` begins with all of `shorter`.
pub fn extends(longer: &[(u64, String)], shorter: &[(u64, String)]) -> bool {
    longer.len() >= shorter.len() && longer[..shorter.len()] == *shorter
}
