//! Transport: TCP links that carry frames of a 4-byte big-endian length and one JSON object.
//!
//! Knows nothing of what messages mean, except that the first frame of a stranger must be a short HELLO.
//! Many nodes of one process may do without sockets among themselves ([`MemoryNet`]); nothing else is different then.
//! A peer that sends garbage, too much, or too slowly loses its connection, never more.
//!
//! Invariant: memory per link is bounded: one frame being read, and [`QUEUE_BYTES_MAX`] waiting to be sent.

mod link;
mod listen;
mod memory;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::core::event::Event;
use crate::core::id::LinkId;
use crate::core::message::Message;
use crate::core::state::system::Addr;

pub use link::LinkHandle;
pub use listen::{ListenError, Listener, listen, serve};
pub use memory::{MemoryListener, MemoryNet};

/// Longest first frame: a HELLO fits many times over.
pub const HELLO_BYTES_MAX: usize = 64 * 1024;
/// How long a stranger may take to say HELLO.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);
/// How long any one frame may take to arrive; keepalives make silence this long a dead link.
const FRAME_PATIENCE: Duration = Duration::from_secs(30);
/// How long a host may take to answer a dial.
const DIAL_PATIENCE: Duration = Duration::from_secs(3);
/// How long a peer may take nothing of what is written to it.
const WRITE_PATIENCE: Duration = Duration::from_secs(60);
/// How long a link that is being hung up may take to send what was queued.
const HANGUP_PATIENCE: Duration = Duration::from_secs(1);
/// Bytes waiting to be sent on one link before the peer is given up as too slow.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where links report, and whom they count for. Implemented by the runtime.
pub trait Sink: Send + Sync + 'static {
    /// A link stands; its handle must be registered before any of its events is handled.
    fn up(&self, handle: LinkHandle, dialed: Option<Addr>) -> impl Future<Output = ()> + Send;
    /// Something happened on a link, or to a dial. Waits while the node is behind: that is the back-pressure.
    fn event(&self, event: Event) -> impl Future<Output = ()> + Send;
    /// A message was read.
    fn count_in(&self, type_name: &'static str, bytes: usize);
    /// A frame was refused; the connection ends unless `unknown`.
    fn reject(&self, link: LinkId, why: String, unknown: bool);
    /// A number no other link of this node has had.
    fn next_link(&self) -> LinkId;
    /// Largest frame, in bytes.
    fn frame_bytes_max(&self) -> usize;
    /// Where dials go before they go to the network, or instead.
    fn memory(&self) -> Option<&MemoryNet>;
    /// Resolves when the node has stopped: its links end then.
    fn stopped(&self) -> impl Future<Output = ()> + Send;
}

/// Connects to `addr` and reports how that went.
pub fn dial<S: Sink>(addr: Addr, sink: Arc<S>) {
    tokio::spawn(async move {
        if let Some(net) = sink.memory() {
            match net.connect(&addr) {
                Some(stream) => return link::run_in_memory(stream, Some(addr), sink).await,
                None if net.stands_alone() => return sink.event(Event::DialFailed { addr, refused: true }).await,
                None => {}
            }
        }
        let connected = tokio::select! {
            connected = tokio::time::timeout(DIAL_PATIENCE, TcpStream::connect(&*addr)) => connected,
            () = sink.stopped() => return,
        };
        match connected {
            Ok(Ok(stream)) => link::run_tcp(stream, Some(addr), sink).await,
            Ok(Err(error)) => {
                let refused = error.kind() == io::ErrorKind::ConnectionRefused;
                sink.event(Event::DialFailed { addr, refused }).await;
            }
            Err(_) => sink.event(Event::DialFailed { addr, refused: false }).await,
        }
    });
}

/// Writes one frame into `bytes`, in place of what is there: length and content.
///
/// # Errors
/// The content's size, if it is larger than `max`.
pub fn frame(message: &Message, max: usize, bytes: &mut Vec<u8>) -> Result<(), usize> {
    bytes.clear();
    bytes.extend_from_slice(&[0; 4]);
    message.encode(bytes);
    let len = bytes.len() - 4;
    if len > max {
        return Err(len);
    }
    bytes[..4].copy_from_slice(&(len as u32).to_be_bytes());
    Ok(())
}
