//! A look at a server: what it says of itself, what its marker says, and whether it may serve.
//!
//! It takes two or three round trips, one after the other, and is taken beside the commands:
//! none waits for it.
//!
//! What is told of the outcome, and what becomes of commands to a server that may not serve,
//! is the connection's affair.

use super::connection::Link;
use super::membership::Seat;
use crate::core::admission::{Admission, ServerFacts, judge, unfit};
use crate::core::marker::{MarkerCommand, MarkerState};
use crate::core::quorum::Fault;
use crate::node::Judged;

/// What was seen.
pub(super) struct Looked {
    pub(super) facts: ServerFacts,
    pub(super) judged: Judged,
    /// The marker of a server that serves.
    pub(super) marker: Option<MarkerState>,
}

/// Looks at the server at the other end. An error says that the connection is no good any more.
pub(super) async fn look(mut link: Link, seat: Seat) -> Result<Looked, Fault> {
    let facts = link.refresh().await?.clone();
    let refusal = match seat.claim(&facts.run_id) {
        Ok(()) => unfit(&facts, seat.allow_eviction),
        Err(other) => Some(format!("it is the same server as node {}", other + 1)),
    };
    let (judged, marker) = match refusal {
        Some(problem) => (Judged::Refused(problem), None),
        None => look_at_marker(&mut link, &seat).await?,
    };
    Ok(Looked {
        facts,
        judged,
        marker,
    })
}

async fn look_at_marker(
    link: &mut Link,
    seat: &Seat,
) -> Result<(Judged, Option<MarkerState>), Fault> {
    let state = link.mark(&MarkerCommand::Read).await?;
    let nodes = seat.configured_nodes();
    match judge(&link.facts, &state, seat.cluster().as_ref(), nodes) {
        Admission::Serve(info) => {
            seat.learn(&info);
            Ok((Judged::Serving(info), Some(state)))
        }
        Admission::Guard(info) => {
            let command = MarkerCommand::Guard {
                cluster: info.clone(),
                started: link.facts.started(state.time),
                durable: link.facts.survives_restart(),
            };
            let state = link.mark(&command).await?;
            seat.learn(&info);
            Ok((Judged::Serving(info), Some(state)))
        }
        Admission::Uninitialised => Ok((Judged::Uninitialised, None)),
        Admission::Refuse(problem) => Ok((Judged::Refused(problem), None)),
    }
}
