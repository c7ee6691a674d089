//! Who may do what, as a table: each identity asks each thing of `tests/cases/permissions.json` once.
//!
//! `DB` in it stands for a database that is served under its own name. An answer is `yes`, or a refusal: its status, and
//! where it is not the usual one its message. An identity that is not named gets the answer under `*`.
//!
//! The end-to-end tests ask the same of the backend and of the edge, so they take this module by its path.

#![allow(unreachable_pub, reason = "a module of its own in whichever test includes it")]

use serde_json::{Map, Value};

/// One question with its one answer.
#[derive(Clone, Debug)]
pub struct Case {
    /// Who asks: a name for reports.
    pub who: String,
    /// The claims of the token; without one, `null`.
    pub claims: Value,
    /// The method.
    pub method: String,
    /// Path and query, raw.
    pub target: String,
    /// The refusal; `None` for a yes.
    pub refusal: Option<(u16, Option<String>)>,
}

/// The table for one database.
#[derive(Clone, Debug)]
pub struct Table {
    /// The rules as they are stored.
    pub rules: Vec<Value>,
    /// Collections with their streams.
    pub collections: Map<String, Value>,
    /// The questions.
    pub cases: Vec<Case>,
}

/// The table, for a database of this name.
pub fn of(database: &str) -> Table {
    let text = include_str!("../cases/permissions.json").replace("DB", database);
    let table: Value = serde_json::from_str(&text).expect("the table is JSON");
    let object = |name: &str| table[name].as_object().expect("an object").clone();
    let array = |name: &str| table[name].as_array().expect("an array").clone();
    let identities = object("identities");
    let mut cases = Vec::new();
    for asked in array("asked") {
        let (method, target) = asked["ask"].as_str().and_then(|ask| ask.split_once(' ')).expect("a request");
        for (who, claims) in &identities {
            let answer = asked.get(who).unwrap_or(&asked["*"]).as_str().expect("an answer");
            let refusal = (answer != "yes").then(|| {
                let (status, message) = answer
                    .split_once(' ')
                    .map_or((answer, None), |(status, message)| (status, Some(message)));
                (status.parse().expect("a status"), message.map(str::to_owned))
            });
            cases.push(Case {
                who: who.clone(),
                claims: claims.clone(),
                method: method.to_owned(),
                target: target.to_owned(),
                refusal,
            });
        }
    }
    Table { rules: array("rules"), collections: object("collections"), cases }
}

impl Case {
    /// The message of the refusal: the usual one of its status where the table names none.
    pub fn message(&self) -> Option<(u16, String)> {
        let (status, message) = self.refusal.clone()?;
        let usual = if status == 401 { "credentials needed" } else { "no permission allows this" };
        Some((status, message.unwrap_or_else(|| usual.to_owned())))
    }
}
