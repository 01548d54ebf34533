//! Hazard: users and passwords of nodes; and secrets that come to light.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use everlock::observer::{Event, Observer};
use everlock::{NodeTls, Redlock};
use everlock_testkit::{RedisCluster, TlsFiles};
use support::secured::{read, trusting, with_tls, works};
use support::turns::{MAX_LEASE, SECOND, attempt};

const CANARY: &str = "canary-7f3a9";

#[tokio::test]
async fn passwords_in_urls_are_used() {
    let cluster = RedisCluster::start_with(3, |_, server| server.password(CANARY));
    works(Redlock::builder().node_urls(cluster.urls()), &cluster).await;
}

#[tokio::test]
async fn users_in_urls_are_used_with_passwords_that_need_escaping() {
    let cluster = RedisCluster::start_with(3, |_, server| {
        let server = server.password("not-ours");
        server.acl_user("locker", "p@ss:w/rd?#%", "~* &* +@all")
    });
    let url = |server: &everlock_testkit::RedisServer| {
        server.url_as("locker", "p%40ss%3Aw%2Frd%3F%23%25")
    };
    let urls = cluster.servers().iter().map(url);
    works(Redlock::builder().node_urls(urls), &cluster).await;
}

#[tokio::test]
async fn a_user_with_the_least_rights_can_lock() {
    let rights = "resetchannels ~* -@all +evalsha +script|load +info +time +get +set +mget +del \
                  +pttl +pexpire +hset +hmget +hgetall +hget";
    let cluster =
        RedisCluster::start_with(3, |_, server| server.acl_user("locker", "secret", rights));
    let url = |server: &everlock_testkit::RedisServer| server.url_as("locker", "secret");
    let urls = cluster.servers().iter().map(url);
    works(Redlock::builder().node_urls(urls), &cluster).await;
}

/// Keeps what it is told, as a log would.
#[derive(Default)]
struct Log(Mutex<String>);

impl Observer for Log {
    fn event(&self, event: &Event<'_>) {
        writeln!(self.0.lock().unwrap(), "{event:?}").unwrap();
    }
}

/// Everything that a client with these URLs says of itself.
async fn all_that_is_said(urls: Vec<String>, tls: NodeTls) -> String {
    let log = Arc::new(Log::default());
    let builder = || {
        let builder = Redlock::builder().node_urls(urls.clone());
        builder.node_tls(tls.clone()).observer(log.clone())
    };
    let mut said = format!("{:?}\n{tls:?}\n", builder());
    let mut say = |something: &dyn Debug| write!(said, "{something:?}\n{something:#?}\n").unwrap();
    match builder().cluster() {
        Ok(cluster) => {
            say(&cluster);
            say(&cluster.init(Some(MAX_LEASE)).await);
            say(&cluster.status().await);
        }
        Err(error) => {
            say(&error.to_string());
            say(&error);
        }
    }
    match builder().connect().await {
        Ok(client) => {
            say(&client);
            say(&client.readiness().await);
            match client.acquire("r", attempt()).await {
                Ok(grant) => {
                    say(&grant);
                    say(&client.extend(&grant, SECOND).await);
                    say(&client.release(&grant).await);
                }
                Err(error) => {
                    say(&error.to_string());
                    say(&error);
                }
            }
        }
        Err(error) => {
            say(&error.to_string());
            say(&error);
        }
    }
    said.push_str(&log.0.lock().unwrap());
    said
}

#[tokio::test]
async fn a_password_comes_to_light_nowhere() {
    let files = TlsFiles::make();
    let works = RedisCluster::start_with(3, |_, server| server.password(CANARY));
    let refuses = RedisCluster::start_with(3, |_, server| server.password("another"));
    let secure = with_tls(3, &files, "no");
    let wrong = |cluster: &RedisCluster| -> Vec<_> {
        let servers = cluster.servers().iter();
        servers
            .map(|server| server.url_as("default", CANARY))
            .collect()
    };
    let one = |url: &str| vec![url.replace("SECRET", CANARY)];
    for urls in [
        works.urls(),
        wrong(&refuses),
        wrong(&secure),
        one("redis://locker:SECRET@127.0.0.1:1/"),
        one("redis://locker:SECRET@no-such-host.invalid/"),
        one("redis://locker:SECRET@127.0.0.1:notaport/"),
        one("redis://locker:SECRET@127.0.0.1/notadb"),
        one("redis://locker:SECRET@[::1/"),
        one("http://locker:SECRET@127.0.0.1/"),
        one("locker:SECRET@127.0.0.1"),
        one("redis://:SECRET@/"),
        one("redis://127.0.0.1:1/?password=SECRET"),
        one("redis+unix:///nowhere?user=locker&pass=SECRET"),
        one("SECRET"),
    ] {
        let shown = format!("{urls:?}").replace(CANARY, "SECRET");
        let said = all_that_is_said(urls, trusting(&files)).await;
        assert!(said.len() > 200, "{shown}: {said}");
        assert!(!said.contains(CANARY), "{shown}: {said}");
    }
    let key = String::from_utf8(read(&files.key())).unwrap();
    let identity = trusting(&files).identity(read(&files.certificate()), key.clone());
    let said = all_that_is_said(secure.urls(), identity).await;
    assert!(!said.contains(key.lines().nth(1).unwrap()), "{said}");
}
