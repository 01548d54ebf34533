//! What clients note for the judge, in files that outlive them.
//!
//! A note is one line, written in one go before the client does anything that rests on it: what a
//! killed client had noted is there, and what it had not, it had not used.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use everlock_testkit::history::Hold;

/// A ticket was in one node's line, from one moment to another at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stay {
    pub(crate) node: usize,
    pub(crate) from: u64,
    pub(crate) until: u64,
}

/// A request that stood in line, or tried to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waited {
    pub(crate) client: usize,
    pub(crate) resource: usize,
    pub(crate) asked: u64,
    /// When it was told that it has the lock, or surely waited still.
    pub(crate) ended: u64,
    pub(crate) won: bool,
    /// Where it is known to have stood.
    pub(crate) stood: Vec<Stay>,
}

/// What a client notes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// It was told that it holds a lock; `fresh` unless that is an extension or a repetition.
    Held { hold: Hold, fresh: bool },
    /// It is about to release its grants up to this token.
    Freed {
        resource: usize,
        owner: String,
        token: u64,
        at: u64,
    },
    /// It waited in line.
    Waited(Waited),
    /// An acquire ended without a lock.
    Missed { why: String },
}

/// A client's file.
#[derive(Debug)]
pub(crate) struct Notes(File);

impl Notes {
    pub(crate) fn create(path: &Path) -> Self {
        let file = OpenOptions::new().create_new(true).append(true).open(path);
        Self(file.unwrap())
    }

    pub(crate) fn add(&self, note: &Note) {
        let line = match note {
            Note::Held { hold, fresh } => format!(
                "held {} {} {} {} {} {} {} {}\n",
                hold.client,
                hold.resource,
                hold.owner,
                hold.token,
                hold.asked,
                hold.acquired,
                hold.valid_until,
                u8::from(*fresh)
            ),
            Note::Freed {
                resource,
                owner,
                token,
                at,
            } => format!("freed {resource} {owner} {token} {at}\n"),
            Note::Waited(waited) => {
                let Waited {
                    client,
                    resource,
                    asked,
                    ended,
                    won,
                    stood,
                } = waited;
                let stays = stood.iter();
                let stays =
                    stays.map(|Stay { node, from, until }| format!(" {node} {from} {until}"));
                let (stays, won) = (stays.collect::<Vec<_>>().concat(), u8::from(*won));
                format!("waited {client} {resource} {asked} {ended} {won}{stays}\n")
            }
            Note::Missed { why } => format!("missed {why}\n"),
        };
        (&self.0).write_all(line.as_bytes()).unwrap();
    }
}

/// The notes of a file, in order.
pub(crate) fn read(path: &Path) -> Vec<Note> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let notes = text.lines().map(|line| {
        parse(line).unwrap_or_else(|| panic!("{}: {line:?} is no note", path.display()))
    });
    notes.collect()
}

fn parse(line: &str) -> Option<Note> {
    let words: Vec<_> = line.split(' ').collect();
    let number = |at: usize| words.get(at)?.parse::<u64>().ok();
    let index = |at: usize| usize::try_from(number(at)?).ok();
    let text = |at: usize| words.get(at).map(|word| (*word).to_owned());
    match *words.first()? {
        "held" => Some(Note::Held {
            hold: Hold {
                client: index(1)?,
                resource: index(2)?,
                owner: text(3)?,
                token: number(4)?,
                asked: number(5)?,
                acquired: number(6)?,
                valid_until: number(7)?,
                released: None,
            },
            fresh: number(8)? == 1,
        }),
        "freed" => Some(Note::Freed {
            resource: index(1)?,
            owner: text(2)?,
            token: number(3)?,
            at: number(4)?,
        }),
        "waited" => Some(Note::Waited(Waited {
            client: index(1)?,
            resource: index(2)?,
            asked: number(3)?,
            ended: number(4)?,
            won: number(5)? == 1,
            stood: (6..words.len())
                .step_by(3)
                .map(|at| {
                    Some(Stay {
                        node: index(at)?,
                        from: number(at + 1)?,
                        until: number(at + 2)?,
                    })
                })
                .collect::<Option<_>>()?,
        })),
        "missed" => Some(Note::Missed { why: text(1)? }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_read_again() {
        let path = std::env::temp_dir().join(format!("chaos-notes-{}", std::process::id()));
        let notes = [
            Note::Held {
                hold: Hold {
                    client: 1,
                    resource: 2,
                    owner: "o".into(),
                    token: 3,
                    asked: 4,
                    acquired: 5,
                    valid_until: 6,
                    released: None,
                },
                fresh: true,
            },
            Note::Freed {
                resource: 2,
                owner: "o".into(),
                token: 3,
                at: 7,
            },
            Note::Waited(Waited {
                client: 1,
                resource: 2,
                asked: 3,
                ended: 9,
                won: true,
                stood: [(0, 4), (3, 5)]
                    .map(|(node, from)| Stay {
                        node,
                        from,
                        until: 8,
                    })
                    .to_vec(),
            }),
            Note::Missed {
                why: "contended".into(),
            },
        ];
        let file = Notes::create(&path);
        for note in &notes {
            file.add(note);
        }
        let again = read(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(again, notes);
    }
}
