//! Definitions: the streams that a collection declares, checked, and bound to one client's variables.
//!
//! A [`Definition`] exists only when every rule holds that can be judged without MongoDB. What MongoDB itself refuses is
//! found by opening [`Definition::probes`].

mod binding;
mod event_id;
mod expression;
mod filter;
mod options;
mod place;
mod stage;
mod template;

use std::sync::Arc;

use bson::{Bson, Document, doc};

pub use binding::Binding;
pub(crate) use binding::Resolved;
pub use options::{Before, FullDocument, MAX_SNAPSHOT, Snapshot, StreamOptions};

use self::{
    place::{Fault, Place},
    stage::Stage,
};
use crate::{
    escape,
    name::StreamName,
    refusal::{Kind, Refusal},
    variables::{ServerVariables, Variables},
};

/// The most streams that one collection may declare.
pub const MAX_STREAMS: usize = 100;
/// The most stages that one stream may have.
pub const MAX_STAGES: usize = 50;
/// The largest definition, in bytes of BSON.
pub const MAX_DEFINITION_BYTES: usize = 64 * 1024;

const STREAMS: &str = "expected an array of streams, each {\"uri\": <name>, \"stages\": [ … ]}";
const MEMBERS: &[&str] = &["uri", "stages", "fullDocument", "fullDocumentBeforeChange", "snapshot"];

/// A variable that a definition uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// Its name; one that begins with `@` is the server's.
    pub name: String,
    /// Whether the stream cannot be opened without it: no default is given, and it is not only used under an `$ifvar`.
    pub required: bool,
}

/// One stream's metadata, checked.
#[derive(Clone, Debug)]
pub struct Definition {
    uri: StreamName,
    stages: Vec<Document>,
    checked: Vec<Stage>,
    options: StreamOptions,
    snapshot: Option<Snapshot>,
    /// All of it as BSON: what equality goes by, since `bson::Document` compares without the order of members.
    bytes: Arc<[u8]>,
}

impl PartialEq for Definition {
    /// Whether the two are the same definition; spelling and unknown members do not count.
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Definition {}

impl Definition {
    /// Checks one element of `streams` whose `uri` is known to be good. Unknown members are not looked at.
    fn check(document: &Document, uri: StreamName, place: &Place) -> Result<Self, Fault> {
        let stages_at = place.member("stages");
        let expected = || stages_at.fault("expected an array of stages");
        let values = document.get("stages").and_then(Bson::as_array).ok_or_else(expected)?;
        if values.len() > MAX_STAGES {
            return Err(stages_at.fault(format!("{} stages, expected at most {MAX_STAGES}", values.len())));
        }
        let mut stages = Vec::new();
        let mut checked = Vec::new();
        for (index, value) in values.iter().enumerate() {
            checked.push(Stage::check(value, &stages_at.index(index))?);
            stages.extend(value.as_document().cloned());
        }
        let options = StreamOptions::check(document, place)?;
        let snapshot = document
            .get("snapshot")
            .map(|snapshot| Snapshot::check(snapshot, &place.member("snapshot")))
            .transpose()?;
        let all = doc! {
            "uri": uri.as_str(),
            "stages": stages.clone(),
            "options": options.to_document(),
            "snapshot": snapshot.as_ref().map(Snapshot::to_document),
        };
        let bytes = all.to_vec().map_err(|_| stages_at.fault("a key with NUL, expected none"))?;
        Ok(Self { uri, stages, checked, options, snapshot, bytes: bytes.into() })
    }

    /// The stream's name, the last segment of its address.
    pub fn uri(&self) -> &StreamName {
        &self.uri
    }

    /// Equal for equal definitions.
    pub fn key(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// The stages as they were written, in the plain spelling, with `$var` and `$ifvar`.
    pub fn stages(&self) -> &[Document] {
        &self.stages
    }

    /// Which documents MongoDB adds to the events.
    pub fn options(&self) -> StreamOptions {
        self.options
    }

    /// What a snapshot shows, when the stream allows one.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// The variables, each once, in the order of their first use.
    pub fn variables(&self) -> Vec<Needed> {
        let mut needed: Vec<Needed> = Vec::new();
        for stage in &self.checked {
            stage.variables(&mut |name, required| match needed.iter_mut().find(|known| known.name == name) {
                Some(known) => known.required |= required,
                None => needed.push(Needed { name: name.to_owned(), required }),
            });
        }
        needed
    }

    /// Puts the values in.
    pub fn bind(&self, client: &Variables, server: &ServerVariables) -> Result<Binding, Refusal> {
        Binding::new(&self.checked, self.options, client, server)
    }

    /// Pipelines that MongoDB can be asked about when the definition is written: every branch of every `$ifvar` in its place,
    /// the stages without variables first, and all variables replaced by one candidate, a pipeline for each candidate.
    /// Without variables it is exactly one.
    ///
    /// MongoDB judges each stage by itself when it opens a stream, so one pipeline can hold both branches in any order. When
    /// all pipelines are refused with one and the same message, no value is the cause, and the definition is refused with it.
    /// They are never run.
    pub fn probes(&self) -> Vec<Vec<Document>> {
        binding::probes(&self.checked)
    }
}

/// The streams of one collection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Definitions {
    streams: Vec<(StreamName, Result<Definition, Refusal>)>,
    notes: Vec<String>,
}

impl Definitions {
    /// Checks what a client writes, in either spelling: the metadata property `streams`. One fault refuses it all, and names
    /// its place.
    pub fn written(streams: &Bson) -> Result<Self, Refusal> {
        Self::check_written(streams).map_err(|Fault(message)| Refusal::new(Kind::BadDefinition, message))
    }

    fn check_written(streams: &Bson) -> Result<Self, Fault> {
        let place = Place::root("streams");
        let Bson::Array(values) = streams else { return Err(place.fault(STREAMS)) };
        if values.len() > MAX_STREAMS {
            return Err(place.fault(format!("{} streams, expected at most {MAX_STREAMS}", values.len())));
        }
        let mut definitions = Self::default();
        for (index, value) in values.iter().enumerate() {
            let place = place.index(index);
            let document = plain(value, &place)?;
            if let Some(path) = escape::ambiguity(value) {
                return Err(place
                    .member(&path)
                    .fault("a colon before a dot, which is stored as two colons, expected another name"));
            }
            if let Some(unknown) = document.keys().find(|key| !MEMBERS.contains(&key.as_str())) {
                return Err(place
                    .member(unknown)
                    .fault(format!("unknown member, expected {}", MEMBERS.join(", "))));
            }
            let uri = uri(&document, &place)?;
            if let Some(first) = definitions.streams.iter().position(|(name, _)| *name == uri) {
                return Err(place
                    .member("uri")
                    .fault(format!("{:?} is the uri of streams[{first}] already", uri.as_str())));
            }
            let definition = Definition::check(&document, uri.clone(), &place)?;
            if definition.bytes.len() > MAX_DEFINITION_BYTES {
                return Err(place.fault(format!(
                    "{} bytes of BSON, expected at most {MAX_DEFINITION_BYTES}",
                    definition.bytes.len()
                )));
            }
            definitions.streams.push((uri, Ok(definition)));
        }
        Ok(definitions)
    }

    /// Reads what the database holds, which any tool may have written. A broken stream stays with its fault and breaks no
    /// other; unknown members are passed over and noted, except `notify_when`: to ignore a filter would show too much.
    pub fn stored(streams: Option<&Bson>) -> Self {
        let mut definitions = Self::default();
        let place = Place::root("streams");
        let values = match streams {
            None => return definitions,
            Some(Bson::Array(values)) => values,
            Some(_) => {
                definitions.notes.push(place.fault(STREAMS).0);
                return definitions;
            }
        };
        for (index, value) in values.iter().enumerate() {
            definitions.add_stored(value, &place.index(index));
        }
        definitions
    }

    fn add_stored(&mut self, value: &Bson, place: &Place) {
        // The name is read even where the rest is beyond reading, so that its address can tell what is wrong.
        let broken = |Fault(message)| Refusal::new(Kind::BrokenDefinition, message);
        let named = doc! { "uri": value.as_document().and_then(|stream| stream.get("uri")).cloned() };
        let uri = match plain(&named.into(), place).and_then(|document| uri(&document, place)) {
            Ok(uri) => uri,
            Err(Fault(message)) => return self.notes.push(message),
        };
        if let Some(index) = self.streams.iter().position(|(name, _)| *name == uri) {
            let fault =
                place.member("uri").fault(format!("{:?} is the uri of another stream too", uri.as_str()));
            self.streams[index].1 = Err(broken(fault));
            return;
        }
        let definition = plain(value, place).and_then(|document| {
            for unknown in document.keys().filter(|key| !MEMBERS.contains(&key.as_str())) {
                if unknown == "notify_when" {
                    return Err(place
                        .member(unknown)
                        .fault("not supported, expected a $match among the stages"));
                }
                self.notes.push(place.member(unknown).fault("unknown member, ignored").0);
            }
            Definition::check(&document, uri.clone(), place)
        });
        self.streams.push((uri, definition.map_err(broken)));
    }

    /// The stream of that name: its definition, or the 500 that names its fault.
    pub fn get(&self, name: &StreamName) -> Option<&Result<Definition, Refusal>> {
        self.iter().find_map(|(known, definition)| (known == name).then_some(definition))
    }

    /// All streams in the order in which they are declared.
    pub fn iter(&self) -> impl Iterator<Item = (&StreamName, &Result<Definition, Refusal>)> {
        self.streams.iter().map(|(name, definition)| (name, definition))
    }

    /// What was passed over when reading, one line each with its place, for the log.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// A stream as an object in the plain spelling.
fn plain(value: &Bson, place: &Place) -> Result<Document, Fault> {
    if let Some(path) = escape::collision(value) {
        return Err(place
            .member(&path)
            .fault("the same key twice, in the plain and the escaped spelling, expected it once"));
    }
    match escape::unescape(value) {
        Bson::Document(document) => Ok(document),
        _ => Err(place.fault("expected an object {\"uri\": <name>, \"stages\": [ … ]}")),
    }
}

fn uri(document: &Document, place: &Place) -> Result<StreamName, Fault> {
    document.get("uri").and_then(Bson::as_str).and_then(StreamName::new).ok_or_else(|| {
        place.member("uri").fault("expected a name that is one segment of a path, of 1 to 200 bytes")
    })
}

#[cfg(test)]
mod tests;
