//! What was used of each licence: counted here, kept on the nodes, held against the allowance.
//!
//! What counts are attempts to acquire, whatever came of them; the backend hears of them in batches
//! (`reporting.rs`). A count is on the nodes within [`FLUSH_EVERY`], or as soon as [`BATCH`] more
//! were counted; nothing is let in while [`MAX_UNFLUSHED`] are not, so that is the most that is lost
//! with the process, besides what acquires under way have added since.
//!
//! Invariant: each attempt is counted in one field of one process, and a figure never shrinks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use everlock::AttemptCounter;
use everlock::clock::{Clock as _, Moment, SystemClock};
use everlock::entropy::{Entropy as _, SystemEntropy};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::keeper::{Away, Keeper};
use super::ledger::{Account, Figures, Ledger, Wait};
use super::licence::{Licence, Period};

/// How long a count stays in this process alone.
pub(super) const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// Or how far it goes.
const BATCH: u64 = 250;
/// Where nobody is let in before the nodes were told.
const MAX_UNFLUSHED: u64 = 1_000;
/// What others counted may be so old when somebody is let in after a quiet time.
const STALE: Duration = Duration::from_secs(3);
/// A licence that nobody uses is forgotten after this; the nodes know it. Long, since each meter
/// adds a field there.
const IDLE: Duration = Duration::from_hours(6);
/// The period of an allowance that is never renewed.
pub(super) const FOR_EVER: &str = "total";
/// Fields of processes begin with it.
pub(super) const COUNTED: &str = "c:";

/// Why an acquire may not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OverUsage {
    /// The allowance is used up.
    UsedUp,
    /// The nodes can't be told, or asked, what was used.
    Unknown,
}

/// The caller's own figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) period: String,
    pub(crate) attempts: u64,
    pub(crate) allowance: Option<u64>,
}

/// All licences that are used on this proxy.
pub(crate) struct Meters {
    pub(super) ledger: Ledger,
    all: Mutex<HashMap<Account, Arc<Meter>>>,
    full: Arc<Notify>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// One licence in one period.
struct Meter {
    account: Account,
    /// Its own field: a meter that is forgotten never comes back to it.
    field: String,
    counts: Mutex<Counts>,
    /// One exchange with the nodes at a time.
    syncing: tokio::sync::Mutex<()>,
}

struct Counts {
    /// Counted by this process, and how much of that a majority of nodes has.
    own: u64,
    flushed: u64,
    /// What the nodes told, this process's own field included.
    merged: Figures,
    /// Those of them that one of the nodes lacked when it was asked last.
    lacking: Figures,
    /// Their sum, without this process's own.
    others: u64,
    synced: Option<Moment>,
    /// When the last exchange began, and what came of it.
    last: Option<(Moment, Result<(), Away>)>,
    used: Moment,
    /// Acquires that are under way, with what was counted of each.
    running: HashMap<u64, (AttemptCounter, u32)>,
    next: u64,
}

/// Counts one acquire, until it is dropped.
pub(crate) struct Metered {
    meter: Arc<Meter>,
    full: Arc<Notify>,
    number: u64,
}

impl Meters {
    pub(crate) fn new(prefix: &str, keepers: Vec<Arc<Keeper>>) -> Arc<Self> {
        let meters = Arc::new(Self {
            ledger: Ledger::new(prefix, keepers),
            all: Mutex::default(),
            full: Arc::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let (weak, full) = (Arc::downgrade(&meters), Arc::clone(&meters.full));
        let stop = meters.stop.clone();
        let flushing = async move {
            loop {
                let _ = tokio::time::timeout(FLUSH_EVERY, full.notified()).await;
                let Some(meters) = weak.upgrade() else { return };
                meters.flush().await;
            }
        };
        meters.tasks.spawn(stop.run_until_cancelled_owned(flushing));
        meters
    }

    /// Begins to count an acquire, if the licence has any left. Asks the nodes at a licence's
    /// first use, and after a quiet time.
    pub(crate) async fn begin(
        &self,
        licence: &Licence,
        attempts: &AttemptCounter,
    ) -> Result<Metered, OverUsage> {
        let meter = self.meter(licence);
        if !meter.lock().is_current() {
            let asked = self.sync(&meter).await;
            asked.map_err(|Away| OverUsage::Unknown)?;
        }
        let mut counts = meter.lock();
        counts.collect();
        if counts.own - counts.flushed >= MAX_UNFLUSHED {
            self.full.notify_one();
            return Err(OverUsage::Unknown);
        }
        let used = counts.used().saturating_add(licence.used_elsewhere);
        if licence.allowance.is_some_and(|allowance| used >= allowance) {
            return Err(OverUsage::UsedUp);
        }
        counts.used = SystemClock.now();
        let number = counts.next;
        counts.next += 1;
        counts.running.insert(number, (attempts.clone(), 0));
        drop(counts);
        Ok(Metered {
            meter,
            full: Arc::clone(&self.full),
            number,
        })
    }

    /// What was used, as a majority of nodes has it, and what was counted here since.
    pub(crate) async fn usage(&self, licence: &Licence) -> Result<Usage, OverUsage> {
        let meter = self.meter(licence);
        let asked = self.sync(&meter).await;
        asked.map_err(|Away| OverUsage::Unknown)?;
        let attempts = meter.lock().used();
        Ok(Usage {
            period: meter.account.period.clone(),
            attempts: attempts.saturating_add(licence.used_elsewhere),
            allowance: licence.allowance,
        })
    }

    /// Tells the nodes what was counted, and hears what others have. At the end of a process this
    /// is its last word.
    pub(crate) async fn flush(&self) {
        let all: Vec<_> = lock(&self.all).values().cloned().collect();
        for meter in all {
            let (behind, active) = {
                let mut counts = meter.lock();
                counts.collect();
                let recent = SystemClock.now().saturating_since(counts.used) < 2 * FLUSH_EVERY;
                (
                    counts.own > counts.flushed,
                    recent || !counts.running.is_empty(),
                )
            };
            if (behind || active) && self.sync(&meter).await.is_err() {
                // The others would take as long; they are tried at the next round.
                break;
            }
        }
        let now = SystemClock.now();
        lock(&self.all).retain(|_, meter| Arc::strong_count(meter) > 1 || !meter.is_idle(now));
    }

    fn meter(&self, licence: &Licence) -> Arc<Meter> {
        let account = Account {
            licence: licence.reference.clone(),
            period: period(licence.period),
            customer: licence.customer.clone(),
        };
        let mut meters = lock(&self.all);
        let meter = meters.entry(account).or_insert_with_key(|account| {
            Arc::new(Meter {
                account: account.clone(),
                field: format!("{COUNTED}{:016x}", SystemEntropy.bits()),
                counts: Mutex::new(Counts {
                    own: 0,
                    flushed: 0,
                    merged: Figures::new(),
                    lacking: Figures::new(),
                    others: 0,
                    synced: None,
                    last: None,
                    used: SystemClock.now(),
                    running: HashMap::new(),
                    next: 0,
                }),
                syncing: tokio::sync::Mutex::default(),
            })
        });
        Arc::clone(meter)
    }

    /// One exchange with the nodes, or what came of one that began since this was called.
    async fn sync(&self, meter: &Meter) -> Result<(), Away> {
        let called = SystemClock.now();
        let _alone = meter.syncing.lock().await;
        let last = meter.lock().last;
        if let Some((_, came)) = last.filter(|(began, _)| *began > called) {
            return came;
        }
        let began = SystemClock.now();
        let came = self.exchange(meter).await;
        let mut counts = meter.lock();
        counts.last = Some((began, came));
        if came.is_ok() {
            counts.synced = Some(began);
        }
        came
    }

    async fn exchange(&self, meter: &Meter) -> Result<(), Away> {
        let (own, grown, mut told, known) = {
            let mut counts = meter.lock();
            counts.collect();
            (
                counts.own,
                counts.own > counts.flushed,
                counts.lacking.clone(),
                counts.merged.clone(),
            )
        };
        if own > 0 {
            told.insert(meter.field.clone(), own);
        }
        let (account, wait) = (&meter.account, Wait::Majority);
        let merged = self
            .ledger
            .merge(account, &told, known, grown, wait)
            .await?;
        let counted = merged.figures.iter();
        let others = counted.filter(|(name, _)| name.starts_with(COUNTED) && **name != meter.field);
        let others = others.map(|(_, figure)| figure).sum();
        let mut counts = meter.lock();
        counts.merged = merged.figures;
        counts.lacking = merged.lacking;
        counts.others = others;
        counts.flushed = own;
        Ok(())
    }
}

impl Drop for Meters {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Meter {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        lock(&self.counts)
    }

    /// Whether the nodes know all that it does.
    fn is_idle(&self, now: Moment) -> bool {
        let counts = self.lock();
        let flushed = counts.own == counts.flushed && counts.running.is_empty();
        flushed && now.saturating_since(counts.used) >= IDLE
    }
}

impl Counts {
    /// Takes in what acquires under way have added.
    fn collect(&mut self) {
        for (attempts, counted) in self.running.values_mut() {
            let made = attempts.made().max(*counted);
            self.own += u64::from(made - *counted);
            *counted = made;
        }
    }

    /// Whether what others counted is known well enough.
    fn is_current(&self) -> bool {
        let now = SystemClock.now();
        self.synced
            .is_some_and(|synced| now.saturating_since(synced) < STALE)
    }

    fn used(&self) -> u64 {
        self.others + self.own
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        let mut counts = self.meter.lock();
        counts.collect();
        counts.running.remove(&self.number);
        if counts.own - counts.flushed >= BATCH {
            self.full.notify_one();
        }
    }
}

/// The period that is now, by the wall clock: the same for all proxies but for moments.
fn period(period: Period) -> String {
    match period {
        Period::Total => FOR_EVER.to_owned(),
        Period::Month => {
            let now = Duration::from_micros(SystemClock.wall().as_micros());
            let date = humantime::format_rfc3339(std::time::UNIX_EPOCH + now).to_string();
            date.get(.."2026-11".len()).unwrap_or(&date).to_owned()
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
