//! A client that takes nothing, behind the edge: no part between it and MongoDB keeps for it what it does not take.

use parts::deployment::{open_backend, open_worker};
use tailrace_tests::front::{addresses, bounded};
use tailrace_tests::soak::{Form, Told, Wire, Writer};
use tailrace_tests::{Front, Own, until};
use tokio::sync::watch;

/// More than the buffers of the kernel, of the worker, and of the backend hold between them.
const MORE_THAN_FITS: i64 = 32 * 1024 * 1024;
const PADDING: i64 = 8 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_behind_the_edge_is_closed_as_too_slow_and_misses_nothing() {
    bounded(async {
        let mongodb = &addresses().await.mongodb;
        let options = open_backend("edge-slow", mongodb);
        let deployment = Own::with(options, |backend| open_worker("edge-slow", &[backend])).await;
        let streams = r#"{"streams": [{"uri": "all", "stages": []}]}"#;
        let database = deployment.declared(Front::Edge, streams).await;
        let (server, path) = (deployment.server(Front::Edge), database.path("log/_streams/all"));
        let mut reads = Wire::opened(&server, Form::V1Json, &path, None).await;
        let mut slow = Wire::opened(&server, Form::V1Json, &path, None).await;
        let writer =
            Writer::start(mongodb, &database, "log", 500, usize::try_from(PADDING).expect("small")).await;
        let (told, read) = watch::channel(0);
        let reading = tokio::spawn(async move {
            loop {
                let (n, _) = reads.number().await;
                assert_eq!(n, told.send_replace(n) + 1);
            }
        });
        writer.goes_on_for(MORE_THAN_FITS / PADDING).await;
        let written = writer.end().await;
        until("who reads has everything", async || *read.borrow() == written).await;
        reading.abort();

        // It reads what was on its way, is told, and comes back behind that.
        let (mut next, mut from) = (0, None);
        loop {
            match slow.heeded().await {
                Told::Number { n, position, .. } => {
                    assert_eq!(n, next + 1);
                    (next, from) = (n, Some(position));
                }
                Told::Close(code, reason) => {
                    assert_eq!(code, 4003, "{reason}");
                    break;
                }
                told => panic!("{told:?}"),
            }
        }
        assert!(next < written, "{next} of {written} were on its way");
        let mut back = Wire::opened(&server, Form::V1Json, &path, from.as_deref()).await;
        for n in next + 1..=written {
            assert_eq!(back.number().await.0, n);
        }
    })
    .await;
}
