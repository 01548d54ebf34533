//! What a person at a terminal sees while everlock waits. Nobody else sees anything.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use everlock::clock::{Clock as _, SystemClock};

use crate::cli::way::Way;

/// Who has the lock sooner need not be told anything.
const FIRST_AFTER: Duration = Duration::from_millis(700);
const EVERY: Duration = Duration::from_secs(1);
/// More of a key does not fit into a line.
const SHOWN_CHARS: usize = 40;
/// To the line's beginning, and away with it.
const CLEAR: &str = "\r\x1b[K";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// A line that is cleared when this is dropped.
pub(super) struct Progress {
    shown: bool,
}

impl Progress {
    pub(super) const fn new() -> Self {
        Self { shown: false }
    }

    /// Shows how long it takes, for ever.
    pub(super) async fn show(&mut self, way: &Way, key: &str, fifo: bool) {
        if !std::io::stderr().is_terminal() || is("TERM", "dumb") {
            return std::future::pending().await;
        }
        let started = SystemClock.now();
        tokio::time::sleep(FIRST_AFTER).await;
        loop {
            let in_line = if fifo { way.queue(key).await } else { None };
            let seconds = SystemClock.now().saturating_since(started).as_secs();
            self.draw(&line(key, seconds, in_line));
            tokio::time::sleep(EVERY).await;
        }
    }

    fn draw(&mut self, line: &str) {
        self.shown = true;
        let coloured = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        if coloured {
            write(&format!("{CLEAR}{DIM}{line}{PLAIN}"));
        } else {
            write(&format!("{CLEAR}{line}"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            write(CLEAR);
        }
    }
}

fn line(key: &str, seconds: u64, in_line: Option<u32>) -> String {
    let mut shown: String = key.chars().take(SHOWN_CHARS).collect();
    if shown.len() < key.len() {
        shown.push('…');
    }
    let in_line = match in_line {
        Some(length @ 2..) => format!(", {length} in line"),
        _ => String::new(),
    };
    format!("everlock: waiting for {shown:?}, {seconds} s{in_line}")
}

fn write(text: &str) {
    let mut stderr = std::io::stderr();
    let _ = stderr.write_all(text.as_bytes());
    let _ = stderr.flush();
}

fn is(variable: &str, value: &str) -> bool {
    std::env::var_os(variable).is_some_and(|found| found == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_can_do_nothing_to_the_terminal() {
        let line = line("a\x1b[2Jb\n", 3, Some(4));
        assert_eq!(
            line,
            r#"everlock: waiting for "a\u{1b}[2Jb\n", 3 s, 4 in line"#
        );
    }

    #[test]
    fn a_line_of_one_is_no_news() {
        assert!(!line("k", 1, Some(1)).contains("line"));
        assert!(super::line(&"x".repeat(99), 1, None).chars().count() < 80);
    }
}
