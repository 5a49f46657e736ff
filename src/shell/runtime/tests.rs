use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::core::event::Ack;
use crate::core::id::{Channel, NodeId, RegionId};
use crate::core::reading::Reading;
use crate::core::view::{Liveness, View};
use crate::shell::storage::Storage;

/// Long enough for a slow machine; nothing below waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

struct Running {
    handle: NodeHandle,
    task: JoinHandle<Result<StopReason, StopError>>,
}

/// Nodes in this process, on ports that the machine chose.
async fn cluster(names: &[&str]) -> Vec<Running> {
    cluster_on(names, |_| (true, None)).await
}

/// The same, on their ports or not, and on a net within the process or not.
async fn cluster_on(names: &[&str], on: impl Fn(&str) -> (bool, Option<MemoryNet>)) -> Vec<Running> {
    let mut listeners = Vec::new();
    for _ in names {
        listeners.push(transport::listen("peer", "127.0.0.1:0").await.unwrap());
    }
    let addrs: Vec<Addr> = listeners.iter().map(|l| l.local_addr().unwrap().to_string().into()).collect();
    let region = RegionId::new("main").unwrap();
    let ids: Vec<NodeId> = names.iter().map(|name| NodeId::new(name).unwrap()).collect();
    let nodes = listeners.into_iter().enumerate().map(|(i, listener)| {
        let (on_port, net) = on(names[i]);
        let memory = net.map(|net| net.listen(addrs[i].clone()));
        let listener = Listener { tcp: on_port.then_some(listener), memory };
        let mut params = Params::new("lab", ids[i].clone(), region.clone(), addrs[i].clone());
        params.bootstrap = addrs.clone();
        params.initial_voters = BTreeMap::from([(region.clone(), ids.clone())]);
        params.consensus.checkpoint_interval = Duration::from_millis(200);
        let start_with = Start {
            params,
            clock: Clock::default(),
            listener,
            opened: Storage::in_memory(),
            seed: i as u64,
            observer: None,
        };
        let (handle, task) = start(start_with);
        Running { handle, task }
    });
    nodes.collect()
}

#[tokio::test]
async fn nodes_of_one_process_are_linked_in_memory_and_with_others_over_tcp() {
    let net = MemoryNet::beside_tcp();
    // Only in memory the first reaches the second, and only on its port the third.
    let on = |name: &str| (name != "gw-2", (name != "gw-3").then(|| net.clone()));
    let nodes = cluster_on(&["gw-1", "gw-2", "gw-3"], on).await;
    let all = |view: &View| view.members.iter().filter(|member| member.liveness == Liveness::Alive).count() == 3;
    for node in &nodes {
        until(&node.handle, |view| committed(view, 1) && all(view)).await;
    }
    // Whoever has gone from the memory and from the network is refused on both.
    nodes[1].handle.stop().await;
    until(&nodes[0].handle, |view| !all(view)).await;
    for node in nodes {
        node.handle.stop().await;
        node.task.await.unwrap().unwrap();
    }
}

/// Looks at a node until `done` holds.
async fn until(node: &NodeHandle, done: impl Fn(&View) -> bool) -> View {
    let look = async {
        loop {
            let view = node.view().await.unwrap();
            if done(&view) {
                return view;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("it happens in time")
}

fn committed(view: &View, index: u64) -> bool {
    view.group.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.position.index.get() >= index)
}

#[tokio::test]
async fn a_checkpoint_of_so_many_readings_that_it_is_made_beside_its_node_is_committed_and_searched() {
    // Several times what is computed at once, to be made and to be searched.
    const READINGS: usize = 5_000;
    let nodes = cluster(&["gw-1", "gw-2", "gw-3"]).await;
    until(&nodes[0].handle, |view| committed(view, 1)).await;
    let at = nodes[0].handle.clock().now().wall;
    let channel = |n: usize| Channel::new(&format!("t{n}")).unwrap();
    for node in &nodes {
        let readings = (0..READINGS).map(|n| (channel(n), Reading::new(n as f64, at))).collect();
        let put = Command::Put { readings, ack: Ack::Checkpoint };
        let reply = node.handle.ask(put, PATIENCE).await.unwrap();
        assert!(matches!(&reply, Reply::Put { stamps } if stamps.len() == READINGS), "{reply:?}");
    }
    let readings = |view: &View| view.group.checkpoint.as_ref().map(|checkpoint| checkpoint.counts.readings);
    for node in nodes {
        until(&node.handle, |view| readings(view) == Some(3 * READINGS as u64)).await;
        // Whatever is being made meanwhile is made in vain.
        node.handle.stop().await;
        assert_eq!(node.task.await.unwrap().unwrap(), StopReason::Left);
    }
}

#[tokio::test]
async fn three_nodes_over_loopback_share_readings_and_commit_checkpoints() {
    let nodes = cluster(&["gw-1", "gw-2", "gw-3"]).await;
    let mut changes = nodes[2].handle.watch();
    until(&nodes[0].handle, |view| committed(view, 1)).await;
    let reading = Reading::new(21.5, nodes[0].handle.clock().now().wall);
    let channel = Channel::new("temp").unwrap();
    let put = Command::Put { readings: vec![(channel.clone(), reading)], ack: Ack::Peers(2) };
    let reply = nodes[0].handle.ask(put, PATIENCE).await.unwrap();
    assert!(matches!(reply, Reply::Put { .. }), "{reply:?}");
    let arrived = async {
        loop {
            let change = changes.recv().await.unwrap();
            if change.0.channel == channel {
                return change;
            }
        }
    };
    let change = tokio::time::timeout(PATIENCE, arrived).await.unwrap();
    assert_eq!(change.0.origin.as_str(), "gw-1");
    for node in &nodes {
        until(&node.handle, |view| committed(view, 3)).await;
    }
    for node in nodes {
        node.handle.leave().await;
        assert_eq!(node.task.await.unwrap().unwrap(), StopReason::Left);
    }
}

#[tokio::test]
async fn losing_the_leader_costs_an_election_and_nothing_else() {
    let mut nodes = cluster(&["gw-1", "gw-2", "gw-3"]).await;
    let before = until(&nodes[0].handle, |view| committed(view, 1) && view.group.leader.is_some()).await;
    let leader = before.group.leader.unwrap();
    let place = nodes.iter().position(|node| node.handle.params().node == leader).unwrap();
    let lost = nodes.remove(place);
    lost.handle.stop().await;
    lost.task.await.unwrap().unwrap();
    let index = before.group.checkpoint.unwrap().position.index.get();
    let after = until(&nodes[0].handle, |view| {
        committed(view, index + 2) && view.group.leader.as_ref().is_some_and(|l| *l != leader)
    })
    .await;
    assert!(after.group.term > before.group.term);
}
