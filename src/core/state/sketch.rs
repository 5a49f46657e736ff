//! Coded symbols of a set of fingerprints: a rateless invertible Bloom lookup table.
//!
//! Each fingerprint is added to symbol 0 and to a thinning sequence of later ones, symbol `i` with probability
//! `1 / (1 + i / 2)`. Subtracting one set's symbols from another's leaves the symbols of their difference; about
//! 1.4 of them for each differing fingerprint give it back, whatever the sets' sizes.
//!
//! Knows nothing of entries; what a difference means is others' business.
//!
//! Invariant: a sketch is a function of the set alone, whatever the order in which it came to be.
//!
//! Source: Yang, Gilad and Alizadeh, "Practical Rateless Set Reconciliation", SIGCOMM 2024.

use std::iter;

/// What the fingerprints mapped to one place add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Symbol {
    /// Sum of the fingerprints, modulo 2^64.
    sum: u64,
    /// Sum of their checks, modulo 2^32.
    check: u32,
    /// How many; in a difference, how many more.
    count: i32,
}

impl Symbol {
    fn add(&mut self, other: Self) {
        self.sum = self.sum.wrapping_add(other.sum);
        self.check = self.check.wrapping_add(other.check);
        self.count = self.count.wrapping_add(other.count);
    }

    fn negated(self) -> Self {
        Self { sum: self.sum.wrapping_neg(), check: self.check.wrapping_neg(), count: self.count.wrapping_neg() }
    }

    /// The one fingerprint that is here, if it is one alone.
    fn pure(self) -> Option<u64> {
        let one = match self.count {
            1 => self,
            -1 => self.negated(),
            _ => return None,
        };
        (Hashed::of(one.sum).symbol.check == one.check).then_some(one.sum)
    }
}

/// A fingerprint as a symbol of its own, and the places it is mapped to.
#[derive(Clone, Copy)]
struct Hashed {
    symbol: Symbol,
    places: Places,
}

impl Hashed {
    fn of(fingerprint: u64) -> Self {
        // The finaliser of splitmix64 (Steele, Lea and Flood, OOPSLA 2014). A check has to be far from linear:
        // sums of checks must tell nothing of the check of a sum.
        let mut bits = fingerprint.wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        let symbol = Symbol { sum: fingerprint, check: bits as u32, count: 1 };
        Self { symbol, places: Places { state: bits | 1, next: 0 } }
    }
}

/// Numbers of the symbols that a fingerprint is mapped to: 0, then ever thinner.
#[derive(Clone, Copy)]
struct Places {
    state: u64,
    next: u64,
}

impl Iterator for Places {
    type Item = usize;

    /// Draws the next place by inverting its distribution: that none of `i + 1 ..= j` is hit has probability
    /// `(i + 1)(i + 2) / (j + 1)(j + 2)`, nearly `((i + 1.5) / (j + 1.5))^2`.
    ///
    /// Square roots and quotients are rounded alike by all IEEE 754 machines, so all nodes draw the same.
    fn next(&mut self) -> Option<usize> {
        let place = self.next;
        // Steele and Vigna's multiplier, "Computationally easy, spectrally good multipliers", 2022.
        self.state = self.state.wrapping_mul(0xf135_7aea_2e62_a9c5);
        let unit = ((self.state >> 11) + 1) as f64 * (1.0 / (1u64 << 53) as f64);
        let skip = (place as f64 + 1.5) * (1.0 / unit.sqrt() - 1.0);
        self.next = place + 1 + skip as u64;
        // Beyond any run: what is left of the sequence is of no interest.
        usize::try_from(place).ok().filter(|place| *place < PLACES_MAX)
    }
}

/// No run of symbols is longer.
const PLACES_MAX: usize = 1 << 24;

/// The first symbols of one set, kept up to date one fingerprint at a time.
#[derive(Clone, Debug, Default)]
pub struct Sketch {
    symbols: Vec<Symbol>,
}

impl Sketch {
    /// How many fingerprints there are, and their sum modulo 2^64.
    pub fn summary(&self) -> (u64, u64) {
        self.symbols.first().map_or((0, 0), |all| (u64::from(all.count as u32), all.sum))
    }

    /// Adds a fingerprint. Costs as many additions as it has places among the symbols kept, about
    /// `2 ln(symbols / 2)`.
    pub fn insert(&mut self, fingerprint: u64) {
        let Hashed { symbol, places } = Hashed::of(fingerprint);
        apply(&mut self.symbols, places, symbol);
    }

    /// Takes a fingerprint out that was added before.
    pub fn remove(&mut self, fingerprint: u64) {
        let Hashed { symbol, places } = Hashed::of(fingerprint);
        apply(&mut self.symbols, places, symbol.negated());
    }

    /// Keeps `len` symbols from now on; `members` are all fingerprints of the set.
    pub fn grow(&mut self, len: usize, members: impl Iterator<Item = u64>) {
        let old = self.symbols.len();
        self.symbols.resize(len, Symbol::default());
        for member in members {
            let Hashed { symbol, places } = Hashed::of(member);
            apply(&mut self.symbols, places.skip_while(|place| *place < old), symbol);
        }
    }

    /// How many symbols are kept.
    pub fn len(&self) -> usize {
        self.symbols.len()
    }

    /// True while no symbols are kept: the set is empty, or [`Sketch::grow`] is due.
    pub fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    /// The symbols kept.
    pub fn symbols(&self) -> &[Symbol] {
        &self.symbols
    }
}

/// Symbols of the union of two disjoint sets, from theirs.
pub fn union(one: Vec<Symbol>, other: &[Symbol]) -> Vec<Symbol> {
    let mut symbols = one;
    symbols.iter_mut().zip(other).for_each(|(symbol, more)| symbol.add(*more));
    symbols
}

fn apply(symbols: &mut [Symbol], places: impl Iterator<Item = usize>, symbol: Symbol) {
    for place in places {
        let Some(at) = symbols.get_mut(place) else { return };
        at.add(symbol);
    }
}

/// Fingerprints that one of two sets has and the other lacks, in rising order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Held by us alone.
    pub ours: Vec<u64>,
    /// Held by the other alone.
    pub theirs: Vec<u64>,
}

/// Finds in what two sets differ, from as many first symbols of both as both slices have.
///
/// `None` if those do not suffice, or are not symbols of any two sets. Costs at most a few additions for each
/// symbol, whatever they hold.
pub fn difference(ours: &[Symbol], theirs: &[Symbol]) -> Option<Difference> {
    let mut left: Vec<Symbol> = theirs.to_vec();
    left.truncate(ours.len());
    left.iter_mut().zip(ours).for_each(|(symbol, own)| symbol.add(own.negated()));
    let mut found = Difference::default();
    let mut pure: Vec<usize> = (0..left.len()).filter(|place| left[*place].pure().is_some()).collect();
    while let Some(place) = pure.pop() {
        // Another one's removal may have emptied it meanwhile.
        let Some(fingerprint) = left[place].pure() else { continue };
        let theirs = left[place].count == 1;
        if theirs {
            found.theirs.push(fingerprint)
        } else {
            found.ours.push(fingerprint)
        }
        if found.theirs.len() + found.ours.len() > left.len() {
            // More than so many symbols can carry: these were made up.
            return None;
        }
        let Hashed { symbol, places } = Hashed::of(fingerprint);
        let taken = if theirs { symbol.negated() } else { symbol };
        for place in places {
            let Some(at) = left.get_mut(place) else { break };
            at.add(taken);
            if at.pure().is_some() {
                pure.push(place);
            }
        }
    }
    found.ours.sort_unstable();
    found.theirs.sort_unstable();
    (!left.is_empty() && left.iter().all(|symbol| *symbol == Symbol::default())).then_some(found)
}

/// Guesses how many fingerprints two sets differ in, from the counts of their first symbols.
///
/// Each count's difference from its share of the whole has the variance `d p (1 - p)`: the mean square over it
/// tells `d`, to about one part in `sqrt(n / 2)`.
pub fn distance(ours: &[Symbol], counts: &[i32]) -> u64 {
    let differ = |(own, theirs): (&Symbol, &i32)| f64::from(theirs.wrapping_sub(own.count));
    let mut differs = ours.iter().zip(counts).map(differ);
    let Some(all) = differs.next() else { return 0 };
    let (mut sum, mut n) = (0.0, 0.0);
    for (place, differ) in iter::zip(1.., differs) {
        let share = 2.0 / f64::from(place + 2);
        let off = differ - share * all;
        sum += off * off / (share * (1.0 - share));
        n += 1.0;
    }
    if n == 0.0 { all.abs() as u64 } else { (sum / n).max(all.abs()) as u64 }
}

/// How many symbols give back a difference of `d` fingerprints in 99 of 100 cases.
pub fn symbols_for(d: u64) -> usize {
    usize::try_from(d.saturating_mul(11) / 8 + 2 * d.isqrt() + 16).unwrap_or(usize::MAX).min(PLACES_MAX)
}

/// A run of first symbols as it travels: some whole, and of some more their counts alone, which tell how far apart
/// two sets are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Whole symbols from number 0 on.
    pub symbols: Vec<Symbol>,
    /// Counts of the symbols after those.
    pub counts: Vec<i32>,
}

/// Why bytes are not a run of symbols. Nothing was changed; the peer that sent them is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// They end within a symbol.
    #[error("a run of symbols ends within a symbol")]
    Cut,
    /// A count that no set has.
    #[error("symbol {0} counts more than there can be")]
    Count(usize),
}

impl Run {
    /// The first `whole` of these symbols, and the counts of the next `counts`.
    pub fn of(symbols: &[Symbol], whole: usize, counts: usize) -> Self {
        let (whole, rest) = symbols.split_at(whole.min(symbols.len()));
        Self { symbols: whole.to_vec(), counts: rest.iter().take(counts).map(|symbol| symbol.count).collect() }
    }

    /// Writes the run of a set of `total` fingerprints: symbols of 8 bytes sum and 4 bytes check, little-endian, and
    /// the count; then counts alone, apart. A count is what it is above the expected `2 total / (i + 2)`, as a
    /// zigzag varint: one or two bytes.
    pub fn encode(&self, total: u64) -> (Vec<u8>, Vec<u8>) {
        let (mut symbols, mut counts) = (Vec::with_capacity(self.symbols.len() * 14), Vec::new());
        for (place, symbol) in self.symbols.iter().enumerate() {
            symbols.extend_from_slice(&symbol.sum.to_le_bytes());
            symbols.extend_from_slice(&symbol.check.to_le_bytes());
            put_count(&mut symbols, symbol.count, expected(total, place));
        }
        for (place, count) in iter::zip(self.symbols.len().., &self.counts) {
            put_count(&mut counts, *count, expected(total, place));
        }
        (symbols, counts)
    }

    /// Reads what [`Run::encode`] wrote.
    ///
    /// # Errors
    /// [`RunError`] if the bytes are not that.
    pub fn decode(total: u64, mut symbols: &[u8], mut counts: &[u8]) -> Result<Self, RunError> {
        let mut run = Self::default();
        while !symbols.is_empty() {
            let (sum, rest) = symbols.split_first_chunk().ok_or(RunError::Cut)?;
            let (check, rest) = rest.split_first_chunk().ok_or(RunError::Cut)?;
            let place = run.symbols.len();
            let (count, rest) = take_count(rest, place, expected(total, place))?;
            run.symbols.push(Symbol { sum: u64::from_le_bytes(*sum), check: u32::from_le_bytes(*check), count });
            symbols = rest;
        }
        while !counts.is_empty() {
            let place = run.symbols.len() + run.counts.len();
            let (count, rest) = take_count(counts, place, expected(total, place))?;
            run.counts.push(count);
            counts = rest;
        }
        Ok(run)
    }

    /// Counts of all symbols of the run.
    pub fn all_counts(&self) -> Vec<i32> {
        self.symbols.iter().map(|symbol| symbol.count).chain(self.counts.iter().copied()).collect()
    }
}

fn expected(total: u64, place: usize) -> i64 {
    i64::try_from(2 * u128::from(total) / (place as u128 + 2)).unwrap_or(i64::MAX)
}

fn put_count(into: &mut Vec<u8>, count: i32, expected: i64) {
    let above = i64::from(count).wrapping_sub(expected);
    let mut zigzag = ((above << 1) ^ (above >> 63)) as u64;
    while zigzag >= 0x80 {
        into.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    into.push(zigzag as u8);
}

fn take_count(bytes: &[u8], place: usize, expected: i64) -> Result<(i32, &[u8]), RunError> {
    let mut zigzag = 0u64;
    for (i, byte) in bytes.iter().enumerate() {
        let bits = u64::from(byte & 0x7f);
        // Ten groups of seven bits, the tenth with one.
        if i > 9 || (i == 9 && bits > 1) {
            return Err(RunError::Count(place));
        }
        zigzag |= bits << (7 * i);
        if byte & 0x80 == 0 {
            let above = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
            let count = i32::try_from(above.wrapping_add(expected)).map_err(|_| RunError::Count(place))?;
            return Ok((count, &bytes[i + 1..]));
        }
    }
    Err(RunError::Cut)
}

#[cfg(test)]
mod tests;
