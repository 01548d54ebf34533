//! The signals that a command under a lock is to hear of.
//!
//! Invariant: who started everlock with a signal ignored (`nohup`, a shell's `&`) has the command
//! ignore it too: such a signal is left alone, and inherited.

use std::io;
use std::task::Poll;

use rustix::process::Signal;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// Handed on to the command. Those before the mark end everlock itself while it waits.
const PASSED: [Signal; 7] = [
    Signal::INT,
    Signal::TERM,
    Signal::HUP,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::WINCH,
];
/// Who sends one of these wants an end.
const ENDING: [Signal; 4] = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT];

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// To be handed on.
    Pass(Signal),
    /// The terminal, or somebody else, asks to stop.
    Stop,
    /// It goes on after a stop.
    Continued,
    /// A child ended, stopped or went on.
    Child,
}

impl News {
    /// The signal, if it asks for an end.
    pub(super) fn ending(self) -> Option<Signal> {
        match self {
            Self::Pass(signal) if ENDING.contains(&signal) => Some(signal),
            _ => None,
        }
    }
}

pub(super) struct Signals(Vec<(News, Stream)>);

impl Signals {
    /// Listens from now on. Must be called within a runtime.
    pub(super) fn listen() -> io::Result<Self> {
        let ignored = ignored();
        let passed = PASSED.map(|signal| (signal, News::Pass(signal)));
        let others = [
            (Signal::TSTP, News::Stop),
            (Signal::CONT, News::Continued),
            (Signal::CHILD, News::Child),
        ];
        let mut streams = Vec::new();
        for (number, news) in passed.into_iter().chain(others) {
            let raw = number.as_raw();
            // A parent that ignores SIGCHLD would have us never hear of our own children.
            if number == Signal::CHILD || ignored & (1 << (raw - 1)) == 0 {
                streams.push((news, signal(SignalKind::from_raw(raw))?));
            }
        }
        Ok(Self(streams))
    }

    /// The next signal. Dropping the future loses none.
    pub(super) async fn next(&mut self) -> News {
        std::future::poll_fn(|context| {
            for (news, stream) in &mut self.0 {
                if stream.poll_recv(context).is_ready() {
                    return Poll::Ready(*news);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// The signals that this process was started to ignore, a bit each; none where that can't be read.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
