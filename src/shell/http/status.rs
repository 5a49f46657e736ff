//! `/v1/status`, `/v1/node`, `/v1/sensors`, `/livez`, `/readyz`, `/metrics`.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;

use crate::core::id::Voter;
use crate::core::state::entry::Scope;
use crate::core::time::{Now, Wall};
use crate::core::view::{CheckpointView, Liveness, MemberView, RegionView, Role, View};
use crate::shell::fusion::{Standing, Wanted};
use crate::shell::http::Api;
use crate::shell::http::error::Failure;
use crate::shell::http::model::{CheckpointAge, ClusterRef, FaultRow, NodeStatus, RegionStatus, Sources, Status};
use crate::shell::http::rows::rfc3339;

/// A refused reading from the future is worth a reason for this long.
const FUTURE_REFUSAL_SHOWN: Duration = Duration::from_secs(60);
/// A disk that has not answered for this long is worth a reason.
const DISK_WAIT_MAX: Duration = Duration::from_secs(1);

pub(super) async fn status(State(api): State<Api>) -> Result<Json<Status>, Failure> {
    let (view, now) = api.node.inspect(|node, now| (node.view(now), now)).await?;
    let mut reasons = cluster_reasons(&api, &view, now);
    reasons.extend(own_reasons(&api, &view, now));
    let checkpoint = view.group.checkpoint.as_ref().map(|checkpoint| age(checkpoint, now.wall));
    let nodes: Vec<NodeStatus> = view.members.iter().map(|member| member_status(&api, &view, member, now)).collect();
    let regions =
        view.regions.iter().map(|region| region_status(&view, region, api.node.params().scope, now)).collect();
    // The flat leader, or the top-level one.
    let agreed = view.top.as_ref().unwrap_or(&view.group);
    let checkpoint =
        if view.top.is_some() { agreed.checkpoint.as_ref().map(|at| age(at, now.wall)) } else { checkpoint };
    Ok(Json(Status {
        schema: "sensorctl/status/v1".into(),
        healthy: reasons.is_empty(),
        reasons,
        cluster: ClusterRef {
            name: api.node.params().cluster.clone(),
            id: view.cluster.map(|cluster| cluster.to_string()),
        },
        mode: if view.top.is_some() { "hierarchical" } else { "flat" }.into(),
        leader: agreed.leader.as_ref().map(ToString::to_string),
        term: agreed.term.get(),
        checkpoint,
        nodes,
        regions,
        converged: view.converged,
        answered_by: api.node.params().node.to_string(),
    }))
}

pub(super) async fn node(State(api): State<Api>) -> Result<Json<NodeStatus>, Failure> {
    let (view, now) = api.node.inspect(|node, now| (node.view(now), now)).await?;
    let own = view.members.iter().find(|member| member.node == api.node.params().node);
    Ok(Json(match own {
        Some(member) => member_status(&api, &view, member, now),
        None => own_status(&api, &view, now),
    }))
}

pub(super) async fn sensors(State(api): State<Api>) -> Json<Sources> {
    let (node, sources) = (api.node.params().node.to_string(), (api.sources)());
    Json(Sources { schema: "sensorctl/sensors/v1".into(), node, sources, faults: faults(&api) })
}

/// The own sensors that are faulty.
fn faults(api: &Api) -> Vec<FaultRow> {
    let row = |standing: Standing| FaultRow {
        channel: standing.channel.to_string(),
        fault: standing.verdict.fault.as_str().to_owned(),
        score: standing.verdict.score,
        since: rfc3339(standing.verdict.since),
    };
    api.watcher.standing().into_iter().map(row).collect()
}

/// The process runs and its node answers.
pub(super) async fn livez(State(api): State<Api>) -> Result<&'static str, Failure> {
    api.node.inspect(|_, _| ()).await?;
    Ok("ok\n")
}

/// The node belongs to a cluster and can take readings.
pub(super) async fn readyz(State(api): State<Api>) -> Result<&'static str, Failure> {
    let view = api.node.view().await?;
    match view.cluster {
        Some(_) => Ok("ok\n"),
        None => Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", not_joined(&view))),
    }
}

pub(super) async fn metrics(State(api): State<Api>) -> Result<impl IntoResponse, Failure> {
    let estimates = api.fuser.estimates(&Wanted::default(), false).await?;
    let estimates: Vec<_> = estimates.into_iter().map(|shown| shown.estimate).collect();
    let fusion = crate::shell::telemetry::fusion::text(&estimates, &api.watcher.standing());
    let text = fusion + &api.node.metrics().text(&api.node.view().await?);
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text))
}

fn region_status(view: &View, region: &RegionView, scope: Scope, now: Now) -> RegionStatus {
    let there = || view.members.iter().filter(|member| member.region == region.id);
    let alive = |member: &&MemberView| member.liveness == Liveness::Alive;
    let votes = |member: &&MemberView| {
        region.voters.iter().any(|voter| voter.node == member.node && voter.store == member.store)
    };
    let observers = there().filter(alive).filter(|member| !votes(member)).count() as u64;
    let voters_alive = there().filter(alive).filter(votes).count() as u64;
    // Where what observers say stays in their region, their leader's word is all there is, while it may be alive itself.
    let told = region.observers.filter(|_| scope == Scope::Region && voters_alive > 0);
    let observers_alive = told.unwrap_or(observers);
    RegionStatus {
        id: region.id.to_string(),
        leader: region.leader.as_ref().map(ToString::to_string),
        term: region.term.get(),
        checkpoint: region.checkpoint.as_ref().map(|checkpoint| age(checkpoint, now.wall)),
        alive: voters_alive + observers_alive,
        voters: region.voters.len() as u64,
        voters_alive,
        observers_alive,
        lag_ms: None,
    }
}

fn age(checkpoint: &CheckpointView, now: Wall) -> CheckpointAge {
    CheckpointAge {
        index: checkpoint.position.index.get(),
        hash: checkpoint.position.hash.to_string(),
        age_ms: now.millis_after(checkpoint.taken_at).max(0) as u64,
    }
}

fn member_status(api: &Api, view: &View, member: &MemberView, now: Now) -> NodeStatus {
    let remote = NodeStatus {
        id: member.node.to_string(),
        region: member.region.to_string(),
        liveness: member.liveness.as_str().to_owned(),
        last_heard_ms: member.last_heard.map(|heard| heard.as_millis() as u64),
        clock_offset_ms: member.clock_offset_ms,
        voter: member.voter,
        addr: member.addr.to_string(),
        api: member.api.as_ref().map(ToString::to_string),
        version: member.version.clone(),
        checkpoint_index: member.holds.map(|position| position.index.get()),
        ..NodeStatus::default()
    };
    if member.node != api.node.params().node {
        return remote;
    }
    let own = own_status(api, view, now);
    NodeStatus { voter: remote.voter, addr: remote.addr, api: remote.api, version: remote.version, ..own }
}

/// What a node alone can say of itself.
fn own_status(api: &Api, view: &View, now: Now) -> NodeStatus {
    let params = api.node.params();
    let checkpoint = view.group.checkpoint.as_ref().map(|checkpoint| age(checkpoint, now.wall));
    NodeStatus {
        id: params.node.to_string(),
        region: params.region.to_string(),
        role: Some(view.group.role.as_str().to_owned()),
        leads_top: view.top.as_ref().is_some_and(|top| top.role == Role::Leader),
        term: Some(view.group.term.get()),
        liveness: Liveness::Alive.as_str().to_owned(),
        entries: Some(view.entries as u64),
        checkpoint_index: checkpoint.as_ref().map(|checkpoint| checkpoint.index),
        checkpoint_age_ms: checkpoint.map(|checkpoint| checkpoint.age_ms),
        lag_ms: api.node.metrics().lag_ms(),
        pid: Some(std::process::id()),
        last_heard_ms: Some(0),
        // Of oneself: against the median of the neighbours.
        clock_offset_ms: Some(view.clock_offset_ms.map_or(0, |neighbours| -neighbours)),
        neighbours: Some(neighbours(api, view)),
        voter: false,
        addr: params.addr.to_string(),
        api: params.api.as_ref().map(ToString::to_string),
        version: params.software.clone(),
        reasons: own_reasons(api, view, now),
        faults: faults(api),
    }
}

/// Whom the overlay links this node with.
fn neighbours(api: &Api, view: &View) -> Vec<String> {
    let own = &api.node.params().node;
    let linked = view.members.iter().filter(|member| member.node != *own && member.last_heard.is_some());
    linked.map(|member| member.node.to_string()).collect()
}

/// Whether this very store votes.
fn votes(api: &Api, view: &View) -> bool {
    view.members.iter().any(|member| member.node == api.node.params().node && member.voter)
}

fn not_joined(view: &View) -> String {
    if let Some(why) = &view.refused {
        return format!("refused by its peers: {why}");
    }
    let names: Vec<&str> = view.waiting_for.iter().map(|node| node.as_str()).collect();
    match names.is_empty() {
        true => "not yet a member of a cluster".to_owned(),
        false => format!("waiting for: {}", names.join(", ")),
    }
}

/// What is wrong with the cluster as this node sees it.
fn cluster_reasons(api: &Api, view: &View, now: Now) -> Vec<String> {
    let params = api.node.params();
    if view.cluster.is_none() {
        return vec![format!("{}: {}", params.node, not_joined(view))];
    }
    let mut reasons = Vec::new();
    if view.group.leader.is_none() {
        reasons.push(format!("no leader stands in region {} (term {})", params.region, view.group.term));
    }
    let gone = view.group.voters.iter().filter(|voter| is_gone(view, voter)).count();
    if 2 * gone >= view.group.voters.len() && gone > 0 {
        reasons.push(format!(
            "region {} has lost its majority, {gone} of {} voters are gone, and commits nothing: start them again on their \
             disks (`sensorctl cluster restart NODE`), or, if these are lost for good, `sensorctl cluster recover`",
            params.region,
            view.group.voters.len()
        ));
    }
    let voting = |member: &MemberView| if member.voter { "voter " } else { "" };
    for member in &view.members {
        let heard = member.last_heard.map_or_else(String::new, |heard| format!(", last heard {} ago", seconds(heard)));
        match member.liveness {
            Liveness::Dead => reasons.push(format!("{}{} is dead{heard}", voting(member), member.node)),
            Liveness::Suspect => reasons.push(format!("{}{} is suspect{heard}", voting(member), member.node)),
            Liveness::Left if member.voter => reasons.push(format!("voter {} has left", member.node)),
            Liveness::Left | Liveness::Alive => {}
        }
    }
    for voter in &view.group.voters {
        match view.members.iter().find(|member| member.node == voter.node) {
            None => reasons.push(format!("voter {} has not been seen", voter.node)),
            Some(member) if member.store != voter.store => reasons.push(format!(
                "voter {} lost its data directory: it observes until the leader has replaced its vote",
                voter.node
            )),
            Some(_) => {}
        }
    }
    if !view.in_region {
        reasons.push(format!(
            "region {} is not part of cluster {} (yet): `sensorctl cluster add-region {}` adds it, or correct `region` in \
             the configuration of {}",
            params.region, params.cluster, params.region, params.node
        ));
        return reasons;
    }
    reasons.extend(region_reasons(api, view, now));
    let interval = params.consensus.checkpoint_interval;
    match &view.group.checkpoint {
        None => reasons.push("no checkpoint has been committed yet".to_owned()),
        Some(checkpoint) => {
            let age = Duration::from_millis(now.wall.millis_after(checkpoint.taken_at).max(0) as u64);
            if age > interval * 3 + Duration::from_secs(2) {
                reasons.push(format!("no checkpoint has been committed for {}", seconds(age)));
            }
        }
    }
    reasons
}

/// What is wrong between regions: the top level, and regions that are silent.
fn region_reasons(api: &Api, view: &View, now: Now) -> Vec<String> {
    let Some(top) = &view.top else { return Vec::new() };
    let mut reasons = Vec::new();
    if top.leader.is_none() {
        reasons.push(format!("no top-level leader stands (term {})", top.term));
    }
    let lost: Vec<&RegionView> = view.regions.iter().filter(|region| has_lost_majority(view, region)).collect();
    if 2 * (view.regions.len() - lost.len()) <= view.regions.len() {
        let names: Vec<&str> = lost.iter().map(|region| region.id.as_str()).collect();
        reasons.push(format!(
            "the top level is down and stays down: {} of {} regions have lost most of their top voters ({}); bring those \
             nodes back on their disks, or, if they are gone for good, `sensorctl cluster recover`",
            lost.len(),
            view.regions.len(),
            names.join(", ")
        ));
    }
    let patience = |interval: Duration| interval * 3 + Duration::from_secs(2);
    let stale = |checkpoint: &CheckpointView, interval: Duration| {
        let age = Duration::from_millis(now.wall.millis_after(checkpoint.taken_at).max(0) as u64);
        (age > patience(interval)).then(|| seconds(age))
    };
    let params = api.node.params();
    match &top.checkpoint {
        None => reasons.push("no global checkpoint has been committed yet".to_owned()),
        Some(checkpoint) => reasons.extend(
            stale(checkpoint, params.top.checkpoint_interval)
                .map(|age| format!("no global checkpoint has been committed for {age}")),
        ),
    }
    for region in view.regions.iter().filter(|region| region.id != params.region) {
        match &region.checkpoint {
            None => reasons.push(format!("nothing has been heard from region {} yet", region.id)),
            Some(checkpoint) => reasons.extend(stale(checkpoint, params.consensus.checkpoint_interval).map(|age| {
                format!("region {} has committed nothing new for {age}, as far as is known here", region.id)
            })),
        }
    }
    reasons
}

/// Whether a majority of those who vote for a region at the top are dead, or came back without their disk.
fn has_lost_majority(view: &View, region: &RegionView) -> bool {
    let gone = region.top_voters.iter().filter(|voter| is_gone(view, voter));
    2 * gone.count() >= region.top_voters.len() && !region.top_voters.is_empty()
}

/// Whether a voter is dead, or came back without its disk.
fn is_gone(view: &View, voter: &Voter) -> bool {
    let member = view.members.iter().find(|member| member.node == voter.node);
    member.is_some_and(|member| member.store != voter.store || member.liveness == Liveness::Dead)
}

/// What is wrong with this node itself.
fn own_reasons(api: &Api, view: &View, now: Now) -> Vec<String> {
    let mut reasons = Vec::new();
    if let (true, Some(offset)) = (view.clock_unused, view.clock_offset_ms) {
        reasons.push(format!(
            "the wall clock is {} {} the neighbours' median and is not used: set it right",
            seconds(Duration::from_millis(offset.unsigned_abs())),
            if offset > 0 { "behind" } else { "ahead of" }
        ));
    }
    if view.disk_wait > DISK_WAIT_MAX {
        reasons.push(format!("the disk has not answered for {}", seconds(view.disk_wait)));
    }
    if let Some((_, count, origin)) = view.refused_entries.iter().find(|(why, ..)| *why == "future") {
        let mut known = api.future_refusals.lock().expect("no holder panics");
        if known.0 != *count {
            *known = (*count, now.mono);
        }
        if now.mono.since(known.1) < FUTURE_REFUSAL_SHOWN {
            reasons.push(format!("refuses readings of {origin} from the future ({count} so far): its clock is fast"));
        }
    }
    if let (Some(why), false) = (&api.set_aside, votes(api, view)) {
        reasons.push(format!("its store was corrupt and has been set aside ({why})"));
    }
    for source in (api.sources)().iter().filter(|source| !source.ok) {
        let error = source.error.as_deref().unwrap_or("no reading yet");
        reasons.push(format!("source {} fails: {error}", source.name));
    }
    reasons
}

fn seconds(time: Duration) -> String {
    match time.as_millis() {
        millis @ 0..1000 => format!("{millis} ms"),
        1000..10_000 => format!("{:.1} s", time.as_secs_f64()),
        10_000..600_000 => format!("{} s", time.as_secs()),
        600_000..36_000_000 => format!("{} min", time.as_secs() / 60),
        _ => format!("{} h", time.as_secs() / 3600),
    }
}
