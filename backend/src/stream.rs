//! Opening a stream: from a judged request to a subscription, and from that to a socket or an event stream.

use std::{sync::Arc, time::Duration};

use bson::DateTime;
use serde_json::json;
use shared::{
    address::Address,
    admission::{Admitted, StreamRequest, Wanted},
    definition::Before,
    following::Following,
    identity::Claims,
    name::{Namespace, StreamName},
    permission::{Grant, Question},
    protocol::Protocol,
    refusal::{Kind, Refusal},
    request::Head,
    variables::ServerVariables,
    visibility::Visibility,
};
use tokio::time::timeout;
use warp::reply::Response;

use crate::{
    answer,
    app::App,
    authentication::Caller,
    event::Form,
    hub,
    known::Declared,
    limits::Place,
    metadata, metrics, mongo,
    permission::May,
    position::Position,
    renewal::Renewal,
    routes::Upgrade,
    seal::Seal,
    sessions::{Registration, Session},
    snapshot::{self, Reader},
    sse,
    subscription::Subscription,
    view::View,
    websocket::{self, Handshake},
};

/// A client is told within this time, 503 if need be. The edge waits for eight seconds.
const OPENS_WITHIN: Duration = Duration::from_secs(5);

/// How often a definition may change while one request opens its stream.
const ATTEMPTS: usize = 10;

/// Who wants to follow what.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The request.
    pub head: &'a Head,
    /// Whose it is.
    pub caller: &'a Caller,
    /// Where it goes.
    pub address: &'a Address,
    /// The collection there.
    pub namespace: &'a Namespace,
    /// The stream's name.
    pub name: &'a StreamName,
}

/// A stream that is open for one client.
#[derive(Debug)]
pub struct Opened {
    /// Its events.
    pub subscription: Subscription,
    /// By what right it is open.
    pub registration: Registration,
    /// What it takes under the limits, free again when this is dropped.
    place: Place,
    reader: Option<Reader>,
    view: View,
    request: StreamRequest,
    declared: Arc<Declared>,
}

/// Whom an open stream serves, and how.
#[derive(Debug)]
pub struct Client {
    /// By what right: it is judged again when rights change, for as long as this is held.
    pub registration: Registration,
    /// Counts what is sent.
    pub figures: metrics::Subscriber,
    /// The form in which events go out.
    pub form: Form,
    /// Whether the client continues behind a position.
    pub returns: bool,
    /// When its credentials run out, in Unix seconds.
    pub expires_at: Option<u64>,
}

/// Answers a request for a stream.
pub async fn open(app: &Arc<App>, wish: &Wish<'_>, upgrade: Option<Upgrade>) -> Result<Response, Refusal> {
    let opening = async {
        for _ in 0..ATTEMPTS {
            if let Some(opened) = attempt(app, wish).await? {
                return Ok(opened);
            }
        }
        Err(Refusal::new(Kind::Unavailable, "the definition keeps changing"))
    };
    let opened = in_time(OPENS_WITHIN, opening, |opened| {
        let is_followed = opened.request.wanted != Wanted::Nothing;
        async move { if is_followed { app.authenticator.burn_ticket(wish.caller).await } else { Ok(()) } }
    })
    .await?;
    respond(app, upgrade, wish, opened)
}

/// Opens, and spends the ticket behind the last thing that could be refused for now, before the answer: a 503 does not spend
/// it. There is one time for both: an edge that has given up would show a spent ticket to another node.
async fn in_time<T, Spent>(
    limit: Duration,
    opening: impl Future<Output = Result<T, Refusal>>,
    spend: impl FnOnce(&T) -> Spent,
) -> Result<T, Refusal>
where
    Spent: Future<Output = Result<(), Refusal>>,
{
    let both = async {
        let opened = opening.await?;
        spend(&opened).await?;
        Ok(opened)
    };
    timeout(limit, both)
        .await
        .unwrap_or_else(|_| Err(Refusal::new(Kind::Unavailable, "MongoDB did not open the stream in time")))
}

/// Judges and opens; `None` when what was judged by has changed in the meantime: then nobody closes this one.
async fn attempt(app: &App, wish: &Wish<'_>) -> Result<Option<Opened>, Refusal> {
    let Wish { head, caller, address, namespace, .. } = *wish;
    let access = app.permissions.current()?;
    let now = DateTime::now();
    let query = head.query.as_deref();
    let identity = &caller.identity;
    let grant = access.decide(&Question { identity, method: &head.method, address, query, now })?;
    app.rates.ask()?;
    let mut place = app.places.open(caller, &grant)?;
    app.catalog.check_followed().await?;
    let (declared, admitted) = admit(app, wish, &grant, now).await?;
    let Followed { subscription, reader, view } =
        subscribe(app, namespace, &grant.visibility, &admitted, now, &mut place).await?;
    let registration = app.sessions.enter(Session {
        identity: identity.clone(),
        address: Arc::new(address.clone()),
        query: head.query.clone(),
        now,
        grant: Arc::new(grant),
        queue: Arc::clone(subscription.queue()),
    });
    let current = app.catalog.is_current(namespace, &declared) && app.permissions.is_current(&access);
    // Nobody closes one whose user was changed or removed before it was in the list.
    if let Some(claims) = identity.claims() {
        app.authenticator.check_user(claims).await?;
    }
    let request = admitted.request;
    Ok(current.then_some(Opened { subscription, registration, place, reader, view, request, declared }))
}

/// A part of a source.
struct Followed {
    subscription: Subscription,
    reader: Option<Reader>,
    view: View,
}

/// Joins or opens the source; and opens the snapshot, if one is wanted, of the moment behind which the subscription begins.
async fn subscribe(
    app: &App,
    namespace: &Namespace,
    visibility: &Visibility,
    admitted: &Admitted,
    now: DateTime,
    place: &mut Place,
) -> Result<Followed, Refusal> {
    let refused = |error: mongodb::error::Error| mongo::refusal(&error);
    let client = &app.mongo.operations;
    let (definition, binding) = (&admitted.definition, &admitted.binding);
    let asks_for_images = binding.options().full_document_before_change != Before::Off;
    let images = (asks_for_images || !visibility.shows_everything())
        && metadata::records_images(client, namespace).await.map_err(refused)?;
    let following = Following::new(binding, &visibility.of_reads(), images);
    place.follow(namespace, definition.uri(), following.key())?;
    let seal = Arc::new(app.position_key.seal(client, namespace, definition.uri()).await.map_err(refused)?);
    let view = shared::view::key(definition, binding, visibility, images, now);
    let view = View::named(&app.position_key, client, namespace, &view).await.map_err(refused)?;
    let wish =
        |after, held| hub::Wish { namespace, definition, following: &following, seal: &seal, after, held };
    let Some(snapshot) = definition.snapshot().filter(|_| admitted.request.snapshot) else {
        let after = position(&seal, admitted.request.resume_after.as_deref())?;
        let subscription = app.hub.subscribe(wish(after, false)).await?;
        return Ok(Followed { subscription, reader: None, view });
    };
    let moment = snapshot::moment(client).await.map_err(refused)?;
    let after = Some(Position::after(moment));
    let subscription = app.hub.subscribe(wish(after, true)).await?;
    let reader =
        Reader::open(client, namespace, binding, visibility, snapshot, moment).await.map_err(refused)?;
    Ok(Followed { subscription, reader: Some(reader), view })
}

fn respond(
    app: &Arc<App>,
    upgrade: Option<Upgrade>,
    wish: &Wish<'_>,
    opened: Opened,
) -> Result<Response, Refusal> {
    let Wish { caller, name, .. } = *wish;
    let Opened { subscription, registration, place, reader, view, request, declared } = opened;
    let returns = request.resume_after.is_some();
    let client = |form| Client {
        registration,
        figures: app.metrics.subscriber(form),
        form,
        returns,
        expires_at: caller.expires_at,
    };
    match request.wanted {
        Wanted::EventStream => {
            let form = Form::Sse(request.json_mode);
            let snapshot = reader.map(|reader| reader.into_frames(form, Arc::clone(&app.metrics)));
            let keepalive = app.config.limits.ping_seconds;
            Ok(sse::respond(subscription, place, client(form), snapshot, keepalive))
        }
        Wanted::Upgrade { key, negotiated } => {
            let upgrade = upgrade.ok_or_else(|| {
                Refusal::new(Kind::BadRequest, "this connection cannot be upgraded, expected HTTP/1.1")
            })?;
            let handshake = Handshake { key, echo: negotiated.echo };
            let response = handshake.response();
            let mode = request.json_mode;
            let form = match negotiated.protocol {
                Protocol::Plain if request.position => Form::PlainWithPosition(mode),
                Protocol::Plain => Form::Plain(mode),
                Protocol::V1Json => Form::V1Json(mode),
                Protocol::V1Bson => Form::V1Bson,
            };
            let mut session = websocket::Session::new(
                subscription,
                client(form),
                reader.map(|reader| reader.into_frames(form, Arc::clone(&app.metrics))),
                &app.config.limits,
            );
            if caller.identity.claims().is_some() && matches!(form, Form::V1Json(_) | Form::V1Bson) {
                let ahead = Duration::from_secs(app.config.auth.expiring_seconds);
                let renewal =
                    |registration| Renewal::new(Arc::clone(app), declared, name.clone(), registration);
                session = session.renewed(renewal, ahead);
            }
            let sockets = app.sockets.clone();
            app.sockets.spawn(async move {
                let Upgrade { connection, place: of_connection } = upgrade;
                match connection.await {
                    Ok(upgraded) => {
                        if let Some(mut socket) = session.accept(upgraded).await
                            && session.greet(&mut socket, &view).await.is_ok()
                        {
                            // In a task of its own, which holds nothing of the handshake. What is taken stays taken until
                            // the socket has ended, whatever way that is.
                            sockets.spawn(session.run(socket, (place, of_connection)));
                        }
                    }
                    Err(error) => tracing::debug!(%error, "the client left during the handshake"),
                }
            });
            Ok(response)
        }
        Wanted::Nothing => Err(Refusal::new(Kind::NeedsUpgrade, "Change Stream requires WebSocket or SSE")),
    }
}

/// 400 for a position that this deployment did not give out for this very stream.
fn position(seal: &Seal, sealed: Option<&str>) -> Result<Option<Position>, Refusal> {
    let open = |text| {
        seal.open(text).ok_or_else(|| {
            Refusal::new(
                Kind::BadPosition,
                "resumeAfter is no position of this stream, expected one that it gave",
            )
        })
    };
    sealed.map(open).transpose()
}

/// Judges the request against what is declared. A refusal comes from the database, not from memory: what was declared a
/// moment ago on another node is never refused.
async fn admit(
    app: &App,
    wish: &Wish<'_>,
    grant: &Grant,
    now: DateTime,
) -> Result<(Arc<Declared>, Admitted), Refusal> {
    let Wish { head, namespace, name, .. } = *wish;
    let server = ServerVariables { user: wish.caller.identity.claims().map(Claims::document), now };
    let judge = |declared: &Declared| {
        let definitions = declared.exists.then_some(&declared.definitions);
        let admitted =
            shared::admission::judge(head, definitions, name, grant, &server, app.config.operator_check())?;
        grant.limits.of_request(app.config.limits.of_request()).check_variables(head)?;
        Ok::<_, Refusal>(admitted)
    };
    let declared = app.catalog.read(namespace).await?;
    if let Ok(admitted) = judge(&declared) {
        return Ok((declared, admitted));
    }
    let declared = app.catalog.read_through(namespace).await?;
    let admitted = judge(&declared)?;
    Ok((declared, admitted))
}

/// `GET …/_streams`: the streams of a collection that the caller may open, with their addresses and the variables that
/// they need.
pub async fn list(
    app: &App,
    may: &May<'_>,
    address: &Address,
    namespace: &Namespace,
) -> Result<Response, Refusal> {
    let head = may.head;
    if !head.method.is_safe() {
        return Err(Refusal::method_not_allowed(head.method.as_str(), "GET, HEAD, OPTIONS"));
    }
    let declared = app.catalog.read_through(namespace).await?;
    if !declared.exists {
        return Err(Refusal::new(Kind::NotFound, "Collection does not exist"));
    }
    let streams: Vec<_> = declared
        .definitions
        .iter()
        .filter_map(|(name, definition)| {
            // A broken one cannot be opened; its own address tells why.
            let definition = definition.as_ref().ok()?;
            let href = format!("{}/{}", address.canonical, encoded(name));
            let stream = app.mounts.resolve(&href).ok()?;
            if !may.follows(&stream) {
                return None;
            }
            let variables: Vec<_> = definition
                .variables()
                .iter()
                .map(|variable| json!({ "name": variable.name, "required": variable.required }))
                .collect();
            Some(json!({ "uri": name.as_str(), "href": href, "variables": variables }))
        })
        .collect();
    Ok(answer::json(json!(streams).to_string()))
}

/// A stream's name as a segment of a path.
pub(crate) fn encoded(name: &StreamName) -> String {
    percent_encoding::utf8_percent_encode(name.as_str(), percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test]
    async fn opening_and_the_ticket_have_one_time_together() {
        let (limit, each) = (Duration::from_millis(100), Duration::from_millis(75));
        let opening = async {
            sleep(each).await;
            Ok("opened")
        };
        let spend = |_: &&str| async {
            sleep(each).await;
            Ok(())
        };
        let refusal = in_time(limit, opening, spend).await.expect_err("longer together");
        assert_eq!(refusal.to_string(), "503 MongoDB did not open the stream in time");
        let at_once = in_time(limit, async { Ok("opened") }, |_| async { Ok(()) }).await;
        assert_eq!(at_once, Ok("opened"));
    }
}
