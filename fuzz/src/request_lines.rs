//! The first line of a connection, mended before hyper reads it.

use futures_util::FutureExt as _;
use tailrace::request_line::Mended;
use tokio::io::AsyncReadExt as _;

use crate::{input, wire::Wire};

/// Brings the bytes in pieces, and reads them with buffers of every size.
pub fn run(data: &[u8]) {
    let Some((piece, sent)) = input::choice(data) else { return };
    let expected = mended(sent);
    let mut whole = Vec::new();
    let mut connection = Mended::new(Wire::new(sent, usize::MAX));
    connection.read_to_end(&mut whole).now_or_never().expect("nothing to wait for").expect("it is read");
    assert_eq!(whole, expected);

    let mut connection = Mended::new(Wire::new(sent, usize::from(piece)));
    let mut pieces = Vec::new();
    let mut buffer = [0; 64];
    for room in (1..=buffer.len()).cycle() {
        let read = connection.read(&mut buffer[..room]).now_or_never().expect("nothing to wait for");
        match read.expect("it is read") {
            0 => break,
            bytes => pieces.extend_from_slice(&buffer[..bytes]),
        }
    }
    assert_eq!(pieces, expected, "the size of pieces does not matter");
}

/// Quotes and angle brackets up to the end of the first line.
fn mended(sent: &[u8]) -> Vec<u8> {
    let end = sent.iter().position(|byte| *byte == b'\n').unwrap_or(sent.len());
    let mut mended = Vec::new();
    for (index, byte) in sent.iter().enumerate() {
        match byte {
            b'"' | b'<' | b'>' if index < end => mended.extend(format!("%{byte:02X}").bytes()),
            other => mended.push(*other),
        }
    }
    mended
}
