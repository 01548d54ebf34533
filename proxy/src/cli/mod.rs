//! The command line: what there is, and where a subcommand's work begins.
//!
//! Exit codes: 0 done; 1 it could not be done; 2 it was not understood, be it
//! the command line or the configuration; 75 others hold the lock; 76 the lock
//! is not held, or was lost.

mod banner;
mod cluster;
mod descriptors;
mod generate;
mod health;
mod hold_args;
mod holding;
mod keys;
mod keys_remote;
mod lock;
mod node_args;
mod notify;
mod openapi;
mod serve;
mod status;
mod tune;
mod way;

use std::fmt::Display;
use std::num::NonZero;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Args as _, Command};

use crate::config::SETTINGS;

const ABOUT: &str = "Distributed locks over independent Redis nodes, behind an HTTP API";
const SERVE_AFTER: &str = "\
Each setting is taken from its flag, else from its variable, else from the file, else it has its
default. In the file, settings are named as the flags (nodes = [\"…\"] for --node). Durations are
written 3s or 250ms.

Nodes that were never opened for voting are refused: run `everlock cluster init` first. Nodes that
don't answer are not: the proxy is not ready until a quorum does.";

const HOLD_AFTER: &str = "\
Through the proxy at --base-url, or on the nodes themselves with --node. Exit codes: 0 done,
1 nobody answers or it was refused, 2 not understood, 75 others hold the lock, 76 the lock is not
held.";
const LOCK_AFTER: &str = "\
The command finds EVERLOCK_KEY, EVERLOCK_UUID and EVERLOCK_TOKEN in its environment. When the lock
can't be renewed, its process group gets TERM, and KILL when the lock's validity ends at the latest.

Exit codes: the command's own, 128 and the number for a signal; 1 nobody answers or it was refused,
2 not understood, 75 others hold the lock, 76 the lock was lost, 126 the command can't be executed,
127 there is no such command.";

/// Runs the command that the process was started with.
#[must_use]
pub fn run() -> ExitCode {
    let matches = command().get_matches();
    match matches.subcommand() {
        Some(("serve", matches)) => serve::run(matches),
        Some(("cluster", matches)) => match matches.subcommand() {
            Some(("init", matches)) => cluster::init(matches),
            Some(("status", matches)) => cluster::status(matches),
            _ => unreachable!("clap demands a subcommand"),
        },
        Some(("keys", matches)) => match matches.subcommand() {
            Some(("create", matches)) => keys_remote::create(matches),
            Some(("delete", matches)) => keys_remote::delete(matches),
            Some(("issue", matches)) => keys::issue(matches),
            Some(("revoke", matches)) => keys::revoke(matches),
            _ => unreachable!("clap demands a subcommand"),
        },
        Some(("lock", matches)) => lock::run(matches),
        Some(("lock-stage", matches)) => lock::stage(matches),
        Some(("lock-warden", matches)) => lock::warden(matches),
        Some(("acquire", matches)) => holding::acquire(matches),
        Some(("extend", matches)) => holding::extend(matches),
        Some(("release", matches)) => holding::release(matches),
        Some(("completions", matches)) => generate::completions(matches),
        Some(("man", matches)) => generate::man(matches),
        Some(("health", matches)) => health::run(matches),
        Some(("tune", matches)) => tune::run(matches),
        Some(("openapi", _)) => openapi::print(),
        _ => unreachable!("clap demands a subcommand"),
    }
}

fn command() -> Command {
    let cluster = Command::new("cluster")
        .about("Open a set of nodes for voting, and look at it")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(cluster::InitArgs::augment_args(Command::new("init").about(
            "Open new nodes for voting; safe at every start of a deployment, also several at once",
        )))
        .subcommand(cluster::StatusArgs::augment_args(
            Command::new("status").about(
                "Show what each node says of itself; exits with 0 if a quorum of nodes votes",
            ),
        ));
    let health = Command::new("health")
        .about("Ask a running proxy whether it is well: exits with 0 if the answer is 200");
    Command::new("everlock")
        .about(ABOUT)
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve_command())
        .subcommands(lock_commands())
        .subcommand(cluster)
        .subcommand(keys_command())
        .subcommand(health::HealthArgs::augment_args(health))
        .subcommand(tune::TuneArgs::augment_args(Command::new("tune").about(
            "Advise on leases, delays and retries, from what a running proxy saw of its locks",
        )))
        .subcommand(
            Command::new("openapi").about("Print the document of the HTTP API, OpenAPI 3.1"),
        )
        .subcommands(generate::commands())
}

/// What takes locks, and what those are made of.
fn lock_commands() -> Vec<Command> {
    let with_way = |command: Command| way::optional_nodes(command).after_help(HOLD_AFTER);
    let lock = Command::new("lock").about("Run a command under a lock, renewed while it runs");
    let lock = with_way(lock::LockArgs::augment_args(lock)).after_help(LOCK_AFTER);
    let acquire = Command::new("acquire").about("Acquire a lock, for a script to release");
    let extend = Command::new("extend").about("Add to the lease of a lock");
    let release = Command::new("release").about("Release a lock");
    let stage = Command::new("lock-stage").hide(true);
    let warden = Command::new("lock-warden").hide(true);
    vec![
        lock,
        with_way(holding::AcquireArgs::augment_args(acquire)),
        with_way(holding::ExtendArgs::augment_args(extend)),
        with_way(holding::ReleaseArgs::augment_args(release)),
        lock::StageArgs::augment_args(stage),
        lock::WardenArgs::augment_args(warden),
    ]
}

fn keys_command() -> Command {
    let issue = Command::new("issue").about("Make an API key with the secret that signs them");
    let revoke = Command::new("revoke").about("Delete an API key, by telling the nodes");
    let create = Command::new("create").about("Have a proxy make an API key from a licence");
    let delete = Command::new("delete").about("Have a proxy delete an API key of a licence");
    Command::new("keys")
        .about("Make and delete API keys")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(keys_remote::CreateArgs::augment_args(create))
        .subcommand(keys_remote::DeleteArgs::augment_args(delete))
        .subcommand(keys::IssueArgs::augment_args(issue))
        .subcommand(keys::RevokeArgs::augment_args(revoke))
}

fn serve_command() -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .help("A TOML file with settings [env: EVERLOCK_CONFIG]");
    Command::new("serve")
        .about("Serve locks over HTTP")
        .after_help(SERVE_AFTER)
        .arg(config)
        .args(SETTINGS.iter().map(|setting| {
            let default = setting.default.map(|text| format!(" [default: {text}]"));
            let help = format!(
                "{} [env: {}]{}",
                setting.help,
                setting.env,
                default.unwrap_or_default()
            );
            let arg = Arg::new(setting.flag).long(setting.flag).help(help);
            match setting.value {
                None => arg.action(ArgAction::SetTrue),
                Some(value) if setting.many => arg.value_name(value).action(ArgAction::Append),
                Some(value) => arg.value_name(value),
            }
        }))
}

/// The arguments of a subcommand that clap has accepted.
fn parsed<T: clap::FromArgMatches>(matches: &ArgMatches) -> T {
    T::from_arg_matches(matches).unwrap_or_else(|error| error.exit())
}

/// Runs a command's asynchronous part to its end.
fn on_runtime(work: impl Future<Output = ExitCode>) -> ExitCode {
    on_threads(None, work)
}

/// The same on so many threads, or on as many as there are cores for this process. A single one
/// needs none of what threads need to hand tasks to each other.
fn on_threads(threads: Option<usize>, work: impl Future<Output = ExitCode>) -> ExitCode {
    let cores = || std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = threads.unwrap_or_else(cores);
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    match builder.worker_threads(threads).enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            // Name look-ups that hang must not hold up the end.
            runtime.shutdown_background();
            code
        }
        Err(error) => failed(&format!("the runtime can't be started: {error}")),
    }
}

/// It could not be done.
fn failed(why: &dyn Display) -> ExitCode {
    complain(why);
    ExitCode::from(1)
}

/// Every problem of a configuration.
fn misconfigured(problems: &[String]) -> ExitCode {
    for problem in problems {
        complain(problem);
    }
    ExitCode::from(2)
}

/// The one place that writes to standard error, besides the log.
#[allow(clippy::print_stderr, reason = "errors of a command belong there")]
fn complain(what: &dyn Display) {
    eprintln!("everlock: {what}");
}
