//! The configuration of identities: `auth.*` and `edge.*`.

use std::{collections::BTreeMap, fmt, net::SocketAddr};

use serde::Deserialize;
use shared::{
    credentials::TokenParameter,
    edge_key::EdgeKeys,
    permission::RolesClaim,
    token::{Policy, Settings},
};

use crate::collection_path::CollectionPath;

/// A configured secret; it never shows in a log.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// A secret of this value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for the one who computes with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// `auth.*`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AuthConfig {
    /// Everybody may do everything, without credentials. For development. Default: false.
    pub anonymous: bool,
    /// Allows `auth.anonymous` on an address that is not a loopback one. Default: false.
    pub anonymous_public: bool,
    /// Where a token names its roles. Default: `roles`.
    pub roles_claim: RolesClaim,
    /// Tokens that are accepted.
    pub jwt: JwtConfig,
    /// Users with passwords.
    pub users: Vec<UserConfig>,
    /// A collection with more of them, as `app.users`; a change of it acts within a second.
    pub users_collection: Option<CollectionPath>,
    /// How many wrong passwords for one user may come from one address within a minute. Default: 10.
    pub failures_per_minute: u32,
    /// A query parameter that carries a token. Default: none.
    pub query_parameter: Option<TokenParameter>,
    /// How many seconds before its credentials end a v1 client is told so; half of what is left when that is less.
    /// Default: 60.
    pub expiring_seconds: u64,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            anonymous: false,
            anonymous_public: false,
            roles_claim: RolesClaim::default(),
            jwt: JwtConfig::default(),
            users: Vec::new(),
            users_collection: None,
            failures_per_minute: 10,
            query_parameter: None,
            expiring_seconds: 60,
        }
    }
}

/// `[[auth.users]]`
#[derive(Clone, Debug, Deserialize)]
pub struct UserConfig {
    /// The name.
    pub id: String,
    /// The password's hash: bcrypt, or argon2id.
    pub password: Secret,
    /// What rules go by.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Whatever else is known of the user, for `@user.<member>`.
    #[serde(flatten)]
    pub more: BTreeMap<String, serde_json::Value>,
}

/// `auth.jwt.*`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct JwtConfig {
    /// The secret of HS256, HS384, HS512: at least 32 bytes.
    pub secret: Option<Secret>,
    /// A public key as PEM, of RSA, P-256, or Ed25519.
    pub public_key: Option<String>,
    /// The https address of a JSON Web Key Set (http on the loopback interface).
    pub jwks: Option<String>,
    /// The accepted algorithms. Default: `["HS256"]` with a secret, `["RS256", "ES256"]` with a key
    /// set, what the key is for with a public key.
    pub algorithms: Option<Vec<String>>,
    /// The `iss` that a token must have. Required with a key set.
    pub issuer: Option<String>,
    /// The `aud` that a token must have. Required with a key set.
    pub audience: Option<String>,
}

/// `edge.*`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct EdgeConfig {
    /// The keys that edge workers sign with: id to secret, at least 32 bytes each, two while one replaces the other.
    /// Without any, no edge is believed.
    pub keys: BTreeMap<String, Secret>,
    /// The id of the key that tickets are signed with. Default: the first by name.
    pub signing_key: Option<String>,
    /// Refuse requests that do not come through the edge. Default: false.
    pub required: bool,
    /// The name of this deployment, the same as the worker's `EDGE_AUDIENCE`. Default: `tailrace`.
    pub audience: String,
}

impl Default for EdgeConfig {
    fn default() -> Self {
        Self { keys: BTreeMap::new(), signing_key: None, required: false, audience: "tailrace".to_owned() }
    }
}

impl AuthConfig {
    /// Refuses an anonymous setting that would open more than was meant. The error names the key and what it takes.
    pub fn check_anonymous(&self, listen: SocketAddr, has_permissions: bool) -> Result<(), String> {
        if !self.anonymous {
            return Ok(());
        }
        if has_permissions {
            return Err("auth.anonymous is true beside permissions, expected one of the two".to_owned());
        }
        if !listen.ip().is_loopback() && !self.anonymous_public {
            return Err(format!(
                "auth.anonymous is true and listen is {listen}, expected a loopback address, or auth.anonymous-public=true"
            ));
        }
        Ok(())
    }
}

impl JwtConfig {
    pub(super) fn policy(&self) -> Result<Option<Policy>, String> {
        let settings = Settings {
            secret: self.secret.as_ref().map(|secret| secret.expose().to_owned()),
            public_key: self.public_key.clone(),
            jwks: self.jwks.clone(),
            algorithms: self.algorithms.clone(),
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
        };
        settings.check().map_err(|fault| format!("{} is {}", fault.setting.key(), fault.message))
    }
}

impl EdgeConfig {
    pub(super) fn checked_keys(&self) -> Result<EdgeKeys, String> {
        if let Some(id) = &self.signing_key
            && !self.keys.contains_key(id)
        {
            let known: Vec<_> = self.keys.keys().map(String::as_str).collect();
            let known =
                if known.is_empty() { "none, as there are no keys".to_owned() } else { known.join(" or ") };
            return Err(format!("edge.signing-key is {id:?}, which is not in edge.keys, expected {known}"));
        }
        let mut keys: Vec<_> = self.keys.iter().map(|(id, secret)| (id.as_str(), secret.expose())).collect();
        // The first one signs; the sort leaves the others as they are.
        keys.sort_by_key(|(id, _)| Some(*id) != self.signing_key.as_deref());
        let keys = EdgeKeys::new(keys).map_err(|fault| format!("edge.keys: {fault}"))?;
        if self.required && keys.is_empty() {
            return Err("edge.required is true without edge.keys, expected at least one key".to_owned());
        }
        if self.audience.is_empty() || self.audience.contains(|c: char| c == '#' || c.is_control()) {
            return Err(
                "edge.audience is empty or has odd characters, expected a name such as tailrace".to_owned()
            );
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authentication::Authenticator;

    fn auth(anonymous_public: bool) -> AuthConfig {
        AuthConfig { anonymous: true, anonymous_public, ..AuthConfig::default() }
    }

    #[test]
    fn anonymous_beside_permissions_or_in_public_stops_the_start() {
        let (loopback, public) = (([127, 0, 0, 1], 8080).into(), ([0, 0, 0, 0], 8080).into());
        assert_eq!(auth(false).check_anonymous(loopback, false), Ok(()));
        assert_eq!(auth(true).check_anonymous(public, false), Ok(()));
        assert_eq!(
            auth(false).check_anonymous(public, false).unwrap_err(),
            "auth.anonymous is true and listen is 0.0.0.0:8080, expected a loopback address, or auth.anonymous-public=true"
        );
        assert_eq!(
            auth(true).check_anonymous(loopback, true).unwrap_err(),
            "auth.anonymous is true beside permissions, expected one of the two"
        );
        assert_eq!(AuthConfig::default().check_anonymous(public, true), Ok(()));
    }

    #[test]
    fn the_key_that_is_named_signs_and_else_the_first_by_name() {
        let key = |id: &str| (id.to_owned(), Secret::new("a key of more than 32 bytes, as each must be"));
        let edge = |signing_key: Option<&str>| EdgeConfig {
            keys: BTreeMap::from([key("k9"), key("k10")]),
            signing_key: signing_key.map(str::to_owned),
            ..EdgeConfig::default()
        };
        let order = |signing_key| format!("{:?}", edge(signing_key).checked_keys().expect("two keys"));
        assert_eq!(order(Some("k9")), r#"["k9", "k10"]"#);
        assert_eq!(order(Some("k10")), r#"["k10", "k9"]"#);
        assert_eq!(order(None), r#"["k10", "k9"]"#);
        assert_eq!(
            edge(Some("k8")).checked_keys().unwrap_err(),
            "edge.signing-key is \"k8\", which is not in edge.keys, expected k10 or k9"
        );
    }

    #[test]
    fn a_wrong_setting_stops_the_start_with_its_key_and_without_its_value() {
        let secret = |value: &str| JwtConfig { secret: Some(Secret::new(value)), ..JwtConfig::default() };
        let start = |jwt: JwtConfig, edge: EdgeConfig| {
            let auth = AuthConfig { jwt, ..AuthConfig::default() };
            Authenticator::new(&auth, &edge, false).map(drop).unwrap_err()
        };
        let keys = |value: &str| BTreeMap::from([("k1".to_owned(), Secret::new(value))]);
        let long = "a secret of more than 32 bytes, see";
        assert_eq!(
            start(secret("hunter2"), EdgeConfig::default()),
            "auth.jwt.secret is 7 bytes long, expected at least 32"
        );
        assert_eq!(
            start(JwtConfig::default(), EdgeConfig { keys: keys("hunter2"), ..EdgeConfig::default() }),
            "edge.keys: key k1 is 7 bytes long, expected at least 32"
        );
        assert_eq!(
            start(secret(long), EdgeConfig { keys: keys(long), ..EdgeConfig::default() }),
            "edge.keys holds the value of auth.jwt.secret, expected keys of its own"
        );
        assert_eq!(
            start(JwtConfig::default(), EdgeConfig { required: true, ..EdgeConfig::default() }),
            "edge.required is true without edge.keys, expected at least one key"
        );
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "…");
    }
}
