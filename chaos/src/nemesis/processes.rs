//! Faults of clients and proxies.

use everlock_testkit::Signal;
use tokio::sync::Mutex;
use tokio::time::sleep;

use super::{Nemesis, ProcessKind};
use crate::dice::Dice;
use crate::world::Process;

/// Twice a lease.
const LONGEST_STOP: u64 = 4_000;

impl Nemesis {
    pub(super) async fn hurt_process(&self, kind: ProcessKind, dice: &Dice) {
        let world = &self.world;
        match kind {
            ProcessKind::ClientKill => world.replace(one(&world.clients, dice)).await,
            ProcessKind::ProxyKill => world.replace(one(&world.proxies, dice)).await,
            ProcessKind::ClientStop => stop(one(&world.clients, dice), dice).await,
            ProcessKind::ProxyStop => stop(one(&world.proxies, dice), dice).await,
        }
    }
}

fn one<'a>(processes: &'a [Mutex<Process>], dice: &Dice) -> &'a Mutex<Process> {
    &processes[dice.index(processes.len())]
}

async fn stop(process: &Mutex<Process>, dice: &Dice) {
    let mut process = process.lock().await;
    process.signal(Signal::STOP);
    sleep(dice.mostly_short(10, LONGEST_STOP)).await;
    process.signal(Signal::CONT);
}
