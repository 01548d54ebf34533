//! `everlock cluster init` and `everlock cluster status`.

use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, Args};
use everlock::cluster::{Cluster, Initialised};
use everlock::{ConfigError, Redlock, RedlockBuilder, majority};
use tokio::time::Instant;

use super::node_args::NodeArgs;
use super::{complain, failed, misconfigured, parsed, status};
use crate::config::shown;

/// A longer wait is a mistake.
const MAX_WAIT: Duration = Duration::from_hours(24);
/// How often nodes that don't answer are asked again.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// The nodes, or everything that is wrong with them.
fn builder(nodes: NodeArgs) -> Result<RedlockBuilder, Vec<String>> {
    let (urls, tls) = nodes.checked()?;
    Ok(Redlock::builder().node_urls(urls).node_tls(tls))
}

#[derive(Args)]
pub(super) struct InitArgs {
    #[command(flatten)]
    nodes: NodeArgs,
    /// The longest lease that anybody may ever ask for; a node that lost its data waits as long.
    /// New clusters have 5 minutes unless it is given; it can't be changed later
    #[arg(
        long,
        value_name = "TIME",
        env = "EVERLOCK_CLUSTER_MAX_LEASE",
        value_parser = humantime::parse_duration
    )]
    max_lease: Option<Duration>,
    /// For how long to wait for nodes that don't answer yet, telling so on standard error
    #[arg(
        long,
        value_name = "TIME",
        env = "EVERLOCK_CLUSTER_WAIT",
        value_parser = wait_time,
        default_value = "0s"
    )]
    wait: Duration,
    /// Use nodes whose maxmemory-policy may drop locks and floors, which are refused otherwise
    #[arg(
        long,
        env = "EVERLOCK_ALLOW_EVICTION",
        value_parser = clap::builder::FalseyValueParser::new()
    )]
    allow_eviction: bool,
}

fn wait_time(text: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if parsed <= MAX_WAIT {
        Ok(parsed)
    } else {
        Err(format!("it takes up to {}", shown(MAX_WAIT)))
    }
}

#[derive(Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    nodes: NodeArgs,
    /// Write JSON
    #[arg(long, env = "EVERLOCK_JSON")]
    json: bool,
}

pub(super) fn init(matches: &ArgMatches) -> ExitCode {
    let args: InitArgs = parsed(matches);
    with_cluster(args.nodes, async |cluster| {
        let cluster = cluster.allow_eviction(args.allow_eviction);
        match init_within(&cluster, args.max_lease, args.wait).await {
            Ok(done) => {
                report(&done);
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error),
        }
    })
}

/// Opens the cluster as soon as enough nodes answer. What is wrong for good is not waited for.
async fn init_within(
    cluster: &Cluster,
    max_lease: Option<Duration>,
    wait: Duration,
) -> Result<Initialised, ConfigError> {
    let deadline = Instant::now() + wait;
    let mut told = String::new();
    loop {
        let error = match cluster.init(max_lease).await {
            Err(error @ ConfigError::CannotInitialise { .. }) => error,
            done => return done,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(error);
        }
        let why = error.to_string();
        if why != told {
            let seconds = left.as_secs() + 1;
            complain(&format!("waiting for {seconds} s more: {why}"));
            told = why;
        }
        tokio::time::sleep(RETRY_EVERY.min(left)).await;
    }
}

pub(super) fn status(matches: &ArgMatches) -> ExitCode {
    let args: StatusArgs = parsed(matches);
    with_cluster(args.nodes, async |cluster| {
        let nodes = cluster.status().await;
        if args.json {
            status::print_json(&nodes);
        } else {
            status::print_table(&nodes);
        }
        let voting = nodes.iter().filter(|node| node.votes()).count();
        ExitCode::from(u8::from(voting < majority(nodes.len())))
    })
}

fn with_cluster(nodes: NodeArgs, work: impl AsyncFnOnce(Cluster) -> ExitCode) -> ExitCode {
    let builder = match builder(nodes) {
        Ok(builder) => builder,
        Err(problems) => return misconfigured(&problems),
    };
    super::on_runtime(async {
        match builder.cluster() {
            Ok(cluster) => work(cluster).await,
            Err(error) => misconfigured(&[error.to_string()]),
        }
    })
}

fn report(done: &Initialised) {
    let cluster = &done.cluster;
    let opened = if done.opened {
        "opened now"
    } else {
        "was open"
    };
    println!(
        "cluster {} of {} nodes: {opened}; its leases last up to {}",
        cluster.id,
        cluster.nodes,
        shown(cluster.max_lease)
    );
    for (node, left) in &done.guarded {
        let seconds = left.as_secs() + 1;
        println!("node {node} may have lost grants: it votes in {seconds} s");
    }
    for (node, fault) in &done.away {
        println!("node {node} does not answer: {fault}");
    }
}
