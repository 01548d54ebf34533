//! A client process: workers that take locks, use the registers, and sometimes dawdle, go away or
//! change their mind.

mod http;
mod library;
mod places;

#[cfg(test)]
pub(crate) use http::Http;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use everlock_testkit::history::Hold;
use futures_util::future::join_all;
use tokio::time::sleep;

use crate::dice::Dice;
use crate::record::{Note, Notes, Stay, Waited};
use crate::{now, register};

/// Workers in one process: what stops it stops them all, as it does threads of an application.
const WORKERS: usize = 3;

/// Which key is asked for how often. All requests for the first one stand in line, and half of
/// those for the second.
const KEY_CHOICES: [usize; 6] = [0, 0, 0, 1, 2, 3];

/// Who gives up leaves the line some time before it knows that it did.
const LEFT_BEFORE: u64 = 100_000;

/// The longest pause within a critical section: more than two leases.
const LONGEST_PAUSE: u64 = 5_000;

#[derive(Args, Clone, Debug)]
pub(crate) struct Config {
    /// How it reaches the locks
    #[arg(long)]
    way: Way,
    /// Its number, which no other client of the run has
    #[arg(long)]
    id: usize,
    #[arg(long)]
    seed: u64,
    /// Where its notes go
    #[arg(long)]
    notes: PathBuf,
    /// The registers' address
    #[arg(long)]
    register: SocketAddr,
    /// The nodes' URLs, or the proxies' addresses
    #[arg(long = "to")]
    to: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    Library,
    Http,
}

/// What a client was told: its token, and until when it may rely on the lock.
pub(crate) struct Told {
    pub(crate) token: u64,
    pub(crate) valid_until: u64,
}

/// Why there is no lock, in one word.
pub(crate) type Miss = &'static str;

/// What a worker asks for.
pub(crate) struct Ask<'a> {
    worker: usize,
    key: usize,
    owner: &'a str,
    retries: u32,
    /// Whether it stands in line.
    in_turn: bool,
}

/// A way to the locks.
pub(crate) trait Locks {
    type Grant;

    async fn acquire(&self, ask: &Ask<'_>) -> Result<(Self::Grant, Told), Miss>;

    /// The worker is about to ask from a place in line.
    fn asks(&self, _worker: usize, _at: u64) {}

    /// Where it is known to have stood since.
    fn stood(&self, _worker: usize) -> Vec<Stay> {
        Vec::new()
    }

    /// Until when the lock may be relied on after an extension by one lease.
    async fn extend(&self, grant: &Self::Grant) -> Option<u64>;

    async fn release(&self, grant: Self::Grant);

    /// Up to which token a release lets the owner's grants go.
    fn released_up_to(grant: &Self::Grant) -> u64;
}

pub(crate) async fn run(config: Config) -> ExitCode {
    crate::world::end_with_parent();
    let notes = Notes::create(&config.notes);
    let ended = match config.way {
        Way::Library => {
            work(
                &config,
                &notes,
                &library::Library::connect(&config.to).await,
            )
            .await
        }
        Way::Http => work(&config, &notes, &http::Http::new(&config)).await,
    };
    // The registers went away: the run is over.
    ended.map_or(ExitCode::SUCCESS, |()| ExitCode::FAILURE)
}

async fn work(config: &Config, notes: &Notes, locks: &impl Locks) -> io::Result<()> {
    let workers = (0..WORKERS).map(async |number| -> io::Result<()> {
        let mut worker = Worker {
            config,
            notes,
            locks,
            dice: Dice::new(config.seed.wrapping_mul(WORKERS as u64) + number as u64),
            number,
            sections: 0,
            registers: register::Client::connect(config.register).await?,
        };
        loop {
            worker.section().await?;
        }
    });
    let ended: io::Result<Vec<()>> = join_all(workers).await.into_iter().collect();
    ended.map(drop)
}

struct Worker<'a, L> {
    config: &'a Config,
    notes: &'a Notes,
    locks: &'a L,
    dice: Dice,
    number: usize,
    sections: u64,
    registers: register::Client,
}

impl<L: Locks> Worker<'_, L> {
    /// One critical section, or a vain attempt at one.
    async fn section(&mut self) -> io::Result<()> {
        self.sections += 1;
        let key = KEY_CHOICES[self.dice.index(KEY_CHOICES.len())];
        let owner = format!("{}-{}-{}", self.config.id, self.number, self.sections);
        let in_turn = key == 0 || key == 1 && self.dice.one_in(2);
        let retries = self.dice.below(if in_turn { 40 } else { 8 });
        let ask = Ask {
            worker: self.number,
            key,
            owner: &owner,
            retries: u32::try_from(retries).unwrap(),
            in_turn,
        };
        let asked = now();
        let acquired = self.acquire(&ask, asked).await;
        let (grant, told) = match acquired {
            Ok(won) => won,
            Err(why) => {
                let why = why.to_owned();
                self.notes.add(&Note::Missed { why });
                sleep(self.dice.millis(5, 60)).await;
                return Ok(());
            }
        };
        let token = told.token;
        self.held(key, &owner, asked, &told, true);

        let seen = self.registers.read(key, token).await?;
        let pause = if self.dice.one_in(150) {
            LONGEST_PAUSE
        } else {
            5
        };
        sleep(self.dice.millis(0, pause)).await;
        if self.dice.one_in(8) {
            self.extend(key, &owner, token, &grant).await;
        }
        if self.dice.one_in(20) {
            self.ask_again(&ask).await;
        }
        self.registers.write(key, token, seen).await?;
        if self.dice.one_in(150) {
            // Goes away without a word: the lease ends by itself.
            return Ok(());
        }
        self.notes.add(&Note::Freed {
            resource: key,
            owner: owner.clone(),
            token: L::released_up_to(&grant),
            at: now(),
        });
        self.locks.release(grant).await;
        sleep(self.dice.millis(0, 20)).await;
        Ok(())
    }

    /// Asks, and now and then changes its mind. Notes what became of a place in line.
    async fn acquire(&self, ask: &Ask<'_>, asked: u64) -> Result<(L::Grant, Told), Miss> {
        if ask.in_turn {
            self.locks.asks(ask.worker, asked);
        }
        let (acquired, ended) = {
            let mut acquiring = pin!(self.locks.acquire(ask));
            let mind = async {
                if self.dice.one_in(25) {
                    sleep(self.dice.millis(0, 15)).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            let acquired = tokio::select! {
                biased;
                acquired = acquiring.as_mut() => acquired,
                () = mind => Err("dropped"),
            };
            // Who changed its mind is in line until here.
            (acquired, now())
        };
        if ask.in_turn {
            let won = acquired.is_ok();
            let left = if won { 0 } else { LEFT_BEFORE };
            self.notes.add(&Note::Waited(Waited {
                client: self.config.id,
                resource: ask.key,
                asked,
                ended: ended - left,
                won,
                stood: self.locks.stood(ask.worker),
            }));
        }
        acquired
    }

    async fn extend(&self, key: usize, owner: &str, token: u64, grant: &L::Grant) {
        let asked = now();
        if let Some(valid_until) = self.locks.extend(grant).await {
            let told = Told { token, valid_until };
            self.held(key, owner, asked, &told, false);
        }
    }

    /// As after a lost answer: the same lock, if it is still held.
    async fn ask_again(&self, ask: &Ask<'_>) {
        let asked = now();
        let again = Ask { retries: 0, ..*ask };
        if let Ok((_, told)) = self.locks.acquire(&again).await {
            self.held(ask.key, ask.owner, asked, &told, false);
        }
    }

    fn held(&self, resource: usize, owner: &str, asked: u64, told: &Told, fresh: bool) {
        let hold = Hold {
            client: self.config.id,
            resource,
            owner: owner.to_owned(),
            token: told.token,
            asked,
            acquired: now(),
            valid_until: told.valid_until,
            released: None,
        };
        self.notes.add(&Note::Held { hold, fresh });
    }
}

/// The waits between retries: so short that releases are noticed, in both ways.
const DELAY: Duration = Duration::from_millis(40);
const JITTER: Duration = Duration::from_millis(20);
