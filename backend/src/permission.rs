//! What a caller may do. Rules come with a later release; until then there are two kinds of callers, kept apart here.

use http::Method;
use shared::{
    address::Route,
    identity::Identity,
    refusal::{Kind, Refusal},
};

use crate::authentication::{AuthConfig, Caller};

/// What a request is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reads documents or metadata, or follows a stream.
    Read,
    /// Writes documents or metadata.
    Write,
}

impl Action {
    /// What a method does at an address.
    pub fn of(route: &Route, method: &Method) -> Self {
        let stream = matches!(route, Route::Stream(..) | Route::Streams(_));
        if stream || method.is_safe() { Self::Read } else { Self::Write }
    }
}

/// Anonymous callers may do everything where the configuration says so, and nothing elsewhere. The holder of a valid token
/// may read and follow; writing needs a rule.
pub fn check(config: &AuthConfig, caller: &Caller, action: &Action) -> Result<(), Refusal> {
    if config.anonymous {
        return Ok(());
    }
    match (&caller.identity, action) {
        (Identity::Anonymous, _) => Err(Refusal::new(Kind::Unauthenticated, "credentials needed")),
        (Identity::Verified(_), Action::Read) => Ok(()),
        (Identity::Verified(_), Action::Write) => {
            Err(Refusal::new(Kind::Forbidden, "no permission allows this write"))
        }
    }
}
