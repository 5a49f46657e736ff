//! Connections between members, and what goes over them.

use crate::core::event::Event;
use crate::core::id::LinkId;
use crate::core::message::Message;
use crate::core::state::system::Addr;
use crate::sim::cluster::Cluster;
use crate::sim::network::Arrival;
use crate::sim::oracles::Actor;
use crate::sim::queue::What;

impl Cluster {
    pub(super) fn dial(&mut self, m: usize, addr: Addr) {
        let (life, now) = (self.members[m].life, self.queue.now());
        let Some(to) = self.by_addr.get(&addr).copied() else {
            return self.queue.after(300, What::DialFailed { member: m, life, addr, refused: true });
        };
        if self.net.is_blocked(m, to) || self.net.is_blocked(to, m) || self.members[to].dials_fail_until > now {
            let patience = 1_000_000 + self.rng.below(2_000_000) as u64;
            return self.queue.after(patience, What::DialFailed { member: m, life, addr, refused: false });
        }
        let round_trip = self.net.latency(m, to) + self.net.latency(to, m);
        if self.is_refusing(to) {
            return self.queue.after(round_trip, What::DialFailed { member: m, life, addr, refused: true });
        }
        self.queue.after(round_trip, What::Connect { from: m, life, to });
    }

    /// True if nobody listens there.
    fn is_refusing(&self, m: usize) -> bool {
        self.members[m].node.is_none() && self.members[m].lingers_until <= self.queue.now()
    }

    pub(super) fn on_connect(&mut self, from: usize, life: u32, to: usize) {
        if self.members[from].life != life || self.members[from].node.is_none() {
            return;
        }
        let addr = self.members[to].addr.clone();
        let refused = self.is_refusing(to);
        if refused || self.net.is_blocked(from, to) || self.net.is_blocked(to, from) {
            return self.step(from, Event::DialFailed { addr, refused });
        }
        let [dialer, other] = [from, to].map(|m| (m, self.members[m].life, self.next_link(m)));
        self.net.connect(&mut self.queue, dialer, other);
        self.step(from, Event::LinkUp { link: dialer.2, dialed: Some(addr) });
    }

    pub(super) fn on_accept(&mut self, conn: usize) {
        let (member, life) = (self.net.end(conn, 1).member, self.net.end(conn, 1).life);
        if self.members[member].node.is_none() || self.members[member].life != life {
            return self.queue.after(100, What::Down { conn, side: 0 });
        }
        let link = self.net.accept(conn);
        self.step(member, Event::LinkUp { link, dialed: None });
    }

    fn next_link(&mut self, m: usize) -> LinkId {
        self.members[m].next_link += 1;
        LinkId(self.members[m].next_link)
    }

    pub(super) fn on_deliver(&mut self, conn: usize, side: usize) {
        match self.net.deliver(&mut self.queue, conn, side) {
            Arrival::Message { member, link, message } => self.step(member, Event::Received { link, message }),
            Arrival::Closed => {
                if let Some(end) = self.net.down(conn, 1 - side) {
                    self.step(end.member, Event::LinkDown { link: end.link });
                }
            }
            Arrival::Nothing => {}
        }
    }

    pub(super) fn send(&mut self, m: usize, link: LinkId, message: Message, notify: bool) {
        let member = &self.members[m];
        let actor = Actor { voter: &member.voter, store: member.disk.store() };
        let verdict = self.oracles.sent(actor, &message);
        self.break_on(verdict);
        if self.is_counting() {
            self.frame.clear();
            message.encode(&mut self.frame);
            self.oracles.spread.sent(&message, self.frame.len() + 4);
        }
        let message = if self.plan.codec { self.through_the_wire(message) } else { message };
        self.net.send(&mut self.queue, m, link, message, notify);
    }

    /// Writes a message down and reads it back.
    fn through_the_wire(&mut self, message: Message) -> Message {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        match Message::decode(&bytes) {
            Ok(back) if back == message => back,
            other => {
                let verdict = Err(format!("{message:?} comes back from the wire as {other:?}"));
                self.judge("codec", verdict);
                message
            }
        }
    }
}
