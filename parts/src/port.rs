//! Free TCP ports for the parts.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::http::Request;

/// Below the range from which the system takes the ports of outgoing connections: otherwise one of those could sit on a
/// part's port while the part is restarted.
const FIRST: u16 = 18_000;
const COUNT: u16 = 14_000;

const MOMENTS: u32 = 20;
const MOMENT: Duration = Duration::from_millis(10);

/// A port of 127.0.0.1 on which nothing listens now. Each call gives another, and processes begin at different places.
pub fn free() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 200).expect("below 200") * (COUNT / 200);
    for _ in 0..COUNT {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        if can_be_bound(port) {
            return Ok(port);
        }
    }
    anyhow::bail!("no TCP port between {FIRST} and {} is free on 127.0.0.1", FIRST + COUNT - 1)
}

/// Whether one could listen on this port of 127.0.0.1 now, or in a moment: a child that another thread starts holds the
/// listener of whoever asked last, from its fork to its exec.
pub fn is_free(port: u16) -> bool {
    (0..MOMENTS).any(|moment| {
        if moment > 0 {
            std::thread::sleep(MOMENT);
        }
        can_be_bound(port)
    })
}

fn can_be_bound(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The status of a GET of `path` on this port, if anything there answers within 2 s.
pub async fn status(port: u16, path: &str) -> Result<u16> {
    let server = format!("http://127.0.0.1:{port}");
    let answer = tokio::time::timeout(Duration::from_secs(2), Request::get(path).open(&server)).await;
    Ok(answer.context("no answer within 2 s")??.status.as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_gives_another_port() {
        let first = free().unwrap();
        assert_ne!(first, free().unwrap());
        assert!((FIRST..FIRST + COUNT).contains(&first));
    }

    #[test]
    fn a_port_with_a_listener_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!is_free(listener.local_addr().unwrap().port()));
    }
}
