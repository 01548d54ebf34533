//! Nodes behind TLS, and a user of theirs that may do what locks need and nothing else.
//!
//! The user is the one of docs/operations.md, taken from there: so the text is tried, and what is
//! tried is what people copy.

use std::collections::BTreeSet;
use std::path::Path;

use everlock_testkit::{FakePolar, RedisCluster, RedisServer, Reply, TlsFiles, eventually};
use serde_json::{Value, json};

use crate::identity::licences::{LICENCE, delete, licence, made};
use crate::identity::setup::{Holder, SECRET, SECRETS_ENV};
use crate::support::{Proxy, SOON, cluster};

const DOCUMENT: &str = include_str!("../../../docs/operations.md");
const PASSWORD: &str = "s3cret";
/// What the connection itself needs, whatever the scripts do.
const BESIDES: [&str; 6] = [
    "evalsha",
    "script|load",
    "info",
    "ping",
    "subscribe",
    "unsubscribe",
];
/// Tried, and done without where it is not permitted: what the library of the connection tells of
/// itself, and whether every write is synced.
const DONE_WITHOUT: [&str; 2] = ["client|setinfo", "config|get"];

/// The user's rules, as they follow its name in the document.
fn rules() -> &'static str {
    let mut users = DOCUMENT
        .lines()
        .filter_map(|line| line.strip_prefix("user everlock "));
    let (Some(user), None) = (users.next(), users.next()) else {
        panic!("the document has one user");
    };
    let rules = user.strip_prefix("on >PASSWORD ").expect("a place for it");
    assert!(
        rules.contains(" -@all ") && !rules.contains("+@"),
        "{rules}"
    );
    rules
}

#[test]
fn the_user_may_call_what_the_scripts_call_and_no_more() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut needed: BTreeSet<_> = BESIDES.map(str::to_owned).into();
    let mut texts =
        vec![std::fs::read_to_string(root.join("proxy/src/identity/ledger.rs")).unwrap()];
    for folder in ["lib/src/node/scripts", "proxy/src/identity/scripts"] {
        for file in std::fs::read_dir(root.join(folder)).unwrap() {
            texts.push(std::fs::read_to_string(file.unwrap().path()).unwrap());
        }
    }
    for text in &texts {
        for call in text
            .split("redis.call(")
            .skip(1)
            .chain(text.split("redis.pcall(").skip(1))
        {
            let name = call
                .strip_prefix('\'')
                .and_then(|rest| rest.split('\'').next());
            needed.insert(name.expect("a command by its name").to_lowercase());
        }
    }
    assert!(needed.len() > BESIDES.len() + 20, "{needed:?}");
    let permitted: BTreeSet<_> = rules()
        .split(' ')
        .filter_map(|rule| rule.strip_prefix('+').map(str::to_owned))
        .collect();
    assert_eq!(permitted, needed);
}

/// What the server refused to whom, but for what is done without.
fn refused(server: &RedisServer) -> Vec<String> {
    let entries = server.command_bytes(&[b"ACL", b"LOG"]).into_array();
    let entries = entries.into_iter().map(Reply::into_array);
    let field = |entry: &[Reply], name: &str| {
        let at = entry.iter().position(|part| part.to_string() == name);
        at.and_then(|at| entry.get(at + 1)).map(Reply::to_string)
    };
    entries
        .map(|entry| field(&entry, "object").unwrap_or_default())
        .filter(|object| !DONE_WITHOUT.contains(&object.as_str()))
        .collect()
}

fn nodes(files: &TlsFiles) -> RedisCluster {
    RedisCluster::start_with(3, |_, server| {
        server
            .tls(&files.certificate(), &files.key(), &files.ca())
            .config("tls-auth-clients", "yes")
            .config("user", "default off")
            .acl_user("everlock", PASSWORD, rules())
    })
}

#[tokio::test]
async fn all_that_the_proxy_does_is_permitted_to_the_user_of_the_document() {
    let (files, polar) = (
        TlsFiles::make(),
        FakePolar::start([licence(LICENCE, None)]).await,
    );
    let nodes = nodes(&files);
    let servers = nodes.servers().iter();
    let urls: Vec<_> = servers
        .map(|server| server.url_as("everlock", PASSWORD))
        .collect();
    let paths = [files.ca(), files.certificate(), files.key(), polar.ca()];
    let [ca, certificate, key, polar_ca] = paths.each_ref().map(|path| path.to_str().unwrap());
    let node_tls = [
        "--node-ca",
        ca,
        "--node-cert",
        certificate,
        "--node-key",
        key,
    ];
    for command in ["init", "status"] {
        let (status, output) = cluster(command, &urls, &node_tls).await;
        assert!(status.success(), "{command}: {output}");
    }
    let (joined, polar_url) = (urls.join(","), polar.url());
    let args = ["serve", "--listen", "127.0.0.1:0", "--auth", "licence"];
    let licences = [
        "--polar-url",
        &polar_url,
        "--polar-organization",
        FakePolar::ORGANISATION,
        "--polar-ca",
        polar_ca,
    ];
    let env = [
        ("EVERLOCK_NODES", joined.as_str()),
        (SECRETS_ENV, SECRET),
        ("EVERLOCK_POLAR_TOKEN", FakePolar::TOKEN),
    ];
    let args = [&args[..], &licences, &node_tls].concat();
    let proxy = Proxy::spawn(&args, &env).await.ready().await;
    let api_key = made(&proxy.client(), LICENCE).await;
    use_all(&proxy, &api_key).await;
    let reported = eventually(SOON, || async { !polar.events().is_empty() });
    assert!(reported.await, "usage is reported");
    assert_eq!(delete(&proxy.client(), LICENCE, &api_key).await.status, 204);
    for server in nodes.servers() {
        assert_eq!(refused(server), [""; 0]);
    }
}

/// Everything that holders of locks can ask for.
async fn use_all(proxy: &Proxy, api_key: &str) {
    let holder = Holder::new(proxy.client(), api_key);
    let acquire = async |uuid: &str, more: Value| {
        let mut body = json!({"key": "k", "uuid": uuid, "retryDelay": 200, "retryAttempts": 100});
        let fields = body.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        holder.post("/lock/acquire", &body).await
    };
    for fifo in [false, true] {
        let first = acquire("first", json!({"fifo": fifo})).await;
        assert_eq!(first.status, 200, "{first:?}");
        let contended = holder.try_acquire("k", "third").await;
        assert_eq!(contended.status, 409, "{contended:?}");
        let (second, released) = tokio::join!(acquire("second", json!({"fifo": fifo})), async {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            assert_eq!(holder.extend("k", "first").await.status, 200);
            holder.release("k", "first").await
        });
        assert_eq!((second.status, released.status), (200, 200), "{second:?}");
        // Gives up while it stands in line.
        let more = json!({"fifo": fifo, "retryAttempts": 2});
        assert_eq!(acquire("third", more).await.status, 409);
        assert_eq!(holder.release("k", "second").await.status, 200);
    }
    let headers = [("authorization", holder.authorization.as_str())];
    let usage = proxy.client().send("GET", "/usage", &headers, "").await;
    assert_eq!(usage.status, 200, "{usage:?}");
}
