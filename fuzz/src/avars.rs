//! Variables as clients send them, and what becomes of them in a stream's stages.

use std::sync::LazyLock;

use bson::{Bson, DateTime, Document, bson, doc};
use shared::{
    definition::{Binding, Definition, Definitions},
    refusal::Refusal,
    shell_json,
    variables::{MAX_AVARS_BYTES, OperatorCheck, ServerVariables, Variables},
};

use crate::{
    input,
    values::{bytes, walk},
};

/// Variables in every position that there is.
static DEFINITION: LazyLock<Definition> = LazyLock::new(|| {
    let stages = bson!([
        { "$match": { "fullDocument.a": { "$var": "n" }, "fullDocument.b": { "$in": [{ "$var": ["m", 1] }, 2] } } },
        { "$match": { "$expr": { "$eq": ["$fullDocument.c", { "$var": "n" }] } } },
        { "$set": { "shown": { "$var": "n" }, "said": { "$literal": { "$var": "n" } }, "by": { "$var": "@user.sub" } } },
        { "$ifvar": ["p.q", { "$match": { "fullDocument.d": { "$var": "p.q" } } }, { "$unset": "d" }] },
    ]);
    let definitions = Definitions::written(&bson!([{ "uri": "s", "stages": stages }])).expect("it holds");
    let (_, definition) = definitions.iter().next().expect("one stream");
    definition.clone().expect("it is whole")
});

/// Operators that no setting lets pass.
const FORBIDDEN: &[&str] =
    &["$where", "$function", "$accumulator", "$out", "$merge", "$lookup", "$unionWith"];

/// Reads variables, one or several clients' of them, and binds the stream to them.
pub fn run(data: &[u8]) {
    let bound: Vec<(Used, Binding)> = input::texts(data).take(4).filter_map(bind).collect();
    for (used, binding) in &bound {
        for (others_used, others) in &bound {
            assert_eq!(
                used == others_used,
                binding == others,
                "bindings are the same exactly when the values that they use are: {used:?} {others_used:?}"
            );
        }
    }
}

/// The values that [`DEFINITION`] uses, as bytes.
type Used = Vec<u8>;

fn bind(text: &str) -> Option<(Used, Binding)> {
    let strict = Variables::parse(Some(text), OperatorCheck::On);
    let lenient = Variables::parse(Some(text), OperatorCheck::Off);
    if let Err(refusal) = &lenient {
        told(refusal);
        assert!(strict.is_err(), "what is refused without the check is refused with it: {text}");
        return None;
    }
    assert!(text.len() <= MAX_AVARS_BYTES);
    let document = shell_json::parse_document(text).expect("variables are an object");
    assert!(document.keys().all(|name| !name.starts_with('@')), "a client speaks for the server: {text}");
    let value = Bson::Document(document.clone());
    walk(&value, &mut |key, value, _| {
        assert!(key.is_none_or(|key| !FORBIDDEN.contains(&key)), "code or other data: {text}");
        assert!(!matches!(value, Bson::JavaScriptCode(_) | Bson::JavaScriptCodeWithScope(_)), "code: {text}");
    });
    let variables = match strict {
        Ok(variables) => variables,
        Err(refusal) => {
            told(&refusal);
            return None;
        }
    };
    walk(&value, &mut |key, value, _| {
        assert!(key.is_none_or(|key| !key.starts_with('$')), "an operator: {text}");
        let operator = matches!(value, Bson::RegularExpression(_) | Bson::MinKey | Bson::MaxKey);
        assert!(!operator, "acts as an operator: {text}");
    });
    crate::shell_json::comes_back(&value);
    for (name, value) in &document {
        let found = variables.get(name).expect("a name that was sent is bound");
        assert_eq!(bytes(found), bytes(value), "{name}");
    }

    let server = ServerVariables { user: Some(doc! { "sub": "uji" }), now: DateTime::from_millis(0) };
    let found = |name: &str| variables.get(name).cloned();
    match (DEFINITION.bind(&variables, &server), found("n")) {
        (Err(refusal), None) => {
            assert_eq!(refusal.to_string(), "400 variable n not bound");
            None
        }
        (Ok(binding), Some(n)) => {
            let (m, pq) = (found("m").unwrap_or(Bson::Int32(1)), found("p.q"));
            let used = doc! { "n": n.clone(), "m": m.clone(), "pq": pq.clone(), "is": pq.is_some() };
            let expected = pipeline(&n, &m, pq);
            assert_eq!(
                bytes(&bson!(binding.pipeline().to_vec())),
                bytes(&expected),
                "a value is a value: {text}"
            );
            Some((bytes(&used.into()), binding))
        }
        (bound, n) => panic!("n is {n:?}, and yet {bound:?}"),
    }
}

fn pipeline(n: &Bson, m: &Bson, pq: Option<Bson>) -> Bson {
    let last =
        pq.map_or_else(|| doc! { "$unset": "d" }, |value| doc! { "$match": { "fullDocument.d": value } });
    let literal = |value: &Bson| -> Document {
        doc! { "$literal": value.clone() }
    };
    bson!([
        { "$match": { "fullDocument.a": n.clone(), "fullDocument.b": { "$in": [m.clone(), 2] } } },
        { "$match": { "$expr": { "$eq": ["$fullDocument.c", literal(n)] } } },
        { "$set": { "shown": literal(n), "said": literal(n), "by": { "$literal": "uji" } } },
        last,
    ])
}

fn told(refusal: &Refusal) {
    assert_eq!(refusal.status().as_u16(), 400);
    assert!(refusal.message().starts_with("avars"), "it names the parameter: {refusal}");
    let body: serde_json::Value = serde_json::from_str(&refusal.body()).expect("the body is JSON");
    assert_eq!(body["message"], refusal.message());
}
