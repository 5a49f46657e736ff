//! JSON lines: `{"channel": "temp", "value": 21.5, "unit": "°C", "sigma": 0.2, "quality": "good", "time": "…"}`.

use crate::core::id::Channel;
use crate::core::reading::Reading;
use crate::core::time::Wall;
use crate::shell::http::model::PushReading;
use crate::shell::http::parse_reading;

/// Longest line, in bytes.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// One line's reading.
///
/// # Errors
/// What is wrong with it.
pub fn parse(line: &str, now: Wall) -> Result<(Channel, Reading), String> {
    let pushed: PushReading = serde_json::from_str(line)
        .map_err(|error| format!("{error} in {:?}", line.chars().take(80).collect::<String>()))?;
    parse_reading(pushed, now)
}
