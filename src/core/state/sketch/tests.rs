use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::core::rng::Rng;

fn sketch<'a>(of: impl IntoIterator<Item = &'a u64>, len: usize) -> Sketch {
    let mut sketch = Sketch::default();
    sketch.grow(len, std::iter::empty());
    of.into_iter().for_each(|fingerprint| sketch.insert(*fingerprint));
    sketch
}

/// Two sets with `common` fingerprints in common and `ours` and `theirs` apart.
fn sets(rng: &mut Rng, common: usize, ours: usize, theirs: usize) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let mut draw = |n| -> BTreeSet<u64> { (0..n).map(|_| rng.bits()).collect() };
    let (common, mut a, mut b) = (draw(common), draw(ours), draw(theirs));
    a.extend(&common);
    b.extend(&common);
    (a, b)
}

fn sorted(found: Difference) -> (BTreeSet<u64>, BTreeSet<u64>) {
    (found.ours.into_iter().collect(), found.theirs.into_iter().collect())
}

proptest! {
    #[test]
    fn a_difference_comes_back_exactly(seed: u64, common in 0..500usize, a in 0..60usize, b in 0..60usize) {
        let (ours, theirs) = sets(&mut Rng::new(seed), common, a, b);
        let found = difference(sketch(&ours, 512).symbols(), sketch(&theirs, 512).symbols());
        let only = |a: &BTreeSet<u64>, b: &BTreeSet<u64>| -> BTreeSet<u64> { a.difference(b).copied().collect() };
        prop_assert_eq!(found.map(sorted), Some((only(&ours, &theirs), only(&theirs, &ours))));
    }

    #[test]
    fn order_and_growth_leave_no_mark(seed: u64, n in 1..100usize) {
        let mut rng = Rng::new(seed);
        let mut members: Vec<u64> = (0..n).map(|_| rng.bits()).collect();
        let straight = sketch(&members, 256);
        rng.shuffle(&mut members);
        let mut grown = sketch(&members, 16);
        grown.insert(seed ^ 7);
        grown.remove(seed ^ 7);
        grown.grow(64, members.iter().copied());
        grown.grow(256, members.iter().copied());
        prop_assert_eq!(straight.symbols(), grown.symbols());
    }

    #[test]
    fn runs_come_back_from_the_wire(seed: u64, n in 0..300usize, whole in 0..80usize, counts in 0..80usize, off: u64) {
        let members: Vec<u64> = (0..n).map(|i| seed.wrapping_mul(i as u64 * 2 + 1)).collect();
        let run = Run::of(sketch(&members, 128).symbols(), whole, counts);
        // What the other believes the total to be is part of the message, right or wrong.
        for total in [n as u64, off] {
            let (symbols, more) = run.encode(total);
            prop_assert_eq!(Run::decode(total, &symbols, &more), Ok(run.clone()));
        }
    }

    #[test]
    fn hostile_bytes_are_refused_or_decoded_in_bounds(total: u64, symbols: Vec<u8>, counts: Vec<u8>) {
        if let Ok(run) = Run::decode(total, &symbols, &counts) {
            let found = difference(&run.symbols, sketch(&[1, 2, 3], 64).symbols());
            prop_assert!(found.is_none_or(|found| found.ours.len() + found.theirs.len() <= 64));
            let _ = distance(sketch(&[1, 2, 3], 64).symbols(), &run.all_counts());
        }
    }

    #[test]
    fn made_up_symbols_never_yield_more_than_they_can_carry(seed: u64, n in 1..60usize, mad in 1..60usize) {
        let mut rng = Rng::new(seed);
        let mut symbols = sketch(&(0..n as u64).collect::<Vec<_>>(), 64).symbols().to_vec();
        for _ in 0..mad {
            // Pure ones in the wrong place are the worst.
            let place = rng.below(64);
            symbols[place] = Hashed::of(rng.bits()).symbol;
        }
        let found = difference(&[Symbol::default(); 64], &symbols);
        prop_assert!(found.is_none_or(|found| found.ours.len() + found.theirs.len() <= 64));
    }
}

#[test]
fn places_are_as_dense_as_the_paper_says() {
    let (n, mut hits) = (20_000, [0u32; 400]);
    let mut rng = Rng::new(1);
    for _ in 0..n {
        Hashed::of(rng.bits()).places.take_while(|place| *place < 400).for_each(|place| hits[place] += 1);
    }
    for place in [0, 1, 2, 5, 10, 50, 200, 399] {
        let expected = f64::from(n) * 2.0 / (place as f64 + 2.0);
        let off = (f64::from(hits[place]) - expected).abs();
        assert!(off <= 5.0 * expected.sqrt(), "symbol {place}: {} of {expected}", hits[place]);
    }
}

#[test]
fn places_and_checks_are_the_same_on_every_machine() {
    let hashed = Hashed::of(0x0123_4567_89ab_cdef);
    let places: Vec<usize> = hashed.places.take(8).collect();
    assert_eq!((hashed.symbol.check, &places[..]), (2_760_878_749, &[0, 6, 24, 25, 67, 79, 120, 167][..]));
}

#[test]
fn enough_symbols_are_asked_for_and_not_many_more() {
    let mut rng = Rng::new(2);
    for d in [1, 2, 5, 10, 30, 100, 300, 1000] {
        let (asked, trials) = (symbols_for(d), 300);
        let mut failed = 0;
        for _ in 0..trials {
            let (ours, theirs) = sets(&mut rng, 0, d as usize / 2, d as usize - d as usize / 2);
            failed += u32::from(difference(sketch(&ours, asked).symbols(), sketch(&theirs, asked).symbols()).is_none());
        }
        assert!(failed * 50 <= trials, "{failed} of {trials} differences of {d} are not decoded by {asked} symbols");
        assert!(asked as f64 <= 1.5 * d as f64 + 40.0, "{asked} symbols for {d}");
    }
}

#[test]
fn the_distance_is_guessed_from_counts() {
    let mut rng = Rng::new(3);
    for d in [0u64, 1, 10, 200, 2_000] {
        let mut guesses: Vec<u64> = (0..200)
            .map(|_| {
                let (ours, theirs) = sets(&mut rng, 50, d as usize / 2, (d - d / 2) as usize);
                let run = Run::of(sketch(&theirs, 256).symbols(), 32, 224);
                distance(sketch(&ours, 256).symbols(), &run.all_counts())
            })
            .collect();
        guesses.sort_unstable();
        let off = |guess: u64| (guess as f64 - d as f64).abs();
        assert!(off(guesses[100]) <= 0.05 * d as f64 + 1.0, "the median guess of {d} is {}", guesses[100]);
        assert!(off(guesses[20]).max(off(guesses[180])) <= 0.25 * d as f64 + 1.0, "{d}: {guesses:?}");
    }
}

#[test]
fn a_run_of_nothing_is_read_and_written() {
    let run = Run { symbols: vec![Symbol::default()], counts: vec![0] };
    assert_eq!(Run::decode(0, &[0; 13], &[0]), Ok(run.clone()));
    assert_eq!(run.encode(0), (vec![0; 13], vec![0]));
}
