//! Hazard: a dashboard that stays empty, an alert that never comes, a metric that nobody knows of:
//! they, and the documentation, must name what is exported.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use everlock_testkit::{RedisCluster, eventually};
use serde_json::json;

use super::admin_of;
use crate::support::{Client, Proxy, SOON, init};

const OPERATIONS: &str = include_str!("../../../../docs/operations.md");
/// What is ours to export.
const PREFIXES: [&str; 3] = ["everlock_", "http_server_", "process_"];
/// What a histogram is exported as.
const PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];

fn deployed(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read_to_string(root.join("deploy").join(path)).unwrap()
}

/// Every name of ours in a text, whatever is around it.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = |word: &&str| PREFIXES.iter().any(|prefix| word.starts_with(prefix));
    words.filter(ours).collect()
}

/// The metric families of an exposition, with their types.
fn exported(text: &str) -> BTreeMap<&str, &str> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|line| line.split_once(' ')).collect()
}

fn is_exported(name: &str, families: &BTreeMap<&str, &str>) -> bool {
    let base = PARTS.iter().find_map(|part| name.strip_suffix(part));
    match base.and_then(|base| families.get(base)) {
        Some(kind) => *kind == "histogram",
        // A histogram has no series of its own name.
        None => families.get(name).is_some_and(|kind| *kind != "histogram"),
    }
}

/// What a proxy exports that was asked for everything and has seen a node fail.
async fn exposition() -> String {
    let nodes = RedisCluster::start(3);
    let flags = ["--admin-listen", "127.0.0.1:0"];
    init(&nodes.urls()).await;
    // Nobody is there; that spans are lost is counted from zero.
    let collector = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")];
    let proxy = Proxy::over_with(&nodes.urls(), &flags, &collector).await;
    let mut proxy = proxy.ready().await;
    let admin = Client::new(admin_of(&mut proxy).await);
    let client = proxy.client();
    let ask = json!({"key": "k", "uuid": "u", "lease": 60_000});
    assert_eq!(client.acquire(ask).await.status, 200);
    assert_eq!(client.extend("k", "u", 1_000).await.status, 200);
    assert_eq!(client.release("k", "u").await.status, 200);
    // What fails is named when it happens.
    nodes.kill(2);
    client.try_acquire("l", "u").await;
    // Clocks are looked at now and then.
    let offsets = eventually(SOON, || async {
        let text = admin.get("/metrics").await.text;
        text.contains("everlock_node_clock_offset_seconds") && text.contains("node_errors_total")
    });
    assert!(offsets.await);
    admin.get("/metrics").await.text
}

#[tokio::test]
async fn every_metric_of_the_dashboard_and_the_alerts_is_exported_and_none_has_no_panel() {
    let text = exposition().await;
    let families = exported(&text);
    let files = ["grafana/everlock.json", "prometheus/alerts.yml"];
    let mut unknown = Vec::new();
    for file in files {
        let wanted = deployed(file);
        let names = named(&wanted);
        assert!(names.len() > 10, "{file}: {names:?}");
        let missing = names
            .into_iter()
            .filter(|name| !is_exported(name, &families));
        unknown.extend(missing.map(|name| format!("{file}: {name}")));
    }
    assert!(unknown.is_empty(), "{}\n{text}", unknown.join("\n"));
    let dashboard = deployed(files[0]);
    let shown = named(&dashboard);
    let is_shown = |name: &str, kind: &str| match kind {
        "histogram" => PARTS
            .iter()
            .any(|part| shown.contains(&*format!("{name}{part}"))),
        _ => shown.contains(name),
    };
    let hidden: Vec<_> = families
        .into_iter()
        .filter(|(name, kind)| {
            // Those of the process are many, and the same everywhere.
            !name.starts_with("process_") && !is_shown(name, kind)
        })
        .collect();
    assert!(hidden.is_empty(), "no panel shows {hidden:?}");
}

/// The names and types in the table of the metrics.
fn documented() -> BTreeMap<&'static str, &'static str> {
    let (_, section) = OPERATIONS.split_once("\n## Metrics\n").unwrap();
    let (table, _) = section.split_once("\n### ").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let rows = rows.flat_map(|row| {
        let mut cells = row.split(" | ");
        let (names, kind) = (cells.next().unwrap(), cells.next().unwrap());
        // Between the backticks.
        let names = names.split('`').skip(1).step_by(2);
        names.map(move |name| (name, kind.trim()))
    });
    rows.collect()
}

#[tokio::test]
async fn the_documentation_has_every_metric_that_is_exported_with_its_type_and_no_other() {
    let text = exposition().await;
    let mut documented = documented();
    assert!(documented.remove("process_*").is_some(), "{documented:?}");
    let mut families = exported(&text);
    families.retain(|name, _| !name.starts_with("process_"));
    let only = |these: &BTreeMap<&str, &str>, those: &BTreeMap<&str, &str>| {
        let these = these
            .iter()
            .filter(|(name, kind)| those.get(**name) != Some(*kind));
        these
            .map(|(name, kind)| format!("{kind} {name}"))
            .collect::<Vec<_>>()
    };
    let (missing, stale) = (only(&families, &documented), only(&documented, &families));
    assert!(
        missing.is_empty() && stale.is_empty(),
        "exported and not documented: {missing:?}; documented and not exported: {stale:?}"
    );
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&deployed("grafana/everlock.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels
        .iter()
        .map(|panel| panel["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids.len(), panels.len(), "ids are unique");
    let mut taken = BTreeMap::new();
    for panel in panels {
        let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        let (left, top) = (at("x"), at("y"));
        let columns = left..left + at("w");
        for cell in columns.flat_map(|x| (top..top + at("h")).map(move |y| (x, y))) {
            let other = taken.insert(cell, &panel["title"]);
            assert_eq!(other, None, "{} lies over it", panel["title"]);
        }
    }
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = &panel["title"];
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            assert!(!target["expr"].as_str().unwrap().is_empty(), "{title}");
        }
        let position = &panel["gridPos"];
        let right = position["x"].as_u64().unwrap() + position["w"].as_u64().unwrap();
        assert!(right <= 24, "{title} fits");
    }
}

#[test]
fn every_alert_leads_to_what_to_do_about_it() {
    let book = include_str!("../../../../docs/runbook.md");
    let alerts = deployed("prometheus/alerts.yml");
    let names: Vec<_> = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(names.len() > 10, "{names:?}");
    for name in &names {
        assert!(
            book.contains(&format!("\n### {name}\n")),
            "{name} is not in the runbook"
        );
        let link = format!("docs/runbook.md#{}\n", name.to_lowercase());
        assert_eq!(alerts.matches(&link).count(), 1, "{name} leads elsewhere");
    }
    let sections = book.lines().filter_map(|line| line.strip_prefix("### "));
    assert_eq!(
        sections.collect::<Vec<_>>(),
        names,
        "in the order of the rules"
    );
}
