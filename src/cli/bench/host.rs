//! What a result must say of where it comes from.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::cli::error::CliError;

/// Machine and build of a measurement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Processor model.
    pub cpu: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Operating system and kernel.
    pub system: String,
    /// Version of this program.
    pub version: String,
    /// `release` or `debug`: the latter's times mean nothing.
    pub build: String,
    /// Revision of the checkout that this program was built in, `-dirty` if it was changed; empty if there is none.
    pub commit: String,
    /// When the measurement began.
    pub started_at: String,
}

impl Host {
    /// This machine and this program, now.
    pub fn here() -> Self {
        use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};
        let what = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        let system = System::new_with_specifics(what).ok();
        let kernel = System::kernel_version().unwrap_or_default();
        Self {
            name: System::host_name().unwrap_or_default(),
            cpu: system.as_ref().and_then(|s| Some(s.cpus().first()?.brand().trim().to_owned())).unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_mib: system.as_ref().map_or(0, System::total_memory) / (1024 * 1024),
            system: format!("{} {kernel}", System::name().unwrap_or_default()).trim().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            commit: commit().unwrap_or_default(),
            started_at: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }
    }

    /// In one line.
    pub fn line(&self) -> String {
        let commit = if self.commit.is_empty() { String::new() } else { format!(", commit {}", self.commit) };
        format!(
            "{} cores of {}, {} MiB, {}; sensorctl {} ({}{commit})",
            self.cores, self.cpu, self.memory_mib, self.system, self.version, self.build
        )
    }
}

/// What a packager said at build time, else what the checkout around the executable says.
fn commit() -> Option<String> {
    if let Some(said) = option_env!("SENSORCTL_COMMIT") {
        return Some(said.to_owned());
    }
    let exe = std::env::current_exe().ok()?;
    let checkout = exe.ancestors().find(|dir| is_own_checkout(dir))?;
    let describe = ["describe", "--always", "--dirty", "--exclude=*"];
    let said = Command::new("git").arg("-C").arg(checkout).args(describe).output().ok()?;
    said.status.success().then(|| String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

fn is_own_checkout(dir: &Path) -> bool {
    let manifest = std::fs::read_to_string(dir.join("Cargo.toml"));
    manifest.is_ok_and(|text| text.lines().any(|line| line.trim() == "name = \"sensorctl\""))
}

/// Lets this process have as many files and connections as it may, which is often fewer than it could.
///
/// # Errors
/// If even the most that it may have is fewer than `wanted`.
pub fn allow_files(wanted: u64) -> Result<(), CliError> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a limit of our own.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 || limit.rlim_cur >= wanted {
        return Ok(());
    }
    if limit.rlim_max < wanted {
        let why = format!(
            "{wanted} open files are needed for so many connections, but this process may have {}",
            limit.rlim_max
        );
        return Err(CliError::failed(why).hint("raise it with `ulimit -Hn` as an administrator"));
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: as above.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    Ok(())
}
