//! The service token by which the worker is let through Cloudflare Access, where a policy of it stands in front of the
//! backends (Cloudflare One, "Service tokens").

use std::fmt;

use wasm_bindgen::JsValue;

/// The headers of Access. What comes of them with a request is for the worker's own door, if for any, and stays there.
pub(crate) const HEADERS: &[&str] = &[
    "cf-access-authenticated-user-email",
    "cf-access-client-id",
    "cf-access-client-secret",
    "cf-access-jwt-assertion",
    "cf-access-token",
];

const ID: &str = "CF-Access-Client-Id";
const SECRET: &str = "CF-Access-Client-Secret";

/// Both halves of a service token.
pub(crate) struct ServiceToken {
    id: String,
    secret: String,
}

impl fmt::Debug for ServiceToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceToken")
    }
}

impl ServiceToken {
    /// Both halves, or none. Else the variable at fault, and what is wrong with it: never its value.
    pub(crate) fn check(
        id: Option<String>,
        secret: Option<String>,
    ) -> Result<Option<Self>, (&'static str, String)> {
        let (id, secret) = match (id, secret) {
            (None, None) => return Ok(None),
            (Some(id), Some(secret)) => (id, secret),
            (Some(_), None) => {
                let message = "missing, expected the secret of ACCESS_CLIENT_ID";
                return Err(("ACCESS_CLIENT_SECRET", message.to_owned()));
            }
            (None, Some(_)) => {
                let message = "missing, expected the id of ACCESS_CLIENT_SECRET";
                return Err(("ACCESS_CLIENT_ID", message.to_owned()));
            }
        };
        for (variable, half) in [("ACCESS_CLIENT_ID", &id), ("ACCESS_CLIENT_SECRET", &secret)] {
            if !half.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err((
                    variable,
                    "no value of a header, expected it as Cloudflare shows it".to_owned(),
                ));
            }
        }
        Ok(Some(Self { id, secret }))
    }

    /// Shows it in a request to a backend.
    pub(crate) fn show(&self, headers: &web_sys::Headers) -> Result<(), JsValue> {
        headers.set(ID, &self.id)?;
        headers.set(SECRET, &self.secret)
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn a_service_token_has_two_halves_and_neither_is_ever_told() {
        let check = |id: Option<&str>, secret: Option<&str>| {
            ServiceToken::check(id.map(str::to_owned), secret.map(str::to_owned))
        };
        assert!(check(None, None).unwrap().is_none());
        let token = check(Some("id.access"), Some("hunter2")).unwrap().unwrap();
        assert_eq!(format!("{token:?}"), "ServiceToken");
        let (variable, message) = check(Some("id.access"), Some("hunter2\nx")).unwrap_err();
        assert_eq!(variable, "ACCESS_CLIENT_SECRET");
        assert_eq!(message, "no value of a header, expected it as Cloudflare shows it");
    }
}
