//! The API at a socket in the file system: who may use it, and what becomes of its file.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use everlock_testkit::{ProcessUnderTest, Signal, TlsFiles, eventually};
use tokio::net::UnixStream;

use crate::support::{BINARY, Local, SOON, Wire, post_h2, run};

/// A folder that is gone with the value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("everlock-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("api.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn at(socket: &Path) -> String {
    format!("unix:{}", socket.display())
}

async fn open(socket: &Path) -> Wire {
    Wire::over(UnixStream::connect(socket).await.unwrap())
}

/// The real program, once it listens there.
async fn spawn(socket: &Path, more: &[&str]) -> ProcessUnderTest {
    let at = at(socket);
    let args = ["serve", "--dev", "--listen", &at];
    let mut process = ProcessUnderTest::spawn(BINARY, &[&args, more].concat(), &[]);
    let listens = |line: &str| line.contains("listening") && line.contains(&at);
    process.wait_for_line(listens, SOON).await;
    process
}

#[tokio::test]
async fn the_same_api_is_served_at_a_socket_and_at_addresses() {
    let folder = Folder::new("both");
    let socket = folder.socket();
    let unix = at(&socket);
    let mut proxy = Local::start(&[("listen", &unix), ("listen", "127.0.0.1:0")]).await;
    let body = r#"{"key":"k","uuid":"u"}"#;
    let mut wire = open(&socket).await;
    wire.post("/lock/acquire", body).await;
    let answer = wire.read_until("fencingToken").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let other = proxy.client().try_acquire("k", "other").await;
    assert_eq!(other.status, 409, "it is the same lock");
    let stream = UnixStream::connect(&socket).await.unwrap();
    let (status, answer) = post_h2(stream, "/lock/release", body).await;
    assert_eq!(status, 200, "{answer}");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660, "{mode:o}");
    proxy.stop();
    assert!(proxy.ended().await);
    assert!(!socket.exists(), "the file is gone");
}

#[tokio::test]
async fn limits_hold_at_a_socket_as_they_do_at_an_address() {
    let folder = Folder::new("limits");
    let socket = folder.socket();
    let unix = at(&socket);
    let flags = [
        ("listen", unix.as_str()),
        ("max-connections", "2"),
        ("header-timeout", "300ms"),
    ];
    let _proxy = Local::start(&flags).await;
    for start in ["", "PRI * HTTP/2.0\r\n", "GET /healthz HTTP/1.1\r\nA: "] {
        let mut wire = open(&socket).await;
        wire.send(start).await;
        wire.closed().await;
    }
    let mut kept = Vec::new();
    let ask = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    for _ in 0..2 {
        let mut wire = open(&socket).await;
        wire.send(ask).await;
        wire.read_until("ok").await;
        kept.push(wire);
    }
    let mut third = open(&socket).await;
    third.send(ask).await;
    let early = tokio::time::timeout(Duration::from_millis(200), third.read_until("ok")).await;
    assert!(early.is_err(), "{early:?}");
    drop(kept);
    third.read_until("ok").await;
}

#[tokio::test]
async fn the_socket_of_a_dead_process_is_taken_over_and_of_a_live_one_not() {
    let folder = Folder::new("stale");
    let socket = folder.socket();
    let mut first = spawn(&socket, &["--socket-mode", "600"]).await;
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    let args = ["serve", "--dev", "--listen", &at(&socket)];
    let (status, output) = run(&args, &[]).await;
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("another process listens there"), "{output}");
    open(&socket).await;

    first.signal(Signal::KILL);
    first.wait_exit(SOON).await;
    assert!(socket.exists(), "nobody was left to remove it");
    let mut second = spawn(&socket, &[]).await;
    open(&socket).await;

    // Whatever else was put in its place is not ours to remove.
    std::fs::remove_file(&socket).unwrap();
    let others = UnixListener::bind(&socket).unwrap();
    let inode = std::fs::metadata(&socket).unwrap().ino();
    second.signal(Signal::TERM);
    assert!(second.wait_exit(SOON).await.success());
    assert_eq!(std::fs::metadata(&socket).unwrap().ino(), inode);
    drop(others);
}

#[tokio::test]
async fn a_file_that_is_no_socket_stays() {
    let folder = Folder::new("file");
    let socket = folder.socket();
    std::fs::write(&socket, "precious").unwrap();
    let args = ["serve", "--dev", "--listen", &at(&socket)];
    let (status, output) = run(&args, &[]).await;
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("a file that is no socket"), "{output}");
    assert_eq!(std::fs::read(&socket).unwrap(), b"precious");
}

#[tokio::test]
async fn sockets_that_make_no_sense_are_refused() {
    let long = format!("unix:/{}", "x".repeat(107));
    for (flags, problem) in [
        (&["--listen", "unix:api.sock"][..], "is no absolute path"),
        (&["--listen", "unix:"], "is no absolute path"),
        (&["--listen", &long], "it takes up to 107 bytes"),
        (
            &["--listen", "unix:/a", "--listen", "unix:/a"],
            "unix:/a is given twice",
        ),
        (&["--socket-mode", "680"], "\"680\" is no mode"),
        (&["--socket-mode", "1777"], "\"1777\" is no mode"),
    ] {
        let args = [&["serve", "--dev"], flags].concat();
        let (status, output) = run(&args, &[]).await;
        assert_eq!(status.code(), Some(2), "{args:?}: {output}");
        assert!(output.contains(problem), "{args:?}: {output}");
    }
}

#[tokio::test]
async fn the_health_command_asks_at_sockets_and_over_tls() {
    let folder = Folder::new("health");
    let socket = folder.socket();
    let (unix, files) = (at(&socket), TlsFiles::make());
    let [certificate, key, ca] = [files.certificate(), files.key(), files.ca()]
        .map(|path| path.to_str().unwrap().to_owned());
    let flags = [
        ("listen", unix.as_str()),
        ("listen", "127.0.0.1:0"),
        ("tls-cert", &certificate),
        ("tls-key", &key),
    ];
    let mut proxy = Local::start(&flags).await;
    let https = format!("https://localhost:{}/readyz", proxy.addr.port());
    for (args, code, says) in [
        (&["--url", &unix][..], 0, ""),
        (&["--url", &format!("{unix}:/readyz")], 0, ""),
        (&["--url", &format!("{unix}:/nowhere")], 1, "404"),
        (&["--url", "unix:/nowhere/x.sock"], 1, "does not answer"),
        (&["--url", &https, "--ca", &ca], 0, ""),
        (&["--url", &https], 1, "UnknownIssuer"),
        (&["--url", &unix, "--ca", &ca], 2, "--ca"),
        (&["--url", &https, "--ca", &key], 2, "no certificate"),
    ] {
        let args = [&["health"], args].concat();
        let (status, output) = run(&args, &[]).await;
        assert_eq!(status.code(), Some(code), "{args:?}: {output}");
        assert!(output.contains(says), "{args:?}: {output}");
    }
    proxy.stop();
    let gone = eventually(SOON, || async { !socket.exists() });
    assert!(gone.await);
}
