//! Takes request lines as the clients of this field send them: `?avars={"n":"uji"}`, quotes and all.
//!
//! A quote belongs percent-encoded into a URI (RFC 3986), browsers do so, and hyper refuses it otherwise. Many WebSocket
//! clients outside of browsers send it as it stands. So `"`, `<`, and `>` in the first request line of a connection, which
//! is the one that asks for an upgrade, are encoded before hyper sees them.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is read at once while the line has not ended.
const CHUNK: usize = 4096;

/// A connection whose first line is mended.
#[derive(Debug)]
pub struct Mended<S> {
    stream: S,
    line: Line,
}

#[derive(Debug)]
enum Line {
    Reading,
    /// The mended bytes that hyper has not taken yet; whether the line has ended is told beside them.
    Handing {
        bytes: Box<[u8]>,
        taken: usize,
        ended: bool,
    },
    Over,
}

impl<S> Mended<S> {
    /// Wraps a new connection.
    pub fn new(stream: S) -> Self {
        Self { stream, line: Line::Reading }
    }

    /// The connection itself, and what was read of it behind the line and not taken yet.
    pub fn into_parts(self) -> (S, Vec<u8>) {
        let read = match self.line {
            Line::Handing { bytes, taken, .. } => bytes[taken..].to_vec(),
            Line::Reading | Line::Over => Vec::new(),
        };
        (self.stream, read)
    }
}

/// Encodes what hyper would refuse up to the end of the line; what follows stays as it is.
fn mend(bytes: &[u8]) -> (Vec<u8>, bool) {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
    let mut mended = Vec::with_capacity(bytes.len() + 32);
    for byte in line {
        match byte {
            b'"' => mended.extend_from_slice(b"%22"),
            b'<' => mended.extend_from_slice(b"%3C"),
            b'>' => mended.extend_from_slice(b"%3E"),
            other => mended.push(*other),
        }
    }
    mended.extend_from_slice(rest);
    (mended, end.is_some())
}

impl<S: AsyncRead + Unpin> AsyncRead for Mended<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.line {
                Line::Over => return Pin::new(&mut this.stream).poll_read(context, buffer),
                Line::Reading => {
                    let mut chunk = [0; CHUNK];
                    let mut read = ReadBuf::new(&mut chunk);
                    ready!(Pin::new(&mut this.stream).poll_read(context, &mut read))?;
                    if read.filled().is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    let (bytes, ended) = mend(read.filled());
                    this.line = Line::Handing { bytes: bytes.into_boxed_slice(), taken: 0, ended };
                }
                Line::Handing { bytes, taken, ended } => {
                    let left = &bytes[*taken..];
                    let fits = left.len().min(buffer.remaining());
                    buffer.put_slice(&left[..fits]);
                    *taken += fits;
                    if *taken == bytes.len() {
                        this.line = if *ended { Line::Over } else { Line::Reading };
                    }
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Mended<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn read(pieces: &[&str]) -> String {
        let (mut client, server) = tokio::io::duplex(64);
        let pieces: Vec<_> = pieces.iter().map(|piece| (*piece).to_owned()).collect();
        tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            for piece in pieces {
                client.write_all(piece.as_bytes()).await.expect("written");
            }
        });
        let mut text = String::new();
        Mended::new(server).read_to_string(&mut text).await.expect("read");
        text
    }

    #[tokio::test]
    async fn quotes_in_the_first_line_are_encoded_and_nothing_else_is_touched() {
        assert_eq!(
            read(&["GET /s?avars={\"n\":", "\"<u>\"} HTTP/1.1\r\nx: \"y\"\r\n\r\n", "\"body\"\n\"more\""])
                .await,
            "GET /s?avars={%22n%22:%22%3Cu%3E%22} HTTP/1.1\r\nx: \"y\"\r\n\r\n\"body\"\n\"more\""
        );
    }
}
