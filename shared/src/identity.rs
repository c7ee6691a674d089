//! Who calls: nobody in particular, or somebody of whom claims are known.

use std::sync::Arc;

use bson::{Bson, Document};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Who calls.
#[derive(Clone, Debug, PartialEq)]
pub enum Identity {
    /// Nobody in particular: the request carried no credentials, and the deployment lets such requests in.
    Anonymous,
    /// The holder of a token.
    Verified(Claims),
}

/// One user, whatever token speaks for it: `iss` and `sub` (RFC 7519, section 4.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct User {
    issuer: Option<Arc<str>>,
    subject: Arc<str>,
}

/// The claims of a verified token, or what is known of a user whose password was right; made only by such a check, or by
/// that of the edge's signature.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    members: Map<String, Value>,
    session_end: u64,
    user: Option<UserVersion>,
}

/// Which version of a user's document claims come from, so that nobody goes on who was changed or removed since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserVersion {
    /// Changes with the password and the roles.
    pub access: String,
    /// Changes with anything.
    pub whole: String,
}

/// The end of sessions that nothing but a change of their user ends; later than any.
const NEVER: u64 = 1 << 53;

impl Claims {
    /// Claims that somebody's credentials were found to give, for a session that ends at a Unix time in seconds.
    pub fn new(claims: Map<String, Value>, session_end: u64) -> Self {
        Self { members: claims, session_end, user: None }
    }

    /// What is known of a user who has shown the right password, as relaxed Extended JSON. For whoever checked it.
    pub fn of_user(claims: Map<String, Value>, version: UserVersion) -> Self {
        Self { members: claims, session_end: NEVER, user: Some(version) }
    }

    /// What another holder of the keys has signed.
    pub(crate) fn restored(claims: Map<String, Value>, session_end: u64, user: Option<UserVersion>) -> Self {
        Self { members: claims, session_end, user }
    }

    /// The claims as they stand in the token.
    pub fn as_object(&self) -> &Map<String, Value> {
        &self.members
    }

    /// The claims as BSON, for `@user`. In a token a string stays a string and an object an object, whatever they look like;
    /// a user's document keeps its types.
    pub fn document(&self) -> Document {
        let bson = |value: &Value| match &self.user {
            None => plain(value),
            Some(_) => Bson::try_from(value.clone()).unwrap_or_else(|_| plain(value)),
        };
        self.members.iter().map(|(name, value)| (name.clone(), bson(value))).collect()
    }

    /// The version of the user's document, of somebody who came with a password.
    pub fn version(&self) -> Option<&UserVersion> {
        self.user.as_ref()
    }

    /// The name of whoever these are of: `sub`.
    pub fn subject(&self) -> Option<&str> {
        self.members.get("sub").and_then(Value::as_str)
    }

    /// Whom the token speaks of; `None` where it has no `sub`.
    pub fn user(&self) -> Option<User> {
        let text = |name: &str| self.members.get(name).and_then(Value::as_str).map(Into::into);
        Some(User { issuer: text("iss"), subject: text("sub")? })
    }

    /// When a session on these claims ends, in Unix seconds.
    pub fn session_end(&self) -> u64 {
        self.session_end
    }

    /// Whether these are the same holder's as `other`: issuer and subject are the same. Tokens that name no subject are the
    /// same holder's only when all that they say is the same, apart from when.
    pub fn is_of_same_holder(&self, other: &Self) -> bool {
        let same = |name: &&str| self.members.get(*name) == other.members.get(*name);
        if !HOLDER.iter().all(same) {
            return false;
        }
        let lasting = |claims: &Map<String, Value>| {
            let mut claims = claims.clone();
            claims.retain(|name, _| !PASSING.contains(&name.as_str()));
            claims
        };
        self.members.contains_key("sub") || lasting(&self.members) == lasting(&other.members)
    }
}

/// The claims that say whose a token is; `_id` is that of a user who signed in with a password.
const HOLDER: &[&str] = &["iss", "sub", "_id"];

/// The claims that differ from one token of a holder to the next (RFC 7519, section 4.1).
const PASSING: &[&str] = &["exp", "iat", "nbf", "jti"];

impl Identity {
    /// The claims, of a verified identity.
    pub fn claims(&self) -> Option<&Claims> {
        match self {
            Self::Anonymous => None,
            Self::Verified(claims) => Some(claims),
        }
    }
}

/// Whether a name here or below has a NUL in it: BSON has no such name, and no filter that holds the claim could be one.
pub(crate) fn has_nul(name: &str, value: &Value) -> bool {
    let below = |value: &Value| has_nul("", value);
    name.contains('\0')
        || match value {
            Value::Array(values) => values.iter().any(below),
            Value::Object(members) => members.iter().any(|(name, value)| has_nul(name, value)),
            _ => false,
        }
}

fn plain(value: &Value) -> Bson {
    match value {
        Value::Null => Bson::Null,
        Value::Bool(value) => Bson::Boolean(*value),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => i32::try_from(whole).map_or(Bson::Int64(whole), Bson::Int32),
            None => Bson::Double(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Bson::String(text.clone()),
        Value::Array(values) => Bson::Array(values.iter().map(plain).collect()),
        Value::Object(members) => {
            Bson::Document(members.iter().map(|(name, value)| (name.clone(), plain(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use bson::doc;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_holder_is_known_by_issuer_and_subject() {
        let same = |one: Value, other: Value| {
            let claims = |value: Value| match value {
                Value::Object(claims) => Claims::new(claims, 0),
                _ => unreachable!(),
            };
            claims(one).is_of_same_holder(&claims(other))
        };
        assert!(same(json!({"sub":"a","iss":"i","exp":1,"level":1}), json!({"sub":"a","iss":"i","exp":2})));
        assert!(!same(json!({"sub":"a","iss":"i"}), json!({"sub":"b","iss":"i"})));
        assert!(!same(json!({"sub":"a","iss":"i"}), json!({"sub":"a","iss":"j"})));
        assert!(!same(json!({"sub":"a","_id":"a"}), json!({"sub":"a"})));
        assert!(same(json!({"iss":"i","exp":1,"jti":"x"}), json!({"iss":"i","exp":2,"jti":"y"})));
        assert!(!same(json!({"iss":"i","name":"a"}), json!({"iss":"i","name":"b"})));
    }

    #[test]
    fn claims_become_plain_values() {
        let Value::Object(claims) =
            json!({"sub":"$fullDocument.x","n":5,"big":5_000_000_000_u64,"id":{"$oid":"x"}})
        else {
            unreachable!()
        };
        let expected = doc! {"sub":"$fullDocument.x","n":5_i32,"big":5_000_000_000_i64,"id":{"$oid":"x"}};
        assert_eq!(Claims::new(claims, 0).document(), expected);
    }
}
