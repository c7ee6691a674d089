//! The place of a fault inside metadata: `streams[1].stages[0].$match`.

use std::fmt;

/// A path from the collection's metadata down to one value, written in the plain spelling.
#[derive(Clone, Debug)]
pub(super) struct Place(String);

/// What is wrong at which place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault(pub(super) String);

impl Place {
    pub(super) fn root(name: &str) -> Self {
        Self(name.to_owned())
    }

    pub(super) fn member(&self, key: &str) -> Self {
        Self(format!("{}.{key}", self.0))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    pub(super) fn fault(&self, what: impl fmt::Display) -> Fault {
        Fault(format!("{}: {what}", self.0))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
