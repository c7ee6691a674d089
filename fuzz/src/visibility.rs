//! What a rule says of what its callers see, and what their claims make of it.

use bson::{Bson, DateTime, Document};
use shared::{
    matcher::Matcher,
    refusal::Kind,
    shell_json,
    variables::ServerVariables,
    visibility::{Template, Visibility},
};

use crate::{
    input,
    values::{bytes, walk},
};

/// The parts of the input: `readFilter`, `projectResponse`, and claims, which are JSON.
pub fn run(data: &[u8]) {
    let mut texts = input::texts(data);
    let mut document = || texts.next().and_then(|text| shell_json::parse_document(text).ok());
    let (filter, projection) = (document(), document());
    let user = texts.next().and_then(claims);
    let template = match Template::check(filter.as_ref(), filter.as_ref(), projection.as_ref()) {
        Ok(template) => template,
        Err(fault) => {
            let named =
                ["readFilter", "writeFilter", "projectResponse"].iter().any(|name| fault.contains(name));
            return assert!(named, "it names the place: {fault}");
        }
    };
    let server = ServerVariables { user, now: DateTime::from_millis(1_700_000_000_000) };
    match template.resolve(&server) {
        Ok(visibility) => holds(&visibility),
        Err(refusal) => {
            assert!(matches!(refusal.kind(), Kind::Forbidden | Kind::ClaimMissing), "{refusal}");
        }
    }
}

/// Claims as they come out of a token.
fn claims(text: &str) -> Option<Document> {
    let identity = crate::statements::identity(text)?;
    Some(identity.claims()?.document())
}

fn holds(visibility: &Visibility) {
    for filter in [visibility.read_filter(), visibility.write_filter()].into_iter().flatten() {
        let compiled = Matcher::compile(filter);
        assert!(compiled.is_ok(), "the hub evaluates every filter of a rule: {filter}: {:?}", compiled.err());
        let value = Bson::Document(filter.clone());
        bytes(&value);
        walk(&value, &mut |_, value, _| {
            assert!(!matches!(value, Bson::JavaScriptCode(_) | Bson::JavaScriptCodeWithScope(_)), "{filter}");
        });
    }
    let projection = visibility.projection().document();
    assert!(projection.values().all(|value| matches!(value, Bson::Int32(0 | 1))), "{projection}");
    assert_eq!(*visibility, visibility.clone());
}
