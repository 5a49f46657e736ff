//! A store whose bytes were changed: it opens with what was written, or is set aside; never a guess, and no panic that
//! opening does not catch.
//!
//! Input: triples of a place (4 bytes), and a byte to write there; the file is a fresh store's.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sensorctl::shell::storage::{Storage, abort_on_panic};

// The fuzzer ends at every panic, those included that a store's opening catches: the program's own rule is put before it.
fuzz_target!(init: abort_on_panic(), |changes: &[u8]| {
    let dir = tempfile::tempdir().expect("room for a directory");
    let identity = Storage::open(dir.path()).expect("a fresh store").identity;
    let path = dir.path().join("store.redb");
    let mut bytes = std::fs::read(&path).expect("the store's file");
    for change in changes.chunks_exact(5) {
        let place = u32::from_le_bytes([change[0], change[1], change[2], change[3]]) as usize % bytes.len();
        bytes[place] = change[4];
    }
    // What is left over cuts the file.
    if let [cut] = changes.chunks_exact(5).remainder() {
        bytes.truncate(bytes.len() * usize::from(*cut) / 255);
    }
    std::fs::write(&path, bytes).expect("room for a file");
    let Ok(opened) = Storage::open(dir.path()) else { return };
    if opened.set_aside.is_none() && !opened.identity.fresh {
        assert_eq!(opened.identity.id, identity.id, "a store does not change its name");
    }
});
