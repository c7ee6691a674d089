//! Names of databases, collections, and streams that an address may carry.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name, if it is one that an address may carry.
            pub fn new(name: &str) -> Option<Self> {
                let allowed: fn(&str) -> bool = $check;
                allowed(name).then(|| Self(name.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(name: String) -> Result<Self, String> {
                Self::new(&name).ok_or_else(|| format!("{name:?} is not a {}", stringify!($name)))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }
    };
}

name! {
    /// A database that an address may reach. `admin`, `config`, and `local` are MongoDB's own and never are; the
    /// forbidden characters and the 63 bytes are MongoDB's (manual, "Naming Restrictions"). Control characters are in no path.
    DatabaseName, |name| {
        !name.is_empty()
            && name.len() < 64
            && !matches!(name.to_ascii_lowercase().as_str(), "admin" | "config" | "local")
            && !name.starts_with('_')
            && !name.contains(['/', '\\', '.', ' ', '"', '$', '*', '<', '>', ':', '|', '?'])
            && !name.chars().any(char::is_control)
    }
}

name! {
    /// A collection that an address may reach. Those that begin with `_` hold metadata, those that begin with `system.`
    /// are MongoDB's (manual, "Naming Restrictions"). Control characters are in no path.
    CollectionName, |name| {
        !name.is_empty()
            && name.len() <= 200
            && !name.starts_with(['_', '.'])
            && !name.starts_with("system.")
            && !name.contains(['$', '/'])
            && !name.chars().any(char::is_control)
    }
}

name! {
    /// The `uri` of a stream: one segment of a path.
    StreamName, |name| {
        !name.is_empty()
            && name.len() <= 200
            && name != "."
            && name != ".."
            && !name.contains(['/', '\\'])
            && !name.chars().any(char::is_control)
    }
}

/// A collection with its database.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Namespace {
    /// The database.
    pub database: DatabaseName,
    /// The collection.
    pub collection: CollectionName,
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.collection)
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn system_names_are_no_addresses() {
        for name in ["admin", "config", "local", "Admin", "_x", "", "a.b", "a$b"] {
            assert_eq!(DatabaseName::new(name), None, "{name}");
        }
        for name in ["_properties", "system.users", "", "a$b", "_streams"] {
            assert_eq!(CollectionName::new(name), None, "{name}");
        }
        for name in ["", ".", "..", "a/b", "a\\b", "a\nb"] {
            assert_eq!(StreamName::new(name), None, "{name}");
        }
    }

    #[test]
    fn what_no_path_can_spell_is_no_name() {
        for name in ["a\0", "a\nb", "\u{1c}", "a\u{7f}", "a\u{85}"] {
            assert_eq!(DatabaseName::new(name), None, "{name:?}");
            assert_eq!(CollectionName::new(name), None, "{name:?}");
        }
    }
}
