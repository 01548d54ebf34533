//! `everlock keys issue` and `everlock keys revoke`: API keys from the operator's hand.
//!
//! A key is shown once, on standard output, and nowhere else. Issuing asks no node: the secret
//! signs. Revoking is told to the nodes, from where every proxy reads it.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, Args};
use serde_json::json;

use super::node_args::NodeArgs;
use super::{failed, misconfigured, parsed};
use crate::config::{self, SECRETS_ENV, Secret};
use crate::identity::{Identity, Keeper, Revocations, RevokeError, Secrets};

#[derive(Args)]
struct SecretArgs {
    /// The secrets that sign API keys, a line each, or give them in `EVERLOCK_API_KEY_SECRETS`
    #[arg(long, value_name = "FILE", env = "EVERLOCK_API_KEY_SECRET_FILE")]
    api_key_secret_file: Option<PathBuf>,
}

impl SecretArgs {
    fn read(&self) -> Result<Secrets, String> {
        let flag = "api-key-secret-file";
        let given = config::given_secret(flag, self.api_key_secret_file.as_deref(), SECRETS_ENV)?;
        let (source, text) = given.ok_or_else(|| {
            format!("the secret that signs API keys is needed: give --{flag} FILE or {SECRETS_ENV}")
        })?;
        let secrets: Result<Vec<Secret>, _> = config::secrets(&text);
        let secrets = secrets.map_err(|problem| format!("{source}: {problem}"))?;
        Ok(Secrets::new(&secrets))
    }
}

#[derive(Args)]
pub(super) struct IssueArgs {
    /// Whom the key is of: 1 to 64 of A-Z a-z 0-9 _ -; its locks are apart from everybody else's
    #[arg(long, value_name = "ID")]
    identity: String,
    #[command(flatten)]
    secrets: SecretArgs,
    /// One JSON object in place of the key alone
    #[arg(long, env = "EVERLOCK_JSON")]
    json: bool,
}

pub(super) fn issue(matches: &ArgMatches) -> ExitCode {
    let args: IssueArgs = parsed(matches);
    let named = Identity::new(&args.identity);
    let Some(identity) = named.filter(|identity| *identity != Identity::anonymous()) else {
        return misconfigured(&[format!(
            "--identity: {:?} is no identity: it takes 1 to 64 of A-Z a-z 0-9 _ - and is not \
             anonymous, which is everybody without a key",
            args.identity
        )]);
    };
    let secrets = match args.secrets.read() {
        Ok(secrets) => secrets,
        Err(problem) => return misconfigured(&[problem]),
    };
    let key = secrets.issue(&identity, None);
    if args.json {
        let object = json!({"apiKey": key.reveal(), "identity": identity.as_str()});
        println!("{object}");
    } else {
        println!("{}", key.reveal());
    }
    ExitCode::SUCCESS
}

#[derive(Args)]
pub(super) struct RevokeArgs {
    /// The API key; - reads it from standard input, where other users of the machine can't see it
    #[arg(value_name = "API_KEY")]
    key: String,
    #[command(flatten)]
    nodes: NodeArgs,
    #[command(flatten)]
    secrets: SecretArgs,
    /// The first segment of every key on the nodes, as the proxies have it
    #[arg(
        long,
        value_name = "TEXT",
        env = "EVERLOCK_GLOBAL_PREFIX",
        default_value = "Evermind"
    )]
    global_prefix: String,
}

pub(super) fn revoke(matches: &ArgMatches) -> ExitCode {
    let args: RevokeArgs = parsed(matches);
    let (urls, tls) = match args.nodes.checked() {
        Ok(nodes) => nodes,
        Err(problems) => return misconfigured(&problems),
    };
    let secrets = match args.secrets.read() {
        Ok(secrets) => secrets,
        Err(problem) => return misconfigured(&[problem]),
    };
    let mut key = args.key;
    if key == "-" {
        key.clear();
        if let Err(error) = std::io::stdin().read_to_string(&mut key) {
            return failed(&format!("standard input can't be read: {error}"));
        }
    }
    let Some(verified) = secrets.verify(key.trim()) else {
        return failed(&"none of the secrets signed this API key");
    };
    let keepers = match Keeper::all(&urls, &tls) {
        Ok(keepers) => keepers,
        Err(error) => return failed(&error),
    };
    super::on_runtime(async move {
        let revocations = Revocations::new(&args.global_prefix, &secrets.names(), keepers);
        let revoked = revocations.revoke(verified.secret, verified.id).await;
        // The nodes beyond the majority were told, too, or are away.
        revocations.settled().await;
        match revoked {
            Ok(()) => {
                println!("the API key is deleted: every proxy refuses it within five seconds");
                ExitCode::SUCCESS
            }
            Err(RevokeError::Unavailable) => {
                failed(&"no majority of nodes took it: the API key may live on; try again")
            }
            Err(RevokeError::Full) => failed(&"too many API keys are deleted: rotate the secret"),
        }
    })
}
