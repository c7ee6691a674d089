//! What the index saves: the time of one event among many filters, by the index and by asking each of them.
//!
//! `cargo bench -p tailrace-shared`. The two take turns; the medians of several rounds are printed.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use bson::{Document, RawDocumentBuf, doc};
use tailrace_shared::matcher::{Index, Matcher};

const ROUNDS: usize = 7;
/// How long one measurement takes, about.
const ENOUGH: Duration = Duration::from_millis(60);

/// An event of about 300 bytes.
fn event(n: i32) -> RawDocumentBuf {
    let event = doc! {
        "_id": { "_data": "8265F0A1B2000000012B022C0100296E5A1004" },
        "operationType": "insert",
        "ns": { "db": "shop", "coll": "orders" },
        "documentKey": { "_id": n },
        "fullDocument": {
            "_id": n,
            "name": format!("user-{n}"),
            "price": n,
            "tags": ["new", "sale", format!("tag-{n}")],
            "body": "x".repeat(40),
        },
    };
    RawDocumentBuf::try_from(event).expect("an event")
}

/// Nanoseconds an event.
fn time(events: &[RawDocumentBuf], mut each: impl FnMut(&RawDocumentBuf) -> usize) -> f64 {
    let begin = Instant::now();
    let mut count = 0_u32;
    while begin.elapsed() < ENOUGH {
        for event in events {
            black_box(each(black_box(event)));
        }
        count += u32::try_from(events.len()).expect("few events");
    }
    begin.elapsed().as_secs_f64() * 1e9 / f64::from(count)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn compare(name: &str, filters: i32, filter: impl Fn(i32) -> Document) {
    let matchers: Vec<Matcher> =
        (0..filters).map(|n| Matcher::compile(&filter(n)).expect("it is evaluated")).collect();
    let mut index = Index::default();
    for (key, matcher) in matchers.iter().enumerate() {
        index.insert(key, matcher.clone());
    }
    let events: Vec<_> = (0..16).map(|n| event(n * filters / 16)).collect();
    let (mut scans, mut finds) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        scans.push(time(&events, |event| matchers.iter().filter(|matcher| matcher.matches(event)).count()));
        finds.push(time(&events, |event| {
            let mut found = 0;
            index.matching(event, |_| found += 1);
            found
        }));
    }
    let (scan, find) = (median(scans), median(finds));
    println!("{name:<28} {filters:>7} {scan:>12.0} {find:>12.0} {:>9.1}", scan / find);
}

fn main() {
    println!("{:<28} {:>7} {:>12} {:>12} {:>9}", "filter", "filters", "scan ns", "index ns", "ratio");
    for filters in [1, 2, 3, 4, 8, 100, 10_000] {
        compare("name = v", filters, |n| doc! { "fullDocument.name": format!("user-{n}") });
        compare(
            "type = insert, name in 3",
            filters,
            |n| doc! { "operationType": "insert", "fullDocument.name": { "$in": [format!("user-{n}"), "x", n] } },
        );
        compare("tags = v", filters, |n| doc! { "fullDocument.tags": format!("tag-{n}") });
        // On average a half of them match.
        compare("price > v", filters, |n| doc! { "fullDocument.price": { "$gt": n } });
    }
}
