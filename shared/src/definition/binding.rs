//! A definition with the values of one client in it.

use std::hash::{Hash, Hasher};

use bson::{Bson, DateTime, Document, doc, oid::ObjectId};

use super::{
    options::StreamOptions,
    stage::Stage,
    template::{Position, Template, Values, Variable},
};
use crate::{
    refusal::{Kind, Refusal},
    variables::{ServerVariables, Variables, has_operator, holds_operator},
};

/// A stage with its variables replaced.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Resolved {
    /// The stage for MongoDB.
    pub(crate) stage: Document,
    /// The members of its argument that hold variables; where that is no object, one empty name if it holds any.
    pub(crate) varying: Vec<String>,
}

/// A definition with its variables resolved. Two of the same definition are equal exactly when the values that they use
/// are equal as BSON (`1` and `1.0` are not), compared byte by byte.
#[derive(Clone, Debug)]
pub struct Binding {
    pipeline: Vec<Document>,
    /// Of each stage its place in the definition, and the members with variables.
    written: Vec<(usize, Vec<String>)>,
    options: StreamOptions,
    values: Document,
    /// Pipeline and options as BSON.
    bytes: Vec<u8>,
}

impl PartialEq for Binding {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Binding {}

impl Hash for Binding {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

impl Binding {
    pub(super) fn new(
        stages: &[Stage],
        options: StreamOptions,
        client: &Variables,
        server: &ServerVariables,
    ) -> Result<Self, Refusal> {
        let mut bound = Bound { client, server, used: Document::new() };
        let is_bound = |name: &str| lookup(client, server, name).is_some();
        let (mut pipeline, mut written) = (Vec::new(), Vec::new());
        for (index, stage) in stages.iter().enumerate() {
            if let Some(resolved) = stage.resolve(&mut bound, &is_bound)? {
                pipeline.push(resolved.stage);
                written.push((index, resolved.varying));
            }
        }
        let bytes = bytes(&pipeline, options).map_err(|error| {
            Refusal::new(Kind::BadVariables, format!("a variable is no BSON value: {error}"))
        })?;
        Ok(Self { pipeline, written, options, values: bound.used, bytes })
    }

    /// Stages that are the same for several bindings, out of stages that were bound.
    pub(crate) fn shared(pipeline: Vec<Document>, options: StreamOptions) -> Self {
        let bytes = bytes(&pipeline, options).expect("what was bound is BSON");
        let written = (0..pipeline.len()).map(|index| (index, Vec::new())).collect();
        Self { pipeline, written, options, values: Document::new(), bytes }
    }

    /// What equality goes by.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The stages with what varies in them, each with its place in the definition.
    pub(crate) fn stages(&self) -> impl Iterator<Item = (usize, Resolved)> {
        let stages = self.pipeline.iter().cloned().zip(self.written.iter().cloned());
        stages.map(|(stage, (index, varying))| (index, Resolved { stage, varying }))
    }

    /// The stages for MongoDB.
    pub fn pipeline(&self) -> &[Document] {
        &self.pipeline
    }

    /// Which documents MongoDB adds to the events.
    pub fn options(&self) -> StreamOptions {
        self.options
    }

    /// The values that the stages use, by the name that the definition uses; defaults that stood in are among them.
    pub fn values(&self) -> &Document {
        &self.values
    }
}

fn bytes(pipeline: &[Document], options: StreamOptions) -> Result<Vec<u8>, bson::error::Error> {
    doc! { "pipeline": pipeline.to_vec(), "options": options.to_document() }.to_vec()
}

fn lookup(client: &Variables, server: &ServerVariables, name: &str) -> Option<Bson> {
    if name.starts_with('@') { server.get(name) } else { client.get(name).cloned() }
}

struct Bound<'a> {
    client: &'a Variables,
    server: &'a ServerVariables,
    used: Document,
}

impl Values for Bound<'_> {
    fn value(&mut self, variable: &Variable) -> Result<Bson, Refusal> {
        let name = &variable.name;
        let from_server = name.starts_with('@');
        let value = match (lookup(self.client, self.server, name), &variable.default) {
            (Some(value), _) => {
                // The operator check is for clients. A claim may hold what a user once typed somewhere, and a filter
                // would take it for an operator.
                if from_server && variable.position == Position::Filter && has_operator(&value) {
                    return Err(holds_operator(name));
                }
                value
            }
            (None, Some(default)) => default.clone(),
            (None, None) => {
                let kind = if from_server { Kind::ClaimMissing } else { Kind::VariableNotBound };
                return Err(Refusal::new(kind, format!("variable {name} not bound")));
            }
        };
        self.used.insert(name, value.clone());
        Ok(value)
    }
}

struct Candidate<'a>(&'a Bson);

impl Values for Candidate<'_> {
    fn value(&mut self, _: &Variable) -> Result<Bson, Refusal> {
        Ok(self.0.clone())
    }
}

pub(super) fn probes(stages: &[Stage]) -> Vec<Vec<Document>> {
    let (mut fixed, mut shaped) = (Vec::new(), Vec::new());
    for stage in stages {
        stage.branches(&mut |template, operator| {
            let mut has_variables = false;
            template.variables(&mut |_| has_variables = true);
            if has_variables { &mut shaped } else { &mut fixed }.push((operator, template));
        });
    }
    let mut candidates = vec![Bson::from("a")];
    if !shaped.is_empty() {
        candidates.extend([
            Bson::from(1),
            Bson::from(true),
            Bson::Null,
            Bson::DateTime(DateTime::from_millis(0)),
            Bson::ObjectId(ObjectId::from_bytes([0; 12])),
            Bson::from(vec!["a"]),
            Bson::from(vec![1, 1]),
            Bson::from(doc! { "a": 1 }),
        ]);
    }
    // MongoDB names the first stage that it refuses. Those without variables come first, so that their faults are named
    // whatever the candidate.
    fixed.append(&mut shaped);
    let probe = |candidate| {
        // A candidate is there for every variable, so nothing can be unbound.
        let stage = |(operator, template): &(&str, &Template)| {
            template.resolve(&mut Candidate(candidate)).ok().map(|argument| doc! { *operator: argument })
        };
        fixed.iter().filter_map(stage).collect()
    };
    candidates.iter().map(probe).collect()
}
