//! What one client can take: each limit refuses with its name and the time to come back, frees what has ended, and leaves
//! others alone.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::{Method, StatusCode};
use parts::backend::{Backend, Options};
use parts::deployment::{guarded_backend, open_backend, open_worker};
use parts::worker::Worker;
use serde_json::json;
use shared::limit::Limit;
use tailrace_tests::front::{addresses, bounded};
use tailrace_tests::{
    Admin, Database, EventSource, Front, Request, Response, WebSocket, refusal, soon, token, until,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const STREAMS: &str = r#"{"streams": [
    {"uri": "all", "stages": []},
    {"uri": "other", "stages": []},
    {"uri": "mine", "stages": [{"$match": {"fullDocument.name": {"$var": "n"}}}]}
]}"#;

/// A node with limits of its own, that counts loopback addresses as any other.
struct Node {
    backend: Backend,
    admin: Admin,
    database: Database,
}

impl Node {
    async fn start(name: &str, limits: &[(&str, &str)]) -> Self {
        Self::of(open_backend(name, &addresses().await.mongodb), limits).await
    }

    async fn guarded(name: &str, limits: &[(&str, &str)]) -> Self {
        Self::of(guarded_backend(name, &addresses().await.mongodb), limits).await
    }

    async fn of(options: Options, limits: &[(&str, &str)]) -> Self {
        let (mut options, admin) = Admin::of(options);
        options = options.set("TAILRACE_LIMITS__UNCOUNTED_ADDRESSES", "[]");
        for (limit, value) in limits {
            let name = limit.to_uppercase().replace('-', "_");
            options = options.set(&format!("TAILRACE_LIMITS__{name}"), *value);
        }
        let backend = Backend::start(options).await.expect("a backend");
        let database = Front::Native.database().await.at(&backend.url());
        // Directly: the node's own limits are for the test alone.
        let streams: bson::Document = serde_json::from_str(STREAMS).expect("JSON");
        let mut properties = streams;
        properties.insert("_id", "_properties.log");
        database.mongo.create_collection("log").await.expect("a collection");
        database.mongo.collection("_properties").insert_one(properties).await.expect("metadata");
        Self { backend, admin, database }
    }

    fn ask(&self, inner: &str) -> Request {
        Request::get(self.database.path(inner))
    }

    async fn open(&self, request: Request) -> Result<WebSocket, Box<Response>> {
        WebSocket::open(&self.database.server, request).await
    }

    async fn hits(&self, limit: Limit) -> f64 {
        self.admin.figure(&format!(r#"limit_hits_total{{limit="{}"}}"#, limit.key())).await
    }
}

fn is_refused(response: &Response, limit: Limit, most: u64) {
    let expected = limit.refusal(most);
    assert_eq!((response.status, response.text()), (expected.status(), expected.body()));
    let seconds: u64 = response.header("retry-after").parse().expect("seconds in Retry-After");
    assert!((1..=60).contains(&seconds), "{seconds}");
}

fn elsewhere() -> IpAddr {
    Ipv4Addr::new(127, 0, 0, 9).into()
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_others_have_theirs() {
    bounded(async {
        let node = Node::start("per-address", &[("connections-per-address", "3")]).await;
        let mut sockets = Vec::new();
        for _ in 0..2 {
            sockets.push(node.open(node.ask("log/_streams/all")).await.expect("a place"));
        }
        let events = EventSource::open(&node.database.server, node.ask("log/_streams/all")).await;
        let events = events.expect("the last place");
        let refused = node.open(node.ask("log/_streams/all")).await.expect_err("no place");
        is_refused(&refused, Limit::ConnectionsPerAddress, 3);
        // A connection is one, whatever it asks for.
        is_refused(&node.database.get("log").await, Limit::ConnectionsPerAddress, 3);
        assert!(node.hits(Limit::ConnectionsPerAddress).await >= 2.0);
        let other = node.open(node.ask("log/_streams/all").from_address(elsewhere())).await;
        let mut other = other.expect("another address");

        drop(events);
        until("the place of the event stream is free", async || {
            node.open(node.ask("log/_streams/all")).await.is_ok()
        })
        .await;
        let last = sockets.pop().expect("a socket");
        last.close().await;
        until("the place of the WebSocket is free", async || {
            node.database.get("log").await.status.is_success()
        })
        .await;
        node.database.post("log", r#"{"n": 1}"#).await;
        assert_eq!(other.event().await["fullDocument"]["n"], 1);
    })
    .await;
}

#[tokio::test]
async fn all_together_have_so_many_connections() {
    bounded(async {
        let node = Node::start("in-all", &[("connections", "2")]).await;
        let held = [
            TcpStream::connect(("127.0.0.1", node.backend.port())).await.expect("a connection"),
            TcpStream::connect(("127.0.0.1", node.backend.port())).await.expect("a connection"),
        ];
        until("both are seen", async || node.admin.figure("connections").await > 1.5).await;
        is_refused(&node.database.get("log").await, Limit::Connections, 2);
        drop(held);
        until("the places are free", async || node.database.get("log").await.status.is_success()).await;
    })
    .await;
}

#[tokio::test]
async fn a_user_has_so_many_streams_at_whatever_address() {
    bounded(async {
        let node = Node::guarded("per-user", &[("connections-per-user", "2")]).await;
        let of = |claims| node.ask("log/_streams/all").bearer(&token::valid(&claims));
        let alice = || of(json!({ "sub": "alice" }));
        let held = [
            node.open(alice()).await.expect("a place"),
            node.open(alice().from_address(elsewhere())).await.expect("a place"),
        ];
        let refused = refusal::of_any_kind(&node.database.server, alice()).await;
        is_refused(&refused, Limit::ConnectionsPerUser, 2);
        assert!((node.hits(Limit::ConnectionsPerUser).await - 3.0).abs() < 0.5);
        node.open(of(json!({ "sub": "bob" }))).await.expect("another user").close().await;
        let other_issuer = of(json!({ "sub": "alice", "iss": "https://other.example" }));
        node.open(other_issuer).await.expect("another alice").close().await;
        drop(held);
        until("the places are free", async || node.open(alice()).await.is_ok()).await;
    })
    .await;
}

#[tokio::test]
async fn a_stream_has_so_many_subscribers_and_the_next_stream_its_own() {
    bounded(async {
        let node = Node::start("per-stream", &[("connections-per-stream", "2")]).await;
        let first = node.open(node.ask("log/_streams/mine?avars={n:1}")).await.expect("a place");
        let _second = node.open(node.ask("log/_streams/mine?avars={n:2}")).await.expect("a place");
        let refused = node.open(node.ask("log/_streams/mine?avars={n:1}")).await.expect_err("no place");
        is_refused(&refused, Limit::ConnectionsPerStream, 2);
        node.open(node.ask("log/_streams/all")).await.expect("another stream").close().await;
        first.close().await;
        until("the place is free", async || {
            node.open(node.ask("log/_streams/mine?avars={n:1}")).await.is_ok()
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_thousand_bindings_of_one_user_are_refused_behind_the_first_hundred() {
    bounded(async {
        let limits = [
            ("upgrades-per-second-per-address", "10000"),
            ("connections-per-address", "10000"),
            // The sockets are held and not read: on a busy machine the thousand take longer than a ping has for its answer.
            ("pong-seconds", "600"),
        ];
        let node = Node::guarded("bindings", &limits).await;
        let of = |user: &str, n: u32| {
            node.ask(&format!("log/_streams/mine?avars={{n:{n}}}"))
                .bearer(&token::valid(&json!({ "sub": user })))
        };
        let mut held = Vec::new();
        for n in 0..1_000 {
            match node.open(of("mallory", n)).await {
                Ok(socket) => held.push(socket),
                Err(refused) => is_refused(&refused, Limit::BindingsPerUser, 100),
            }
        }
        assert_eq!(held.len(), 100);
        assert!((node.hits(Limit::BindingsPerUser).await - 900.0).abs() < 0.5);
        assert!(node.admin.figure("sources").await < 101.0);
        // The same values again are no further binding; another user has bindings of its own.
        node.open(of("mallory", 7)).await.expect("a binding that it has").close().await;
        node.open(of("alice", 5_000)).await.expect("another user").close().await;
        held.pop().expect("a socket").close().await;
        until("the binding is free", async || node.open(of("mallory", 2_000)).await.is_ok()).await;
    })
    .await;
}

#[tokio::test]
async fn an_address_that_asks_too_often_is_refused_before_anything_else_is_judged() {
    bounded(async {
        let node = Node::guarded("rate", &[("upgrades-per-second-per-address", "5")]).await;
        let bad = || node.ask("log/_streams/all").bearer("no token");
        let mut refused = 0;
        for _ in 0..20 {
            let asked = Instant::now();
            let answer = node.open(bad()).await.expect_err("no good token");
            if answer.status == StatusCode::TOO_MANY_REQUESTS {
                is_refused(&answer, Limit::UpgradesPerAddress, 5);
                assert!(
                    asked.elapsed() > Duration::from_millis(400),
                    "who hears it at once asks again at once"
                );
                refused += 1;
            } else {
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
            }
        }
        assert!(refused > 0, "all 20 were judged");
        assert!((node.hits(Limit::UpgradesPerAddress).await - f64::from(refused)).abs() < 0.5);
        let elsewhere = node.open(bad().from_address(elsewhere())).await.expect_err("no good token");
        assert_eq!(elsewhere.status, StatusCode::UNAUTHORIZED, "another address has its own rate");
        let good = || node.ask("log/_streams/all").bearer(&token::valid(&json!({})));
        until("the rate allows it again", async || node.open(good()).await.is_ok()).await;
    })
    .await;
}

#[tokio::test]
async fn a_crowd_that_is_refused_together_does_not_hear_it_together() {
    bounded(async {
        let node = Node::guarded("rate-of-crowd", &[("upgrades-per-second-per-address", "1")]).await;
        let asked = Instant::now();
        let heard = join_all((0..40).map(async |_| {
            let answer =
                node.open(node.ask("log/_streams/all").bearer("no token")).await.expect_err("no good token");
            (answer.status == StatusCode::TOO_MANY_REQUESTS).then(|| asked.elapsed())
        }))
        .await;
        let heard: Vec<Duration> = heard.into_iter().flatten().collect();
        assert!(heard.len() >= 30, "{} of 40 are over the rate", heard.len());
        let (first, last) = (heard.iter().min().expect("some"), heard.iter().max().expect("some"));
        assert!(
            last.saturating_sub(*first) > Duration::from_millis(200),
            "all between {first:?} and {last:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn all_together_ask_so_often() {
    bounded(async {
        let node = Node::start("rate-in-all", &[("upgrades-per-second", "3")]).await;
        let mut refused = None;
        for _ in 0..50 {
            if let Err(answer) = node.open(node.ask("log/_streams/all")).await {
                refused = Some(answer);
            }
        }
        is_refused(&refused.expect("a refusal"), Limit::Upgrades, 3);
        assert_eq!(node.database.get("log").await.status, StatusCode::OK, "documents are no streams");
    })
    .await;
}

#[tokio::test]
async fn reads_of_documents_are_bounded_in_time_and_in_bytes() {
    bounded(async {
        let node = Node::start("reads", &[("read-seconds", "1"), ("page-bytes", "2000")]).await;
        let text = "x".repeat(500);
        let documents = (0..200).map(|n| bson::doc! { "n": n, "text": &text });
        node.database.mongo.collection("log").insert_many(documents).await.expect("the insert");
        assert_eq!(node.database.get("log?pagesize=3").await.status, StatusCode::OK);
        let refused = node.database.get("log?pagesize=4").await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        let message = "too large for one page, expected a smaller pagesize: limits.page-bytes is 2000";
        assert!(refused.text().contains(message), "{}", refused.text());

        // Some milliseconds for each document.
        let sum = |input: &str| {
            format!("{{$reduce:{{input:{input},initialValue:0,in:{{$add:['$$value','$n']}}}}}}")
        };
        let many = sum("{$range:[0,100000]}");
        let dear = tailrace_tests::database::encoded(&format!("{{$expr:{{$lt:[{many},0]}}}}"));
        let since = Instant::now();
        let refused = node.database.get(&format!("log?filter={dear}")).await;
        is_refused(&refused, Limit::ReadTime, 1);
        assert!(since.elapsed() < Duration::from_secs(5), "it took {:?}", since.elapsed());
        assert_eq!(node.database.get("log?pagesize=1").await.status, StatusCode::OK);
        for limit in [Limit::ReadTime, Limit::PageBytes] {
            assert!((node.hits(limit).await - 1.0).abs() < 0.5);
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_too_large_or_too_late_is_refused_with_the_limit() {
    bounded(async {
        let limits = [
            ("url-bytes", "400"),
            ("avars-bytes", "20"),
            ("body-bytes", "100"),
            ("body-timeout-ms", "300"),
            ("header-timeout-ms", "300"),
            ("header-bytes", "8192"),
        ];
        let node = Node::start("sizes", &limits).await;
        let long = node.ask(&format!("log/_streams/all?x={}", "x".repeat(400)));
        let refused = refusal::of_any_kind(&node.database.server, long).await;
        assert_eq!(refused.status, StatusCode::URI_TOO_LONG);
        assert!(refused.text().contains("expected at most 400"), "{}", refused.text());
        let refused = node.database.refused("log/_streams/mine?avars={n:'0123456789012345'}").await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        assert!(refused.text().contains("avars: 22 bytes, expected at most 20"), "{}", refused.text());
        let document = json!({ "text": "x".repeat(100) }).to_string();
        let refused = node.database.request(Method::POST, "log", &document).await;
        assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(refused.text().contains("body over 100 bytes"), "{}", refused.text());

        let head =
            format!("POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{{", node.database.path("log"));
        let answer = sent(&node, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("the body takes too long: limits.body-timeout-ms is 300"), "{answer}");
        let large = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(10_000));
        let answer = sent(&node, large.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        for half in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: x\r\nx: "] {
            assert_eq!(sent(&node, half.as_bytes()).await, "", "{half:?} is closed");
        }
        for (limit, hits) in [
            (Limit::UrlBytes, 3.0),
            (Limit::AvarsBytes, 1.0),
            (Limit::BodyBytes, 1.0),
            (Limit::BodyTime, 1.0),
            (Limit::HeaderBytes, 1.0),
            (Limit::HeaderTime, 3.0),
        ] {
            until(limit.key(), async || (node.hits(limit).await - hits).abs() < 0.5).await;
        }
    })
    .await;
}

/// All that the node answers to these bytes until it closes the connection.
async fn sent(node: &Node, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", node.backend.port())).await.expect("a connection");
    stream.write_all(bytes).await.expect("sent");
    let mut answer = Vec::new();
    // A connection that is reset has said what it had to.
    let _ = soon("the end of the connection", stream.read_to_end(&mut answer)).await;
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn two_thousand_half_sent_requests_hold_no_more_than_the_places_of_their_address() {
    bounded(async {
        let limits = [("connections-per-address", "200"), ("header-timeout-ms", "2000")];
        let node = Node::start("slowloris", &limits).await;
        let attacker: IpAddr = Ipv4Addr::new(127, 0, 0, 66).into();
        let mut half_sent = Vec::new();
        for _ in 0..2_000 {
            let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
            socket.bind((attacker, 0).into()).expect("an address of this machine");
            let connected = socket.connect(([127, 0, 0, 1], node.backend.port()).into());
            let mut stream = connected.await.expect("the kernel accepts");
            let _ = stream.write_all(b"GET /_health HTTP/1.1\r\nhost:").await;
            half_sent.push(stream);
        }
        // On a busy machine the first are too late before the last have come: their places were taken again.
        until("each holds a place, or has been turned away", async || {
            let connections = node.admin.figure("connections").await;
            let turned_away = node.hits(Limit::ConnectionsPerAddress).await;
            connections + turned_away + node.hits(Limit::HeaderTime).await > 1_999.5
        })
        .await;
        assert!(node.admin.figure("connections").await < 201.0);
        assert!(node.hits(Limit::ConnectionsPerAddress).await > 999.5);
        let mut socket = node.open(node.ask("log/_streams/all")).await.expect("others come in");
        node.database.post("log", r#"{"n": 1}"#).await;
        assert_eq!(socket.event().await["fullDocument"]["n"], 1);
        until("what arrives too late is closed", async || node.admin.figure("connections").await < 1.5).await;
        assert!(node.hits(Limit::HeaderTime).await > 199.5, "every place was held until it was too late");
    })
    .await;
}

#[tokio::test]
async fn behind_the_edge_it_is_the_client_that_is_counted() {
    bounded(async {
        // The worker's own connections are from one address, as a tunnel's are: what stands for many is not counted.
        let limits = [
            ("connections-per-address", "2"),
            ("uncounted-addresses", "['127.0.0.0/8', '::1/128']"),
            ("url-bytes", "400"),
            ("avars-bytes", "20"),
        ];
        let node = Node::start("behind-the-edge", &limits).await;
        let worker = Worker::start(open_worker("limits", &[&node.backend.url()])).await.expect("a worker");
        let edge = node.database.at(&worker.url());
        let from =
            |address: &str, inner: &str| Request::get(edge.path(inner)).header("cf-connecting-ip", address);
        let open =
            async |address: &str| WebSocket::open(&edge.server, from(address, "log/_streams/all")).await;
        let first = open("2001:db8::1").await.expect("a place");
        let _second = open("2001:db8::2").await.expect("a place");
        let refused = open("2001:db8::3").await.expect_err("no place in this /64");
        is_refused(&refused, Limit::ConnectionsPerAddress, 2);
        open("2001:db8:0:1::1").await.expect("another /64").close().await;
        first.close().await;
        until("the place is free", async || open("2001:db8::3").await.is_ok()).await;

        // What a request says is judged by the same limits on both sides.
        for inner in [
            format!("log/_streams/all?x={}", "x".repeat(400)),
            "log/_streams/mine?avars={n:'0123456789012345'}".into(),
        ] {
            let native = node.database.get(&inner).await;
            let edge =
                soon("an answer", from("192.0.2.1", &inner).send(&edge.server)).await.expect("an answer");
            assert!(native.status.is_client_error(), "{inner}: {}", native.status);
            assert_eq!((native.status, native.text()), (edge.status, edge.text()), "{inner}");
        }
    })
    .await;
}
