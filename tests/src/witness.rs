//! Stands between the edge and a backend, and tells what came.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request that passed.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its method.
    pub method: String,
    /// Its path and query.
    pub target: String,
    /// Its headers, in order, with names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Seen {
    /// Whether it asks for a WebSocket.
    pub fn is_upgrade(&self) -> bool {
        self.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

/// What becomes of a request that was seen.
#[derive(Clone, Debug)]
enum Behaviour {
    /// It goes on to the backend at this `host:port`.
    Passes(String),
    /// Nothing: the connection stays open.
    Silent,
    /// It is read to its end, and the connection closed.
    HangsUp,
    /// It gets an empty answer of this status.
    Answers(u16),
}

/// A server on a port of its own; it ends when it is dropped.
#[derive(Debug)]
pub struct Witness {
    /// `http://127.0.0.1:<port>`
    pub url: String,
    behaviour: Arc<Mutex<Behaviour>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Witness {
    /// One that hands everything on to a backend, and its answers back.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn before(backend: &str) -> Self {
        Self::start(Behaviour::Passes(backend.trim_start_matches("http://").to_owned())).await
    }

    /// One that accepts connections and says nothing.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn silent() -> Self {
        Self::start(Behaviour::Silent).await
    }

    /// From now on it hands everything on to another backend.
    pub fn turns_to(&self, backend: &str) {
        self.becomes(Behaviour::Passes(backend.trim_start_matches("http://").to_owned()));
    }

    /// From now on it accepts connections and says nothing.
    pub fn falls_silent(&self) {
        self.becomes(Behaviour::Silent);
    }

    /// From now on it reads each request to its end, and closes the connection without an answer.
    pub fn hangs_up(&self) {
        self.becomes(Behaviour::HangsUp);
    }

    /// From now on it answers each request itself, with this status and no body.
    pub fn answers(&self, status: u16) {
        self.becomes(Behaviour::Answers(status));
    }

    fn becomes(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = behaviour;
    }

    async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let behaviour = Arc::new(Mutex::new(behaviour));
        let task = tokio::spawn({
            let (seen, behaviour) = (Arc::clone(&seen), Arc::clone(&behaviour));
            async move {
                // The connections end with the task that accepts them.
                let mut connections = tokio::task::JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    connections.spawn(meet(stream, Arc::clone(&behaviour), Arc::clone(&seen)));
                }
            }
        });
        Self { url, behaviour, seen, task }
    }

    /// Everything that came so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many WebSocket handshakes came so far.
    pub fn upgrades(&self) -> usize {
        self.seen().iter().filter(|seen| seen.is_upgrade()).count()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One request a connection: the backend is told to close after its answer, so that the next request comes anew.
async fn meet(
    mut client: TcpStream,
    behaviour: Arc<Mutex<Behaviour>>,
    seen: Arc<Mutex<Vec<Seen>>>,
) -> Result<()> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            break end;
        }
        anyhow::ensure!(client.read_buf(&mut bytes).await? > 0, "the connection ended within a head");
    };
    let rest = bytes.split_off(head + 4);
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let (request_line, lines) = text.split_once("\r\n").context("a request without headers")?;
    let headers = lines.split("\r\n").filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    });
    let mut words = request_line.split(' ').map(str::to_owned);
    let request = Seen {
        method: words.next().unwrap_or_default(),
        target: words.next().unwrap_or_default(),
        headers: headers.collect(),
    };
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
    let behaviour = behaviour.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match behaviour {
        Behaviour::Passes(backend) => {
            let mut backend = TcpStream::connect(backend).await?;
            let mut head = format!("{request_line}\r\n");
            for line in lines.split("\r\n") {
                if request.is_upgrade() || !line.to_ascii_lowercase().starts_with("connection:") {
                    head.push_str(line);
                    head.push_str("\r\n");
                }
            }
            head.push_str(if request.is_upgrade() { "\r\n" } else { "connection: close\r\n\r\n" });
            backend.write_all(head.as_bytes()).await?;
            backend.write_all(&rest).await?;
            tokio::io::copy_bidirectional(&mut client, &mut backend).await?;
        }
        // Until the other side gives up.
        Behaviour::Silent => {
            while client.read_buf(&mut bytes).await? > 0 {
                bytes.clear();
            }
        }
        Behaviour::HangsUp => read_to_end(&mut client, &request, rest).await?,
        Behaviour::Answers(status) => {
            read_to_end(&mut client, &request, rest).await?;
            let head = format!("HTTP/1.1 {status} Status\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            client.write_all(head.as_bytes()).await?;
        }
    }
    Ok(())
}

/// Reads the body of a request, whose first bytes are there already.
async fn read_to_end(client: &mut TcpStream, request: &Seen, mut body: Vec<u8>) -> Result<()> {
    let chunked = request.header("transfer-encoding").is_some();
    let length: usize = request.header("content-length").map_or(Ok(0), str::parse)?;
    while if chunked { !body.ends_with(b"0\r\n\r\n") } else { body.len() < length } {
        anyhow::ensure!(client.read_buf(&mut body).await? > 0, "the connection ended within a body");
    }
    Ok(())
}
