//! `sensorctl doctor`: what is wrong with this machine or cluster, and what to do.

use clap::Args;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::error::{CliError, Kind};
use crate::cli::output::{self, Column, Rows, text};
use crate::cli::status;

#[derive(Args)]
pub struct DoctorArgs {}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    ok: bool,
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Finding {
    check: &'static str,
    ok: bool,
    what: String,
}

pub async fn run(cx: &Context, _: DoctorArgs) -> Result<(), CliError> {
    let mut findings = vec![open_files(), home(cx)];
    match cx.client() {
        Err(error) => findings.push(Finding { check: "cluster", ok: false, what: error.message }),
        Ok(client) => match status::ask(&client).await {
            Err(error) => findings.push(Finding { check: "cluster", ok: false, what: error.message }),
            Ok(status) => {
                let clocks =
                    status.nodes.iter().filter_map(|node| node.clock_offset_ms).map(i64::abs).max().unwrap_or(0);
                findings.push(Finding {
                    check: "clocks",
                    ok: clocks < 1000,
                    what: format!("largest offset between two nodes is {clocks} ms"),
                });
                let versions: std::collections::BTreeSet<&str> =
                    status.nodes.iter().map(|node| node.version.as_str()).collect();
                let what = format!("versions in use: {}", versions.iter().copied().collect::<Vec<_>>().join(", "));
                findings.push(Finding { check: "versions", ok: versions.len() <= 1, what });
                let what = if status.healthy { "healthy".to_owned() } else { status.reasons.join("; ") };
                findings.push(Finding { check: "cluster", ok: status.healthy, what });
            }
        },
    }
    let report = Report { schema: "sensorctl/doctor/v1", ok: findings.iter().all(|finding| finding.ok), findings };
    const COLUMNS: &[Column] = &[text("check"), text("verdict"), text("finding")];
    output::print(cx.format, &report, &report.findings, || {
        let mut rows = Rows::new(COLUMNS);
        for finding in &report.findings {
            let verdict = if finding.ok { "ok" } else { "wrong" };
            rows.push(vec![finding.check.to_owned(), verdict.to_owned(), finding.what.clone()]);
        }
        rows
    })?;
    if report.ok { Ok(()) } else { Err(CliError::silent(Kind::Unhealthy)) }
}

/// Links and clients need a descriptor each.
fn open_files() -> Finding {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live `rlimit` that the call fills in.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0;
    let what = format!("{} files may be open; a node with clients may need 2000 (`ulimit -n`)", limit.rlim_cur);
    Finding { check: "open files", ok: !known || limit.rlim_cur >= 1024, what }
}

fn home(cx: &Context) -> Finding {
    let dir = cx.home.cluster_dir("probe");
    let probe = dir.parent().map(std::fs::create_dir_all);
    match probe {
        Some(Err(error)) => Finding { check: "home", ok: false, what: format!("{}: {error}", dir.display()) },
        _ => Finding { check: "home", ok: true, what: "local clusters can be written".to_owned() },
    }
}
