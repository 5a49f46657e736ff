//! Everything nodes say to each other: one JSON object a frame, named by its `type`.
//!
//! The names HEARTBEAT, ELECTION_REQUEST, ELECTION_VOTE, CHECKPOINT_PROPOSE, CHECKPOINT_ACK,
//! SENSOR_UPDATE and STATE_UPDATE are public vocabulary. `tests/wire.rs` pins the bytes of each.

pub mod agreement;
pub mod exchange;
pub mod relay;
pub mod session;

use serde::{Deserialize, Serialize};

use agreement::{
    CheckpointAck, CheckpointBody, CheckpointFetch, CheckpointPropose, ElectionRequest, ElectionVote, Heartbeat,
    HeartbeatAck,
};
use exchange::{Confirm, Graft, Prune, Release, SensorUpdate, StateDigest, StateRequest, StateUpdate};
use relay::{Relay, RelayAnswer};
use session::{ErrorMessage, Hello, Keepalive};

/// Why a frame's content is not a message. The connection is at fault, and loses itself at most.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not a JSON object with a `type`, or fields that are not that type's.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// A type this version does not know: answered by ERROR and counted, the connection stays.
    #[error("unknown message type {0:?}")]
    UnknownType(String),
}

macro_rules! messages {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),* $(,)?) => {
        /// One message. The size of a variant says nothing of its size on the wire.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(tag = "type")]
        pub enum Message {
            $($(#[$doc])* #[serde(rename = $name)] $variant(messages!(@payload $variant)),)*
        }

        impl Message {
            /// All message types, as they are named on the wire.
            pub const TYPES: &'static [&'static str] = &[$($name),*];

            /// The type, as it is named on the wire.
            pub fn type_name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)* }
            }

            /// Reads the message of type `kind` from `frame`.
            fn decode_as(kind: &str, frame: &[u8]) -> Result<Self, DecodeError> {
                match kind {
                    $($name => serde_json::from_slice(frame).map(Self::$variant).map_err(malformed),)*
                    other => Err(DecodeError::UnknownType(other.chars().take(64).collect())),
                }
            }
        }
    };
    (@payload Error) => { ErrorMessage };
    (@payload $variant:ident) => { $variant };
}

messages! {
    /// First frame each way.
    Hello = "HELLO",
    /// Says that an idle link lives.
    Keepalive = "KEEPALIVE",
    /// Says what was refused, and what to do.
    Error = "ERROR",
    /// Push: fresh readings, own and forwarded.
    SensorUpdate = "SENSOR_UPDATE",
    /// A neighbour holds these entries.
    Confirm = "CONFIRM",
    /// Send me no more of these origins on this link.
    Prune = "PRUNE",
    /// Send me these origins on this link again.
    Graft = "GRAFT",
    /// Give this link up, if you can spare it.
    Release = "RELEASE",
    /// Repair: count, fingerprint and first symbols of a set.
    StateDigest = "STATE_DIGEST",
    /// Repair: what the sender lacks, symbols or entries.
    StateRequest = "STATE_REQUEST",
    /// Repair: entries.
    StateUpdate = "STATE_UPDATE",
    /// A leader lives.
    Heartbeat = "HEARTBEAT",
    /// Answers a heartbeat with its round.
    HeartbeatAck = "HEARTBEAT_ACK",
    /// A candidate asks for a vote.
    ElectionRequest = "ELECTION_REQUEST",
    /// Answers it.
    ElectionVote = "ELECTION_VOTE",
    /// A leader proposes a document.
    CheckpointPropose = "CHECKPOINT_PROPOSE",
    /// Answers it.
    CheckpointAck = "CHECKPOINT_ACK",
    /// Asks for a document or body by hash.
    CheckpointFetch = "CHECKPOINT_FETCH",
    /// A chunk of it.
    CheckpointBody = "CHECKPOINT_BODY",
    /// A question of the top group for the voters of one region.
    Relay = "RELAY",
    /// Their answers.
    RelayAnswer = "RELAY_ANSWER",
}

impl Message {
    /// Writes the message as the content of one frame.
    ///
    /// # Panics
    /// If a message cannot be written as JSON, which no value of it can cause.
    pub fn encode(&self, into: &mut Vec<u8>) {
        // Most frames of an idle cluster are this one: an object without anything in it says as much.
        if matches!(self, Self::Keepalive(_)) {
            return into.extend_from_slice(KEEPALIVE);
        }
        serde_json::to_writer(into, self).expect("messages are JSON");
    }

    /// Reads the content of one frame. Unknown fields are ignored.
    ///
    /// # Errors
    /// [`DecodeError`] says what is wrong with it.
    pub fn decode(frame: &[u8]) -> Result<Self, DecodeError> {
        if frame == KEEPALIVE {
            return Ok(Self::Keepalive(Keepalive {}));
        }
        // Our own frames begin with their type, so most are read in one pass.
        if let Some(rest) = frame.strip_prefix(br#"{"type":""#)
            && let Some(end) = rest.iter().position(|byte| *byte == b'"')
            && let Ok(kind) = std::str::from_utf8(&rest[..end])
            && Self::TYPES.contains(&kind)
        {
            return Self::decode_as(kind, frame);
        }
        #[derive(Deserialize)]
        struct Tag {
            #[serde(rename = "type")]
            kind: String,
        }
        let tag: Tag = serde_json::from_slice(frame).map_err(malformed)?;
        Self::decode_as(&tag.kind, frame)
    }
}

/// A keepalive on the wire; `{"type":"KEEPALIVE"}` is understood as well.
const KEEPALIVE: &[u8] = b"{}";

fn malformed(error: serde_json::Error) -> DecodeError {
    DecodeError::Malformed(error.to_string())
}

/// Bytes as base64 text inside JSON, for `#[serde(with = "base64_bytes")]`.
pub mod base64_bytes {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes bytes as base64 text.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(bytes))
    }

    /// Reads base64 text as bytes.
    ///
    /// # Errors
    /// If the text is not base64.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        STANDARD.decode(text.as_bytes()).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_may_stand_anywhere_and_unknown_fields_are_ignored() {
        let frame = br#"{"origins":["gw-1"],"new":{"a":[1]},"type":"PRUNE"}"#;
        let Message::Prune(prune) = Message::decode(frame).unwrap() else { panic!("not a PRUNE") };
        assert_eq!(prune.origins.len(), 1);
    }

    #[test]
    fn a_keepalive_is_an_empty_object_or_says_so_in_full() {
        for frame in [&b"{}"[..], br#"{"type":"KEEPALIVE"}"#] {
            assert_eq!(Message::decode(frame), Ok(Message::Keepalive(Keepalive {})));
        }
    }

    #[test]
    fn an_unknown_type_is_told_from_garbage() {
        assert_eq!(Message::decode(br#"{"type":"DANCE"}"#), Err(DecodeError::UnknownType("DANCE".into())));
        for garbage in [&b""[..], b"{", b"[]", b"{\"type\":7}", b"\xff\xfe", br#"{"type":"PRUNE"}"#] {
            assert!(matches!(Message::decode(garbage), Err(DecodeError::Malformed(_))), "{garbage:?}");
        }
    }
}
