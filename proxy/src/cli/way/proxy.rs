//! Through a proxy, or whoever speaks the same HTTP API.
//!
//! Invariant: a lock counts from when its request was sent. How long the service took is added only
//! as far as it says so itself and as it is possible (`Server-Timing`), since its `validity` counts
//! from its answer. A definite answer is one in the API's own words: a balancer's 404 is none.

use std::time::Duration;

use everlock::clock::{Clock as _, Moment, SystemClock};
use everlock::protocol::Drift;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Failure, Hold, Lock, Wanted, Won};
use crate::api::millis;
use crate::identity::{Fetched, Https, Unanswered};

/// One request waits this long at most: balancers cut off those that are silent for a minute.
const SLICE: Duration = Duration::from_secs(25);
/// With FIFO, each request stands anew at the end of the line: as long as a proxy takes, unless it
/// is configured otherwise.
const FIFO_SLICE: Duration = Duration::from_mins(5);
/// A proxy that takes shorter waits only is asked for half as long, down to this.
const SHORTEST_SLICE: Duration = Duration::from_secs(1);
/// What a proxy needs beyond the wait, with nodes that are slow.
const BEYOND: Duration = Duration::from_secs(10);
/// A release is tried for this long.
const RELEASE_WITHIN: Duration = Duration::from_secs(5);
/// How long what was given up is looked after.
const ABANDON_WITHIN: Duration = Duration::from_secs(2);
/// Between two tries of what was not answered.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// The most that `Retry-After` is obeyed.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A client of the API.
pub(in crate::cli) struct Proxy {
    https: Https,
    base: String,
    api_key: Option<String>,
}

/// One try to acquire.
enum Try {
    Won(Won),
    /// Others hold it.
    Held(Failure),
    /// It may pass: asked again after this time.
    Trouble(Failure, Duration),
    /// The wait is longer than this proxy takes.
    TooLong(Failure),
    Over(Failure),
}

impl Proxy {
    pub(super) const fn new(https: Https, base: String, api_key: Option<String>) -> Self {
        Self {
            https,
            base,
            api_key,
        }
    }

    pub(super) async fn acquire(&self, lock: &Lock, wanted: &Wanted) -> Result<Won, Failure> {
        let started = SystemClock.now();
        let mut longest = if wanted.fifo { FIFO_SLICE } else { SLICE };
        let mut attempts = 0;
        let mut trouble_since: Option<Moment> = None;
        loop {
            let gone = SystemClock.now().saturating_since(started);
            let left = wanted.wait.map(|wait| wait.saturating_sub(gone));
            let slice = left.map_or(longest, |left| left.min(longest));
            let (failure, pause) = match self.try_once(lock, wanted, slice, &mut attempts).await {
                Try::Won(won) => return Ok(won),
                Try::TooLong(_) if longest > SHORTEST_SLICE => {
                    longest = (longest.min(slice) / 2).max(SHORTEST_SLICE);
                    continue;
                }
                Try::TooLong(failure) | Try::Over(failure) => return Err(failure),
                Try::Held(failure) => {
                    trouble_since = None;
                    (failure, wanted.delay)
                }
                Try::Trouble(failure, pause) => {
                    let now = SystemClock.now();
                    let since = *trouble_since.get_or_insert(now);
                    if now.saturating_since(since) >= wanted.patience {
                        // It may have been won all the same.
                        self.abandon(lock).await;
                        return Err(failure);
                    }
                    (failure, pause)
                }
            };
            let held = matches!(failure, Failure::Held { .. });
            let gone = SystemClock.now().saturating_since(started);
            let left = wanted.wait.map(|wait| wait.saturating_sub(gone));
            if held && left.is_some_and(|left| left.is_zero()) {
                return Err(failure);
            }
            let pause = if held {
                left.map_or(pause, |left| left.min(pause))
            } else {
                pause
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn try_once(
        &self,
        lock: &Lock,
        wanted: &Wanted,
        slice: Duration,
        attempts: &mut u32,
    ) -> Try {
        let sent = SystemClock.now();
        let body = acquire_body(lock, wanted, slice);
        let fetched = self.post("/lock/acquire", &body, slice + BEYOND).await;
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) => return Try::Trouble(self.unanswered(error), AGAIN_AFTER),
        };
        let answer = fetched.json().unwrap_or_default();
        let made = answer["lockAcquisitionAttempts"].as_u64().unwrap_or(1);
        *attempts = attempts.saturating_add(u32::try_from(made).unwrap_or(u32::MAX));
        let message = answer["message"].as_str().unwrap_or_default();
        match fetched.status {
            StatusCode::OK if answer["acquired"] == true => Try::Won(Won {
                token: answer["fencingToken"].as_u64(),
                valid_until: valid_until(sent, &fetched, &answer, wanted.lease),
                attempts: *attempts,
                hold: Hold::named(lock.clone()),
            }),
            StatusCode::CONFLICT if answer["acquired"] == false => Try::Held(Failure::Held {
                why: message.to_owned(),
                retry_after: answer["retryAfter"].as_u64().map(Duration::from_millis),
                position: answer["position"]
                    .as_u64()
                    .and_then(|position| u32::try_from(position).ok()),
                attempts: *attempts,
            }),
            StatusCode::BAD_REQUEST if message.contains("the whole wait takes up to") => {
                Try::TooLong(self.refused(&fetched, message))
            }
            status if may_pass(status) => {
                let pause = fetched.retry_after().unwrap_or(AGAIN_AFTER);
                let pause = pause.clamp(AGAIN_AFTER, LONGEST_PAUSE);
                Try::Trouble(self.refused(&fetched, message), pause)
            }
            _ => Try::Over(self.refused(&fetched, message)),
        }
    }

    pub(super) async fn extend(
        &self,
        lock: &Lock,
        by: Duration,
        within: Duration,
    ) -> Result<Moment, Failure> {
        let sent = SystemClock.now();
        let body = json!({"key": lock.key, "uuid": lock.uuid.as_str(), "extendBy": millis(by)});
        let fetched = self.post("/lock/extend", &body, within).await;
        let fetched = fetched.map_err(|error| self.unanswered(error))?;
        let answer = fetched.json().unwrap_or_default();
        if fetched.status == StatusCode::OK && answer["extended"] == true {
            return Ok(valid_until(sent, &fetched, &answer, by));
        }
        Err(self.not_held(&fetched, &answer, "extended"))
    }

    pub(super) async fn release(&self, lock: &Lock) -> Result<(), Failure> {
        self.release_within(lock, RELEASE_WITHIN).await
    }

    pub(super) async fn abandon(&self, lock: &Lock) {
        // Whether there was anything to release, the caller does not mind.
        let _ = self.release_within(lock, ABANDON_WITHIN).await;
    }

    /// Tries until there is an answer, since a release may be asked for twice.
    async fn release_within(&self, lock: &Lock, within: Duration) -> Result<(), Failure> {
        let until = SystemClock.now() + within;
        let body = json!({"key": lock.key, "uuid": lock.uuid.as_str()});
        let mut asked_before = false;
        loop {
            let left = until.saturating_since(SystemClock.now());
            let failure = match self.post("/lock/release", &body, left).await {
                Ok(fetched) => {
                    let answer = fetched.json().unwrap_or_default();
                    if fetched.status == StatusCode::OK && answer["released"] == true {
                        return Ok(());
                    }
                    match self.not_held(&fetched, &answer, "released") {
                        // The answer that was lost had said that it is released.
                        Failure::NotHeld(_) if asked_before => return Ok(()),
                        failure if !may_pass(fetched.status) => return Err(failure),
                        failure => failure,
                    }
                }
                Err(error) => {
                    asked_before = true;
                    self.unanswered(error)
                }
            };
            if until.saturating_since(SystemClock.now()) <= AGAIN_AFTER {
                return Err(failure);
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    async fn post(
        &self,
        path: &str,
        body: &Value,
        within: Duration,
    ) -> Result<Fetched, Unanswered> {
        let https = self.https.within(within);
        let bearer = self.api_key.as_deref();
        https.ask(Method::POST, path, bearer, Some(body)).await
    }

    fn not_held(&self, fetched: &Fetched, answer: &Value, verb: &str) -> Failure {
        let message = answer["message"].as_str().unwrap_or_default();
        match fetched.status {
            StatusCode::NOT_FOUND | StatusCode::CONFLICT if answer[verb] == false => {
                Failure::NotHeld(message.to_owned())
            }
            _ => self.refused(fetched, message),
        }
    }

    fn refused(&self, fetched: &Fetched, message: &str) -> Failure {
        let status = fetched.status.as_u16();
        let message = match message {
            "" => format!("{} answers without a reason", self.base),
            message => message.to_owned(),
        };
        let why = format!("{message} (status {status})");
        match fetched.status {
            StatusCode::BAD_REQUEST => Failure::Misused(why),
            _ => Failure::Unavailable(why),
        }
    }

    fn unanswered(&self, error: Unanswered) -> Failure {
        Failure::Unavailable(format!("{} can't be asked: {error}", self.base))
    }
}

fn may_pass(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        )
}

/// The wait in the API's terms: so many retries, so far apart.
fn acquire_body(lock: &Lock, wanted: &Wanted, slice: Duration) -> Value {
    let slice = millis(slice);
    let delay = millis(wanted.delay).min(slice);
    let jitter = millis(wanted.jitter).min(slice - delay);
    let retries = slice.checked_div(delay + jitter).unwrap_or(0);
    json!({
        "key": lock.key,
        "uuid": lock.uuid.as_str(),
        "lease": millis(wanted.lease),
        "retryAttempts": retries.min(u64::from(everlock::config::MAX_RETRIES)),
        "retryDelay": delay,
        "retryJitter": jitter,
        "fifo": wanted.fifo,
    })
}

/// Until when a lock may be relied on, by an answer that has just come.
fn valid_until(sent: Moment, fetched: &Fetched, answer: &Value, lease: Duration) -> Moment {
    let Some(validity) = answer["validity"].as_u64() else {
        // Evermind's own service says nothing of validity.
        return Drift::default().valid_until(sent, lease);
    };
    let elapsed = SystemClock.now().saturating_since(sent);
    sent + handled(fetched).min(elapsed) + Duration::from_millis(validity)
}

/// How long the service says to have taken.
fn handled(fetched: &Fetched) -> Duration {
    let all = fetched.headers.get_all("server-timing");
    let texts = all.iter().filter_map(|value| value.to_str().ok());
    let ours = texts.flat_map(|text| text.split(',')).find_map(|metric| {
        let (name, parameters) = metric.split_once(';')?;
        if name.trim() != "everlock" {
            return None;
        }
        let duration = parameters.split(';').find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            (name.trim() == "dur").then(|| value.trim().parse::<f64>().ok())?
        })?;
        Duration::try_from_secs_f64(duration / 1_000.0).ok()
    });
    ours.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn fetched(timing: &str) -> Fetched {
        let mut headers = hyper::HeaderMap::new();
        headers.insert("server-timing", timing.parse().unwrap());
        Fetched {
            status: StatusCode::OK,
            headers,
            body: hyper::body::Bytes::new(),
        }
    }

    #[test]
    fn the_time_that_the_service_took_is_its_own_metric_and_nothing_else() {
        assert_eq!(
            handled(&fetched("everlock;dur=12.5")),
            Duration::from_micros(12_500)
        );
        assert_eq!(handled(&fetched("cdn;dur=9, everlock;desc=x;dur=3")), ms(3));
        for other in [
            "cdn;dur=9",
            "everlock",
            "everlock;dur=-1",
            "everlock;dur=NaN",
            "everlock;dur=x",
        ] {
            assert_eq!(handled(&fetched(other)), Duration::ZERO, "{other}");
        }
    }

    #[test]
    fn a_lock_is_never_relied_on_for_longer_than_since_it_was_asked_for() {
        let sent = SystemClock.now();
        let answer = json!({"validity": 4_000});
        // Whatever the service says of the time it took, no more than has passed counts.
        let until = valid_until(sent, &fetched("everlock;dur=3600000"), &answer, ms(5_000));
        assert!(until <= SystemClock.now() + ms(4_000));
        let until = valid_until(sent, &fetched("other;dur=1"), &answer, ms(5_000));
        assert_eq!(until, sent + ms(4_000));
        let silent = valid_until(sent, &fetched("other;dur=1"), &json!({}), ms(5_000));
        assert!(silent < sent + ms(5_000), "drift is taken off");
    }

    #[test]
    fn the_wait_is_never_longer_than_the_slice() {
        let lock = Lock {
            key: "k".to_owned(),
            uuid: everlock::OwnerId::fresh(),
        };
        for (slice, delay, jitter) in [(0, 500, 0), (200, 500, 100), (25_000, 500, 100), (10, 1, 0)]
        {
            let wanted = Wanted {
                lease: ms(1_000),
                wait: None,
                delay: ms(delay),
                jitter: ms(jitter),
                fifo: false,
                patience: ms(0),
            };
            let body = acquire_body(&lock, &wanted, ms(slice));
            let of = |name: &str| body[name].as_u64().unwrap();
            let wait = of("retryAttempts") * (of("retryDelay") + of("retryJitter"));
            assert!(wait <= slice && (slice == 0 || wait > slice / 2), "{body}");
        }
    }
}
