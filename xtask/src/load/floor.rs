//! The floor of a fan-out: one thread that does nothing but `send()` to so many sockets, over and over, at a steady rate.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;

use super::{now, orders};

#[derive(Args)]
pub(crate) struct Options {
    /// How many sockets.
    #[arg(long)]
    count: usize,
    /// Events a second, each to all sockets.
    #[arg(long)]
    rate: u32,
    /// Events in one `send()`.
    #[arg(long, default_value_t = 1)]
    batch: u32,
    /// Bytes of an event.
    #[arg(long)]
    bytes: usize,
}

/// Listens, and says where; when all have come, sends from each `go` to the next `stop`.
pub(crate) async fn run(options: Options) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", json!({ "port": listener.local_addr()?.port() }));
    let mut orders = orders();
    let (to_thread, of_thread) = mpsc::channel();
    let thread = std::thread::spawn(move || send(&listener, &options, &of_thread));
    while let Some(order) = orders.recv().await {
        // Once the thread has failed there is nobody to tell.
        if to_thread.send(order == "go").is_err() {
            break;
        }
        println!("{}", json!({}));
    }
    drop(to_thread);
    thread.join().map_err(|_| anyhow::anyhow!("the floor panicked"))?
}

fn send(listener: &TcpListener, options: &Options, orders: &mpsc::Receiver<bool>) -> Result<()> {
    let sockets =
        (0..options.count).map(|_| accept(listener)).collect::<Result<Vec<_>>>().context("a client")?;
    let every = Duration::from_secs(1) * options.batch / options.rate;
    loop {
        // Nothing to do until it goes, or until there is nobody any more who could say so.
        match orders.recv() {
            Ok(true) => {}
            Ok(false) => continue,
            Err(_) => return Ok(()),
        }
        let mut next = Instant::now();
        while orders.try_recv().is_err() {
            let frames = frame(options.bytes).repeat(usize::try_from(options.batch)?);
            for mut socket in &sockets {
                socket.write_all(&frames)?;
            }
            next = Instant::max(next + every, Instant::now());
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
}

/// Takes any request for an upgrade.
fn accept(listener: &TcpListener) -> Result<TcpStream> {
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

/// A text with the time of its writing, in one frame of a length as an event of Tailrace's has it.
fn frame(bytes: usize) -> Vec<u8> {
    let mut text = format!("{{\"fullDocument\":{{\"at\":{},\"padding\":\"", now());
    let padding = bytes.saturating_sub(text.len() + 3);
    text.extend(std::iter::repeat_n('x', padding));
    text.push_str("\"}}");
    let mut frame = vec![0x81];
    match u16::try_from(text.len()) {
        Ok(length) if length < 126 => frame.push(length.to_be_bytes()[1]),
        Ok(length) => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(127);
            frame.extend((text.len() as u64).to_be_bytes());
        }
    }
    frame.extend(text.into_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::super::frames::{Frame, first, written_at};
    use super::*;

    #[test]
    fn a_frame_of_the_floor_is_read_like_one_of_a_server() {
        for bytes in [100, 300, 70_000] {
            let frame = frame(bytes);
            let Some((Frame::Message(event), length)) = first(&frame) else { panic!("a message") };
            assert_eq!((event.len(), length), (bytes, frame.len()));
            assert!(written_at(event).is_some_and(|at| at <= now()));
        }
    }
}
