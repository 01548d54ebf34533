//! A server that speaks as much of Redis as our scripts need, and answers by the pure rules.
//!
//! The scripts themselves are held to these rules by the conformance suites on
//! real servers. Here the wire is what matters: requests come in as bytes, and
//! go on their way late, twice cut, or not at all.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everlock::clock::{Clock as _, WallTime};
use everlock::protocol::{
    Bar, Baseline, CallId, ClockStep, ClusterInfo, Command, Marker, MarkerCommand, Phase, Register,
    bar, millis_ceil,
};
use everlock::{FencingToken, OwnerId, Resource, Vote};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use turmoil::net::{TcpListener, TcpStream};

use super::wire_clock::WireClock;

pub(crate) const PORT: u16 = 6379;

/// Which script a server was taught under a hash.
#[derive(Clone, Copy, Debug)]
enum Script {
    Pass,
    Locks,
    Releases,
    Extend,
    Ping,
    Undo,
    Settle,
    Inspect,
    Marker,
}

/// Each script has a file of its own, or is the first of these that has its file.
const SCRIPTS: [(&str, Script); 9] = [
    (
        include_str!("../../src/node/scripts/next.lua"),
        Script::Pass,
    ),
    (
        include_str!("../../src/node/scripts/acquires.lua"),
        Script::Locks,
    ),
    (
        include_str!("../../src/node/scripts/releases.lua"),
        Script::Releases,
    ),
    (
        include_str!("../../src/node/scripts/extend.lua"),
        Script::Extend,
    ),
    (
        include_str!("../../src/node/scripts/ping.lua"),
        Script::Ping,
    ),
    (
        include_str!("../../src/node/scripts/undo.lua"),
        Script::Undo,
    ),
    (
        include_str!("../../src/node/scripts/settle.lua"),
        Script::Settle,
    ),
    (
        include_str!("../../src/node/scripts/inspect.lua"),
        Script::Inspect,
    ),
    (
        include_str!("../../src/node/scripts/marker.lua"),
        Script::Marker,
    ),
];

pub(crate) struct Server {
    pub(crate) name: String,
    clock: WireClock,
    /// Whether each write is on disk before it is answered.
    durable: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    register: Register,
    run: u64,
    started: WallTime,
    scripts: BTreeMap<String, Script>,
    /// What was asked and answered, for replays.
    log: Vec<String>,
}

impl Server {
    pub(crate) fn new(name: String, clock: WireClock, durable: bool) -> Arc<Self> {
        Arc::new(Self {
            name,
            clock,
            durable,
            state: Mutex::default(),
        })
    }

    /// A run of the server, until its host crashes.
    pub(crate) async fn run(self: Arc<Self>) -> turmoil::Result {
        {
            let mut state = self.state.lock().unwrap();
            state.run += 1;
            state.started = self.clock.wall();
            state.scripts.clear();
        }
        let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            let server = Arc::clone(&self);
            // A connection that breaks is the client's to notice.
            tokio::spawn(async move { server.serve(stream).await });
        }
    }

    /// Everything is gone, the marker too.
    pub(crate) fn forget(&self) {
        self.state.lock().unwrap().register = Register::default();
    }

    pub(crate) fn holder(&self, resource: &Resource, elapsed: Duration) -> Option<OwnerId> {
        let now = self.clock.wall_at(elapsed);
        self.state
            .lock()
            .unwrap()
            .register
            .holder(resource, now)
            .cloned()
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.state.lock().unwrap().log.clone()
    }

    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut unread = Vec::new();
        loop {
            let mut replies = String::new();
            while let Some((request, length)) = parse(&unread) {
                unread.drain(..length);
                replies += &self.reply(&request);
            }
            stream.write_all(replies.as_bytes()).await?;
            if stream.read_buf(&mut unread).await? == 0 {
                return Ok(());
            }
        }
    }

    fn reply(&self, request: &[String]) -> String {
        let now = self.clock.wall();
        let mut state = self.state.lock().unwrap();
        let words: Vec<_> = request.iter().map(String::as_str).collect();
        match &words[..] {
            ["CLIENT", ..] => "+OK\r\n".to_owned(),
            ["INFO"] => bulk(&self.info(&state, now)),
            ["CONFIG", "GET", directive] => {
                let value = match *directive {
                    "appendonly" if self.durable => "yes",
                    "appendfsync" if self.durable => "always",
                    _ => "no",
                };
                format!("*2\r\n{}{}", bulk(directive), bulk(value))
            }
            ["SCRIPT", "LOAD", code] => state.learn(code),
            ["EVALSHA", hash, keys, rest @ ..] => {
                let Some(script) = state.scripts.get(*hash).copied() else {
                    return "-NOSCRIPT No matching script.\r\n".to_owned();
                };
                let (keys, args) = rest.split_at(keys.parse().unwrap());
                let reply = state.eval(script, keys, args, now);
                let at = now.as_micros();
                state
                    .log
                    .push(format!("{at} {} {script:?} {args:?} {reply:?}", self.name));
                reply
            }
            other => format!("-ERR unknown command {other:?}\r\n"),
        }
    }

    fn info(&self, state: &State, now: WallTime) -> String {
        let uptime = now.saturating_since(state.started).as_secs();
        format!(
            "redis_version:7.0.15\r\nrun_id:{}-{}\r\nuptime_in_seconds:{uptime}\r\nrole:master\r\n\
             connected_slaves:0\r\ncluster_enabled:0\r\nmaxmemory_policy:noeviction\r\n",
            self.name, state.run
        )
    }
}

impl State {
    fn learn(&mut self, code: &str) -> String {
        let hash = redis::Script::new(code).get_hash().to_owned();
        // A turn in the line of waiters, which clients don't take yet, is an acquire with more words.
        let turn = code.contains(include_str!("../../src/node/scripts/stand.lua"));
        let mut scripts = SCRIPTS.iter().filter(|_| !turn);
        let known = scripts.find(|(file, _)| code.contains(file));
        let reply = bulk(&hash);
        // One that no client here calls is taught all the same.
        if let Some((_, script)) = known {
            self.scripts.insert(hash, *script);
        }
        reply
    }

    /// Reads a script's call as commands, and has the register do them.
    fn eval(&mut self, script: Script, keys: &[&str], args: &[&str], now: WallTime) -> String {
        let (run, commands) = match script {
            Script::Marker => return self.mark(args, now),
            Script::Pass => {
                let lock = &keys[2..];
                let released = locks(lock, &args[1..2]);
                (args[0], [released, locks(lock, &args[2..])].concat())
            }
            Script::Locks => (args[0], locks(&keys[2..], &args[1..])),
            Script::Releases => ("", locks(keys, args)),
            Script::Ping => (args[0], vec![Command::Ping]),
            Script::Extend => {
                let by = millis(args[2]);
                let (resource, owner) = (resource(keys[2]), owner(args[1]));
                (
                    args[0],
                    vec![Command::Extend {
                        resource,
                        owner,
                        by,
                    }],
                )
            }
            Script::Undo => {
                let (resource, owner, token) = (resource(keys[1]), owner(args[0]), token(args[1]));
                let call = call(args[3], args[4]);
                (
                    "",
                    vec![Command::Undo {
                        resource,
                        owner,
                        call,
                        token,
                        aloud: args.len() > 5,
                    }],
                )
            }
            Script::Settle => {
                let (resource, owner, token) = (resource(keys[1]), owner(args[0]), token(args[1]));
                (
                    "",
                    vec![Command::Settle {
                        resource,
                        owner,
                        token,
                    }],
                )
            }
            Script::Inspect => (
                "",
                vec![Command::Inspect {
                    resource: resource(keys[0]),
                }],
            ),
        };
        let clock = match script {
            Script::Releases => 0,
            _ => now.as_micros(),
        };
        let mut reply = format!("*{}\r\n:{clock}\r\n", 1 + commands.len());
        for command in &commands {
            let barred = bar(self.register.marker(), run, now);
            let vote = self.register.apply(now, run, command);
            reply += &answer(&vote, command, barred);
        }
        reply
    }

    fn mark(&mut self, args: &[&str], now: WallTime) -> String {
        let cluster = |at: usize| ClusterInfo {
            id: args[at].to_owned(),
            nodes: args[at + 1].parse().unwrap(),
            max_lease: millis(args[at + 2]),
        };
        let command = match args[1] {
            "prepare" => MarkerCommand::Prepare {
                nonce: args[2].to_owned(),
                durable: args[3] == "1",
                cluster: cluster(4),
                over: (!args[7].is_empty()).then(|| args[7].to_owned()),
            },
            "activate" => MarkerCommand::Activate {
                nonce: args[2].to_owned(),
            },
            "guard" => MarkerCommand::Guard {
                started: args[2].parse().ok().map(WallTime::from_micros),
                durable: args[3] == "1",
                cluster: cluster(4),
            },
            "clock" => MarkerCommand::Clock {
                era: WallTime::from_micros(args[2].parse().unwrap()),
                baseline: baseline(args[3]),
                step: match args[4].split_once(' ') {
                    Some((_, by)) => ClockStep::Jumped {
                        by: by.parse().unwrap(),
                    },
                    None if args[4] == "rebase" => ClockStep::Rebase,
                    None => ClockStep::Refresh,
                },
            },
            _ => MarkerCommand::Read,
        };
        let marker = self.register.mark(now, args[0], command);
        let fields = marker.as_ref().map_or_else(Vec::new, fields);
        let mut reply = format!("*2\r\n:{}\r\n*{}\r\n", now.as_micros(), fields.len());
        for field in fields {
            reply += &bulk(&field);
        }
        reply
    }
}

/// Several acquires, which have two arguments each, and after them releases, which have one.
fn locks(keys: &[&str], mut args: &[&str]) -> Vec<Command> {
    let mut acquires = args.len() - keys.len() / 2;
    let mut commands = Vec::new();
    for pair in keys.chunks_exact(2) {
        let resource = resource(pair[0]);
        let (command, rest) = match args {
            [lease, fence, rest @ ..] if acquires > 0 => {
                acquires -= 1;
                let (grant, share) = fence[17..].rsplit_once(' ').unwrap();
                let (first, owner) = grant_of(grant);
                let last = token(&fence[..16]);
                let (name, attempt) = share.split_once(':').unwrap();
                let command = Command::Acquire {
                    resource,
                    owner,
                    lease: millis(lease),
                    call: call(name, attempt),
                    token: first,
                    reserve: u32::try_from(last.as_u64() - first.as_u64()).unwrap(),
                };
                (command, rest)
            }
            [grant, rest @ ..] => {
                let (token, owner) = grant_of(grant.trim_start_matches('-'));
                (
                    Command::Release {
                        resource,
                        owner,
                        token,
                    },
                    rest,
                )
            }
            [] => panic!("{keys:?}"),
        };
        commands.push(command);
        args = rest;
    }
    assert!(args.is_empty(), "{args:?}");
    commands
}

/// A grant as fences have it: its token, its owner's length, and the owner.
fn grant_of(text: &str) -> (FencingToken, OwnerId) {
    let id = &text[21..];
    assert_eq!(text[17..20].parse(), Ok(id.len()), "{text}");
    (token(&text[..16]), owner(id))
}

fn answer(vote: &Vote, command: &Command, barred: Option<Bar>) -> String {
    let number = |token: &Option<FencingToken>| token.map_or(0, FencingToken::as_u64);
    // A lease that is relied on is rounded down, one that is waited for up.
    let left = |time: &Duration| u64::try_from(time.as_millis()).unwrap();
    match vote {
        Vote::Granted => ":1\r\n".to_owned(),
        Vote::Again { token, remaining } => words("again", &[token.as_u64(), left(remaining)]),
        Vote::Held { remaining, token } => {
            words("held", &[remaining.map_or(0, millis_ceil), number(token)])
        }
        Vote::Stale { floor } => words("stale", &[floor.as_u64()]),
        Vote::Ahead => words("ahead", &[]),
        Vote::Guarded { .. } => match barred {
            Some(Bar::Guarded(left)) => {
                words("guarded", &[u64::try_from(left.as_micros()).unwrap()])
            }
            Some(why) if why.wants_judgement() => words("unmarked", &[]),
            _ => words("prepared", &[]),
        },
        Vote::Extended { token, remaining } => words("extended", &[number(token), left(remaining)]),
        Vote::Released { token } => match command {
            Command::Release { token: asked, .. } if *token == Some(*asked) => ":1\r\n".to_owned(),
            _ => words("released", &[number(token)]),
        },
        Vote::Newer { token } => words("newer", &[token.as_u64()]),
        Vote::Absent => words("absent", &[]),
        Vote::Undone { deleted } => words("undone", &[u64::from(*deleted)]),
        Vote::Settled { deleted } => words("settled", &[u64::from(*deleted)]),
        Vote::Pong => words("pong", &[]),
        _ => "-ERR not asked here\r\n".to_owned(),
    }
}

fn words(word: &str, numbers: &[u64]) -> String {
    let mut text = format!("*{}\r\n{}", 1 + numbers.len(), bulk(word));
    for number in numbers {
        write!(text, ":{number}\r\n").unwrap();
    }
    text
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// A marker's fields and values in turn.
fn fields(marker: &Marker) -> Vec<String> {
    let (phase, nonce) = match &marker.phase {
        Phase::Prepared { nonce } => ("prepared", nonce.as_str()),
        Phase::Active => ("active", ""),
    };
    let micros = |time: WallTime| time.as_micros().to_string();
    let fields = [
        ("phase", phase.to_owned()),
        ("nonce", nonce.to_owned()),
        ("run", marker.run_id.clone()),
        ("cluster", marker.cluster.id.clone()),
        ("nodes", marker.cluster.nodes.to_string()),
        (
            "max_lease",
            millis_ceil(marker.cluster.max_lease).to_string(),
        ),
        ("voting_from", micros(marker.voting_from)),
        ("floor_base", micros(marker.floor_base)),
        ("high_water", micros(marker.high_water)),
        ("durable", u8::from(marker.durable).to_string()),
        ("clock_era", micros(marker.clock.era)),
        ("clock", clock(marker.clock.baseline)),
        ("clock_first", clock(marker.clock.first)),
    ];
    fields
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
}

/// The first request of what was read, and its length. Requests are arrays of texts.
fn parse(read: &[u8]) -> Option<(Vec<String>, usize)> {
    let mut at = 0;
    let count = header(read, &mut at, b'*')?;
    let mut words = Vec::new();
    for _ in 0..count {
        let length = header(read, &mut at, b'$')?;
        let word = read.get(at..at + length)?;
        read.get(at + length + 1)?;
        words.push(String::from_utf8(word.to_vec()).unwrap());
        at += length + 2;
    }
    Some((words, at))
}

/// The number on a line that begins with this sign.
fn header(read: &[u8], at: &mut usize, sign: u8) -> Option<usize> {
    let line = read.get(*at..)?;
    let end = line.iter().position(|byte| *byte == b'\n')?;
    assert_eq!(line[0], sign, "{:?}", String::from_utf8_lossy(line));
    *at += end + 1;
    std::str::from_utf8(&line[1..end])
        .unwrap()
        .trim_end()
        .parse()
        .ok()
}

/// A baseline as markers keep it: its offset, its width, and when it was noted.
fn baseline(text: &str) -> Baseline {
    let words: Vec<_> = text.split(' ').collect();
    Baseline {
        offset: words[0].parse().unwrap(),
        width: words[1].parse().unwrap(),
        at: WallTime::from_micros(words[2].parse().unwrap()),
    }
}

fn clock(baseline: Option<Baseline>) -> String {
    baseline.map_or_else(String::new, |Baseline { offset, width, at }| {
        format!("{offset} {width} {}", at.as_micros())
    })
}

fn resource(name: &str) -> Resource {
    Resource::new(name).unwrap()
}

fn owner(id: &str) -> OwnerId {
    OwnerId::new(id).unwrap()
}

fn token(digits: &str) -> FencingToken {
    FencingToken::new(digits.parse().unwrap())
}

fn millis(text: &str) -> Duration {
    Duration::from_millis(text.parse().unwrap())
}

fn call(name: &str, attempt: &str) -> CallId {
    CallId::new(u64::from_str_radix(name, 16).unwrap()).at_attempt(attempt.parse().unwrap())
}
