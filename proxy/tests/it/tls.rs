//! Nodes behind TLS, whose authority is nobody's but ours.

use everlock_testkit::{RedisCluster, TlsFiles};

use crate::support::{Proxy, cluster, run};

fn nodes(files: &TlsFiles) -> RedisCluster {
    RedisCluster::start_with(3, |_, server| {
        server
            .tls(&files.certificate(), &files.key(), &files.ca())
            .config("tls-auth-clients", "yes")
    })
}

#[tokio::test]
async fn nodes_of_a_private_authority_that_want_a_certificate_are_served_from() {
    let files = TlsFiles::make();
    let nodes = nodes(&files);
    let urls = nodes.urls();
    let (ca, certificate, key) = (files.ca(), files.certificate(), files.key());
    let [ca, certificate, key] = [&ca, &certificate, &key].map(|path| path.to_str().unwrap());
    let flags = [
        "--node-ca",
        ca,
        "--node-cert",
        certificate,
        "--node-key",
        key,
    ];
    let (status, output) = cluster("init", &urls, &flags).await;
    assert!(status.success(), "{output}");
    let (status, output) = cluster("status", &urls, &flags).await;
    assert!(status.success(), "{output}");
    let (status, _) = cluster("status", &urls, &flags[..2]).await;
    assert_eq!(
        status.code(),
        Some(1),
        "who shows no certificate is not let in"
    );
    let by_flags = Proxy::over_urls(&urls, &flags).await.ready().await;
    let acquired = by_flags.client().try_acquire("k", "u").await;
    assert_eq!(acquired.status, 200, "{acquired:?}");

    let urls = urls.join(",");
    let env = [
        ("EVERLOCK_NODES", urls.as_str()),
        ("EVERLOCK_NODE_CA", ca),
        ("EVERLOCK_NODE_CERT", certificate),
        ("EVERLOCK_NODE_KEY", key),
    ];
    let by_variables = Proxy::spawn(&["serve", "--listen", "127.0.0.1:0"], &env).await;
    let by_variables = by_variables.ready().await;
    assert_eq!(by_variables.client().release("k", "u").await.status, 200);
}

#[tokio::test]
async fn files_that_do_not_fit_are_refused_by_name_before_anything_is_dialled() {
    let (files, others) = (TlsFiles::make(), TlsFiles::make());
    let (ca, certificate, key) = (files.ca(), files.certificate(), files.key());
    let foreign = others.key();
    let [ca, certificate, key, foreign] =
        [&ca, &certificate, &key, &foreign].map(|path| path.to_str().unwrap());
    let (secure, plain) = ("rediss://127.0.0.1:1", "redis://127.0.0.1:1");
    for (flags, problem) in [
        (
            &["--node", plain, "--node-ca", ca][..],
            "--node-ca: is of no use: no node is at a rediss:// URL",
        ),
        (
            &["--node", secure, "--node-cert", certificate],
            "--node-cert: needs --node-key",
        ),
        (
            &["--node", secure, "--node-key", key],
            "--node-key: needs --node-cert",
        ),
        (
            &["--node", secure, "--node-ca", key],
            "the authority is no certificate in PEM",
        ),
        (
            &["--node", secure, "--node-ca", "/nowhere/ca.pem"],
            "/nowhere/ca.pem can't be read",
        ),
        (
            &[
                "--node",
                secure,
                "--node-cert",
                certificate,
                "--node-key",
                foreign,
            ],
            "the client's key is not that of its certificate",
        ),
    ] {
        for command in [&["serve"][..], &["cluster", "init"], &["cluster", "status"]] {
            let args: Vec<_> = command.iter().chain(flags).copied().collect();
            let (status, output) = run(&args, &[]).await;
            assert_eq!(status.code(), Some(2), "{args:?}: {output}");
            assert!(output.contains(problem), "{args:?}: {output}");
            assert_eq!(output.lines().count(), 1, "one problem: {output}");
        }
    }
}
