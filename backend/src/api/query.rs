//! `filter`, `sort`, `keys`, `page`, `pagesize`: which documents are read, and how much of them.

use bson::{Bson, Document, doc};
use shared::{
    refusal::{Kind, Refusal},
    request::Query,
    shell_json,
};

const DEFAULT_PAGE_SIZE: u32 = 100;
const MAX_PAGE_SIZE: u32 = 1000;

/// Operators that run code in MongoDB.
const CODE: &[&str] = &["$where", "$function", "$accumulator"];

/// Which documents.
#[derive(Clone, Debug, PartialEq)]
pub struct DocumentQuery {
    /// What they match.
    pub filter: Document,
    /// Their order.
    pub sort: Document,
    /// Which of their members.
    pub keys: Document,
    /// How many come before this page.
    pub skip: u64,
    /// How many at the most.
    pub limit: u32,
}

impl DocumentQuery {
    /// Reads the parameters. 400 names the one that is wrong, and what it takes.
    pub fn parse(query: &Query) -> Result<Self, Refusal> {
        let page = number(query, "page", 1, u32::MAX)?;
        let limit = number(query, "pagesize", DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)?;
        let mut filters =
            query.all("filter").map(|text| object("filter", text)).collect::<Result<Vec<_>, _>>()?;
        check_code("filter", &filters)?;
        let filter = if filters.len() > 1 {
            doc! { "$and": filters }
        } else {
            filters.pop().unwrap_or_default()
        };
        let mut keys = Document::new();
        for text in query.all("keys") {
            keys.extend(object("keys", text)?);
        }
        // A projection may hold expressions, and so functions.
        check_code("keys", [&keys])?;
        let mut sort = Document::new();
        for text in query.all("sort") {
            sort.extend(order(text)?);
        }
        if sort.is_empty() {
            sort.insert("_id", -1);
        }
        Ok(Self { filter, sort, keys, skip: u64::from(page - 1) * u64::from(limit), limit })
    }
}

fn number(query: &Query, name: &str, default: u32, most: u32) -> Result<u32, Refusal> {
    let Some(text) = query.get(name) else { return Ok(default) };
    let least = u32::from(name == "page");
    text.parse().ok().filter(|number| (least..=most).contains(number)).ok_or_else(|| {
        let message = format!("parameter {name} is {text:?}, expected a number from {least} to {most}");
        Refusal::new(Kind::BadRequest, message)
    })
}

fn object(name: &str, text: &str) -> Result<Document, Refusal> {
    match shell_json::parse(text) {
        Ok(Bson::Document(document)) => Ok(document),
        Ok(_) => Err(Refusal::new(Kind::BadRequest, format!("parameter {name} is not a JSON object"))),
        Err(error) => {
            Err(Refusal::new(Kind::BadRequest, format!("parameter {name} is not a JSON object: {error}")))
        }
    }
}

/// `{"name":1}`, or short `name` and `-name`.
fn order(text: &str) -> Result<Document, Refusal> {
    let trimmed = text.trim();
    if trimmed.starts_with('{') {
        return object("sort", trimmed);
    }
    let (name, direction) = match trimmed.strip_prefix('-') {
        Some(name) => (name, -1),
        None => (trimmed.strip_prefix('+').unwrap_or(trimmed), 1),
    };
    if name.is_empty() || name.starts_with('$') || name.contains('\0') {
        let message = format!("parameter sort is {text:?}, expected a JSON object or the name of a field");
        return Err(Refusal::new(Kind::BadRequest, message));
    }
    Ok(doc! { name: direction })
}

fn check_code<'a>(name: &str, documents: impl IntoIterator<Item = &'a Document>) -> Result<(), Refusal> {
    if documents.into_iter().any(runs_code) {
        let message = format!("parameter {name} runs code, expected it without {}", CODE.join(", "));
        return Err(Refusal::new(Kind::BadRequest, message));
    }
    Ok(())
}

fn runs_code(filter: &Document) -> bool {
    fn in_value(value: &Bson) -> bool {
        match value {
            Bson::Document(document) => runs_code(document),
            Bson::Array(array) => array.iter().any(in_value),
            _ => false,
        }
    }
    filter.iter().any(|(key, value)| CODE.contains(&key.as_str()) || in_value(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<DocumentQuery, String> {
        let query = Query::parse(Some(query)).expect("query");
        DocumentQuery::parse(&query).map_err(|refusal| refusal.message().to_owned())
    }

    #[test]
    fn the_defaults_are_the_newest_hundred() {
        let query = parse("").expect("defaults");
        assert_eq!((query.skip, query.limit, query.sort), (0, 100, doc! { "_id": -1 }));
    }

    #[test]
    fn shell_json_short_sorts_and_repeated_filters_are_taken() {
        let query =
            parse("filter={a:1}&filter={'b':{$gt:2}}&sort={timestamp:-1}&page=3&pagesize=15").expect("query");
        assert_eq!(query.filter, doc! { "$and": [{ "a": 1 }, { "b": { "$gt": 2 } }] });
        assert_eq!((query.sort, query.skip, query.limit), (doc! { "timestamp": -1 }, 30, 15));
        assert_eq!(parse("sort=-name&sort=age").expect("sorts").sort, doc! { "name": -1, "age": 1 });
        assert_eq!(parse("keys={a:1}&keys={b:1}").expect("keys").keys, doc! { "a": 1, "b": 1 });
    }

    #[test]
    fn a_wrong_parameter_is_named_with_what_it_takes() {
        for (query, message) in [
            ("page=0", "parameter page is \"0\", expected a number from 1 to 4294967295"),
            ("pagesize=1001", "parameter pagesize is \"1001\", expected a number from 0 to 1000"),
            ("filter=[1]", "parameter filter is not a JSON object"),
            ("sort=$x", "parameter sort is \"$x\", expected a JSON object or the name of a field"),
            ("sort=a%00", "parameter sort is \"a\\0\", expected a JSON object or the name of a field"),
            (
                "filter={a:{$not:{$where:'1'}}}",
                "parameter filter runs code, expected it without $where, $function, $accumulator",
            ),
            (
                "keys={a:{$function:{body:'f',args:[],lang:'js'}}}",
                "parameter keys runs code, expected it without $where, $function, $accumulator",
            ),
        ] {
            assert_eq!(parse(query).expect_err(query), message);
        }
    }
}
