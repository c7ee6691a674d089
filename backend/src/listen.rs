//! Listening, alone or beside other processes on the same port.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Listens. With `shared` other processes of the same user may listen there too: the kernel spreads new connections
/// over them (`SO_REUSEPORT`).
pub fn listen(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A port is free again as soon as its listener is gone, whatever became of the connections.
    socket.set_reuseaddr(true)?;
    if shared {
        socket.set_reuseport(true)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Stops listening; the connections that the kernel has taken already. It would reset those that nobody takes.
pub fn stop(listener: TcpListener) -> io::Result<Vec<(TcpStream, SocketAddr)>> {
    // The kernel is asked, and not the reactor, which may not have heard of the last ones.
    let listener = listener.into_std()?;
    let waiting: Vec<_> = std::iter::from_fn(|| listener.accept().ok()).collect();
    drop(listener);
    let connection = |(stream, peer): (std::net::TcpStream, SocketAddr)| {
        stream.set_nonblocking(true)?;
        Ok((TcpStream::from_std(stream)?, peer))
    };
    waiting.into_iter().map(connection).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn processes_that_agree_share_a_port_and_others_do_not() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let one = listen(any, true).expect("a port");
        let address = one.local_addr().expect("its address");
        let other = listen(address, true).expect("the same port");
        assert_eq!(listen(address, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop((one, other));
        let alone = listen(address, false).expect("the port is free again");
        assert_eq!(listen(address, true).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(alone);
    }

    #[tokio::test]
    async fn who_has_connected_before_the_end_is_not_reset() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)), true).expect("a port");
        let address = listener.local_addr().expect("its address");
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(TcpStream::connect(address).await.expect("a connection"));
        }
        let waiting = stop(listener).expect("what waits");
        let mut peers: Vec<SocketAddr> = waiting.iter().map(|(_, peer)| *peer).collect();
        peers.sort_unstable();
        let mut expected: Vec<SocketAddr> =
            clients.iter().map(|client| client.local_addr().expect("its address")).collect();
        expected.sort_unstable();
        assert_eq!(peers, expected);
        assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
