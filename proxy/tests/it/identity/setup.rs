//! Proxies that demand API keys, and the operator's commands.

use std::io::Write as _;

use everlock_testkit::RedisCluster;
use serde_json::{Value, json};

use crate::support::{Answer, Client, Proxy, init, run};

pub(crate) const SECRET: &str = "the signing secret of these tests";
pub(crate) const OTHER_SECRET: &str = "another one that nobody here knows";
pub(crate) const SECRETS_ENV: &str = "EVERLOCK_API_KEY_SECRETS";

/// A proxy over these nodes, which were opened, with these secrets.
pub(crate) async fn guarded(urls: &[String], secrets: &str, flags: &[&str]) -> Proxy {
    let nodes = urls.join(",");
    let fixed = ["serve", "--listen", "127.0.0.1:0", "--auth", "keys"];
    let args: Vec<_> = fixed.iter().chain(flags).copied().collect();
    let env = [("EVERLOCK_NODES", nodes.as_str()), (SECRETS_ENV, secrets)];
    Proxy::spawn(&args, &env).await
}

/// `n` proxies over five fresh nodes.
pub(crate) async fn deployment(n: usize) -> (RedisCluster, Vec<Proxy>) {
    let nodes = RedisCluster::start(5);
    init(&nodes.urls()).await;
    let mut proxies = Vec::new();
    for _ in 0..n {
        proxies.push(guarded(&nodes.urls(), SECRET, &[]).await.ready().await);
    }
    (nodes, proxies)
}

/// What `everlock keys issue` prints.
pub(crate) async fn issue(identity: &str, secret: &str) -> String {
    let args = ["keys", "issue", "--identity", identity];
    let (status, output) = run(&args, &[(SECRETS_ENV, secret)]).await;
    assert!(status.success(), "{output}");
    output.trim().to_owned()
}

/// `everlock keys revoke`: its exit code and what it prints.
pub(crate) async fn revoke(urls: &[String], key: &str) -> (Option<i32>, String) {
    let nodes = urls.join(",");
    let env = [("EVERLOCK_NODES", nodes.as_str()), (SECRETS_ENV, SECRET)];
    let (status, output) = run(&["keys", "revoke", key], &env).await;
    (status.code(), output)
}

/// A client with an API key.
pub(crate) struct Holder {
    pub(crate) client: Client,
    pub(crate) authorization: String,
}

impl Holder {
    pub(crate) fn new(client: Client, key: &str) -> Self {
        let authorization = format!("Bearer {key}");
        Self {
            client,
            authorization,
        }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        let headers = [("authorization", self.authorization.as_str())];
        self.client
            .send("POST", path, &headers, body.to_string())
            .await
    }

    /// As [`Holder::post`], for a proxy that may be gone.
    pub(crate) async fn try_post(&self, path: &str, body: &Value) -> Option<Answer> {
        let headers = [("authorization", self.authorization.as_str())];
        let body = body.to_string();
        self.client.try_send("POST", path, &headers, body).await
    }

    pub(crate) async fn try_acquire(&self, key: &str, uuid: &str) -> Answer {
        let body = json!({"key": key, "uuid": uuid, "retryAttempts": 0});
        self.post("/lock/acquire", &body).await
    }

    pub(crate) async fn extend(&self, key: &str, uuid: &str) -> Answer {
        let body = json!({"key": key, "uuid": uuid, "extendBy": 1000});
        self.post("/lock/extend", &body).await
    }

    pub(crate) async fn release(&self, key: &str, uuid: &str) -> Answer {
        let body = json!({"key": key, "uuid": uuid});
        self.post("/lock/release", &body).await
    }

    /// Whether the key is still good for anything.
    pub(crate) async fn is_admitted(&self) -> bool {
        self.release("no such lock", "nobody").await.status == 404
    }
}

/// A file that is gone with the value.
pub(crate) struct Scratch(std::path::PathBuf);

impl Scratch {
    pub(crate) fn with(text: &str, name: &str) -> Self {
        let name = format!("everlock-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
