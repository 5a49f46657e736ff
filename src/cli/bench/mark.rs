//! What is noted of agreement in a running cluster, real or simulated: who comes to lead what, what is committed, the
//! stages that a global checkpoint passes through, and who is taken for dead.

use serde::{Deserialize, Serialize};

use crate::core::id::GroupId;
use crate::core::message::Message;
use crate::core::message::relay::Carried;
use crate::core::notice::Notice;
use crate::core::state::entry::{Entry, Key};
use crate::core::state::system::{self, Meaning};
use crate::core::view::Seen;

/// The name of the top group in marks; regions go by their own.
pub const TOP: &str = "top";

/// One thing that happened at a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mark", rename_all = "snake_case")]
pub enum Mark {
    /// `node` says that it leads a group.
    Leads { group: String, node: String, term: u64 },
    /// `node` says, as a group's leader, that this is committed, durably.
    Committed { group: String, node: String, index: u64 },
    /// The node takes another for dead.
    Died { node: String },
    /// It takes it for alive (again).
    Alive { node: String },
    /// The node proposes a global document.
    Proposed { index: u64 },
    /// It has been asked for one and writes it.
    Heard { index: u64 },
    /// It has written it and says so to its region's relay.
    Wrote { index: u64 },
    /// It passes on, as a relay, that voters of its region wrote it.
    PassedOn { index: u64, region: String },
    /// The answers of this region have come back to it.
    Returned { index: u64, region: String },
    /// It counts a quorum.
    Counted { index: u64 },
}

impl Mark {
    /// What is seen at `node` of agreement.
    pub fn of(seen: Seen<'_>, node: &str) -> Vec<Self> {
        match seen {
            Seen::Changed(key, entry) => Self::of_entry(key, entry),
            Seen::Notice(notice) => Self::of_notice(notice).into_iter().collect(),
            Seen::Sent(message) => Self::of_sent(node, message).into_iter().collect(),
            Seen::Received(message) => Self::of_received(node, message).into_iter().collect(),
        }
    }

    /// What an entry says of who leads and what is committed.
    fn of_entry(key: &Key, entry: &Entry) -> Vec<Self> {
        if !key.channel.as_str().starts_with('@') {
            return Vec::new();
        }
        let node = || key.origin.to_string();
        match system::understand(&key.channel, &entry.value) {
            Ok(Meaning::Leader(claim)) => {
                vec![Self::Leads { group: claim.region.to_string(), node: node(), term: claim.term.get() }]
            }
            Ok(Meaning::Checkpoint(at)) => {
                vec![Self::Committed { group: at.region.to_string(), node: node(), index: at.index.get() }]
            }
            Ok(Meaning::Top(claim)) => {
                let leads = Self::Leads { group: TOP.to_owned(), node: node(), term: claim.term.get() };
                let committed = claim.committed.map(|(index, _)| {
                    let (group, index) = (TOP.to_owned(), index.get());
                    Self::Committed { group, node: node(), index }
                });
                [leads].into_iter().chain(committed).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What a node's notice says of another node, or of a global document.
    fn of_notice(notice: &Notice) -> Option<Self> {
        match notice {
            Notice::Died { node } => Some(Self::Died { node: node.to_string() }),
            Notice::Alive { node } => Some(Self::Alive { node: node.to_string() }),
            Notice::Proposed { group: GroupId::Top, position, .. } => {
                Some(Self::Proposed { index: position.index.get() })
            }
            Notice::Accepted { group: GroupId::Top, position, .. } => Some(Self::Heard { index: position.index.get() }),
            Notice::Committed { group: GroupId::Top, position, .. } => {
                Some(Self::Counted { index: position.index.get() })
            }
            _ => None,
        }
    }

    /// What a message that `node` sends says of a global document.
    fn of_sent(node: &str, message: &Message) -> Option<Self> {
        let Message::RelayAnswer(answer) = message else { return None };
        let index = acknowledged(&answer.answers)?;
        let own = |carried: &Carried| match &*carried.0 {
            Message::CheckpointAck(ack) => ack.voter.node.as_str() == node,
            _ => false,
        };
        // A voter's answer to its relay is its own alone; a relay's to the asker holds those of others.
        match answer.answers.iter().all(own) {
            true => Some(Self::Wrote { index }),
            false => Some(Self::PassedOn { index, region: answer.region.to_string() }),
        }
    }

    /// What a message that `node` receives says of a global document.
    fn of_received(node: &str, message: &Message) -> Option<Self> {
        let Message::RelayAnswer(answer) = message else { return None };
        let index = acknowledged(&answer.answers).filter(|_| answer.asker.as_str() == node)?;
        Some(Self::Returned { index, region: answer.region.to_string() })
    }
}

/// The index that answers acknowledge, if that is what they do.
fn acknowledged(answers: &[Carried]) -> Option<u64> {
    answers.iter().find_map(|carried| match &*carried.0 {
        Message::CheckpointAck(ack) if ack.accepted => Some(ack.index.get()),
        _ => None,
    })
}
