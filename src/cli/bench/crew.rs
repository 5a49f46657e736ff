//! The member processes of a benchmark, seen from the one that directs them.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

use crate::cli::bench::plan::{NodePlan, Order, Told};
use crate::cli::error::CliError;

/// How long a member may take to answer an order, beyond the time that the order itself takes.
const PATIENCE: Duration = Duration::from_secs(90);

/// A process with some of the nodes.
struct Member {
    process: Child,
    orders: ChildStdin,
    nodes: Vec<NodePlan>,
    raw: String,
}

/// What a crew is to be.
pub struct CrewPlan {
    /// How many nodes.
    pub nodes: usize,
    /// In how many processes.
    pub processes: usize,
    /// How many of them vote.
    pub voters: usize,
    /// Time between checkpoints.
    pub checkpoint_ms: u64,
    /// Time between readings of a sensor at every node, if there is one.
    pub background_ms: Option<u64>,
}

/// All members.
pub struct Crew {
    plan: CrewPlan,
    members: Vec<Member>,
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
        let mut crew = Self { plan, members: Vec::new(), told, tell, dir };
        for i in 0..crew.plan.processes {
            let places = (0..crew.plan.nodes).filter(|place| place % crew.plan.processes == i);
            let nodes = places.map(|place| crew.node_plan(place)).collect();
            let member = crew.spawn(i, nodes)?;
            crew.members.push(member);
        }
        for i in 0..crew.plan.processes {
            crew.bind(i).await?;
        }
        let join = crew.join_order();
        crew.order_all(&join).await?;
        crew.answers(Duration::ZERO, |told| matches!(told, Told::Ready).then_some(())).await?;
        Ok(crew)
    }

    /// Names of all nodes, by their place.
    pub fn name(place: usize) -> String {
        format!("n{place}")
    }

    fn node_plan(&self, place: usize) -> NodePlan {
        let id = Self::name(place);
        // Many nodes in one process are about the network, not about the disk.
        let dir = (self.plan.nodes == self.plan.processes).then(|| self.dir.join(&id));
        NodePlan { place, id, listen: "127.0.0.1:0".to_owned(), dir }
    }

    fn spawn(&self, i: usize, nodes: Vec<NodePlan>) -> Result<Member, CliError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "member"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = command.kill_on_drop(true).spawn()?;
        let (orders, out) = (process.stdin.take(), process.stdout.take());
        let (orders, out) = orders.zip(out).expect("both were asked for");
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
        Ok(Member { process, orders, nodes, raw: String::new() })
    }

    /// Lets a member take its ports, and remembers them.
    async fn bind(&mut self, i: usize) -> Result<(), CliError> {
        let voters = (0..self.plan.voters).map(Self::name).collect();
        let nodes = self.members[i].nodes.clone();
        let checkpoint_ms = self.plan.checkpoint_ms;
        self.order(i, &Order::Bind { cluster: "bench".to_owned(), nodes, voters, checkpoint_ms }).await?;
        let (peers, raw) = loop {
            match self.next(PATIENCE).await? {
                (from, Told::Bound { peers, raw }) if from == i => break (peers, raw),
                _ => {}
            }
        };
        let member = &mut self.members[i];
        member.raw = raw;
        for (node, addr) in member.nodes.iter_mut().zip(peers) {
            node.listen = addr;
        }
        Ok(())
    }

    fn join_order(&self) -> Order {
        let voters = self.members.iter().flat_map(|member| &member.nodes).filter(|n| n.place < self.plan.voters);
        Order::Join {
            bootstrap: voters.map(|node| node.listen.clone()).collect(),
            members: self.plan.nodes,
            background_ms: self.plan.background_ms,
        }
    }

    /// Where raw frames are received.
    pub fn receivers(&self) -> Vec<String> {
        self.members.iter().map(|member| member.raw.clone()).collect()
    }

    async fn order(&mut self, i: usize, order: &Order) -> Result<(), CliError> {
        let mut line = serde_json::to_vec(order).expect("an order is JSON");
        line.push(b'\n');
        Ok(self.members[i].orders.write_all(&line).await?)
    }

    /// Gives everybody the same order.
    ///
    /// # Errors
    /// If a member has ended.
    pub async fn order_all(&mut self, order: &Order) -> Result<(), CliError> {
        for i in 0..self.members.len() {
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
        while answers.len() < self.members.len() {
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

    /// Kills a member as a power cut would.
    ///
    /// # Errors
    /// If it has ended by itself.
    pub async fn kill(&mut self, i: usize) -> Result<(), CliError> {
        Ok(self.members[i].process.kill().await?)
    }

    /// Starts a killed member again at its old addresses, and waits until it is one of all.
    ///
    /// # Errors
    /// If that does not come to pass.
    pub async fn restart(&mut self, i: usize) -> Result<(), CliError> {
        self.members[i] = self.spawn(i, self.members[i].nodes.clone())?;
        self.bind(i).await?;
        let join = self.join_order();
        self.order(i, &join).await?;
        loop {
            if let (from, Told::Ready) = self.next(PATIENCE).await?
                && from == i
            {
                return Ok(());
            }
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
