//! Real processes under faults: twenty seconds in every test run, two minutes in `tools/check`, and as long as
//! `CHAOS=30m cargo test --release --test chaos -- --nocapture` says.
//!
//! Each node runs in a network namespace of its own on a small disk of its own, where the machine lets us make them;
//! where not, the faults that need them are left out, and said to be.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Nodes of the cluster.
const NODES: usize = 5;

#[test]
fn clients_of_a_cluster_under_faults_see_one_ledger_and_lose_nothing() {
    let duration = std::env::var("CHAOS").unwrap_or_else(|_| "20s".to_owned());
    let ground = Ground::prepare();
    ground.ok(&["cluster", "start", "--detach", "--config", &ground.file()]);
    let kept = ground.home.path().join("history.jsonl").display().to_string();
    let output = ground.run(&["chaos", "--duration", &duration, "--history", &kept, "-o", "json"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    eprintln!("{said}");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {said}"));
    eprintln!("{found:#}");
    if !output.status.success() {
        let lasting = std::env::temp_dir().join("sensorctl-chaos-violation.jsonl");
        std::fs::copy(&kept, &lasting).unwrap();
        panic!("what clients saw cannot be explained; their history: {}", lasting.display());
    }
    assert_eq!(found["violations"], Value::Array(Vec::new()));
    let answered = |kind: &str| found["operations"][kind]["answered"].as_u64().unwrap_or(0);
    for kind in ["put disk", "put peers=2", "put checkpoint", "latest", "ledger", "body"] {
        assert!(answered(kind) > 5, "{kind} was never put to the test: {found:#}");
    }
    assert_eq!(answered("held"), NODES as u64, "{found:#}");
    let struck = found["faults"].as_object().unwrap().len() + found["skipped"].as_object().unwrap().len();
    assert!(struck >= 2, "{found:#}");
    ground.ok(&["chaos", "--judge", &kept]);
}

#[test]
fn a_history_with_a_stale_read_is_refused_with_exit_code_1() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("history.jsonl");
    let read = |invoked: u64, index: u64| {
        format!(
            r#"{{"node":"a","invoked_us":{invoked},"answered_us":{},"what":{{"latest":{{"found":{{"index":{index},"hash":"h{index}","parent":"h{}"}}}}}}}}"#,
            invoked + 1,
            index - 1
        )
    };
    std::fs::write(&file, format!("{}\n{}\n", read(1, 4), read(3, 3))).unwrap();
    let output =
        sensorctl(dir.path(), &["chaos", "--judge", &file.display().to_string(), "-o", "json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["violations"][0]["judge"], "linearizable", "{found:#}");
}

fn sensorctl(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sensorctl"));
    command.args(args).env("SENSORCTL_HOME", home.join("home")).env_remove("SENSORCTL_NODE").stdin(Stdio::null());
    command
}

/// Where the cluster stands: namespaces joined by a bridge, disks, and a directory; all gone at the end.
struct Ground {
    home: tempfile::TempDir,
    net: Option<Net>,
    disks: Vec<PathBuf>,
}

impl Ground {
    fn prepare() -> Self {
        let home = tempfile::tempdir().unwrap();
        let net = Net::make();
        if net.is_none() {
            eprintln!("SKIPPED network namespaces: no right to make them here; links are not cut");
        }
        let mut ground = Self { home, net, disks: Vec::new() };
        std::fs::write(ground.file(), ground.config()).unwrap();
        for node in ["gw-1", "gw-2"] {
            let disk = ground.home.path().join("home/clusters/chaos/nodes").join(node).join("data");
            std::fs::create_dir_all(&disk).unwrap();
            let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=48m", "none"]).arg(&disk).output();
            match mount.is_ok_and(|output| output.status.success()) {
                true => ground.disks.push(disk),
                false => eprintln!("SKIPPED a small disk for {node}: no right to mount one here"),
            }
        }
        ground
    }

    fn config(&self) -> String {
        let free = |_| std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let held: Vec<_> = (0..2 * NODES).map(free).collect();
        let port = |i: usize| held[i].local_addr().unwrap().port();
        let mut text = "name = \"chaos\"\n[defaults.consensus]\ncheckpoint_interval = \"500ms\"\n".to_owned();
        for i in 0..NODES {
            let place = match &self.net {
                Some(net) => format!(
                    "listen = \"{}:7401\"\napi = \"{}:7501\"\nnamespace = \"{}\"\n",
                    net.host(i),
                    net.host(i),
                    net.name(i)
                ),
                None => format!("listen = \"127.0.0.1:{}\"\napi = \"127.0.0.1:{}\"\n", port(i), port(NODES + i)),
            };
            write!(text, "[[nodes]]\nid = \"gw-{}\"\n{place}", i + 1).unwrap();
            write!(text, "[[nodes.sources]]\nkind = \"simulated\"\ninterval = \"200ms\"\nseed = {i}\n").unwrap();
        }
        text
    }

    fn file(&self) -> String {
        self.home.path().join("chaos.toml").display().to_string()
    }

    fn run(&self, args: &[&str]) -> Output {
        let said = tempfile::NamedTempFile::new().unwrap();
        let mut command = sensorctl(self.home.path(), args);
        let child = command.stdout(Stdio::piped()).stderr(said.reopen().unwrap()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        Output { stderr: std::fs::read(said.path()).unwrap(), ..output }
    }

    fn ok(&self, args: &[&str]) {
        let output = self.run(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "sensorctl {}: {said}", args.join(" "));
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = self.run(&["cluster", "stop", "--name", "chaos"]);
        for disk in &self.disks {
            let _ = Command::new("umount").arg("-l").arg(disk).output();
        }
    }
}

/// A bridge, and a namespace for each node with one end of a cable to it.
struct Net {
    /// Drawn from the process id, so that two runs do not meet.
    tag: u32,
}

impl Net {
    fn make() -> Option<Self> {
        let net = Self { tag: std::process::id() };
        let bridge = net.bridge();
        let made = ip(&["link", "add", &bridge, "type", "bridge"])
            && ip(&["addr", "add", &format!("{}/24", net.host(253)), "dev", &bridge])
            && ip(&["link", "set", &bridge, "up"])
            && (0..NODES).all(|i| net.add(i));
        // What was made so far goes with `net`.
        made.then_some(net)
    }

    fn add(&self, i: usize) -> bool {
        let (name, cable) = (self.name(i), format!("sc{}-{i}", self.tag % 100_000));
        ip(&["netns", "add", &name])
            && ip(&["link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &name])
            && ip(&["link", "set", &cable, "master", &self.bridge()])
            && ip(&["link", "set", &cable, "up"])
            && ip(&["-n", &name, "addr", "add", &format!("{}/24", self.host(i)), "dev", "eth0"])
            && ip(&["-n", &name, "link", "set", "eth0", "up"])
            && ip(&["-n", &name, "link", "set", "lo", "up"])
    }

    fn name(&self, i: usize) -> String {
        format!("sensorctl-{}-{}", self.tag, i + 1)
    }

    fn bridge(&self) -> String {
        format!("sc{}", self.tag % 100_000)
    }

    fn host(&self, i: usize) -> String {
        format!("10.{}.{}.{}", 64 + self.tag / 256 % 64, self.tag % 256, i + 1)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for i in 0..NODES {
            ip(&["netns", "del", &self.name(i)]);
        }
        ip(&["link", "del", &self.bridge()]);
    }
}

fn ip(args: &[&str]) -> bool {
    Command::new("ip").args(args).stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
}
