//! What everything that reads the bytes of others promises, as functions that panic when a promise is broken.
//!
//! Each module is one target: its `run` takes any bytes whatever. That nothing panics is the least of the promises; the others
//! are written down where they are asserted. cargo-fuzz looks for bytes that break them (`libfuzzer/`), and the bytes
//! that it found worth keeping (`corpus/`) are run by every test of the workspace.

pub mod addresses;
pub mod avars;
pub mod client_messages;
pub mod definitions;
pub mod events;
pub mod frames;
pub mod input;
pub mod key_sets;
pub mod matcher;
pub mod positions;
pub mod queries;
pub mod request_lines;
pub mod requests;
pub mod shell_json;
pub mod statements;
pub mod tokens;
pub mod values;
pub mod visibility;
pub mod wire;

/// The name of a target, which is also that of the folder of its corpus, and what it runs.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("addresses", addresses::run),
    ("avars", avars::run),
    ("client_messages", client_messages::run),
    ("definitions", definitions::run),
    ("events", events::run),
    ("frames", frames::run),
    ("key_sets", key_sets::run),
    ("matcher", matcher::run),
    ("positions", positions::run),
    ("queries", queries::run),
    ("request_lines", request_lines::run),
    ("requests", requests::run),
    ("shell_json", shell_json::run),
    ("statements", statements::run),
    ("tokens", tokens::run),
    ("visibility", visibility::run),
];
