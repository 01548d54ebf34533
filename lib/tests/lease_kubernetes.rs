//! Hazard: a lease that promises what it does not keep. The contract, and what goes
//! over the wire, at an API server's stand-in in this process.
//!
//! The contract at the cluster of the current kubeconfig, with leases of its own in
//! the current namespace: `EVERLOCK_CLUSTER=1 cargo test -p everlock --features
//! kubernetes,test-util --test lease_kubernetes the_cluster -- --nocapture`.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

#[path = "support/kube_api.rs"]
mod kube_api;
mod support;

use std::sync::Arc;
use std::time::Duration;

use everlock::lease::contract::{self, Subject, Waiting, Weather};
use everlock::lease::kubernetes::{KubernetesLease, KubernetesLeases, kube};
use everlock::lease::{Lease, LeaseError, LeaseOptions, LeaseOptionsBuilder};
use everlock::{LossReason, OwnerId};
use http::Method;
use kube_api::{ApiServer, Way};
use serde_json::{Value, json};
use support::leases::{ByOwner, ProcessClock};

const NAMESPACE: &str = "default";
const TTL: Duration = Duration::from_secs(3);

/// A process of an owner: its way to the server.
struct Process {
    way: Way,
    clock: Arc<ProcessClock>,
    leases: KubernetesLeases,
}

/// Leases at the stand-in, on tokio's time; each owner has a client and clock of its own.
struct StandIn {
    origin: tokio::time::Instant,
    server: ApiServer,
    processes: ByOwner<Process>,
}

fn at_the_stand_in() -> std::future::Ready<StandIn> {
    std::future::ready(StandIn {
        origin: tokio::time::Instant::now(),
        server: ApiServer::default(),
        processes: ByOwner::default(),
    })
}

impl StandIn {
    fn process(&self, owner: &str) -> Arc<Process> {
        self.processes.get(owner, || {
            let (way, clock) = (Way::fine(), ProcessClock::new(self.origin));
            let leases = KubernetesLeases::new(self.server.client(&way), NAMESPACE).unwrap();
            Process {
                leases: leases.with_clock(clock.clone()),
                way,
                clock,
            }
        })
    }

    fn owned_by(&self, owner: &str) -> KubernetesLease {
        let options = options(owner).build().unwrap();
        self.process(owner).leases.lease(options).unwrap()
    }

    fn spec(&self) -> Value {
        self.server.object(NAMESPACE, "lease").unwrap()["spec"].clone()
    }

    /// The requests that were done, by method and answer.
    fn done(&self) -> Vec<(Method, u16)> {
        let log = self.server.log();
        log.into_iter()
            .map(|(method, _, status)| (method, status))
            .collect()
    }
}

fn options(owner: &str) -> LeaseOptionsBuilder {
    LeaseOptions::builder("lease", owner).ttl(TTL)
}

impl Subject for StandIn {
    fn lease(&self, options: LeaseOptions) -> Arc<dyn Lease> {
        let process = self.process(options.owner());
        Arc::new(process.leases.lease(options).unwrap())
    }

    fn weather(&self, owner: &str, weather: Weather) -> bool {
        self.process(owner).way.plan(move |_| weather);
        true
    }

    fn suspend(&self, owner: &str, time: Duration) -> bool {
        self.process(owner).clock.miss(time);
        true
    }

    fn revoke<'a>(&'a self, name: &'a str) -> Waiting<'a, bool> {
        let revoke = |object: &mut Value| object["spec"]["holderIdentity"] = json!("");
        Box::pin(std::future::ready(
            self.server.edit(NAMESPACE, name, revoke),
        ))
    }
}

everlock::lease_contract!(at_the_stand_in);

#[tokio::test(start_paused = true)]
async fn what_is_sent_is_what_an_api_server_takes() {
    let world = at_the_stand_in().await;
    let (first, second) = (world.owned_by("first"), world.owned_by("second"));
    let created = first.acquire_with_token().await.unwrap().unwrap();
    let spec = world.spec();
    assert_eq!(spec["holderIdentity"], "first");
    assert_eq!(spec["leaseDurationSeconds"], 3);
    assert_eq!(spec["leaseTransitions"], 0);
    assert_eq!(spec["acquireTime"], spec["renewTime"]);
    tokio::time::sleep(TTL).await;
    assert!(world.spec()["renewTime"].as_str() > spec["renewTime"].as_str());
    assert_eq!(world.spec()["acquireTime"], spec["acquireTime"]);
    first.release().await.unwrap();
    assert_eq!(world.spec()["holderIdentity"], "");
    assert_eq!(world.spec()["leaseTransitions"], 0);
    let taken = second.acquire_with_token().await.unwrap().unwrap();
    assert_eq!(world.spec()["leaseTransitions"], 1);
    assert!(taken > created);
    second.release().await.unwrap();
    assert_eq!(world.spec()["leaseTransitions"], 1, "a release keeps them");
    assert!(first.acquire_with_token().await.unwrap().unwrap() > taken);
    assert_eq!(world.spec()["leaseTransitions"], 2);
    let methods = world.done();
    assert!(methods.iter().all(|(method, _)| *method != Method::DELETE));
    assert_eq!(methods[0], (Method::GET, 404));
    assert_eq!(methods[1], (Method::POST, 201));
}

#[tokio::test(start_paused = true)]
async fn a_live_foreign_holder_answers_at_once_and_only_a_lost_race_is_tried_again() {
    let world = at_the_stand_in().await;
    let (first, second) = (world.owned_by("first"), world.owned_by("second"));
    assert!(first.acquire().await.unwrap());
    let before = world.done().len();
    assert!(!second.acquire().await.unwrap());
    assert_eq!(world.done().len(), before + 1, "one look");
    first.release().await.unwrap();

    // Somebody annotates the object between each look and what follows it.
    let server = world.server.clone();
    let mut times = 2;
    world.process("second").way.plan(move |method| {
        if *method == Method::PUT && times > 0 {
            times -= 1;
            let note = |object: &mut Value| {
                object["metadata"]["annotations"] = json!({"n": times.to_string()});
            };
            server.edit(NAMESPACE, "lease", note);
        }
        Weather::Fine
    });
    assert!(second.acquire().await.unwrap());
    let conflicts = world
        .done()
        .iter()
        .filter(|(_, status)| *status == 409)
        .count();
    assert_eq!(conflicts, 2);
    second.release().await.unwrap();

    // More often than it is tried: then nobody knows.
    let server = world.server.clone();
    world.process("second").way.plan(move |method| {
        if *method == Method::PUT {
            let note = |object: &mut Value| {
                let version = object["metadata"]["resourceVersion"].clone();
                object["metadata"]["annotations"] = json!({ "n": version });
            };
            server.edit(NAMESPACE, "lease", note);
        }
        Weather::Fine
    });
    let result = second.acquire().await;
    assert!(
        matches!(result, Err(LeaseError::Unavailable { .. })),
        "{result:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_object_that_others_annotate_is_renewed_and_released_all_the_same() {
    let world = at_the_stand_in().await;
    let holder = world.owned_by("holder");
    assert!(holder.acquire().await.unwrap());
    for round in 0..10 {
        let note = |object: &mut Value| {
            object["metadata"]["annotations"] = json!({"n": round.to_string()});
        };
        assert!(world.server.edit(NAMESPACE, "lease", note));
        tokio::time::sleep(TTL / 3).await;
        assert!(holder.check_alive());
    }
    let note = |object: &mut Value| object["metadata"]["labels"] = json!({"kept": "yes"});
    assert!(world.server.edit(NAMESPACE, "lease", note));
    holder.release().await.unwrap();
    assert_eq!(world.spec()["holderIdentity"], "");
    let object = world.server.object(NAMESPACE, "lease").unwrap();
    assert_eq!(object["metadata"]["labels"], json!({"kept": "yes"}));
}

#[tokio::test(start_paused = true)]
async fn another_machines_wall_clock_neither_shortens_nor_prolongs_a_lease() {
    for hours in [-10_i64, 10] {
        let world = at_the_stand_in().await;
        let (first, second) = (world.owned_by("first"), world.owned_by("second"));
        assert!(first.acquire().await.unwrap());
        // What stands there is old, or of the future, by the second's clock.
        let shift = |object: &mut Value| {
            let hour = if hours < 0 {
                "2001-01-01T"
            } else {
                "2121-01-01T"
            };
            for field in ["acquireTime", "renewTime"] {
                object["spec"][field] = json!(format!("{hour}00:00:00.000000Z"));
            }
        };
        assert!(world.server.edit(NAMESPACE, "lease", shift));
        world.process("first").way.plan(|_| Weather::Silent);
        let started = tokio::time::Instant::now();
        while !second.acquire().await.unwrap() {
            assert!(started.elapsed() < 2 * TTL);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(started.elapsed() >= TTL, "{:?}", started.elapsed());
        let spec = world.spec();
        assert_eq!(spec["holderIdentity"], "second");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_object_is_a_loss_and_can_be_acquired_anew() {
    let world = at_the_stand_in().await;
    let holder = world.owned_by("holder");
    assert!(holder.acquire().await.unwrap());
    let (lost, heard) = tokio::sync::oneshot::channel();
    let lost = std::sync::Mutex::new(Some(lost));
    let _heard = holder.on_lost(Box::new(move |reason| {
        let _ = lost.lock().unwrap().take().unwrap().send(reason);
    }));
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/lease";
    let (status, _) = world.server.answer(&Method::DELETE, path, b"");
    assert_eq!(status, 200);
    assert_eq!(heard.await.unwrap(), LossReason::Gone);
    assert!(!holder.check_alive());
    assert!(holder.acquire().await.unwrap() && holder.check_alive());
}

#[tokio::test(start_paused = true)]
async fn what_no_server_takes_and_what_this_one_forbids_is_told_as_such() {
    let world = at_the_stand_in().await;
    let elsewhere = world.server.client(&Way::fine());
    let leases = KubernetesLeases::new(elsewhere, NAMESPACE).unwrap();
    for name in [
        "",
        "Capital",
        "under_score",
        "-begins",
        "ends-",
        &"a".repeat(254),
    ] {
        let Ok(options) = LeaseOptions::builder(name, "owner").build() else {
            continue;
        };
        let refused = leases.lease(options).unwrap_err().to_string();
        assert!(refused.starts_with("name is a text of"), "{refused}");
    }
    assert!(KubernetesLeases::new(world.server.client(&Way::fine()), "Na").is_err());
    // A permission that is missing is no matter of trying again.
    let odd = kube::Client::new(Refusing, "default");
    let refused = KubernetesLeases::new(odd, NAMESPACE).unwrap();
    let refused = refused.lease(options("owner").build().unwrap()).unwrap();
    let result = refused.acquire().await;
    assert!(
        matches!(result, Err(LeaseError::Refused { .. })),
        "{result:?}"
    );
}

/// A server that forbids everything.
struct Refusing;

impl tower_service::Service<http::Request<kube::client::Body>> for Refusing {
    type Response = http::Response<kube::client::Body>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<kube::client::Body>) -> Self::Future {
        let told = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "leases is forbidden", "reason": "Forbidden", "code": 403,
        });
        let body = kube::client::Body::from(serde_json::to_vec(&told).unwrap());
        let response = http::Response::builder().status(403).body(body);
        std::future::ready(Ok(response.unwrap()))
    }
}

#[tokio::test(start_paused = true)]
async fn the_stand_in_is_as_strict_as_an_api_server() {
    let server = ApiServer::default();
    let base = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let path = format!("{base}/lease");
    let object = |spec: Value, version: Option<&str>| {
        let mut object = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "lease"}, "spec": spec,
        });
        if let Some(version) = version {
            object["metadata"]["resourceVersion"] = json!(version);
        }
        serde_json::to_vec(&object).unwrap()
    };
    let status = |method: Method, path: &str, body: &[u8]| server.answer(&method, path, body).0;
    let time = |text: &str| object(json!({"renewTime": text}), None);
    assert_eq!(status(Method::GET, &path, b""), 404);
    assert_eq!(
        status(Method::PUT, &path, &object(json!({}), Some("1"))),
        404
    );
    for wrong in [
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.123Z",
        "2026-01-01T00:00:00.1234567Z",
    ] {
        assert_eq!(status(Method::POST, base, &time(wrong)), 400, "{wrong}");
    }
    let short = object(json!({"leaseDurationSeconds": 0}), None);
    assert_eq!(status(Method::POST, base, &short), 422);
    let right = time("2026-01-01T00:00:00.123456Z");
    assert_eq!(status(Method::POST, base, &right), 201);
    assert_eq!(status(Method::POST, base, &right), 409);
    assert_eq!(
        status(Method::PUT, &path, &right),
        422,
        "an update needs a version"
    );
    let holder = |name: &str, version| object(json!({"holderIdentity": name}), Some(version));
    assert_eq!(status(Method::PUT, &path, &holder("a", "1")), 200);
    assert_eq!(status(Method::PUT, &path, &holder("b", "1")), 409);
    let (_, same) = server.answer(&Method::PUT, &path, &holder("a", "2"));
    assert_eq!(
        same["metadata"]["resourceVersion"], "2",
        "nothing has changed"
    );
    let condition = br#"{"preconditions":{"resourceVersion":"1"}}"#;
    assert_eq!(status(Method::DELETE, &path, condition), 409);
    assert_eq!(status(Method::DELETE, &path, b""), 200);
}

/// The contract in real time at a cluster, where one is at hand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_of_the_current_kubeconfig_keeps_the_contract() {
    struct Cluster(KubernetesLeases, String);
    impl Subject for Cluster {
        fn lease(&self, options: LeaseOptions) -> Arc<dyn Lease> {
            // Names of its own for each run, so that none meets what another left.
            let owner = format!("{}-{}", options.owner(), self.1);
            let name = format!("{}-{}", options.name(), self.1);
            let ours = LeaseOptions::builder(name, owner).ttl(options.ttl());
            Arc::new(self.0.lease(ours.build().unwrap()).unwrap())
        }

        fn ttl(&self) -> Duration {
            Duration::from_secs(6)
        }

        fn crowd(&self) -> usize {
            20
        }
    }
    if std::env::var_os("EVERLOCK_CLUSTER").is_none() {
        return;
    }
    let leases = KubernetesLeases::infer().await.unwrap();
    let run = OwnerId::fresh();
    let run = run.as_str().rsplit('-').next().unwrap().to_owned();
    contract::run(&Cluster(leases, run)).await;
}
