//! The floor of handshakes: takes connections in one thread, answers any request with 101, and does nothing else.

use std::net::Ipv4Addr;

use anyhow::Result;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use super::orders;

/// The answer to the key that all clients of these benchmarks send.
const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Listens, and says where, until the input ends.
pub(crate) async fn run() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", json!({ "port": listener.local_addr()?.port() }));
    let mut orders = orders();
    let accepting = async {
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(serve(stream));
            }
        }
    };
    LocalSet::new()
        .run_until(async {
            tokio::select! {
                _ = orders.recv() => {}
                () = accepting => {}
            }
        })
        .await;
    Ok(())
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 1024];
    let mut read = 0;
    while !buffer[..read].ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer[read..]).await? {
            0 => return Ok(()),
            bytes => read += bytes,
        }
    }
    stream.write_all(ANSWER).await?;
    // Until the client has left.
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}
