//! Readings that come as lines of one request.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::harness::Cluster;

/// A request to a node whose body is being written.
struct Stream {
    connection: TcpStream,
    answers: BufReader<TcpStream>,
}

impl Stream {
    fn open(addr: &str) -> Self {
        let mut connection = TcpStream::connect(addr).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        write!(connection, "POST /v1/readings/stream HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            .unwrap();
        let answers = BufReader::new(connection.try_clone().unwrap());
        Self { connection, answers }
    }

    /// Writes a part of the body; an empty one ends it.
    fn say(&mut self, bytes: &[u8]) {
        let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
        self.connection.write_all(&chunk).unwrap();
    }

    /// The next JSON line of the answer.
    fn hear(&mut self) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.answers.read_line(&mut line).unwrap(), 0, "the answer ended");
            if line.starts_with('{') {
                return serde_json::from_str(&line).unwrap();
            }
        }
    }
}

#[test]
fn a_line_is_taken_once_it_is_whole_and_a_bad_one_is_refused_alone() {
    let c = Cluster::start();
    let mut stream = Stream::open(&c.apis[0]);
    stream.say(b"{\"channel\":\"lines/a\",\"value\":1}\n{\"channel\":\"@node\",\"value\":1}\n");
    let refused = stream.hear();
    assert_eq!(refused["line"], 2, "{refused}");
    assert!(refused["error"].as_str().unwrap().contains("belongs to the system"), "{refused}");
    let held = |channel: &str| {
        let got = c.json(&["get", &format!("gw-1:{channel}"), "--from", "gw-2"]);
        got["readings"][0]["value"].as_f64()
    };
    c.until("another node holds the first line, the request going on", || held("lines/a"));
    stream.say(b"\n{\"channel\":\"lines/b\",\"val");
    stream.say(b"ue\":2}\r\nno JSON\n{\"channel\":\"lines/c\",\"value\":3}");
    assert_eq!(stream.hear()["line"], 5);
    assert_eq!(c.until("the line that came in pieces", || held("lines/b")), 2.0);
    assert_eq!(held("lines/c"), None, "a line without its end");
    stream.say(b"");
    let last = stream.hear();
    assert_eq!((&last["taken"], &last["refused"], &last["ended"]), (&3.into(), &2.into(), &"all was read".into()));
    c.until("the last line ends with the body", || held("lines/c"));

    let mut broken = Stream::open(&c.apis[0]);
    broken.say(b"{\"channel\":\"lines/d\",\"value\":4}\n{\"channel\":\"lines/e\",\"value\":5}");
    c.until("the whole line", || held("lines/d"));
    drop(broken);
    c.ok(&["put", "lines/f", "6", "--ack", "peers=2", "--node", "gw-1"]);
    c.until("what came after it", || held("lines/f"));
    assert_eq!(held("lines/e"), None, "what may be a part of a line is no line");
}

#[test]
fn put_takes_lines_from_a_pipe_and_says_which_were_refused() {
    let c = Cluster::start();
    let put = |lines: &str, args: &[&str]| {
        let mut command = c.command(&[&["put", "--lines"], args].concat());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let many: String = (0..3000).map(|i| format!("{{\"channel\":\"many/{i}\",\"value\":{i}}}\n")).collect();
    let (code, said, _) = put(&many, &["--ack", "checkpoint", "-o", "json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (code, &said["taken"], &said["refused"], &said["ack"]),
        (Some(0), &3000.into(), &0.into(), &"checkpoint".into())
    );
    let ledger = c.json(&["checkpoint", "ls"]);
    let readings = ledger["checkpoints"].as_array().unwrap().iter().filter_map(|row| row["readings"].as_u64());
    assert!(readings.max() >= Some(3000), "{ledger}");
    let mut command = c.command(&["put", "--lines"]);
    let mut open = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut pipe = open.stdin.take().unwrap();
    pipe.write_all(&[b'x'; 100_000]).unwrap();
    c.until("a line is too long: it ends, the pipe still open", || open.try_wait().unwrap());
    assert_eq!(open.wait().unwrap().code(), Some(1));
    drop(pipe);
    let (code, _, why) = put("{\"channel\":\"one\",\"value\":1}\n{\"channel\":\"two\"}\n", &[]);
    assert_eq!(code, Some(1));
    assert!(why.contains("line 2: ") && why.contains("quality bad"), "{why}");
}
