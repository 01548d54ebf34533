//! A drawing of what people ask for first: rates beside peers, as bars.

use std::fmt::Write as _;

use crate::table::Table;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 220.0;
const BAR: f64 = 18.0;
const STEP: f64 = 24.0;

/// A group of bars: its heading, and each bar's name and length.
type Group = (String, Vec<(String, f64)>);

/// The drawing, if there is anything to draw.
pub(crate) fn draw(tables: &[Table]) -> Option<String> {
    let wanted = [
        ("Keys of their own", "64 tasks", "cycles/s"),
        ("One key, one process", "64 tasks, 0 ms", "sections/s"),
        ("Through HTTP", "64 connections", "cycles/s"),
    ];
    let group = |(title, load, column): (&str, &str, &str)| {
        let table = tables.iter().find(|table| table.title == title)?;
        let rows = table.rows.iter().filter(|row| row.load == load);
        let bar = |locker: &String| Some((locker.clone(), table.median(load, locker, column)?));
        let bars: Vec<_> = rows.filter_map(|row| bar(&row.locker)).collect();
        Some((format!("{title}, {load}: {column}"), bars))
    };
    let groups: Vec<Group> = wanted.into_iter().filter_map(group).collect();
    (!groups.is_empty()).then(|| svg(&groups))
}

fn svg(groups: &[Group]) -> String {
    let mut body = String::new();
    let mut y = 10.0;
    for (heading, bars) in groups {
        y += 22.0;
        let _ = writeln!(body, r#"<text class="h" x="10" y="{y}">{heading}</text>"#);
        y += 10.0;
        let longest = bars.iter().map(|(_, value)| *value).fold(1.0, f64::max);
        for (name, value) in bars {
            let length = (value / longest * (WIDTH - LEFT - 90.0)).max(1.0);
            let class = if name.starts_with("everlock") {
                "us"
            } else {
                "peer"
            };
            let (middle, end) = (y + BAR - 5.0, LEFT + length + 8.0);
            let _ = writeln!(
                body,
                r#"<text class="n" x="{}" y="{middle}">{name}</text><rect class="{class}" x="{LEFT}" y="{y}" width="{length:.1}" height="{BAR}" rx="3"/><text x="{end:.1}" y="{middle}">{value:.0}</text>"#,
                LEFT - 10.0,
            );
            y += STEP;
        }
        y += 10.0;
    }
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img" aria-label="Rates beside peers">
<style>
  text {{ font: 13px system-ui, sans-serif; fill: #57606a }}
  .h {{ font-weight: 600; font-size: 15px; fill: #24292f }}
  .n {{ text-anchor: end }}
  .us {{ fill: #0b7a75 }}
  .peer {{ fill: #b6bec8 }}
  @media (prefers-color-scheme: dark) {{
    text {{ fill: #9ba5b0 }} .h {{ fill: #e6edf3 }} .us {{ fill: #3fb8af }} .peer {{ fill: #4b5563 }}
  }}
</style>
{body}</svg>
"#
    )
}
