//! Why a binding has a source of its own, as data: for who writes definitions and permissions.

use std::fmt;

use crate::matcher::Unsupported;

/// What a stage or a filter of a plan comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The permission: its `readFilter` and `projectResponse`.
    Permission,
    /// A stage of the definition, by its place among them.
    Stage(usize),
    /// The recorded pre- and post-images.
    Images,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permission => f.write_str("permission"),
            Self::Stage(index) => write!(f, "stages[{index}]"),
            Self::Images => f.write_str("images"),
        }
    }
}

/// What stands in the way of sharing, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Where.
    pub origin: Origin,
    /// What.
    pub reason: Reason,
}

impl fmt::Display for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.reason)
    }
}

/// Why callers with other values, or with other filters of their permissions, cannot share a cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The stage holds what comes out differently in each cursor: `$$NOW`, `$rand`.
    Differs(String),
    /// A variable stands in a stage other than `$match`.
    Variable {
        /// The stage's operator.
        operator: String,
    },
    /// A `$match` that only MongoDB evaluates exactly.
    Unsupported(Unsupported),
    /// The stage would change what a `$match` before it reads.
    Changes {
        /// The stage's operator.
        operator: String,
        /// What that `$match` reads; empty for the whole event.
        path: Vec<String>,
    },
    /// The `$match` asks for what a projection behind an earlier one has dropped.
    Dropped {
        /// What it reads; empty for the whole event.
        path: Vec<String>,
    },
    /// The `$match` asks for the document, and lets updates pass that do not show theirs: a `readFilter` has it looked up,
    /// and `fullDocument` is `off`.
    Unshown {
        /// What it reads; empty for the whole event.
        path: Vec<String>,
    },
    /// The stage writes to an event of which the node drops something first.
    BehindDropped {
        /// The stage's operator.
        operator: String,
    },
    /// The stage writes or copies what the node drops of updates first.
    BehindUnshown {
        /// The stage's operator.
        operator: String,
    },
    /// The stage computes, behind a `$match` with a variable.
    Computes {
        /// The stage's operator.
        operator: String,
    },
    /// The stage stands before a `$match` with a variable, and may fail on events that this one keeps away.
    MayFail {
        /// The stage's operator.
        operator: String,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Differs(what) => write!(f, "{what} differs from cursor to cursor"),
            Self::Variable { operator } => write!(f, "a variable in {operator}"),
            Self::Unsupported(unsupported) => write!(f, "$match.{unsupported}"),
            Self::Changes { operator, path } if path.is_empty() => {
                write!(f, "{operator} changes the event, which a $match before it reads")
            }
            Self::Changes { operator, path } => {
                write!(f, "{operator} changes {}, which a $match before it reads", path.join("."))
            }
            Self::Dropped { path } if path.is_empty() => {
                f.write_str("the $match reads the event, of which a projection before it drops something")
            }
            Self::Dropped { path } => {
                write!(f, "the $match reads {}, which a projection before it drops", path.join("."))
            }
            Self::Unshown { path } if path.is_empty() => {
                f.write_str("the $match reads the event, of which updates do not show their document")
            }
            Self::Unshown { path } => {
                write!(f, "the $match reads {}, which updates do not show", path.join("."))
            }
            Self::BehindDropped { operator } => {
                write!(f, "{operator} behind a projection that drops what a $match reads")
            }
            Self::BehindUnshown { operator } => {
                write!(f, "{operator} behind what drops the documents of updates")
            }
            Self::Computes { operator } => write!(f, "{operator} behind a $match with a variable"),
            Self::MayFail { operator } => {
                write!(f, "{operator} may fail on events that a $match with a variable keeps away")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use bson::doc;

    use super::*;
    use crate::matcher::Matcher;

    #[test]
    fn each_reason_has_its_text() {
        let operator = || "$set".to_owned();
        let unsupported = Matcher::compile(&doc! { "a": { "$regex": "(?=a)" } }).unwrap_err();
        for (reason, text) in [
            (Reason::Differs("$$NOW".to_owned()), "$$NOW differs from cursor to cursor"),
            (Reason::Variable { operator: operator() }, "a variable in $set"),
            (Reason::Unsupported(unsupported), "$match.a.$regex: a special group is not evaluated here"),
            (
                Reason::Changes { operator: operator(), path: vec!["a".to_owned(), "b".to_owned()] },
                "$set changes a.b, which a $match before it reads",
            ),
            (
                Reason::Changes { operator: operator(), path: Vec::new() },
                "$set changes the event, which a $match before it reads",
            ),
            (Reason::Computes { operator: operator() }, "$set behind a $match with a variable"),
            (
                Reason::MayFail { operator: operator() },
                "$set may fail on events that a $match with a variable keeps away",
            ),
            (
                Reason::Dropped { path: vec!["a".to_owned(), "b".to_owned()] },
                "the $match reads a.b, which a projection before it drops",
            ),
            (
                Reason::Dropped { path: Vec::new() },
                "the $match reads the event, of which a projection before it drops something",
            ),
            (
                Reason::BehindDropped { operator: operator() },
                "$set behind a projection that drops what a $match reads",
            ),
            (
                Reason::Unshown { path: vec!["a".to_owned(), "b".to_owned()] },
                "the $match reads a.b, which updates do not show",
            ),
            (
                Reason::Unshown { path: Vec::new() },
                "the $match reads the event, of which updates do not show their document",
            ),
            (
                Reason::BehindUnshown { operator: operator() },
                "$set behind what drops the documents of updates",
            ),
        ] {
            assert_eq!(reason.to_string(), text);
        }
        let own = Own { origin: Origin::Stage(2), reason: Reason::Computes { operator: operator() } };
        assert_eq!(own.to_string(), "stages[2]: $set behind a $match with a variable");
        assert_eq!(
            [Origin::Permission, Origin::Images].map(|origin| origin.to_string()),
            ["permission", "images"]
        );
    }
}
