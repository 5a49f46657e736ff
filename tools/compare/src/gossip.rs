//! chitchat: three nodes in this process over UDP on loopback, told of changes by their own events.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use chitchat::transport::UdpTransport;
use chitchat::{ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, ProtocolVersion, spawn_chitchat};

use crate::Effort;
use crate::pubsub::READERS;
use crate::systems::System;

/// Nodes that gossip.
pub struct Chitchat {
    runtime: tokio::runtime::Runtime,
    nodes: Vec<ChitchatHandle>,
    seen: Receiver<(u64, usize, Instant)>,
    next: u64,
    /// Values of a round: few when the interval is long.
    writes: u64,
    interval: Duration,
}

impl Chitchat {
    /// Starts the nodes; `gossip` is the interval between their rounds.
    pub fn start(gossip: Duration, port: u16) -> Result<Self, String> {
        let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
        let (tell, seen) = channel();
        let addr = |i: usize| SocketAddr::from(([127, 0, 0, 1], port + i as u16));
        let mut nodes = Vec::new();
        for i in 0..READERS {
            let config = ChitchatConfig {
                chitchat_id: ChitchatId::new(format!("n{i}"), 0, addr(i)),
                cluster_id: "compare".to_owned(),
                gossip_interval: gossip,
                listen_addr: addr(i),
                seed_nodes: vec![addr(0).to_string()],
                failure_detector_config: FailureDetectorConfig::default(),
                marked_for_deletion_grace_period: Duration::from_secs(3600),
                catchup_callback: None,
                extra_liveness_predicate: None,
                protocol_version: ProtocolVersion::V1,
            };
            let node = runtime
                .block_on(spawn_chitchat(config, Vec::new(), &UdpTransport))
                .map_err(|error| error.to_string())?;
            let tell = tell.clone();
            let heard = runtime.block_on(node.with_chitchat(|chitchat| {
                let tell = tell.clone();
                chitchat.subscribe_event("value", move |event| {
                    if let Some(number) = event.value.split('#').nth(1).and_then(|text| text.parse().ok()) {
                        let _ = tell.send((number, i, Instant::now()));
                    }
                })
            }));
            heard.forever();
            nodes.push(node);
        }
        // Until they have met: some rounds.
        std::thread::sleep(gossip * 8 + Duration::from_millis(500));
        let fast = gossip < Duration::from_millis(100);
        let (writes, interval) = if fast { (100, Duration::from_millis(50)) } else { (8, gossip * 3 / 2) };
        Ok(Self { runtime, nodes, seen, next: 1, writes, interval })
    }
}

impl System for Chitchat {
    fn round(&mut self, effort: Effort) -> Result<Vec<u64>, String> {
        let mut times = Vec::new();
        for _ in 0..self.writes {
            let number = self.next;
            self.next += 1;
            let value = format!("#{number}#{}", "x".repeat(effort.payload));
            // Not in step with the rounds, which would favour or punish every value alike.
            std::thread::sleep(self.interval + self.interval.mul_f64((number * 37 % 100) as f64 / 100.0));
            let sent = Instant::now();
            self.runtime.block_on(
                self.nodes[0].with_chitchat(|chitchat| chitchat.self_node_state().set("value", value.as_str())),
            );
            let (mut missing, mut last) = (BTreeSet::from([1, 2]), sent);
            while !missing.is_empty() {
                let patience = Duration::from_secs(30);
                let (seen, node, at) =
                    self.seen.recv_timeout(patience).map_err(|_| format!("value {number} did not arrive"))?;
                if seen == number && missing.remove(&node) {
                    last = last.max(at);
                }
            }
            times.push(last.duration_since(sent).as_micros() as u64);
        }
        Ok(times)
    }
}
