//! Strangers at both ports, and a clock that lies.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::Cluster;

/// Resident memory of a process in MiB, where the system tells.
fn resident_mib(pid: u64) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}

/// Whether the other end has closed the connection.
fn closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn garbage_truncation_size_and_slowness_cost_that_connection_and_nothing_else() {
    let c = Cluster::start();
    let pid = c.json(&["status"])["nodes"][0]["pid"].as_u64().unwrap();
    let frame = |content: &[u8]| [&(content.len() as u32).to_be_bytes()[..], content].concat();
    let attacks: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xFF; 100_000],
        u32::MAX.to_be_bytes().to_vec(),
        (4u32 << 20).to_be_bytes().to_vec(),
        frame(b"{\"type\":\"HEARTBEAT\"}"),
        frame(b"{\"type\":\"HELLO\",\"versions\":[9,9]}"),
        frame(b"not json"),
        frame(&[b'['; 60_000]),
        frame(b""),
    ];
    for bytes in &attacks {
        let mut stream = TcpStream::connect(&c.peers[0]).unwrap();
        // A connection that is closed already refuses the rest: as good.
        let _ = stream.write_all(bytes);
        assert!(closed(&mut stream), "{:?}…", &bytes[..bytes.len().min(20)]);
    }
    let mut slow = Vec::new();
    for _ in 0..200 {
        // Announced, begun, and never finished.
        let mut stream = TcpStream::connect(&c.peers[0]).unwrap();
        stream.write_all(&60_000u32.to_be_bytes()).unwrap();
        stream.write_all(b"{").unwrap();
        slow.push(stream);
        let mut stream = TcpStream::connect(&c.apis[0]).unwrap();
        stream.write_all(b"GET /v1/status HT").unwrap();
        slow.push(stream);
    }
    let mut http = TcpStream::connect(&c.apis[0]).unwrap();
    http.write_all(&[0xFE; 10_000]).unwrap();
    assert!(closed(&mut http));
    let mut huge = TcpStream::connect(&c.apis[0]).unwrap();
    huge.write_all(b"POST /v1/readings HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n[").unwrap();
    let mut answer = [0; 64];
    let read = huge.read(&mut answer).unwrap();
    assert!(String::from_utf8_lossy(&answer[..read]).contains("413"), "{}", String::from_utf8_lossy(&answer[..read]));

    assert_eq!(c.json(&["status", "--node", "gw-1"])["healthy"], true);
    if let Some(resident) = resident_mib(pid) {
        assert!(resident < 150, "{resident} MiB");
    }
    assert!(closed(&mut slow[0]), "patience with a slow stranger ends");
    let metrics = std::str::from_utf8(&http_get(&c.apis[0], "/metrics")).unwrap().to_owned();
    let rejected = metrics.lines().find_map(|line| line.strip_prefix("sensorctl_rejected_frames_total ")).unwrap();
    assert!(rejected.parse::<u64>().unwrap() >= attacks.len() as u64 - 2, "{rejected} counted");
}

fn http_get(addr: &str, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_clock_an_hour_ahead_is_refused_by_the_others_and_visible() {
    let c = Cluster::start();
    c.ok(&["cluster", "restart", "gw-3", "--set", "node.clock_offset=1h"]);
    let said = c.until("status names the clock", || {
        let status = c.status_of("gw-1")?;
        let reasons = status["reasons"].to_string();
        reasons.contains("ahead of the neighbours' median and is not used").then_some(reasons)
    });
    assert!(said.contains("gw-3"), "{said}");
    let offset = c.status_of("gw-1").unwrap()["nodes"][2]["clock_offset_ms"].as_i64().unwrap();
    assert!((3_500_000..3_700_000).contains(&offset), "{offset} ms");
    c.until("readings of gw-3 go on, under the median's time", || {
        let got = c.json(&["get", "gw-3:temp", "--from", "gw-1"]);
        let stamp: f64 = got["readings"][0]["stamp"].as_str()?.split('.').next()?.parse().ok()?;
        let others = c.json(&["get", "gw-2:temp", "--from", "gw-1"]);
        let theirs: f64 = others["readings"][0]["stamp"].as_str()?.split('.').next()?.parse().ok()?;
        ((stamp - theirs).abs() < 10_000.0).then_some(())
    });
}
