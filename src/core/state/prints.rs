//! On whose shelf the entry of a fingerprint is: what two nodes differ in is looked for there, and not among all that
//! is held.

use std::collections::BTreeSet;

use crate::core::id::NodeId;
use crate::core::lookup::Lookup;

/// Fingerprints of all that is held, and a number for the origin of each.
#[derive(Debug, Default)]
pub(super) struct Prints {
    numbers: Lookup<u64, u32>,
    origins: Vec<NodeId>,
    /// Numbers of origins that nothing is held of any more.
    free: Vec<u32>,
}

impl Prints {
    /// Gives an origin that nothing was held of a number.
    pub fn enroll(&mut self, origin: &NodeId) -> u32 {
        if let Some(number) = self.free.pop() {
            self.origins[number as usize] = origin.clone();
            return number;
        }
        self.origins.push(origin.clone());
        u32::try_from(self.origins.len() - 1).expect("fewer origins than fit into any memory")
    }

    /// Takes the number of an origin back that nothing is held of any more.
    pub fn dismiss(&mut self, number: u32) {
        self.free.push(number);
    }

    /// An entry of the origin with this number is held.
    pub fn insert(&mut self, print: u64, number: u32) {
        self.numbers.insert(print, number);
    }

    /// An entry is held no more.
    pub fn remove(&mut self, print: u64) {
        self.numbers.remove(&print);
    }

    /// Origins of those of the fingerprints that are held, in order.
    pub fn origins_of(&self, wanted: &[u64]) -> BTreeSet<&NodeId> {
        let numbers = wanted.iter().filter_map(|print| self.numbers.get(print));
        numbers.map(|number| &self.origins[*number as usize]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_of_what_is_held_is_found() {
        let name = |name: &str| NodeId::new(name).unwrap();
        let mut prints = Prints::default();
        let (a, b) = (prints.enroll(&name("a")), prints.enroll(&name("b")));
        (1..=3).for_each(|print| prints.insert(print, a));
        prints.insert(4, b);
        assert_eq!(prints.origins_of(&[1, 3, 4, 5]), [&name("a"), &name("b")].into());
        prints.remove(4);
        prints.dismiss(b);
        assert_eq!(prints.origins_of(&[2, 4]), [&name("a")].into());
        let c = prints.enroll(&name("c"));
        prints.insert(4, c);
        assert_eq!(prints.origins_of(&[4]), [&name("c")].into(), "a number is given again");
    }
}
