//! Which tokens are accepted: the settings, and what they come to when they are right.

use super::{Algorithm, Family, pem};
use crate::{jwks::Key, remote::Remote};

/// The settings as written, by the backend's configuration or the worker's variables.
#[derive(Clone, Default)]
pub struct Settings {
    /// The secret of HS256 and its kin.
    pub secret: Option<String>,
    /// A public key as PEM.
    pub public_key: Option<String>,
    /// The address of a JSON Web Key Set.
    pub jwks: Option<String>,
    /// The accepted algorithms; without them, HS256 for a secret, RS256 and ES256 for a key set.
    pub algorithms: Option<Vec<String>>,
    /// The `iss` that a token must have.
    pub issuer: Option<String>,
    /// The `aud` that a token must have.
    pub audience: Option<String>,
}

/// A setting, as a message names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the field of Settings of that name")]
pub enum Setting {
    Secret,
    PublicKey,
    Jwks,
    Algorithms,
    Issuer,
    Audience,
}

impl Setting {
    /// The key in the backend's configuration.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Secret => "auth.jwt.secret",
            Self::PublicKey => "auth.jwt.public-key",
            Self::Jwks => "auth.jwt.jwks",
            Self::Algorithms => "auth.jwt.algorithms",
            Self::Issuer => "auth.jwt.issuer",
            Self::Audience => "auth.jwt.audience",
        }
    }

    /// The variable of the worker.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Secret => "JWT_SECRET",
            Self::PublicKey => "JWT_PUBLIC_KEY",
            Self::Jwks => "JWKS_URL",
            Self::Algorithms => "JWT_ALGORITHMS",
            Self::Issuer => "JWT_ISSUER",
            Self::Audience => "JWT_AUDIENCE",
        }
    }
}

/// Why the settings are wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingFault {
    /// The setting that is wrong or missing.
    pub setting: Setting,
    /// What was found and what was expected, without the value where that is a secret.
    pub message: String,
}

/// Where the keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// One shared secret.
    Secret(Key),
    /// One public key.
    Public(Key),
    /// A key set at an address.
    Jwks(Remote),
}

/// Which tokens are accepted; made only by [`Settings::check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    keys: KeySource,
    algorithms: Vec<Algorithm>,
    issuer: Option<String>,
    audience: Option<String>,
}

impl Settings {
    /// Checks the settings. `None` when no tokens are configured at all.
    pub fn check(self) -> Result<Option<Policy>, SettingFault> {
        let fault = |setting, message: String| Err(SettingFault { setting, message });
        let keys = match (&self.secret, &self.public_key, &self.jwks) {
            (Some(_), None, Some(_)) => {
                return fault(Setting::Jwks, "set beside a secret, expected one of the two".to_owned());
            }
            (Some(_), Some(_), _) => {
                return fault(Setting::PublicKey, "set beside a secret, expected one of the two".to_owned());
            }
            (None, Some(_), Some(_)) => {
                return fault(Setting::Jwks, "set beside a public key, expected one of the two".to_owned());
            }
            (Some(secret), None, None) => match Key::secret(secret.as_bytes()) {
                Ok(key) => KeySource::Secret(key),
                Err(message) => return fault(Setting::Secret, message),
            },
            (None, Some(public), None) => match pem::key(public) {
                Ok(key) => KeySource::Public(key),
                Err(message) => return fault(Setting::PublicKey, message),
            },
            (None, None, Some(address)) => match Remote::parse(address) {
                Ok(remote) => KeySource::Jwks(remote),
                Err(message) => return fault(Setting::Jwks, message),
            },
            (None, None, None) => {
                let orphan = [
                    (Setting::Algorithms, self.algorithms.is_some()),
                    (Setting::Issuer, self.issuer.is_some()),
                    (Setting::Audience, self.audience.is_some()),
                ];
                return match orphan.into_iter().find(|(_, set)| *set) {
                    Some((setting, _)) => fault(setting, "set without a secret or a key set".to_owned()),
                    None => Ok(None),
                };
            }
        };
        let algorithms = match &self.algorithms {
            None => keys.usual_algorithms(),
            Some(names) => {
                let mut algorithms = Vec::new();
                for name in names {
                    let Some(algorithm) = Algorithm::named(name) else {
                        let all: Vec<_> = Algorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
                        return fault(
                            Setting::Algorithms,
                            format!("{name:?} unknown, expected some of {}", all.join(", ")),
                        );
                    };
                    if let Err(source) = keys.go_with(algorithm) {
                        return fault(Setting::Algorithms, format!("{name} does not go with {source}"));
                    }
                    algorithms.push(algorithm);
                }
                if algorithms.is_empty() {
                    return fault(Setting::Algorithms, "empty, expected at least one algorithm".to_owned());
                }
                algorithms
            }
        };
        if matches!(keys, KeySource::Jwks(_)) {
            for (setting, value) in [(Setting::Issuer, &self.issuer), (Setting::Audience, &self.audience)] {
                if value.as_ref().is_none_or(String::is_empty) {
                    return fault(setting, "missing, expected beside a key set".to_owned());
                }
            }
        }
        Ok(Some(Policy { keys, algorithms, issuer: self.issuer, audience: self.audience }))
    }
}

impl KeySource {
    fn usual_algorithms(&self) -> Vec<Algorithm> {
        match self {
            Self::Jwks(_) => vec![Algorithm::RS256, Algorithm::ES256],
            Self::Secret(key) | Self::Public(key) => vec![match key.family() {
                Family::Hmac => Algorithm::HS256,
                Family::Rsa => Algorithm::RS256,
                Family::P256 => Algorithm::ES256,
                Family::Ed25519 => Algorithm::EdDSA,
            }],
        }
    }

    /// Whether such keys are for this algorithm; if not, what they are. A key that everybody may read could serve an HMAC,
    /// and then anyone could sign.
    fn go_with(&self, algorithm: Algorithm) -> Result<(), &'static str> {
        match self {
            Self::Secret(_) if algorithm.family() != Family::Hmac => Err("a secret"),
            Self::Jwks(_) if algorithm.family() == Family::Hmac => Err("a key set"),
            Self::Public(key) if algorithm.family() != key.family() => Err("this public key"),
            _ => Ok(()),
        }
    }
}

impl Policy {
    /// Where the keys are.
    pub fn keys(&self) -> &KeySource {
        &self.keys
    }

    pub(super) fn accepted(&self, name: &str) -> Option<Algorithm> {
        self.algorithms.iter().copied().find(|algorithm| algorithm.name() == name)
    }

    pub(super) fn accepted_names(&self) -> String {
        let names: Vec<_> = self.algorithms.iter().map(|algorithm| algorithm.name()).collect();
        names.join(", ")
    }

    pub(super) fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    pub(super) fn audience(&self) -> Option<&str> {
        self.audience.as_deref()
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn secret() -> String {
        "s".repeat(32)
    }

    fn key_set() -> Settings {
        Settings {
            jwks: Some("https://id.example/keys".into()),
            issuer: Some("https://id.example".into()),
            audience: Some("tailrace".into()),
            ..Settings::default()
        }
    }

    #[test]
    fn no_settings_are_no_tokens() {
        assert_eq!(Settings::default().check(), Ok(None));
    }

    #[test]
    fn a_wrong_setting_is_named_with_what_it_takes() {
        let cases = [
            (
                Settings { secret: Some("short".into()), ..Settings::default() },
                Setting::Secret,
                "5 bytes long, expected at least 32",
            ),
            (
                Settings { secret: Some(secret()), ..key_set() },
                Setting::Jwks,
                "set beside a secret, expected one of the two",
            ),
            (Settings { issuer: None, ..key_set() }, Setting::Issuer, "missing, expected beside a key set"),
            (
                Settings { audience: Some(String::new()), ..key_set() },
                Setting::Audience,
                "missing, expected beside a key set",
            ),
            (
                Settings { jwks: Some("http://id.example".into()), ..key_set() },
                Setting::Jwks,
                "http to another machine, expected an https address (http only on the loopback interface)",
            ),
            (
                Settings { algorithms: Some(vec!["HS256".into()]), ..key_set() },
                Setting::Algorithms,
                "HS256 does not go with a key set",
            ),
            (
                Settings {
                    secret: Some(secret()),
                    algorithms: Some(vec!["RS256".into()]),
                    ..Settings::default()
                },
                Setting::Algorithms,
                "RS256 does not go with a secret",
            ),
            (
                Settings {
                    secret: Some(secret()),
                    algorithms: Some(vec!["none".into()]),
                    ..Settings::default()
                },
                Setting::Algorithms,
                "\"none\" unknown, expected some of HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, EdDSA",
            ),
            (
                Settings { public_key: Some(crate::token::pem::ED25519_KEY.into()), ..key_set() },
                Setting::Jwks,
                "set beside a public key, expected one of the two",
            ),
            (
                Settings {
                    public_key: Some(crate::token::pem::ED25519_KEY.into()),
                    algorithms: Some(vec!["HS256".into()]),
                    ..Settings::default()
                },
                Setting::Algorithms,
                "HS256 does not go with this public key",
            ),
            (
                Settings { public_key: Some("a secret".into()), ..Settings::default() },
                Setting::PublicKey,
                "no public key, expected one as -----BEGIN PUBLIC KEY-----, of RSA, P-256, or Ed25519",
            ),
            (
                Settings { algorithms: Some(vec!["HS256".into()]), ..Settings::default() },
                Setting::Algorithms,
                "set without a secret or a key set",
            ),
        ];
        for (settings, setting, message) in cases {
            assert_eq!(settings.check(), Err(SettingFault { setting, message: message.to_owned() }));
        }
    }

    #[test]
    fn the_default_algorithms_go_with_the_keys() {
        let with_secret =
            Settings { secret: Some(secret()), ..Settings::default() }.check().unwrap().unwrap();
        assert_eq!(with_secret.accepted_names(), "HS256");
        assert_eq!(key_set().check().unwrap().unwrap().accepted_names(), "RS256, ES256");
        let public = Some(crate::token::pem::ED25519_KEY.to_owned());
        let public = Settings { public_key: public, ..Settings::default() }.check().unwrap().unwrap();
        assert_eq!(public.accepted_names(), "EdDSA");
    }
}
