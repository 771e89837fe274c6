//! The comparison as a picture: a bar for each ratio, and a mark at its goal.

use std::fmt::Write;

use super::row::Goal;
use super::table::Outcome;

const WIDTH: usize = 920;
const HEAD: usize = 66;
const LINE: usize = 40;
const FOOT: usize = 16;

/// Where bars begin, and how long one is that reaches [`MOST`].
const LEFT: f64 = 450.0;
const LONGEST: f64 = 330.0;
/// A longer bar is cut here, and its number tells.
const MOST: f64 = 1.5;

/// Text and ground change together, so that the picture can be read on a light and on a dark page.
const STYLE: &str = "\
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .soft { font-size: 11px; fill: #59636e }
.ground { fill: #ffffff; stroke: #d1d9e0 }
.one { stroke: #59636e; stroke-dasharray: 3 3 } .goal { stroke: #1f2328; stroke-width: 2 }
.yes { fill: #2da44e } .no { fill: #cf222e } .none { fill: #8c959f }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .soft { fill: #9198a1 }
.ground { fill: #0d1117; stroke: #3d444d } .one { stroke: #9198a1 } .goal { stroke: #e6edf3 } }";

/// Rows without a ratio have no bar, and are left out.
pub fn draw(outcomes: &[Outcome], head: &str) -> String {
    let drawn: Vec<_> = outcomes.iter().filter_map(|outcome| Some((outcome, outcome.ratio()?.median))).collect();
    let height = HEAD + LINE * drawn.len() + FOOT;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" role=\"img\">\n\
         <title>xfer compared with other programs</title>\n<style>\n{STYLE}\n</style>\n\
         <rect class=\"ground\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n\
         <text x=\"16\" y=\"24\">xfer compared with other programs: time, CPU time or memory for each 1.00 of theirs</text>\n\
         <text class=\"soft\" x=\"16\" y=\"42\">{}</text>\n",
        WIDTH - 1,
        height - 1,
        escape(head),
    );
    for (index, (outcome, ratio)) in drawn.iter().enumerate() {
        svg.push_str(&bar(outcome, *ratio, HEAD + LINE * index));
    }
    let one = at(1.0);
    let _ = writeln!(
        svg,
        "<line class=\"one\" x1=\"{one:.1}\" x2=\"{one:.1}\" y1=\"{}\" y2=\"{}\"/>\n</svg>",
        HEAD - 8,
        height - FOOT
    );
    svg
}

/// The bar of a row whose line begins at `top`.
fn bar(outcome: &Outcome, ratio: f64, top: usize) -> String {
    let class = outcome.reached().map_or("none", |reached| if reached { "yes" } else { "no" });
    let mut text = format!(
        "<text x=\"16\" y=\"{}\">{}</text>\n<text class=\"soft\" x=\"16\" y=\"{}\">compared with {}</text>\n\
         <rect class=\"{class}\" x=\"{LEFT}\" y=\"{}\" width=\"{:.1}\" height=\"16\" rx=\"2\"/>\n",
        top + 13,
        escape(&outcome.row.work),
        top + 28,
        escape(outcome.row.against),
        top + 6,
        (at(ratio) - LEFT).max(1.0),
    );
    let mut label = format!("{ratio:.2}");
    if let Goal::Ratio(goal) = outcome.row.goal {
        let (x, y) = (at(goal), top + 2);
        let _ = writeln!(text, "<line class=\"goal\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{y}\" y2=\"{}\"/>", y + 24);
        let _ = write!(label, " (goal {goal:.2})");
    }
    let _ = writeln!(text, "<text x=\"{}\" y=\"{}\">{label}</text>", LEFT + LONGEST + 12.0, top + 19);
    text
}

fn at(ratio: f64) -> f64 {
    LEFT + LONGEST * ratio.clamp(0.0, MOST) / MOST
}

/// Text of a Markdown cell, as XML has it.
fn escape(text: &str) -> String {
    text.replace(['`', '\\'], "").replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
