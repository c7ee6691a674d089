//! Servers with permissions of a test's own.

use parts::deployment::{guarded_backend, guarded_worker};
use serde_json::{Value, json};

use crate::{Front, Own, Request, token};

/// A rule that lets the role `admin` do everything, as [`Ruled::start`] takes it.
pub const ADMIN: &str = r#"
[[permissions]]
roles = ["admin"]
methods = ["*"]
path = "/**"
"#;

/// A backend with rules, and for the edge a worker in front of it; dropping it ends them.
#[derive(Debug)]
pub struct Ruled {
    /// Where clients come in.
    pub server: String,
    _parts: Own,
}

impl Ruled {
    /// Starts them. `permissions` is TOML: tables `[[permissions]]`, behind [`ADMIN`].
    ///
    /// # Panics
    /// When they do not start.
    pub async fn start(front: Front, name: &str, mongodb: &str, permissions: &str) -> Self {
        let name = format!("{name}-{front:?}").to_lowercase();
        let mut options = guarded_backend(&name, mongodb);
        options.config.push_str(ADMIN);
        options.config.push_str(permissions);
        let parts = Own::at(front, options, |backend| guarded_worker(&name, &[backend])).await;
        Self { server: parts.server(front), _parts: parts }
    }
}

/// The request as the holder of a token with these claims sends it.
#[must_use]
pub fn by(claims: &Value, request: Request) -> Request {
    request.bearer(&token::valid(claims))
}

/// The claims of one whom [`ADMIN`] lets do everything.
pub fn admin() -> Value {
    json!({ "roles": ["admin"] })
}
