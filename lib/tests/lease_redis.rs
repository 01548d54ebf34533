//! Hazard: a leader that is killed, and one that comes back from the dead. Real
//! servers, real processes; and the contract in real time.
//!
//! Each contender is this test program itself, started again with its part in the
//! environment. It says when it looked and found itself alive, by the machine's clock,
//! so that what all of them say can be laid side by side.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use everlock::Redlock;
use everlock::clock::{Clock as _, SystemClock};
use everlock::lease::contract::{self, Subject, Waiting, Weather};
use everlock::lease::faulty::{Faults, FaultyBackend};
use everlock::lease::{Keeper, Lease, LeaseOptions};
use everlock::{OwnerId, Resource};
use everlock_testkit::{ProcessUnderTest, RedisCluster, SETTLED, Signal, eventually};
use support::leases::{ByOwner, holder, mishap};
use support::redis::{builder, client};

const MAX_LEASE: Duration = Duration::from_mins(1);
/// Long enough that no renewal is late by accident on a busy machine.
const TTL: Duration = Duration::from_secs(2);
/// How often those who don't lead ask.
const ROUND: Duration = Duration::from_millis(100);
/// What the machine may take for itself: processes that wait for a processor.
const SLACK: Duration = SETTLED;

/// Leases over real servers, by one client; what is spoiled is spoiled before it.
struct Servers {
    operator: Redlock,
    ways: ByOwner<Faults>,
}

impl Servers {
    fn way(&self, owner: &str) -> Arc<Faults> {
        self.ways.get(owner, Faults::none)
    }
}

impl Subject for Servers {
    fn lease(&self, options: LeaseOptions) -> Arc<dyn Lease> {
        let way = Faults::clone(&self.way(options.owner()));
        let backend = self.operator.lease_backend(&options).unwrap();
        let backend = FaultyBackend::new(backend, way);
        Arc::new(Keeper::new(backend, options))
    }

    fn ttl(&self) -> Duration {
        TTL
    }

    fn crowd(&self) -> usize {
        30
    }

    fn weather(&self, owner: &str, weather: Weather) -> bool {
        self.way(owner).plan(move |_| mishap(weather));
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_over_real_servers_keep_the_contract() {
    let cluster = RedisCluster::start(3);
    let operator = client(&cluster, MAX_LEASE).await;
    let ways = ByOwner::default();
    contract::run(&Servers { operator, ways }).await;
}

/// Where the nodes are and who it is, for a contender's process.
const NODES: &str = "EVERLOCK_CONTENDER_NODES";

/// A contender's whole life, if this process is one.
#[tokio::test]
async fn contender() {
    let Ok(nodes) = std::env::var(NODES) else {
        return;
    };
    let redlock = Redlock::builder()
        .node_urls(nodes.split(','))
        .connect()
        .await;
    let options = LeaseOptions::builder("leader", OwnerId::fresh().as_str()).ttl(TTL);
    let lease = redlock.unwrap().lease(options.build().unwrap()).unwrap();
    let micros = || SystemClock.now().since_origin().as_micros();
    loop {
        if let Ok(Some(token)) = lease.acquire_with_token().await {
            loop {
                let (before, alive, after) = (micros(), lease.check_alive(), micros());
                if !alive {
                    break;
                }
                println!("alive {token} {before} {after}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            println!("lost {token} {}", micros());
        }
        tokio::time::sleep(ROUND).await;
    }
}

/// The time in which a process was alive under one token, for certain: from after its
/// first look to before its last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reign {
    token: String,
    from: u128,
    to: u128,
    who: u32,
}

/// What all contenders said, in the order of their reigns.
fn reigns(contenders: &[ProcessUnderTest]) -> Vec<Reign> {
    let mut reigns: Vec<Reign> = Vec::new();
    for contender in contenders {
        for line in contender.stdout().lines() {
            let mut words = line.split(' ').skip_while(|word| *word != "alive").skip(1);
            let (Some(token), Some(before), Some(after)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let (before, after) = (before.parse().unwrap(), after.parse().unwrap());
            let who = contender.pid();
            let of_reign = |reign: &&mut Reign| reign.who == who && reign.token == token;
            match reigns.iter_mut().find(of_reign) {
                Some(reign) => reign.to = before,
                None => reigns.push(Reign {
                    token: token.to_owned(),
                    from: after,
                    to: after,
                    who,
                }),
            }
        }
    }
    reigns.sort_by_key(|reign| reign.from);
    reigns
}

fn started(nodes: &str) -> ProcessUnderTest {
    let program = std::env::current_exe().unwrap();
    let args = ["--exact", "contender", "--nocapture"];
    ProcessUnderTest::spawn(program, &args, &[(NODES, nodes)])
}

/// Waits for a reign after those that were seen.
async fn next_reign(contenders: &[ProcessUnderTest], seen: &[Reign]) -> Reign {
    let known = |reign: &Reign| seen.iter().any(|seen| seen.token == reign.token);
    let newer = || reigns(contenders).into_iter().find(|reign| !known(reign));
    let came = eventually(TTL + ROUND + 2 * SLACK, || {
        std::future::ready(newer().is_some())
    });
    assert!(came.await, "nobody leads");
    newer().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_five_processes_another_leads_when_the_leader_is_killed_and_never_two() {
    let cluster = RedisCluster::start(5);
    let _opened = builder(&cluster)
        .initialise(Some(MAX_LEASE))
        .connect()
        .await
        .unwrap();
    let nodes = cluster.urls().join(",");
    let mut contenders: Vec<_> = (0..5).map(|_| started(&nodes)).collect();
    let mut seen: Vec<Reign> = Vec::new();
    for blow in [Signal::KILL, Signal::STOP, Signal::KILL] {
        let leader = next_reign(&contenders, &seen).await;
        tokio::time::sleep(ROUND * 3).await;
        let found = contenders.iter_mut().find(|one| one.pid() == leader.who);
        let at = SystemClock.now().since_origin().as_micros();
        found.unwrap().signal(blow);
        seen.push(leader.clone());
        let next = next_reign(&contenders, &seen).await;
        let took = Duration::from_micros(u64::try_from(next.from.saturating_sub(at)).unwrap());
        println!("{blow:?}: another leads after {took:?}");
        assert_ne!(next.who, leader.who);
        assert!(took <= TTL + ROUND + SLACK, "{took:?}");
        // The dead are followed by new ones; the stopped one wakes, and leads no more.
        let found = contenders.iter_mut().find(|one| one.pid() == leader.who);
        if blow == Signal::KILL {
            contenders.push(started(&nodes));
        } else {
            let woken = found.unwrap();
            woken.signal(Signal::CONT);
            woken
                .wait_for_line(|line| line.contains("lost"), SLACK)
                .await;
        }
    }
    let reigns = reigns(&contenders);
    assert!(reigns.len() >= 4, "{reigns:?}");
    for pair in reigns.windows(2) {
        assert!(pair[0].to < pair[1].from, "two at once: {pair:?}");
        assert!(pair[0].token < pair[1].token, "a token fell: {pair:?}");
    }
}
