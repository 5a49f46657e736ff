//! What is going to happen, in the order of virtual time; of equal times, in the order it was asked for.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::core::event::Command;
use crate::core::id::{Hash, PersistSeq};
use crate::core::message::Message;
use crate::core::message::agreement::Content;
use crate::core::state::system::Addr;
use crate::core::work::Done;
use crate::sim::fault::Fault;

/// One thing that is going to happen. Members and connections are named by their numbers; a `life` guards against
/// things meant for a process that has died meanwhile.
#[derive(Debug)]
pub enum What {
    /// A process starts.
    Start { member: usize },
    /// A node's deadline.
    Wake { member: usize, life: u32, at: u64 },
    /// The first message in a direction of a connection arrives.
    Deliver { conn: usize, side: usize },
    /// A message arrives out of its order.
    Stray { conn: usize, side: usize, message: Box<Message> },
    /// A dial has gone through.
    Connect { from: usize, life: u32, to: usize },
    /// A dial has failed.
    DialFailed { member: usize, life: u32, addr: Addr, refused: bool },
    /// The dialed end learns of the connection.
    Accept { conn: usize },
    /// An end of a connection learns that it is gone.
    Down { conn: usize, side: usize },
    /// An end may send more.
    Ready { conn: usize, side: usize },
    /// An end gives up on a connection that has not moved since.
    TcpTimeout { conn: usize, side: usize, moved: u64 },
    /// A disk has made something durable.
    Disk { member: usize, life: u32 },
    /// A node learns what its disk has made durable.
    Persisted { member: usize, life: u32, seq: PersistSeq },
    /// A disk has read something.
    Loaded { member: usize, life: u32, content: Content, hash: Hash },
    /// Work that a node has asked for is done.
    Computed { member: usize, life: u32, done: Box<Done> },
    /// A node's sensors speak.
    Sense { member: usize },
    /// A client writes.
    Put,
    /// A client reads, anywhere or where it was sent.
    Read { at: Option<usize> },
    /// An operator asks for something, anywhere or where it was sent.
    Operate { at: Option<usize>, command: Command },
    /// A fault strikes.
    Fault(Fault),
    /// A lasting fault ends.
    Undo { episode: usize },
    /// The run looks at what phase it is in.
    Look,
}

/// What happens at a time, and which of those that were asked for at one time.
#[derive(Debug)]
struct Item<W> {
    at: u64,
    order: u64,
    what: W,
}

impl<W> PartialEq for Item<W> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<W> Eq for Item<W> {}

impl<W> PartialOrd for Item<W> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<W> Ord for Item<W> {
    /// The earliest is the greatest: the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// The queue, and with it virtual time in microseconds.
#[derive(Debug)]
pub struct Queue<W = What> {
    heap: BinaryHeap<Item<W>>,
    order: u64,
    now: u64,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), order: 0, now: 0 }
    }
}

impl<W> Queue<W> {
    /// Virtual time in microseconds since the run began.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Has `what` happen at `at`, or now if that has passed.
    pub fn at(&mut self, at: u64, what: W) {
        self.order += 1;
        self.heap.push(Item { at: at.max(self.now), order: self.order, what });
    }

    /// Has `what` happen after `delay` microseconds.
    pub fn after(&mut self, delay: u64, what: W) {
        self.at(self.now + delay, what);
    }

    /// Moves time to the next thing and takes it.
    pub fn pop(&mut self) -> Option<W> {
        let item = self.heap.pop()?;
        self.now = item.at;
        Some(item.what)
    }

    /// The same up to and including a time, which it then is.
    pub fn pop_until(&mut self, until: u64) -> Option<W> {
        if self.heap.peek().is_some_and(|item| item.at <= until) {
            return self.pop();
        }
        self.now = self.now.max(until);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_happen_in_order_of_time_then_of_asking() {
        let mut queue = Queue::default();
        queue.at(20, What::Put);
        queue.at(10, What::Look);
        queue.at(10, What::Read { at: None });
        assert!(matches!(queue.pop(), Some(What::Look)));
        assert!(matches!(queue.pop(), Some(What::Read { .. })));
        assert_eq!(queue.now(), 10);
        assert!(matches!(queue.pop(), Some(What::Put)));
        assert!(queue.pop().is_none());
        queue.at(5, What::Put);
        queue.pop();
        assert_eq!(queue.now(), 20, "time never runs back");
        queue.at(40, What::Put);
        assert!(queue.pop_until(39).is_none());
        assert_eq!(queue.now(), 39, "nothing happened meanwhile");
        assert!(queue.pop_until(40).is_some());
    }
}
