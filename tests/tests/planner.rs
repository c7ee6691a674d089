//! Plans against MongoDB itself: the events of the shared source that match are those of a cursor with all of the stages.
//!
//! The changes are made first and then at rest, since `updateLookup` shows a document as it is when the event is read. A
//! small number of definitions in `cargo xtask test`, the whole number in `cargo xtask soak planner`.
//!
//! Each definition is asked twice: by its plan alone, behind filters of events; and as a caller follows it, behind a
//! permission with `readFilter` and `projectResponse`, and maybe without the documents of updates (`"fullDocument": "off"`).

use bson::{Bson, Document, RawDocument, RawDocumentBuf, Timestamp, doc};
use mongodb::{Collection, Database};
use shared::definition::FullDocument;
use shared::following::{Asked, Following};
use shared::matcher::Matcher;
use shared::planner::{Plan, Residual};
use shared::visibility::Screened;
use tailrace_tests::at_rest::{self, NOT_OPTIMIZED, bind, now, visibility};
use tailrace_tests::front::mongodb;
use tailrace_tests::random::Random;
use tailrace_tests::soak::Scale;

const DOCUMENTS: i32 = 25;
const CHANGES: usize = 35;
const DEFINITIONS: usize = 40;

fn stages(screened: &Screened) -> Vec<Document> {
    screened.ahead().iter().chain(screened.declared()).cloned().collect()
}

/// A collection whose changes are at rest.
struct AtRest {
    collection: Collection<Document>,
    database: Database,
    since: Timestamp,
}

impl AtRest {
    async fn make(database: &Database, round: usize, random: &mut Random) -> (Self, Vec<Document>) {
        let collection = database.collection::<Document>(&format!("documents_{round}"));
        let documents: Vec<Document> = (0..DOCUMENTS).map(|id| random.document(id)).collect();
        database.create_collection(collection.name()).await.expect("the collection is made");
        let since = now(database).await;
        collection.insert_many(&documents).await.expect("the documents are written");
        for _ in 0..CHANGES {
            let change = random.change(&documents);
            at_rest::make(&collection, change).await;
        }
        (Self { collection, database: database.clone(), since }, documents)
    }

    async fn events(
        &self,
        full_document: FullDocument,
        stages: &[Document],
    ) -> Result<Vec<RawDocumentBuf>, i32> {
        // MongoDB spells "none" by leaving the option out.
        let options = match full_document {
            FullDocument::Off => doc! {},
            wanted => doc! { "fullDocument": wanted.as_str() },
        };
        at_rest::events(&self.collection, &self.database, self.since, &options, stages).await
    }

    /// Compares the events of a cursor with all the stages to what is made of those of a shared source that the matcher lets
    /// through.
    async fn compare(
        &self,
        tally: &mut Tally,
        full_document: FullDocument,
        alone: &[Document],
        source: &[Document],
        matcher: Option<&Matcher>,
        residual: &Residual,
    ) {
        let own = self.events(full_document, alone).await;
        // No projection is a `$set`.
        let drops_of_updates = residual.stages().iter().any(|(_, stage)| stage.contains_key("$set"));
        let mut bare_updates = 0;
        let shared: Result<Vec<_>, i32> = self.events(full_document, source).await.map(|mut events| {
            events.retain(|event| matcher.is_none_or(|matcher| matcher.matches(event)));
            let told = |event: RawDocumentBuf| {
                let Some(made) = residual.apply(&event).expect("BSON") else { return event };
                let has_document = |event: &RawDocument| event.get_document("fullDocument").is_ok();
                let is_update = event.get_str("operationType").is_ok_and(|kind| kind == "update");
                bare_updates += usize::from(is_update && has_document(&event) && !has_document(&made));
                made
            };
            events.into_iter().map(told).collect()
        });
        tally.shared += 1;
        tally.with_residual +=
            usize::from(!residual.is_empty() && shared.as_ref().is_ok_and(|events| !events.is_empty()));
        if drops_of_updates {
            tally.with_drop += usize::from(shared.as_ref().is_ok_and(|events| !events.is_empty()));
            tally.bare_updates += bare_updates;
        }
        tally.events += shared.as_ref().map_or(0, Vec::len);
        tally.failed += usize::from(shared.is_err());
        if own == Err(NOT_OPTIMIZED) {
            tally.not_optimized += 1;
        } else if own != shared {
            let alone = Bson::from(alone.to_vec()).into_canonical_extjson();
            tally.disagreements.push(format!("{alone}\n  of its own: {own:?}\n  shared: {shared:?}"));
        }
    }
}

#[derive(Debug, Default)]
struct Tally {
    shared: usize,
    with_residual: usize,
    /// Those of them that show no documents of updates.
    with_drop: usize,
    own: usize,
    events: usize,
    /// Updates whose documents are dropped here.
    bare_updates: usize,
    failed: usize,
    not_optimized: usize,
    disagreements: Vec<String>,
}

impl Tally {
    fn expect_clean(&self, seed: u64, what: &str) {
        let Self { shared, with_residual, with_drop, own, events, bare_updates, .. } = self;
        let Self { failed, not_optimized, disagreements, .. } = self;
        println!(
            "{what}: {shared} bindings on shared sources, {with_residual} of which see events that are finished here ({with_drop} no documents of updates), {own} on their own; {events} events of the shared ones, \
             {bare_updates} of them updates whose documents are dropped here; {failed} of them fail; {not_optimized} that MongoDB fails to optimize"
        );
        assert!(disagreements.is_empty(), "{}={seed}:\n{}", Random::VARIABLE, disagreements.join("\n"));
        assert!(*events > 0, "some bindings should see events");
        assert!(*with_residual > 0, "some bindings should see events of which something is dropped here");
    }
}

#[tokio::test]
async fn a_plan_brings_the_events_of_a_cursor_of_its_own() {
    let seed = Random::given_seed();
    println!("{}={seed}", Random::VARIABLE);
    let wanted = Scale::given().pick(100, 3_000);
    let client = mongodb::Client::with_uri_str(mongodb().await).await.expect("MongoDB");
    let database = client.database(&format!("test_planner_{seed:x}"));
    let mut random = Random::given(seed, &client).await;
    let (mut plans, mut followings) = (Tally::default(), Tally::default());
    for round in 0.. {
        let (at_rest, documents) = AtRest::make(&database, round, &mut random).await;
        for _ in 0..DEFINITIONS {
            let full_document = random.full_document();
            let (written, value) = match full_document {
                "off" => random.stages_without_documents(&documents),
                _ => random.stages(&documents),
            };
            let view = random.views(&documents);
            let (read_filter, projection) = random.permission(&documents);
            let options = doc! { "fullDocument": full_document };
            let Some(binding) = bind(&written, &options, &value) else { continue };
            if view.iter().all(|filter| Matcher::compile(filter).is_ok()) {
                let view: Vec<Document> =
                    view.iter().map(|filter| doc! { "$match": filter.clone() }).collect();
                let plan = Plan::new(&view, &binding);
                if plan.own().is_some() {
                    plans.own += 1;
                } else {
                    let alone = [&view, binding.pipeline()].concat();
                    let (source, matcher) = (plan.source().pipeline(), plan.matcher());
                    let full_document = FullDocument::UpdateLookup;
                    at_rest
                        .compare(&mut plans, full_document, &alone, source, matcher, plan.residual())
                        .await;
                }
            }
            if let Some(visibility) = visibility(&read_filter, &projection) {
                let following = Following::new(&binding, &visibility, false);
                if following.own().is_some() {
                    followings.own += 1;
                } else {
                    let alone = Screened::new(&binding, &visibility, false);
                    let matcher = following.wanted().map(|wanted| match &wanted.asked {
                        Asked::Filter(matcher) => matcher,
                        Asked::Judge(_) => unreachable!("no images are recorded"),
                    });
                    let source = following.source();
                    let full_document = source.options().full_document;
                    assert_eq!(full_document, alone.options().full_document);
                    let (alone, shared) = (stages(&alone), stages(source));
                    at_rest
                        .compare(&mut followings, full_document, &alone, &shared, matcher, source.residual())
                        .await;
                }
            }
        }
        at_rest.collection.drop().await.expect("the collection is dropped");
        let disagreements = plans.disagreements.len() + followings.disagreements.len();
        if plans.shared.min(followings.shared) >= wanted || disagreements >= 5 {
            break;
        }
    }
    database.drop().await.expect("the database is dropped");
    plans.expect_clean(seed, "plans");
    followings.expect_clean(seed, "callers behind permissions");
    // Among few definitions there may be none.
    let least = Scale::given().pick(0, 1);
    assert!(
        followings.bare_updates >= least,
        "some callers should be told of updates without their documents"
    );
}
