//! Where a change stream stands: MongoDB's resume token, and how a cursor continues behind it.
//!
//! `resumeAfter` is not used: MongoDB looks for the token *behind* the pipeline, and a filter on a document that has
//! changed since hides it (error 280). Instead the cursor starts at the token's cluster time, and its first stage lets
//! pass only what sorts behind the token. Tokens sort as their hexadecimal text.

use bson::{Document, RawDocument, Timestamp, doc};

/// A place between two events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    token: String,
    time: Timestamp,
}

impl Position {
    /// Reads a resume token, `{"_data": "82…"}`: MongoDB's key string, which begins with the cluster time.
    pub fn of_token(token: &RawDocument) -> Option<Self> {
        let data = token.get_str("_data").ok()?;
        // 0x82 is the key string type of a timestamp; eight bytes of seconds and increment follow, big-endian.
        let time = data.get(..18)?.strip_prefix("82")?;
        let seconds = u32::from_str_radix(&time[..8], 16).ok()?;
        let increment = u32::from_str_radix(&time[8..], 16).ok()?;
        Some(Self { token: data.to_owned(), time: Timestamp { time: seconds, increment } })
    }

    /// The cluster time from which the cursor starts.
    pub fn start_at(&self) -> Timestamp {
        self.time
    }

    /// The stage that lets pass what is behind this position.
    pub fn only_behind(&self) -> Document {
        doc! { "$match": { "_id._data": { "$gt": &self.token } } }
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn a_token_tells_its_cluster_time() {
        let token = rawdoc! { "_data": "8263F5C8A10000000B2B0229296E04" };
        let position = Position::of_token(&token).expect("a token");
        assert_eq!(position.start_at(), Timestamp { time: 0x63F5_C8A1, increment: 11 });
        assert_eq!(
            position.only_behind(),
            doc! { "$match": { "_id._data": { "$gt": "8263F5C8A10000000B2B0229296E04" } } }
        );
    }

    #[test]
    fn what_is_no_token_is_none() {
        for data in ["", "82", "8163F5C8A10000000B", "82zzzzzzzzzzzzzzzz", "82é3F5C8A10000000B"] {
            assert_eq!(Position::of_token(&rawdoc! { "_data": data }), None, "{data}");
        }
    }
}
