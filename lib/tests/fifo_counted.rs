//! Hazard: an order that holds in tests of a few waiters, and not in the long run.
//!
//! Processes that share nothing but real servers wait in line for one lock, over
//! and over, while servers stop for a moment and processes are killed. Judged is
//! P5 on what clients knew: who was told that it stands in line when another one
//! began to ask, and waited on, wins first.
//!
//! More of it: `EVERLOCK_FIFO_GRANTS=100000 cargo test -p everlock --all-features --test fifo_counted -- --nocapture`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what a test can't go on without fails it; children tell by what they print"
)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use everlock::clock::{Clock as _, SystemClock};
use everlock::observer::{Event, Observer};
use everlock::{AcquireOptions, Redlock};
use everlock_testkit::RedisCluster;
use everlock_testkit::history::{Stood, Turn, Waiter, judge_order};

/// Contended grants, unless the environment says otherwise.
const GRANTS: u64 = 200;
const PROCESSES: usize = 4;
const WAITERS: usize = 3;
/// Tells a child which nodes there are.
const NODES_OF: &str = "EVERLOCK_FIFO_NODES";
const NAME: &str = "nobody_is_overtaken_among_processes_that_share_a_line";
/// A killed holder holds the lock up for so long.
const LEASE: Duration = Duration::from_secs(5);
/// A process that stood still for longer may have lost its tickets; what it then
/// waited for proves nothing.
const STILL: u64 = 1_500_000;
/// A machine that does nothing for so long fails the test.
const AT_LAST: u64 = 120_000_000;

/// Microseconds of a clock that all processes share.
fn now() -> u64 {
    let since = SystemClock.now().since_origin();
    u64::try_from(since.as_micros()).unwrap()
}

/// When a client was last told that it stands in line.
#[derive(Default)]
struct Place(AtomicU64);

impl Observer for Place {
    fn event(&self, event: &Event<'_>) {
        if matches!(event, Event::InLine { .. }) {
            self.0.store(now(), Ordering::SeqCst);
        }
    }
}

/// A child: waits in line again and again, until its parent is gone.
#[tokio::main]
async fn wait_in_line(nodes: &str) {
    let stood_still = Arc::new(AtomicU64::new(0));
    for _ in 0..WAITERS {
        let place = Arc::new(Place::default());
        let client = Redlock::builder()
            .node_urls(nodes.split(','))
            .observer(place.clone())
            .connect();
        tokio::spawn(ask_for_ever(
            client.await.unwrap(),
            place,
            Arc::clone(&stood_still),
        ));
    }
    std::thread::spawn(|| {
        // The parent holds the other end.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    loop {
        let before = now();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let still = now() - before;
        if still > STILL {
            stood_still.store(now(), Ordering::SeqCst);
        }
    }
}

async fn ask_for_ever(client: Redlock, place: Arc<Place>, stood_still: Arc<AtomicU64>) {
    let options = AcquireOptions::new()
        .lease(LEASE)
        .retries(60)
        .delay(Duration::from_secs(1))
        .fifo(true);
    loop {
        place.0.store(0, Ordering::SeqCst);
        let asked = now();
        let acquired = client.acquire("line", options.clone()).await;
        let ended = now();
        let mut queued = place.0.load(Ordering::SeqCst);
        if stood_still.load(Ordering::SeqCst) >= asked || ended - asked > 30_000_000 {
            queued = 0;
        }
        println!(
            "waited {asked} {queued} {} {ended}",
            u8::from(acquired.is_ok())
        );
        if let Ok(grant) = acquired {
            let _ = client.release(&grant).await;
        }
    }
}

/// What a child tells of one request.
fn waiter(client: usize, line: &str) -> Option<Waiter> {
    let words: Vec<_> = line.split(' ').collect();
    let ["waited", asked, queued, won, ended] = words[..] else {
        return None;
    };
    let number = |word: &str| word.parse::<u64>().unwrap();
    let (asked, queued, ended) = (number(asked), number(queued), number(ended));
    // Which nodes it stands on it does not know: on a quorum, which is one for all.
    let stood = (queued > 0).then_some(Stood {
        node: 0,
        from: queued,
        until: u64::MAX,
    });
    Some(Waiter {
        client,
        resource: 0,
        asked,
        stood: stood.into_iter().collect(),
        won: (won == "1").then_some(Turn {
            began: asked,
            won: ended,
        }),
        ended,
    })
}

/// A process that waits in line, and what it has told.
struct Waiting {
    child: Child,
    /// It ends when this does.
    _alive: ChildStdin,
}

impl Waiting {
    fn start(number: usize, nodes: &str, told: mpsc::Sender<Waiter>) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(NODES_OF, nodes)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(waiter) = waiter(number, &line) {
                    let _ = told.send(waiter);
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

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn nobody_is_overtaken_among_processes_that_share_a_line() {
    if let Ok(nodes) = std::env::var(NODES_OF) {
        return wait_in_line(&nodes);
    }
    let wanted = std::env::var("EVERLOCK_FIFO_GRANTS").ok();
    let wanted = wanted.map_or(GRANTS, |number| number.parse().unwrap());
    let cluster = RedisCluster::start(5);
    let opened = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let builder = Redlock::builder().node_urls(cluster.urls());
        builder.initialise(None).connect().await.map(drop)
    });
    opened.unwrap();
    let nodes = cluster.urls().join(",");
    let (told, tells) = mpsc::channel();
    let start = |number| Waiting::start(number, &nodes, told.clone());
    let mut processes: Vec<_> = (0..PROCESSES).map(start).collect();
    let waiters = Mutex::new(Vec::new());
    let (mut stops, mut kills, mut last_news) = (0_usize, 0_usize, now());
    loop {
        let before = waiters.lock().unwrap().len();
        waiters.lock().unwrap().extend(tells.try_iter());
        let seen = waiters.lock().unwrap().len();
        if seen > before {
            last_news = now();
        }
        assert!(now() - last_news < AT_LAST, "nobody gets the lock any more");
        let enough = kills > 0 && seen as u64 >= wanted;
        if enough && judge_order(&waiters.lock().unwrap(), 1).contended >= wanted {
            break;
        }
        // Two of five stop for less than half of what a ticket lives beyond its beat.
        let (one, other) = (stops % 5, (stops + 2) % 5);
        cluster.pause(one);
        cluster.pause(other);
        std::thread::sleep(Duration::from_millis(150));
        cluster.resume(one);
        cluster.resume(other);
        stops += 1;
        std::thread::sleep(Duration::from_millis(350));
        // Who dies holds the others up, for a lease or the life of a ticket.
        if stops % 60 == 8 {
            let number = kills % PROCESSES;
            // The old one dies first.
            processes.remove(0);
            processes.push(start(number));
            kills += 1;
        }
    }
    let waiters = waiters.into_inner().unwrap();
    let order = judge_order(&waiters, 1);
    println!(
        "{} grants in line, {} of them contended, {} out of turn; two of five servers stopped {stops} times, {kills} processes killed",
        order.grants, order.contended, order.inversions
    );
    let first = order.first.as_ref().map(ToString::to_string);
    assert_eq!(order.inversions, 0, "{first:?}");
}
