//! The lenient JSON of MongoDB's shells: unquoted keys, single quotes, `ObjectId("…")`, `/regex/i`, trailing commas,
//! and Extended JSON in both its versions (MongoDB manual, "MongoDB Extended JSON" and its "(v1)" page).
//!
//! A type wrapper such as `{"$oid": "…"}` becomes the value it stands for. `{"$regex": …}` stays the query operator that
//! it also is; a regular expression is written `/…/`, `RegExp(…)`, or `{"$regularExpression": …}`.

mod constructor;
mod wrapper;

use std::fmt;

use bson::{Bson, Document};

/// How deep objects and arrays may be nested.
pub const MAX_DEPTH: usize = 100;

/// Text that is not the JSON of a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Where, in bytes from the start of the text.
    pub position: usize,
    /// What was expected there.
    pub expected: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: expected {}", self.position, self.expected)
    }
}

impl std::error::Error for SyntaxError {}

/// Reads one value, which must be all of `text`.
pub fn parse(text: &str) -> Result<Bson, SyntaxError> {
    let mut reader = Reader { text, at: 0, depth: 0 };
    let value = reader.value()?;
    reader.skip_space();
    if reader.at < text.len() {
        return Err(reader.expected("nothing more"));
    }
    Ok(value)
}

/// Reads one object, which must be all of `text`.
pub fn parse_document(text: &str) -> Result<Document, SyntaxError> {
    let Bson::Document(document) = parse(text)? else {
        let position = text.len() - text.trim_start().len();
        return Err(SyntaxError { position, expected: "an object".to_owned() });
    };
    Ok(document)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn take_if(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn skip_space(&mut self) {
        self.take_while(|c| c.is_whitespace() || c == '\u{feff}');
    }

    fn expected(&self, what: impl Into<String>) -> SyntaxError {
        SyntaxError { position: self.at, expected: what.into() }
    }

    fn value(&mut self) -> Result<Bson, SyntaxError> {
        self.skip_space();
        match self.peek() {
            Some('{') => self.nested(Self::object),
            Some('[') => self.nested(Self::array),
            Some('"' | '\'') => self.string().map(Bson::String),
            Some('/') => self.regex(),
            Some(c) if c.is_ascii_digit() || matches!(c, '-' | '+' | '.') => self.number(),
            Some(c) if is_name_start(c) => self.word(),
            _ => Err(self.expected("a value")),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Bson, SyntaxError>) -> Result<Bson, SyntaxError> {
        if self.depth == MAX_DEPTH {
            return Err(self.expected(format!("at most {MAX_DEPTH} levels of nesting")));
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn object(&mut self) -> Result<Bson, SyntaxError> {
        let start = self.at;
        self.take();
        let mut document = Document::new();
        loop {
            self.skip_space();
            if self.take_if('}') {
                break;
            }
            let key_at = self.at;
            let key = self.key()?;
            if key.contains('\0') {
                return Err(SyntaxError { position: key_at, expected: "a key without NUL".to_owned() });
            }
            if document.contains_key(&key) {
                return Err(SyntaxError { position: key_at, expected: format!("the key {key:?} only once") });
            }
            self.skip_space();
            if !self.take_if(':') {
                return Err(self.expected("':' after a key"));
            }
            let value = self.value()?;
            document.insert(key, value);
            self.skip_space();
            if !self.take_if(',') {
                if self.take_if('}') {
                    break;
                }
                return Err(self.expected("',' or '}' in an object"));
            }
        }
        wrapper::decode(document).map_err(|expected| SyntaxError { position: start, expected })
    }

    fn key(&mut self) -> Result<String, SyntaxError> {
        match self.peek() {
            Some('"' | '\'') => self.string(),
            Some(c) if is_name_start(c) || c.is_ascii_digit() => Ok(self.name().to_owned()),
            _ => Err(self.expected("a key or '}'")),
        }
    }

    fn name(&mut self) -> &'a str {
        self.take_while(|c| is_name_start(c) || c.is_ascii_digit())
    }

    fn array(&mut self) -> Result<Bson, SyntaxError> {
        self.take();
        let mut values = Vec::new();
        loop {
            self.skip_space();
            if self.take_if(']') {
                break;
            }
            values.push(self.value()?);
            self.skip_space();
            if !self.take_if(',') {
                if self.take_if(']') {
                    break;
                }
                return Err(self.expected("',' or ']' in an array"));
            }
        }
        Ok(Bson::Array(values))
    }

    fn string(&mut self) -> Result<String, SyntaxError> {
        let start = self.at;
        let quote = self.take();
        let mut string = String::new();
        loop {
            let at = self.at;
            match self.take() {
                None => {
                    return Err(SyntaxError {
                        position: start,
                        expected: "a string with its closing quote".to_owned(),
                    });
                }
                Some('\\') => string.push(self.escaped(at)?),
                end if end == quote => return Ok(string),
                Some(c) => string.push(c),
            }
        }
    }

    fn escaped(&mut self, at: usize) -> Result<char, SyntaxError> {
        let bad = |expected: &str| SyntaxError { position: at, expected: expected.to_owned() };
        Ok(match self.take() {
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some(c @ ('"' | '\'' | '\\' | '/')) => c,
            Some('u') => {
                let unit = self.code_unit().ok_or_else(|| bad("four hex digits after \\u"))?;
                let mut units = vec![unit];
                // A character beyond U+FFFF is written as two escapes, a surrogate pair (RFC 8259, section 7).
                if (0xD800..0xDC00).contains(&unit) && self.rest().starts_with("\\u") {
                    self.at += 2;
                    units.push(self.code_unit().ok_or_else(|| bad("four hex digits after \\u"))?);
                }
                match char::decode_utf16(units).next() {
                    Some(Ok(c)) => c,
                    _ => return Err(bad("a surrogate pair in full")),
                }
            }
            _ => return Err(bad("one of \\\" \\' \\\\ \\/ \\b \\f \\n \\r \\t \\u")),
        })
    }

    fn code_unit(&mut self) -> Option<u16> {
        let digits = self.rest().get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        self.at += 4;
        u16::from_str_radix(digits, 16).ok()
    }

    fn number(&mut self) -> Result<Bson, SyntaxError> {
        let start = self.at;
        let bad = SyntaxError { position: start, expected: "a number".to_owned() };
        let negative = self.take_if('-');
        if !negative {
            self.take_if('+');
        }
        if self.rest().starts_with("Infinity") {
            self.at += "Infinity".len();
            return Ok(Bson::Double(if negative { f64::NEG_INFINITY } else { f64::INFINITY }));
        }
        self.take_while(|c| c.is_ascii_digit());
        let whole = !matches!(self.peek(), Some('.' | 'e' | 'E'));
        if self.take_if('.') {
            self.take_while(|c| c.is_ascii_digit());
        }
        if matches!(self.peek(), Some('e' | 'E')) {
            self.take();
            if !self.take_if('-') {
                self.take_if('+');
            }
            self.take_while(|c| c.is_ascii_digit());
        }
        if self.peek().is_some_and(is_name_start) {
            return Err(bad);
        }
        let digits = &self.text[start..self.at];
        if whole && let Ok(number) = digits.parse::<i64>() {
            return Ok(i32::try_from(number).map_or(Bson::Int64(number), Bson::Int32));
        }
        digits.parse::<f64>().map(Bson::Double).map_err(|_| bad)
    }

    fn regex(&mut self) -> Result<Bson, SyntaxError> {
        let start = self.at;
        self.take();
        let mut pattern = String::new();
        loop {
            match self.take() {
                None | Some('\n') => {
                    return Err(SyntaxError {
                        position: start,
                        expected: "a regular expression with its closing '/'".to_owned(),
                    });
                }
                Some('/') => break,
                Some('\\') if self.take_if('/') => pattern.push('/'),
                Some('\\') => {
                    pattern.push('\\');
                    pattern.extend(self.take());
                }
                Some(c) => pattern.push(c),
            }
        }
        let options = self.take_while(|c| c.is_ascii_alphabetic());
        wrapper::regex(&pattern, options).map_err(|expected| SyntaxError { position: start, expected })
    }

    /// `true`, `NaN`, `ObjectId("…")`, `new Date(…)`.
    fn word(&mut self) -> Result<Bson, SyntaxError> {
        let start = self.at;
        let mut word = self.name();
        if word == "new" {
            self.skip_space();
            word = self.name();
        }
        let arguments = self.arguments()?;
        constructor::call(word, arguments.as_deref())
            .map_err(|expected| SyntaxError { position: start, expected })
    }

    fn arguments(&mut self) -> Result<Option<Vec<Bson>>, SyntaxError> {
        self.skip_space();
        if !self.take_if('(') {
            return Ok(None);
        }
        self.nested(|reader| {
            let mut arguments = Vec::new();
            loop {
                reader.skip_space();
                if reader.take_if(')') {
                    break;
                }
                arguments.push(reader.value()?);
                reader.skip_space();
                if !reader.take_if(',') {
                    if reader.take_if(')') {
                        break;
                    }
                    return Err(reader.expected("',' or ')' after an argument"));
                }
            }
            Ok(Bson::Array(arguments))
        })
        .map(|arguments| match arguments {
            Bson::Array(arguments) => Some(arguments),
            _ => None,
        })
    }
}

fn is_name_start(c: char) -> bool {
    c.is_alphabetic() || matches!(c, '_' | '$' | '@')
}

#[cfg(test)]
mod tests;
