//! The chart of dump and live rates: an SVG, drawn from the JSON figures of one or more runs.

use std::{fmt::Write as _, fs, io, path::PathBuf};

use serde_json::Value;

/// The benchmarks whose rates are drawn, with their headings.
const PANELS: [(&str, &str); 2] =
    [("dump", "dump: a new station at a loaded feed"), ("live", "live: from a BGP peer to a station")];

/// The axis: powers of ten, in routes a second.
const DECADES: std::ops::RangeInclusive<u32> = 4..=8;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 120.0;
const PLOT: f64 = 500.0;
const BAR: f64 = 18.0;
const ROW: f64 = 26.0;
/// Between a bar and its figure.
const GAP: f64 = 6.0;
/// Between a figure and a line of the grid.
const CLEAR: f64 = 3.0;
/// Width of a character at most.
const CHARACTER: f64 = 8.0;

/// The colours of a light and of a dark page.
const STYLE: &str = "<style>
.ground{fill:#ffffff}text{fill:#1a202c}.axis{fill:#4a5568}.grid{stroke:#cbd5e0}.own{fill:#2b6cb0}.other{fill:#a0aec0}
@media(prefers-color-scheme:dark){.ground{fill:#0d1117}text{fill:#e6edf3}.axis{fill:#9da7b3}.grid{stroke:#30363d}
.own{fill:#4c9be8}.other{fill:#586574}}
</style>
";

/// The rate of one subject in one benchmark.
#[derive(Clone, Debug, PartialEq)]
struct MeasuredRate {
    bench: String,
    /// With its version: `FRR 8.4.4`.
    subject: String,
    routes_per_second: f64,
}

/// Draws the chart of the figures in `files`, which runs with `--json` have written.
///
/// # Errors
/// A file cannot be read, is no JSON of a run, or holds no rate of dump or live.
pub(crate) fn from_files(files: &[PathBuf]) -> io::Result<String> {
    let read = |file: &PathBuf| {
        let text = fs::read_to_string(file);
        text.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))
    };
    draw(&files.iter().map(read).collect::<io::Result<Vec<_>>>()?)
}

/// Draws the chart of these figures. Where two runs measured the same, the first one counts.
///
/// # Errors
/// The text is no JSON of a run, or holds no rate of dump or live.
pub(crate) fn draw(figures: &[String]) -> io::Result<String> {
    let mut rates: Vec<MeasuredRate> = Vec::new();
    for text in figures {
        for rate in rates_of(&serde_json::from_str(text)?) {
            if !rates.iter().any(|known| (&known.bench, &known.subject) == (&rate.bench, &rate.subject)) {
                rates.push(rate);
            }
        }
    }
    if rates.is_empty() {
        let why = "the figures hold no rate of dump or live: measure one with --json FILE";
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(svg(&rates))
}

fn rates_of(figures: &Value) -> Vec<MeasuredRate> {
    let rows = figures["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rate = |row: &Value| {
        let (bench, subject) = (row["bench"].as_str()?, row["subject"].as_str()?);
        // Tables that a collector recorded have rows of their own, whose subject is the file.
        let version = figures["subjects"][subject].as_str()?;
        let drawn = row["what"] == "rate" && PANELS.iter().any(|(name, _)| *name == bench);
        Some(MeasuredRate {
            bench: bench.to_owned(),
            subject: format!("{subject} {version}"),
            routes_per_second: row["median"].as_f64().filter(|_| drawn)?,
        })
    };
    rows.iter().filter_map(rate).collect()
}

fn svg(rates: &[MeasuredRate]) -> String {
    let mut body = String::new();
    let mut y = 40.0;
    for (bench, heading) in PANELS {
        let mut bars: Vec<_> = rates.iter().filter(|rate| rate.bench == bench).collect();
        if bars.is_empty() {
            continue;
        }
        bars.sort_by(|one, other| other.routes_per_second.total_cmp(&one.routes_per_second));
        // Writing to a string cannot fail.
        let _ = panel(&mut body, y, heading, &bars);
        y += 44.0 + ROW * bars.len() as f64;
    }
    let height = y + 4.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n{STYLE}\
         <rect class=\"ground\" width=\"100%\" height=\"100%\" rx=\"6\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\" font-weight=\"bold\">\
         Routes per second, logarithmic; longer is better</text>\n{body}</svg>\n"
    )
}

/// A bar with its figure behind it.
struct DrawnBar<'a> {
    rate: &'a MeasuredRate,
    /// The upper edge of its row.
    top: f64,
    width: f64,
    figure: String,
}

impl DrawnBar<'_> {
    /// Returns true if the figure would stand on a line at `x`.
    fn figure_is_at(&self, x: f64) -> bool {
        let begin = LEFT + self.width + GAP;
        (begin - CLEAR..=begin + CHARACTER * self.figure.len() as f64 + CLEAR).contains(&x)
    }
}

fn panel(out: &mut String, top: f64, heading: &str, rates: &[&MeasuredRate]) -> std::fmt::Result {
    writeln!(out, "<text x=\"{LEFT}\" y=\"{}\">{heading}</text>", top + 12.0)?;
    let begin = top + 20.0;
    let bars = rates.iter().enumerate().map(|(number, rate)| DrawnBar {
        rate,
        top: begin + ROW * number as f64,
        width: place(rate.routes_per_second) - LEFT,
        figure: short(rate.routes_per_second),
    });
    let bars: Vec<_> = bars.collect();
    for decade in DECADES {
        let x = place(10_f64.powi(decade as i32));
        // The line has a gap where a figure is.
        for bar in bars.iter().filter(|bar| !bar.figure_is_at(x)) {
            let (from, to) = (bar.top, bar.top + ROW);
            writeln!(out, "<line class=\"grid\" x1=\"{x}\" y1=\"{from}\" x2=\"{x}\" y2=\"{to}\"/>")?;
        }
        let text = short(10_f64.powi(decade as i32));
        let y = begin + ROW * bars.len() as f64 + 14.0;
        writeln!(
            out,
            "<text class=\"axis\" x=\"{x}\" y=\"{y}\" font-size=\"11\" text-anchor=\"middle\">{text}</text>"
        )?;
    }
    for DrawnBar { rate, top, width, figure } in &bars {
        let (y, text) = (top + 4.0, top + 17.0);
        let class = if rate.subject.starts_with("bmpd") { "own" } else { "other" };
        writeln!(out, "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{}</text>", LEFT - 8.0, rate.subject)?;
        writeln!(out, "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\"/>")?;
        writeln!(out, "<text x=\"{:.1}\" y=\"{text}\">{figure}</text>", LEFT + width + GAP)?;
    }
    Ok(())
}

/// Where a rate is on the axis.
fn place(rate: f64) -> f64 {
    let (first, last) = (f64::from(*DECADES.start()), f64::from(*DECADES.end()));
    let share = (rate.max(1.0).log10() - first) / (last - first);
    // Nothing is drawn beyond the axis.
    LEFT + PLOT * share.clamp(0.0, 1.0)
}

/// A rate with three digits: `70.4 M`, `520 k`.
fn short(rate: f64) -> String {
    let (value, unit) = if rate >= 1e6 { (rate / 1e6, "M") } else { (rate / 1e3, "k") };
    let digits = if value >= 100.0 || value.fract() < 0.005 { 0 } else { 1 };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(subject: &str, version: &str, rate: f64) -> String {
        let row = |what: &str, subject: &str| serde_json::json!({ "bench": "dump", "what": what, "subject": subject, "median": rate });
        let rows = [row("rate", subject), row("time", subject), row("rate", "rib.mrt")];
        serde_json::json!({ "subjects": { subject: version }, "rows": rows }).to_string()
    }

    #[test]
    fn the_rates_of_several_runs_are_drawn_the_fastest_first() {
        let runs = [("FRR", "8.4.4", 519_976.0), ("bmpd", "0.1.0", 70_370_971.0), ("bmpd", "0.1.0", 1.0)];
        let svg = draw(&runs.map(|(subject, version, rate)| figures(subject, version, rate))).unwrap();
        let (first, second) = (svg.find(">bmpd 0.1.0<").unwrap(), svg.find(">FRR 8.4.4<").unwrap());
        assert!(first < second, "{svg}");
        assert!(svg.contains(">70.4 M<") && svg.contains(">520 k<") && !svg.contains("rib.mrt"), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 3, "the background and two bars: {svg}");
        assert!(!svg.contains("live:"), "{svg}");
    }

    #[test]
    fn no_line_of_the_grid_crosses_a_figure_and_a_dark_page_has_colours_of_its_own() {
        // The figure begins shortly before the line of 1,000,000 routes, or far from it.
        let lines = |rate| {
            let svg = draw(&[figures("FRR", "8.4.4", rate)]).unwrap();
            assert!(svg.contains("prefers-color-scheme:dark") && !svg.contains(" fill="), "{svg}");
            svg.matches("<line").count()
        };
        assert_eq!((lines(585_000.0), lines(100_000_000.0), lines(200_000.0)), (4, 5, 5));
    }

    #[test]
    fn figures_without_a_rate_are_refused() {
        assert!(draw(&["{}".to_owned()]).unwrap_err().to_string().contains("no rate of dump or live"));
        assert!(draw(&["no JSON".to_owned()]).is_err());
    }

    #[test]
    fn a_decade_more_is_as_far_anywhere_on_the_axis() {
        assert_eq!(place(1e5) - place(1e4), place(1e8) - place(1e7));
        assert_eq!([place(0.0), place(1e12)], [LEFT, LEFT + PLOT]);
        assert_eq!([1e4, 1e6, 4_575_509.0].map(short), ["10 k", "1 M", "4.6 M"]);
    }
}
