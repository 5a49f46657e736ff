//! One step of agreement: a voter hears its leader, and answers.
//!
//! `cargo bench --bench consensus`. The step is that of the whole node, from message to effects.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use sensorctl::core::effect::Effect;
use sensorctl::core::event::Event;
use sensorctl::core::hard_state::{HardState, Recovered, StoreIdentity};
use sensorctl::core::hlc::Hlc;
use sensorctl::core::id::{GroupId, LinkId, NodeId, RegionId, Round, StoreId, Term, Voter};
use sensorctl::core::ledger::document::{Document, PROTOCOL_VERSION};
use sensorctl::core::message::Message;
use sensorctl::core::message::agreement::Heartbeat;
use sensorctl::core::message::session::Hello;
use sensorctl::core::node::Node;
use sensorctl::core::params::Params;
use sensorctl::core::time::{Mono, Now, Wall};

fn name(n: u128) -> NodeId {
    NodeId::new(&format!("gw-{n}")).unwrap()
}

/// A voter of three with a link to another, and all it has asked the world for answered.
fn voter(now: Now) -> Node {
    let region = RegionId::new("main").unwrap();
    let voters = (0..3).map(|n| Voter { node: name(n), store: StoreId(n) }).collect();
    let genesis = Document::genesis("bench", BTreeMap::from([(region.clone(), voters)])).unwrap();
    let cluster = genesis.hash();
    let recovered = Recovered {
        cluster: Some(cluster),
        hard: vec![(GroupId::Region(region.clone()), HardState::new(cluster))],
        documents: vec![genesis],
        ..Recovered::default()
    };
    let params = Params::new("bench", name(0), region.clone(), "gw-0:1".into());
    let identity = StoreIdentity { id: StoreId(0), fresh: false };
    let mut node = Node::recover(params, identity, recovered, 1, now);
    let hello = Hello {
        versions: (PROTOCOL_VERSION, PROTOCOL_VERSION),
        cluster: Some(cluster),
        committed: false,
        name: "bench".into(),
        node: name(1),
        store: StoreId(1),
        region,
        start: Hlc::new(now.wall, 0),
        life: 1,
        addr: "gw-1:1".into(),
        software: String::new(),
        wall: now.wall,
    };
    let mut fx = Vec::new();
    handle(&mut node, Event::Wake, now, &mut fx);
    handle(&mut node, Event::LinkUp { link: LinkId(1), dialed: None }, now, &mut fx);
    let hello = Event::Received { link: LinkId(1), message: Box::new(Message::Hello(hello)) };
    handle(&mut node, hello, now, &mut fx);
    node
}

/// Handles an event and answers the writes that come of it.
fn handle(node: &mut Node, event: Event, now: Now, fx: &mut Vec<Effect>) {
    node.handle(event, now, fx);
    while let Some(effect) = fx.pop() {
        if let Effect::Persist { seq, .. } = effect {
            node.handle(Event::Persisted { seq }, now, fx);
        }
    }
}

fn hearing(c: &mut Criterion) {
    let mut now = Now { mono: Mono::from_micros(1_000_000), wall: Wall::from_millis(1_700_000_000_000) };
    let mut node = voter(now);
    let mut round = 0;
    let mut fx = Vec::new();
    c.bench_function("a voter hears a heartbeat and answers", |b| {
        b.iter(|| {
            round += 1;
            now.mono = now.mono + Duration::from_micros(1);
            let heartbeat = Heartbeat {
                group: GroupId::Region(node.params().region.clone()),
                term: Term(1),
                leader: name(1),
                round: Round(round),
                committed: None,
            };
            let event = Event::Received { link: LinkId(1), message: Box::new(Message::Heartbeat(heartbeat)) };
            handle(&mut node, event, now, &mut fx);
            black_box(&fx);
        });
    });
    assert_eq!(node.group().and_then(|group| group.leader().cloned()), Some(name(1)), "it follows whom it hears");
}

criterion_group!(benches, hearing);
criterion_main!(benches);
