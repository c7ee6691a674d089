//! WebSocket frames of a client, read as a session reads them.

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tailrace::websocket::accepted;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        protocol::{Role, WebSocketConfig},
    },
};

use crate::{input, wire::Wire};

/// Smaller than by default, so that inputs come to it.
const MESSAGE_BYTES: usize = 200;

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The client sent too much, no UTF-8, or no frames.
    Closed(&'static str),
    /// The connection did.
    Gone,
}

/// The bytes as they are, or frames made of them.
pub fn run(data: &[u8]) {
    let Some((kind, rest)) = input::choice(data) else { return };
    let sent = if kind % 2 == 0 { rest.to_vec() } else { frames(rest) };
    let (whole, end, answers) = served(&sent, usize::MAX);
    let (pieces, other_end, other_answers) = served(&sent, usize::from(kind / 2) % 9 + 1);
    assert_eq!((whole, &end), (pieces, &other_end), "the size of pieces does not matter");
    well_formed(&answers, &end);
    well_formed(&other_answers, &other_end);
}

/// Reads all of it; what is heard, how it ends, and what is answered.
fn served(sent: &[u8], piece: usize) -> (Vec<Message>, End, Vec<u8>) {
    let served = async {
        let mut socket = accepted(Wire::new(sent, piece), MESSAGE_BYTES).await;
        let mut heard = Vec::new();
        let end = loop {
            match socket.next().await {
                Some(Ok(message)) => {
                    assert!(message.len() <= MESSAGE_BYTES, "a message over the limit");
                    heard.push(message);
                    assert!(heard.len() <= sent.len(), "more messages than bytes");
                }
                Some(Err(Error::Capacity(_))) => break End::Closed("too much"),
                Some(Err(Error::Utf8(_))) => break End::Closed("no UTF-8"),
                Some(Err(Error::Protocol(_))) => break End::Closed("no frames"),
                Some(Err(Error::Io(_) | Error::ConnectionClosed | Error::AlreadyClosed)) | None => {
                    break End::Gone;
                }
                Some(Err(other)) => panic!("an end that a session does not know: {other}"),
            }
        };
        let _ = socket.flush().await;
        (heard, end, std::mem::take(&mut socket.get_mut().output))
    };
    served.now_or_never().expect("nothing to wait for")
}

/// The answers are frames that a client can read, pongs and a close.
fn well_formed(answers: &[u8], end: &End) {
    let read = async {
        let any = WebSocketConfig::default();
        let wire = Wire::new(answers, usize::MAX);
        let mut client = WebSocketStream::from_raw_socket(wire, Role::Client, Some(any)).await;
        while let Some(answer) = client.next().await {
            match answer {
                Ok(Message::Pong(_) | Message::Close(_)) => {}
                Ok(other) => panic!("nobody asked for {other}"),
                Err(Error::ConnectionClosed) => break,
                // The end of the answers, without a Close where none was called for.
                Err(Error::Protocol(error)) => {
                    assert!(error.to_string().contains("closing handshake"), "{error}, {end:?}");
                    break;
                }
                Err(error) => panic!("{error}, {end:?}"),
            }
        }
    };
    read.now_or_never().expect("nothing to wait for");
}

/// `kind length data…` again and again, as the frames of a client: masked, with an opcode from the low bits, and final unless the
/// high bit is set.
fn frames(mut data: &[u8]) -> Vec<u8> {
    let mut frames = Vec::new();
    while let [kind, length, rest @ ..] = data {
        let length = usize::from(*length).min(rest.len());
        let (payload, next) = rest.split_at(length);
        frames.push((kind & 0x0f) | if kind & 0x80 == 0 { 0x80 } else { 0 });
        match u8::try_from(length) {
            Ok(short @ 0..126) => frames.push(0x80 | short),
            _ => frames.extend([0xfe, 0, u8::try_from(length).unwrap_or(u8::MAX)]),
        }
        let mask = [kind.wrapping_mul(31), 2, 3, 4];
        frames.extend(mask);
        frames.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        data = next;
    }
    frames
}
