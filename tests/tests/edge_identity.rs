//! What the edge says of a caller is believed once, for one request, and from nobody else.

use http::{Method, StatusCode};
use parts::backend::Backend;
use parts::deployment::{EDGE_KEY, EDGE_KEY_ID, guarded_backend, guarded_worker};
use parts::worker::{self, Worker};
use serde_json::json;
use shared::edge_key::EdgeKeys;
use shared::refusal::Kind;
use shared::statement::{Bound, Purpose, Statement, sign};
use tailrace_tests::front::{addresses, bounded};
use tailrace_tests::token::{hs256, now, valid};
use tailrace_tests::witness::{Seen, Witness};
use tailrace_tests::{Database, EventSource, Front, Request, Response, WebSocket, refusal};

/// The header under test, as its name goes over the wire.
const HEADER: &str = "Tailrace-Identity";

/// A worker before a backend that takes nothing but what comes through the edge, and all that passes between them.
struct Deployment {
    backend: Backend,
    witness: Witness,
    worker: Worker,
    database: Database,
}

impl Deployment {
    async fn start(name: &str) -> Self {
        Self::with(name, |worker| worker).await
    }

    /// With more of the worker's variables.
    async fn with(name: &str, more: impl FnOnce(worker::Options) -> worker::Options) -> Self {
        let options = guarded_backend(name, &addresses().await.mongodb)
            .set("TAILRACE_EDGE__REQUIRED", "true")
            .set("TAILRACE_AUTH__QUERY_PARAMETER", "securetoken");
        let backend = Backend::start(options).await.expect("a backend");
        let witness = Witness::before(&backend.url()).await;
        let worker = more(guarded_worker(name, &[&witness.url]));
        let worker = Worker::start(worker).await.expect("a worker");
        let database = Front::Native.database().await;
        let streams = r#"{"streams": [
            {"uri": "all", "stages": []},
            {"uri": "other", "stages": []},
            {"uri": "mine", "stages": [{"$match": {"fullDocument.owner": {"$var": "@user.sub"}}}]}
        ]}"#;
        database.put("log", streams).await;
        Self { database: database.at(&worker.url()), backend, witness, worker }
    }

    fn stream(&self) -> Request {
        Request::get(self.database.path("log/_streams/all"))
    }

    /// The last request of this path that came to the backend.
    fn seen(&self, inner: &str) -> Seen {
        let path = self.database.path(inner);
        let mut seen = self.witness.seen().into_iter().rev();
        seen.find(|seen| seen.target.split('?').next() == Some(&path))
            .unwrap_or_else(|| panic!("nothing of {path} came to the backend"))
    }

    /// Sends to the backend itself, with the `Host` that the edge used.
    async fn direct(&self, request: Request) -> Response {
        let host = self.witness.url.trim_start_matches("http://").to_owned();
        request.header("host", host).send(&self.backend.url()).await.expect("an answer")
    }
}

fn is_401(answer: &Response, what: &str) {
    refusal::is(answer, Kind::Unauthenticated, &format!("Tailrace-Identity {what}"), what);
}

/// A statement as the edge makes one, with any key.
fn statement(key: &str, deployment: &str, purpose: Purpose, bound: &Bound, id: u8, at: u64) -> String {
    let statement = Statement::of_edge(None);
    let keys = EdgeKeys::new([(EDGE_KEY_ID, key)]).expect("a long key");
    sign(&statement, purpose, bound, &keys, deployment, [id; 16], at).expect("there is a key")
}

#[tokio::test]
async fn a_backend_for_the_edge_takes_nothing_from_anybody_else() {
    bounded(async {
        let deployment = Deployment::start("edge-required").await;
        let missing = "is missing: this backend is reached through the edge";
        is_401(&deployment.direct(deployment.stream()).await, missing);
        // A good token does not stand in for the edge.
        is_401(&deployment.direct(deployment.stream().bearer(&valid(&json!({})))).await, missing);
        let post = Request::new(Method::POST, deployment.database.path("log")).json("{}");
        is_401(&deployment.direct(post.bearer(&valid(&json!({})))).await, missing);
        for inner in ["/_edge", "/_edge/app/log"] {
            let answer = deployment.direct(Request::get(inner).bearer(&valid(&json!({})))).await;
            is_401(&answer, "is missing: this address is for the edge");
        }
        let open = deployment.stream().bearer(&valid(&json!({})));
        let socket = WebSocket::open(&deployment.worker.url(), open).await.expect("through the edge");
        socket.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_captured_statement_is_worth_nothing() {
    bounded(async {
        let deployment = Deployment::start("replay").await;
        let open = deployment.stream().bearer(&valid(&json!({})));
        WebSocket::open(&deployment.worker.url(), open).await.expect("a good token").close().await;
        let captured = deployment.seen("log/_streams/all").header("tailrace-identity").map(str::to_owned);
        let captured = captured.expect("the edge states who calls");

        is_401(&deployment.direct(deployment.stream().header(HEADER, &captured)).await, "was used before");
        let host = deployment.witness.url.trim_start_matches("http://");
        let again = deployment.stream().header("host", host).header(HEADER, &captured);
        let again = WebSocket::open(&deployment.backend.url(), again).await;
        is_401(&again.expect_err("a used statement"), "was used before");

        // Bound to its method, host, path, and query: these fail before anybody asks whether it was used.
        let elsewhere = "is for another request";
        for request in [
            Request::get(deployment.database.path("log/_streams/other")),
            Request::get(deployment.database.path("log")),
            Request::get(deployment.database.path("log/_streams/all?avars={}")),
            Request::new(Method::POST, deployment.database.path("log/_streams/all")),
        ] {
            is_401(&deployment.direct(request.header(HEADER, &captured)).await, elsewhere);
        }
        let host = deployment.stream().header(HEADER, &captured);
        is_401(&host.send(&deployment.backend.url()).await.expect("an answer"), elsewhere);

        // Nor is what the edge shows for definitions good for a request, or the other way round.
        let asked = deployment.witness.seen();
        let asked = asked.iter().find(|seen| seen.target.starts_with("/_edge/")).expect("it asked");
        let for_definitions = asked.header("tailrace-identity").expect("signed as well");
        is_401(
            &deployment.direct(deployment.stream().header(HEADER, for_definitions)).await,
            "is for another deployment or purpose",
        );
        let definitions = Request::get(asked.target.clone());
        is_401(
            &deployment.direct(definitions.clone().header(HEADER, &captured)).await,
            "is for another deployment or purpose",
        );
        is_401(&deployment.direct(definitions.header(HEADER, for_definitions)).await, "was used before");
    })
    .await;
}

#[tokio::test]
async fn a_statement_counts_by_its_key_deployment_and_time() {
    bounded(async {
        let options = guarded_backend("statements", &addresses().await.mongodb);
        let backend = Backend::start(options).await.expect("a backend");
        let database = Front::Native.database().await.at(&backend.url());
        let path = database.path("log");
        let host = backend.url().trim_start_matches("http://").to_owned();
        let bound = Bound::new("GET", &host, &path, None);
        let request = Purpose::Request;
        let unsigned = format!("{}.e30.", "eyJhbGciOiJub25lIiwidHlwIjoidGFpbHJhY2UtaWRlbnRpdHkifQ");
        for (value, expected) in [
            (
                statement("a key that nobody shares with us here", "tailrace", request, &bound, 1, now()),
                "is not signed by a known key",
            ),
            (
                statement(EDGE_KEY, "another", request, &bound, 2, now()),
                "is for another deployment or purpose",
            ),
            (statement(EDGE_KEY, "tailrace", request, &bound, 3, now() - 120), "expired"),
            (statement(EDGE_KEY, "tailrace", request, &bound, 4, now() + 120), "is from the future"),
            (hs256(EDGE_KEY.as_bytes(), &json!({ "aud": "tailrace" })), "is malformed"),
            (unsigned, "is malformed"),
            ("forged".to_owned(), "is malformed"),
            (String::new(), "is malformed"),
        ] {
            // Beside a good token as well: a bad statement is never passed over.
            for token in [None, Some(valid(&json!({})))] {
                let request = Request::get(&path).header(HEADER, &value);
                let request = token.iter().fold(request, |request, token| request.bearer(token));
                is_401(&database.send(request).await, expected);
            }
        }
        let twice = statement(EDGE_KEY, "tailrace", request, &bound, 5, now());
        let twice = Request::get(&path).header(HEADER, &twice).header(HEADER, &twice);
        is_401(&database.send(twice).await, "is given twice");
        // The edge saying that nobody in particular calls opens nothing that is closed to such callers here.
        let anonymous = statement(EDGE_KEY, "tailrace", request, &bound, 6, now());
        let answer = database.send(Request::get(&path).header(HEADER, &anonymous)).await;
        refusal::is(
            &answer,
            Kind::Unauthenticated,
            "credentials needed, expected a Bearer token",
            "anonymous",
        );
    })
    .await;
}

#[tokio::test]
async fn a_forged_statement_ends_at_the_edge() {
    bounded(async {
        let deployment = Deployment::start("forged").await;
        let path = deployment.database.path("log/_streams/mine");
        let host = deployment.witness.url.trim_start_matches("http://").to_owned();
        // Even one that is signed with the real key.
        let bound = Bound::new("GET", &host, &path, None);
        let forged = statement(EDGE_KEY, "tailrace", Purpose::Request, &bound, 7, now());
        let alone = Request::get(&path).header(HEADER, &forged);
        let answer = refusal::of_any_kind(&deployment.worker.url(), alone.clone()).await;
        refusal::is(&answer, Kind::Unauthenticated, "credentials needed, expected a Bearer token", "alone");
        assert_eq!(deployment.witness.upgrades(), 0);

        let beside = alone.bearer(&valid(&json!({ "sub": "uji" })));
        let mut socket = WebSocket::open(&deployment.worker.url(), beside).await.expect("a good token");
        let stated: Vec<_> = deployment
            .seen("log/_streams/mine")
            .headers
            .into_iter()
            .filter(|(name, _)| name == "tailrace-identity")
            .map(|(_, value)| value)
            .collect();
        assert_eq!(stated.len(), 1);
        assert!(!stated[0].contains(&forged), "the edge's own alone");
        let database = deployment.database.at(Front::Native.open().await);
        database.post("log", r#"{"owner": "somebody else"}"#).await;
        database.post("log", r#"{"owner": "uji"}"#).await;
        assert_eq!(socket.event().await["fullDocument"]["owner"], "uji", "the caller is who the token says");
    })
    .await;
}

#[tokio::test]
async fn no_credential_of_the_caller_reaches_the_backend() {
    bounded(async {
        let deployment = Deployment::start("stripped").await;
        let token = valid(&json!({ "sub": "uji" }));
        let dressed = |inner: &str| {
            Request::get(deployment.database.path(inner))
                .bearer(&token)
                .header("cookie", format!("theme=dark; rh_auth=Bearer_{token}; __Host-tailrace={token}"))
                .header("x-forwarded-for", "192.0.2.1")
                .header("cf-connecting-ip", "192.0.2.1")
                .header("accept-language", "de")
        };
        let url = deployment.worker.url();
        let offer = format!("bearer.{token}, tailrace.plain");
        let upgrade = dressed("log/_streams/all?avars={}").header("sec-websocket-protocol", offer);
        WebSocket::open(&url, upgrade).await.expect("a good token").close().await;
        for ticket in ["ticket", "%74icket"] {
            let ticket = dressed(&format!("log/_streams/other?avars={{}}&{ticket}=secret"));
            EventSource::open(&url, ticket).await.expect("a good token");
        }
        let parameter =
            Request::get(deployment.database.path(&format!("log/_streams/mine?securetoken={token}")));
        WebSocket::open(&url, parameter).await.expect("a good token").close().await;
        assert_eq!(dressed("log").send(&url).await.expect("an answer").status, StatusCode::OK);
        let stream = json!({ "stream": deployment.database.path("log/_streams/all") }).to_string();
        let post = Request::new(Method::POST, "/_tickets").bearer(&token).json(stream);
        assert_eq!(post.send(&url).await.expect("an answer").status, StatusCode::OK);

        let seen = deployment.witness.seen();
        assert!(seen.iter().any(Seen::is_upgrade) && seen.iter().any(|seen| seen.method == "POST"));
        for seen in &seen {
            assert_eq!(seen.header("authorization"), None, "{}", seen.target);
            assert!(!seen.target.contains("secret") && !seen.target.contains("icket="), "{}", seen.target);
            assert!(!seen.target.contains("securetoken") && !seen.target.contains(&token), "{}", seen.target);
            for (name, value) in &seen.headers {
                assert!(!value.contains(&token) && !value.contains("bearer."), "{name}: {value}");
                assert!(name == "tailrace-identity" || !value.contains("192.0.2.1"), "{name}: {value}");
            }
        }
        let upgrade = deployment.seen("log/_streams/all");
        assert_eq!(upgrade.header("sec-websocket-protocol"), Some("tailrace.plain"));
        assert_eq!(upgrade.header("cookie"), Some("theme=dark"));
        assert_eq!(upgrade.header("accept-language"), Some("de"));
        assert!(upgrade.target.ends_with("?avars={}") || upgrade.target.ends_with("?avars=%7B%7D"));
        // Each request has a statement of its own.
        let mut stated: Vec<_> = seen.iter().filter_map(|seen| seen.header("tailrace-identity")).collect();
        assert_eq!(stated.len(), seen.len());
        stated.sort_unstable();
        stated.dedup();
        assert_eq!(stated.len(), seen.len());
    })
    .await;
}

#[tokio::test]
async fn a_service_token_is_shown_to_the_backend_and_a_clients_own_is_not() {
    bounded(async {
        let (id, secret) = ("0123abcd.access", "the secret of a service token");
        let secret = secret.replace(' ', "-");
        let deployment = Deployment::with("access", |worker| {
            worker.set("ACCESS_CLIENT_ID", id).set("ACCESS_CLIENT_SECRET", &secret)
        })
        .await;
        let dressed = |request: Request| {
            request
                .bearer(&valid(&json!({})))
                .header("cf-access-client-id", "forged.access")
                .header("cf-access-client-secret", "forged")
                .header("cf-access-jwt-assertion", "forged.by.somebody")
                .header("cf-access-authenticated-user-email", "forged@example.com")
        };
        let url = deployment.worker.url();
        WebSocket::open(&url, dressed(deployment.stream())).await.expect("a good token").close().await;
        let list = dressed(Request::get(deployment.database.path("log")));
        assert_eq!(list.send(&url).await.expect("an answer").status, StatusCode::OK);
        let seen = deployment.witness.seen();
        assert!(
            seen.iter().any(Seen::is_upgrade) && seen.iter().any(|seen| seen.target.starts_with("/_edge"))
        );
        for seen in &seen {
            let mut shown: Vec<_> =
                seen.headers.iter().filter(|(name, _)| name.starts_with("cf-access-")).cloned().collect();
            shown.sort();
            let expected = [
                ("cf-access-client-id".to_owned(), id.to_owned()),
                ("cf-access-client-secret".to_owned(), secret.clone()),
            ];
            assert_eq!(shown, expected, "{}", seen.target);
        }
        let log = std::fs::read_to_string(deployment.worker.log()).expect("its log");
        assert!(!log.contains(&secret) && !deployment.backend.logged().contains(&secret), "it is in a log");

        // Without one, what a client sends of it goes nowhere.
        let plain = Deployment::start("no-access").await;
        WebSocket::open(&plain.worker.url(), dressed(plain.stream()))
            .await
            .expect("a good token")
            .close()
            .await;
        let seen = plain.witness.seen();
        let names = seen.iter().flat_map(|seen| seen.headers.iter().map(|(name, _)| name.as_str()));
        assert!(!names.into_iter().any(|name| name.starts_with("cf-access-")));
    })
    .await;
}
