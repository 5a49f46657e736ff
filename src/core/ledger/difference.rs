//! What differs between a text and another that its receiver holds: pieces to copy and pieces to insert.
//!
//! Checkpoints follow each other with few changes, so whoever holds the one before needs little of the next. Nothing
//! here is believed: the receiver rebuilds the whole and checks its hash.
//!
//! Format: any number of pieces, each the length of what is inserted as a varint, those bytes, and, unless the text
//! ends there, the length of what is copied as a varint, and where it begins: less the place that keeps step with the
//! last copy, as a zigzag varint.
//!
//! Source: copies found by hashed blocks and widened both ways, as in Bentley and McIlroy, Data compression using long
//! common strings, 1999.

use xxhash_rust::xxh3::xxh3_64;

/// Shortest copy that is looked for anywhere; twice as much less a byte is always found.
const BLOCK: usize = 16;
/// Shortest copy that keeps step with the one before: after a few changed digits, the rest of a line.
const IN_STEP: usize = 4;

/// Why bytes are not a difference to this base. Whoever sent them is at fault, or has another base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DifferenceError {
    /// They end within a piece.
    #[error("the difference is cut short")]
    Cut,
    /// A piece is copied from where the base has nothing.
    #[error("the difference copies what the base does not have")]
    Beyond,
    /// The text would be longer than is allowed.
    #[error("the difference makes more than {0} bytes")]
    TooLong(usize),
}

/// Writes down how `text` is made from `base`. Takes time linear in both, for texts that differ little.
pub fn between(base: &[u8], text: &[u8]) -> Vec<u8> {
    let blocks = Blocks::of(base);
    let mut out = Vec::new();
    // What is written so far ends at `done`; the place in the base that keeps step with it is `step`.
    let (mut done, mut step, mut at) = (0, 0usize, 0);
    while at < text.len() {
        let in_step = step + (at - done);
        let Some(found) = in_step_copy(base, in_step, text, at).or_else(|| blocks.find(base, text, at)) else {
            at += 1;
            continue;
        };
        let (mut from, mut begin) = (found, at);
        while begin > done && from > 0 && base[from - 1] == text[begin - 1] {
            (from, begin) = (from - 1, begin - 1);
        }
        let length = common(&base[from..], &text[begin..]);
        put_varint(&mut out, (begin - done) as u64);
        out.extend_from_slice(&text[done..begin]);
        put_varint(&mut out, length as u64);
        put_varint(&mut out, zigzag(from as i64 - (step + (begin - done)) as i64));
        (done, step) = (begin + length, from + length);
        at = done;
    }
    if done < text.len() {
        put_varint(&mut out, (text.len() - done) as u64);
        out.extend_from_slice(&text[done..]);
    }
    out
}

/// Makes the text again, of at most `max` bytes.
///
/// # Errors
/// [`DifferenceError`] if the bytes are no difference to this base.
pub fn apply(base: &[u8], mut difference: &[u8], max: usize) -> Result<Vec<u8>, DifferenceError> {
    let (mut text, mut step) = (Vec::new(), 0i64);
    let bounded = |have: usize, more: usize| match have.checked_add(more).filter(|length| *length <= max) {
        Some(_) => Ok(()),
        None => Err(DifferenceError::TooLong(max)),
    };
    while !difference.is_empty() {
        let length = take_length(&mut difference)?;
        let inserted = difference.get(..length).ok_or(DifferenceError::Cut)?;
        bounded(text.len(), length)?;
        text.extend_from_slice(inserted);
        difference = &difference[length..];
        if difference.is_empty() {
            break;
        }
        let copied = take_length(&mut difference)?;
        let moved = unzigzag(take_varint(&mut difference)?);
        let from = step.checked_add_unsigned(length as u64).and_then(|step| step.checked_add(moved));
        let from = from.and_then(|from| usize::try_from(from).ok()).ok_or(DifferenceError::Beyond)?;
        let piece = from.checked_add(copied).and_then(|end| base.get(from..end)).ok_or(DifferenceError::Beyond)?;
        bounded(text.len(), copied)?;
        text.extend_from_slice(piece);
        step = (from + copied) as i64;
    }
    Ok(text)
}

/// Where in the base each of its blocks begins, the first of equal ones: a table of places, found by the block's hash,
/// each one more than the place so that nothing is zero.
struct Blocks(Vec<u32>);

impl Blocks {
    fn of(base: &[u8]) -> Self {
        let mut blocks = Self(vec![0; (2 * (base.len() / BLOCK) + 1).next_power_of_two()]);
        for (i, block) in base.chunks_exact(BLOCK).enumerate() {
            let (slot, found) = blocks.look(base, block);
            if found.is_none() {
                blocks.0[slot] = (i * BLOCK + 1) as u32;
            }
        }
        blocks
    }

    fn find(&self, base: &[u8], text: &[u8], at: usize) -> Option<usize> {
        let block = text.get(at..at + BLOCK)?;
        self.look(base, block).1
    }

    /// Where the block stands in the table, or would, and where in the base. The table is at most half full.
    fn look(&self, base: &[u8], block: &[u8]) -> (usize, Option<usize>) {
        let mask = self.0.len() - 1;
        let mut slot = xxh3_64(block) as usize & mask;
        while let Some(from) = self.0[slot].checked_sub(1) {
            let from = from as usize;
            if base[from..from + BLOCK] == *block {
                return (slot, Some(from));
            }
            slot = (slot + 1) & mask;
        }
        (slot, None)
    }
}

fn in_step_copy(base: &[u8], from: usize, text: &[u8], at: usize) -> Option<usize> {
    let (ours, theirs) = (base.get(from..from + IN_STEP)?, text.get(at..at + IN_STEP)?);
    (ours == theirs).then_some(from)
}

fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Appends a number, seven bits a byte, the lowest first.
pub fn put_varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// Takes a number off the front.
///
/// # Errors
/// [`DifferenceError::Cut`] if there is none.
pub fn take_varint(from: &mut &[u8]) -> Result<u64, DifferenceError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first().ok_or(DifferenceError::Cut)?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(DifferenceError::Cut)
}

fn take_length(from: &mut &[u8]) -> Result<usize, DifferenceError> {
    usize::try_from(take_varint(from)?).map_err(|_| DifferenceError::Cut)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1 << 20;

    fn text() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(b"abc".to_vec()), 0..400)
    }

    proptest! {
        #[test]
        fn what_differs_makes_the_text_again(base in text(), other in text(), cut in 0usize..400, len in 0usize..9) {
            let (from, to) = (cut.min(base.len()), (cut + len).min(base.len()));
            let edited = [&base[..from], &other[..len.min(other.len())], &base[to..]].concat();
            for text in [&other, &edited, &base] {
                prop_assert_eq!(&apply(&base, &between(&base, text), MAX).unwrap(), text);
            }
        }

        #[test]
        fn any_bytes_are_refused_or_make_some_text_within_bounds(base in text(), bytes: Vec<u8>) {
            if let Ok(text) = apply(&base, &bytes, 1000) {
                prop_assert!(text.len() <= 1000);
            }
        }
    }

    #[test]
    fn a_few_changed_digits_cost_a_few_bytes() {
        let line = |i: usize, at: u64| format!(r#""region-{i:04}":{{"index":{i},"taken_at":[{at},1]}},"#);
        let text = |at: &dyn Fn(usize) -> u64| (0..1000).map(|i| line(i, at(i))).collect::<String>().into_bytes();
        let base = text(&|_| 1_700_000_000_000);
        let one = text(&|i| 1_700_000_000_000 + if i == 500 { 4_321 } else { 0 });
        assert!(between(&base, &one).len() < 20, "{}", between(&base, &one).len());
        let all = text(&|i| 1_700_000_000_000 + i as u64);
        assert!(between(&base, &all).len() < 8 * 1000, "{}", between(&base, &all).len());
        assert_eq!(apply(&base, &between(&base, &all), MAX), Ok(all));
    }

    #[test]
    fn copies_beyond_the_base_and_texts_beyond_the_bound_are_refused() {
        let copy = |length: u64, from: i64| {
            let mut bytes = vec![0];
            put_varint(&mut bytes, length);
            put_varint(&mut bytes, zigzag(from));
            bytes
        };
        assert_eq!(apply(b"abcd", &copy(4, 0), 4), Ok(b"abcd".to_vec()));
        assert_eq!(apply(b"abcd", &copy(4, 1), 4), Err(DifferenceError::Beyond));
        assert_eq!(apply(b"abcd", &copy(4, -1), 4), Err(DifferenceError::Beyond));
        assert_eq!(apply(b"abcd", &copy(u64::MAX, 0), 4), Err(DifferenceError::Beyond));
        assert_eq!(apply(b"abcd", &copy(4, i64::MIN), 4), Err(DifferenceError::Beyond));
        assert_eq!(apply(b"abcd", &copy(4, 0), 3), Err(DifferenceError::TooLong(3)));
        assert_eq!(apply(b"abcd", &[5, b'x'], 9), Err(DifferenceError::Cut));
        assert_eq!(apply(b"abcd", &[0x80; 11], 9), Err(DifferenceError::Cut));
    }

    #[test]
    fn a_base_that_stands_further_on_in_the_text_is_copied_from_its_beginning() {
        let base: Vec<u8> = (0..64).collect();
        let text = [&b"new: "[..], &base[..]].concat();
        let difference = between(&base, &text);
        assert!(difference.len() < 12, "{}", difference.len());
        assert_eq!(apply(&base, &difference, MAX), Ok(text));
    }
}
