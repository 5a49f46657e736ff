//! Recordings: any bytes are rows or errors, plain or packed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sensorctl::shell::config::sources::ReplaySource;
use sensorctl::shell::sensors::read_rows;

fuzz_target!(|bytes: &[u8]| {
    let file = tempfile::NamedTempFile::new().expect("room for a file");
    std::fs::write(file.path(), bytes).expect("room for a file");
    let mut rows = 0;
    let _ = read_rows(file.path(), &ReplaySource::default(), |row| {
        if let Ok(row) = row {
            assert!(row.value.is_finite());
        }
        rows += 1;
        rows < 10_000
    });
});
