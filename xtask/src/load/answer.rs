//! Answers to requests that follow each other over one connection.

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// The status of the next answer, whose body is passed over. What was read of the one behind it stays in `read`.
pub(super) async fn status(stream: &mut TcpStream, read: &mut Vec<u8>) -> Result<u16> {
    loop {
        let mut slots = [httparse::EMPTY_HEADER; 32];
        let mut answer = httparse::Response::new(&mut slots);
        if let httparse::Status::Complete(head) = answer.parse(read)? {
            let code = answer.code.context("a status")?;
            let length =
                answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
            let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
            let whole = head + length.unwrap_or(0);
            while read.len() < whole {
                more(stream, read).await?;
            }
            read.drain(..whole);
            return Ok(code);
        }
        more(stream, read).await?;
    }
}

async fn more(stream: &mut TcpStream, read: &mut Vec<u8>) -> Result<()> {
    if stream.read_buf(read).await? == 0 {
        bail!("the connection has ended");
    }
    Ok(())
}
