//! Peers that mean harm: each test throws one kind of trouble at the real program, and sees that
//! others are served meanwhile and that memory stays within bounds.
//!
//! What one request may be is in `requests.rs` and `limits.rs`; this is about many.

mod descriptors;
mod floods;
mod http2;
mod slow;
mod smuggling;

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::{Client, Proxy, timed};

/// How long an innocent client may wait while others do their worst, on a machine that has other
/// work as well.
const CANARY: Duration = Duration::from_secs(15);

/// A proxy over nodes in memory, as a process of its own.
struct Besieged {
    proxy: Proxy,
    before: u64,
    /// Opened before the trouble began.
    old_friend: Client,
}

impl Besieged {
    async fn start(flags: &[&str]) -> Self {
        let args = ["serve", "--dev", "--listen", "127.0.0.1:0"];
        let args = [&args[..], flags].concat();
        let proxy = Proxy::spawn(&args, &[]).await;
        let old_friend = proxy.client();
        // What every process needs once is not counted.
        for key in ["a", "b"] {
            assert_eq!(old_friend.try_acquire(key, "warm").await.status, 200);
            assert_eq!(old_friend.release(key, "warm").await.status, 200);
        }
        let before = peak_kib(proxy.process.pid());
        Self {
            proxy,
            before,
            old_friend,
        }
    }

    fn addr(&self) -> SocketAddr {
        self.proxy.addr
    }

    /// Somebody who comes now gets and gives back a lock in time.
    async fn serves_others(&self) {
        serves(&self.proxy.client(), "a newcomer").await;
        serves(&self.old_friend, "who was here before").await;
    }

    /// The most memory that the process ever had, less what it had at the beginning.
    #[track_caller]
    fn grew_by_less_than(&self, mib: u64) {
        let grown = (peak_kib(self.proxy.process.pid()) - self.before) / 1_024;
        assert!(grown < mib, "it grew by {grown} MiB");
    }
}

async fn serves(client: &Client, who: &str) {
    let ((), took) = timed(async {
        let answer = client.try_acquire("canary", who).await;
        assert_eq!(answer.status, 200, "{who}: {answer:?}");
        assert_eq!(client.release("canary", who).await.status, 200, "{who}");
    })
    .await;
    assert!(took < CANARY, "{who} waited for {took:?}");
}

fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.unwrap().parse().unwrap()
}
