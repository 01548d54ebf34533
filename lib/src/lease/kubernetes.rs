//! Leases kept by a Kubernetes API server, as `coordination.k8s.io/v1` objects.
//!
//! Invariants: everything is written under the resource version that was read, so
//! of two who write at once one is refused; nothing is ever deleted, so what is
//! released keeps its transitions, and tokens rise; whether another's lease has run
//! out is judged by how long *this* process has seen it unchanged, never by
//! comparing two machines' clocks.
//!
//! What it was tested against is a stand-in for the API server in the process of
//! the tests, not a cluster: `docs/lease.md` has the command that runs the
//! contract's suite against a cluster.

mod record;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease as Object;
pub use kube;
use kube::api::{Api, PostParams};

use super::LeaseError;
use super::backend::{Answer, Backend, Habits, Lasts, Won};
use super::keeper::Keeper;
use super::options::LeaseOptions;
use crate::clock::{Clock, Moment, SystemClock};
use crate::core::validity::Drift;
use crate::error::ConfigError;
use record::{Stamp, Standing};

/// A lease that is kept by an API server.
pub type KubernetesLease = Keeper<KubernetesBackend>;

/// An API server that is asked and does not answer within this has not answered. It
/// is a quarter of the ttl if that is less, so that a request which is lost does not
/// cost the lease.
pub const REQUEST_TIME: Duration = Duration::from_secs(5);
/// Renewals and releases that find their object changed, and still theirs, are made
/// again so often: somebody keeps annotating it.
const MAX_ROUNDS: u32 = 5;
/// The longest name of an object, and of a namespace.
const MAX_NAME: usize = 253;
const MAX_NAMESPACE: usize = 63;

/// The leases of one namespace.
#[derive(Clone)]
pub struct KubernetesLeases {
    api: Api<Object>,
    clock: Arc<dyn Clock>,
}

impl KubernetesLeases {
    /// The leases of this namespace, by this client.
    pub fn new(client: kube::Client, namespace: &str) -> Result<Self, ConfigError> {
        named("namespace", namespace, MAX_NAMESPACE)?;
        Ok(Self {
            api: Api::namespaced(client, namespace),
            clock: Arc::new(SystemClock),
        })
    }

    /// The leases of the namespace that this process runs in, or that the current
    /// context names: by the kubeconfig, or else by what a pod finds in its cluster.
    pub async fn infer() -> Result<Self, LeaseError> {
        let client = kube::Client::try_default().await;
        let client = client.map_err(LeaseError::refused)?;
        Ok(Self {
            api: Api::default_namespaced(client),
            clock: Arc::new(SystemClock),
        })
    }

    /// The same by another clock; for tests.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// A lease for one of those who contend. The object's name is the options' name:
    /// 1 to 253 lower-case letters, digits, `-` and `.`.
    ///
    /// # Panics
    ///
    /// Must be called within a tokio runtime, which then runs the renewals.
    pub fn lease(&self, options: LeaseOptions) -> Result<KubernetesLease, ConfigError> {
        let backend = self.backend(&options)?;
        Ok(Keeper::new(backend, options))
    }

    /// What such a lease asks: to be wrapped, in tests.
    pub fn backend(&self, options: &LeaseOptions) -> Result<KubernetesBackend, ConfigError> {
        named("name", options.name(), MAX_NAME)?;
        Ok(KubernetesBackend {
            api: self.api.clone(),
            clock: Arc::clone(&self.clock),
            name: options.name().to_owned(),
            owner: options.owner().to_owned(),
            ttl: options.ttl(),
            seen: Mutex::new(None),
        })
    }
}

impl fmt::Debug for KubernetesLeases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubernetesLeases").finish_non_exhaustive()
    }
}

/// Refuses what no API server takes for a name.
fn named(field: &'static str, name: &str, max: usize) -> Result<(), ConfigError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let inner = |byte: u8| plain(byte) || byte == b'-' || byte == b'.';
    let bytes = name.as_bytes();
    let ends = bytes.first().is_some_and(|byte| plain(*byte))
        && bytes.last().is_some_and(|byte| plain(*byte));
    if ends && bytes.len() <= max && bytes.iter().all(|byte| inner(*byte)) {
        return Ok(());
    }
    Err(ConfigError::OutOfBounds {
        field,
        value: format!("a text of {} bytes", bytes.len()),
        bounds: format!(
            "1 to {max} lower-case letters, digits, '-' and '.', a letter or digit at both ends"
        ),
    })
}

/// One owner's way to one lease of an API server.
pub struct KubernetesBackend {
    api: Api<Object>,
    clock: Arc<dyn Clock>,
    name: String,
    owner: String,
    ttl: Duration,
    /// Another's lease as it was seen last, and since when.
    seen: Mutex<Option<(Stamp, Moment)>>,
}

/// A tenure: who began it when, and the object as it was written last.
#[derive(Clone, Debug)]
pub struct KubernetesHold(Arc<Mutex<Object>>);

impl KubernetesHold {
    fn of(written: Object) -> Self {
        Self(Arc::new(Mutex::new(written)))
    }

    fn lock(&self) -> MutexGuard<'_, Object> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a request ended that was not done.
enum Failure {
    /// 409, or 404 where the object should be: somebody else was there first.
    Conflict,
    Missing,
    /// The server refuses, and did nothing.
    Refused(LeaseError),
    /// It may have been done.
    Unknown(LeaseError),
}

impl Failure {
    fn error(self) -> LeaseError {
        match self {
            Self::Conflict | Self::Missing => {
                LeaseError::unavailable("the object changes all the time")
            }
            Self::Refused(error) | Self::Unknown(error) => error,
        }
    }
}

impl KubernetesBackend {
    /// One request, for as long as it may take.
    async fn limited<T>(
        &self,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Failure> {
        let time = REQUEST_TIME.min(self.ttl / 4);
        let answer = tokio::time::timeout(time, request).await;
        let silent = |_| Failure::Unknown(LeaseError::unavailable("the API server is silent"));
        answer.map_err(silent)?.map_err(|error| {
            let code = match &error {
                kube::Error::Api(status) => status.code,
                _ => 0,
            };
            match code {
                409 => Failure::Conflict,
                404 => Failure::Missing,
                400 | 401 | 403 | 405 | 422 => Failure::Refused(LeaseError::refused(error)),
                _ => Failure::Unknown(LeaseError::unavailable(error)),
            }
        })
    }

    async fn read(&self) -> Result<Option<Object>, Failure> {
        self.limited(self.api.get_opt(&self.name)).await
    }

    /// Writes it under the resource version that it has; creates it if it has none.
    async fn write(&self, object: &Object) -> Result<Object, Failure> {
        let params = PostParams::default();
        if object.metadata.resource_version.is_none() {
            self.limited(self.api.create(&params, object)).await
        } else {
            let replacing = self.api.replace(&self.name, &params, object);
            self.limited(replacing).await
        }
    }

    fn lasts(&self, started: Moment) -> Lasts {
        Lasts {
            // Whoever waits for the end waits by a clock of its own.
            valid_until: Drift::default().valid_until(started, self.ttl),
            expires: started + self.ttl,
        }
    }

    /// Whether the lease may be taken, by what was just read.
    fn standing(&self, object: &Object) -> Standing {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        record::standing(object, &self.owner, self.ttl, &mut seen, self.clock.now())
    }

    async fn try_acquire(&self) -> Answer<KubernetesHold> {
        let object = match self.read().await {
            Ok(Some(object)) => {
                let standing = self.standing(&object);
                if standing == Standing::Anothers {
                    return Answer::Held;
                }
                let anew = standing == Standing::Free;
                record::acquired(object, &self.owner, self.ttl, self.clock.wall(), anew)
            }
            Ok(None) => record::created(&self.name, &self.owner, self.ttl, self.clock.wall()),
            Err(failure) => {
                let (error, maybe) = (failure.error(), None);
                return Answer::Unknown { error, maybe };
            }
        };
        let started = self.clock.now();
        match self.write(&object).await {
            Ok(written) => match record::token(&written) {
                Ok(token) => Answer::Won(Won {
                    hold: KubernetesHold::of(written),
                    token: Some(token),
                    lasts: self.lasts(started),
                }),
                Err(error) => Answer::Unknown {
                    error,
                    maybe: Some(KubernetesHold::of(written)),
                },
            },
            Err(Failure::Conflict | Failure::Missing) => self.after_a_lost_race().await,
            Err(Failure::Refused(error)) => Answer::Unknown { error, maybe: None },
            Err(Failure::Unknown(error)) => Answer::Unknown {
                error,
                maybe: Some(KubernetesHold::of(object)),
            },
        }
    }

    /// A lost race mostly has a winner, which is an answer.
    async fn after_a_lost_race(&self) -> Answer<KubernetesHold> {
        match self.read().await {
            Ok(Some(object)) if self.standing(&object) == Standing::Anothers => Answer::Held,
            _ => Answer::Raced,
        }
    }

    /// Writes a change to what is held, as often as it is changed by others and
    /// still held. `None` if it is not held any more.
    async fn change(
        &self,
        hold: &KubernetesHold,
        change: impl Fn(Object) -> Object,
    ) -> Result<Option<Moment>, LeaseError> {
        let mut last = Failure::Conflict;
        for _ in 0..MAX_ROUNDS {
            let known = hold.lock().clone();
            // What may have been created, and was not heard of, has no version yet.
            if known.metadata.resource_version.is_some() {
                let started = self.clock.now();
                match self.write(&change(known.clone())).await {
                    Ok(written) => {
                        *hold.lock() = written;
                        return Ok(Some(started));
                    }
                    Err(Failure::Missing) => return Ok(None),
                    Err(Failure::Conflict) => {}
                    Err(failure) => return Err(failure.error()),
                }
            }
            match self.read().await {
                Ok(Some(found)) if record::is_same_tenure(&known, &found) => *hold.lock() = found,
                Ok(_) => return Ok(None),
                Err(failure) => last = failure,
            }
            if !matches!(last, Failure::Conflict) {
                break;
            }
        }
        Err(last.error())
    }
}

impl Backend for KubernetesBackend {
    type Hold = KubernetesHold;

    fn habits(&self) -> Habits {
        Habits {
            // An API server has others to serve.
            shortest_interval: Duration::from_millis(500),
            attempts: 3,
            retry_delay: Duration::from_millis(100),
            retries_while_held: false,
        }
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    async fn acquire(&self) -> Answer<KubernetesHold> {
        self.try_acquire().await
    }

    async fn renew(&self, hold: &KubernetesHold, _: Duration) -> Result<Option<Lasts>, LeaseError> {
        let wall = self.clock.wall();
        let renewed = self
            .change(hold, |held| record::renewed(held, wall))
            .await?;
        Ok(renewed.map(|started| self.lasts(started)))
    }

    async fn release(&self, hold: &KubernetesHold) -> Result<(), LeaseError> {
        let wall = self.clock.wall();
        let released = self.change(hold, |held| record::released(held, wall)).await;
        released.map(|_| ())
    }
}

impl fmt::Debug for KubernetesBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubernetesBackend")
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}
