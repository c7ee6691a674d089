//! The judgement of a request, in the order 401, 403, 404, 400, and its way on.

use std::rc::Rc;

use bson::DateTime;
use http::{HeaderName, HeaderValue, Method};
use shared::{
    address::{Address, Route},
    address_block::AddressBlock,
    admission::{self, stops_event_source},
    credentials::{Credentials, TokenParameter},
    identity::{Claims, Identity},
    name::StreamName,
    origin::Verdict,
    permission::{Grant, Question},
    refusal::{Kind, Refusal},
    request::Head,
    session_cookie,
    statement::{Purpose, Statement},
    variables::ServerVariables,
};
use worker::{Context, Env, Result, console_warn};

use crate::{
    answer,
    caller::{self, Caller},
    knowledge::{Declared, Deployment, Knowledge},
    runtime,
    settings::Settings,
    upstream::{self, Outgoing},
    users,
};

/// Addresses of the service that are for its own machines. From outside they do not exist.
const INTERNAL: &[&str] = &["_edge", "_metrics", "_ready"];

/// The rate limiter, where one is bound: a first line only.
const RATE_LIMITER: &str = "RATE_LIMITER";

/// Answers a request.
pub(crate) async fn handle(
    request: web_sys::Request,
    settings: &Settings,
    env: &Env,
    context: &Context,
) -> Result<web_sys::Response> {
    let head = runtime::head(&request);
    if head.path == "/_health" {
        return answer::healthy();
    }
    if is_internal(&head.path) {
        return answer::refusal(&no_resource(), &[]);
    }
    let address = head.peer.map(AddressBlock::of);
    let knowledge = Knowledge { settings, context, arrived: runtime::now(), address };
    let mut told = Told::default();
    match judged(&request, &head, env, &knowledge, &mut told).await {
        Ok(response) => Ok(response),
        Err(refusal) if stops_event_source(&head, &refusal) => answer::no_content(&told.cors),
        Err(refusal) if told.basic => answer::refusal(&refusal.offering_basic(&head), &told.cors),
        Err(refusal) => answer::refusal(&refusal, &told.cors),
    }
}

/// What a refusal says besides why, put here as soon as it is known.
#[derive(Default)]
struct Told {
    /// The CORS headers.
    cors: Vec<(HeaderName, HeaderValue)>,
    /// Whether names with passwords are accepted.
    basic: bool,
}

/// Judges, and passes on what is let in.
async fn judged(
    request: &web_sys::Request,
    head: &Head,
    env: &Env,
    knowledge: &Knowledge<'_>,
    told: &mut Told,
) -> std::result::Result<web_sys::Response, Refusal> {
    // A page has to be told even that it asks too often, or that its token is bad: what is known of origins comes first.
    if let Some(origins) = knowledge.remembered_origins() {
        told.cors = origins.headers(&origins.judge(&head.headers));
    }
    let is_preflight =
        head.method == Method::OPTIONS && head.headers.contains_key("access-control-request-method");
    if !is_preflight {
        within_rate(head, env).await?;
    }
    let kept = knowledge.deployment().await;
    if let Ok(kept) = &kept {
        told.cors = kept.origins.headers(&kept.origins.judge(&head.headers));
    }
    if is_preflight {
        return preflight(head, &*kept?, knowledge, &mut told.cors).await;
    }

    let mut deployment = known(kept, head, knowledge).await?;
    told.basic = deployment.basic;
    if signs_out(head, &deployment) {
        return answer::with_cookie(&session_cookie::clear(), &told.cors).map_err(|_| answer::internal());
    }
    let mut caller = caller::of(head, knowledge, &deployment).await;
    if let Err(refusal) = &caller
        && refusal.kind() == Kind::Unauthenticated
        && caller::depends_on_settings(head)
    {
        // What is kept may only let pass here too.
        let fresh = known(knowledge.deciding_deployment().await, head, knowledge).await?;
        told.cors = fresh.origins.headers(&fresh.origins.judge(&head.headers));
        told.basic = fresh.basic;
        if signs_out(head, &fresh) {
            return answer::with_cookie(&session_cookie::clear(), &told.cors).map_err(|_| answer::internal());
        }
        if caller::differs(head, knowledge, &deployment, &fresh) {
            caller = caller::of(head, knowledge, &fresh).await;
        }
        deployment = fresh;
    }
    let caller = caller?;
    let answer = pass(request, head, knowledge, &deployment, &caller, told).await?;
    if answer.status() == 401
        && caller.remembered
        && let Some(Credentials::Basic(basic)) = caller.presented.as_ref().map(|shown| &shown.credentials)
    {
        // The user has changed since the password was compared: it is compared again. The body of a write is gone.
        users::forget(basic);
        if upstream::reads(&head.method) {
            let caller = caller::of(head, knowledge, &deployment).await?;
            return pass(request, head, knowledge, &deployment, &caller, told).await;
        }
    }
    Ok(answer)
}

/// What is not known decides nothing: 503 comes before a 401 that may be wrong. That of a bad token is not.
async fn known(
    deployment: std::result::Result<Rc<Deployment>, Refusal>,
    head: &Head,
    knowledge: &Knowledge<'_>,
) -> std::result::Result<Rc<Deployment>, Refusal> {
    if deployment.is_err() {
        caller::check_token(head, knowledge.settings).await?;
    }
    deployment
}

fn signs_out(head: &Head, deployment: &Deployment) -> bool {
    let address = deployment.mounts.resolve(&head.path);
    let origin = deployment.origins.judge(&head.headers);
    address.is_ok_and(|address| session_cookie::signs_out(head, &address.route, &origin))
}

/// Judges a request whose caller is known, and passes it on.
async fn pass(
    request: &web_sys::Request,
    head: &Head,
    knowledge: &Knowledge<'_>,
    kept: &Rc<Deployment>,
    caller: &Caller,
    told: &mut Told,
) -> std::result::Result<web_sys::Response, Refusal> {
    let call = Call { head, caller, identity: &caller.identity, knowledge };
    let mut decided = Rc::clone(kept);
    let Permitted { address, origin, .. } = if let Some(passed) = call.passes(kept).await? {
        passed
    } else {
        // What is kept may only let pass: before it refuses, all of it is judged again with what is fresh.
        decided = knowledge.deciding_deployment().await?;
        told.cors = decided.origins.headers(&decided.origins.judge(&head.headers));
        call.decide(&decided).await?
    };
    if address.route == Route::Session {
        return call.session(&told.cors);
    }
    let statement = Statement {
        identity: caller.identity.clone(),
        client: head.peer,
        origin,
        ambient: caller.is_ambient(),
        ticket: caller.ticket.clone(),
    };
    forward(request, head, &statement, &address, decided.token_parameter.as_ref(), knowledge.settings).await
}

async fn preflight(
    head: &Head,
    kept: &Deployment,
    knowledge: &Knowledge<'_>,
    cors: &mut Vec<(HeaderName, HeaderValue)>,
) -> std::result::Result<web_sys::Response, Refusal> {
    let mut origins = kept.origins.clone();
    if origins.judge(&head.headers).admit().is_err() {
        origins = knowledge.deciding_deployment().await?.origins.clone();
        *cors = origins.headers(&origins.judge(&head.headers));
    }
    let origin = origins.judge(&head.headers);
    origin.admit()?;
    answer::no_content(&origins.preflight_headers(&origin)).map_err(|_| answer::internal())
}

/// A request whose caller is known.
struct Call<'a> {
    head: &'a Head,
    caller: &'a Caller,
    identity: &'a Identity,
    knowledge: &'a Knowledge<'a>,
}

/// What the settings let pass; of a stream, its definition is still to be asked.
struct Permitted {
    address: Address,
    origin: Verdict,
    grant: Grant,
    now: DateTime,
}

impl Call<'_> {
    /// Judges by what is kept, which may only let pass; `None` where it does not.
    async fn passes(&self, kept: &Deployment) -> std::result::Result<Option<Permitted>, Refusal> {
        let Ok(permitted) = self.permit(kept) else { return Ok(None) };
        let Route::Stream(namespace, name) = &permitted.address.route else { return Ok(Some(permitted)) };
        // Definitions are asked for on behalf of those alone who may follow the stream: names cost nothing to invent.
        let declared = self.knowledge.declared(namespace).await?;
        let judged = self.judge_stream(name, &permitted, &declared, kept);
        Ok(judged.is_ok().then_some(permitted))
    }

    /// Judges by what is fresh: 403, 404, 400.
    async fn decide(&self, fresh: &Deployment) -> std::result::Result<Permitted, Refusal> {
        let permitted = self.permit(fresh)?;
        if let Route::Stream(namespace, name) = &permitted.address.route {
            let declared = self.knowledge.deciding_declared(namespace).await?;
            self.judge_stream(name, &permitted, &declared, fresh)?;
        }
        Ok(permitted)
    }

    /// Judges by the settings at hand.
    fn permit(&self, deployment: &Deployment) -> std::result::Result<Permitted, Refusal> {
        let origin = deployment.origins.judge(&self.head.headers);
        origin.admit()?;
        if self.caller.is_ambient() {
            origin.admit_ambient(self.head)?;
        }
        deployment.limits.check_url(self.head)?;
        let access = &deployment.access;
        let address = deployment.mounts.resolve(&self.head.path);
        let now = DateTime::from_millis(i64::try_from(runtime::now()).unwrap_or(i64::MAX));
        if let Ok(Address { route: Route::Tickets | Route::Session, .. }) = &address {
            return address.map(|address| Permitted { address, origin, grant: Grant::everything(), now });
        }
        let address = address.map_err(|refusal| access.unresolved(self.identity, refusal))?;
        let grant = access.decide(&Question {
            identity: self.identity,
            method: &self.head.method,
            address: &address,
            query: self.head.query.as_deref(),
            now,
        })?;
        match &address.route {
            Route::Stream(..) => {}
            Route::Health
            | Route::Ready
            | Route::Metrics
            | Route::EdgeSettings
            | Route::EdgeUser
            | Route::EdgeDefinitions(_) => return Err(no_resource()),
            _ if !self.knowledge.settings.passes_other_paths => return Err(no_resource()),
            _ => {}
        }
        Ok(Permitted { address, origin, grant, now })
    }

    /// The cookie of a page that signs in or out. The backend never sees a token, so this is answered here.
    fn session(&self, cors: &[(HeaderName, HeaderValue)]) -> std::result::Result<web_sys::Response, Refusal> {
        let cookie = match self.head.method {
            Method::POST => {
                let needed =
                    || Refusal::new(Kind::Unauthenticated, "credentials needed, expected a Bearer token");
                let presented = self.caller.presented.as_ref().ok_or_else(needed)?;
                let claims = self.identity.claims().ok_or_else(needed)?;
                session_cookie::set(presented, claims.session_end(), runtime::now() / 1_000)?
            }
            Method::DELETE => session_cookie::clear(),
            _ => {
                let method = self.head.method.as_str();
                return Err(Refusal::method_not_allowed(method, "POST, DELETE, OPTIONS"));
            }
        };
        answer::with_cookie(&cookie, cors).map_err(|_| answer::internal())
    }

    fn judge_stream(
        &self,
        name: &StreamName,
        permitted: &Permitted,
        declared: &Declared,
        deployment: &Deployment,
    ) -> std::result::Result<(), Refusal> {
        let Permitted { grant, now, .. } = permitted;
        let server = ServerVariables { user: self.identity.claims().map(Claims::document), now: *now };
        // A plain GET goes on as well: positions, and what MongoDB says of values, the backend alone can judge.
        admission::judge(self.head, declared.as_ref(), name, grant, &server, deployment.operators)?;
        grant.limits.of_request(deployment.limits).check_variables(self.head)
    }
}

async fn forward(
    request: &web_sys::Request,
    head: &Head,
    statement: &Statement,
    address: &Address,
    parameter: Option<&TokenParameter>,
    settings: &Settings,
) -> std::result::Result<web_sys::Response, Refusal> {
    let (headers, query) =
        upstream::without_credentials(request, head, parameter).map_err(|_| answer::internal())?;
    let outgoing = Outgoing {
        method: &head.method,
        path: &address.canonical,
        query: query.as_deref(),
        headers: &headers,
        body: if upstream::reads(&head.method) { None } else { request.body() },
        statement,
        purpose: Purpose::Request,
    };
    let key = match &address.route {
        Route::Stream(namespace, _)
        | Route::Streams(namespace)
        | Route::Collection(namespace)
        | Route::Document(namespace, _) => namespace.to_string(),
        Route::Database(database) => database.to_string(),
        _ => String::new(),
    };
    let answer = upstream::send(&outgoing, &key, settings).await?;
    if answer.status() == 401 {
        console_warn!(
            "the backend answered 401 to what the edge let in: do EDGE_KEY, ANONYMOUS and its auth.* agree?"
        );
    }
    Ok(answer)
}

async fn within_rate(head: &Head, env: &Env) -> std::result::Result<(), Refusal> {
    let Ok(limiter) = env.rate_limiter(RATE_LIMITER) else { return Ok(()) };
    let client = head.peer.map_or_else(|| "unknown".to_owned(), |peer| AddressBlock::of(peer).to_string());
    match limiter.limit(client).await {
        Ok(outcome) if !outcome.success => {
            Err(Refusal::new(Kind::TooMany, "too many requests from this address"))
        }
        _ => Ok(()), // a limiter that fails shuts nobody out: the backend has its own limits
    }
}

fn no_resource() -> Refusal {
    Refusal::new(Kind::NotFound, "Resource does not exist")
}

/// Whether a path is one of the service's own machines', in any spelling that some parser may take for it.
fn is_internal(path: &str) -> bool {
    let mut path = path.to_owned();
    // Twice, for a hop that decodes once more than it should.
    for _ in 0..2 {
        path = percent_encoding::percent_decode_str(&path).decode_utf8_lossy().into_owned();
    }
    let first = path.split(['/', '\\', ';', '?', '#']).find(|segment| !matches!(*segment, "" | "." | ".."));
    first.is_some_and(|first| INTERNAL.contains(&first.trim().to_ascii_lowercase().as_str()))
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn internal_addresses_are_known_in_any_spelling() {
        for path in [
            "/_edge",
            "/_edge/app/messages",
            "/_EDGE",
            "/%5Fedge",
            "/%5f%65dge/app",
            "/%255Fedge",
            "//_edge",
            "/./_metrics",
            "/%2F_ready",
            "/_ready;x",
            "\\_ready",
            "/_metrics%20",
        ] {
            assert!(is_internal(path), "{path}");
        }
        for path in ["/", "/messages", "/edge", "/_health", "/app/_edge", "/_edges", "/messages/_streams/all"]
        {
            assert!(!is_internal(path), "{path}");
        }
    }
}
