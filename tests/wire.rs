//! The bytes of every message, pinned: what one release writes, the next can read.

use sensorctl::core::message::Message;

/// One frame of every type, as it stands on the wire.
const GOLDEN: &str = include_str!("wire.jsonl");

#[test]
fn every_message_type_reads_and_writes_its_golden_line() {
    let mut seen = Vec::new();
    for line in GOLDEN.lines() {
        let message = Message::decode(line.as_bytes()).unwrap_or_else(|error| panic!("{error}: {line}"));
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        assert_eq!(String::from_utf8(bytes).expect("JSON is UTF-8"), line);
        seen.push(message.type_name());
    }
    let missing: Vec<_> = Message::TYPES.iter().filter(|name| !seen.contains(*name)).collect();
    assert!(missing.is_empty(), "no golden line for {missing:?}");
}

#[test]
fn public_names_stay_as_they_are() {
    for name in [
        "SENSOR_UPDATE",
        "STATE_UPDATE",
        "HEARTBEAT",
        "ELECTION_REQUEST",
        "ELECTION_VOTE",
        "CHECKPOINT_PROPOSE",
        "CHECKPOINT_ACK",
    ] {
        assert!(Message::TYPES.contains(&name), "{name} is public vocabulary");
    }
}

#[test]
fn a_frame_cut_anywhere_is_refused_and_never_a_panic() {
    for line in GOLDEN.lines() {
        for end in 0..line.len() {
            assert!(Message::decode(&line.as_bytes()[..end]).is_err(), "{}", &line[..end.min(60)]);
        }
    }
}
