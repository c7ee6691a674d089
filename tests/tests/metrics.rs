//! What operators see of a node: its figures, on a listener that clients do not reach.

use http::{Method, StatusCode};
use parts::backend::Backend;
use parts::deployment::open_backend;
use tailrace_tests::front::{addresses, bounded};
use tailrace_tests::{Admin, Front, Request};

#[tokio::test]
async fn the_figures_follow_what_happens() {
    bounded(async {
        let (options, admin) = Admin::of(open_backend("metrics", &addresses().await.mongodb));
        let backend = Backend::start(options).await.expect("a backend");
        let database = Front::Native.database().await.at(&backend.url());
        database.put("log", r#"{"streams": [{"uri": "all", "stages": []}]}"#).await;
        let mut socket = database.connect("log/_streams/all").await;
        let mut events = database.event_source("log/_streams/all").await;
        assert!((admin.figure("connections").await - 2.0).abs() < 0.5, "{}", admin.figures().await);
        assert!((admin.figure(r#"subscribers{form="plain"}"#).await - 1.0).abs() < 0.5);
        assert!((admin.figure(r#"subscribers{form="sse"}"#).await - 1.0).abs() < 0.5);
        assert!((admin.figure("sources").await - 1.0).abs() < 0.5);
        assert!(admin.figure(r#"mongodb_connections{pool="streams"}"#).await >= 2.0);

        let event = {
            database.post("log", r#"{"n": 1}"#).await;
            socket.text().await
        };
        events.event().await;
        admin.shows("events_received_total", 1.0).await;
        admin.shows(r#"deliveries_total{form="plain"}"#, 1.0).await;
        admin.shows(r#"deliveries_total{form="sse"}"#, 1.0).await;
        let sent = admin.figure(r#"sent_bytes_total{form="plain"}"#).await;
        assert!((sent - f64::from(u32::try_from(event.len()).expect("small"))).abs() < 0.5, "{sent}");
        assert!((admin.figure("lag_seconds_count").await - 2.0).abs() < 0.5);

        let refused = database.refused("log/_streams/other").await;
        assert_eq!(refused.status, StatusCode::NOT_FOUND);
        admin.shows(r#"refusals_total{status="404",exception="NotFoundException"}"#, 1.0).await;

        database.put("log", r#"{"streams": []}"#).await;
        assert_eq!(socket.closed().await.0, 4002);
        admin.shows(r#"closes_total{code="4002"}"#, 2.0).await;
        drop((socket, events));
        admin.shows(r#"subscribers{form="plain"}"#, 0.0).await;
        admin.shows(r#"subscribers{form="sse"}"#, 0.0).await;
        admin.shows("sources", 0.0).await;
        admin.shows("connections", 0.0).await;
    })
    .await;
}

#[tokio::test]
async fn no_figure_names_a_user_an_address_or_what_clients_chose() {
    bounded(async {
        let (options, admin) = Admin::of(open_backend("labels", &addresses().await.mongodb));
        let backend = Backend::start(options).await.expect("a backend");
        let database = Front::Native.database().await.at(&backend.url());
        database.put("log", r#"{"streams": [{"uri": "all", "stages": []}]}"#).await;
        let _socket = database.connect("log/_streams/all?x=chosen").await;
        database.refused("chosen/_streams/chosen?avars={chosen:1}").await;
        let figures = admin.figures().await;
        for word in ["chosen", "127.0.0.1", &database.name, "log"] {
            assert!(!figures.contains(word), "{word} in\n{figures}");
        }
    })
    .await;
}

#[tokio::test]
async fn clients_do_not_reach_the_figures_and_operators_reach_nothing_else() {
    bounded(async {
        let (options, admin) = Admin::of(open_backend("admin", &addresses().await.mongodb));
        let backend = Backend::start(options).await.expect("a backend");
        for path in ["/_metrics", "/_metrics/", "/%5fmetrics"] {
            let answer = Request::get(path).send(&backend.url()).await.expect("an answer");
            assert!(answer.status.is_client_error(), "{path}: {}", answer.status);
        }
        tailrace_tests::until("the node is ready", async || {
            Request::get("/_ready").send(&admin.url).await.is_ok_and(|answer| answer.status == StatusCode::OK)
        })
        .await;
        for (path, status) in
            [("/_health", 200), ("/_ready", 200), ("/", 404), ("/test/log", 404), ("/_edge", 404)]
        {
            let answer = Request::get(path).send(&admin.url).await.expect("an answer");
            assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.text());
        }
        let answer = Request::new(Method::POST, "/_metrics").send(&admin.url).await.expect("an answer");
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
        let answer = Request::get("/_metrics").send(&admin.url).await.expect("an answer");
        assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
        assert!(answer.text().ends_with("# EOF\n"));
    })
    .await;
}
