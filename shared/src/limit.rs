//! Limits: what one client can take, and how the refusal reads when it wants more.

use serde::{Deserialize, Serialize};

use crate::{
    address::MAX_URL_BYTES,
    refusal::{Kind, Refusal},
    request::{Head, Query},
    variables::MAX_AVARS_BYTES,
};

macro_rules! limits {
    ($( $(#[$doc:meta])* $limit:ident => $key:literal, $kind:ident, $over:literal; )*) => {
        /// The limits of requests and connections. Each is a key of the configuration, under `limits.`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Limit { $( $(#[$doc])* $limit, )* }

        impl Limit {
            /// Every limit, in the order of the table.
            pub const ALL: &'static [Limit] = &[ $( Limit::$limit, )* ];

            /// The key of the configuration, without `limits.`.
            pub const fn key(self) -> &'static str {
                match self { $( Limit::$limit => $key, )* }
            }

            const fn kind(self) -> Kind {
                match self { $( Limit::$limit => Kind::$kind, )* }
            }

            const fn over(self) -> &'static str {
                match self { $( Limit::$limit => $over, )* }
            }
        }
    };
}

limits! {
    /// Connections of all clients.
    Connections => "connections", Unavailable, "too many connections";
    /// Connections of one address; through the edge, streams of one address.
    ConnectionsPerAddress => "connections-per-address", TooMany, "too many connections from this address";
    /// Streams of one user.
    ConnectionsPerUser => "connections-per-user", TooMany, "too many streams of this user";
    /// Subscribers of one stream.
    ConnectionsPerStream => "connections-per-stream", Unavailable, "too many subscribers of this stream";
    /// Different bindings that one user, or one address of anonymous callers, follows.
    BindingsPerUser => "bindings-per-user", TooMany, "too many streams with different variables";
    /// Streams asked for by all clients, in a second.
    Upgrades => "upgrades-per-second", Unavailable, "too many streams are asked for";
    /// Streams asked for from one address, in a second.
    UpgradesPerAddress => "upgrades-per-second-per-address", TooMany, "too many streams are asked for from this address";
    /// The time in which a request's head arrives.
    HeaderTime => "header-timeout-ms", TooSlow, "the request's head takes too long";
    /// Bytes of a request's head.
    HeaderBytes => "header-bytes", HeadersTooLarge, "the request's head is too large";
    /// Bytes of path and query.
    UrlBytes => "url-bytes", UrlTooLong, "the URL is too long";
    /// Bytes of `avars`.
    AvarsBytes => "avars-bytes", BadVariables, "avars are too long";
    /// The time in which a request's body arrives.
    BodyTime => "body-timeout-ms", TooSlow, "the body takes too long";
    /// Bytes of a request's body: of a document.
    BodyBytes => "body-bytes", BodyTooLarge, "the body is too large";
    /// Statements of the edge that are remembered: requests that it passes on in two minutes.
    EdgeStatements => "edge-statements", Unavailable, "too many requests from the edge";
    /// The time in which MongoDB finds documents.
    ReadTime => "read-seconds", Unavailable, "the documents take too long to find";
    /// Bytes of the documents of one page.
    PageBytes => "page-bytes", BadRequest, "the documents are too large for one page, expected a smaller pagesize";
}

impl Limit {
    /// The refusal of a request over this limit, which is set to `most`. It says nothing of others.
    pub fn refusal(self, most: u64) -> Refusal {
        let message = format!("{}: limits.{} is {most}", self.over(), self.key());
        Refusal::new(self.kind(), message).over(self)
    }
}

/// The limits of what a request says, which the edge judges as the backend does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestLimits {
    /// Bytes of path and query together.
    pub url_bytes: usize,
    /// Bytes of `avars`, after percent-decoding.
    pub avars_bytes: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { url_bytes: MAX_URL_BYTES, avars_bytes: MAX_AVARS_BYTES }
    }
}

impl RequestLimits {
    /// 414 if path and query are longer than the limit.
    pub fn check_url(&self, head: &Head) -> Result<(), Refusal> {
        let length = head.path.len() + head.query.as_ref().map_or(0, |query| query.len() + 1);
        if length > self.url_bytes {
            let message = format!("URL of {length} bytes, expected at most {}", self.url_bytes);
            return Err(Refusal::new(Kind::UrlTooLong, message).over(Limit::UrlBytes));
        }
        Ok(())
    }

    /// 400 if `avars` are longer than the limit.
    pub fn check_variables(&self, head: &Head) -> Result<(), Refusal> {
        let query = Query::parse(head.query.as_deref())?;
        let length = query.get("avars").map_or(0, str::len);
        if length > self.avars_bytes {
            let message = format!("avars: {length} bytes, expected at most {}", self.avars_bytes);
            return Err(Refusal::new(Kind::BadVariables, message).over(Limit::AvarsBytes));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use http::{HeaderMap, Method};

    use super::*;

    fn head(query: String) -> Head {
        Head {
            method: Method::GET,
            path: "/".into(),
            query: Some(query),
            headers: HeaderMap::new(),
            peer: None,
        }
    }

    #[test]
    fn the_refusal_names_the_limit_and_says_when_to_come_back() {
        let refusal = Limit::ConnectionsPerUser.refusal(1000);
        assert_eq!(refusal.status().as_u16(), 429);
        assert_eq!(refusal.message(), "too many streams of this user: limits.connections-per-user is 1000");
        assert_eq!(refusal.headers(), [("retry-after", "10".to_owned())]);
        assert_eq!(refusal.limit(), Some(Limit::ConnectionsPerUser));
        let refusal = Limit::UpgradesPerAddress.refusal(100).retry_after(3);
        assert_eq!(refusal.headers(), [("retry-after", "3".to_owned())]);
        for limit in Limit::ALL {
            let refusal = limit.refusal(1);
            let waits = refusal.headers().iter().any(|(name, _)| *name == "retry-after");
            assert_eq!(waits, matches!(refusal.status().as_u16(), 429 | 503), "{limit:?}");
        }
    }

    #[test]
    fn a_url_over_the_limit_is_414() {
        let refusal = RequestLimits::default().check_url(&head("x".repeat(MAX_URL_BYTES))).expect_err("long");
        assert_eq!(refusal.message(), "URL of 16386 bytes, expected at most 16384");
        assert_eq!(refusal.limit(), Some(Limit::UrlBytes));
        let limits = RequestLimits { url_bytes: 10, ..RequestLimits::default() };
        assert_eq!(limits.check_url(&head("12345678".into())), Ok(()));
        assert!(limits.check_url(&head("123456789".into())).is_err());
    }

    #[test]
    fn avars_over_the_limit_are_400_by_their_decoded_length() {
        let limits = RequestLimits { avars_bytes: 7, ..RequestLimits::default() };
        assert_eq!(limits.check_variables(&head("avars=%7B%22n%22:1%7D".into())), Ok(()));
        assert_eq!(limits.check_variables(&head("x=1".into())), Ok(()));
        let refusal = limits.check_variables(&head("avars={\"n\":12}".into())).expect_err("long");
        assert_eq!(
            (refusal.status().as_u16(), refusal.message()),
            (400, "avars: 8 bytes, expected at most 7")
        );
    }
}
