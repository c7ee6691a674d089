//! Where a change stream stands: MongoDB's resume token, and how a cursor continues behind it.
//!
//! `resumeAfter` is not used: MongoDB looks for the token *behind* the pipeline, and a filter on a document that has
//! changed since hides it (error 280). Instead the cursor starts at the token's cluster time, and its first stage lets
//! pass only what sorts behind the token. Tokens sort as their hexadecimal text.

use std::{fmt::Write as _, sync::Arc};

use bson::{Bson, Document, RawDocument, Timestamp, doc};

/// A place between two events; a later place is greater.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    token: Arc<str>,
}

impl Position {
    /// Reads a resume token, `{"_data": "82…"}`: MongoDB's key string, which begins with the cluster time.
    pub fn of_token(token: &RawDocument) -> Option<Self> {
        Self::of_text(token.get_str("_data").ok()?)
    }

    /// Before everything that happened at this cluster time.
    pub fn before(time: Timestamp) -> Self {
        Self { token: format!("82{:08X}{:08X}", time.time, time.increment).into() }
    }

    /// Behind everything that happened at this cluster time: no token goes on with `F`.
    pub fn after(time: Timestamp) -> Self {
        Self { token: format!("{}FF", Self::before(time).token).into() }
    }

    fn of_text(token: &str) -> Option<Self> {
        let position = Self { token: token.into() };
        position.time().is_some().then_some(position)
    }

    /// 0x82 is the key string type of a timestamp; eight bytes of seconds and increment follow, big-endian.
    fn time(&self) -> Option<Timestamp> {
        let time = self.token.get(..18)?.strip_prefix("82")?;
        // `from_str_radix` takes a sign as well, and a character of several bytes cannot be cut.
        if !time.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let part = |range| u32::from_str_radix(&time[range], 16).ok();
        Some(Timestamp { time: part(0..8)?, increment: part(8..16)? })
    }

    /// The cluster time from which a cursor starts.
    pub fn start_at(&self) -> Timestamp {
        self.time().expect("checked when it was made")
    }

    /// The stage that lets pass what is behind this position, up to and with `last` where one is given.
    pub fn only_behind(&self, last: Option<&Self>) -> Document {
        let mut range = doc! { "$gt": &*self.token };
        if let Some(last) = last {
            range.insert("$lte", Bson::String(last.token.to_string()));
        }
        doc! { "$match": { "_id._data": range } }
    }

    /// The token in half its length.
    pub fn to_bytes(&self) -> Vec<u8> {
        let digits = self.token.as_bytes();
        // Upper case only, so that the way back gives the same text.
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'A'..=b'F' => Some(digit - b'A' + 10),
            _ => None,
        };
        let (pairs, rest) = digits.as_chunks();
        let packed = pairs.iter().map(|[high, low]| Some(value(*high)? << 4 | value(*low)?));
        packed.collect::<Option<Vec<u8>>>().filter(|_| rest.is_empty()).unwrap_or_else(|| digits.to_vec())
    }

    /// Reads back what [`Position::to_bytes`] wrote. A packed token begins with 0x82, an unpacked one with the digit 8.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.first() == Some(&b'8') {
            return Self::of_text(std::str::from_utf8(bytes).ok()?);
        }
        let mut token = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            write!(token, "{byte:02X}").ok()?;
        }
        Self::of_text(&token)
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    fn position(token: &str) -> Option<Position> {
        Position::of_token(&rawdoc! { "_data": token })
    }

    #[test]
    fn a_token_tells_its_cluster_time() {
        let position = position("8263F5C8A10000000B2B0229296E04").expect("a token");
        assert_eq!(position.start_at(), Timestamp { time: 0x63F5_C8A1, increment: 11 });
        assert_eq!(
            position.only_behind(None),
            doc! { "$match": { "_id._data": { "$gt": "8263F5C8A10000000B2B0229296E04" } } }
        );
    }

    #[test]
    fn what_is_no_token_is_none() {
        for data in ["", "82", "8163F5C8A10000000B", "82zzzzzzzzzzzzzzzz", "82é3F5C8A10000000B"] {
            assert_eq!(position(data), None, "{data}");
        }
    }

    #[test]
    fn a_time_is_made_of_digits_alone() {
        for data in ["82+1234567+1234567", "821234567é1234567"] {
            assert_eq!(position(data), None, "{data}");
        }
    }

    #[test]
    fn the_places_before_and_after_a_time_enclose_every_token_of_that_time() {
        let token = position("8263F5C8A10000000B2B0229296E04").expect("a token");
        let before = Position::before(token.start_at());
        assert!(before < token);
        assert_eq!(before.start_at(), token.start_at());
        let after = Position::after(token.start_at());
        assert!(after > token);
        assert_eq!(Position::from_bytes(&after.to_bytes()), Some(after));
    }

    #[test]
    fn a_position_survives_its_packing() {
        for token in [
            "8263F5C8A10000000B2B0229296E04",
            "8263F5C8A10000000B2",
            "8263f5c8a10000000b",
            "8263F5C8A10000000B+0",
        ] {
            let position = position(token).expect("a token");
            assert_eq!(Position::from_bytes(&position.to_bytes()), Some(position), "{token}");
        }
    }
}
