//! The systems: how each is started, written to and read from.

use std::cell::{OnceCell, RefCell};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::Effort;
use crate::gossip::Chitchat;
use crate::pubsub::{PubSub, READERS};

/// Something that is measured in rounds.
pub trait System {
    /// Times in µs of one round.
    fn round(&mut self, effort: Effort) -> Result<Vec<u64>, String>;
}

/// Starts a system, or says why it cannot be.
pub type Start = Box<dyn FnOnce(Effort) -> Result<Box<dyn System>, String>>;

/// All of them, in the order of the table.
pub fn all(sensorctl: &str) -> Vec<(&'static str, &'static str, Start)> {
    let (one, ours) = (sensorctl.to_owned(), Rc::new(Ours::of(sensorctl)));
    let streamed = ours.clone();
    vec![
        ("plain TCP", "write, until three receivers have read it", Box::new(|_| plain())),
        (
            "sensorctl, node to node",
            "accepted at one of three processes, until the last holds it",
            Box::new(|_| bench(one)),
        ),
        (
            "sensorctl, client to client",
            "HTTP POST, until watchers on all three have it",
            Box::new(move |_| ours.posting()),
        ),
        (
            "sensorctl, client to client, a stream",
            "a line of one HTTP POST, until watchers on all three have it",
            Box::new(move |_| streamed.streaming()),
        ),
        ("NATS", "publish, until three subscribers have it", Box::new(|_| nats())),
        ("Mosquitto, QoS 0", "publish, until three subscribers have it", Box::new(|_| mosquitto())),
        ("Serf, user event", "sent to one of three agents, until listeners on all have it", Box::new(|_| serf())),
        (
            "chitchat, every 10 ms",
            "set at one of three nodes, until the last is told",
            Box::new(|_| Ok(Box::new(Chitchat::start(Duration::from_millis(10), 17_410)?))),
        ),
        (
            "chitchat, every 1 s (default)",
            "set at one of three nodes, until the last is told",
            Box::new(|_| Ok(Box::new(Chitchat::start(Duration::from_secs(1), 17_420)?))),
        ),
    ]
}

/// Processes that end with it, and their directory.
#[derive(Default)]
struct Processes {
    children: Vec<Child>,
    dir: Option<PathBuf>,
    stop: Option<Command>,
}

impl Processes {
    fn run(&mut self, package: &str, program: &str, args: &[&str]) -> Result<(), String> {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child =
            command.spawn().map_err(|error| format!("{program} cannot be run ({error}); apt-get install {package}"))?;
        self.children.push(child);
        Ok(())
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        if let Some(stop) = &mut self.stop {
            let _ = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(dir) = &self.dir {
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

/// A writer and readers, with the processes between them.
struct Between {
    pubsub: PubSub,
    _processes: Processes,
}

impl System for Between {
    fn round(&mut self, effort: Effort) -> Result<Vec<u64>, String> {
        self.pubsub.round(effort)
    }
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(words)?;
    Ok(listener.local_addr().map_err(words)?.port())
}

/// Connects as soon as somebody listens.
fn connect(addr: &str) -> Result<TcpStream, String> {
    let begun = Instant::now();
    loop {
        match TcpStream::connect(addr) {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(words)?;
                return Ok(stream);
            }
            Err(error) if begun.elapsed() > Duration::from_secs(10) => return Err(format!("{addr}: {error}")),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Reads until the text has come.
fn expect(stream: &mut TcpStream, text: &[u8]) -> Result<(), String> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(words)?;
    let (mut all, mut chunk) = (Vec::new(), [0; 1024]);
    while !all.windows(text.len()).any(|window| window == text) {
        let n = stream.read(&mut chunk).map_err(words)?;
        if n == 0 {
            return Err(format!("the connection ended: {}", String::from_utf8_lossy(&all)));
        }
        all.extend_from_slice(&chunk[..n]);
    }
    stream.set_read_timeout(None).map_err(words)
}

fn value(number: u64, payload: usize) -> String {
    format!("v#{number}#{}", "x".repeat(payload))
}

/// One writer that writes each value to three connections itself.
fn plain() -> Result<Box<dyn System>, String> {
    struct Plain(Vec<TcpStream>, std::sync::mpsc::Receiver<Instant>);
    impl System for Plain {
        fn round(&mut self, effort: Effort) -> Result<Vec<u64>, String> {
            let begun = Instant::now();
            let mut times = Vec::new();
            for i in 0..effort.writes {
                std::thread::sleep((begun + effort.interval * i as u32).saturating_duration_since(Instant::now()));
                let frame = vec![b'x'; effort.payload + 100];
                let sent = Instant::now();
                for stream in &mut self.0 {
                    stream
                        .write_all(&(frame.len() as u32).to_be_bytes())
                        .and_then(|()| stream.write_all(&frame))
                        .map_err(words)?;
                }
                let last = (0..READERS).map(|_| self.1.recv()).collect::<Result<Vec<_>, _>>().map_err(words)?;
                times.push(last.into_iter().max().unwrap_or(sent).duration_since(sent).as_micros() as u64);
            }
            Ok(times)
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").map_err(words)?;
    let addr = listener.local_addr().map_err(words)?;
    let (tell, told) = std::sync::mpsc::channel();
    let mut writers = Vec::new();
    for _ in 0..READERS {
        let writer = TcpStream::connect(addr).map_err(words)?;
        writer.set_nodelay(true).map_err(words)?;
        writers.push(writer);
        let (mut stream, _) = listener.accept().map_err(words)?;
        let tell = tell.clone();
        std::thread::spawn(move || {
            let mut length = [0; 4];
            while stream.read_exact(&mut length).is_ok() {
                let mut frame = vec![0; u32::from_be_bytes(length) as usize];
                if stream.read_exact(&mut frame).is_err() || tell.send(Instant::now()).is_err() {
                    return;
                }
            }
        });
    }
    Ok(Box::new(Plain(writers, told)))
}

/// `sensorctl bench convergence`, whose members are processes of their own.
fn bench(sensorctl: String) -> Result<Box<dyn System>, String> {
    struct Bench(String);
    impl System for Bench {
        fn round(&mut self, effort: Effort) -> Result<Vec<u64>, String> {
            let rate = (1.0 / effort.interval.as_secs_f64()).round().to_string();
            let (writes, payload) = (effort.writes.to_string(), (effort.payload + 40).to_string());
            let output = Command::new(&self.0)
                .args(["bench", "convergence", "--processes", "--no-raw", "-o", "json", "--repetitions", "1"])
                .args(["--rate", &rate, "--writes", &writes, "--payload", &payload])
                .output()
                .map_err(words)?;
            let report: serde_json::Value = serde_json::from_slice(&output.stdout)
                .map_err(|_| String::from_utf8_lossy(&output.stderr).trim().to_owned())?;
            let times = &report["runs"][0]["accepted_to_all"];
            let us = |p: &str| times[p].as_u64().ok_or_else(|| format!("no figures: {}", report["runs"][0]["failed"]));
            // Enough of the distribution for the two percentiles that are shown.
            let mut all = vec![us("p50_us")?; 97];
            all.extend([us("p99_us")?; 3]);
            Ok(all)
        }
    }
    Ok(Box::new(Bench(sensorctl)))
}

/// A cluster of three processes, written to and watched over HTTP; started when it is first needed.
struct Ours {
    sensorctl: String,
    started: OnceCell<Result<[u16; 3], String>>,
    processes: RefCell<Processes>,
}

impl Ours {
    fn of(sensorctl: &str) -> Self {
        Self { sensorctl: sensorctl.to_owned(), started: OnceCell::new(), processes: RefCell::default() }
    }

    /// Ports of the three APIs.
    fn apis(&self) -> Result<[u16; 3], String> {
        self.started.get_or_init(|| self.start()).clone()
    }

    fn start(&self) -> Result<[u16; 3], String> {
        let dir = std::env::temp_dir().join(format!("compare-{}", std::process::id()));
        std::fs::create_dir_all(&dir).map_err(words)?;
        let apis = [free_port()?, free_port()?, free_port()?];
        let mut config = "name = \"compare\"\n".to_owned();
        for (i, api) in apis.iter().enumerate() {
            let listen = free_port()?;
            config +=
                &format!("[[nodes]]\nid = \"n{i}\"\nlisten = \"127.0.0.1:{listen}\"\napi = \"127.0.0.1:{api}\"\n");
        }
        let file = dir.join("compare.toml");
        std::fs::write(&file, config).map_err(words)?;
        let command = |args: &[&str]| {
            let mut command = Command::new(&self.sensorctl);
            command.args(args).env("SENSORCTL_HOME", &dir);
            command
        };
        let stop = Some(command(&["cluster", "destroy", "--yes", "--name", "compare"]));
        let started = command(&["cluster", "start", "--detach", "--config", &file.display().to_string()])
            .output()
            .map_err(words)?;
        *self.processes.borrow_mut() = Processes { children: Vec::new(), dir: Some(dir), stop };
        if !started.status.success() {
            return Err(String::from_utf8_lossy(&started.stderr).trim().to_owned());
        }
        Ok(apis)
    }

    fn watchers(apis: [u16; 3], channel: &str) -> Result<Vec<TcpStream>, String> {
        let watcher = |api| {
            let mut reader = connect(&format!("127.0.0.1:{api}"))?;
            write!(reader, "GET /v1/watch?pattern={channel} HTTP/1.1\r\nHost: n\r\n\r\n").map_err(words)?;
            expect(&mut reader, b"\r\n\r\n")?;
            Ok(reader)
        };
        apis.into_iter().map(watcher).collect()
    }

    /// A request for each value.
    fn posting(self: Rc<Self>) -> Result<Box<dyn System>, String> {
        let apis = self.apis()?;
        let readers = Self::watchers(apis, "posted")?;
        let addr = format!("127.0.0.1:{}", apis[0]);
        let request = |number: u64, payload: usize| {
            let body = reading("posted", number, payload);
            format!("POST /v1/readings HTTP/1.1\r\nHost: n\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                .into_bytes()
        };
        let pubsub = PubSub::new(connect(&addr)?, Box::new(request), true, readers, "\"value\":");
        // The API ends connections that stay idle for ten seconds, as they do while others have their turn.
        Ok(Box::new(Shared { pubsub: pubsub.reconnecting(addr, b""), _ours: self }))
    }

    /// One request for all values of a round.
    fn streaming(self: Rc<Self>) -> Result<Box<dyn System>, String> {
        let apis = self.apis()?;
        let readers = Self::watchers(apis, "streamed")?;
        let addr = format!("127.0.0.1:{}", apis[0]);
        let request = |number: u64, payload: usize| {
            let line = reading("streamed", number, payload) + "\n";
            format!("{:x}\r\n{line}\r\n", line.len()).into_bytes()
        };
        let pubsub = PubSub::new(connect(&addr)?, Box::new(request), false, readers, "\"value\":");
        let head = b"POST /v1/readings/stream HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\n\r\n";
        Ok(Box::new(Shared { pubsub: pubsub.reconnecting(addr, head), _ours: self }))
    }
}

fn reading(channel: &str, number: u64, payload: usize) -> String {
    format!("{{\"channel\":\"{channel}\",\"value\":{number},\"note\":\"{}\"}}", "x".repeat(payload))
}

/// A writer and readers of a cluster that others use as well.
struct Shared {
    pubsub: PubSub,
    _ours: Rc<Ours>,
}

impl System for Shared {
    fn round(&mut self, effort: Effort) -> Result<Vec<u64>, String> {
        self.pubsub.round(effort)
    }
}

fn nats() -> Result<Box<dyn System>, String> {
    let port = free_port()?;
    let mut processes = Processes::default();
    processes.run("nats-server", "nats-server", &["-a", "127.0.0.1", "-p", &port.to_string()])?;
    let addr = format!("127.0.0.1:{port}");
    let client = |subscribe: bool| -> Result<TcpStream, String> {
        let mut stream = connect(&addr)?;
        expect(&mut stream, b"INFO")?;
        let sub = if subscribe { "SUB compare 1\r\n" } else { "" };
        write!(stream, "CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\n{sub}PING\r\n").map_err(words)?;
        expect(&mut stream, b"PONG")?;
        Ok(stream)
    };
    let readers = (0..READERS).map(|_| client(true)).collect::<Result<Vec<_>, _>>()?;
    let request = |number: u64, payload: usize| {
        let value = value(number, payload);
        format!("PUB compare {}\r\n{value}\r\n", value.len()).into_bytes()
    };
    let pubsub = PubSub::new(client(false)?, Box::new(request), false, readers, "v#");
    Ok(Box::new(Between { pubsub, _processes: processes }))
}

fn mosquitto() -> Result<Box<dyn System>, String> {
    let port = free_port()?;
    let mut processes = Processes::default();
    processes.run("mosquitto", "mosquitto", &["-p", &port.to_string()])?;
    let addr = format!("127.0.0.1:{port}");
    let client = |name: &str, subscribe: bool| -> Result<TcpStream, String> {
        let mut stream = connect(&addr)?;
        // CONNECT: protocol MQTT 3.1.1, clean session, no keepalive.
        let mut packet =
            vec![0x10, 12 + name.len() as u8, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, name.len() as u8];
        packet.extend_from_slice(name.as_bytes());
        stream.write_all(&packet).map_err(words)?;
        expect(&mut stream, &[0x20, 2, 0, 0])?;
        if subscribe {
            // SUBSCRIBE, packet 1, topic "c", QoS 0.
            stream.write_all(&[0x82, 6, 0, 1, 0, 1, b'c', 0]).map_err(words)?;
            expect(&mut stream, &[0x90, 3, 0, 1, 0])?;
        }
        Ok(stream)
    };
    let readers = (0..READERS).map(|i| client(&format!("r{i}"), true)).collect::<Result<Vec<_>, _>>()?;
    let request = |number: u64, payload: usize| {
        let value = value(number, payload);
        let length = 3 + value.len();
        let mut packet = vec![0x30];
        if length < 128 {
            packet.push(length as u8);
        } else {
            packet.extend([(length % 128 + 128) as u8, (length / 128) as u8]);
        }
        packet.extend([0, 1, b'c']);
        packet.extend(value.as_bytes());
        packet
    };
    let pubsub = PubSub::new(client("w", false)?, Box::new(request), false, readers, "v#");
    Ok(Box::new(Between { pubsub, _processes: processes }))
}

/// Three agents; events go in and come out over their RPC ports, in MessagePack.
fn serf() -> Result<Box<dyn System>, String> {
    let mut processes = Processes::default();
    let mut rpcs = Vec::new();
    let first = free_port()?;
    for i in 0..READERS {
        let (port, rpc) = (if i == 0 { first } else { free_port()? }, free_port()?);
        let (bind, rpc) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{rpc}"));
        let (name, join) = (format!("-node=n{i}"), format!("-retry-join=127.0.0.1:{first}"));
        let (bind, rpc_arg) = (format!("-bind={bind}"), format!("-rpc-addr={rpc}"));
        let mut args = vec!["agent", &name, &bind, &rpc_arg, "-profile=local"];
        if i > 0 {
            args.push(&join);
        }
        processes.run("serf", "serf", &args)?;
        rpcs.push(rpc);
    }
    let client = |rpc: &String| -> Result<TcpStream, String> {
        let mut stream = connect(rpc)?;
        stream.write_all(&packed(&[("Command", Packed::Text("handshake")), ("Seq", Packed::Int(0))])).map_err(words)?;
        stream.write_all(&packed(&[("Version", Packed::Int(1))])).map_err(words)?;
        expect(&mut stream, b"Error")?;
        Ok(stream)
    };
    let mut readers = Vec::new();
    for rpc in &rpcs {
        let mut reader = client(rpc)?;
        reader.write_all(&packed(&[("Command", Packed::Text("stream")), ("Seq", Packed::Int(1))])).map_err(words)?;
        reader.write_all(&packed(&[("Type", Packed::Text("user"))])).map_err(words)?;
        expect(&mut reader, b"Error")?;
        readers.push(reader);
    }
    // Until all have joined: an agent that has not hears nothing.
    std::thread::sleep(Duration::from_secs(3));
    let request = |number: u64, payload: usize| {
        let text = value(number, payload);
        let mut bytes = packed(&[("Command", Packed::Text("event")), ("Seq", Packed::Int(2))]);
        bytes.extend(packed(&[
            ("Name", Packed::Text("compare")),
            ("Payload", Packed::Bytes(text.as_bytes())),
            ("Coalesce", Packed::False),
        ]));
        bytes
    };
    let pubsub = PubSub::new(client(&rpcs[0])?, Box::new(request), false, readers, "v#");
    Ok(Box::new(Between { pubsub, _processes: processes }))
}

/// What MessagePack is needed for here.
enum Packed<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
    Int(u8),
    False,
}

/// A map in MessagePack, in the old form that has no type for bytes.
fn packed(fields: &[(&str, Packed<'_>)]) -> Vec<u8> {
    fn raw(out: &mut Vec<u8>, bytes: &[u8]) {
        match bytes.len() {
            short @ 0..32 => out.push(0xa0 | short as u8),
            long => {
                out.push(0xda);
                out.extend((long as u16).to_be_bytes());
            }
        }
        out.extend(bytes);
    }
    let mut out = vec![0x80 | fields.len() as u8];
    for (name, value) in fields {
        raw(&mut out, name.as_bytes());
        match value {
            Packed::Text(text) => raw(&mut out, text.as_bytes()),
            Packed::Bytes(bytes) => raw(&mut out, bytes),
            Packed::Int(number) => out.push(*number),
            Packed::False => out.push(0xc2),
        }
    }
    out
}
