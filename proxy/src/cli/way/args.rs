//! Which way: the flags and variables, and what is wrong with them.

use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command};
use everlock::NodeTls;

use super::{Failure, Nodes, Proxy, Way};
use crate::cli::node_args::NodeArgs;
use crate::config;
use crate::identity::{Https, Identity};

/// Where a proxy is looked for that nobody named.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";
/// The variables that name a proxy; the first that is set counts.
const URL_ENV: [&str; 2] = ["EVERLOCK_ENDPOINT", "EVERMIND_BASE_URL"];
/// And those that hold an API key.
const API_KEY_ENV: [&str; 2] = ["EVERLOCK_API_KEY", "EVERMIND_API_KEY"];
/// A deadline that each request replaces by its own.
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(in crate::cli) struct WayArgs {
    #[command(flatten)]
    nodes: NodeArgs,
    /// The proxy, where no nodes are given [env: `EVERLOCK_ENDPOINT` or `EVERMIND_BASE_URL`]
    /// [default: `http://127.0.0.1:8080`]
    #[arg(long, value_name = "URL", visible_alias = "url")]
    base_url: Option<String>,
    /// A file with the API key for the proxy, or give it in `EVERLOCK_API_KEY` or `EVERMIND_API_KEY`
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// PEM certificates of the authorities that a proxy at an https:// URL is trusted by, in place
    /// of the public ones
    #[arg(long, value_name = "FILE", env = "EVERLOCK_PROXY_CA")]
    proxy_ca: Option<PathBuf>,
    /// On nodes, the first segment of every key there, as the proxies have it
    #[arg(
        long,
        value_name = "TEXT",
        env = "EVERLOCK_GLOBAL_PREFIX",
        default_value = "Evermind",
        value_parser = config::global_prefix
    )]
    global_prefix: String,
    /// On nodes, the identity whose locks these are; through a proxy its API key says so
    #[arg(long, value_name = "ID", default_value = "anonymous", value_parser = identity)]
    identity: Identity,
}

fn identity(text: &str) -> Result<Identity, String> {
    Identity::new(text).ok_or_else(|| "it takes 1 to 64 of A-Z a-z 0-9 _ -".to_owned())
}

/// No nodes are no error where a proxy will do.
pub(in crate::cli) fn optional_nodes(command: Command) -> Command {
    command.mut_arg("urls", |nodes| {
        nodes.required(false).help(
            "A Redis server of the cluster, to lock on the nodes themselves; give all of them",
        )
    })
}

/// What was chosen, and is not opened yet.
enum Choice {
    Nodes(Vec<String>, NodeTls, (String, Identity)),
    Proxy(Box<Proxy>),
}

/// A way that can be opened within a runtime.
pub(in crate::cli) struct Chosen(Choice);

impl WayArgs {
    /// The way that the flags name, or else the variables; or everything that is wrong.
    pub(in crate::cli) fn chosen(mut self, matches: &ArgMatches) -> Result<Chosen, Vec<String>> {
        self.nodes.drop_empty();
        let by_flag = matches.value_source("urls") == Some(ValueSource::CommandLine);
        let url_env = first_of(&URL_ENV);
        let nodes = match (&self.base_url, &url_env) {
            (Some(_), _) if by_flag => {
                return Err(vec!["--node and --base-url can't be combined".to_owned()]);
            }
            (Some(_), _) => false,
            (None, _) if by_flag => true,
            (None, Some((name, _))) if !self.nodes.is_empty() => {
                return Err(vec![format!(
                    "both EVERLOCK_NODES and {name} are set: say --node or --base-url"
                )]);
            }
            (None, _) => !self.nodes.is_empty(),
        };
        let choice = if nodes {
            let (urls, tls) = self.nodes.checked()?;
            Choice::Nodes(urls, tls, (self.global_prefix, self.identity))
        } else {
            let url = self.base_url.or(url_env.map(|(_, url)| url));
            let url = url.unwrap_or_else(|| DEFAULT_URL.to_owned());
            let proxy = proxy(url, self.api_key_file, self.proxy_ca);
            Choice::Proxy(Box::new(proxy.map_err(|problem| vec![problem])?))
        };
        Ok(Chosen(choice))
    }
}

fn proxy(url: String, key: Option<PathBuf>, ca: Option<PathBuf>) -> Result<Proxy, String> {
    let read = |flag: &str, path: Option<PathBuf>| {
        path.filter(|path| path != "")
            .map(|path| {
                std::fs::read(&path)
                    .map_err(|error| format!("--{flag} {} can't be read: {error}", path.display()))
            })
            .transpose()
    };
    let ca = read("proxy-ca", ca)?;
    let key = match read("api-key-file", key)? {
        Some(bytes) => {
            let text = String::from_utf8(bytes);
            Some(text.map_err(|_| "--api-key-file holds no text".to_owned())?)
        }
        None => first_of(&API_KEY_ENV).map(|(_, key)| key),
    };
    let key = key
        .map(|key| key.trim().to_owned())
        .filter(|key| !key.is_empty());
    let https = Https::new(&url, ca.as_deref(), DEADLINE)
        .map_err(|problem| format!("--base-url: {problem}"))?;
    if key.is_some() && https.is_plain_to_others() {
        crate::cli::complain(&"warning: the API key is sent without TLS");
    }
    Ok(Proxy::new(https, url, key))
}

/// The first of these variables that is set to something.
fn first_of(names: &[&'static str]) -> Option<(&'static str, String)> {
    names.iter().find_map(|name| {
        let value = std::env::var(name).ok()?;
        (!value.trim().is_empty()).then(|| (*name, value.trim().to_owned()))
    })
}

impl Chosen {
    /// Opens the way. Must be called within a runtime.
    pub(in crate::cli) async fn open(self, patience: Duration) -> Result<Way, Failure> {
        match self.0 {
            Choice::Nodes(urls, tls, place) => {
                Ok(Way::Nodes(Nodes::open(urls, tls, patience, place).await?))
            }
            Choice::Proxy(proxy) => Ok(Way::Proxy(proxy)),
        }
    }
}
