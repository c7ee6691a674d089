//! Several processes at one port: they share MongoDB and nothing else, and one of them can go while the others stay.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use http::StatusCode;
use parts::backend::{Backend, Options};
use parts::deployment::open_backend;
use parts::port;
use tailrace_tests::figures::Admin;
use tailrace_tests::front::{bounded, mongodb};
use tailrace_tests::soak::{Crowd, Form, Servers, Writer};
use tailrace_tests::{Database, Request, until};
use tokio::task::JoinHandle;

const CLIENTS: usize = 32;

/// How long a process may take to end: `limits.drain-seconds`, and a machine that is busy.
const ENDS_WITHIN: Duration = Duration::from_secs(15);

/// A process at a port that others have too.
async fn process(name: &str, port: u16, mongodb: &str) -> (Backend, Admin) {
    let options = open_backend(name, mongodb).set("TAILRACE_REUSE_PORT", "true");
    let (options, admin) = Admin::of(Options { port: Some(port), ..options });
    (Backend::start(options).await.expect("a process at the port"), admin)
}

/// How many clients follow a stream there.
async fn subscribers(admin: &Admin) -> usize {
    let figures = admin.figures().await;
    let of_forms = figures.lines().filter(|line| line.starts_with("tailrace_subscribers{"));
    of_forms.filter_map(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok()).sum()
}

/// Who asks something on a new connection each time, as long as that is answered.
struct Newcomers {
    answered: Arc<AtomicUsize>,
    task: JoinHandle<String>,
}

impl Newcomers {
    fn at(server: &str) -> Self {
        let (server, answered) = (server.to_owned(), Arc::<AtomicUsize>::default());
        let count = Arc::clone(&answered);
        let task = tokio::spawn(async move {
            loop {
                match Request::get("/_health").send(&server).await {
                    Ok(answer) if answer.status == StatusCode::OK => {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(answer) => return format!("{} {}", answer.status, answer.text()),
                    Err(error) => return format!("{error:#}"),
                }
            }
        });
        Self { answered, task }
    }

    /// How many were answered: all of them.
    fn answered(&mut self) -> usize {
        if let Some(Ok(failure)) = (&mut self.task).now_or_never() {
            panic!("a new connection failed: {failure}");
        }
        self.answered.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn one_of_two_processes_at_a_port_goes_and_its_clients_go_on_at_the_other() {
    bounded(async {
        let mongodb = mongodb().await;
        let port = port::free().expect("a port");
        let (mut one, at_one) = process("shared-port-one", port, mongodb).await;
        let (mut other, at_other) = process("shared-port-other", port, mongodb).await;
        let database = Database::new(&one.url(), mongodb).await;
        database.put("log", r#"{"streams": [{"uri": "all", "stages": []}]}"#).await;

        let servers = Servers::new(&database.server);
        let crowd = Crowd::gather(&servers, &Form::ALL, CLIENTS, |_| database.path("log/_streams/all")).await;
        let spread = [subscribers(&at_one).await, subscribers(&at_other).await];
        println!("{spread:?} clients at the two processes");
        assert!(!spread.contains(&0), "the kernel spreads them");

        let writer = Writer::start(mongodb, &database, "log", 100, 0).await;
        let mut newcomers = Newcomers::at(&database.server);
        for goes in [Goes::One, Goes::Other] {
            writer.goes_on_for(50).await;
            crowd.all_have(writer.written()).await;
            let (process, stays) = match goes {
                Goes::One => (&mut one, &at_other),
                Goes::Other => (&mut other, &at_one),
            };
            let answered = newcomers.answered();
            let ended = process.terminate(ENDS_WITHIN).await.expect("it drains");
            assert!(ended.success(), "{ended}");
            until("all clients are at the one that stays", async || subscribers(stays).await == CLIENTS)
                .await;
            writer.goes_on_for(50).await;
            crowd.all_have(writer.written()).await;
            assert!(newcomers.answered() > answered);
            process.restart().await.expect("it comes back to the port");
        }
        newcomers.answered();
        newcomers.task.abort();
        let written = writer.end().await;
        crowd.all_have(written).await;
        let verdict = crowd.disperse();
        let moved = u64::try_from(CLIENTS).expect("few");
        assert!(verdict.reconnects() >= moved, "all had to move once at least");
        verdict.expect_clean(&[]);
    })
    .await;
}

/// Which process is replaced, as for a new version of the program.
#[derive(Clone, Copy)]
enum Goes {
    One,
    Other,
}
