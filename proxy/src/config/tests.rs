use super::*;

fn read(flags: &[(&str, &str)], env: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
    let owned = |text: &str| text.to_owned();
    let mut sources = Sources::default();
    for (flag, value) in flags {
        sources
            .flags
            .entry(owned(flag))
            .or_default()
            .push(owned(value));
    }
    sources.env = env
        .iter()
        .map(|(name, value)| (owned(name), owned(value)))
        .collect();
    Settings::read(sources).map_err(|problems| problems.0)
}

#[test]
fn every_default_of_the_table_is_valid() {
    let settings = read(&[("dev", "true")], &[]).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert!(settings.warnings.is_empty());
    assert_eq!(settings.limits.max_body, 16 * 1024);
    assert_eq!(
        settings.node_timeout,
        everlock::config::DEFAULT_NODE_TIMEOUT
    );
    assert!(
        settings.limits.drain_timeout < Duration::from_secs(10),
        "supervisors kill after ten"
    );
}

#[test]
fn names_follow_from_the_flag() {
    for setting in SETTINGS {
        let name = format!("EVERLOCK_{}", setting.flag.to_uppercase().replace('-', "_"));
        if setting.flag == "node" {
            assert_eq!((setting.env, setting.key), ("EVERLOCK_NODES", "nodes"));
        } else {
            assert_eq!((setting.env, setting.key), (name.as_str(), setting.flag));
        }
    }
}

#[test]
fn nodes_come_from_repeated_flags_or_a_list_with_commas() {
    let urls = |settings: Settings| match settings.nodes {
        Nodes::Redis(urls) => urls,
        Nodes::Memory => Vec::new(),
    };
    let flags = [("node", "redis://a"), ("node", "redis://b")];
    assert_eq!(
        urls(read(&flags, &[("EVERLOCK_NODES", "redis://c")]).unwrap()),
        ["redis://a", "redis://b"]
    );
    let env = [("EVERLOCK_NODES", " redis://a, rediss://b:1/2 ,")];
    assert_eq!(
        urls(read(&[], &env).unwrap()),
        ["redis://a", "rediss://b:1/2"]
    );
}

#[test]
fn loopback_is_what_no_other_machine_reaches() {
    for (listen, allowed) in [
        ("127.0.0.1:1", true),
        ("127.9.9.9:1", true),
        ("[::1]:1", true),
        ("localhost:1", true),
        ("[::ffff:127.0.0.1]:1", true),
        ("0.0.0.0:1", false),
        ("[::]:1", false),
        ("10.0.0.1:1", false),
    ] {
        let flags = [("listen", listen), ("node", "redis://a")];
        assert_eq!(read(&flags, &[]).is_ok(), allowed, "{listen}");
        let open = [flags[0], flags[1], ("allow-unauthenticated", "true")];
        assert!(read(&open, &[]).is_ok(), "{listen}");
    }
}

#[test]
fn sizes_have_units() {
    for (text, bytes) in [
        ("2048", 2048),
        ("2KiB", 2048),
        ("1MiB", 1_048_576),
        ("4096B", 4096),
    ] {
        assert_eq!(parse::size(text, 1, 2_000_000), Ok(bytes), "{text}");
    }
    for text in [
        "",
        "KiB",
        "2 KiB",
        "-1",
        "1.5KiB",
        "99999999999999999999MiB",
        "2kb",
    ] {
        assert!(parse::size(text, 1, 2_000_000).is_err(), "{text}");
    }
}

#[test]
fn numbers_that_are_none_are_refused() {
    for text in ["NaN", "inf", "-0.1", "0.51", "", "1/100"] {
        assert!(parse::number(text, 0.0, 0.5).is_err(), "{text}");
    }
}
