//! A model of push alone, for numbers of nodes at which full ones do not fit: who sends to whom when, and nothing else.
//!
//! Flood and prune with parents, by the rule of [`crate::core::gossip`]: an update goes to every neighbour that has not
//! pruned its origin; a second copy from any link but the parent prunes that link. There is no repair, no liveness,
//! no store and no joining; the overlay is random, as full nodes make it, and does not change. It is a *model*, and
//! says what the rule gives; its tests hold it against full nodes.
//!
//! Invariant: a plan decides everything; two runs of it are equal.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::core::rng::Rng;
use crate::sim::crowd::Links;

/// What is modelled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Nodes.
    pub nodes: usize,
    /// Neighbours of each on average.
    pub degree: usize,
    /// How links behave.
    pub links: Links,
    /// Seed of everything.
    pub seed: u64,
}

/// How one update spread. Times are µs after it was written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Until half, 90%, 99% and all of the nodes held it.
    pub to: [u64; 4],
    /// Messages that carried it.
    pub messages: u64,
    /// Nodes that held it in the end.
    pub reached: usize,
}

/// The overlay: neighbours of every node, and what their links take.
pub struct Flood {
    plan: Plan,
    rng: Rng,
    /// Where the neighbours of each node begin.
    begins: Vec<u32>,
    /// For each end of a link: the node there, and the other end.
    peers: Vec<u32>,
    twins: Vec<u32>,
    least_us: Vec<u32>,
}

/// What nodes have learned of one origin.
pub struct Tree {
    origin: usize,
    /// By end of a link: nothing of this origin is sent from it.
    pruned: Vec<bool>,
    /// The end at which it comes to each node.
    parent: Vec<u32>,
}

const NONE: u32 = u32::MAX;

impl Flood {
    /// Draws an overlay: every node picks half its neighbours, and is picked by others.
    pub fn new(plan: Plan) -> Self {
        let mut rng = Rng::new(plan.seed);
        let picks = (plan.degree / 2).max(1);
        let mut pairs = Vec::with_capacity(plan.nodes * picks);
        if plan.nodes <= plan.degree + 1 {
            (0..plan.nodes).for_each(|a| (0..a).for_each(|b| pairs.push((a as u32, b as u32))));
        } else {
            for a in 0..plan.nodes {
                let mut picked = Vec::with_capacity(picks);
                while picked.len() < picks {
                    let b = rng.below(plan.nodes);
                    if b != a && !picked.contains(&b) {
                        picked.push(b);
                        pairs.push((a as u32, b as u32));
                    }
                }
            }
        }
        let mut begins = vec![0u32; plan.nodes + 1];
        pairs.iter().for_each(|(a, b)| {
            begins[*a as usize + 1] += 1;
            begins[*b as usize + 1] += 1;
        });
        (0..plan.nodes).for_each(|node| begins[node + 1] += begins[node]);
        let mut next = begins.clone();
        let ends = pairs.len() * 2;
        let (mut peers, mut twins, mut least_us) = (vec![0; ends], vec![0; ends], vec![0; ends]);
        for (a, b) in pairs {
            let mut end = |node: u32| {
                let end = next[node as usize];
                next[node as usize] += 1;
                end
            };
            let (near, far) = (end(a), end(b));
            let least = plan.links.draw(&mut rng, false) as u32;
            (peers[near as usize], peers[far as usize]) = (b, a);
            (twins[near as usize], twins[far as usize]) = (far, near);
            (least_us[near as usize], least_us[far as usize]) = (least, least);
        }
        Self { plan, rng, begins, peers, twins, least_us }
    }

    /// What everybody knows of an origin before its first update.
    pub fn tree(&self, origin: usize) -> Tree {
        Tree { origin, pruned: vec![false; self.peers.len()], parent: vec![NONE; self.plan.nodes] }
    }

    /// Spreads one update and lets everybody learn of it. Prunes are in force by the next update.
    pub fn spread(&mut self, tree: &mut Tree) -> Spread {
        let mut queue: BinaryHeap<Reverse<(u64, u32)>> = BinaryHeap::new();
        let mut held = vec![false; self.plan.nodes];
        let mut arrivals = Vec::with_capacity(self.plan.nodes);
        let mut prunes = Vec::new();
        let mut messages = 0;
        held[tree.origin] = true;
        arrivals.push(0);
        self.forward(tree, tree.origin, NONE, 0, &mut queue, &mut messages);
        // An item is the end of a link at which a copy arrives.
        while let Some(Reverse((at, end))) = queue.pop() {
            let node = self.peers[self.twins[end as usize] as usize] as usize;
            if std::mem::replace(&mut held[node], true) {
                if tree.parent[node] != end {
                    prunes.push(self.twins[end as usize]);
                }
                continue;
            }
            arrivals.push(at);
            if tree.parent[node] == NONE {
                tree.parent[node] = end;
            }
            self.forward(tree, node, end, at, &mut queue, &mut messages);
        }
        prunes.into_iter().for_each(|end| tree.pruned[end as usize] = true);
        let by = |share: f64| {
            let wanted = (self.plan.nodes as f64 * share).ceil() as usize;
            arrivals[wanted.clamp(1, arrivals.len()) - 1]
        };
        Spread { to: [by(0.5), by(0.9), by(0.99), by(1.0)], messages, reached: arrivals.len() }
    }

    fn forward(
        &mut self,
        tree: &Tree,
        node: usize,
        came: u32,
        at: u64,
        queue: &mut BinaryHeap<Reverse<(u64, u32)>>,
        messages: &mut u64,
    ) {
        for end in self.begins[node]..self.begins[node + 1] {
            if end == came || tree.pruned[end as usize] {
                continue;
            }
            *messages += 1;
            let delay = self.plan.links.delay(&mut self.rng, u64::from(self.least_us[end as usize]));
            queue.push(Reverse((at + delay, self.twins[end as usize])));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::reading::Reading;
    use crate::sim::crowd::{self, Crowd};

    const LINKS: Links = Links { near_us: 1000, far_us: 1000, jitter: 0.1, loss: 0.0 };

    #[test]
    fn after_the_first_flood_every_node_is_reached_by_one_message() {
        let mut flood = Flood::new(Plan { nodes: 2000, degree: 6, links: LINKS, seed: 1 });
        let mut tree = flood.tree(17);
        let first = flood.spread(&mut tree);
        assert!(first.messages > 2 * 2000 && first.reached == 2000, "{first:?}");
        for _ in 0..5 {
            let next = flood.spread(&mut tree);
            assert_eq!((next.messages, next.reached), (1999, 2000));
            assert!((3_000..9_000).contains(&next.to[3]) && next.to[0] < next.to[3], "{next:?}");
        }
    }

    /// Median over updates of many origins until all hold it, in µs.
    fn median(mut times: Vec<u64>) -> f64 {
        times.sort_unstable();
        times[times.len() / 2] as f64
    }

    #[test]
    fn the_model_agrees_with_full_nodes() {
        let nodes = 60;
        let mut flood = Flood::new(Plan { nodes, degree: 6, links: LINKS, seed: 3 });
        let of_model = (0..nodes).map(|origin| {
            let mut tree = flood.tree(origin);
            flood.spread(&mut tree);
            flood.spread(&mut tree).to[3]
        });
        let of_model = median(of_model.collect());
        let plan =
            crowd::Plan { nodes, regions: 1, voters: 3, degree: 6, links: LINKS, disk_us: crowd::DISK_US, seed: 3 };
        let mut crowd = Crowd::new(plan, 1000);
        while !crowd.is_whole() {
            crowd.run_until(crowd.now() + 500_000);
        }
        for update in 0..2 * nodes as u64 {
            let due = crowd.now() + 30_000;
            crowd.write_at(due, update as usize % nodes, Reading::new(update as f64, Crowd::wall_at(due)));
            crowd.run_until(crowd.now() + 30_000);
            if update < nodes as u64 {
                crowd.take_held();
            }
        }
        crowd.run_until(crowd.now() + 100_000);
        let mut last = vec![(u64::MAX, 0u64); 2 * nodes];
        for (update, _, at) in crowd.take_held().into_iter().flatten() {
            let seen = &mut last[update as usize];
            *seen = (seen.0.min(at), seen.1.max(at));
        }
        let of_nodes = median(last[nodes..].iter().map(|(first, last)| last - first).collect());
        let ratio = of_model / of_nodes;
        assert!((0.75..1.33).contains(&ratio), "model {of_model} µs, full nodes {of_nodes} µs");
    }
}
