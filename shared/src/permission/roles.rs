//! Which roles a caller has.

use bson::Bson;
use serde::{Deserialize, Serialize};

use crate::{identity::Identity, variables::reach};

/// The role of everybody who brings no credentials.
pub const UNAUTHENTICATED: &str = "$unauthenticated";

/// The role of everybody who brings good ones.
pub const AUTHENTICATED: &str = "$authenticated";

/// Where a token keeps its roles: `roles`, `realm_access.roles`. A literal dotted claim comes before the way through
/// objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RolesClaim(String);

impl Default for RolesClaim {
    fn default() -> Self {
        Self("roles".to_owned())
    }
}

impl TryFrom<String> for RolesClaim {
    type Error = String;

    fn try_from(path: String) -> Result<Self, String> {
        if path.is_empty() || path.starts_with(['.', '@', '$']) || path.ends_with('.') {
            return Err(format!("{path:?} is no claim, expected a path such as roles or realm_access.roles"));
        }
        Ok(Self(path))
    }
}

impl From<RolesClaim> for String {
    fn from(claim: RolesClaim) -> Self {
        claim.0
    }
}

impl RolesClaim {
    /// The caller's roles. The claim is an array of names, or one text with names between blanks (as `scope` is); a name
    /// that begins with `$` is the server's and counts for nothing.
    pub fn of(&self, identity: &Identity) -> Vec<String> {
        let Some(claims) = identity.claims() else { return vec![UNAUTHENTICATED.to_owned()] };
        let mut roles = vec![AUTHENTICATED.to_owned()];
        // The setting is for tokens: a user's document has them where RESTHeart has.
        let path = if claims.version().is_some() { "roles" } else { &self.0 };
        let named: Vec<String> = match reach(&claims.document(), path) {
            Some(Bson::String(names)) => names.split_whitespace().map(str::to_owned).collect(),
            Some(Bson::Array(names)) => names.iter().filter_map(Bson::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        roles.extend(named.into_iter().filter(|name| !name.starts_with('$')));
        roles
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::identity::Claims;

    fn roles(path: &str, claims: Value) -> Vec<String> {
        let Value::Object(claims) = claims else { panic!("claims") };
        RolesClaim::try_from(path.to_owned()).expect(path).of(&Identity::Verified(Claims::new(claims, 0)))
    }

    #[test]
    fn roles_are_read_from_the_configured_claim() {
        assert_eq!(roles("roles", json!({ "roles": ["a", "b", 7] })), [AUTHENTICATED, "a", "b"]);
        assert_eq!(roles("scope", json!({ "scope": "a  b" })), [AUTHENTICATED, "a", "b"]);
        assert_eq!(
            roles("realm_access.roles", json!({ "realm_access": { "roles": ["a"] }, "roles": ["x"] })),
            [AUTHENTICATED, "a"]
        );
        assert_eq!(
            roles("urn:a.b", json!({ "urn:a.b": ["a"], "urn:a": { "b": ["x"] } })),
            [AUTHENTICATED, "a"]
        );
        assert_eq!(roles("roles", json!({ "roles": { "a": true } })), [AUTHENTICATED]);
    }

    #[test]
    fn a_token_cannot_claim_a_role_of_the_server() {
        let claimed = json!({ "roles": ["$unauthenticated", "$admin", "a"] });
        assert_eq!(roles("roles", claimed), [AUTHENTICATED, "a"]);
        assert_eq!(RolesClaim::default().of(&Identity::Anonymous), [UNAUTHENTICATED]);
    }

    #[test]
    fn an_odd_claim_is_refused() {
        assert_eq!(
            RolesClaim::try_from("@user.roles".to_owned()).unwrap_err(),
            "\"@user.roles\" is no claim, expected a path such as roles or realm_access.roles"
        );
    }
}
