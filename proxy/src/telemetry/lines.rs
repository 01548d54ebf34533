//! Where log lines go: to standard error, as long as somebody takes them.
//!
//! Invariant: no line is waited for. Whoever reads the log may hang, and its pipe be
//! full: every request that has something to log would hang with it. What can't be taken
//! at once is lost, and how many lines that were is told once lines are taken again.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogFormat;

/// What a pipe that takes anything takes whole (`PIPE_BUF` of Linux).
const TAKEN_WHOLE: usize = 4_096;

/// Writes lines to what takes them.
#[derive(Debug)]
pub(super) struct Lines<W> {
    format: LogFormat,
    state: Arc<Mutex<State<W>>>,
}

#[derive(Debug)]
struct State<W> {
    to: W,
    lost: u64,
    /// Whether the last line was written in part.
    torn: bool,
}

impl<W: Write + AsFd> Lines<W> {
    pub(super) fn new(to: W, format: LogFormat) -> Self {
        let state = State {
            to,
            lost: 0,
            torn: false,
        };
        Self {
            format,
            state: Arc::new(Mutex::new(state)),
        }
    }
}

impl<'a, W: Write + AsFd + 'a> MakeWriter<'a> for Lines<W> {
    type Writer = Line<'a, W>;

    fn make_writer(&'a self) -> Self::Writer {
        Line {
            format: self.format,
            state: self.state.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

/// One line, which is written at once.
#[derive(Debug)]
pub(super) struct Line<'a, W> {
    format: LogFormat,
    state: MutexGuard<'a, State<W>>,
}

impl<W: Write + AsFd> Write for Line<'_, W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let state = &mut *self.state;
        if state.lost > 0 && state.put(note(self.format, state.lost).as_bytes())? {
            state.lost = 0;
        }
        if state.lost > 0 || !state.put(line)? {
            state.lost += 1;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.state.to.flush()
    }
}

impl<W: Write + AsFd> State<W> {
    /// Whether the line was written, and not a part of it alone.
    fn put(&mut self, line: &[u8]) -> io::Result<bool> {
        if self.torn {
            if !self.takes() {
                return Ok(false);
            }
            self.to.write_all(b"\n")?;
            self.torn = false;
        }
        for (number, part) in line.chunks(TAKEN_WHOLE).enumerate() {
            if !self.takes() {
                self.torn = number > 0;
                return Ok(false);
            }
            self.to.write_all(part)?;
        }
        Ok(true)
    }

    /// Whether a write returns at once. What is broken does, with an error.
    fn takes(&self) -> bool {
        let mut wanted = [PollFd::new(&self.to, PollFlags::OUT)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // Where that can't be asked, as of a file somewhere, it is no pipe.
        poll(&mut wanted, Some(&now)).map_or(true, |ready| ready > 0)
    }
}

/// What stands in place of the lines.
fn note(format: LogFormat, lost: u64) -> String {
    let why = "log lines were lost, since they were not taken";
    match format {
        LogFormat::Json => {
            format!("{{\"level\":\"WARN\",\"message\":\"{why}\",\"lines\":{lost}}}\n")
        }
        LogFormat::Plain => format!(" WARN everlock_proxy: {lost} {why}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{PipeReader, PipeWriter, Read as _, pipe};

    fn lines() -> (PipeReader, Lines<PipeWriter>) {
        let (from, to) = pipe().unwrap();
        (from, Lines::new(to, LogFormat::Plain))
    }

    fn write(lines: &Lines<PipeWriter>, text: &str) {
        lines.make_writer().write_all(text.as_bytes()).unwrap();
    }

    fn all(mut from: PipeReader, lines: Lines<PipeWriter>) -> String {
        drop(lines);
        let mut text = String::new();
        from.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn lines_are_written_as_they_are() {
        let (from, lines) = lines();
        let long = format!("{}\n", "x".repeat(3 * TAKEN_WHOLE));
        write(&lines, "one\n");
        write(&lines, &long);
        assert_eq!(all(from, lines), format!("one\n{long}"));
    }

    #[test]
    fn what_nobody_takes_is_lost_and_counted_and_no_line_is_torn() {
        let (mut from, lines) = lines();
        let line = format!("{}\n", "y".repeat(2 * TAKEN_WHOLE + 99));
        for _ in 0..100 {
            write(&lines, &line);
        }
        let mut some = vec![0; 8 * TAKEN_WHOLE];
        from.read_exact(&mut some).unwrap();
        write(&lines, "after\n");
        let text = String::from_utf8(some).unwrap() + &all(from, lines);
        let mut told = text.lines().rev();
        assert_eq!(told.next(), Some("after"));
        let note = told.next().unwrap();
        let lost = note.strip_prefix(" WARN everlock_proxy: ").unwrap();
        let lost: usize = lost.split(' ').next().unwrap().parse().unwrap();
        let whole = text.lines().filter(|one| one.len() + 1 == line.len());
        assert_eq!(whole.count() + lost, 100, "{note}");
    }
}
