//! A server for tests of this room: one closure answers every request, on a free loopback port.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::limits::lock;
use super::super::{Access, Client, Options, Repository};
use crate::oci::RepositoryName;

/// A request as it came; `body` is what arrived of it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether all of the announced body came.
    pub whole: bool,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn is(&self, method: &str, start: &str) -> bool {
        self.method == method && self.target.starts_with(start)
    }
}

/// What to answer.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// `Content-Length`, where it is not the body's.
    pub length: Option<usize>,
    /// Closes the connection without having answered.
    pub drop: bool,
    /// HTTP/1.0, and the end of the connection as the end of the body.
    pub old: bool,
    /// Sleeps before the body.
    pub stall: Duration,
}

pub fn reply(status: u16) -> Reply {
    Reply {
        status,
        headers: Vec::new(),
        body: Vec::new(),
        length: None,
        drop: false,
        old: false,
        stall: Duration::ZERO,
    }
}

impl Reply {
    #[expect(clippy::needless_pass_by_value, reason = "reads better where it is called")]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }
}

pub type Log = Arc<Mutex<Vec<Seen>>>;

/// A running server; its threads end with the test process.
pub struct Server {
    pub host: String,
    log: Log,
}

impl Server {
    /// Starts a server. `early` is asked with the head alone and may answer before the body is read.
    pub fn new(
        early: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static,
        answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let log = Log::default();
        let (answer, early) = (Arc::new(answer), Arc::new(early));
        let shared = Arc::clone(&log);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                let (log, answer, early) = (Arc::clone(&shared), Arc::clone(&answer), Arc::clone(&early));
                std::thread::spawn(move || serve(stream, &log, &*early, &*answer));
            }
        });
        Self { host, log }
    }

    pub fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::new(|_| None, answer)
    }

    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.log).clone()
    }

    pub fn count(&self, method: &str, start: &str) -> usize {
        self.seen().iter().filter(|seen| seen.is(method, start)).count()
    }

    pub fn options() -> Options {
        Options {
            retry_times: 3,
            idle_timeout: Duration::from_secs(5),
            chunk_size: 100,
            ..Options::default()
        }
    }

    pub fn repository(&self, options: Options, access: Access) -> Repository {
        let name = RepositoryName { registry: self.host.clone(), repository: "app".to_owned() };
        Client::new(options).unwrap().repository(&name, access)
    }

    pub fn pull(&self) -> Repository {
        self.repository(Self::options(), Access::Pull)
    }

    pub fn push(&self) -> Repository {
        self.repository(Self::options(), Access::Push)
    }
}

fn serve(
    mut stream: TcpStream,
    log: &Log,
    early: &dyn Fn(&Seen) -> Option<Reply>,
    answer: &dyn Fn(&Seen) -> Reply,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut words = line.split_ascii_whitespace().map(str::to_owned);
        let mut seen = Seen {
            method: words.next().unwrap(),
            target: words.next().unwrap(),
            headers: Vec::new(),
            body: Vec::new(),
            whole: true,
        };
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            seen.headers.push((name.to_owned(), value.to_owned()));
        }
        let length: u64 = seen.header("Content-Length").map_or(0, |length| length.parse().unwrap());
        let mut close = false;
        let reply = if let Some(reply) = early(&seen) {
            close = true;
            lock(log).push(seen.clone());
            reply
        } else {
            if seen.header("Expect").is_some() {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
            }
            let _ = reader.by_ref().take(length).read_to_end(&mut seen.body);
            seen.whole = seen.body.len() as u64 == length;
            lock(log).push(seen.clone());
            if !seen.whole {
                return;
            }
            answer(&seen)
        };
        if reply.drop {
            return;
        }
        let version = if reply.old { "1.0" } else { "1.1" };
        let mut head = format!("HTTP/{version} {} X\r\n", reply.status);
        for (name, value) in &reply.headers {
            head = format!("{head}{name}: {value}\r\n");
        }
        let length = reply.length.unwrap_or(reply.body.len());
        if !reply.old && reply.status != 204 {
            head = format!("{head}Content-Length: {length}\r\n");
        }
        head.push_str("\r\n");
        if stream.write_all(head.as_bytes()).is_err() {
            return;
        }
        std::thread::sleep(reply.stall);
        if seen.method != "HEAD" {
            let _ = stream.write_all(&reply.body);
            if length != reply.body.len() {
                return;
            }
        }
        if close || reply.old {
            return;
        }
    }
}
