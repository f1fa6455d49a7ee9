//! The listener, its connections, and how faults are laid over honest answers.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::fault::{Action, Fault};
use super::http::{Head, Response, read_body};
use super::state::Store;
use super::{Config, Logged};

/// How long a connection that was answered early is drained, so that the answer reaches a client that still sends.
const LINGER: Duration = Duration::from_secs(20);

/// What all connections share.
pub(super) struct Server {
    pub(super) host: String,
    pub(super) config: Mutex<Config>,
    /// Faults with the number of requests they matched.
    pub(super) faults: Mutex<Vec<(Fault, usize)>>,
    pub(super) log: Mutex<Vec<Logged>>,
    store: Mutex<Store>,
    stopped: AtomicBool,
    opened: AtomicUsize,
    asked: AtomicUsize,
    open: Mutex<BTreeMap<usize, TcpStream>>,
}

/// What became of a request.
enum Fate {
    /// An answer to send.
    Answer(Box<Response>),
    /// An answer sent before the body was read; drain the rest if `linger`.
    Early { response: Box<Response>, linger: bool },
    /// The connection is closed without one.
    Closed,
}

impl Server {
    pub(super) fn start(config: Config) -> (Arc<Self>, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Arc::new(Self {
            host: listener.local_addr().unwrap().to_string(),
            config: Mutex::new(config),
            faults: Mutex::default(),
            log: Mutex::default(),
            store: Mutex::default(),
            stopped: AtomicBool::new(false),
            opened: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            open: Mutex::default(),
        });
        let shared = Arc::clone(&server);
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let number = shared.opened.fetch_add(1, Ordering::SeqCst);
                let server = Arc::clone(&shared);
                thread::spawn(move || {
                    // A client that goes away in mid-request is an everyday event here.
                    let _ = server.serve(stream, number);
                    server.open.lock().unwrap().remove(&number);
                });
            }
        });
        (server, acceptor)
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        for stream in self.open.lock().unwrap().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes the acceptor.
        let _ = TcpStream::connect(&self.host);
    }

    pub(super) fn connections(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }

    pub(super) fn config(&self) -> Config {
        self.config.lock().unwrap().clone()
    }

    /// Sleeps, but not beyond the end of the server.
    fn sleep(&self, duration: Duration) {
        let end = Instant::now() + duration;
        while !self.stopped.load(Ordering::SeqCst) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(Duration::from_millis(20)));
        }
    }

    fn serve(&self, stream: TcpStream, number: usize) -> io::Result<()> {
        stream.set_nodelay(true)?;
        self.open.lock().unwrap().insert(number, stream.try_clone()?);
        let mut writer = stream.try_clone()?;
        let mut reader = BufReader::new(stream);
        while let Some(head) = Head::read(&mut reader)? {
            let mut logged = Logged {
                head,
                status: None,
                received: 0,
                sent: 0,
                sequence: self.asked.fetch_add(1, Ordering::SeqCst),
                connection: number,
                started: Instant::now(),
                ended: Instant::now(),
            };
            let result = self.exchange(&mut logged, &mut reader, &mut writer);
            let lingers = matches!(result, Ok(Next::Linger));
            if !matches!(result, Ok(Next::Again)) {
                let how = if lingers { Shutdown::Write } else { Shutdown::Both };
                let _ = writer.shutdown(how);
            }
            if lingers {
                drain(&mut reader)?;
            }
            if !matches!(result?, Next::Again) {
                break;
            }
        }
        Ok(())
    }

    /// Serves one request and logs it.
    fn exchange(
        &self,
        logged: &mut Logged,
        reader: &mut BufReader<TcpStream>,
        writer: &mut TcpStream,
    ) -> io::Result<Next> {
        let head = logged.head.clone();
        let actions = self.strike(&head);
        let config = self.config();
        let fate = self.fate(&head, &actions, &config, reader, writer, &mut logged.received);
        if !config.latency.is_zero() {
            let spent = logged.started.elapsed();
            self.sleep(config.latency.saturating_sub(spent));
        }
        let sleep = |duration| self.sleep(duration);
        let (next, response) = match fate {
            Ok(Fate::Answer(response)) => (Next::Again, Some(response)),
            Ok(Fate::Early { response, linger }) => {
                (if linger { Next::Linger } else { Next::Close }, Some(response))
            }
            Ok(Fate::Closed) | Err(_) => (Next::Close, None),
        };
        logged.status = response.as_ref().map(|response| response.status);
        logged.sent = response.as_ref().filter(|_| head.method != "HEAD").map_or(0, |r| r.body.len() as u64);
        logged.ended = Instant::now();
        // Logged before the last byte is out: a client that has its answer finds its request in the log.
        self.log.lock().unwrap().push(logged.clone());
        let Some(response) = response else {
            return Ok(next);
        };
        let again = response.send(&head, writer, &sleep);
        let mut log = self.log.lock().unwrap();
        // Forgotten in between, perhaps.
        if let Some(entry) = log.iter_mut().rfind(|entry| entry.sequence == logged.sequence) {
            entry.ended = Instant::now();
        }
        drop(log);
        match next {
            Next::Again if !again? => Ok(Next::Close),
            next => Ok(next),
        }
    }

    /// Counts the request against every fault and returns what those that strike do.
    fn strike(&self, head: &Head) -> Vec<Action> {
        let mut faults = self.faults.lock().unwrap();
        let mut actions = Vec::new();
        for (fault, seen) in faults.iter_mut() {
            if !fault.when.matches(head) {
                continue;
            }
            *seen += 1;
            let past = fault.times.is_some_and(|times| *seen > fault.skip.saturating_add(times));
            if *seen > fault.skip && !past {
                actions.push(fault.action.clone());
            }
        }
        actions
    }

    fn fate(
        &self,
        head: &Head,
        actions: &[Action],
        config: &Config,
        reader: &mut BufReader<TcpStream>,
        writer: &mut TcpStream,
        received: &mut u64,
    ) -> io::Result<Fate> {
        for action in actions {
            match action {
                Action::Stall(duration) => self.sleep(*duration),
                Action::ExpireTokens => self.store().tokens.expire(),
                Action::CloseBefore => return Ok(Fate::Closed),
                Action::RespondEarly(response) | Action::RespondAndReset(response) => {
                    return Ok(Fate::Early {
                        response: closing(response.clone()),
                        linger: matches!(action, Action::RespondEarly(_)),
                    });
                }
                _ => {}
            }
        }
        let length = head.content_length();
        if config.body_limit.is_some_and(|limit| length > limit) {
            return Ok(Fate::Early {
                response: closing(Response::html(413, "Request Entity Too Large")),
                linger: true,
            });
        }
        if head.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let cut = actions.iter().find_map(|action| match action {
            Action::CutUpload { after, keep } => Some((*after as u64, *keep)),
            _ => None,
        });
        let limit = cut.map_or(u64::MAX, |(after, _)| after);
        let (body, complete) = read_body(head, reader, limit);
        *received = body.len() as u64;
        // What a cut connection brought of a chunk counts, as it does at distribution.
        if !complete {
            if head.method == "PATCH" && cut.is_none_or(|(_, keep)| keep) {
                self.keep_partial(head, &body);
            }
            return Ok(Fate::Closed);
        }
        for action in actions {
            match action {
                Action::Respond(response) => return Ok(Fate::Answer(Box::new(response.clone()))),
                Action::Custom(make) => return Ok(Fate::Answer(Box::new(make(head)))),
                _ => {}
            }
        }
        let Some(response) = self.answer(head, body, actions, config) else {
            return Ok(Fate::Closed);
        };
        if actions.iter().any(|action| matches!(action, Action::DropAnswer)) {
            return Ok(Fate::Closed);
        }
        let mut response = distort(response, head, actions);
        for (name, value) in &config.headers {
            response.set(name, value);
        }
        Ok(Fate::Answer(Box::new(response)))
    }
}

/// What the connection does after a request.
enum Next {
    Again,
    Close,
    Linger,
}

fn closing(mut response: Response) -> Box<Response> {
    response.wire.close = true;
    Box::new(response)
}

/// Reads and forgets what a client goes on sending.
fn drain(reader: &mut BufReader<TcpStream>) -> io::Result<()> {
    reader.get_ref().set_read_timeout(Some(Duration::from_secs(2)))?;
    let end = Instant::now() + LINGER;
    let mut buffer = vec![0; 64 * 1024];
    while Instant::now() < end && reader.read(&mut buffer)? > 0 {}
    Ok(())
}

/// Lays the faults that change answers over an honest one.
fn distort(mut response: Response, head: &Head, actions: &[Action]) -> Response {
    for action in actions {
        match action {
            Action::StallBody(after, duration) => response.wire.stall = Some((*after, *duration)),
            Action::Throttle(rate) => response.wire.bytes_per_second = Some(*rate),
            Action::CutBody(after) => response.wire.cut_after = Some(*after),
            Action::ExtraBytes(count) => response.body.extend(std::iter::repeat_n(b'x', *count)),
            Action::ShortBody(length) => response.body.truncate(*length),
            Action::FlipByte(at) => {
                if let Some(byte) = response.body.get_mut(*at) {
                    *byte ^= 1;
                }
            }
            Action::ReplaceBody(body) => response.body.clone_from(body),
            Action::WrongDigestHeader => {
                let wrong = format!("sha256:{}", "0123456789abcdef".repeat(4));
                response.set("Docker-Content-Digest", &wrong);
            }
            Action::NoDigestHeader => response.remove("Docker-Content-Digest"),
            Action::SetHeader(name, value) => response.set(name, value),
            Action::RemoveHeader(name) => response.remove(name),
            Action::WrongContentRange => shift_content_range(&mut response),
            Action::EmptyPartial if head.header("range").is_some() => {
                response.status = 206;
                response.body.clear();
            }
            Action::Http10 => response.wire.http10 = true,
            Action::ConnectionClose => response.wire.close = true,
            Action::Chunked => response.wire.chunked = true,
            _ => {}
        }
    }
    response
}

/// Moves both ends of a `Content-Range` by one.
fn shift_content_range(response: &mut Response) {
    let found =
        response.headers.iter().find(|(name, _)| name == "Content-Range").map(|(_, value)| value.clone());
    if let Some(value) = found {
        let (range, size) = value.trim_start_matches("bytes ").split_once('/').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let next = |text: &str| text.parse::<u64>().unwrap() + 1;
        let shifted = format!("bytes {}-{}/{size}", next(start), next(end));
        response.set("Content-Range", &shifted);
    }
}
