//! One-time tickets: what a browser that can set no header opens one stream with.
//!
//! A ticket is signed by the deployment, and bound to one address and to the identity that asked for it. That it counts once
//! is the backend's to see to: it burns the id.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    edge_key::EdgeKeys,
    identity::{Claims, UserVersion},
    refusal::Refusal,
    token::{LEEWAY, refused},
};

/// How long a ticket holds, in seconds.
pub const LIFETIME: u64 = 30;

/// The `typ` that keeps tickets, statements, and tokens apart.
const TYPE: &str = "tailrace-ticket";

/// What is to be remembered of a ticket that was shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketId {
    /// Its id.
    pub id: String,
    /// When it runs out, in Unix seconds.
    pub expires: u64,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    aud: String,
    iat: u64,
    exp: u64,
    jti: String,
    stream: String,
    claims: Map<String, Value>,
    session_end: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<UserVersion>,
}

/// Issues a ticket for the stream at a canonical path: `id` is 16 fresh random bytes, `now` is in Unix seconds.
///
/// `None` when there is no key.
pub fn issue(
    claims: &Claims,
    stream: &str,
    keys: &EdgeKeys,
    deployment: &str,
    id: [u8; 16],
    now: u64,
) -> Option<String> {
    let payload = Payload {
        aud: deployment.to_owned(),
        iat: now,
        exp: now + LIFETIME,
        jti: URL_SAFE_NO_PAD.encode(id),
        stream: stream.to_owned(),
        claims: claims.as_object().clone(),
        session_end: claims.session_end(),
        user: claims.version().cloned(),
    };
    keys.sign(TYPE, &payload)
}

/// Whose ticket it is, and what to burn. Anything wrong is 401, saying what; `stream` is the canonical path that is asked for.
pub fn verify(
    ticket: &str,
    stream: &str,
    keys: &EdgeKeys,
    deployment: &str,
    now: u64,
) -> Result<(Claims, TicketId), Refusal> {
    let bad = |what: &str| refused(format!("ticket {what}"));
    let (_, payload): (_, Payload) = keys.open(TYPE, ticket).map_err(bad)?;
    if payload.aud != deployment {
        return Err(bad("is for another deployment"));
    }
    if payload.stream != stream {
        return Err(bad("is for another address"));
    }
    if payload.iat > now + LEEWAY || payload.exp > payload.iat.saturating_add(LIFETIME) {
        return Err(bad("is from the future"));
    }
    if payload.exp <= now || payload.session_end <= now {
        return Err(bad("expired"));
    }
    let claims = Claims::restored(payload.claims, payload.session_end, payload.user);
    Ok((claims, TicketId { id: payload.jti, expires: payload.exp }))
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use serde_json::json;

    use super::*;

    const STREAM: &str = "/messages/_streams/mine";

    fn keys(secret: &str) -> EdgeKeys {
        EdgeKeys::new([("k1", secret)]).unwrap()
    }

    fn ours() -> EdgeKeys {
        keys("the key that edge and backend share")
    }

    fn claims(session_end: u64) -> Claims {
        let Value::Object(claims) = json!({"sub":"uji"}) else { unreachable!() };
        Claims::restored(claims, session_end, None)
    }

    fn verified(
        ticket: &str,
        stream: &str,
        deployment: &str,
        now: u64,
    ) -> Result<(Claims, TicketId), String> {
        verify(ticket, stream, &ours(), deployment, now).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn a_ticket_is_its_holder_at_its_address_for_thirty_seconds() {
        let ticket = issue(&claims(5000), STREAM, &ours(), "chat", [1; 16], 1000).unwrap();
        let id = TicketId { id: URL_SAFE_NO_PAD.encode([1; 16]), expires: 1030 };
        for now in [970, 1000, 1029] {
            assert_eq!(verified(&ticket, STREAM, "chat", now), Ok((claims(5000), id.clone())), "{now}");
        }
        let refused = |stream, deployment, now| verified(&ticket, stream, deployment, now).unwrap_err();
        assert_eq!(refused(STREAM, "chat", 1030), "401 ticket expired");
        assert_eq!(refused(STREAM, "chat", 969), "401 ticket is from the future");
        assert_eq!(refused("/messages/_streams/all", "chat", 1000), "401 ticket is for another address");
        assert_eq!(refused(STREAM, "other", 1000), "401 ticket is for another deployment");
    }

    #[test]
    fn a_ticket_does_not_outlive_the_credentials_that_it_was_given_for() {
        let ticket = issue(&claims(1010), STREAM, &ours(), "chat", [1; 16], 1000).unwrap();
        assert_eq!(verified(&ticket, STREAM, "chat", 1010).unwrap_err(), "401 ticket expired");
    }

    #[test]
    fn a_forged_ticket_is_401() {
        let forged = keys("a key that nobody shares with us, no");
        let forged = issue(&claims(5000), STREAM, &forged, "chat", [1; 16], 1000).unwrap();
        let unknown = "401 ticket is not signed by a known key";
        assert_eq!(verified(&forged, STREAM, "chat", 1000).unwrap_err(), unknown);
        for odd in ["", "x", "a.b.c", "e30.e30.e30"] {
            assert_eq!(verified(odd, STREAM, "chat", 1000).unwrap_err(), "401 ticket is malformed", "{odd}");
        }
    }
}
