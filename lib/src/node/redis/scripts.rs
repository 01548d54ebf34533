//! The scripts, put together from their parts, and the hashes by which servers know them.

use redis::Cmd;
use std::sync::LazyLock;

use crate::core::queue::{MAX_QUEUE, TICKET_LIFE};

/// A script's text, and the hash by which a server knows it.
pub(super) struct Script {
    code: String,
    hash: String,
}

impl Script {
    fn of(parts: &[&str]) -> Self {
        let code = parts
            .join("\n")
            .replace("MAX_QUEUE", &MAX_QUEUE.to_string())
            .replace("TICKET_LIFE", &TICKET_LIFE.as_micros().to_string());
        let hash = redis::Script::new(&code).get_hash().to_owned();
        Self { code, hash }
    }

    pub(super) fn hash(&self) -> &str {
        &self.hash
    }
}

macro_rules! scripts {
    ($($name:ident = $($file:literal)+;)+) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::of(&[$(include_str!(concat!("../scripts/", $file))),+])
        });)+

        /// The calls that load every script into a server.
        pub(super) fn load_all() -> Vec<Cmd> {
            let load = |script: &Script| {
                let mut cmd = Cmd::new();
                cmd.arg("SCRIPT").arg("LOAD").arg(&script.code);
                cmd
            };
            vec![$(load(&$name)),+]
        }
    };
}

scripts! {
    LOCKS = "gate.lua" "fences.lua" "acquires.lua" "releases.lua" "answer.lua";
    RELEASES = "look.lua" "fences.lua" "releases.lua" "answer.lua";
    PASS = "gate.lua" "fences.lua" "releases.lua" "next.lua" "acquires.lua" "answer.lua";
    EXTEND = "gate.lua" "fences.lua" "extend.lua";
    TURN = "gate.lua" "fences.lua" "stand.lua" "acquires.lua" "answer.lua";
    RELEASE_IN_TURN = "look.lua" "fences.lua" "leave_along.lua" "releases.lua" "answer.lua";
    PASS_IN_TURN = "gate.lua" "fences.lua" "leave_along.lua" "releases.lua" "next.lua"
        "stand.lua" "acquires.lua" "answer.lua";
    LEAVE_QUEUE = "leave_queue.lua";
    QUEUE = "queue.lua";
    PING = "gate.lua" "ping.lua";
    UNDO = "undo.lua" "raise_floor.lua";
    SETTLE = "settle.lua" "raise_floor.lua";
    INSPECT = "inspect.lua";
    MARKER = "marker.lua";
}
