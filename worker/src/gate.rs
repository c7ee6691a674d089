//! The judgement of a request, in the order 401, 403, 404, 400, and its way on.

use http::{HeaderName, HeaderValue, Method};
use shared::{
    address::{Address, Route},
    admission::{self, Wanted},
    identity::{Identity, Purpose, Statement},
    name::{Namespace, StreamName},
    origin::{Origins, Verdict},
    refusal::{Kind, Refusal},
    request::Head,
    variables::ServerVariables,
};
use worker::{Context, Env, Result, console_warn};

use crate::{
    answer, caller,
    knowledge::{Deployment, Knowledge},
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
        return answer::refusal(&Refusal::new(Kind::NotFound, "Resource does not exist"), &[]);
    }
    let knowledge = Knowledge { settings, context, arrived: runtime::now() };
    let mut cors = Vec::new();
    match judged(&request, &head, env, &knowledge, &mut cors).await {
        Ok(response) => Ok(response),
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
    let deployment = knowledge.deployment().await;
    let origins = match (&deployment, &knowledge.settings.origins) {
        (Ok(deployment), _) => deployment.origins.clone(),
        (Err(_), Some(origins)) => origins.clone(),
        (Err(_), None) => Origins::default(),
    };
    let mut origin = origins.judge(&head.headers);
    if deployment.is_ok() || knowledge.settings.origins.is_some() {
        *cors = origins.headers(&origin);
    }
    if head.method == Method::OPTIONS && head.headers.contains_key("access-control-request-method") {
        origin.admit()?;
        let headers = origins.preflight_headers(&origin);
        return answer::preflight(&headers).map_err(|_| internal());
    }

    let identity = caller::of(head, knowledge.settings).await?;
    let mut deployment = deployment?;
    if origin.admit().is_err() {
        deployment = knowledge.deciding_deployment().await?;
        origin = deployment.origins.judge(&head.headers);
        *cors = deployment.origins.headers(&origin);
        origin.admit()?;
    }
    let address = match deployment.mounts.resolve(&head.path) {
        Err(refusal) if refusal.kind() == Kind::NotFound => {
            deployment = knowledge.deciding_deployment().await?;
            deployment.mounts.resolve(&head.path)?
        }
        address => address?,
    };
    head.check_length()?;

    match &address.route {
        Route::Stream(namespace, name) => {
            judge_stream(head, &identity, namespace, name, &deployment, knowledge).await?;
        }
        Route::Health | Route::Ready | Route::Metrics | Route::EdgeSettings | Route::EdgeDefinitions(_) => {
            return Err(Refusal::new(Kind::NotFound, "Resource does not exist"));
        }
        _ if !knowledge.settings.passes_other_paths => {
            return Err(Refusal::new(Kind::NotFound, "Resource does not exist"));
        }
        _ => {}
    }
    forward(request, head, identity, origin, &address, knowledge.settings).await
}

/// Judges a request for a stream: with what is kept, and before that refuses, with what is fresh.
async fn judge_stream(
    head: &Head,
    identity: &Identity,
    namespace: &Namespace,
    name: &StreamName,
    deployment: &Deployment,
    knowledge: &Knowledge<'_>,
) -> std::result::Result<(), Refusal> {
    let now = i64::try_from(runtime::now()).unwrap_or(i64::MAX);
    let server = ServerVariables {
        user: identity.claims().map(shared::identity::Claims::document),
        now: bson::DateTime::from_millis(now),
    };
    let judge = |declared: &Option<_>| {
        let admitted = admission::judge(head, declared.as_ref(), name, &server, deployment.operators)?;
        match admitted.request.wanted {
            Wanted::Nothing => {
                Err(Refusal::new(Kind::NeedsUpgrade, "Change Stream requires WebSocket or SSE"))
            }
            Wanted::Upgrade { .. } | Wanted::EventStream => Ok(()),
        }
    };
    match judge(&*knowledge.declared(namespace).await?) {
        Ok(()) => Ok(()),
        Err(_) => judge(&*knowledge.deciding_declared(namespace).await?),
    }
}

async fn forward(
    request: &web_sys::Request,
    head: &Head,
    identity: Identity,
    origin: Verdict,
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
        statement: &Statement { identity, client: head.peer, origin },
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
    let client = head.peer.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
    match limiter.limit(client).await {
        Ok(outcome) if !outcome.success => {
            Err(Refusal::new(Kind::TooMany, "too many requests from this address"))
        }
        _ => Ok(()), // a limiter that fails shuts nobody out: the backend has its own limits
    }
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
