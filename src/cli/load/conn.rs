//! One HTTP connection that is kept: as little as possible between the clock and the socket.

use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::StreamExt;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a node may take to accept a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

/// Why a request came to nothing: the kinds that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// Nobody listens there, or the connection broke.
    Connection,
    /// No answer in time.
    Timeout,
    /// The node says that it cannot now: no leader, no quorum.
    NotReady,
    /// The node sends elsewhere: it does not lead.
    Redirect,
    /// Any other answer that is not 2xx.
    Refused,
}

impl Trouble {
    /// The word in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Timeout => "timeout",
            Self::NotReady => "not_ready",
            Self::Redirect => "redirect",
            Self::Refused => "refused",
        }
    }

    fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::SERVICE_UNAVAILABLE => Self::NotReady,
            StatusCode::CONFLICT => Self::Redirect,
            StatusCode::GATEWAY_TIMEOUT => Self::Timeout,
            _ => Self::Refused,
        }
    }
}

/// A connection to one node, made when it is needed and again after it broke.
pub struct Conn {
    addr: String,
    sender: Option<SendRequest<Body>>,
}

impl Conn {
    /// Not connected yet.
    pub fn new(addr: String) -> Self {
        Self { addr, sender: None }
    }

    async fn sender(&mut self) -> Result<&mut SendRequest<Body>, Trouble> {
        let stands = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !stands {
            let stream = timeout(CONNECT_PATIENCE, TcpStream::connect(&self.addr)).await;
            let stream = stream.map_err(|_| Trouble::Timeout)?.map_err(|_| Trouble::Connection)?;
            let _ = stream.set_nodelay(true);
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| Trouble::Connection)?;
            tokio::spawn(connection);
            self.sender = Some(sender);
        }
        Ok(self.sender.as_mut().expect("it was made just now"))
    }

    fn request(&self, method: Method, path: &str, body: Body) -> Request<Body> {
        let request = Request::builder().method(method).uri(path).header(header::HOST, &self.addr);
        request.body(body).expect("method, path and host are well formed")
    }

    /// Sends a request and reads its answer to the end.
    ///
    /// # Errors
    /// [`Trouble`] if there is no answer of success within `patience`.
    pub async fn ask(&mut self, method: Method, path: &str, body: Vec<u8>, patience: Duration) -> Result<(), Trouble> {
        let request = self.request(method, path, Body::from(body));
        let asked = async {
            let answer = self.sender().await?.send_request(request).await.map_err(|_| Trouble::Connection)?;
            let status = answer.status();
            let mut body = Body::new(answer.into_body()).into_data_stream();
            while let Some(bytes) = body.next().await {
                bytes.map_err(|_| Trouble::Connection)?;
            }
            if status.is_success() { Ok(()) } else { Err(Trouble::of(status)) }
        };
        let outcome = timeout(patience, asked).await.unwrap_or(Err(Trouble::Timeout));
        if matches!(outcome, Err(Trouble::Timeout | Trouble::Connection)) {
            // What is still on its way on this connection must not be taken for the next answer.
            self.sender = None;
        }
        outcome
    }

    /// Opens a stream of server-sent events.
    ///
    /// # Errors
    /// [`Trouble`] if it does not open.
    pub async fn events(&mut self, path: &str) -> Result<Events, Trouble> {
        let request = self.request(Method::GET, path, Body::empty());
        let opened = async {
            let answer = self.sender().await?.send_request(request).await.map_err(|_| Trouble::Connection)?;
            let status = answer.status();
            let stream = Body::new(answer.into_body()).into_data_stream();
            if status.is_success() {
                Ok(Events { stream, buffer: Vec::new(), read: 0 })
            } else {
                Err(Trouble::of(status))
            }
        };
        timeout(CONNECT_PATIENCE, opened).await.unwrap_or(Err(Trouble::Timeout))
    }
}

impl Conn {
    /// Opens a stream of events, waits for its first, and closes it.
    ///
    /// # Errors
    /// [`Trouble`] if there is none within `patience`.
    pub async fn first_event(&mut self, path: &str, patience: Duration) -> Result<(), Trouble> {
        let mut events = self.events(path).await?;
        let came = timeout(patience, events.next(|_| {})).await.map_err(|_| Trouble::Timeout);
        self.sender = None;
        if came? { Ok(()) } else { Err(Trouble::Connection) }
    }
}

/// Server-sent events, one at a time.
pub struct Events {
    stream: axum::body::BodyDataStream,
    buffer: Vec<u8>,
    /// Bytes of the buffer that have been given out.
    read: usize,
}

impl Events {
    /// Hands every event that has arrived, as text, to `each`, waiting for at least one chunk; false at the end.
    pub async fn next(&mut self, mut each: impl FnMut(&str)) -> bool {
        let Some(Ok(bytes)) = self.stream.next().await else { return false };
        self.take(&bytes, &mut each);
        true
    }

    fn take(&mut self, bytes: &Bytes, each: &mut impl FnMut(&str)) {
        self.buffer.extend_from_slice(bytes);
        while let Some(end) = self.buffer[self.read..].windows(2).position(|pair| pair == b"\n\n") {
            if let Ok(event) = std::str::from_utf8(&self.buffer[self.read..self.read + end]) {
                each(event);
            }
            self.read += end + 2;
        }
        self.buffer.drain(..self.read);
        self.read = 0;
    }
}
