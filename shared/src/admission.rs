//! The one judgement of a request for a stream: by the edge from cached definitions, by the backend from its own.
//!
//! Credentials and permissions come first (401, 403: `shared::permission`). Here: 404 before 405 before 400, so that a
//! request for what does not exist learns nothing else.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Method, header};

use crate::{
    definition::{Binding, Definition, Definitions},
    event_json::JsonMode,
    name::StreamName,
    permission::Grant,
    protocol::{Negotiated, Protocol},
    refusal::{Kind, Refusal},
    request::{Head, Query},
    variables::{OperatorCheck, ServerVariables, Variables},
};

/// In which way the client wants its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Over a WebSocket.
    Upgrade {
        /// `Sec-WebSocket-Key`, checked.
        key: String,
        /// The sub-protocol.
        negotiated: Negotiated,
    },
    /// As server-sent events.
    EventStream,
    /// Not at all: a plain GET, by which a browser learns why its upgrade was refused.
    Nothing,
}

/// What a request for a stream says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRequest {
    /// In which way.
    pub wanted: Wanted,
    /// In which JSON.
    pub json_mode: JsonMode,
    /// Whether events in the plain form carry their position.
    pub position: bool,
    /// Whether the client wants the current documents first.
    pub snapshot: bool,
    /// The position behind which the client continues, as it was given out; only the backend can open it.
    pub resume_after: Option<String>,
}

/// A request that may be served.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// What it says.
    pub request: StreamRequest,
    /// What was declared.
    pub definition: Definition,
    /// The definition with the client's values in it.
    pub binding: Binding,
}

/// Judges a request for the stream `name` of one who may follow it; `definitions` is `None` where the collection does not exist.
pub fn judge(
    head: &Head,
    definitions: Option<&Definitions>,
    name: &StreamName,
    grant: &Grant,
    server: &ServerVariables,
    operators: OperatorCheck,
) -> Result<Admitted, Refusal> {
    let definition =
        definitions.and_then(|definitions| definitions.get(name)).ok_or_else(Refusal::no_stream)?;
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Err(Refusal::method_not_allowed(head.method.as_str(), "GET, HEAD, OPTIONS"));
    }
    let query = Query::parse(head.query.as_deref())?;
    let wanted = wanted(head)?;
    let json_mode = JsonMode::parse(query.get("jsonMode"))?;
    let position = query.flag("position")?;
    // What the browser remembers is newer than what the page once wrote into the address.
    let remembered = head.header("last-event-id").filter(|_| wanted == Wanted::EventStream);
    let resume_after = remembered.or_else(|| query.get("resumeAfter")).filter(|text| !text.is_empty());
    let resume_after = resume_after.map(str::to_owned);
    let definition = definition.as_ref().map_err(Clone::clone)?;
    // Who continues has the documents already.
    let snapshot = query.flag("snapshot")? && resume_after.is_none();
    if snapshot {
        check_snapshot(&wanted, definition)?;
    }
    let variables = grant.variables(Variables::parse(query.get("avars"), operators)?)?;
    let binding = definition.bind(&variables, server)?;
    Ok(Admitted {
        request: StreamRequest { wanted, json_mode, position, snapshot, resume_after },
        definition: definition.clone(),
        binding,
    })
}

fn check_snapshot(wanted: &Wanted, definition: &Definition) -> Result<(), Refusal> {
    let message = match wanted {
        _ if definition.snapshot().is_none() => {
            "this stream has no snapshot, expected a definition with the member snapshot"
        }
        Wanted::Upgrade { negotiated, .. } if negotiated.protocol == Protocol::Plain => {
            "the plain form has no snapshot, expected the sub-protocol tailrace.v1.json or tailrace.v1.bson"
        }
        _ => return Ok(()),
    };
    Err(Refusal::new(Kind::BadRequest, message))
}

/// Whether who comes back to an event stream must stop. A browser's `EventSource` does so at any status but 200 (WHATWG HTML,
/// "Server-sent events"); clients that are not the browser's would return to a 404 for ever, and stop at 204.
pub fn stops_event_source(head: &Head, refusal: &Refusal) -> bool {
    head.wants_event_stream()
        && head.headers.contains_key("last-event-id")
        && matches!(refusal.kind(), Kind::NotFound | Kind::Forbidden)
}

fn wanted(head: &Head) -> Result<Wanted, Refusal> {
    if !head.is_upgrade() {
        let stream = head.method == Method::GET && head.wants_event_stream();
        return Ok(if stream { Wanted::EventStream } else { Wanted::Nothing });
    }
    let version = head.header("sec-websocket-version").unwrap_or_default();
    if version != "13" {
        let message = format!("Sec-WebSocket-Version is {version:?}, expected 13");
        return Err(Refusal::new(Kind::UpgradeRequired, message));
    }
    let key =
        head.headers.get(header::SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok()).unwrap_or_default();
    // RFC 6455, section 4.2.1: 16 bytes in base64.
    if !STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16) {
        return Err(Refusal::new(Kind::BadRequest, "Sec-WebSocket-Key is not 16 bytes in base64"));
    }
    Ok(Wanted::Upgrade { key: key.to_owned(), negotiated: Negotiated::of(&head.headers)? })
}
