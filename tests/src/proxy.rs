//! A TCP proxy that can stop: what was sent stays on its way, no connection ends, and nobody is told.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A proxy on a port of its own; it ends, with its connections, when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// The port of 127.0.0.1 on which it listens.
    pub port: u16,
    passes: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy before a port of 127.0.0.1, all of whose connections stop together.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn before(port: u16) -> Self {
        Self::start(port, None).await
    }

    /// A proxy of which only those connections stop that name themselves so in the first bytes that they send. Clients
    /// of MongoDB do, by the `appName` of their connection string; thus the members of a replica set, which go through
    /// the same proxies, keep each other.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn before_member(port: u16, named: &str) -> Self {
        Self::start(port, Some(named.into())).await
    }

    async fn start(upstream: u16, named: Option<Arc<str>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let passes = watch::Sender::new(true);
        let gate = passes.subscribe();
        let task = tokio::spawn(async move {
            // The connections end with the task that accepts them.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    Ok((client, _)) = listener.accept() => {
                        connections.spawn(carry(client, upstream, named.clone(), gate.clone()));
                    }
                    Some(_) = connections.join_next() => {}
                    else => return,
                }
            }
        });
        Self { port, passes, task }
    }

    /// `http://127.0.0.1:<port>`
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on nothing passes, in either direction.
    pub fn stop(&self) {
        self.passes.send_replace(false);
    }

    /// What was held back passes, and all that follows.
    pub fn go_on(&self) {
        self.passes.send_replace(true);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(
    mut client: TcpStream,
    upstream: u16,
    named: Option<Arc<str>>,
    gate: watch::Receiver<bool>,
) -> Result<()> {
    // Room for a whole greeting: the name is not at its beginning.
    let mut first = Vec::with_capacity(16 * 1024);
    if client.read_buf(&mut first).await? == 0 {
        return Ok(());
    }
    let stops = named.is_none_or(|name| first.windows(name.len()).any(|part| part == name.as_bytes()));
    let mut gate = stops.then_some(gate);
    opened(&mut gate).await?;
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)).await?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    to_server.write_all(&first).await?;
    drop(first);
    tokio::try_join!(pump(from_client, to_server, gate.clone()), pump(from_server, to_client, gate))?;
    Ok(())
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut gate: Option<watch::Receiver<bool>>,
) -> Result<()> {
    loop {
        // Idle connections keep no buffer.
        from.readable().await?;
        let mut bytes = Vec::with_capacity(16 * 1024);
        let ended = from.read_buf(&mut bytes).await? == 0;
        opened(&mut gate).await?;
        if ended {
            return Ok(to.shutdown().await?);
        }
        to.write_all(&bytes).await?;
    }
}

async fn opened(gate: &mut Option<watch::Receiver<bool>>) -> Result<()> {
    if let Some(gate) = gate {
        gate.wait_for(|passes| *passes).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Connects through the proxy, and sends a greeting of this name, far behind its beginning.
    async fn greeted(proxy: &Proxy, listener: &TcpListener, name: &str) -> (TcpStream, TcpStream) {
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).await.unwrap();
        let greeting = format!("{}{name}", "-".repeat(500));
        client.write_all(greeting.as_bytes()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let mut bytes = vec![0; greeting.len()];
        server.read_exact(&mut bytes).await.unwrap();
        assert_eq!(bytes, greeting.as_bytes());
        (client, server)
    }

    async fn arrives(from: &mut TcpStream, to: &mut TcpStream) -> bool {
        from.write_all(b"x").await.unwrap();
        timeout(Duration::from_millis(200), to.read_u8()).await.is_ok()
    }

    #[tokio::test]
    async fn only_who_bears_the_name_is_stopped_and_nothing_is_lost() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = Proxy::before_member(listener.local_addr().unwrap().port(), "named").await;
        let (mut named, mut server_of_named) = greeted(&proxy, &listener, "named").await;
        let (mut other, mut server_of_other) = greeted(&proxy, &listener, "other").await;
        assert!(arrives(&mut named, &mut server_of_named).await);
        proxy.stop();
        assert!(!arrives(&mut named, &mut server_of_named).await);
        assert!(!arrives(&mut server_of_named, &mut named).await);
        assert!(arrives(&mut other, &mut server_of_other).await);
        assert!(arrives(&mut server_of_other, &mut other).await);
        proxy.go_on();
        assert_eq!(server_of_named.read_u8().await.unwrap(), b'x');
        assert_eq!(named.read_u8().await.unwrap(), b'x');
    }
}
