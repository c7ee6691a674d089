//! Stages with a variable in them, and changes that they see.

use bson::{Bson, Document, bson, doc};

use super::Random;

impl Random {
    /// Stages of a definition with the variable `v`, and its value.
    pub fn stages(&mut self, documents: &[Document]) -> (Vec<Bson>, Bson) {
        let value = self.operand(documents);
        let mut stages = self.some(0, 1, |random| random.fixed_stage(documents));
        stages.push(self.variable_match(documents));
        stages.extend(self.some(0, 2, |random| {
            if random.chance(15) { random.variable_match(documents) } else { random.fixed_stage(documents) }
        }));
        let value = if self.chance(10) { Bson::Array(vec![value, bson!(1)]) } else { value };
        (stages, value)
    }

    /// The same for a definition that shows no documents of updates: most of its conditions are on something else.
    pub fn stages_without_documents(&mut self, documents: &[Document]) -> (Vec<Bson>, Bson) {
        if self.chance(30) {
            return self.stages(documents);
        }
        let operator = self.pick(&["$gte", "$lte", "$ne"]);
        let mut filter = doc! { "documentKey._id": { operator: { "$var": "v" } } };
        if self.chance(25) {
            filter.extend(self.view(documents));
        }
        if self.chance(30) {
            filter.insert("operationType", self.pick(&["insert", "update", "replace"]));
        }
        let mut stages = self.some(0, 1, |random| random.fixed_stage(documents));
        stages.push(bson!({"$match": filter}));
        stages.extend(self.some(0, 2, |random| random.fixed_stage(documents)));
        (stages, documents[self.below(documents.len())]["_id"].clone())
    }

    /// At most one filter on events, as a permission has it.
    pub fn views(&mut self, documents: &[Document]) -> Vec<Document> {
        if self.chance(30) { vec![self.view(documents)] } else { Vec::new() }
    }

    /// `readFilter` and `projectResponse` of a permission; either may be empty.
    pub fn permission(&mut self, documents: &[Document]) -> (Document, Document) {
        let filter = match self.below(20) {
            0..5 => Document::new(),
            5..8 => doc! { "_id": { "$gte": documents[self.below(documents.len())]["_id"].clone() } },
            _ => self.filter(documents),
        };
        let shows = i32::from(self.chance(30));
        let paths = if self.chance(30) {
            self.some(1, 2, |random| random.pick(&["a", "b", "c", "a.b", "b.a", "d"]))
        } else {
            Vec::new()
        };
        (filter, paths.into_iter().map(|path| (path.to_owned(), shows.into())).collect())
    }

    /// Which images of a document a definition asks for.
    pub fn images_wanted(&mut self) -> Document {
        let before = self.pick(&["off", "whenAvailable"]);
        doc! { "fullDocument": self.pick(&["updateLookup", "whenAvailable", "off"]), "fullDocumentBeforeChange": before }
    }

    /// The `fullDocument` of a definition: one that shows the documents of updates, or none.
    pub fn full_document(&mut self) -> &'static str {
        if self.chance(40) { "off" } else { "updateLookup" }
    }

    fn view(&mut self, documents: &[Document]) -> Document {
        below(&self.filter(documents), "fullDocument")
    }

    fn variable_match(&mut self, documents: &[Document]) -> Bson {
        let path = self.event_path();
        let condition = match self.below(10) {
            0..4 => bson!({"$var": "v"}),
            4..8 => {
                let name = self.pick(&["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in"]);
                bson!({name: {"$var": "v"}})
            }
            8 => bson!({"$not": {"$gt": {"$var": "v"}}}),
            _ => bson!({"$elemMatch": {"$lt": {"$var": "v"}}}),
        };
        let mut filter = match self.below(10) {
            0 => doc! { "$or": [{ path: condition }, self.view(documents)] },
            1 => doc! { "$expr": { "$gt": [format!("${path}"), { "$var": "v" }] } },
            _ => doc! { path: condition },
        };
        if self.chance(40) {
            filter.extend(self.view(documents));
        }
        if self.chance(20) {
            filter.insert("operationType", self.pick(&["insert", "update", "replace"]));
        }
        bson!({"$match": filter})
    }

    fn fixed_stage(&mut self, documents: &[Document]) -> Bson {
        let path = self.event_path();
        let other = self.event_path();
        match self.below(18) {
            0..3 => bson!({"$match": self.view(documents)}),
            3 => bson!({"$match": {"operationType": {"$in": ["insert", "update"]}}}),
            4 | 5 => bson!({"$unset": path}),
            6 => bson!({"$project": {path: 0}}),
            7 => bson!({"$project": {"fullDocument": 1, "operationType": 1}}),
            8 if path != other => bson!({"$project": {path: 1, "operationType": true}}),
            9 => bson!({"$set": {"x": {"$divide": [1, format!("${path}")]}}}),
            10 => bson!({"$set": {path: 1}}),
            11 => bson!({"$set": {"d": 1}}),
            12 => bson!({"$project": {"fullDocument": {"c": 1, "b": {"a": true}}, "documentKey": 1}}),
            13 => bson!({"$project": {"fullDocument": {"a": 0, "b": {"b": 0}}}}),
            14 if path != other => bson!({"$unset": [path, other]}),
            15 => bson!({"$unset": ["fullDocument.b", "updateDescription", "fullDocument.a.0"]}),
            16 => bson!({"$project": {"fullDocument.a.0": 1, "fullDocument.d": 1, "_id": 1}}),
            _ => bson!({"$set": {"y": format!("${path}")}}),
        }
    }

    fn event_path(&mut self) -> String {
        let known = self.pick(&[
            "fullDocument.a",
            "fullDocument.b",
            "fullDocument.c",
            "fullDocument.a.b",
            "fullDocument.b.a",
            "fullDocument.a.0",
            "fullDocument.a.0.b",
            "fullDocument.a.b.c",
            "fullDocument",
            "documentKey._id",
            "operationType",
            "updateDescription.updatedFields.a",
            "updateDescription.removedFields",
            "d",
        ]);
        known.to_owned()
    }

    /// A change of one of these documents, as the arguments of `update` or `delete`.
    pub fn change(&mut self, documents: &[Document]) -> Change {
        let id = documents[self.below(documents.len())].get_i32("_id").unwrap_or_default();
        let field = self.pick(&["a", "b", "c", "a.b", "d"]);
        match self.below(6) {
            0 => Change::Delete(id),
            1 => Change::Replace(id, self.document(id)),
            2 => Change::Update(id, doc! { "$unset": { field: 1 } }),
            _ => Change::Update(id, doc! { "$set": { field: self.value(2) } }),
        }
    }
}

/// A change of the document with an id.
#[derive(Clone, Debug)]
pub enum Change {
    /// It goes.
    Delete(i32),
    /// Another takes its place.
    Replace(i32, Document),
    /// Some of it changes.
    Update(i32, Document),
}

/// A filter on documents as one on the events that hold them.
fn below(filter: &Document, parent: &str) -> Document {
    let member = |(key, value): (&String, &Bson)| match (key.as_str(), value) {
        ("$and" | "$or" | "$nor", Bson::Array(filters)) => {
            let filters = filters.iter().map(|filter| match filter {
                Bson::Document(filter) => Bson::Document(below(filter, parent)),
                other => other.clone(),
            });
            (key.clone(), Bson::Array(filters.collect()))
        }
        ("$expr", _) => (key.clone(), fields_below(value, parent)),
        _ => (format!("{parent}.{key}"), value.clone()),
    };
    filter.iter().map(member).collect()
}

fn fields_below(expression: &Bson, parent: &str) -> Bson {
    match expression {
        Bson::String(path) if path.starts_with('$') && !path.starts_with("$$") => {
            format!("${parent}.{}", &path[1..]).into()
        }
        Bson::Document(document) if document.contains_key("$literal") => expression.clone(),
        Bson::Document(document) => {
            let inner = document.iter().map(|(key, value)| (key.clone(), fields_below(value, parent)));
            Bson::Document(inner.collect())
        }
        Bson::Array(values) => values.iter().map(|value| fields_below(value, parent)).collect(),
        other => other.clone(),
    }
}
