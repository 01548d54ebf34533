//! `everlock keys create` and `everlock keys delete`: API keys from a licence, through a proxy.
//!
//! Flags and variables are those of Evermind's own client, so that scripts go on working. A
//! failure exits with 1.

use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, Args};
use hyper::Method;
use serde_json::{Value, json};

use super::{complain, failed, misconfigured, parsed};
use crate::identity::{Fetched, Https};

/// Longer than a proxy takes to ask its backend and its nodes.
const DEADLINE: Duration = Duration::from_secs(10);
/// What Evermind's client says, word for word.
const NO_LICENCE: &str =
    "Expected EVERMIND_LICENCE_KEY to be set or passed in via the --licenceKey (-l) flag.";

#[derive(Args)]
struct LicenceArgs {
    /// The licence key
    #[arg(
        long = "licenceKey",
        short = 'l',
        visible_alias = "licence-key",
        alias = "license-key",
        alias = "licenseKey",
        value_name = "KEY",
        env = "EVERMIND_LICENCE_KEY",
        hide_env_values = true
    )]
    licence_key: Option<String>,
    /// The proxy
    #[arg(
        long,
        value_name = "URL",
        env = "EVERMIND_BASE_URL",
        default_value = "http://127.0.0.1:8080"
    )]
    base_url: String,
}

#[derive(Args)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    licence: LicenceArgs,
    /// The proxy's answer in place of the key alone
    #[arg(long, env = "EVERLOCK_JSON")]
    json: bool,
}

#[derive(Args)]
pub(super) struct DeleteArgs {
    /// The API key
    #[arg(value_name = "API_KEY")]
    key: String,
    #[command(flatten)]
    licence: LicenceArgs,
}

pub(super) fn create(matches: &ArgMatches) -> ExitCode {
    let args: CreateArgs = parsed(matches);
    let Some(licence) = args.licence.key() else {
        return unlicensed();
    };
    let body = json!({"licenceKey": licence});
    args.licence.ask(Method::POST, &body, |fetched| {
        let key = fetched
            .json()
            .and_then(|json| Some(json["apiKey"].as_str()?.to_owned()));
        let Some(key) = key else {
            return failed(&"the proxy answered without an API key");
        };
        if args.json {
            println!("{}", json!({"apiKey": key}));
        } else {
            println!("{key}");
        }
        ExitCode::SUCCESS
    })
}

pub(super) fn delete(matches: &ArgMatches) -> ExitCode {
    let args: DeleteArgs = parsed(matches);
    let Some(licence) = args.licence.key() else {
        return unlicensed();
    };
    let body = json!({"licenceKey": licence, "apiKey": args.key});
    args.licence
        .ask(Method::DELETE, &body, |_| ExitCode::SUCCESS)
}

#[allow(
    clippy::print_stderr,
    reason = "the message is Evermind's, without our name before it"
)]
fn unlicensed() -> ExitCode {
    eprintln!("{NO_LICENCE}");
    ExitCode::from(1)
}

impl LicenceArgs {
    fn key(&self) -> Option<String> {
        let key = self.licence_key.as_deref()?.trim();
        (!key.is_empty()).then(|| key.to_owned())
    }

    fn ask(
        &self,
        method: Method,
        body: &Value,
        done: impl FnOnce(Fetched) -> ExitCode,
    ) -> ExitCode {
        let https = match Https::new(&self.base_url, None, DEADLINE) {
            Ok(https) => https,
            Err(problem) => return misconfigured(&[format!("--base-url: {problem}")]),
        };
        if https.is_plain_to_others() {
            complain(&"warning: the licence key is sent without TLS");
        }
        super::on_runtime(async move {
            match https.ask(method, "/api-key", None, Some(body)).await {
                Ok(fetched) if fetched.status.is_success() => done(fetched),
                Ok(fetched) => {
                    let message = fetched.json();
                    let message = message.as_ref().and_then(|json| json["message"].as_str());
                    let status = fetched.status.as_u16();
                    failed(&format!(
                        "{} (status {status})",
                        message.unwrap_or("the proxy refused it")
                    ))
                }
                Err(error) => failed(&format!("{} can't be asked: {error}", self.base_url)),
            }
        })
    }
}
