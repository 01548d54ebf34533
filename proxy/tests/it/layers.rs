//! Imports go downward only: a change of one layer is no surprise to those below.

use std::path::{Path, PathBuf};

/// The layers of `src/lib.rs`, from the top.
const LAYERS: &[&[&str]] = &[
    &["cli", "fuzz"],
    &["admin", "nodes", "server"],
    &["middleware"],
    &["openapi"],
    &["handlers"],
    &["api", "body", "router"],
    &["problem"],
    &["answer"],
    &["app"],
    &["traces"],
    &["readiness", "telemetry", "metrics", "identity"],
    &["insights"],
    &["advisor"],
    &["config", "verb"],
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

#[test]
fn no_module_imports_from_its_own_layer_or_from_above() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut checked = 0;
    let mut all = files(&src);
    // The console's page lies among the sources.
    all.retain(|file| file.extension().is_some_and(|kind| kind == "rs"));
    for file in all {
        let text = std::fs::read_to_string(&file).unwrap();
        let inside = file.strip_prefix(&src).unwrap().to_str().unwrap();
        let module = inside.split(['/', '.']).next().unwrap();
        if ["lib", "main"].contains(&module) {
            continue;
        }
        let own = layer(module).unwrap_or_else(|| panic!("{inside} is in no layer"));
        for used in uses(&text) {
            // What lies at the root is re-exported from a module.
            let of = match used {
                "App" | "Watchers" => "app",
                "Traces" => "traces",
                "Gate" => "identity",
                "Metrics" => "metrics",
                "Insights" => "insights",
                other => other,
            };
            let below = layer(of).is_some_and(|other| other > own);
            assert!(of == module || below, "{inside} uses crate::{used}");
            checked += 1;
        }
    }
    assert!(checked > 50, "only {checked} imports were found");
}

/// The modules that stand behind `crate::`, also those in braces.
fn uses(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (_, rest) in text
        .match_indices("crate::")
        .map(|(at, _)| text.split_at(at + 7))
    {
        let list = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or_default(),
            None => rest
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
                .unwrap_or_default(),
        };
        found.extend(
            list.split(',')
                .map(|one| one.trim().split("::").next().unwrap_or_default()),
        );
    }
    found
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}
