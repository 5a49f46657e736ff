//! One connection: a reader and a writer that end together. Each is a task of its own: what comes wakes nobody but who
//! reads it.
//!
//! While nothing waits, a frame goes to the network on the task that sends it: handing it to another would cost more
//! than the write. What the network has no room for waits for the writer, and what comes after it behind it.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWriteExt, DuplexStream, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};
use tokio_util::task::AbortOnDropHandle;

use crate::core::event::Event;
use crate::core::id::LinkId;
use crate::core::message::session::ErrorMessage;
use crate::core::message::{DecodeError, Message};
use crate::core::state::system::Addr;
use crate::shell::transport::{
    FRAME_PATIENCE, HANGUP_PATIENCE, HELLO_BYTES_MAX, HELLO_PATIENCE, QUEUE_BYTES_MAX, Sink, WRITE_PATIENCE, frame,
};

/// The sending end of a link.
#[derive(Clone)]
pub struct LinkHandle {
    /// Which link.
    pub id: LinkId,
    out: Arc<Outgoing>,
}

/// What is to be sent on a link.
struct Outgoing {
    waiting: Mutex<Waiting>,
    /// Something waits.
    work: Notify,
}

struct Waiting {
    /// Where frames go at once while nothing waits: nowhere once the link has ended, or within this process.
    direct: Option<Arc<OwnedWriteHalf>>,
    bytes: Vec<u8>,
    /// Bytes that the writer has taken and is still writing.
    taken: usize,
    notify: bool,
    hang_up: bool,
}

impl LinkHandle {
    /// Sends a frame, or lets it wait. With `notify`, somebody has to hear that it was handed to the network: true if
    /// it was already; if not, the link reports `LinkReady`.
    ///
    /// A peer that lets more than [`QUEUE_BYTES_MAX`] pile up is hung up on.
    pub fn send(&self, bytes: &[u8], notify: bool) -> bool {
        let mut waiting = self.out.waiting();
        let written = if waiting.is_idle() { waiting.write_now(bytes) } else { 0 };
        if written == bytes.len() {
            return notify;
        }
        waiting.bytes.extend_from_slice(&bytes[written..]);
        waiting.notify |= notify;
        waiting.hang_up |= waiting.bytes.len() + waiting.taken > QUEUE_BYTES_MAX;
        drop(waiting);
        self.out.work.notify_one();
        false
    }

    /// Ends the link after what waits.
    pub fn hang_up(&self) {
        self.out.waiting().hang_up = true;
        self.out.work.notify_one();
    }
}

impl Outgoing {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no holder panics")
    }
}

impl Waiting {
    fn is_idle(&self) -> bool {
        self.bytes.is_empty() && self.taken == 0 && !self.hang_up
    }

    /// How many of the first bytes the network takes at once. An error is for the writer to find.
    fn write_now(&self, bytes: &[u8]) -> usize {
        self.direct.as_ref().and_then(|stream| stream.try_write(bytes).ok()).unwrap_or(0)
    }
}

/// Runs a connection until it ends, and reports that it has.
pub async fn run_tcp<S: Sink>(stream: TcpStream, dialed: Option<Addr>, sink: Arc<S>) {
    // Without it every short frame would wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let (read, write) = stream.into_split();
    run(read, Writing::Tcp(Arc::new(write)), dialed, sink).await;
}

/// The same within this process.
pub async fn run_in_memory<S: Sink>(stream: DuplexStream, dialed: Option<Addr>, sink: Arc<S>) {
    let (read, write) = tokio::io::split(stream);
    run(read, Writing::Memory(write), dialed, sink).await;
}

async fn run<R, S>(read: R, write: Writing, dialed: Option<Addr>, sink: Arc<S>)
where
    R: AsyncRead + Unpin + Send + 'static,
    S: Sink,
{
    let id = sink.next_link();
    let direct = match &write {
        Writing::Tcp(stream) => Some(stream.clone()),
        Writing::Memory(_) => None,
    };
    let waiting = Mutex::new(Waiting { direct, bytes: Vec::new(), taken: 0, notify: false, hang_up: false });
    let out = Arc::new(Outgoing { waiting, work: Notify::new() });
    let handle = LinkHandle { id, out: out.clone() };
    sink.up(handle.clone(), dialed).await;
    let mut reader = AbortOnDropHandle::new(tokio::spawn(read_frames(read, handle, sink.clone())));
    let ended = tokio::select! {
        _ = &mut reader => true,
        () = write_frames(write, id, &out, &sink) => {
            // Nothing of a link comes after its end.
            reader.abort();
            let _ = (&mut reader).await;
            true
        }
        () = sink.stopped() => false,
    };
    // The connection ends now, whoever still holds the handle.
    out.waiting().direct = None;
    if ended {
        sink.event(Event::LinkDown { link: id }).await;
    }
}

async fn read_frames<S: Sink>(read: impl AsyncRead + Unpin, handle: LinkHandle, sink: Arc<S>) {
    let link = handle.id;
    // The codec makes room for a frame as soon as it is announced: a stranger is not given much.
    let codec = LengthDelimitedCodec::builder().max_frame_length(HELLO_BYTES_MAX).new_codec();
    let mut frames = FramedRead::with_capacity(read, codec, 8 * 1024);
    let mut patience = HELLO_PATIENCE;
    // It is set anew only when it rings: a timer for each frame would cost more than reading one.
    let mut silence = pin!(sleep(patience));
    loop {
        let since = Instant::now();
        let next = loop {
            tokio::select! {
                biased;
                next = frames.next() => break next,
                () = &mut silence => {
                    if since + patience <= Instant::now() {
                        return sink.reject(link, format!("no frame within {} s", patience.as_secs()), false);
                    }
                    silence.as_mut().reset(since + patience);
                }
            }
        };
        let bytes = match next {
            Some(Ok(bytes)) => bytes,
            Some(Err(error)) => {
                if error.kind() == io::ErrorKind::InvalidData {
                    sink.reject(link, format!("{error}; the connection is closed"), false);
                }
                return;
            }
            None => return,
        };
        let message = match Message::decode(&bytes) {
            Ok(message) => message,
            Err(DecodeError::UnknownType(kind)) if patience == FRAME_PATIENCE => {
                let why = format!("unknown message type {kind:?}");
                let answer = Message::Error(ErrorMessage::unknown_type(&kind));
                let mut bytes = Vec::new();
                if frame(&answer, HELLO_BYTES_MAX, &mut bytes).is_ok() {
                    handle.send(&bytes, false);
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

/// Writes what waits, and ends when the link is hung up or the peer takes nothing any more.
async fn write_frames<S: Sink>(mut write: Writing, link: LinkId, out: &Outgoing, sink: &Arc<S>) {
    loop {
        out.work.notified().await;
        let (bytes, notify, hang_up) = {
            let mut waiting = out.waiting();
            let bytes = std::mem::take(&mut waiting.bytes);
            waiting.taken = bytes.len();
            (bytes, std::mem::take(&mut waiting.notify), waiting.hang_up)
        };
        if hang_up {
            let _ = timeout(HANGUP_PATIENCE, write.all(&bytes)).await;
            out.waiting().direct = None;
            return write.shut_down().await;
        }
        if write.all(&bytes).await.is_err() {
            return;
        }
        out.waiting().taken = 0;
        if notify {
            sink.event(Event::LinkReady { link }).await;
        }
    }
}

/// The writer's end of the connection itself.
enum Writing {
    Tcp(Arc<OwnedWriteHalf>),
    Memory(WriteHalf<DuplexStream>),
}

/// Bytes of one write at most: what a peer has to take in [`WRITE_PATIENCE`].
const WRITE_BYTES: usize = 256 * 1024;

impl Writing {
    async fn all(&mut self, bytes: &[u8]) -> io::Result<()> {
        for chunk in bytes.chunks(WRITE_BYTES) {
            timeout(WRITE_PATIENCE, self.chunk(chunk)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        }
        Ok(())
    }

    async fn chunk(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                while !bytes.is_empty() {
                    stream.writable().await?;
                    match stream.try_write(bytes) {
                        Ok(written) => bytes = &bytes[written..],
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            }
            Self::Memory(stream) => stream.write_all(bytes).await,
        }
    }

    /// Tells the peer that no more comes. A TCP stream does so when its writing half is dropped.
    async fn shut_down(self) {
        if let Self::Memory(mut stream) = self {
            let _ = timeout(HANGUP_PATIENCE, stream.shutdown()).await;
        }
    }
}
