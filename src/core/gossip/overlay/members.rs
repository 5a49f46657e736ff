//! Who could be linked, and drawing at random from them.
//!
//! Keeps where members are, and which of them are there. Who is linked is told by the caller.
//!
//! Invariants: whoever is drawn from stands in one pool and once; nothing here looks at all members.

use std::collections::BTreeMap;

use crate::core::id::NodeId;
use crate::core::rng::Rng;
use crate::core::state::system::Addr;

/// The dead found last, who come back most often: every other attempt is theirs.
const LATELY_DEAD: usize = 16;
/// Draws after which a pick gives up: almost everyone is linked already.
const DRAWS: usize = 16;

/// All members but ourselves.
#[derive(Debug, Default)]
pub(super) struct Members {
    all: BTreeMap<NodeId, Known>,
    near: Pool,
    far: Pool,
    /// In the order of their deaths.
    dead: BTreeMap<u32, NodeId>,
    deaths: u32,
}

/// A member that could be linked.
#[derive(Debug)]
pub(super) struct Known {
    pub addr: Addr,
    pub foreign: bool,
    pub place: Place,
    /// Its place among those of its kind.
    at: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Doubted, or left: nobody to pick.
    Nowhere,
    Near,
    Far,
    Dead,
}

/// Members of one kind, to draw from. The order means nothing.
#[derive(Debug, Default)]
struct Pool(Vec<NodeId>);

impl Members {
    /// What is known of a member.
    pub fn get(&self, node: &NodeId) -> Option<&Known> {
        self.all.get(node)
    }

    /// Where it is.
    pub fn addr(&self, node: &NodeId) -> Option<Addr> {
        self.all.get(node).map(|known| known.addr.clone())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Those of our own region who are there.
    pub fn near(&self) -> &[NodeId] {
        &self.near.0
    }

    /// True if there is one of the dead to try.
    pub fn has_dead(&self) -> bool {
        !self.dead.is_empty()
    }

    /// A member is at this address. True if it was elsewhere.
    pub fn know(&mut self, node: &NodeId, addr: &Addr, foreign: bool) -> bool {
        match self.all.get_mut(node) {
            Some(known) if known.foreign == foreign => {
                let moved = known.addr != *addr;
                if moved {
                    known.addr = addr.clone();
                }
                moved
            }
            _ => {
                self.place(node, Place::Nowhere);
                let known = Known { addr: addr.clone(), foreign, place: Place::Nowhere, at: 0 };
                self.all.insert(node.clone(), known);
                false
            }
        }
    }

    /// It is one no more.
    pub fn forget(&mut self, node: &NodeId) {
        self.place(node, Place::Nowhere);
        self.all.remove(node);
    }

    /// Moves a member among those of another kind.
    pub fn place(&mut self, node: &NodeId, place: Place) {
        let Some((old, at)) = self.all.get(node).map(|known| (known.place, known.at)) else { return };
        let moved = match old {
            Place::Nowhere => None,
            Place::Near => self.near.remove(at),
            Place::Far => self.far.remove(at),
            Place::Dead => {
                self.dead.remove(&at);
                None
            }
        };
        if let Some(moved) = moved.and_then(|moved| self.all.get_mut(&moved)) {
            moved.at = at;
        }
        let at = match place {
            Place::Nowhere => 0,
            Place::Near => self.near.push(node),
            Place::Far => self.far.push(node),
            Place::Dead => {
                self.deaths = self.deaths.wrapping_add(1);
                self.dead.insert(self.deaths, node.clone());
                self.deaths
            }
        };
        if let Some(known) = self.all.get_mut(node) {
            (known.place, known.at) = (place, at);
        }
    }

    /// Somebody who is there and has no link, of our own region or of another.
    pub fn draw(&self, rng: &mut Rng, far: bool, is_linked: impl Fn(&NodeId) -> bool) -> Option<NodeId> {
        let pool = if far { &self.far } else { &self.near };
        (0..DRAWS).find_map(|_| rng.pick(&pool.0).filter(|node| !is_linked(node))).cloned()
    }

    /// Somebody who is there and has no link, of any region.
    pub fn draw_any(&self, rng: &mut Rng, is_linked: impl Fn(&NodeId) -> bool) -> Option<NodeId> {
        let (near, far) = (self.near.0.len(), self.far.0.len());
        let is_far = near + far > 0 && rng.below(near + far) >= near;
        self.draw(rng, is_far, is_linked)
    }

    /// One of the dead.
    pub fn draw_dead(&self, rng: &mut Rng) -> Option<NodeId> {
        if rng.chance(0.5) {
            let lately: Vec<&NodeId> = self.dead.values().rev().take(LATELY_DEAD).collect();
            return rng.pick(&lately).map(|node| (*node).clone());
        }
        let (first, last) = (*self.dead.keys().next()?, *self.dead.keys().next_back()?);
        let from = first + rng.below((last - first) as usize + 1) as u32;
        self.dead.range(from..).next().map(|(_, node)| node.clone())
    }
}

impl Pool {
    /// Where it now stands.
    fn push(&mut self, node: &NodeId) -> u32 {
        self.0.push(node.clone());
        self.0.len() as u32 - 1
    }

    /// Who now stands in its place.
    fn remove(&mut self, at: u32) -> Option<NodeId> {
        self.0.swap_remove(at as usize);
        self.0.get(at as usize).cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn put(members: &mut Members, node: &str, place: Place) {
        let node = NodeId::new(node).unwrap();
        members.know(&node, &"a:1".into(), place == Place::Far);
        members.place(&node, place);
    }

    /// How many of 200 draws gave somebody near, and somebody far.
    fn drawn(near: usize, far: usize) -> (usize, usize) {
        let (mut members, mut rng) = (Members::default(), Rng::new(1));
        (0..near).for_each(|n| put(&mut members, &format!("near-{n}"), Place::Near));
        (0..far).for_each(|n| put(&mut members, &format!("far-{n}"), Place::Far));
        let all: Vec<NodeId> = (0..200).filter_map(|_| members.draw_any(&mut rng, |_| false)).collect();
        let abroad = all.iter().filter(|node| node.as_str().starts_with("far")).count();
        (all.len() - abroad, abroad)
    }

    #[test]
    fn anybody_alive_may_be_drawn_of_any_region_and_nobody_of_none() {
        assert_eq!((drawn(0, 0), drawn(3, 0), drawn(0, 3)), ((0, 0), (200, 0), (0, 200)));
        for (near, far, share) in [(4, 4, 70..=130), (3, 9, 25..=75), (9, 3, 125..=175)] {
            let (of_near, of_far) = drawn(near, far);
            assert!(of_near + of_far == 200 && share.contains(&of_near), "{of_near} of {near}, {of_far} of {far}");
        }
    }

    #[test]
    fn each_of_the_dead_is_tried_whoever_came_back_or_died_before() {
        let (mut members, mut rng) = (Members::default(), Rng::new(1));
        for _ in 0..2_000 {
            put(&mut members, "often", Place::Dead);
            put(&mut members, "often", Place::Near);
        }
        (0..40).for_each(|n| put(&mut members, &format!("n{n}"), Place::Dead));
        let tried: BTreeSet<NodeId> = (0..2_000).filter_map(|_| members.draw_dead(&mut rng)).collect();
        assert_eq!(tried.len(), 40);
    }

    #[test]
    fn who_moves_to_another_region_is_drawn_there_and_no_more_where_it_was() {
        let (mut members, mut rng) = (Members::default(), Rng::new(1));
        let a = NodeId::new("a").unwrap();
        put(&mut members, "a", Place::Near);
        assert!(members.know(&a, &"b:1".into(), false), "only its address is another");
        assert_eq!(members.near(), std::slice::from_ref(&a));
        members.know(&a, &"c:1".into(), true);
        assert!(members.near().is_empty());
        members.place(&a, Place::Far);
        let mut drawn = |far: bool| members.draw(&mut rng, far, |_| false);
        assert_eq!((drawn(false), drawn(true)), (None, Some(a)));
    }
}
