//! The practical limit of a client: all commands that wait for a node go out in
//! one write, on one connection a node, and nothing else is done.
//!
//! No timeouts, no reconnects, no undo: for comparison only. With `fenced` each
//! acquire also counts a token up, in a script of its own.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everlock_testkit::RedisCluster;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

use crate::LEASE;

const DELETE: &str =
    "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) end return 0";
const FENCED: &str = "if redis.call('set',KEYS[1],ARGV[1],'NX','PX',ARGV[2]) then return redis.call('incr',KEYS[2]) end return false";

/// A pipelining client without anything around it.
#[derive(Clone)]
pub struct Raw {
    nodes: Arc<[Arc<Link>]>,
    delete: Arc<str>,
    fenced: Option<Arc<str>>,
}

/// How many nodes said yes or no.
#[derive(Default)]
struct Votes {
    yes: AtomicUsize,
    no: AtomicUsize,
    told: Notify,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    votes: VecDeque<Arc<Votes>>,
}

#[derive(Default)]
struct Link {
    waiting: Mutex<Waiting>,
    more: Notify,
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Raw {
    /// Connects to these nodes.
    ///
    /// # Panics
    ///
    /// When one of them does not answer.
    pub async fn connect(nodes: &RedisCluster, fenced: bool) -> Self {
        let mut links = Vec::new();
        let mut hashes = Vec::new();
        for node in nodes.servers() {
            let stream = TcpStream::connect(node.addr()).await;
            let stream = stream.expect("a node that runs accepts");
            stream.set_nodelay(true).expect("TCP has the option");
            let (read, mut write) = stream.into_split();
            let mut read = BufReader::new(read);
            hashes.clear();
            for script in [DELETE, FENCED] {
                let load = command(&["SCRIPT", "LOAD", script]);
                write.write_all(&load).await.expect("a node reads");
                let hash = reply(&mut read).await.expect("a node answers");
                hashes.push(Arc::<str>::from(hash.expect("a script has a hash")));
            }
            let link = Arc::new(Link::default());
            tokio::spawn(send(Arc::clone(&link), write));
            tokio::spawn(receive(Arc::clone(&link), read));
            links.push(link);
        }
        Self {
            nodes: links.into(),
            delete: Arc::clone(&hashes[0]),
            fenced: fenced.then(|| Arc::clone(&hashes[1])),
        }
    }

    /// Whether it counts tokens.
    #[must_use]
    pub const fn is_fenced(&self) -> bool {
        self.fenced.is_some()
    }

    /// Whether a quorum set the key.
    pub async fn acquire(&self, key: &str, owner: &str) -> bool {
        let lease = LEASE.as_millis().to_string();
        let command = match &self.fenced {
            None => command(&["SET", key, owner, "NX", "PX", &lease]),
            Some(script) => {
                let fence = format!("fence:{key}");
                command(&["EVALSHA", script, "2", key, &fence, owner, &lease])
            }
        };
        self.ask(&command).await
    }

    /// Whether a quorum deleted it.
    pub async fn release(&self, key: &str, owner: &str) -> bool {
        self.ask(&command(&["EVALSHA", &self.delete, "1", key, owner]))
            .await
    }

    async fn ask(&self, command: &[u8]) -> bool {
        let votes = Arc::new(Votes::default());
        for link in self.nodes.iter() {
            let mut waiting = link.lock();
            waiting.bytes.extend_from_slice(command);
            waiting.votes.push_back(Arc::clone(&votes));
            drop(waiting);
            link.more.notify_one();
        }
        let quorum = self.nodes.len() / 2 + 1;
        loop {
            let told = votes.told.notified();
            if votes.yes.load(Ordering::Acquire) >= quorum {
                return true;
            }
            if votes.no.load(Ordering::Acquire) > self.nodes.len() - quorum {
                return false;
            }
            told.await;
        }
    }
}

fn command(arguments: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend_from_slice(format!("${}\r\n{argument}\r\n", argument.len()).as_bytes());
    }
    bytes
}

/// Writes all that waits, again and again.
async fn send(link: Arc<Link>, mut stream: OwnedWriteHalf) {
    loop {
        link.more.notified().await;
        // Whoever is about to ask does so first.
        tokio::task::yield_now().await;
        let bytes = std::mem::take(&mut link.lock().bytes);
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn receive(link: Arc<Link>, mut stream: BufReader<OwnedReadHalf>) {
    while let Ok(answer) = reply(&mut stream).await {
        let Some(votes) = link.lock().votes.pop_front() else {
            return;
        };
        let count = if answer.is_some_and(|said| said != "0") {
            &votes.yes
        } else {
            &votes.no
        };
        count.fetch_add(1, Ordering::Release);
        votes.told.notify_one();
    }
}

/// A simple reply: its text, `None` for nil and for an error.
async fn reply(stream: &mut BufReader<OwnedReadHalf>) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let text = line.get(1..).unwrap_or_default().trim_end();
    match line.as_bytes().first() {
        Some(b'+' | b':') => Ok(Some(text.to_owned())),
        Some(b'$') if text != "-1" => {
            let length = text.parse().map_err(std::io::Error::other)?;
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await?;
            stream.read_exact(&mut [0; 2]).await?;
            Ok(Some(String::from_utf8_lossy(&body).into_owned()))
        }
        _ => Ok(None),
    }
}
