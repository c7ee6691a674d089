//! Filters that are evaluated here: of definitions, of clients' values in them, and of rules.

use bson::{Bson, Document, RawDocumentBuf, bson, doc};
use shared::{
    matcher::{Index, Matcher},
    shell_json,
};

use crate::input;

/// The parts of the input: filters, and last a document.
pub fn run(data: &[u8]) {
    let mut parsed: Vec<Document> =
        input::texts(data).take(6).filter_map(|text| shell_json::parse_document(text).ok()).collect();
    let Some(document) = parsed.pop() else { return };
    let Ok(raw) = RawDocumentBuf::try_from(&document) else { return };
    equals_itself(&document, &raw);
    let mut index = Index::default();
    // With more than a few filters they are looked up.
    for number in usize::MAX - 2..=usize::MAX {
        index.insert(number, Matcher::compile(&doc! { "$nor": [{}] }).expect("what matches nothing"));
    }
    let mut matching = Vec::new();
    for (number, filter) in parsed.iter().enumerate() {
        let compiled = match Matcher::compile(filter) {
            Ok(compiled) => compiled,
            Err(unsupported) => {
                assert!(!unsupported.to_string().is_empty());
                continue;
            }
        };
        let matches = compiled.matches(&raw);
        by_the_laws_of_logic(filter, &raw, matches);
        assert_eq!(Matcher::all([compiled.clone(), compiled.clone()]).matches(&raw), matches);
        if matches {
            matching.push(number);
        }
        index.insert(number, compiled);
    }
    let mut found = Vec::new();
    index.matching(&raw, |number| found.push(*number));
    found.sort_unstable();
    assert_eq!(found, matching, "the index finds what matches: {parsed:?} {document}");
}

fn by_the_laws_of_logic(filter: &Document, raw: &RawDocumentBuf, matches: bool) {
    for (law, expected) in [
        (doc! { "$and": [filter.clone()] }, matches),
        (doc! { "$and": [filter.clone(), {}] }, matches),
        (doc! { "$or": [filter.clone(), filter.clone()] }, matches),
        (doc! { "$nor": [filter.clone()] }, !matches),
        (doc! { "$nor": [{ "$nor": [filter.clone()] }] }, matches),
        (doc! { "$or": [filter.clone(), { "$nor": [filter.clone()] }] }, true),
    ] {
        // Some stand only at the top.
        if let Ok(matcher) = Matcher::compile(&law) {
            assert_eq!(matcher.matches(raw), expected, "{law}");
        }
    }
}

/// A document matches its own values.
fn equals_itself(document: &Document, raw: &RawDocumentBuf) {
    for (name, value) in document {
        if name.is_empty() || name.starts_with('$') || name.contains('.') || matches!(value, Bson::Undefined)
        {
            continue;
        }
        for (operator, operand) in [("$eq", value.clone()), ("$in", bson!([value.clone()]))] {
            // A pattern in `$in` is matched against texts, and `$eq` compares it.
            if operator == "$in" && matches!(value, Bson::RegularExpression(_)) {
                continue;
            }
            let filter = doc! { name: { operator: operand } };
            if let Ok(matcher) = Matcher::compile(&filter) {
                assert!(matcher.matches(raw), "{filter} matches {document}");
            }
        }
    }
}
