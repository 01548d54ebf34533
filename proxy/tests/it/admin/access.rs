//! Who may ask the admin listener.

use std::time::Duration;

use everlock_proxy::admin::{self, Desk};
use everlock_proxy::config::{Settings, Sources};
use everlock_proxy::{App, Gate, nodes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::{TOKEN, dev};
use crate::support::{Answer, Client, SOON, Wire, run, timed};

const ANY: &str = "0.0.0.0:0";
const LOCAL: &str = "127.0.0.1:0";

#[tokio::test]
async fn an_address_that_others_reach_needs_a_decision() {
    let args = ["serve", "--dev", "--admin-listen", ANY];
    let (status, output) = run(&args, &[]).await;
    assert_eq!(status.code(), Some(2), "{output}");
    for words in [
        "flag --admin-listen: 0.0.0.0:0 is not a loopback address",
        "--admin-token-file",
        "--allow-unauthenticated-admin",
    ] {
        assert!(output.contains(words), "{words:?} in {output}");
    }
}

#[tokio::test]
async fn settings_of_the_admin_listener_that_do_not_fit_are_refused() {
    let same = "127.0.0.1:18080";
    for (args, env, problem) in [
        (
            &["--admin-listen", same, "--listen", same][..],
            &[][..],
            "flag --admin-listen: 127.0.0.1:18080 is the address of --listen",
        ),
        (
            &["--admin-listen", LOCAL],
            &[("EVERLOCK_ADMIN_TOKEN", "canary short")],
            "variable EVERLOCK_ADMIN_TOKEN: is no token",
        ),
        (
            &[],
            &[("EVERLOCK_ADMIN_TOKEN", TOKEN)],
            "variable EVERLOCK_ADMIN_TOKEN: is of no use without --admin-listen",
        ),
        (
            &["--allow-unauthenticated-admin"],
            &[],
            "flag --allow-unauthenticated-admin: is of no use without --admin-listen",
        ),
    ] {
        let args: Vec<_> = ["serve", "--dev"].iter().chain(args).copied().collect();
        let (status, output) = run(&args, env).await;
        assert_eq!(status.code(), Some(2), "{args:?}: {output}");
        assert!(output.contains(problem), "{args:?}: {output}");
        assert!(!output.contains("canary"), "{output}");
    }
}

#[tokio::test]
async fn with_a_token_health_alone_is_for_everybody() {
    let flags = ["--admin-listen", ANY];
    let (proxy, bound) = dev(&flags, &[("EVERLOCK_ADMIN_TOKEN", TOKEN)]).await;
    let admin = Client::new(([127, 0, 0, 1], bound.addr().port()).into());
    for page in ["/healthz", "/readyz"] {
        assert_eq!(admin.get(page).await.status, 200, "{page}");
    }
    for page in ["/insights", "/metrics", "/version", "/config"] {
        for wrong in ["", "Bearer", "Bearer canary-other", "Basic canary"] {
            let answer = asked(&admin, page, &[("authorization", wrong)]).await;
            assert_eq!(answer.status, 401, "{page} with {wrong:?}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
        let right = format!("Bearer {TOKEN}");
        let answer = asked(&admin, page, &[("authorization", &right)]).await;
        assert_eq!(answer.status, 200, "{page}");
        assert!(!answer.text.contains("canary"), "{}", answer.text);
    }
    let output = proxy.process.output();
    assert!(!output.contains("canary"), "{output}");
}

#[tokio::test]
async fn who_serves_operators_without_a_token_to_others_is_warned() {
    let flags = ["--admin-listen", ANY, "--allow-unauthenticated-admin"];
    let (mut proxy, bound) = dev(&flags, &[]).await;
    let warning = |line: &str| line.contains("WARN") && line.contains("demands no token");
    proxy
        .process
        .wait_for_line(warning, crate::support::SOON)
        .await;
    let admin = Client::new(([127, 0, 0, 1], bound.addr().port()).into());
    // Scrapers ask by whatever name the deployment has.
    let named = [("host", "everlock.locks.svc:9090")];
    assert_eq!(asked(&admin, "/metrics", &named).await.status, 200);
}

#[tokio::test]
async fn on_loopback_another_sites_name_is_no_way_in() {
    let (_proxy, admin) = dev(&["--admin-listen", LOCAL], &[]).await;
    for page in ["/metrics", "/config", "/"] {
        let rebound = [("host", "evil.example:9090")];
        let answer = asked(&admin, page, &rebound).await;
        assert_eq!(answer.status, 400, "{page}: {answer:?}");
        let local = [("host", "localhost:9090")];
        assert_eq!(asked(&admin, page, &local).await.status, 200, "{page}");
    }
}

async fn asked(admin: &Client, page: &str, headers: &[(&str, &str)]) -> Answer {
    admin.send("GET", page, headers, "").await
}

#[tokio::test]
async fn who_never_reads_the_answers_gives_up_the_seat() {
    const SEATS: usize = 64;
    let (_proxy, admin) = dev(&["--admin-listen", LOCAL], &[]).await;
    let mut deaf = Vec::new();
    for _ in 0..SEATS {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(2_048).unwrap();
        let stream = socket.connect(admin.addr()).await.unwrap();
        stream.writable().await.unwrap();
        let requests = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1_000);
        // As much as is taken at once: it is far more than is ever answered.
        let _ = stream.try_write(requests.as_bytes());
        deaf.push(stream);
    }
    let asking = async {
        let mut one = TcpStream::connect(admin.addr()).await.unwrap();
        let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        one.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        one.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = tokio::time::timeout(10 * SOON, asking).await;
    let answer = answer.expect("a seat is free again");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(deaf);
}

#[tokio::test]
async fn who_never_ends_a_header_and_who_asks_nothing_more_is_cut_off() {
    const HEADER_TIMEOUT: Duration = Duration::from_millis(500);
    let flag = |name: &str, value: &str| (name.to_owned(), vec![value.to_owned()]);
    let flags = [flag("dev", "true"), flag("admin-listen", LOCAL)].into();
    let env = Vec::new();
    let settings = Settings::read(Sources { flags, env }).unwrap();
    let redlock = nodes::connect(&settings).await.unwrap();
    let app = App::new(redlock, "t", settings.limits.clone(), Gate::open());
    let desk = Desk::new(&app, &settings).unwrap();
    let listener = std::net::TcpListener::bind(LOCAL).unwrap();
    let addr = listener.local_addr().unwrap();
    let running = admin::start_within(listener, desk, HEADER_TIMEOUT).unwrap();
    let (mut slow, mut idle) = (Wire::open(addr).await, Wire::open(addr).await);
    slow.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-")
        .await;
    idle.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    idle.read_until("200 OK").await;
    let ((), took) = timed(async {
        slow.ended().await;
        idle.ended().await;
    })
    .await;
    // A timeout of the usual length would be no matter of a test.
    assert!(took < SOON, "{took:?}");
    running.stop().await;
}
