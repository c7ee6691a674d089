//! What becomes of a stream for one caller, told to people: what MongoDB evaluates once for many, what the node asks of each
//! event for this one, and why a cursor is shared or not.

use std::fmt;

use bson::{Document, doc};

use crate::{
    definition::{Binding, StreamOptions},
    matcher::{Lookup, Matcher},
    planner::{Origin, Own, Plan},
    visibility::{Judge, Screened, Visibility},
};

/// The parts of a [`Following`](crate::following::Following), with where each comes from. Its text has a line for each part.
#[derive(Clone, Debug)]
pub struct Explanation {
    own: Option<Own>,
    options: StreamOptions,
    mongodb: Vec<(Origin, Document)>,
    node: Vec<(Origin, Document)>,
    lookup: Option<Lookup>,
    /// Whether the lookup is of documents, as they were and as they are.
    images: bool,
}

impl Explanation {
    /// For a binding behind a visibility. `images`: whether the collection records pre- and post-images.
    pub fn new(binding: &Binding, visibility: &Visibility, images: bool) -> Self {
        let alone = Screened::new(binding, visibility, images);
        if let Some(judge) = alone.judge() {
            return Self::judged(&alone, judge, binding, visibility);
        }
        match alone.plan(binding) {
            Ok(plan) => Self::shared(&alone.shared(&plan), &plan),
            Err(own) => Self::alone(&alone, binding, own),
        }
    }

    fn judged(screened: &Screened, judge: &Judge, binding: &Binding, visibility: &Visibility) -> Self {
        let permission = [
            ("readFilter", visibility.read_filter().cloned()),
            ("projectResponse", Some(visibility.projection().document())),
        ];
        let permission = permission.into_iter().filter_map(|(name, part)| {
            let part = part.filter(|part| !part.is_empty())?;
            Some((Origin::Permission, doc! { name: part }))
        });
        Self {
            own: None,
            options: screened.options(),
            mongodb: ahead(screened, Origin::Images).collect(),
            node: permission.chain(declared(binding)).collect(),
            lookup: Some(judge.concern().lookup()),
            images: true,
        }
    }

    fn shared(screened: &Screened, plan: &Plan) -> Self {
        let node = plan.filters().iter().map(|evaluated| (evaluated.origin, evaluated.filter.clone()));
        Self {
            own: None,
            options: screened.options(),
            mongodb: ahead(screened, Origin::Permission)
                .chain(plan.stages().map(|(origin, stage)| (origin, stage.clone())))
                .collect(),
            node: node.chain(plan.residual().stages().iter().cloned()).collect(),
            lookup: plan.matcher().map(Matcher::lookup),
            images: false,
        }
    }

    fn alone(screened: &Screened, binding: &Binding, own: Own) -> Self {
        let mongodb = ahead(screened, Origin::Permission).chain(declared(binding)).collect();
        let options = screened.options();
        Self { own: Some(own), options, mongodb, node: Vec::new(), lookup: None, images: false }
    }

    /// Why the cursor is for this binding alone, if it is.
    pub fn own(&self) -> Option<&Own> {
        self.own.as_ref()
    }

    /// How an event finds this client among the others of the cursor; none where every event is for all of them.
    pub fn lookup(&self) -> Option<&Lookup> {
        self.lookup.as_ref()
    }
}

fn declared(binding: &Binding) -> impl Iterator<Item = (Origin, Document)> {
    binding.stages().map(|(index, resolved)| (Origin::Stage(index), resolved.stage))
}

fn ahead(screened: &Screened, origin: Origin) -> impl Iterator<Item = (Origin, Document)> {
    screened.ahead().iter().map(move |stage| (origin, stage.clone()))
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.own {
            None => writeln!(f, "cursor   one, shared by all for whom MongoDB evaluates the same")?,
            Some(own) => writeln!(f, "cursor   one for each binding, because of {own}")?,
        }
        write!(f, "options  {}", self.options.to_document())?;
        if self.mongodb.is_empty() {
            write!(f, "\nmongodb  no stage")?;
        }
        for (origin, stage) in &self.mongodb {
            write!(f, "\nmongodb  {origin}: {stage}")?;
        }
        if self.node.is_empty() {
            write!(f, "\nnode     nothing: every event of the cursor is for the client")?;
        }
        for (origin, filter) in &self.node {
            write!(f, "\nnode     {origin}: {filter}")?;
        }
        match &self.lookup {
            Some(lookup) if self.images => write!(f, "\nindex    of a document's images: {lookup}"),
            Some(lookup) => write!(f, "\nindex    {lookup}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bson::{Bson, DateTime, bson};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::{
        definition::Definitions,
        variables::{OperatorCheck, ServerVariables, Variables},
        visibility::Template,
    };

    fn told(stream: Document, read_filter: &Document, hidden: &Document, images: bool) -> Vec<String> {
        let mut named = doc! { "uri": "s" };
        named.extend(stream);
        let definitions = Definitions::written(&Bson::Array(vec![named.into()])).unwrap();
        let definition = definitions.iter().next().unwrap().1.as_ref().unwrap();
        let server = ServerVariables { user: None, now: DateTime::from_millis(0) };
        let client = Variables::parse(Some(r#"{"n": "ada"}"#), OperatorCheck::On).unwrap();
        let binding = definition.bind(&client, &server).unwrap();
        let template = Template::check(Some(read_filter), None, Some(hidden)).unwrap();
        let visibility = template.resolve(&server).unwrap();
        Explanation::new(&binding, &visibility, images).to_string().lines().map(str::to_owned).collect()
    }

    fn stages(stages: Bson) -> Document {
        doc! { "stages": stages }
    }

    const LOOKUP: &str = r#"options  { "fullDocument": "updateLookup", "fullDocumentBeforeChange": "off" }"#;

    #[test]
    fn what_is_shared_is_told_stage_by_stage_with_the_way_to_a_client() {
        let stream = stages(bson!([
            {"$ifvar": ["other", {"$unset": "x"}]},
            {"$match": {"operationType": "insert", "fullDocument.name": {"$var": "n"}}},
            {"$unset": "fullDocument.secret"},
        ]));
        assert_eq!(
            told(stream, &doc! {}, &doc! {}, false),
            [
                "cursor   one, shared by all for whom MongoDB evaluates the same",
                LOOKUP,
                r#"mongodb  stages[1]: { "$match": { "operationType": "insert" } }"#,
                r#"mongodb  stages[2]: { "$unset": "fullDocument.secret" }"#,
                r#"node     stages[1]: { "fullDocument.name": "ada" }"#,
                "index    hash of fullDocument.name",
            ]
        );
    }

    #[test]
    fn a_permission_is_told_as_what_it_adds() {
        let stream = stages(bson!([{"$match": {"fullDocument.name": {"$var": "n"}}}]));
        assert_eq!(
            told(stream, &doc! { "tenant": "a" }, &doc! {}, false),
            [
                "cursor   one, shared by all for whom MongoDB evaluates the same",
                LOOKUP,
                r#"mongodb  permission: { "$unset": "updateDescription" }"#,
                r#"node     permission: { "$and": [{ "fullDocument": { "$type": "object" } }, { "fullDocument.tenant": "a" }] }"#,
                r#"node     stages[0]: { "fullDocument.name": "ada" }"#,
                "index    hash of fullDocument.tenant or hash of fullDocument.name, whichever leads to fewer",
            ]
        );
    }

    #[test]
    fn what_the_node_drops_is_told_behind_what_it_asks() {
        let stream = stages(bson!([
            {"$match": {"fullDocument.name": {"$var": "n"}}},
            {"$project": {"fullDocument.body": 1}},
        ]));
        assert_eq!(
            told(stream, &doc! {}, &doc! {}, false)[2..],
            [
                r#"mongodb  stages[1]: { "$project": { "_id": 1, "fullDocument.body": 1, "fullDocument.name": 1 } }"#,
                r#"node     stages[0]: { "fullDocument.name": "ada" }"#,
                r#"node     stages[1]: { "$project": { "fullDocument.body": 1 } }"#,
                "index    hash of fullDocument.name",
            ]
        );
        for (hidden, who) in [("salary", "mongodb"), ("tenant", "node   ")] {
            let both = told(stages(bson!([])), &doc! { "tenant": "a" }, &doc! { hidden: 0 }, false);
            assert_eq!(both[0], "cursor   one, shared by all for whom MongoDB evaluates the same");
            let hidden = format!(
                r#"{who}  permission: {{ "$unset": ["fullDocument.{hidden}", "fullDocumentBeforeChange.{hidden}"] }}"#
            );
            assert!(both.contains(&hidden), "{both:#?}");
        }
    }

    #[test]
    fn without_variables_the_node_has_nothing_to_do() {
        assert_eq!(
            told(stages(bson!([])), &doc! {}, &doc! {}, false),
            [
                "cursor   one, shared by all for whom MongoDB evaluates the same",
                LOOKUP,
                "mongodb  no stage",
                "node     nothing: every event of the cursor is for the client",
            ]
        );
    }

    #[test]
    fn a_cursor_for_each_binding_is_told_with_the_stage_and_the_reason() {
        let stream = stages(bson!([
            {"$match": {"fullDocument.name": {"$var": "n"}}},
            {"$set": {"r": {"$divide": [1, "$fullDocument.q"]}}},
        ]));
        assert_eq!(
            told(stream, &doc! {}, &doc! {}, false),
            [
                "cursor   one for each binding, because of stages[1]: $set behind a $match with a variable",
                LOOKUP,
                r#"mongodb  stages[0]: { "$match": { "fullDocument.name": "ada" } }"#,
                r#"mongodb  stages[1]: { "$set": { "r": { "$divide": [1, "$fullDocument.q"] } } }"#,
                "node     nothing: every event of the cursor is for the client",
            ]
        );
        let mut off = stages(bson!([{"$match": {"fullDocument.name": {"$var": "n"}}}]));
        off.insert("fullDocument", "off");
        assert_eq!(
            told(off, &doc! { "tenant": "a" }, &doc! {}, false)[0],
            "cursor   one for each binding, because of stages[0]: the $match reads fullDocument.name, which updates do not show"
        );
    }

    #[test]
    fn a_document_that_only_a_permission_needs_is_told_as_what_the_node_drops() {
        let mut off = stages(bson!([{"$match": {"documentKey._id": {"$var": "n"}}}]));
        off.insert("fullDocument", "off");
        assert_eq!(
            told(off, &doc! { "tenant": "a" }, &doc! {}, false),
            [
                "cursor   one, shared by all for whom MongoDB evaluates the same",
                LOOKUP,
                r#"mongodb  permission: { "$unset": "updateDescription" }"#,
                r#"node     permission: { "$and": [{ "fullDocument": { "$type": "object" } }, { "fullDocument.tenant": "a" }] }"#,
                r#"node     stages[0]: { "documentKey._id": "ada" }"#,
                r#"node     permission: { "$set": { "fullDocument": { "$cond": [{ "$eq": ["$operationType", "update"] }, "$$REMOVE", "$fullDocument"] } } }"#,
                "index    hash of fullDocument.tenant or hash of documentKey._id, whichever leads to fewer",
            ]
        );
    }

    #[test]
    fn with_images_the_node_judges() {
        let mut stream = stages(bson!([{"$match": {"fullDocument.name": {"$var": "n"}}}]));
        stream.insert("fullDocumentBeforeChange", "whenAvailable");
        let lines = told(stream, &doc! { "tenant": "a" }, &doc! { "salary": 0 }, true);
        assert_eq!(lines[0], "cursor   one, shared by all for whom MongoDB evaluates the same");
        assert_eq!(
            lines[2..],
            [
                "mongodb  no stage",
                r#"node     permission: { "readFilter": { "tenant": "a" } }"#,
                r#"node     permission: { "projectResponse": { "salary": 0 } }"#,
                r#"node     stages[0]: { "$match": { "fullDocument.name": "ada" } }"#,
                "index    of a document's images: hash of name or hash of tenant, whichever leads to fewer",
            ]
        );
        // What is the same for all is for MongoDB to ask, of both sides.
        let mut stream = stages(bson!([{"$match": {"fullDocument.name": "ada"}}]));
        stream.insert("fullDocumentBeforeChange", "whenAvailable");
        let lines = told(stream, &doc! { "tenant": "a" }, &doc! {}, true);
        assert!(lines[2].starts_with(r#"mongodb  images: { "$match": { "$or": ["#), "{}", lines[2]);
        assert!(
            lines[2].contains(r#""fullDocumentBeforeChange.name": "ada""#) && !lines[2].contains("tenant")
        );
    }
}
