//! How the top group's messages cross regions: one question a region, and its voters' own answers in one frame.
//!
//! A relay passes on and gathers; it never answers for anybody. What it carries is exactly what would travel on a
//! direct link, so no rule of agreement depends on who relayed.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::core::id::{NodeId, RegionId, Term};
use crate::core::message::Message;

/// A question for voters of one region. Whoever gets it from the asker itself passes it on to the others named;
/// whoever gets it from somebody else is named alone, and passes it on to nobody.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relay {
    /// Who asks: the leader or candidate that the question itself names.
    pub asker: NodeId,
    /// The asker's number for it.
    pub seq: u64,
    /// Who is asked.
    pub to: Vec<NodeId>,
    /// HEARTBEAT, ELECTION_REQUEST, CHECKPOINT_PROPOSE or CHECKPOINT_FETCH.
    pub message: Carried,
}

/// Answers to a relayed question: from a voter to the relay its own, from the relay to the asker those it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RelayAnswer {
    /// Who asked.
    pub asker: NodeId,
    /// The asker's number for it.
    pub seq: u64,
    /// The answering region. For the log: nothing depends on it (H2).
    pub region: RegionId,
    /// The answerer's term in its region. For the log as well.
    pub region_term: Term,
    /// HEARTBEAT_ACK, ELECTION_VOTE, CHECKPOINT_ACK or CHECKPOINT_BODY, each in its voter's own words.
    pub answers: Vec<Carried>,
}

/// A message inside another: one of those that relays carry, so that nothing nests without end.
#[derive(Clone, Debug, PartialEq)]
pub struct Carried(pub Box<Message>);

impl Carried {
    /// Wraps a message.
    pub fn new(message: Message) -> Self {
        Self(Box::new(message))
    }
}

/// Names of what may be carried.
const CARRIED: &[&str] = &[
    "HEARTBEAT",
    "HEARTBEAT_ACK",
    "ELECTION_REQUEST",
    "ELECTION_VOTE",
    "CHECKPOINT_PROPOSE",
    "CHECKPOINT_ACK",
    "CHECKPOINT_FETCH",
    "CHECKPOINT_BODY",
];

impl Serialize for Carried {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(s)
    }
}

impl<'de> Deserialize<'de> for Carried {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        #[derive(Deserialize)]
        struct Tag {
            #[serde(rename = "type")]
            kind: String,
        }
        let raw = Box::<serde_json::value::RawValue>::deserialize(d)?;
        let tag: Tag = serde_json::from_str(raw.get()).map_err(Error::custom)?;
        if !CARRIED.contains(&tag.kind.as_str()) {
            return Err(Error::custom(format!("{:?} is not relayed", tag.kind.chars().take(64).collect::<String>())));
        }
        Message::decode(raw.get().as_bytes()).map(Self::new).map_err(Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_within_a_relay_is_refused_however_deep() {
        let inner = r#"{"type":"RELAY","asker":"a","seq":1,"to":["b"],"message":"#;
        let nested = format!("{}{}", inner.repeat(100_000), "}".repeat(100_000));
        assert!(Message::decode(nested.as_bytes()).is_err());
        let two = format!("{inner}{inner}{{\"type\":\"KEEPALIVE\"}}}}}}");
        let error = Message::decode(two.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("\"RELAY\" is not relayed"), "{error}");
    }
}
