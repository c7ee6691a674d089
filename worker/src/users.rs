//! Users with passwords. The edge has no database: the backend compares, and the edge remembers for a moment.

use std::{cell::RefCell, collections::HashMap, net::IpAddr, time::Duration};

use http::Method;
use sha2::{Digest, Sha256};
use shared::{
    credentials::Basic,
    edge_definitions::{MAC_HEADER, Signed, Subject},
    identity::Claims,
    refusal::{Kind, Refusal},
    statement::{Purpose, Statement},
};
use worker::{console_error, console_warn};

use crate::{
    answer,
    knowledge::Knowledge,
    runtime,
    upstream::{self, Outgoing},
};

/// For how long an answer is kept, in milliseconds. The backend refuses whoever was changed in the meantime.
const REMEMBERED: u64 = 30_000;

/// The most answers that an isolate keeps.
const MOST: usize = 1_000;

/// The largest answer that is read, in bytes.
const LIMIT: usize = 64 * 1024;

/// How long an answer may take to come whole.
const PATIENCE: Duration = Duration::from_secs(8);

thread_local! {
    // By a digest of name and password with a salt of this isolate's own, so that none of them stays in memory.
    static KNOWN: RefCell<HashMap<[u8; 32], (Claims, u64)>> = RefCell::default();
    static SALT: RefCell<Option<[u8; 16]>> = const { RefCell::new(None) };
}

/// Who somebody is.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) claims: Claims,
    /// Whether this is from memory.
    pub(crate) remembered: bool,
}

/// Who has this name and password: the backend's refusal, as it stands, if nobody has.
pub(crate) async fn user(
    basic: &Basic,
    client: Option<IpAddr>,
    knowledge: &Knowledge<'_>,
) -> Result<User, Refusal> {
    let key = key(basic)?;
    let now = runtime::now();
    let known = KNOWN.with_borrow(|known| known.get(&key).filter(|(_, until)| now < *until).cloned());
    if let Some((claims, _)) = known {
        return Ok(User { claims, remembered: true });
    }
    let claims = ask(basic, client, knowledge).await?;
    KNOWN.with_borrow_mut(|known| {
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(key, (claims.clone(), now + REMEMBERED));
    });
    Ok(User { claims, remembered: false })
}

/// Forgets this one: the backend says that the user has changed.
pub(crate) fn forget(basic: &Basic) {
    if let Ok(key) = key(basic) {
        KNOWN.with_borrow_mut(|known| known.remove(&key));
    }
}

fn key(basic: &Basic) -> Result<[u8; 32], Refusal> {
    let salt = match SALT.with_borrow(|salt| *salt) {
        Some(salt) => salt,
        None => runtime::random().map_err(|_| answer::internal())?,
    };
    SALT.set(Some(salt));
    Ok(Sha256::new().chain_update(salt).chain_update(basic.encoded()).finalize().into())
}

async fn ask(basic: &Basic, client: Option<IpAddr>, knowledge: &Knowledge<'_>) -> Result<Claims, Refusal> {
    let settings = knowledge.settings;
    let headers = web_sys::Headers::new().map_err(|_| answer::internal())?;
    headers.set("authorization", &format!("Basic {}", basic.encoded())).map_err(|_| answer::internal())?;
    let outgoing = Outgoing {
        method: &Method::GET,
        path: &Subject::User(basic.clone()).path(),
        query: None,
        headers: &headers,
        body: None,
        statement: &Statement::of_edge(client),
        purpose: Purpose::Credentials,
    };
    let answer = upstream::send(&outgoing, "", settings).await?;
    let header = |name: &str| answer.headers().get(name).ok().flatten();
    let body = runtime::body(&answer, LIMIT, PATIENCE).await.map_err(|fault| {
        console_warn!("/_edge/_user: {fault}");
        answer::unanswered()
    })?;
    let kind = match answer.status() {
        200 => {
            let signed = Signed { body, mac: header(MAC_HEADER.as_str()).unwrap_or_default() };
            return signed.read_user(basic, &settings.keys, &settings.deployment).map_err(|fault| {
                console_error!("{fault}");
                answer::misconfigured()
            });
        }
        401 => Kind::Unauthenticated,
        429 => Kind::TooMany,
        503 => Kind::Unavailable,
        status => {
            console_error!("/_edge/_user: the backend answered {status}");
            return Err(answer::internal());
        }
    };
    let message: Option<String> = serde_json::from_str(&body)
        .ok()
        .and_then(|body: serde_json::Value| body["message"].as_str().map(str::to_owned));
    let refusal = Refusal::new(kind, message.unwrap_or_default());
    match header("retry-after").and_then(|seconds| seconds.parse().ok()) {
        Some(seconds) => Err(refusal.retry_after(seconds)),
        None => Err(refusal),
    }
}
