//! The rules of Tailrace: what is an address, a definition, a variable, a credential, and how each refusal reads.
//!
//! The crate does no I/O, reads no clock, and starts no thread, so that the edge (wasm32) and the backend (native) judge
//! a request alike, and every rule is tested without a server.

pub mod address;
pub mod close;
pub mod credentials;
pub mod edge_definitions;
pub mod event_json;
pub mod identity;
pub mod jwks;
pub mod name;
pub mod origin;
pub mod protocol;
pub mod refusal;
pub mod remote;
pub mod rendezvous;
pub mod request;
pub mod token;
