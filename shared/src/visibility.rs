//! What a caller may see of a collection, and which documents a caller may write.
//!
//! A rule names it in three members: `readFilter` and `writeFilter` are filters as `$match` takes them, over documents,
//! and `projectResponse` is a projection. [`Template::check`] judges them once, when the configuration is read;
//! [`Template::resolve`] puts in the values of one caller. The documents API, the streams, and the snapshots all apply
//! the [`Visibility`] that comes out.

mod filter;
mod judge;
mod projection;
mod screened;
mod stages;
mod update;
mod writing;

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use bson::{Document, doc};

pub use judge::{Judge, Verdict};
pub use projection::{Projection, Shown};
pub use screened::Screened;
pub use stages::of_documents;
pub(crate) use stages::without_documents_of_updates;
pub use writing::{merge_into, merge_into_update};

use self::filter::Filter;
use crate::{refusal::Refusal, variables::ServerVariables};

/// What a rule says about visibility, checked; the server's variables still stand in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    read_filter: Option<Filter>,
    write_filter: Option<Filter>,
    projection: Projection,
}

impl Template {
    /// Checks the members of a rule.
    ///
    /// In a filter, a text that is `@user.<claim>`, `@user`, or `@now` stands for that value; `{"$in": "@user.teams"}` takes
    /// a claim that is a list. Only operators are accepted that this crate evaluates exactly as MongoDB does, since the hub
    /// judges by them as well. The error names the place and what was expected.
    pub fn check(
        read_filter: Option<&Document>,
        write_filter: Option<&Document>,
        project_response: Option<&Document>,
    ) -> Result<Self, String> {
        let filter = |name, written: Option<&Document>| {
            written
                .filter(|written| !written.is_empty())
                .map(|written| Filter::check(name, written))
                .transpose()
        };
        Ok(Self {
            read_filter: filter("readFilter", read_filter)?,
            write_filter: filter("writeFilter", write_filter)?,
            projection: project_response.map(Projection::check).transpose()?.unwrap_or_default(),
        })
    }

    /// Puts the caller's values in. 403 naming the claim where one is absent, or is no value for its place.
    pub fn resolve(&self, server: &ServerVariables) -> Result<Visibility, Refusal> {
        let resolve =
            |filter: &Option<Filter>| filter.as_ref().map(|filter| filter.resolve(server)).transpose();
        Ok(Visibility::new(
            resolve(&self.read_filter)?,
            resolve(&self.write_filter)?,
            self.projection.clone(),
        ))
    }
}

/// What one caller may see and write. Two are equal exactly when their filters and projections are equal as BSON.
#[derive(Clone, Debug)]
pub struct Visibility {
    read_filter: Option<Document>,
    write_filter: Option<Document>,
    projection: Projection,
    bytes: Vec<u8>,
}

impl PartialEq for Visibility {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Visibility {}

impl Hash for Visibility {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

impl fmt::Display for Visibility {
    /// For who explains a rule: `readFilter { "tenant": "a" }, projectResponse { "salary": 0 }`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let projection = self.projection.document();
        let parts = [
            ("readFilter", self.read_filter.as_ref()),
            ("writeFilter", self.write_filter.as_ref()),
            ("projectResponse", (!projection.is_empty()).then_some(&projection)),
        ];
        let mut comma = "";
        for (name, part) in parts {
            if let Some(part) = part {
                write!(f, "{comma}{name} {part}")?;
                comma = ", ";
            }
        }
        Ok(())
    }
}

impl Default for Visibility {
    fn default() -> Self {
        Self::everything()
    }
}

impl Visibility {
    fn new(read_filter: Option<Document>, write_filter: Option<Document>, projection: Projection) -> Self {
        let all = doc! {
            "readFilter": read_filter.clone(),
            "writeFilter": write_filter.clone(),
            "projection": projection.document(),
        };
        let bytes =
            all.to_vec().expect("no key holds NUL: those of the configuration and of claims were checked");
        Self { read_filter, write_filter, projection, bytes }
    }

    /// What equality goes by.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Every document, whole.
    pub fn everything() -> Self {
        Self::new(None, None, Projection::default())
    }

    /// The same, with a field of the documents hidden whatever else is shown.
    #[must_use]
    pub fn without(&self, field: &str) -> Self {
        let projection = self.projection.clone().without(field);
        Self::new(self.read_filter.clone(), self.write_filter.clone(), projection)
    }

    /// The same without the filter of writes: what readers share does not differ by what they may write.
    #[must_use]
    pub fn of_reads(&self) -> Self {
        Self::new(self.read_filter.clone(), None, self.projection.clone())
    }

    /// Whether it is [`Self::everything`].
    pub fn is_everything(&self) -> bool {
        self.shows_everything() && self.write_filter.is_none()
    }

    /// Whether it hides nothing from a reader.
    pub fn shows_everything(&self) -> bool {
        self.read_filter.is_none() && self.projection.is_everything()
    }

    /// What a document must match to be seen; `None` for all.
    pub fn read_filter(&self) -> Option<&Document> {
        self.read_filter.as_ref()
    }

    /// What a document must match, besides, to be written; `None` for all.
    pub fn write_filter(&self) -> Option<&Document> {
        self.write_filter.as_ref()
    }

    /// How much of a document is seen.
    pub fn projection(&self) -> &Projection {
        &self.projection
    }
}

#[cfg(test)]
mod tests {
    use bson::DateTime;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn of(user: Document) -> ServerVariables {
        ServerVariables { user: Some(user), now: DateTime::from_millis(0) }
    }

    #[test]
    fn callers_with_equal_values_have_equal_visibility() {
        let written = doc! { "tenant": "@user.tenant", "teams": { "$in": "@user.teams" } };
        let template = Template::check(Some(&written), Some(&doc! { "owner": "@user.sub" }), None).unwrap();
        let visibility = |sub, tenant| {
            template.resolve(&of(doc! { "sub": sub, "tenant": tenant, "teams": ["x"] })).unwrap()
        };
        let one = visibility("ada", "a");
        assert_eq!(one.read_filter(), Some(&doc! { "tenant": "a", "teams": { "$in": ["x"] } }));
        assert_eq!(one.write_filter(), Some(&doc! { "owner": "ada" }));
        assert_eq!(one, visibility("ada", "a"));
        assert_ne!(one, visibility("bob", "a"));
        assert_eq!(one.of_reads(), visibility("bob", "a").of_reads());
        assert_ne!(one.of_reads(), visibility("ada", "b").of_reads());
        assert_eq!(
            one.to_string(),
            r#"readFilter { "tenant": "a", "teams": { "$in": ["x"] } }, writeFilter { "owner": "ada" }"#
        );
    }

    #[test]
    fn an_absent_claim_and_one_that_does_not_fit_its_place_are_403() {
        let written = doc! { "tenant": "@user.tenant", "team": { "$in": "@user.teams" } };
        let template = Template::check(Some(&written), None, None).unwrap();
        for (user, message) in [
            (doc! { "teams": ["x"] }, "403 variable @user.tenant not bound"),
            (doc! { "teams": ["x"], "tenant": null }, "403 variable @user.tenant not bound"),
            (doc! { "tenant": "a", "teams": "x" }, "403 readFilter.team.$in: expected an array"),
            (
                doc! { "tenant": { "$ne": "a" }, "teams": ["x"] },
                "403 variable @user.tenant holds a key that begins with $, expected a plain value",
            ),
        ] {
            assert_eq!(template.resolve(&of(user)).unwrap_err().to_string(), message);
        }
        let anonymous = ServerVariables { user: None, now: DateTime::from_millis(0) };
        assert_eq!(
            template.resolve(&anonymous).unwrap_err().to_string(),
            "403 variable @user.tenant not bound"
        );
    }

    #[test]
    fn a_filter_that_cannot_be_evaluated_here_is_refused_with_its_place() {
        for (written, message) in [
            (
                doc! { "a": "@usr.x" },
                "readFilter.a: \"@usr.x\" is no variable of the server, expected @user, @user.<claim>, or @now",
            ),
            (doc! { "$where": "1" }, "readFilter.$where: not supported here"),
            (
                doc! { "$or": [{ "a": { "$near": 1 } }] },
                "readFilter.$or[0].a.$near: not an operator that is evaluated here",
            ),
            (doc! { "$and": [] }, "readFilter.$and: expected an array of at least one filter"),
            (doc! { "$or": ["@user"] }, "readFilter.$or[0]: expected a filter (an object)"),
            (doc! { "a": { "$in": 1 } }, "readFilter.a.$in: expected an array"),
            (doc! { "a": { "$var": "n" } }, "readFilter.a.$var: not an operator that is evaluated here"),
        ] {
            let refused = Template::check(Some(&written), None, None).unwrap_err();
            assert!(refused.starts_with(message), "{refused}");
        }
        assert!(
            Template::check(Some(&doc! {}), None, Some(&doc! {}))
                .unwrap()
                .resolve(&of(doc! {}))
                .unwrap()
                .is_everything()
        );
    }
}
