//! What decides, as it goes from the backend to an edge worker.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bson::{Bson, Document, doc};
use serde::{Deserialize, Serialize};

use super::{Access, Mode, RolesClaim, Rules};
use crate::name::Namespace;

/// An [`Access`] in JSON. Rules are BSON in base64, so that their values keep their types.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    mode: WrittenMode,
    roles: RolesClaim,
    protected: Vec<Namespace>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenMode {
    Everybody,
    Holders,
    Rules(String),
}

impl From<&Access> for Written {
    fn from(access: &Access) -> Self {
        let mode = match &access.mode {
            Mode::Everybody => WrittenMode::Everybody,
            Mode::Holders => WrittenMode::Holders,
            Mode::Rules(rules) => {
                let bytes =
                    doc! { "rules": rules.documents() }.to_vec().expect("what was read as BSON is BSON");
                WrittenMode::Rules(STANDARD.encode(bytes))
            }
        };
        Self { mode, roles: access.roles.clone(), protected: access.protected.clone() }
    }
}

impl Written {
    /// What was written. The error says what is no BSON.
    pub fn read(&self) -> Result<Access, String> {
        let mode = match &self.mode {
            WrittenMode::Everybody => Mode::Everybody,
            WrittenMode::Holders => Mode::Holders,
            WrittenMode::Rules(encoded) => {
                let bytes = STANDARD.decode(encoded).map_err(|fault| format!("permissions: {fault}"))?;
                let read = Document::from_reader(bytes.as_slice());
                let document = read.map_err(|fault| format!("permissions: {fault}"))?;
                let rules = document.get_array("rules").map_err(|fault| format!("permissions: {fault}"))?;
                let rules: Vec<Document> = rules.iter().filter_map(Bson::as_document).cloned().collect();
                Mode::Rules(Rules::written(&rules))
            }
        };
        Ok(Access { mode, roles: self.roles.clone(), protected: self.protected.clone() })
    }
}
