//! The content of a frame: any bytes are a message or an error, and a message read back is the same message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sensorctl::core::message::Message;

fuzz_target!(|frame: &[u8]| {
    let Ok(message) = Message::decode(frame) else { return };
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    let again = Message::decode(&bytes).expect("what we write we can read");
    assert_eq!(again, message);
});
