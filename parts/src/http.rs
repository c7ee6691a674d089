//! A small HTTP/1.1 client that sends the target of a request as it is given.
//!
//! Every other client rewrites odd paths (dot segments, `%2F`, unencoded braces) before they reach the server, and those
//! are what tests must send. One connection a request; no redirects, no TLS.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail, ensure};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    method: Method,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    source: Option<IpAddr>,
    receives: Option<u32>,
}

impl Request {
    /// A request of this target: path and query, as they go over the wire.
    pub fn new(method: Method, target: impl Into<String>) -> Self {
        Self {
            method,
            target: target.into(),
            headers: Vec::new(),
            body: Vec::new(),
            source: None,
            receives: None,
        }
    }

    /// A GET.
    pub fn get(target: impl Into<String>) -> Self {
        Self::new(Method::GET, target)
    }

    /// Adds a header; a name may be given more than once.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sends it from this address of the machine: all of 127.0.0.0/8 are (on Linux).
    #[must_use]
    pub fn from_address(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// Keeps the kernel from taking in more than about so many bytes that nobody has read: what is beyond stays with the server.
    #[must_use]
    pub fn receiving(mut self, bytes: u32) -> Self {
        self.receives = Some(bytes);
        self
    }

    /// Adds `Authorization: Bearer …`.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// Adds the headers of a WebSocket's handshake, with the key of the example in RFC 6455, section 1.3.
    #[must_use]
    pub fn upgrade(self) -> Self {
        self.header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
    }

    /// Sets the body, as JSON.
    #[must_use]
    pub fn json(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("content-type", "application/json")
    }

    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name))
    }

    async fn connect(&self, authority: &str) -> Result<TcpStream> {
        if self.source.is_none() && self.receives.is_none() {
            return Ok(TcpStream::connect(authority).await?);
        }
        let socket = TcpSocket::new_v4()?;
        if let Some(source) = self.source {
            socket.bind((source, 0).into())?;
        }
        if let Some(bytes) = self.receives {
            socket.set_recv_buffer_size(bytes)?;
        }
        Ok(socket.connect(authority.parse()?).await?)
    }

    /// Sends it to this server (`http://host:port`) and reads the head of the answer.
    pub async fn open(&self, server: &str) -> Result<Answer> {
        let authority =
            server.strip_prefix("http://").with_context(|| format!("{server} is no http:// address"))?;
        let authority = authority.trim_end_matches('/');
        let what = || format!("{} {server}{}", self.method, self.target);
        let mut stream = self.connect(authority).await.with_context(what)?;
        stream.set_nodelay(true)?;
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        let mut line = |name: &str, value: &str| {
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        };
        if !self.has("host") {
            line("host", authority);
        }
        if !self.has("connection") {
            line("connection", "close");
        }
        if !self.has("content-length") && (!self.body.is_empty() || self.method != Method::GET) {
            line("content-length", &self.body.len().to_string());
        }
        for (name, value) in &self.headers {
            line(name, value);
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        // A server may refuse before it has read everything: its answer counts, not the failed write.
        let written = stream.write_all(&bytes).await;
        let answer = Answer::read(stream, &self.method).await;
        if answer.is_err() {
            written.with_context(what)?;
        }
        answer.with_context(what)
    }

    /// Sends it and reads the whole answer.
    pub async fn send(&self, server: &str) -> Result<Response> {
        self.open(server).await?.whole().await
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of a header; empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// An answer whose head was read, and whose body is on its way.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    stream: TcpStream,
    /// What was read and not yet given out.
    buffer: Vec<u8>,
    framing: Framing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Remaining(usize),
    Chunked,
    UntilClosed,
}

impl Answer {
    async fn read(mut stream: TcpStream, method: &Method) -> Result<Self> {
        let mut buffer = Vec::new();
        loop {
            ensure!(
                stream.read_buf(&mut buffer).await? > 0,
                "the connection ended before the head of an answer"
            );
            let mut slots = [httparse::EMPTY_HEADER; 128];
            let mut parsed = httparse::Response::new(&mut slots);
            let httparse::Status::Complete(length) =
                parsed.parse(&buffer).context("the answer is no HTTP/1.1")?
            else {
                continue;
            };
            let status = StatusCode::from_u16(parsed.code.context("no status")?)?;
            if status == StatusCode::CONTINUE {
                buffer.drain(..length);
                continue;
            }
            let mut headers = HeaderMap::new();
            for field in parsed.headers.iter() {
                headers.append(
                    HeaderName::from_bytes(field.name.as_bytes())?,
                    HeaderValue::from_bytes(field.value)?,
                );
            }
            buffer.drain(..length);
            let framing = framing(method, status, &headers)?;
            return Ok(Self { status, headers, stream, buffer, framing });
        }
    }

    /// The next piece of the body; `None` at its end. An error when it is cut off.
    pub async fn piece(&mut self) -> Result<Option<Vec<u8>>> {
        match self.framing {
            Framing::Remaining(0) => Ok(None),
            Framing::Remaining(left) => {
                if self.buffer.is_empty() {
                    self.more().await?;
                }
                let piece = self.take(left);
                self.framing = Framing::Remaining(left - piece.len());
                Ok(Some(piece))
            }
            Framing::UntilClosed => {
                if self.buffer.is_empty() && self.stream.read_buf(&mut self.buffer).await? == 0 {
                    return Ok(None);
                }
                Ok(Some(self.take(usize::MAX)))
            }
            Framing::Chunked => loop {
                match httparse::parse_chunk_size(&self.buffer) {
                    Ok(httparse::Status::Complete((start, size))) => {
                        let size = usize::try_from(size)?;
                        // The data of a chunk ends with a line break of its own.
                        let end = start + size + 2;
                        while self.buffer.len() < end {
                            self.more().await?;
                        }
                        let piece = self.buffer[start..start + size].to_vec();
                        self.buffer.drain(..end);
                        if size == 0 {
                            self.framing = Framing::Remaining(0);
                            return Ok(None);
                        }
                        return Ok(Some(piece));
                    }
                    Ok(httparse::Status::Partial) => self.more().await?,
                    Err(_) => bail!("the body has a chunk without a size"),
                }
            },
        }
    }

    /// Reads the body to its end.
    pub async fn whole(mut self) -> Result<Response> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await? {
            body.extend_from_slice(&piece);
        }
        Ok(Response { status: self.status, headers: self.headers, body })
    }

    /// The connection behind a 101, with what the server has sent already.
    pub fn into_upgraded(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.buffer)
    }

    async fn more(&mut self) -> Result<()> {
        ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the connection ended within the body");
        Ok(())
    }

    fn take(&mut self, most: usize) -> Vec<u8> {
        self.buffer.drain(..self.buffer.len().min(most)).collect()
    }
}

/// RFC 9112, section 6.3.
fn framing(method: &Method, status: StatusCode, headers: &HeaderMap) -> Result<Framing> {
    let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED, StatusCode::SWITCHING_PROTOCOLS];
    if *method == Method::HEAD || bodiless.contains(&status) {
        return Ok(Framing::Remaining(0));
    }
    if headers
        .get(header::TRANSFER_ENCODING)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Ok(Framing::Chunked);
    }
    match headers.get(header::CONTENT_LENGTH) {
        Some(length) => Ok(Framing::Remaining(length.to_str()?.parse()?)),
        None => Ok(Framing::UntilClosed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers one request with these bytes, and gives what was asked.
    async fn exchange(request: Request, answer: &'static str) -> (String, Result<Response>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
                stream.read_buf(&mut asked).await.unwrap();
            }
            // Byte by byte: no piece may be taken for more than it is.
            for byte in answer.bytes() {
                stream.write_all(&[byte]).await.unwrap();
                stream.flush().await.unwrap();
            }
            String::from_utf8(asked).unwrap()
        });
        let response = request.send(&server).await;
        (asked.await.unwrap(), response)
    }

    #[tokio::test]
    async fn the_target_is_sent_as_it_is_given() {
        let (asked, response) = exchange(
            Request::get(r#"/a/../b%2Fc?avars={"n":1}"#),
            "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno and more",
        )
        .await;
        assert!(asked.starts_with("GET /a/../b%2Fc?avars={\"n\":1} HTTP/1.1\r\n"), "{asked}");
        let response = response.unwrap();
        assert_eq!((response.status, response.text().as_str()), (StatusCode::NOT_FOUND, "no"));
    }

    #[tokio::test]
    async fn chunks_are_put_together() {
        let (_, response) = exchange(
            Request::get("/"),
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
        )
        .await;
        assert_eq!(response.unwrap().text(), "abcde");
    }

    #[tokio::test]
    async fn a_body_that_is_cut_off_is_an_error() {
        let (_, response) =
            exchange(Request::get("/"), "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc").await;
        assert_eq!(response.unwrap_err().to_string(), "the connection ended within the body");
    }
}
