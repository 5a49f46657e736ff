//! What every machine is given first: the time, the chance, and where to put its requests.

use crate::core::effect::Effect;
use crate::core::id::LinkId;
use crate::core::message::Message;
use crate::core::notice::Notice;
use crate::core::rng::Rng;
use crate::core::time::Now;

/// The context of one call.
pub struct Cx<'a> {
    /// Both clocks.
    pub now: Now,
    /// The node's only source of chance.
    pub rng: &'a mut Rng,
    /// Requests to the world, in order.
    pub fx: &'a mut Vec<Effect>,
}

impl Cx<'_> {
    /// Sends a message whose delivery to the network nobody waits for.
    pub fn send(&mut self, link: LinkId, message: Message) {
        self.fx.push(Effect::Send { link, message, notify: false });
    }

    /// Tells something worth telling.
    pub fn notice(&mut self, notice: Notice) {
        self.fx.push(Effect::Notice(notice));
    }
}
