//! A WebSocket client that shows a refused handshake as a whole, and sends any frame.

use futures_util::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
pub use tokio_tungstenite::tungstenite::protocol::frame::Frame;
pub use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
pub use tokio_tungstenite::tungstenite::{Error, Message};

use crate::{Request, Response, soon};

/// The answer that the key of the handshake must get (RFC 6455, section 1.3).
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// How long a server takes nothing before it is said to take no more.
const STUCK: std::time::Duration = std::time::Duration::from_secs(1);

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    /// The headers of the 101.
    pub headers: http::HeaderMap,
    inner: WebSocketStream<TcpStream>,
}

impl WebSocket {
    /// Opens one; the error is the answer of a server that refuses.
    ///
    /// # Panics
    /// When there is no answer, or the server accepts in a way that the protocol forbids.
    pub async fn open(server: &str, request: Request) -> Result<Self, Box<Response>> {
        let request = request.upgrade();
        let answer = soon("an answer to the handshake", request.open(server))
            .await
            .expect("an answer to the handshake");
        if answer.status != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Box::new(soon("the whole refusal", answer.whole()).await.expect("a whole refusal")));
        }
        let headers = answer.headers.clone();
        assert_eq!(
            headers.get("sec-websocket-accept").map(http::HeaderValue::as_bytes),
            Some(ACCEPT.as_bytes())
        );
        let (stream, read) = answer.into_upgraded();
        // An event may be larger than what a client usually takes.
        let any_size = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let inner = WebSocketStream::from_partially_read(stream, read, Role::Client, Some(any_size)).await;
        Ok(Self { headers, inner })
    }

    /// The next message of any kind; an error is how the connection ended.
    pub async fn message(&mut self) -> Result<Message, Error> {
        soon("a message", self.inner.next()).await.unwrap_or(Err(Error::ConnectionClosed))
    }

    /// The next text. Pings are answered on the way.
    ///
    /// # Panics
    /// When something else comes.
    pub async fn text(&mut self) -> String {
        loop {
            match self.message().await {
                Ok(Message::Text(text)) => return text.to_string(),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                other => panic!("a text was expected, and this came: {other:?}"),
            }
        }
    }

    /// The next text, which is JSON.
    ///
    /// # Panics
    /// When something else comes.
    pub async fn event(&mut self) -> Value {
        let text = self.text().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("the event is no JSON ({error}): {text}"))
    }

    /// Sends a message; frames of any kind go as [`Message::Frame`].
    ///
    /// # Panics
    /// When the connection has ended.
    pub async fn send(&mut self, message: impl Into<Message>) {
        self.inner.send(message.into()).await.expect("the connection is open");
    }

    /// Sends the same again and again, and reads nothing, until the server takes no more of it, or `most` were sent. Says how
    /// many were.
    ///
    /// # Panics
    /// When the connection has ended.
    pub async fn flood(&mut self, message: &Message, most: usize) -> usize {
        for sent in 0..most {
            let sending = self.inner.send(message.clone());
            match tokio::time::timeout(STUCK, sending).await {
                Ok(sent) => sent.expect("the connection is open"),
                Err(_) => return sent,
            }
        }
        most
    }

    /// Sends the same without an end, while it waits for the server to close: with which code and reason.
    ///
    /// # Panics
    /// When the connection ends without a close, or not soon.
    pub async fn closed_in_a_flood(self, message: Message) -> (u16, String) {
        let Self { headers, inner } = self;
        let (mut sink, mut stream) = inner.split();
        let flood = async {
            while sink.send(message.clone()).await.is_ok() {}
            std::future::pending::<()>().await;
        };
        let close = async {
            loop {
                match stream.next().await {
                    Some(Ok(Message::Close(Some(close)))) => {
                        break (close.code.into(), close.reason.to_string());
                    }
                    Some(Ok(_)) => {}
                    other => panic!("the connection ends without a close: {other:?}, {headers:?}"),
                }
            }
        };
        tokio::select! {
            close = soon("a close", close) => close,
            () = flood => unreachable!(),
        }
    }

    /// The code and the reason with which the server closes; texts before it are passed over.
    ///
    /// # Panics
    /// When the connection ends without a close, or not soon.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.message().await {
                Ok(Message::Close(Some(close))) => return (close.code.into(), close.reason.to_string()),
                Ok(Message::Close(None)) => panic!("the server closes without a code"),
                Ok(_) => {}
                Err(error) => panic!("the connection ends without a close: {error}"),
            }
        }
    }

    /// Closes from this side and waits for the answer of the server.
    ///
    /// # Panics
    /// When there is none.
    pub async fn close(mut self) {
        self.send(Message::Close(None)).await;
        while !matches!(self.message().await.expect("an answer to the close"), Message::Close(_)) {}
    }
}
