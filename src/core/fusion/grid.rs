//! A sketch of many values: each rounded down to a multiple of one power of two, and counted.
//!
//! The width of the cells is the smallest power of two with which no more than [`CELLS_MAX`] are occupied. Rounding
//! twice is rounding once to the wider cell, and parts never need wider cells than the whole; so the sketch of a
//! union is the same to the bit however the parts were merged. (A t-digest depends on the order and uses
//! transcendental functions, KLL draws lots; neither can be computed again by everybody who wants to check.)
//!
//! Invariant: the value that a cell stands for is at most half a cell from every value in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::core::fusion::interval::Interval;

/// Most cells occupied.
pub const CELLS_MAX: usize = 512;
/// Most values in a cell that somebody else made: sums of them stay far from overflow.
const COUNT_MAX: u64 = 1 << 40;

/// The narrowest and widest cells, as powers of two; beyond them values are kept as they are.
const EXPONENT_MIN: i32 = -200;
const EXPONENT_MAX: i32 = 1000;

/// Values on a grid, each with a class of uncertainty and a count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Grid {
    /// Cells are two to this power wide.
    exponent: i32,
    /// (lower edge, uncertainty, count), in order of edge and uncertainty.
    cells: Vec<(f64, f64, u64)>,
}

/// A grid as bytes of unknown origin have it.
#[derive(Deserialize)]
struct Written {
    exponent: i32,
    cells: Vec<(f64, f64, u64)>,
}

/// Why something written is no grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sketch of values breaks its bounds: {0}")]
pub struct GridError(&'static str);

impl TryFrom<Written> for Grid {
    type Error = GridError;

    fn try_from(Written { exponent, cells }: Written) -> Result<Self, GridError> {
        if !(EXPONENT_MIN..=EXPONENT_MAX).contains(&exponent) {
            return Err(GridError("the width of its cells"));
        }
        if cells.len() > CELLS_MAX {
            return Err(GridError("more cells than there may be"));
        }
        let sound = |(edge, sigma, count): &(f64, f64, u64)| {
            edge.abs() <= 1e101
                && (1e-13..=1e120).contains(sigma)
                && (1..=COUNT_MAX).contains(count)
                && floor_to(*edge, exponent) == *edge
        };
        if !cells.iter().all(sound) || cells.windows(2).any(|pair| (pair[0].0, pair[0].1) >= (pair[1].0, pair[1].1)) {
            return Err(GridError("a cell that is none, or out of order"));
        }
        Ok(Self { exponent, cells })
    }
}

/// One occupied cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// Where the values in it are.
    pub range: Interval,
    /// Upper bound of their standard uncertainties; the lower is at least eight ninths of it.
    pub sigma: f64,
    /// How many values.
    pub count: u64,
}

impl Cell {
    /// The value it stands for.
    pub fn middle(&self) -> f64 {
        self.range.lo + self.range.width() / 2.0
    }
}

impl Grid {
    /// Rounds and counts values, given with their standard uncertainties.
    pub fn of(values: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let mut classes: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (value, sigma) in values {
            // Negative zero is zero.
            classes.entry(sigma_class(sigma).to_bits()).or_default().push(ordered(value + 0.0));
        }
        classes.values_mut().for_each(|values| values.sort_unstable());
        let occupied = |exponent| {
            let of_class = |values: &Vec<u64>| {
                let mut last = f64::NAN;
                let new = values.iter().filter(|bits| {
                    let cell = floor_to(unordered(**bits), exponent);
                    cell != std::mem::replace(&mut last, cell)
                });
                new.count()
            };
            classes.values().map(of_class).sum::<usize>()
        };
        let exponent = narrowest(EXPONENT_MIN, |exponent| occupied(exponent) <= CELLS_MAX);
        let mut cells: Vec<(f64, f64, u64)> = Vec::new();
        for (class, values) in &classes {
            let from = cells.len();
            for bits in values {
                let edge = floor_to(unordered(*bits), exponent);
                match cells[from..].last_mut() {
                    Some(last) if last.0 == edge => last.2 += 1,
                    _ => cells.push((edge, f64::from_bits(*class), 1)),
                }
            }
        }
        Self { exponent, cells: sorted(cells) }
    }

    /// Of all values of both.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        let from = self.exponent.max(other.exponent);
        let both = sorted(self.cells.iter().chain(&other.cells).copied().collect());
        let fits = coarser(&both, from);
        if fits.len() <= CELLS_MAX {
            return Self { exponent: from, cells: fits };
        }
        let exponent = narrowest(from, |exponent| coarser(&both, exponent).len() <= CELLS_MAX);
        Self { exponent, cells: coarser(&both, exponent) }
    }

    /// The occupied cells, by lower edge.
    pub fn cells(&self) -> impl Iterator<Item = Cell> {
        self.cells.iter().map(|(edge, sigma, count)| {
            let upper = edge + power(self.exponent);
            Cell { range: Interval::new(*edge, upper), sigma: *sigma, count: *count }
        })
    }

    /// How many values.
    pub fn n(&self) -> u64 {
        self.cells.iter().map(|(_, _, count)| count).sum()
    }

    /// How far a value may be from what its cell stands for.
    pub fn error(&self) -> f64 {
        power(self.exponent) / 2.0
    }
}

/// The smallest exponent from `from` on that is `enough`; what is enough stays so for wider cells.
fn narrowest(from: i32, enough: impl Fn(i32) -> bool) -> i32 {
    let (mut low, mut high) = (from, EXPONENT_MAX);
    while low < high {
        let middle = low + (high - low) / 2;
        if enough(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

fn sorted(mut cells: Vec<(f64, f64, u64)>) -> Vec<(f64, f64, u64)> {
    cells.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    cells
}

/// Sorted cells on a wider grid, equal ones put together.
fn coarser(cells: &[(f64, f64, u64)], exponent: i32) -> Vec<(f64, f64, u64)> {
    let mut wider: Vec<(f64, f64, u64)> = Vec::with_capacity(cells.len());
    let mut edge_from = 0;
    for (edge, sigma, count) in cells {
        let edge = floor_to(*edge, exponent);
        if wider.last().is_none_or(|last| last.0 != edge) {
            edge_from = wider.len();
        }
        // Cells of one edge are few: a class of uncertainty each, kept in order.
        match wider[edge_from..].binary_search_by(|cell| cell.1.total_cmp(sigma)) {
            Ok(at) => wider[edge_from + at].2 += count,
            Err(at) => wider.insert(edge_from + at, (edge, *sigma, *count)),
        }
    }
    wider
}

/// `value` rounded down to a multiple of two to the power of `exponent`; unchanged where it has no finer digits.
fn floor_to(value: f64, exponent: i32) -> f64 {
    let scaled = value * power(-exponent);
    if scaled.abs() < 9_007_199_254_740_992.0 { scaled.floor() * power(exponent) + 0.0 } else { value }
}

/// Two to the power of `exponent`, exactly; `exponent` lies between -1000 and 1000.
fn power(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// The upper edge of one of eight classes an octave.
fn sigma_class(sigma: f64) -> f64 {
    const LOW_BITS: u64 = (1 << 49) - 1;
    f64::from_bits((sigma.to_bits() + LOW_BITS) & !LOW_BITS)
}

/// Bits that order as the numbers do.
fn ordered(value: f64) -> u64 {
    let bits = value.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | (1 << 63) }
}

fn unordered(bits: u64) -> f64 {
    f64::from_bits(if bits >> 63 == 1 { bits & !(1 << 63) } else { !bits })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn many() -> impl Strategy<Value = Vec<(f64, f64)>> {
        let value = prop_oneof![-50.0..50.0f64, -1e-3..1e-3f64, Just(0.0), Just(1e300), Just(-1e12)];
        prop::collection::vec((value, prop_oneof![Just(0.1), 0.01..5.0f64]), 0..900)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_sketch_of_a_union_is_the_same_however_it_was_merged(a in many(), b in many(), c in many()) {
            let (ga, gb, gc) = (Grid::of(a.clone()), Grid::of(b.clone()), Grid::of(c.clone()));
            let flat = Grid::of(a.into_iter().chain(b).chain(c));
            prop_assert_eq!(&ga.merge(&gb), &gb.merge(&ga));
            prop_assert_eq!(&ga.merge(&gb).merge(&gc), &flat);
            prop_assert_eq!(&ga.merge(&gb.merge(&gc)), &flat);
            prop_assert!(flat.cells.len() <= CELLS_MAX);
        }

        #[test]
        fn every_value_is_within_the_stated_error_of_its_cell(values in many()) {
            let grid = Grid::of(values.clone());
            prop_assert_eq!(grid.n(), values.len() as u64);
            for (value, sigma) in values {
                let holds = |cell: &Cell| {
                    cell.range.holds(value) && cell.sigma >= sigma && cell.sigma <= sigma * 9.0 / 8.0
                        && (cell.middle() - value).abs() <= grid.error().max(value.abs() * 1e-15)
                };
                prop_assert!(grid.cells().any(|cell| holds(&cell)), "{value} {sigma}");
            }
        }
    }

    #[test]
    fn a_sketch_survives_its_own_json() {
        let grid = Grid::of((0..5000).map(|i| (f64::from(i) * 0.37 - 100.0, 0.25)));
        assert_eq!(serde_json::from_str::<Grid>(&serde_json::to_string(&grid).unwrap()).unwrap(), grid);
        assert!(grid.error() <= 5000.0 * 0.37 / 256.0);
    }

    #[test]
    fn what_is_no_grid_is_refused_and_wide_cells_state_their_error() {
        let read = |exponent: i32, cells: &str| {
            serde_json::from_str::<Grid>(&format!(r#"{{"exponent":{exponent},"cells":[{cells}]}}"#)).is_ok()
        };
        assert!(read(0, "[1.0,0.1,1],[2.0,0.1,1]") && read(0, "[1.0,0.1,1099511627776]"));
        for cells in [
            "[1.0,0.1,0]",
            "[1.0,0.1,1099511627777]",
            "[1.0,0.0,1]",
            "[1.0,1e121,1]",
            "[1e102,0.1,1]",
            "[1.5,0.1,1]",
            "[2.0,0.1,1],[1.0,0.1,1]",
            "[1.0,0.1,1],[1.0,0.1,1]",
        ] {
            assert!(!read(0, cells), "{cells}");
        }
        assert!(!read(EXPONENT_MAX + 1, "") && !read(EXPONENT_MIN - 1, ""));
        let many = |n: usize| (0..n).map(|i| format!("[{i}.0,0.1,1]")).collect::<Vec<_>>().join(",");
        assert!(read(0, &many(CELLS_MAX)) && !read(0, &many(CELLS_MAX + 1)));
        let values: Vec<f64> = (0..5000).map(|i| f64::from(i) * 0.37 - 100.0).collect();
        let grid = Grid::of(values.iter().map(|value| (*value, 0.25)));
        assert_eq!(grid.error(), 2.0);
        let near = |value: f64| grid.cells().any(|c| c.range.holds(value) && (c.middle() - value).abs() <= 2.0);
        assert!(values.iter().all(|value| near(*value)));
    }
}
