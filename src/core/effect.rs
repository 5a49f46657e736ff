//! Everything a node asks of the world, in the order in which it must happen.

use crate::core::event::Reply;
use crate::core::hard_state::Record;
use crate::core::id::{Hash, LinkId, PersistSeq, RequestId};
use crate::core::message::Message;
use crate::core::message::agreement::Content;
use crate::core::notice::Notice;
use crate::core::state::entry::{Entry, Key};
use crate::core::state::system::Addr;
use crate::core::work::Work;

/// One request to the world.
///
/// The node itself holds back what depends on a write until `Event::Persisted` says that it is durable, so
/// a driver never has to: heartbeats and gossip do not wait for a disk.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Connect to this address; answered by `LinkUp` or `DialFailed`.
    Dial { addr: Addr },
    /// Send on this link, in order. With `notify`, answer by `LinkReady` once it is handed to the network.
    Send { link: LinkId, message: Message, notify: bool },
    /// Close this link after what was sent; answered by `LinkDown`.
    Hangup { link: LinkId },
    /// Write these records atomically, after all earlier ones; answered by `Persisted`.
    Persist { seq: PersistSeq, records: Vec<Record> },
    /// Read a document or body from disk; answered by `Loaded`.
    Load { content: Content, hash: Hash },
    /// Do this beside the node, which goes on meanwhile; answered by `Computed`.
    Compute { work: Work },
    /// Answer a local client.
    Reply { request: RequestId, reply: Reply },
    /// An entry changed: for those who watch.
    Changed { key: Key, entry: Entry },
    /// Something worth telling.
    Notice(Notice),
    /// Stop the process: it is not safe or not wanted to go on.
    Stop { why: StopReason },
}

/// Why a node stops itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It has left as it was asked to.
    Left,
    /// Another live node runs on a copy of this data directory, and it was there first.
    Clone(String),
    /// The peers it was told to join refuse it for good.
    Refused(String),
}
