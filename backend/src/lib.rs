//! The native server: holds MongoDB's change streams, and forwards their events to clients.
//!
//! An event's way is the order of the modules: a [`cursor`] reads it (`read_ahead`), its [`source`] hands it on, the [`hub`] knows who
//! shares the source, `fan_out` brings it to them, as the `schedule` has it: onto the `wire`, or where something is ahead of it into the queue of a [`subscription`], out of which
//! [`websocket`] or [`sse`] writes it. A request's way is [`server`] → [`routes`] →
//! [`app`] → [`stream`] or [`api`]. What is declared comes from [`metadata`], is kept by the [`catalog`], and is followed
//! by the [`watcher`]. Who may do what is decided by the [`permission`]s; the [`sessions`] that they let in are judged
//! again when they change. What operators need to know is counted in [`metrics`], and answered by [`admin`].

pub mod admin;
pub mod answer;
pub mod api;
pub mod app;
pub mod authentication;
pub mod backoff;
mod batch;
mod beat;
pub mod body;
pub mod catalog;
pub mod catch_up;
pub mod collection_path;
pub mod config;
pub mod cursor;
pub mod edge;
pub mod event;
pub mod expiry;
pub mod explain;
mod fan_out;
pub mod follow;
pub mod health;
pub mod hub;
pub mod known;
pub mod limits;
pub mod listen;
pub mod logging;
mod members;
pub mod metadata;
pub mod metrics;
pub mod mongo;
pub mod permission;
pub mod position;
mod read_ahead;
pub mod renewal;
pub mod replay;
pub mod request_line;
pub mod routes;
mod schedule;
pub mod seal;
pub mod server;
pub mod sessions;
pub mod snapshot;
pub mod source;
pub mod sse;
pub mod stream;
pub mod subscription;
pub mod tls;
pub mod view;
mod waiting;
pub mod watcher;
pub mod websocket;
mod wire;
