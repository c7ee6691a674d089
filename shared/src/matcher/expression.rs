//! `$expr`: comparisons of fields and constants, and logic over them (MongoDB manual, "Aggregation Operators").
//!
//! An expression compares all types with each other, and a path in it never means a place in an array.

use bson::{Bson, RawArray, RawArrayBuf, RawBson, RawBsonRef, RawDocument};

use super::{
    Unsupported,
    condition::Relation,
    filter::operand,
    number::Number,
    order::{self, Bracket, elements, member},
};

/// An expression that is evaluated here.
#[derive(Clone, Debug)]
pub(super) enum Expression {
    /// A path from the document's top; without parts the document itself.
    Field(Vec<String>),
    Constant(RawBson),
    Compare {
        relation: Relation,
        negated: bool,
        sides: Box<[Expression; 2]>,
    },
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
}

impl Expression {
    pub(super) fn read(value: &Bson) -> Result<Self, Unsupported> {
        match value {
            Bson::String(text) if text.starts_with('$') => field(text),
            Bson::Document(document) => {
                let mut members = document.iter();
                match (members.next(), members.next()) {
                    (Some((name, argument)), None) => {
                        operator(name, argument).map_err(|fault| fault.at(name))
                    }
                    _ => Err(Unsupported::new("expected one operator")),
                }
            }
            Bson::Array(values) if !values.iter().all(is_constant) => {
                Err(Unsupported::new("an array that is computed is not evaluated here"))
            }
            value => Ok(Self::Constant(operand(value)?)),
        }
    }

    /// Whether its value counts as yes.
    pub(super) fn is_true(&self, document: &RawDocument) -> bool {
        match self {
            Self::Compare { relation, negated, sides } => {
                let [left, right] = sides.each_ref().map(|side| side.value(document));
                relation.holds(order::cmp_or_missing(left.get(), right.get())) != *negated
            }
            Self::All(expressions) => expressions.iter().all(|expression| expression.is_true(document)),
            Self::Any(expressions) => expressions.iter().any(|expression| expression.is_true(document)),
            Self::Not(expression) => !expression.is_true(document),
            Self::Field(_) | Self::Constant(_) => is_true(self.value(document).get()),
        }
    }

    /// Adds the paths that it reads.
    pub(super) fn reads(&self, paths: &mut Vec<Vec<String>>) {
        match self {
            Self::Field(parts) => paths.push(parts.clone()),
            Self::Constant(_) => {}
            Self::Compare { sides, .. } => sides.iter().for_each(|side| side.reads(paths)),
            Self::All(expressions) | Self::Any(expressions) => {
                for expression in expressions {
                    expression.reads(paths);
                }
            }
            Self::Not(expression) => expression.reads(paths),
        }
    }

    fn value<'a>(&'a self, document: &'a RawDocument) -> Value<'a> {
        match self {
            Self::Field(parts) => reach(document, parts),
            Self::Constant(value) => Value::Held(value.as_raw_bson_ref()),
            Self::Compare { .. } | Self::All(_) | Self::Any(_) | Self::Not(_) => {
                Value::Held(RawBsonRef::Boolean(self.is_true(document)))
            }
        }
    }
}

/// Whether an array may hold it without computing anything.
fn is_constant(value: &Bson) -> bool {
    match value {
        Bson::String(text) => !text.starts_with('$'),
        Bson::Array(values) => values.iter().all(is_constant),
        Bson::Document(_) | Bson::Undefined => false,
        _ => true,
    }
}

enum Value<'a> {
    Missing,
    Held(RawBsonRef<'a>),
    Made(RawBson),
}

impl Value<'_> {
    fn get(&self) -> Option<RawBsonRef<'_>> {
        match self {
            Self::Missing => None,
            Self::Held(value) => Some(*value),
            Self::Made(value) => Some(value.as_raw_bson_ref()),
        }
    }
}

fn field(text: &str) -> Result<Expression, Unsupported> {
    let path = match text.strip_prefix("$$") {
        None => &text[1..],
        Some("ROOT" | "CURRENT") => return Ok(Expression::Field(Vec::new())),
        Some(variable) => variable
            .strip_prefix("ROOT.")
            .or_else(|| variable.strip_prefix("CURRENT."))
            .ok_or_else(|| Unsupported::new(format!("the variable {text} is not evaluated here")))?,
    };
    let parts: Vec<String> = path.split('.').map(str::to_owned).collect();
    if parts.iter().any(|part| part.is_empty() || part.starts_with('$') || part.contains('\0')) {
        return Err(Unsupported::new("expected the path of a field"));
    }
    Ok(Expression::Field(parts))
}

fn operator(name: &str, argument: &Bson) -> Result<Expression, Unsupported> {
    let several = || match argument {
        Bson::Array(values) => values
            .iter()
            .enumerate()
            .map(|(index, value)| Expression::read(value).map_err(|fault| fault.at_index(index)))
            .collect(),
        value => Expression::read(value).map(|expression| vec![expression]),
    };
    let (relation, negated) = match name {
        "$literal" | "$const" => return Ok(Expression::Constant(operand(argument)?)),
        "$and" => return several().map(Expression::All),
        "$or" => return several().map(Expression::Any),
        "$not" => {
            let mut expressions: Vec<Expression> = several()?;
            return match (expressions.pop(), expressions.is_empty()) {
                (Some(expression), true) => Ok(Expression::Not(Box::new(expression))),
                _ => Err(Unsupported::new("expected one expression")),
            };
        }
        "$eq" => (Relation::Equal, false),
        "$ne" => (Relation::Equal, true),
        "$lt" => (Relation::Less, false),
        "$lte" => (Relation::LessOrEqual, false),
        "$gt" => (Relation::Greater, false),
        "$gte" => (Relation::GreaterOrEqual, false),
        _ => return Err(Unsupported::operator()),
    };
    let sides = several()?.try_into().map_err(|_| Unsupported::new("expected two expressions"))?;
    Ok(Expression::Compare { relation, negated, sides: Box::new(sides) })
}

/// MongoDB's reading of a value as yes or no: everything but false, null, what is missing, and zero.
fn is_true(value: Option<RawBsonRef<'_>>) -> bool {
    match Bracket::of(value) {
        Bracket::Missing | Bracket::Null => false,
        Bracket::Boolean => value == Some(RawBsonRef::Boolean(true)),
        Bracket::Number => {
            value.and_then(Number::read).is_some_and(|number| number.cmp(Number::Int(0)).is_ne())
        }
        _ => true,
    }
}

fn reach<'a>(document: &'a RawDocument, parts: &[String]) -> Value<'a> {
    let Some((part, rest)) = parts.split_first() else { return Value::Held(RawBsonRef::Document(document)) };
    match (member(document, part), rest) {
        (Some(value), []) => Value::Held(value),
        (Some(RawBsonRef::Document(inner)), _) => reach(inner, rest),
        (Some(RawBsonRef::Array(array)), _) => Value::Made(RawBson::Array(reach_each(array, rest))),
        (None | Some(_), _) => Value::Missing,
    }
}

/// What each element that is a document has there.
fn reach_each(array: &RawArray, parts: &[String]) -> RawArrayBuf {
    let mut reached = RawArrayBuf::new();
    for element in elements(array) {
        if let RawBsonRef::Document(document) = element {
            match reach(document, parts) {
                Value::Missing => {}
                Value::Held(value) => reached.push(value),
                Value::Made(value) => reached.push(value),
            }
        }
    }
    reached
}
