//! The rows as a picture, on a logarithmic axis of time: for each subject the span from p50 to p99.9 of its round trips,
//! or that of nine chunks in ten of its time for a message.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::report::{Figures, Report, naming};
use crate::rows::Row;
use crate::subject::Failure;

const WIDTH: f64 = 960.0;
const LABELS: f64 = 380.0;
const LINE_HEIGHT: f64 = 24.0;
/// The axis goes from 1 ns to 10 ms: seven powers of ten.
const AXIS_FROM: f64 = 1.0;
const DECADES: f64 = 7.0;

/// Writes all rows that measured time into one SVG file.
///
/// # Errors
/// The file cannot be written.
pub fn write(report: &Report, file: &Path) -> Result<(), Failure> {
    fs::write(file, svg(report)).map_err(|error| naming(file, &error))
}

// Writing to a String cannot fail, so the results of `write!` below say nothing.
fn svg(report: &Report) -> String {
    let mut body = String::new();
    let mut y = LINE_HEIGHT;
    for row in report.rows.iter().filter(|row| !row.figures.is_empty()) {
        y = draw_row(&mut body, row, y);
    }
    let header = &report.header;
    text(&mut body, 8.0, y, &format!("{}, kernel {}, commit {}", header.machine, header.kernel, header.commit));
    text(
        &mut body,
        8.0,
        y + LINE_HEIGHT,
        "round trips: dot p50, line to p99.9; one way: dot p50, line p10 to p90 of chunks; axis: 1 ns to 10 ms",
    );
    let height = y + 2.0 * LINE_HEIGHT;
    let mut axis = String::new();
    for decade in 0..=DECADES as u32 {
        let x = place(AXIS_FROM * 10f64.powf(f64::from(decade)));
        let _ = writeln!(axis, r##"<line x1="{x:.1}" y1="0" x2="{x:.1}" y2="{y:.1}" stroke="#ddd"/>"##);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         {axis}{body}</svg>\n"
    )
}

fn draw_row(body: &mut String, row: &Row, mut y: f64) -> f64 {
    text(body, 8.0, y, &format!("{}: {}", row.id, row.what));
    y += LINE_HEIGHT;
    for figures in &row.figures {
        draw_figures(body, figures, y);
        y += LINE_HEIGHT;
    }
    y + LINE_HEIGHT / 2.0
}

fn draw_figures(body: &mut String, figures: &Figures, y: f64) {
    let (from, dot, to, shown) = match (figures.percentiles, figures.rate) {
        (Some(p), _) => (p.p50 as f64, p.p50 as f64, p.p99_9 as f64, format!("{} ns", p.p50)),
        (None, Some(rate)) => (1e3 / rate.p90, 1e3 / rate.p50, 1e3 / rate.p10, format!("{:.2} M/s", rate.p50)),
        (None, None) => return,
    };
    let class = figures.class.map_or(String::new(), |class| format!(" ({class:?})").to_lowercase());
    text(body, 20.0, y, &format!("{}{class}", figures.name));
    let ([from, dot, to], middle) = ([from, dot, to].map(place), y - 4.0);
    let _ = writeln!(
        body,
        r##"<line x1="{from:.1}" y1="{middle:.1}" x2="{to:.1}" y2="{middle:.1}" stroke="#36c" stroke-width="3"/>"##
    );
    let _ = writeln!(body, r##"<circle cx="{dot:.1}" cy="{middle:.1}" r="5" fill="#36c"/>"##);
    text(body, to + 10.0, y, &shown);
}

fn text(body: &mut String, x: f64, y: f64, words: &str) {
    let escaped = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(body, r#"<text x="{x:.1}" y="{y:.1}">{escaped}</text>"#);
}

fn place(nanoseconds: f64) -> f64 {
    let decades = (nanoseconds.max(AXIS_FROM) / AXIS_FROM).log10().min(DECADES);
    LABELS + decades / DECADES * (WIDTH - LABELS - 90.0)
}
