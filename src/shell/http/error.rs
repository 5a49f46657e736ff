//! Answers that are not 2xx: a kind for programs, words for people, and what to do.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::core::event::RefusedCommand;
use crate::shell::http::model::{ApiError, ApiErrorBody};
use crate::shell::runtime::AskError;
use crate::shell::storage::ReadError;

/// An answer that is not 2xx.
pub(super) struct Failure {
    status: StatusCode,
    error: ApiError,
}

impl Failure {
    pub fn new(status: StatusCode, kind: &str, message: impl Into<String>) -> Self {
        Self { status, error: ApiError { kind: kind.to_owned(), message: message.into(), hint: None, api: None } }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "gone", message)
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.error.hint = Some(hint.into());
        self
    }

    /// Ask the leader instead, at this address if it is known.
    pub fn redirect(leader: &str, api: Option<String>) -> Self {
        let mut failure = Self::new(StatusCode::CONFLICT, "redirect", format!("{leader} leads; ask it"));
        failure.error.api = api;
        failure
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(ApiErrorBody { error: self.error })).into_response()
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Stopped => Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopped", error.to_string()),
            AskError::TimedOut(_) => Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", error.to_string()),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "store", error.to_string())
    }
}

impl From<RefusedCommand> for Failure {
    fn from(why: RefusedCommand) -> Self {
        let (status, kind) = match why {
            RefusedCommand::Reading { .. } | RefusedCommand::SystemChannel(_) => {
                (StatusCode::BAD_REQUEST, "bad_request")
            }
            RefusedCommand::UnknownNode(_) => (StatusCode::NOT_FOUND, "not_found"),
            RefusedCommand::IsVoter(_)
            | RefusedCommand::IsAlive(_)
            | RefusedCommand::LastVoter(_)
            | RefusedCommand::IsFlat
            | RefusedCommand::KnownRegion(_)
            | RefusedCommand::NoVoters(_)
            | RefusedCommand::NotOfRegion(..)
            | RefusedCommand::LastRegion(_) => (StatusCode::CONFLICT, "refused"),
            RefusedCommand::DiskBehind
            | RefusedCommand::ClockSetBack
            | RefusedCommand::NoLeader
            | RefusedCommand::NotJoined(_)
            | RefusedCommand::TooFewPeers { .. }
            | RefusedCommand::NotReady
            | RefusedCommand::Deposed => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
        };
        Self::new(status, kind, why.to_string())
    }
}

pub(super) async fn no_such_path() -> Failure {
    Failure::not_found("no such path").hint("paths begin with /v1/, or are /livez, /readyz and /metrics")
}

pub(super) async fn no_such_method() -> Failure {
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "bad_request", "this path does not take that method")
}
