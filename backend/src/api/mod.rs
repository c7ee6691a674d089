//! The document and metadata API: as much of RESTHeart's as an application of streams needs.

pub mod collection;
pub mod database;
pub mod definition_check;
pub mod document;
pub mod precondition;
pub mod query;
pub mod representation;
pub mod sign_in;
