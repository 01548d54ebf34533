//! A singleton that starts when it leads, stops when it loses, and hands its token to
//! whatever it writes to.
//!
//! `cargo run -p everlock --example leader_election` has three candidates in one
//! process on nodes in memory. With node URLs as arguments it is one candidate of as
//! many processes as you start; kill the one that leads, and see another take over:
//! `cargo run -p everlock --example leader_election -- redis://127.0.0.1:7001 …`

use std::error::Error;
use std::sync::Mutex;
use std::time::Duration;

use everlock::lease::{Lease, LeaseOptions, LeaseToken};
use everlock::{OwnerId, Redlock};
use tokio_util::sync::CancellationToken;

/// How often those who don't lead ask whether they may.
pub(crate) const CAMPAIGN_EVERY: Duration = Duration::from_millis(200);

/// Campaigns until `stop`, and does the work whenever it leads. The work is dropped at
/// its next await point when the lease is lost; what it writes meanwhile, the token fences.
pub(crate) async fn campaign<W: Future<Output = ()>>(
    lease: &dyn Lease,
    stop: &CancellationToken,
    work: impl Fn(LeaseToken) -> W,
) {
    while !stop.is_cancelled() {
        match lease.acquire_with_token().await {
            Ok(Some(token)) => {
                let leading = stop.child_token();
                let over = leading.clone();
                // Should the lease be lost by now, this is told at once.
                let _heard = lease.on_lost(Box::new(move |_| over.cancel()));
                leading.run_until_cancelled(work(token)).await;
                // Done, or told to stop: the next one need not wait for the ttl.
                // Lost: nothing is held, and this asks nobody.
                if let Err(error) = lease.release().await {
                    println!("{}: not released: {error}", lease.options().owner());
                }
            }
            Ok(None) => {}
            // Nobody knows who leads, so nobody here acts as if.
            Err(error) => println!("{}: no answer: {error}", lease.options().owner()),
        }
        stop.run_until_cancelled(tokio::time::sleep(CAMPAIGN_EVERY))
            .await;
    }
}

/// A storage that refuses who is not the latest: this is what tokens are for.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<(Option<LeaseToken>, u64)>);

impl Ledger {
    /// Writes one line, unless a later tenure has written already.
    pub(crate) fn write(&self, token: &LeaseToken) -> Result<u64, String> {
        let mut ledger = self.0.lock().map_err(|_| "broken".to_owned())?;
        if ledger.0.as_ref().is_some_and(|latest| latest > token) {
            return Err(format!("refused: {token} is not the latest"));
        }
        ledger.0 = Some(token.clone());
        ledger.1 += 1;
        Ok(ledger.1)
    }
}

/// The singleton's work: one step after the other, each of them only while it leads.
pub(crate) async fn keep_the_ledger(lease: &dyn Lease, token: LeaseToken, ledger: &Ledger) {
    println!("{} leads under {token}", lease.options().owner());
    while lease.check_alive() {
        match ledger.write(&token) {
            Ok(lines) => println!("{}: line {lines}", lease.options().owner()),
            Err(refusal) => println!("{}: {refusal}", lease.options().owner()),
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// A lease on the one place that there is.
pub(crate) fn candidate(
    redlock: &Redlock,
    name: &str,
) -> Result<impl Lease + use<>, Box<dyn Error>> {
    let options = LeaseOptions::builder("ledger-keeper", name).ttl(Duration::from_secs(3));
    Ok(redlock.lease(options.build()?)?)
}

/// Three candidates, of which each is told to stop after a while: they lead in turn.
pub(crate) async fn demonstrate(turn: Duration) -> Result<u64, Box<dyn Error>> {
    let redlock = Redlock::builder().memory_nodes(5).connect().await?;
    let ledger = Ledger::default();
    let term = async |number: u32| {
        let lease = candidate(&redlock, &format!("candidate-{number}"))?;
        let stop = CancellationToken::new();
        let work = |token| keep_the_ledger(&lease, token, &ledger);
        tokio::join!(campaign(&lease, &stop, work), async {
            tokio::time::sleep(turn * number).await;
            stop.cancel();
        });
        Ok::<_, Box<dyn Error>>(())
    };
    tokio::try_join!(term(1), term(2), term(3))?;
    let lines = ledger.0.lock().map_err(|_| "broken")?.1;
    Ok(lines)
}

#[tokio::main(flavor = "current_thread")]
#[allow(dead_code, reason = "tests run the parts of it")]
async fn main() -> Result<(), Box<dyn Error>> {
    let urls: Vec<_> = std::env::args().skip(1).collect();
    if urls.is_empty() {
        let lines = demonstrate(Duration::from_secs(2)).await?;
        println!("{lines} lines, one keeper at a time");
        return Ok(());
    }
    let redlock = Redlock::builder().node_urls(urls).initialise(None);
    let lease = candidate(&redlock.connect().await?, OwnerId::fresh().as_str())?;
    let (stop, ledger) = (CancellationToken::new(), Ledger::default());
    let work = |token| keep_the_ledger(&lease, token, &ledger);
    tokio::join!(campaign(&lease, &stop, work), async {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    Ok(())
}
