//! The judgement of a request, in the order 401, 403, 404, 400, and its way on.

use std::rc::Rc;

use bson::DateTime;
use http::{HeaderName, HeaderValue, Method};
use shared::{
    address::{Address, Route},
    address_block::AddressBlock,
    admission::{self, stops_event_source},
    identity::{Claims, Identity, Purpose, Statement},
    name::{Namespace, StreamName},
    origin::Verdict,
    permission::{Grant, Mode, Question},
    refusal::{Kind, Refusal},
    request::Head,
    variables::ServerVariables,
};
use worker::{Context, Env, Result, console_warn};

use crate::{
    answer, caller,
    knowledge::{Declared, Deployment, Knowledge},
    runtime,
    settings::Settings,
    upstream::{self, Outgoing},
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
    let knowledge = Knowledge { settings, context, arrived: runtime::now() };
    let mut cors = Vec::new();
    match judged(&request, &head, env, &knowledge, &mut cors).await {
        Ok(response) => Ok(response),
        Err(refusal) if stops_event_source(&head, &refusal) => answer::no_content(&cors),
        Err(refusal) => answer::refusal(&refusal, &cors),
    }
}

/// Judges, and passes on what is let in. The CORS headers of a refusal are put into `cors` as soon as they are known.
async fn judged(
    request: &web_sys::Request,
    head: &Head,
    env: &Env,
    knowledge: &Knowledge<'_>,
    cors: &mut Vec<(HeaderName, HeaderValue)>,
) -> std::result::Result<web_sys::Response, Refusal> {
    within_rate(head, env).await?;
    // A page has to be told even that its token is bad; so what is known of origins comes first.
    let kept = knowledge.deployment().await;
    let known =
        kept.as_ref().ok().map(|deployment| &deployment.origins).or(knowledge.settings.origins.as_ref());
    if let Some(origins) = known {
        *cors = origins.headers(&origins.judge(&head.headers));
    }
    if head.method == Method::OPTIONS && head.headers.contains_key("access-control-request-method") {
        return preflight(head, &*kept?, knowledge, cors).await;
    }

    // What is not known decides nothing yet: 503 comes before a 401 that may be wrong.
    let by_rules = kept.as_ref().map_or(true, |deployment| matches!(deployment.access.mode, Mode::Rules(_)));
    let anonymous = knowledge.settings.anonymous || by_rules;
    let identity = caller::of(head, knowledge.settings, anonymous).await?;
    let call = Call { head, identity: &identity, knowledge };
    let kept = kept?;
    let passed = call.judge(&kept, &*call.declared(&kept).await?);
    let (address, origin) = if let Ok(passed) = passed {
        passed
    } else {
        // What is kept may only let pass: before it refuses, all of it is judged again with what is fresh.
        let fresh = knowledge.deciding_deployment().await?;
        *cors = fresh.origins.headers(&fresh.origins.judge(&head.headers));
        call.judge(&fresh, &*call.deciding_declared(&fresh).await?)?
    };
    let statement = Statement { identity, client: head.peer, origin };
    forward(request, head, &statement, &address, knowledge.settings).await
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
    answer::no_content(&origins.preflight_headers(&origin)).map_err(|_| internal())
}

/// A request whose caller is known.
struct Call<'a> {
    head: &'a Head,
    identity: &'a Identity,
    knowledge: &'a Knowledge<'a>,
}

impl Call<'_> {
    /// The collection whose definitions decide, if the request is for a stream.
    fn namespace(&self, deployment: &Deployment) -> Option<Namespace> {
        match deployment.mounts.resolve(&self.head.path) {
            Ok(Address { route: Route::Stream(namespace, _), .. }) => Some(namespace),
            _ => None,
        }
    }

    async fn declared(&self, deployment: &Deployment) -> std::result::Result<Rc<Declared>, Refusal> {
        match self.namespace(deployment) {
            Some(namespace) => self.knowledge.declared(&namespace).await,
            None => Ok(Rc::default()),
        }
    }

    async fn deciding_declared(&self, deployment: &Deployment) -> std::result::Result<Rc<Declared>, Refusal> {
        match self.namespace(deployment) {
            Some(namespace) => self.knowledge.deciding_declared(&namespace).await,
            None => Ok(Rc::default()),
        }
    }

    /// Judges by the mounts and definitions at hand: 403, 404, 400.
    fn judge(
        &self,
        deployment: &Deployment,
        declared: &Declared,
    ) -> std::result::Result<(Address, Verdict), Refusal> {
        let origin = deployment.origins.judge(&self.head.headers);
        origin.admit()?;
        deployment.limits.check_url(self.head)?;
        let access = &deployment.access;
        let address = deployment.mounts.resolve(&self.head.path);
        let address = address.map_err(|refusal| access.unresolved(self.identity, refusal))?;
        let now = DateTime::from_millis(i64::try_from(runtime::now()).unwrap_or(i64::MAX));
        let grant = access.decide(&Question {
            identity: self.identity,
            method: &self.head.method,
            address: &address,
            query: self.head.query.as_deref(),
            now,
        })?;
        match &address.route {
            Route::Stream(_, name) => self.judge_stream(name, &grant, now, declared, deployment)?,
            Route::Health
            | Route::Ready
            | Route::Metrics
            | Route::EdgeSettings
            | Route::EdgeDefinitions(_) => return Err(no_resource()),
            _ if !self.knowledge.settings.passes_other_paths => return Err(no_resource()),
            _ => {}
        }
        Ok((address, origin))
    }

    fn judge_stream(
        &self,
        name: &StreamName,
        grant: &Grant,
        now: DateTime,
        declared: &Declared,
        deployment: &Deployment,
    ) -> std::result::Result<(), Refusal> {
        let server = ServerVariables { user: self.identity.claims().map(Claims::document), now };
        // A plain GET goes on as well: positions, and what MongoDB says of values, the backend alone can judge.
        admission::judge(self.head, declared.as_ref(), name, grant, &server, deployment.operators)?;
        deployment.limits.check_variables(self.head)
    }
}

async fn forward(
    request: &web_sys::Request,
    head: &Head,
    statement: &Statement,
    address: &Address,
    settings: &Settings,
) -> std::result::Result<web_sys::Response, Refusal> {
    let (headers, query) = upstream::without_credentials(request, head).map_err(|_| internal())?;
    let reads = matches!(head.method, Method::GET | Method::HEAD);
    let outgoing = Outgoing {
        method: &head.method,
        path: &address.canonical,
        query: query.as_deref(),
        headers: &headers,
        body: if reads { None } else { request.body() },
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

fn internal() -> Refusal {
    Refusal::new(Kind::Internal, "internal fault at the edge")
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
