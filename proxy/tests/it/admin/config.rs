//! `/config`: every setting, where it comes from, and no secret.

use everlock_proxy::config::SETTINGS;
use everlock_testkit::RedisCluster;
use serde_json::{Value, json};

use super::{TOKEN, admin_of};
use crate::identity::Scratch;
use crate::support::{Client, Proxy, init};

#[tokio::test]
async fn every_setting_is_shown_with_its_source_and_no_secret() {
    let nodes = RedisCluster::start_with(3, |_, server| server.password("canary-redis"));
    init(&nodes.urls()).await;
    let urls = nodes.urls().join(",");
    assert!(urls.contains("canary-redis"), "the canary is in the URLs");
    let file = Scratch::with(
        "max-wait = \"22s\"\nadmin-listen = \"127.0.0.1:0\"\nlicence-refresh = \"5s\"\n",
        "shown.toml",
    );
    let (_proxy, admin) = configured(&urls, &file).await;
    let bearer = format!("Bearer {TOKEN}");
    let answer = admin
        .send("GET", "/config", &[("authorization", &bearer)], "")
        .await;
    let shown = answer.text.replace("canary-is-no-part-of-a-path", "");
    assert!(!shown.contains("canary"), "{shown}");

    let settings = answer.json["settings"].as_array().unwrap();
    let of = |name: &str| {
        let found = settings.iter().find(|setting| setting["name"] == name);
        let setting = found.unwrap_or_else(|| panic!("{name} is not shown"));
        (setting["value"].clone(), setting["source"].clone())
    };
    for setting in SETTINGS {
        of(setting.flag);
    }
    let flag = |flag: &str| json!({"from": "flag", "flag": flag});
    let variable = |name: &str| json!({"from": "environment", "variable": name});
    let in_file = |key: &str| json!({"from": "file", "path": file.path(), "key": key});
    let default = json!({"from": "default"});
    let hosts: Vec<_> = nodes
        .servers()
        .iter()
        .map(|server| format!("redis://127.0.0.1:{}", server.port()))
        .collect();
    let trimmed = |value: &Value| {
        value
            .as_str()
            .map(|url| url.trim_end_matches('/').to_owned())
    };
    let (value, source) = of("node");
    let shown_hosts: Vec<_> = value
        .as_array()
        .unwrap()
        .iter()
        .filter_map(trimmed)
        .collect();
    assert_eq!((shown_hosts, source), (hosts, variable("EVERLOCK_NODES")));
    for (name, value, source) in [
        ("max-wait", json!("22s"), in_file("max-wait")),
        ("drift-factor", json!(0.02), flag("--drift-factor")),
        ("max-lease", json!("30s"), variable("EVERLOCK_MAX_LEASE")),
        ("node-timeout", json!("300ms"), default.clone()),
        ("dev", json!(false), default.clone()),
        ("node-ca", Value::Null, default.clone()),
        ("auth", json!("licence"), flag("--auth")),
        (
            "polar-url",
            json!("https://polar.example/v1"),
            variable("EVERLOCK_POLAR_URL"),
        ),
        (
            "EVERLOCK_API_KEY_SECRETS",
            json!("redacted"),
            variable("EVERLOCK_API_KEY_SECRETS"),
        ),
        (
            "EVERLOCK_POLAR_TOKEN",
            json!("redacted"),
            variable("EVERLOCK_POLAR_TOKEN"),
        ),
        ("EVERLOCK_ADMIN_TOKEN", Value::Null, default.clone()),
    ] {
        assert_eq!(of(name), (value, source), "{name}");
    }
    assert_eq!(answer.json["file"], file.path());
}

/// With values from each of the four places, and a secret wherever there may be one.
async fn configured(urls: &str, file: &Scratch) -> (Proxy, Client) {
    let token = Scratch::with(TOKEN, "canary-is-no-part-of-a-path");
    let flags = [
        ("serve", ""),
        ("--listen", "127.0.0.1:0"),
        ("--config", file.path()),
        ("--admin-token-file", token.path()),
        ("--auth", "licence"),
        ("--polar-organization", "acme"),
        ("--drift-factor", "0.02"),
    ];
    let args = flags.iter().flat_map(|(flag, value)| [*flag, *value]);
    let args: Vec<_> = args.filter(|arg| !arg.is_empty()).collect();
    let env = [
        ("EVERLOCK_NODES", urls),
        (
            "EVERLOCK_API_KEY_SECRETS",
            "canary-secret-that-signs-all-api-keys",
        ),
        ("EVERLOCK_POLAR_TOKEN", "canary-polar-token"),
        (
            "EVERLOCK_POLAR_URL",
            "https://canary-user:canary-pw@polar.example/v1?t=canary",
        ),
        ("EVERLOCK_MAX_LEASE", "30s"),
    ];
    let mut proxy = Proxy::spawn(&args, &env).await;
    let admin = Client::new(admin_of(&mut proxy).await);
    (proxy, admin)
}
