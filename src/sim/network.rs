//! Connections between simulated nodes: in order and reliable while they live, as TCP is, and as unreliable as
//! TCP's ends are when hosts die, paths go one way and resets overtake data.
//!
//! A blocked path holds data back until it opens again or an end gives up. Beyond what TCP does, consensus
//! messages may be lost, doubled and overtaken, since agreement must not depend on the transport.

use std::collections::{BTreeMap, VecDeque};

use crate::core::id::LinkId;
use crate::core::message::Message;
use crate::core::rng::Rng;
use crate::sim::flight::Flight;
use crate::sim::queue::{Queue, What};
use crate::sim::scenario::Distance;

/// How long a system sends again what nobody acknowledges before it gives a connection up, in microseconds: the default
/// of Linux (`tcp_retries2`).
const TCP_GIVES_UP_US: u64 = 924_600_000;

/// Messages a direction holds before its sender must wait.
const WINDOW: usize = 64;

/// One end of a connection.
#[derive(Clone, Debug)]
pub struct End {
    /// Whose end.
    pub member: usize,
    /// Of which of its lives.
    pub life: u32,
    /// What it calls the connection.
    pub link: LinkId,
    /// It has been told that the connection stands, and not that it is gone.
    pub up: bool,
    /// It has closed and waits to be told so.
    closing: bool,
}

/// What one end has sent.
#[derive(Debug, Default)]
struct Direction {
    flights: VecDeque<(u64, Flight)>,
    last_due: u64,
    /// A `Deliver` is in the queue.
    scheduled: bool,
    /// What is sent vanishes.
    void: bool,
    stalled_until: u64,
    /// The sender waits for room.
    owes_ready: bool,
    ready_due: u64,
    /// Messages delivered so far.
    moved: u64,
    watched: bool,
}

/// A connection; side 0 dialed.
#[derive(Debug)]
struct Conn {
    ends: [End; 2],
    ways: [Direction; 2],
}

/// What comes out of a connection.
#[derive(Debug)]
pub enum Arrival {
    /// A message, and for whom.
    Message { member: usize, link: LinkId, message: Box<Message> },
    /// The other side has closed.
    Closed,
    /// Nothing for now.
    Nothing,
}

/// Rates at which single consensus messages go wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mangling {
    /// Probability of loss.
    pub loss: f64,
    /// Probability of coming twice.
    pub duplicate: f64,
    /// Probability of being overtaken.
    pub reorder: f64,
    /// Probability, of any message, that TCP has to send it again.
    pub retransmit: f64,
}

/// How often each kind of mangling has happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mangled {
    /// Messages lost.
    pub lost: u64,
    /// Messages doubled.
    pub doubled: u64,
    /// Messages overtaken.
    pub overtaken: u64,
    /// Messages sent again by TCP.
    pub again: u64,
}

/// All connections and paths.
#[derive(Debug)]
pub struct Network {
    rng: Rng,
    conns: Vec<Conn>,
    /// By member: its ends.
    links: Vec<BTreeMap<LinkId, (usize, usize)>>,
    /// By ordered pair: how many faults block this path, where any do.
    blocked: BTreeMap<(usize, usize), u32>,
    /// By member: in which region it is, and how far apart the nodes of that are.
    places: Vec<(usize, Distance)>,
    /// By member: factor on every latency.
    slowness: Vec<u64>,
    /// Shortest and longest one-way latency between regions, in microseconds.
    pub wan_us: (u64, u64),
    /// Strength of mangling now.
    pub mangling: Mangling,
    /// What mangling has done.
    pub mangled: Mangled,
}

impl Network {
    /// A network without members.
    pub fn new(rng: Rng) -> Self {
        Self {
            rng,
            conns: Vec::new(),
            links: Vec::new(),
            blocked: BTreeMap::new(),
            places: Vec::new(),
            slowness: Vec::new(),
            wan_us: (15_000, 55_000),
            mangling: Mangling::default(),
            mangled: Mangled::default(),
        }
    }

    /// Adds a member in a region, so far from the others of that; a WAN away from all others.
    pub fn add(&mut self, region: usize, near: Distance) {
        self.links.push(BTreeMap::new());
        self.slowness.push(1);
        self.places.push((region, near));
    }

    /// True if nothing gets from one to the other.
    pub fn is_blocked(&self, from: usize, to: usize) -> bool {
        !self.blocked.is_empty() && self.blocked.contains_key(&(from, to))
    }

    /// Paths that are blocked, in order.
    pub fn blocked(&self) -> Vec<(usize, usize)> {
        self.blocked.keys().copied().collect()
    }

    /// One more fault blocks this path.
    pub fn block(&mut self, from: usize, to: usize) {
        *self.blocked.entry((from, to)).or_default() += 1;
    }

    /// One fault less blocks this path.
    pub fn unblock(&mut self, queue: &mut Queue, from: usize, to: usize) {
        let left = self.blocked.get(&(from, to)).copied().unwrap_or(0).saturating_sub(1);
        match left {
            0 => {
                self.blocked.remove(&(from, to));
                self.release(queue, Some((from, to)));
            }
            left => {
                self.blocked.insert((from, to), left);
            }
        }
    }

    fn distance(&self, from: usize, to: usize) -> Distance {
        let ((region, near), (other, _)) = (self.places[from], self.places[to]);
        if region == other { near } else { Distance::Wan }
    }

    /// Makes all latencies of a member this many times as long.
    pub fn slow_down(&mut self, member: usize, factor: u64) {
        self.slowness[member] = factor;
    }

    /// Draws the time one message takes.
    pub fn latency(&mut self, from: usize, to: usize) -> u64 {
        let (base, tail) = match self.distance(from, to) {
            Distance::Host => (20, 60),
            Distance::Lan => (120, 300),
            // A fixed part for each pair, so that triangles are not all equal.
            Distance::Wan => {
                let (least, most) = self.wan_us;
                (least + (most - least) / 10 * ((from * 7 + to * 7) % 11) as u64, 4_000)
            }
        };
        // Exponential jitter: rarely long, as queues are.
        let jitter = -(1.0 - self.rng.unit()).ln() * tail as f64;
        (base + jitter as u64) * self.slowness[from].max(self.slowness[to])
    }

    /// A connection stands: side 0 knows, side 1 will by `Accept`. Returns its number.
    pub fn connect(&mut self, queue: &mut Queue, dialer: (usize, u32, LinkId), other: (usize, u32, LinkId)) -> usize {
        let conn = self.conns.len();
        let end = |(member, life, link): (usize, u32, LinkId), up| End { member, life, link, up, closing: false };
        self.conns.push(Conn { ends: [end(dialer, true), end(other, false)], ways: Default::default() });
        self.links[dialer.0].insert(dialer.2, (conn, 0));
        let accepted = queue.now() + self.latency(dialer.0, other.0);
        self.conns[conn].ways[0].last_due = accepted;
        queue.at(accepted, What::Accept { conn });
        conn
    }

    /// The dialed end learns of the connection; what it calls it.
    pub fn accept(&mut self, conn: usize) -> LinkId {
        let end = &mut self.conns[conn].ends[1];
        end.up = true;
        self.links[end.member].insert(end.link, (conn, 1));
        end.link
    }

    /// An end of a connection.
    pub fn end(&self, conn: usize, side: usize) -> &End {
        &self.conns[conn].ends[side]
    }

    /// Takes a message from an end to the other.
    pub fn send(&mut self, queue: &mut Queue, member: usize, link: LinkId, message: Message, notify: bool) {
        let Some(&(conn, side)) = self.links[member].get(&link) else { return };
        let to = self.conns[conn].ends[1 - side].member;
        let now = queue.now();
        let latency = self.latency(member, to) + self.retransmission();
        let mangle = self.mangle(&message);
        let way = &mut self.conns[conn].ways[side];
        if notify {
            let full = way.flights.len() > WINDOW || way.stalled_until > now;
            way.owes_ready = full;
            if !full {
                way.ready_due = now + 10;
                queue.at(way.ready_due, What::Ready { conn, side });
            }
        }
        if way.void {
            return;
        }
        match mangle {
            Mangle::Lose => return,
            Mangle::Delay(extra) => {
                let message = Box::new(message);
                return queue.at(now + latency + extra, What::Stray { conn, side, message });
            }
            Mangle::Double(extra) => {
                let message = Box::new(message.clone());
                queue.at(now + latency + extra, What::Stray { conn, side, message });
            }
            Mangle::Not => {}
        }
        self.enqueue(queue, conn, side, latency, message.into());
    }

    /// Takes the first message in a direction, if it has arrived; asks to be called again for the next.
    pub fn deliver(&mut self, queue: &mut Queue, conn: usize, side: usize) -> Arrival {
        let now = queue.now();
        let (from, to) = self.pair(conn, side);
        let blocked = self.is_blocked(from, to);
        let stalled = self.conns[conn].ways[side].stalled_until;
        let way = &mut self.conns[conn].ways[side];
        way.scheduled = false;
        let Some(&(due, _)) = way.flights.front() else { return Arrival::Nothing };
        if blocked {
            self.watch(queue, conn, side);
            return Arrival::Nothing;
        }
        if due.max(stalled) > now {
            way.scheduled = true;
            queue.at(due.max(stalled), What::Deliver { conn, side });
            return Arrival::Nothing;
        }
        let (_, flight) = way.flights.pop_front().expect("looked at above");
        way.moved += 1;
        if let Some(&(due, _)) = way.flights.front() {
            way.scheduled = true;
            queue.at(due, What::Deliver { conn, side });
        }
        if way.owes_ready && way.flights.len() <= WINDOW / 2 {
            way.owes_ready = false;
            way.ready_due = now + 10;
            queue.at(way.ready_due, What::Ready { conn, side });
        }
        let end = &self.conns[conn].ends[1 - side];
        match flight.land() {
            None => Arrival::Closed,
            Some(message) if end.up && !end.closing => Arrival::Message { member: end.member, link: end.link, message },
            Some(_) => {
                // Nobody has this end open any more: its host answers with a reset.
                self.conns[conn].ways[side].flights.clear();
                queue.after(200, What::Down { conn, side });
                Arrival::Nothing
            }
        }
    }

    /// A message that left the order of its connection arrives, if both ends and the path still stand.
    pub fn stray(&self, conn: usize, side: usize) -> Option<(usize, LinkId)> {
        let (from, to) = self.pair(conn, side);
        let [sender, receiver] = [&self.conns[conn].ends[side], &self.conns[conn].ends[1 - side]];
        (sender.up && receiver.up && !receiver.closing && !self.is_blocked(from, to))
            .then_some((receiver.member, receiver.link))
    }

    /// An end is told that the connection is gone; `None` if it knows already.
    pub fn down(&mut self, conn: usize, side: usize) -> Option<End> {
        let end = &mut self.conns[conn].ends[side];
        if !std::mem::replace(&mut end.up, false) {
            return None;
        }
        self.links[end.member].remove(&end.link);
        // What was sent before closing still arrives.
        if !end.closing {
            self.conns[conn].ways[side].flights.clear();
        }
        Some(self.conns[conn].ends[side].clone())
    }

    /// An end is told that it may send more; `None` if it has sent since, or is gone.
    pub fn ready(&self, queue: &Queue, conn: usize, side: usize) -> Option<&End> {
        let end = &self.conns[conn].ends[side];
        (end.up && self.conns[conn].ways[side].ready_due <= queue.now()).then_some(end)
    }

    /// A node closes its end after what it has sent.
    pub fn hang_up(&mut self, queue: &mut Queue, member: usize, link: LinkId) {
        let Some(&(conn, side)) = self.links[member].get(&link) else { return };
        let to = self.conns[conn].ends[1 - side].member;
        let latency = self.latency(member, to);
        self.enqueue(queue, conn, side, latency, Flight::END);
        self.links[member].remove(&link);
        self.conns[conn].ends[side].closing = true;
        queue.after(10, What::Down { conn, side });
    }

    /// A process has died. With `fin` its host says so to all peers; without, they hear nothing.
    pub fn process_died(&mut self, queue: &mut Queue, member: usize, fin: bool) {
        for (_, (conn, side)) in std::mem::take(&mut self.links[member]) {
            let to = self.conns[conn].ends[1 - side].member;
            self.conns[conn].ends[side].up = false;
            if fin {
                let latency = self.latency(member, to);
                self.enqueue(queue, conn, side, latency, Flight::END);
            } else {
                self.conns[conn].ways[side].flights.clear();
            }
        }
    }

    /// Resets a random connection; false if there is none.
    pub fn reset_one(&mut self, queue: &mut Queue, rng: &mut Rng) -> bool {
        let Some((conn, _)) = self.random_end(rng) else { return false };
        for side in 0..2 {
            self.conns[conn].ways[side].flights.clear();
            queue.after(rng.below(5_000) as u64, What::Down { conn, side });
        }
        true
    }

    /// Leaves a random connection half open; false if there is none.
    pub fn half_open_one(&mut self, queue: &mut Queue, rng: &mut Rng) -> bool {
        let Some((conn, side)) = self.random_end(rng) else { return false };
        queue.after(0, What::Down { conn, side });
        for way in &mut self.conns[conn].ways {
            way.flights.clear();
            way.void = true;
        }
        // The other end is told when its system gives up what was never acknowledged, after a quarter of an hour.
        queue.after(TCP_GIVES_UP_US, What::Down { conn, side: 1 - side });
        true
    }

    /// An end of a connection whose other end is gone, and has been told nothing: whose it is, and who is gone.
    pub fn half_open(&self) -> Option<(usize, usize)> {
        let mut ends = self.links.iter().flat_map(BTreeMap::values).copied();
        let (conn, side) = ends.find(|(conn, side)| {
            let Conn { ends, ways } = &self.conns[*conn];
            ways.iter().all(|way| way.void) && !ends[1 - side].up
        })?;
        Some(self.pair(conn, side))
    }

    /// Has a random direction take nothing more for so long; false if there is none.
    pub fn stall_one(&mut self, queue: &Queue, rng: &mut Rng, span: u64) -> bool {
        let Some((conn, side)) = self.random_end(rng) else { return false };
        self.conns[conn].ways[side].stalled_until = queue.now() + span;
        true
    }

    /// True if the end has given up: nothing has moved since it was asked.
    pub fn gave_up(&mut self, conn: usize, side: usize, moved: u64) -> bool {
        let (from, to) = self.pair(conn, side);
        let blocked = self.is_blocked(from, to);
        let way = &mut self.conns[conn].ways[side];
        way.watched = false;
        blocked && way.moved == moved && !way.flights.is_empty()
    }

    /// Ends all that is wrong with connections: what is held back flows again.
    pub fn calm(&mut self, queue: &mut Queue) {
        self.mangling = Mangling::default();
        for way in self.conns.iter_mut().flat_map(|conn| &mut conn.ways) {
            way.stalled_until = 0;
        }
        self.release(queue, None);
    }

    /// Messages in flight and held back.
    pub fn in_flight(&self) -> usize {
        self.conns.iter().flat_map(|conn| &conn.ways).map(|way| way.flights.len()).sum()
    }

    fn pair(&self, conn: usize, side: usize) -> (usize, usize) {
        (self.conns[conn].ends[side].member, self.conns[conn].ends[1 - side].member)
    }

    fn enqueue(&mut self, queue: &mut Queue, conn: usize, side: usize, latency: u64, flight: Flight) {
        let way = &mut self.conns[conn].ways[side];
        if way.void {
            return;
        }
        way.last_due = way.last_due.max(queue.now() + latency);
        way.flights.push_back((way.last_due, flight));
        if !way.scheduled {
            way.scheduled = true;
            queue.at(way.last_due, What::Deliver { conn, side });
        }
    }

    /// Lets an end give up if its blocked path stays blocked.
    fn watch(&mut self, queue: &mut Queue, conn: usize, side: usize) {
        let patience = 3_000_000 + self.rng.below(17_000_000) as u64;
        let way = &mut self.conns[conn].ways[side];
        if !std::mem::replace(&mut way.watched, true) {
            queue.after(patience, What::TcpTimeout { conn, side, moved: way.moved });
        }
    }

    /// Lets what was held back flow again, at TCP's next attempt.
    fn release(&mut self, queue: &mut Queue, path: Option<(usize, usize)>) {
        for (conn, both) in self.conns.iter_mut().enumerate() {
            for side in 0..2 {
                let pair = (both.ends[side].member, both.ends[1 - side].member);
                let way = &mut both.ways[side];
                if path.is_none_or(|path| path == pair) && !way.flights.is_empty() && !way.scheduled {
                    way.scheduled = true;
                    queue.after(self.rng.below(200_000) as u64, What::Deliver { conn, side });
                }
            }
        }
    }

    fn random_end(&self, rng: &mut Rng) -> Option<(usize, usize)> {
        let ends: usize = self.links.iter().map(BTreeMap::len).sum();
        if ends == 0 {
            return None;
        }
        self.links.iter().flat_map(BTreeMap::values).nth(rng.below(ends)).copied()
    }

    /// What TCP's retransmission timeouts add, doubling with each loss in a row.
    fn retransmission(&mut self) -> u64 {
        let p = self.mangling.retransmit;
        let mut wait = 0;
        let mut timeout = 200_000;
        while p > 0.0 && timeout < 10_000_000 && self.rng.chance(p) {
            self.mangled.again += 1;
            wait += timeout;
            timeout *= 2;
        }
        wait
    }

    fn mangle(&mut self, message: &Message) -> Mangle {
        let Mangling { loss, duplicate, reorder, .. } = self.mangling;
        if loss + duplicate + reorder == 0.0 || !is_agreement(message) {
            return Mangle::Not;
        }
        let draw = self.rng.unit();
        let extra = self.rng.below(300_000) as u64;
        if draw < loss {
            self.mangled.lost += 1;
            Mangle::Lose
        } else if draw < loss + duplicate {
            self.mangled.doubled += 1;
            Mangle::Double(extra)
        } else if draw < loss + duplicate + reorder {
            self.mangled.overtaken += 1;
            Mangle::Delay(extra)
        } else {
            Mangle::Not
        }
    }
}

enum Mangle {
    Not,
    Lose,
    Double(u64),
    Delay(u64),
}

/// The messages that agreement alone depends on; the others rightly rely on their connection.
fn is_agreement(message: &Message) -> bool {
    matches!(
        message,
        Message::Heartbeat(_)
            | Message::HeartbeatAck(_)
            | Message::ElectionRequest(_)
            | Message::ElectionVote(_)
            | Message::CheckpointPropose(_)
            | Message::CheckpointAck(_)
            | Message::Relay(_)
            | Message::RelayAnswer(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::message::session::Keepalive;

    fn pair() -> (Network, Queue, usize) {
        let mut net = Network::new(Rng::new(1));
        net.add(0, Distance::Lan);
        net.add(0, Distance::Lan);
        let mut queue = Queue::default();
        let conn = net.connect(&mut queue, (0, 1, LinkId(1)), (1, 1, LinkId(9)));
        (net, queue, conn)
    }

    /// Runs until nothing is left to happen; counts messages that arrived and closings seen.
    fn run(net: &mut Network, queue: &mut Queue) -> (usize, usize) {
        let (mut arrived, mut closed) = (0, 0);
        while let Some(what) = queue.pop() {
            match what {
                What::Accept { conn } => assert_eq!(net.accept(conn), LinkId(9)),
                What::Deliver { conn, side } => match net.deliver(queue, conn, side) {
                    Arrival::Message { .. } => arrived += 1,
                    Arrival::Closed => closed += usize::from(net.down(conn, 1 - side).is_some()),
                    Arrival::Nothing => {}
                },
                What::Down { conn, side } => closed += usize::from(net.down(conn, side).is_some()),
                What::TcpTimeout { conn, side, moved } if net.gave_up(conn, side, moved) => {
                    closed += usize::from(net.down(conn, side).is_some());
                }
                _ => {}
            }
        }
        (arrived, closed)
    }

    fn say(net: &mut Network, queue: &mut Queue) {
        net.send(queue, 0, LinkId(1), Message::Keepalive(Keepalive {}), true);
    }

    #[test]
    fn what_is_sent_before_hanging_up_arrives_before_the_end_is_seen() {
        let (mut net, mut queue, _) = pair();
        say(&mut net, &mut queue);
        say(&mut net, &mut queue);
        net.hang_up(&mut queue, 0, LinkId(1));
        let (arrived, closed) = run(&mut net, &mut queue);
        assert_eq!((arrived, closed), (2, 2), "each end is told once");
    }

    #[test]
    fn a_blocked_path_holds_back_and_opens_again() {
        let (mut net, mut queue, _) = pair();
        net.block(0, 1);
        say(&mut net, &mut queue);
        for _ in 0..3 {
            if let Some(What::Deliver { conn, side }) = queue.pop() {
                assert!(matches!(net.deliver(&mut queue, conn, side), Arrival::Nothing));
            }
        }
        assert_eq!(net.in_flight(), 1);
        net.accept(0);
        net.unblock(&mut queue, 0, 1);
        assert_eq!(run(&mut net, &mut queue).0, 1);
    }

    #[test]
    fn an_end_gives_up_on_a_path_that_stays_blocked() {
        let (mut net, mut queue, _) = pair();
        net.block(0, 1);
        say(&mut net, &mut queue);
        assert_eq!(run(&mut net, &mut queue), (0, 1));
    }

    #[test]
    fn a_host_without_the_process_answers_with_a_reset() {
        let (mut net, mut queue, conn) = pair();
        net.accept(conn);
        net.process_died(&mut queue, 1, false);
        say(&mut net, &mut queue);
        while !matches!(queue.pop().expect("it is on its way"), What::Accept { .. }) {}
        assert_eq!(run(&mut net, &mut queue), (0, 1));
    }
}
