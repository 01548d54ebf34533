//! Hazard: a service manager that takes a proxy for ready, or for hung, when it is not.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use everlock_testkit::{RedisCluster, Signal};

use crate::support::{Proxy, SOON, init, node_flags};

/// A service manager's socket.
struct Manager(UnixDatagram, std::path::PathBuf);

impl Manager {
    fn listen() -> Self {
        let unique = everlock::OwnerId::fresh();
        let path = std::env::temp_dir().join(format!("everlock-notify-{}", unique.as_str()));
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Self(socket, path)
    }

    /// The next message; none if it does not come within this time.
    fn hear(&self, within: Duration) -> Option<String> {
        self.0.set_read_timeout(Some(within)).unwrap();
        let mut message = [0; 512];
        let length = self.0.recv(&mut message).ok()?;
        Some(
            String::from_utf8_lossy(&message[..length])
                .trim()
                .to_owned(),
        )
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.1);
    }
}

#[tokio::test]
async fn a_service_manager_hears_when_it_serves_and_when_it_is_about_to_end() {
    let nodes = RedisCluster::start(3);
    let urls = nodes.urls();
    init(&urls).await;
    let manager = Manager::listen();
    let flags = node_flags(&urls);
    let mut args = vec!["serve", "--listen", "127.0.0.1:0", "--drain-timeout", "3s"];
    args.extend(flags.iter().map(String::as_str));
    let env = [("NOTIFY_SOCKET", manager.1.to_str().unwrap())];
    let mut proxy = Proxy::spawn(&args, &env).await;
    assert_eq!(manager.hear(SOON).as_deref(), Some("READY=1"));
    assert_eq!(
        proxy.client().get("/healthz").await.status,
        200,
        "it serves"
    );
    assert_eq!(
        manager.hear(Duration::from_millis(50)),
        None,
        "nothing more"
    );
    // What can't be undone keeps the end waiting: the word comes before.
    nodes.pause(1);
    nodes.pause(2);
    assert_eq!(proxy.client().try_acquire("k", "u").await.status, 503);
    proxy.process.signal(Signal::TERM);
    assert_eq!(manager.hear(SOON).as_deref(), Some("STOPPING=1"));
    assert!(proxy.process.wait_exit(SOON).await.success());
}

#[tokio::test]
async fn what_is_never_ready_says_nothing_and_a_manager_that_is_gone_harms_nothing() {
    let manager = Manager::listen();
    let path = manager.1.to_str().unwrap().to_owned();
    let nodes = RedisCluster::start(1);
    let urls = nodes.urls();
    let args = ["serve", "--listen", "127.0.0.1:0", "--node", &urls[0]];
    let (status, output) = crate::support::run(&args, &[("NOTIFY_SOCKET", &path)]).await;
    assert_eq!(status.code(), Some(1), "{output}");
    assert_eq!(manager.hear(Duration::from_millis(50)), None);
    drop(manager);
    let args = ["serve", "--dev", "--listen", "127.0.0.1:0"];
    let proxy = Proxy::spawn(&args, &[("NOTIFY_SOCKET", &path)]).await;
    assert_eq!(proxy.client().get("/healthz").await.status, 200);
}
