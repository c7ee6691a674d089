//! Handshakes: clients that connect, ask for an upgrade, and leave as soon as they are let in.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::json;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::Instant;

use super::orders;

#[derive(Args)]
pub(crate) struct Options {
    /// The server, as `127.0.0.1:8080`.
    #[arg(long)]
    server: SocketAddr,
    /// The address of the stream.
    #[arg(long)]
    path: String,
    /// Clients at once.
    #[arg(long, default_value_t = 64)]
    at_once: usize,
}

/// Shakes hands for as many seconds as an order says, and answers with how often.
pub(crate) async fn run(options: Options) -> Result<()> {
    let mut orders = orders();
    let request: Rc<str> = format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        options.path, options.server
    )
    .into();
    println!("{}", json!({}));
    while let Some(order) = orders.recv().await {
        let seconds: u64 = order.parse().with_context(|| format!("{order}: expected seconds"))?;
        let began = Instant::now();
        let until = began + Duration::from_secs(seconds);
        let took = Rc::new(RefCell::new(Vec::new()));
        let clients = LocalSet::new();
        let failed = Rc::new(RefCell::new(Vec::new()));
        for _ in 0..options.at_once {
            let (request, took, failed) = (Rc::clone(&request), Rc::clone(&took), Rc::clone(&failed));
            clients.spawn_local(async move {
                while Instant::now() < until {
                    let began = Instant::now();
                    match shake(options.server, &request).await {
                        Ok(()) => took.borrow_mut().push(began.elapsed().as_secs_f64() * 1e3),
                        Err(error) => failed.borrow_mut().push(format!("{error:#}")),
                    }
                }
            });
        }
        clients.await;
        let mut took = took.take();
        took.sort_unstable_by(f64::total_cmp);
        let failed = failed.take();
        println!(
            "{}",
            json!({
                "handshakes": took.len(),
                "seconds": began.elapsed().as_secs_f64(),
                "p50_ms": took.get(took.len() / 2),
                "p99_ms": took.get(took.len() * 99 / 100),
                "failed": failed.len(),
                "why": failed.first(),
            })
        );
    }
    Ok(())
}

async fn shake(server: SocketAddr, request: &str) -> Result<()> {
    let mut stream = TcpStream::connect(server).await?;
    // It leaves by a reset: no port waits for what may still be on its way, and they do not run out.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    stream.set_nodelay(true)?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = [0; 1024];
    let mut read = 0;
    while !answer[..read].windows(4).any(|end| end == b"\r\n\r\n") {
        let bytes = stream.read(&mut answer[read..]).await?;
        ensure!(bytes > 0, "the connection has ended");
        read += bytes;
    }
    ensure!(
        answer.starts_with(b"HTTP/1.1 101 "),
        "answered: {}",
        String::from_utf8_lossy(&answer[..read]).lines().next().unwrap_or_default()
    );
    Ok(())
}
