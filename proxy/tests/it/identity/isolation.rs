//! One identity can't reach another's locks, whatever it calls them.

use proptest::prelude::*;
use serde_json::json;

use crate::support::Local;

use super::setup::{Holder, SECRET, Scratch, issue};

/// What keys of attackers are made of.
const PARTS: [&str; 22] = [
    ":",
    "::",
    "~",
    "~fence",
    "~queue",
    "~usage",
    "~revoked",
    "Evermind",
    "Evermind:",
    "victim",
    "victim:",
    "attacker",
    "attacker:",
    ":victim:k",
    "k",
    "\0",
    "\n",
    "..",
    "/",
    "{",
    "ä",
    "*",
];

async fn two_identities() -> (Local, Holder, Holder) {
    let file = Scratch::with(SECRET, "isolation-secrets");
    let flags = [("auth", "keys"), ("api-key-secret-file", file.path())];
    let proxy = Local::start(&flags).await;
    let (victim, attacker) = (
        issue("victim", SECRET).await,
        issue("attacker", SECRET).await,
    );
    let [victim, attacker] = [victim, attacker].map(|key| Holder::new(proxy.client(), &key));
    (proxy, victim, attacker)
}

/// The attacker does all it can with this key; the victim's lock of the key `k` must not notice.
async fn attack(victim: &Holder, attacker: &Holder, key: &str) {
    for own in ["k", key] {
        let taken = victim.try_acquire(own, "secret-uuid").await;
        assert_eq!(taken.status, 200, "{own:?}: {taken:?}");
        for under in [key, own] {
            // Even the owner's uuid is of no use to another identity.
            assert_eq!(
                attacker.extend(under, "secret-uuid").await.status,
                404,
                "{under:?}"
            );
            assert_eq!(
                attacker.release(under, "secret-uuid").await.status,
                404,
                "{under:?}"
            );
            let answer = attacker.try_acquire(under, "other-uuid").await;
            assert_eq!(answer.status, 200, "{under:?}: {answer:?}");
            assert_eq!(attacker.release(under, "other-uuid").await.status, 200);
        }
        // The same lock, under the same token: nobody had it in between.
        let again = victim.try_acquire(own, "secret-uuid").await;
        assert_eq!(
            again.json["fencingToken"], taken.json["fencingToken"],
            "{own:?}"
        );
        assert_eq!(victim.release(own, "secret-uuid").await.status, 200);
    }
}

#[tokio::test]
async fn every_pair_of_hostile_parts_leaves_the_victims_locks_alone() {
    let (_proxy, victim, attacker) = two_identities().await;
    for one in PARTS {
        for other in PARTS {
            attack(&victim, &attacker, &format!("{one}{other}")).await;
        }
    }
}

#[test]
fn hostile_keys_of_any_kind_leave_the_victims_locks_alone() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_proxy, victim, attacker) = runtime.block_on(two_identities());
    let parts = prop::collection::vec(prop::sample::select(&PARTS[..]), 1..6);
    let hostile = parts.prop_map(|parts| parts.concat());
    let any = any::<String>().prop_filter("keys have 1 to 512 bytes", |key| {
        (1..=512).contains(&key.len())
    });
    let config = ProptestConfig {
        cases: 128,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(key in prop_oneof![hostile, any])| {
        runtime.block_on(attack(&victim, &attacker, &key));
    });
}

#[tokio::test]
async fn what_an_identity_waits_for_in_line_is_its_own() {
    let (_proxy, victim, attacker) = two_identities().await;
    let ask = |uuid: &str| json!({"key": "k", "uuid": uuid, "fifo": true, "retryAttempts": 0});
    assert_eq!(victim.post("/lock/acquire", &ask("a")).await.status, 200);
    assert_eq!(attacker.post("/lock/acquire", &ask("b")).await.status, 200);
}
