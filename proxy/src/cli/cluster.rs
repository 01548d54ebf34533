//! `everlock cluster init` and `everlock cluster status`.

use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, Args};
use everlock::cluster::{Cluster, Initialised};
use everlock::{Redlock, majority};

use super::{failed, misconfigured, parsed, status};
use crate::config::{node_problems, shown};

#[derive(Args)]
struct Nodes {
    /// A Redis server of the cluster; give all of them
    #[arg(
        long = "node",
        value_name = "URL",
        env = "EVERLOCK_NODES",
        hide_env_values = true,
        value_delimiter = ',',
        required = true
    )]
    nodes: Vec<String>,
}

#[derive(Args)]
pub(super) struct InitArgs {
    #[command(flatten)]
    nodes: Nodes,
    /// The longest lease that anybody may ever ask for; a node that lost its data waits as long.
    /// New clusters have 5 minutes unless it is given; it can't be changed later
    #[arg(
        long,
        value_name = "TIME",
        env = "EVERLOCK_CLUSTER_MAX_LEASE",
        value_parser = humantime::parse_duration
    )]
    max_lease: Option<Duration>,
}

#[derive(Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    nodes: Nodes,
    /// Write JSON
    #[arg(long, env = "EVERLOCK_JSON")]
    json: bool,
}

pub(super) fn init(matches: &ArgMatches) -> ExitCode {
    let args: InitArgs = parsed(matches);
    with_cluster(args.nodes, async |cluster| {
        match cluster.init(args.max_lease).await {
            Ok(done) => {
                report(&done);
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error),
        }
    })
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

fn with_cluster(nodes: Nodes, work: impl AsyncFnOnce(Cluster) -> ExitCode) -> ExitCode {
    let problems = node_problems(&nodes.nodes);
    if !problems.is_empty() {
        return misconfigured(&problems);
    }
    super::on_runtime(async {
        match Redlock::builder().node_urls(nodes.nodes).cluster() {
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
