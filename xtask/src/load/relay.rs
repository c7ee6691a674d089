//! The driver's own change stream, and one thread that does nothing but `send()` each of its events to so many sockets: the least
//! that any server of it does.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;

use super::driver::Written;
use super::endpoints::Namespace;
use super::floor::{accept, frame};
use super::orders;

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    namespace: Namespace,
    /// How many sockets.
    #[arg(long)]
    count: usize,
    /// Bytes of an event.
    #[arg(long)]
    bytes: usize,
}

/// Listens, says where, and begins when all have come.
pub(crate) async fn run(options: Options) -> Result<()> {
    let Options { namespace, count, bytes } = options;
    let mut written = Written::open(&namespace).await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", json!({ "port": listener.local_addr()?.port() }));
    let (to_thread, of_thread) = mpsc::channel();
    std::thread::spawn(move || send(&listener, count, bytes, &of_thread));
    let mut orders = orders();
    loop {
        tokio::select! {
            at = written.next() => to_thread.send(at?.context("the change stream has ended")?)?,
            order = orders.recv() => match order {
                Some(_) => println!("{}", json!({})),
                None => return Ok(()),
            },
        }
    }
}

fn send(listener: &TcpListener, count: usize, bytes: usize, written: &mpsc::Receiver<u64>) -> Result<()> {
    let sockets = (0..count).map(|_| accept(listener)).collect::<Result<Vec<_>>>().context("a client")?;
    for at in written {
        let frame = frame(at, bytes);
        for mut socket in &sockets {
            socket.write_all(&frame)?;
        }
    }
    Ok(())
}
