//! Which addresses a rule is for: `/{tenant}/messages/_streams/{s}`.

use bson::Document;
use percent_encoding::percent_decode_str;

/// The path of a rule, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathTemplate {
    segments: Vec<Segment>,
    /// Whether it ends with `**`.
    open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// This very name.
    Literal(String),
    /// Any one name, called so in conditions and values.
    Parameter(String),
    /// Any one name.
    Any,
}

const EXPECTED: &str =
    "expected a path such as /messages/_streams/{stream}, where * is any segment and a last ** any rest";

impl PathTemplate {
    /// Reads a template. Literal segments are percent-decoded as those of a request are.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: String| format!("{what}, {EXPECTED}");
        let rest = text.strip_prefix('/').ok_or_else(|| wrong(format!("{text:?} does not begin with /")))?;
        let mut template = Self { segments: Vec::new(), open: false };
        if rest.is_empty() {
            return Ok(template);
        }
        let parts: Vec<&str> = rest.split('/').collect();
        for (index, part) in parts.iter().enumerate() {
            let segment = match *part {
                "**" if index + 1 == parts.len() => {
                    template.open = true;
                    break;
                }
                "*" => Segment::Any,
                "" | "**" => return Err(wrong(format!("{text:?} has the segment {part:?}"))),
                part => match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
                    Some(name) if is_name(name) => {
                        if template.parameters().any(|known| known == name) {
                            return Err(wrong(format!("{text:?} has the parameter {{{name}}} twice")));
                        }
                        Segment::Parameter(name.to_owned())
                    }
                    Some(name) => {
                        return Err(wrong(format!(
                            "{text:?} has the parameter {{{name}}}, whose name is not of letters and digits"
                        )));
                    }
                    None => Segment::Literal(
                        literal(part).ok_or_else(|| wrong(format!("{text:?} has the segment {part:?}")))?,
                    ),
                },
            };
            template.segments.push(segment);
        }
        Ok(template)
    }

    /// The names of its parameters.
    pub(super) fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Parameter(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The values of the parameters, where the canonical path is one of this template's.
    pub(super) fn values(&self, canonical: &str) -> Option<Document> {
        let segments = segments(canonical);
        let fits =
            segments.len() == self.segments.len() || (self.open && segments.len() > self.segments.len());
        if !fits {
            return None;
        }
        let mut values = Document::new();
        for (template, segment) in self.segments.iter().zip(segments) {
            match template {
                Segment::Literal(literal) if *literal != segment => return None,
                Segment::Literal(_) | Segment::Any => {}
                Segment::Parameter(name) => {
                    values.insert(name, segment);
                }
            }
        }
        Some(values)
    }

    /// Whether the first `count` segments are spelled out.
    pub(super) fn names_first(&self, count: usize) -> bool {
        self.segments.len() >= count
            && self.segments[..count].iter().all(|segment| matches!(segment, Segment::Literal(_)))
    }
}

/// The decoded segments of a canonical path.
pub(super) fn segments(canonical: &str) -> Vec<String> {
    let rest = canonical.trim_start_matches('/');
    if rest.is_empty() {
        return Vec::new();
    }
    rest.split('/').map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned()).collect()
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_')
}

fn literal(part: &str) -> Option<String> {
    let decoded = percent_decode_str(part).decode_utf8().ok()?.into_owned();
    let odd = decoded == "." || decoded == ".." || decoded.contains(['/', '\\', '{', '}', '*']);
    // RESTHeart matches `_streams` in any letter case; an address has it in small letters once it is judged.
    let streams = decoded.eq_ignore_ascii_case("_streams");
    (!odd).then(|| if streams { decoded.to_ascii_lowercase() } else { decoded })
}

#[cfg(test)]
mod tests {
    use bson::doc;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn values(template: &str, path: &str) -> Option<Document> {
        PathTemplate::parse(template).expect(template).values(path)
    }

    #[test]
    fn parameters_take_one_segment_each_and_literals_are_themselves() {
        let template = "/{tenant}/messages/_Streams/{s}";
        assert_eq!(
            values(template, "/a%20b/messages/_streams/all"),
            Some(doc! { "tenant": "a b", "s": "all" })
        );
        for other in ["/a/messages/_streams", "/a/messages/_streams/x/y", "/a/Messages/_streams/x", "/"] {
            assert_eq!(values(template, other), None, "{other}");
        }
        assert_eq!(values("/a%2Db", "/a-b"), Some(doc! {}));
        assert_eq!(values("/", "/"), Some(doc! {}));
    }

    #[test]
    fn a_star_is_one_segment_and_two_at_the_end_are_any_rest() {
        assert_eq!(values("/*/x", "/a/x"), Some(doc! {}));
        assert_eq!(values("/*/x", "/x"), None);
        for path in ["/a", "/a/b", "/a/b/c"] {
            assert_eq!(values("/a/**", path), Some(doc! {}), "{path}");
        }
        assert_eq!(values("/a/**", "/b/a"), None);
        assert_eq!(values("/**", "/"), Some(doc! {}));
    }

    #[test]
    fn a_wrong_template_is_told_with_what_was_expected() {
        for (template, what) in [
            ("messages", "\"messages\" does not begin with /"),
            ("/a//b", "\"/a//b\" has the segment \"\""),
            ("/**/a", "\"/**/a\" has the segment \"**\""),
            ("/a/..", "\"/a/..\" has the segment \"..\""),
            ("/{a}/{a}", "\"/{a}/{a}\" has the parameter {a} twice"),
            ("/{a b}", "\"/{a b}\" has the parameter {a b}, whose name is not of letters and digits"),
            ("/x{a}", "\"/x{a}\" has the segment \"x{a}\""),
        ] {
            assert_eq!(PathTemplate::parse(template).unwrap_err(), format!("{what}, {EXPECTED}"));
        }
    }

    #[test]
    fn what_is_spelled_out_is_known() {
        let template = PathTemplate::parse("/app/users/*").expect("template");
        assert!(template.names_first(2));
        assert!(!template.names_first(3));
        assert!(!PathTemplate::parse("/**").expect("template").names_first(1));
    }
}
