//! The real parts that Tailrace runs with: found on this machine or fetched, started, and ended with whoever started them.
//!
//! One file a part: [`mongod`] and [`replica_set`] (the database), [`backend`] (our native server), [`worker`] (our edge
//! worker in Cloudflare's own runtime), [`chromium`] (a browser), [`peers`] (what is measured beside ours), and what builds or
//! brings them ([`tools`], [`npm`], [`apt`]).
//! [`deployment`] puts them together as `cargo xtask test` and the end-to-end tests use them.

pub mod apt;
pub mod backend;
mod checksum;
pub mod chromium;
pub mod deployment;
pub mod http;
pub mod mongod;
pub mod npm;
pub mod peers;
pub mod port;
pub mod process;
pub mod replica_set;
pub mod tools;
mod wheel;
pub mod worker;
pub mod workspace;
