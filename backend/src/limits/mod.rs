//! What one client can take of a node, counted: places at once, and streams asked for in a second.
//!
//! The limits and the texts of their refusals are `shared`'s; what is counted, is counted by each node for itself.

mod places;
mod rates;

pub use self::{
    places::{Place, Places},
    rates::Rates,
};
