//! The worker's variables and secrets. A wrong one stops every request: what is misconfigured is never open.

use std::{cell::RefCell, fmt, rc::Rc};

use shared::{edge_key::EdgeKeys, origin::Origins, rendezvous::Backends, token};
use wasm_bindgen::JsValue;
use worker::Env;

use crate::service_token::ServiceToken;

/// Everything that is set.
#[derive(Debug)]
pub(crate) struct Settings {
    /// `BACKENDS`: base addresses, separated by commas or white space.
    pub(crate) backends: Backends,
    /// `JWT_SECRET`, `JWT_PUBLIC_KEY`, or `JWKS_URL`, `JWT_ALGORITHMS`, `JWT_ISSUER`, `JWT_AUDIENCE`.
    pub(crate) tokens: Option<token::Policy>,
    /// `ANONYMOUS`: `true` lets requests without credentials in.
    pub(crate) anonymous: bool,
    /// `EDGE_KEY` by the id `EDGE_KEY_ID`, and while keys rotate `EDGE_KEY_PREVIOUS` by `EDGE_KEY_PREVIOUS_ID`.
    pub(crate) keys: EdgeKeys,
    /// `ACCESS_CLIENT_ID` and `ACCESS_CLIENT_SECRET`: what Cloudflare Access asks for in front of the backends.
    pub(crate) service_token: Option<ServiceToken>,
    /// `EDGE_AUDIENCE`: the deployment's name, the same as the backend's `edge.audience`.
    pub(crate) deployment: String,
    /// `ORIGINS`: overrides what the backend says.
    pub(crate) origins: Option<Origins>,
    /// `OTHER_PATHS`: `pass` (the default) or `refuse` what is no stream.
    pub(crate) passes_other_paths: bool,
}

/// A variable that is wrong or missing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    variable: &'static str,
    message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}", self.variable, self.message)
    }
}

thread_local! {
    // An isolate's variables never change: a new value comes with a new isolate.
    static CHECKED: RefCell<Option<Rc<Settings>>> = const { RefCell::new(None) };
}

/// The settings of this isolate.
pub(crate) fn of(env: &Env) -> Result<Rc<Settings>, Fault> {
    if let Some(settings) = CHECKED.with_borrow(Clone::clone) {
        return Ok(settings);
    }
    let settings = Rc::new(Settings::read(|name| {
        let value = js_sys::Reflect::get(env, &JsValue::from_str(name)).ok()?;
        value.as_string().filter(|value| !value.is_empty())
    })?);
    CHECKED.set(Some(settings.clone()));
    Ok(settings)
}

impl Settings {
    /// Checks all of them; an empty value counts as none.
    fn read(value: impl Fn(&'static str) -> Option<String>) -> Result<Self, Fault> {
        let fault = |variable, message: String| Fault { variable, message };
        let needed =
            |name, what: &str| value(name).ok_or_else(|| fault(name, format!("missing, expected {what}")));
        let choice = |name, yes: &str, no: &str| match value(name).as_deref() {
            None => Ok(None),
            Some(found) if found == yes => Ok(Some(true)),
            Some(found) if found == no => Ok(Some(false)),
            Some(found) => Err(fault(name, format!("{found:?}, expected {yes} or {no}"))),
        };

        // All that is missing at once: a newcomer lacks most of it.
        let tokens_or_anonymous = ["JWT_SECRET", "JWT_PUBLIC_KEY", "JWKS_URL", "ANONYMOUS"]
            .into_iter()
            .any(|name| value(name).is_some());
        let missing: Vec<_> = [
            ("BACKENDS", value("BACKENDS").is_none()),
            ("EDGE_KEY", value("EDGE_KEY").is_none()),
            ("JWT_SECRET (or JWKS_URL, or ANONYMOUS=true)", !tokens_or_anonymous),
        ]
        .into_iter()
        .filter_map(|(name, missing)| missing.then_some(name))
        .collect();
        if let [first, rest @ ..] = missing.as_slice()
            && !rest.is_empty()
        {
            let message =
                format!("missing, and so is {}: wrangler dev reads them from .dev.vars", rest.join(", "));
            return Err(fault(first, message));
        }

        let backends = needed("BACKENDS", "one or more base addresses such as https://node-1.example")?;
        let backends = Backends::parse(&backends).map_err(|message| fault("BACKENDS", message))?;

        let secret = value("JWT_SECRET");
        let tokens = token::Settings {
            secret: secret.clone(),
            public_key: value("JWT_PUBLIC_KEY"),
            jwks: value("JWKS_URL"),
            algorithms: value("JWT_ALGORITHMS").map(|list| words(&list)),
            issuer: value("JWT_ISSUER"),
            audience: value("JWT_AUDIENCE"),
        };
        let tokens = tokens.check().map_err(|wrong| fault(wrong.setting.variable(), wrong.message))?;
        let anonymous = choice("ANONYMOUS", "true", "false")?.unwrap_or(false);
        if tokens.is_none() && !anonymous {
            let message = "missing, as is JWKS_URL: expected one of them, or ANONYMOUS=true".to_owned();
            return Err(fault("JWT_SECRET", message));
        }

        let id = value("EDGE_KEY_ID").unwrap_or_else(|| "k1".to_owned());
        let key = needed("EDGE_KEY", "the secret of at least 32 bytes that the backend has in edge.keys")?;
        let previous = value("EDGE_KEY_PREVIOUS");
        let previous_id = value("EDGE_KEY_PREVIOUS_ID").unwrap_or_else(|| "k0".to_owned());
        let mut both = vec![(id.as_str(), key.as_str())];
        both.extend(previous.as_deref().map(|previous| (previous_id.as_str(), previous)));
        let keys = EdgeKeys::new(both).map_err(|message| fault("EDGE_KEY", format!("wrong: {message}")))?;
        if secret.is_some_and(|secret| keys.contains_secret(&secret)) {
            return Err(fault("EDGE_KEY", "the value of JWT_SECRET, expected one of its own".to_owned()));
        }

        let service_token = ServiceToken::check(value("ACCESS_CLIENT_ID"), value("ACCESS_CLIENT_SECRET"))
            .map_err(|(variable, message)| fault(variable, message))?;

        let origins = value("ORIGINS").map(|list| Origins::new(words(&list))).transpose();
        Ok(Self {
            backends,
            tokens,
            anonymous,
            keys,
            service_token,
            deployment: value("EDGE_AUDIENCE").unwrap_or_else(|| "tailrace".to_owned()),
            origins: origins.map_err(|message| fault("ORIGINS", format!("wrong: {message}")))?,
            passes_other_paths: choice("OTHER_PATHS", "pass", "refuse")?.unwrap_or(true),
        })
    }
}

fn words(list: &str) -> Vec<String> {
    list.split(|c: char| c == ',' || c.is_whitespace())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const GOOD: &[(&str, &str)] = &[
        ("BACKENDS", "https://node-1.example, https://node-2.example"),
        ("JWT_SECRET", "the secret that tokens are signed by"),
        ("EDGE_KEY", "the secret that the edge is known by"),
    ];

    fn read(changes: &[(&str, &str)]) -> Result<Settings, String> {
        let find = |list: &[(&str, &str)], name: &str| {
            list.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Settings::read(|name| {
            find(changes, name).or_else(|| find(GOOD, name)).filter(|value| !value.is_empty())
        })
        .map_err(|fault| fault.to_string())
    }

    #[test]
    fn nothing_is_open_by_default() {
        let settings = read(&[]).unwrap();
        assert!(!settings.anonymous && settings.passes_other_paths && settings.origins.is_none());
        assert_eq!(settings.deployment, "tailrace");
    }

    #[test]
    fn all_that_is_missing_is_named_at_once() {
        assert_eq!(
            read(&[("EDGE_KEY", ""), ("JWT_SECRET", "")]).unwrap_err(),
            "EDGE_KEY is missing, and so is JWT_SECRET (or JWKS_URL, or ANONYMOUS=true): wrangler dev reads them from .dev.vars"
        );
    }

    #[test]
    fn a_wrong_variable_is_named_with_what_it_takes() {
        for (name, value, expected) in [
            (
                "BACKENDS",
                "",
                "BACKENDS is missing, expected one or more base addresses such as https://node-1.example",
            ),
            (
                "BACKENDS",
                "http://node.example",
                "BACKENDS is http://node.example: http to another machine, expected an https address (http only on the loopback interface)",
            ),
            ("JWT_SECRET", "hunter2", "JWT_SECRET is 7 bytes long, expected at least 32"),
            (
                "JWT_SECRET",
                "",
                "JWT_SECRET is missing, as is JWKS_URL: expected one of them, or ANONYMOUS=true",
            ),
            ("JWT_ALGORITHMS", "RS256", "JWT_ALGORITHMS is RS256 does not go with a secret"),
            (
                "EDGE_KEY",
                "",
                "EDGE_KEY is missing, expected the secret of at least 32 bytes that the backend has in edge.keys",
            ),
            ("EDGE_KEY", "hunter2", "EDGE_KEY is wrong: key k1 is 7 bytes long, expected at least 32"),
            (
                "EDGE_KEY",
                "the secret that tokens are signed by",
                "EDGE_KEY is the value of JWT_SECRET, expected one of its own",
            ),
            ("ANONYMOUS", "yes", "ANONYMOUS is \"yes\", expected true or false"),
            (
                "ORIGINS",
                "*",
                "ORIGINS is wrong: \"*\" is no origin, expected one such as https://app.example",
            ),
            ("OTHER_PATHS", "drop", "OTHER_PATHS is \"drop\", expected pass or refuse"),
            (
                "ACCESS_CLIENT_ID",
                "id.access",
                "ACCESS_CLIENT_SECRET is missing, expected the secret of ACCESS_CLIENT_ID",
            ),
            (
                "ACCESS_CLIENT_SECRET",
                "hunter2",
                "ACCESS_CLIENT_ID is missing, expected the id of ACCESS_CLIENT_SECRET",
            ),
        ] {
            assert_eq!(read(&[(name, value)]).unwrap_err(), expected);
        }
    }
}
