//! A peer that says anything, frame after frame, one a line: a node goes on, whatever it hears.
#![no_main]

use std::collections::BTreeMap;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use sensorctl::core::effect::Effect;
use sensorctl::core::event::Event;
use sensorctl::core::hard_state::{Recovered, StoreIdentity};
use sensorctl::core::id::{LinkId, NodeId, RegionId, StoreId};
use sensorctl::core::message::Message;
use sensorctl::core::node::Node;
use sensorctl::core::params::Params;
use sensorctl::core::time::{Mono, Now, Wall};

/// Said first, so that what follows is heard: the peer votes in the genesis with us.
const HELLO: &str = r#"{"type":"HELLO","versions":[1,1],"name":"lab","node":"gw-2","store":"00000000000000000000000000000002","region":"main","start":[1700000000000,0],"life":1,"addr":"gw-2","software":"0","wall":1700000000000}"#;

fuzz_target!(|script: &[u8]| {
    let main = RegionId::new("main").expect("a name");
    let id = |name: &str| NodeId::new(name).expect("a name");
    let mut params = Params::new("lab", id("gw-1"), main.clone(), "gw-1".into());
    params.initial_voters = BTreeMap::from([(main, vec![id("gw-1"), id("gw-2")])]);
    let mut now = Now { mono: Mono::from_micros(1), wall: Wall::from_millis(1_700_000_000_000) };
    let identity = StoreIdentity { id: StoreId(1), fresh: true };
    let mut node = Node::recover(params, identity, Recovered::default(), 7, now);
    let link = LinkId(1);
    let mut todo = vec![Event::Wake, Event::LinkUp { link, dialed: None }];
    let mut frames = std::iter::once(HELLO.as_bytes()).chain(script.split(|byte| *byte == b'\n').take(64));
    loop {
        while let Some(event) = todo.pop() {
            let mut fx = Vec::new();
            node.handle(event, now, &mut fx);
            for effect in fx {
                match effect {
                    Effect::Persist { seq, .. } => todo.push(Event::Persisted { seq }),
                    Effect::Compute { work } => todo.push(Event::Computed { done: Box::new(work.run()) }),
                    _ => {}
                }
            }
        }
        now.mono = now.mono + Duration::from_millis(20);
        todo.push(Event::Wake);
        match frames.next() {
            None => return,
            Some(frame) => {
                if let Ok(message) = Message::decode(frame) {
                    todo.push(Event::Received { link, message: Box::new(message) });
                }
            }
        }
    }
});
