//! Memory: what a whole and quiet cluster holds is bounded by its size, never by what it has gone through.
//!
//! The bounds follow from the number of nodes, channels and regions alone; what can drain must have drained.

use crate::core::view::Footprint;
use crate::sim::oracles::Verdict;

/// What the bounds follow from.
#[derive(Clone, Copy, Debug)]
pub struct World {
    /// Nodes that ever took part.
    pub nodes: usize,
    /// Channels of one node's readings.
    pub channels: usize,
    /// Regions.
    pub regions: usize,
    /// Nodes of the largest of them that ever took part.
    pub region: usize,
}

/// Channels by which a node speaks of itself and of its region; others name a node each.
const OWN_SYSTEM_CHANNELS: usize = 6;
/// Links within a region of whoever is picked by many, and what its voters have among themselves.
const LINKS_NEAR: usize = 12 + 4;
/// Links of a voter to other regions, beside those of leaders to each other.
const LINKS_ABROAD: usize = 6;
/// Links for a while.
const LINKS_WANTED: usize = 4;
/// Documents at hand in memory.
const DOCUMENTS: usize = 64;
/// Bodies at hand in memory.
const BODIES: usize = 6;
/// Of one group, what waits for one disk: a vote, an acceptance, and what is committed.
const HELD: usize = 8;

/// Whether what one node holds is within bounds.
///
/// # Errors
/// What is not.
pub fn within(world: World, held: &Footprint) -> Verdict {
    let World { nodes, channels, regions, region } = world;
    let groups = if regions > 1 { 2 } else { 1 };
    // Every origin may doubt and forget every node.
    let entries = nodes * (channels + OWN_SYSTEM_CHANNELS + 2 * nodes);
    let abroad = if regions > 1 { regions + LINKS_ABROAD } else { 0 };
    let links = region.min(LINKS_NEAR) + abroad + LINKS_WANTED;
    let bounds = [
        ("entries", held.entries, entries),
        ("keys in outboxes", held.outbox, 0),
        ("origins", held.origins, nodes),
        ("members", held.members, nodes),
        ("doubted members", held.doubted, 0),
        // Each member is dialed by one of its addresses at a time, and waited for once.
        ("dials and waits", held.dials, 2 * nodes),
        // One link to each peer, and one that is to replace it; of many nodes, to a few.
        ("links", held.links, links.min(2 * nodes)),
        ("repairs", held.repairs, 2 * held.links),
        ("documents", held.documents, DOCUMENTS),
        ("bodies", held.bodies, BODIES),
        // The newest document of each region and of the top is on its way to us and to whoever awaits it from us.
        ("fetches", held.fetches, (regions + 1) * (2 + nodes)),
        ("gaps in ledgers", held.gaps, 0),
        ("unanswered requests", held.requests, 0),
        ("unwritten entries", held.unwritten, channels + nodes),
        ("held messages", held.held, HELD * groups),
        // Each asker's newest question of each of four kinds, on its way here and back.
        ("relayed questions", held.relayed, 8 * nodes),
    ];
    match bounds.iter().find(|(_, is, most)| is > most) {
        Some((what, is, most)) => Err(format!("holds {is} {what} where {most} are the most")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORLD: World = World { nodes: 3, channels: 2, regions: 1, region: 3 };

    #[test]
    fn a_quiet_node_is_within_bounds() {
        let held = Footprint {
            entries: 20,
            origins: 3,
            members: 2,
            links: 2,
            documents: 64,
            bodies: 2,
            ..Footprint::default()
        };
        assert_eq!(within(WORLD, &held), Ok(()));
    }

    #[test]
    fn whatever_grows_beyond_its_bound_is_named() {
        type Grow = fn(&mut Footprint, usize);
        let all: [(&str, Grow); 16] = [
            ("entries", |held, n| held.entries = n),
            ("outboxes", |held, n| held.outbox = n),
            ("origins", |held, n| held.origins = n),
            ("members", |held, n| held.members = n),
            ("doubted", |held, n| held.doubted = n),
            ("dials", |held, n| held.dials = n),
            ("links", |held, n| held.links = n),
            ("repairs", |held, n| held.repairs = n),
            ("documents", |held, n| held.documents = n),
            ("bodies", |held, n| held.bodies = n),
            ("fetches", |held, n| held.fetches = n),
            ("gaps", |held, n| held.gaps = n),
            ("requests", |held, n| held.requests = n),
            ("unwritten", |held, n| held.unwritten = n),
            ("held messages", |held, n| held.held = n),
            ("relayed", |held, n| held.relayed = n),
        ];
        for (what, grow) in all {
            let mut held = Footprint::default();
            grow(&mut held, 1_000);
            let verdict = within(WORLD, &held).unwrap_err();
            assert!(verdict.contains(what), "{what}: {verdict}");
        }
    }
}
