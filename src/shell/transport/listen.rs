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

/// Where peers connect.
pub enum Listener {
    /// A port of this machine.
    Tcp(TcpListener),
    /// An address within this process.
    Memory(MemoryListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
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
    match listener {
        Listener::Tcp(listener) => serve_tcp(listener, sink).await,
        Listener::Memory(mut listener) => loop {
            let stream = listener.accept().await;
            tokio::spawn(link::run_in_memory(stream, None, sink.clone()));
        },
    }
}

async fn serve_tcp<S: Sink>(listener: TcpListener, sink: Arc<S>) {
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
