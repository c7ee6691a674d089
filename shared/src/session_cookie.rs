//! Our own cookie: a token kept by the browser, where no script can read it.

use http::{HeaderValue, Method};

use crate::{
    address::Route,
    credentials::{Credentials, OWN_COOKIE, Presented},
    origin::Verdict,
    refusal::{Kind, Refusal},
    request::Head,
};

/// The longest token that fits: browsers take cookies of 4096 bytes, name and attributes included (RFC 6265, section 6.1).
const LONGEST: usize = 3_800;

/// `Set-Cookie` for a page that has signed in with a token that was checked, until `session_end`; both times are in Unix
/// seconds. 400 for other credentials: a password belongs into no cookie, and a cookie not into another.
pub fn set(presented: &Presented, session_end: u64, now: u64) -> Result<HeaderValue, Refusal> {
    let bad = |message: &str| Refusal::new(Kind::BadRequest, message);
    let token = match &presented.credentials {
        Credentials::Token(token) if !presented.ambient => token,
        _ => return Err(bad("a session is opened with a token, expected Authorization: Bearer")),
    };
    if token.len() > LONGEST {
        return Err(bad("token longer than a cookie can be"));
    }
    let seconds = session_end.saturating_sub(now);
    let cookie = format!("{OWN_COOKIE}={token}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax");
    HeaderValue::try_from(cookie).map_err(|_| bad("token is not ASCII"))
}

/// Whether a page signs out that may. Its cookie is not judged: a bad one would never go, as no script can reach it.
pub fn signs_out(head: &Head, route: &Route, origin: &Verdict) -> bool {
    let may = origin.admit().is_ok() && origin.admit_ambient(head).is_ok();
    *route == Route::Session && head.method == Method::DELETE && may
}

/// `Set-Cookie` for a page that signs out.
pub fn clear() -> HeaderValue {
    // The attributes have to be those with which it was set.
    HeaderValue::from_static("__Host-tailrace=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax")
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::credentials::Basic;

    #[test]
    fn the_cookie_is_for_this_host_alone_and_no_script_reads_it() {
        let presented = Presented { credentials: Credentials::Token("a.b.c".into()), ambient: false };
        let cookie = set(&presented, 1600, 1000).unwrap();
        let expected = "__Host-tailrace=a.b.c; Path=/; Max-Age=600; Secure; HttpOnly; SameSite=Lax";
        assert_eq!(cookie, expected);
        assert!(clear().to_str().unwrap().starts_with(&format!("{OWN_COOKIE}=; Path=/; Max-Age=0; Secure;")));
    }

    #[test]
    fn nothing_but_a_token_that_fits_becomes_a_cookie() {
        let token = |text: &str| Credentials::Token(text.to_owned());
        let basic = Credentials::Basic(Basic { user: "u".into(), password: "p".into() });
        let expected = "400 a session is opened with a token, expected Authorization: Bearer";
        for (credentials, ambient, message) in [
            (basic, true, expected),
            (Credentials::Ticket("t".into()), false, expected),
            (token("a.b.c"), true, expected),
            (token(&"a".repeat(4000)), false, "400 token longer than a cookie can be"),
        ] {
            let refusal = set(&Presented { credentials, ambient }, 1600, 1000).unwrap_err();
            assert_eq!(refusal.to_string(), message);
        }
    }

    #[test]
    fn only_a_page_that_may_signs_out_unjudged() {
        let by = |method: Method, route: Route, origin: &Verdict| {
            let path = String::new();
            let head = Head { method, path, query: None, headers: http::HeaderMap::new(), peer: None };
            signs_out(&head, &route, origin)
        };
        assert!(by(Method::DELETE, Route::Session, &Verdict::Own));
        assert!(by(Method::DELETE, Route::Session, &Verdict::Listed("https://app.example".into())));
        for origin in [Verdict::Absent, Verdict::Any, Verdict::Foreign] {
            assert!(!by(Method::DELETE, Route::Session, &origin), "{origin:?}");
        }
        assert!(!by(Method::POST, Route::Session, &Verdict::Own));
        assert!(!by(Method::DELETE, Route::Tickets, &Verdict::Own));
    }
}
