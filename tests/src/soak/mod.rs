//! Runs under faults: a writer that numbers its inserts, and a crowd of clients that see each number once, in order.
//!
//! ```no_run
//! # async fn run(database: tailrace_tests::Database) {
//! use tailrace_tests::soak::{Crowd, Form, Servers, Writer};
//!
//! let servers = Servers::new(&database.server);
//! let crowd = Crowd::gather(&servers, &Form::ALL, 40, |_| database.path("log/_streams/all")).await;
//! let writer = Writer::start("mongodb://127.0.0.1:27017", &database, "log", 50, 0).await;
//! // … whatever may happen to servers and networks …
//! let written = writer.end().await;
//! crowd.all_have(written).await;
//! crowd.disperse().expect_clean(&[]);
//! # }
//! ```
//!
//! The same runs are short in `cargo xtask test` and whole in `cargo xtask soak`: [`Scale`].

mod churn;
mod client;
mod crowd;
mod delays;
mod members;
mod verdict;
mod wire;
mod writer;

pub use churn::Churn;
pub use crowd::{Crowd, Servers};
pub use delays::Delays;
pub use members::Members;
pub use verdict::{Seen, Verdict};
pub use wire::{Form, Refused, Told, Wire};
pub use writer::Writer;

/// How much of a run is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Few clients, few seconds.
    Short,
    /// As much as has been promised.
    Whole,
}

impl Scale {
    /// The variable by which `cargo xtask soak` asks for whole runs.
    pub const VARIABLE: &str = "TAILRACE_TEST_SCALE";

    /// What the environment asks for.
    pub fn given() -> Self {
        if std::env::var(Self::VARIABLE).is_ok_and(|scale| scale == "whole") {
            Self::Whole
        } else {
            Self::Short
        }
    }

    /// One of two values.
    pub fn pick<T>(self, short: T, whole: T) -> T {
        match self {
            Self::Short => short,
            Self::Whole => whole,
        }
    }
}
