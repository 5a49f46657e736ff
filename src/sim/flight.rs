//! What is under way in a connection, in as little room as it needs: a large cluster has millions of them.

use crate::core::message::Message;
use crate::core::message::exchange::SensorUpdate;
use crate::core::state::entry::KeyedEntry;

/// One message on its way, or the end of its stream.
#[derive(Debug)]
pub struct Flight(Kind);

#[derive(Debug)]
enum Kind {
    /// Nearly all of them are updates of an entry or two.
    Update(Box<[KeyedEntry]>),
    Other(Box<Message>),
    End,
}

impl Flight {
    /// The end of the stream.
    pub const END: Self = Self(Kind::End);

    /// What arrives: `None` at the end of the stream.
    pub fn land(self) -> Option<Box<Message>> {
        match self.0 {
            Kind::Update(entries) => Some(Box::new(Message::SensorUpdate(SensorUpdate { entries: entries.into() }))),
            Kind::Other(message) => Some(message),
            Kind::End => None,
        }
    }
}

impl From<Message> for Flight {
    fn from(message: Message) -> Self {
        match message {
            Message::SensorUpdate(update) => Self(Kind::Update(update.entries.into())),
            message => Self(Kind::Other(Box::new(message))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::hlc::Hlc;
    use crate::core::id::{Channel, NodeId};
    use crate::core::message::exchange::Prune;
    use crate::core::state::entry::{Entry, Key, Scope, Value};

    #[test]
    fn what_lands_is_what_was_sent() {
        let key = Key::new(NodeId::new("a").unwrap(), Channel::new("t").unwrap());
        let entry = Entry { value: Value::of(&1), stamp: Hlc::from_bits(7), scope: Scope::Global };
        let update = Message::SensorUpdate(SensorUpdate { entries: vec![KeyedEntry::new(&key, &entry)] });
        for message in [update, Message::Prune(Prune { origins: vec![key.origin], all_but: None })] {
            assert_eq!(Flight::from(message.clone()).land(), Some(Box::new(message)));
        }
        assert_eq!(Flight::END.land(), None);
    }
}
