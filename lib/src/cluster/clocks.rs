//! Looking at all nodes' clocks, and telling nodes what was found.

use std::sync::Arc;
use std::time::Duration;

use super::{Cluster, STEP_TIMEOUT, within};
use crate::clock::Clock;
use crate::core::clock_watch::{ClockWatch, Sighting, Telling};
use crate::core::clocks::ClockStep;
use crate::core::marker::{Marker, MarkerCommand};
use crate::core::quorum::{Fault, majority};
use crate::node::Node;

/// Reads every node's clock and marker; who takes longer than `time` is not seen.
pub(crate) async fn look(
    nodes: &[Arc<dyn Node>],
    clock: &dyn Clock,
    time: Duration,
) -> Vec<Option<Sighting>> {
    let all = nodes.iter().map(|node| async {
        let sent = clock.now();
        let state = within(time, node.mark(MarkerCommand::Read)).await.ok()?;
        Some(Sighting::of(&state, sent, clock.now()))
    });
    futures_util::future::join_all(all).await
}

/// Tells the nodes, and gives their markers as they are then, by node.
pub(crate) async fn tell(
    nodes: &[Arc<dyn Node>],
    tellings: &[Option<Telling>],
    time: Duration,
) -> Vec<(usize, Telling, Result<Option<Marker>, Fault>)> {
    let told = nodes.iter().zip(tellings).enumerate();
    let all = told.filter_map(|(index, (node, telling))| {
        let Telling {
            era,
            baseline,
            step,
        } = (*telling)?;
        let command = MarkerCommand::Clock {
            era,
            baseline,
            step,
        };
        Some(async move {
            let answer = within(time, node.mark(command)).await;
            let telling = Telling {
                era,
                baseline,
                step,
            };
            (index, telling, answer.map(|state| state.marker))
        })
    });
    futures_util::future::join_all(all).await
}

impl Cluster {
    /// Gives clocks their first baselines. What else there is to say of them is
    /// the clients' business, who watch them.
    pub(super) async fn note_clocks(&self, max_lease: Duration) {
        let nodes = self.nodes.len();
        let mut watch = ClockWatch::new(nodes, majority(nodes));
        let seen = look(&self.nodes, &*self.clock, STEP_TIMEOUT).await;
        let mut tellings = watch.look(&seen, max_lease, self.clock.now());
        for telling in &mut tellings {
            telling.take_if(|telling| telling.step != ClockStep::Refresh);
        }
        // Who does not answer is told by the first client that looks.
        tell(&self.nodes, &tellings, STEP_TIMEOUT).await;
    }
}
