//! Small plots as SVG: panels beside each other, each with points, their intervals, and a line through them.
//!
//! What always holds: the same data give the same bytes; text is escaped; a panel without a finite point is drawn empty and says so.

use std::fmt::Write as _;

const PANEL_WIDTH: f64 = 320.0;
const PANEL_HEIGHT: f64 = 260.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 46.0;
/// Share of the range that is left free above and below the points.
const AIR: f64 = 0.08;

/// A point with its interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Where it is from left to right: its rank counts, not its value.
    pub label: String,
    /// Its height.
    pub y: f64,
    /// Half of its interval; 0 for none.
    pub half: f64,
    /// Whether it is marked as the usual one.
    pub marked: bool,
}

/// One panel.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// Above it.
    pub title: String,
    /// Below it.
    pub x: String,
    /// The points, from left to right.
    pub points: Vec<Point>,
}

/// The panels beside each other; `y` says what all heights mean.
pub fn plot(panels: &[Panel], y: &str) -> String {
    let (width, height) = (PANEL_WIDTH * panels.len().max(1) as f64, PANEL_HEIGHT);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    for (at, panel) in panels.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "<g transform=\"translate({:.1} 0)\">", at as f64 * PANEL_WIDTH);
        let _ = draw(&mut out, panel, y);
        out.push_str("</g>\n");
    }
    out + "</svg>\n"
}

fn draw(out: &mut String, panel: &Panel, y: &str) -> std::fmt::Result {
    let (right, bottom) = (PANEL_WIDTH - RIGHT, PANEL_HEIGHT - BOTTOM);
    writeln!(out, "<text x=\"{LEFT}\" y=\"20\" font-size=\"13\" font-weight=\"bold\">{}</text>", escaped(&panel.title))?;
    let middle = (LEFT + right) / 2.0;
    writeln!(out, "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", PANEL_HEIGHT - 8.0, escaped(&panel.x))?;
    writeln!(out, "<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"#444444\"/>")?;
    let finite: Vec<&Point> = panel.points.iter().filter(|point| point.y.is_finite() && point.half.is_finite()).collect();
    let Some((least, most)) = range(&finite) else {
        return writeln!(out, "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">no value</text>", (TOP + bottom) / 2.0);
    };
    let height = |value: f64| bottom - (value - least) / (most - least) * (bottom - TOP);
    for step in 0..=4 {
        let value = least + (most - least) * f64::from(step) / 4.0;
        let at = height(value);
        writeln!(out, "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#e4e4e4\"/>")?;
        writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value:.3}</text>", LEFT - 6.0, at + 4.0)?;
    }
    writeln!(
        out,
        "<text transform=\"translate(12 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        (TOP + bottom) / 2.0,
        escaped(y)
    )?;
    let space = (right - LEFT) / panel.points.len().max(1) as f64;
    let places: Vec<(f64, f64, &Point)> = (panel.points.iter().enumerate())
        .filter(|(_, point)| point.y.is_finite() && point.half.is_finite())
        .map(|(at, point)| (LEFT + (at as f64 + 0.5) * space, height(point.y), point))
        .collect();
    let line: Vec<String> = places.iter().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect();
    writeln!(out, "<polyline points=\"{}\" fill=\"none\" stroke=\"#3b6fb6\" stroke-width=\"1.5\"/>", line.join(" "))?;
    for (x, at, point) in places {
        if point.half > 0.0 {
            let (low, high) = (height(point.y - point.half), height(point.y + point.half));
            writeln!(
                out,
                "<path d=\"M{x:.1} {low:.1}V{high:.1}M{:.1} {low:.1}h8M{:.1} {high:.1}h8\" stroke=\"#3b6fb6\"/>",
                x - 4.0,
                x - 4.0
            )?;
        }
        let fill = if point.marked { "#d1495b" } else { "#3b6fb6" };
        writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{at:.1}\" r=\"4\" fill=\"{fill}\"/>")?;
    }
    for (at, point) in panel.points.iter().enumerate() {
        let x = LEFT + (at as f64 + 0.5) * space;
        writeln!(out, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", bottom + 16.0, escaped(&point.label))?;
    }
    Ok(())
}

/// Least and greatest height of the intervals, with some air; none without points.
fn range(points: &[&Point]) -> Option<(f64, f64)> {
    let low = points.iter().map(|point| point.y - point.half).min_by(f64::total_cmp)?;
    let high = points.iter().map(|point| point.y + point.half).max_by(f64::total_cmp)?;
    let air = ((high - low) * AIR).max(high.abs() * 1e-3).max(1e-9);
    Some((low - air, high + air))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use quick_xml::Reader;
    use quick_xml::events::Event;

    fn point(label: &str, y: f64, half: f64) -> Point {
        Point { label: label.into(), y, half, marked: label == "b" }
    }

    fn panel(points: Vec<Point>) -> Panel {
        Panel { title: "a <title> & more".into(), x: "x".into(), points }
    }

    /// Names of the elements, if it is well-formed.
    fn elements(svg: &str) -> Vec<String> {
        let mut reader = Reader::from_str(svg);
        let mut names = Vec::new();
        loop {
            match reader.read_event().unwrap() {
                Event::Start(tag) | Event::Empty(tag) => names.push(String::from_utf8_lossy(tag.name().as_ref()).into_owned()),
                Event::Eof => return names,
                _ => {}
            }
        }
    }

    #[test]
    fn every_point_is_drawn_once_and_the_text_is_escaped() {
        let svg = plot(&[panel(vec![point("a", 1.0, 0.1), point("b", 2.0, 0.0), point("c", f64::NAN, 0.0)]), panel(vec![])], "loss");
        let names = elements(&svg);
        let count = |name: &str| names.iter().filter(|found| *found == name).count();
        assert_eq!((count("svg"), count("g"), count("circle"), count("polyline")), (1, 2, 2, 1));
        assert!(svg.contains("no value") && svg.contains("a &lt;title&gt; &amp; more") && svg.matches("#d1495b").count() == 1);
        assert!(!svg.contains("NaN"), "{svg}");
        assert_eq!(svg, plot(&[panel(vec![point("a", 1.0, 0.1), point("b", 2.0, 0.0), point("c", f64::NAN, 0.0)]), panel(vec![])], "loss"));
    }

    #[test]
    fn equal_values_still_have_a_range() {
        let svg = plot(&[panel(vec![point("a", 2.0, 0.0), point("b", 2.0, 0.0)])], "loss");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
