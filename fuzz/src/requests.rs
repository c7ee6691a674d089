//! Whole heads of requests for a stream: credentials, sub-protocols, parameters, at the edge and behind it.

use std::{str::FromStr as _, sync::LazyLock};

use bson::{DateTime, bson, doc};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use shared::{
    admission::{self, Admitted, Wanted},
    credentials::{self, Credentials},
    definition::Definitions,
    limit::RequestLimits,
    name::StreamName,
    origin::Origins,
    permission::Grant,
    refusal::{Kind, Refusal},
    request::Head,
    statement::HEADER,
    variables::{OperatorCheck, ServerVariables},
};

use crate::values::bytes;

static DEFINITIONS: LazyLock<Definitions> = LazyLock::new(|| {
    Definitions::written(&bson!([{
        "uri": "s",
        "stages": [{ "$match": { "fullDocument.n": { "$var": ["n", 1] } } }],
        "snapshot": { "limit": 10 },
    }]))
    .expect("it holds")
});

static ORIGINS: LazyLock<Origins> =
    LazyLock::new(|| Origins::new(["https://app.example", "https://app.example:8443"]).expect("origins"));

/// The lines of the input: `METHOD path?query`, then headers.
pub fn run(data: &[u8]) {
    let Some(head) = head(data) else { return };
    let _ = ORIGINS.headers(&ORIGINS.judge(&head.headers));
    if let Ok(()) = RequestLimits::default().check_url(&head) {
        assert!(
            head.path.len() + head.query.as_ref().map_or(0, String::len) <= shared::address::MAX_URL_BYTES
        );
    }
    if let Err(refusal) = Credentials::of(&head.headers, head.query.as_deref(), None) {
        assert!(matches!(refusal.kind(), Kind::Unauthenticated | Kind::BadRequest), "{refusal}");
    }
    let behind = stripped(&head);
    let none = Credentials::of(&behind.headers, behind.query.as_deref(), None);
    assert_eq!(none, Ok(None), "credentials go on to the backend");
    assert!(!behind.headers.contains_key(HEADER), "only the edge says who calls");
    let again = stripped(&behind);
    assert_eq!((&again.headers, &again.query), (&behind.headers, &behind.query), "what is off is off");

    if let Ok(admitted) = judged(&head) {
        assert!(matches!(head.method, Method::GET | Method::HEAD));
        if let Wanted::Upgrade { negotiated, .. } = &admitted.request.wanted {
            assert!(
                negotiated.echo.is_none_or(|name| name.starts_with("tailrace.")),
                "a bearer is no answer"
            );
        }
        let other =
            judged(&behind).unwrap_or_else(|refusal| panic!("the edge lets it pass, and then: {refusal}"));
        assert_eq!(other.request, admitted.request, "both judge alike");
        assert_eq!(other.binding, admitted.binding, "both judge alike");
        bytes(&bson!(admitted.binding.pipeline().to_vec()));
    }
}

fn head(data: &[u8]) -> Option<Head> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let first = std::str::from_utf8(lines.next()?).ok()?;
    let (method, target) = first.split_once(' ')?;
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    let mut headers = HeaderMap::new();
    for line in lines.take(16) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        headers.append(name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?);
    }
    let method = Method::from_str(method).ok()?;
    Some(Head { method, path: path.to_owned(), query, headers, peer: None })
}

/// As the edge passes it on.
fn stripped(head: &Head) -> Head {
    let mut behind = head.clone();
    behind.query = credentials::strip(&mut behind.headers, head.query.as_deref(), None, &HEADER);
    behind
}

fn judged(head: &Head) -> Result<Admitted, Refusal> {
    let server = ServerVariables { user: Some(doc! { "sub": "uji" }), now: DateTime::from_millis(0) };
    let name = StreamName::new("s").expect("a name");
    admission::judge(head, Some(&DEFINITIONS), &name, &Grant::everything(), &server, OperatorCheck::On)
}
