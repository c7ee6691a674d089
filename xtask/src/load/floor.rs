//! The floor of a fan-out: one thread that does nothing but `send()` to so many sockets, over and over.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;

use super::volley::{Volley, event};
use super::{frames, now, orders};

#[derive(Args)]
pub(crate) struct Options {
    /// How many sockets.
    #[arg(long)]
    count: usize,
    /// Bytes of an event.
    #[arg(long)]
    bytes: usize,
}

/// Listens, and says where; when all have come, sends each volley, as many events in one `send()` as go together.
pub(crate) async fn run(options: Options) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", json!({ "port": listener.local_addr()?.port() }));
    let mut orders = orders();
    let (to_thread, of_thread) = mpsc::channel();
    let thread = std::thread::spawn(move || send(&listener, &options, &of_thread));
    while let Some(order) = orders.recv().await {
        let volley =
            Volley::of_order(&order)?.with_context(|| format!("{order}: not an order to the floor"))?;
        // Once the thread has failed there is nobody to tell.
        if to_thread.send(volley).is_err() {
            break;
        }
        println!("{}", json!({}));
    }
    drop(to_thread);
    thread.join().map_err(|_| anyhow::anyhow!("the floor panicked"))?
}

fn send(listener: &TcpListener, options: &Options, volleys: &mpsc::Receiver<Volley>) -> Result<()> {
    let sockets =
        (0..options.count).map(|_| accept(listener)).collect::<Result<Vec<_>>>().context("a client")?;
    for volley in volleys {
        let mut next = Instant::now();
        for events in volley.batches() {
            let frames = frame(now(), options.bytes).repeat(usize::try_from(events)?);
            for mut socket in &sockets {
                socket.write_all(&frames)?;
            }
            next = Instant::max(next + volley.every, Instant::now());
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
    Ok(())
}

/// Takes any request for an upgrade.
pub(super) fn accept(listener: &TcpListener) -> Result<TcpStream> {
    let (mut socket, _) = listener.accept()?;
    socket.set_nodelay(true)?;
    for line in BufReader::new(&socket).lines() {
        if line?.is_empty() {
            break;
        }
    }
    socket.write_all(
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n",
    )?;
    Ok(socket)
}

/// An event that was written at this time, in one frame.
pub(super) fn frame(at: u64, bytes: usize) -> Vec<u8> {
    frames::text(event(at, bytes).as_bytes(), false)
}

#[cfg(test)]
mod tests {
    use super::super::frames::{Frame, first, written_at};
    use super::*;

    #[test]
    fn a_frame_of_the_floor_is_read_like_one_of_a_server() {
        for bytes in [100, 300, 70_000] {
            let frame = frame(now(), bytes);
            let Some((Frame::Message(event), length)) = first(&frame) else { panic!("a message") };
            assert_eq!((event.len(), length), (bytes, frame.len()));
            assert!(written_at(event).is_some_and(|at| at <= now()));
        }
    }
}
