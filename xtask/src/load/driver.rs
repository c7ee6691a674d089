//! The driver's own change stream, of documents that bear the time of their writing.

use anyhow::Result;
use bson::RawDocumentBuf;
use futures_util::TryStreamExt as _;
use mongodb::change_stream::ChangeStream;
use mongodb::options::FullDocumentType;

use super::endpoints::Namespace;

/// A change stream that is open.
pub(super) struct Written(ChangeStream<RawDocumentBuf>);

impl Written {
    pub(super) async fn open(namespace: &Namespace) -> Result<Self> {
        let collection = namespace.open(2).await?;
        let events = collection.watch().full_document(FullDocumentType::UpdateLookup).await?;
        Ok(Self(events.with_type()))
    }

    /// When the next document was written, in microseconds since 1970; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<u64>> {
        while let Some(event) = self.0.try_next().await? {
            let at = event.get_document("fullDocument").and_then(|document| document.get_i64("at"));
            if let Ok(at) = at {
                return Ok(Some(u64::try_from(at)?));
            }
        }
        Ok(None)
    }
}
