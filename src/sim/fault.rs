//! What can be made to go wrong, by name.

use serde::{Deserialize, Serialize};

macro_rules! faults {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),* $(,)?) => {
        /// One kind of fault. Its number in a scenario is a rate or a probability; each variant says which.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Fault {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl Fault {
            /// Every kind, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name used in scenarios, on the command line and in summaries.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

faults! {
    /// A process dies, its host lives: per second.
    Crash = "crash",
    /// A process dies between two effects of one step: probability per step.
    CrashMidStep = "crash_mid_step",
    /// A host loses power: peers see nothing but silence: per second.
    PowerLoss = "power_loss",
    /// A process does nothing for a while: per second.
    Pause = "pause",
    /// A connection is reset and what was in flight on it is lost: per second.
    Reset = "reset",
    /// One end of a connection is gone and the other does not know: per second.
    HalfOpen = "half_open",
    /// One direction between two nodes carries nothing for a while: per second.
    OneWay = "one_way",
    /// One node is cut off for a while: per second.
    Isolate = "isolate",
    /// The nodes are split in two for a while: per second.
    Split = "split",
    /// Each node reaches only its two neighbours in a ring for a while: per second.
    Ring = "ring",
    /// Two halves see each other only through one node for a while: per second.
    Bridge = "bridge",
    /// The path between two nodes goes and comes in quick turns: per second.
    Flap = "flap",
    /// Dials to a node time out for a while: per second.
    DialTimeout = "dial_timeout",
    /// A direction of a connection takes no more to send for a while: per second.
    Stall = "stall",
    /// All paths of a node become slow for a while: per second.
    DelaySpike = "delay_spike",
    /// A consensus message vanishes while its connection lives: probability per message.
    Loss = "loss",
    /// A consensus message comes twice: probability per message.
    Duplicate = "duplicate",
    /// A consensus message is overtaken by later ones: probability per message.
    Reorder = "reorder",
    /// A disk takes long for every write for a while: per second.
    SlowDisk = "slow_disk",
    /// A disk answers nothing for a while: per second.
    StuckDisk = "stuck_disk",
    /// A disk is full: the process stops and is restarted: per second.
    FullDisk = "full_disk",
    /// A bit flips in a stored hard state, document or body, found by its checksum where it is read: per second.
    BitFlip = "bit_flip",
    /// A node comes back on an empty disk: per second.
    Wipe = "wipe",
    /// Wall clocks differ from the start: standard deviation in seconds.
    Skew = "skew",
    /// Clocks run at different rates: largest deviation in parts per million.
    Drift = "drift",
    /// A wall clock jumps, back or ahead: per second.
    ClockJump = "clock_jump",
    /// A wall clock jumps beyond what is tolerated, and comes back later: per second.
    ClockMad = "clock_mad",
    /// A source speaks too often, or nonsense, for a while: per second.
    MadSource = "mad_source",
    /// A new node joins: per second.
    Join = "join",
    /// A node leaves in order, and may come back: per second.
    Leave = "leave",
    /// An operator takes a voter out: per second.
    RemoveVoter = "remove_voter",
    /// An operator has a departed node forgotten: per second.
    Forget = "forget",
    /// A node dies and comes back under another address: per second.
    Move = "move",
    /// A third of all nodes die at once, and stay away for ten seconds: per second.
    LoseThird = "lose_third",
    /// A process does nothing for up to a second: per second.
    Hiccup = "hiccup",
    /// A packet is lost and sent again by TCP, and all behind it wait: probability per message.
    Retransmit = "retransmit",
    /// A whole region is cut off from the others for a while: per second.
    RegionCut = "region_cut",
    /// The nodes of a region are split in two, each half with the other regions or without, for a while: per second.
    RegionSplit = "region_split",
    /// All processes of a region die: per second.
    RegionLoss = "region_loss",
    /// The leader of a region, or of the top, dies: per second.
    LeaderCrash = "leader_crash",
    /// A process that died is taken apart slowly: its port takes connections for up to 30 ms after the others broke, and
    /// drops them: probability per death.
    Linger = "linger",
}

impl Fault {
    /// How many kinds there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|fault| fault.as_str() == name)
    }

    /// True if its number is a rate of single occurrences per virtual second of the whole cluster.
    pub const fn is_rate(self) -> bool {
        !matches!(
            self,
            Self::CrashMidStep
                | Self::Linger
                | Self::Loss
                | Self::Duplicate
                | Self::Reorder
                | Self::Retransmit
                | Self::Skew
                | Self::Drift
        )
    }
}

/// A number for every kind of fault.
#[derive(Clone, Debug, PartialEq)]
pub struct PerFault<T>([T; Fault::COUNT]);

impl<T: Copy + Default> Default for PerFault<T> {
    fn default() -> Self {
        Self([T::default(); Fault::COUNT])
    }
}

impl<T> std::ops::Index<Fault> for PerFault<T> {
    type Output = T;

    fn index(&self, fault: Fault) -> &T {
        &self.0[fault as usize]
    }
}

impl<T> std::ops::IndexMut<Fault> for PerFault<T> {
    fn index_mut(&mut self, fault: Fault) -> &mut T {
        &mut self.0[fault as usize]
    }
}

impl<T: Copy> PerFault<T> {
    /// Every kind with its number.
    pub fn iter(&self) -> impl Iterator<Item = (Fault, T)> + '_ {
        Fault::ALL.iter().map(|fault| (*fault, self[*fault]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_found_by_its_name() {
        assert!(Fault::ALL.iter().all(|fault| Fault::named(fault.as_str()) == Some(*fault)));
        assert_eq!(Fault::named("earthquake"), None);
        assert!(Fault::ALL.iter().enumerate().all(|(i, fault)| *fault as usize == i));
    }
}
