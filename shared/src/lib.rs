//! The rules of Tailrace: what is an address, a definition, a variable, a credential, and how each refusal reads.
//!
//! The crate does no I/O, reads no clock, and starts no thread, so that the edge (wasm32) and the backend (native) judge
//! a request alike, and every rule is tested without a server.
//!
//! # Tests
//!
//! Every unit test runs natively and, the same one, on wasm32 under Node. A `tests` module says so in its imports, and the
//! tests in it stay plain `#[test]`s:
//!
//! ```text
//! #[cfg(target_arch = "wasm32")]
//! use wasm_bindgen_test::wasm_bindgen_test as test;
//! ```

pub mod address;
pub mod address_block;
pub mod admission;
pub mod client_message;
pub mod close;
pub mod credentials;
pub mod definition;
pub mod edge_definitions;
pub mod edge_key;
pub mod escape;
pub mod event_json;
pub mod explanation;
pub mod following;
pub mod identity;
pub mod jwks;
pub mod limit;
pub mod matcher;
pub mod name;
pub mod origin;
pub mod permission;
pub mod planner;
pub mod protocol;
pub mod readable;
pub mod refusal;
pub mod remote;
pub mod rendezvous;
pub mod request;
pub mod session_cookie;
pub mod shell_json;
pub mod statement;
pub mod ticket;
pub mod token;
pub mod variables;
pub mod view;
pub mod visibility;
