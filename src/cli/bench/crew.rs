//! The members of a benchmark, in processes of their own or in this one, seen from the one that directs them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::cli::bench::member::{self, Member};
use crate::cli::bench::plan::{self, ClusterPlan, NodePlan, Order, Told, name};
use crate::cli::error::CliError;
use crate::core::params::CROWD;
use crate::shell::transport::MemoryNet;

/// How long a member may take to answer an order, beyond the time that the order itself takes.
const PATIENCE: Duration = Duration::from_secs(90);
/// And how much longer per node while all of them join.
const JOIN_PATIENCE_PER_NODE: Duration = Duration::from_millis(300);

/// Somebody with some of the nodes.
struct Hand {
    orders: Orders,
    nodes: Vec<NodePlan>,
    raw: String,
}

enum Orders {
    Process { process: Box<Child>, stdin: ChildStdin },
    Here { orders: mpsc::UnboundedSender<Order>, task: JoinHandle<()> },
}

/// Where the nodes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this many processes, over TCP.
    Processes(usize),
    /// All in this process, over TCP.
    Here,
    /// All in this process, without sockets.
    Memory,
}

/// What a crew is to be.
pub struct CrewPlan {
    /// How many nodes.
    pub nodes: usize,
    /// How many regions; nodes take turns.
    pub regions: usize,
    /// Where they run.
    pub place: Place,
    /// How many of each region vote.
    pub voters: usize,
    /// Time between checkpoints.
    pub checkpoint_ms: u64,
    /// The same between regions; the default without.
    pub top_checkpoint_ms: Option<u64>,
    /// Whether agreement is told of.
    pub marks: bool,
    /// Time between readings of a sensor at every node, if there is one.
    pub background_ms: Option<u64>,
    /// Neighbours kept in the own region; the default without.
    pub degree: Option<usize>,
}

impl CrewPlan {
    /// The region of the node at a place.
    pub fn region_of(&self, place: usize) -> usize {
        place % self.regions
    }

    /// The name of the region of the node at a place.
    pub fn region_name(&self, place: usize) -> String {
        match self.regions {
            1 => "main".to_owned(),
            _ => format!("r{}", self.region_of(place)),
        }
    }

    fn is_voter(&self, place: usize) -> bool {
        place / self.regions < self.voters
    }

    fn cluster(&self) -> ClusterPlan {
        let mut cluster = ClusterPlan {
            voters: Default::default(),
            checkpoint_ms: self.checkpoint_ms,
            top_checkpoint_ms: self.top_checkpoint_ms,
            degree: self.degree,
            nodes: self.nodes,
        };
        for place in (0..self.nodes).filter(|place| self.is_voter(*place)) {
            cluster.voters.entry(self.region_name(place)).or_default().push(name(place));
        }
        cluster
    }

    fn node(&self, place: usize, dir: &std::path::Path) -> NodePlan {
        // Many nodes in one process are about the network, not about the disk.
        let dir = (self.place == Place::Processes(self.nodes)).then(|| dir.join(name(place)));
        NodePlan { place, region: self.region_name(place), listen: "127.0.0.1:0".to_owned(), dir }
    }

    fn members(&self) -> usize {
        match self.place {
            Place::Processes(processes) => processes,
            Place::Here | Place::Memory => 1,
        }
    }
}

/// All members.
pub struct Crew {
    plan: CrewPlan,
    hands: Vec<Hand>,
    told: mpsc::UnboundedReceiver<(usize, Told)>,
    tell: mpsc::UnboundedSender<(usize, Told)>,
    dir: PathBuf,
}

impl Crew {
    /// Starts everything and waits until all nodes are in one cluster with a checkpoint.
    ///
    /// # Errors
    /// If that does not come to pass.
    pub async fn start(plan: CrewPlan) -> Result<Self, CliError> {
        let dir = std::env::temp_dir().join(format!("sensorctl-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let (tell, told) = mpsc::unbounded_channel();
        let mut crew = Self { plan, hands: Vec::new(), told, tell, dir };
        let members = crew.plan.members();
        for i in 0..members {
            let places = (0..crew.plan.nodes).filter(|place| place % members == i);
            let nodes = places.map(|place| crew.plan.node(place, &crew.dir)).collect();
            let hand = crew.hire(i, nodes)?;
            crew.hands.push(hand);
        }
        for i in 0..members {
            crew.bind(i, &mut |_| ()).await?;
        }
        for i in 0..members {
            let join = crew.join_order(i);
            crew.order(i, &join).await?;
        }
        let takes = JOIN_PATIENCE_PER_NODE * crew.plan.nodes as u32;
        crew.answers(takes, |told| matches!(told, Told::Ready).then_some(())).await?;
        Ok(crew)
    }

    /// What it was to be.
    pub fn plan(&self) -> &CrewPlan {
        &self.plan
    }

    fn hire(&self, i: usize, nodes: Vec<NodePlan>) -> Result<Hand, CliError> {
        let orders = match self.plan.place {
            Place::Processes(_) => self.spawn(i)?,
            Place::Here => self.engage(i, None),
            Place::Memory => self.engage(i, Some(MemoryNet::default())),
        };
        Ok(Hand { orders, nodes, raw: String::new() })
    }

    fn engage(&self, i: usize, memory: Option<MemoryNet>) -> Orders {
        let (order, orders) = mpsc::unbounded_channel();
        let (say, mut said) = mpsc::unbounded_channel();
        let task = tokio::spawn(member::obey(Member::new(memory), orders, say));
        let tell = self.tell.clone();
        tokio::spawn(async move {
            while let Some(told) = said.recv().await {
                if tell.send((i, told)).is_err() {
                    return;
                }
            }
        });
        Orders::Here { orders: order, task }
    }

    fn spawn(&self, i: usize) -> Result<Orders, CliError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "member"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = command.kill_on_drop(true).spawn()?;
        let (stdin, out) = (process.stdin.take(), process.stdout.take());
        let (stdin, out) = stdin.zip(out).expect("both were asked for");
        let tell = self.tell.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(out).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let told = serde_json::from_str(&line);
                let told = told.unwrap_or_else(|error| Told::Failed { why: format!("{error}: {line}") });
                if tell.send((i, told)).is_err() {
                    return;
                }
            }
        });
        Ok(Orders::Process { process: Box::new(process), stdin })
    }

    /// Lets a member take its addresses, and remembers them.
    async fn bind(&mut self, i: usize, heard: &mut impl FnMut(Told)) -> Result<(), CliError> {
        let (nodes, cluster) = (self.hands[i].nodes.clone(), self.plan.cluster());
        self.order(i, &Order::Bind { nodes, cluster }).await?;
        let (peers, raw) = loop {
            match self.next(PATIENCE).await? {
                (from, Told::Bound { peers, raw }) if from == i => break (peers, raw),
                (_, told) => heard(told),
            }
        };
        let hand = &mut self.hands[i];
        hand.raw = raw;
        for (node, addr) in hand.nodes.iter_mut().zip(peers) {
            node.listen = addr;
        }
        Ok(())
    }

    fn join_order(&self, i: usize) -> Order {
        let all = self.hands.iter().flat_map(|hand| &hand.nodes);
        let addrs: BTreeMap<usize, &String> = all.map(|node| (node.place, &node.listen)).collect();
        let of =
            |place: usize| self.contacts(place).into_iter().filter_map(|at| Some((*addrs.get(&at)?).clone())).collect();
        Order::Join {
            bootstrap: self.hands[i].nodes.iter().map(|node| of(node.place)).collect(),
            members: self.plan.nodes,
            background_ms: self.plan.background_ms,
            marks: self.plan.marks,
        }
    }

    /// Whom the node at a place knows at first: a voter all voters, the others a few that start before them, for
    /// everybody at once is too much for three.
    fn contacts(&self, place: usize) -> BTreeSet<usize> {
        let (regions, plan) = (self.plan.regions, &self.plan);
        if plan.is_voter(place) || plan.nodes <= CROWD {
            return (0..plan.nodes).filter(|at| plan.is_voter(*at)).collect();
        }
        let (nth, region) = (place / regions, place % regions);
        let near = [nth / 2, nth * 2 / 3, nth - 1, nth / 5].map(|nth| nth * regions + region);
        let abroad = nth / 2 * regions + (region + 1) % regions;
        near.into_iter().chain((regions > 1).then_some(abroad)).collect()
    }

    /// Where raw frames are received: as many connections as there are nodes.
    pub fn receivers(&self) -> Vec<String> {
        self.hands.iter().map(|hand| hand.raw.clone()).cycle().take(self.plan.nodes).collect()
    }

    /// Gives one member an order.
    ///
    /// # Errors
    /// If it has ended.
    pub async fn order(&mut self, i: usize, order: &Order) -> Result<(), CliError> {
        match &mut self.hands[i].orders {
            Orders::Process { stdin, .. } => {
                let mut line = serde_json::to_vec(order).expect("an order is JSON");
                line.push(b'\n');
                Ok(stdin.write_all(&line).await?)
            }
            Orders::Here { orders, .. } => {
                orders.send(order.clone()).map_err(|_| CliError::failed("the member has ended"))
            }
        }
    }

    /// Gives everybody the same order.
    ///
    /// # Errors
    /// If a member has ended.
    pub async fn order_all(&mut self, order: &Order) -> Result<(), CliError> {
        for i in 0..self.hands.len() {
            self.order(i, order).await?;
        }
        Ok(())
    }

    /// One answer of everybody, of the kind that `pick` takes.
    ///
    /// # Errors
    /// What a member failed at, or that one did not answer for `takes` and some patience.
    pub async fn answers<T>(
        &mut self,
        takes: Duration,
        mut pick: impl FnMut(Told) -> Option<T>,
    ) -> Result<Vec<T>, CliError> {
        let mut answers = Vec::new();
        while answers.len() < self.hands.len() {
            let (_, told) = self.next(takes + PATIENCE).await?;
            answers.extend(pick(told));
        }
        Ok(answers)
    }

    /// The next thing that anybody says, and who.
    ///
    /// # Errors
    /// If somebody failed, or nobody says anything for that long.
    pub async fn next(&mut self, patience: Duration) -> Result<(usize, Told), CliError> {
        match tokio::time::timeout(patience, self.told.recv()).await {
            Ok(Some((_, Told::Failed { why }))) => Err(CliError::failed(why)),
            Ok(Some(told)) => Ok(told),
            Ok(None) => unreachable!("the crew holds a sender itself"),
            Err(_) => Err(CliError::unreachable(format!("no member has said anything for {} s", patience.as_secs()))),
        }
    }

    /// Stops everything in order and waits until it has stopped.
    pub async fn dismiss(mut self) {
        for hand in std::mem::take(&mut self.hands) {
            match hand.orders {
                Orders::Process { mut process, stdin } => {
                    drop(stdin);
                    let _ = process.kill().await;
                }
                Orders::Here { orders, task } => {
                    drop(orders);
                    let _ = task.await;
                }
            }
        }
    }

    /// Hires a process for one more node, an observer of the first region, which takes its addresses and does not join
    /// yet: its number.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn add(&mut self) -> Result<usize, CliError> {
        let (i, place) = (self.hands.len(), self.plan.nodes);
        let dir = Some(self.dir.join(plan::name(place)));
        let node = NodePlan { place, region: self.plan.region_name(0), listen: "127.0.0.1:0".to_owned(), dir };
        let hand = Hand { orders: self.spawn(i)?, nodes: vec![node], raw: String::new() };
        self.hands.push(hand);
        self.bind(i, &mut |_| ()).await?;
        Ok(i)
    }

    /// Lets a member that was added join; it answers when its node sees all others.
    ///
    /// # Errors
    /// If it has ended.
    pub async fn join(&mut self, i: usize) -> Result<(), CliError> {
        let voters = self.hands.iter().flat_map(|hand| &hand.nodes).filter(|node| node.place < self.plan.nodes);
        let bootstrap = vec![voters.map(|node| node.listen.clone()).collect()];
        let join = Order::Join { bootstrap, members: self.plan.nodes + 1, background_ms: None, marks: false };
        self.order(i, &join).await
    }

    /// Sends a signal to a member's process.
    ///
    /// # Errors
    /// If it has ended by itself, or is no process.
    pub fn signal(&self, i: usize, signal: libc::c_int) -> Result<(), CliError> {
        let Orders::Process { process, .. } = &self.hands[i].orders else {
            return Err(CliError::failed("only a process can be sent a signal"));
        };
        let pid = process.id().ok_or_else(|| CliError::failed("the process has ended"))?;
        // SAFETY: it takes numbers; the process is a child of ours that has not been waited for.
        match unsafe { libc::kill(pid as libc::pid_t, signal) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error().into()),
        }
    }

    /// Kills a member as a power cut would.
    ///
    /// # Errors
    /// If it has ended by itself, or is no process.
    pub async fn kill(&mut self, i: usize) -> Result<(), CliError> {
        match &mut self.hands[i].orders {
            Orders::Process { process, .. } => Ok(process.kill().await?),
            Orders::Here { .. } => Err(CliError::failed("only a process can be killed")),
        }
    }

    /// Starts killed members again at their old addresses, and waits until each is one of all. What anybody says
    /// meanwhile goes to `heard`.
    ///
    /// # Errors
    /// If that does not come to pass.
    pub async fn restart(&mut self, members: &[usize], heard: &mut impl FnMut(Told)) -> Result<(), CliError> {
        for i in members {
            self.hands[*i] = self.hire(*i, self.hands[*i].nodes.clone())?;
            self.bind(*i, heard).await?;
        }
        for i in members {
            let join = self.join_order(*i);
            self.order(*i, &join).await?;
        }
        let mut waiting = members.to_vec();
        while !waiting.is_empty() {
            match self.next(PATIENCE).await? {
                (from, Told::Ready) => waiting.retain(|i| *i != from),
                (_, told) => heard(told),
            }
        }
        Ok(())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
