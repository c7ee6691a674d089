//! What is judged by the images of a document, against changes that MongoDB made: whatever somebody is told comes with the
//! cursor that all share, and is found without asking all of them.
//!
//! A small number of definitions in `cargo xtask test`, the whole number in `cargo xtask soak planner`.

use bson::{Document, doc};
use shared::definition::Before;
use shared::following::{Asked, Following};
use shared::visibility::Verdict;
use tailrace_tests::at_rest::{bind, events, make, now, visibility};
use tailrace_tests::front::mongodb;
use tailrace_tests::random::Random;
use tailrace_tests::soak::Scale;

const DOCUMENTS: i32 = 25;
const CHANGES: usize = 40;
const DEFINITIONS: usize = 60;

#[derive(Debug, Default)]
struct Tally {
    judged: usize,
    told: usize,
    /// Changes of which nothing is told, and which need not be judged to know that.
    spared: usize,
    /// The same, by MongoDB.
    kept_away: usize,
    entered: usize,
    left: usize,
    unknown: usize,
}

#[tokio::test]
async fn whatever_is_told_by_its_images_comes_with_the_shared_cursor_and_is_found_by_its_documents() {
    let seed = Random::given_seed();
    println!("{}={seed}", Random::VARIABLE);
    let wanted = Scale::given().pick(150, 5_000);
    let client = mongodb::Client::with_uri_str(mongodb().await).await.expect("MongoDB");
    let database = client.database(&format!("test_images_{seed:x}"));
    let mut random = Random::given(seed, &client).await;
    let mut tally = Tally::default();
    for round in 0.. {
        let name = format!("documents_{round}");
        let collection = database.collection::<Document>(&name);
        let documents: Vec<Document> = (0..DOCUMENTS).map(|id| random.document(id)).collect();
        database.create_collection(&name).await.expect("the collection is made");
        let since = now(&database).await;
        collection.insert_many(&documents).await.expect("the documents are written");
        for change in 0..CHANGES {
            // What was changed before has no images.
            if change == CHANGES / 5 {
                let recording =
                    doc! { "collMod": &name, "changeStreamPreAndPostImages": { "enabled": true } };
                database.run_command(recording).await.expect("images are recorded");
            }
            make(&collection, random.change(&documents)).await;
        }
        for _ in 0..DEFINITIONS {
            let (mut stages, value) = random.stages(&documents);
            // Others are not judged here.
            stages.retain(|stage| stage.as_document().is_some_and(|stage| stage.contains_key("$match")));
            let (read_filter, projection) = random.permission(&documents);
            let Some(binding) = bind(&stages, &random.images_wanted(), &value) else { continue };
            let Some(visibility) = visibility(&read_filter, &projection) else { continue };
            let following = Following::new(&binding, &visibility, true);
            let Some(Asked::Judge(judge)) = following.wanted().map(|wanted| &wanted.asked) else { continue };
            let source = following.source();
            assert_eq!(source.options().full_document_before_change, Before::WhenAvailable);
            let options =
                doc! { "fullDocument": "whenAvailable", "fullDocumentBeforeChange": "whenAvailable" };
            let all = events(&collection, &database, since, &options, &[]).await.expect("no stage fails");
            let Ok(shared) = events(&collection, &database, since, &options, source.ahead()).await else {
                continue;
            };
            tally.judged += 1;
            tally.kept_away += all.len() - shared.len();
            for event in &all {
                let found = judge.decisive(event).is_none_or(|documents| {
                    documents.into_iter().flatten().any(|document| judge.concern().matches(document))
                });
                let verdict = judge.judge(event).expect("BSON");
                match &verdict {
                    Verdict::Nothing => {
                        tally.spared += usize::from(!found);
                        continue;
                    }
                    Verdict::Event(_) => tally.told += 1,
                    Verdict::Enter(_) => tally.entered += 1,
                    Verdict::Leave { .. } => tally.left += 1,
                    Verdict::Unknown => tally.unknown += 1,
                }
                let about = || {
                    format!(
                        "{}={seed}\n{stages:?} {value:?}\n{visibility}\n{verdict:?}\n{event:?}",
                        Random::VARIABLE
                    )
                };
                assert!(found, "it is not found: {}", about());
                assert!(shared.contains(event), "it is kept away: {}", about());
            }
        }
        collection.drop().await.expect("the collection is dropped");
        if tally.judged >= wanted {
            break;
        }
    }
    database.drop().await.expect("the database is dropped");
    println!("{tally:?}");
    let Tally { told, spared, kept_away, entered, left, unknown, .. } = tally;
    for (count, what) in [
        (told, "told"),
        (spared, "spared"),
        (kept_away, "kept away"),
        (entered, "entered"),
        (left, "left"),
        (unknown, "unknown"),
    ] {
        assert!(count > 0, "some changes should be {what}");
    }
}
