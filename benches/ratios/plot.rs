//! The figures as text, and the plot that is drawn from them.

use std::fmt::Write;

/// One figure as a line of the text: the part that measured it, what it is, its value, its floor or ceiling, whether more is better.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub part: String,
    pub what: String,
    pub value: f64,
    pub bound: f64,
    pub is_floor: bool,
}

/// Reads the text; a line that is none is left out.
pub fn read(text: &str) -> Vec<Line> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [part, what, value, sign, bound] = fields[..] else { return None };
        Some(Line {
            part: part.to_owned(),
            what: what.to_owned(),
            value: value.parse().ok()?,
            bound: bound.parse().ok()?,
            is_floor: sign == ">=",
        })
    };
    text.lines().filter_map(line).collect()
}

/// Writes the text.
pub fn write(lines: &[Line]) -> String {
    let mut text = "# Figures of `cargo bench`, as ratios against bare programs in the same run; FIGURES=write renews those of the parts that ran.\n".to_owned();
    for Line { part, what, value, bound, is_floor } in lines {
        let sign = if *is_floor { ">=" } else { "<=" };
        // Writing to memory cannot fail.
        let _infallible = writeln!(text, "{part}\t{what}\t{value:.3}\t{sign}\t{bound}");
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Draws a bar for each figure: how far it is from its bound, which is the line in the middle. To the right of it is better.
pub fn draw(lines: &[Line]) -> String {
    const ROW: usize = 26;
    const MIDDLE: f64 = 640.0;
    const HALF: f64 = 180.0;
    let height = lines.len() * ROW + 64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 960 {height}\" font-family=\"system-ui, sans-serif\" font-size=\"13\" role=\"img\" aria-label=\"Measured figures beside their bounds\">\n\
         <style>text{{fill:#1a1d21}}.q{{fill:#59616b}}.p{{fill:#fff}}.g{{fill:#2e7d46}}.b{{fill:#b3261e}}line{{stroke:#59616b}}@media(prefers-color-scheme:dark){{text{{fill:#e7eaed}}.q{{fill:#9aa3ad}}.p{{fill:#14171a}}.g{{fill:#6fcf8e}}.b{{fill:#ff9188}}}}</style>\n\
         <rect class=\"p\" width=\"960\" height=\"{height}\"/>\n<text x=\"12\" y=\"24\" font-weight=\"600\">Measured, beside what is wanted (the line; right of it is better)</text>\n"
    );
    for (index, line) in lines.iter().enumerate() {
        let y = 48 + index * ROW;
        // Twice as good fills the half.
        let ratio = if line.is_floor { line.value / line.bound } else { line.bound / line.value };
        let width = (ratio.max(0.01).log2().clamp(-1.0, 1.0) * HALF).abs().max(1.0);
        let (x, class) = if ratio >= 1.0 { (MIDDLE, "g") } else { (MIDDLE - width, "b") };
        let sign = if line.is_floor { "≥" } else { "≤" };
        let _infallible = writeln!(
            svg,
            "<text x=\"12\" y=\"{}\">{}</text><rect class=\"{class}\" x=\"{x:.0}\" y=\"{}\" width=\"{width:.0}\" height=\"12\" rx=\"2\"/><text class=\"q\" x=\"948\" y=\"{}\" text-anchor=\"end\">{:.2} ({sign} {})</text>",
            y + 4,
            escaped(&line.what),
            y - 6,
            y + 4,
            line.value,
            line.bound
        );
    }
    let _infallible =
        writeln!(svg, "<line x1=\"{MIDDLE}\" y1=\"36\" x2=\"{MIDDLE}\" y2=\"{}\"/>\n</svg>", height - 16);
    svg
}
