//! Secrets come out nowhere: not in a log at its most talkative, nor in any answer but the one that
//! hands a key to its owner.

use everlock_testkit::{FakePolar, PolarFault, RedisCluster, Signal};
use serde_json::json;

use crate::support::{Client, Proxy, SOON, init};

use super::licences::{LICENCE, create, delete, licence, licensed, made};
use super::setup::{Holder, OTHER_SECRET, SECRET, issue};

const NODE_PASSWORD: &str = "canary-node-password";

/// Where operators are served, whichever way the log is written.
async fn admin_of(proxy: &mut Proxy, format: &str) -> std::net::SocketAddr {
    if format == "plain" {
        return crate::admin::admin_of(proxy).await;
    }
    let served = |line: &str| line.contains("operators are served");
    let line = proxy.process.wait_for_line(served, SOON).await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    line["admin"].as_str().unwrap().parse().unwrap()
}

/// All that an operator can read. The names of busy locks are meant to be there, in one place.
async fn told_to_operators(admin: &Client) -> String {
    let mut told = String::new();
    for page in ["/metrics", "/config", "/version", "/insights"] {
        let answer = admin.get(page).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        told += &if page == "/insights" {
            answer.text.replace("canary-key", "")
        } else {
            answer.text
        };
    }
    told
}

#[tokio::test]
async fn secrets_are_in_no_log_and_in_no_answer() {
    let nodes = RedisCluster::start_with(3, |_, server| server.password(NODE_PASSWORD));
    init(&nodes.urls()).await;
    let polar = FakePolar::start([licence(LICENCE, Some(3))]).await;
    for format in ["json", "plain"] {
        let flags = [
            "--log-level",
            "trace",
            "--log-format",
            format,
            "--licence-refresh",
            "1s",
            "--admin-listen",
            "127.0.0.1:0",
        ];
        let mut proxy = licensed(&nodes.urls(), &polar, &flags).await;
        let admin = Client::new(admin_of(&mut proxy, format).await);
        let client = proxy.client();
        let key = made(&client, LICENCE).await;
        let foreign = issue("acme", OTHER_SECRET).await;
        let holder = Holder::new(client.clone(), &key);
        let mut seen = String::new();
        for fault in [
            PolarFault::None,
            PolarFault::Broken,
            PolarFault::Redirect,
            PolarFault::Endless,
            PolarFault::LostAnswer,
        ] {
            polar.set_fault(fault);
            let answers = [
                holder.try_acquire("canary-key", "canary-uuid").await,
                holder.extend("canary-key", "canary-uuid").await,
                holder
                    .post(
                        "/lock/acquire",
                        &json!({"key": "canary-key", "lease": "canary-uuid"}),
                    )
                    .await,
                holder.release("canary-key", "canary-uuid").await,
                Holder::new(client.clone(), &foreign)
                    .release("canary-key", "canary-uuid")
                    .await,
                delete(&client, LICENCE, &foreign).await,
                delete(&client, "CANARY-WRONG-LICENCE", &key).await,
                create(&client, "CANARY-WRONG-LICENCE").await,
                client.get("/usage").await,
                client.get("/readyz").await,
                client
                    .send("POST", "/api-key", &[], format!("{LICENCE} is no JSON"))
                    .await,
                client
                    .send(
                        "POST",
                        "/api-key",
                        &[],
                        format!("{{\"licenceKey\":[\"{LICENCE}\"]}}"),
                    )
                    .await,
            ];
            // An acquire echoes what was asked, to whoever asked it.
            let errors = answers
                .iter()
                .filter(|answer| answer.json["config"].is_null());
            seen.extend(errors.map(|answer| format!("{:?} {}\n", answer.headers, answer.text)));
            tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        }
        // A node that is gone has the log say more.
        nodes.pause(0);
        holder.try_acquire("canary-key", "canary-uuid").await;
        nodes.resume(0);
        polar.set_fault(PolarFault::None);
        assert_eq!(delete(&client, LICENCE, &key).await.status, 204);
        seen += &told_to_operators(&admin).await;
        proxy.process.signal(Signal::TERM);
        proxy.process.wait_exit(SOON).await;
        let log = proxy.process.output();
        assert!(
            log.contains("Polar") && log.contains("/lock/release"),
            "there is a log: {log}"
        );
        seen += &log;
        let secrets = [
            key.as_str(),
            &foreign,
            LICENCE,
            SECRET,
            OTHER_SECRET,
            FakePolar::TOKEN,
            NODE_PASSWORD,
        ];
        let others = ["CANARY-WRONG-LICENCE", "canary-key", "canary-uuid"];
        for secret in secrets.iter().chain(&others) {
            let at = seen.find(secret);
            let line = at.map(|at| &seen[at.saturating_sub(200)..(at + 100).min(seen.len())]);
            assert!(line.is_none(), "{format}: {line:?}");
        }
    }
}
