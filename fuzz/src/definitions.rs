//! Definitions of streams: written by clients, and stored by any tool.

use bson::{Bson, DateTime, Document, bson, doc};
use shared::{
    definition::{Binding, Definition, Definitions, MAX_DEFINITION_BYTES, MAX_STAGES, MAX_STREAMS},
    edge_definitions::{Collection, Signed},
    edge_key::EdgeKeys,
    escape,
    explanation::Explanation,
    following::Following,
    name::{CollectionName, DatabaseName, Namespace},
    planner::Origin,
    refusal::Kind,
    shell_json,
    variables::{OperatorCheck, ServerVariables, Variables},
    visibility::Template,
};

use crate::values::{bytes, has_key, walk};

const STAGES: &[&str] =
    &["$match", "$project", "$addFields", "$set", "$unset", "$replaceRoot", "$replaceWith", "$redact"];

const FORBIDDEN: &[&str] =
    &["$where", "$function", "$accumulator", "$out", "$merge", "$lookup", "$unionWith"];

/// Reads the property `streams`, in the JSON of a client or as the BSON of the database.
pub fn run(data: &[u8]) {
    if let Some(streams) = of_json(data).or_else(|| of_bson(data)) {
        check(&streams);
    }
}

fn of_json(data: &[u8]) -> Option<Bson> {
    shell_json::parse(std::str::from_utf8(data).ok()?).ok()
}

/// MongoDB stores no document that is nested deeper.
const DEEPEST: usize = 180;

fn of_bson(data: &[u8]) -> Option<Bson> {
    let streams = Document::from_reader(data).ok()?.remove("streams")?;
    (crate::values::depth(&streams) <= DEEPEST).then_some(streams)
}

fn check(streams: &Bson) {
    spellings(streams);
    let stored = Definitions::stored(Some(streams));
    for (_, definition) in stored.iter() {
        match definition {
            Ok(definition) => keeps_the_rules(definition),
            Err(refusal) => {
                assert_eq!(refusal.kind(), Kind::BrokenDefinition);
                assert!(refusal.message().starts_with("streams["), "it names the place: {refusal}");
            }
        }
    }
    assert!(stored.notes().iter().all(|note| note.starts_with("streams")), "{:?}", stored.notes());
    match Definitions::written(streams) {
        Ok(written) => {
            assert_eq!(stored, written, "what is accepted is read back as it was meant");
            assert!(stored.notes().is_empty());
            assert!(written.iter().count() <= MAX_STREAMS);
            let again =
                Definitions::written(&escape::escape(streams)).expect("its other spelling is accepted");
            assert_eq!(again, written, "the spelling does not matter");
        }
        Err(refusal) => {
            assert_eq!(refusal.kind(), Kind::BadDefinition);
            assert!(refusal.message().starts_with("streams"), "it names the place: {refusal}");
        }
    }
    reaches_the_edge(streams);
}

/// There are two spellings, and each way leads to one of them.
fn spellings(streams: &Bson) {
    let (escaped, plain) = (escape::escape(streams), escape::unescape(streams));
    assert_eq!(bytes(&escape::escape(&escaped)), bytes(&escaped), "escaping twice is escaping once");
    if escape::collision(streams).is_none() && escape::ambiguity(streams).is_none() {
        let again = escape::unescape(&escaped);
        assert_eq!(bytes(&again), bytes(&plain), "both ways lead to the plain spelling");
    }
}

fn keeps_the_rules(definition: &Definition) {
    assert!(definition.stages().len() <= MAX_STAGES);
    let needed = definition.variables();
    let required = |name: &str| needed.iter().any(|variable| variable.required && variable.name == name);
    for probe in definition.probes() {
        allowed(&probe);
    }
    let server = ServerVariables {
        user: Some(doc! { "sub": "uji", "tenant": 7 }),
        now: DateTime::from_millis(1_700_000_000_000),
    };
    for avars in ["{}", "{n:1,m:'x',a:{b:[1,{c:2}]},name:'$fullDocument.x',x:null,y:1.5}"] {
        let variables = Variables::parse(Some(avars), OperatorCheck::On).expect("variables");
        match definition.bind(&variables, &server) {
            Ok(binding) => {
                allowed(binding.pipeline());
                let again = definition.bind(&variables, &server).expect("it binds again");
                assert_eq!(binding, again);
                is_followed(definition, &binding, &server);
                for variable in needed.iter().filter(|variable| variable.required) {
                    assert!(binding.values().contains_key(&variable.name), "{} is needed", variable.name);
                }
            }
            Err(refusal) => {
                let unbound = matches!(refusal.kind(), Kind::VariableNotBound | Kind::ClaimMissing);
                assert!(unbound, "{refusal}");
                assert!(!needed.is_empty());
                let name = refusal.message().split(' ').nth(1).unwrap_or_default();
                let known = needed.iter().any(|variable| refusal.message().contains(&variable.name));
                assert!(required(name) || known, "it was not said to be needed: {refusal}");
            }
        }
    }
}

/// Behind every kind of permission it is known who shares a cursor, and why not.
fn is_followed(definition: &Definition, binding: &Binding, server: &ServerVariables) {
    let filter = doc! { "tenant": "@user.tenant", "a": { "$ne": 1 } };
    let hidden = doc! { "b": 0, "a.c": 0 };
    let kinds = [(None, None), (Some(&filter), None), (None, Some(&hidden)), (Some(&filter), Some(&hidden))];
    for (filter, hidden) in kinds {
        let template = Template::check(filter, None, hidden).expect("a good permission");
        let visibility = template.resolve(server).expect("the claims are there").of_reads();
        for images in [false, true] {
            let following = Following::new(binding, &visibility, images);
            allowed(following.source().declared());
            let explanation = Explanation::new(binding, &visibility, images);
            assert_eq!(explanation.own(), following.own());
            match following.own() {
                None => assert_eq!(explanation.lookup().is_some(), following.wanted().is_some()),
                Some(own) => {
                    assert!(following.wanted().is_none());
                    if let Origin::Stage(index) = own.origin {
                        assert!(index < definition.stages().len(), "{own}");
                    }
                }
            }
            assert!(explanation.to_string().lines().count() >= 3);
        }
    }
}

/// What goes to MongoDB holds nothing that runs code, writes, or takes the event's `_id`.
fn allowed(pipeline: &[Document]) {
    for stage in pipeline {
        assert_eq!(stage.len(), 1, "{stage}");
        let (operator, argument) = stage.iter().next().expect("one key");
        assert!(STAGES.contains(&operator.as_str()), "{operator}");
        assert!(!has_key(argument, |key| FORBIDDEN.contains(&key)), "{stage}");
        // What is no literal of a value's is resolved.
        assert!(!has_key(argument, |key| key == "$var" || key == "$ifvar"), "left unresolved: {stage}");
        walk(argument, &mut |_, value, _| {
            assert!(!matches!(value, Bson::JavaScriptCode(_) | Bson::JavaScriptCodeWithScope(_)));
        });
        if let ("$set" | "$addFields", Bson::Document(fields)) = (operator.as_str(), argument) {
            assert!(fields.keys().all(|field| field != "_id" && !field.starts_with("_id.")), "{stage}");
        }
        if let ("$unset", Bson::String(field)) = (operator.as_str(), argument) {
            assert!(field != "_id" && !field.starts_with("_id."), "{stage}");
        }
    }
    let size = bytes(&bson!(pipeline.to_vec())).len();
    assert!(size < 16 * MAX_DEFINITION_BYTES.max(size / 16 + 1));
}

/// The edge reads what the backend stored, type by type.
fn reaches_the_edge(streams: &Bson) {
    let keys = EdgeKeys::new([("k", "the key that edge and backend share")]).expect("a long key");
    let namespace = Namespace {
        database: DatabaseName::new("app").expect("a name"),
        collection: CollectionName::new("log").expect("a name"),
    };
    let sent = Collection { streams: Some(streams.clone()) };
    let signed = Signed::collection(&namespace, &sent, &keys, "chat").expect("there is a key");
    let received = signed.read_collection(&namespace, &keys, "chat").expect("it is signed");
    assert_eq!(bytes(&received.streams.expect("it is there")), bytes(streams));
}
