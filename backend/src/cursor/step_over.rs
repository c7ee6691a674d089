//! Stepping over an event on which the pipeline fails: the events around it arrive, and it is told to whom it concerns.

use std::{borrow::Cow, sync::Arc};

use bson::{Document, RawBsonRef, RawDocumentBuf, doc};
use mongodb::error::Error;
use shared::readable::readable;

use super::{BATCH, Cursor, Progress, pipeline};
use crate::{
    event::{self, Event},
    mongo::{self, Fault, fault},
    position::Position,
    read_ahead::next,
};

/// Events that are read one by one before they are handed out.
const ONE_BY_ONE: usize = 100;

/// What the pipeline makes of a range of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    /// It fails on one of them.
    Fails,
    /// It lets some of them pass.
    Yields,
    /// It filters all of them out.
    Nothing,
}

/// How far reading one by one came.
enum Reached {
    /// The end of what there is.
    End,
    /// As many events as are read so at a time.
    Enough,
}

/// Who may know that the pipeline fails on an event.
#[derive(Debug)]
enum Concerned {
    Nobody,
    Everybody,
    /// Those for whom this event is.
    WhoSees(RawDocumentBuf),
}

impl Cursor {
    /// The pipeline fails on some event behind `position`. The healthy ones before it fail with it in one reply, so they are
    /// read one by one; then the failing one is found by its position alone, and left behind.
    pub(super) async fn step_over(&mut self, failure: Error, position: Position) -> Result<Progress, Error> {
        self.position = Some(position.clone());
        let stepped = self.try_step_over(failure).await;
        if stepped.is_err() {
            // What was read on the way was not handed out: it is read again.
            self.position = Some(position);
            self.open = None;
        }
        stepped
    }

    async fn try_step_over(&mut self, failure: Error) -> Result<Progress, Error> {
        let mut events = Vec::new();
        let failed = self.read_one_by_one(&mut events).await;
        self.open = None;
        let failure = match failed {
            Ok(Reached::Enough) => return self.handed(events),
            Ok(Reached::End) => failure,
            Err(error) if matches!(fault(&error), Fault::Refused(_)) => error,
            // The healthy ones are handed out; what comes next fails again, or works.
            Err(_) if !events.is_empty() => return self.handed(events),
            Err(error) => return Err(error),
        };
        match (self.find_failing().await?, fault(&failure)) {
            (Some((before, failing)), Fault::Refused(code)) => {
                let concerned = self.concerned(&before, &failing).await?;
                // MongoDB's message may carry data of the document: it goes to the log, never to a client. And not even there
                // where it may carry what a client sent.
                let (namespace, anybodys) = (&self.namespace, self.screened.is_anybodys());
                let error = if anybodys { failure.to_string() } else { mongo::unquoted(&failure) };
                tracing::warn!(%namespace, code, error, "the pipeline fails on an event");
                self.position = Some(failing.clone());
                match concerned {
                    // Out of view a failure is no news: by when it fails a pipeline could tell what is there.
                    Concerned::Nobody => {}
                    Concerned::Everybody => {
                        events.push(Arc::new(Event::failure(code, None, failing, &self.seal)));
                    }
                    Concerned::WhoSees(of) => {
                        events.push(Arc::new(Event::failure(code, Some(of), failing, &self.seal)));
                    }
                }
            }
            _ if events.is_empty() => return Err(failure),
            _ => {}
        }
        self.handed(events)
    }

    fn handed(&self, events: Vec<Arc<Event>>) -> Result<Progress, Error> {
        let position = self.position.clone().ok_or_else(|| Error::custom("no position"))?;
        Ok(Progress::Events(events, position))
    }

    /// `Ok` when no failure came. While more is written all the time there is no end: what has come is handed out, and
    /// reading goes on as usual, since the failure may have passed.
    async fn read_one_by_one(&mut self, events: &mut Vec<Arc<Event>>) -> Result<Reached, Error> {
        self.open_in_batches(1).await?;
        for _ in 0..ONE_BY_ONE {
            match self.read().await? {
                Progress::Events(more, _) => events.extend(more),
                Progress::Invalidated => return Ok(Reached::End),
            }
            if self.open.as_ref().is_none_or(|open| open.drained) {
                return Ok(Reached::End);
            }
        }
        Ok(Reached::Enough)
    }

    /// The position of the first event on which the pipeline fails, and one that is right before it. What the pipeline filters out is passed over, and nothing
    /// else is: an event that failed a moment ago may be computed now, since an update looks its document up anew. Then
    /// there is no failing one, and reading goes on as usual.
    async fn find_failing(&mut self) -> Result<Option<(Position, Position)>, Error> {
        loop {
            let Some(behind) = self.position.clone() else { return Ok(None) };
            let candidates = self.positions_behind(&behind).await?;
            let Some(last) = candidates.last() else { return Ok(None) };
            match self.probe(&behind, last).await? {
                Probe::Fails => {}
                Probe::Yields => return Ok(None),
                Probe::Nothing => {
                    self.position = Some(last.clone());
                    continue;
                }
            }
            // Invariant: it fails up to candidates[high], and not up to candidates[low - 1].
            let (mut low, mut high) = (0, candidates.len() - 1);
            while low < high {
                let middle = usize::midpoint(low, high);
                if self.probe(&behind, &candidates[middle]).await? == Probe::Fails {
                    high = middle;
                } else {
                    low = middle + 1;
                }
            }
            let before = match high.checked_sub(1).map(|before| candidates[before].clone()) {
                Some(before) if self.probe(&behind, &before).await? != Probe::Nothing => return Ok(None),
                before => before.unwrap_or(behind),
            };
            return Ok(candidates.get(high).map(|failing| (before, failing.clone())));
        }
    }

    /// Positions of all events of the collection, without their documents: nothing in that can fail.
    async fn positions_behind(&mut self, position: &Position) -> Result<Vec<Position>, Error> {
        let pipeline = vec![
            doc! { "$changeStream": { "startAtOperationTime": position.start_at() } },
            position.only_behind(None),
            doc! { "$project": { "_id": 1, "clusterTime": 1 } },
        ];
        let mut cursor = self.aggregate(pipeline, BATCH).await?;
        let mut positions = Vec::new();
        if let Some(batch) = next(&mut cursor, self.patience()).await? {
            for document in batch.doc_slices()? {
                let token = document?.as_document().and_then(|event| event.get_document("_id").ok());
                positions.extend(token.and_then(Position::of_token));
            }
        }
        Ok(positions)
    }

    /// Who of those that follow may know of the one event behind `before`.
    async fn concerned(&mut self, before: &Position, event: &Position) -> Result<Concerned, Error> {
        if self.screened.asks_each() {
            return Ok(match (self.in_members(before, event).await?, self.screened.is_filtered()) {
                (Some(event), _) => Concerned::WhoSees(event),
                (None, true) => Concerned::Nobody,
                (None, false) => Concerned::Everybody,
            });
        }
        let ahead = self.screened.ahead();
        if ahead.is_empty() {
            return Ok(Concerned::Everybody);
        }
        let pipeline = self.in_judgement(before, event, ahead);
        Ok(match self.probe_with(pipeline).await? {
            Probe::Nothing => Concerned::Nobody,
            Probe::Yields | Probe::Fails => Concerned::Everybody,
        })
    }

    /// An event that is too large to be sent, put together from its members, each of which is not; `None` where one of them
    /// cannot be computed either.
    async fn in_members(
        &mut self,
        before: &Position,
        event: &Position,
    ) -> Result<Option<RawDocumentBuf>, Error> {
        let stages = [self.screened.ahead(), self.screened.declared()].concat();
        let whole = self.in_judgement(before, event, &stages);
        let shown = |members: Document| {
            let mut pipeline = whole.clone();
            pipeline.push(doc! { "$project": members });
            pipeline
        };
        let names = doc! { "$map": { "input": { "$objectToArray": "$$ROOT" }, "in": "$$this.k" } };
        let Some(names) = self.one(shown(doc! { "_id": 1, "names": names })).await? else { return Ok(None) };
        let mut members = Vec::new();
        for name in names.get_array("names").map_err(Error::custom)? {
            let name = name?;
            let Some(name) = name.as_str().filter(|name| *name != "_id") else { continue };
            let Some(member) = self.one(shown(doc! { "_id": 1, name: 1 })).await? else { return Ok(None) };
            members.push(member);
        }
        Ok(Some(event::joined(&members)?))
    }

    /// The stages on this one event.
    fn in_judgement(&self, before: &Position, event: &Position, stages: &[Document]) -> Vec<Document> {
        let range = before.only_behind(Some(event));
        pipeline(self.screened.options_in_judgement(), Some(before.start_at()), Some(range), stages)
    }

    /// The first event that the pipeline brings at once, if it can be computed and there is one.
    async fn one(&mut self, pipeline: Vec<Document>) -> Result<Option<RawDocumentBuf>, Error> {
        let found = async {
            let mut cursor = self.aggregate(pipeline, 1).await?;
            let Some(first) = next(&mut cursor, self.patience()).await? else { return Ok(None) };
            let found = first.doc_slices()?.into_iter().next().transpose()?;
            let found = found.and_then(RawBsonRef::as_document).map(readable).transpose()?;
            Ok(found.map(Cow::into_owned))
        };
        match found.await {
            Err(error) if matches!(fault(&error), Fault::Refused(_)) => Ok(None),
            found => found,
        }
    }

    async fn probe(&mut self, behind: &Position, last: &Position) -> Result<Probe, Error> {
        let pipeline = self.pipeline(Some(behind.only_behind(Some(last))));
        self.probe_with(pipeline).await
    }

    async fn probe_with(&mut self, pipeline: Vec<Document>) -> Result<Probe, Error> {
        let opened = async {
            let mut cursor = self.aggregate(pipeline, BATCH).await?;
            let first = next(&mut cursor, self.patience()).await?;
            Ok::<_, Error>(match first {
                Some(first) => !first.doc_slices()?.is_empty(),
                None => false,
            })
        };
        match opened.await {
            Ok(true) => Ok(Probe::Yields),
            Ok(false) => Ok(Probe::Nothing),
            Err(error) if matches!(fault(&error), Fault::Refused(_)) => Ok(Probe::Fails),
            Err(error) => Err(error),
        }
    }
}
