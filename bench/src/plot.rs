//! Plots as SVG, drawn by hand: bars in panels, and lines over a logarithmic scale. Readable on light and on dark ground.

use std::fmt::Write;

/// Colours that stand out on both grounds, and for those who see fewer colours (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
/// What everything is drawn with that is not data: a grey, or what goes with the ground where that is known.
const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#777}.t{font-weight:600;font-size:14px}.s{font-size:11px}\
    .g{stroke:#777;stroke-opacity:.3}.a{stroke:#777}\
    @media(prefers-color-scheme:light){text{fill:#222}}@media(prefers-color-scheme:dark){text{fill:#ddd}}";

/// A panel of bars.
pub(crate) struct Bars {
    pub(crate) title: String,
    /// What stands below each bar, its height, and what stands above it.
    pub(crate) bars: Vec<(String, f64, String)>,
}

/// A line through points.
pub(crate) struct Line {
    pub(crate) name: String,
    /// In the order of the places along the scale; NaN where there is nothing.
    pub(crate) values: Vec<f64>,
}

/// Draws panels beside and below each other, each with a scale of its own from zero.
pub(crate) fn panels(title: &str, note: &str, panels: &[Bars]) -> String {
    const COLUMNS: usize = 3;
    const PANEL: (usize, usize) = (300, 150);
    const HEAD: usize = 56;
    let (columns, rows) = (panels.len().clamp(1, COLUMNS), panels.len().div_ceil(COLUMNS).max(1));
    let mut svg = Svg::new(columns * PANEL.0, HEAD + rows * PANEL.1);
    svg.text((8.0, 20.0), "t", "start", title);
    svg.text((8.0, 38.0), "s", "start", note);
    for (place, panel) in panels.iter().enumerate() {
        let left = (place % COLUMNS * PANEL.0) as f64 + 8.0;
        let top = (HEAD + place / COLUMNS * PANEL.1) as f64;
        let (bottom, width) = (top + 118.0, PANEL.0 as f64 - 24.0);
        svg.text((left, top + 10.0), "", "start", &panel.title);
        svg.line((left, bottom), (left + width, bottom), "a");
        let most = panel.bars.iter().map(|bar| bar.1).filter(|value| value.is_finite()).fold(0.0, f64::max);
        let step = width / panel.bars.len().max(1) as f64;
        for (bar, (below, value, above)) in panel.bars.iter().enumerate() {
            let middle = left + step * (bar as f64 + 0.5);
            let height = if *value > 0.0 && most > 0.0 { 74.0 * value / most } else { 0.0 };
            svg.bar(middle - step * 0.3, bottom - height, (step * 0.6, height), COLOURS[0]);
            svg.text((middle, bottom - height - 5.0), "s", "middle", above);
            svg.text((middle, bottom + 15.0), "s", "middle", below);
        }
    }
    svg.end()
}

/// Draws lines over places that are apart alike, on a logarithmic scale with its unit.
pub(crate) fn lines(title: &str, unit: &str, places: &[String], lines: &[Line]) -> String {
    const SIZE: (usize, usize) = (760, 380);
    let (left, right, top, bottom) = (70.0, 560.0, 60.0, 330.0);
    let mut svg = Svg::new(SIZE.0, SIZE.1);
    svg.text((8.0, 20.0), "t", "start", title);
    svg.text((8.0, 42.0), "s", "start", unit);
    let values = || lines.iter().flat_map(|line| &line.values).copied().filter(|value| *value > 0.0);
    let (least, most) =
        values().fold((f64::INFINITY, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
    if most > 0.0 {
        let (low, high) = (decade(least).floor(), decade(most).ceil().max(decade(least).floor() + 1.0));
        let height = |value: f64| bottom - (decade(value) - low) / (high - low) * (bottom - top);
        for power in low as i32..=high as i32 {
            let value = 10_f64.powi(power);
            svg.line((left, height(value)), (right, height(value)), "g");
            svg.text((left - 8.0, height(value) + 4.0), "s", "end", &short(value));
        }
        let step = (right - left) / places.len().max(1) as f64;
        let across = |place: usize| left + step * (place as f64 + 0.5);
        for (place, name) in places.iter().enumerate() {
            svg.text((across(place), bottom + 18.0), "s", "middle", name);
        }
        for (place, line) in lines.iter().enumerate() {
            let colour = COLOURS[place % COLOURS.len()];
            let points = line.values.iter().enumerate().filter(|(_, value)| **value > 0.0);
            let points: Vec<_> =
                points.map(|(place, value)| (across(place), height(*value), short(*value))).collect();
            svg.path(&points, colour);
            let legend = top + 18.0 * place as f64;
            svg.bar(right + 16.0, legend - 9.0, (12.0, 10.0), colour);
            svg.text((right + 34.0, legend), "", "start", &line.name);
        }
    }
    svg.line((left, bottom), (right, bottom), "a");
    svg.end()
}

fn decade(value: f64) -> f64 {
    value.log10()
}

/// Writes a number in few characters: three digits that count, thousands and millions by a letter.
pub(crate) fn short(value: f64) -> String {
    let (value, letter) = match value {
        value if value >= 1e6 => (value / 1e6, "M"),
        value if value >= 1e4 => (value / 1e3, "k"),
        value => (value, ""),
    };
    let decimals = match value {
        value if value >= 100.0 || value == value.trunc() && value >= 1.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 0.1 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}{letter}")
}

/// A drawing under way.
struct Svg(String);

impl Svg {
    fn new(width: usize, height: usize) -> Self {
        Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\n\
             <style>{STYLE}</style>\n"
        ))
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        self.0.write_fmt(element).expect("text takes everything");
        self.0.push('\n');
    }

    fn text(&mut self, (x, y): (f64, f64), class: &str, anchor: &str, text: &str) {
        let text = escaped(text);
        self.push(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.push(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" class=\"{class}\"/>"
        ));
    }

    fn bar(&mut self, x: f64, y: f64, (width, height): (f64, f64), colour: &str) {
        self.push(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
        ));
    }

    /// Draws a line with its points, and what each stands for.
    fn path(&mut self, points: &[(f64, f64, String)], colour: &str) {
        let through: Vec<String> = points.iter().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect();
        let through = through.join(" ");
        self.push(format_args!(
            "<polyline points=\"{through}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
        ));
        for (x, y, value) in points {
            self.push(format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>"));
            self.text((*x, y - 8.0), "s", "middle", value);
        }
    }

    fn end(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown = [0.294, 2.0, 9.56, 85.25, 1234.5, 20_658.0, 10_000_000.0].map(short);

        assert_eq!(shown, ["0.29", "2", "9.56", "85.2", "1234", "20.7k", "10M"]);
    }

    #[test]
    fn the_highest_bar_fills_its_panel_and_none_is_lost() {
        let bar = |name: &str, value| (name.to_owned(), value, short(value));
        let panel =
            Bars { title: "a < b".into(), bars: vec![bar("1", 5.0), bar("16", 10.0), bar("64", f64::NAN)] };

        let svg = panels("title", "note", &[panel]);

        assert_eq!(svg.matches("<rect").count(), 3);
        assert!(svg.contains("height=\"74.0\"") && svg.contains("height=\"37.0\""), "{svg}");
        assert!(svg.contains("a &lt; b") && !svg.contains("height=\"NaN\""), "{svg}");
    }

    #[test]
    fn a_line_leaves_out_what_is_not_there() {
        let line = Line { name: "p99".into(), values: vec![1.0, f64::NAN, 100.0] };

        let svg = lines("title", "ms", &["10k".into(), "1M".into(), "10M".into()], &[line]);

        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(!svg.contains("NaN"), "{svg}");
    }
}
