//! Documents and snapshot bodies from strangers: any bytes are one or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sensorctl::core::id::Hash;
use sensorctl::core::ledger::body::Body;
use sensorctl::core::ledger::document::Document;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(document) = Document::parse(text)
    {
        assert_eq!(document.bytes(), text);
        assert_eq!(document.hash(), Hash::of(bytes));
    }
    let _ = Body::from_packed(bytes, Hash::of(bytes));
});
