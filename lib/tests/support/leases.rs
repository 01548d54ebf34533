//! Leases under the contract's suite: clocks that can be made to jump, ways that can
//! be spoiled, and the subjects of the backends that need nothing but this process.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everlock::clock::{Clock, Moment, WallTime};
use everlock::lease::contract::{Subject, Waiting, Weather};
use everlock::lease::faulty::{Faults, FaultyBackend, Mishap};
use everlock::lease::memory::MemoryLeases;
use everlock::lease::{Keeper, Lease, LeaseOptions};
use everlock::node::Node;
use everlock::node::faulty::{FaultyNode, Mishap as NodeMishap};
use everlock::{Redlock, Resource, Vote};

use super::{TokioClock, World};

/// After so long it shows that nothing is heard.
pub(crate) const SILENCE: Duration = Duration::from_millis(400);

/// A process's clock: tokio's time at a rate of its own, and what it missed while it
/// stood still.
#[derive(Debug)]
pub(crate) struct ProcessClock {
    running: TokioClock,
    origin: tokio::time::Instant,
    /// By how much it is too fast, in parts of a million.
    fast: i64,
    missed: AtomicU64,
}

impl ProcessClock {
    pub(crate) fn new(origin: tokio::time::Instant) -> Arc<Self> {
        Self::drifting(origin, 0)
    }

    pub(crate) fn drifting(origin: tokio::time::Instant, fast: i64) -> Arc<Self> {
        Arc::new(Self {
            running: TokioClock::new(origin),
            origin,
            fast,
            missed: AtomicU64::new(0),
        })
    }

    /// Time passes, and no timer runs.
    pub(crate) fn miss(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap();
        self.missed.fetch_add(micros, Ordering::SeqCst);
    }

    fn missed(&self) -> Duration {
        // Enough that a clock which is slow never runs before its beginning.
        let lead = 1_000_000;
        let elapsed = i64::try_from(self.origin.elapsed().as_micros()).unwrap();
        let drifted = u64::try_from(lead + elapsed * self.fast / 1_000_000).unwrap();
        Duration::from_micros(drifted + self.missed.load(Ordering::SeqCst))
    }
}

impl Clock for ProcessClock {
    fn now(&self) -> Moment {
        self.running.now() + self.missed()
    }

    fn wall(&self) -> WallTime {
        self.running.wall().plus(self.missed())
    }
}

/// The faults that make such weather.
pub(crate) fn mishap(weather: Weather) -> Option<Mishap> {
    match weather {
        Weather::Fine => None,
        Weather::Silent => Some(Mishap::RequestLost(SILENCE)),
        Weather::Deaf => Some(Mishap::ReplyLost(SILENCE)),
        Weather::Slow(late) => Some(Mishap::RequestDelayed(late)),
        Weather::Lagging(late) => Some(Mishap::ReplyDelayed(late)),
    }
}

/// What belongs to each owner, made when it is first asked for.
pub(crate) struct ByOwner<T>(Mutex<BTreeMap<String, Arc<T>>>);

impl<T> Default for ByOwner<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> ByOwner<T> {
    pub(crate) fn get(&self, owner: &str, make: impl FnOnce() -> T) -> Arc<T> {
        let mut all = self.0.lock().unwrap();
        let of_owner = all.entry(owner.to_owned());
        Arc::clone(of_owner.or_insert_with(|| Arc::new(make())))
    }
}

/// A process of an owner of in-memory leases.
struct MemoryProcess {
    faults: Faults,
    clock: Arc<ProcessClock>,
}

/// In-memory leases on tokio's time.
pub(crate) struct MemorySubject {
    origin: tokio::time::Instant,
    leases: MemoryLeases,
    processes: ByOwner<MemoryProcess>,
}

impl MemorySubject {
    pub(crate) fn new() -> Self {
        let origin = tokio::time::Instant::now();
        Self {
            origin,
            leases: MemoryLeases::with_clock(ProcessClock::new(origin)),
            processes: ByOwner::default(),
        }
    }

    fn process(&self, owner: &str) -> Arc<MemoryProcess> {
        self.processes.get(owner, || MemoryProcess {
            faults: Faults::none(),
            clock: ProcessClock::new(self.origin),
        })
    }
}

impl Subject for MemorySubject {
    fn lease(&self, options: LeaseOptions) -> Arc<dyn Lease> {
        let process = self.process(options.owner());
        let backend = self.leases.backend(&options);
        let backend = backend.with_clock(process.clock.clone());
        let backend = FaultyBackend::new(backend, process.faults.clone());
        Arc::new(Keeper::new(backend, options))
    }

    fn weather(&self, owner: &str, weather: Weather) -> bool {
        self.process(owner).faults.plan(move |_| mishap(weather));
        true
    }

    fn suspend(&self, owner: &str, time: Duration) -> bool {
        self.process(owner).clock.miss(time);
        true
    }

    fn revoke<'a>(&'a self, name: &'a str) -> Waiting<'a, bool> {
        self.leases.revoke(name);
        Box::pin(std::future::ready(true))
    }
}

/// A process of an owner of leases over a quorum: its client, and its way to each node.
struct QuorumProcess {
    client: Redlock,
    ways: Vec<Arc<FaultyNode>>,
    faults: Faults,
    clock: Arc<ProcessClock>,
}

/// Leases over in-memory nodes, on tokio's time; each owner has a client of its own.
pub(crate) struct QuorumSubject {
    world: World,
    origin: tokio::time::Instant,
    operator: Redlock,
    processes: ByOwner<QuorumProcess>,
}

impl QuorumSubject {
    pub(crate) async fn new() -> Self {
        let origin = tokio::time::Instant::now();
        let world = World::of(5).await;
        let operator = world.client(0).await;
        Self {
            world,
            origin,
            operator,
            processes: ByOwner::default(),
        }
    }

    fn process(&self, owner: &str) -> Arc<QuorumProcess> {
        self.processes.get(owner, || {
            let nodes = self.world.nodes();
            let ways = nodes
                .into_iter()
                .map(|node| Arc::new(FaultyNode::new(node).silence(SILENCE)));
            let ways: Vec<_> = ways.collect();
            let clock = ProcessClock::new(self.origin);
            let builder = Redlock::builder()
                .nodes(ways.iter().map(|way| way.clone() as Arc<dyn Node>))
                .clock(clock.clone());
            // Nodes in memory answer at once, so nothing is waited for.
            let client = futures_util::future::FutureExt::now_or_never(builder.connect());
            QuorumProcess {
                client: client.expect("nodes in memory answer at once").unwrap(),
                ways,
                faults: Faults::none(),
                clock,
            }
        })
    }
}

/// Who holds it, on whatever node.
pub(crate) async fn holder(operator: &Redlock, resource: &Resource) -> Option<everlock::OwnerId> {
    let votes = operator.inspect(resource).await;
    votes.into_iter().find_map(|(_, vote)| match vote {
        Vote::Holder { owner, .. } => Some(everlock::OwnerId::new(owner).unwrap()),
        _ => None,
    })
}

impl Subject for QuorumSubject {
    fn lease(&self, options: LeaseOptions) -> Arc<dyn Lease> {
        let process = self.process(options.owner());
        let backend = process.client.lease_backend(&options).unwrap();
        let backend = FaultyBackend::new(backend, process.faults.clone());
        Arc::new(Keeper::new(backend, options))
    }

    fn weather(&self, owner: &str, weather: Weather) -> bool {
        let process = self.process(owner);
        for way in &process.ways {
            match weather {
                Weather::Silent => way.always(NodeMishap::RequestLost),
                Weather::Deaf => way.always(NodeMishap::ReplyLost),
                _ => way.heal(),
            }
        }
        // A node's answer that is late is no answer to the quorum client, so that
        // what is late here is all of an operation.
        let late = mishap(weather);
        let late = late.filter(|_| matches!(weather, Weather::Slow(_) | Weather::Lagging(_)));
        process.faults.plan(move |_| late);
        true
    }

    fn suspend(&self, owner: &str, time: Duration) -> bool {
        self.process(owner).clock.miss(time);
        true
    }

    fn revoke<'a>(&'a self, name: &'a str) -> Waiting<'a, bool> {
        Box::pin(async move {
            let resource = Resource::new(name).unwrap();
            let owner = holder(&self.operator, &resource).await.unwrap();
            self.operator.release((&resource, &owner)).await.unwrap();
            true
        })
    }
}
