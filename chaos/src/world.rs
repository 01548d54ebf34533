//! The servers, the links to them, the proxies and the clients of one run.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::Args;
use everlock::Redlock;
use everlock::cluster::Cluster;
use everlock_testkit::{FaultProxy, ProcessUnderTest, RedisCluster, ReservedPort, Signal};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::client::Way;
use crate::dice::Dice;
use crate::nemesis::Nemesis;
use crate::register::Service;
use crate::{LEASE, now, verdict};

pub(crate) const NODES: usize = 5;
const PROXIES: usize = 2;
/// Processes that use the library, and as many that speak HTTP.
const CLIENTS: usize = 2;

/// How long everything may take to be there.
const START: Duration = Duration::from_secs(20);

/// A node that syncs each second has done so by then.
const SYNCED: Duration = Duration::from_secs(3);

/// What the person at the keyboard wants.
#[derive(Args, Clone, Debug)]
pub(crate) struct Wishes {
    /// For how long faults are injected
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Fixes what the nemesis plans; a random one if it is not given
    #[arg(long)]
    seed: Option<u64>,
    /// Outside of the model: faults of a majority of the nodes at once. Only the register that
    /// checks tokens is judged
    #[arg(long)]
    pub(crate) majority: bool,
    /// An everlock of another version for one of the two proxies
    #[arg(long, value_name = "PROGRAM", value_parser = program)]
    mixed_with: Option<PathBuf>,
}

/// What is not there is said before anything runs.
fn program(path: &str) -> Result<PathBuf, String> {
    let path = fs::canonicalize(path).map_err(|error| error.to_string())?;
    let is_file = path.is_file();
    is_file
        .then_some(path)
        .ok_or_else(|| "is no file".to_owned())
}

/// What a node keeps over a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persistence {
    Nothing,
    /// Synced each second: what was written is there after a crash, but not after a power loss.
    EverySecond,
    /// Synced before each answer.
    Always,
}

/// In the order of the nodes.
pub(crate) const PERSISTENCE: [Persistence; NODES] = [
    Persistence::Nothing,
    Persistence::Nothing,
    Persistence::EverySecond,
    Persistence::Always,
    Persistence::Always,
];

/// Everything that the nemesis can hurt.
pub(crate) struct World {
    pub(crate) nodes: Arc<RedisCluster>,
    /// Before each node two links: that of the library's clients and that of the proxies.
    pub(crate) links: Vec<[FaultProxy; 2]>,
    /// Sees the nodes past all links.
    pub(crate) onlooker: Redlock,
    pub(crate) proxies: Vec<Mutex<Process>>,
    pub(crate) clients: Vec<Mutex<Process>>,
    crew: Crew,
}

/// A process that can be stopped, killed and replaced.
pub(crate) struct Process {
    running: ProcessUnderTest,
    role: Role,
}

#[derive(Clone, Copy)]
enum Role {
    Proxy(usize),
    Client(Way),
}

/// What is needed to start one.
struct Crew {
    program: PathBuf,
    /// Of another version; the last proxy is this.
    mixed_with: Option<PathBuf>,
    notes: PathBuf,
    register: SocketAddr,
    /// The URLs of the library's clients, and those of the proxies.
    node_urls: [Vec<String>; 2],
    ports: Vec<ReservedPort>,
    dice: Dice,
    started: AtomicUsize,
}

/// Runs it all and judges.
pub(crate) async fn run(wishes: Wishes) -> ExitCode {
    let seed = wishes.seed.unwrap_or_else(|| now() % 1_000_000);
    println!("chaos: {} s, seed {seed}", wishes.seconds);
    if let Some(other) = &wishes.mixed_with {
        println!("chaos: one proxy is {}", other.display());
    }
    let service = Service::default();
    let notes = std::env::temp_dir().join(format!("everlock-chaos-{}", std::process::id()));
    fs::create_dir(&notes).unwrap();
    let register = service.start().await;
    let world = Arc::new(World::start(seed, notes.clone(), register, &wishes).await);
    let nemesis = Nemesis::new(Arc::clone(&world), seed, &wishes);

    let from = now();
    let time = Duration::from_secs(wishes.seconds);
    tokio::select! {
        () = nemesis.rage(time) => {}
        _ = tokio::signal::ctrl_c() => println!("chaos: ended early"),
    }
    let until = now();
    let crashed = world.end().await;
    let facts = verdict::Facts {
        seed,
        from,
        until,
        majority: wishes.majority,
        crashed,
        tallies: service.tallies(),
        journal: nemesis.journal(),
    };
    let code = verdict::pass(&facts, &notes);
    if code == ExitCode::SUCCESS {
        fs::remove_dir_all(&notes).unwrap();
    } else {
        println!("what the clients noted is in {}", notes.display());
    }
    code
}

impl World {
    async fn start(seed: u64, folder: PathBuf, register: SocketAddr, wishes: &Wishes) -> Self {
        let starting = tokio::task::spawn_blocking(|| {
            RedisCluster::start_with(NODES, |i, server| {
                let server = server.with_clock().with_power();
                match PERSISTENCE[i] {
                    Persistence::Nothing => server,
                    Persistence::EverySecond => server
                        .config("appendonly", "yes")
                        .config("appendfsync", "everysec"),
                    Persistence::Always => server.durable(),
                }
            })
        });
        let nodes = starting.await.unwrap();
        let mut links = Vec::new();
        for node in nodes.servers() {
            links.push([
                FaultProxy::in_front_of(node).await,
                FaultProxy::in_front_of(node).await,
            ]);
        }
        let operator: Cluster = Redlock::builder()
            .node_urls(nodes.urls())
            .cluster()
            .unwrap();
        operator.init(Some(LEASE)).await.unwrap();
        // A node that forgets its opening waits for the next `cluster init`: let it be synced.
        sleep(SYNCED).await;
        let onlooker = Redlock::builder().node_urls(nodes.urls());
        let onlooker = onlooker.connect().await.unwrap();
        let urls = |way: usize| links.iter().map(|links| links[way].url()).collect();
        let crew = Crew {
            program: std::env::current_exe().unwrap(),
            mixed_with: wishes.mixed_with.clone(),
            notes: folder,
            register,
            node_urls: [urls(0), urls(1)],
            ports: (0..PROXIES).map(|_| ReservedPort::take()).collect(),
            dice: Dice::new(!seed),
            started: AtomicUsize::new(0),
        };
        let roles = (0..PROXIES).map(Role::Proxy);
        let proxies: Vec<_> = roles.map(|role| Mutex::new(crew.start(role))).collect();
        for port in &crew.ports {
            let listening = async {
                while tokio::net::TcpStream::connect(port.addr()).await.is_err() {
                    sleep(Duration::from_millis(20)).await;
                }
            };
            timeout(START, listening).await.expect("a proxy listens");
        }
        let ways = [Way::Library, Way::Http].repeat(CLIENTS);
        let clients = ways.into_iter().map(Role::Client);
        let clients = clients.map(|role| Mutex::new(crew.start(role))).collect();
        Self {
            nodes: Arc::new(nodes),
            links,
            onlooker,
            proxies,
            clients,
            crew,
        }
    }

    /// Kills a process and starts another in its place.
    pub(crate) async fn replace(&self, process: &Mutex<Process>) {
        let mut process = process.lock().await;
        process.running.signal(Signal::KILL);
        process.running.wait_exit(START).await;
        *process = self.crew.start(process.role);
    }

    /// Ends all clients; says what those printed that had ended by themselves.
    async fn end(&self) -> Vec<String> {
        let mut crashed = Vec::new();
        for process in self.clients.iter().chain(&self.proxies) {
            let process = &mut process.lock().await.running;
            process.signal(Signal::KILL);
            let status = process.wait_exit(START).await;
            if std::os::unix::process::ExitStatusExt::signal(&status).is_none() {
                crashed.push(format!("{status}\n{}", process.output()));
            }
        }
        crashed
    }
}

impl Process {
    pub(crate) fn signal(&mut self, signal: Signal) {
        self.running.signal(signal);
    }
}

impl Crew {
    fn start(&self, role: Role) -> Process {
        let started = self.started.fetch_add(1, Ordering::Relaxed);
        let args = match role {
            Role::Proxy(number) => self.proxy_args(number),
            Role::Client(way) => self.client_args(way, started),
        };
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let running = ProcessUnderTest::spawn(&self.program, &args, &[]);
        Process { running, role }
    }

    fn proxy_args(&self, number: usize) -> Vec<String> {
        let listen = self.ports[number].addr().to_string();
        let mut args = vec!["proxy".to_owned(), "--listen".to_owned(), listen];
        for url in &self.node_urls[1] {
            args.extend(["--node".to_owned(), url.clone()]);
        }
        let other = self.mixed_with.as_ref().filter(|_| number + 1 == PROXIES);
        args.extend(other.map(|other| format!("--program={}", other.display())));
        args
    }

    fn client_args(&self, way: Way, id: usize) -> Vec<String> {
        let to: Vec<_> = match way {
            Way::Library => self.node_urls[0].clone(),
            Way::Http => {
                let ports = self.ports.iter();
                ports.map(|port| port.addr().to_string()).collect()
            }
        };
        let way = match way {
            Way::Library => "library",
            Way::Http => "http",
        };
        let notes = self.notes.join(id.to_string());
        let mut args = vec![
            "client".to_owned(),
            format!("--way={way}"),
            format!("--id={id}"),
            format!("--seed={}", self.dice.bits()),
            format!("--notes={}", notes.display()),
            format!("--register={}", self.register),
        ];
        args.extend(to.into_iter().map(|to| format!("--to={to}")));
        args
    }
}

/// What a proxy is started with.
#[derive(Args, Debug)]
pub(crate) struct ProxyArgs {
    #[arg(long)]
    listen: String,
    #[arg(long = "node")]
    nodes: Vec<String>,
    #[arg(long)]
    program: Option<PathBuf>,
}

/// Becomes `everlock serve`: the one that is beside this program, unless another was named.
pub(crate) fn become_proxy(args: &ProxyArgs) -> ExitCode {
    end_with_parent();
    let beside = || std::env::current_exe().unwrap().with_file_name("everlock");
    let program = args.program.clone().unwrap_or_else(beside);
    let mut command = std::process::Command::new(&program);
    command.args(["serve", "--log-level", "error", "--listen", &args.listen]);
    for node in &args.nodes {
        command.args(["--node", node]);
    }
    let error = command.exec();
    eprintln!("{}: {error}", program.display());
    ExitCode::FAILURE
}

/// This process dies with the one that started it, however that ends, also while it is stopped.
pub(crate) fn end_with_parent() {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
}
