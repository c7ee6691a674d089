//! What the end-to-end tests are written with: the two fronts of Tailrace, and clients that show what is on the wire.
//!
//! A test is an async function that takes a [`Front`], and runs once at the backend and once through the edge:
//!
//! ```no_run
//! use tailrace_tests::{Front, both_fronts};
//!
//! async fn a_written_document_arrives(front: Front) {
//!     let database = front.database().await;
//!     database.put("log", r#"{"streams": [{"uri": "all", "stages": []}]}"#).await;
//!     let mut socket = database.connect("log/_streams/all").await;
//!     database.post("log", r#"{"n": 1}"#).await;
//!     assert_eq!(socket.event().await["fullDocument"]["n"], 1);
//! }
//!
//! both_fronts!(a_written_document_arrives);
//! ```
//!
//! That nothing else arrived is seen by what comes next: write a second document that matches, and see it come first.
//!
//! `cargo xtask test` starts what the tests share, and tells them by the environment where it is; without it, each test
//! program starts its own. Tests that kill and restart start their own parts from the crate `parts`.

pub mod at_rest;
pub mod database;
pub mod event_source;
pub mod figures;
pub mod front;
pub mod issuer;
pub mod namespace;
pub mod own;
pub mod proxy;
pub mod random;
pub mod refusal;
pub mod ruled;
pub mod rules;
pub mod soak;
pub mod tab;
pub mod token;
pub mod web_socket;
pub mod witness;

pub use database::Database;
pub use event_source::EventSource;
pub use figures::Admin;
pub use front::Front;
pub use own::Own;
pub use parts::http::{Request, Response};
pub use web_socket::WebSocket;

use std::time::Duration;

/// How long anything that must come may take. Generous: only a failing test waits for so long.
pub const SOON: Duration = Duration::from_secs(10);

/// How long a whole test may take.
pub const WHOLE_TEST: Duration = Duration::from_mins(3);

/// Waits for what must come soon.
///
/// # Panics
/// When it does not.
pub async fn soon<T>(what: &str, come: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, come).await.unwrap_or_else(|_| panic!("{what}: not within {SOON:?}"))
}

/// Asks again and again until the answer is yes.
///
/// # Panics
/// When it does not become so soon.
pub async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    until_within(SOON, what, is_so).await;
}

/// The same, of what takes its time.
///
/// # Panics
/// When it does not become so within this time.
pub async fn until_within(within: Duration, what: &str, is_so: impl AsyncFn() -> bool) {
    let asking = async {
        while !is_so().await {
            tokio::time::sleep(parts::process::POLL).await;
        }
    };
    tokio::time::timeout(within, asking).await.unwrap_or_else(|_| panic!("{what}: not within {within:?}"));
}
