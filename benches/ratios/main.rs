//! Speed as ratios against raw baselines, measured in pairs in one run: `cargo bench`, or with the name of a part
//! (`cargo bench -- stream`). Absolute figures of a busy machine mean little; medians of paired ratios do.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub
)]

mod bare;
mod client;
mod live;
mod mcp;
mod memory;
mod model;
mod plot;
mod scale;
mod start;
mod streams;

use std::process::ExitCode;

/// One measured figure beside its floor.
pub struct Figure {
    pub what: String,
    pub value: f64,
    pub floor: f64,
    /// Whether more is better.
    pub is_ratio: bool,
    pub note: String,
}

impl Figure {
    fn print(&self) -> bool {
        let holds = if self.is_ratio { self.value >= self.floor } else { self.value <= self.floor };
        let sign = if self.is_ratio { ">=" } else { "<=" };
        let mark = if holds { "ok  " } else { "MISS" };
        println!("{mark} {:<58} {:>9.2}  ({sign} {})  {}", self.what, self.value, self.floor, self.note);
        holds
    }
}

/// The middle of an odd number of values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    // This program also plays the guardian and the engine of the gateway that it measures, and the bare programs.
    match arguments.first().map(String::as_str) {
        Some("guardian") => return conductor_gateway::cli::main(std::env::args_os()),
        Some("engine") => return conductor_gateway::cli::main(std::env::args_os()),
        Some("bare-sse") => {
            memory::bare_server();
            return ExitCode::SUCCESS;
        }
        Some("bare-catalogue") => {
            scale::bare_catalogue(&arguments[1]);
            return ExitCode::SUCCESS;
        }
        Some("bare-mcp") => {
            mcp::bare_server();
            return ExitCode::SUCCESS;
        }
        Some("bare-relay") => {
            model::bare_relay(&arguments[1]);
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let wants = |part: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == part);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut all_hold = true;
    let mut lines: Vec<plot::Line> = Vec::new();
    let mut show = |part: &str, figures: Vec<Figure>| {
        for figure in figures {
            all_hold &= figure.print();
            let Figure { what, value, floor, is_ratio, .. } = figure;
            lines.push(plot::Line { part: part.to_owned(), what, value, bound: floor, is_floor: is_ratio });
        }
    };
    if wants("start") {
        show("start", runtime.block_on(start::figures()));
    }
    if wants("memory") {
        show("memory", runtime.block_on(memory::figures()));
    }
    if wants("stream") {
        show("stream", runtime.block_on(streams::one_reader()));
    }
    if wants("fan-out") {
        show("fan-out", runtime.block_on(streams::many_readers()));
    }
    if wants("mcp") {
        show("mcp", runtime.block_on(mcp::figures()));
    }
    if wants("model") {
        show("model", runtime.block_on(model::tokens()));
        show("model", runtime.block_on(model::cost()));
    }
    if wants("live") {
        show("live", runtime.block_on(live::figures()));
    }
    if wants("scale") {
        show("scale", runtime.block_on(scale::figures()));
    }
    if wants("jobs") {
        show("jobs", runtime.block_on(start::short_jobs()));
    }
    if std::env::var("FIGURES").is_ok_and(|value| value == "write") {
        keep(lines);
    }
    if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Renews the figures of the parts that ran in `docs/figures.txt`, and draws the plot of all of them.
fn keep(lines: Vec<plot::Line>) {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let known = plot::read(&std::fs::read_to_string(docs.join("figures.txt")).unwrap_or_default());
    let parts: std::collections::BTreeSet<String> = lines.iter().map(|line| line.part.clone()).collect();
    let mut all: Vec<plot::Line> =
        known.into_iter().filter(|line| !parts.contains(&line.part)).chain(lines).collect();
    all.sort_by(|a, b| a.part.cmp(&b.part));
    std::fs::write(docs.join("figures.txt"), plot::write(&all)).unwrap();
    std::fs::write(docs.join("pictures/figures.svg"), plot::draw(&all)).unwrap();
}
