//! The HTTP API beside the peer port, which `sensorctl` itself uses.
//!
//! One file a group of paths; [`model`] is what they say. Connections are bounded in number and in how slowly
//! they may ask, bodies in size.

pub mod model;

mod checkpoints;
mod commands;
mod error;
mod forward;
mod fuse;
mod readings;
mod rows;
mod serve;
mod status;
mod stream;
mod watch;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};

use crate::core::time::Mono;
use crate::shell::fusion::{Fuser, Watcher};
use crate::shell::http::model::SourceStatus;
use crate::shell::runtime::NodeHandle;

pub use readings::parse_reading;
pub use rows::{hash_or_index, rfc3339};
pub use serve::serve;

/// Longest request body, in bytes.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long a request body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(10);

/// Tells how the local sources are doing.
pub type SourcesStatus = Arc<dyn Fn() -> Vec<SourceStatus> + Send + Sync>;

/// What the handlers share.
#[derive(Clone)]
pub struct Api {
    node: NodeHandle,
    sources: SourcesStatus,
    /// How many entries from the future were refused when that number last changed, and when.
    future_refusals: Arc<Mutex<(u64, Mono)>>,
    /// Why the store was replaced at this start, if it was (C11).
    set_aside: Option<Arc<str>>,
    fuser: Fuser,
    watcher: Watcher,
    /// Asks nodes of other regions.
    http: reqwest::Client,
}

impl Api {
    /// An API for a node and its sources. `set_aside` says why its store was replaced, if it was.
    pub fn new(
        node: NodeHandle,
        sources: SourcesStatus,
        set_aside: Option<String>,
        fuser: Fuser,
        watcher: Watcher,
    ) -> Self {
        let future_refusals = Arc::default();
        let http = reqwest::Client::builder().connect_timeout(Duration::from_secs(2)).no_proxy().build();
        let http = http.expect("a client without TLS has nothing to fail on");
        Self { node, sources, future_refusals, set_aside: set_aside.map(Into::into), fuser, watcher, http }
    }
}

/// All paths.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/status", get(status::status))
        .route("/v1/node", get(status::node))
        .route("/v1/sensors", get(status::sensors))
        .route("/v1/readings", get(readings::list).post(readings::push))
        .route("/v1/watch", get(watch::watch))
        .route("/v1/fuse", get(fuse::fuse))
        .route("/v1/fuse/watch", get(fuse::watch))
        .route("/v1/checkpoints", get(checkpoints::list))
        .route("/v1/checkpoints/latest", get(checkpoints::latest))
        .route("/v1/checkpoints/{index}", get(checkpoints::document_at))
        .route("/v1/checkpoints/{index}/body", get(checkpoints::body_at))
        .route("/v1/documents/{hash}", get(checkpoints::document))
        .route("/v1/forget/{node}", post(commands::forget))
        .route("/v1/voters/{node}", delete(commands::remove_voter))
        .route("/v1/leave", post(commands::leave))
        .route("/v1/grow", post(commands::grow))
        .route("/v1/regions/{region}", post(commands::add_region).delete(commands::remove_region))
        .route("/livez", get(status::livez))
        .route("/readyz", get(status::readyz))
        .route("/metrics", get(status::metrics))
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn(whole))
        // Its body ends when its sender likes.
        .route("/v1/readings/stream", post(stream::push))
        .method_not_allowed_fallback(error::no_such_method)
        .layer(middleware::from_fn_with_state(api.clone(), count))
        .with_state(api)
}

/// Takes a request's body in whole before anybody works on it, unless it is too long or too slow.
async fn whole(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let too_long = || {
        let why = format!("a request body has at most {BODY_BYTES_MAX} bytes; send several");
        error::Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", why).into_response()
    };
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return too_long();
    }
    match tokio::time::timeout(BODY_PATIENCE, to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(bytes)) => next.run(Request::from_parts(head, Body::from(bytes))).await,
        Ok(Err(_)) => too_long(),
        Err(_) => {
            let why = format!("the request body did not arrive within {} s", BODY_PATIENCE.as_secs());
            error::Failure::new(StatusCode::REQUEST_TIMEOUT, "timeout", why).into_response()
        }
    }
}

async fn count(State(api): State<Api>, request: Request, next: Next) -> Response {
    api.node.metrics().count_http();
    next.run(request).await
}
