//! What the locks protect: two registers a key, each a set that clients read, add to and write
//! back whole. One refuses whoever comes with a token below the highest it has seen, the other
//! takes what it is given.
//!
//! A version of the set is a number; it knows the version that its writer had read. So a write
//! costs the same however large the set, and an update is lost if the last version does not
//! descend from it.
//!
//! The fenced register looks at the token when it is read, too. Without that, an old holder could
//! write after a new one has read, and the new one would undo it without knowing.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// A set with all its versions; version 0 is empty.
#[derive(Debug, Default)]
struct Set {
    /// For each version from 1 the one it was made from, and the update, by its token.
    versions: Vec<(usize, u64)>,
    present: usize,
}

impl Set {
    fn write(&mut self, from: usize, update: u64) {
        self.versions.push((from, update));
        self.present = self.versions.len();
    }

    /// The updates that were accepted and are not in the present version.
    fn lost(&self) -> Vec<u64> {
        let mut kept = BTreeSet::new();
        let mut version = self.present;
        while version > 0 {
            kept.insert(version);
            version = self.versions[version - 1].0;
        }
        let all = self.versions.iter().zip(1..);
        all.filter(|(_, version)| !kept.contains(version))
            .map(|((_, update), _)| *update)
            .collect()
    }
}

#[derive(Debug, Default)]
struct Registers {
    highest: u64,
    fenced: Set,
    unfenced: Set,
    refused: u64,
}

impl Registers {
    fn read(&mut self, token: u64) -> Seen {
        let fenced = (token >= self.highest).then_some(self.fenced.present);
        self.highest = self.highest.max(token);
        self.refused += u64::from(fenced.is_none());
        Seen {
            fenced,
            unfenced: self.unfenced.present,
        }
    }

    fn write(&mut self, token: u64, seen: Seen) {
        self.unfenced.write(seen.unfenced, token);
        let Some(fenced) = seen.fenced else {
            return;
        };
        if token < self.highest {
            self.refused += 1;
        } else {
            self.fenced.write(fenced, token);
        }
    }
}

/// The versions that a client has read; no fenced one if its token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    fenced: Option<usize>,
    unfenced: usize,
}

/// What became of the updates of one kind of register.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) accepted: usize,
    /// The tokens of the updates that are lost.
    pub(crate) lost: Vec<u64>,
}

/// The tallies over all keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tallies {
    pub(crate) fenced: Tally,
    pub(crate) unfenced: Tally,
    /// How often a token was too low.
    pub(crate) refused: u64,
}

/// The service, in the process of the run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Service(Arc<Mutex<BTreeMap<usize, Registers>>>);

impl Service {
    /// Serves on a loopback port until the runtime ends.
    pub(crate) async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let service = self.clone();
        tokio::spawn(async move {
            loop {
                if let Ok((client, _)) = listener.accept().await {
                    let service = service.clone();
                    // A client that was killed in the middle of a line is of no interest.
                    tokio::spawn(async move { service.serve(client).await });
                }
            }
        });
        addr
    }

    async fn serve(&self, client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let (read, mut write) = client.into_split();
        let mut lines = BufReader::new(read).lines();
        while let Some(line) = lines.next_line().await? {
            let answer = self.answer(&line).unwrap_or_else(|| panic!("{line:?}"));
            write.write_all(answer.as_bytes()).await?;
        }
        Ok(())
    }

    fn answer(&self, line: &str) -> Option<String> {
        let mut words = line.split(' ');
        let verb = words.next()?;
        let key = words.next()?.parse().ok()?;
        let token = words.next()?.parse().ok()?;
        let mut keys = self.0.lock().unwrap();
        let registers = keys.entry(key).or_default();
        match verb {
            "read" => Some(registers.read(token).line()),
            "write" => {
                registers.write(token, Seen::parse(&mut words)?);
                Some("ok\n".to_owned())
            }
            _ => None,
        }
    }

    pub(crate) fn tallies(&self) -> Tallies {
        let mut all = Tallies::default();
        for registers in self.0.lock().unwrap().values() {
            all.refused += registers.refused;
            for (tally, set) in [
                (&mut all.fenced, &registers.fenced),
                (&mut all.unfenced, &registers.unfenced),
            ] {
                tally.accepted += set.versions.len();
                tally.lost.extend(set.lost());
            }
        }
        all
    }
}

impl Seen {
    fn line(self) -> String {
        let fenced = self
            .fenced
            .map_or("-".to_owned(), |fenced| fenced.to_string());
        format!("{fenced} {}\n", self.unfenced)
    }

    fn parse<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Self> {
        let fenced = match words.next()? {
            "-" => None,
            number => Some(number.parse().ok()?),
        };
        let unfenced = words.next()?.parse().ok()?;
        Some(Self { fenced, unfenced })
    }
}

/// A worker's connection.
#[derive(Debug)]
pub(crate) struct Client {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl Client {
    pub(crate) async fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        let lines = BufReader::new(read).lines();
        Ok(Self { lines, write })
    }

    pub(crate) async fn read(&mut self, key: usize, token: u64) -> io::Result<Seen> {
        let line = self.ask(format!("read {key} {token}\n")).await?;
        Seen::parse(&mut line.split(' ')).ok_or(io::ErrorKind::InvalidData.into())
    }

    /// Adds this token's update to the versions that were read.
    pub(crate) async fn write(&mut self, key: usize, token: u64, seen: Seen) -> io::Result<()> {
        self.ask(format!("write {key} {token} {}", seen.line()))
            .await
            .map(drop)
    }

    async fn ask(&mut self, line: String) -> io::Result<String> {
        self.write.write_all(line.as_bytes()).await?;
        let answer = self.lines.next_line().await?;
        answer.ok_or(io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(registers: &Registers) -> (Vec<u64>, Vec<u64>) {
        (registers.fenced.lost(), registers.unfenced.lost())
    }

    #[test]
    fn writers_in_turn_lose_nothing() {
        let mut registers = Registers::default();
        for token in 1..=3 {
            let seen = registers.read(token);
            registers.write(token, seen);
        }
        assert_eq!(lost(&registers), (vec![], vec![]));
        assert_eq!(registers.fenced.versions.len(), 3);
    }

    #[test]
    fn two_who_write_what_they_read_at_once_lose_one_update_where_nobody_looks_at_tokens() {
        // The older one writes first, or last.
        for older_first in [true, false] {
            let mut registers = Registers::default();
            let (old, new) = (registers.read(1), registers.read(2));
            if older_first {
                registers.write(1, old);
                registers.write(2, new);
            } else {
                registers.write(2, new);
                registers.write(1, old);
            }
            let overwritten = if older_first { 1 } else { 2 };
            assert_eq!(lost(&registers), (vec![], vec![overwritten]));
            assert_eq!(registers.refused, 1);
        }
    }

    #[test]
    fn one_token_for_two_loses_an_update_even_where_tokens_are_looked_at() {
        let mut registers = Registers::default();
        let (one, other) = (registers.read(1), registers.read(1));
        registers.write(1, one);
        registers.write(1, other);
        assert_eq!(lost(&registers), (vec![1], vec![1]));
    }

    #[test]
    fn versions_travel_as_text() {
        for fenced in [None, Some(7)] {
            let seen = Seen {
                fenced,
                unfenced: 9,
            };
            let line = seen.line();
            assert_eq!(Seen::parse(&mut line.trim_end().split(' ')), Some(seen));
        }
    }
}
