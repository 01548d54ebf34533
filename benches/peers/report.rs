//! The report: tables between two marks of a Markdown file that people wrote
//! around them, and a drawing beside it.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::table::Table;
use crate::{Plan, drawing};

const BEGIN: &str = "<!-- figures: begin -->\n";
const END: &str = "<!-- figures: end -->\n";

/// Replaces what stands between the marks.
pub(crate) fn write(file: &Path, plan: Plan, tables: &[Table]) {
    let old = std::fs::read_to_string(file).expect("the report can be read");
    let begin = old.find(BEGIN).expect("it has a mark") + BEGIN.len();
    let end = old.find(END).expect("it has another mark");
    let mut text = old[..begin].to_owned();
    let picture = file.with_extension("svg");
    text += &machine(plan);
    if let Some(svg) = drawing::draw(tables) {
        std::fs::write(&picture, svg).expect("the drawing can be written");
        let name = picture.file_name().unwrap_or_default().to_string_lossy();
        let _ = write!(text, "\n![Rates beside peers]({name})\n");
    }
    for table in tables {
        let (title, about) = (table.title, table.about);
        let _ = write!(text, "\n### {title}\n\n{about}\n\n{}", table.markdown());
    }
    text.push('\n');
    text += &old[end..];
    std::fs::write(file, text).expect("the report can be written");
}

fn machine(plan: Plan) -> String {
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().ok();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let text = text.unwrap_or_default();
        text.lines().next().unwrap_or("not there").to_owned()
    };
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown", |line| line.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut parts = kernel.trim().splitn(3, '.');
    let release = [parts.next(), parts.next()].map(Option::unwrap_or_default);
    let release = release.join(".");
    format!(
        "{cores} cores ({model}), Linux {release}, {}, {}, {}, rslock 0.10; {} on {}. Medians of {} \
         interleaved rounds of {} s, lowest and highest in brackets.\n",
        said("redis-server", &["--version"])
            .split(" sha")
            .next()
            .unwrap_or_default(),
        said("etcd", &["--version"]),
        said("rustc", &["--version"]),
        said("git", &["log", "-1", "--format=commit %h"]),
        said("date", &["-u", "+%Y-%m-%d"]),
        plan.rounds,
        plan.time.as_secs(),
    )
}
