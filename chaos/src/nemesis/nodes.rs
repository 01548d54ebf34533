//! Faults of nodes, of their clocks and of the links to them. Each is healed when it returns.

use std::sync::Arc;
use std::time::Duration;

use everlock_testkit::{Door, FaultProxy, Flow, RedisCluster, RedisServer};
use tokio::time::sleep;

use super::{Kind, MajorityKind, Nemesis, blocking};
use crate::dice::Dice;

/// Twice a lease.
const LONGEST_STOP: u64 = 4_000;

/// A client gives up a connection that was silent for two seconds.
const GIVEN_UP: Duration = Duration::from_millis(2_300);

impl Nemesis {
    pub(super) async fn hurt(&self, node: usize, kind: Kind, dice: &Dice) {
        let nodes = &self.world.nodes;
        let server = &nodes[node];
        match kind {
            Kind::Stop => {
                server.pause();
                sleep(dice.mostly_short(10, LONGEST_STOP)).await;
                server.resume();
            }
            Kind::KillWithoutLog | Kind::KillEverySecond | Kind::KillAlways => {
                self.down(node, dice, RedisServer::kill).await;
            }
            Kind::PowerEverySecond | Kind::PowerAlways => {
                self.down(node, dice, |server| {
                    server.cut_power();
                })
                .await;
            }
            Kind::DebugSleep => {
                let seconds = dice.mostly_short(20, 2_000).as_secs_f64().to_string();
                on(nodes, node, move |server| {
                    server.command(&["DEBUG", "SLEEP", &seconds]);
                })
                .await;
            }
            Kind::ClientPause => {
                let time = dice.mostly_short(20, 2_000).as_millis().to_string();
                on(nodes, node, move |server| {
                    server.command(&["CLIENT", "PAUSE", &time, "ALL"]);
                })
                .await;
            }
            Kind::FlushAll => on(nodes, node, command(&["FLUSHALL"])).await,
            Kind::ScriptFlush => on(nodes, node, command(&["SCRIPT", "FLUSH"])).await,
            Kind::OutOfMemory => {
                on(nodes, node, command(&["CONFIG", "SET", "maxmemory", "1"])).await;
                sleep(dice.mostly_short(20, 1_500)).await;
                on(nodes, node, command(&["CONFIG", "SET", "maxmemory", "0"])).await;
            }
            Kind::ClockAhead => self.throw_clock(&[node], dice, 1).await,
            Kind::ClockBack => self.throw_clock(&[node], dice, -1).await,
            Kind::ClockDrift => self.drift(node, dice).await,
            _ => self.hurt_links(node, kind, dice).await,
        }
    }

    /// Takes a server away for a moment.
    async fn down(&self, node: usize, dice: &Dice, how: fn(&RedisServer)) {
        let nodes = &self.world.nodes;
        on(nodes, node, how).await;
        sleep(dice.mostly_short(1, 500)).await;
        on(nodes, node, RedisServer::restart).await;
    }

    /// Sets clocks wrong for a while, and right again: two jumps, in turn ahead and back.
    async fn throw_clock(&self, nodes: &[usize], dice: &Dice, sign: i64) {
        let far = i64::try_from(dice.mostly_short(100, 10_000).as_millis()).unwrap();
        for node in nodes {
            self.world.nodes.set_clock_offset(*node, sign * far);
        }
        sleep(dice.mostly_short(10, LONGEST_STOP)).await;
        for node in nodes {
            self.world.nodes.set_clock_offset(*node, 0);
        }
    }

    /// A clock that gains or loses a millisecond in two hundred, and then the other way round.
    async fn drift(&self, node: usize, dice: &Dice) {
        let sign = if dice.one_in(2) { 1 } else { -1 };
        let far = 2 + i64::try_from(dice.below(8)).unwrap();
        for offset in (1..=far).chain((0..far).rev()) {
            sleep(Duration::from_millis(200)).await;
            self.world.nodes.set_clock_offset(node, sign * offset);
        }
    }

    /// The link of the library's clients, that of the proxies, or both.
    async fn hurt_links(&self, node: usize, kind: Kind, dice: &Dice) {
        let links = &self.world.links[node];
        let hurt = match dice.below(3) {
            0 => &links[..1],
            1 => &links[1..],
            _ => &links[..],
        };
        let all = |change: &dyn Fn(&FaultProxy)| hurt.iter().for_each(change);
        match kind {
            Kind::RequestsLost => all(&|link| link.requests(Flow::Swallow)),
            Kind::RepliesLost => all(&|link| link.replies(Flow::Swallow)),
            Kind::HalfOpen => all(&|link| link.both(Flow::Swallow)),
            Kind::OneWay if dice.one_in(2) => all(&|link| link.requests(Flow::Swallow)),
            Kind::OneWay => all(&|link| link.replies(Flow::Swallow)),
            Kind::Stall => all(&|link| link.both(Flow::Stall)),
            Kind::Reset => all(&FaultProxy::reset_connections),
            Kind::Truncated => {
                let keep = dice.index(60);
                all(&|link| link.truncate_next_reply(keep));
            }
            Kind::Delay => {
                let late = dice.mostly_short(1, 400);
                all(&|link| link.both(Flow::Delay(late)));
            }
            Kind::Refused => {
                let door = [Door::Closed, Door::Reset, Door::Hang][dice.index(3)];
                for link in hurt {
                    link.door(door).await;
                    link.reset_connections();
                }
            }
            _ => unreachable!("{kind} is no fault of a link"),
        }
        let time = match kind {
            Kind::RequestsLost | Kind::RepliesLost | Kind::HalfOpen => dice.mostly_short(2, 50),
            Kind::Stall => dice.mostly_short(10, LONGEST_STOP),
            Kind::OneWay => dice.millis(200, 2_000),
            Kind::Reset => Duration::ZERO,
            _ => dice.mostly_short(20, 1_000),
        };
        sleep(time).await;
        for link in hurt {
            link.heal().await;
        }
        if matches!(
            kind,
            Kind::RequestsLost | Kind::RepliesLost | Kind::OneWay | Kind::HalfOpen
        ) {
            // What has a gap delivers nothing more. The client finds out by itself, which takes
            // it a while, or by a reset.
            if dice.one_in(4) {
                sleep(GIVEN_UP).await;
            } else {
                sleep(dice.millis(0, 400)).await;
                all(&FaultProxy::reset_connections);
            }
        }
    }

    pub(super) async fn hurt_many(&self, nodes: &[usize], kind: MajorityKind, dice: &Dice) {
        let servers = &self.world.nodes;
        let each = |act: fn(&RedisServer)| {
            futures_util::future::join_all(nodes.iter().map(move |node| on(servers, *node, act)))
        };
        let links = nodes.iter().flat_map(|node| &self.world.links[*node]);
        match kind {
            MajorityKind::Flushed => {
                drop(each(|server| drop(server.command(&["FLUSHALL"]))).await);
            }
            MajorityKind::LocksDeleted => drop(each(delete_locks).await),
            MajorityKind::Killed => drop(each(RedisServer::restart).await),
            MajorityKind::WithoutPower => {
                drop(
                    each(|server| {
                        server.power_loss();
                    })
                    .await,
                );
            }
            MajorityKind::Ahead => self.throw_clock(nodes, dice, 1).await,
            MajorityKind::Back => self.throw_clock(nodes, dice, -1).await,
            MajorityKind::Stopped => {
                each(RedisServer::pause).await;
                sleep(dice.mostly_short(10, LONGEST_STOP)).await;
                each(RedisServer::resume).await;
            }
            MajorityKind::CutOff => {
                let links: Vec<_> = links.collect();
                for link in &links {
                    link.both(Flow::Stall);
                }
                sleep(dice.mostly_short(10, LONGEST_STOP)).await;
                for link in links {
                    link.heal().await;
                }
            }
        }
    }
}

/// Does something with one server that may block.
async fn on(
    nodes: &Arc<RedisCluster>,
    node: usize,
    act: impl FnOnce(&RedisServer) + Send + 'static,
) {
    let nodes = Arc::clone(nodes);
    blocking(move || act(&nodes[node])).await;
}

fn command(args: &'static [&'static str]) -> impl Fn(&RedisServer) + Copy + Send + 'static {
    move |server| {
        server.command(args);
    }
}

/// As an operator does who takes them for leftovers: the locks go, the fences and markers stay.
fn delete_locks(server: &RedisServer) {
    for key in server.keys().iter().filter(|key| !key.contains('~')) {
        server.command(&["DEL", key]);
    }
}
