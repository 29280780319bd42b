//! The plot of the figures is that of their text.

#[path = "../../benches/ratios/plot.rs"]
mod plot;

use std::{fs, path::Path};

#[test]
fn the_plot_is_that_of_the_figures() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let text = fs::read_to_string(docs.join("figures.txt")).unwrap();
    let lines = plot::read(&text);
    assert!(lines.len() > 5, "{text}");
    assert_eq!(plot::write(&lines), text);
    let picture = docs.join("pictures/figures.svg");
    if std::env::var("GOLDEN").is_ok_and(|value| value == "write") {
        fs::write(&picture, plot::draw(&lines)).unwrap();
    }
    assert_eq!(fs::read_to_string(picture).unwrap(), plot::draw(&lines), "GOLDEN=write draws it");
}
