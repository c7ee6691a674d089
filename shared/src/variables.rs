//! Variables of a stream: what the client sends in `avars`, and what the server adds under names that begin with `@`.

use bson::{Bson, DateTime, Document};

use crate::{
    limit::Limit,
    refusal::{Kind, Refusal},
    shell_json,
};

/// The longest `avars`, in bytes after percent-decoding.
pub const MAX_AVARS_BYTES: usize = 4096;

/// Operators that reach other data, write, or run JavaScript: no definition holds one and no variable either, whatever
/// the settings. Change streams take some of them as they are (`$function`, for one), so MongoDB is no second line here.
pub(crate) const FORBIDDEN: &[&str] = &[
    "$where",
    "$function",
    "$accumulator",
    "$out",
    "$merge",
    "$lookup",
    "$graphLookup",
    "$unionWith",
    "$geoNear",
    "$near",
    "$nearSphere",
    "$text",
    "$search",
    "$searchMeta",
    "$vectorSearch",
];

/// Whether `key` is one of the operators that nothing may hold. `$_internal…` ones are MongoDB's between its own members.
pub(crate) fn is_forbidden(key: &str) -> bool {
    FORBIDDEN.contains(&key) || key.starts_with("$_internal")
}

/// Whether operators in `avars` are refused: the setting `aggregation-check-operators`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OperatorCheck {
    /// A key that begins with `$`, a regular expression, code, or a min/max key is refused.
    #[default]
    On,
    /// They pass, and act as operators where a filter takes them; what reaches other data or runs code is refused still.
    Off,
}

/// The client's variables, checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Variables(Document);

impl Variables {
    /// Reads and checks the decoded value of the parameter `avars`; an absent one binds nothing.
    pub fn parse(avars: Option<&str>, check: OperatorCheck) -> Result<Self, Refusal> {
        let Some(avars) = avars else { return Ok(Self::default()) };
        if avars.len() > MAX_AVARS_BYTES {
            return Err(Refusal::new(
                Kind::BadVariables,
                format!("avars: {} bytes, expected at most {MAX_AVARS_BYTES}", avars.len()),
            )
            .over(Limit::AvarsBytes));
        }
        let document = match shell_json::parse(avars) {
            Ok(Bson::Document(document)) => document,
            Ok(_) => return Err(Refusal::new(Kind::BadVariables, "avars: expected a JSON object")),
            Err(error) => {
                return Err(Refusal::new(
                    Kind::BadVariables,
                    format!("avars: expected a JSON object; {error}"),
                ));
            }
        };
        for (name, value) in &document {
            if name.starts_with('@') {
                return Err(Refusal::new(
                    Kind::ReservedVariable,
                    format!("avars: the name {name} is reserved, names that begin with @ are the server's"),
                ));
            }
            check_member(name, value, "avars", check)?;
        }
        Ok(Self(document))
    }

    /// The value of `name`: a member of that very name first, else the way through objects along its dots.
    pub fn get(&self, name: &str) -> Option<&Bson> {
        reach(&self.0, name)
    }

    /// The names that the client has sent, without those inside objects.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The same with these values over them.
    #[must_use]
    pub(crate) fn with(mut self, values: &Document) -> Self {
        self.0.extend(values.clone());
        self
    }
}

/// The server's variables for one connection.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerVariables {
    /// The verified claims, `@user`; none for an anonymous caller.
    pub user: Option<Document>,
    /// The time at which the stream is opened, `@now`.
    pub now: DateTime,
}

impl ServerVariables {
    /// The value of `name`, which begins with `@`. A claim that is absent or null is unbound, never `null`: a filter
    /// `owner: null` would match what nobody owns.
    pub(crate) fn get(&self, name: &str) -> Option<Bson> {
        match name {
            "@now" => Some(Bson::DateTime(self.now)),
            "@user" => self.user.clone().map(Bson::Document),
            _ => {
                let claim = name.strip_prefix("@user.")?;
                reach(self.user.as_ref()?, claim).filter(|value| **value != Bson::Null).cloned()
            }
        }
    }
}

impl ServerVariables {
    /// The value of `name` where it must be a plain one: a claim that holds an operator is 403, as is one that is absent.
    pub(crate) fn plain(&self, name: &str) -> Result<Bson, Refusal> {
        let unbound = || Refusal::new(Kind::ClaimMissing, format!("variable {name} not bound"));
        let value = self.get(name).ok_or_else(unbound)?;
        if has_operator(&value) { Err(holds_operator(name)) } else { Ok(value) }
    }

    /// `written` with the server's values in it: a text that begins with `@` stands for the variable of that name, at any
    /// depth. It is a value in every place: a claim that holds an operator is refused, as is one that is absent.
    pub fn fill(&self, written: &Bson) -> Result<Bson, Refusal> {
        Ok(match written {
            Bson::String(name) if name.starts_with('@') => self.plain(name)?,
            Bson::Document(members) => Bson::Document(self.fill_members(members)?),
            Bson::Array(values) => {
                Bson::Array(values.iter().map(|value| self.fill(value)).collect::<Result<_, _>>()?)
            }
            other => other.clone(),
        })
    }

    /// [`Self::fill`] of an object.
    pub fn fill_members(&self, written: &Document) -> Result<Document, Refusal> {
        written.iter().map(|(key, value)| Ok((key.clone(), self.fill(value)?))).collect()
    }
}

/// 403 for a variable of the server's in whose value MongoDB would find an operator.
pub(crate) fn holds_operator(name: &str) -> Refusal {
    let message = format!("variable {name} holds a key that begins with $, expected a plain value");
    Refusal::new(Kind::Forbidden, message)
}

/// Whether MongoDB could take a part of `value` for an operator or a pattern.
pub(crate) fn has_operator(value: &Bson) -> bool {
    match value {
        Bson::Document(document) => {
            document.iter().any(|(key, value)| key.starts_with('$') || has_operator(value))
        }
        Bson::Array(values) => values.iter().any(has_operator),
        Bson::RegularExpression(_) => true,
        _ => false,
    }
}

/// Whether a definition may use `name`: any client's name, or one of the server's that exist.
pub(crate) fn is_known_name(name: &str) -> bool {
    match name.strip_prefix('@') {
        None => {
            !name.is_empty() && !name.starts_with(['$', '.']) && !name.ends_with('.') && !name.contains('\0')
        }
        Some(server) => {
            server == "now"
                || server == "user"
                || server.strip_prefix("user.").is_some_and(|claim| !claim.is_empty())
        }
    }
}

pub(crate) fn reach<'a>(document: &'a Document, name: &str) -> Option<&'a Bson> {
    if let Some(value) = document.get(name) {
        return Some(value);
    }
    let (head, rest) = name.split_once('.')?;
    match document.get(head)? {
        Bson::Document(inner) => reach(inner, rest),
        _ => None,
    }
}

fn check_member(key: &str, value: &Bson, place: &str, check: OperatorCheck) -> Result<(), Refusal> {
    let place = format!("{place}.{key}");
    if key.starts_with('$') && (check == OperatorCheck::On || is_forbidden(key)) {
        return Err(operator(&place, "an operator"));
    }
    check_value(value, &place, check)
}

fn check_value(value: &Bson, place: &str, check: OperatorCheck) -> Result<(), Refusal> {
    match value {
        Bson::Document(document) => {
            document.iter().try_for_each(|(key, value)| check_member(key, value, place, check))
        }
        Bson::Array(values) => values
            .iter()
            .enumerate()
            .try_for_each(|(index, value)| check_value(value, &format!("{place}[{index}]"), check)),
        Bson::RegularExpression(_) if check == OperatorCheck::On => {
            Err(operator(place, "a regular expression"))
        }
        Bson::MinKey | Bson::MaxKey if check == OperatorCheck::On => Err(operator(place, "a min or max key")),
        Bson::JavaScriptCode(_) | Bson::JavaScriptCodeWithScope(_) => Err(operator(place, "code")),
        Bson::Undefined | Bson::Symbol(_) | Bson::DbPointer(_) => Err(Refusal::new(
            Kind::BadVariables,
            format!("{place}: a deprecated BSON type, expected a plain value"),
        )),
        _ => Ok(()),
    }
}

fn operator(place: &str, what: &str) -> Refusal {
    Refusal::new(Kind::OperatorInVariables, format!("{place}: {what} is not allowed, expected a plain value"))
}

#[cfg(test)]
mod tests {
    use bson::{bson, doc};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn a_literal_dotted_key_comes_before_the_way_through_objects() {
        let variables =
            Variables::parse(Some(r#"{"a":{"b":1,"b.c":2,"d":{"e":3}},"a.b":4}"#), OperatorCheck::On)
                .unwrap();
        assert_eq!(variables.get("a.b"), Some(&bson!(4)));
        assert_eq!(variables.get("a.b.c"), Some(&bson!(2)));
        assert_eq!(variables.get("a.d.e"), Some(&bson!(3)));
        assert_eq!(variables.get("a.d.x"), None);
        assert_eq!(variables.get("a.b.c.d"), None);
    }

    #[test]
    fn an_absent_or_null_claim_is_unbound() {
        let server =
            ServerVariables { user: Some(doc! { "sub": "u", "team": null }), now: DateTime::from_millis(7) };
        assert_eq!(server.get("@user.sub"), Some(bson!("u")));
        assert_eq!(server.get("@user.team"), None);
        assert_eq!(server.get("@user.other"), None);
        assert_eq!(server.get("@now"), Some(Bson::DateTime(DateTime::from_millis(7))));
        let anonymous = ServerVariables { user: None, ..server };
        assert_eq!(anonymous.get("@user"), None);
        assert_eq!(anonymous.get("@user.sub"), None);
    }

    #[test]
    fn what_is_filled_in_is_a_value_and_never_an_operator_or_null() {
        let claims = doc! { "sub": "u", "team": null, "trick": { "$ne": 1 }, "teams": ["a", "b"] };
        let server = ServerVariables { user: Some(claims), now: DateTime::from_millis(7) };
        let written = doc! { "a": "@user.sub", "b": { "$in": "@user.teams" }, "c": ["@now", "x"], "d": 1 };
        assert_eq!(
            server.fill_members(&written),
            Ok(doc! { "a": "u", "b": { "$in": ["a", "b"] }, "c": [server.now, "x"], "d": 1 })
        );
        let refused = |name: &str| server.fill(&Bson::from(name)).unwrap_err().to_string();
        assert_eq!(refused("@user.team"), "403 variable @user.team not bound");
        assert_eq!(refused("@user.other"), "403 variable @user.other not bound");
        assert_eq!(
            refused("@user.trick"),
            "403 variable @user.trick holds a key that begins with $, expected a plain value"
        );
    }

    #[test]
    fn with_the_check_off_operators_pass_but_never_code() {
        let parse =
            |avars| Variables::parse(Some(avars), OperatorCheck::Off).map(drop).map_err(|e| e.to_string());
        assert_eq!(parse(r#"{"n":{"$gt":1},"r":{"$regex":"a"},"s":/a/i}"#), Ok(()));
        assert_eq!(
            parse(r#"{"n":[{"$where":"1"}]}"#),
            Err("400 avars.n[0].$where: an operator is not allowed, expected a plain value".to_owned())
        );
        assert_eq!(
            parse(r#"{"n":{"$code":"1"}}"#),
            Err("400 avars.n: code is not allowed, expected a plain value".to_owned())
        );
        assert_eq!(
            parse(r#"{"@now":1}"#),
            Err("400 avars: the name @now is reserved, names that begin with @ are the server's".to_owned())
        );
    }
}
