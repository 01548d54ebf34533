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

#[test]
fn what_is_of_no_use_is_refused_wherever_licences_are_not_asked_for_it() {
    let (mode, file) = (("auth", "licence"), ("licence-file", "/l.toml"));
    let secrets = (
        "EVERLOCK_API_KEY_SECRETS",
        "0123456789abcdef0123456789abcdef",
    );
    for (flag, value) in [
        ("licence-file", "/l.toml"),
        ("licence-refresh", "9s"),
        ("licence-grace", "9s"),
        ("polar-organization", "acme"),
        ("polar-url", "https://polar.example"),
        ("polar-ca", "/dev/null"),
    ] {
        let problems = read(&[("dev", "true"), (flag, value)], &[]).err().unwrap();
        let problem = format!("flag --{flag}: is of no use without --auth licence");
        assert_eq!(problems, [problem]);
        if flag.starts_with("polar-u") || flag.starts_with("polar-c") {
            let given = [("dev", "true"), mode, file, (flag, value)];
            let problems = read(&given, &[secrets]).err().unwrap();
            let problem = format!("flag --{flag}: is of no use without --polar-organization");
            assert_eq!(problems, [problem]);
        }
    }
    let token = ("EVERLOCK_POLAR_TOKEN", "word");
    let problems = read(&[("dev", "true"), mode, file], &[secrets, token])
        .err()
        .unwrap();
    let problem = "variable EVERLOCK_POLAR_TOKEN: is of no use without --polar-organization";
    assert_eq!(problems, [problem]);
    let used = [("dev", "true"), mode, file, ("licence-refresh", "9s")];
    assert!(read(&used, &[secrets]).is_ok());
}

#[test]
fn a_secret_is_never_given_twice_and_is_text() {
    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    for (flag, name) in [
        ("api-key-secret-file", "EVERLOCK_API_KEY_SECRETS"),
        ("polar-token-file", "EVERLOCK_POLAR_TOKEN"),
        ("admin-token-file", "EVERLOCK_ADMIN_TOKEN"),
    ] {
        let all = [
            ("dev", "true"),
            ("auth", "licence"),
            ("polar-organization", "acme"),
            ("admin-listen", "127.0.0.1:0"),
            (flag, "/a.file"),
        ];
        let mut env = vec![
            ("EVERLOCK_API_KEY_SECRETS", SECRET),
            ("EVERLOCK_POLAR_TOKEN", SECRET),
        ];
        let with = |flags: &[(&str, &str)], env: &[(&str, &str)], bytes: &[u8]| {
            let flags = flags
                .iter()
                .map(|(flag, value)| ((*flag).to_owned(), vec![(*value).to_owned()]));
            let env = env
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let sources = Sources {
                flags: flags.collect(),
                env: env.collect(),
            };
            Settings::read_with(sources, &|_| Ok(bytes.to_vec())).map_err(|problems| problems.0)
        };
        if name == "EVERLOCK_ADMIN_TOKEN" {
            env.push((name, SECRET));
        }
        let problem = format!("flag --{flag}: can't be combined with variable {name}");
        let problems = with(&all, &env, SECRET.as_bytes()).err().unwrap();
        assert!(problems.contains(&problem), "{problems:?}");
        env.retain(|(other, _)| *other != name);
        assert!(with(&all, &env, SECRET.as_bytes()).is_ok());
        let problems = with(&all, &env, b"\xff").err().unwrap();
        let problem = format!("flag --{flag}: there is something else than text in it");
        assert!(problems.contains(&problem), "{problems:?}");
        // An empty variable is none.
        env.push((name, ""));
        assert!(with(&all, &env, SECRET.as_bytes()).is_ok());
    }
}
