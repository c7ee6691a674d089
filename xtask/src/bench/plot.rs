//! A plot of the rounds of a benchmark, as SVG: one column a way, one dot a round, and the median as a line.

use std::fmt::Write as _;

use super::rounds::Series;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
/// Room for the title, the names, and the numbers of the scale.
const MARGIN: f64 = 56.0;

/// The figure of all series, over a scale that begins at zero.
pub(super) fn plot(title: &str, unit: &str, figure: &str, series: &[Series]) -> String {
    let most = series.iter().flat_map(|series| series.figures(figure)).fold(0.0, f64::max);
    let top = scale(most);
    let y = |value: f64| HEIGHT - MARGIN - value / top * (HEIGHT - 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{MARGIN}\" y=\"28\" font-size=\"16\">{title} ({unit})</text>\n"
    );
    for step in 0..=4 {
        let value = top * f64::from(step) / 4.0;
        let _ = writeln!(
            svg,
            "<line x1=\"{MARGIN}\" x2=\"{}\" y1=\"{2:.1}\" y2=\"{2:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{2:.1}\" text-anchor=\"end\" dy=\"4\">{value}</text>",
            WIDTH - 16.0,
            MARGIN - 8.0,
            y(value),
        );
    }
    let mut left = MARGIN;
    let columns = series.iter().fold(0.0, |columns, _| columns + 1.0);
    let width = (WIDTH - MARGIN - 16.0) / f64::max(columns, 1.0);
    for series in series {
        let figures = series.figures(figure);
        let between = width / (figures.iter().fold(1.0, |rounds, _| rounds + 1.0));
        let mut x = left;
        for value in figures {
            x += between;
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"#1565c0\"/>", y(value));
        }
        let median = series.median(figure);
        if median.is_finite() {
            let _ = writeln!(
                svg,
                "<line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{2:.1}\" y2=\"{2:.1}\" stroke=\"#c62828\" stroke-width=\"2\"/>",
                left + 12.0,
                left + width - 12.0,
                y(median),
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}, median {median:.1}</text>",
            left + width / 2.0,
            HEIGHT - MARGIN + 24.0,
            series.name,
        );
        left += width;
    }
    svg.push_str("</svg>\n");
    svg
}

/// A round number that is not less: 1, 2, 4, or 8 times a power of ten.
fn scale(most: f64) -> f64 {
    if most <= 0.0 || !most.is_finite() {
        return 1.0;
    }
    let power = 10_f64.powf(most.log10().floor());
    [1.0, 2.0, 4.0, 8.0]
        .map(|times| times * power)
        .into_iter()
        .find(|top| *top >= most)
        .unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_round_has_a_dot_and_each_way_its_median() {
        let series = |name, figures: [f64; 3]| Series {
            name,
            rounds: figures.map(|figure| json!({ "p99_ms": figure })).to_vec(),
        };
        let svg =
            plot("slow", "ms", "p99_ms", &[series("a", [1.0, 2.0, 3.0]), series("b", [4.0, 5.0, 33.0])]);
        assert_eq!(svg.matches("<circle").count(), 6);
        assert!(svg.contains("a, median 2.0") && svg.contains("b, median 5.0"), "{svg}");
        assert!(svg.contains(">40</text>"), "the scale reaches above all: {svg}");
    }

    #[test]
    fn a_scale_is_round_and_not_less() {
        for (most, top) in
            [(0.0, 1.0), (0.7, 0.8), (33.0, 40.0), (80.0, 80.0), (81.0, 100.0), (f64::NAN, 1.0)]
        {
            assert!((scale(most) - top).abs() < 1e-9, "{most}");
        }
    }
}
