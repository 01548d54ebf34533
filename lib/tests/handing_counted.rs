//! Hazard: a lock that two processes hold at once, or under tokens that fall, since one
//! of them hands it on inside.
//!
//! Processes that share nothing but real servers run short sections under one lock, while
//! servers stop for a moment and a process is killed. Judged is the history of all of
//! their sections; each counts as another owner.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what a test can't go on without fails it; children tell by what they print"
)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everlock::clock::{Clock as _, SystemClock};
use everlock::{AcquireOptions, Held, Redlock};
use everlock_testkit::RedisCluster;
use everlock_testkit::history::{Hold, judge};

const TASKS: usize = 8;
/// Tells a child which nodes there are.
const NODES_OF: &str = "EVERLOCK_HANDING_NODES";
const NAME: &str = "sections_of_two_processes_never_overlap_and_tokens_rise";
/// A killed holder holds the lock up for so long.
const LEASE: Duration = Duration::from_secs(3);
/// Sections of each process, and so many that were handed on.
const SECTIONS: usize = 300;
/// A machine that does nothing for so long fails the test, in microseconds.
const AT_LAST: u64 = 120_000_000;

/// Microseconds of a clock that all processes share.
fn now() -> u64 {
    micros(SystemClock.now())
}

fn micros(moment: everlock::clock::Moment) -> u64 {
    u64::try_from(moment.since_origin().as_micros()).unwrap()
}

/// A child: runs sections until its parent is gone.
#[tokio::main]
async fn run_sections(nodes: &str) {
    let client = Redlock::builder().node_urls(nodes.split(',')).connect();
    let client = client.await.unwrap();
    for task in 0..TASKS {
        tokio::spawn(run_for_ever(client.clone(), task));
    }
    let ended = || std::io::stdin().read_to_end(&mut Vec::new());
    // The parent holds the other end.
    let _ = tokio::task::spawn_blocking(ended).await;
    std::process::exit(0);
}

async fn run_for_ever(client: Redlock, task: usize) {
    let options = AcquireOptions::new()
        .lease(LEASE)
        .retries(1_000)
        .delay(Duration::from_millis(500));
    for round in 0_u64.. {
        let asked = now();
        let work = async |held: Held| {
            let (began, token) = (now(), held.token());
            let valid_until = micros(held.valid_until());
            let handed_on = u8::from(held.attempts() == 0);
            if (round + task as u64).is_multiple_of(4) {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            let end = now();
            println!("held {asked} {began} {valid_until} {end} {token} {handed_on}");
        };
        // What is not acquired is asked for again; what is not released ends by itself.
        let _ = client.with_lock("crowd", options.clone(), work).await;
    }
}

/// What a child tells of one section, and whether it was handed on.
fn hold(client: usize, line: &str) -> Option<(Hold, bool)> {
    let words: Vec<_> = line.split(' ').collect();
    let ["held", asked, began, valid_until, end, token, handed_on] = words[..] else {
        return None;
    };
    let number = |word: &str| word.parse::<u64>().unwrap();
    let hold = Hold {
        client,
        resource: 0,
        owner: format!("{client} since {began} under {token}"),
        token: number(token),
        asked: number(asked),
        acquired: number(began),
        valid_until: number(valid_until),
        released: Some(number(end)),
    };
    Some((hold, handed_on == "1"))
}

/// What all processes have told.
#[derive(Default)]
struct Told {
    holds: Vec<Hold>,
    handed_on: usize,
    of_client: [usize; 3],
}

/// A process that runs sections.
struct Running {
    child: Child,
    /// It ends when this does.
    _alive: ChildStdin,
}

impl Running {
    fn start(number: usize, nodes: &str, told: &Arc<Mutex<Told>>) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(NODES_OF, nodes)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = Arc::clone(told);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((hold, handed_on)) = hold(number, &line) {
                    let mut told = told.lock().unwrap();
                    told.holds.push(hold);
                    told.handed_on += usize::from(handed_on);
                    told.of_client[number] += 1;
                }
            }
        });
        let alive = child.stdin.take().unwrap();
        Self {
            child,
            _alive: alive,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn sections_of_two_processes_never_overlap_and_tokens_rise() {
    if let Ok(nodes) = std::env::var(NODES_OF) {
        return run_sections(&nodes);
    }
    let cluster = RedisCluster::start(5);
    let opened = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let builder = Redlock::builder().node_urls(cluster.urls());
        builder.initialise(None).connect().await.map(drop)
    });
    opened.unwrap();
    let nodes = cluster.urls().join(",");
    let told = Arc::new(Mutex::new(Told::default()));
    let first = Running::start(0, &nodes, &told);
    let mut first = Some(first);
    let _second = Running::start(1, &nodes, &told);
    let mut third = None;
    let begun = now();
    for stops in 0_usize.. {
        assert!(now() - begun < AT_LAST, "nobody gets the lock any more");
        let (one, other) = (stops % 5, (stops + 2) % 5);
        cluster.pause(one);
        cluster.pause(other);
        std::thread::sleep(Duration::from_millis(100));
        cluster.resume(one);
        cluster.resume(other);
        std::thread::sleep(Duration::from_millis(200));
        let (of_client, handed_on) = {
            let told = told.lock().unwrap();
            (told.of_client, told.handed_on)
        };
        if of_client[..2].iter().all(|sections| *sections >= SECTIONS) && first.is_some() {
            // Killed, in the middle of whatever it does; another one comes for it.
            first = None;
            third = Some(Running::start(2, &nodes, &told));
        }
        if third.is_some() && of_client[2] >= SECTIONS && handed_on >= SECTIONS {
            break;
        }
    }
    let told = told.lock().unwrap();
    println!(
        "{:?} sections of the processes, {} handed on",
        told.of_client, told.handed_on
    );
    let found = judge(&told.holds);
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{found:?}");
}
