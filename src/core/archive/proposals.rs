//! Proposals told by what differs from the parent, and made whole again before anybody looks at them.
//!
//! The group speaks and hears of whole documents only. A voter is told the difference once and the whole after that;
//! one that cannot make the document asks for it.

use std::collections::BTreeMap;

use crate::core::archive::Archive;
use crate::core::cx::Cx;
use crate::core::id::{GroupId, Hash, NodeId};
use crate::core::ledger::document::Document;
use crate::core::message::Message;
use crate::core::message::agreement::{CheckpointAck, CheckpointPropose, Content, Refusal};

/// Proposals on their way out and in, at most one of a group each.
#[derive(Debug, Default)]
pub(super) struct Proposals {
    /// What we propose, and who has been told: the difference, or the whole.
    told: BTreeMap<GroupId, (Hash, BTreeMap<NodeId, Told>)>,
    /// What we cannot make from its difference and have asked for.
    asked: BTreeMap<GroupId, CheckpointPropose>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Difference,
    Whole,
}

impl Archive {
    /// A message as this node sends it: its own proposals, relayed or not, by what differs from their parent.
    pub fn shortened(&mut self, me: &NodeId, to: &NodeId, message: Message) -> Message {
        match message {
            Message::CheckpointPropose(propose) if propose.leader == *me => {
                Message::CheckpointPropose(self.shorten(&propose, std::slice::from_ref(to)))
            }
            Message::Relay(mut relay) if relay.asker == *me => {
                if let Message::CheckpointPropose(propose) = &mut *relay.message.0 {
                    *propose = self.shorten(propose, &relay.to);
                }
                Message::Relay(relay)
            }
            other => other,
        }
    }

    /// By the difference if none of these voters has been told so before and the parent is at hand.
    fn shorten(&mut self, propose: &CheckpointPropose, to: &[NodeId]) -> CheckpointPropose {
        let told = self.proposals.told.entry(propose.group.clone()).or_insert((propose.hash, BTreeMap::new()));
        if told.0 != propose.hash {
            *told = (propose.hash, BTreeMap::new());
        }
        let again = to.iter().any(|voter| told.1.contains_key(voter));
        let how = if again { Told::Whole } else { Told::Difference };
        told.1.extend(to.iter().map(|voter| (voter.clone(), how)));
        if again {
            return propose.clone();
        }
        let parent = propose.parent.and_then(|parent| self.documents.get(&parent));
        let (Some((parent, _)), Some((document, _))) = (parent, self.documents.get(&propose.hash)) else {
            return propose.clone();
        };
        let difference = self.differences.of_document(parent, document);
        if difference.len() >= document.bytes().len() {
            return propose.clone();
        }
        CheckpointPropose { document: "".into(), difference, ..propose.clone() }
    }

    /// True if this voter does not know what a difference is: it has been told one and finds it malformed.
    pub fn wants_whole(&self, ack: &CheckpointAck) -> bool {
        let told = self.proposals.told.get(&ack.group).filter(|(hash, _)| *hash == ack.hash);
        let how = told.and_then(|(_, told)| told.get(&ack.voter.node));
        ack.reason == Some(Refusal::Malformed) && how == Some(&Told::Difference)
    }

    /// A proposal with its whole document; `None` while that is being asked for (see [`Archive::take_proposal`]).
    pub fn whole(&mut self, cx: &Cx<'_>, propose: &CheckpointPropose) -> Option<CheckpointPropose> {
        if propose.difference.is_empty() {
            return Some(propose.clone());
        }
        if let Some(document) = self.made(propose) {
            return Some(with_document(propose, &document));
        }
        self.proposals.asked.insert(propose.group.clone(), propose.clone());
        self.fetch(cx, Content::Document, propose.hash, None, propose.leader.clone());
        None
    }

    fn made(&self, propose: &CheckpointPropose) -> Option<Document> {
        if let Some((document, _)) = self.documents.get(&propose.hash) {
            return Some(document.clone());
        }
        let (parent, _) = self.documents.get(&propose.parent?)?;
        self.differences.document(parent, &propose.difference, propose.hash)
    }

    /// The proposal that waits for this document, which has arrived.
    pub fn take_proposal(&mut self, hash: Hash) -> Option<CheckpointPropose> {
        let (document, _) = self.documents.get(&hash)?;
        let group = self.proposals.asked.iter().find(|(_, propose)| propose.hash == hash)?.0.clone();
        let propose = self.proposals.asked.remove(&group)?;
        Some(with_document(&propose, document))
    }
}

fn with_document(propose: &CheckpointPropose, document: &Document) -> CheckpointPropose {
    CheckpointPropose { document: document.shared_bytes().into(), difference: Vec::new(), ..propose.clone() }
}
