//! Hazard: figures that lie. Of each thing that happens the observer hears once, also where the
//! caller goes away in the middle of it.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everlock::observer::{AcquireOutcome, AttemptOutcome, CommandTrace, Event, Observer, Trace};
use everlock::protocol::{ExtendOutcome, ReleaseOutcome};
use everlock::{AcquireOptions, NodeId, OwnerId, Redlock, Resource, Vote};

const NODES: u64 = 3;

/// What was heard, in short.
#[derive(Default)]
struct Log {
    heard: Mutex<Vec<String>>,
    answers: AtomicU64,
}

impl Log {
    fn count(&self, what: &str) -> usize {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|event| *event == what).count()
    }

    fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }
}

impl Observer for Log {
    fn event(&self, event: &Event<'_>) {
        let heard = match event {
            Event::Opened { nodes, quorum } => format!("opened {} {quorum}", nodes.len()),
            Event::Attempted { outcome, .. } => format!("attempted {outcome:?}"),
            Event::Waiting => "waiting".to_owned(),
            Event::Acquired {
                outcome, waited, ..
            } => format!("acquired {outcome:?} {waited}"),
            Event::Released { outcome, held, .. } => {
                format!("released {outcome:?} {}", held.is_some())
            }
            Event::Extended { outcome, .. } => format!("extended {outcome:?}"),
            Event::Answered { operation, .. } => {
                // Those that are asked in the background have no place in a count.
                if !["mark", "ping"].contains(operation) {
                    self.answers.fetch_add(1, Ordering::Relaxed);
                }
                return;
            }
            _ => return,
        };
        self.heard.lock().unwrap().push(heard);
    }
}

async fn client() -> (Redlock, Arc<Log>) {
    let log = Arc::new(Log::default());
    let redlock = Redlock::builder()
        .memory_nodes(usize::try_from(NODES).unwrap())
        .observer(log.clone())
        .connect()
        .await
        .unwrap();
    (redlock, log)
}

#[tokio::test]
async fn of_every_command_to_every_node_one_answer_is_told() {
    let (redlock, log) = client().await;
    assert_eq!(log.count("opened 3 2"), 1);
    let grant = redlock.acquire("a", AcquireOptions::new()).await.unwrap();
    assert_eq!(log.answers(), NODES);
    redlock
        .extend(&grant, Duration::from_secs(1))
        .await
        .unwrap();
    assert_eq!(log.answers(), 2 * NODES);
    redlock.release(&grant).await.unwrap();
    assert!(redlock.drained(Duration::from_secs(20)).await);
    // In memory a quorum has answered before the last is asked, which is then settled.
    let released = log.answers() - 2 * NODES;
    assert!((NODES..=2 * NODES).contains(&released), "{released}");
    for (event, times) in [
        (format!("attempted {:?}", AttemptOutcome::Won), 1),
        (format!("acquired {:?} false", AcquireOutcome::Acquired), 1),
        (format!("extended {:?}", ExtendOutcome::Extended), 1),
        (
            format!("released {:?} true", Some(ReleaseOutcome::Released)),
            1,
        ),
        ("waiting".to_owned(), 0),
    ] {
        assert_eq!(log.count(&event), times, "{event}");
    }
}

#[tokio::test]
async fn who_waits_is_told_once_and_so_is_its_end_also_if_it_goes_away() {
    for fifo in [false, true] {
        let (redlock, log) = client().await;
        let held = redlock.acquire("a", AcquireOptions::new()).await.unwrap();
        let patient = AcquireOptions::new()
            .retries(5)
            .delay(Duration::from_millis(5))
            .fifo(fifo);
        redlock.acquire("a", patient.clone()).await.unwrap_err();
        assert_eq!(log.count("waiting"), 1, "fifo {fifo}");
        assert_eq!(log.count("acquired Contended true"), 1, "fifo {fifo}");

        let waits = patient.delay(Duration::from_mins(1));
        let waiting = redlock.acquire("a", waits);
        let gone = tokio::time::timeout(Duration::from_millis(200), waiting).await;
        assert!(gone.is_err());
        assert_eq!(log.count("waiting"), 2, "fifo {fifo}");
        assert_eq!(log.count("acquired Cancelled true"), 1, "fifo {fifo}");
        drop(held);
    }
}

#[tokio::test]
async fn releases_that_find_nothing_are_told_as_such_and_a_dropped_guard_is_told_as_one() {
    let (redlock, log) = client().await;
    let (resource, owner) = (Resource::new("a").unwrap(), OwnerId::new("b").unwrap());
    redlock.release((&resource, &owner)).await.unwrap_err();
    let nothing = format!("released {:?} false", Some(ReleaseOutcome::NotHeld));
    assert_eq!(log.count(&nothing), 1);
    let guard = redlock.lock("a", AcquireOptions::new()).await.unwrap();
    drop(guard);
    assert_eq!(log.count("released None true"), 1);
}

/// Follows operations, which it numbers.
#[derive(Debug, Default)]
struct Follower {
    begun: AtomicU64,
    heard: Arc<Mutex<Vec<String>>>,
}

#[derive(Debug)]
struct Followed {
    number: u64,
    heard: Arc<Mutex<Vec<String>>>,
}

struct FollowedCommand {
    name: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Observer for Follower {
    fn follow(&self) -> Option<Arc<dyn Trace>> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let heard = Arc::clone(&self.heard);
        Some(Arc::new(Followed { number, heard }))
    }
}

impl Trace for Followed {
    fn command(&self, _: &NodeId, operation: &'static str) -> Option<Box<dyn CommandTrace>> {
        let name = format!("{} {operation}", self.number);
        self.heard.lock().unwrap().push(name.clone());
        let heard = Arc::clone(&self.heard);
        Some(Box::new(FollowedCommand { name, heard }))
    }
}

impl CommandTrace for FollowedCommand {
    fn answered(self: Box<Self>, vote: &Vote) {
        let what = match vote {
            Vote::Granted => "granted",
            Vote::Failed(_) => "failed",
            _ => "answered",
        };
        let name = format!("{} {what}", self.name);
        self.heard.lock().unwrap().push(name);
    }
}

impl Follower {
    fn count(&self, what: &str) -> usize {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|event| *event == what).count()
    }
}

#[tokio::test]
async fn an_operation_is_followed_also_where_another_sends_its_commands() {
    let follower = Arc::new(Follower::default());
    let redlock = Redlock::builder()
        .memory_nodes(usize::try_from(NODES).unwrap())
        .observer(follower.clone())
        .connect()
        .await
        .unwrap();
    let each = usize::try_from(NODES).unwrap();
    let grant = redlock.acquire("a", AcquireOptions::new()).await.unwrap();
    assert_eq!(follower.count("0 acquire"), each);
    assert_eq!(follower.count("0 acquire granted"), each);

    let waits = AcquireOptions::new()
        .retries(3)
        .delay(Duration::from_mins(1));
    let waiter = tokio::spawn({
        let redlock = redlock.clone();
        async move { redlock.acquire("a", waits).await }
    });
    while follower.count("1 acquire answered") < each {
        tokio::task::yield_now().await;
    }
    redlock
        .extend(&grant, Duration::from_secs(1))
        .await
        .unwrap();
    assert_eq!(follower.count("2 extend answered"), each);
    redlock.release(&grant).await.unwrap();
    waiter.await.unwrap().unwrap();
    // What the release sent for the waiter is the waiter's.
    assert!(follower.count("1 acquire granted") > each / 2);
    assert_eq!(follower.count("3 acquire"), 0);
    let released = ["3 release", "3 pass-on"].map(|name| follower.count(name));
    assert_eq!(released.iter().sum::<usize>(), each);
    assert_eq!(follower.begun.load(Ordering::Relaxed), 4);
}
