//! `sensorctl status`: what every node says of itself, and one line that says healthy or why not.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::Duration;

use clap::Args;

use crate::cli::Context;
use crate::cli::client::Client;
use crate::cli::error::{CliError, Kind};
use crate::cli::output::{self, Column, Format, Rows, duration_ms, number, or_dash, text};
use crate::shell::http::model::{NodeStatus, Status};

/// How long one node may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the others may take to speak for themselves.
const OWN_PART_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Args)]
pub struct StatusArgs {
    /// Show it again and again
    #[arg(short, long)]
    watch: bool,
    /// Time between looks with --watch, in seconds
    #[arg(long, default_value_t = 1.0, requires = "watch", value_name = "SECONDS")]
    interval: f64,
}

pub async fn run(cx: &Context, args: StatusArgs) -> Result<(), CliError> {
    let client = cx.client()?;
    if !args.watch {
        let status = ask(&client).await?;
        print(cx.format, &status)?;
        return if status.healthy { Ok(()) } else { Err(CliError::silent(Kind::Unhealthy)) };
    }
    if !(0.05..=3600.0).contains(&args.interval) {
        return Err(CliError::usage(format!("--interval {} is not between 0.05 and 3600", args.interval)));
    }
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(args.interval));
    loop {
        ticks.tick().await;
        let shown = ask(&client).await;
        if cx.format.is_for_people() && std::io::stdout().is_terminal() {
            // Home, then clear to the end: less flicker than clearing first.
            print!("\x1b[H\x1b[J");
        }
        match shown {
            Ok(status) => print(cx.format, &status)?,
            Err(error) => eprintln!("{}", error.message),
        }
        std::io::stdout().flush()?;
    }
}

/// One node's view, with each node's own part filled in by itself.
pub async fn ask(client: &Client) -> Result<Status, CliError> {
    let mut status: Status = client.get("/v1/status", PATIENCE).await?;
    let others = status.nodes.iter().filter(|node| node.id != status.answered_by && node.liveness == "alive");
    let addrs = others.filter_map(|node| node.api.clone()).collect();
    let parts: Vec<NodeStatus> = client.ask_all(addrs, "/v1/node", OWN_PART_PATIENCE).await;
    let mut parts: BTreeMap<String, NodeStatus> = parts.into_iter().map(|part| (part.id.clone(), part)).collect();
    for node in &mut status.nodes {
        let Some(part) = parts.remove(&node.id) else { continue };
        status.reasons.extend(part.reasons.iter().map(|reason| format!("{}: {reason}", node.id)));
        node.role = part.role;
        node.leads_top = part.leads_top;
        node.term = part.term;
        node.entries = part.entries;
        node.checkpoint_index = part.checkpoint_index;
        node.checkpoint_age_ms = part.checkpoint_age_ms;
        node.lag_ms = part.lag_ms;
        node.pid = part.pid;
        node.neighbours = part.neighbours;
        node.reasons = part.reasons;
        node.faults = part.faults;
    }
    for region in &mut status.regions {
        let lags = status.nodes.iter().filter(|node| node.region == region.id).filter_map(|node| node.lag_ms);
        region.lag_ms = lags.reduce(f64::max);
    }
    depose_the_silent(&mut status);
    status.reasons.dedup();
    status.healthy = status.reasons.is_empty();
    Ok(status)
}

/// A leader that is gone, or says itself that it does not lead, leads no more, whatever others have heard last.
fn depose_the_silent(status: &mut Status) {
    let Some(leader) = status.leader.clone() else { return };
    let hierarchical = status.mode == "hierarchical";
    let leads = |node: &NodeStatus| if hierarchical { node.leads_top } else { node.role.as_deref() == Some("leader") };
    // One that is alive and did not answer in time may well lead.
    let silent = |node: &NodeStatus| node.role.is_none() && node.liveness == "alive";
    if !status.nodes.iter().any(|node| node.id == leader && (leads(node) || silent(node))) {
        let what = if hierarchical { "top-level leader" } else { "leader" };
        status.reasons.push(format!("no {what} stands: {leader}, the last one heard of, does not lead"));
        status.leader = None;
    }
}

/// Faulty sensors that are named; `sensorctl sensors` names all of a node.
const FAULTS_SHOWN: usize = 8;

const COLUMNS: &[Column] = &[
    text("node"),
    text("region"),
    text("role"),
    number("term"),
    text("liveness"),
    number("entries"),
    number("checkpoint"),
    number("age"),
    number("lag"),
    number("heard"),
    number("clock"),
    text("voter").wide(),
    text("peers at").wide(),
    text("api at").wide(),
    number("pid").wide(),
    text("version").wide(),
    text("neighbours").wide(),
];
/// Neighbours that are named; `-o json` names all.
const NEIGHBOURS_SHOWN: usize = 8;

/// Prints a status.
pub fn print(format: Format, status: &Status) -> Result<(), CliError> {
    if !format.is_for_people() {
        return output::print(format, status, &status.nodes, || all_rows(status));
    }
    let mut out = anstream::stdout().lock();
    writeln!(out, "{}\n", summary(status))?;
    if status.mode == "hierarchical" {
        writeln!(out, "{}", tree(status, format == Format::Wide))?;
    } else {
        writeln!(out, "{}\n", all_rows(status).to_table(format == Format::Wide))?;
    }
    let faults = status.nodes.iter().flat_map(|node| node.faults.iter().map(move |fault| (node, fault)));
    let faults: Vec<String> = faults.map(|(node, f)| format!("{}:{} ({})", node.id, f.channel, f.fault)).collect();
    if !faults.is_empty() {
        let more = if faults.len() > FAULTS_SHOWN { ", …" } else { "" };
        let shown = faults.iter().take(FAULTS_SHOWN).cloned().collect::<Vec<_>>().join(", ");
        writeln!(out, "{} faulty sensors: {shown}{more}", faults.len())?;
    }
    if status.healthy {
        writeln!(out, "\x1b[32mhealthy\x1b[0m")?;
    } else {
        writeln!(out, "\x1b[1;31munhealthy\x1b[0m: {}", status.reasons.join("\n           "))?;
    }
    Ok(())
}

/// Nodes of one region that are listed one by one; beyond, only its leader and those something is wrong with.
const LISTED: usize = 12;

/// Regions with their leaders and newest checkpoints, and under each its nodes.
fn tree(status: &Status, wide: bool) -> String {
    let mut text = String::new();
    for region in &status.regions {
        let leads = status.nodes.iter().any(|node| node.leads_top && node.region == region.id);
        let crown = if leads { "  \x1b[33mleads the top\x1b[0m" } else { "" };
        let leader = match &region.leader {
            Some(leader) => format!("leader \x1b[1m{leader}\x1b[0m in term {}", region.term),
            None => "\x1b[31mno leader\x1b[0m".to_owned(),
        };
        let checkpoint = region.checkpoint.as_ref().map_or_else(
            || "no checkpoint".to_owned(),
            |at| format!("checkpoint {} {} ago", at.index, duration_ms(at.age_ms)),
        );
        let lag = region.lag_ms.map(|lag| format!(", lag {}", duration_ms(lag as u64))).unwrap_or_default();
        let _ = writeln!(
            text,
            "\x1b[1m{}\x1b[0m  {leader}, {checkpoint}, voters {}/{}, observers {}{lag}{crown}",
            region.id, region.voters_alive, region.voters, region.observers_alive
        );
        let all: Vec<&NodeStatus> = status.nodes.iter().filter(|node| node.region == region.id).collect();
        let notable = |node: &NodeStatus| Some(&node.id) == region.leader.as_ref() || node.liveness != "alive";
        let shown: Vec<&NodeStatus> =
            all.iter().filter(|node| wide || all.len() <= LISTED || notable(node)).copied().collect();
        let table = rows(status, &shown).to_table(wide);
        table.lines().for_each(|line| {
            let _ = writeln!(text, "  {line}");
        });
        if shown.len() < all.len() {
            let _ = writeln!(text, "  … and {} more, all alive; `-o wide` lists them", all.len() - shown.len());
        }
        let _ = writeln!(text);
    }
    let placed = |node: &&NodeStatus| !status.regions.iter().any(|region| region.id == node.region);
    let homeless: Vec<&NodeStatus> = status.nodes.iter().filter(placed).collect();
    if !homeless.is_empty() {
        let table = rows(status, &homeless).to_table(wide);
        let _ = writeln!(text, "in no region of the cluster\n{table}\n");
    }
    text
}

/// Who leads, since when, and how far agreement and repair have come.
fn summary(status: &Status) -> String {
    let id = status.cluster.id.as_ref().map_or_else(|| "not formed yet".to_owned(), |id| id[..12].to_owned());
    let mut line = format!("cluster \x1b[1m{}\x1b[0m ({id}), {}", status.cluster.name, status.mode);
    match &status.leader {
        Some(leader) => {
            let what = if status.mode == "hierarchical" { "top-level leader" } else { "leader" };
            let _ = write!(line, ", {what} \x1b[1m{leader}\x1b[0m in term {}", status.term);
        }
        None => {
            let _ = write!(line, ", \x1b[31mno leader\x1b[0m in term {}", status.term);
        }
    }
    if let Some(checkpoint) = &status.checkpoint {
        let age = duration_ms(checkpoint.age_ms);
        let what = if status.mode == "hierarchical" { "global checkpoint" } else { "checkpoint" };
        let _ = write!(line, ", {what} {} ({}) {age} ago", checkpoint.index, &checkpoint.hash[..12]);
    }
    if let Some(converged) = status.converged {
        let _ = write!(line, ", {:.0}% converged", converged * 100.0);
    }
    line
}

fn all_rows(status: &Status) -> Rows {
    rows(status, &status.nodes.iter().collect::<Vec<_>>())
}

fn rows(status: &Status, nodes: &[&NodeStatus]) -> Rows {
    let mut rows = Rows::new(COLUMNS);
    for node in nodes {
        let own = node.id == status.answered_by;
        rows.push(vec![
            node.id.clone(),
            node.region.clone(),
            or_dash(node.role.clone()),
            or_dash(node.term),
            node.liveness.clone(),
            or_dash(node.entries),
            or_dash(node.checkpoint_index),
            or_dash(node.checkpoint_age_ms.map(duration_ms)),
            or_dash(node.lag_ms.map(|lag| duration_ms(lag as u64))),
            if own { "here".into() } else { or_dash(node.last_heard_ms.map(duration_ms)) },
            or_dash(node.clock_offset_ms.map(|offset| format!("{offset:+} ms"))),
            if node.voter { "yes".into() } else { "no".into() },
            node.addr.clone(),
            or_dash(node.api.clone()),
            or_dash(node.pid),
            node.version.clone(),
            or_dash(node.neighbours.as_deref().map(named)),
        ]);
    }
    rows
}

fn named(neighbours: &[String]) -> String {
    let (shown, more) = neighbours.split_at(neighbours.len().min(NEIGHBOURS_SHOWN));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    format!("{}{more}", shown.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_neighbours_are_named_and_the_others_counted() {
        let names = |n: usize| (1..=n).map(|n| format!("gw-{n}")).collect::<Vec<_>>();
        assert_eq!(named(&names(0)), "");
        assert_eq!(named(&names(2)), "gw-1 gw-2");
        assert_eq!(named(&names(10)), "gw-1 gw-2 gw-3 gw-4 gw-5 gw-6 gw-7 gw-8 and 2 more");
    }
}
