//! The kinds of faults, and how often each is picked.

use std::fmt;

use crate::dice::Dice;
use crate::world::Persistence;

/// A list of kinds with their names and weights: those that cost a node no time are picked more
/// often, so that all are injected often in a run.
macro_rules! kinds {
    ($(#[$doc:meta])* $type:ident { $($kind:ident $weight:literal $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $type { $($kind,)* }

        impl $type {
            const ALL: &[(Self, u64)] = &[$((Self::$kind, $weight),)*];

            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

kinds! {
    /// What happens to one node.
    Kind {
        Stop 3 "process: SIGSTOP, then SIGCONT",
        KillWithoutLog 2 "process: kill -9, no append-only file",
        KillEverySecond 2 "process: kill -9, appendfsync everysec",
        KillAlways 3 "process: kill -9, appendfsync always",
        PowerEverySecond 2 "process: power loss, appendfsync everysec",
        PowerAlways 3 "process: power loss, appendfsync always",
        DebugSleep 3 "process: DEBUG SLEEP",
        ClientPause 3 "process: CLIENT PAUSE",
        FlushAll 2 "process: FLUSHALL",
        ScriptFlush 5 "process: SCRIPT FLUSH",
        OutOfMemory 4 "process: OOM under noeviction",
        ClockAhead 2 "clock: jumps ahead",
        ClockBack 2 "clock: jumps back",
        ClockDrift 2 "clock: drifts by half a percent",
        RequestsLost 4 "network: requests lost",
        RepliesLost 4 "network: replies lost",
        OneWay 3 "network: one-way drop",
        Stall 3 "network: stall, then heal",
        Reset 6 "network: RST",
        HalfOpen 3 "network: half-open connections",
        Truncated 5 "network: reply truncated",
        Delay 3 "network: delay",
        Refused 3 "network: connections refused or unanswered",
    }
}

kinds! {
    /// What happens to a client or a proxy.
    ProcessKind {
        ClientKill 3 "client: SIGKILL while holding",
        ClientStop 3 "client: SIGSTOP, up to two leases",
        ProxyKill 3 "proxy: SIGKILL",
        ProxyStop 3 "proxy: SIGSTOP, up to two leases",
    }
}

kinds! {
    /// What happens to a majority of the nodes at once: outside of the model.
    MajorityKind {
        Flushed 2 "majority: FLUSHALL",
        Killed 2 "majority: kill -9",
        WithoutPower 2 "majority: power loss",
        Ahead 2 "majority: clocks jump ahead",
        Back 2 "majority: clocks jump back",
        Stopped 2 "majority: SIGSTOP",
        CutOff 2 "majority: cut off",
        LocksDeleted 2 "majority: all locks deleted",
    }
}

impl Kind {
    pub(crate) fn pick(dice: &Dice) -> Self {
        pick(dice, Self::ALL)
    }

    /// Whether it can happen to a node that keeps this.
    pub(crate) fn concerns(self, keeps: Persistence) -> bool {
        match self {
            Self::KillWithoutLog => keeps == Persistence::Nothing,
            Self::KillEverySecond | Self::PowerEverySecond => keeps == Persistence::EverySecond,
            Self::KillAlways | Self::PowerAlways => keeps == Persistence::Always,
            _ => true,
        }
    }
}

impl Kind {
    /// Whether the node may forget who stands in its lines, or take tickets for older than they
    /// are. One that syncs each second may put a write off while the disk is busy.
    pub(crate) fn may_lose_tickets(self) -> bool {
        matches!(
            self,
            Self::KillWithoutLog
                | Self::KillEverySecond
                | Self::PowerEverySecond
                | Self::FlushAll
                | Self::ClockAhead
                | Self::ClockBack
        )
    }
}

impl ProcessKind {
    pub(crate) fn pick(dice: &Dice) -> Self {
        pick(dice, Self::ALL)
    }
}

impl MajorityKind {
    pub(crate) fn pick(dice: &Dice) -> Self {
        pick(dice, Self::ALL)
    }
}

fn pick<K: Copy>(dice: &Dice, all: &[(K, u64)]) -> K {
    let mut left = dice.below(all.iter().map(|(_, weight)| weight).sum());
    for (kind, weight) in all {
        match left.checked_sub(*weight) {
            Some(rest) => left = rest,
            None => return *kind,
        }
    }
    unreachable!("the dice stay below the sum of all weights")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::PERSISTENCE;

    #[test]
    fn every_kind_is_picked_and_concerns_some_node() {
        let dice = Dice::new(1);
        let picked: Vec<_> = (0..10_000).map(|_| Kind::pick(&dice)).collect();
        for (kind, _) in Kind::ALL {
            assert!(picked.contains(kind), "{kind}");
            assert!(
                PERSISTENCE.iter().any(|keeps| kind.concerns(*keeps)),
                "{kind}"
            );
        }
    }
}
