//! Runs of coded symbols: any bytes are a run or an error, and subtracting a stranger's run ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sensorctl::core::state::sketch::{Run, Sketch, difference};

fuzz_target!(|input: (u64, Vec<u8>, Vec<u8>)| {
    let (total, symbols, counts) = input;
    let Ok(run) = Run::decode(total % (1 << 40), &symbols, &counts) else { return };
    let _ = run.all_counts();
    let mut ours = Sketch::default();
    let members: Vec<u64> = (0..20u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
    members.iter().for_each(|member| ours.insert(*member));
    ours.grow(run.symbols.len(), members.iter().copied());
    let len = run.symbols.len().min(ours.len());
    let _ = difference(&ours.symbols()[..len], &run.symbols[..len]);
});
