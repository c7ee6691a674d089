//! The rules as a table: good and bad definitions and variables, read from `tests/cases/*.json`.
//!
//! The end-to-end tests open every accepted one on a real MongoDB, so they take this module by its path.
//! Some ask for pre- and post-images, which the collection has to record (`changeStreamPreAndPostImages`).

#![allow(unreachable_pub, reason = "a module of its own in whichever test includes it")]
#![allow(dead_code, reason = "each test uses its part")]

use bson::{Bson, DateTime, Document, bson, doc};
use shared::{
    definition::{Binding, Definition, Definitions},
    refusal::Refusal,
    shell_json,
    variables::{OperatorCheck, ServerVariables, Variables},
};

/// The time of every `@now` in the table.
pub const NOW: DateTime = DateTime::from_millis(1_700_000_000_000);

/// A row, the members of which are explained at the methods that read them.
pub struct Case(Document);

/// Definitions that hold, each with variables that bind it, and mostly with the pipeline that results.
pub fn accepted() -> Vec<Case> {
    rows(include_str!("../cases/accepted.json"))
}

/// Metadata that is refused, with the message.
pub fn refused() -> Vec<Case> {
    rows(include_str!("../cases/refused.json"))
}

/// Definitions that hold, with variables that are refused, or the pipeline that results.
pub fn variables() -> Vec<Case> {
    rows(include_str!("../cases/variables.json"))
}

fn rows(text: &str) -> Vec<Case> {
    let Ok(Bson::Array(rows)) = shell_json::parse(text) else { panic!("a table is an array") };
    rows.into_iter()
        .map(|row| match row {
            Bson::Document(row) => Case(row),
            other => panic!("a row is an object: {other}"),
        })
        .collect()
}

impl Case {
    /// What the case is called in a report.
    pub fn name(&self) -> String {
        self.text("promise").map_or_else(|| self.0.to_string(), str::to_owned)
    }

    /// The text under `member`, if there is one.
    pub fn text(&self, member: &str) -> Option<&str> {
        self.0.get_str(member).ok()
    }

    /// The metadata property of a case that gives `stages`.
    pub fn stream_of_stages(&self) -> Option<Bson> {
        self.0.contains_key("stages").then(|| self.streams())
    }

    /// The metadata property `streams`: given as such, or one stream `s` made of `stages` and the other members of a
    /// definition.
    pub fn streams(&self) -> Bson {
        if let Some(streams) = self.0.get("streams") {
            return streams.clone();
        }
        let mut stream = doc! { "uri": "s" };
        for member in ["uri", "stages", "fullDocument", "fullDocumentBeforeChange", "snapshot"] {
            if let Some(value) = self.0.get(member) {
                stream.insert(member, value.clone());
            }
        }
        bson!([stream])
    }

    /// The definition of a case that has one good stream.
    pub fn definition(&self) -> Definition {
        let definitions =
            Definitions::written(&self.streams()).unwrap_or_else(|e| panic!("{}: {e}", self.name()));
        let (_, definition) = definitions.iter().next().expect("there is one stream");
        definition.clone().expect("what was written holds")
    }

    /// Whether the row has this member.
    pub fn has(&self, member: &str) -> bool {
        self.0.contains_key(member)
    }

    /// The claims of the caller, if there is one.
    pub fn user(&self) -> Option<&Document> {
        self.0.get_document("user").ok()
    }

    /// The parameter `avars`, if the client sends one.
    pub fn avars(&self) -> Option<&str> {
        self.text("avars")
    }

    /// `@user` is `user`, absent for an anonymous caller; `operatorCheck: false` is the setting that turns the check off.
    pub fn bind(&self) -> Result<Binding, Refusal> {
        let check = if self.0.get_bool("operatorCheck").unwrap_or(true) {
            OperatorCheck::On
        } else {
            OperatorCheck::Off
        };
        let server = ServerVariables { user: self.user().cloned(), now: NOW };
        self.definition().bind(&Variables::parse(self.avars(), check)?, &server)
    }

    /// The pipeline that must result, if the case says.
    pub fn pipeline(&self) -> Option<Vec<Document>> {
        let stages = self.0.get_array("pipeline").ok()?;
        Some(stages.iter().filter_map(Bson::as_document).cloned().collect())
    }
}
