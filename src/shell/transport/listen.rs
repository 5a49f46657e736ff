//! The peer port.

use std::io;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::warn;

use crate::shell::transport::{MemoryListener, Sink, link};

/// Connections that others may have made to us at a time.
const ACCEPTED_MAX: usize = 1024;

/// Why a port could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else has it.
    #[error(
        "{what} address {addr} is taken by another process: stop that one (`sensorctl cluster list` shows local clusters), \
         or choose another port"
    )]
    Taken { what: &'static str, addr: String },
    /// The address is not ours, or not allowed.
    #[error("{what} address {addr} cannot be listened on: {source}")]
    Refused { what: &'static str, addr: String, source: io::Error },
}

/// Where peers connect: at least one of the two.
pub struct Listener {
    /// A port of this machine.
    pub tcp: Option<TcpListener>,
    /// An address within this process.
    pub memory: Option<MemoryListener>,
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self { tcp: Some(listener), memory: None }
    }
}

impl From<MemoryListener> for Listener {
    fn from(listener: MemoryListener) -> Self {
        Self { tcp: None, memory: Some(listener) }
    }
}

/// Binds `addr`; `what` names the port in the error: `peer` or `API`.
///
/// # Errors
/// [`ListenError`] says what to do.
pub async fn listen(what: &'static str, addr: &str) -> Result<TcpListener, ListenError> {
    TcpListener::bind(addr).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken { what, addr: addr.to_owned() },
        _ => ListenError::Refused { what, addr: addr.to_owned(), source },
    })
}

/// Accepts peers until the task is dropped.
pub async fn serve<S: Sink>(listener: Listener, sink: Arc<S>) {
    let Listener { tcp, memory } = listener;
    tokio::join!(serve_tcp(tcp, &sink), serve_memory(memory, &sink));
}

async fn serve_memory<S: Sink>(listener: Option<MemoryListener>, sink: &Arc<S>) {
    let Some(mut listener) = listener else { return };
    loop {
        let stream = listener.accept().await;
        tokio::spawn(link::run_in_memory(stream, None, sink.clone()));
    }
}

async fn serve_tcp<S: Sink>(listener: Option<TcpListener>, sink: &Arc<S>) {
    let Some(listener) = listener else { return };
    let room = Arc::new(Semaphore::new(ACCEPTED_MAX));
    loop {
        let permit = room.clone().acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let sink = sink.clone();
                tokio::spawn(async move {
                    link::run_tcp(stream, None, sink).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of descriptors, mostly: the ones that end make room again.
                warn!(err = %error, "a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}
