//! Reads a filter (MongoDB manual, "Query and Projection Operators") into a predicate, or says what in it stands in the way.

use bson::{Bson, Document, RawBson, Regex, spec::ElementType};

use super::{
    Predicate, Unsupported,
    bits::Bits,
    condition::{AnyOf, Condition, Operand, Relation, Test, Types},
    expression::Expression,
    order,
    path::Path,
    pattern::Pattern,
};

/// A whole filter. Only one that is not inside of `$elemMatch` may hold `$expr`.
pub(super) fn filter(filter: &Document, is_top: bool) -> Result<Predicate, Unsupported> {
    let mut predicates = Vec::new();
    for (key, value) in filter {
        let predicate = match key.as_str() {
            "$and" => Predicate::All(filters(value, is_top).map_err(|fault| fault.at(key))?),
            "$or" => Predicate::Any(filters(value, is_top).map_err(|fault| fault.at(key))?),
            "$nor" => {
                let any = Predicate::Any(filters(value, is_top).map_err(|fault| fault.at(key))?);
                Predicate::Not(Box::new(any))
            }
            "$expr" if is_top => {
                Predicate::Expression(Expression::read(value).map_err(|fault| fault.at(key))?)
            }
            "$comment" => continue,
            _ if key.starts_with('$') => return Err(Unsupported::operator().at(key)),
            _ => {
                let path = Path::parse(key)
                    .ok_or_else(|| Unsupported::new("expected a path without empty parts").at(key))?;
                condition(value).map_err(|fault| fault.at(key))?.at(&path)
            }
        };
        predicates.push(predicate);
    }
    Ok(Predicate::All(predicates))
}

fn filters(value: &Bson, is_top: bool) -> Result<Vec<Predicate>, Unsupported> {
    match value {
        Bson::Array(filters) if !filters.is_empty() => each(filters, |value| match value {
            Bson::Document(document) => filter(document, is_top),
            _ => Err(Unsupported::new("expected a filter (an object)")),
        }),
        _ => Err(Unsupported::new("expected an array of at least one filter")),
    }
}

fn each<T>(values: &[Bson], read: impl Fn(&Bson) -> Result<T, Unsupported>) -> Result<Vec<T>, Unsupported> {
    let read = |(index, value)| read(value).map_err(|fault| fault.at_index(index));
    values.iter().enumerate().map(read).collect()
}

/// What a field is compared with: a value, or an object of operators.
fn condition(value: &Bson) -> Result<Condition, Unsupported> {
    match value {
        Bson::Document(document) if is_operators(document) => operators(document),
        Bson::RegularExpression(regex) => Ok(Condition::Test(Test::Finds(pattern(regex)?))),
        value => Ok(Condition::Test(Test::Compare(Relation::Equal, Operand::new(operand(value)?)))),
    }
}

/// Whether MongoDB reads `document` as operators. `{"$ref": …, "$id": …}` is a value, a `DBRef`.
fn is_operators(document: &Document) -> bool {
    document.keys().next().is_some_and(|key| key.starts_with('$'))
        && !(document.contains_key("$ref") && document.contains_key("$id"))
}

fn operators(document: &Document) -> Result<Condition, Unsupported> {
    let mut conditions = Vec::new();
    for (key, value) in document {
        let read = match key.as_str() {
            "$regex" => {
                regex(value, document.get("$options")).map(|pattern| Condition::Test(Test::Finds(pattern)))
            }
            "$options" if document.contains_key("$regex") => continue,
            _ => operator(key, value),
        };
        conditions.push(read.map_err(|fault| fault.at(key))?);
    }
    Ok(if conditions.len() == 1 { conditions.remove(0) } else { Condition::All(conditions) })
}

fn operator(name: &str, value: &Bson) -> Result<Condition, Unsupported> {
    let not = |condition| Condition::Not(Box::new(condition));
    Ok(match name {
        "$eq" => compare(Relation::Equal, value)?,
        "$ne" => not(compare(Relation::Equal, not_a_pattern(value)?)?),
        "$lt" => compare(Relation::Less, not_a_pattern(value)?)?,
        "$lte" => compare(Relation::LessOrEqual, not_a_pattern(value)?)?,
        "$gt" => compare(Relation::Greater, not_a_pattern(value)?)?,
        "$gte" => compare(Relation::GreaterOrEqual, not_a_pattern(value)?)?,
        "$in" => any_of(value)?,
        "$nin" => not(any_of(value)?),
        "$exists" if is_true(value) => Condition::Test(Test::Exists),
        "$exists" => not(Condition::Test(Test::Exists)),
        "$not" => match value {
            Bson::Document(document) if is_operators(document) => not(operators(document)?),
            Bson::RegularExpression(_) => not(condition(value)?),
            _ => return Err(Unsupported::new("expected an object of query operators")),
        },
        "$type" => Condition::Test(Test::Type(types(value)?)),
        "$size" => {
            let size = integer(value).and_then(|size| usize::try_from(size).ok());
            Condition::Test(Test::Size(
                size.ok_or_else(|| Unsupported::new("expected a whole number from 0"))?,
            ))
        }
        "$mod" => remainder(value)?,
        "$bitsAllSet" => bits(true, true, value)?,
        "$bitsAllClear" => bits(false, true, value)?,
        "$bitsAnySet" => bits(true, false, value)?,
        "$bitsAnyClear" => bits(false, false, value)?,
        "$all" => all(value)?,
        "$elemMatch" => elem_match(value)?,
        _ => return Err(Unsupported::operator()),
    })
}

fn compare(relation: Relation, value: &Bson) -> Result<Condition, Unsupported> {
    Ok(Condition::Test(Test::Compare(relation, Operand::new(operand(value)?))))
}

/// A value to compare with.
pub(super) fn operand(value: &Bson) -> Result<RawBson, Unsupported> {
    match value {
        Bson::Undefined => Err(Unsupported::new("MongoDB compares nothing with undefined")),
        value => RawBson::try_from(value.clone())
            .map_err(|error| Unsupported::new(format!("no BSON value: {error}"))),
    }
}

fn not_a_pattern(value: &Bson) -> Result<&Bson, Unsupported> {
    match value {
        Bson::RegularExpression(_) => Err(Unsupported::new("a regular expression, expected a value")),
        value => Ok(value),
    }
}

fn any_of(value: &Bson) -> Result<Condition, Unsupported> {
    let Bson::Array(members) = value else { return Err(Unsupported::new("expected an array")) };
    let (mut values, mut patterns) = (Vec::new(), Vec::new());
    for (index, member) in members.iter().enumerate() {
        let read = match member {
            Bson::Document(document) if is_operators(document) => {
                Err(Unsupported::new("an operator, expected a value"))
            }
            Bson::RegularExpression(regex) => pattern(regex).map(|pattern| patterns.push(pattern)),
            value => operand(value).map(|value| values.push(value)),
        };
        read.map_err(|fault| fault.at_index(index))?;
    }
    Ok(Condition::Test(Test::In(AnyOf::new(values, patterns))))
}

fn pattern(regex: &Regex) -> Result<Pattern, Unsupported> {
    Pattern::compile(regex.pattern.as_str(), regex.options.as_str())
}

/// `$regex` with the `$options` beside it.
fn regex(pattern: &Bson, options: Option<&Bson>) -> Result<Pattern, Unsupported> {
    let (source, own_options) = match pattern {
        Bson::String(source) => (source.as_str(), ""),
        Bson::RegularExpression(regex) => (regex.pattern.as_str(), regex.options.as_str()),
        _ => return Err(Unsupported::new("expected a text or a regular expression")),
    };
    let options = match options {
        None => own_options,
        Some(Bson::String(options)) if own_options.is_empty() => options,
        Some(_) => return Err(Unsupported::new("expected $options to be a text, and options once")),
    };
    Pattern::compile(source, options)
}

/// How MongoDB reads any value as yes or no.
fn is_true(value: &Bson) -> bool {
    match value {
        Bson::Boolean(value) => *value,
        Bson::Null | Bson::Undefined => false,
        Bson::Int32(value) => *value != 0,
        Bson::Int64(value) => *value != 0,
        Bson::Double(value) => *value != 0.0,
        Bson::Decimal128(_) => !is_zero(value),
        _ => true,
    }
}

fn is_zero(value: &Bson) -> bool {
    let zero = RawBson::Int32(0);
    RawBson::try_from(value.clone())
        .is_ok_and(|value| order::cmp(value.as_raw_bson_ref(), zero.as_raw_bson_ref()).is_eq())
}

/// A whole number; none where MongoDB would have to round.
#[expect(clippy::cast_possible_truncation, reason = "it is a whole number below 2^53")]
pub(super) fn integer(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(value) => Some((*value).into()),
        Bson::Int64(value) => Some(*value),
        Bson::Double(value) if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 => {
            Some(*value as i64)
        }
        _ => None,
    }
}

fn types(value: &Bson) -> Result<Types, Unsupported> {
    let mut types = Types::default();
    let mut add = |value: &Bson| -> Result<(), Unsupported> {
        if value.as_str() == Some("number") {
            types.any_number = true;
            return Ok(());
        }
        let named = match value {
            Bson::String(name) => TYPES.iter().find(|(_, known, _)| known == name),
            value => integer(value).and_then(|number| TYPES.iter().find(|(code, _, _)| *code == number)),
        };
        let (_, _, element_type) =
            named.ok_or_else(|| Unsupported::new("expected the name or number of a type of BSON"))?;
        types.types.push(*element_type);
        Ok(())
    };
    match value {
        Bson::Array(values) if values.is_empty() => {
            return Err(Unsupported::new("expected at least one type"));
        }
        Bson::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                add(value).map_err(|fault| fault.at_index(index))?;
            }
        }
        value => add(value)?,
    }
    Ok(types)
}

/// Number and name of each type (MongoDB manual, "$type").
const TYPES: &[(i64, &str, ElementType)] = &[
    (1, "double", ElementType::Double),
    (2, "string", ElementType::String),
    (3, "object", ElementType::EmbeddedDocument),
    (4, "array", ElementType::Array),
    (5, "binData", ElementType::Binary),
    (6, "undefined", ElementType::Undefined),
    (7, "objectId", ElementType::ObjectId),
    (8, "bool", ElementType::Boolean),
    (9, "date", ElementType::DateTime),
    (10, "null", ElementType::Null),
    (11, "regex", ElementType::RegularExpression),
    (12, "dbPointer", ElementType::DbPointer),
    (13, "javascript", ElementType::JavaScriptCode),
    (14, "symbol", ElementType::Symbol),
    (15, "javascriptWithScope", ElementType::JavaScriptCodeWithScope),
    (16, "int", ElementType::Int32),
    (17, "timestamp", ElementType::Timestamp),
    (18, "long", ElementType::Int64),
    (19, "decimal", ElementType::Decimal128),
    (-1, "minKey", ElementType::MinKey),
    (127, "maxKey", ElementType::MaxKey),
];

fn bits(set: bool, all: bool, value: &Bson) -> Result<Condition, Unsupported> {
    Ok(Condition::Test(Test::Bits(Bits::read(set, all, value)?)))
}

fn remainder(value: &Bson) -> Result<Condition, Unsupported> {
    let expected = || Unsupported::new("expected [divisor, remainder], whole numbers, the first not 0");
    let Some([divisor, remainder]) = value.as_array().map(Vec::as_slice) else { return Err(expected()) };
    match (integer(divisor), integer(remainder)) {
        (Some(divisor), Some(remainder)) if divisor != 0 => {
            Ok(Condition::Test(Test::Remainder(divisor, remainder)))
        }
        _ => Err(expected()),
    }
}

fn all(value: &Bson) -> Result<Condition, Unsupported> {
    let Bson::Array(values) = value else { return Err(Unsupported::new("expected an array")) };
    let is_elem_match = |value: &Bson| {
        value.as_document().is_some_and(|document| document.len() == 1 && document.contains_key("$elemMatch"))
    };
    let has_elem_match = values.first().is_some_and(is_elem_match);
    let conditions = each(values, |value| match value {
        Bson::Document(document) if has_elem_match && is_elem_match(value) => operators(document),
        _ if has_elem_match => Err(Unsupported::new("expected an $elemMatch, as the first is one")),
        Bson::Document(document) if is_operators(document) => {
            Err(Unsupported::new("an operator, expected a value"))
        }
        value => condition(value),
    })?;
    Ok(if conditions.is_empty() { Condition::Never } else { Condition::All(conditions) })
}

fn elem_match(value: &Bson) -> Result<Condition, Unsupported> {
    let Bson::Document(document) = value else { return Err(Unsupported::new("expected an object")) };
    // Whether an incomplete DBRef is a value or operators differs from place to place.
    if let Some(key) = document.keys().find(|key| matches!(key.as_str(), "$ref" | "$id" | "$db")) {
        return Err(Unsupported::operator().at(key));
    }
    let first = document.keys().next().map_or("", String::as_str);
    Ok(Condition::Test(if first.starts_with('$') && !OF_DOCUMENTS.contains(&first) {
        Test::AnyElement(Box::new(operators(document)?))
    } else {
        Test::AnyDocument(Box::new(filter(document, false)?))
    }))
}

/// Operators of a whole filter: with one of them first, `$elemMatch` looks for a document.
const OF_DOCUMENTS: &[&str] = &["$and", "$or", "$nor", "$expr", "$comment"];
