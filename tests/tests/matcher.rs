//! The matcher against MongoDB itself: what `find` finds is what matches, over random filters and documents.
//!
//! A small number of pairs in `cargo xtask test`, the whole number in `cargo xtask soak matcher`.

use std::collections::BTreeSet;

use bson::{Bson, Document, RawDocumentBuf, doc};
use futures_util::TryStreamExt as _;
use mongodb::Collection;
use mongodb::error::Error;
use shared::matcher::{Index, Matcher};
use tailrace_tests::front::mongodb;
use tailrace_tests::random::Random;
use tailrace_tests::soak::Scale;

const DOCUMENTS: i32 = 60;
const FILTERS: usize = 60;

/// The ids of the documents that MongoDB finds.
async fn found(collection: &Collection<Document>, filter: &Document) -> Result<BTreeSet<i32>, Error> {
    let found: Vec<Document> =
        collection.find(filter.clone()).projection(doc! { "_id": 1 }).await?.try_collect().await?;
    Ok(found.iter().map(|document| document.get_i32("_id").expect("the id that was given")).collect())
}

/// With the types of the numbers.
fn written(document: &Document) -> serde_json::Value {
    Bson::Document(document.clone()).into_canonical_extjson()
}

#[derive(Debug, Default)]
struct Tally {
    pairs: usize,
    matches: usize,
    candidates: usize,
    compiled: usize,
    unsupported: usize,
    refused: usize,
    disagreements: Vec<String>,
}

impl Tally {
    /// Judges one filter: what is compiled must match exactly what MongoDB finds, and must not be what MongoDB refuses.
    fn judge(
        &mut self,
        filter: &Document,
        documents: &[Document],
        found: Result<BTreeSet<i32>, Error>,
    ) -> Option<Matcher> {
        let (matcher, found) = match (Matcher::compile(filter), found) {
            (Ok(matcher), Ok(found)) => (matcher, found),
            (Err(_), found) => {
                let left = if found.is_ok() { &mut self.unsupported } else { &mut self.refused };
                *left += 1;
                return None;
            }
            (Ok(_), Err(error)) => {
                let filter = written(filter);
                self.disagreements.push(format!("{filter} is compiled, and MongoDB refuses it: {error}"));
                return None;
            }
        };
        self.compiled += 1;
        for (id, document) in (0..).zip(documents) {
            self.pairs += 1;
            let raw = RawDocumentBuf::try_from(document).expect("a document");
            let expected = found.contains(&id);
            self.matches += usize::from(expected);
            if matcher.matches(&raw) != expected {
                let says = if expected { "matches" } else { "does not match" };
                let (filter, document) = (written(filter), written(document));
                self.disagreements.push(format!("{filter} {says} in MongoDB: {document}"));
            }
        }
        Some(matcher)
    }

    /// Asks all filters by their index: it must find those that match, and no other.
    fn judge_index(&mut self, matchers: &[Matcher], documents: &[Document]) {
        let mut index = Index::default();
        for (key, matcher) in matchers.iter().enumerate() {
            index.insert(key, matcher.clone());
        }
        // Half of them leave, and some come back.
        (0..matchers.len()).step_by(2).for_each(|key| assert!(index.remove(&key), "it was there"));
        for key in (0..matchers.len()).step_by(4) {
            index.insert(key, matchers[key].clone());
        }
        let is_in = |key: &usize| key % 4 != 2;
        for document in documents {
            let raw = RawDocumentBuf::try_from(document).expect("a document");
            let mut found = Vec::new();
            index.candidates(&raw, |_, _| self.candidates += 1);
            index.matching(&raw, |key| found.push(*key));
            found.sort_unstable();
            let matching = (0..matchers.len()).filter(is_in).filter(|key| matchers[*key].matches(&raw));
            if found != matching.collect::<Vec<_>>() {
                self.disagreements.push(format!("the index finds others for {}", written(document)));
            }
        }
    }
}

#[tokio::test]
async fn the_matcher_matches_what_mongodb_finds() {
    let seed = Random::given_seed();
    println!("{}={seed}", Random::VARIABLE);
    let pairs = Scale::given().pick(8_000, 250_000);
    let client = mongodb::Client::with_uri_str(mongodb().await).await.expect("MongoDB");
    let database = client.database(&format!("test_matcher_{seed:x}"));
    let mut random = Random::given(seed, &client).await;
    let mut tally = Tally::default();
    for round in 0.. {
        let collection = database.collection::<Document>(&format!("documents_{round}"));
        let documents: Vec<Document> = (0..DOCUMENTS).map(|id| random.document(id)).collect();
        collection.insert_many(&documents).await.expect("the documents are written");
        let mut matchers = Vec::new();
        for _ in 0..FILTERS {
            let filter = random.filter(&documents);
            let found = found(&collection, &filter).await;
            matchers.extend(tally.judge(&filter, &documents, found));
        }
        tally.judge_index(&matchers, &documents);
        collection.drop().await.expect("the collection is dropped");
        if tally.pairs >= pairs || tally.disagreements.len() >= 20 {
            break;
        }
    }
    database.drop().await.expect("the database is dropped");
    println!(
        "{} pairs, {} of them match, {} were candidates of the index; {} filters compiled, {} left to MongoDB, {} refused \
         by both",
        tally.pairs, tally.matches, tally.candidates, tally.compiled, tally.unsupported, tally.refused
    );
    assert!(
        tally.disagreements.is_empty(),
        "{}={seed}:\n{}",
        Random::VARIABLE,
        tally.disagreements.join("\n")
    );
    assert!(tally.compiled > 2 * tally.unsupported, "most filters should be evaluated");
    assert!(tally.matches > tally.pairs / 20, "the pairs should not all be strangers");
}
