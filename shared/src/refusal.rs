//! Why a request is refused: status, exception name, and message, decided in one table for the edge and the backend.

use std::fmt;

use http::StatusCode;
use serde_json::json;

use crate::{limit::Limit, request::Head};

macro_rules! kinds {
    ($( $(#[$doc:meta])* $kind:ident => $status:ident, $exception:literal; )*) => {
        /// The kinds of refusal. Each has one HTTP status and one exception name, the latter as RESTHeart's clients know it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind { $( $(#[$doc])* $kind, )* }

        impl Kind {
            /// Every kind, in the order of the table.
            pub const ALL: &'static [Kind] = &[ $( Kind::$kind, )* ];

            /// The HTTP status that answers it.
            pub const fn status(self) -> StatusCode {
                match self { $( Kind::$kind => StatusCode::$status, )* }
            }

            /// The `exception` member of the error body.
            pub const fn exception(self) -> &'static str {
                match self { $( Kind::$kind => $exception, )* }
            }
        }
    };
}

kinds! {
    /// A path, parameter, or header that is malformed.
    BadRequest => BAD_REQUEST, "BadRequestException";
    /// A `$var` whose variable the client did not send.
    VariableNotBound => BAD_REQUEST, "QueryVariableNotBoundException";
    /// `avars` that is not a JSON object, or holds what is no plain value.
    BadVariables => BAD_REQUEST, "InvalidVariablesException";
    /// An operator, regular expression, or code in `avars`.
    OperatorInVariables => BAD_REQUEST, "SecurityException";
    /// A variable whose name is the server's (`@…`).
    ReservedVariable => BAD_REQUEST, "ReservedVariableException";
    /// Metadata or a stream definition that breaks a rule; the message names the place.
    BadDefinition => BAD_REQUEST, "InvalidMetadataException";
    /// What MongoDB itself refuses to open.
    RefusedByMongo => BAD_REQUEST, "MongoCommandException";
    /// A body that is not the JSON that the API takes.
    BadBody => BAD_REQUEST, "JsonParseException";
    /// A position that this deployment did not give out for this stream.
    BadPosition => BAD_REQUEST, "InvalidPositionException";
    /// A plain GET of a stream that exists and would have been opened.
    NeedsUpgrade => BAD_REQUEST, "ChangeStreamRequiresUpgradeException";
    /// No credentials where some are needed, or bad ones.
    Unauthenticated => UNAUTHORIZED, "UnauthorizedException";
    /// Known, but not permitted.
    Forbidden => FORBIDDEN, "ForbiddenException";
    /// A claim that the stream's stages need and the identity lacks.
    ClaimMissing => FORBIDDEN, "ClaimNotBoundException";
    /// No such database, collection, stream, or document.
    NotFound => NOT_FOUND, "NotFoundException";
    /// A method that the address does not take.
    MethodNotAllowed => METHOD_NOT_ALLOWED, "MethodNotAllowedException";
    /// The request needs an `If-Match` that it lacks, or the name is taken.
    Conflict => CONFLICT, "ConflictException";
    /// `If-Match` names another version.
    PreconditionFailed => PRECONDITION_FAILED, "PreconditionFailedException";
    /// A request that does not arrive in time.
    TooSlow => REQUEST_TIMEOUT, "RequestTimeoutException";
    /// A body over the limit.
    BodyTooLarge => PAYLOAD_TOO_LARGE, "PayloadTooLargeException";
    /// A URL over the limit, 16 KiB unless configured.
    UrlTooLong => URI_TOO_LONG, "UriTooLongException";
    /// A WebSocket version other than 13 (RFC 6455, section 4.4).
    UpgradeRequired => UPGRADE_REQUIRED, "WebSocketVersionException";
    /// Headers over the limit.
    HeadersTooLarge => REQUEST_HEADER_FIELDS_TOO_LARGE, "HeadersTooLargeException";
    /// Too many connections or requests of one caller.
    TooMany => TOO_MANY_REQUESTS, "TooManyRequestsException";
    /// A stored definition that another tool broke.
    BrokenDefinition => INTERNAL_SERVER_ERROR, "InvalidMetadataException";
    /// A fault of ours.
    Internal => INTERNAL_SERVER_ERROR, "InternalServerErrorException";
    /// MongoDB, or every backend, does not answer.
    Unavailable => SERVICE_UNAVAILABLE, "ServiceUnavailableException";
}

/// A refused request: everything that its HTTP answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    kind: Kind,
    message: String,
    headers: Vec<(&'static str, String)>,
    limit: Option<Limit>,
}

impl Refusal {
    /// A refusal of `kind`; `message` is shown to the client and names the place and what was expected.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let headers = match kind {
            Kind::Unauthenticated => vec![("www-authenticate", "Bearer realm=\"tailrace\"".to_owned())],
            Kind::Unavailable => vec![("retry-after", "2".to_owned())],
            Kind::TooMany => vec![("retry-after", "10".to_owned())],
            Kind::UpgradeRequired => {
                vec![("sec-websocket-version", "13".to_owned()), ("upgrade", "websocket".to_owned())]
            }
            _ => Vec::new(),
        };
        Self { kind, message: message.into(), headers, limit: None }
    }

    /// Names Basic beside Bearer to a caller whose credentials are missing or bad, where passwords are accepted. Not to what a
    /// page fetches: the browser would open a window of its own, and ask for a password that the page never sees.
    #[must_use]
    pub fn offering_basic(mut self, head: &Head) -> Self {
        // Browsers send it, and say `navigate` for what stands in the address bar (Fetch, section 3.2).
        let is_fetched = head.header("sec-fetch-mode").is_some_and(|mode| mode != "navigate");
        if self.kind == Kind::Unauthenticated && !is_fetched {
            self.headers = vec![(
                "www-authenticate",
                "Bearer realm=\"tailrace\", Basic realm=\"tailrace\", charset=\"UTF-8\"".to_owned(),
            )];
        }
        self
    }

    /// 404 for an address under which no stream is declared, or whose collection or database does not exist.
    pub fn no_stream() -> Self {
        Self::new(Kind::NotFound, "Change Stream does not exist")
    }

    /// 405 naming the methods that the address takes, as `GET, POST`.
    pub fn method_not_allowed(method: &str, allow: &str) -> Self {
        let mut refusal = Self::new(
            Kind::MethodNotAllowed,
            format!("method {method} not allowed here, expected one of {allow}"),
        );
        refusal.headers.push(("allow", allow.to_owned()));
        refusal
    }

    /// The same, named as a limit's.
    #[must_use]
    pub fn over(self, limit: Limit) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// The same, with the seconds after which the client may come back.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.headers.retain(|(name, _)| *name != "retry-after");
        self.headers.push(("retry-after", seconds.to_string()));
        self
    }

    /// The limit that the request is over, if it is refused for that.
    pub fn limit(&self) -> Option<Limit> {
        self.limit
    }

    /// The kind, which decides status and exception name.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.kind.status()
    }

    /// The text shown to the client.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Headers that belong to the answer besides `Content-Type` and `Cache-Control`, names in lower case.
    pub fn headers(&self) -> &[(&'static str, String)] {
        &self.headers
    }

    /// The `application/json` body, with the members of both today's and older RESTHeart clients.
    pub fn body(&self) -> String {
        let status = self.status();
        json!({
            "http status code": status.as_u16(),
            "http status description": status.canonical_reason().unwrap_or_default(),
            "message": self.message,
            "_exceptions": [{ "exception": self.kind.exception(), "exception message": self.message }],
        })
        .to_string()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status().as_u16(), self.message)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn the_body_has_the_members_of_both_client_generations_in_order() {
        assert_eq!(
            Refusal::new(Kind::VariableNotBound, "variable n not bound").body(),
            r#"{"http status code":400,"http status description":"Bad Request","message":"variable n not bound","_exceptions":[{"exception":"QueryVariableNotBoundException","exception message":"variable n not bound"}]}"#
        );
    }

    #[test]
    fn a_password_is_asked_for_by_programs_and_in_the_address_bar_and_never_behind_a_page() {
        let names_basic = |mode: Option<&'static str>| {
            let mut headers = http::HeaderMap::new();
            if let Some(mode) = mode {
                headers.insert("sec-fetch-mode", http::HeaderValue::from_static(mode));
            }
            let head = Head { method: http::Method::GET, path: "/".into(), query: None, headers, peer: None };
            let refusal = Refusal::new(Kind::Unauthenticated, "credentials needed").offering_basic(&head);
            let [("www-authenticate", challenge)] = refusal.headers() else { panic!("{refusal:?}") };
            assert!(challenge.starts_with("Bearer realm"), "{challenge}");
            challenge.contains("Basic")
        };
        assert!(names_basic(None) && names_basic(Some("navigate")));
        for mode in ["cors", "same-origin", "no-cors", "websocket"] {
            assert!(!names_basic(Some(mode)), "{mode}");
        }
    }

    #[test]
    fn a_refused_method_names_those_that_work() {
        let refusal = Refusal::method_not_allowed("BREW", "GET, POST");
        assert_eq!(refusal.headers(), [("allow", "GET, POST".to_owned())]);
        assert_eq!(refusal.message(), "method BREW not allowed here, expected one of GET, POST");
    }
}
