//! The subscribers of a source, found by what they want.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bson::RawDocument;
use shared::{
    following::{Asked, Wanted},
    matcher::Index,
    visibility::Judge,
};

use crate::{batch::Batch, event::Event, schedule::Share, subscription::Queue};

/// All who follow one source: those for whom every event is, and those who want some, by what they want. An event costs
/// the latter no more than the few whom it concerns.
#[derive(Debug, Default)]
pub(crate) struct Members {
    count: usize,
    version: u64,
    // Those who are given events may be on their way while others come and go.
    everything: Arc<Vec<Arc<Queue>>>,
    some: HashMap<Arc<[u8]>, Alike>,
    /// Of events, or of the documents that decide where there are judges.
    index: Index<Arc<[u8]>>,
}

/// Those who want the same.
#[derive(Debug)]
struct Alike {
    asked: Asked,
    queues: Arc<Vec<Arc<Queue>>>,
}

impl Members {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Another number whenever somebody has come or gone.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Queue>> {
        self.everything.iter().chain(self.some.values().flat_map(|alike| alike.queues.iter()))
    }

    pub(crate) fn add(&mut self, queue: &Arc<Queue>) {
        self.count += 1;
        self.version += 1;
        let Some(Wanted { key, asked }) = queue.wanted() else {
            return Arc::make_mut(&mut self.everything).push(Arc::clone(queue));
        };
        let alike = self.some.entry(Arc::clone(key)).or_insert_with(|| {
            let filter = match asked {
                Asked::Filter(filter) => filter,
                Asked::Judge(judge) => judge.concern(),
            };
            self.index.insert(Arc::clone(key), filter.clone());
            Alike { asked: asked.clone(), queues: Arc::default() }
        });
        Arc::make_mut(&mut alike.queues).push(Arc::clone(queue));
    }

    pub(crate) fn remove(&mut self, queue: &Arc<Queue>) {
        let is_it = |other: &Arc<Queue>| Arc::ptr_eq(other, queue);
        let (place, key) = match queue.wanted() {
            None => (Some(&mut self.everything), None),
            Some(Wanted { key, .. }) => (self.some.get_mut(key).map(|alike| &mut alike.queues), Some(key)),
        };
        let Some(alike) = place else { return };
        let Some(index) = alike.iter().position(is_it) else { return };
        Arc::make_mut(alike).swap_remove(index);
        self.count -= 1;
        self.version += 1;
        if let (true, Some(key)) = (alike.is_empty(), key) {
            self.some.remove(key);
            self.index.remove(key);
        }
    }

    /// Who gets which of these events, in their order.
    pub(crate) fn deliveries(&self, events: &[Arc<Event>]) -> Vec<Share> {
        if events.is_empty() {
            return Vec::new();
        }
        if self.some.is_empty() {
            let batch = Arc::new(Batch::for_all(events.to_vec()));
            return vec![Share { to: Arc::clone(&self.everything), batch }];
        }
        let whole = Arc::new(Batch::new(events.to_vec()));
        let mut shares = Vec::new();
        if !self.everything.is_empty() {
            shares.push(Share { to: Arc::clone(&self.everything), batch: Arc::clone(&whole) });
        }
        let mut of_key: HashMap<&Arc<[u8]>, Vec<Arc<Event>>> = HashMap::new();
        for event in events {
            self.seen(event, |key, seen| of_key.entry(key).or_default().push(seen));
        }
        // What several are told alike is put in frames once for all of them.
        let mut last = Arc::clone(&whole);
        for (key, theirs) in of_key {
            let Some(alike) = self.some.get(key) else { continue };
            let known = [&whole, &last].into_iter().find(|batch| batch.is_of(&theirs)).map(Arc::clone);
            let batch = known.unwrap_or_else(|| Arc::new(Batch::new(theirs)));
            last = Arc::clone(&batch);
            shares.push(Share { to: Arc::clone(&alike.queues), batch });
        }
        shares
    }

    /// What of an event is for those who want some.
    fn seen<'a>(&'a self, event: &Arc<Event>, mut found: impl FnMut(&'a Arc<[u8]>, Arc<Event>)) {
        match (event.document(), self.judge()) {
            (Some(document), None) => self.index.matching(document, |key| found(key, Arc::clone(event))),
            (Some(change), Some(judge)) => self.judged(event, judge.decisive(change), found),
            // A loss concerns everybody, and so does a failure of which no more is known.
            (None, _) => self.some.keys().for_each(|key| found(key, Arc::clone(event))),
        }
    }

    /// One of those who judge. Either all of a source do, or none.
    fn judge(&self) -> Option<&Judge> {
        match &self.some.values().next()?.asked {
            Asked::Judge(judge) => Some(judge),
            Asked::Filter(_) => None,
        }
    }

    /// Asks those whom one of these documents concerns, or else everybody.
    fn judged<'a>(
        &'a self,
        event: &Arc<Event>,
        decisive: Option<[Option<&RawDocument>; 2]>,
        mut found: impl FnMut(&'a Arc<[u8]>, Arc<Event>),
    ) {
        let mut ask = |key, alike: &Alike| {
            if let Some(seen) = event.seen_by(&alike.asked) {
                found(key, seen);
            }
        };
        let Some(documents) = decisive else {
            return self.some.iter().for_each(|(key, alike)| ask(key, alike));
        };
        let mut asked = HashSet::new();
        for document in documents.into_iter().flatten() {
            self.index.matching(document, |key| {
                if let Some(alike) = self.some.get(key)
                    && asked.insert(key)
                {
                    ask(key, alike);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use bson::{Bson, DateTime, RawDocumentBuf, bson, doc};
    use shared::{
        definition::Definitions,
        event_json::JsonMode,
        following::Following,
        variables::{OperatorCheck, ServerVariables, Variables},
        visibility::Template,
    };

    use super::*;
    use crate::{
        batch,
        event::{Form, Frame},
        seal,
        subscription::Delivery,
    };

    /// Somebody who sees the documents of a tenant, in a collection that records images.
    fn of_tenant(tenant: &str) -> Arc<Queue> {
        let stream = bson!([{ "uri": "s", "stages": [], "fullDocumentBeforeChange": "whenAvailable" }]);
        let definitions = Definitions::written(&stream).expect("definitions");
        let definition = definitions.iter().next().expect("one").1.as_ref().expect("good");
        let server = ServerVariables { user: None, now: DateTime::from_millis(0) };
        let client = Variables::parse(None, OperatorCheck::On).expect("variables");
        let binding = definition.bind(&client, &server).expect("a binding");
        let template = Template::check(Some(&doc! { "tenant": tenant }), None, None).expect("a rule");
        let visibility = template.resolve(&server).expect("its values");
        let following = Following::new(&binding, &visibility, true);
        Arc::new(Queue::new(10_000, None, following.wanted().cloned()))
    }

    fn update(before: impl Into<Bson>, after: impl Into<Bson>) -> Arc<Event> {
        let change = doc! {
            "operationType": "update", "documentKey": { "_id": 1 },
            "fullDocument": after.into(), "fullDocumentBeforeChange": before.into(),
        };
        let change = RawDocumentBuf::try_from(&change).expect("BSON");
        Arc::new(Event::recorded(change, batch::position(1), &Arc::new(seal::for_tests())))
    }

    /// What each of three is told of a change: the type of the message.
    fn told(tenants: &[&str; 3], change: Arc<Event>) -> [Option<&'static str>; 3] {
        let queues = tenants.map(of_tenant);
        let mut members = Members::default();
        for queue in &queues {
            members.add(queue);
        }
        let shares = members.deliveries(&[change]);
        queues.map(|queue| {
            let mine = |share: &&Share| share.to.iter().any(|other| Arc::ptr_eq(other, &queue));
            let batch = shares.iter().find(mine)?.batch.at_hand();
            let [event] = batch.events() else { panic!("one event") };
            let Ok(Some(Frame::Text(text))) = event.encoded(Form::V1Json(JsonMode::Plain)) else {
                panic!("a text")
            };
            let is_of = |kind: &&str| text.starts_with(&format!(r#"{{"type":"{kind}""#));
            Some(["event", "enter", "leave", "gap"].into_iter().find(is_of).expect("a type"))
        })
    }

    #[test]
    fn a_change_with_its_images_is_told_to_whose_it_was_and_whose_it_is() {
        let of = |tenant: &str| doc! { "_id": 1, "tenant": tenant };
        let tenants = ["a", "b", "c"];
        assert_eq!(told(&tenants, update(of("a"), of("b"))), [Some("leave"), Some("enter"), None]);
        assert_eq!(told(&tenants, update(of("c"), of("c"))), [None, None, Some("event")]);
        assert_eq!(told(&tenants, update(of("d"), of("d"))), [None, None, None]);
        // Whose it was is not known: it may have been anybody's.
        assert_eq!(told(&tenants, update(Bson::Null, of("b"))), [Some("gap"), Some("enter"), Some("gap")]);
    }

    #[test]
    fn what_several_are_told_alike_is_made_once() {
        let [one, other] = ["a", "b"].map(of_tenant);
        let change = update(Bson::Null, Bson::Null);
        let seen = [&one, &other].map(|queue| {
            queue.push([&change]);
            let Some(Delivery::Event(event)) = queue.take() else { panic!("an event") };
            event
        });
        assert!(seen[0].is_gap() && Arc::ptr_eq(&seen[0], &seen[1]));
    }

    #[test]
    fn a_change_that_nobody_has_judged_tells_nothing_of_a_document() {
        let change = update(doc! { "secret": 1 }, doc! { "secret": 2 });
        for form in [
            Form::Plain(JsonMode::Plain),
            Form::V1Json(JsonMode::Plain),
            Form::V1Bson,
            Form::Sse(JsonMode::Plain),
        ] {
            let told = format!("{:?}", change.encoded(form));
            assert!(!told.contains("secret"), "{told}");
        }
    }
}
