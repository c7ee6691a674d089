//! The connection of a WebSocket subscriber, which two write to: its session, and the source that has something for it.
//!
//! A source that can write for a thousand subscribers in one go wakes no thousand tasks. What makes that safe is here:
//! frames come whole, one behind the other, whoever writes them.

use std::{
    hint::black_box,
    io::{self, ErrorKind, Read},
    os::fd::AsRawFd,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

/// A connection without TLS, as both its writers hold it.
///
/// The session's writer is tungstenite, which hands over frames that are whole, and offers again what was not taken: so
/// a write that is taken as a whole ends where a frame ends.
#[derive(Clone, Debug)]
pub(crate) struct Wire(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stream: TcpStream,
    end: Mutex<End>,
}

/// What stands at the end of what was written.
#[derive(Debug)]
enum End {
    /// A whole frame: whoever has another may write it.
    Frame,
    /// A part of what the session writes; it goes on.
    PartOfSessions,
    /// A part of what the source has written; this is the rest, and it comes before everything else.
    PartOfSources(Bytes),
}

/// What has become of something that was to be written at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// All of it is written.
    Whole,
    /// Some of it. The rest is kept, and the session has to flush it.
    Part,
    /// Nothing of it.
    Nothing,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self(Arc::new(Inner { stream, end: Mutex::new(End::Frame) }))
    }

    fn end(&self) -> MutexGuard<'_, End> {
        self.0.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the processor fetch what [`Wire::write_now`] looks at first.
    pub(crate) fn bring_near(&self) {
        black_box((self.0.stream.as_raw_fd(), self.0.end.is_poisoned()));
    }

    /// Writes whole frames as far as the kernel takes them now. A connection that is broken takes nothing: its session
    /// finds out by itself.
    pub(crate) fn write_now(&self, frames: &Bytes) -> Written {
        let mut end = self.end();
        if !matches!(*end, End::Frame) {
            return Written::Nothing;
        }
        // Not by way of the runtime, which would look up first whether it knows of room.
        match SockRef::from(&self.0.stream).send(frames) {
            Ok(bytes) if bytes == frames.len() => Written::Whole,
            Ok(bytes) if bytes > 0 => {
                *end = End::PartOfSources(frames.slice(bytes..));
                Written::Part
            }
            Ok(_) | Err(_) => Written::Nothing,
        }
    }

    /// Writes what the source has left behind.
    fn poll_rest(&self, end: &mut End, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let End::PartOfSources(rest) = end {
            let bytes = ready!(self.poll_once(rest, context))?;
            rest.advance(bytes);
            if rest.is_empty() {
                *end = End::Frame;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_once(&self, bytes: &[u8], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let stream = &self.0.stream;
        loop {
            ready!(stream.poll_write_ready(context))?;
            match stream.try_write(bytes) {
                Ok(0) if !bytes.is_empty() => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = &self.0.stream;
        loop {
            ready!(stream.poll_read_ready(context))?;
            let room = buffer.remaining();
            let mut read = None;
            let readiness = stream.try_io(Interest::READABLE, || {
                let bytes = (&*SockRef::from(stream)).read(buffer.initialize_unfilled())?;
                read = Some(bytes);
                // What does not fill the buffer is all there is: the kernel is not asked again before it says that more has come.
                if 0 < bytes && bytes < room { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (read, readiness) {
                (Some(bytes), _) => {
                    buffer.advance(bytes);
                    return Poll::Ready(Ok(()));
                }
                (None, Err(error)) if error.kind() != ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                (None, _) => {}
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut end = self.end();
        ready!(self.poll_rest(&mut end, context))?;
        let written = ready!(self.poll_once(bytes, context))?;
        *end = if written == bytes.len() { End::Frame } else { End::PartOfSessions };
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_rest(&mut self.end(), context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(&mut self.end(), context))?;
        let shut = SockRef::from(&self.0.stream).shutdown(std::net::Shutdown::Write);
        Poll::Ready(shut.or_else(|error| match error.kind() {
            // The peer has left already.
            ErrorKind::NotConnected => Ok(()),
            _ => Err(error),
        }))
    }
}

/// A connection that can be written to, and its other end.
#[cfg(test)]
pub(crate) async fn pair() -> (Wire, TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
    let (server, _) = listener.accept().await.expect("accepted");
    server.writable().await.expect("writable");
    (Wire::new(server), client)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_the_source_could_not_write_comes_before_what_the_session_writes() {
        let (mut wire, mut client) = pair().await;
        let frame = Bytes::from(vec![b'a'; 64 * 1024 * 1024]);
        assert_eq!(wire.write_now(&frame), Written::Part);
        assert_eq!(wire.write_now(&Bytes::from_static(b"never")), Written::Nothing);
        let reading = tokio::spawn(async move {
            let mut read = Vec::new();
            client.read_to_end(&mut read).await.expect("read");
            read
        });
        wire.write_all(b"session").await.expect("written");
        assert_eq!(wire.write_now(&Bytes::from_static(b"source")), Written::Whole);
        wire.shutdown().await.expect("shut down");
        let read = reading.await.expect("read");
        assert_eq!(read.len(), frame.len() + 13);
        assert_eq!(&read[frame.len()..], b"sessionsource");
    }

    #[tokio::test]
    async fn a_flush_writes_what_the_source_could_not() {
        let (mut wire, mut client) = pair().await;
        let frame = Bytes::from(vec![b'a'; 64 * 1024 * 1024]);
        assert_eq!(wire.write_now(&frame), Written::Part);
        let reading = tokio::spawn(async move {
            let mut read = vec![0; 64 * 1024 * 1024];
            client.read_exact(&mut read).await.expect("read");
        });
        wire.flush().await.expect("flushed");
        reading.await.expect("all of it");
        assert_eq!(wire.write_now(&Bytes::from_static(b"next")), Written::Whole);
    }

    #[tokio::test]
    async fn the_source_writes_nothing_into_a_frame_of_the_sessions() {
        let (mut wire, mut client) = pair().await;
        let frame = vec![b'a'; 64 * 1024 * 1024];
        let written = wire.write(&frame).await.expect("written");
        assert!(written < frame.len());
        let reading = tokio::spawn(async move {
            let mut read = vec![0; 64 * 1024 * 1024];
            client.read_exact(&mut read).await.expect("read");
        });
        wire.0.stream.writable().await.expect("there is room again");
        assert_eq!(wire.write_now(&Bytes::from_static(b"never")), Written::Nothing);
        wire.write_all(&frame[written..]).await.expect("written");
        reading.await.expect("all of it");
        assert_eq!(wire.write_now(&Bytes::from_static(b"next")), Written::Whole);
    }
}
