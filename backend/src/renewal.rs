//! Fresh credentials for a session that is open: `{"type":"auth","token":…}` on a v1 socket.

use std::{sync::Arc, time::SystemTime};

use bson::rawdoc;
use serde_json::json;
use shared::{
    close::Close,
    definition::Binding,
    identity::{Claims, Identity},
    name::StreamName,
    permission::{Access, Grant},
    refusal::{Kind, Refusal},
    request::Query,
    variables::{ServerVariables, Variables},
};

use crate::{
    app::App,
    event::{Form, Frame},
    known::Declared,
    sessions::{Registration, Session},
};

/// What a session was opened with, so that it can be judged again by fresh claims.
#[derive(Debug)]
pub struct Renewal {
    app: Arc<App>,
    declared: Arc<Declared>,
    stream: StreamName,
    registration: Arc<Registration>,
}

/// What a token comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The session goes on until this Unix time, in seconds.
    Extended(u64),
    /// The token counts for nothing: the session ends when it would have.
    Refused(Refusal),
    /// The token is good, and the session cannot go on with it.
    Ends(Close),
}

impl Renewal {
    /// The way in which the stream of this registration is renewed.
    pub fn new(
        app: Arc<App>,
        declared: Arc<Declared>,
        stream: StreamName,
        registration: Arc<Registration>,
    ) -> Self {
        Self { app, declared, stream, registration }
    }

    /// Judges a token as `Authorization: Bearer` would be, and what becomes of the session by it.
    pub async fn judge(self: Arc<Self>, token: Option<String>) -> Verdict {
        let Some(token) = token else {
            return Verdict::Refused(Refusal::new(
                Kind::Unauthenticated,
                "auth has no token, expected a text",
            ));
        };
        let fresh = match self.app.authenticator.verify(&token, SystemTime::now()).await {
            Ok(fresh) => fresh,
            Err(refusal) => return Verdict::Refused(refusal),
        };
        let judged = self
            .app
            .permissions
            .judge(|access| self.registration.change(|session| self.verdict(session, fresh.clone(), access)));
        match judged {
            Ok(verdict) => verdict.unwrap_or(Verdict::Ends(Close::Internal)),
            Err(refusal) => Verdict::Refused(refusal),
        }
    }

    fn verdict(&self, session: &mut Session, fresh: Claims, access: &Access) -> Verdict {
        if session.identity.claims().is_none_or(|claims| !claims.is_of_same_holder(&fresh)) {
            return Verdict::Ends(Close::NoLongerPermitted);
        }
        let end = fresh.session_end();
        let identity = Identity::Verified(fresh);
        let Ok(grant) = access.decide(&session.question(&identity)) else {
            return Verdict::Ends(Close::NoLongerPermitted);
        };
        // A source goes on with the values that it was opened with. Who needs others opens another.
        let before = self.binding(session, &session.identity, &session.grant);
        if !grant.has_effect_of(&session.grant)
            || before.is_none()
            || before != self.binding(session, &identity, &grant)
        {
            return Verdict::Ends(Close::Expired);
        }
        session.identity = identity;
        session.grant = Arc::new(grant);
        Verdict::Extended(end)
    }

    fn binding(&self, session: &Session, identity: &Identity, grant: &Grant) -> Option<Binding> {
        let definition = self.declared.definitions.get(&self.stream)?.as_ref().ok()?;
        let query = Query::parse(session.query.as_deref()).ok()?;
        let client = Variables::parse(query.get("avars"), self.app.config.operator_check()).ok()?;
        let server = ServerVariables { user: identity.claims().map(Claims::document), now: session.now };
        definition.bind(&grant.variables(client).ok()?, &server).ok()
    }
}

/// Tells when the credentials run out, a Unix time in seconds. Only the typed forms have a word for it.
pub fn expiring(at: u64, form: Form) -> Option<Frame> {
    moment("expiring", at, form)
}

/// Tells that a token was taken, and when it runs out.
pub fn accepted(at: u64, form: Form) -> Option<Frame> {
    moment("authAccepted", at, form)
}

/// Tells that a token was not taken, in the words of the refusal.
pub fn refused(refusal: &Refusal, form: Form) -> Option<Frame> {
    let message = refusal.message();
    match form {
        Form::V1Json(_) => {
            Some(Frame::text(json!({ "type": "authRefused", "message": message }).to_string()))
        }
        Form::V1Bson => Some(Frame::bson(rawdoc! { "type": "authRefused", "message": message })),
        _ => None,
    }
}

/// A message that is a type and a time, in milliseconds since 1970.
fn moment(kind: &str, at: u64, form: Form) -> Option<Frame> {
    let at = i64::try_from(at.saturating_mul(1_000)).unwrap_or(i64::MAX);
    match form {
        Form::V1Json(_) => Some(Frame::text(format!(r#"{{"type":"{kind}","at":{at}}}"#))),
        Form::V1Bson => Some(Frame::bson(rawdoc! { "type": kind, "at": at })),
        _ => None,
    }
}
