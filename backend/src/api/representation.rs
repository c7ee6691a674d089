//! How what is read is shown: a plain array, or HAL with the properties of the collection and links to its streams.

use bson::{Document, RawDocumentBuf};
use http::StatusCode;
use shared::{
    event_json::{JsonMode, write_document, write_text},
    readable::readable,
    refusal::{Kind, Refusal},
    request::Query,
};
use warp::reply::Response;

use crate::answer;

/// The parameter `rep`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Representation {
    /// The documents alone.
    Standard,
    /// Hypertext Application Language: embedded resources by relation.
    Hal,
    /// The same, with all embedded resources in one array.
    Shal,
}

impl Representation {
    /// Reads the parameter, in any letter case.
    pub fn parse(query: &Query) -> Result<Self, Refusal> {
        match query.get("rep").map(str::to_ascii_uppercase).as_deref() {
            None | Some("STANDARD" | "S") => Ok(Self::Standard),
            Some("HAL") => Ok(Self::Hal),
            Some("SHAL") => Ok(Self::Shal),
            Some(_) => Err(Refusal::new(
                Kind::BadRequest,
                format!(
                    "parameter rep is {:?}, expected STANDARD, HAL, or SHAL",
                    query.get("rep").unwrap_or_default()
                ),
            )),
        }
    }
}

/// What is shown of a collection or a database.
#[derive(Debug)]
pub struct Listing<'a> {
    /// Its properties, in the plain form.
    pub properties: &'a Document,
    /// What it holds.
    pub items: &'a [RawDocumentBuf],
    /// The relation under which HAL embeds the items.
    pub relation: &'a str,
    /// Names and addresses for `_links`.
    pub links: &'a [(String, String)],
}

impl Listing<'_> {
    /// The response.
    pub fn response(&self, representation: Representation, mode: JsonMode) -> Result<Response, Refusal> {
        let body = self.json(representation, mode).map_err(|_| {
            tracing::error!("a document is no valid BSON");
            Refusal::new(Kind::Internal, "a document is no valid BSON")
        })?;
        let media_type = match representation {
            Representation::Standard => "application/json",
            Representation::Hal | Representation::Shal => "application/hal+json",
        };
        Ok(answer::with_body(StatusCode::OK, media_type, body))
    }

    fn json(&self, representation: Representation, mode: JsonMode) -> Result<String, bson::error::Error> {
        let mut out = String::new();
        if representation == Representation::Standard {
            self.array(&mut out, mode)?;
            return Ok(out);
        }
        write_document(&mut out, &RawDocumentBuf::try_from(self.properties)?, mode)?;
        out.pop();
        if !self.properties.is_empty() {
            out.push(',');
        }
        out.push_str("\"_returned\":");
        out.push_str(&self.items.len().to_string());
        out.push_str(",\"_embedded\":");
        if representation == Representation::Hal {
            out.push('{');
            write_text(&mut out, self.relation);
            out.push(':');
            self.array(&mut out, mode)?;
            out.push('}');
        } else {
            self.array(&mut out, mode)?;
        }
        out.push_str(",\"_links\":{");
        for (index, (name, href)) in self.links.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            write_text(&mut out, name);
            out.push_str(":{\"href\":");
            write_text(&mut out, href);
            out.push('}');
        }
        out.push_str("}}");
        Ok(out)
    }

    fn array(&self, out: &mut String, mode: JsonMode) -> Result<(), bson::error::Error> {
        out.push('[');
        for (index, item) in self.items.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            write_document(out, &readable(item)?, mode)?;
        }
        out.push(']');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bson::{doc, rawdoc};

    use super::*;

    #[test]
    fn hal_and_shal_show_properties_items_and_links() {
        let listing = Listing {
            properties: &doc! { "_id": "messages" },
            items: &[rawdoc! { "_id": 1 }],
            relation: "rh:doc",
            links: &[("all".to_owned(), "/messages/_streams/all".to_owned())],
        };
        let json = |representation| listing.json(representation, JsonMode::Plain).expect("json");
        assert_eq!(json(Representation::Standard), r#"[{"_id":1}]"#);
        assert_eq!(
            json(Representation::Hal),
            r#"{"_id":"messages","_returned":1,"_embedded":{"rh:doc":[{"_id":1}]},"_links":{"all":{"href":"/messages/_streams/all"}}}"#
        );
        assert_eq!(
            json(Representation::Shal),
            r#"{"_id":"messages","_returned":1,"_embedded":[{"_id":1}],"_links":{"all":{"href":"/messages/_streams/all"}}}"#
        );
    }
}
