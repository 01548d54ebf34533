//! Reports to the backend what was used, from the nodes: each attempt once.
//!
//! One proxy at a time reports, for all of them, under a lock of everlock's own. For each account it
//! plans up to where to report, tells the nodes, and only then the backend: an event's id names the
//! account and that mark, and its amount is what lies between it and the mark reported before. A
//! report that may have been lost is sent again with the same id and amount, by whoever reports
//! next, and counts once. No new mark is planned before the last one is known to be reported.
//!
//! Should two report at once all the same (one was stopped for longer than its lease), each looks
//! after planning whether the nodes have its own mark, and stops if not.

use std::sync::Arc;
use std::time::Duration;

use everlock::clock::{Clock as _, SystemClock};
use everlock::{AcquireOptions, Redlock, Resource};
use tokio_util::sync::CancellationToken;

use super::keeper::Away;
use super::ledger::{Account, Figures, Merged, Wait};
use super::licence::{Backend, UsageEvent};
use super::usage::{COUNTED, Meters};

/// How often a proxy looks whether there is something to report. What is reported is that old.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// One round takes no longer, and neither does its lock.
const ROUND: Duration = Duration::from_secs(30);
/// Events that travel together.
const EVENTS: usize = 100;
/// Or as many as are there by then: where nodes are slow, a round that ends before all accounts were
/// seen has reported what it saw.
const SEND_EVERY: Duration = Duration::from_secs(2);
/// Fields of the ledger.
const PLANNED: &str = "planned";
const REPORTED: &str = "reported";

/// Reports as long as it lives.
pub(crate) struct Reporter {
    stop: CancellationToken,
}

impl Reporter {
    pub(crate) fn start(
        prefix: &str,
        redlock: Redlock,
        meters: Arc<Meters>,
        backend: Arc<dyn Backend>,
    ) -> Self {
        let stop = CancellationToken::new();
        // No identity has a dot, so nobody else can hold it.
        let resource = Resource::new(format!("{prefix}:.everlock:report"));
        let resource = resource.expect("the prefix is bounded, and has no '~'");
        let reporting = async move {
            loop {
                tokio::time::sleep(REPORT_EVERY).await;
                let options = AcquireOptions::new().lease(ROUND);
                // Whoever has it reports for all.
                let Ok(grant) = redlock.try_acquire(&resource, options).await else {
                    continue;
                };
                let round = tokio::time::timeout(grant.remaining(), report(&meters, &*backend));
                if let Ok(Err(Away)) = round.await {
                    tracing::debug!("usage could not be reported: no quorum of nodes answers");
                }
                let _ = redlock.release(&grant).await;
            }
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(reporting));
        Self { stop }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// One round: what there is to report, planned, sent, noted.
async fn report(meters: &Meters, backend: &dyn Backend) -> Result<(), Away> {
    let ledger = &meters.ledger;
    let mut due = Vec::new();
    let mut sent = SystemClock.now();
    for account in ledger.unreported().await? {
        let nothing = Figures::new();
        let read = ledger.merge(&account, &nothing, Figures::new(), false, Wait::All);
        let Merged { figures, lacking } = read.await?;
        let mark = |field: &str| figures.get(field).copied().unwrap_or(0);
        let reported = mark(REPORTED);
        let mut planned = mark(PLANNED);
        if planned <= reported {
            planned = counted(&figures);
            if planned <= reported {
                ledger.reported(&account, reported).await?;
                continue;
            }
            // What it is the sum of is on a majority, too, before it is planned.
            let mut plan = lacking;
            plan.insert(PLANNED.to_owned(), planned);
            let agreed = ledger.merge(&account, &plan, figures, false, Wait::All);
            let agreed = agreed.await?.figures;
            if agreed.get(PLANNED) != Some(&planned)
                || agreed.get(REPORTED).copied().unwrap_or(0) != reported
            {
                continue;
            }
        }
        due.push((
            event(&account, planned, planned - reported),
            account,
            planned,
        ));
        if due.len() >= EVENTS || SystemClock.now().saturating_since(sent) >= SEND_EVERY {
            send(meters, backend, std::mem::take(&mut due)).await?;
            sent = SystemClock.now();
        }
    }
    send(meters, backend, due).await
}

async fn send(
    meters: &Meters,
    backend: &dyn Backend,
    due: Vec<(UsageEvent, Account, u64)>,
) -> Result<(), Away> {
    if due.is_empty() {
        return Ok(());
    }
    let events: Vec<_> = due.iter().map(|(event, ..)| event.clone()).collect();
    if !backend.report(&events).await {
        tracing::warn!(
            accounts = due.len(),
            "usage could not be reported, and is kept"
        );
        return Ok(());
    }
    for (_, account, planned) in due {
        meters.ledger.reported(&account, planned).await?;
    }
    Ok(())
}

fn counted(figures: &Figures) -> u64 {
    let fields = figures
        .iter()
        .filter(|(field, _)| field.starts_with(COUNTED));
    fields.map(|(_, figure)| figure).sum()
}

fn event(account: &Account, planned: u64, attempts: u64) -> UsageEvent {
    UsageEvent {
        id: format!("everlock:{}:{}:{planned}", account.licence, account.period),
        customer: account.customer.clone(),
        licence: account.licence.clone(),
        attempts,
    }
}
