//! What a client says on an open v1 socket: fresh credentials for the session, and nothing else yet.

use bson::RawDocument;
use serde_json::Value;

/// A message that means something. Whatever else a client sends is passed over.
#[derive(Clone, PartialEq, Eq)]
pub enum ClientMessage {
    /// `{"type":"auth","token":…}`: the session is to go on with this token. `None` where that is no text.
    Auth(Option<String>),
}

impl std::fmt::Debug for ClientMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Auth(…)") // never into a log
    }
}

const AUTH: &str = "auth";

impl ClientMessage {
    /// Reads a text of `tailrace.v1.json`.
    pub fn of_json(text: &str) -> Option<Self> {
        let message: Value = serde_json::from_str(text).ok()?;
        let member = |name| message.get(name).and_then(Value::as_str);
        (member("type") == Some(AUTH)).then(|| Self::Auth(member("token").map(str::to_owned)))
    }

    /// Reads a binary message of `tailrace.v1.bson`.
    pub fn of_bson(bytes: &[u8]) -> Option<Self> {
        let message = RawDocument::from_bytes(bytes).ok()?;
        let text = |name| message.get_str(name).ok();
        (text("type") == Some(AUTH)).then(|| Self::Auth(text("token").map(str::to_owned)))
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use bson::rawdoc;

    use super::*;

    fn auth(token: Option<&str>) -> ClientMessage {
        ClientMessage::Auth(token.map(str::to_owned))
    }

    #[test]
    fn a_token_is_read_in_both_forms_and_never_shown() {
        assert_eq!(
            ClientMessage::of_json(r#"{"type":"auth","token":"a.b.c","x":1}"#),
            Some(auth(Some("a.b.c")))
        );
        let message = rawdoc! { "type": "auth", "token": "a.b.c" };
        assert_eq!(ClientMessage::of_bson(message.as_bytes()), Some(auth(Some("a.b.c"))));
        assert!(!format!("{:?}", auth(Some("a.b.c"))).contains("a.b.c"));
    }

    #[test]
    fn a_token_that_is_no_text_is_told_apart_from_no_message() {
        for text in [r#"{"type":"auth"}"#, r#"{"type":"auth","token":{"a":1}}"#] {
            assert_eq!(ClientMessage::of_json(text), Some(auth(None)), "{text}");
        }
        assert_eq!(
            ClientMessage::of_bson(rawdoc! { "type": "auth", "token": 1 }.as_bytes()),
            Some(auth(None))
        );
    }

    #[test]
    fn what_means_nothing_is_passed_over() {
        for text in ["", "ping", "[]", r#"{"token":"x"}"#, r#"{"type":"later"}"#, r#"{"type":1}"#] {
            assert_eq!(ClientMessage::of_json(text), None, "{text}");
        }
        // Not JSON, though it is in a member that means nothing.
        assert_eq!(ClientMessage::of_json(r#"{"type":"auth","token":"x","y":"\ud800"}"#), None);
        for bytes in [&b""[..], b"\x05\0\0\0\0", b"{}", rawdoc! { "type": "later" }.as_bytes()] {
            assert_eq!(ClientMessage::of_bson(bytes), None);
        }
    }
}
