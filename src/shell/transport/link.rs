//! One connection: a reader and a writer that end together.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

use crate::core::event::Event;
use crate::core::id::LinkId;
use crate::core::message::session::ErrorMessage;
use crate::core::message::{DecodeError, Message};
use crate::core::state::system::Addr;
use crate::shell::transport::{
    FRAME_PATIENCE, HANGUP_PATIENCE, HELLO_BYTES_MAX, HELLO_PATIENCE, QUEUE_BYTES_MAX, Sink, frame,
};

/// The sending end of a link.
#[derive(Clone)]
pub struct LinkHandle {
    /// Which link.
    pub id: LinkId,
    out: mpsc::UnboundedSender<Out>,
    queued: Arc<AtomicUsize>,
}

enum Out {
    Frame { bytes: Vec<u8>, notify: bool },
    Hangup,
}

impl LinkHandle {
    /// Queues a frame. With `notify`, the link reports `LinkReady` once it is handed to the network.
    ///
    /// A peer that lets more than [`QUEUE_BYTES_MAX`] pile up is hung up on instead.
    pub fn send(&self, bytes: Vec<u8>, notify: bool) {
        let queued = self.queued.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
        // A link that has ended has said so by LinkDown.
        let _ = self.out.send(if queued > QUEUE_BYTES_MAX { Out::Hangup } else { Out::Frame { bytes, notify } });
    }

    /// Ends the link after what was queued.
    pub fn hang_up(&self) {
        let _ = self.out.send(Out::Hangup);
    }
}

/// Runs a connection until it ends, and reports that it has.
pub async fn run_tcp<S: Sink>(stream: TcpStream, dialed: Option<Addr>, sink: Arc<S>) {
    // Without it every short frame would wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let (read, write) = stream.into_split();
    run(read, write, dialed, sink).await;
}

/// The same within this process.
pub async fn run_in_memory<S: Sink>(stream: DuplexStream, dialed: Option<Addr>, sink: Arc<S>) {
    let (read, write) = tokio::io::split(stream);
    run(read, write, dialed, sink).await;
}

async fn run<R, W, S>(read: R, write: W, dialed: Option<Addr>, sink: Arc<S>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    S: Sink,
{
    let id = sink.next_link();
    let (out, queue) = mpsc::unbounded_channel();
    let queued = Arc::new(AtomicUsize::new(0));
    let handle = LinkHandle { id, out, queued: queued.clone() };
    sink.up(handle.clone(), dialed).await;
    tokio::select! {
        () = read_frames(read, handle, &sink) => {}
        () = write_frames(write, id, queue, queued, &sink) => {}
        () = sink.stopped() => return,
    }
    sink.event(Event::LinkDown { link: id }).await;
}

async fn read_frames<S: Sink>(read: impl AsyncRead + Unpin, handle: LinkHandle, sink: &Arc<S>) {
    let link = handle.id;
    // The codec makes room for a frame as soon as it is announced: a stranger is not given much.
    let codec = LengthDelimitedCodec::builder().max_frame_length(HELLO_BYTES_MAX).new_codec();
    let mut frames = FramedRead::with_capacity(read, codec, 8 * 1024);
    let mut patience = HELLO_PATIENCE;
    loop {
        let bytes = match timeout(patience, frames.next()).await {
            Ok(Some(Ok(bytes))) => bytes,
            Ok(Some(Err(error))) => {
                if error.kind() == io::ErrorKind::InvalidData {
                    sink.reject(link, format!("{error}; the connection is closed"), false);
                }
                return;
            }
            Ok(None) => return,
            Err(_) => return sink.reject(link, format!("no frame within {} s", patience.as_secs()), false),
        };
        let message = match Message::decode(&bytes) {
            Ok(message) => message,
            Err(DecodeError::UnknownType(kind)) if patience == FRAME_PATIENCE => {
                let why = format!("unknown message type {kind:?}");
                let answer = Message::Error(ErrorMessage::unknown_type(&kind));
                if let Ok(bytes) = frame(&answer, HELLO_BYTES_MAX) {
                    handle.send(bytes, false);
                }
                sink.reject(link, why, true);
                continue;
            }
            Err(error) => return sink.reject(link, format!("{error}; the connection is closed"), false),
        };
        if patience == HELLO_PATIENCE {
            if !matches!(message, Message::Hello(_) | Message::Error(_)) {
                let why = format!("first frame is {}, not HELLO; the connection is closed", message.type_name());
                return sink.reject(link, why, false);
            }
            patience = FRAME_PATIENCE;
            frames.decoder_mut().set_max_frame_length(sink.frame_bytes_max());
        }
        sink.count_in(message.type_name(), bytes.len());
        sink.event(Event::Received { link, message: Box::new(message) }).await;
    }
}

/// Bytes gathered into one write at most, unless one frame alone is larger.
const WRITE_BYTES: usize = 256 * 1024;

async fn write_frames<S: Sink>(
    mut write: impl AsyncWrite + Unpin,
    link: LinkId,
    mut queue: mpsc::UnboundedReceiver<Out>,
    queued: Arc<AtomicUsize>,
    sink: &Arc<S>,
) {
    let mut buffer = Vec::new();
    loop {
        let Some(first) = queue.recv().await else { return };
        let (mut notify, mut hang_up) = (false, false);
        let mut next = Some(first);
        while let Some(out) = next {
            match out {
                Out::Frame { bytes, notify: wanted } => {
                    notify |= wanted;
                    if buffer.is_empty() { buffer = bytes } else { buffer.extend_from_slice(&bytes) }
                }
                Out::Hangup => hang_up = true,
            }
            next = if hang_up || buffer.len() >= WRITE_BYTES { None } else { queue.try_recv().ok() };
        }
        let patience = if hang_up { HANGUP_PATIENCE } else { Duration::from_secs(60) };
        if !matches!(timeout(patience, write.write_all(&buffer)).await, Ok(Ok(()))) {
            return;
        }
        queued.fetch_sub(buffer.len(), Ordering::Relaxed);
        buffer.clear();
        if hang_up {
            let _ = timeout(HANGUP_PATIENCE, write.shutdown()).await;
            return;
        }
        if notify {
            sink.event(Event::LinkReady { link }).await;
        }
    }
}
