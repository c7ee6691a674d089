//! When bytes came to a socket, as the kernel has it: a thread that reads a thousand sockets in turn comes to most of them later.

use std::io::{self, ErrorKind, IoSliceMut};
use std::os::fd::AsRawFd as _;
use std::task::{Context as Polled, Poll, ready};

use anyhow::Result;
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What is needed to read a socket whose bytes are stamped.
pub(super) struct Stamps {
    control: Vec<u8>,
    /// When the newest bytes came that were read, in microseconds since 1970.
    newest: Option<u64>,
}

impl Stamps {
    /// From now on what comes to this socket is stamped.
    pub(super) fn new(stream: &TcpStream) -> Result<Self> {
        setsockopt(stream, sockopt::ReceiveTimestampns, &true)?;
        Ok(Self { control: cmsg_space!(TimeSpec), newest: None })
    }

    /// When the newest bytes came that were read, in microseconds since 1970.
    pub(super) fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// Reads what has come; how many bytes, none at the end.
    pub(super) fn poll_read(
        &mut self,
        stream: &TcpStream,
        polled: &mut Polled<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<usize>> {
        loop {
            ready!(stream.poll_read_ready(polled))?;
            let mut read = None;
            let room = buffer.len();
            let emptied = stream.try_io(Interest::READABLE, || {
                let bytes = self.receive(stream, buffer)?;
                read = Some(bytes);
                // As tokio does it: what does not fill the buffer is all there is.
                if 0 < bytes && bytes < room { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (read, emptied) {
                (Some(bytes), _) => return Poll::Ready(Ok(bytes)),
                (None, Err(error)) if error.kind() == ErrorKind::WouldBlock => {}
                (None, failed) => {
                    failed?;
                }
            }
        }
    }

    fn receive(&mut self, stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffers = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<()>(stream.as_raw_fd(), &mut buffers, Some(&mut self.control), flags)?;
        let stamp = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::ScmTimestampns(time) => {
                u64::try_from(time.tv_sec() * 1_000_000 + time.tv_nsec() / 1_000).ok()
            }
            _ => None,
        });
        if message.bytes > 0 && stamp.is_none() {
            return Err(io::Error::other("the kernel does not say when bytes have come"));
        }
        self.newest = stamp;
        Ok(message.bytes)
    }
}
