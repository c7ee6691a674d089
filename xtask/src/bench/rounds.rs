//! Rounds that alternate between ways of doing a thing: on a machine whose speed swings from minute to minute, only what is
//! measured side by side can be compared.

use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};

use super::processor::stolen_time;

/// What the rounds of one way have shown.
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// What the way is called.
    pub(super) name: &'static str,
    /// One object of figures a round.
    pub(super) rounds: Vec<Value>,
}

impl Series {
    /// One figure, of all rounds.
    pub(super) fn figures(&self, figure: &str) -> Vec<f64> {
        self.rounds.iter().filter_map(|round| round[figure].as_f64()).collect()
    }

    /// The median of one figure.
    pub(super) fn median(&self, figure: &str) -> f64 {
        median(self.figures(figure))
    }

    /// The figures as they go into the report.
    pub(super) fn json(&self, figures: &[&str]) -> Value {
        let medians: serde_json::Map<String, Value> =
            figures.iter().map(|figure| ((*figure).to_owned(), json!(self.median(figure)))).collect();
        json!({ "name": self.name, "medians": medians, "rounds": self.rounds })
    }
}

/// The figures of one round from two measurements.
pub(super) fn merged(mut figures: Value, more: Value) -> Value {
    if let (Some(figures), Value::Object(more)) = (figures.as_object_mut(), more) {
        figures.extend(more);
    }
    figures
}

/// Measures ways in turn, so many rounds each, and lets each come first as often as any other.
pub(super) async fn alternate<const WAYS: usize>(
    rounds: usize,
    names: [&'static str; WAYS],
    measure: impl AsyncFnMut(usize) -> Result<Value>,
) -> Result<[Series; WAYS]> {
    let series = in_turn(rounds, &names, measure).await?;
    Ok(series.try_into().expect("a series for each name"))
}

/// The same where how many ways there are turns out when it runs.
pub(super) async fn in_turn(
    rounds: usize,
    names: &[&'static str],
    mut measure: impl AsyncFnMut(usize) -> Result<Value>,
) -> Result<Vec<Series>> {
    let mut series: Vec<Series> = names.iter().map(|name| Series { name, rounds: Vec::new() }).collect();
    for round in 0..rounds {
        for place in 0..names.len() {
            let way = (round + place) % names.len();
            let (began, stolen) = (Instant::now(), stolen_time());
            let mut figures = measure(way).await?;
            // What was measured while the host did something else says less.
            if let (Some(before), Some(after)) = (stolen, stolen_time()) {
                let cores = (after - before) / began.elapsed().as_secs_f64();
                figures = merged(figures, json!({ "stolen_cores": cores }));
            }
            println!("round {:2}, {}: {figures}", round + 1, names[way]);
            series[way].rounds.push(figures);
        }
    }
    Ok(series)
}

/// The middle one, or the mean of the two in the middle; not a number when there are none.
pub(super) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.get(middle) {
        None => f64::NAN,
        Some(upper) if figures.len() % 2 == 1 => *upper,
        Some(upper) => f64::midpoint(figures[middle - 1], *upper),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(vec![]).is_nan());
    }

    #[tokio::test]
    async fn each_way_comes_first_as_often_as_the_other() {
        let mut order = Vec::new();
        let series = alternate(2, ["a", "b"], async |way| {
            order.push(way);
            Ok(json!({ "figure": order.len() }))
        });
        let [a, b] = series.await.unwrap();
        assert_eq!(order, [0, 1, 1, 0]);
        assert!((a.median("figure") - 2.5).abs() < f64::EPSILON);
        assert_eq!(b.figures("figure"), [2.0, 3.0]);
    }
}
