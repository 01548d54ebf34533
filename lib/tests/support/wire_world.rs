//! One schedule of the wire simulation: hosts, their network, and what befalls both.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everlock::entropy::{Entropy as _, SeededEntropy};
use everlock::node::redis::streams::{Connector, Stream};
use everlock::{AcquireOptions, ConfigError, Error, Grant, Redlock, Resource};
use everlock_testkit::history::{History, Hold, judge};
use turmoil::Sim;

use super::wire_clock::{WireClock, elapsed};
use super::wire_server::{PORT, Server};

/// How far clocks may drift, in parts of a million.
const DRIFT: u64 = 4_000;
/// All that befalls hosts and network is over by then.
const WEATHER: u64 = 5_000;
const ROUNDS: u64 = 9;
/// Leases of the last rounds are so long that what is left behind is seen.
const LONG_FROM: u64 = 6;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

struct Dice(SeededEntropy);

impl Dice {
    fn new(seed: u64, stream: u64) -> Self {
        Self(SeededEntropy::new(seed ^ (stream << 40)))
    }

    fn below(&self, sides: u64) -> u64 {
        self.0.bits() % sides
    }

    fn one_in(&self, sides: u64) -> bool {
        self.below(sides) == 0
    }

    fn either_way(&self, most: u64) -> i64 {
        let drawn = i64::try_from(self.below(2 * most + 1)).unwrap();
        drawn - i64::try_from(most).unwrap()
    }

    fn clock(&self) -> WireClock {
        WireClock {
            rate: self.either_way(DRIFT),
            offset: self.either_way(200_000),
        }
    }
}

/// What befalls a node, or its way to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Blow {
    /// No message passes, either way.
    Partition,
    /// No request passes, or no reply.
    OneWay,
    /// Messages wait, and pass when it is over.
    Hold,
    /// The server crashes and starts again with its data.
    Crash,
    /// It crashes and starts again without.
    Amnesia,
    /// Single messages are lost, which breaks the connection they were of.
    Loss,
}

impl Blow {
    pub(crate) const ALL: [Self; 6] = [
        Self::Partition,
        Self::OneWay,
        Self::Hold,
        Self::Crash,
        Self::Amnesia,
        Self::Loss,
    ];

    fn begin(self, sim: &mut Sim<'_>, (client, node): (&str, &Server), backwards: bool) {
        match self {
            Self::Partition => sim.partition(client, node.name.as_str()),
            Self::OneWay if backwards => sim.partition_oneway(node.name.as_str(), client),
            Self::OneWay => sim.partition_oneway(client, node.name.as_str()),
            Self::Hold => sim.hold(client, node.name.as_str()),
            Self::Crash => sim.crash(node.name.as_str()),
            Self::Amnesia => {
                sim.crash(node.name.as_str());
                node.forget();
            }
            Self::Loss => sim.set_link_fail_rate(client, node.name.as_str(), 0.2),
        }
    }

    fn end(self, sim: &mut Sim<'_>, (client, node): (&str, &Server)) {
        match self {
            Self::Partition | Self::OneWay => sim.repair(client, node.name.as_str()),
            Self::Hold => sim.release(client, node.name.as_str()),
            Self::Crash | Self::Amnesia => sim.bounce(node.name.as_str()),
            Self::Loss => sim.set_link_fail_rate(client, node.name.as_str(), 0.0),
        }
    }
}

/// What became of a schedule.
pub(crate) struct Outcome {
    pub(crate) tally: BTreeMap<String, u64>,
    pub(crate) wrong: Vec<String>,
    pub(crate) log: Vec<String>,
}

/// What the clients note, each on its own simulated host.
#[derive(Default)]
struct Notes {
    history: Mutex<History>,
    tally: Mutex<BTreeMap<String, u64>>,
}

impl Notes {
    fn count(&self, what: &str) {
        *self
            .tally
            .lock()
            .unwrap()
            .entry(what.to_string())
            .or_default() += 1;
    }
}

/// Runs the schedule of this seed. Only the first one in a process replays.
pub(crate) fn run(seed: u64) -> Outcome {
    let dice = Dice::new(seed, 0);
    let notes = Arc::new(Notes::default());
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(ms(2))
        .simulation_duration(Duration::from_mins(2))
        .min_message_latency(ms(2))
        .max_message_latency(ms([3, 10, 40][usize::try_from(dice.below(3)).unwrap()]))
        .repair_rate(1.0)
        .build();
    let max_lease = Duration::from_secs(if dice.one_in(2) { 2 } else { 20 });
    let durable = dice.one_in(2);
    let servers: Vec<_> = (0..[3, 5][usize::from(dice.one_in(2))])
        .map(|number| Server::new(format!("node-{number}"), dice.clock(), durable))
        .collect();
    for server in &servers {
        let server = Arc::clone(server);
        sim.host(server.name.clone(), move || Arc::clone(&server).run());
    }
    let clients: Vec<_> = (0..2 + dice.below(2))
        .map(|number| format!("client-{number}"))
        .collect();
    for (number, name) in clients.iter().enumerate() {
        let client = Client {
            number,
            dice: Dice::new(seed, 10 + number as u64),
            clock: dice.clock(),
            max_lease,
            notes: Arc::clone(&notes),
        };
        let names = servers.iter().map(|server| server.name.clone()).collect();
        sim.client(name.as_str(), async move {
            client.work(names, seed).await;
            Ok(())
        });
    }
    weather(&mut sim, &dice, &servers, &clients, &notes);
    let holds = notes.history.lock().unwrap().holds();
    let mut wrong: Vec<_> = judge(&holds).iter().map(ToString::to_string).collect();
    let kept: BTreeSet<_> = holds
        .iter()
        .filter(|hold| hold.released.is_none())
        .map(|hold| hold.owner.as_str())
        .collect();
    for server in &servers {
        let holder = server.holder(&Resource::new("r").unwrap(), sim.elapsed());
        if let Some(owner) = holder.filter(|owner| !kept.contains(owner.as_str())) {
            wrong.push(format!("{}: {} still holds", server.name, owner.as_str()));
        }
    }
    let mut log: Vec<_> = servers.iter().flat_map(|server| server.log()).collect();
    log.extend(holds.iter().map(ToString::to_string));
    let tally = notes.tally.lock().unwrap().clone();
    Outcome { tally, wrong, log }
}

/// Steps until the clients are done, while one thing after the other befalls them.
fn weather(
    sim: &mut Sim<'_>,
    dice: &Dice,
    servers: &[Arc<Server>],
    clients: &[String],
    notes: &Notes,
) {
    // Who may forget: a minority.
    let forgetful = usize::try_from(dice.below(servers.len() as u64)).unwrap();
    let mut ends: Vec<(Duration, Blow, usize, usize)> = Vec::new();
    let mut next = ms(500 + dice.below(1_500));
    while !sim.step().unwrap() {
        let now = sim.elapsed();
        while let Some(at) = ends.iter().position(|(end, ..)| *end <= now) {
            let (_, blow, client, node) = ends.remove(at);
            blow.end(sim, (&clients[client], &servers[node]));
        }
        if now < next || now > ms(WEATHER) {
            continue;
        }
        next = now + ms(dice.below(1_200));
        let blow = Blow::ALL[usize::try_from(dice.below(6)).unwrap()];
        let client = usize::try_from(dice.below(clients.len() as u64)).unwrap();
        let mut node = usize::try_from(dice.below(servers.len() as u64)).unwrap();
        if blow == Blow::Amnesia {
            node = forgetful;
        }
        // One blow at a time on each way.
        if ends.iter().any(|(_, _, _, other)| *other == node) {
            continue;
        }
        notes.count(&format!("{blow:?}"));
        blow.begin(sim, (&clients[client], &servers[node]), dice.one_in(2));
        ends.push((now + ms(50 + dice.below(2_500)), blow, client, node));
    }
}

struct Client {
    number: usize,
    dice: Dice,
    clock: WireClock,
    max_lease: Duration,
    notes: Arc<Notes>,
}

impl Client {
    async fn work(self, nodes: Vec<String>, seed: u64) {
        let connect = |nodes: &[String]| {
            let entropy = SeededEntropy::new(seed + 1_000_000 * (1 + self.number as u64));
            let builder = Redlock::builder()
                .node_timeout(ms(150))
                .patience(ms(600))
                .clock(Arc::new(self.clock))
                .entropy(Arc::new(entropy));
            nodes.iter().fold(builder, |builder, name| {
                builder.node_streams(name.clone(), connector(name.clone()))
            })
        };
        // The first client opens the set; the others try until it is open.
        let redlock = if self.number == 0 {
            connect(&nodes)
                .initialise(Some(self.max_lease))
                .connect()
                .await
                .unwrap()
        } else {
            loop {
                tokio::time::sleep(ms(300)).await;
                match connect(&nodes).connect().await {
                    Ok(redlock) => break redlock,
                    Err(ConfigError::NotInitialised) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
        };
        for round in 0..ROUNDS {
            tokio::time::sleep(ms(self.dice.below(400))).await;
            if let Some((asked, grant)) = self.acquire(&redlock, round).await {
                self.hold(&redlock, asked, &grant).await;
            }
        }
        // Answers that were still to come have come by then, or their connection is given up.
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(
            redlock.drained(Duration::from_mins(1)).await,
            "never ends telling nodes"
        );
    }

    async fn acquire(&self, redlock: &Redlock, round: u64) -> Option<(u64, Grant)> {
        let (notes, dice) = (&self.notes, &self.dice);
        let lease = if round < LONG_FROM {
            ms(50 + dice.below(1_950))
        } else {
            self.max_lease
        };
        let options = AcquireOptions::new()
            .lease(lease)
            .retries(u32::try_from(dice.below(6)).unwrap())
            .delay(ms(10 + dice.below(150)))
            .owner(format!("c{}-{round}", self.number).try_into().unwrap());
        let asked = micros(elapsed());
        let acquiring = redlock.acquire("r", options);
        let patience = if dice.one_in(5) {
            ms(dice.below(80))
        } else {
            Duration::from_mins(1)
        };
        match tokio::time::timeout(patience, acquiring).await {
            Ok(Ok(grant)) => {
                notes.count("acquired");
                self.told(asked, &grant);
                Some((asked, grant))
            }
            Ok(Err(Error::Contended { .. })) => {
                notes.count("contended");
                None
            }
            Ok(Err(Error::Unavailable { .. })) => {
                notes.count("unavailable");
                None
            }
            Ok(Err(other)) => panic!("{other:?}"),
            Err(_) => {
                notes.count("cancelled");
                None
            }
        }
    }

    fn told(&self, asked: u64, grant: &Grant) {
        self.notes.history.lock().unwrap().held(Hold {
            client: self.number,
            resource: 0,
            owner: grant.owner().as_str().to_owned(),
            token: grant.token().as_u64(),
            asked,
            acquired: micros(elapsed()),
            valid_until: self.clock.true_time(grant.valid_until()),
            released: None,
        });
    }

    async fn hold(&self, redlock: &Redlock, mut asked: u64, grant: &Grant) {
        let (notes, dice) = (&self.notes, &self.dice);
        for _ in 0..dice.below(4) {
            tokio::time::sleep(ms(dice.below(400))).await;
            asked = asked.max(micros(elapsed()));
            if redlock.extend(grant, ms(1 + dice.below(800))).await.is_ok() {
                notes.count("extended");
                self.told(asked, grant);
            } else {
                notes.count("not extended");
            }
        }
        tokio::time::sleep(ms(dice.below(300))).await;
        if grant.remaining() < ms(2_000) && dice.one_in(4) {
            notes.count("left to expire");
            return;
        }
        let (owner, token) = (grant.owner().as_str(), grant.token().as_u64());
        let now = micros(elapsed());
        notes.history.lock().unwrap().released(0, owner, token, now);
        let released = redlock.release(grant).await;
        notes.count(if released.is_ok() {
            "released"
        } else {
            "not released"
        });
    }
}

fn connector(name: String) -> Connector {
    Arc::new(move || {
        let name = name.clone();
        Box::pin(async move {
            let stream = turmoil::net::TcpStream::connect((name, PORT)).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    })
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap()
}
