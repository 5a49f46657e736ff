//! `bench reconcile`: two nodes in memory, of whose entries some differ, mend that by the messages that a link would
//! carry.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::bench::bar;
use crate::cli::error::{CliError, Kind};
use crate::cli::output::{self, Column, Rows, number};
use crate::core::effect::Effect;
use crate::core::event::Event;
use crate::core::hard_state::{HardState, Recovered, StoreIdentity};
use crate::core::hlc::Hlc;
use crate::core::id::{Channel, GroupId, LinkId, NodeId, RegionId, StoreId, Voter};
use crate::core::ledger::body::Body;
use crate::core::ledger::document::{Document, PROTOCOL_VERSION};
use crate::core::message::Message;
use crate::core::message::exchange::SensorUpdate;
use crate::core::message::session::Hello;
use crate::core::node::Node;
use crate::core::params::Params;
use crate::core::reading::Reading;
use crate::core::state::entry::{Entry, Key, KeyedEntry, Scope, Value};
use crate::core::state::store::{Share, Store};
use crate::core::time::{Mono, Now, Wall};
use crate::shell::clock::machine_micros;

#[derive(Args)]
pub struct ReconcileArgs {
    /// Entries that both nodes hold
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    entries: u32,
    /// Keys of which one node holds an older value, one measurement each
    #[arg(long, value_delimiter = ',', default_value = "0,10,100,1000,10000")]
    differ: Vec<u32>,
    /// Who opens the exchange: the node with the older values, as after an absence, or the one with the newer
    #[arg(long, value_enum, default_value_t = Opener::Older)]
    opener: Opener,
    /// Leave out the newcomer, which holds nothing
    #[arg(long)]
    no_newcomer: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Opener {
    Older,
    Newer,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    entries: u32,
    runs: Vec<Run>,
}

/// One exchange, from the first digest to the last entry.
#[derive(Clone, Debug, Default, Serialize)]
struct Run {
    /// Keys that differed, or `null` for a newcomer.
    differ: Option<u32>,
    /// Times that messages crossed, two to a round trip.
    crossings: u32,
    /// Frames that are not entries, both ways.
    digest_bytes: u64,
    /// Frames of entries.
    entry_bytes: u64,
    entries_sent: u64,
    /// Of those, sent in vain: the other held them already, or newer ones.
    in_vain: u64,
    /// Time of one core for all of it at both nodes, from bytes to bytes.
    cpu_us: u64,
}

const COLUMNS: &[Column] = &[
    number("differ"),
    number("round trips"),
    number("digest bytes"),
    number("entries"),
    number("in vain"),
    number("entry bytes"),
    number("cpu"),
];

pub fn run(cx: &Context, args: &ReconcileArgs) -> Result<(), CliError> {
    if let Some(differ) = args.differ.iter().find(|differ| **differ > args.entries) {
        return Err(CliError::new(Kind::Usage, format!("of {} entries not {differ} can differ", args.entries)));
    }
    let mut differ: Vec<Option<u32>> = args.differ.iter().copied().map(Some).collect();
    differ.extend((!args.no_newcomer).then_some(None));
    let progress = bar(differ.len() as u64, "reconciling");
    let mut runs = Vec::new();
    for differ in differ {
        runs.push(measure(args.entries, differ, args.opener)?);
        progress.inc(1);
    }
    progress.finish_and_clear();
    let report = Report { schema: "sensorctl/bench-reconcile/v1", entries: args.entries, runs };
    output::print(cx.format, &report, &report.runs, || {
        let mut rows = Rows::new(COLUMNS);
        for run in &report.runs {
            rows.push(vec![
                run.differ.map_or("newcomer".to_owned(), |differ| differ.to_string()),
                format!("{:.1}", f64::from(run.crossings) / 2.0),
                run.digest_bytes.to_string(),
                run.entries_sent.to_string(),
                run.in_vain.to_string(),
                run.entry_bytes.to_string(),
                format!("{:.1} ms", run.cpu_us as f64 / 1000.0),
            ]);
        }
        rows
    })
}

fn measure(entries: u32, differ: Option<u32>, opener: Opener) -> Result<Run, CliError> {
    let mut pair = Pair::new(entries, differ.is_none());
    if differ.is_some() {
        // What the two say of themselves crosses before anything is measured.
        pair.connect(0);
        pair.settle(&mut Run::default());
        pair.part();
        pair.write(differ.unwrap_or(0));
    }
    let mut run = Run { differ, ..Run::default() };
    pair.connect(usize::from(differ.is_none() || opener == Opener::Older));
    pair.settle(&mut run);
    let [new, old] = [0, 1].map(|n| pair.nodes[n].store().summary_of(Share::All));
    // A filter claims some entries by mistake: the next exchange brings them.
    if new != old && differ.is_some_and(|differ| differ < 1000) {
        return Err(CliError::new(Kind::Failed, format!("the nodes still differ: {new:?} and {old:?}")));
    }
    Ok(run)
}

/// Two nodes of one cluster, the second with older values or with none.
struct Pair {
    nodes: [Node; 2],
    fx: [Vec<Effect>; 2],
    now: Now,
    link: u64,
}

/// Channels are spread over this many origins, of which the first node is one.
const ORIGINS: u32 = 100;
const START: Wall = Wall::from_millis(1_700_000_000_000);

impl Pair {
    fn new(entries: u32, newcomer: bool) -> Self {
        let voter = |n: u128| Voter { node: name(n as u32), store: StoreId(n) };
        let region = RegionId::new("main").expect("a good name");
        let voters = BTreeMap::from([(region.clone(), (0..3).map(voter).collect::<Vec<_>>())]);
        let genesis = Document::genesis("bench", voters).expect("three voters are a good number");
        let mut all: Vec<(Key, Entry)> = (0..entries).map(entry).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let (body, _) = Body::of(all.iter().map(|(key, entry)| (key.borrowed(), entry)));
        let now = Now { mono: Mono::from_micros(1_000_000), wall: START + Duration::from_secs(60) };
        let nodes = [0, 1].map(|n| {
            let addr = format!("{}:1", name(n)).into();
            let params = Params::new("bench", name(n), region.clone(), addr);
            let own = all.iter().filter(|(key, _)| key.origin == name(n));
            let holds = n == 0 || !newcomer;
            let recovered = Recovered {
                cluster: Some(genesis.hash()),
                hard: vec![(GroupId::Region(region.clone()), HardState::new(genesis.hash()))],
                documents: vec![genesis.clone()],
                bodies: if holds { vec![body.clone()] } else { Vec::new() },
                own: if holds { own.map(|(key, entry)| KeyedEntry::new(key, entry)).collect() } else { Vec::new() },
                ..Recovered::default()
            };
            let identity = StoreIdentity { id: StoreId(u128::from(n)), fresh: false };
            Node::recover(params, identity, recovered, u64::from(n) + 1, now)
        });
        let mut pair = Self { nodes, fx: [Vec::new(), Vec::new()], now, link: 0 };
        for n in 0..2 {
            pair.nodes[n].handle(Event::Wake, pair.now, &mut pair.fx[n]);
        }
        pair
    }

    /// A link stands, dialed by one of the two.
    fn connect(&mut self, dialer: usize) {
        self.link += 1;
        for n in 0..2 {
            let dialed = (n == dialer).then(|| format!("{}:1", name(1 - n as u32)).into());
            let up = Event::LinkUp { link: LinkId(self.link), dialed };
            self.nodes[n].handle(up, self.now, &mut self.fx[n]);
        }
    }

    fn part(&mut self) {
        for n in 0..2 {
            self.nodes[n].handle(Event::LinkDown { link: LinkId(self.link) }, self.now, &mut self.fx[n]);
        }
        self.settle(&mut Run::default());
    }

    /// The first node hears newer values of `n` of the keys that both hold: some its own, the others of a third node.
    fn write(&mut self, n: u32) {
        let wall = self.now.wall;
        let (value, stamp) = (Value::of(&Reading::new(1.0, wall)), Hlc::new(wall, 1));
        let newer = Entry { value, stamp, scope: Scope::Global };
        let keys = (0..n).map(|i| entry(i).0).filter(|key| key.origin != name(0));
        let update = SensorUpdate { entries: keys.map(|key| KeyedEntry::new(&key, &newer)).collect() };
        let own = (0..n).map(|i| entry(i).0).filter(|key| key.origin == name(0));
        let readings = own.map(|key| (key.channel, Reading::new(1.0, wall))).collect();
        self.link += 1;
        let link = LinkId(self.link);
        let hello = Hello {
            versions: (PROTOCOL_VERSION, PROTOCOL_VERSION),
            cluster: self.nodes[0].view(self.now).cluster,
            committed: false,
            name: "bench".into(),
            node: name(2),
            store: StoreId(2),
            region: self.nodes[0].params().region.clone(),
            start: Hlc::new(wall, 0),
            life: 1,
            addr: "gw-2:1".into(),
            software: String::new(),
            wall,
        };
        let received = |message| Event::Received { link, message: Box::new(message) };
        for event in [
            Event::Sensed { readings },
            Event::LinkUp { link, dialed: None },
            received(Message::Hello(hello)),
            received(Message::SensorUpdate(update)),
            Event::LinkDown { link },
        ] {
            self.nodes[0].handle(event, self.now, &mut self.fx[0]);
        }
        self.fx[0].clear();
    }

    /// Delivers everything, until nothing is said any more.
    fn settle(&mut self, run: &mut Run) {
        loop {
            let said = [std::mem::take(&mut self.fx[0]), std::mem::take(&mut self.fx[1])];
            let mut crossed = false;
            let mut any = false;
            for (n, effects) in said.into_iter().enumerate() {
                for effect in effects {
                    match effect {
                        Effect::Send { link, message, notify } => {
                            any = true;
                            crossed |= self.carry(n, link, &message, run);
                            if notify {
                                self.nodes[n].handle(Event::LinkReady { link }, self.now, &mut self.fx[n]);
                            }
                        }
                        Effect::Persist { seq, .. } => {
                            any = true;
                            self.nodes[n].handle(Event::Persisted { seq }, self.now, &mut self.fx[n]);
                        }
                        _ => {}
                    }
                }
            }
            run.crossings += u32::from(crossed);
            if !any {
                return;
            }
        }
    }

    /// Carries a message over, and counts it if it belongs to a repair.
    fn carry(&mut self, from: usize, link: LinkId, message: &Message, run: &mut Run) -> bool {
        if link != LinkId(self.link) {
            return false;
        }
        let begun = machine_micros();
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        let message = Box::new(Message::decode(&bytes).expect("our own frames are read"));
        let entries = if let Message::StateUpdate(update) = &*message { Some(update.entries.clone()) } else { None };
        let counted = matches!(*message, Message::StateDigest(_) | Message::StateRequest(_)) || entries.is_some();
        let frame = bytes.len() as u64 + 4;
        match &entries {
            Some(entries) if !entries.is_empty() => {
                run.entry_bytes += frame;
                run.entries_sent += entries.len() as u64;
                run.in_vain +=
                    entries.iter().filter(|keyed| is_held(self.nodes[1 - from].store(), keyed)).count() as u64;
            }
            _ => run.digest_bytes += if counted { frame } else { 0 },
        }
        let spent = machine_micros() - begun;
        let begun = machine_micros();
        self.nodes[1 - from].handle(Event::Received { link, message }, self.now, &mut self.fx[1 - from]);
        if counted {
            run.cpu_us += spent + machine_micros() - begun;
        }
        counted
    }
}

fn is_held(store: &Store, keyed: &KeyedEntry) -> bool {
    let (key, entry) = keyed.clone().into_parts();
    store.get(&key).is_some_and(|held| !entry.supersedes(held))
}

fn name(n: u32) -> NodeId {
    NodeId::new(&format!("gw-{n}")).expect("a good name")
}

fn entry(n: u32) -> (Key, Entry) {
    let channel = Channel::new(&format!("lobby/sensor-{}", n / ORIGINS)).expect("a good name");
    let value = Value::of(&Reading::new(f64::from(n) / 8.0, START));
    (
        Key::new(name(n % ORIGINS), channel),
        Entry { value, stamp: Hlc::new(START, (n % 1000) as u16), scope: Scope::Global },
    )
}
