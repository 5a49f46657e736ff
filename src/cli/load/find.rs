//! `--find-max`: the highest rate that holds, by doubling and then halving the gap.

/// The search: which rate to try next.
#[derive(Debug)]
pub struct Search {
    rate: f64,
    holds: Option<f64>,
    fails: Option<f64>,
}

/// The search ends when what holds and what fails are this close.
const CLOSE: f64 = 1.05;
/// Rates below this are not worth looking for.
const RATE_MIN: f64 = 1.0;

impl Search {
    /// Begins at a rate.
    pub fn new(rate: f64) -> Self {
        Self { rate, holds: None, fails: None }
    }

    /// The rate to try; `None` when the search is over.
    pub fn next(&self) -> Option<f64> {
        let over = match (self.holds, self.fails) {
            (Some(holds), Some(fails)) => fails <= holds * CLOSE,
            (None, Some(fails)) => fails <= RATE_MIN,
            _ => false,
        };
        (!over).then_some(self.rate)
    }

    /// Takes note of whether the tried rate held.
    pub fn tried(&mut self, held: bool) {
        if held {
            self.holds = Some(self.rate);
        } else {
            self.fails = Some(self.rate);
        }
        self.rate = match (self.holds, self.fails) {
            (Some(holds), Some(fails)) => (holds * fails).sqrt(),
            (Some(holds), None) => holds * 2.0,
            (None, Some(fails)) => (fails / 2.0).max(RATE_MIN),
            (None, None) => self.rate,
        };
    }

    /// The highest rate that held.
    pub fn found(&self) -> Option<f64> {
        self.holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(from: f64, limit: f64) -> Option<f64> {
        let mut search = Search::new(from);
        for _ in 0..60 {
            let Some(rate) = search.next() else { return search.found() };
            search.tried(rate <= limit);
        }
        panic!("it does not end");
    }

    #[test]
    fn the_limit_is_found_from_both_sides() {
        for from in [100.0, 10_000.0] {
            let found = find(from, 2_345.0).unwrap();
            assert!((2_233.0..=2_345.0).contains(&found), "{found}");
        }
        assert_eq!(find(100.0, 0.0), None, "nothing holds");
    }
}
