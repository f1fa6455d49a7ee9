//! Enough of HTTP/1.1 for a registry, and enough control of the wire to break it on purpose.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

/// The longest request head that is read.
const MAX_HEAD: u64 = 256 * 1024;

/// The head of a request.
#[derive(Debug, Clone)]
pub struct Head {
    /// The method, e.g. `GET`.
    pub method: String,
    /// The path, still encoded, without the query.
    pub path: String,
    /// The query, still encoded, without its `?`.
    pub query: String,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }

    /// All headers of this name, joined as HTTP allows.
    pub fn headers_joined(&self, name: &str) -> String {
        let values = self.headers.iter().filter(|(header, _)| header == name);
        values.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// A query parameter, decoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.parameters().into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// All query parameters, decoded.
    pub fn parameters(&self) -> Vec<(String, String)> {
        self.query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode(key), decode(value))
            })
            .collect()
    }

    /// How many bytes of body are announced.
    pub fn content_length(&self) -> u64 {
        self.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Reads a head; none at the end of the connection.
    pub fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Self>> {
        let mut stream = stream.take(MAX_HEAD);
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace();
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            return Err(io::Error::other(format!("not a request: {line:?}")));
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut head = Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: Vec::new(),
        };
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end();
            if line.is_empty() {
                return Ok(Some(head));
            }
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            head.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
}

/// Reads a request's body, at most `limit` bytes of it; returns whether it came whole. A connection that breaks shows
/// as a body that is not whole.
pub fn read_body(head: &Head, stream: &mut BufReader<TcpStream>, limit: u64) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    let chunked = head.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    if !chunked {
        let length = head.content_length();
        let _ = stream.take(length.min(limit)).read_to_end(&mut body);
        let complete = body.len() as u64 == length;
        return (body, complete);
    }
    loop {
        let mut line = String::new();
        if !stream.read_line(&mut line).is_ok_and(|read| read > 0) {
            return (body, false);
        }
        let size = line.trim_end().split(';').next().unwrap_or_default();
        let Ok(size) = u64::from_str_radix(size, 16) else {
            return (body, false);
        };
        let left = limit.saturating_sub(body.len() as u64);
        let before = body.len();
        let _ = stream.take(size.min(left)).read_to_end(&mut body);
        if (body.len() - before) as u64 != size {
            return (body, false);
        }
        // Ends every chunk, and (no trailers being sent) the body.
        let mut end = String::new();
        if stream.read_line(&mut end).is_err() {
            return (body, false);
        }
        if size == 0 {
            return (body, true);
        }
    }
}

/// Undoes percent-encoding.
pub fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let code = hex.and_then(|two| u8::from_str_radix(two, 16).ok());
        match (first, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &tail[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An answer, and how it goes over the wire.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Headers as they are sent, without `Content-Length`.
    pub headers: Vec<(String, String)>,
    /// The whole body; for HEAD it is counted and not sent.
    pub body: Vec<u8>,
    /// Misbehaviour on the wire.
    pub wire: Wire,
}

/// What goes wrong while an answer is sent.
#[derive(Debug, Clone, Default)]
pub struct Wire {
    /// Answer as HTTP/1.0, closing afterwards.
    pub http10: bool,
    /// Say `Connection: close` and do it.
    pub close: bool,
    /// Send only so many bytes of the announced body, then close.
    pub cut_after: Option<usize>,
    /// Send so many bytes of the body, wait, go on.
    pub stall: Option<(usize, Duration)>,
    /// Send the body in chunks instead of announcing its length.
    pub chunked: bool,
    /// Announce this length instead of the body's.
    pub announced: Option<u64>,
    /// Send at most so many bytes of the body a second.
    pub bytes_per_second: Option<usize>,
}

impl Response {
    /// An answer without a body.
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), wire: Wire::default() }
    }

    /// An error as the distribution specification writes it; `detail` may be null.
    pub fn error(status: u16, code: &str, message: &str, detail: &Value) -> Self {
        Self::errors(status, &[(code, message, detail.clone())])
    }

    /// Several errors in one answer.
    pub fn errors(status: u16, errors: &[(&str, &str, Value)]) -> Self {
        let errors: Vec<Value> = errors
            .iter()
            .map(|(code, message, detail)| json!({ "code": code, "message": message, "detail": detail }))
            .collect();
        Self::json(status, &json!({ "errors": errors }))
    }

    /// A JSON answer.
    pub fn json(status: u16, document: &Value) -> Self {
        Self::new(status)
            .with("Content-Type", "application/json; charset=utf-8")
            .body(serde_json::to_vec(document).unwrap())
    }

    /// A text answer.
    pub fn text(status: u16, text: &str) -> Self {
        Self::new(status).with("Content-Type", "text/plain; charset=utf-8").body(text)
    }

    /// An HTML page, as proxies send.
    pub fn html(status: u16, title: &str) -> Self {
        let page = format!(
            "<html>\r\n<head><title>{status} {title}</title></head>\r\n<body>\r\n\
             <center><h1>{status} {title}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
        );
        Self::new(status).with("Content-Type", "text/html").body(page)
    }

    /// Adds a header.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Replaces a header, whatever its case, or adds it.
    pub fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    /// Takes a header away.
    pub fn remove(&mut self, name: &str) {
        self.headers.retain(|(header, _)| !header.eq_ignore_ascii_case(name));
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends the answer; returns whether the connection may be used again. `sleep` is asked for every pause.
    pub fn send(&self, head: &Head, stream: &mut TcpStream, sleep: &dyn Fn(Duration)) -> io::Result<bool> {
        let wire = &self.wire;
        let close = wire.close
            || wire.http10
            || head.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
        let bodiless = head.method == "HEAD" || matches!(self.status, 100..=199 | 204 | 304);
        let version = if wire.http10 { "1.0" } else { "1.1" };
        let mut text = format!("HTTP/{version} {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        if wire.chunked && !bodiless {
            text += "Transfer-Encoding: chunked\r\n";
        } else if !(wire.http10 && wire.announced.is_none() && !bodiless) && self.status != 204 {
            let length = wire.announced.unwrap_or(self.body.len() as u64);
            text += &format!("Content-Length: {length}\r\n");
        }
        if close {
            text += "Connection: close\r\n";
        }
        text += "\r\n";
        stream.write_all(text.as_bytes())?;
        if bodiless {
            return Ok(!close);
        }
        let cut = wire.cut_after.is_some_and(|cut| cut < self.body.len());
        let end = wire.cut_after.unwrap_or(usize::MAX).min(self.body.len());
        let pause = wire.stall.map_or(0, |(at, _)| at.min(end));
        self.send_piece(stream, &self.body[..pause], sleep)?;
        if let Some((_, duration)) = wire.stall {
            stream.flush()?;
            sleep(duration);
        }
        self.send_piece(stream, &self.body[pause..end], sleep)?;
        if wire.chunked && !cut {
            stream.write_all(b"0\r\n\r\n")?;
        }
        let short = wire.announced.is_some_and(|announced| announced != self.body.len() as u64);
        Ok(!close && !cut && !short)
    }

    fn send_piece(&self, stream: &mut TcpStream, bytes: &[u8], sleep: &dyn Fn(Duration)) -> io::Result<()> {
        let rate = self.wire.bytes_per_second;
        let step = rate.map_or(64 * 1024, |rate| (rate / 20).max(1));
        for piece in bytes.chunks(step) {
            if self.wire.chunked {
                stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
            }
            stream.write_all(piece)?;
            if self.wire.chunked {
                stream.write_all(b"\r\n")?;
            }
            if rate.is_some() {
                stream.flush()?;
                sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }
}

/// The words after a status code, for those who read traces.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Request Entity Too Large",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
