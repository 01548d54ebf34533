//! Hazard: a command that runs without its lock. `everlock lock`, `acquire`, `extend` and
//! `release`, each through a real proxy and on the nodes themselves.

mod contended;
mod endings;
mod losses;
mod steps;
mod terminal;

use std::path::{Path, PathBuf};
use std::time::Duration;

use everlock_testkit::{ProcessUnderTest, RedisCluster, eventually};

use crate::support::{BINARY, Proxy, SOON, init};

/// How the locks are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Nodes,
    Proxy,
}

pub(crate) const MODES: [Mode; 2] = [Mode::Nodes, Mode::Proxy];

/// Three nodes, a proxy where one is used, and a directory for what commands leave.
pub(crate) struct Bench {
    pub(crate) nodes: RedisCluster,
    pub(crate) proxy: Option<Proxy>,
    dir: PathBuf,
}

impl Bench {
    pub(crate) async fn start(mode: Mode) -> Self {
        let nodes = RedisCluster::start(3);
        let proxy = match mode {
            Mode::Nodes => {
                init(&nodes.urls()).await;
                None
            }
            Mode::Proxy => Some(Proxy::over(&nodes, &[]).await.ready().await),
        };
        let unique = everlock::OwnerId::fresh();
        let dir = std::env::temp_dir().join(format!("everlock-locks-{}", unique.as_str()));
        std::fs::create_dir(&dir).unwrap();
        Self { nodes, proxy, dir }
    }

    /// The variables by which commands find these locks.
    pub(crate) fn env(&self) -> Vec<(&'static str, String)> {
        match &self.proxy {
            None => vec![("EVERLOCK_NODES", self.nodes.urls().join(","))],
            Some(proxy) => vec![("EVERMIND_BASE_URL", format!("http://{}", proxy.addr))],
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn spawn(&self, args: &[&str]) -> ProcessUnderTest {
        let env = self.env();
        let mut env: Vec<_> = env.iter().map(|(name, value)| (*name, &**value)).collect();
        let dir = self.dir.to_str().unwrap();
        env.push(("DIR", dir));
        let panic = self.path("panic");
        env.push(("EVERLOCK_TEST_PANIC", panic.to_str().unwrap()));
        ProcessUnderTest::spawn(BINARY, args, &env)
    }

    /// `everlock lock k FLAGS -- sh -c SCRIPT`, with `$DIR` for files.
    pub(crate) fn lock(&self, flags: &[&str], script: &str) -> ProcessUnderTest {
        let head = ["lock", "k"];
        let tail = ["--", "sh", "-c", script];
        let args: Vec<_> = head.iter().chain(flags).chain(&tail).copied().collect();
        self.spawn(&args)
    }

    /// Runs to the end: the exit code, standard output, standard error.
    pub(crate) async fn run(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let mut process = self.spawn(args);
        let status = process.wait_exit(SOON).await;
        (status.code(), process.stdout(), process.stderr())
    }

    /// How many nodes have the key.
    pub(crate) fn held_on(&self) -> usize {
        let values = self.nodes.get("Evermind:anonymous:k");
        values.iter().flatten().count()
    }

    /// Waits until no node has the key.
    pub(crate) async fn until_free(&self, within: Duration) -> bool {
        eventually(within, || {
            let free = self.held_on() == 0;
            async move { free }
        })
        .await
    }

    pub(crate) async fn until_exists(&self, name: &str) {
        let path = self.path(name);
        assert!(exists(&path, SOON).await, "{name} is never made");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Waits for a file.
pub(crate) async fn exists(path: &Path, within: Duration) -> bool {
    eventually(within, || {
        let there = path.exists();
        async move { there }
    })
    .await
}

/// Whether a process runs; a zombie does not.
pub(crate) fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| {
        let state = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.trim_start().to_owned());
        !state.is_some_and(|state| state.starts_with(['Z', 'X']))
    })
}

pub(crate) async fn until_gone(pid: &str, within: Duration) -> bool {
    eventually(within, || {
        let gone = !runs(pid);
        async move { gone }
    })
    .await
}
