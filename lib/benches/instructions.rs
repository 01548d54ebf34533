//! How many instructions the decisions, the client and a node execute for an operation,
//! counted by valgrind: a guard that no noise of the machine disturbs.
//!
//!     cargo bench -p everlock --features test-util --profile sim --bench instructions
//!
//! Each case is run twice under callgrind, once with more operations than the other
//! time; the difference is the operations' alone. What was seen when it was last looked
//! at is written down below, and whoever makes it a tenth dearer is told so. Counts are of
//! one compiler, its options and one Redis server: where the server is another one, what
//! it executes is printed and not judged.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "what is counted is printed, and what can't be counted fails"
)]

use std::hint::black_box;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use everlock::clock::{Clock, Moment, WallTime};
use everlock::protocol::{
    self, Attempt, CallId, ClusterInfo, Counts, Drift, MarkerCommand, Register, Step, Terms,
};
use everlock::{AcquireOptions, FencingToken, OwnerId, Redlock, Reply, Resource, Vote};
use everlock_testkit::{RedisCluster, RedisServer, TempDir};

/// Dearer by so many percent fails.
const TOLERANCE: i64 = 10;
/// The servers that the nodes' counts were taken of.
const REDIS: &str = "v=7.0.";

/// What is counted, how often it is done at first and how often then, and what it cost
/// when it was last looked at.
struct Case {
    name: &'static str,
    runs: [u64; 2],
    cost: i64,
    of: Of,
}

/// Whose instructions.
enum Of {
    /// Those of this program, which does it so often.
    This(fn(u64)),
    /// Those of a node, which a client asks for so many locks at once.
    Node(u64),
    /// Those of a node whose one lock goes round among some tasks.
    Passing,
}

const LEASE: Duration = Duration::from_secs(10);

fn cases() -> Vec<Case> {
    let case = |name, runs, cost, of| Case {
        name,
        runs,
        cost,
        of,
    };
    vec![
        case(
            "attempt won by 3 of 5",
            [1_000, 11_000],
            2_854,
            Of::This(attempts),
        ),
        case(
            "release settled by 3 of 5",
            [1_000, 11_000],
            913,
            Of::This(settled),
        ),
        case(
            "a node's rules, a lock and its release",
            [1_000, 11_000],
            4_489,
            Of::This(rules),
        ),
        case(
            "client and five nodes in memory, a cycle",
            [200, 1_200],
            48_668,
            Of::This(memory),
        ),
        case(
            "client over five servers, a cycle",
            [200, 700],
            312_144,
            Of::This(one_client),
        ),
        case(
            "client over five servers, one of 16 cycles at once",
            [640, 2_240],
            105_858,
            Of::This(many),
        ),
        case("a server, a cycle", [200, 700], 152_835, Of::Node(1)),
        case(
            "a server, one of 16 cycles at once",
            [960, 2_560],
            72_933,
            Of::Node(16),
        ),
        case(
            "a server, a lock that is passed on",
            [200, 1_200],
            117_392,
            Of::Passing,
        ),
    ]
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [_, "do", index, times] => {
            let case = &cases()[index.parse::<usize>().unwrap()];
            let times = times.parse().unwrap();
            match case.of {
                Of::This(run) => run(times),
                Of::Node(width) => ask_one_node(times, width, width),
                Of::Passing => ask_one_node(times, 4, 1),
            }
            ExitCode::SUCCESS
        }
        _ => count_all(),
    }
}

fn count_all() -> ExitCode {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: valgrind is not installed");
        return ExitCode::SUCCESS;
    }
    let version = Command::new("redis-server").arg("--version").output();
    let version = String::from_utf8(version.unwrap().stdout).unwrap();
    let mut outcome = ExitCode::SUCCESS;
    for (index, case) in cases().iter().enumerate() {
        let [few, many] = case.runs.map(|times| count(index, case, times));
        let [first, second] = case.runs.map(i64::try_from).map(Result::unwrap);
        let cost = (many - few) / (second - first);
        let judged = matches!(case.of, Of::This(_)) || version.contains(REDIS);
        let percent = (cost - case.cost) * 100 / case.cost;
        let verdict = match percent {
            _ if !judged => "not judged: another server",
            _ if percent > TOLERANCE => {
                outcome = ExitCode::FAILURE;
                "DEARER than it was: make it cheaper, or say why and write it down"
            }
            _ if percent < -TOLERANCE => "cheaper than it was: write it down",
            _ => "ok",
        };
        println!("{:52} {cost:>9} ({percent:+} %) {verdict}", case.name);
    }
    outcome
}

/// The instructions of a whole run with so many operations.
fn count(index: usize, case: &Case, times: u64) -> i64 {
    let dir = TempDir::new("instructions");
    let log = dir.path().join("callgrind.log");
    let valgrind = [
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        &format!("--log-file={}", log.display()),
    ];
    let this = std::env::current_exe().unwrap();
    let mut command = match case.of {
        Of::This(_) => {
            let mut command = Command::new(valgrind[0]);
            command.args(&valgrind[1..]).arg(this);
            command
        }
        Of::Node(_) | Of::Passing => {
            let server = dir.path().join("redis-server");
            write_wrapper(&server, &valgrind);
            let mut command = Command::new(this);
            command.env("TESTKIT_REDIS_SERVER", server);
            command
        }
    };
    command.args(["do", &index.to_string(), &times.to_string()]);
    let status = command.stdout(Stdio::null()).status().unwrap();
    let log = std::fs::read_to_string(&log).unwrap_or_default();
    assert!(status.success(), "{}: {status}\n{log}", case.name);
    let collected = log.rsplit_once("Collected : ").map(|(_, rest)| rest);
    let number = collected.and_then(|rest| rest.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{}: callgrind says\n{log}", case.name))
}

/// A server that is counted, but for its version's sake.
fn write_wrapper(path: &Path, valgrind: &[&str]) {
    let text = format!(
        "#!/bin/sh\n\
         [ \"$1\" = --version ] && exec redis-server --version\n\
         exec {} redis-server \"$@\"\n",
        valgrind.join(" ")
    );
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn attempts(times: u64) {
    let started = Moment::from_origin(Duration::from_secs(1));
    for _ in 0..times {
        let mut attempt = Attempt::new(Terms {
            nodes: 5,
            lease: LEASE,
            started,
            token: FencingToken::new(7),
            drift: Drift::default(),
            max_lease: Duration::from_mins(5),
            min_validity: Duration::ZERO,
        });
        let reply = Reply::at(WallTime::from_micros(7), Vote::Granted);
        let mut step = Step::Wait;
        for node in 0..3 {
            step = attempt.reply(node, black_box(reply.clone()), started);
        }
        assert!(matches!(black_box(step), Step::Won(_)));
    }
}

fn settled(times: u64) {
    let votes = [
        Some(Vote::Released { token: None }),
        None,
        Some(Vote::Released { token: None }),
        None,
        Some(Vote::Released { token: None }),
    ];
    for _ in 0..times {
        black_box(Counts::of(black_box(&votes).iter().map(Option::as_ref)).release());
    }
}

fn rules(times: u64) {
    let now = WallTime::from_micros(1_800_000_000_000_000);
    let mut register = Register::default();
    let cluster = ClusterInfo {
        id: "cluster".to_owned(),
        nodes: 5,
        max_lease: Duration::from_mins(5),
    };
    let nonce = "nonce".to_owned();
    let prepare = MarkerCommand::Prepare {
        cluster,
        nonce: nonce.clone(),
        over: None,
        durable: false,
    };
    register.mark(now, "run", prepare);
    register.mark(now, "run", MarkerCommand::Activate { nonce });
    let resource = Resource::new("invoices").unwrap();
    let owner = OwnerId::new("owner").unwrap();
    for time in 1..=times {
        let token = FencingToken::new(now.as_micros() + time);
        let acquire = protocol::Command::Acquire {
            resource: resource.clone(),
            owner: owner.clone(),
            lease: LEASE,
            call: CallId::new(time),
            token,
            reserve: 0,
        };
        assert_eq!(register.apply(now, "run", &acquire), Vote::Granted);
        let release = protocol::Command::Release {
            resource: resource.clone(),
            owner: owner.clone(),
            token,
        };
        black_box(register.apply(now, "run", &release));
    }
}

/// The standard library's clocks: the library's own reads one that valgrind can't show it.
#[derive(Debug)]
struct StdClock(Instant);

impl StdClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "it stands in for the system's clock"
    )]
    fn starting_now() -> Self {
        Self(Instant::now())
    }
}

impl Clock for StdClock {
    fn now(&self) -> Moment {
        Moment::from_origin(Duration::from_secs(1) + self.0.elapsed())
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "it stands in for the system's clock"
    )]
    fn wall(&self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        WallTime::from_micros(since.as_micros().try_into().unwrap())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn memory(times: u64) {
    let redlock = Redlock::builder()
        .memory_nodes(5)
        .clock(Arc::new(StdClock::starting_now()))
        .connect()
        .await
        .unwrap();
    cycles(&redlock, times, 1, 1).await;
}

#[tokio::main(flavor = "current_thread")]
async fn one_client(times: u64) {
    let nodes = RedisCluster::start(5);
    cycles(&over(nodes.urls()).await, times, 1, 1).await;
}

#[tokio::main(flavor = "current_thread")]
async fn many(times: u64) {
    let nodes = RedisCluster::start(5);
    cycles(&over(nodes.urls()).await, times, 16, 16).await;
}

/// The node ends by itself, so that what was collected is written.
#[tokio::main(flavor = "current_thread")]
async fn ask_one_node(times: u64, width: u64, locks: u64) {
    let node = RedisServer::builder().config("hz", "1").start();
    cycles(&over([node.url()]).await, times, width, locks).await;
    let _ = node.try_command(&[b"SHUTDOWN", b"NOSAVE"]);
    while node.try_command(&[b"PING"]).is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Under valgrind all takes fifty times as long.
async fn over(urls: impl IntoIterator<Item = String>) -> Redlock {
    Redlock::builder()
        .node_urls(urls)
        .clock(Arc::new(StdClock::starting_now()))
        .node_timeout(Duration::from_secs(4))
        .initialise(None)
        .connect()
        .await
        .unwrap()
}

/// So many locks are taken and released by some tasks at once.
async fn cycles(redlock: &Redlock, times: u64, width: u64, locks: u64) {
    let options = AcquireOptions::new().lease(LEASE).retries(100);
    let options = options.delay(Duration::from_mins(1));
    let tasks: Vec<_> = (0..width)
        .map(|task| {
            let (redlock, options) = (redlock.clone(), options.clone());
            tokio::spawn(async move {
                let resource = format!("invoices:{}", task % locks);
                for _ in 0..times / width {
                    let grant = redlock.acquire(resource.as_str(), options.clone());
                    let grant = grant.await.unwrap();
                    redlock.release(&grant).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}
