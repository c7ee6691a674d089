//! What a client says on an open socket.

use bson::Document;
use shared::client_message::ClientMessage;

/// Reads a text, and a binary message.
pub fn run(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(message) = ClientMessage::of_json(text)
    {
        let json: serde_json::Value = serde_json::from_str(text).expect("what means something is JSON");
        let token = json.get("token").and_then(|token| token.as_str()).map(str::to_owned);
        told(&message, token);
    }
    if let Some(message) = ClientMessage::of_bson(data)
        && let Ok(document) = Document::from_reader(data)
    {
        // The library takes the last of two members of one name, and the raw reader the first.
        let once = bson::RawDocument::from_bytes(data).is_ok_and(|raw| {
            raw.into_iter().flatten().filter(|(name, _)| name.as_str() == "token").count() < 2
        });
        if once {
            told(&message, document.get_str("token").ok().map(str::to_owned));
        }
    }
}

fn told(message: &ClientMessage, token: Option<String>) {
    assert_eq!(format!("{message:?}"), "Auth(…)", "no token gets into a log");
    assert!(*message == ClientMessage::Auth(token), "the token is that of the message");
}
