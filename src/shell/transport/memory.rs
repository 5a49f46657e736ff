//! Connections within one process: the same frames, without sockets and without the kernel.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;

use crate::core::state::system::Addr;

/// Bytes that one direction of a connection holds before its writer waits.
const PIPE_BYTES: usize = 64 * 1024;

/// Addresses within this process. Clones are the same net.
#[derive(Clone, Default)]
pub struct MemoryNet {
    ports: Arc<Mutex<HashMap<Addr, mpsc::UnboundedSender<DuplexStream>>>>,
    /// Whoever has no address here is on the network.
    beside_tcp: bool,
}

/// The accepting end of one address.
pub struct MemoryListener {
    net: MemoryNet,
    accepted: mpsc::UnboundedReceiver<DuplexStream>,
}

impl MemoryNet {
    /// A net whose nodes are on the network too: those of other processes reach them, and are reached, over TCP.
    pub fn beside_tcp() -> Self {
        Self { beside_tcp: true, ..Self::default() }
    }

    /// Whether there is nobody but those who have an address here.
    pub fn stands_alone(&self) -> bool {
        !self.beside_tcp
    }

    /// Takes an address; whoever had it before is reached no more.
    pub fn listen(&self, addr: Addr) -> MemoryListener {
        let (port, accepted) = mpsc::unbounded_channel();
        self.ports.lock().expect("no holder panics").insert(addr, port);
        MemoryListener { net: self.clone(), accepted }
    }

    /// Connects; `None` if nobody listens there.
    pub fn connect(&self, addr: &Addr) -> Option<DuplexStream> {
        let (near, far) = duplex(PIPE_BYTES);
        let ports = self.ports.lock().expect("no holder panics");
        ports.get(addr)?.send(far).ok()?;
        Some(near)
    }
}

impl MemoryListener {
    /// The net that this address is on.
    pub fn net(&self) -> &MemoryNet {
        &self.net
    }

    /// The next connection.
    pub async fn accept(&mut self) -> DuplexStream {
        self.accepted.recv().await.expect("the net holds the sending end")
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn bytes_pass_and_nobody_is_refused_as_by_a_host() {
        let net = MemoryNet::default();
        assert!(net.connect(&"a".into()).is_none());
        let mut listener = net.listen("a".into());
        let mut near = net.connect(&"a".into()).unwrap();
        near.write_all(b"frame").await.unwrap();
        let mut bytes = [0; 5];
        listener.accept().await.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"frame");
        drop(listener);
        assert!(net.connect(&"a".into()).is_none(), "whoever has gone is not reached");
    }
}
