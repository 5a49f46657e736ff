//! Nodes and what is between them.

use super::*;

/// Nodes on a perfect network and perfect disks: every effect happens at once, in order.
pub(super) struct World {
    pub now: Now,
    /// By how much a node's wall clock is ahead.
    pub ahead: BTreeMap<String, Duration>,
    pub nodes: BTreeMap<String, Node>,
    pub disks: BTreeMap<String, Vec<Record>>,
    pub links: BTreeMap<LinkId, (String, String, LinkId)>,
    pub next_link: u64,
    pub queue: VecDeque<(String, Event)>,
    pub replies: Vec<(String, RequestId, Reply)>,
    pub notices: Vec<(String, Notice)>,
    pub said: Vec<(String, Message)>,
    /// Who dialed whom.
    pub dialed: Vec<(String, String)>,
    /// Work that waits to be done; else it is done at once.
    pub waiting: Option<Vec<(String, Work)>>,
    /// What becomes of a message between two nodes; nothing if it is lost.
    pub tamper: Box<Tamper>,
}

pub(super) type Tamper = dyn Fn(&str, &str, Message) -> Option<Message>;

pub(super) fn name(text: &str) -> NodeId {
    NodeId::new(text).unwrap()
}

impl World {
    pub fn new(names: &[&str]) -> Self {
        let now = Now { mono: Mono::from_micros(1), wall: Wall::from_millis(1_700_000_000_000) };
        let mut world = Self {
            now,
            ahead: BTreeMap::new(),
            nodes: BTreeMap::new(),
            disks: BTreeMap::new(),
            links: BTreeMap::new(),
            next_link: 0,
            queue: VecDeque::new(),
            replies: Vec::new(),
            notices: Vec::new(),
            said: Vec::new(),
            dialed: Vec::new(),
            waiting: None,
            tamper: Box::new(|_, _, message| Some(message)),
        };
        for (i, node) in names.iter().enumerate() {
            world.start(node, names, i as u128 + 1);
        }
        world
    }

    pub fn start(&mut self, node: &str, names: &[&str], store: u128) {
        self.start_speaking(node, names, store, (1, 1));
    }

    pub fn start_speaking(&mut self, node: &str, names: &[&str], store: u128, versions: (u32, u32)) {
        let voters = names.iter().map(|n| name(n)).collect();
        self.start_as(node, "main", &BTreeMap::from([(RegionId::new("main").unwrap(), voters)]), store, versions);
    }

    /// Starts a node of a region on a fresh store.
    pub fn start_in(&mut self, node: &str, region: &str, voters: &BTreeMap<RegionId, Vec<NodeId>>, store: u128) {
        self.start_as(node, region, voters, store, (1, 1));
    }

    pub fn start_as(
        &mut self,
        node: &str,
        region: &str,
        voters: &BTreeMap<RegionId, Vec<NodeId>>,
        store: u128,
        versions: (u32, u32),
    ) {
        let mut params = Params::new("lab", name(node), RegionId::new(region).unwrap(), node.into());
        params.versions = versions;
        params.bootstrap = voters.values().flatten().map(|n| n.as_str().into()).collect();
        params.initial_voters = voters.clone();
        self.start_with(node, params, store);
    }

    /// Starts a node of a region on a fresh store, which knows these alone.
    pub fn start_at(
        &mut self,
        node: &str,
        region: &str,
        voters: &BTreeMap<RegionId, Vec<NodeId>>,
        store: u128,
        bootstrap: &[String],
    ) {
        let mut params = Params::new("lab", name(node), RegionId::new(region).unwrap(), node.into());
        params.bootstrap = bootstrap.iter().map(|node| node.as_str().into()).collect();
        params.initial_voters = voters.clone();
        self.start_with(node, params, store);
    }

    pub fn start_with(&mut self, node: &str, params: Params, store: u128) {
        let identity = StoreIdentity { id: StoreId(store), fresh: true };
        let started = Node::recover(params, identity, Recovered::default(), store as u64, self.now);
        self.nodes.insert(node.to_owned(), started);
        self.queue.push_back((node.to_owned(), Event::Wake));
        self.drain();
    }

    pub fn drain(&mut self) {
        while let Some((node, event)) = self.queue.pop_front() {
            let Some(running) = self.nodes.get_mut(&node) else { continue };
            let mut fx = Vec::new();
            let ahead = self.ahead.get(&node).copied().unwrap_or_default();
            running.handle(event, Now { wall: self.now.wall + ahead, ..self.now }, &mut fx);
            for effect in fx {
                self.perform(&node, effect);
            }
        }
    }

    pub fn perform(&mut self, node: &str, effect: Effect) {
        if let Effect::Dial { addr } = &effect {
            self.dialed.push((node.to_owned(), addr.to_string()));
        }
        match effect {
            Effect::Dial { addr } if !self.nodes.contains_key(&*addr) => {
                self.queue.push_back((node.to_owned(), Event::DialFailed { addr, refused: true }));
            }
            Effect::Dial { addr } => {
                let (a, b) = (LinkId(self.next_link), LinkId(self.next_link + 1));
                self.next_link += 2;
                self.links.insert(a, (node.to_owned(), addr.to_string(), b));
                self.links.insert(b, (addr.to_string(), node.to_owned(), a));
                self.queue.push_back((addr.to_string(), Event::LinkUp { link: b, dialed: None }));
                self.queue.push_back((node.to_owned(), Event::LinkUp { link: a, dialed: Some(addr) }));
            }
            Effect::Send { link, message, notify } => {
                if let Some((_, to, other)) = self.links.get(&link) {
                    let mut frame = Vec::new();
                    message.encode(&mut frame);
                    let message = Message::decode(&frame).expect("what we write we can read");
                    let Some(message) = (self.tamper)(node, to, message) else { return };
                    self.said.push((node.to_owned(), message.clone()));
                    let event = Event::Received { link: *other, message: Box::new(message) };
                    self.queue.push_back((to.clone(), event));
                }
                if notify {
                    self.queue.push_back((node.to_owned(), Event::LinkReady { link }));
                }
            }
            Effect::Hangup { link } => self.cut(link),
            Effect::Persist { seq, records } => {
                self.disks.entry(node.to_owned()).or_default().extend(records);
                self.queue.push_back((node.to_owned(), Event::Persisted { seq }));
            }
            Effect::Load { content, hash } => {
                let mut written = self.disks.get(node).into_iter().flatten();
                let bytes = written.find_map(|record| match record {
                    Record::Body(body) if body.hash() == hash => Some(body.packed().to_vec()),
                    _ => None,
                });
                self.queue.push_back((node.to_owned(), Event::Loaded { content, hash, bytes }));
            }
            Effect::Compute { work } if self.waiting.is_some() => {
                self.waiting.as_mut().expect("it is there").push((node.to_owned(), work));
            }
            Effect::Compute { work } => {
                let done = Box::new(work.run());
                self.queue.push_back((node.to_owned(), Event::Computed { done }));
            }
            Effect::Reply { request, reply } => self.replies.push((node.to_owned(), request, reply)),
            Effect::Notice(notice) => self.notices.push((node.to_owned(), notice)),
            Effect::Changed { .. } => {}
            Effect::Stop { .. } => self.kill(node),
        }
    }

    pub fn cut(&mut self, link: LinkId) {
        if let Some((a, b, other)) = self.links.remove(&link) {
            self.links.remove(&other);
            self.queue.push_back((a, Event::LinkDown { link }));
            self.queue.push_back((b, Event::LinkDown { link: other }));
        }
    }

    pub fn kill(&mut self, node: &str) {
        self.nodes.remove(node);
        let links: Vec<LinkId> = self.links.iter().filter(|(_, (a, ..))| a == node).map(|(id, _)| *id).collect();
        links.into_iter().for_each(|link| self.cut(link));
    }

    /// Lets time pass to the next deadline, until `done` holds or `limit` has passed.
    pub fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) {
        let end = self.now.mono + limit;
        while !done(self) {
            assert!(self.now.mono < end, "it did not happen within {limit:?} of virtual time");
            let next = self.nodes.values().map(Node::deadline).min().unwrap_or(end).min(end);
            let step = next.since(self.now.mono).max(Duration::from_micros(100));
            self.now.mono = self.now.mono + step;
            self.now.wall = Wall::from_millis(1_700_000_000_000 + self.now.mono.as_micros() / 1000);
            let names: Vec<String> = self.nodes.keys().cloned().collect();
            self.queue.extend(names.into_iter().map(|node| (node, Event::Wake)));
            self.drain();
        }
    }

    /// Starts a node again on what its disk holds, in this region.
    pub fn restart_in(&mut self, node: &str, home: &str, voters: &BTreeMap<RegionId, Vec<NodeId>>) {
        self.restart_with(node, home, voters, Scope::Global);
    }

    /// The same, with readings of this scope.
    pub fn restart_with(&mut self, node: &str, home: &str, voters: &BTreeMap<RegionId, Vec<NodeId>>, scope: Scope) {
        let mut own = BTreeMap::new();
        let mut recovered = Recovered::default();
        let mut hard: BTreeMap<GroupId, HardState> = BTreeMap::new();
        for record in &self.disks[node] {
            match record {
                Record::Cluster(cluster) => recovered.cluster = Some(*cluster),
                Record::NoCluster => recovered.cluster = None,
                Record::Hard(group, state) => {
                    hard.insert(group.clone(), state.clone());
                }
                Record::Document(document) => recovered.documents.push(document.clone()),
                Record::Body(body) => recovered.bodies.push(body.clone()),
                Record::Committed(group, at) => recovered.ledger.push((group.clone(), *at)),
                Record::ClockMark(mark) => recovered.clock_mark = *mark,
                Record::KeepBody(held) => recovered.bodies_held.push(*held),
                Record::Own(keyed) => drop(own.insert(keyed.channel.clone(), keyed.clone())),
                Record::DropOwn(channel) => drop(own.remove(channel)),
                Record::DropBody(_) | Record::LastSeen(_) => {}
            }
        }
        recovered.own = own.into_values().collect();
        // A store loads what the hard states stand on, and the genesis; anything else on demand.
        let stands_on = |state: &HardState| [Some(state.accepted.hash), state.committed.map(|at| at.hash)];
        let needed: BTreeSet<Hash> = hard.values().flat_map(stands_on).flatten().chain(recovered.cluster).collect();
        recovered.documents.retain(|document| needed.contains(&document.hash()));
        recovered.hard = hard.into_iter().collect();
        let mut params = Params::new("lab", name(node), RegionId::new(home).unwrap(), node.into());
        params.bootstrap = voters.values().flatten().map(|n| n.as_str().into()).collect();
        params.initial_voters = voters.clone();
        params.scope = scope;
        let store = voters.values().flatten().position(|n| n.as_str() == node).unwrap() as u128 + 1;
        let identity = StoreIdentity { id: StoreId(store), fresh: false };
        let started = Node::recover(params, identity, recovered, store as u64, self.now);
        self.nodes.insert(node.to_owned(), started);
        self.queue.push_back((node.to_owned(), Event::Wake));
        self.drain();
    }

    pub fn leader(&self) -> Option<String> {
        self.nodes.iter().find(|(_, node)| node.is_leader()).map(|(name, _)| name.clone())
    }

    pub fn committed(&self, node: &str) -> Option<Index> {
        self.nodes[node].group()?.hard().committed.map(|position| position.index)
    }

    pub fn ask(&mut self, node: &str, command: Command) -> RequestId {
        let request = RequestId(self.replies.len() as u64 + 1000);
        self.queue.push_back((node.to_owned(), Event::Asked { request, command }));
        self.drain();
        request
    }

    pub fn reply(&self, request: RequestId) -> Option<&Reply> {
        self.replies.iter().find(|(_, asked, _)| *asked == request).map(|(_, _, reply)| reply)
    }
}

pub(super) const SECONDS: fn(u64) -> Duration = Duration::from_secs;
pub(super) const THREE: [&str; 3] = ["gw-1", "gw-2", "gw-3"];
