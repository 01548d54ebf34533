//! `everlock acquire`, `everlock extend` and `everlock release`: one step each, for scripts.

use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, Args};
use everlock::OwnerId;
use everlock::clock::{Clock as _, Moment, SystemClock};
use serde_json::{Value, json};

use super::hold_args::{self, RetryArgs};
use super::way::{Failure, Hold, Lock, Wanted, Way, WayArgs, Won};
use super::{misconfigured, on_runtime, parsed};
use crate::api::millis;

/// How long the answer to an extension is awaited.
const EXTEND_WITHIN: Duration = Duration::from_secs(5);
/// Nodes answer a release or an extension at once, or not.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(super) struct AcquireArgs {
    /// What to lock: any text of 1 to 512 bytes
    #[arg(value_parser = hold_args::key)]
    key: String,
    /// How long the lock is held unless it is extended or released
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = hold_args::lease)]
    lease: Duration,
    /// How long to try while others hold it; 0s tries once
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = hold_args::wait)]
    wait: Duration,
    /// The id to extend and release with; a fresh `UUIDv7` unless it is given
    #[arg(long, value_name = "ID", value_parser = hold_args::uuid)]
    uuid: Option<OwnerId>,
    #[command(flatten)]
    retry: RetryArgs,
    #[command(flatten)]
    way: WayArgs,
    /// One JSON object in place of text
    #[arg(long, env = "EVERLOCK_JSON")]
    json: bool,
}

#[derive(Args)]
struct HeldArgs {
    /// What is locked
    #[arg(value_parser = hold_args::key)]
    key: String,
    /// The id with which it was acquired
    #[arg(long, value_name = "ID", env = "EVERLOCK_UUID", value_parser = hold_args::uuid)]
    uuid: OwnerId,
    #[command(flatten)]
    way: WayArgs,
    /// One JSON object in place of text
    #[arg(long, env = "EVERLOCK_JSON")]
    json: bool,
}

#[derive(Args)]
pub(super) struct ExtendArgs {
    #[command(flatten)]
    held: HeldArgs,
    /// The time to add to what is left of the lease
    #[arg(long, value_name = "TIME", value_parser = hold_args::extension)]
    by: Duration,
}

#[derive(Args)]
pub(super) struct ReleaseArgs {
    #[command(flatten)]
    held: HeldArgs,
}

pub(super) fn acquire(matches: &ArgMatches) -> ExitCode {
    let args: AcquireArgs = parsed(matches);
    let chosen = match args.way.chosen(matches) {
        Ok(chosen) => chosen,
        Err(problems) => return misconfigured(&problems),
    };
    let lock = Lock {
        key: args.key,
        uuid: args.uuid.unwrap_or_else(OwnerId::fresh),
    };
    let wanted = Wanted {
        lease: args.lease,
        wait: Some(args.wait),
        delay: args.retry.retry_delay,
        jitter: args.retry.retry_jitter,
        fifo: args.retry.fifo,
        patience: args.retry.patience,
    };
    on_runtime(async move {
        let acquired = match chosen.open(wanted.patience).await {
            Ok(way) => interruptible(&way, &lock, &wanted).await,
            Err(failure) => Err(failure),
        };
        match acquired {
            Ok(won) => granted(&lock, &won, args.json),
            Err(failure) => refused("acquired", &failure, args.json),
        }
    })
}

/// An acquire that ctrl-C ends without leaving anything.
async fn interruptible(way: &Way, lock: &Lock, wanted: &Wanted) -> Result<Won, Failure> {
    tokio::select! {
        acquired = way.acquire(lock, wanted) => return acquired,
        _ = tokio::signal::ctrl_c() => {}
    }
    way.abandon(lock).await;
    Err(Failure::Unavailable("interrupted".to_owned()))
}

fn granted(lock: &Lock, won: &Won, json: bool) -> ExitCode {
    let validity = left(won.valid_until);
    let (uuid, attempts) = (lock.uuid.as_str(), won.attempts);
    if json {
        let object = json!({
            "acquired": true,
            "key": lock.key,
            "uuid": uuid,
            "fencingToken": won.token,
            "validity": validity,
            "lockAcquisitionAttempts": attempts,
            "message": null,
        });
        println!("{object}");
    } else {
        println!("uuid {uuid}");
        if let Some(token) = won.token {
            println!("token {token}");
        }
        println!("valid for {validity} ms");
    }
    ExitCode::SUCCESS
}

pub(super) fn extend(matches: &ArgMatches) -> ExitCode {
    let ExtendArgs { held, by } = parsed(matches);
    held.run(matches, "extended", async move |way, hold| {
        let until = way.extend(&hold, by, EXTEND_WITHIN).await?;
        Ok(Some(left(until)))
    })
}

pub(super) fn release(matches: &ArgMatches) -> ExitCode {
    let ReleaseArgs { held } = parsed(matches);
    held.run(matches, "released", async |way, hold| {
        way.release(&hold).await.map(|()| None)
    })
}

impl HeldArgs {
    /// Does what is asked of a lock, and says what came of it.
    fn run(
        self,
        matches: &ArgMatches,
        verb: &str,
        work: impl AsyncFnOnce(Way, Hold) -> Result<Option<u64>, Failure>,
    ) -> ExitCode {
        let chosen = match self.way.chosen(matches) {
            Ok(chosen) => chosen,
            Err(problems) => return misconfigured(&problems),
        };
        let hold = Hold::named(Lock {
            key: self.key,
            uuid: self.uuid,
        });
        on_runtime(async move {
            let done = match chosen.open(PATIENCE).await {
                Ok(way) => work(way, hold).await,
                Err(failure) => Err(failure),
            };
            match done {
                Ok(validity) => {
                    done_with(verb, validity, self.json);
                    ExitCode::SUCCESS
                }
                Err(failure) => refused(verb, &failure, self.json),
            }
        })
    }
}

fn done_with(verb: &str, validity: Option<u64>, json: bool) {
    match validity {
        _ if json => {
            let mut object = json!({"message": null});
            object[verb] = true.into();
            if let Some(validity) = validity {
                object["validity"] = validity.into();
            }
            println!("{object}");
        }
        Some(validity) => println!("{verb}: valid for {validity} ms"),
        None => println!("{verb}"),
    }
}

fn refused(verb: &str, failure: &Failure, json: bool) -> ExitCode {
    if !json {
        return failure.told();
    }
    let mut object = json!({"message": failure.to_string()});
    object[verb] = false.into();
    if let Failure::Held {
        retry_after,
        position,
        attempts,
        ..
    } = failure
    {
        object["retryAfter"] = retry_after.map_or(Value::Null, |left| millis(left).into());
        object["lockAcquisitionAttempts"] = (*attempts).into();
        if let Some(position) = position {
            object["position"] = (*position).into();
        }
    }
    println!("{object}");
    ExitCode::from(failure.code())
}

fn left(until: Moment) -> u64 {
    millis(until.saturating_since(SystemClock.now()))
}
