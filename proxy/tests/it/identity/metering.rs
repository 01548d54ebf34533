//! What was used: each attempt counted once, whatever dies, and held against the allowance.

use std::time::Duration;

use everlock_testkit::{FakePolar, PolarFault, PolarLicence, RedisCluster, Signal, eventually};
use serde_json::{Value, json};

use crate::support::{Client, Proxy, SOON, Wire, init};

use super::licences::{CUSTOMER, LICENCE, create, delete, licence, licensed, made};
use super::setup::Holder;

/// Reports go out every few seconds; generous on a busy machine.
const REPORTED: Duration = Duration::from_mins(1);

struct World {
    nodes: RedisCluster,
    polar: FakePolar,
    proxies: Vec<Proxy>,
}

impl World {
    async fn new(nodes: usize, proxies: usize, licences: Vec<PolarLicence>) -> Self {
        let nodes = RedisCluster::start(nodes);
        init(&nodes.urls()).await;
        let mut world = Self {
            nodes,
            polar: FakePolar::start(licences).await,
            proxies: Vec::new(),
        };
        for _ in 0..proxies {
            world.add_proxy().await;
        }
        world
    }

    async fn add_proxy(&mut self) {
        let proxy = licensed(&self.nodes.urls(), &self.polar, &[]).await;
        self.proxies.push(proxy);
    }

    fn client(&self, proxy: usize) -> Client {
        self.proxies[proxy].client()
    }

    fn metered(&self) -> u64 {
        self.polar.metered(CUSTOMER, "attempts")
    }

    /// Waits until so much was reported, and then for what would be reported beyond.
    async fn until_metered(&self, expected: u64) {
        let reached = eventually(REPORTED, || async { self.metered() >= expected });
        let reached = reached.await;
        let metered = self.metered();
        assert!(reached && metered == expected, "{metered} of {expected}");
        // Longer than from one report to the next.
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(self.metered(), expected, "nothing is reported twice");
    }
}

async fn usage(holder: &Holder) -> Value {
    let headers = [("authorization", holder.authorization.as_str())];
    let answer = holder.client.send("GET", "/usage", &headers, "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json
}

#[tokio::test]
async fn from_licence_to_metered_lock_to_deletion_over_two_proxies_and_five_nodes() {
    let world = World::new(5, 2, vec![licence(LICENCE, Some(1_000))]).await;
    let (first, second) = (world.client(0), world.client(1));
    let key = made(&first, LICENCE).await;
    let [one, two] = [&first, &second].map(|client| Holder::new(client.clone(), &key));
    assert_eq!(one.try_acquire("orders", "a").await.status, 200);
    let ask = json!({"key": "orders", "uuid": "b", "retryAttempts": 3, "retryDelay": 1});
    let refused = two.post("/lock/acquire", &ask).await;
    assert_eq!(
        (refused.status, &refused.json["lockAcquisitionAttempts"]),
        (409, &json!(4))
    );
    // What costs nothing.
    assert_eq!(one.extend("orders", "a").await.status, 200);
    assert_eq!(two.release("orders", "a").await.status, 200);
    assert_eq!(
        two.post("/lock/acquire", &json!({"key": ""})).await.status,
        400
    );

    // Each proxy knows of the other's within a second or two.
    let expected = json!({"identity": CUSTOMER, "period": "total", "attempts": 5, "allowance": 1000, "remaining": 995});
    for holder in [&one, &two] {
        let known = eventually(SOON, || async { usage(holder).await == expected });
        assert!(known.await, "{}", usage(holder).await);
    }
    world.until_metered(5).await;
    assert_eq!(delete(&first, LICENCE, &key).await.status, 204);
    assert_eq!(one.try_acquire("orders", "c").await.status, 401);
    let ended = eventually(SOON, || async { !two.is_admitted().await });
    assert!(ended.await);
    let one_event = world.polar.events().into_iter().next().unwrap();
    assert_eq!(one_event["name"], "lock_acquisition_attempts");
}

#[tokio::test]
async fn an_allowance_ends_on_all_proxies_within_what_is_documented() {
    const ALLOWANCE: u64 = 40;
    let other = PolarLicence {
        customer_id: "5d0c2f4e-8a17-4b39-9c6d-000000000000".to_owned(),
        ..licence("OTHER", None)
    };
    let world = World::new(3, 2, vec![licence(LICENCE, Some(ALLOWANCE)), other]).await;
    let key = made(&world.client(0), LICENCE).await;
    let holders = [0, 1].map(|proxy| Holder::new(world.client(proxy), &key));
    let mut attempts = 0;
    let mut refused = 0;
    for round in 0..2 * ALLOWANCE {
        for holder in &holders {
            let answer = holder.try_acquire("k", &round.to_string()).await;
            if answer.status == 429 {
                assert_eq!(answer.header("retry-after"), Some("3600"));
                assert_eq!(
                    answer.message(),
                    "the licence's allowance of lock acquisition attempts is used up"
                );
                refused += 1;
            } else {
                attempts += 1;
            }
        }
        // So that each hears of the other's.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // At most what both count between two exchanges is over: here ten requests a second each.
    assert!(
        (ALLOWANCE..2 * ALLOWANCE).contains(&attempts),
        "{attempts} attempts, {refused} refused"
    );
    for holder in &holders {
        assert_eq!(holder.try_acquire("k", "u").await.status, 429);
        assert_ne!(
            holder.release("k", "0").await.status,
            429,
            "releases are free"
        );
    }
    let free = Holder::new(world.client(0), &made(&world.client(0), "OTHER").await);
    assert_eq!(free.try_acquire("k", "u").await.status, 200);
    world.until_metered(attempts).await;
}

#[tokio::test]
async fn answers_that_are_lost_between_proxy_and_backend_count_nothing_twice() {
    let world = World::new(3, 2, vec![licence(LICENCE, None)]).await;
    let key = made(&world.client(0), LICENCE).await;
    let holders = [0, 1].map(|proxy| Holder::new(world.client(proxy), &key));
    assert!(holders[0].is_admitted().await && holders[1].is_admitted().await);
    world.polar.set_fault(PolarFault::LostAnswer);
    for round in 0..20 {
        holders[round % 2]
            .try_acquire(&round.to_string(), "u")
            .await;
    }
    let sends = |world: &World| world.polar.calls("POST /events/ingest");
    let tried = eventually(REPORTED, || async { sends(&world) >= 2 });
    assert!(tried.await, "the report is sent again");
    for round in 20..27 {
        holders[round % 2]
            .try_acquire(&round.to_string(), "u")
            .await;
    }
    world.polar.set_fault(PolarFault::None);
    world.until_metered(27).await;
}

#[tokio::test]
async fn what_the_nodes_were_told_survives_the_death_of_every_proxy() {
    let mut world = World::new(5, 2, vec![licence(LICENCE, None)]).await;
    let key = made(&world.client(0), LICENCE).await;
    let holders = [0, 1].map(|proxy| Holder::new(world.client(proxy), &key));
    for round in 0..30 {
        holders[round % 2]
            .try_acquire(&round.to_string(), "u")
            .await;
    }
    for holder in &holders {
        let known = eventually(SOON, || async { usage(holder).await["attempts"] == 30 });
        assert!(known.await);
    }
    for proxy in &mut world.proxies {
        proxy.process.signal(Signal::KILL);
    }
    // A minority of nodes forgets, too.
    world.nodes.restart(0);
    world.nodes.kill(1);
    world.add_proxy().await;
    world.until_metered(30).await;
    let after = Holder::new(world.client(2), &key);
    let known = eventually(SOON, || async { usage(&after).await["attempts"] == 30 });
    assert!(known.await, "{}", usage(&after).await);
}

#[tokio::test]
async fn an_acquire_whose_client_goes_away_has_cost_what_it_tried() {
    let world = World::new(3, 1, vec![licence(LICENCE, None)]).await;
    let key = made(&world.client(0), LICENCE).await;
    let holder = Holder::new(world.client(0), &key);
    let held = json!({"key": "k", "uuid": "holder", "lease": 60_000});
    assert_eq!(holder.post("/lock/acquire", &held).await.status, 200);
    let mut wire = Wire::open(world.proxies[0].addr).await;
    let body = r#"{"key":"k","retryAttempts":1000,"retryDelay":50}"#;
    let authorization = &holder.authorization;
    wire.send(format!(
        "POST /lock/acquire HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    let counted = async || usage(&holder).await["attempts"].as_u64().unwrap();
    assert!(
        eventually(SOON, || async { counted().await >= 4 }).await,
        "it is counted while it waits"
    );
    drop(wire);
    let last = std::cell::Cell::new(0);
    let still = eventually(SOON, || async {
        let now = counted().await;
        last.replace(now) == now
    });
    assert!(still.await, "the wait has ended");
    world.until_metered(counted().await).await;
}

#[tokio::test]
async fn an_orderly_end_loses_nothing() {
    let mut world = World::new(3, 2, vec![licence(LICENCE, None)]).await;
    let key = made(&world.client(0), LICENCE).await;
    let holder = Holder::new(world.client(0), &key);
    for round in 0..25 {
        holder.try_acquire(&round.to_string(), "u").await;
    }
    world.proxies[0].process.signal(Signal::TERM);
    let status = world.proxies[0].process.wait_exit(SOON).await;
    assert!(status.success());
    world.until_metered(25).await;
}

#[tokio::test]
async fn usage_of_many_licences_is_reported_while_a_node_hangs() {
    const LICENCES: usize = 40;
    let names: Vec<_> = (0..LICENCES).map(|one| format!("LICENCE-{one}")).collect();
    let licences = names.iter().map(|name| licence(name, None)).collect();
    let world = World::new(3, 1, licences).await;
    let mut holders = Vec::new();
    for name in &names {
        // A proxy validates a few licence keys a second.
        let made = async || {
            let answer = create(&world.client(0), name).await;
            answer.json["apiKey"].as_str().map(ToOwned::to_owned)
        };
        let mut key = made().await;
        while key.is_none() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            key = made().await;
        }
        holders.push(Holder::new(world.client(0), &key.unwrap()));
    }
    world.nodes.pause(0);
    for (number, holder) in holders.iter().enumerate() {
        let key = number.to_string();
        assert_eq!(holder.try_acquire(&key, "u").await.status, 200);
    }
    world.until_metered(u64::try_from(LICENCES).unwrap()).await;
}

/// How many acquires the load makes; a full run has 20,000.
fn load() -> usize {
    let text = std::env::var("EVERLOCK_LOAD_ACQUIRES").ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(2_000)
}

#[tokio::test]
async fn a_load_over_two_proxies_of_which_one_is_killed_is_metered_within_the_bound() {
    const CLIENTS: usize = 16;
    /// What a killed proxy may take with it, as documented.
    const LOST: u64 = 1_000;
    let mut world = World::new(5, 2, vec![licence(LICENCE, None)]).await;
    let key = made(&world.client(0), LICENCE).await;
    let clients = [world.client(0), world.client(1)];
    let each = load() / CLIENTS;
    let done = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let order = std::sync::atomic::Ordering::Relaxed;
    let working: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (clients, key, done) = (clients.clone(), key.clone(), done.clone());
            tokio::spawn(async move {
                let (mut told, mut unanswered) = (0, 0);
                for round in 0..each {
                    let uuid = format!("{number}-{round}");
                    // A few share each lock, so that some have to try again.
                    let body = json!({"key": (round % 40).to_string(), "uuid": uuid, "retryAttempts": 2, "retryDelay": 5});
                    let proxies = if (number + round) % 2 == 0 { [0, 1] } else { [1, 0] };
                    for proxy in proxies {
                        let holder = Holder::new(clients[proxy].clone(), &key);
                        let Some(answer) = holder.try_post("/lock/acquire", &body).await else {
                            unanswered += 1;
                            continue;
                        };
                        assert!([200, 409].contains(&answer.status), "{answer:?}");
                        told += answer.json["lockAcquisitionAttempts"].as_u64().unwrap();
                        let body = json!({"key": (round % 40).to_string(), "uuid": uuid});
                        holder.try_post("/lock/release", &body).await;
                        break;
                    }
                    done.fetch_add(1, order);
                }
                (told, unanswered)
            })
        })
        .collect();
    let half = eventually(REPORTED * 5, || async {
        done.load(order) >= each * CLIENTS / 2
    });
    assert!(half.await);
    world.proxies[0].process.signal(Signal::KILL);
    let (mut told, mut unanswered) = (0, 0);
    for client in working {
        let (more, lost) = client.await.unwrap();
        (told, unanswered) = (told + more, unanswered + lost);
    }
    let survivor = Holder::new(world.client(1), &key);
    let counted = usage(&survivor).await["attempts"].as_u64().unwrap();
    world.until_metered(counted).await;
    println!("told {told}, metered {counted}, {unanswered} requests without an answer");
    // An acquire without an answer may have made up to three attempts. Only the clients that were
    // waiting when the proxy died can have made one; those after it were refused a connection.
    let most = told + 3 * u64::try_from(CLIENTS).unwrap();
    assert!(
        (told.saturating_sub(LOST)..=most).contains(&counted),
        "{counted}, told {told}"
    );
}
